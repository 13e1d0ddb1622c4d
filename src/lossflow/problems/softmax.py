"""Softmax regression: as many columns as classes, labels drawn by a teacher of the same form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from lossflow.description import Vanishing
from lossflow.errors import InvalidInput
from lossflow.keys import generator
from lossflow.problem import AbstractProblem
from lossflow.problems.row import AbstractRowModel, RowProcess, decay, require_decay, require_delta, square_root

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

REPLICATES = 8  # independent scramblings of the points, for the standard error
POINTS = 2**10  # of each
HEAVY = 1.5  # the scatter of few scramblings is that much too small, as measured: rare ones are far off
FEW = 4e5  # points of a product rule, up to which it replaces the sampled ones


@dataclass(frozen=True, repr=False)
class Softmax(AbstractProblem):
    """loss = (1/n) sum_i [ log sum_a exp(r_ia) - r_i,y_i ],   r = x.theta,   P(y = a) = softmax(kappa r*)_a,   r* = x.theta*.

    d theta/dt = -d * d(loss + (weight_decay/2d) |theta|^2)/d theta,   x_ij ~ N(0, 1/d),   n = delta d.

    classes: m >= 2, the columns of theta and of theta*. delta: n/d > 0; inf: the population problem. weight_decay: lambda >= 0;
    "0+" is the limit taken last, over time the same as 0. sharpness: kappa > 0, finite. init_variance: >= 0,
    theta_0a.theta_0b/d = init_variance 1[a=b], with overlap zero; the teacher has Q = 1[a=b].

    Observables. `loss`: the mean over the training samples, weight decay left out; `test_loss`: on a fresh sample. `train_error`,
    `test_error`: the fraction whose largest r_a is not the label's. `norm`: theta_a.theta_b/d, (m, m) at each time. `overlap`:
    the cosines theta_a.theta*_b/(|theta_a| |theta*_b|), (m, m) at each time.
    Raises `InvalidInput` for values out of range.
    docs/theory/mean_field.md sections 4 and 5 [NI26v2].
    """

    classes: int
    delta: float
    weight_decay: float | Vanishing = 0.0
    sharpness: float = 1.0
    init_variance: float = 1.0

    def check(self) -> None:
        require_delta(self, self.delta)
        require_decay(self, self.weight_decay)
        if self.classes < 2:
            raise InvalidInput(f"Softmax.classes must be at least 2, got {self.classes}")
        if not 0 < self.sharpness < math.inf:
            raise InvalidInput(f"Softmax.sharpness must be a finite number > 0, got {self.sharpness!r}")
        if not 0 <= self.init_variance < math.inf:
            raise InvalidInput(f"Softmax.init_variance must be a finite number >= 0, got {self.init_variance!r}")

    @property
    def languages(self) -> tuple[str, ...]:
        """Always "process"; "sample" for finite delta."""
        return ("process", "sample") if self.delta < math.inf else ("process",)

    def as_process(self) -> RowProcess:
        """The model of one sample and the second moments of one row."""
        one = np.eye(self.classes)
        return RowProcess(
            model=SoftmaxModel(self.classes, self.sharpness),
            delta=self.delta,
            weight_decay=decay(self.weight_decay),
            penalty=None,
            norm=self.init_variance * one,
            overlap=0 * one,
            teacher=one,
        )

    def as_sample(self, sizes: Mapping[str, float], run: int, seed: int) -> dict[str, Array]:
        """theta (m, d), theta_star (m, d), X (n, d), y (n,) of run `run`; sizes: {"d": ...}. See `RowProcess.sample`."""
        if self.delta == math.inf:
            raise self.silence("sample", "delta = inf is the population problem, which has no training samples")
        return self.as_process().sample(sizes, run, seed)


class SoftmaxModel(AbstractRowModel):
    """log sum_a exp(r_a) - r_y,   y in 0 .. m-1 with probabilities softmax(kappa r*)."""

    noise_columns = 1
    lipschitz = 0.5  # of diag(p) - p p^T
    odd = False

    def __init__(self, classes: int, sharpness: float) -> None:
        self.columns = self.teacher_columns = classes
        self.sharpness = sharpness

    def labels(self, teacher: Array, noise: Array) -> Array:
        """y (...), whole numbers as floats."""
        bounds = np.cumsum(softmax(self.sharpness * teacher), axis=0)[:-1]
        return (noise[0] > bounds).sum(axis=0).astype(np.float64)

    def loss(self, r: Array, y: Array) -> Array:
        """log sum exp(r) - r_y (...)."""
        return log_sum_exp(r) - np.take_along_axis(r, y.astype(np.int64)[None], axis=0)[0]

    def gradient(self, r: Array, y: Array) -> Array:
        """p - e_y (m, ...)."""
        return softmax(r) - self._one_hot(r, y)

    def jacobian(self, r: Array, y: Array) -> Array:
        """diag(p) - p p^T (m, m, ...)."""
        p = softmax(r)
        result = -p[:, None] * p[None]
        a = np.arange(self.columns)
        result[a, a] += p
        return result

    def errors(self, r: Array, y: Array) -> Array | None:
        """1 where the largest r_a (the first of them) is not that of the label."""
        return (np.argmax(r, axis=0) != y).astype(np.float64)

    def test(self, norm: Array, overlap: Array, teacher: Array) -> dict[str, float]:
        """test_loss, to rounding where the classes are few, and test_error by scrambled Sobol points; see `test_uncertainty`."""
        loss, error = self._averages(norm, overlap, teacher)
        return {"test_loss": float(loss.mean()), "test_error": float(error.mean())}

    def test_uncertainty(self, norm: Array, overlap: Array, teacher: Array) -> dict[str, float]:
        """The standard errors of `test`, from independent scramblings of the points."""
        found = zip(("test_loss", "test_error"), self._averages(norm, overlap, teacher), strict=True)
        return {name: HEAVY * float(values.std(ddof=1)) / math.sqrt(REPLICATES) for name, values in found}

    def _averages(self, norm: Array, overlap: Array, teacher: Array) -> tuple[Array, Array]:
        """Loss and error, for each replicate of the points.

        E loss = E log sum exp(r) - E r.p  with  E r_a p_a(kappa r*) = kappa sum_b overlap_ab E (1[a=b] p_a - p_a p_b),  by parts.
        """
        pairs = softmax_moments(self.sharpness, teacher.tobytes(), self.columns)
        weighted = self.sharpness * (
            np.trace(overlap @ np.diag(pairs.sum(axis=(-2)).mean(0))) - np.einsum("ab,xab->x", overlap, pairs)
        )
        return mean_log_sum_exp(norm) - weighted, self._error(norm, overlap, teacher)

    def _error(self, norm: Array, overlap: Array, teacher: Array) -> Array:
        """1 - E sum_a p_a(kappa r*) P(r_a is largest | r*), for each replicate of the points.

        Differences of the r* are enough, m - 1 variables s; the probability is an integral over m - 2 smooth variables.
        """
        m = self.columns
        basis = np.linalg.svd(np.eye(m) - 1 / m)[0][:, : m - 1]
        root = square_root(basis.T @ teacher @ basis)
        rule = product_rule(2 * m - 3, self.sharpness * math.sqrt(2 * float(np.linalg.norm(root, 2)) ** 2), FEW / 8)
        z, weights = (normal_points(2 * m - 3), np.full(POINTS, 1 / POINTS)) if rule is None else rule
        s = z[..., : m - 1] @ root
        p = softmax(np.moveaxis(self.sharpness * s @ basis.T, -1, 0))  # (m, [replicates,] points)
        slope = overlap @ basis @ np.linalg.pinv(root @ root, hermitian=True)  # r | s ~ N(slope s, rest)
        scale = float(np.trace(norm)) or 1.0
        rest = (
            norm - slope @ (overlap @ basis).T + 1e-12 * scale * np.eye(m)
        )  # where all r are equal, each class is as likely
        mean = s @ slope.T
        right = sum((p[a] * largest_probability(mean, rest, a, z[..., m - 1 :]) for a in range(m)), np.zeros(()))
        return np.broadcast_to(1 - right @ weights, REPLICATES)

    def _one_hot(self, r: Array, y: Array) -> Array:
        return (np.arange(self.columns).reshape(-1, *(1,) * np.ndim(y)) == y).astype(np.float64)


def largest_probability(mean: Array, covariance: Array, a: int, z: Array) -> Array:
    """A smooth unbiased estimate of P(r_a > r_b for all b != a),  r ~ N(mean (..., m), covariance), from normal z (..., m - 2).

    Separation of variables: after a Cholesky factorization the conditions are met one after another.
    """
    from scipy.special import ndtr, ndtri

    others = [b for b in range(covariance.shape[0]) if b != a]
    contrast = np.zeros((len(others), covariance.shape[0]))
    contrast[:, a] = 1
    contrast[np.arange(len(others)), others] = -1
    shift = mean @ contrast.T
    factor = np.linalg.cholesky(contrast @ covariance @ contrast.T)
    probability = np.ones(mean.shape[:-1])
    drawn: list[Array] = []
    for i in range(len(others)):
        reach = shift[..., i] + sum((factor[i, j] * drawn[j] for j in range(i)), np.zeros(mean.shape[:-1]))
        inside = ndtr(reach / factor[i, i])
        probability = probability * inside
        if i < len(others) - 1:  # the variable below its bound: -x > -reach
            uniform = ndtr(z[..., i])
            drawn.append(-ndtri(np.clip(uniform * inside, 1e-300, 1 - 1e-16)))
    return probability


def softmax(r: Array) -> Array:
    """exp(r_a)/sum_b exp(r_b) along the first axis."""
    weight = np.exp(r - r.max(axis=0))
    return weight / weight.sum(axis=0)


def log_sum_exp(r: Array) -> Array:
    """log sum_a exp(r_a) along the first axis."""
    top = r.max(axis=0)
    return top + np.log(np.exp(r - top).sum(axis=0))


def mean_log_sum_exp(norm: Array) -> Array:
    """E log sum_a exp(r_a),  r ~ N(0, norm), for each replicate; all the same where a product rule gives it to rounding."""
    m = len(norm)
    center = np.eye(m) - 1 / m  # E r = 0, so that a common shift of all r drops out: m - 1 directions are left
    values, vectors = np.linalg.eigh(center @ norm @ center)
    directions = vectors[:, 1:] * np.sqrt(np.maximum(values[1:], 0))
    z = product_rule(m - 1, math.sqrt(2 * max(values[-1], 0)))
    if z is None:
        return log_sum_exp(np.moveaxis(normal_points(m - 1) @ directions.T, -1, 0)).mean(axis=1)
    points, weights = z
    return np.full(REPLICATES, float(log_sum_exp(directions @ points.T) @ weights))


@lru_cache(maxsize=64)
def softmax_moments(sharpness: float, teacher: bytes, m: int) -> Array:
    """E p_a p_b,  p = softmax(sharpness r*),  r* ~ N(0, teacher), for each replicate (replicates, m, m)."""
    moments = np.frombuffer(teacher).reshape(m, m) * sharpness**2
    center = np.eye(m) - 1 / m
    values, vectors = np.linalg.eigh(center @ moments @ center)
    directions = vectors[:, 1:] * np.sqrt(np.maximum(values[1:], 0))
    z = product_rule(m - 1, math.sqrt(2 * max(values[-1], 0)))
    if z is None:
        p = softmax(np.moveaxis(normal_points(m - 1) @ directions.T, -1, 0))
        return np.einsum("axp,bxp->xab", p, p) / POINTS
    points, weights = z
    p = softmax(directions @ points.T)
    return np.broadcast_to((p * weights) @ p.T, (REPLICATES, m, m))


def product_rule(dimension: int, deviation: float, most: float = FEW) -> tuple[Array, Array] | None:
    """Points (points, dimension) and weights for N(0, 1): the trapezoidal rule in each direction, None for too many points.

    deviation: of the difference of two r. Softmax is analytic within pi/deviation of the real axis, so that this step makes the
    error exp(-2 pi^2/(step deviation)) = 1e-13.
    """
    step = min(0.5, 0.65 / deviation) if deviation else 0.5
    half = math.ceil(7.5 / step)
    if (2.0 * half + 1) ** dimension > most:
        return None
    return _product_rule(dimension, half)


@lru_cache(maxsize=16)
def _product_rule(dimension: int, half: int) -> tuple[Array, Array]:
    x = np.linspace(-7.5, 7.5, 2 * half + 1)
    weight = np.exp(-0.5 * x**2)
    grids = np.meshgrid(*[x] * dimension, indexing="ij")
    weights = np.ones(())
    for _ in range(dimension):
        weights = np.multiply.outer(weights, weight / weight.sum())
    points, flat = np.stack([grid.ravel() for grid in grids], axis=-1), weights.ravel()
    kept = flat > 1e-16 * flat.max()
    return points[kept], flat[kept]


@cache
def normal_points(columns: int) -> Array:
    """Scrambled Sobol points as normal variables (REPLICATES, POINTS, columns): always the same ones."""
    from scipy.special import ndtri
    from scipy.stats import qmc

    points = [
        qmc.Sobol(columns, scramble=True, seed=generator(0, replicate, "softmax test")).random(POINTS)  # pyright: ignore[reportCallIssue]
        for replicate in range(REPLICATES)
    ]
    return ndtri(np.clip(points, 1e-16, 1 - 1e-16))
