"""Interpolation with the potential that a start leaves behind: the fixed point of two numbers, tau and theta.

    beta + (theta/2) xi = x,   beta = (a0^2 e^xi - b0^2 e^-xi)/2,   x = beta* + tau Z,
    E[d beta/dx] = delta,      delta tau^2 = sigma^2 + E(beta - beta*)^2.

All averages are integrals over xi, in which the map x -> beta needs no root and is as smooth over thirty decades of kappa as
over one. Differences that would cancel (x minus its mean, beta minus beta*) are never formed: each has its own formula.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.problems.diagonal import AbstractInit
from lossflow.problems.priors import Component

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

REACH = 13.0  # standard deviations of x that are integrated over: e^(-13^2/2) = 2e-37
PANEL_DEVIATIONS = 2.0  # longest panel in units of the deviation of x
PANEL_LENGTH = 2.0  # longest panel in xi; the nearest singularities lie at a distance pi from the real axis
DEVIATIONS = np.linspace(-REACH, REACH, 2 * math.ceil(REACH / PANEL_DEVIATIONS) + 1)
NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)
NEGLIGIBLE = 46.0  # -log of 1e-20
STEP = 3.0  # longest step of the search, in log tau and log theta
TOLERANCE = 1e-13  # of both equations, relative
ACCEPTED = 1e-11  # where rounding keeps the residual from falling further
MOST_STEPS = 200
FAR = 340.0  # of log tau and log theta, where squares begin to leave double precision
NARROW = 1e-15  # width of a bracket that cannot be halved any more


@dataclass(frozen=True)
class Link:
    """xi -> beta = (plus e^xi - minus e^-xi)/2.

    plus, minus: a0^2 and b0^2 of the start; plus > 0, and minus = 0 makes a model of beta > 0. start: (plus - minus)/2 = u0 v0,
    given apart because the difference may cancel.
    """

    plus: float
    minus: float
    start: float

    @classmethod
    def of(cls, init: AbstractInit) -> Link:
        """Of a start with finite weights; a non-positive model is told as a non-negative one of -beta."""
        plus, minus = init.squares
        return cls(plus, minus, init.beta) if plus else cls(minus, plus, -init.beta)

    @classmethod
    def symmetric(cls, kappa: float) -> Link:
        """beta = kappa sinh(xi)."""
        return cls(kappa, kappa, 0.0)

    @property
    def is_odd(self) -> bool:
        """Whether beta changes sign with xi."""
        return self.plus == self.minus

    def gain(self, center: float, eta: Array, beta: Array) -> Array:
        """beta - beta(center) for beta = beta(center + eta), to full relative precision."""
        up = self.plus * math.exp(center) / 2
        down = self.minus * math.exp(-center) / 2
        near = np.clip(eta, -1.0, 1.0)
        return np.where(near == eta, up * np.expm1(near) - down * np.expm1(-near), beta - (up - down))

    def slope(self, xi: float) -> float:
        """d beta/d xi: half of what the theory note calls D in its sections 5 and 8."""
        return (self.plus * math.exp(xi) + self.minus * math.exp(-xi)) / 2

    def zero(self) -> float:
        """xi where beta = 0, -inf for a one-sided model."""
        return math.log(self.minus / self.plus) / 2 if self.minus else -math.inf

    def solve(self, targets: Array, theta: float) -> Array:
        """xi with  beta + (theta/2) xi = target,  for each target: Newton from above, on a convex function."""
        half = theta / 2
        if not self.minus:
            sign, goal, kappa, shift = np.ones_like(targets), targets, self.plus / 2, 0.0
            with np.errstate(divide="ignore", invalid="ignore"):
                xi = np.where(goal > 0, np.log(goal / kappa), math.inf)
        else:  # beta = kappa sinh(xi - shift), and what lies below the zero of beta + (theta/2)(xi - shift) is mirrored
            shift = self.zero()
            sign, goal = np.sign(targets - half * shift), np.abs(targets - half * shift)
            kappa = math.sqrt(self.plus) * math.sqrt(self.minus)
            xi = np.arcsinh(goal / kappa)
        if half:
            xi = np.minimum(xi, goal / half)
            for _ in range(MOST_STEPS):  # the excess falls by e at least in each step, then quadratically
                up = kappa * np.exp(xi) if not self.minus else kappa * np.sinh(xi)
                step = (up + half * xi - goal) / ((up if not self.minus else kappa * np.cosh(xi)) + half)
                xi = xi - step
                if np.all(np.abs(step) <= 1e-15 * (1 + np.abs(xi))):
                    break
        return sign * xi + shift

    def center(self, mean: float, theta: float) -> float:
        """`solve` for a single target, with a relative error at rounding even where xi is nearly zero."""
        xi = float(self.solve(np.array([mean]), theta)[0])
        for _ in range(2):
            excess = (
                (self.start - mean) + (self.plus * math.expm1(xi) - self.minus * math.expm1(-xi)) / 2 + theta / 2 * xi
            )
            xi -= excess / (self.slope(xi) + theta / 2)
        return xi


class Nodes(NamedTuple):
    """A quadrature for the law of (beta, beta*) at given tau and theta; `weight` sums to one.

    beta, slope: coefficient and d beta/d xi. error, spread: mean and variance of beta - beta* given the node. xi: of the node.
    pull: E[Z | node] with x = beta* + tau Z, in units in which d spread/d tau is `spread_pull`.
    """

    weight: Array
    beta: Array
    slope: Array
    bend: Array  # d slope/d beta
    xi: Array
    error: Array
    spread: Array
    pull: Array
    spread_pull: Array


@dataclass(frozen=True)
class Fixed:
    """The fixed point and what it says: tau, theta, mse = E(beta - beta*)^2, l1 = E|beta|, l2 = E beta^2, nodes, residual."""

    tau: float
    theta: float
    mse: float
    l1: float
    l2: float
    nodes: Nodes
    residual: float


def quadrature(link: Link, components: Iterable[Component], tau: float, theta: float) -> Nodes:
    """Nodes for E over beta* ~ components and x = beta* + tau Z, with beta the proximal map of x at strength theta."""
    parts = [_nodes(link, component, tau, theta) for component in _folded(link, components)]
    return Nodes(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _folded(link: Link, components: Iterable[Component]) -> list[Component]:
    """Where the proximal map is odd, beta* and -beta* count alike: means are made >= 0 and equal ones joined."""
    if not link.is_odd:
        return list(components)
    joined: dict[tuple[float, float], float] = {}
    for weight, mean, variance in components:
        key = (abs(mean), variance)
        joined[key] = joined.get(key, 0.0) + weight
    return [Component(weight, *key) for key, weight in joined.items()]


def _nodes(link: Link, component: Component, tau: float, theta: float) -> Nodes:
    weight, mean, variance = component
    deviation = math.sqrt(variance + tau * tau)
    half = theta / 2
    even = mean == 0 and link.is_odd
    center = 0.0 if even else link.center(mean, theta)  # where x is `mean`
    edges = _edges(link, center, mean, deviation, theta, even)
    radius = np.diff(edges)[:, None] / 2
    eta = ((edges[:-1] + edges[1:])[:, None] / 2 + radius * NODES).ravel()
    xi = center + eta
    growth = np.exp(xi)
    up = link.plus / 2 * growth
    down = link.minus / 2 / growth if link.minus else 0.0
    beta, slope = up - down, up + down
    near = np.abs(xi) < 1  # where the difference may be far smaller than both terms
    if near.any():
        small = xi[near]
        beta[near] = link.start + link.plus / 2 * np.expm1(small) - link.minus / 2 * np.expm1(-small)
    u = (link.gain(center, eta, beta) + half * eta) / deviation
    density = (2 if even else 1) * weight / (math.sqrt(2 * math.pi) * deviation)
    mass = density * (radius * WEIGHTS).ravel() * np.exp(-u * u / 2) * (slope + half)
    known = tau / deviation
    error = (
        known * tau * u - half * xi
    )  # beta - E[beta* | x]:  beta - x = -theta xi/2,  x - E[beta* | x] = tau^2 u/deviation
    spread = variance * known * known
    flat = np.ones_like(beta)
    bend = beta / slope if link.minus else flat
    return Nodes(mass, beta, slope, bend, xi, error, spread * flat, known * u, spread / tau * flat)


def _edges(link: Link, center: float, mean: float, deviation: float, theta: float, even: bool) -> Array:
    """Edges of panels in eta = xi - xi(mean): no longer than the panel lengths allow, with one at beta = 0."""
    u = DEVIATIONS[DEVIATIONS.size // 2 :] if even else DEVIATIONS
    eta = deviation * u / (link.slope(center) + theta / 2)
    if eta[-1] > 0.1:  # the map bends within reach
        eta = link.solve(mean + deviation * u, theta) - center
        eta[0 if even else u.size // 2] = 0.0
    marks = [link.zero() - center]
    flat = -math.inf
    if not link.minus and theta:  # further down beta is nothing beside theta, and x is linear in xi for very long
        flat = math.log(theta / link.plus) - NEGLIGIBLE - center
        marks.append(flat)
    inside = [mark for mark in marks if eta[0] < mark < eta[-1]]
    if inside:
        eta = np.sort(np.append(eta, inside))
    lengths = np.where(eta[1:] <= flat, 0.0, np.diff(eta))
    counts = np.maximum(np.ceil(lengths / PANEL_LENGTH), 1).astype(int)
    if counts.max() == 1:
        return eta
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.append(np.repeat(eta[:-1], counts) + number * np.repeat(np.diff(eta) / counts, counts), eta[-1])


class _Balance(NamedTuple):
    """Both equations as logarithms of ratios, their derivatives in (log tau, log theta), and the sums behind them."""

    residual: Array
    jacobian: Array
    mse: float

    @property
    def size(self) -> float:
        return float(np.abs(self.residual).max())


def _balance(nodes: Nodes, delta: float, noise: float, tau: float, theta: float) -> _Balance:
    w, half = nodes.weight, theta / 2
    total = nodes.slope + half
    response = nodes.slope / total  # d beta/dx
    by_theta = -nodes.xi * response / 2  # d beta/d theta at fixed x
    bend = nodes.bend * half / total
    curvature = bend * response / total  # d response/dx
    response_theta = (bend * by_theta - response / 2) / total
    mean_response = float(w @ response)
    mse = float(w @ (nodes.error**2 + nodes.spread))
    mse_tau = 2 * float(w @ (response * (nodes.error * nodes.pull + nodes.spread_pull)))
    mse_theta = 2 * float(w @ (nodes.error * by_theta))
    variance = noise + mse
    residual = np.array([math.log(mean_response / delta), math.log(variance / delta) - 2 * math.log(tau)])
    jacobian = np.array(
        [
            [
                tau * float(w @ (curvature * nodes.pull)) / mean_response,
                theta * float(w @ response_theta) / mean_response,
            ],
            [tau * mse_tau / variance - 2, theta * mse_theta / variance],
        ]
    )
    return _Balance(residual, jacobian, mse)


def fixed_point(
    link: Link,
    components: Sequence[Component],
    delta: float,
    noise: float,
    start: tuple[float, float] | None = None,
) -> Fixed:
    """The fixed point for n/d = delta < 1. noise: sigma^2. start: a guess of (tau, theta), such as that of a neighbor.

    Newton in (log tau, log theta); where it does not settle, a bracketed search for tau around one for theta.
    """
    problem = _Equations(link, tuple(components), delta, noise)
    guess = np.log(start or _guess(problem))
    found = _newton(problem, guess)
    if found.residual > ACCEPTED:
        found = _nested(problem, guess)
    return found


class _Equations(NamedTuple):
    link: Link
    components: tuple[Component, ...]
    delta: float
    noise: float

    def at(self, search: Array) -> tuple[Nodes, _Balance]:
        tau, theta = map(float, np.exp(search))
        nodes = quadrature(self.link, self.components, tau, theta)
        return nodes, _balance(nodes, self.delta, self.noise, tau, theta)


def _newton(problem: _Equations, search: Array) -> Fixed:
    """Newton in both unknowns at once, given up when the residual has not halved in four steps."""
    nodes, balance = problem.at(search)
    sizes = [balance.size]
    while not _settled(sizes) and (len(sizes) < 5 or sizes[-1] < sizes[-5] / 2) and np.abs(search).max() < FAR:
        (a, b), (c, d) = balance.jacobian
        determinant = a * d - b * c
        if not determinant:
            break
        first, second = -balance.residual
        step = np.array([d * first - b * second, a * second - c * first]) / determinant
        search = search + step * min(1.0, STEP / float(np.abs(step).max()))
        nodes, balance = problem.at(search)
        sizes.append(balance.size)
    return _fixed(search, nodes, balance)


def _nested(problem: _Equations, search: Array) -> Fixed:
    """The saddle point  max_h min_tau F,  h = tau/theta, of a function that is concave in h and convex in tau:

    F = E min_beta [(beta - beta*)^2 h/(2 tau) - h Z (beta - beta*) + psi(beta)] + h (sigma^2/tau + delta tau)/2,
    dF/dtau = h (delta tau^2 - sigma^2 - mse)/(2 tau^2),  and where that is zero  dF/dh = tau (delta - E[d beta/dx]).
    So for each h there is one tau, and E[d beta/dx] at it rises with h: two bracketed searches cannot go astray.
    """
    log_tau, log_h = float(search[0]), float(search[0] - search[1])
    low, high = -math.inf, math.inf
    sizes: list[float] = []
    while True:
        log_tau, nodes, balance = _inner(problem, log_tau, log_h)
        sizes.append(balance.size)
        value = -float(balance.residual[0])
        if _settled(sizes) or len(sizes) == MOST_STEPS or high - low < NARROW * (1 + abs(low)):
            return _fixed(np.array([log_tau, log_tau - log_h]), nodes, balance)
        low, high = (log_h, high) if value > 0 else (low, log_h)
        (q_tau, q_theta), (v_tau, v_theta) = balance.jacobian
        slope = q_theta - (q_tau + q_theta) * v_theta / (v_tau + v_theta)  # of `value`, along the inner solutions
        log_h = _next(log_h, value, slope, low, high)


def _inner(problem: _Equations, log_tau: float, log_h: float) -> tuple[float, Nodes, _Balance]:
    """tau at this h; where tau runs away, beyond `FAR`: there the sign of the other equation is known all the same."""
    low, high = -math.inf, math.inf
    steps = 0
    while True:
        nodes, balance = problem.at(np.array([log_tau, log_tau - log_h]))
        value = float(balance.residual[1])
        steps += 1
        narrow = high - low < NARROW * (1 + abs(low))
        if abs(value) < TOLERANCE or narrow or steps == MOST_STEPS or (abs(log_tau) > FAR and value * log_tau > 0):
            return log_tau, nodes, balance
        low, high = (log_tau, high) if value > 0 else (low, log_tau)
        log_tau = _next(log_tau, value, float(balance.jacobian[1].sum()), low, high)


def _next(at: float, value: float, slope: float, low: float, high: float) -> float:
    """The next point of a search for the root of a falling function: Newton's, or a safe one inside the bracket."""
    length = min(abs(value / slope), STEP) if slope < 0 else STEP
    proposal = at + math.copysign(length, value)
    return proposal if low < proposal < high else (low + high) / 2


def _settled(sizes: Sequence[float]) -> bool:
    """Within the tolerance, or as near to it as rounding lets the residual come."""
    return sizes[-1] < TOLERANCE or (len(sizes) > 1 and sizes[-1] < ACCEPTED and sizes[-1] >= min(sizes[:-1]))


def _fixed(search: Array, nodes: Nodes, balance: _Balance) -> Fixed:
    tau, theta = map(float, np.exp(search))
    l1, l2 = float(nodes.weight @ np.abs(nodes.beta)), float(nodes.weight @ nodes.beta**2)
    return Fixed(tau, theta, balance.mse, l1, l2, nodes, balance.size)


def _guess(problem: _Equations) -> tuple[float, float]:
    """Ridgeless regression's tau, and a theta between those of large and of small starts."""
    kappa, delta = math.sqrt(problem.link.plus) * math.sqrt(problem.link.minus or problem.link.plus), problem.delta
    power = math.fsum(c.weight * (c.mean**2 + c.variance) for c in problem.components)
    tau = math.sqrt((problem.noise / (1 - delta) + (1 - delta) * power) / delta) or kappa
    x = math.hypot(math.sqrt(power), tau)
    return tau, 2 * kappa * (1 - delta) / delta + x / math.asinh(1 + x / kappa)
