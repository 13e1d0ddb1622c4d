"""The population flow in closed form: at finite dimension for all times, and averaged over start and teacher at large d."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lossflow.errors import InvalidInput
from lossflow.laws.tails import quantile

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

REACH = 4.0  # largest |c a tau| in one piece: with 12 the entries of a test at t = 5 were off by 2e-13
BASE_PANELS = 8  # of the average over the teacher's spectrum, and the nodes of each
NODES_PER_PANEL = 20
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


def population_flow(
    kappa: float, kappa_star: float, weight_decay: float, init_variance: float, times: npt.ArrayLike
) -> dict[str, Array]:
    """The population flow dW/dt = 2 (Z* - lambda - W W^T) W averaged over a Gaussian start and the teacher at d -> inf.

    Per eigenvalue x of Z*, a = x - lambda, phi = (e^{4at} - 1)/a: the direction is learned to  l = zeta phi/(1 + zeta phi),  with
    zeta/gamma + tau(l)/kappa = 1,  and Z has there the mean  D l,  D = e^{4at}/phi;  tau(Z^2) = tau((D l)^2) + V,
    V = tau(D l (1-l))^2/(kappa zeta/gamma + tau(l (1-l))), from the derivative of the same equation.

    kappa, kappa_star > 0, weight_decay >= 0, init_variance = gamma > 0, times >= 0. Returns "mse" = tau((Z - Z*)^2),
    "distance" = tau((Z - Z(inf))^2), "overlap" = tau(Z Z*)/sqrt(tau(Z^2) tau(Z*^2)), "trace" = tau(Z), "square" = tau(Z^2),
    arrays over the times. The average is derived here; tests compare it with `oja`.
    Raises `InvalidInput` for numbers out of range.
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
    omega = quantile(kappa, 0.0, kappa_star, 1.0) if kappa < min(kappa_star, 1.0) else 0.0
    rows = []
    for t in grid:
        x, weights = _teacher(kappa_star, (weight_decay, omega), 1 / (32 * t) if t else 1.0)
        rows.append(_moments(kappa, init_variance, float(t), x, x - weight_decay, weights, max(omega, weight_decay)))
    mse, distance, cross, square, trace = np.array(rows).reshape(-1, 5).T
    overlap = cross / np.sqrt(square * (1 + 1 / kappa_star))
    return {"mse": mse, "distance": distance, "overlap": overlap, "trace": trace, "square": square}


def _teacher(k: float, centers: tuple[float, float], finest: float) -> tuple[Array, Array]:
    """Eigenvalues of Z* and their weights, the atom at zero among them: Gauss-Legendre panels in theta, x = center - radius cos.

    Panels halve toward the eigenvalues `centers`, down to `finest`: there late times make steps of width 1/t.
    """
    low, high = (1 - k**-0.5) ** 2, (1 + k**-0.5) ** 2
    middle, radius = (low + high) / 2, (high - low) / 2
    ends = [0.0, *np.linspace(0, np.pi, BASE_PANELS + 1)[1:-1], np.pi]
    smallest = min(finest / radius, 1.0)
    halvings = np.pi * 0.5 ** np.arange(1, max(math.ceil(math.log2(np.pi / smallest)), 1) + 1)
    for center in centers:
        if low < center < high:
            theta = math.acos((middle - center) / radius)
            ends += [theta, *(theta + halvings), *(theta - halvings)]
    ends = np.unique(np.clip(ends, 0.0, np.pi))
    nodes, gauss = np.polynomial.legendre.leggauss(NODES_PER_PANEL)
    half = np.diff(ends)[:, None] / 2
    theta = (ends[:-1, None] + half * (1 + nodes)).ravel()
    x = middle - radius * np.cos(theta)
    # (k/2 pi x) sqrt((x - a)(b - x)) dx
    weights = k / (2 * np.pi * x) * (radius * np.sin(theta)) ** 2 * (half * gauss).ravel()
    if k < 1:
        x, weights = np.append(x, 0.0), np.append(weights, 1 - k)
    return x, weights


def _moments(kappa: float, gamma: float, t: float, x: Array, a: Array, weights: Array, kept: float) -> Array:
    """(mse, distance, tau(Z Z*), tau(Z^2), tau(Z)) at time t; kept: eigenvalues of Z* above it survive."""
    end = np.where(x > kept, np.maximum(a, 0.0), 0.0)
    if t == 0:  # Z is independent of Z*, tau(Z) = gamma, tau(Z^2) = gamma^2 (1 + 1/kappa)
        learned, spread = np.full(x.shape, gamma), gamma**2 / kappa
    else:
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            # of a > 0 the large exponential is taken out, so that no time is too late
            decayed = -np.expm1(-4 * np.abs(a) * t)
            log_phi = np.where(a == 0, math.log(4 * t), np.maximum(4 * a * t, 0.0) + np.log(decayed / np.abs(a)))
            D = np.where(a == 0, 1 / (4 * t), np.where(a > 0, a, -a * np.exp(4 * a * t)) / decayed)
        log_zeta = _log_zeta(kappa, gamma, log_phi, weights)
        learned_fraction, rest = _fermi(log_zeta + log_phi)
        learned = D * learned_fraction
        both = weights @ (learned_fraction * rest)
        spread = float(weights @ (learned * rest)) ** 2 / (kappa * math.exp(max(log_zeta, -700.0)) / gamma + both)
    # squares of differences eigenvalue by eigenvalue, so that a small distance is not a difference of large numbers
    square = float(weights @ learned**2) + spread
    mse = float(weights @ (learned - x) ** 2) + spread
    distance = float(weights @ (learned - end) ** 2) + spread
    return np.array([mse, distance, float(weights @ (x * learned)), square, float(weights @ learned)])


def _fermi(y: Array) -> tuple[Array, Array]:
    """1/(1 + e^{-y}) and 1/(1 + e^y), each to full relative accuracy."""
    small = np.exp(-np.abs(y))
    large = 1 / (1 + small)
    return np.where(y > 0, large, small * large), np.where(y > 0, small * large, large)


def _log_zeta(kappa: float, gamma: float, log_phi: Array, weights: Array) -> float:
    """log zeta with zeta/gamma + tau(l)/kappa = 1, by bisection: the left side grows with zeta."""
    high = math.log(gamma)
    low = high - 60.0 - max(float(log_phi.max()), 0.0)
    while True:
        middle = (low + high) / 2
        if middle in (low, high) or high - low < 1e-15 * max(abs(middle), 1.0):
            return middle
        learned = float(weights @ _fermi(middle + log_phi)[0])
        low, high = (middle, high) if math.exp(max(middle, -700.0)) / gamma + learned / kappa < 1 else (low, middle)


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
