"""Explicit solutions of large-size limits: one problem family per file."""
