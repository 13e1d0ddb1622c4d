"""Quadratic networks at finite size: the end of a flow by L-BFGS, and gradient descent for as long as asked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from lossflow.errors import InvalidInput
from lossflow.problems.matrix import MatrixProcess
from lossflow.problems.quadratic import QuadraticNetwork
from lossflow.simulate.quadratic_samples import GRAM, GoeSamples, NetworkSamples

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

MOST_BYTES = 2**28  # of data in double precision
ZERO = 1e-3  # an eigenvalue of Z below it counts as zero: L-BFGS leaves the smallest ones at about 1e-4
MOST_ITERATIONS = 20_000


class End(NamedTuple):
    """Where a run ended: the observables of an end state, the spectrum of Z, and how well it was reached.

    gradient: the largest entry of d * d(loss + penalty)/dW. iterations: of L-BFGS, or steps of gradient descent.
    """

    values: dict[str, float]
    eigenvalues: Array
    gradient: float
    iterations: int


@dataclass(frozen=True, eq=False)
class Instance:
    """One draw of everything random: teacher, start, and n = round(alpha d^2) sensing matrices with noisy labels.

    For n samples the theory at alpha = n/(d(d+1)) is nearest, see `finite_size_alpha`. Teacher and start depend on (seed, run),
    d and the widths alone, so that runs of different alpha, weight decay, noise or data are paired. data: "goe" or "network",
    (x x^T - 1)/sqrt(d). GOE data are kept in single precision where double precision takes more than MOST_BYTES.
    docs/theory/quadratic.md sections 1 and 8 [MBB26v2].
    """

    problem: QuadraticNetwork
    d: int
    run: int
    seed: int
    data: Literal["goe", "network"] = "goe"

    def __post_init__(self) -> None:
        if not math.isfinite(self.problem.alpha) or self.problem.weight_decay == "0+":
            raise InvalidInput("a run at finite size needs a finite alpha and a weight decay that is a number")
        if min(self.m, round(self.problem.alpha * self.d**2), round(self.problem.kappa_star * self.d)) < 1:
            raise InvalidInput(f"no sample, student or teacher is left at d = {self.d}: {self.problem!r}; raise d")

    @cached_property
    def process(self) -> MatrixProcess:
        """What draws."""
        return self.problem.as_process()

    @property
    def n(self) -> int:
        """Samples."""
        return self.process.samples(self.d)

    @property
    def m(self) -> int:
        """Columns of W."""
        return round(self.problem.kappa * self.d)

    @cached_property
    def teacher(self) -> Array:
        """Z*, d x d."""
        return self.process.teacher(self.d, self.run, self.seed)

    @cached_property
    def start(self) -> Array:
        """W(0), d x m."""
        return self.process.start(self.d, self.run, self.seed)

    @cached_property
    def samples(self) -> GoeSamples | NetworkSamples:
        """The data; with the Gram matrix in their place where that is much the smaller one."""
        noise = self.process.label_noise(self.d, self.run, self.seed)
        if self.data == "network":
            return NetworkSamples(self.process.inputs(self.d, self.run, self.seed), noise, self.teacher)
        p = self.d * (self.d + 1) // 2
        X = self.process.goe(self.d, self.run, self.seed, single=8 * self.n * p > MOST_BYTES)
        return GoeSamples(X, noise, self.teacher, gram=self.n > GRAM * p)

    def objective(self, W: Array) -> tuple[float, Array]:
        """d (loss + (lambda/d) |W|^2) and its gradient, which is what the flow descends at unit speed."""
        force, loss, _ = self.samples.push(W)
        decay = float(self.problem.weight_decay)
        value = self.d * loss + decay * float(np.sum(W * W))
        return value, force + 2 * decay * W

    def measured(self, W: Array, iterations: int) -> End:
        """What is observed at W."""
        Z = W @ W.T
        _, loss, clean = self.samples.push(W)
        gradient = float(np.abs(self.objective(W)[1]).max())
        eigenvalues = np.asarray(np.linalg.eigvalsh(Z), dtype=np.float64)
        values = {
            "mse": float(np.sum((Z - self.teacher) ** 2)) / self.d,
            "loss": loss,
            "in_sample_error": clean,
            "rank": float(np.sum(eigenvalues > ZERO)) / self.d,
        }
        return End(values, eigenvalues, gradient, iterations)


def end_by_lbfgs(instance: Instance, tolerance: float = 1e-5) -> End:
    """The stationary state that L-BFGS reaches from the start of the flow: a local minimum of loss + (lambda/d) |W|^2.

    tolerance: largest entry of d times the gradient at the end; data in single precision leave 1e-4 to 1e-3 of it, which
    the `gradient` of the result says. docs/theory/quadratic.md section 8 [MBB26v2].
    """
    from scipy.optimize import minimize

    shape = instance.start.shape

    def flat(w: Array) -> tuple[float, Array]:
        value, gradient = instance.objective(w.reshape(shape))
        return value, gradient.ravel()

    options = {
        "maxiter": MOST_ITERATIONS,
        "maxfun": 2 * MOST_ITERATIONS,
        "maxcor": 20,
        "gtol": tolerance,
        "ftol": 1e-15,
    }
    result = minimize(flat, instance.start.ravel(), jac=True, method="L-BFGS-B", options=options)
    return instance.measured(np.asarray(result.x).reshape(shape), int(result.nit))


def end_by_descent(instance: Instance, time: float, step: float) -> End:
    """Gradient descent W <- W - step * d * d(loss + penalty)/dW up to `time`, from the start of the flow. step: its size."""
    W = instance.start.copy()
    steps = max(round(time / step), 1)
    for _ in range(steps):
        W -= step * instance.objective(W)[1]
    return instance.measured(W, steps)


class Ends(NamedTuple):
    """Means over runs, their standard errors, the eigenvalues of Z, one row for each run, and the values of every run."""

    n: int
    means: dict[str, float]
    errors: dict[str, float]
    eigenvalues: Array
    runs: dict[str, Array]


def ends(problem: QuadraticNetwork, d: int, runs: int, seed: int, data: Literal["goe", "network"] = "goe") -> Ends:
    """`end_by_lbfgs` of runs 0, 1, ..., runs - 1 >= 1 at dimension d."""
    found = [end_by_lbfgs(Instance(problem, d, run, seed, data)) for run in range(runs)]
    columns = {name: np.array([end.values[name] for end in found]) for name in found[0].values}
    return Ends(
        Instance(problem, d, 0, seed).n,
        {name: float(column.mean()) for name, column in columns.items()},
        {
            name: float(column.std(ddof=1)) / math.sqrt(runs) if runs > 1 else math.inf
            for name, column in columns.items()
        },
        np.array([end.eigenvalues for end in found]),
        columns,
    )
