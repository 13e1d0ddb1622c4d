"""Averages over the preactivations of a committee of erf units, in closed form."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]


def forces(
    C: Array, m: Array, Q: Array, readout: Array, teacher_readout: Array, noise_variance: float
) -> tuple[Array, Array, Array, Array]:
    """(E ell w*^T, E ell w^T, E ell ell^T, E d ell/dr) of  ell_a = c_a phi'(w_a) e,

    e = sum_b c_b phi(w_b) - sum_n c*_n phi(w*_n) - noise,  phi(x) = erf(x/sqrt 2),

    over (w, w*) ~ N(0, [[C, m], [m^T, Q]]). readout: c; teacher_readout: c*.
    docs/theory/mean_field.md sections 4 and 6.2 [NI26v2].
    """
    S = np.block([[C, m], [m.T, Q]])
    units, weights = len(readout), np.concatenate([readout, -teacher_readout])
    s = np.diag(S)
    first = 1 + s[:units]
    # E phi'(a) b phi(j) = (2/pi) (S_bj (1 + S_aa) - S_ab S_aj) / ((1 + S_aa) sqrt((1 + S_aa)(1 + S_jj) - S_aj^2))
    under = np.sqrt(first[:, None] * (1 + s) - S[:units] ** 2)  # (a, j)
    over = S[None] * first[:, None, None] - S[:units, :, None] * S[:units, None, :]  # (a, b, j)
    lines = readout[:, None] * np.einsum("abj,aj,j->ab", over, 1 / under, weights) * (2 / math.pi) / first[:, None]
    drag, signal = lines[:, :units], lines[:, units:]
    scatter = np.outer(readout, readout) * (_fourth(S, units, weights) + noise_variance * _slopes(S, units))
    curvature = np.outer(readout, readout) * _slopes(S, units) - np.diag(np.diag(drag))  # phi''(x) = -x phi'(x)
    return signal, drag, scatter, curvature


def _slopes(S: Array, units: int) -> Array:
    """E phi'(a) phi'(b) = (2/pi) / sqrt((1 + S_aa)(1 + S_bb) - S_ab^2)."""
    first = 1 + np.diag(S)[:units]
    return 2 / math.pi / np.sqrt(np.outer(first, first) - S[:units, :units] ** 2)


def _fourth(S: Array, units: int, weights: Array) -> Array:
    """sum_jk weight_j weight_k E phi'(a) phi'(b) phi(j) phi(k),  an arcsine for each term: under the weight
    phi'(a) phi'(b), which is Gaussian, the variables have the covariance  S - S_(ab) (1 + S)_(ab)^(-1) S_(ab)."""
    result = np.empty((units, units))
    slopes = _slopes(S, units)
    for a in range(units):
        for b in range(a + 1):
            # phi'(a) phi'(b) = (2/pi) exp(-(a^2 + b^2)/2): one observation of each variable with unit variance
            A = S[:, [a, b]]
            inner = np.array([[1 + S[a, a], S[a, b]], [S[a, b], 1 + S[b, b]]])
            rest = S - A @ np.linalg.solve(inner, A.T)
            root = np.sqrt(1 + np.diag(rest))
            sines = np.clip(rest / np.outer(root, root), -1.0, 1.0)
            mean = weights @ np.arcsin(sines) @ weights * (2 / math.pi)
            result[a, b] = result[b, a] = slopes[a, b] * mean
    return result
