"""Where the flow of a diagonal linear network ends, at t -> inf after d -> inf, for every start, penalty and number of data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from lossflow.errors import InvalidInput
from lossflow.meanfield.diagonal_entropy import Link, fixed_point
from lossflow.meanfield.diagonal_rate import interpolating, least_squares
from lossflow.meanfield.diagonal_threshold import averages, recovering_strength, recovers, solve
from lossflow.problems.diagonal import AbstractInit, DiagonalLinear, SymmetricInit
from lossflow.problems.priors import Component, absolute_mean
from lossflow.trajectory import COMPLETE, EndState, Status

if TYPE_CHECKING:
    from lossflow.problem import AbstractProblem

GOOD_RESIDUAL = 1e-10  # of the fixed point equations, relative


class End(NamedTuple):
    """The observables of an end state under their public names, and the relative residual of its equations."""

    loss: float
    mse: float
    l1: float
    l2: float
    tau: float
    theta: float
    rate: float
    residual: float = 0.0


def end_state(problem: AbstractProblem) -> EndState:
    """The end state of a `DiagonalLinear` problem; it is unique, so `branches` is empty.

    values: `loss`, `mse` = E(beta - beta*)^2, `l1` = E|beta|, `l2` = E beta^2;  `tau`: beta is a function of
    x = beta* + tau Z,  delta tau^2 = sigma^2 + mse;  `rate`: residuals end like e^(-rate t), zero where they end slower;
    `theta`: without penalty that of  beta + (theta/2) xi = x,  zero for least squares and for a vanishing start; with
    weight_decay lambda that of  beta = soft(x, theta lambda),  infinite at "0+" where the data are interpolated.

    weight_decay 0, delta < 1: the interpolator with the potential that the start leaves behind; "0+": basis pursuit;
    inf: ridgeless regression. delta > 1: least squares. weight_decay > 0: LASSO, whatever the scale; "0+": its limit. Models of
    u0 = +-v0 end at the same with coefficients of one sign; where no such interpolator exists, at least squares, rate zero.
    At delta = 1 with noise the mse is infinite, for these models at delta = 1/2 unless the signal has their sign on average.
    Ours and unproved: the rate, and all ends of one-sided models.
    Raises `InvalidInput` for another problem. `status` says when the equations were not solved.
    docs/theory/diagonal.md sections 5, 6, 8 and 9 [NI25v2].
    """
    if not isinstance(problem, DiagonalLinear):
        raise InvalidInput(f"the end states of this module are those of DiagonalLinear(...), got {problem!r}")
    end = _end(problem)
    status = COMPLETE
    if not end.residual <= GOOD_RESIDUAL:
        reason = (
            f"the search for the fixed point stopped at a relative residual of {end.residual:.1e}; report this problem"
        )
        status = Status("stopped", None, reason)
    elif math.isinf(end.mse):
        reason = (
            "the mean squared error is infinite here: the data are as many as the coefficients that they have to move"
        )
        status = Status("complete", None, reason)
    values = {name: value for name, value in end._asdict().items() if name != "residual"}
    return EndState(values, (), problem, status)


def _end(problem: DiagonalLinear) -> End:
    components, one_sided = reachable(problem)
    if math.isinf(problem.delta):
        return _population(problem, components, one_sided)
    if problem.weight_decay:
        return _thresholded(problem, components, one_sided)
    if one_sided:
        return _without_negatives(problem, components)
    if problem.init == SymmetricInit("0+"):
        return _thresholded(problem, components, False)
    return _both_signs(problem, components)


def reachable(problem: DiagonalLinear) -> tuple[tuple[Component, ...], bool]:
    """The components of beta* and whether the model is one-sided; non-positive models are told as non-negative ones of -beta*."""
    init = problem.init
    if isinstance(init, SymmetricInit):
        return problem.prior.components, False
    plus, minus = init.squares
    if plus == 0:
        return problem.prior.mirrored, True
    return problem.prior.components, minus == 0


def _population(problem: DiagonalLinear, components: Sequence[Component], one_sided: bool) -> End:
    """delta = inf: every coordinate for itself, x = beta*; rates are those of the slowest coordinate."""
    penalty = _penalty(problem)
    found = averages(components, 0.0, penalty, one_sided)
    smooth = any(c.variance for c in components)
    if one_sided or problem.weight_decay:
        gaps = [abs((c.mean if one_sided else abs(c.mean)) - penalty) for c in components]
        rate = 0.0 if smooth else 2 * min(gaps)
    else:
        rate = 2 * math.hypot(_kappa(problem.init), 0.0 if smooth else min(abs(c.mean) for c in components))
    loss = (problem.noise_variance + found.mse) / 2
    return End(loss, found.mse, found.l1, found.l2, 0.0, 1.0 if problem.weight_decay else 0.0, rate)


def _thresholded(problem: DiagonalLinear, components: Sequence[Component], one_sided: bool) -> End:
    """LASSO, and its limit lambda -> 0+; also the limit of vanishing starts, which has the same coefficients."""
    delta, noise, penalty = problem.delta, problem.noise_variance, _penalty(problem)
    prior = problem.prior
    if not noise and not prior.second_moment:
        return End(0.0, 0.0, 0.0, 0.0, 0.0, 1.0 if problem.weight_decay else 0.0, 0.0)
    if not noise and not penalty and recovers(components, delta, one_sided):
        theta = recovering_strength(components, delta, one_sided) if problem.weight_decay else 0.0
        return End(0.0, 0.0, prior.absolute_moment, prior.second_moment, 0.0, theta, 0.0)
    if not penalty and one_sided and _diverges(delta, components):
        return End(0.0, math.inf, math.inf, math.inf, math.inf, math.inf if problem.weight_decay else 0.0, 0.0)
    if not penalty and not one_sided and delta >= 1:
        return _least_squares(problem, theta=_inverse(1 - 1 / delta) if problem.weight_decay else 0.0, rate=0.0)
    found = solve(components, delta, noise, penalty, one_sided)
    theta = _inverse(found.slack) if problem.weight_decay else 0.0
    mse, l1, l2, *_ = found.averages
    balance = abs((noise + mse) / (delta * found.tau**2) - 1)
    loss = delta * (found.tau * found.slack) ** 2 / 2
    return End(loss, mse, l1, l2, found.tau, theta, 0.0, balance)


def _without_negatives(problem: DiagonalLinear, components: Sequence[Component]) -> End:
    """No penalty, beta >= 0: least squares while that leaves residuals, else the interpolator of largest entropy."""
    delta, noise, prior = problem.delta, problem.noise_variance, problem.prior
    if _is_at_rest(problem, components):
        return _resting(problem)
    if not noise and all(not c.variance and c.mean >= 0 for c in components):
        zeros = 1 - prior.nonzero
        if 1 - zeros / 2 <= delta:
            nothing = 1e-9 * min(c.mean for c in components)  # a kappa that changes D = 2 beta by less than rounding
            rate = 0.0 if zeros or delta == 1 else least_squares(components, 0.0, nothing, delta)
            return End(0.0, 0.0, prior.absolute_moment, prior.second_moment, 0.0, 0.0, rate)
    if _diverges(delta, components):
        return End(0.0, math.inf, math.inf, math.inf, math.inf, 0.0, 0.0)
    if delta > 0.5:  # else the errors of half of the coordinates are too many for any tau
        found = solve(components, delta, noise, 0.0, one_sided=True, free=True)
        if found.slack > 0:
            mse, l1, l2, *_ = found.averages
            balance = abs((noise + mse) / (delta * found.tau**2) - 1)
            return End(delta * (found.tau * found.slack) ** 2 / 2, mse, l1, l2, found.tau, 0.0, 0.0, balance)
    return _interpolator(problem, components)


def _diverges(delta: float, components: Sequence[Component]) -> bool:
    """At delta = 1/2 a one-sided model is to fit with the half of the coefficients that noise makes positive; unless the signal
    makes them more:  delta tau^2 = sigma^2 + m2/2 + tau^2/2 + O(1/tau)  has no solution.
    """
    return delta == 0.5 and math.fsum(c.weight * c.mean for c in components) <= 0


def _both_signs(problem: DiagonalLinear, components: Sequence[Component]) -> End:
    """No penalty: least squares for delta >= 1, else the interpolator with the potential of the start."""
    delta, kappa = problem.delta, _kappa(problem.init)
    if delta < 1:
        if kappa == math.inf:
            return _ridgeless(problem)
        return _resting(problem) if _is_at_rest(problem, components) else _interpolator(problem, components)
    if delta == 1 or kappa == math.inf:
        return _least_squares(problem, theta=0.0, rate=kappa if delta > 1 else 0.0)
    tau = math.sqrt(problem.noise_variance / (delta - 1))
    return _least_squares(problem, theta=0.0, rate=least_squares(components, tau, kappa, delta))


def _interpolator(problem: DiagonalLinear, components: Sequence[Component]) -> End:
    found = fixed_point(Link.of(problem.init), components, problem.delta, problem.noise_variance)
    rate = interpolating(found.nodes, problem.delta)
    return End(0.0, found.mse, found.l1, found.l2, found.tau, found.theta, rate, found.residual)


def _is_at_rest(problem: DiagonalLinear, components: Sequence[Component]) -> bool:
    """Whether the start is the signal already, and no noise moves it."""
    start = abs(problem.init.beta)
    at_start = all(c.mean in (start, problem.init.beta) and not c.variance for c in components)
    return at_start and not problem.noise_variance and problem.delta < 1


def _resting(problem: DiagonalLinear) -> End:
    """beta = beta* = beta0, all D = a0^2 + b0^2 the same: what remains is the Marchenko-Pastur law."""
    delta, speed = problem.delta, sum(problem.init.squares)
    beta = problem.init.beta
    rate = speed * (delta**-0.5 - 1) ** 2
    return End(0.0, 0.0, abs(beta), beta * beta, 0.0, speed * (1 - delta) / delta, rate)


def _ridgeless(problem: DiagonalLinear) -> End:
    """The infinite start: beta = delta x is the interpolator of least norm."""
    delta, noise, m2 = problem.delta, problem.noise_variance, problem.prior.second_moment
    tau2 = (noise / (1 - delta) + (1 - delta) * m2) / delta
    l1 = delta * _absolute(problem, tau2)
    mse = (1 - delta) * m2 + noise * delta / (1 - delta)
    return End(0.0, mse, l1, delta**2 * (m2 + tau2), math.sqrt(tau2), math.inf, math.inf)


def _least_squares(problem: DiagonalLinear, theta: float, rate: float) -> End:
    """beta = x, which interpolates at delta = 1, where any noise makes it infinite."""
    delta, noise, m2 = problem.delta, problem.noise_variance, problem.prior.second_moment
    tau2 = noise / (delta - 1) if delta > 1 else math.inf if noise else 0.0
    loss = noise * (delta - 1) / delta / 2
    return End(loss, tau2, _absolute(problem, tau2), m2 + tau2, math.sqrt(tau2), theta, rate)


def _absolute(problem: DiagonalLinear, variance: float) -> float:
    """E |beta* + sqrt(variance) Z|."""
    if math.isinf(variance):
        return math.inf
    return math.fsum(c.weight * absolute_mean(c.mean, c.variance + variance) for c in problem.prior.components)


def _penalty(problem: DiagonalLinear) -> float:
    return 0.0 if isinstance(problem.weight_decay, str) else problem.weight_decay


def _kappa(init: AbstractInit) -> float:
    if isinstance(init, SymmetricInit):
        return 0.0 if isinstance(init.scale, str) else init.scale**2
    return init.kappa


def _inverse(slack: float) -> float:
    return 1 / slack if slack else math.inf
