"""How the coefficients of a series grow: is there a radius of convergence, and where is the nearest singularity?

|c_k| ~ C k^b Gamma(1 + g k) |a|^-k :   g = 0: singularity at a, radius |a|;   g >= 1: no radius, and a is the singularity of
the Borel transform of order g,  B(z) = sum_k c_k z^k / Gamma(1 + g k)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import numpy as np

HIGHEST = 6  # order of growth that is looked for


class Growth(NamedTuple):
    """What the coefficients say.

    order: g, 0 for a convergent series. singularity: of the series itself (g = 0) or of its Borel transform of order g; its
    sign is that of the pattern of signs; inf where terms fall off faster than geometrically.
    radius: of convergence, 0 for g >= 1.
    """

    order: int
    singularity: float
    radius: float


def growth(coefficients: Sequence[Fraction | int | float]) -> Growth:
    """The growth of c_0, c_1, ..., from the ratios of the later half of them.

    coefficients: exact or float; zeros are skipped. With fewer than four nonzero ones the series counts as convergent without
    a singularity in sight. docs/theory/odd_order_and_descent.md part B [YGG26v2].
    """
    kept = [(k, Fraction(c)) for k, c in enumerate(coefficients) if c and k]
    if len(kept) < 4:
        return Growth(0, math.inf, math.inf)
    later = kept[len(kept) // 2 - 1 :]
    ratios = np.array([log_of(abs(b)) - log_of(abs(a)) for (_, a), (_, b) in pairwise(later)])
    steps = np.array([b[0] - a[0] for a, b in pairwise(later)])
    middle = np.array([0.5 * (a[0] + b[0]) for a, b in pairwise(later)])
    slope = _slope(np.log(middle), ratios / steps)
    order = int(np.clip(round(slope), 0, HIGHEST))
    borel = borel_coefficients([Fraction(c) for c in coefficients], order)
    place = _singularity([(k, borel[k]) for k, _ in kept])
    if slope < -0.5:
        place = math.inf
    return Growth(order, place, abs(place) if order == 0 else 0.0)


def borel_coefficients(coefficients: Sequence[Fraction], order: int) -> list[Fraction]:
    """c_k / Gamma(1 + g k), exactly."""
    return [Fraction(c) / math.factorial(order * k) for k, c in enumerate(coefficients)]


def _singularity(terms: Sequence[tuple[int, Fraction]]) -> float:
    """From b_k/b_(k-1) = (1 + b/k)/a, extrapolated in 1/k over the last terms."""
    last = terms[-min(len(terms), 7) :]
    inverse, places = [], []
    for (k, a), (n, b) in pairwise(last):
        inverse.append(math.exp((log_of(abs(b)) - log_of(abs(a))) / (n - k)))
        places.append(1 / n)
    limit = float(np.polyfit(places, inverse, min(1, len(places) - 1))[-1]) if len(places) > 1 else inverse[0]
    if limit <= 0:
        limit = inverse[-1]
    same = sum(a * b > 0 for (_, a), (_, b) in pairwise(last))
    return math.copysign(1 / limit, 1.0 if 2 * same >= len(last) - 1 else -1.0)


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 2:
        return 0.0
    return float(np.polyfit(x, y, 1)[0])


def log_of(x: Fraction) -> float:
    """log of a positive fraction, of any size."""
    return _log_of_integer(x.numerator) - _log_of_integer(x.denominator)


def _log_of_integer(n: int) -> float:
    shift = max(n.bit_length() - 1000, 0)
    return math.log(n >> shift) + shift * math.log(2)
