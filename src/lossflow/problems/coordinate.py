"""Models whose weights are products, coordinate by coordinate: the process of one coordinate in the large-size limit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lossflow.keys import generator
from lossflow.problems.priors import AbstractPrior, Component
from lossflow.problems.row import require_dimension

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CoordinateProcess:
    """beta(t) = e^(-2 weight_decay t) (a0^2 e^xi - b0^2 e^-xi)/2,   dxi/dt = -2 g,   xi(0) = 0,
    g = X^T (X beta - y)/delta,   y = X beta* + sqrt(noise_variance) eps,   X_ij ~ (0, 1/d).

    prior: the law of the independent entries of beta*. weights: (u0, v0), the start of every coordinate; squares:
    (a0^2, b0^2) = ((u0 + v0)^2/2, (u0 - v0)^2/2). delta: n/d, inf for the population problem. weight_decay: lambda in the
    penalty lambda (||u||^2 + ||v||^2)/2. balanced: how samples are drawn, see `sample`.
    docs/theory/diagonal.md sections 1 and 3 [NI25v2].
    """

    delta: float
    prior: AbstractPrior
    noise_variance: float
    weights: tuple[float, float]
    weight_decay: float
    balanced: bool = False

    @property
    def squares(self) -> tuple[float, float]:
        u, v = self.weights
        return (u + v) ** 2 / 2, (u - v) ** 2 / 2

    @property
    def is_odd(self) -> bool:
        """Whether (beta, beta*) and (-beta, -beta*) have the same law given the fields with their sign: a0 = b0."""
        plus, minus = self.squares
        return plus == minus

    def strata(self) -> tuple[Component, ...]:
        """The components of beta*, with opposite ones joined where the process is odd."""
        if not self.is_odd:
            return self.prior.components
        joined: dict[tuple[float, float], float] = {}
        for weight, mean, variance in self.prior.components:
            place = (abs(mean), variance)
            joined[place] = joined.get(place, 0.0) + weight
        return tuple(Component(weight, mean, variance) for (mean, variance), weight in joined.items())

    def samples(self, dimension: int) -> int:
        """n = round(delta d)."""
        return max(1, round(self.delta * dimension))

    def sample(self, sizes: Mapping[str, float], run: int, seed: int, design: Array | None = None) -> dict[str, Array]:
        """u, v, beta_star (d,), X (n, d), y (n,):  one draw at finite size.

        sizes: {"d": ...}, a whole number >= 1. run, seed: >= 0; the draw depends on nothing else. design: a matrix (n, d) to
        take for X instead of N(0, 1/d).
        All entries are independent. A balanced process fixes what fluctuates by 1/sqrt(d) from run to run: beta* has as many
        entries of each component as the prior says and normal ones are stratified, one of each quantile; the noise has exactly
        its mean square, and so has X beta*, which is orthogonal to the noise (both unless X is given). Averages then need far
        fewer runs; at finite d they are others, by relative order 1/d.
        docs/theory/diagonal.md section 10 [NI25v2].
        """
        d = require_dimension(sizes, 1)
        n = self.samples(d) if design is None else len(design)
        random = generator(seed, run, "signal")
        star = self._balanced_signal(d, random) if self.balanced else self.prior.draw(d, random)
        noise = math.sqrt(self.noise_variance) * generator(seed, run, "noise").standard_normal(n)
        if self.balanced and self.noise_variance:
            noise *= math.sqrt(self.noise_variance * n) / float(np.linalg.norm(noise))
        X = design
        if X is None:
            X = generator(seed, run, "data").standard_normal((n, d)) / math.sqrt(d)
            if self.balanced:
                _fix_outputs(X, star, noise)
        u, v = (np.full(d, weight) for weight in self.weights)
        return {"u": u, "v": v, "beta_star": star, "X": X, "y": X @ star + noise}

    def _balanced_signal(self, d: int, random: np.random.Generator) -> Array:
        from scipy.special import ndtri

        components = self.prior.components
        # counts are right on average where they cannot be right in every run
        ends = np.floor(np.cumsum([0.0, *(c.weight for c in components)]) * d + random.uniform(1e-9, 1 - 1e-9))
        ends = np.minimum(ends, d).astype(int)
        ends[-1] = d
        star = np.empty(d)
        for component, low, high in zip(components, ends[:-1], ends[1:], strict=True):
            z = ndtri((np.arange(high - low) + random.random(high - low)) / max(high - low, 1))
            star[low:high] = component.mean + math.sqrt(component.variance) * z
        return random.permutation(star)


def _fix_outputs(X: Array, star: Array, noise: Array) -> None:
    """Turn X (n, d), in place, into one with |X beta*|^2 = n |beta*|^2/d and X beta* orthogonal to the noise."""
    (n, d), length = X.shape, float(np.linalg.norm(star))
    if not length:
        return
    direction = star / length
    outputs = X @ direction
    moved = outputs.copy()
    if n > 1 and noise.any():
        moved -= noise * (float(noise @ outputs) / float(noise @ noise))
    moved *= math.sqrt(n / d) / float(np.linalg.norm(moved))
    X += np.outer(moved - outputs, direction)
