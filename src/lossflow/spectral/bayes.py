"""The best estimator that knows the law of the teacher: what no network can beat."""

from __future__ import annotations

import math

import numpy as np

from lossflow.description import brief
from lossflow.errors import InvalidInput
from lossflow.laws.free_convolution import FreeConvolution
from lossflow.laws.tails import transform
from lossflow.problems.quadratic import QuadraticNetwork
from lossflow.trajectory import EndState, Status

NODES = 48  # for each interval of the support, doubled until nothing changes
MOST_NODES = 25000
ROUNDING = 1e-13


def bayes_optimal(problem: QuadraticNetwork) -> EndState:
    """mse = xi - (4 pi^2/3) xi^2 int rho_xi^3,  xi = (mse + Delta/2)/(2 alpha): the Bayes-optimal error, Z = x - 2 xi h(x).

    rho_xi is the law of Z* + sqrt(xi) GOE. Only alpha, kappa_star and noise_variance of `problem` matter. Values: `mse` and
    `xi`, both 0 where the teacher is recovered: without noise from alpha = kappa_star - kappa_star^2/2 on (1/2 for
    kappa_star >= 1). Raises `InvalidInput` for another problem. docs/theory/quadratic.md section 7 [MBB26v2].
    """
    if not isinstance(problem, QuadraticNetwork):
        raise InvalidInput(f"bayes_optimal is known for a QuadraticNetwork, got {brief(problem)}")
    alpha, k, noise = problem.alpha, problem.kappa_star, problem.noise_variance
    found = Status("complete", None, "the only solution")
    left = max(1 - k, 0.0) ** 2  # (4 pi^2/3) xi int rho^3 at xi -> 0: the kernel of the teacher
    if alpha == math.inf or (noise == 0 and 1 - 2 * alpha <= left):
        return EndState({"mse": 0.0, "xi": 0.0}, (), problem, found)

    def excess(log_xi: float) -> float:
        """(4 pi^2/3) xi int rho^3 - (1 - 2 alpha) - Delta/(2 xi), which grows with xi."""
        xi = math.exp(log_xi)
        return xi * information(k, xi) - (1 - 2 * alpha) - noise / (2 * xi)

    from scipy.optimize import brentq

    low = math.log(noise / (4 * alpha)) if noise else -60.0
    high = math.log(1 + 1 / k + noise / 2) - math.log(2 * alpha) + 1e-9  # mse is at most 1 + 1/k
    if excess(low) > 0:  # recovered to all digits of a float
        return EndState({"mse": 0.0, "xi": math.exp(low)}, (), problem, found)
    try:
        xi = math.exp(brentq(excess, low, high, xtol=1e-15, rtol=1e-15, maxiter=300))  # type: ignore[arg-type]
    except (ValueError, RuntimeError) as error:
        nothing = Status("stopped", None, f"no solution was found in double precision: {error}")
        return EndState({"mse": math.nan, "xi": math.nan}, (), problem, nothing)
    rest = xi * information(k, xi)
    mse = 2 * alpha * xi - noise / 2 if 2 * alpha * xi > noise else xi * (1 - rest)
    return EndState({"mse": mse, "xi": xi}, (), problem, found)


def information(k: float, xi: float) -> float:
    """(4 pi^2/3) int rho_xi^3, the free Fisher information of the law, to about 1e-13.

    Midpoints in theta on every interval of the support, x = center - radius cos theta: rho^3 sin theta is even and periodic, so
    the rule converges like that of Gauss, and its nodes are free.
    """
    edges = FreeConvolution(k, xi).edges()
    total = 0.0
    for a, b in zip(edges[::2], edges[1::2], strict=True):
        nodes, value, change = NODES, math.nan, math.inf
        while nodes <= MOST_NODES:
            before, last_change = value, change
            value = _midpoints(k, xi, float(a), float(b), nodes)
            change = abs(value - before)
            if change <= ROUNDING * abs(value) or (change < 1e-9 * abs(value) and change >= last_change):
                break
            nodes *= 2
        total += value
    return 4 * math.pi**2 / 3 * total


def _midpoints(k: float, xi: float, a: float, b: float, nodes: int) -> float:
    theta = (np.arange(nodes) + 0.5) * np.pi / nodes
    x = (a + b) / 2 - (b - a) / 2 * np.cos(theta)
    rho = np.array([-transform(float(y), xi, k).imag for y in x]) / np.pi
    return float(np.sum(rho**3 * np.sin(theta))) * np.pi / nodes * (b - a) / 2
