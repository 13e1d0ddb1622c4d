"""Quadratic networks of extensive width: what the matrix process of the large-size limit needs to know of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lossflow.errors import InvalidInput
from lossflow.keys import generator

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MatrixProcess:
    """dW/dt = [G_t - 2 int_0^t R_l(t, s) (Z(s) - Z*) ds] W - 2 weight_decay W,  Z = W W^T,  at a finite dimension d.

    alpha: n/d^2, inf for the population flow; kappa, kappa_star: m/d and m*/d; noise_variance: of the labels;
    weight_decay: lambda; init_variance: gamma. Teacher and start of run r at seed s are those of the simulation at the same d, r
    and s.
    docs/theory/quadratic.md section 3 [MBB26v2].
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


def _columns(ratio: float, d: int) -> int:
    columns = round(ratio * d)
    if columns < 1:
        raise InvalidInput(f"no column is left at d = {d} and a width of {ratio:g} d: raise d")
    return columns
