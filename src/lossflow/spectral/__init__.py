"""End states of quadratic networks, from the spectrum of their limit."""
