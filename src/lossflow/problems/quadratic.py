"""A quadratic network whose width, teacher width and number of samples grow with the dimension."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossflow.description import SizeMap, Vanishing
from lossflow.diagrams.polynomial import DiagramPolynomial
from lossflow.errors import InvalidInput
from lossflow.problem import AbstractProblem
from lossflow.problems.gaussian_data import ModelDiagrams, derived_sizes, quadratic_diagrams
from lossflow.problems.matrix import MatrixProcess
from lossflow.problems.row import decay

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Spectrum:
    """A = Z* + sqrt(xi) GOE,  Z = sum over eigenvalues x > b of A of (x - q) v v^T:  an end state told by one spectrum.

    What `QuadraticNetwork.as_spectrum` hands to the spectral engine, which finds xi and q; b = max(q, omega), where omega
    leaves a fraction kappa of the eigenvalues above it. alpha: n/d^2 or inf. kappa: the largest rank over d. kappa_star: the
    rank of the teacher over d; Z* has the Marchenko-Pastur law of normalized trace 1. noise_variance: of the labels.
    weight_decay: > 0, or "0+" for the limit.
    docs/theory/quadratic.md section 4 [MBB26v2].
    """

    alpha: float
    kappa: float
    kappa_star: float
    noise_variance: float
    weight_decay: float | Vanishing


@dataclass(frozen=True, repr=False)
class QuadraticNetwork(AbstractProblem):
    """loss = 1/(4n) sum_k r_k^2,  r_k = Tr X_k (Z - Z*) - sqrt(noise_variance) xi_k,  Z = W W^T,  W of shape d x m.

    dW/dt = -d * d(loss + (weight_decay/d) |W|^2)/dW = -(d/n) sum_k r_k X_k W - 2 weight_decay W.

    X_k: GOE, E X_ij X_kl = (delta_ik delta_jl + delta_il delta_jk)/d, or (x x^T - 1)/sqrt(d) to leading order. The teacher is
    Z* = (1/m*) sum of m* projectors w* w*^T, w* ~ N(0, 1_d), so Tr Z*/d = 1; the noise xi_k ~ N(0, 1).

    alpha: n/d^2 > 0, at finite d n = round(alpha d^2); inf: the population flow dW/dt = 2 (Z* - weight_decay - Z) W, in which
    the noise drops out. (The end states of n samples are nearest to the theory at alpha = n/(d(d+1)), see `finite_size_alpha`.)
    kappa: m/d > 0. kappa_star: m*/d > 0. noise_variance: >= 0. weight_decay: lambda >= 0, the force -2 lambda W; "0+": the limit
    lambda -> 0 after t -> inf. init_variance: gamma > 0, W_ij(0) ~ N(0, gamma/m), so Tr Z(0)/d = gamma.
    Observables: `loss` (noise included, penalty left out), `mse` = |Z - Z*|^2/d,
    `in_sample_error` = 1/(4n) sum (Tr X_k (Z - Z*))^2, over time `overlap` = Tr Z Z*/(|Z| |Z*|), at the end `rank` of Z over d.
    Raises `InvalidInput` for a value out of range.
    docs/theory/quadratic.md section 1 [MBB26v2].
    """

    alpha: float
    kappa: float
    kappa_star: float
    noise_variance: float = 0.0
    weight_decay: float | Vanishing = 0.0
    init_variance: float = 1.0

    def check(self) -> None:
        if not self.alpha > 0:
            raise InvalidInput(
                f"QuadraticNetwork.alpha, samples over d^2, must be positive (inf: the population), got {self.alpha}"
            )
        for name in ("kappa", "kappa_star", "init_variance"):
            if not 0 < getattr(self, name) < math.inf:
                raise InvalidInput(f"QuadraticNetwork.{name} must be positive and finite, got {getattr(self, name)}")
        if not 0 <= self.noise_variance < math.inf:
            raise InvalidInput(f"QuadraticNetwork.noise_variance must be finite and >= 0, got {self.noise_variance}")
        if self.weight_decay != "0+" and not 0 <= self.weight_decay < math.inf:
            raise InvalidInput(
                f'QuadraticNetwork.weight_decay must be finite and >= 0, or "0+", got {self.weight_decay!r}'
            )

    @property
    def languages(self) -> tuple[str, ...]:
        """All four; without weight decay no spectrum."""
        return ("diagrams", "process", "spectrum", "sample") if self.weight_decay else ("diagrams", "process", "sample")

    def as_diagrams(self) -> DiagramPolynomial:
        """The training loss, in the sizes d, n = alpha d^2, m = kappa d, m_star = kappa_star d; X_k from the GOE."""
        return self._diagrams().observables["loss"]

    def as_potential(self) -> DiagramPolynomial:
        """d * loss + weight_decay |W|^2, for the weights sqrt(m) W."""
        return self._diagrams().potential

    def diagram_observables(self) -> Mapping[str, DiagramPolynomial]:
        """`loss`, `mse`, and with samples `in_sample_error`."""
        return self._diagrams().observables

    def diagram_sizes(self, sizes: Mapping[str, float]) -> SizeMap:
        """{"d": ...} with n, m and m_star. Raises `InvalidInput` where one of them is no whole number."""
        return derived_sizes(sizes, {"n": (self.alpha, 2), "m": (self.kappa, 1), "m_star": (self.kappa_star, 1)})

    def _diagrams(self) -> ModelDiagrams:
        return quadratic_diagrams(self.alpha, self.noise_variance, decay(self.weight_decay), self.init_variance)

    def as_process(self) -> MatrixProcess:
        """The matrix process of `MeanField`; "0+" is no weight decay at finite times."""
        return MatrixProcess(
            self.alpha, self.kappa, self.kappa_star, self.noise_variance, decay(self.weight_decay), self.init_variance
        )

    def as_sample(self, sizes: Mapping[str, float], run: int, seed: int) -> dict[str, Array]:
        """W (d, m), teacher (d, d), X (n, d(d+1)/2), y (n,) of run `run`; sizes: {"d": ...}. See `MatrixProcess.sample`."""
        return self.as_process().sample(sizes, run, seed)

    def as_spectrum(self) -> Spectrum:
        """The spectral problem of the end state. Raises `NotSpoken` at weight_decay = 0, where the start is remembered."""
        if not self.weight_decay:
            reason = 'at weight_decay = 0 the end depends on the start; weight_decay="0+" has the limit'
            raise self.silence("spectrum", reason)
        return Spectrum(self.alpha, self.kappa, self.kappa_star, self.noise_variance, self.weight_decay)


def finite_size_alpha(n: int, d: int) -> float:
    """n/(d(d+1)): the alpha at which theory is to be compared with the end state of n samples in dimension d.

    Sym(d) has d(d+1)/2 dimensions and not d^2/2; counting them rightly removes most of the 1/d bias of the mse.
    n, d: whole numbers > 0. Raises `InvalidInput` for others.
    docs/theory/quadratic.md section 4 [MBB26v2].
    """
    if not (n > 0 and d > 0 and float(n).is_integer() and float(d).is_integer()):
        raise InvalidInput(f"samples and dimension must be whole numbers > 0, got n = {n!r}, d = {d!r}")
    return n / (d * (d + 1))
