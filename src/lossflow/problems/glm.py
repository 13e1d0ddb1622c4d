"""Generalized linear models: one column of weights, a loss of the preactivation and the label."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lossflow.description import Vanishing
from lossflow.diagrams.polynomial import DiagramPolynomial
from lossflow.errors import InvalidInput
from lossflow.problem import AbstractProblem
from lossflow.problems.gaussian import average, trapezoid
from lossflow.problems.gaussian_data import ModelDiagrams, derived_sizes, linear_regression_diagrams
from lossflow.problems.labels import AbstractLabels, LinearLabels
from lossflow.problems.losses import AbstractLoss, Square, require_derivatives
from lossflow.problems.row import AbstractPenalty, AbstractRowModel, RowProcess, decay, require_decay, require_delta

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class GeneralizedLinear(AbstractProblem):
    """loss = (1/n) sum_i rho(x_i.theta, y_i),   y_i = y(x_i.theta*, z_i),   x_ij ~ N(0, 1/d),   n = delta d.

    d theta/dt = -d * d(loss + (1/d) sum_j [weight_decay theta_j^2/2 + H(theta_j)])/d theta
               = -weight_decay theta - H'(theta) - (1/delta) sum_i x_i ell_i.

    loss: rho, such as Logistic(); labels: y, such as SignLabels(); not every loss takes every kind of labels. delta: n/d > 0;
    inf: the population problem, which has a limit and no samples. weight_decay: lambda >= 0; "0+" for the end state in the limit
    lambda -> 0 after t -> inf (over time the same as 0). init_variance: C(0, 0) = |theta_0|^2/d >= 0; init_overlap: the
    cosine m_0/sqrt(C(0, 0) Q) in [-1, 1]; the teacher has Q = |theta*|^2/d = 1. penalty: H, such as L1(0.1), or None.

    Observables. `loss`: the mean over the training samples, penalties left out. `test_loss`: E rho on a fresh sample, its noise
    included. `train_error`, `test_error`: the fraction of samples with sign(r) != y, for labels +-1 alone (a half where r = 0).
    `mse`: |theta - theta*|^2/d = E (r - r*)^2, the excess risk, for labels y = r* + noise alone. `norm`: |theta|^2/d.
    `overlap`: the cosine theta.theta*/(|theta| |theta*|), zero at theta = 0. All are scalars.
    Raises `InvalidInput` for values out of range and for a loss that does not take these labels.
    docs/theory/mean_field.md sections 1, 4 and 5 [NI26v2].
    """

    loss: AbstractLoss
    labels: AbstractLabels
    delta: float
    weight_decay: float | Vanishing = 0.0
    init_variance: float = 1.0
    init_overlap: float = 0.0
    penalty: AbstractPenalty | None = None

    def check(self) -> None:
        require_delta(self, self.delta)
        require_decay(self, self.weight_decay)
        if self.labels.kind not in self.loss.labels:
            raise InvalidInput(
                f"{self.loss!r} takes labels that are {' or '.join(self.loss.labels)} and those of {self.labels!r} are "
                f"{self.labels.kind}: {_FITTING[self.labels.kind]}"
            )
        if self.labels.noise_columns not in (0, 1):
            raise InvalidInput(
                f"{self.labels!r} takes {self.labels.noise_columns} uniform variables; at most one is possible: "
                "make two of one by its digits, or fold the noise into one distribution"
            )
        if not 0 <= self.init_variance < math.inf:
            raise InvalidInput(
                f"GeneralizedLinear.init_variance must be a finite number >= 0, got {self.init_variance!r}"
            )
        if not -1 <= self.init_overlap <= 1:
            raise InvalidInput(
                f"GeneralizedLinear.init_overlap is a cosine, between -1 and 1; got {self.init_overlap!r}"
            )
        if self.init_overlap and not self.init_variance:
            raise InvalidInput(
                "GeneralizedLinear.init_overlap must be 0 where init_variance is: zero weights have no direction"
            )

    @property
    def languages(self) -> tuple[str, ...]:
        """Always "process"; "sample" for finite delta; "diagrams" for square loss of labels y = r* + noise without penalty."""
        found = ("process", "sample") if self.delta < math.inf else ("process",)
        return found if self._no_diagrams() else ("diagrams", *found)

    def _no_diagrams(self) -> str:
        """Why the loss is no polynomial in the weights, teacher, data and noise; empty if it is one."""
        if not (isinstance(self.loss, Square) and isinstance(self.labels, LinearLabels)):
            return "these need Square() and LinearLabels()"
        return "" if self.penalty is None else "these need penalty=None"

    def _diagrams(self) -> ModelDiagrams:
        if reason := self._no_diagrams():
            raise self.silence("diagrams", reason)
        assert isinstance(self.labels, LinearLabels)
        noise = self.labels.noise_variance
        return linear_regression_diagrams(
            self.delta, noise, decay(self.weight_decay), self.init_variance, self.init_overlap
        )

    def as_diagrams(self) -> DiagramPolynomial:
        """The training loss in the sizes d and n = delta d; rows of (theta_0, theta*) independent and Gaussian.

        Raises `NotSpoken` unless the loss is Square(), the labels are LinearLabels(...) and there is no penalty.
        """
        return self._diagrams().observables["loss"]

    def as_potential(self) -> DiagramPolynomial:
        """d * loss + weight_decay |theta|^2/2."""
        return self._diagrams().potential

    def diagram_observables(self) -> Mapping[str, DiagramPolynomial]:
        """`loss`, `test_loss`, `mse` and `norm`."""
        return self._diagrams().observables

    def diagram_sizes(self, sizes: Mapping[str, float]) -> Mapping[str, float]:
        """{"d": ...} with n = delta d. Raises `InvalidInput` where that is no whole number."""
        return derived_sizes(sizes, {"n": (self.delta, 1)})

    def as_process(self) -> RowProcess:
        """The model of one sample and the second moments of one row.

        Raises `InvalidInput`, with the place, for a loss whose derivatives are not those of its value.
        """
        require_derivatives(self.loss, (-1.0, 1.0) if self.labels.kind == "binary" else (-1.3, 0.2, 1.7))
        return RowProcess(
            model=LinearModel(self.loss, self.labels),
            delta=self.delta,
            weight_decay=decay(self.weight_decay),
            penalty=self.penalty,
            norm=np.array([[self.init_variance]]),
            overlap=np.array([[self.init_overlap * math.sqrt(self.init_variance)]]),
            teacher=np.ones((1, 1)),
        )

    def as_sample(self, sizes: Mapping[str, float], run: int, seed: int) -> dict[str, Array]:
        """theta (1, d), theta_star (1, d), X (n, d), y (n,) of run `run`; sizes: {"d": ...}. See `RowProcess.sample`."""
        if self.delta == math.inf:
            raise self.silence("sample", "delta = inf is the population problem, which has no training samples")
        return self.as_process().sample(sizes, run, seed)


_FITTING = {
    "binary": "take Logistic(), SmoothHinge(), Square() or Huber()",
    "real": "take Square() or Huber(), or labels +-1: SignLabels(), LogitLabels(), NoiseLabels()",
    "squared": "take PhaseRetrieval(), Square() or Huber()",
}


class LinearModel(AbstractRowModel):
    """rho(r, y(r*, z)) of a generalized linear model; m = m* = 1. sample_loss: rho(r, y); label_law: y(r*, z)."""

    columns = 1
    teacher_columns = 1

    def __init__(self, loss: AbstractLoss, labels: AbstractLabels) -> None:
        self.sample_loss, self.label_law = loss, labels
        self.noise_columns = labels.noise_columns
        self.lipschitz, self.smooth = loss.lipschitz, loss.smooth
        self.odd = loss.symmetry is not None and loss.symmetry == labels.symmetry

    def labels(self, teacher: Array, noise: Array) -> Array:
        """y (...)."""
        return self.label_law.draw(teacher[0], noise)

    def loss(self, r: Array, y: Array) -> Array:
        """rho (...)."""
        return self.sample_loss.value(r[0], y)

    def gradient(self, r: Array, y: Array) -> Array:
        """ell (1, ...)."""
        return self.sample_loss.slope(r[0], y)[None]

    def jacobian(self, r: Array, y: Array) -> Array:
        """d ell/dr (1, 1, ...)."""
        return self.sample_loss.curvature(r[0], y)[None, None]

    def errors(self, r: Array, y: Array) -> Array | None:
        """1 where sign(r) != y, 1/2 where r = 0, else 0; None unless labels are +-1."""
        return 0.5 * (1 - np.sign(r[0]) * y) if self.label_law.kind == "binary" else None

    def test(self, norm: Array, overlap: Array, teacher: Array) -> dict[str, float]:
        """test_loss; test_error for labels +-1; mse for labels y = r* + noise. To 1e-12 for the library's losses and labels."""
        C, m, Q = float(norm[0, 0]), float(overlap[0, 0]), float(teacher[0, 0])
        if self.label_law.kind == "binary":
            return self._binary(C, m, Q)
        excess = max(C - 2 * m + Q, 0.0)
        found = {"test_loss": self._residual(excess) if self._is_residual() else self._general(C, m, Q)}
        return found | {"mse": excess} if self.label_law.additive else found

    def _is_residual(self) -> bool:
        return self.label_law.additive and self.sample_loss.of_residual

    def _residual(self, excess: float) -> float:
        """E rho(r - r* - noise):  r - r* ~ N(0, excess)."""
        zero = np.zeros(())
        if isinstance(self.label_law, LinearLabels):
            return float(self.sample_loss.average(zero, excess + self.label_law.noise_variance, zero))
        return float(
            average(
                lambda z: self.sample_loss.average(
                    zero, excess, self.label_law.draw(np.zeros_like(z), _uniform(z)[None])
                )
            )
        )

    def _binary(self, C: float, m: float, Q: float) -> dict[str, float]:
        """Over r = sqrt(C) x, with the probability of y = 1 given r."""
        slope, rest = (m / math.sqrt(C), max(Q - m**2 / C, 0.0)) if C > 0 else (0.0, Q)
        if self.label_law.positive(np.zeros(1), 1.0) is None:
            return self._binary_by_teacher(C, m, Q)

        def integrand(x: Array) -> Array:
            r, ones = math.sqrt(C) * x, np.ones_like(x)
            up = self.label_law.positive(slope * x, rest)
            assert up is not None
            down = 1 - up
            loss = up * self.sample_loss.value(r, ones) + down * self.sample_loss.value(r, -ones)
            return np.stack([loss, np.where(r > 0, down, np.where(r < 0, up, 0.5))])

        loss, error = average(integrand)
        return {"test_loss": float(loss), "test_error": float(error)}

    def _binary_by_teacher(self, C: float, m: float, Q: float) -> dict[str, float]:
        from scipy.special import ndtr

        deviation = math.sqrt(max(C - m**2 / Q, 0.0))

        def error(mean: Array, y: Array) -> Array:
            if deviation == 0:
                return 0.5 * (1 - np.sign(mean) * y)
            return ndtr(-y * mean / deviation)

        return {"test_loss": self._general(C, m, Q), "test_error": self._over_labels(error, m, Q)}

    def _general(self, C: float, m: float, Q: float) -> float:
        """Over r given r* by the loss's own average, then over r* and the noise."""
        return self._over_labels(lambda mean, y: self.sample_loss.average(mean, max(C - m**2 / Q, 0.0), y), m, Q)

    def _over_labels(self, f: Callable[[Array, Array], Array], m: float, Q: float) -> float:
        """E f(E[r | r*], y(r*, z))."""
        z, weight = trapezoid() if self.noise_columns else (np.zeros(1), np.ones(1))
        noise = _uniform(z)[None] if self.noise_columns else np.zeros((0, 1))

        def integrand(x: Array) -> Array:
            teacher = np.broadcast_to(math.sqrt(Q) * x[..., None], (*x.shape, z.size))
            u = np.broadcast_to(noise.reshape(len(noise), *(1,) * x.ndim, z.size), (len(noise), *teacher.shape))
            return f(m / Q * teacher, self.label_law.draw(teacher, u)) @ weight

        return float(average(integrand))


def _uniform(z: Array) -> Array:
    """Phi(z), kept inside (0, 1)."""
    from scipy.special import ndtr

    return np.clip(ndtr(z), 1e-300, 1 - 1e-16)
