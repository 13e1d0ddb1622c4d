"""Linear regression solved exactly: the Marchenko-Pastur law and one Volterra equation, for descent and for flows.

H = X^T X / delta has the Marchenko-Pastur law. Along an eigenvector of H with eigenvalue x, with s = weight_decay + x, the
weights are  theta(t) = A theta_0 + B theta* + noise,  A = e^{-s t} (flow) or (1 - step s)^k,  G = (1 - A)/s,  B = G x; the
noise of stochastic dynamics adds the variance c(x, t), driven by the error E = E e^2 of all samples:

    dc/dt = -2 s c + temperature x E,       E(t) = E_det(t) + <x c(t)> = E_det(t) + temperature int_0^t K2(t - u) E(u) du
    c_{k+1} = (1 - step s)^2 c_k + kick x E_k,          K2 = <x^2 A^2>,  kick = Var g / delta.

A quadrature of the law makes this a linear system with a symmetric matrix, diagonal plus rank one: the flow is solved by
its eigenvectors, without any step in time, so long times cost nothing and the error is that of the quadrature.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.laws.marchenko_pastur import NODES_PER_PANEL, MarchenkoPastur
from lossflow.progress import progress

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

RESOLUTION = 1e-3  # of the finest scale on which an averaged function varies: panels halve down to it
FINEST = 1e-24  # of the upper edge: no quadrature resolves more


class Regression(NamedTuple):
    """y = r* + noise, loss (r - y)^2/2, one column: what the exact solution needs to know.

    delta: n/d in (0, inf]; weight_decay: lambda >= 0; noise_variance: of y given r*; norm, overlap, teacher: the second
    moments E theta_0^2, E theta_0 theta*, E theta*^2 of a row. docs/theory/mean_field.md section 1 [NI26v2].
    """

    delta: float
    weight_decay: float
    noise_variance: float
    norm: float
    overlap: float
    teacher: float


class Moments(NamedTuple):
    """Over times. error: E e^2 of the training samples (twice the loss); overlap: m = E theta theta*; norm: C = E theta^2;
    excess: C - 2 m + Q, without cancellation."""

    error: Array
    overlap: Array
    norm: Array
    excess: Array


class Kernels(NamedTuple):
    """Two-time functions (times, times), zero above the diagonal where they are causal.

    correlation: C(t, s) = E theta_t theta_s. response: R(t, s) = d theta_t / d u_s, for t > s. residual: E e_t e_s.
    self_response: delta P(t, s), P the response of the residual of a sample to the sample's own pull, for t > s.
    """

    correlation: Array
    response: Array
    residual: Array
    self_response: Array


class Modes(NamedTuple):
    """The solution along the nodes x of the law: A, G and the variance c of the noise, each (times, nodes)."""

    x: Array
    weights: Array
    A: Array
    G: Array
    noise: Array


def spectrum(
    problem: Regression, horizon: float, both_edges: bool, points: int = NODES_PER_PANEL
) -> tuple[Array, Array]:
    """(x, w) with <f> = sum_i w_i f(x_i) over the law of H, its atom included, all w_i > 0.

    horizon: the longest time, so that f varies on scales down to 1/horizon at the lower edge, and at the upper edge as well
    if both_edges. Marchenko-Pastur of ratio 1/delta; a point at 1 for delta = inf. docs/theory/mean_field.md section 6.1.
    """
    if problem.delta == math.inf:
        return np.ones(1), np.ones(1)
    law = MarchenkoPastur(rows=problem.delta, columns=1.0, variance=1 / problem.delta)
    a, b = law.edges
    finest = RESOLUTION / (1 + abs(horizon) * b)
    pole = RESOLUTION * (a / b) if a else 1.0  # of the density, at x = 0, and of 1/s
    low = min(finest, pole, RESOLUTION * problem.weight_decay / b if problem.weight_decay else 1.0)
    x, weights = law.nodes_and_weights(max(low, FINEST), max(finest, FINEST) if both_edges else 1.0, points)
    return (np.append(x, 0.0), np.append(weights, law.atom)) if law.atom else (x, weights)


def heating(problem: Regression, temperature: float) -> float:
    """temperature int_0^inf K2 dt = temperature <x^2/(weight_decay + x)>/2: from 1 on, the loss grows without bound.

    docs/theory/mean_field.md section 7.5 [NI26v2].
    """
    x, weights = spectrum(problem, 0.0, both_edges=False)
    x, weights = x[x > 0], weights[x > 0]
    return temperature * float(weights @ (x**2 / (problem.weight_decay + x))) / 2


def heating_of_descent(problem: Regression, step: float, kick: float) -> float:
    """kick sum_k K2(k), the same for a discrete dynamics; inf for a step above the bound 2/(weight_decay + upper edge)."""
    x, weights = spectrum(problem, math.inf, both_edges=True)  # 2 - step s may vanish just beyond the upper edge
    x, weights = x[x > 0], weights[x > 0]
    s = problem.weight_decay + x
    upper = problem.weight_decay + upper_edge(problem.delta)
    return kick * float(weights @ (x**2 / (step * s * (2 - step * s)))) if step * upper < 2 else math.inf


def upper_edge(delta: float) -> float:
    """(1 + delta^(-1/2))^2, the largest eigenvalue of H."""
    return (1 + delta**-0.5) ** 2


def flow(problem: Regression, temperature: float, times: Array, points: int = NODES_PER_PANEL) -> Modes:
    """The modes at `times` of the flow, stochastic if temperature > 0 (then times >= 0); SGF and Poisson agree here.

    docs/theory/mean_field.md section 6.1 [NI26v2].
    """
    x, weights = spectrum(problem, float(np.abs(times).max()), both_edges=False, points=points)
    s = problem.weight_decay + x
    with np.errstate(over="ignore", invalid="ignore"):
        A = np.exp(-np.outer(times, s))
        G = times[:, None] * relative_decay(np.outer(times, s))
        noise = _noise_of_flow(problem, temperature, times, x, weights) if temperature else np.zeros_like(A)
    return Modes(x, weights, A, G, noise)


def _noise_of_flow(problem: Regression, temperature: float, times: Array, x: Array, weights: Array) -> Array:
    """c(x, t), from  d/dt d = -(2 S - temperature z z^T) d + temperature z E_det,  d = sqrt(w) c,  z = sqrt(w) x."""
    alive = x > 0
    y, w = x[alive], weights[alive]
    s, z = problem.weight_decay + y, np.sqrt(w) * y
    rates, vectors = np.linalg.eigh(2 * np.diag(s) - temperature * np.outer(z, z))
    drives = temperature * (vectors.T @ z)
    coefficients, exponents = _error_as_exponentials(problem, y, w)
    noise = np.zeros((times.size, x.size))
    with progress(times.size, "stochastic flow") as bar:
        for n, time in enumerate(times):
            lower = np.minimum.outer(rates, exponents)
            gap = np.abs(np.subtract.outer(rates, exponents))
            integral = (time * np.exp(-lower * time) * relative_decay(gap * time)) @ coefficients
            noise[n, alive] = (vectors @ (drives * integral)) / np.sqrt(w)
            bar.update(1)
    return noise


def _error_as_exponentials(problem: Regression, x: Array, w: Array) -> tuple[Array, Array]:
    """E_det(t) = sum_i a_i e^{-mu_i t}, as (a, mu), from the eigenvalues x > 0."""
    q0, m0, Q, sigma2 = problem.norm, problem.overlap, problem.teacher, problem.noise_variance
    s = problem.weight_decay + x
    kept, lost = x / s, problem.weight_decay / s  # B = kept (1 - A), B - 1 = -lost - kept A
    twice = w * x * (q0 - 2 * m0 * kept + kept**2 * Q) + sigma2 / problem.delta * w * kept**2
    once = w * x * (2 * lost * (kept * Q - m0)) + sigma2 / problem.delta * w * 2 * kept * lost
    rest = w @ (x * lost**2 * Q) + sigma2 * (1 - (w @ (1 - lost**2)) / problem.delta)
    return np.concatenate([twice, once, [rest]]), np.concatenate([2 * s, s, [0.0]])


def relative_decay(y: Array) -> Array:
    """(1 - e^{-y})/y, 1 at y = 0."""
    small = np.abs(y) < 1e-300
    return np.where(small, 1.0, -np.expm1(-y) / np.where(small, 1.0, y))


def descent(
    problem: Regression, step: float, kick: float, counts: npt.NDArray[np.int64], points: int = NODES_PER_PANEL
) -> Modes:
    """The modes after `counts` updates, ascending, of the discrete dynamics with this step and kick = Var g / delta.

    docs/theory/mean_field.md section 6.1 [NI26v2].
    """
    last = int(counts[-1])
    x, weights = spectrum(problem, step * last, both_edges=True, points=points)
    factor = 1 - step * (problem.weight_decay + x)
    A, G, noise = np.ones_like(x), np.zeros_like(x), np.zeros_like(x)
    kept = Modes(x, weights, *(np.empty((counts.size, x.size)) for _ in range(3)))
    n = 0
    with progress(last, "spectral solution") as bar, np.errstate(over="ignore", invalid="ignore"):
        for k in range(last + 1):
            while n < counts.size and counts[n] == k:
                kept.A[n], kept.G[n], kept.noise[n] = A, G, noise
                n += 1
            if kick:
                error = _error(problem, x, weights, A, G, noise)
                noise = factor**2 * noise + (kick * error) * x
            A, G = factor * A, factor * G + step
            bar.update(1)
    return kept


def moments(problem: Regression, modes: Modes) -> Moments:
    """The averages over the law at each time."""
    x, w, A, G, noise = modes
    q0, m0, Q = problem.norm, problem.overlap, problem.teacher
    with np.errstate(over="ignore", invalid="ignore"):
        B = G * x
        random = problem.noise_variance / problem.delta * G**2 * x + noise
        norm = (A**2 * q0 + 2 * A * B * m0 + B**2 * Q + random) @ w
        excess = (A**2 * q0 + 2 * A * (B - 1) * m0 + (B - 1) ** 2 * Q + random) @ w
        return Moments(_error(problem, *modes), (A * m0 + B * Q) @ w, norm, excess)


def _error(problem: Regression, x: Array, w: Array, A: Array, G: Array, noise: Array) -> Array:
    B = G * x
    signal = A**2 * problem.norm + 2 * A * (B - 1) * problem.overlap + (B - 1) ** 2 * problem.teacher
    labels = problem.noise_variance * (1 + (B * (B - 2)) @ w / problem.delta)
    return (x * (signal + noise)) @ w + labels


def kernels(problem: Regression, modes: Modes, times: Array, step: float | None = None) -> Kernels:
    """The two-time functions of `modes`. times: ascending, those of the modes; step: of a discrete dynamics, whose responses
    skip the update at which the force acts. docs/theory/mean_field.md section 6.1 [NI26v2]."""
    x, w, A, G, noise = modes
    s, B = problem.weight_decay + x, G * x
    q0, m0, Q, sigma2 = problem.norm, problem.overlap, problem.teacher, problem.noise_variance
    away = B - 1
    cross = A @ (w[:, None] * B.T)
    correlation = A @ (w[:, None] * (q0 * A + m0 * B).T) + m0 * cross.T + Q * B @ (w[:, None] * B.T)
    correlation += sigma2 / problem.delta * G @ ((w * x)[:, None] * G.T)
    mixed = m0 * A @ ((w * x)[:, None] * away.T)
    residual = A @ ((q0 * w * x)[:, None] * A.T) + mixed + mixed.T + Q * away @ ((w * x)[:, None] * away.T)
    means = B @ w
    residual += sigma2 * (1 + (B @ (w[:, None] * B.T) - means - means[:, None]) / problem.delta)
    response, self_response = np.zeros_like(correlation), np.zeros_like(correlation)
    for n, time in enumerate(times):
        lags = times[n:] - time
        if step is None:
            decay = later = np.exp(-np.outer(lags, s))
        else:
            counts = np.rint(lags / step)[:, None]
            decay = (1 - step * s) ** counts
            later = np.where(counts > 0, (1 - step * s) ** np.maximum(counts - 1, 0), 0.0)
        response[n:, n], self_response[n:, n] = later @ w, later @ (w * x)
        added = decay @ (w * noise[n])
        added_residual = decay @ (w * x * noise[n])
        correlation[n:, n] += added
        correlation[n, n + 1 :] += added[1:]
        residual[n:, n] += added_residual
        residual[n, n + 1 :] += added_residual[1:]
    return Kernels(correlation, response, residual, self_response)
