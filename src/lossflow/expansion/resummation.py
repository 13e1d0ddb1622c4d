"""From the coefficients of a power series to its sum: what the terms say, and how far they can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.description import Description, brief
from lossflow.errors import InvalidInput
from lossflow.trajectory import COMPLETE, Status

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]


TAIL = 60  # terms beyond the last known one that are added up one by one
# shares of the smallest term that are uncertain, and how many terms where signs change their pattern: set on four batteries of
# known sums (seeds 1 to 4) and on the descent of order 4 at the noises 1/5, 1/2, 2 and 3
FLOOR, ALONE, ONE_SIGN, MIXED = 0.05, 0.25, 0.65, 3


class Resummed(NamedTuple):
    """The sum at each time, one standard error of it, and whether it can be believed there.

    values, uncertainty: of the shape of the times, NaN where the status is not complete. terms: how many terms were used.
    """

    values: Array
    uncertainty: Array
    status: tuple[Status, ...]
    terms: npt.NDArray[np.int64]


def judged(values: Array, uncertainty: Array, times: Array, terms: npt.NDArray[np.int64], reason: str) -> Resummed:
    """Values up to the first time, on either side of zero, at which the uncertainty reaches the value itself or more.

    reason: what to say where there is no value at all.
    """
    bad = ~(uncertainty <= np.abs(values))
    status = [COMPLETE] * times.size
    beyond = np.zeros(times.shape, bool)
    for sign in (1.0, -1.0):
        failed = np.flatnonzero(bad & (times * sign > 0))
        if failed.size:
            first = failed[np.argmin(np.abs(times[failed]))]
            edge = float(times[first])
            why = reason if not np.isfinite(values[first]) else "the error reaches the value itself"
            left = Status("left_domain", edge, f"{why} at t = {edge:.4g}; raise the order or ask for shorter times")
            for k in np.flatnonzero(times * sign >= edge * sign):
                status[k], beyond[k] = left, True
    at_zero = times == 0
    beyond |= bad & ~at_zero
    values, uncertainty = np.where(beyond, np.nan, values), np.where(beyond, np.nan, uncertainty)
    return Resummed(values, uncertainty, tuple(status), terms)


def resum(coefficients: Sequence[Fraction | int | float], times: npt.ArrayLike, resummation: Resummation) -> Resummed:
    """sum_k c_k t^k  from finitely many coefficients, exact or float.

    coefficients: c_0, c_1, ...; exact ones stay exact to the last step. times: any finite numbers, in any order; resummation:
    `Taylor()`, `Pade()`, `BorelPade()` or `ConformalBorel()`. Returns values, uncertainty (one standard error) and a status
    for each time; values are NaN where the status is not complete.
    Raises `InvalidInput` for coefficients that are not finite numbers, or too few of them.
    docs/theory/odd_order_and_descent.md part B [YGG26v2].
    """
    if not isinstance(resummation, Resummation):
        raise InvalidInput(f"the resummation must be one such as Taylor() or BorelPade(), got {brief(resummation)}")
    points = np.atleast_1d(np.asarray(times, np.float64))
    if points.ndim != 1 or not points.size or not np.isfinite(points).all():
        raise InvalidInput(f"times must be finite numbers, got {brief(times)}")
    try:
        exact = [Fraction(c) for c in coefficients]
    except (TypeError, ValueError, OverflowError):
        raise InvalidInput(f"coefficients must be finite numbers, got {brief(coefficients)}") from None
    return resummation.sum(exact, points)


class Resummation(Description):
    """A way to sum sum_k c_k t^k from finitely many coefficients, as a description."""

    def sum(self, coefficients: Sequence[Fraction | int | float], times: Array) -> Resummed:
        """The sum at `times`, with its uncertainty and a status for each time."""
        raise InvalidInput(f"{type(self).__name__} does not say how it sums: define its `sum`")


@dataclass(frozen=True, repr=False)
class Taylor(Resummation):
    """S(t) = sum_{k <= K(t)} c_k t^k + (1/2) c_{K+1} t^{K+1}, with K(t) the order after which the next term is smallest.

    Works for convergent and for asymptotic series (the expectation over Gaussian weights of a flow that can blow up has
    factorially growing coefficients). Half of the smallest term makes the sum continuous where K(t) jumps; of a series of one
    sign it is the mean of the sums before and after the term, near the median of its lateral sums, and K(t) is where a running
    mean of the terms is smallest. Beyond the last coefficient nothing is added.
    The uncertainty: while signs alternate, half of the distance to the same sums one order before and after, at least
    `FLOOR` (`ALONE` of a series of order 2) and at most all of that half of a term; if all signs are the same, `ONE_SIGN` of the
    largest term near the smallest, and no value where terms do not fall for two orders; where their pattern changes, the next
    `MIXED` terms. Beyond the last coefficient: the next term of an alternating series, else the sum of all terms to come down to
    the smallest, their ratios extrapolated from their growth. Rounding of the largest term is added; zeros among the coefficients
    are filled from their neighbors before sizes are compared. Where the uncertainty exceeds the sum itself the value is NaN and
    the status "left_domain", with the time of the crossing.
    Raises `InvalidInput` for fewer than two coefficients, which say nothing about the error. docs/theory/additions.md section 4.
    """

    def sum(self, coefficients: Sequence[Fraction | int | float], times: Array) -> Resummed:
        scaled, unit = _in_unit_of(coefficients, float(np.max(np.abs(times))))
        x = np.asarray(times, dtype=np.float64) / unit
        values, uncertainty, terms = _truncated(scaled, x)
        holds = uncertainty <= np.abs(values)
        ahead, behind = (_first_failure(scaled, x, holds, sign) * unit for sign in (1.0, -1.0))
        # beyond the first failure nothing is believed, even where the partial sums happen to look good again
        beyond = (times >= ahead) | (times <= behind)
        status = tuple(_left(ahead if t > 0 else behind) if bad else COMPLETE for bad, t in zip(beyond, x, strict=True))
        return Resummed(np.where(beyond, np.nan, values), np.where(beyond, np.nan, uncertainty), status, terms)


def _in_unit_of(coefficients: Sequence[Fraction | int | float], span: float) -> tuple[Array, float]:
    """c_k span^k as floats: exact until here, and free of overflow wherever the terms themselves are."""
    if len(coefficients) < 2:
        raise InvalidInput(f"a sum needs at least two coefficients (order >= 1), got {len(coefficients)}")
    unit = span or 1.0
    exact = [Fraction(c) * Fraction(unit) ** k for k, c in enumerate(coefficients)]
    try:
        return np.array([float(c) for c in exact]), unit
    except OverflowError:
        raise InvalidInput(
            f"the terms of the series overflow at |t| = {span:g}; ask for shorter times or fewer orders"
        ) from None


def _truncated(c: Array, x: Array) -> tuple[Array, Array, npt.NDArray[np.int64]]:
    """Optimal truncation at each x: the sum, its uncertainty, and the number of terms summed."""
    order, pick = c.size - 1, np.arange(x.size)
    powers = x[None, :] ** np.arange(order + 1)[:, None]
    terms = np.vstack([c[:, None] * powers, np.zeros(x.size)])  # the term beyond the last is known in size alone
    envelope = _envelope(np.abs(c))
    size = np.vstack([envelope[:, None] * np.abs(powers), np.zeros(x.size)])
    next_one, rest = _beyond(c, x)
    signs = _last_sign(terms[:-1])
    flips = signs[:-1] * signs[1:] < 0
    stop = _smallest(size[1:-1], next_one)
    regular = np.all([flips[np.clip(stop + d, 0, order - 1), pick] for d in (-1, 0, 1)], axis=0)
    # without alternation one term may be small by accident
    stop = np.where(regular, stop, _smallest(_running_mean(envelope)[1:, None] * np.abs(powers[1:]), next_one))
    inside = stop < order
    half = np.where(inside, terms[stop + 1, pick] / 2, 0.0)
    sums = np.cumsum(terms, axis=0)[stop, pick] + half
    error = np.where(inside, _of_the_smallest(terms, size, flips, stop, sums), 0.0)
    # beyond the last term the first of what is left is as large as all of it, if signs alternate
    left = np.where(np.all(signs[-3:-1] * signs[-2:] < 0, axis=0), next_one, rest)
    rounding = np.finfo(float).eps * np.maximum.accumulate(size, axis=0)[stop, pick] * (order + 1)
    return sums, np.where(inside, error, left) + rounding, stop + 1


def _of_the_smallest(
    terms: Array, size: Array, flips: npt.NDArray[np.bool_], stop: npt.NDArray[np.intp], sums: Array
) -> Array:
    """The error of stopping at the smallest term where later ones are known, by the pattern of the signs from there on."""
    order, pick = len(size) - 2, np.arange(stop.size)
    later = np.arange(order)[:, None] >= stop - 1
    alternate, same = np.all(flips | ~later, axis=0), not flips.any()
    near = np.array(
        [np.where(stop + d <= order, size[np.minimum(stop + d, order), pick], 0.0) for d in range(MIXED + 1)]
    )
    first = np.minimum(stop + 1, order)
    bound = np.maximum(size[first, pick], np.abs(terms[first, pick])) / 2
    between = np.cumsum(terms, axis=0)[:-2] + terms[1:-1] / 2  # the same sums at all orders
    distance = np.zeros(stop.size)
    for d in (-1, 1):
        other = np.where(
            (stop + d >= 0) & (stop + d < order), stop + d, stop - 2 * d
        )  # a missing one from the other side
        other = between[np.clip(other, 0, order - 1), pick]
        distance = np.maximum(distance, np.abs(other - sums))
    floor = FLOOR if order > 2 else ALONE  # one distance alone may vanish by accident
    sharper = np.minimum(bound, np.maximum(distance / 2, floor * bound))
    alone = np.where((stop < 2) & (order >= 2), np.inf, ONE_SIGN * near.max(axis=0))
    return np.where(alternate, np.where(stop + 1 < order, sharper, bound), np.where(same, alone, near[1:].sum(axis=0)))


def _smallest(sizes: Array, next_one: Array) -> npt.NDArray[np.intp]:
    """The order after which the next term, of `sizes` from order 1 on, is smallest; the latest of equal ones."""
    return len(sizes) - np.argmin(np.vstack([sizes, next_one])[::-1], axis=0)


def _running_mean(envelope: Array) -> Array:
    """The geometric mean of up to five neighbors, as many on either side."""
    logs = np.log(np.maximum(envelope, np.finfo(float).tiny))
    last = len(logs) - 1
    widths = [min(2, k, last - k) for k in range(last + 1)]
    means = np.array([np.exp(logs[k - w : k + w + 1].mean()) for k, w in enumerate(widths)])
    return np.where(envelope > 0, means, 0.0)


def _last_sign(terms: Array) -> Array:
    """The sign of each term, or of the last one before it that is not zero."""
    signs = np.sign(terms)
    for k in range(1, len(signs)):
        signs[k] = np.where(signs[k] == 0, signs[k - 1], signs[k])
    return signs


def _beyond(c: Array, x: Array) -> tuple[Array, Array]:
    """The size of the term beyond the last one, and of all to come down to the smallest: from the growth of the envelope.

    Ratios r_k of factorially divergent series grow linearly in k, those of convergent ones level off: the next is
    max(r_n, 2 r_n - r_{n-1}), and no less than the mean growth so far; those after it go on growing by r_n - r_{n-1}.
    """
    envelope = _envelope(np.abs(c))
    if envelope[-1] == 0.0:
        return np.zeros(x.size), np.zeros(x.size)
    order = c.size - 1
    start = int(np.argmax(envelope > 0))
    ratios = envelope[start + 1 :] / envelope[start:-1]
    if ratios.size == 0:
        growth, rise = np.inf, 0.0
    elif ratios.size == 1:
        growth, rise = 2 * ratios[0], ratios[0]  # one ratio says nothing of its own growth
    else:
        mean = (envelope[-1] / envelope[start]) ** (1 / (order - start))
        growth, rise = max(ratios[-1], 2 * ratios[-1] - ratios[-2], mean), max(ratios[-1] - ratios[-2], 0.0)
    y = np.abs(x)
    if not np.isfinite(growth):
        unknown = np.where(y > 0, np.inf, 0.0)
        return unknown, unknown
    term = envelope[-1] * y**order
    total = np.zeros(x.size)
    ratio = growth * y
    first = term * ratio
    total[ratio >= 1] = np.inf
    for _ in range(TAIL):
        going = ratio < 1
        term = np.where(going, term * ratio, term)
        total = np.where(going, total + term, total)
        ratio = ratio + rise * y
        if not going.any():
            break
    return first, total + np.where(ratio < 1, term * ratio / np.maximum(1 - ratio, 0.05), 0.0)


def _envelope(size: Array) -> Array:
    """|c_k| with accidental zeros filled from their neighbors, geometrically; what is within a factor 4 is left alone."""
    filled = size.copy()
    between = np.sqrt(size[:-2]) * np.sqrt(size[2:])
    filled[1:-1] = np.where(size[1:-1] < between / 4, between, size[1:-1])
    if size.size > 2 and filled[-3] > 0:
        ahead = filled[-2] * (filled[-2] / filled[-3])
        filled[-1] = ahead if size[-1] < ahead / 4 else size[-1]
    return filled


def _first_failure(c: Array, x: Array, holds: npt.NDArray[np.bool_], sign: float) -> float:
    """Where, going from 0 in the direction `sign`, the uncertainty first exceeds the sum: infinite if it never does."""
    failed = np.abs(x[~holds & (x * sign > 0)])
    if not failed.size:
        return sign * np.inf
    grid = np.linspace(0, float(failed.min()), 257)[1:]
    values, uncertainty, _ = _truncated(c, sign * grid)
    bad = uncertainty > np.abs(values)
    high = float(grid[np.argmax(bad)])
    low = high - float(grid[0])
    for _ in range(50):  # bisection to rounding
        middle = 0.5 * (low + high)
        value, error, _ = _truncated(c, np.array([sign * middle]))
        low, high = (low, middle) if error[0] > abs(value[0]) else (middle, high)
    return sign * high


def _left(edge: float) -> Status:
    reason = (
        f"the truncation error reaches the value itself at t = {edge:.4g}; raise the order or ask for shorter times"
    )
    return Status("left_domain", edge, reason)
