"""The parameter side of a model linear in the data: correlations and responses of one row theta of the parameters.

    theta_{k+1} = theta_k - eta_k h(theta_k) - sum_{l<=k} M(k, l) theta_l - M(k, *) theta* + u_k,    Cov(u_k, u_l) = N(k, l)

with N = C_L/delta. With weight decay alone this is linear and its second moments close; with a further separable penalty
theta is sampled. Both know  C(k, l) = E theta_k theta_l^T  less what theta* explains,  m_k = E theta_k theta*^T  and
R(k, l) = E d theta_k/d u_l. docs/theory/mean_field.md sections 2.1 and 2.2 [NI26v2].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lossflow.meanfield.kernels import TwoTime
from lossflow.meanfield.responses import substitution
from lossflow.meanfield.sampling import Basis, Conditioning, Points
from lossflow.problems.row import RowProcess

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]


class ParameterSide:
    """What the sample side needs of theta, rows 0..k at any moment; `advance` makes row k + 1.

    correlation: C - m Q^{-1} m^T, rows 0..K; response: R; memory: M and noise: N, rows 0..K-1; overlap: m, shape (K + 1, m, m*).
    """

    def __init__(self, process: RowProcess, steps: Array) -> None:
        m = process.model.columns
        count = len(steps)
        self.process, self.steps = process, steps
        self.correlation, self.response = TwoTime(count + 1, m), TwoTime(count + 1, m)
        self.memory, self.noise = TwoTime(count, m), TwoTime(count, m)
        self.overlap = np.zeros((count + 1, *process.overlap.shape))
        self.overlap[0] = process.overlap
        self.precision = np.linalg.pinv(process.teacher, hermitian=True)  # Q^{-1}
        self.correlation.grow(0, process.norm - process.overlap @ self.precision @ process.overlap.T)

    def explained(self, k: int, l: int) -> Array:  # noqa: E741
        """What theta* contributes to C(k, l)."""
        return self.overlap[k] @ self.precision @ self.overlap[l].T

    def norm(self, k: int) -> Array:
        """C(k, k), shape (m, m)."""
        return self.correlation.block(k, k) + self.explained(k, k)

    def advance(self, k: int, memory: Array, noise: Array, push: Array) -> None:
        """Row k + 1 from M(k, 0..k) and N(k, 0..k), shape (m, (k + 1) m), and push = E[L_k w*^T], shape (m, m*)."""
        self.memory.grow(k, memory)
        self.noise.grow(k, noise, mirror=True)


class ClosedSide(ParameterSide):
    """Weight decay alone: R and C by recursion, no sampling."""

    def advance(self, k: int, memory: Array, noise: Array, push: Array) -> None:
        """Row k + 1; see `ParameterSide.advance`."""
        super().advance(k, memory, noise, push)
        m = self.response.columns
        kept = 1.0 - self.steps[k] * self.process.weight_decay
        self.overlap[k + 1] = kept * self.overlap[k] - push
        R, C = self.response, self.correlation
        row = np.empty((m, (k + 1) * m))
        row[:, : k * m] = kept * R.row(k, k) - memory @ R.matrix[: (k + 1) * m, : k * m]
        row[:, k * m :] = np.eye(m)
        R.grow(k + 1, row)
        # u_0 .. u_{j-1} move theta_j: that is R(j, .), zero beyond
        driven = noise @ R.matrix[: (k + 2) * m, : (k + 1) * m].T
        old = kept * C.row(k, k + 1) - memory @ C.rows(k + 1) + driven[:, : (k + 1) * m]
        C.grow(k + 1, old, mirror=True)
        new = kept * C.block(k, k + 1) - memory @ C.matrix[: (k + 1) * m, (k + 1) * m : (k + 2) * m]
        new = new + driven[:, (k + 1) * m :]
        C.grow(k + 1, np.concatenate([old, (new + new.T) / 2], axis=1))


class SampledSide(ParameterSide):
    """A separable penalty besides weight decay, one column: theta on paths, with their tangents."""

    def __init__(self, process: RowProcess, steps: Array, points: Points) -> None:
        super().__init__(process, steps)
        assert process.penalty is not None
        self.penalty, self.points, self.basis = process.penalty, points, Basis(points.paths)
        self.basis.whiten(np.ones(points.paths))
        teacher = self.basis.whiten(points.normal("parameters"))
        start = self.basis.whiten(points.normal("parameters"))
        self.teacher = np.sqrt(process.teacher[0, 0]) * teacher
        explained = (process.overlap @ self.precision)[0, 0] * self.teacher
        self.paths = np.zeros((len(steps) + 1, points.paths))
        self.paths[0] = explained + np.sqrt(max(self.correlation.block(0, 0)[0, 0], 0.0)) * start
        self.first = self.basis.count
        self.conditioning = Conditioning(len(steps))
        self._slopes = np.ones((len(steps) + 1, 1, 1, points.paths))
        self._carried = np.zeros((len(steps) + 1, points.paths))
        self._kernel = np.zeros((len(steps) + 1, len(steps) + 2))  # F(s, l) at [l, s], see `substitution`

    def advance(self, k: int, memory: Array, noise: Array, push: Array) -> None:
        """Row k + 1; see `ParameterSide.advance`."""
        super().advance(k, memory, noise, push)
        eta, theta = float(self.steps[k]), self.paths[k]
        if self.conditioning.extend(noise[0, :k], noise[0, k]):
            self.basis.whiten(self.points.normal("forces"))
        force = self.conditioning.factor[k] @ self.basis.vectors[self.first :]
        # Stein: E[L_k w*] = sum_s M(k, s) m_s + M(k, *) Q
        pull = (push[0, 0] - memory[0] @ self.overlap[: k + 1, 0, 0]) * self.precision[0, 0]
        moved = (
            (1 - eta * self.process.weight_decay) * theta
            - memory[0] @ self.paths[: k + 1]
            - pull * self.teacher
            + force
        )
        if self.penalty.smooth:
            self._carried[k] = -eta * self.penalty.curvature(theta)
            moved -= eta * self.penalty.force(theta)
            slope = np.ones_like(theta)
        else:
            slope = self.penalty.proximal_slope(moved, eta)
            moved = self.penalty.proximal(moved, eta)
        self.paths[k + 1] = moved
        self._slopes[k + 1] = slope
        self._kernel[: k + 1, k + 1] = -memory[0]
        self._kernel[k, k + 1] += 1 - eta * self.process.weight_decay
        self.overlap[k + 1] = moved @ self.teacher / len(moved)
        row = self.paths[: k + 2] @ moved / len(moved) - self.overlap[: k + 2, 0, 0] * self.explained_factor(k + 1)
        self.correlation.grow(k + 1, row[None], mirror=True)
        kernel = np.ascontiguousarray(self._kernel[: k + 1, : k + 2])
        tangents = substitution(kernel, self._slopes[: k + 1], slope[None, None], self._carried[: k + 1])
        self.response.grow(k + 1, np.append(tangents[0, 1:], slope.mean())[None])

    def explained_factor(self, k: int) -> float:
        """m_k Q^{-1}."""
        return float((self.overlap[k] @ self.precision)[0, 0])
