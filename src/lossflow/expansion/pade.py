"""Pade approximants, exact, and the sum of a series by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from lossflow.errors import InvalidInput
from lossflow.expansion.resummation import Resummation, Resummed, judged

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

BITS = 200  # of the arithmetic in which approximants are evaluated: the rounding of their terms does not show
REAL = 1e-3  # share of S(0) from which on a pole is one of S; those that imitate a cut carry exponentially little


class Approximant:
    """P(z)/Q(z) with deg P <= L, deg Q <= M, Q(0) = 1, which agrees with a series to the order L + M."""

    def __init__(self, numerator: Any, denominator: Any) -> None:
        self.numerator, self.denominator = numerator, denominator

    def at(self, points: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """P/Q at real or complex points, rounded to double precision at the end."""
        from flint import acb, acb_poly, ctx

        before = ctx.prec
        ctx.prec = BITS
        try:
            p, q = acb_poly(self.numerator), acb_poly(self.denominator)
            values = [complex(p(z) / q(z)) for z in (acb(x.real, x.imag) for x in map(complex, points.ravel()))]
        finally:
            ctx.prec = before
        return np.array(values, np.complex128).reshape(points.shape)

    def poles(self) -> list[tuple[complex, complex]]:
        """(place, residue) of each pole, as double precision numbers from certified roots; inf for a multiple one."""
        from flint import acb_poly, ctx

        if self.denominator.degree() < 1:
            return []
        before = ctx.prec
        ctx.prec = 2 * BITS  # roots that lie close together lose half of it
        try:
            slope, p = acb_poly(self.denominator.derivative()), acb_poly(self.numerator)
            return [
                (complex(root), complex(p(root) / slope(root)) if multiplicity == 1 else complex(np.inf))
                for root, multiplicity in self.denominator.numer().complex_roots()
            ]
        finally:
            ctx.prec = before


def approximant(coefficients: Sequence[Fraction], numerator: int, denominator: int) -> Approximant | None:
    """The approximant [L/M] from c_0 .. c_(L+M), by the Euclidean algorithm; None where it does not exist.

    numerator, denominator: L >= 0 and M >= 0. The algorithm finds the reduced fraction also inside a block of equal ones.
    """
    from flint import fmpq, fmpq_poly

    order = numerator + denominator
    if numerator < 0 or denominator < 0 or len(coefficients) <= order:
        raise InvalidInput(f"the approximant [{numerator}/{denominator}] needs {order + 1} coefficients")
    series = fmpq_poly([fmpq(c.numerator, c.denominator) for c in coefficients[: order + 1]])
    before, current = fmpq_poly([0] * (order + 1) + [1]), series
    left, right = fmpq_poly([0]), fmpq_poly([1])
    while current.degree() > numerator:
        quotient, rest = divmod(before, current)
        before, current = current, rest
        left, right = right, left - quotient * right
    if right.degree() > denominator or not right[0]:
        return None
    return Approximant(current / right[0], right / right[0])


@dataclass(frozen=True, repr=False)
class Pade(Resummation):
    """S(t) ~ [L/M](t), a quotient of polynomials of degrees L and M that agrees with the series to the order L + M = N.

    The diagonal approximant of the highest order, L = M or next to it. Exact rational coefficients stay exact; evaluation is in
    200 bits. The uncertainty is the largest distance to its neighbors of the orders N, N - 1 and N - 2, plus what poles on the
    way contribute: |residue| over the distance from t, or over the place of the pole if that is more, for each simple one between
    0 and t. Beyond a multiple pole, or a simple one that carries more than `REAL` of the sum at 0, nothing is believed. Where the
    uncertainty exceeds the value, the value is NaN and the status "left_domain".
    Good for convergent series beyond their radius and for divergent ones of alternating sign; on a cut, where poles crowd, the
    neighbors part. Raises `InvalidInput` for fewer than three coefficients.
    docs/theory/odd_order_and_descent.md part B [YGG26v2].
    """

    def sum(self, coefficients: Sequence[Fraction | int | float], times: Array) -> Resummed:
        """The sum at `times`, with its uncertainty and a status for each time."""
        times = np.asarray(times, np.float64)
        exact = [Fraction(c) for c in coefficients]
        if len(exact) < 3:
            raise InvalidInput(f"Pade needs at least three coefficients (order >= 2), got {len(exact)}")
        unit = Fraction(float(np.max(np.abs(times))) or 1.0)
        scaled = [c * unit**k for k, c in enumerate(exact)]
        x = times / float(unit)
        found = [
            (order, each)
            for order, numerator, denominator in neighbors(len(exact) - 1)
            if (each := approximant(scaled, numerator, denominator)) is not None
        ]
        values = np.array([np.real(each.at(x)) for _, each in found]).reshape(len(found), x.size)
        best, error = combined(values)
        if found:
            error = error + _crossed(found[0][1], x, float(exact[0]))
        terms = np.full(times.shape, len(exact), np.int64)
        return judged(best, error, times, terms, "no two approximants exist")


def neighbors(order: int) -> list[tuple[int, int, int]]:
    """(order, L, M) of the approximants that are compared, the best one first."""
    half = order // 2
    even = [(half, half), (half + 1, half - 1), (half - 1, half + 1)]
    first = [(half, half + 1), (half + 1, half)] if order % 2 else even
    found = [(order, a, b) for a, b in first if a >= 0 and b >= 0]
    for lower in (order - 1, order - 2):
        if lower >= 1:
            half = lower // 2
            found += [(lower, lower - half, half)] + ([(lower, half, lower - half)] if lower % 2 else [])
    return found


def combined(values: Array) -> tuple[Array, Array]:
    """The first approximant that exists at each time, and the largest distance to the others as its uncertainty.

    values: (approximants, times), NaN where one does not reach. Where fewer than two reach, nan and inf.
    """
    best, error = np.full(values.shape[1], np.nan), np.full(values.shape[1], np.inf)
    for k in range(values.shape[1]):
        there = values[:, k][np.isfinite(values[:, k])]
        if there.size >= 2:
            best[k] = there[0]
            error[k] = np.max(np.abs(there[1:] - there[0])) + 8 * np.finfo(float).eps * abs(there[0])
    return best, error


def _crossed(each: Approximant, x: Array, start: float) -> Array:
    """The size of what the poles on the real axis between 0 and x contribute; start: the sum at 0."""
    total = np.zeros(x.shape)
    for place, residue in each.poles():
        if abs(place.imag) <= 1e-9 * abs(place):
            distance = np.minimum(np.abs(x - place.real), abs(place))
            real = abs(residue) > REAL * abs(place * start)
            size = np.inf if real else abs(residue) / np.maximum(distance, np.finfo(float).tiny)
            total += np.where(x / place.real >= 1, size, 0.0)
    return total


__all__ = ["Approximant", "Pade", "approximant", "combined", "neighbors"]
