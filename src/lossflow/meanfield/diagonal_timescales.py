"""When diagonal linear networks learn: lazy, rich, search, activation and grokking times, each with the range where it holds.

The unit of time is that of the flow. A signal of another size than E beta*^2 = 1 only changes units, so its root mean square
stands where the theory note has 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.description import coerce
from lossflow.errors import InvalidInput
from lossflow.meanfield.diagonal_recovery import trade_off
from lossflow.problems.diagonal import DiagonalLinear, SymmetricInit

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

MUCH = 10.0  # what "much larger" means where a range of validity is checked


@dataclass(frozen=True)
class Timescale:
    """A time, whether the problem is in the range where it is meant, and that range in words."""

    time: float
    holds: bool
    where: str

    def at(self, sizes: Mapping[str, float]) -> float:
        """The time; it depends on no size, so any `sizes` will do. For `Trajectory.in_units_of`."""
        return self.time


def lazy_time(problem: DiagonalLinear) -> Timescale:
    """1/(2 kappa): the time in which a large start learns, as a linear model with the kernel 2 kappa X X^T.

    Holds for kappa >> rms beta*, up to relative deviations E beta*^2/kappa^2.
    docs/theory/diagonal.md section 7 [NI25v2].
    """
    kappa, rms = _kappa(problem), _rms(problem)
    where = f"kappa >> rms beta* = {rms:.3g}; deviations are of relative order {(rms / kappa) ** 2:.1e}"
    return Timescale(1 / (2 * kappa), kappa >= MUCH * rms, where)


def rich_time(problem: DiagonalLinear) -> Timescale:
    """log(rms beta*/kappa)/rms beta*: the unit of time in which the curves of small starts collapse, up to 1/log.

    Holds for kappa << rms beta* without weight decay. docs/theory/diagonal.md section 7 [NI25v2].
    """
    kappa, rms = _kappa(problem), _rms(problem)
    return Timescale(max(math.log(rms / kappa), 0.0) / rms, _is_small(problem), _small(rms))


def search_time(problem: DiagonalLinear) -> Timescale:
    """log(rms beta*/kappa)/(2 rms g0),  rms g0 = sqrt(E beta*^2 + (E beta*^2 + sigma^2)/delta): how long a small start searches.

    g0 is the force on a coordinate at the start. Coordinates with a larger force move earlier: since the force is normal, a small
    fraction moves at any time.
    Holds for kappa << rms beta*. docs/theory/diagonal.md section 7 [NI25v2].
    """
    kappa, rms = _kappa(problem), _rms(problem)
    force = math.sqrt(rms**2 + (rms**2 + problem.noise_variance) / problem.delta)
    return Timescale(max(math.log(rms / kappa), 0.0) / (2 * force), _is_small(problem), _small(rms))


def activation_time(coefficient: float, kappa: float) -> Timescale:
    """log(2 |beta*|/kappa)/(2 |beta*|): when a coefficient beta* has grown to one half, alone (delta = inf).

    coefficient: beta* != 0; kappa: > 0. Holds for kappa << |beta*|. Raises `InvalidInput` for other values.
    docs/theory/diagonal.md sections 4 and 7 [NI25v2].
    """
    size, kappa = abs(coerce(coefficient, float, "coefficient")), coerce(kappa, float, "kappa")
    if not 0 < size < math.inf or not 0 < kappa < math.inf:
        raise InvalidInput(
            f"coefficient and kappa must be finite and not zero, kappa > 0; got {coefficient!r}, {kappa!r}"
        )
    time = max(math.log(2 * size / kappa), 0.0) / (2 * size)
    return Timescale(time, kappa * MUCH <= size, f"kappa << |beta*| = {size:.3g}, delta = inf")


def grokking_time(problem: DiagonalLinear, kappa_c: float | None = None) -> Timescale:
    """log(kappa_0/kappa_c)/(2 lambda): when weight decay has brought kappa from its start down to the scale of beta.

    problem: with weight_decay lambda > 0. kappa_c: where the model turns from lazy to rich, rms beta* if None.
    Holds for kappa_0 > kappa_c, delta < 1 and lambda << the rate of convergence at kappa_c. Ours and unproved.
    Raises `InvalidInput` without weight decay. docs/theory/diagonal.md sections 6 and 9 [NI25v2].
    """
    kappa, decay = _kappa(problem), _decay(problem)
    kappa_c = _rms(problem) if kappa_c is None else float(coerce(kappa_c, float, "kappa_c"))
    if not 0 < kappa_c < math.inf:
        raise InvalidInput(f"kappa_c must be positive and finite, got {kappa_c!r}")
    holds, rate = False, 0.0
    if problem.delta < 1:
        rate = float(trade_off(replace(problem, weight_decay=0.0), [math.sqrt(kappa_c)]).rate[0])
        holds = kappa > kappa_c and decay * MUCH <= rate
    where = f"delta < 1, kappa > kappa_c = {kappa_c:.3g} and weight_decay << {rate:.3g}, the rate at kappa_c"
    return Timescale(max(math.log(kappa / kappa_c), 0.0) / (2 * decay), holds, where)


class QuasiStatic(NamedTuple):
    """Arrays over times: kappa_t, and mse and rate of the interpolator that belongs to it."""

    kappa: Array
    mse: Array
    rate: Array


def quasi_static(problem: DiagonalLinear, times: npt.ArrayLike) -> QuasiStatic:
    """mse(t) ~ that of the interpolator of  kappa_t = kappa_0 e^(-2 lambda t):  slow weight decay after a fast fit.

    problem: with weight_decay lambda > 0, delta < 1 and a symmetric start. times: >= 0. Valid after the fit and while
    lambda << rate(kappa_t); later the end is that of LASSO. Ours and unproved.
    Raises `InvalidInput` for other problems. docs/theory/diagonal.md sections 6 and 9 [NI25v2].
    """
    decay = _decay(problem)
    if not isinstance(problem.init, SymmetricInit):
        raise InvalidInput(f"the quasi-static law is known for SymmetricInit(...), got {problem.init!r}")
    times = np.asarray(times, dtype=np.float64)
    if not np.all((times >= 0) & np.isfinite(times)):
        raise InvalidInput("times must be finite and >= 0")
    kappa = _kappa(problem) * np.exp(-2 * decay * times)
    found = trade_off(replace(problem, weight_decay=0.0), np.sqrt(kappa))
    return QuasiStatic(kappa, found.mse.reshape(times.shape), found.rate.reshape(times.shape))


def _kappa(problem: DiagonalLinear) -> float:
    if not isinstance(problem, DiagonalLinear):
        raise InvalidInput(f"these times are those of DiagonalLinear(...), got {problem!r}")
    kappa = problem.init.kappa
    if not kappa:
        raise InvalidInput(f"the times need a start with kappa > 0; {problem.init!r} has {problem.init.model}")
    return kappa


def _rms(problem: DiagonalLinear) -> float:
    power = problem.prior.second_moment
    if not power:
        raise InvalidInput(f"without a signal nothing sets the time, got {problem.prior!r}")
    return math.sqrt(power)


def _decay(problem: DiagonalLinear) -> float:
    decay = problem.weight_decay
    if isinstance(decay, str) or not decay:
        raise InvalidInput(f"it is weight decay that makes kappa fall: give a number > 0, got {decay!r}")
    return decay


def _is_small(problem: DiagonalLinear) -> bool:
    return _kappa(problem) * MUCH <= _rms(problem) and problem.weight_decay == 0


def _small(rms: float) -> str:
    return f"kappa << rms beta* = {rms:.3g}, no weight decay; corrections are of relative order 1/log(rms beta*/kappa)"
