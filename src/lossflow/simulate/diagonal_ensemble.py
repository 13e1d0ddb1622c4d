"""Many runs of a diagonal linear network, and the trajectory of their averages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lossflow.checkpoint import Checkpoint
from lossflow.dynamics import AbstractDynamics, GradientDescent, GradientFlow
from lossflow.errors import InvalidInput
from lossflow.memory import SHARE, available_memory, require_memory
from lossflow.problem import AbstractProblem
from lossflow.problems.coordinate import CoordinateProcess
from lossflow.problems.row import require_dimension
from lossflow.simulate.diagonal import (
    OBSERVABLES,
    STIFF,
    DiagonalRun,
    by_descent,
    by_flow,
    stiffness,
)
from lossflow.simulate.outcome import ended
from lossflow.simulate.repetition import Record, Tick, repeat, sampled_error
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    import numpy.typing as npt

    from lossflow.simulate.method import Simulation

    Array = npt.NDArray[np.float64]

FORMAT = 2  # of the numbers; raised when they change


def solve_coordinates(
    method: Simulation, problem: AbstractProblem, process: CoordinateProcess, times: Array, dynamics: AbstractDynamics
) -> Trajectory:
    """The averages of `loss`, `mse`, `l1` and `l2` over the runs, at `times`."""
    if not isinstance(dynamics, (GradientFlow, GradientDescent)):
        raise InvalidInput(
            f"Simulation of diagonal networks knows GradientFlow() and GradientDescent(step), got {dynamics!r}"
        )
    if "sample" not in problem.languages:
        problem.as_sample(method.sizes, 0, method.seed)  # says why there is none
    d = require_dimension(method.sizes, 1)
    order = np.argsort(times)
    if isinstance(dynamics, GradientDescent):
        dynamics.updates(times[order])
    X = None if method.design is None else method.design.require(d, process.delta)
    n = process.samples(d) if X is None else len(X)
    solver = _solver(process, dynamics, float(times.max()))
    per_run = 8.0 * (n * d * (2.0 if X is None else 1.0) + (4.0 * min(n, d) ** 2 if solver == "collocation" else 0.0))
    require_memory(per_run, f"one run with n = {n} and d = {d}")

    def work(number: int, tick: Tick) -> Record:
        if X is None:
            sample = problem.as_sample(method.sizes, number, method.seed)
        else:
            sample = process.sample(method.sizes, number, method.seed, design=X)
        run = DiagonalRun(process, sample)
        if isinstance(dynamics, GradientDescent):
            return by_descent(run, dynamics, times[order], tick)
        return by_flow(run, times[order], method.tolerance, solver == "collocation", tick)

    checkpoint = Checkpoint("simulate", method.question_key(problem, times, dynamics, f"coordinates {FORMAT}"))
    at_most = int(SHARE * available_memory() / per_run)
    found = repeat(range(method.runs), work, checkpoint, "simulating", at_most)
    checkpoint.discard()
    records = [found[number] for number in range(method.runs)]
    every = {name: np.stack([record[name][np.argsort(order)] for record in records]) for name in OBSERVABLES}
    values = {name: np.mean(runs, axis=0) for name, runs in every.items()}
    left = method.tolerance if isinstance(dynamics, GradientFlow) else 0.0
    details: dict[str, Any] = {
        "runs": every,
        "solver": solver,
        "steps": np.array([int(record["steps"]) for record in records]),
        "end_times": np.array([float(record["end"]) for record in records]),
    }
    return Trajectory(
        times=times,
        values=values,
        uncertainty={name: sampled_error(runs, left) for name, runs in every.items()},
        status=ended(records, "take a smaller step"),
        problem=problem,
        method=method,
        dynamics=dynamics,
        details=details,
        references=("NI25v2",),
    )


def _solver(process: CoordinateProcess, dynamics: AbstractDynamics, last: float) -> str:
    """ "descent"; "runge-kutta" of the dual for short horizons, "collocation" for long ones."""
    if isinstance(dynamics, GradientDescent):
        return "descent"
    return "collocation" if last > 0 and stiffness(process, last) > STIFF else "runge-kutta"
