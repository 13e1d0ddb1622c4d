"""Two-layer networks with a fixed second layer: committees that learn from a committee."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lossflow.description import Description, Vanishing
from lossflow.errors import InvalidInput
from lossflow.problem import AbstractProblem
from lossflow.problems.gaussian import average, smoothed
from lossflow.problems.labels import normal
from lossflow.problems.row import AbstractRowModel, RowProcess, decay, require_decay, require_delta, require_moments

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]


class AbstractActivation(Description):
    """phi, elementwise, with two derivatives. Concrete activations are final.

    bounds: upper bounds of |phi|, |phi'| and |phi''|, inf where there is none. odd: whether phi(-x) = -phi(x).
    docs/theory/mean_field.md section 4 [NI26v2].
    """

    bounds: tuple[float, float, float]
    odd: bool

    def value(self, x: Array) -> Array:
        """phi(x)."""
        raise InvalidInput(f"{type(self).__name__} does not say what it is: define value(x)")

    def slope(self, x: Array) -> Array:
        """phi'(x)."""
        raise InvalidInput(f"{type(self).__name__} has no first derivative: define slope(x)")

    def curvature(self, x: Array) -> Array:
        """phi''(x)."""
        raise InvalidInput(f"{type(self).__name__} has no second derivative: define curvature(x)")

    def product(self, covariance: float, first: float, second: float) -> float:
        """E phi(a) phi(b) over centered Gaussian a, b of variances `first`, `second`, by quadrature unless overridden."""
        if not first:
            return float(self.value(np.zeros(())) * average(lambda x: self.value(math.sqrt(second) * x)))
        spread = math.sqrt(max(second - covariance**2 / first, 0.0))
        root = math.sqrt(first)
        return float(average(lambda x: self.value(root * x) * smoothed(self.value, covariance / root * x, spread)))


@dataclass(frozen=True, repr=False)
class Erf(AbstractActivation):
    """phi(x) = erf(x/sqrt 2),   E phi(a) phi(b) = (2/pi) arcsin( S_ab/sqrt((1 + S_aa)(1 + S_bb)) ).

    docs/theory/mean_field.md sections 4 and 5 [NI26v2].
    """

    bounds = (1.0, math.sqrt(2 / math.pi), math.sqrt(2 / math.pi) * math.exp(-0.5))
    odd = True

    def value(self, x: Array) -> Array:
        """erf(x/sqrt 2)."""
        from scipy.special import erf

        return erf(x / math.sqrt(2))

    def slope(self, x: Array) -> Array:
        """sqrt(2/pi) exp(-x^2/2)."""
        return math.sqrt(2 / math.pi) * np.exp(-0.5 * x**2)

    def curvature(self, x: Array) -> Array:
        """-sqrt(2/pi) x exp(-x^2/2)."""
        return -math.sqrt(2 / math.pi) * x * np.exp(-0.5 * x**2)

    def product(self, covariance: float, first: float, second: float) -> float:
        """(2/pi) arcsin(covariance/sqrt((1 + first)(1 + second)))."""
        return 2 / math.pi * math.asin(min(1.0, max(-1.0, covariance / math.sqrt((1 + first) * (1 + second)))))


@dataclass(frozen=True, repr=False)
class TwoLayer(AbstractProblem):
    """loss = (1/2n) sum_i (f(x_i) - y_i)^2,   f(x) = sum_a c_a phi(x.theta_a),   y = sum_b c*_b phi(x.theta*_b) + sigma z.

    d theta/dt = -d * d(loss + (weight_decay/2d) |theta|^2)/d theta,   x_ij ~ N(0, 1/d),   n = delta d,   z ~ N(0, 1).

    hidden: m >= 1, teacher_hidden: m* >= 1. activation: phi, such as Erf(). delta: n/d > 0; inf: the population problem.
    weight_decay: lambda >= 0; "0+" is the limit taken last, over time the same as 0. noise_variance: sigma^2 >= 0.
    readout: c, m numbers, fixed, and teacher_readout: c*, m* numbers; None: ones (the committee). init_covariance: m x m,
    C_ab = theta_0a.theta_0b/d, None: the identity; init_overlap: cosines, m x m*, theta_0a.theta*_b/d = init_overlap_ab
    sqrt(C_aa Q_bb), None: zeros. The teacher has Q = theta*_a.theta*_b/d = 1[a=b].

    Observables. `loss`: the mean over the training samples, weight decay left out. `test_loss`: of a fresh sample, with noise.
    `mse`: E (f - f*)^2, f* the label without noise. `norm`: theta_a.theta_b/d, (m, m) at each time. `overlap`: the cosines
    theta_a.theta*_b/(|theta_a| |theta*_b|), (m, m*) at each time. There are no classes, so no `train_error` and no `test_error`.
    Raises `InvalidInput` for values out of range, for shapes that do not fit, and for moments that no weights have.
    docs/theory/mean_field.md sections 1, 4 and 5 [NI26v2].
    """

    hidden: int
    teacher_hidden: int
    activation: AbstractActivation
    delta: float
    weight_decay: float | Vanishing = 0.0
    noise_variance: float = 0.0
    readout: tuple[float, ...] | None = None
    teacher_readout: tuple[float, ...] | None = None
    init_covariance: tuple[tuple[float, ...], ...] | None = None
    init_overlap: tuple[tuple[float, ...], ...] | None = None

    def check(self) -> None:
        require_delta(self, self.delta)
        require_decay(self, self.weight_decay)
        for name in ("hidden", "teacher_hidden"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"TwoLayer.{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.noise_variance < math.inf:
            raise InvalidInput(f"TwoLayer.noise_variance must be a finite number >= 0, got {self.noise_variance!r}")
        m, m_star = self.hidden, self.teacher_hidden
        for name, shape in {
            "readout": (m,), "teacher_readout": (m_star,), "init_covariance": (m, m), "init_overlap": (m, m_star)
        }.items():  # fmt: skip
            _require_shape(name, getattr(self, name), shape)
        norm, overlap, teacher = self._moments()
        if not np.array_equal(norm, norm.T):
            raise InvalidInput(f"TwoLayer.init_covariance must be symmetric, got {self.init_covariance!r}")
        if (np.diag(norm) < 0).any() or (np.abs(self._cosines()) > 1).any():
            raise InvalidInput(
                "TwoLayer: init_covariance has a diagonal >= 0, and init_overlap is made of cosines, between -1 and 1"
            )
        require_moments(self, norm, overlap, teacher)

    @property
    def languages(self) -> tuple[str, ...]:
        """Always "process"; "sample" for finite delta."""
        return ("process", "sample") if self.delta < math.inf else ("process",)

    def as_process(self) -> RowProcess:
        """The model of one sample and the second moments of one row."""
        norm, overlap, teacher = self._moments()
        readout = self.readout or (1.0,) * self.hidden
        teacher_readout = self.teacher_readout or (1.0,) * self.teacher_hidden
        return RowProcess(
            model=CommitteeModel(self.activation, readout, teacher_readout, self.noise_variance),
            delta=self.delta,
            weight_decay=decay(self.weight_decay),
            penalty=None,
            norm=norm,
            overlap=overlap,
            teacher=teacher,
        )

    def as_sample(self, sizes: Mapping[str, float], run: int, seed: int) -> dict[str, Array]:
        """theta (m, d), theta_star (m*, d), X (n, d), y (n,) of run `run`; sizes: {"d": ...}. See `RowProcess.sample`."""
        if self.delta == math.inf:
            raise self.silence("sample", "delta = inf is the population problem, which has no training samples")
        return self.as_process().sample(sizes, run, seed)

    def _cosines(self) -> Array:
        return (
            np.zeros((self.hidden, self.teacher_hidden)) if self.init_overlap is None else np.array(self.init_overlap)
        )

    def _moments(self) -> tuple[Array, Array, Array]:
        norm = np.eye(self.hidden) if self.init_covariance is None else np.array(self.init_covariance)
        overlap = self._cosines() * np.sqrt(np.maximum(np.diag(norm), 0))[:, None]
        return norm, overlap, np.eye(self.teacher_hidden)


class CommitteeModel(AbstractRowModel):
    """(f(r) - y)^2/2,   f(r) = sum_a c_a phi(r_a),   y = sum_b c*_b phi(r*_b) + sigma z.

    lipschitz bounds the Jacobian for labels within six standard deviations of the noise: beyond any bound there is none.
    """

    def __init__(
        self,
        activation: AbstractActivation,
        readout: tuple[float, ...],
        teacher_readout: tuple[float, ...],
        noise_variance: float,
    ) -> None:
        self.activation, self.noise_variance = activation, noise_variance
        self.readout, self.teacher_readout = np.array(readout), np.array(teacher_readout)
        self.columns, self.teacher_columns = len(readout), len(teacher_readout)
        self.noise_columns = int(noise_variance > 0)
        self.odd = activation.odd
        value, slope, curvature = activation.bounds
        c, c_star = np.abs(self.readout), np.abs(self.teacher_readout)
        residual = value * (c.sum() + c_star.sum()) + 6 * math.sqrt(noise_variance)
        self.lipschitz = float(slope**2 * (c**2).sum() + residual * curvature * c.max())

    def labels(self, teacher: Array, noise: Array) -> Array:
        """y (...)."""
        clean = np.tensordot(self.teacher_readout, self.activation.value(teacher), 1)
        return clean + math.sqrt(self.noise_variance) * normal(noise[0]) if self.noise_columns else clean

    def loss(self, r: Array, y: Array) -> Array:
        """(f - y)^2/2 (...)."""
        return 0.5 * (self._output(r) - y) ** 2

    def gradient(self, r: Array, y: Array) -> Array:
        """(f - y) c_a phi'(r_a) (m, ...)."""
        return (self._output(r) - y) * self._column(r) * self.activation.slope(r)

    def jacobian(self, r: Array, y: Array) -> Array:
        """c_a c_b phi'(r_a) phi'(r_b) + 1[a=b] (f - y) c_a phi''(r_a) (m, m, ...)."""
        slope = self._column(r) * self.activation.slope(r)
        result = slope[:, None] * slope[None]
        diagonal = (self._output(r) - y) * self._column(r) * self.activation.curvature(r)
        a = np.arange(self.columns)
        result[a, a] += diagonal
        return result

    def test(self, norm: Array, overlap: Array, teacher: Array) -> dict[str, float]:
        """mse = E (f - f*)^2 and test_loss = (mse + sigma^2)/2, in closed form for Erf()."""
        joint = np.block([[norm, overlap], [np.transpose(overlap), teacher]])
        weights = np.concatenate([self.readout, -self.teacher_readout])
        products = [
            [self.activation.product(joint[a, b], joint[a, a], joint[b, b]) for b in range(len(joint))]
            for a in range(len(joint))
        ]
        mse = max(float(weights @ np.array(products) @ weights), 0.0)
        return {"test_loss": 0.5 * (mse + self.noise_variance), "mse": mse}

    def _output(self, r: Array) -> Array:
        return np.tensordot(self.readout, self.activation.value(r), 1)

    def _column(self, r: Array) -> Array:
        return self.readout.reshape(-1, *(1,) * (np.ndim(r) - 1))


def _require_shape(name: str, value: tuple[object, ...] | None, shape: tuple[int, ...]) -> None:
    if value is None:
        return
    array = np.array([np.array(row, dtype=float).ravel() for row in value], dtype=object)
    lengths = {len(row) for row in array}
    found = (len(value),) if len(shape) == 1 else (len(value), *sorted(lengths))
    if found != shape:
        raise InvalidInput(f"TwoLayer.{name} must have the shape {shape} of (hidden, teacher_hidden), got {found}")
    if not all(np.isfinite(np.asarray(row, dtype=float)).all() for row in value):
        raise InvalidInput(f"TwoLayer.{name} must be finite, got {value!r}")
