"""The population flow in closed form: at finite dimension for all times, and averaged over start and teacher at large d."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lossflow.errors import InvalidInput

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

REACH = 4.0  # largest |c a tau| in one piece: with 12 the entries of a test at t = 5 were off by 2e-13
NODES = 2048  # of the average over the teacher's spectrum, doubled until nothing changes
MOST_NODES = 131072
ZETA_3 = 1.2020569031595942


def oja(A: Array, W: Array, times: npt.ArrayLike, speed: float = 2.0) -> Array:
    """Z(t) = W W^T of  dW/dt = speed (A - W W^T) W,  in closed form at each of `times`; shape (times, d, d).

    Z = e^{cAt} W0 [1 + W0^T A^{-1}(e^{2cAt} - 1) W0]^{-1} W0^T e^{cAt}. The flow is cut into pieces of c tau |A| <= REACH; in each
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
    R = np.linalg.qr(np.vstack([np.eye(m), np.sqrt(phi)[:, None] * W]), mode="r")
    return np.linalg.solve(R.T, (np.exp(a * tau)[:, None] * W).T).T


def _growth(a: Array, tau: float) -> Array:
    """(e^{2 a tau} - 1)/a, 2 tau at a = 0."""
    small = np.abs(a) * tau < 1e-300
    return np.where(small, 2 * tau, np.expm1(2 * a * tau) / np.where(small, 1.0, a))


def population_flow(
    kappa: float, kappa_star: float, weight_decay: float, init_variance: float, times: npt.ArrayLike
) -> dict[str, Array]:
    """The population flow dW/dt = 2 (Z* - lambda - W W^T) W averaged over a Gaussian start and the teacher at d -> inf.

    Per eigenvalue x of Z*, a = x - lambda, phi = (e^{4at} - 1)/a:  1 - (1 + zeta phi)^{-1} is how far the direction is learned,
    with zeta = gamma/(1 + (gamma/kappa) tau(phi/(1 + zeta phi))); second moments follow from the derivative of the same equation.

    kappa, kappa_star > 0, weight_decay >= 0, init_variance = gamma > 0, times >= 0. Returns "mse" = tau((Z - Z*)^2),
    "overlap" = tau(Z Z*)/sqrt(tau(Z^2) tau(Z*^2)), "trace" = tau(Z), "square" = tau(Z^2), arrays over the times. Derived here; tests
    compare it with `oja`. Raises `InvalidInput` for numbers out of range.
    docs/theory/quadratic.md sections 1 and 2 [MBB26v2].
    """
    grid = np.atleast_1d(np.asarray(times, dtype=np.float64))
    if not np.isfinite(grid).all() or (grid < 0).any():
        raise InvalidInput("times must be finite and >= 0")
    for name, value in (("kappa", kappa), ("kappa_star", kappa_star), ("init_variance", init_variance)):
        if not 0 < value < math.inf:
            raise InvalidInput(f"{name} must be positive and finite, got {value}")
    if not 0 <= weight_decay < math.inf:
        raise InvalidInput(f"weight_decay must be finite and >= 0, got {weight_decay}")
    columns = np.array([_average(kappa, kappa_star, weight_decay, init_variance, float(t)) for t in grid]).reshape(-1, 4)
    mse, cross, square, trace = columns.T
    return {
        "mse": mse,
        "overlap": cross / np.sqrt(square * (1 + 1 / kappa_star)),
        "trace": trace,
        "square": square,
    }


def _average(kappa: float, k: float, decay: float, gamma: float, t: float) -> Array:
    """(mse, tau(Z Z*), tau(Z^2), tau(Z)) at time t, the nodes doubled until they no longer matter."""
    nodes, before = NODES, np.full(4, np.nan)
    while True:
        value = _moments(kappa, gamma, t, decay, *_teacher(k, nodes))
        if (np.abs(value - before) <= 1e-12 * np.abs(value) + 1e-15).all() or nodes >= MOST_NODES:
            return value
        nodes, before = 2 * nodes, value


def _teacher(k: float, nodes: int) -> tuple[Array, Array]:
    """Eigenvalues of Z* and their weights, the atom at zero among them; midpoints in theta, x = center - radius cos theta."""
    low, high = (1 - k**-0.5) ** 2, (1 + k**-0.5) ** 2
    theta = (np.arange(nodes) + 0.5) * np.pi / nodes
    x = (low + high) / 2 - (high - low) / 2 * np.cos(theta)
    # (k/2 pi x) sqrt((x - a)(b - x)) dx, and (b - a)/2 = 2/sqrt(k)
    weights = k / (2 * np.pi * x) * ((high - low) / 2 * np.sin(theta)) ** 2 * np.pi / nodes
    if k < 1:
        x, weights = np.append(x, 0.0), np.append(weights, 1 - k)
    return x, weights


def _moments(kappa: float, gamma: float, t: float, decay: float, x: Array, weights: Array) -> Array:
    a = x - decay
    # 1/phi and D = e^{4at}/phi without overflow
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        inverse = np.where(a * t == 0, 1 / (4 * t) if t else np.inf, a / np.expm1(4 * a * t))
    if t == 0:  # Z = gamma on average, tau(Z^2) = gamma^2 (1 + 1/kappa)
        square = gamma**2 * (1 + 1 / kappa)
        second = float(weights @ x**2)
        return np.array([square - 2 * gamma * float(weights @ x) + second, gamma * float(weights @ x), square, gamma])
    D = inverse + a
    zeta = _zeta(kappa, gamma, inverse, weights)
    learned = zeta / (inverse + zeta)  # 1 - Q
    Q = inverse / (inverse + zeta)
    phiQ = 1 / (inverse + zeta)
    ratio = zeta**2 / kappa
    # E Q D Q = Q D Q + (ratio tau(phi Q D Q)/(1 - ratio tau(phi Q phi Q))) Q phi Q
    moved = ratio * float(weights @ (phiQ * D * Q)) / (1 - ratio * float(weights @ phiQ**2))
    # D^2 (1 - 2 Q + Q^2) and the correction, D Q phi Q
    square = float(weights @ (D * learned) ** 2) + moved * float(weights @ (D * Q * phiQ))
    trace = float(weights @ (D * learned))
    cross = float(weights @ (x * D * learned))
    # (Z - Z*)^2 eigenvalue by eigenvalue, so that a small distance is not a difference of large numbers
    mse = float(weights @ (D * learned - x) ** 2) + moved * float(weights @ (D * Q * phiQ))
    return np.array([mse, cross, square, trace])


def _zeta(kappa: float, gamma: float, inverse: Array, weights: Array) -> float:
    """zeta (1/gamma + tau(1/(1/phi + zeta))/kappa) = 1: the left side grows with zeta. Bisection in log zeta, then Newton."""
    low, high = math.log(gamma) - 1400.0, math.log(gamma)

    def excess(log_zeta: float) -> float:
        zeta = math.exp(max(log_zeta, -745.0))
        return zeta / gamma + float(weights @ (zeta / (inverse + zeta))) / kappa - 1

    while high - low > 1e-15 * max(abs(low), 1.0):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return math.exp(max((low + high) / 2, -745.0))


def late_distance(density_at_zero: float, t: npt.ArrayLike, speed: float = 2.0) -> Array:
    """|Z(t) - Z(inf)|^2/d ~ density_at_zero (pi^2/12 - zeta(3)/2) (speed t)^{-3}, where the width covers all of A's positive part.

    density_at_zero: of the law of A, at 0. t: times. speed: as in `oja`. docs/theory/quadratic.md section 2 [MBB26v2].
    """
    return density_at_zero * (math.pi**2 / 12 - ZETA_3 / 2) / (speed * np.asarray(t, dtype=np.float64)) ** 3


def late_distance_bound(density: float, omega: float, t: npt.ArrayLike, speed: float = 2.0) -> Array:
    """|Z(t) - Z(inf)|^2/d ~ log 2 * omega^2 density/(speed t), where the width cuts A at its top-kappa quantile omega > 0.

    density: of the law of A, at omega. t: times. speed: as in `oja`. docs/theory/quadratic.md section 2 [MBB26v2].
    """
    return math.log(2) * omega**2 * density / (speed * np.asarray(t, dtype=np.float64))
