"""What the scale of a start buys: the recovery exponent, the best scale, and the price of it in speed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.description import Vanishing, coerce
from lossflow.errors import InvalidInput
from lossflow.meanfield.diagonal_entropy import Link, fixed_point
from lossflow.meanfield.diagonal_rate import interpolating
from lossflow.meanfield.diagonal_threshold import excess_moments, falling_root, quantile
from lossflow.meanfield.interpolation import end_state
from lossflow.problems.diagonal import DiagonalLinear, SymmetricInit
from lossflow.trajectory import EndState

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]


def recovery_exponent(delta: float, density: float) -> float:
    """a in  mse ~ kappa^(2a)  and  theta ~ kappa^a/log(1/kappa)  for kappa -> 0 without noise; 0.0 where nothing is recovered.

    a = 1 - c/t,  delta = rho + 2 (1 - rho) P(Z > c),  delta = rho (1 + t^2) + 2 (1 - rho) E(Z - c)_+^2,  rho = density.
    delta: n/d in (0, 1]; density: P(beta* != 0) in [0, 1]. At delta = 1 and at density = 0 it is 1, the limit of both.
    Symmetric starts, and priors whose nonzero values stay away from zero. Ours and unproved.
    Raises `InvalidInput` outside these ranges.
    docs/theory/diagonal.md sections 5 and 9 [NI25v2].
    """
    delta, density = coerce(delta, float, "delta"), coerce(density, float, "density")
    if not 0 < delta <= 1:
        raise InvalidInput(
            f"delta must be in (0, 1], got {delta!r}; with more data than coefficients the start does not matter"
        )
    if not 0 <= density <= 1:
        raise InvalidInput(f"density must be in [0, 1], got {density!r}")
    if density == 0 or delta == 1:
        return 1.0
    if density >= delta:
        return 0.0
    c = quantile((delta - density) / (2 * (1 - density)))
    t2 = (delta - density - 2 * (1 - density) * excess_moments(c)[1]) / density
    return 1 - c / math.sqrt(t2) if t2 > c * c else 0.0


def recovery_threshold(density: float) -> float:
    """The delta above which a vanishing start recovers a signal without noise:  min_t rho (1 + t^2) + 2 (1 - rho) E(Z - t)_+^2.

    density: rho = P(beta* != 0) in [0, 1]; the threshold is 0 at 0 and 1 at 1. Raises `InvalidInput` outside.
    docs/theory/diagonal.md section 5 [NI25v2].
    """
    density = coerce(density, float, "density")
    if not 0 <= density <= 1:
        raise InvalidInput(f"density must be in [0, 1], got {density!r}")
    if density in (0, 1):
        return density

    def slope(t: float) -> float:
        return density * t - 2 * (1 - density) * excess_moments(t)[0]

    t = falling_root(lambda t: -slope(t), 1.0)
    return density * (1 + t * t) + 2 * (1 - density) * excess_moments(t)[1]


ROUNDING = 1e-12  # relative: an mse that is smaller by less is not smaller


class Best(NamedTuple):
    """The scale of least mse, "0+" and inf included, and its end state."""

    scale: float | Vanishing
    end: EndState


def best_scale(problem: DiagonalLinear) -> Best:
    """argmin over scales of mse at the end of the flow from SymmetricInit(scale);  the problem's own start is ignored.

    problem: with delta < 1 and weight_decay = 0, since elsewhere the scale of the start does not matter. Without noise and where
    the signal can be recovered it is "0+"; otherwise it may be finite, and mse can have two minima in the scale: all of
    1e-30 .. 1e4 is searched, to about 1e-6 in log(scale). Raises `InvalidInput` for other problems.
    docs/theory/diagonal.md sections 5 and 8 [NI25v2].
    """
    from scipy.optimize import minimize_scalar

    _require_interpolation(problem)
    at = lambda scale: end_state(replace(problem, init=SymmetricInit(scale)))  # noqa: E731
    limits: list[Best] = [Best(scale, at(scale)) for scale in ("0+", math.inf)]
    least = min(limits, key=lambda best: best.end.values["mse"])
    if not least.end.values["mse"]:
        return least
    exponents = np.linspace(-30, 4, 35)
    curve = trade_off(problem, 10.0**exponents).mse
    k = int(np.argmin(curve))
    span = (exponents[max(k - 1, 0)], exponents[min(k + 1, exponents.size - 1)])
    found = minimize_scalar(lambda x: at(10.0**x).values["mse"], bounds=span, method="bounded", options={"xatol": 1e-6})
    inside = Best(float(10.0**found.x), at(float(10.0**found.x)))
    gain = least.end.values["mse"] - inside.end.values["mse"]
    return inside if gain > ROUNDING * least.end.values["mse"] else least


class TradeOff(NamedTuple):
    """Arrays over scales: `mse` at the end, the `rate` at which it is reached, and tau and theta."""

    scales: Array
    rate: Array
    mse: Array
    tau: Array
    theta: Array


def trade_off(problem: DiagonalLinear, scales: npt.ArrayLike) -> TradeOff:
    """(rate, mse) as functions of the scale of a symmetric start: large starts are fast and, for sparse signals, wrong.

    problem: with delta < 1 and weight_decay = 0; its own start is ignored. scales: finite, > 0, in any order (each point starts
    from its neighbor in the given order). Raises `InvalidInput` for others.
    docs/theory/diagonal.md section 8 [NI25v2].
    """
    _require_interpolation(problem)
    inits = [SymmetricInit(scale) for scale in np.asarray(scales, dtype=np.float64).ravel().tolist()]
    rows: list[Sequence[float]] = []
    for init in inits:
        start = (rows[-1][2], rows[-1][3]) if rows and rows[-1][2] > 0 else None
        ends = replace(problem, init=init)
        if not problem.noise_variance and not problem.prior.second_moment:
            values = end_state(ends).values
            rows.append((values["rate"], values["mse"], values["tau"], values["theta"]))
            continue
        found = fixed_point(Link.of(init), problem.prior.components, problem.delta, problem.noise_variance, start)
        rows.append((interpolating(found.nodes, problem.delta), found.mse, found.tau, found.theta))
    columns = np.array(rows, dtype=np.float64).reshape(-1, 4).T
    return TradeOff(np.array([init.scale for init in inits], dtype=np.float64), *columns)


def _require_interpolation(problem: DiagonalLinear) -> None:
    if not isinstance(problem, DiagonalLinear) or not problem.delta < 1 or problem.weight_decay != 0:
        raise InvalidInput(
            "the scale of the start decides the end of DiagonalLinear(...) with delta < 1 and weight_decay=0 only, "
            f"got {problem!r}"
        )
