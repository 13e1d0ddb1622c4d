"""Quadratic networks of extensive width: what the matrix process of the large-size limit and experiments need to know of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lossflow.errors import InvalidInput
from lossflow.keys import generator
from lossflow.problems.row import require_dimension

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

CHUNK = 2**22  # random numbers drawn at a time


@dataclass(frozen=True)
class MatrixProcess:
    """dW/dt = [G_t - 2 int_0^t R_l(t, s) (Z(s) - Z*) ds] W - 2 weight_decay W,  Z = W W^T,  at a finite dimension d.

    alpha: n/d^2, inf for the population flow; kappa, kappa_star: m/d and m*/d; noise_variance: of the labels;
    weight_decay: lambda; init_variance: gamma. Whatever is drawn depends on d, run and seed alone, and teacher and start on no
    other parameter than their width: theory and experiments of the same (d, run, seed) are pairs.
    docs/theory/quadratic.md sections 1 and 3 [MBB26v2].
    """

    alpha: float
    kappa: float
    kappa_star: float
    noise_variance: float
    weight_decay: float
    init_variance: float

    def teacher(self, d: int, run: int, seed: int) -> Array:
        """Z* = (1/m*) sum w* w*^T, d x d."""
        columns = _columns(self.kappa_star, d)
        factor = generator(seed, run, "teacher").standard_normal((d, columns))
        return factor @ factor.T / columns

    def start(self, d: int, run: int, seed: int) -> Array:
        """W(0), d x m, entries N(0, gamma/m)."""
        m = _columns(self.kappa, d)
        return generator(seed, run, "start").standard_normal((d, m)) * math.sqrt(self.init_variance / m)

    def samples(self, d: int) -> int:
        """n = round(alpha d^2), at least 1; alpha is finite."""
        return max(1, round(self.alpha * d**2))

    def label_noise(self, d: int, run: int, seed: int) -> Array:
        """sqrt(Delta) xi_k, n numbers."""
        return generator(seed, run, "noise").standard_normal(self.samples(d)) * math.sqrt(self.noise_variance)

    def goe(self, d: int, run: int, seed: int, single: bool = False) -> npt.NDArray[np.floating]:
        """X_k from the GOE, one row of d(d+1)/2 coordinates for each sample: independent, of variance 2/d.

        single: whether in single precision, which takes half of the memory; the same numbers up to their rounding.
        """
        n, p = self.samples(d), d * (d + 1) // 2
        random = generator(seed, run, "data")
        data: npt.NDArray[np.floating] = np.empty((n, p), np.float32 if single else np.float64)
        rows = max(CHUNK // p, 1)
        for first in range(0, n, rows):
            part = data[first : first + rows]
            part[:] = random.standard_normal(part.shape, dtype=np.float32)
            part *= math.sqrt(2 / d)
        return data

    def inputs(self, d: int, run: int, seed: int) -> Array:
        """Standard Gaussian vectors x_k, one row for each sample, for X_k = (x_k x_k^T - 1)/sqrt(d)."""
        return generator(seed, run, "data").standard_normal((self.samples(d), d))

    def sample(self, sizes: Mapping[str, float], run: int, seed: int) -> dict[str, Array]:
        """W (d, m), teacher Z* (d, d), X (n, d(d+1)/2), y (n,):  one draw at {"d": d}; W and the teacher alone at alpha = inf.

        X: coordinates of the GOE matrices in `symmetric_basis`. y_k = Tr X_k Z* + sqrt(Delta) xi_k.
        """
        d = require_dimension(sizes, 1)
        drawn = {"W": self.start(d, run, seed), "teacher": self.teacher(d, run, seed)}
        if not math.isfinite(self.alpha):
            return drawn
        X = np.asarray(self.goe(d, run, seed), np.float64)
        return drawn | {"X": X, "y": X @ coordinates(drawn["teacher"]) + self.label_noise(d, run, seed)}


def symmetric_basis(d: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Array]:
    """Rows, columns and weights of the upper triangle: M has the coordinates weights * M[rows, columns], and their norm."""
    rows, columns = np.triu_indices(d)
    return rows, columns, np.where(rows == columns, 1.0, math.sqrt(2.0))


def coordinates(M: Array) -> Array:
    """Of a symmetric matrix, in the orthonormal basis of Sym(d)."""
    rows, columns, weights = symmetric_basis(len(M))
    return M[rows, columns] * weights


def _columns(ratio: float, d: int) -> int:
    columns = round(ratio * d)
    if columns < 1:
        raise InvalidInput(f"no column is left at d = {d} and a width of {ratio:g} d: raise d")
    return columns
