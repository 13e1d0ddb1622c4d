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
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from lossflow.errors import InvalidInput
from lossflow.expansion.growth import borel_coefficients, growth, log_of
from lossflow.expansion.pade import Approximant, approximant, combined, neighbors
from lossflow.expansion.resummation import Resummation, Resummed, judged

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
    Complex = npt.NDArray[np.complex128]

STEP = 0.02  # of the trapezoidal rule in log z: a pole at the angle a from the path costs exp(-2 pi a / STEP)
DEEP = 38.0  # e^-DEEP is where the path begins, relative to t: the part before it does not show in double precision
LONG = 745.0  # u beyond which e^-u vanishes
STEP_OF_MAP = (
    0.1  # the same where nothing but the cut is near: the mapped series at 0.67 radians from where e^-u does not decay
)
ROUNDING = 4e-15  # of the largest term, in double precision
CLEAR = (
    0.2  # doubt up to which a singularity counts as read off the coefficients; the descent of order 4 at rho = 2 told
)
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
    """S(t) = int e^-u sum_j d_j w(x u^g)^j du,   x = t/(1 + shift t),   z = 4 a w/(1 + w)^2,   a a singularity of B.

    The map takes the plane cut from a to infinity into the unit disk, where the series in w converges. If S itself is singular at
    a negative time -r, B grows like e^(|z|/r) there, and the mapped series fails; x sends times from -r = -1/shift to
    infinity, while 1/x = 1/t + shift leaves a where it is. So with a > 0 the shifts of a grid are tried, from 0 to the first
    ratio of coefficients, and of each pair of neighbors the one that agrees best is taken.
    singularity: a != 0, or None to read it off the coefficients, in the variable x in which their ratios extrapolate best;
    a > 0 lies on the path, which then turns by 0.9 radians, and the value is the median sum. growth: g >= 1, or None to read it
    off, too.
    The uncertainty is the largest distance of the last quarter of the partial sums to the last of them, over one less the ratio
    of the last quarter of the terms to the quarter before, so that there is no value where terms do not fall; with shifts,
    the larger one of a pair, and no less than their distance. Raises `InvalidInput` for fewer than three coefficients.
    docs/theory/odd_order_and_descent.md part B [YGG26v2], docs/theory/additions.md section 4.
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

        def one_side(sign: int, ahead: Array) -> tuple[Array, Array]:
            place = None if self.singularity is None else self.singularity * sign
            return _mapped_sum([c * sign**k for k, c in enumerate(exact)], ahead, place, self.growth)

        return _both_sides(exact, times, one_side, "the mapped series does not converge")


def _mapped_sum(exact: Sequence[Fraction], times: Array, place: float | None, order: int | None) -> tuple[Array, Array]:
    """The sums at positive times and their uncertainty. place: a; order: g; both None where they are to be read off."""
    shifts = _shifts(exact)
    series = [shifted(exact, shift) for shift in shifts]
    g = max(1, growth(exact).order) if order is None else order
    if place is None:
        orders = sorted({max(1, growth(each).order) for each in series}) if order is None else [g]
        readings = [(*_reading(borel_coefficients(each, k)), k) for each in series for k in orders]
        doubt, found, k = min(readings, key=lambda reading: reading[0])
        if doubt < CLEAR:
            place, g = found, k
    transforms = [borel_coefficients(each, g) for each in series]
    if place is None:
        place = growth(transforms[0]).singularity
        place = place if math.isfinite(place) else -float(_unit(transforms[0]))  # any cut away from the path will do
        shifts = shifts[:1]
    if place < 0:
        shifts = shifts[:1]
    rows = [
        _converged(_partial_sums(transform, g, times / (1 + float(shift) * times), place))
        for shift, transform in zip(shifts, transforms, strict=False)
    ]
    best, error = rows[0] if len(rows) == 1 else (np.full(times.shape, np.nan), np.full(times.shape, np.inf))
    for (value, own), (other, its) in pairwise(rows):
        both = np.maximum(np.maximum(own, its), np.abs(value - other))
        better = both < error
        best = np.where(better, np.where(own <= its, value, other), best)
        error = np.where(better, both, error)
    return best, error


def shifted(series: Sequence[Fraction], shift: Fraction) -> list[Fraction]:
    """The coefficients of S in powers of x = t/(1 + shift t):   t^k = sum_j binom(k - 1 + j, j) shift^j x^(k + j)."""
    from flint import fmpq

    order = len(series) - 1
    given = [fmpq(c.numerator, c.denominator) for c in series]
    powers = [fmpq(shift.numerator, shift.denominator) ** j for j in range(order + 1)]
    found = given[:1] + [
        sum((given[k] * math.comb(n - 1, n - k) * powers[n - k] for k in range(1, n + 1)), fmpq(0))
        for n in range(1, order + 1)
    ]
    return [Fraction(int(c.p), int(c.q)) for c in found]


def _shifts(exact: Sequence[Fraction]) -> list[Fraction]:
    """0, and numbers from an eighth of the first ratios of coefficients up to them, as short fractions."""
    kept = [(k, abs(c)) for k, c in enumerate(exact) if c and k][:5]
    logs = [(log_of(b) - log_of(a)) / (n - k) for (k, a), (n, b) in pairwise(kept)]
    if not logs:
        return [Fraction(0)]
    first = Fraction(2) ** round(float(np.median(logs)) / math.log(2))
    return [Fraction(0), *(first * Fraction(k, 8) * half for k in (1, 2, 4, 8) for half in (1, Fraction(3, 2)))]


def _reading(transform: Sequence[Fraction]) -> tuple[float, float]:
    """How doubtful it is, and the singularity a, from b_k/b_(k-1) = (1/a)(1 + b/k + c/k^2 ...), extrapolated twice in 1/k."""
    kept = [(k, b) for k, b in enumerate(transform) if b and k][-6:]
    if len(kept) < 6:
        return math.inf, math.nan
    places = np.array([n for n, _ in kept[1:]], float)
    ratios = np.array(
        [
            math.exp((log_of(abs(b)) - log_of(abs(a))) / (n - k)) * (1 if a * b > 0 else -1)
            for (k, a), (n, b) in pairwise(kept)
        ]
    )
    once = np.diff(places * ratios) / np.diff(places)
    twice = (places[2:] * once[1:] - places[:-2] * once[:-1]) / (places[2:] - places[:-2])
    if not (np.all(ratios * ratios[-1] > 0) and twice[-1] * ratios[-1] > 0):
        return math.inf, math.nan
    doubt = max(abs(once[-1] - twice[-1]), abs(twice[-1] - twice[-2])) / abs(twice[-1])
    return float(doubt), 1 / float(twice[-1])


def _partial_sums(transform: Sequence[Fraction], g: int, times: Array, place: float) -> Array:
    """The sums over j <= n, for n = 0 .. order, at positive times, shape (orders, times)."""
    turn = 0.9 if place > 0 else 0.0
    path = _Path(times / abs(place), g, turn, STEP_OF_MAP)
    z = path.points * math.copysign(1.0, place)
    w = z / (1 + np.sqrt(1 - z)) ** 2  # (1 - root)/(1 + root) without the cancellation
    mapped = _mapped(transform, Fraction(place))
    powers = w[:, None] ** np.arange(len(mapped))
    return np.cumsum(path.integral(powers).real * mapped, axis=1).T


def _converged(sums: Array) -> tuple[Array, Array]:
    """The last of the partial sums, and its error by how they came there."""
    order = len(sums) - 1
    width = max(3, round(order / 4))
    terms = np.abs(np.diff(sums, axis=0))
    error = np.abs(sums[max(order - width, 0) : -1] - sums[-1]).max(axis=0)
    rounding = ROUNDING * np.maximum(terms.max(axis=0), np.abs(sums).max(axis=0))
    if order >= 2 * width:
        last, before = terms[-width:].max(axis=0), terms[-2 * width : -width].max(axis=0)
        ratio = np.divide(last, before, out=np.zeros(last.shape), where=before > 0)
        falling = np.divide(error, 1 - ratio, out=np.full(error.shape, np.inf), where=ratio < 1)
        error = np.where(last > 100 * rounding, falling, error)
    return sums[-1], error + rounding


class _Path:
    """int_0^inf e^-u F(t u^g) du along arg z = turn, z = t u^g, for many t at once: one grid in log |z| serves all."""

    def __init__(self, times: Array, g: int, turn: float, step: float = STEP) -> None:
        low = math.log(times.min()) - g * DEEP
        high = math.log(times.max()) + g * math.log(LONG)
        self.logs = step * np.arange(math.floor(low / step), math.ceil(high / step) + 1)  # equal steps to the last bit
        self.points: Complex = np.exp(self.logs + 1j * turn)
        # du = (u/g) dz/z; u = (z/t)^(1/g)
        u = np.exp((self.logs[None, :] - np.log(times)[:, None] + 1j * turn) / g)
        self.weights = np.asarray(step / g * u * np.exp(-u), np.complex128)

    def integral(self, values: Complex) -> Complex:
        """The integrals for all times, from the values of F at `points`."""
        return self.weights @ values


def _crossed(each: Approximant, times: Array, g: int, turn: float) -> Array:
    """The size of what the poles between axis and path contribute, at each time; those on the axis are meant to be passed."""
    total = np.zeros(times.shape)
    for place, residue in each.poles():
        angle = abs(math.atan2(place.imag, place.real))
        if ON_AXIS < angle < turn and place.imag > 0 and math.isfinite(abs(residue)):
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


__all__ = ["BorelPade", "ConformalBorel", "shifted"]
