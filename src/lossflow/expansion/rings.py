"""The exact series of the symmetric problem of order 2, where every diagram is a ring: tr W^m, W = U^T U.

The flow dW/dt = -4 W (W - c) gives  d/dt tr W^m = 4 m (c tr W^m - tr W^(m+1)),  so derivatives of the loss stay in the span
of the traces, and no diagram is ever drawn. docs/theory/diagrams.md section 9 [YGG26v2].
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from lossflow.diagrams.wick import SizePolynomial
from lossflow.laws.wishart import trace_moment

VARIABLES = ("p", "H", "sigma2")


def ring_derivatives(scale: Fraction) -> Iterator[SizePolynomial]:
    """Y_0, Y_1, ... of L = 1/2 tr W^2 - c tr W + c^2 p / 2 with c = `scale`, as polynomials in p, H, sigma2."""
    constant = Fraction(scale) ** 2 / 2
    traces = {1: -Fraction(scale), 2: Fraction(1, 2)}  # d^s L / dt^s = sum_m traces[m] tr W^m (+ the constant)
    while True:
        terms: dict[tuple[int, ...], Fraction] = {(1, 0, 0): constant} if constant else {}
        for m, weight in traces.items():
            for (a, b), c in trace_moment(m).items() if weight else ():
                terms[a, b, m] = weight * c
        yield SizePolynomial(VARIABLES, terms, ())
        constant = Fraction(0)
        flowed: dict[int, Fraction] = {}
        for m, weight in traces.items():
            flowed[m] = flowed.get(m, Fraction(0)) + 4 * m * scale * weight
            flowed[m + 1] = flowed.get(m + 1, Fraction(0)) - 4 * m * weight
        traces = flowed
