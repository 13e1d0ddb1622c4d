"""The random factors g of each sample: what the dynamics multiply a sample's gradient by at each step.

    theta_{k+1} = theta_k - eta_k h(theta_k) - (1/delta) sum_i g_k,i x_i ell_i,      E g_k = eta_k

A flow on a grid of steps eta_k is gradient descent; in the large-size limit all that is left of the algorithm is the law of g
along one path. docs/theory/mean_field.md section 1 [NI26v2].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lossflow.dynamics import (
    SGD,
    AbstractDynamics,
    GradientDescent,
    GradientFlow,
    PoissonSGD,
    StochasticGradientFlow,
)
from lossflow.errors import InvalidInput
from lossflow.meanfield.sampling import Points

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

GOLDEN = (np.sqrt(5) - 1) / 2


class Factors:
    """g_k/delta on every path, k = 0, 1, ...; drawn in order.

    steps: eta_k, shape (K,); delta: n/d, inf for the population problem, where g/delta vanishes but its variance, times
    delta, may not. `fresh`: whether g_k is independent of the past, so that averages over it are known.
    """

    def __init__(self, dynamics: AbstractDynamics, steps: Array, delta: float, points: Points) -> None:
        self.dynamics, self.steps, self.delta, self.points = dynamics, steps, delta, points
        self.fresh = not (isinstance(dynamics, SGD) and dynamics.order != "independent" and dynamics.batch_fraction < 1)
        self._state: Array = np.zeros(0)  # of samples whose factors remember
        self._noise = (
            self._cosine_noise() if isinstance(dynamics, StochasticGradientFlow) and dynamics.temperature else None
        )

    def mean(self, k: int) -> float:
        """E g_k."""
        return float(self.steps[k])

    def variance_over_delta(self, k: int) -> float:
        """Var(g_k)/delta."""
        eta = self.mean(k)
        match self.dynamics:
            case GradientFlow() | GradientDescent():
                return 0.0
            case StochasticGradientFlow(temperature=temperature) | PoissonSGD(temperature=temperature):
                return temperature * eta
            case SGD(batch_fraction=b):
                return eta**2 * (1 - b) / b / self.delta
        raise InvalidInput(
            f"mean-field theory knows gradient flow, its stochastic relatives and SGD, got {self.dynamics!r}"
        )

    def draw(self, k: int, key: Array) -> Array:
        """g_k/delta, shape (paths,).

        key: a number per path by which neighbors are alike: discrete factors are spread evenly among them.
        """
        eta = self.mean(k)
        if np.isinf(self.delta):
            return np.zeros(self.points.paths)
        match self.dynamics:
            case StochasticGradientFlow(temperature=temperature) if self._noise is not None:
                return (eta + np.sqrt(temperature * self.delta * eta) * self._noise[k]) / self.delta
            case PoissonSGD(temperature=temperature):
                kick = temperature * self.delta
                return kick * _poisson(self._spread(key), eta / kick) / self.delta
            case SGD(batch_fraction=b) if b < 1:
                return eta / b * self._selected(k, key) / self.delta
        return np.full(self.points.paths, eta / self.delta)

    def _selected(self, k: int, key: Array) -> Array:
        """1 for samples in the batch of step k, else 0."""
        assert isinstance(self.dynamics, SGD)
        b = self.dynamics.batch_fraction
        match self.dynamics.order:
            case "independent":
                return (self._spread(key) < b).astype(np.float64)
            case "reshuffled":
                slots = round(1 / b)
                if k % slots == 0:
                    self._state = np.floor(self._spread(key) * slots)
                return (self._state == k % slots).astype(np.float64)
        persistence = self.dynamics.persistence
        assert persistence is not None
        u = self._spread(key)
        if k == 0:
            self._state = (u < b).astype(np.float64)
        else:  # stationary: the flow out of the batch, b * leave, is the flow into it, (1 - b)/persistence
            leave = (1 - b) / b / persistence
            self._state = np.where(self._state > 0, u >= leave, u < 1 / persistence).astype(np.float64)
        return self._state

    def _spread(self, key: Array) -> Array:
        """Uniform variables, one per path, evenly spread in every stretch of paths sorted by `key` (a shifted lattice)."""
        rank = np.empty(len(key))
        rank[np.argsort(key, kind="stable")] = np.arange(len(key))
        return (rank * GOLDEN + self.points.random.uniform()) % 1.0

    def _cosine_noise(self) -> Array:
        """White noise in time, shape (K, paths), from its cosine modes, the smooth ones with low-discrepancy points."""
        from scipy.fft import idct

        modes = np.empty((len(self.steps), self.points.paths))
        for j in range(len(modes)):
            mode = self.points.normal("noise in time")
            modes[j] = mode - mode.mean()
        modes /= np.sqrt((modes**2).mean(axis=1, keepdims=True))
        return np.asarray(idct(modes, type=2, norm="ortho", axis=0, overwrite_x=True))


def _poisson(u: Array, mean: float) -> Array:
    """The Poisson number whose cumulative probability first exceeds `u`."""
    from scipy.special import pdtr

    levels = pdtr(np.arange(int(mean + 12 * np.sqrt(mean) + 30)), mean)
    return np.searchsorted(levels, u, side="right").astype(np.float64)
