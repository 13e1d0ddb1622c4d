"""Diagonal linear networks: a linear model whose weights are products, and the starts that make different models of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from lossflow.description import Description, SizeMap, Vanishing
from lossflow.diagrams.polynomial import DiagramPolynomial
from lossflow.errors import InvalidInput
from lossflow.problem import AbstractProblem
from lossflow.problems.coordinate import CoordinateProcess
from lossflow.problems.gaussian_data import ModelDiagrams, derived_sizes, diagonal_diagrams
from lossflow.problems.priors import AbstractPrior
from lossflow.problems.row import decay

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]


class AbstractInit(Description):
    """The weights (u0, v0) at the start, the same in every coordinate. Concrete starts are final.

    With a = (u + v)/sqrt 2 and b = (u - v)/sqrt 2 the flow is  beta = (a0^2 e^xi - b0^2 e^-xi)/2  in a single xi(t), xi(0) = 0
    (weight decay multiplies it by e^(-2 lambda t)): the start decides which beta can be reached at all. `model` says in words
    which model that is.
    docs/theory/diagonal.md section 1 [NI25v2].
    """

    @property
    def weights(self) -> tuple[float, float]:
        """(u0, v0)."""
        raise InvalidInput(f"{type(self).__name__} does not say where the weights start: define its `weights`")

    @property
    def squares(self) -> tuple[float, float]:
        """(a0^2, b0^2) = ((u0 + v0)^2/2, (u0 - v0)^2/2)."""
        u, v = self.weights
        return (u + v) ** 2 / 2, (u - v) ** 2 / 2

    @property
    def kappa(self) -> float:
        """|a0 b0| = |u0^2 - v0^2|/2: the scale that separates small coefficients from large ones."""
        u, v = self.weights
        return abs(u + v) * abs(u - v) / 2

    @property
    def beta(self) -> float:
        """beta0 = u0 v0: the coefficient of every coordinate at the start."""
        u, v = self.weights
        return u * v

    @property
    def model(self) -> str:
        """In one sentence, which model this start makes."""
        raise InvalidInput(f"{type(self).__name__} does not say which model it makes: define its `model`")


@dataclass(frozen=True, repr=False)
class SymmetricInit(AbstractInit):
    """a0 = b0 = scale, that is u0 = sqrt(2) scale, v0 = 0:  beta0 = 0 and kappa = scale^2.

    Both signs of beta can be reached. scale: > 0; "0+" is the vanishing start, a limit taken after all others (basis pursuit
    where data are few), and inf the infinite start (ridgeless regression); both have end states and no dynamics.
    Raises `InvalidInput` for other scales; at 0 the weights would rest at a saddle for ever.
    docs/theory/diagonal.md sections 1 and 5 [NI25v2].
    """

    scale: float | Vanishing = 1.0

    def check(self) -> None:
        if not isinstance(self.scale, str) and not self.scale > 0:
            raise InvalidInput(
                f"SymmetricInit.scale must be > 0, got {self.scale!r}: without a start the weights rest at a saddle for ever; "
                'the limit of small starts is SymmetricInit("0+")'
            )
        if not isinstance(self.scale, str) and self.scale < math.inf:
            _require_range(self, self.scale**2)

    @property
    def weights(self) -> tuple[float, float]:
        return math.sqrt(2) * self._number(), 0.0

    @property
    def squares(self) -> tuple[float, float]:
        return self.kappa, self.kappa

    @property
    def kappa(self) -> float:
        return self._number() ** 2

    @property
    def beta(self) -> float:
        return 0.0

    @property
    def model(self) -> str:
        if self.scale == "0+":
            return "coefficients of both signs from a vanishing start, beta0 = 0, kappa -> 0 after all other limits"
        if self.scale == math.inf:
            return "coefficients of both signs from an infinite start, beta0 = 0, kappa -> inf after all other limits"
        return (
            f"coefficients of both signs, beta = kappa sinh(xi) with kappa = scale^2 = {self.kappa:.6g} and beta0 = 0"
        )

    def _number(self) -> float:
        """The scale as a number; the vanishing start has none."""
        if isinstance(self.scale, str) or self.scale == math.inf:
            raise InvalidInput(f"{self!r} is a limit of starts, whose weights are no numbers; give a finite scale > 0")
        return self.scale


@dataclass(frozen=True, repr=False)
class NonNegativeInit(AbstractInit):
    """u0 = v0 = scale, that is a0 = sqrt(2) scale, b0 = 0:  beta = scale^2 e^xi > 0 for ever, kappa = 0, beta0 = scale^2.

    A *non-negative* model: it cannot fit a negative coefficient, and what it prefers among the coefficients that fit is an
    entropy, not the potential of the symmetric start. scale: > 0 and finite. Raises `InvalidInput` otherwise.
    docs/theory/diagonal.md sections 1 and 9 [NI25v2].
    """

    scale: float = 1.0

    def check(self) -> None:
        if not 0 < self.scale < math.inf:
            raise InvalidInput(
                f"NonNegativeInit.scale must be positive and finite, got {self.scale!r}; without a start the weights "
                "rest at a saddle for ever"
            )
        _require_range(self, self.scale**2)

    @property
    def weights(self) -> tuple[float, float]:
        return self.scale, self.scale

    @property
    def model(self) -> str:
        return f"non-negative coefficients, beta = scale^2 e^xi > 0 for ever with beta0 = scale^2 = {self.scale**2:.6g}"


@dataclass(frozen=True, repr=False)
class GeneralInit(AbstractInit):
    """u(0) = u0, v(0) = v0 in every coordinate:  beta0 = u0 v0,  kappa = |u0^2 - v0^2|/2.

    |u0| != |v0|: both signs of beta can be reached, from beta0. u0 = v0: the non-negative model; u0 = -v0: the
    non-positive one. u0, v0: finite, not both zero. Raises `InvalidInput` otherwise.
    docs/theory/diagonal.md section 1 [NI25v2].
    """

    u0: float
    v0: float

    def check(self) -> None:
        if not (math.isfinite(self.u0) and math.isfinite(self.v0)) or self.u0 == self.v0 == 0:
            raise InvalidInput(
                f"GeneralInit needs finite u0 and v0 that are not both zero, got u0={self.u0!r}, v0={self.v0!r}; at zero "
                "the weights rest at a saddle for ever"
            )
        for square in self.squares:
            if square:
                _require_range(self, square)

    @property
    def weights(self) -> tuple[float, float]:
        return self.u0, self.v0

    @property
    def model(self) -> str:
        if abs(self.u0) == abs(self.v0):
            sign = "non-negative" if self.beta > 0 else "non-positive"
            return f"{sign} coefficients, |beta| = u0^2 e^(+-xi) > 0 for ever with beta0 = u0 v0 = {self.beta:.6g}"
        return f"coefficients of both signs with kappa = |u0^2 - v0^2|/2 = {self.kappa:.6g} and beta0 = u0 v0 = {self.beta:.6g}"


SMALLEST, LARGEST = 1e-150, 1e150  # of a0^2 and b0^2: beyond, products of two such numbers leave double precision


def _require_range(init: AbstractInit, square: float) -> None:
    if not SMALLEST <= square <= LARGEST:
        raise InvalidInput(
            f"{init!r} starts at a squared weight of {square:.3g}, outside {SMALLEST:g} .. {LARGEST:g}; limits are "
            'SymmetricInit("0+") and SymmetricInit(inf)'
        )


@dataclass(frozen=True, repr=False)
class DiagonalLinear(AbstractProblem):
    """loss = ||y - X (u * v)||^2/(2n),  y = X beta* + sqrt(noise_variance) eps,  penalty = weight_decay (||u||^2 + ||v||^2)/(2d).

    The coefficients are beta = u * v, entry by entry; X is n x d with independent entries of mean 0 and variance 1/d,
    n/d -> delta. Flow: du/dt = -d * d(loss + penalty)/du = -v g - weight_decay u and the same with u and v exchanged,
    g = X^T (X beta - y)/delta.

    delta: n/d > 0, inf for the population problem. prior: the law of the independent entries of beta*. noise_variance: >= 0.
    init: the weights at the start; different starts make different models (`init.model` says which).
    weight_decay: >= 0, or "0+" for its limit taken after t -> inf. The sizes are d and, derived from it, n.
    Raises `InvalidInput` for values outside these ranges.
    docs/theory/diagonal.md section 1 [NI25v2].
    """

    delta: float
    prior: AbstractPrior
    noise_variance: float = 0.0
    init: AbstractInit = SymmetricInit()
    weight_decay: float | Vanishing = 0.0

    def check(self) -> None:
        if not self.delta > 0:
            raise InvalidInput(f"DiagonalLinear.delta must be > 0 (inf: the population problem), got {self.delta!r}")
        if not 0 <= self.noise_variance < math.inf:
            raise InvalidInput(
                f"DiagonalLinear.noise_variance must be a finite number >= 0, got {self.noise_variance!r}"
            )
        if not isinstance(self.weight_decay, str) and not 0 <= self.weight_decay < math.inf:
            raise InvalidInput(
                f'DiagonalLinear.weight_decay must be a finite number >= 0 or "0+", got {self.weight_decay!r}'
            )

    @property
    def languages(self) -> tuple[str, ...]:
        """ "diagrams" and "process" for every start that has weights, that is all but the vanishing and the infinite one;
        "sample" where samples are finitely many, too.
        """
        if not self._starts:
            return ()
        return ("diagrams", "process", "sample") if self.delta < math.inf else ("diagrams", "process")

    @property
    def _starts(self) -> bool:
        return not isinstance(self.init, SymmetricInit) or self.init.scale not in ("0+", math.inf)

    def as_process(self) -> CoordinateProcess:
        """The process of one coordinate."""
        return self._process("process")

    def _process(self, language: str) -> CoordinateProcess:
        if not self._starts:
            raise self.silence(language, f"{self.init!r} is a limit of starts, with end states and no dynamics")
        return CoordinateProcess(
            self.delta, self.prior, self.noise_variance, self.init.weights, decay(self.weight_decay)
        )

    def as_sample(self, sizes: Mapping[str, float], run: int, seed: int) -> dict[str, Array]:
        """u, v, beta_star (d,), X (n, d), y (n,) of run `run`; sizes: {"d": ...}. See `CoordinateProcess.sample`."""
        if self._starts and self.delta == math.inf:
            raise self.silence("sample", "delta = inf is the population problem, which has no training samples")
        return self._process("sample").sample(sizes, run, seed)

    def as_diagrams(self) -> DiagramPolynomial:
        """The training loss, in the sizes d, n = delta d and, for a mixture, the numbers d0, d1, ... of its components."""
        return self._diagrams().observables["loss"]

    def as_potential(self) -> DiagramPolynomial:
        """d * (loss + penalty), for the weights in units of their start."""
        return self._diagrams().potential

    def diagram_observables(self) -> Mapping[str, DiagramPolynomial]:
        """`loss` and `mse`."""
        return self._diagrams().observables

    def diagram_sizes(self, sizes: Mapping[str, float]) -> SizeMap:
        """{"d": ...} with n = delta d. Raises `InvalidInput` where that is no whole number."""
        return derived_sizes(sizes, {"n": (self.delta, 1)})

    def random_sizes(self) -> Mapping[str, Fraction]:
        """The probabilities of the components of a prior that is a mixture."""
        return self._diagrams().random

    def _diagrams(self) -> ModelDiagrams:
        if not self._starts:
            raise self.silence("diagrams", f"the weights of {self.init!r} are no numbers")
        components = tuple((c.weight, c.mean, c.variance) for c in self.prior.components)
        return diagonal_diagrams(
            self.delta, self.noise_variance, decay(self.weight_decay), self.init.squares, components
        )


@dataclass(frozen=True, repr=False)
class BalancedDiagonal(DiagonalLinear):
    """`DiagonalLinear` whose samples fix what fluctuates by 1/sqrt(d) from run to run, for experiments about d -> infinity.

    Theory is the same, averages of samples at finite d are others; see `CoordinateProcess.sample`.
    docs/theory/diagonal.md section 10 [NI25v2].
    """

    def _process(self, language: str) -> CoordinateProcess:
        return replace(super()._process(language), balanced=True)

    @classmethod
    def of(cls, problem: DiagonalLinear) -> BalancedDiagonal:
        """The same problem with balanced samples."""
        return cls(**{field.name: getattr(problem, field.name) for field in fields(problem)})
