"""Quadratic networks at finite size: the end of a flow by L-BFGS, and gradient descent for as long as asked.

The data are n rows of coordinates in an orthonormal basis of Sym(d), never n matrices: a product with all of them is one
matrix-vector product, and with more samples than Sym(d) has dimensions the Gram matrix takes the place of the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.errors import InvalidInput
from lossflow.keys import generator
from lossflow.problems.quadratic import QuadraticNetwork

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

CHUNK = 2**22  # random numbers drawn at a time
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
    """One draw of everything random: teacher, start, and n = round(alpha d (d + 1)) GOE matrices with noisy labels.

    For n samples the theory at alpha = n/(d(d+1)) is nearest, see `finite_size_alpha`. Teacher and start depend on (seed, run),
    d and the widths alone, so that runs of different alpha, weight decay or noise are paired.
    docs/theory/quadratic.md sections 1 and 8 [MBB26v2].
    """

    problem: QuadraticNetwork
    d: int
    run: int
    seed: int

    def __post_init__(self) -> None:
        if not math.isfinite(self.problem.alpha) or self.problem.weight_decay == "0+":
            raise InvalidInput("a run at finite size needs a finite alpha and a weight decay that is a number")
        if min(self.m, self.n, round(self.problem.kappa_star * self.d)) < 1:
            raise InvalidInput(f"no sample, student or teacher is left at d = {self.d}: {self.problem!r}; raise d")

    @property
    def n(self) -> int:
        """Samples."""
        return round(self.problem.alpha * self.d * (self.d + 1))

    @property
    def m(self) -> int:
        """Columns of W."""
        return round(self.problem.kappa * self.d)

    @cached_property
    def teacher(self) -> Array:
        """Z*, d x d."""
        columns = round(self.problem.kappa_star * self.d)
        factor = generator(self.seed, self.run, "teacher").standard_normal((self.d, columns))
        return factor @ factor.T / columns

    @cached_property
    def start(self) -> Array:
        """W(0), d x m."""
        scale = math.sqrt(self.problem.init_variance / self.m)
        return generator(self.seed, self.run, "start").standard_normal((self.d, self.m)) * scale

    @cached_property
    def basis(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Array]:
        """Rows, columns and weights of the upper triangle: coordinates of M are weights * M[rows, columns]."""
        rows, columns = np.triu_indices(self.d)
        return rows, columns, np.where(rows == columns, 1.0, math.sqrt(2.0))

    def coordinates(self, M: Array) -> Array:
        """A symmetric matrix as a vector of the same norm."""
        rows, columns, weights = self.basis
        return M[rows, columns] * weights

    def matrix(self, coordinates: Array) -> Array:
        """The symmetric matrix with these coordinates."""
        rows, columns, weights = self.basis
        M = np.empty((self.d, self.d))
        M[rows, columns] = coordinates / weights
        M[columns, rows] = M[rows, columns]
        return M

    @cached_property
    def noise(self) -> Array:
        """sqrt(Delta) xi_k, n numbers."""
        return generator(self.seed, self.run, "noise").standard_normal(self.n) * math.sqrt(self.problem.noise_variance)

    @cached_property
    def data(self) -> Array:
        """n x d(d+1)/2, entries of variance 2/d; in single precision where double precision takes more than MOST_BYTES."""
        p = self.d * (self.d + 1) // 2
        random = generator(self.seed, self.run, "data")
        data: Array = np.empty((self.n, p), dtype="f8" if 8 * self.n * p <= MOST_BYTES else "f4")
        rows = max(CHUNK // p, 1)
        for first in range(0, self.n, rows):
            part = data[first : first + rows]
            part[:] = random.standard_normal(part.shape, dtype=np.float32)
            part *= math.sqrt(2 / self.d)
        return data

    @cached_property
    def gram(self) -> tuple[Array, Array]:
        """X^T X and X^T noise, where that is the smaller matrix."""
        data = self.data
        return data.T @ data, (data.T @ self.noise.astype(data.dtype)).astype(np.float64)

    @property
    def prefers_gram(self) -> bool:
        return self.n > self.d * (self.d + 1) // 2

    def pull(self, Z: Array) -> tuple[Array, float, float]:
        """(1/n) sum_k r_k X_k in coordinates, loss = (1/4n) sum r_k^2, in-sample error = (1/4n) sum (Tr X_k (Z - Z*))^2."""
        gap = self.coordinates(Z - self.teacher)
        if self.prefers_gram:
            gram, pulled = self.gram
            response = (gram @ gap.astype(gram.dtype)).astype(np.float64)
            clean = float(gap @ response)
            total = clean - 2 * float(gap @ pulled) + float(self.noise @ self.noise)
            return (response - pulled) / self.n, total / (4 * self.n), clean / (4 * self.n)
        data = self.data
        outputs = (data @ gap.astype(data.dtype)).astype(np.float64)
        residuals = outputs - self.noise
        force = (residuals.astype(data.dtype) @ data).astype(np.float64)
        return force / self.n, float(residuals @ residuals) / (4 * self.n), float(outputs @ outputs) / (4 * self.n)

    def objective(self, W: Array) -> tuple[float, Array]:
        """d (loss + (lambda/d) |W|^2) and its gradient, which is what the flow descends at unit speed."""
        force, loss, _ = self.pull(W @ W.T)
        decay = float(self.problem.weight_decay)
        value = self.d * loss + decay * float(np.sum(W * W))
        return value, self.d * (self.matrix(force) @ W) + 2 * decay * W

    def measured(self, W: Array, iterations: int) -> End:
        """What is observed at W."""
        Z = W @ W.T
        _, loss, clean = self.pull(Z)
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
    """Means over runs, their standard errors, and the eigenvalues of Z, one row for each run."""

    n: int
    means: dict[str, float]
    errors: dict[str, float]
    eigenvalues: Array


def ends(problem: QuadraticNetwork, d: int, runs: int, seed: int) -> Ends:
    """`end_by_lbfgs` of runs 0, 1, ..., runs - 1 >= 1 at dimension d."""
    found = [end_by_lbfgs(Instance(problem, d, run, seed)) for run in range(runs)]
    columns = {name: np.array([end.values[name] for end in found]) for name in found[0].values}
    return Ends(
        Instance(problem, d, 0, seed).n,
        {name: float(column.mean()) for name, column in columns.items()},
        {
            name: float(column.std(ddof=1)) / math.sqrt(runs) if runs > 1 else math.inf
            for name, column in columns.items()
        },
        np.array([end.eigenvalues for end in found]),
    )
