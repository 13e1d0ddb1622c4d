"""Paths of a single-site process: low-discrepancy points, whitening across paths, and new Gaussian variables given the old ones.

A process needs a Gaussian w_k with a given covariance to w_0, ..., w_{k-1}, on a finite number of paths. The paths carry
standard variables zeta_j that are orthonormal *across paths*, exactly, and w_k is a combination of them. So empirical second
moments are those of the process, and only higher moments are sampled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from lossflow.keys import generator

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

EDGE = 2.0**-40  # points on the border of the unit cube would be infinite as Gaussians
TRUNCATED = 1e-6  # of the largest singular value: covariances that are known to rounding resolve directions down to it
CONDITIONED = (
    1e-3  # reciprocal condition number of a triangle that is as good as the whole factor, where rows were dropped
)
NOISE_FLOOR = 4.0  # times truncated^2 per variable: below it a pivot may be what truncation left


class Points:
    """Variables of each path: coordinates of a scrambled Sobol sequence first, independent numbers when they are used up.

    paths: how many; groups: name -> how many coordinates of the sequence belong to it, so that a variable keeps its coordinate
    whatever else is drawn; seed, run, purpose: see `lossflow.keys`.
    """

    def __init__(self, paths: int, groups: Mapping[str, int], seed: int, run: int, purpose: str) -> None:
        from scipy.stats import qmc

        self.paths = paths
        self.random = generator(seed, run, f"{purpose}, independent")
        scrambling = generator(seed, run, f"{purpose}, Sobol")
        sequence = qmc.Sobol(sum(groups.values()), seed=scrambling)  # pyright: ignore[reportCallIssue]  (`rng` from 1.15 on)
        points = sequence.random_base2(max(0, int(paths - 1).bit_length()))[:paths]
        self._points: Array = np.ascontiguousarray(points.T) * (1 - 2 * EDGE) + EDGE
        ends = np.cumsum(list(groups.values()))
        self._next = dict(zip(groups, map(int, np.append(0, ends[:-1])), strict=True))
        self._end = dict(zip(groups, map(int, ends), strict=True))

    def uniform(self, group: str) -> Array:
        """The next variable of this group, uniform on (0, 1), shape (paths,)."""
        coordinate = self._next[group]
        if coordinate < self._end[group]:
            self._next[group] += 1
            return self._points[coordinate]
        return self.random.uniform(EDGE, 1 - EDGE, self.paths)

    def normal(self, group: str) -> Array:
        """The next variable of this group, standard Gaussian, shape (paths,)."""
        from scipy.special import ndtri

        return ndtri(self.uniform(group))


class Basis:
    """Vectors over paths that are orthonormal in  <x, y> = sum_p weight_p x_p y_p,  made one after the other.

    weights: >= 0 with sum one, shape (paths,); None for equal weights.
    """

    def __init__(self, paths: int, weights: Array | None = None) -> None:
        self.paths, self.weights = paths, weights
        self.count = 0
        self._vectors = np.empty((8, paths))

    @property
    def vectors(self) -> Array:
        """Shape (count, paths), a view."""
        return self._vectors[: self.count]

    def whiten(self, x: Array) -> Array:
        """`x` less its projection on all vectors so far, with second moment one; kept as the next vector.

        A variable that the others determine (all paths used up) is returned as zero.
        """
        y = np.array(x, dtype=np.float64)
        size = self._moment(y)
        for _ in range(2):  # the second pass removes what rounding left of the first
            y -= self._project(y) @ self.vectors
        left = self._moment(y)
        y = y / np.sqrt(left) if left > 1e-20 * size else np.zeros_like(y)
        if self.count == len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.empty_like(self._vectors)])
        self._vectors[self.count] = y
        self.count += 1
        return self._vectors[self.count - 1]

    def _project(self, y: Array) -> Array:
        weighted = y / self.paths if self.weights is None else y * self.weights
        return self.vectors @ weighted

    def _moment(self, y: Array) -> float:
        return float(y @ y / self.paths if self.weights is None else (y * y) @ self.weights)


class Conditioning:
    """A growing Gaussian vector,  w_i = sum_j V_ij zeta_j,  zeta independent standard Gaussian:  Cov(w) = V V^T.

    A new variable with covariances s to the old ones and variance q has  v = V^+ s  and  p^2 = q - |v|^2;  it takes a new zeta
    of weight p unless p^2 is what truncation left. Kernels of smooth processes are numerically of low rank (10 of 100 variables).
    A triangular factor then extrapolates from the few variables that brought a zeta, which are close together, and turns
    rounding into errors of order one; the pseudo-inverse of the whole V, rows in units of their deviation, without
    singular values below `truncated` of the largest, does not. Where no variable was dropped, or the triangle is well
    conditioned, both are the same, and substitution in it is used.
    size: how many variables at most. truncated: about the noise of the covariances to the power 1/2; errors of covariances are
    of its order.
    docs/theory/mean_field.md section 7.2; docs/theory/diagonal.md section 4.
    """

    def __init__(self, size: int, truncated: float = TRUNCATED) -> None:
        self.truncated = truncated
        self.count = self.rank = 0
        self._factor = np.zeros((size, 8))
        self._triangle = np.zeros((8, 8))
        self._weights = np.zeros(size)  # one over the deviation of each variable
        self._origins: list[int] = []  # the variable that brought each zeta
        self._conditioned = True

    @property
    def factor(self) -> Array:
        """V so far, shape (variables, rank), a view."""
        return self._factor[: self.count, : self.rank]

    def extend(self, covariances: Array, variance: float) -> bool:
        """One more variable, the last row of `factor`; whether it brought a new zeta.

        covariances: to the old variables, shape (count,); variance: its own.
        """
        v = self._solve(covariances) if self.rank else np.zeros(0)
        left = variance - float(v @ v)
        new = variance > 0 and left > NOISE_FLOOR * self.truncated**2 * (self.count + 1) * variance
        if new and self.rank == self._factor.shape[1]:
            self._factor = np.concatenate([self._factor, np.zeros_like(self._factor)], axis=1)
            self._triangle = np.pad(self._triangle, (0, self.rank))
        self._factor[self.count, : self.rank] = v
        self._weights[self.count] = 1 / np.sqrt(variance) if variance > 0 else 0.0
        if new:
            self._factor[self.count, self.rank] = np.sqrt(left)
            self._triangle[self.rank] = self._factor[self.count, : len(self._triangle)] * self._weights[self.count]
            self._origins.append(self.count)
            self.rank += 1
            self._conditioned = self._is_conditioned()
        self.count += 1
        return new

    def _solve(self, s: Array) -> Array:
        weighted = s * self._weights[: self.count]
        if self._conditioned:
            from scipy.linalg import solve_triangular

            triangle = self._triangle[: self.rank, : self.rank]
            return solve_triangular(triangle, weighted[self._origins], lower=True, check_finite=False)
        left, singular, right = np.linalg.svd(self.factor * self._weights[: self.count, None], full_matrices=False)
        kept = singular > self.truncated * singular[0]
        return (left[:, kept].T @ weighted / singular[kept]) @ right[kept]

    def _is_conditioned(self) -> bool:
        from scipy.linalg import lapack

        triangle = self._triangle[: self.rank, : self.rank].T
        whole = self.rank == self.count + 1  # no row was dropped: V is the triangle
        least = 10 * self.truncated if whole else CONDITIONED
        return lapack.dtrcon(triangle, uplo="U")[0] > least  # pyright: ignore[reportAttributeAccessIssue]
