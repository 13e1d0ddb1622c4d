"""The population flow of quadratic networks averaged over start and teacher at large d, in closed form."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lossflow.errors import InvalidInput
from lossflow.laws.tails import quantile

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

BASE_PANELS = 8  # of the average over the teacher's spectrum, and the nodes of each
NODES_PER_PANEL = 20


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
