"""Dynamical mean-field theory in two times: one causal pass, no damped iteration."""
