"""Models linear in the data: what a sample contributes, and the process of one row that the large-size limit needs.

Arrays are columns first: preactivations r have the shape (m, ...), teacher preactivations (m*, ...), labels (...), with any
further shape for paths, samples and runs.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lossflow.description import Description, Vanishing, brief
from lossflow.errors import InvalidInput, nearest
from lossflow.keys import generator

if TYPE_CHECKING:
    import numpy.typing as npt

    from lossflow.problem import AbstractProblem

    Array = npt.NDArray[np.float64]


class AbstractRowModel(ABC):
    """rho(r, y), the loss of one sample with preactivations r = x.theta, and y = y(r*, z), its label; r* = x.theta*.

    columns: m, the columns of theta; teacher_columns: m*, those of theta*. noise_columns: how many uniform variables on (0, 1)
    a label takes besides r*. lipschitz: an upper bound of the operator norm of d ell/dr over all r and y, inf if there is none.
    odd: whether rho(-r, y(-r*, z)) = rho(r, y(r*, z)) in law, so that half of the space of r* is enough.
    smooth: whether d ell/dr is continuous.
    """

    columns: int
    teacher_columns: int
    noise_columns: int
    lipschitz: float
    odd: bool
    smooth: bool = True

    @abstractmethod
    def labels(self, teacher: Array, noise: Array) -> Array:
        """y (...), from the teacher's preactivations r* (m*, ...) and uniform variables (noise_columns, ...)."""

    @abstractmethod
    def loss(self, r: Array, y: Array) -> Array:
        """rho (...)."""

    @abstractmethod
    def gradient(self, r: Array, y: Array) -> Array:
        """ell = d rho/dr (m, ...)."""

    @abstractmethod
    def jacobian(self, r: Array, y: Array) -> Array:
        """d ell_a/dr_b (m, m, ...)."""

    def errors(self, r: Array, y: Array) -> Array | None:
        """1 where the predicted class is wrong, else 0 (...); None for regression."""
        return None

    @abstractmethod
    def test(self, norm: Array, overlap: Array, teacher: Array) -> dict[str, float]:
        """Observables of a fresh sample, exact averages over (r, r*) ~ N(0, [[norm, overlap], [overlap^T, teacher]]).

        norm: (m, m); overlap: (m, m*); teacher: (m*, m*). "test_loss" always; "test_error" for classification; "mse", the excess
        risk E (prediction - noiseless label)^2, for labels with a noiseless part.
        """

    def test_uncertainty(self, norm: Array, overlap: Array, teacher: Array) -> dict[str, float]:
        """One standard error of those entries of `test` that are themselves sampled; the others are exact to rounding."""
        return {}


class AbstractPenalty(Description):
    """A separable penalty sum_j H(theta_j) besides weight decay. Either smooth, by its force, or by its proximal step.

    `proximal` is None for a smooth penalty; otherwise theta' = prox_{step H}(theta - step * rest of the force).
    """

    smooth: bool

    def value(self, theta: Array) -> Array:
        """H, elementwise."""
        raise NotImplementedError

    def force(self, theta: Array) -> Array:
        """h = H', elementwise, for a smooth penalty."""
        raise NotImplementedError

    def curvature(self, theta: Array) -> Array:
        """h', elementwise, for a smooth penalty."""
        raise NotImplementedError

    def proximal(self, theta: Array, step: float) -> Array:
        """argmin_x (x - theta)^2/2 + step H(x), elementwise, for a penalty that is not smooth."""
        raise NotImplementedError

    def proximal_slope(self, theta: Array, step: float) -> Array:
        """The derivative of `proximal` by theta, elementwise."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class RowProcess:
    """What theory and experiment need to know of a model linear in the data.

    theta_{k+1} = theta_k - eta h(theta_k) - (1/delta) X^T L_k,   L_k,i = g_k,i ell(x_i.theta_k, y_i),   X_ij ~ (0, 1/d)
    (flow: d theta = -h dt - (1/delta) X^T dL). One row (theta_j, theta*_j) of the d rows is Gaussian with the second moments
    norm = E theta_0 theta_0^T (m, m), overlap = E theta_0 theta*^T (m, m*), teacher = E theta* theta*^T (m*, m*).
    weight_decay: lambda in h = lambda theta + penalty'. delta: n/d, inf for the population problem.
    docs/theory/mean_field.md section 1 [NI26v2].
    """

    model: AbstractRowModel
    delta: float
    weight_decay: float
    penalty: AbstractPenalty | None
    norm: Array
    overlap: Array
    teacher: Array

    def stability_bound(self) -> float:
        """2/(weight_decay + Lip (1 + delta^(-1/2))^2), below which steps of gradient descent are stable; 0 where Lip is inf.

        docs/theory/mean_field.md section 7.5 [NI26v2].
        """
        rate = self.weight_decay + self.model.lipschitz * (1 + self.delta**-0.5) ** 2
        return 2 / rate if rate > 0 else math.inf

    def samples(self, dimension: int) -> int:
        """n = round(delta d)."""
        return max(1, round(self.delta * dimension))

    def sample(self, sizes: Mapping[str, float], run: int, seed: int, design: Array | None = None) -> dict[str, Array]:
        """theta (m, d), theta_star (m*, d), X (n, d), y (n,):  one draw at finite size.

        sizes: {"d": ...}, a whole number >= m + m*. run, seed: >= 0; the draw depends on nothing else. design: a matrix (n, d)
        to take for X instead of N(0, 1/d).
        The rows are moment-matched: the second moments of (theta_0, theta*) over the d rows are those of the process exactly,
        in a uniformly random direction. That removes fluctuations of order 1/sqrt(d) from all runs and changes no average at
        leading order (for square loss none at all, since that is quadratic in the weights).
        """
        d = require_dimension(sizes, self.model.columns + self.model.teacher_columns)
        m = self.model.columns
        n = self.samples(d) if design is None else len(design)
        moments = np.block([[self.norm, self.overlap], [self.overlap.T, self.teacher]])
        normal = generator(seed, run, "weights").standard_normal((d, len(moments)))
        directions, triangle = np.linalg.qr(normal)
        directions *= np.sign(np.diag(triangle))  # so that the frame is uniformly distributed
        rows = math.sqrt(d) * square_root(moments) @ directions.T
        X = generator(seed, run, "data").standard_normal((n, d)) / math.sqrt(d) if design is None else design
        uniform = np.maximum(generator(seed, run, "label noise").random((self.model.noise_columns, n)), 2.0**-54)
        return {"theta": rows[:m], "theta_star": rows[m:], "X": X, "y": self.model.labels(rows[m:] @ X.T, uniform)}


def square_root(moments: Array) -> Array:
    """A symmetric A with A A = moments, for a matrix that is positive semidefinite up to rounding."""
    values, vectors = np.linalg.eigh(moments)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def require_dimension(sizes: Mapping[str, float], least: int) -> int:
    """d, the one size of a model linear in the data, or `InvalidInput`."""
    for name in sizes:
        if name != "d":
            raise InvalidInput(
                f"{name!r} is no size of this problem, whose samples are derived: n = delta d; {nearest(name, ['d'])}"
            )
    if "d" not in sizes:
        raise InvalidInput('the sizes lack the dimension "d", e.g. {"d": 1000}')
    d = sizes["d"]
    if d != round(d) or d < least:
        raise InvalidInput(f'size "d" must be a whole number >= {least}, got {brief(d)}')
    return int(d)


def require_delta(problem: AbstractProblem, delta: float) -> None:
    """Refuse ratios n/d that are not positive."""
    if not delta > 0:
        raise InvalidInput(
            f"{type(problem).__name__}.delta is samples over dimensions and must be > 0 (inf: the population), got {delta!r}"
        )


def require_decay(problem: AbstractProblem, weight_decay: float | Vanishing) -> None:
    """Refuse weight decays that are negative or infinite."""
    if weight_decay != "0+" and not 0 <= float(weight_decay) < math.inf:
        raise InvalidInput(
            f'{type(problem).__name__}.weight_decay must be a finite number >= 0, or "0+" for the limit taken last; '
            f"got {weight_decay!r}"
        )


def decay(weight_decay: float | Vanishing) -> float:
    """lambda at finite times, where "0+" is 0."""
    return 0.0 if weight_decay == "0+" else float(weight_decay)


def require_moments(problem: AbstractProblem, norm: Array, overlap: Array, teacher: Array) -> None:
    """Refuse second moments of (theta_0, theta*) that no vectors have."""
    joint = np.block([[norm, overlap], [overlap.T, teacher]])
    lowest = float(np.linalg.eigvalsh(joint)[0])
    if lowest < -1e-12 * max(1.0, float(np.abs(joint).max())):
        raise InvalidInput(
            f"{type(problem).__name__}: no weights have these init_covariance and init_overlap; their joint matrix has the "
            f"eigenvalue {lowest:.3g}. Take smaller overlaps"
        )
