"""Borel sums: divergent series summed through their Borel transform, continued by Pade approximants or a conformal map.

    B(z) = sum_k c_k z^k / Gamma(1 + g k),      S(t) = int_0^inf e^-u B(t u^g) du

with g the order of growth of the coefficients, |c_k| ~ (k!)^g. Where B has singularities on the way, the path is turned into the
complex plane: above and below them it gives the two lateral sums, whose mean is the median sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from lossflow.errors import InvalidInput
from lossflow.expansion.growth import borel_coefficients, growth
from lossflow.expansion.pade import Approximant, approximant, combined, neighbors
from lossflow.expansion.resummation import Resummation, Resummed, judged

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
    Complex = npt.NDArray[np.complex128]

STEP = 0.02  # of the trapezoidal rule in log z: a pole at the angle a from the path costs exp(-2 pi a / STEP)
DEEP = 38.0  # e^-DEEP is where the path begins, relative to t: the part before it does not show in double precision
LONG = 745.0  # u beyond which e^-u vanishes
ON_AXIS = 0.3  # angle up to which a pole counts as lying on the positive axis, where the sum is meant to pass it


@dataclass(frozen=True, repr=False)
class BorelPade(Resummation):
    """S(t) = int e^-u [L/M](t u^g) du,  [L/M] the Pade approximant of B(z) = sum_k c_k z^k / Gamma(1 + g k).

    The path leaves the positive axis at the angle `turn` of z, 0 < turn < 1.5 (radians), so that the poles by which an
    approximant imitates a cut on the axis are passed at a distance. The value is the median sum, the mean of the two lateral
    ones: the real part of either. ambiguity: whether half the distance of the lateral sums, their imaginary part, belongs to the
    uncertainty. growth: g >= 1, or None to read it off the coefficients.

    The uncertainty is the largest distance to the neighboring approximants of the orders N, N - 1 and N - 2, plus what the poles
    between axis and path contribute. Where it exceeds the value, the value is NaN and the status "left_domain". On the
    axis itself a median sum is a convention: see `Limit` for where the function meant is another one.
    Raises `InvalidInput` for fewer than three coefficients. docs/theory/odd_order_and_descent.md part B [YGG26v2].
    """

    turn: float = 0.9
    ambiguity: bool = False
    growth: int | None = None

    def check(self) -> None:
        if not 0 < self.turn < 1.5:
            raise InvalidInput(f"BorelPade.turn is an angle between 0 and 1.5, got {self.turn!r}")
        _require_growth(self)

    def sum(self, coefficients: Sequence[Fraction | int | float], times: Array) -> Resummed:
        """The sum at `times`, with its uncertainty and a status for each time."""
        times = np.asarray(times, np.float64)
        exact = _checked(coefficients, "BorelPade")
        g = self.growth or max(1, growth(exact).order)

        def one_side(sign: int, ahead: Array) -> tuple[Array, Array]:
            return self._one_side(borel_coefficients([c * sign**k for k, c in enumerate(exact)], g), g, ahead)

        return _both_sides(exact, times, one_side, "no two approximants exist")

    def _one_side(self, transform: Sequence[Fraction], g: int, times: Array) -> tuple[Array, Array]:
        """The sums at positive times, and their uncertainty."""
        unit = _unit(transform)
        scaled = [b * unit**k for k, b in enumerate(transform)]
        path = _Path(times / float(unit), g, self.turn)
        rows, crossed = [], np.zeros(times.shape)
        for place, (_, numerator, denominator) in enumerate(neighbors(len(scaled) - 1)):
            each = approximant(scaled, numerator, denominator)
            if each is None:
                continue
            rows.append(path.integral(each.at(path.points)))
            if place == 0:
                crossed = _crossed(each, times / float(unit), g, self.turn)
        lateral = np.array(rows, np.complex128).reshape(len(rows), times.size)
        values, error = combined(lateral.real)
        error = np.hypot(error, crossed)
        if self.ambiguity and rows:
            error = np.hypot(error, np.abs(lateral[0].imag))
        return values, error


@dataclass(frozen=True, repr=False)
class ConformalBorel(Resummation):
    """S(t) = int e^-u sum_j d_j w(t u^g)^j du,   z = 4 a w/(1 + w)^2,   a the nearest singularity of the Borel transform.

    The map takes the plane cut from a to infinity into the unit disk, where the series in w converges if the cut is all there
    is; with other singularities it fails, and the terms say so. singularity: a != 0, or None to read it off the
    coefficients; a > 0 lies on the path, which then turns by 0.9 radians, and the value is the median sum.
    growth: g >= 1, or None to read it off, too. The uncertainty is the largest of the changes by the last three terms. Raises
    `InvalidInput` for fewer than three coefficients.
    docs/theory/odd_order_and_descent.md part B [YGG26v2].
    """

    singularity: float | None = None
    growth: int | None = None

    def check(self) -> None:
        if self.singularity is not None and (self.singularity == 0 or not math.isfinite(self.singularity)):
            raise InvalidInput(f"ConformalBorel.singularity must be finite and not 0, got {self.singularity!r}")
        _require_growth(self)

    def sum(self, coefficients: Sequence[Fraction | int | float], times: Array) -> Resummed:
        """The sum at `times`, with its uncertainty and a status for each time."""
        times = np.asarray(times, np.float64)
        exact = _checked(coefficients, "ConformalBorel")
        g = self.growth or max(1, growth(exact).order)
        transform = borel_coefficients(exact, g)
        place = self.singularity if self.singularity is not None else growth(transform).singularity
        if not math.isfinite(place):
            place = -float(_unit(transform))  # no singularity in sight: any cut away from the path will do

        def one_side(sign: int, ahead: Array) -> tuple[Array, Array]:
            return self._one_side([b * sign**k for k, b in enumerate(transform)], g, ahead, place * sign)

        return _both_sides(exact, times, one_side, "the mapped series does not converge")

    def _one_side(self, transform: Sequence[Fraction], g: int, times: Array, place: float) -> tuple[Array, Array]:
        """The sums at positive times, and their uncertainty, for a transform with its singularity at `place`."""
        mapped = _mapped(transform, Fraction(place))
        path = _Path(times / abs(place), g, 0.9 if place > 0 else 0.0)
        z = path.points * (1.0 if place > 0 else -1.0)
        root = np.sqrt(1 - z)
        w = z / (1 + root) ** 2  # (1 - root)/(1 + root) without the cancellation
        sums = np.zeros((len(mapped), times.size))
        power, total = np.ones_like(w), np.zeros_like(w)
        for j, d in enumerate(mapped):
            total = total + d * power
            power = power * w
            sums[j] = path.integral(total).real
        changes = np.abs(np.diff(sums[-4:], axis=0))
        return sums[-1], changes.max(axis=0) + 1e-14 * np.abs(sums).max(axis=0)


class _Path:
    """int_0^inf e^-u F(t u^g) du along arg z = turn, z = t u^g, for many t at once: one grid in log |z| serves all."""

    def __init__(self, times: Array, g: int, turn: float) -> None:
        low = math.log(times.min()) - g * DEEP
        high = math.log(times.max()) + g * math.log(LONG)
        self.logs = STEP * np.arange(math.floor(low / STEP), math.ceil(high / STEP) + 1)  # equal steps to the last bit
        self.points: Complex = np.exp(self.logs + 1j * turn)
        # du = (u/g) dz/z; u = (z/t)^(1/g)
        u = np.exp((self.logs[None, :] - np.log(times)[:, None] + 1j * turn) / g)
        self.weights = np.asarray(STEP / g * u * np.exp(-u), np.complex128)

    def integral(self, values: Complex) -> Complex:
        """The integrals for all times, from the values of F at `points`."""
        return self.weights @ values


def _crossed(each: Approximant, times: Array, g: int, turn: float) -> Array:
    """The size of what the poles between axis and path contribute, at each time; those on the axis are meant to be passed."""
    total = np.zeros(times.shape)
    for place, residue in each.poles():
        angle = abs(math.atan2(place.imag, place.real))
        if ON_AXIS < angle < turn and place.imag > 0:
            u = (place / times) ** (1 / g)
            with np.errstate(over="ignore", under="ignore"):
                total += np.abs(2 * math.pi * residue * u / (g * place) * np.exp(-u))
    return total


def _mapped(series: Sequence[Fraction], place: Fraction) -> Array:
    """d_j of sum_k b_k (4 a w/(1 + w)^2)^k = sum_j d_j w^j, exactly until the end."""
    order = len(series) - 1
    found = [Fraction(0)] * (order + 1)
    found[0] = series[0]
    for k in range(1, order + 1):
        factor = series[k] * (4 * place) ** k
        for j in range(order - k + 1):  # (1 + w)^(-2k) = sum_j (-1)^j binom(2k + j - 1, j) w^j
            found[k + j] += factor * (-1) ** j * math.comb(2 * k + j - 1, j)
    return np.array([float(d) for d in found])


def _unit(transform: Sequence[Fraction]) -> Fraction:
    """A scale of z at which neither the first nor the last coefficients are huge, as a power of two."""
    last = max((k for k, b in enumerate(transform) if b), default=0)
    if last == 0:
        return Fraction(1)
    size = abs(transform[last])
    bits = (size.denominator.bit_length() - size.numerator.bit_length()) / last
    return Fraction(2) ** round(bits)


def _checked(coefficients: Sequence[Fraction | int | float], name: str) -> list[Fraction]:
    exact = [Fraction(c) for c in coefficients]
    if len(exact) < 3:
        raise InvalidInput(f"{name} needs at least three coefficients (order >= 2), got {len(exact)}")
    return exact


def _require_growth(resummation: BorelPade | ConformalBorel) -> None:
    if resummation.growth is not None and resummation.growth < 1:
        raise InvalidInput(
            f"{type(resummation).__name__}.growth must be at least 1, or None, got {resummation.growth!r}"
        )


def _both_sides(
    exact: Sequence[Fraction], times: Array, one_side: Callable[[int, Array], tuple[Array, Array]], reason: str
) -> Resummed:
    """A sum over times of either sign, from `one_side(sign, |t|)`, which gives values and uncertainty for c_k sign^k."""
    values, error = np.full(times.shape, np.nan), np.full(times.shape, np.inf)
    zero = times == 0
    values[zero], error[zero] = float(exact[0]), 0.0
    for sign in (1, -1):
        here = np.flatnonzero(times * sign > 0)
        if here.size:
            values[here], error[here] = one_side(sign, times[here] * sign)
    return judged(values, error, times, np.full(times.shape, len(exact), np.int64), reason)


__all__ = ["BorelPade", "ConformalBorel"]
