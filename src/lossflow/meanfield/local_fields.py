"""Averages over the field of one sample of a generalized linear model, after the sample's own pull on it.

The field w and the teacher's r* are Gaussian with E w^2 = C, E w r* = m, E r*^2 = Q. A sample of label y that answers with the
strength V moves its preactivation to r, where  r + V ell(r, y) = w:  the proximal point. V = 0 is a fresh sample, r = w.
Everything is a one-dimensional integral to rounding, for the losses and labels of the library.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.errors import NotSpoken
from lossflow.problems.gaussian import average, smoothed, trapezoid
from lossflow.problems.labels import (
    AbstractLabels,
    CubicNoiseLabels,
    LinearLabels,
    LogitLabels,
    NoiseLabels,
    SignLabels,
    SquaredLabels,
)
from lossflow.problems.losses import AbstractLoss, Huber, PhaseRetrieval, Square, sigmoid

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

NEWTON_STEPS = 100  # of the proximal point; bisection alone would need 60
FLOOR = 0.01  # added to what is averaged in general: absolute errors of 1e-15 are allowed
BROAD = 4.0  # kappa times a deviation, from which on the logistic law is the narrower of two convolved laws


class Averages(NamedTuple):
    """Over (w, r*, y), at the proximal point r. curvature: E ell'/(1 + V ell'). force: E ell^2. signal: E ell r*. drag: E ell w.
    loss: E rho."""

    curvature: float
    force: float
    signal: float
    drag: float
    loss: float


def averages(loss: AbstractLoss, labels: AbstractLabels, C: float, m: float, Q: float, V: float) -> Averages:
    """The averages for a field of moments C > 0, m, Q and self-response V >= 0.

    Raises `NotSpoken` for labels +-1 of a user that do not give `positive`.
    docs/theory/mean_field.md sections 4, 5 and 6.3 [NI26v2].
    """
    if isinstance(loss, Square) and labels.kind != "binary":
        return _square(*second_moments(labels, Q), C, m, Q, V)
    if isinstance(loss, PhaseRetrieval) and isinstance(labels, SquaredLabels) and V == 0:
        return _phase_retrieval(labels.noise_variance, C, m, Q)
    if labels.kind == "binary":
        return _binary(loss, labels, C, m, Q, V)
    if labels.additive and loss.of_residual:
        return _residual(loss, labels, C, m, Q, V)
    return _general(loss, labels, C, m, Q, V)


def proximal(loss: AbstractLoss, w: Array, y: Array, V: float) -> Array:
    """r with  r + V ell(r, y) = w,  elementwise, for convex rho: Newton's method inside a bracket that shrinks.

    g(r) = r + V ell - w has a slope of at least 1, so the root lies within |g(w)| of w.
    """
    w, y = np.broadcast_arrays(w, y)
    if V == 0:
        return w
    if isinstance(loss, Square):
        return (w + V * y) / (1 + V)
    pull = V * loss.slope(w, y)
    low, high = np.minimum(w, w - pull), np.maximum(w, w - pull)
    r = w - pull / (1 + V * loss.curvature(w, y))
    last = high - low
    for _ in range(NEWTON_STEPS):
        g = r + V * loss.slope(r, y) - w
        low, high = np.where(g < 0, r, low), np.where(g > 0, r, high)
        step = g / (1 + V * loss.curvature(r, y))
        # Newton's step where it stays inside and shrinks, else half of the bracket: alone it can run in circles
        slow = (r - step < low) | (r - step > high) | (np.abs(step) > 0.5 * last)
        step = np.where(slow & (np.abs(step) > 1e-9 * (1 + np.abs(r))), r - 0.5 * (low + high), step)
        r, last = r - step, np.abs(step)
        if (last <= 1e-11 * (1 + np.abs(r))).all():  # the error after a step is of the order of its square
            break
    return r


def second_moments(labels: AbstractLabels, Q: float) -> tuple[float, float]:
    """(E y r*, E y^2) for r* ~ N(0, Q): all that square loss knows of labels."""
    match labels:
        case LinearLabels(noise_variance=variance):
            return Q, Q + variance
        case CubicNoiseLabels(scale=scale):
            return Q, Q + 15 * scale**2
    if labels.kind == "binary":
        return 2 * float(tilt(labels, np.zeros(()), Q)), 1.0
    z, weight = trapezoid() if labels.noise_columns else (np.zeros(1), np.ones(1))

    def integrand(x: Array) -> Array:
        teacher = math.sqrt(Q) * x[..., None]
        y = labels.draw(np.broadcast_to(teacher, (*x.shape, z.size)), _noise(labels, z, x.ndim))
        return np.stack([(teacher * y) @ weight, y**2 @ weight])

    product, square = average(integrand)
    return float(product), float(square)


def tilt(labels: AbstractLabels, mean: Array, variance: float) -> Array:
    """E (r* - mean) 1[y = 1] = variance dP(y = 1)/d mean  for r* ~ N(mean, variance), elementwise, for labels +-1."""
    deviation = math.sqrt(variance)
    if isinstance(labels, NoiseLabels) or variance == 0:
        return np.zeros(np.shape(mean))
    match labels:
        case SignLabels():
            return deviation * _density(mean / deviation)
        case LogitLabels(sharpness=kappa) if kappa * deviation <= BROAD:
            return variance * smoothed(
                lambda r: kappa * sigmoid(kappa * r) * sigmoid(-kappa * r), np.asarray(mean), deviation
            )
        case LogitLabels(sharpness=kappa):
            u = 0.4 * np.arange(-95, 96, dtype=np.float64)
            weight = sigmoid(u) * sigmoid(-u)
            return deviation * _density((np.asarray(mean)[..., None] + u / kappa) / deviation) @ (weight / weight.sum())
    # a formula for P(y = 1) of a user's own, differentiated: exact to 1e-11 where it is smooth on the scale of `deviation`
    h = 0.02 * deviation
    slopes = [_positive(labels, mean + k * h, variance) - _positive(labels, mean - k * h, variance) for k in (1, 2, 3)]
    return variance * (slopes[0] * 45 - slopes[1] * 9 + slopes[2]) / (60 * h)


def _square(product: float, square: float, C: float, m: float, Q: float, V: float) -> Averages:
    """r - y = (w - y)/(1 + V);  E w y = (m/Q) E r* y."""
    along = m / Q * product
    error = max(C - 2 * along + square, 0.0)
    gain = 1 / (1 + V)
    return Averages(gain, gain**2 * error, gain * (m - product), gain * (C - along), gain**2 * error / 2)


def _phase_retrieval(noise_variance: float, C: float, m: float, Q: float) -> Averages:
    """ell = (w^2 - y) w,  y = r*^2 + noise:  Gaussian moments up to the sixth."""
    square = Q * C + 2 * m**2  # E w^2 r*^2
    force = 15 * C**3 - 6 * C * (C * Q + 4 * m**2) + 3 * Q * (C * Q + 4 * m**2) + noise_variance * C
    value = 0.25 * (3 * C**2 - 2 * square + 3 * Q**2 + noise_variance)
    return Averages(3 * C - Q, max(force, 0.0), 3 * m * (C - Q), 3 * C**2 - square, max(value, 0.0))


def _binary(loss: AbstractLoss, labels: AbstractLabels, C: float, m: float, Q: float, V: float) -> Averages:
    """Over w = sqrt(C) x, with the probability of y = 1 and the mean of r* 1[y = 1] given w."""
    slope, rest = (m / C, max(Q - m**2 / C, 0.0)) if C > 0 else (0.0, Q)

    def integrand(x: Array) -> Array:
        w, parts = math.sqrt(C) * x, []  # of the two labels apart: their sum may cancel
        shift = tilt(labels, slope * w, rest)
        for y in (1.0, -1.0):
            r = proximal(loss, w, np.full_like(w, y), V)
            # P(y = -1 | w) by the symmetry of the normal law would need more of a user's labels: 1 - P is exact enough here
            weight = _positive(labels, slope * w, rest)
            weight = weight if y > 0 else 1 - weight
            ell, bend = loss.slope(r, np.full_like(w, y)), loss.curvature(r, np.full_like(w, y))
            teacher = slope * w * weight + y * shift
            value = loss.value(r, np.full_like(w, y))
            parts.append(
                [weight * bend / (1 + V * bend), weight * ell**2, teacher * ell, weight * w * ell, weight * value]
            )
        return np.array(parts)

    if isinstance(loss, Huber):  # the curvature jumps at known places
        x, weights = _in_pieces([(y + side * loss.width * (1 + V)) / math.sqrt(C) for y in (1, -1) for side in (1, -1)])
        return Averages(*map(float, (integrand(x) @ weights).sum(axis=0)))
    return Averages(*map(float, average(integrand).sum(axis=0)))


def _in_pieces(breaks: list[float]) -> tuple[Array, Array]:
    """Points and weights for N(0, 1), for functions that are smooth between `breaks` and vary on any scale near 0."""
    near = 0.5 ** np.arange(1, 40)
    far = np.array([1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 10, 13, 18, 38])
    grid = np.concatenate([near, far])
    edges = np.unique(np.concatenate([-grid, [0.0], grid, [b for b in breaks if abs(b) < 38]]))
    nodes, weights = np.polynomial.legendre.leggauss(16)
    half = np.diff(edges)[:, None] / 2
    x = (edges[:-1, None] + half * (1 + nodes)).ravel()
    return x, (half * weights).ravel() * _density(x)


def error(loss: AbstractLoss, labels: AbstractLabels, C: float, m: float, Q: float, V: float) -> float:
    """P(sign(r) != y) at the proximal point, for labels +-1:  r < 0 where w < V ell(0, y), since r grows with w."""
    if C == 0:
        return 0.5
    slope, rest = m / C, max(Q - m**2 / C, 0.0)
    total = 0.0
    for y in (1.0, -1.0):
        edge = float(loss.slope(np.zeros(1), np.full(1, y))[0]) * V / math.sqrt(C)

        def beyond(s: Array, y: float = y, edge: float = edge) -> Array:
            """x = edge - y s, s > 0: the jump is at s = 0, and the density of x over that of s is exp(y edge s - edge^2/2)."""
            up = _positive(labels, slope * math.sqrt(C) * (edge - y * s), rest)
            ratio = np.exp(np.minimum(y * edge * s - 0.5 * edge**2, 300.0))
            return np.where(s > 0, (up if y > 0 else 1 - up) * ratio, 0.0)

        total += float(average(beyond))
    return total


def _residual(loss: AbstractLoss, labels: AbstractLabels, C: float, m: float, Q: float, V: float) -> Averages:
    """Over e = w - y = (w - r*) - noise; r* given w - r* is (m - Q)/excess times it."""
    excess = max(C - 2 * m + Q, 0.0)
    if isinstance(labels, LinearLabels):
        found = _by_residual(loss, np.zeros(()), excess + labels.noise_variance, V)
    else:
        found = average(lambda z: _by_residual(loss, -labels.draw(np.zeros_like(z), _noise(labels, z, 0)), excess, V))
    bend, force, value, _ = map(float, found)
    # Stein: E ell r* = Cov(e, r*) E d ell/de, and E ell w the same with w; d ell/de at the proximal point is the curvature
    return Averages(bend, force, (m - Q) * bend, (C - m) * bend, value)


def _by_residual(loss: AbstractLoss, mean: Array, variance: float, V: float) -> Array:
    """E of (ell'/(1 + V ell'), ell^2, rho, ell) over e ~ N(mean, variance), elementwise in `mean`."""
    if isinstance(loss, Huber):
        return _huber(loss.width, mean, variance, V)

    def values(e: Array) -> Array:
        r = proximal(loss, e, np.zeros_like(e), V)
        ell, bend = loss.slope(r, np.zeros_like(e)), loss.curvature(r, np.zeros_like(e))
        return np.stack([bend / (1 + V * bend), ell**2, loss.value(r, np.zeros_like(e)), ell])

    if np.ndim(mean):
        return smoothed(values, mean, math.sqrt(variance))
    return average(lambda x: values(float(mean) + math.sqrt(variance) * x))


def _huber(width: float, mean: Array, variance: float, V: float) -> Array:
    """In closed form: the proximal residual is e/(1 + V) for |e| < c (1 + V), and e -+ V c beyond."""
    from scipy.special import ndtr

    s, c = math.sqrt(variance), width * (1 + V)
    a = np.asarray(mean, dtype=np.float64)
    if s == 0:
        inside = (np.abs(a) < c).astype(np.float64)
        force = np.clip(a, -c, c) ** 2 / (1 + V) ** 2
        value = np.where(inside > 0, 0.5 * force, width * np.abs(a) - width**2 * (V + 0.5))
        return np.stack([inside / (1 + V), force, value, np.clip(a, -c, c) / (1 + V)])
    low, high = (-c - a) / s, (c - a) / s
    p_low, p_high = _density(low), _density(high)
    inside = np.where(a > 0, ndtr(high) - ndtr(low), ndtr(-low) - ndtr(-high))
    squares = (a**2 + s**2) * inside + s * (2 * a + s * low) * p_low - s * (2 * a + s * high) * p_high
    outside = ndtr(-high) + ndtr(low)
    lengths = a * (ndtr(-high) - ndtr(low)) + s * (p_high + p_low)  # E |e| outside
    force = squares / (1 + V) ** 2 + width**2 * outside
    value = 0.5 * squares / (1 + V) ** 2 + width * lengths - width**2 * (V + 0.5) * outside
    mean_force = (a * inside + s * (p_low - p_high)) / (1 + V) + width * (ndtr(-high) - ndtr(low))
    return np.stack([inside / (1 + V), force, value, mean_force])


def _general(loss: AbstractLoss, labels: AbstractLabels, C: float, m: float, Q: float, V: float) -> Averages:
    """Over w given r*, then the noise, then r*: for smooth losses exact to rounding, to 1e-8 with noise."""
    x, weight = trapezoid()
    z, noise_weight = (x[::2], 2 * weight[::2]) if labels.noise_columns else (np.zeros(1), np.ones(1))
    deviation = math.sqrt(max(C - m**2 / Q, 0.0))
    floor = FLOOR * (1 + C + Q)  # where the samples are fitted, only rounding is left, which must not be resolved

    def integrand(u: Array) -> Array:
        teacher = np.broadcast_to(math.sqrt(Q) * u[..., None], (*u.shape, z.size))
        y = labels.draw(teacher, _noise(labels, z, u.ndim))
        if loss.of_residual:
            mean = m / Q * teacher
            bend, force, value, ell = _by_residual(loss, mean - y, deviation**2, V)
            return (
                np.stack([bend, force, teacher * ell, mean * ell + deviation**2 * bend, value]) @ noise_weight + floor
            )
        y = y[..., None]
        w = (m / Q) * teacher[..., None] + deviation * x
        y = np.broadcast_to(y, w.shape)
        r = proximal(loss, w, y, V)
        ell, bend = loss.slope(r, y), loss.curvature(r, y)
        stack = [bend / (1 + V * bend), ell**2, ell * teacher[..., None], ell * w, loss.value(r, y)]
        return np.stack([part @ weight @ noise_weight for part in stack]) + floor

    if labels.noise_columns and not loss.of_residual:  # three variables: panels that adapt would be too many
        return Averages(*map(float, (integrand(x) - floor) @ weight))
    return Averages(*map(float, average(integrand) - floor))


def _positive(labels: AbstractLabels, mean: Array, variance: float) -> Array:
    found = labels.positive(mean, variance)
    if found is None:
        raise NotSpoken(
            f"averages over {labels!r} need P(y = 1) for r* ~ N(mean, variance): define positive(mean, variance)"
        )
    return found


def _noise(labels: AbstractLabels, z: Array, dimensions: int) -> Array:
    """The uniform variables Phi(z) of a label, (noise_columns, *1s, z)."""
    from scipy.special import ndtr

    uniform = np.clip(ndtr(z), 1e-300, 1 - 1e-16)
    return (
        uniform.reshape(1, *(1,) * dimensions, *z.shape)
        if labels.noise_columns
        else np.zeros((0, *(1,) * dimensions, *z.shape))
    )


def _density(x: Array) -> Array:
    return np.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)


if TYPE_CHECKING:
    Function = Callable[[Array], Array]
