"""The spectrum of an end state: an atom at zero and a shifted, cut density."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lossflow.errors import InvalidInput
from lossflow.laws.free_convolution import FreeConvolution
from lossflow.problems.quadratic import QuadraticNetwork
from lossflow.trajectory import EndState

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class EndSpectrum:
    """The law of the eigenvalues of Z:  atom * delta_0 + rho(x + q) on x > lower,  rho the law of Z* + sqrt(xi) GOE.

    atom: 1 - rank. lower: 0, or omega - q > 0 where the width cuts and leaves a gap (0, lower). upper: the largest eigenvalue.
    top: of the support of rho; Z = 0 when q is above it.
    docs/theory/quadratic.md section 4 [MBB26v2].
    """

    law: FreeConvolution
    q: float
    atom: float
    lower: float
    upper: float

    def density(self, x: npt.ArrayLike) -> Array:
        """The density beside the atom. x: any shape."""
        x = np.asarray(x, dtype=np.float64)
        return np.where(x > self.lower, self.law.density(np.where(x > self.lower, x, 0.0) + self.q), 0.0)


def spectrum(state: EndState) -> EndSpectrum:
    """The spectrum of an end state of a `QuadraticNetwork`, as `stationary` returns it or one of its branches.

    state: complete, with xi > 0. Raises `InvalidInput` for other states: at xi = 0, recovered or without noise of the
    sampling, Z has the law of the teacher.
    docs/theory/quadratic.md section 4 [MBB26v2].
    """
    problem = state.problem
    if not isinstance(problem, QuadraticNetwork) or not state.values.get("xi", 0.0) > 0:
        raise InvalidInput(f"an end state of a QuadraticNetwork with xi > 0 has such a spectrum, got {state.values!r}")
    q = state.values["q"]
    law = FreeConvolution(problem.kappa_star, state.values["xi"])
    omega = law.quantile(problem.kappa) if problem.kappa < 1 else -math.inf
    top = float(law.edges()[-1])
    return EndSpectrum(law, q, 1.0 - state.values["rank"], max(omega - q, 0.0), max(top - q, 0.0))
