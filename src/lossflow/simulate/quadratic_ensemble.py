"""Many runs of a quadratic network at finite size, and the trajectory of their averages.

    W_{k+1} = W_k + step F(W_k),   dW/dt = F(W) = -(d/n) sum_k r_k X_k W - 2 lambda W

docs/theory/quadratic.md sections 1 and 8 [MBB26v2].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from lossflow.checkpoint import Checkpoint
from lossflow.dynamics import AbstractDynamics, GradientDescent, GradientFlow
from lossflow.errors import InvalidInput
from lossflow.memory import SHARE, available_memory, require_memory
from lossflow.problem import AbstractProblem
from lossflow.problems.matrix import MatrixProcess, coordinates
from lossflow.problems.row import require_dimension
from lossflow.simulate.ode import integrate
from lossflow.simulate.outcome import DIVERGED, Ending, ended, of_integration
from lossflow.simulate.quadratic_samples import GRAM, AllSamples, GoeSamples, Samples
from lossflow.simulate.repetition import Record, Tick, repeat, sampled_error
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    import numpy.typing as npt

    from lossflow.simulate.method import Simulation

    Array = npt.NDArray[np.float64]

FORMAT = 1  # of the numbers; raised when they change
OBSERVABLES = ("loss", "mse", "in_sample_error", "overlap")
HUGE = 1e10  # of a typical entry of W at the start, beyond which descent has diverged
FORCES_OF_A_FLOW = 1000  # how often a flow asks for its force, roughly
REPAID = 1 / 8  # of d^2/2: from so many forces on the Gram matrix saves more than it cost


class MatrixRun:
    """One run: W, d x m, moves under the push of its samples and weight decay."""

    def __init__(self, process: MatrixProcess, sample: Mapping[str, Array], gram: bool = False) -> None:
        self.start, self.teacher = sample["W"], sample["teacher"]
        self.decay = process.weight_decay
        self.samples: Samples
        if "X" in sample:
            X = sample["X"]
            self.samples = GoeSamples(X, sample["y"] - X @ coordinates(self.teacher), self.teacher, gram)
        else:
            self.samples = AllSamples(process.noise_variance, self.teacher)

    def force(self, W: Array) -> Array:
        """dW/dt."""
        return -self.samples.push(W).force - 2 * self.decay * W

    def observe(self, W: Array) -> tuple[float, ...]:
        """`OBSERVABLES` at W."""
        Z = W @ W.T
        pushed = self.samples.push(W)
        mse = float(np.sum((Z - self.teacher) ** 2)) / len(Z)
        lengths = float(np.linalg.norm(Z) * np.linalg.norm(self.teacher))
        overlap = float(np.sum(Z * self.teacher)) / lengths if lengths else 0.0
        return pushed.loss, mse, pushed.in_sample_error, overlap


def solve_matrices(
    method: Simulation, problem: AbstractProblem, process: MatrixProcess, times: Array, dynamics: AbstractDynamics
) -> Trajectory:
    """The averages of all observables over the runs, at `times`."""
    if not isinstance(dynamics, (GradientFlow, GradientDescent)):
        raise InvalidInput(f"Simulation of quadratic networks knows GradientFlow and GradientDescent, got {dynamics!r}")
    if method.design is not None or method.backend != "numpy":
        raise InvalidInput(
            f"{type(problem).__name__} is simulated with its own random matrices and by numpy: leave design=None and "
            'backend="numpy"'
        )
    d = require_dimension(method.sizes, 1)
    order = np.argsort(times)
    counts = None if isinstance(dynamics, GradientFlow) else dynamics.updates(times[order])
    finite = math.isfinite(process.alpha)
    n, p = process.samples(d) if finite else 0, d * (d + 1) // 2
    forces = FORCES_OF_A_FLOW if counts is None else int(counts[-1])
    gram = n > GRAM * p and forces >= REPAID * p
    needed = 8.0 * (n * p + (p**2 if gram else 0) + 40 * d**2)
    require_memory(needed, f"one run with n = {n} and d = {d}")

    def work(number: int, tick: Tick) -> Record:
        run = MatrixRun(process, problem.as_sample(method.sizes, number, method.seed), gram)
        if counts is None:
            return by_flow(run, times[order], method.tolerance, tick)
        assert dynamics.step is not None
        return by_descent(run, counts, dynamics.step, tick)

    checkpoint = Checkpoint("simulate", method.question_key(problem, times, dynamics, f"matrices {FORMAT}"))
    at_most = int(SHARE * available_memory() / needed)
    found = repeat(range(method.runs), work, checkpoint, "simulating", at_most)
    checkpoint.discard()
    records = [found[number] for number in range(method.runs)]
    back = np.argsort(order)
    every = {name: np.stack([record["values"][k][back] for record in records]) for k, name in enumerate(OBSERVABLES)}
    values = {name: runs.mean(axis=0) for name, runs in every.items()}
    left = method.tolerance if counts is None else 0.0
    return Trajectory(
        times=times,
        values=values,
        uncertainty={name: sampled_error(runs, left) for name, runs in every.items()},
        status=ended(records, "take smaller steps, or GradientFlow()"),
        problem=problem,
        method=method,
        dynamics=dynamics,
        details={
            "runs": every,
            "steps": np.array([int(record["steps"]) for record in records]),
            "end_times": np.array([float(record["end"]) for record in records]),
            "samples": n if finite else math.inf,
        },
        references=("MBB26v2",),
    )


def by_descent(run: MatrixRun, counts: npt.NDArray[np.int64], step: float, tick: Tick) -> Record:
    """Gradient descent, observed after `counts` updates, in increasing order."""
    W, last, ending = run.start, int(counts[-1]), Ending()
    values = np.full((len(OBSERVABLES), len(counts)), np.nan)
    largest = HUGE * math.sqrt(float(np.mean(W**2)))
    for place, count in enumerate(counts):
        while ending.steps < count:
            W = W + step * run.force(W)
            ending.steps += 1
            tick(1 / last)
            if not float(np.abs(W).max()) < largest:
                ending.stop(ending.steps * step, DIVERGED)
                return {"values": values} | ending.ends()
        values[:, place] = run.observe(W)
    return {"values": values} | ending.ends()


def by_flow(run: MatrixRun, times: Array, tolerance: float, tick: Tick) -> Record:
    """The gradient flow, forward and backward from t = 0; times in increasing order."""
    values = np.full((len(OBSERVABLES), len(times)), np.nan)
    span = max(times[-1], 0.0) - min(times[0], 0.0)
    ending = Ending()
    for sign in (1.0, -1.0):
        places = np.flatnonzero(times >= 0) if sign > 0 else np.flatnonzero(times < 0)[::-1]
        if not len(places):
            continue

        def arrived(place: int, W: Array, places: npt.NDArray[np.intp] = places) -> None:
            values[:, places[place]] = run.observe(W)

        end = integrate(
            lambda W, sign=sign: sign * run.force(W),
            run.start,
            np.abs(times[places]),
            tolerance,
            arrived,
            lambda passed: tick(passed / span),
        )
        ending.steps += end.steps
        if end.reason:
            ending.stop(sign * end.time, of_integration(end))
    return {"values": values} | ending.ends()
