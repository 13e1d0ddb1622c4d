"""Exact laws of spectra, used by several engines."""
