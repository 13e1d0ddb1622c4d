"""How fast the flow converges without weight decay: the lower edge of the spectrum that the end state leaves behind.

Residuals end like e^(-gamma t), the loss like t^(-3/2) e^(-2 gamma t), with gamma the lower edge of the spectrum of
X D X^T/delta,  D = 2 sqrt(beta^2 + kappa^2), as if D were independent of X. That it may be taken so is ours and unproved.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lossflow.meanfield.diagonal_entropy import Link, Nodes, quadrature
from lossflow.meanfield.diagonal_threshold import falling_root
from lossflow.problems.priors import Component

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]


CLOSEST = 200.0  # logit of s/min D: 1 - s/min D = 1e-87


def interpolating(nodes: Nodes, delta: float) -> float:
    """gamma = E[q (1 - q)]/(m delta),  q = D m/(1 + D m),  E q^2 = delta,  m > 0:  for n/d = delta < 1.

    nodes: of the fixed point. docs/theory/diagonal.md section 8 [NI25v2].
    """
    return edge(nodes.weight, 2 * nodes.slope, delta)


def edge(weights: Array, speeds: Array, delta: float) -> float:
    """`interpolating` for any law of D: speeds > 0 with these weights, of the same shape."""

    def excess(log_m: float) -> float:
        return math.log(delta / float(weights @ _share(speeds, log_m) ** 2))

    center = -math.log(float(np.max(speeds)))
    log_m = falling_root(excess, center)
    q = _share(speeds, log_m)
    return float(weights @ (q / (1 + speeds * math.exp(log_m)))) / delta * math.exp(-log_m)


def _share(speeds: Array, log_m: float) -> Array:
    return speeds / (speeds + math.exp(-log_m))


def least_squares(components: Iterable[Component], tau: float, kappa: float, delta: float) -> float:
    """gamma = (s^2/delta) E[D/(D - s)^2],  E[(D/(D - s))^2] = delta,  0 < s < min D:  for n/d = delta > 1.

    D = 2 sqrt(beta^2 + kappa^2) with beta = beta* + tau Z, beta* ~ components, kappa > 0. The integral over beta is one over
    asinh(beta/c), c^2 = kappa^2 - s^2/4, in which the zeros of D - s keep a distance pi/2 however near s comes to 2 kappa.
    The edge is that of the law: coefficients near zero count however rare they are.
    docs/theory/diagonal.md section 8 [NI25v2].
    """
    laws = [(c.weight, c.mean / kappa, math.hypot(math.sqrt(c.variance), tau) / kappa) for c in components]
    spread = any(deviation for _, _, deviation in laws)
    floor = 0.0 if spread else min(abs(mean) for _, mean, _ in laws)  # the smallest |beta|/kappa there is
    least = math.hypot(floor, 1.0)  # min D/(2 kappa)

    def moments(logit: float) -> tuple[float, float]:
        """E[(D/(D - s))^2] and s^2 E[D/(D - s)^2]/(2 kappa) at s/min D = 1/(1 + e^-logit)."""
        taken, gap = 1 / (1 + math.exp(-logit)), 1 / (1 + math.exp(logit))
        room = least**2 * gap * (1 + taken)  # least^2 - (s/2 kappa)^2
        weights, betas = _points(laws, math.sqrt(room))
        half = np.hypot(betas, 1.0)
        distance = (betas**2 - floor**2 + room) / (half + least * taken)  # (D - s)/(2 kappa)
        return float(weights @ (half / distance) ** 2), float(weights @ (half / distance**2)) * (least * taken) ** 2

    reached, gamma = moments(CLOSEST)
    if reached < delta:  # s is min D to all digits: the few coefficients there make up for what is missing
        return 2 * kappa * (gamma + least * (delta - reached)) / delta
    logit = falling_root(lambda logit: math.log(delta / moments(min(logit, CLOSEST))[0]), 0.0)
    return 2 * kappa * moments(logit)[1] / delta


def _points(laws: Sequence[tuple[float, float, float]], scale: float) -> tuple[Array, Array]:
    """Weights and values of beta ~ sum of weight N(mean, deviation^2), resolved down to `scale` around zero."""
    weights, betas = [], []
    for weight, mean, deviation in laws:
        if deviation:
            nodes = quadrature(Link.symmetric(scale), [Component(weight, mean, 0.0)], deviation, 0.0)
            weights.append(nodes.weight)
            betas.append(nodes.beta)
        else:
            weights.append(np.array([weight]))
            betas.append(np.array([mean]))
    return np.concatenate(weights), np.concatenate(betas)
