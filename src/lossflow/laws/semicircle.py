"""The semicircle law on [-2, 2] and its moments above a point."""

from __future__ import annotations

import math


def density(x: float) -> float:
    """sigma(x) = sqrt(4 - x^2)/(2 pi) on [-2, 2].

    docs/theory/quadratic.md section 6 [MBB26v2].
    """
    return math.sqrt(4.0 - x * x) / (2.0 * math.pi) if abs(x) < 2 else 0.0


def mass_above(x: float) -> float:
    """m_0(x) = int_x^2 sigma = 1/2 - x sqrt(4 - x^2)/(4 pi) - asin(x/2)/pi, for -2 <= x <= 2."""
    if x > 1.0:  # the terms cancel to (2 - x)^(3/2): an integral of the density in t = asin instead
        t = _angle(x)
        return (2.0 * t - math.sin(2.0 * t)) / (2.0 * math.pi) if t > 0.1 else _small_mass(t)
    return 0.5 - x * math.sqrt(4.0 - x * x) / (4.0 * math.pi) - math.asin(x / 2.0) / math.pi


def mean_above(x: float) -> float:
    """m_1(x) = int_x^2 y sigma(y) dy = (4 - x^2)^(3/2)/(6 pi), for -2 <= x <= 2."""
    return max((2.0 - x) * (2.0 + x), 0.0) ** 1.5 / (6.0 * math.pi)


def second_above(x: float) -> float:
    """m_2(x) = int_x^2 y^2 sigma(y) dy = 1/2 - sqrt(4 - x^2)(x^3 - 2x)/(8 pi) - asin(x/2)/pi, for -2 <= x <= 2.

    By parts it is m_0 + x (4 - x^2)^(3/2)/(8 pi), whose terms do not cancel near x = 2.
    """
    return mass_above(x) + x * max((2.0 - x) * (2.0 + x), 0.0) ** 1.5 / (8.0 * math.pi)


def quantile_above(mass: float) -> float:
    """The x with mass_above(x) = `mass`, 0 <= mass <= 1."""
    low, high = -2.0, 2.0
    x = 0.0
    for _ in range(200):
        excess = mass_above(x) - mass
        low, high = (x, high) if excess > 0 else (low, x)
        slope = density(x)
        new = x + excess / slope if slope > 0 else low
        if not low < new < high:
            new = 0.5 * (low + high)
        if new in (low, high) or abs(new - x) < 1e-16:
            return new
        x = new
    return x


def _angle(x: float) -> float:
    """t with x = 2 cos t."""
    return 2.0 * math.asin(math.sqrt(max(2.0 - x, 0.0)) / 2.0)


def _small_mass(t: float) -> float:
    """(2t - sin 2t)/(2 pi) by its series, for t <= 0.1."""
    u = 2.0 * t
    term = total = u**3 / 6.0
    for j in range(2, 9):
        term *= -u * u / ((2 * j) * (2 * j + 1))
        total += term
    return total / (2.0 * math.pi)
