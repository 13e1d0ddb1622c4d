"""The population flow of one start and teacher in closed form, at finite dimension and for all times; its power laws.

Its average at large d is `lossflow.laws.population_flow`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lossflow.errors import InvalidInput

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

REACH = 4.0  # largest |c a tau| in one piece: with 12 the entries of a test at t = 5 were off by 2e-13
ZETA_3 = 1.2020569031595942


def oja(A: Array, W: Array, times: npt.ArrayLike, speed: float = 2.0) -> Array:
    """Z(t) = W W^T of  dW/dt = speed (A - W W^T) W,  in closed form at each of `times`; shape (times, d, d).

    Z = e^{cAt} W0 [1 + W0^T A^{-1}(e^{2cAt} - 1) W0]^{-1} W0^T e^{cAt}. The flow is cut into pieces of c tau |A| <= 4; in each
    the QR decomposition of [1; phi^{1/2} W], phi = (e^{2 c tau a} - 1)/a, gives W <- e^{cA tau} W R^{-1}, the next factor up
    to a rotation: 4e-16 at t = 50, where the formula itself has lost all digits.

    A: d x d, symmetric: for a `QuadraticNetwork` at alpha = inf it is Z* - weight_decay. W: d x m, the start. times: >= 0 and
    increasing. speed: c, 2 for the flow of the library. Raises `InvalidInput` for other shapes or times.
    docs/theory/quadratic.md section 2 [MBB26v2].
    """
    A, W = np.asarray(A, dtype=np.float64), np.asarray(W, dtype=np.float64)
    grid = np.atleast_1d(np.asarray(times, dtype=np.float64))
    if A.ndim != 2 or A.shape[0] != A.shape[1] or W.ndim != 2 or W.shape[0] != A.shape[0]:
        raise InvalidInput(f"A must be d x d and W d x m, got shapes {A.shape} and {W.shape}")
    if not np.allclose(A, A.T, rtol=1e-12, atol=1e-12 * np.abs(A).max()):
        raise InvalidInput("A must be symmetric")
    if not np.isfinite(grid).all() or (grid < 0).any() or (np.diff(grid) < 0).any():
        raise InvalidInput("times must be finite, >= 0 and increasing")
    if not 0 < speed < math.inf:
        raise InvalidInput(f"the speed must be positive and finite, got {speed}")
    a, basis = np.linalg.eigh(A)
    state = basis.T @ W
    largest = float(np.abs(a).max())
    out = np.empty((grid.size, *A.shape))
    now = 0.0
    for j, t in enumerate(grid):
        pieces = max(math.ceil(speed * (t - now) * largest / REACH), 1)
        for _ in range(pieces):
            state = _advance(a, state, speed * (t - now) / pieces)
        rotated = basis @ state
        out[j] = rotated @ rotated.T
        now = t
    return out


def _advance(a: Array, W: Array, tau: float) -> Array:
    m = W.shape[1]
    phi = _growth(a, tau)
    R = np.asarray(np.linalg.qr(np.vstack([np.eye(m), np.sqrt(phi)[:, None] * W]), mode="r"))
    return np.asarray(np.linalg.solve(R.T, (np.exp(a * tau)[:, None] * W).T).T, dtype=np.float64)


def _growth(a: Array, tau: float) -> Array:
    """(e^{2 a tau} - 1)/a, 2 tau at a = 0."""
    small = np.abs(a) * tau < 1e-300
    return np.where(small, 2 * tau, np.expm1(2 * a * tau) / np.where(small, 1.0, a))


def late_distance(density_at_zero: float, t: npt.ArrayLike, speed: float = 2.0) -> Array:
    """|Z(t) - Z(inf)|^2/d ~ density_at_zero (pi^2/12 - zeta(3)/2) (speed t)^{-3}, if the width covers all of A's positive part.

    density_at_zero: of the law of A, at 0. t: times. speed: as in `oja`. docs/theory/quadratic.md section 2 [MBB26v2].
    """
    return density_at_zero * (math.pi**2 / 12 - ZETA_3 / 2) / (speed * np.asarray(t, dtype=np.float64)) ** 3


def late_distance_bound(density: float, omega: float, t: npt.ArrayLike, speed: float = 2.0) -> Array:
    """|Z(t) - Z(inf)|^2/d ~ log 2 * omega^2 density/(speed t), where the width cuts A at its top-kappa quantile omega > 0.

    density: of the law of A, at omega. t: times. speed: as in `oja`. docs/theory/quadratic.md section 2 [MBB26v2].
    """
    return math.log(2) * omega**2 * density / (speed * np.asarray(t, dtype=np.float64))
