"""The public vocabulary of lossflow: names, fields, signatures. Meanings are in the docstrings.

These spellings are the contract (acceptance checks use them); docstrings, validation and everything behind
them are the builder's. A name may be grouped in a namespace as well, never renamed silently.
"""
from __future__ import annotations
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from fractions import Fraction
from os import PathLike
from typing import Any, ClassVar, Literal, Protocol, overload
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Exponent = tuple[int, ...]
Sizes = Mapping[str, float]

Vanishing = Literal["0+"]
Number = int | Fraction
class Description: ...
class SizeMap(Mapping[str, float]): ...
class AbstractProblem(Description):
    """Four translations; each raises NotSpoken with its reason. `languages` lists those that hold for THIS instance."""
    @property
    def languages(self) -> tuple[str, ...]: ...
    def as_diagrams(self) -> DiagramPolynomial: ...
    def as_process(self) -> RowProcess | CoordinateProcess | MatrixProcess: ...
    def as_spectrum(self) -> Spectrum: ...
    def as_sample(self, sizes: Sizes, run: int, seed: int) -> Any: ...
class RowProcess: ...
class CoordinateProcess: ...
class MatrixProcess: ...
class Spectrum: ...
class AbstractMethod(Description): ...
@dataclass(frozen=True)
class Design(Description):
    """A real design matrix, known by the digest of its content."""
    digest: str
    @classmethod
    def of(cls, X: npt.ArrayLike) -> Design: ...
class AbstractDynamics(Description):
    def times(self, steps: int, every: int = 1) -> Array: ...

@dataclass(frozen=True)
class GradientFlow(AbstractDynamics): ...
@dataclass(frozen=True)
class GradientDescent(AbstractDynamics): step: float
@dataclass(frozen=True)
class StochasticGradientFlow(AbstractDynamics):
    temperature: float
    step: float | None = None  # None: the continuous limit; a number: that Euler scheme, exactly
@dataclass(frozen=True)
class SGD(AbstractDynamics):
    step: float
    batch_fraction: float
    order: Literal["independent", "reshuffled", "persistent"] = "independent"
    persistence: float | None = None
    @classmethod
    def from_batch(cls, learning_rate: float, batch: int, samples: int, dimension: int) -> SGD: ...
@dataclass(frozen=True)
class PoissonSGD(AbstractDynamics):
    temperature: float
    step: float | None = None  # None: the jump-process limit; a number: that discretization, exactly

class AbstractTarget: ...
@dataclass(frozen=True)
class Zero(AbstractTarget): ...
@dataclass(frozen=True)
class Identity(AbstractTarget): scale: Fraction = Fraction(1)
@dataclass(frozen=True)
class Spiked(AbstractTarget): strengths: tuple[Fraction, ...]
@dataclass(frozen=True)
class Constant(AbstractTarget): value: Fraction
@dataclass(frozen=True)
class ModularAddition(AbstractTarget): ...
@dataclass(frozen=True)
class RandomTeacher(AbstractTarget):
    rank: str
    variance: str

@dataclass(frozen=True)
class CPDecomposition(AbstractProblem):
    order: int = 2
    symmetric: bool = True
    target: AbstractTarget = Identity()

class Factor: ...
class Pinned: ...
def pin(value: int) -> Pinned: ...
def size(name: str, power: int = 1) -> DiagramPolynomial: ...
class DiagramPolynomial:
    def __add__(self, o: DiagramPolynomial) -> DiagramPolynomial: ...
    def __sub__(self, o: DiagramPolynomial) -> DiagramPolynomial: ...
    def __mul__(self, o: DiagramPolynomial | Number) -> DiagramPolynomial: ...
    def __rmul__(self, o: Number) -> DiagramPolynomial: ...
@dataclass(frozen=True)
class Tensor:
    name: str
    axes: tuple[str, ...]
    variance: str | Number = "sigma2"
    mean: str | Number = 0
    learned: bool = True
    def __call__(self, *nodes: str | Pinned) -> Factor: ...
def diagram(*factors: Factor, constraints: Sequence[Mapping[str, int]] = ()) -> DiagramPolynomial: ...
@dataclass(frozen=True)
class PolynomialProblem(AbstractProblem):
    loss: DiagramPolynomial

class AbstractLoss: ...
@dataclass(frozen=True)
class Square(AbstractLoss): ...
@dataclass(frozen=True)
class Huber(AbstractLoss): width: float = 1.0
@dataclass(frozen=True)
class Logistic(AbstractLoss): ...
@dataclass(frozen=True)
class SmoothHinge(AbstractLoss): ...
@dataclass(frozen=True)
class PhaseRetrieval(AbstractLoss): ...
class AbstractPenalty(Description): ...
@dataclass(frozen=True)
class L1(AbstractPenalty): strength: float
class AbstractLabels: ...
@dataclass(frozen=True)
class LinearLabels(AbstractLabels): noise_variance: float = 0.0
@dataclass(frozen=True)
class SquaredLabels(AbstractLabels): noise_variance: float = 0.0
@dataclass(frozen=True)
class SignLabels(AbstractLabels): ...
@dataclass(frozen=True)
class LogitLabels(AbstractLabels): sharpness: float = 1.0
@dataclass(frozen=True)
class NoiseLabels(AbstractLabels): ...
@dataclass(frozen=True)
class GeneralizedLinear(AbstractProblem):
    loss: AbstractLoss
    labels: AbstractLabels
    delta: float  # n / d; inf: the population problem
    weight_decay: float | Vanishing = 0.0
    init_variance: float = 1.0  # E theta_0^2 = C(0, 0)
    init_overlap: float = 0.0  # m_0 / sqrt(C(0, 0) Q)
    penalty: AbstractPenalty | None = None  # a separable penalty besides weight decay
@dataclass(frozen=True)
class Softmax(AbstractProblem):
    classes: int
    delta: float
    weight_decay: float | Vanishing = 0.0
    sharpness: float = 1.0
    init_variance: float = 1.0
class AbstractActivation: ...
@dataclass(frozen=True)
class Erf(AbstractActivation): ...
@dataclass(frozen=True)
class TwoLayer(AbstractProblem):
    hidden: int
    teacher_hidden: int
    activation: AbstractActivation
    delta: float
    weight_decay: float | Vanishing = 0.0
    noise_variance: float = 0.0
    readout: tuple[float, ...] | None = None  # fixed second layer; None: ones (the committee)
    teacher_readout: tuple[float, ...] | None = None
    init_covariance: tuple[tuple[float, ...], ...] | None = None  # hidden x hidden; None: identity
    init_overlap: tuple[tuple[float, ...], ...] | None = None  # hidden x teacher_hidden; None: zero
class AbstractPrior: ...
@dataclass(frozen=True)
class RademacherSparse(AbstractPrior): density: float
@dataclass(frozen=True)
class BernoulliGaussian(AbstractPrior): density: float
class AbstractInit(Description): ...
@dataclass(frozen=True)
class SymmetricInit(AbstractInit): scale: float | Vanishing = 1.0
@dataclass(frozen=True)
class NonNegativeInit(AbstractInit): scale: float = 1.0
@dataclass(frozen=True)
class DiagonalLinear(AbstractProblem):
    delta: float
    prior: AbstractPrior
    noise_variance: float = 0.0
    init: AbstractInit = SymmetricInit()
    weight_decay: float | Vanishing = 0.0
@dataclass(frozen=True)
class QuadraticNetwork(AbstractProblem):
    alpha: float  # n / d^2; inf: the population flow
    kappa: float
    kappa_star: float
    noise_variance: float = 0.0
    weight_decay: float | Vanishing = 0.0
    init_variance: float = 1.0

class Resummation: ...
@dataclass(frozen=True)
class Taylor(Resummation): ...
@dataclass(frozen=True)
class Pade(Resummation): ...
@dataclass(frozen=True)
class BorelPade(Resummation): ...
@dataclass(frozen=True)
class ConformalBorel(Resummation): ...
@dataclass(frozen=True)
class Series(AbstractMethod):
    sizes: Sizes
    order: int
    resummation: Resummation = Taylor()
@dataclass(frozen=True)
class Limit(AbstractMethod):
    sizes: Sizes
    regime: str | None = None
    resummation: Resummation = BorelPade()
@dataclass(frozen=True)
class MeanField(AbstractMethod):
    paths: int = 8192  # per randomization
    resolution: int | None = None
    randomizations: int = 8
    dimension: int | None = None
    seed: int = 0
@dataclass(frozen=True)
class Online(AbstractMethod): ...
@dataclass(frozen=True)
class Simulation(AbstractMethod):
    sizes: Sizes
    runs: int = 8
    seed: int = 0
    design: Design | None = None
    tolerance: float = 1e-8

@dataclass(frozen=True)
class Status:
    kind: Literal["complete", "left_domain", "stopped"]
    last_time: float | None
    reason: str
    def __bool__(self) -> bool: ...
@dataclass(frozen=True, eq=False)
class Trajectory:
    def identical(self, other: Trajectory) -> bool: ...
    times: Array
    values: Mapping[str, Array]
    uncertainty: Mapping[str, Array]
    status: Status
    problem: AbstractProblem
    method: AbstractMethod
    dynamics: AbstractDynamics
    details: Mapping[str, Any]
    references: tuple[str, ...]
    def to_xarray(self) -> Any: ...
    def in_units_of(self, T: float | TimeScale) -> Trajectory: ...
@dataclass(frozen=True, eq=False)
class EndState:
    values: Mapping[str, float]
    branches: tuple[EndState, ...]
    problem: AbstractProblem
    status: Status
class TimeScale:
    def at(self, sizes: Sizes) -> float: ...
@dataclass(frozen=True)
class Placement:
    regime: Regime
    depth: float
@dataclass(frozen=True)
class Regime:
    name: str
    vertices: tuple[Exponent, ...]
    condition: str
    time_scale: TimeScale
    parameterization: str
    learning: str
    meaning: str
@dataclass(frozen=True)
class LossSeries:
    variables: tuple[str, ...]
    coefficients: Sequence[Mapping[Exponent, Fraction]]
    assumptions: tuple[str, ...]
    def at(self, **sizes: int | Fraction) -> tuple[Fraction, ...]: ...
    def pareto(self, s: int) -> set[Exponent]: ...
@dataclass(frozen=True, eq=False)
class Comparison:
    verdict: str
    agree: bool
@dataclass(frozen=True)
class Thresholds:
    alpha_interpolation: float
    alpha_recovery: float
    alpha_recovery_regularized: float
    alpha_bayes: float
    region: str

def solve(problem: AbstractProblem, method: AbstractMethod, times: npt.ArrayLike, dynamics: AbstractDynamics = GradientFlow()) -> Trajectory: ...
def stationary(problem: AbstractProblem) -> EndState: ...
def expand(problem: AbstractProblem, order: int, *, route: Literal["auto", "general"] = "auto") -> LossSeries: ...  # disk cache: LOSSFLOW_CACHE
class Resummed:
    values: Array
    uncertainty: Array
    status: tuple[Status, ...]
def resum(coefficients: Sequence[Number | float], times: npt.ArrayLike, resummation: Resummation) -> Resummed: ...  # of sum_k c_k t^k
def regimes(problem: AbstractProblem) -> tuple[Regime, ...]: ...
@overload
def classify(problem: AbstractProblem, *, sizes: Sizes) -> Placement: ...
@overload
def classify(problem: AbstractProblem, *, exponents: Mapping[str, float]) -> Placement: ...
def classify(problem: AbstractProblem, *, sizes: Sizes | None = None, exponents: Mapping[str, float] | None = None) -> Placement: ...
def compare(reference: Trajectory, *others: Trajectory, observable: str = "loss") -> Comparison: ...
class AbstractQuestion(Description): ...
@dataclass(frozen=True)
class Solve(AbstractQuestion):
    method: AbstractMethod
    times: tuple[float, ...]
    dynamics: AbstractDynamics = GradientFlow()
@dataclass(frozen=True)
class Stationary(AbstractQuestion): ...
def sweep(problem: AbstractProblem, grid: Mapping[str, Iterable[Any]], question: AbstractQuestion, *, executor: Executor | None = None, folder: str | None = None) -> Any: ...
def learning_curve(problem: AbstractProblem, parameter: str, values: npt.ArrayLike) -> Any: ...  # xarray.Dataset of end states
def save(x: Any, path: str | PathLike[str]) -> None: ...
def load(path: str | PathLike[str]) -> Any: ...
def thresholds(problem: QuadraticNetwork) -> Thresholds: ...
def quartic_threshold(theta: float) -> float: ...
def bayes_optimal(problem: QuadraticNetwork) -> EndState: ...
def nuclear_norm(problem: QuadraticNetwork) -> EndState: ...
def diagnose(trajectory: Trajectory) -> Mapping[str, Any]: ...  # kernel drift, feature movement, likely regime
