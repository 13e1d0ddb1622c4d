"""Ends at which coefficients are thresholded: LASSO, basis pursuit, and least squares without negative coefficients.

    beta = soft(x, T) = sign(x) (|x| - T)_+,  one-sided (x - T)_+,  x = beta* + tau Z,   T = theta lambda,
    lambda = T (1 - P/delta),   P = P(beta != 0),   delta tau^2 = sigma^2 + E(beta - beta*)^2.

All averages are sums of error functions. For the flow of a one-sided model these equations are ours and unproved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from lossflow.problems.priors import Component

NODES, WEIGHTS = np.polynomial.legendre.leggauss(
    12
)  # exact to rounding for a normal density on an interval of length one
SMALLEST_LOG = -690.0  # e^-690 is the smallest tau that is looked for


class Averages(NamedTuple):
    """At given tau and T: E(beta - beta*)^2, E|beta|, E beta^2, P(beta != 0), P(beta = 0), and `change` = mse - tau^2.

    The change is what the threshold does to the error; near least squares it is far smaller than both of its terms.
    """

    mse: float
    l1: float
    l2: float
    active: float
    idle: float
    change: float


class Thresholded(NamedTuple):
    """The solution: tau, the threshold T, averages there, and slack = 1 - P/delta, which is 1/theta."""

    tau: float
    threshold: float
    averages: Averages
    slack: float


def averages(components: Iterable[Component], tau: float, threshold: float, one_sided: bool) -> Averages:
    """The averages over beta* ~ components and Z, in closed form. tau, threshold >= 0."""
    sums = [0.0] * len(Averages._fields)
    for weight, mean, variance in components:
        for k, term in enumerate(_of_one(mean, variance, tau, threshold, one_sided)):
            sums[k] += weight * term
    return Averages(*sums)


def _of_one(mean: float, variance: float, tau: float, threshold: float, one_sided: bool) -> Averages:
    """With x = mean + deviation u the error given u is (tau^2/deviation) u -+ T where beta is active, else -E[beta*|u]."""
    deviation = math.sqrt(variance + tau * tau)
    if not deviation:
        beta = max(mean - threshold, 0.0) - (0.0 if one_sided else max(-mean - threshold, 0.0))
        return Averages(
            (beta - mean) ** 2, abs(beta), beta * beta, float(beta != 0), float(beta == 0), (beta - mean) ** 2
        )
    known = tau / deviation
    pull, spread = known * tau, variance * known * known
    up, down = (threshold - mean) / deviation, -math.inf
    mse = _square(-threshold, pull, up, math.inf) + spread
    active, first, second = _moments(up, math.inf)
    signed = first  # E[+-u; beta != 0], with the sign of beta
    l1 = deviation * (first - up * active)
    l2 = deviation**2 * (second - 2 * up * first + up * up * active)
    if not one_sided:
        down = (-threshold - mean) / deviation
        mse += _square(threshold, pull, -math.inf, down)
        below, first, second = _moments(-math.inf, down)
        signed -= first
        l1 += deviation * (down * below - first)
        l2 += deviation**2 * (second - 2 * down * first + down * down * below)
        active += below
    missed = _square(mean, variance / deviation, down, up)
    change = threshold * (threshold * active - 2 * pull * signed) + missed - _square(0.0, pull, down, up)
    return Averages(mse + missed, l1, l2, active, _square(1.0, 0.0, down, up), change)


def _square(constant: float, slope: float, low: float, high: float) -> float:
    """E[(constant + slope u)^2; low < u < high] for a standard normal u; narrow intervals by quadrature, which cannot cancel."""
    if high - low < 1:
        center, radius = (low + high) / 2, (high - low) / 2
        u = center + radius * NODES
        return radius * float(WEIGHTS @ ((constant + slope * u) ** 2 * np.exp(-u * u / 2))) / math.sqrt(2 * math.pi)
    mass, first, second = _moments(low, high)
    return constant * constant * mass + 2 * constant * slope * first + slope * slope * second


def _moments(low: float, high: float) -> tuple[float, float, float]:
    """E[u^k; low < u < high] for a standard normal u and k = 0, 1, 2."""
    mass = _tail(low) - _tail(high) if low > 0 else _tail(-high) - _tail(-low)
    at_low, at_high = _density(low), _density(high)
    edge_low = low * at_low if at_low else 0.0
    edge_high = high * at_high if at_high else 0.0
    return mass, at_low - at_high, mass + edge_low - edge_high


def _tail(u: float) -> float:
    return math.erfc(u / math.sqrt(2)) / 2


def _density(u: float) -> float:
    return math.exp(-u * u / 2) / math.sqrt(2 * math.pi) if abs(u) < 40 else 0.0


def solve(
    components: Sequence[Component], delta: float, noise: float, penalty: float, one_sided: bool, free: bool = False
) -> Thresholded:
    """The solution at lambda = penalty; 0 is the limit 0+, in which T is what makes P = delta, or zero if P < delta at zero.

    noise: sigma^2. free: hold T at zero (no penalty at all). delta < inf; tau > 0 must solve the equations, which is for the
    caller to know: not in recovery, nor for least squares with both signs at delta <= 1.
    """

    def threshold(tau: float) -> float:
        return 0.0 if free else _threshold(components, delta, penalty, one_sided, tau)

    def excess(log_tau: float) -> float:
        tau = math.exp(log_tau)
        found = averages(components, tau, threshold(tau), one_sided)
        excess = (noise + found.change + (1 - delta) * tau**2) / (delta * tau**2)
        return math.log1p(excess) if excess > -0.5 else math.log((noise + found.mse) / delta) - 2 * log_tau

    power = math.fsum(c.weight * (c.mean**2 + c.variance) for c in components)
    tau = math.exp(falling_root(excess, math.log((noise + power) / delta) / 2))
    T = threshold(tau)
    found = averages(components, tau, T, one_sided)
    slack = penalty / T if penalty else max((delta - 1 + found.idle) / delta, 0.0) if T == 0 else 0.0
    return Thresholded(tau, T, found, slack)


def _threshold(components: Sequence[Component], delta: float, penalty: float, one_sided: bool, tau: float) -> float:
    """The root T of  lambda/T = 1 - P/delta,  whose two sides fall and rise with T; for lambda = 0 at least zero."""

    def gap(log_threshold: float) -> float:
        T = math.exp(log_threshold)
        idle = averages(components, tau, T, one_sided).idle
        return penalty / T - (delta - 1 + idle) / delta

    if not penalty and delta - 1 + averages(components, tau, 0.0, one_sided).idle >= 0:
        return 0.0
    return math.exp(falling_root(gap, math.log(max(tau, penalty))))


def falling_root(falling: Callable[[float], float], guess: float) -> float:
    """The root of a function that is positive far to the left and negative far to the right."""
    from scipy.optimize import brentq

    low = high = guess
    width = 1.0
    value = falling(guess)
    if value == 0:
        return guess
    while value > 0:
        low, high = high, high + width
        width *= 2
        value = falling(high)
    if low == high:
        value = -value
        while value > 0 and low > SMALLEST_LOG:
            low, high = max(low - width, SMALLEST_LOG), low
            width *= 2
            value = -falling(low)
    return float(brentq(falling, low, high, xtol=1e-16, rtol=np.float64(1e-15)))  # type: ignore[arg-type]


def recovers(components: Sequence[Component], delta: float, one_sided: bool) -> bool:
    """Whether basis pursuit without noise finds the signal itself: (error)/tau^2 stays below delta as tau -> 0.

    Without noise and penalty a one-sided model recovers when it can reach the signal; where P < delta at T = 0 it is
    least squares that does.
    """
    return small_noise_ratio(components, delta, one_sided) <= delta


def small_noise_ratio(components: Sequence[Component], delta: float, one_sided: bool) -> float:
    """lim mse/tau^2 for tau -> 0, which is M(t) = rho (1 + t^2) + sides (1 - rho) E(Z - t)_+^2  at P(t) = delta,  t >= 0,
    P(t) = rho + sides (1 - rho) P(Z > t).

    sides: two, or one for a one-sided model, which misses signals with negative entries by an infinite ratio.
    """
    nonzero, zeros, sides = _sparsity(components, one_sided)
    if one_sided and any(c.variance or c.mean < 0 for c in components):
        return math.inf
    if nonzero + sides * zeros / 2 <= delta:
        return _ratio(0.0, nonzero, sides * zeros)
    return (
        _ratio(quantile((delta - nonzero) / (sides * zeros)), nonzero, sides * zeros) if nonzero < delta else math.inf
    )


def recovering_strength(components: Sequence[Component], delta: float, one_sided: bool) -> float:
    """theta = lim T/lambda for lambda -> 0 without noise, where the signal is recovered: 1/theta = 1 - P(t)/delta at
    M(t) = delta, P(t) < delta, in the notation of `small_noise_ratio`: there are two roots, and P < delta at the larger one.
    """
    nonzero, zeros, sides = _sparsity(components, one_sided)
    if not nonzero:
        return 1.0
    excess = lambda t: _ratio(t, nonzero, sides * zeros) - delta  # noqa: E731
    bend = falling_root(
        lambda t: 2 * sides * zeros * _moments(t, math.inf)[1] - 2 * t * (nonzero + sides * zeros * _tail(t)), 1.0
    )
    t = falling_root(lambda t: -excess(max(t, bend)) if t > bend else delta, bend + 1.0)
    slack = delta - nonzero - sides * zeros * _tail(t)
    return delta / slack if slack > 0 else math.inf


def _sparsity(components: Sequence[Component], one_sided: bool) -> tuple[float, float, int]:
    """(P(beta* != 0), P(beta* = 0), sides)."""
    zeros = math.fsum(c.weight for c in components if not c.mean and not c.variance)
    nonzero = math.fsum(c.weight for c in components if c.mean or c.variance)
    return nonzero, zeros, 1 if one_sided else 2


def _ratio(t: float, nonzero: float, zeros: float) -> float:
    return nonzero * (1 + t * t) + zeros * excess_moments(t)[1]


def excess_moments(t: float) -> tuple[float, float]:
    """E(Z - t)_+ and E(Z - t)_+^2 for a standard normal Z and t >= 0."""
    mass, first, second = _moments(t, math.inf)
    return first - t * mass, second - 2 * t * first + t * t * mass


def quantile(probability: float) -> float:
    """t with P(Z > t) = probability."""
    from scipy.special import ndtri

    return -float(ndtri(probability))
