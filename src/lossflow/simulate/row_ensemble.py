"""Many runs of a model linear in the data, and the trajectory of their averages."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lossflow.checkpoint import Checkpoint
from lossflow.dynamics import (
    SGD,
    AbstractDynamics,
    GradientDescent,
    GradientFlow,
    PoissonSGD,
    StochasticGradientFlow,
)
from lossflow.errors import InvalidInput
from lossflow.keys import generator
from lossflow.memory import SHARE, available_memory, require_memory
from lossflow.problem import AbstractProblem
from lossflow.problems.row import RowProcess, require_dimension
from lossflow.simulate.outcome import ENDS, ended
from lossflow.simulate.repetition import Record, Tick, repeat
from lossflow.simulate.rows import (
    Refinement,
    RowRun,
    by_refined_steps,
    carry_out,
    is_refined,
    require_dynamics,
)
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    import numpy.typing as npt

    from lossflow.simulate.method import Simulation

    Array = npt.NDArray[np.float64]

FORMAT = 2  # of the numbers; raised when they change
KNOWN = (GradientFlow, GradientDescent, StochasticGradientFlow, PoissonSGD, SGD)
FEW_RUNS = 0.3  # standard error of a mean over runs, relative to it, beyond which few runs make it up
FINEST = 6  # halvings of the first step: the error is then 1/64 of the first one and is stated
NEGLIGIBLE = 0.3  # of the sampling error: a discretization error that is not worth another halving


def solve_rows(
    method: Simulation, problem: AbstractProblem, process: RowProcess, times: Array, dynamics: AbstractDynamics
) -> Trajectory:
    """The averages of all observables over the runs, at `times`."""
    if not isinstance(dynamics, KNOWN):
        names = ", ".join(kind.__name__ for kind in KNOWN)
        raise InvalidInput(f"Simulation of models of data knows {names}; got {dynamics!r}")
    d = require_dimension(method.sizes, process.model.columns + process.model.teacher_columns)
    order = np.argsort(times)
    require_dynamics(process, dynamics, times[order])
    X = None if method.design is None else method.design.require(d, process.delta)
    n = process.samples(d) if X is None else len(X)
    per_run = 8.0 * n * d * (1.5 if X is None else 0.5)
    require_memory(per_run, f"one run with n = {n} and d = {d}")
    _warn_of_large_steps(process, dynamics)

    def start(number: int) -> RowRun:
        if X is None:
            return RowRun(process, problem.as_sample(method.sizes, number, method.seed))
        return RowRun(process, process.sample(method.sizes, number, method.seed, design=X))

    checkpoint = Checkpoint("simulate", method.question_key(problem, times, dynamics, f"rows {FORMAT}"))
    at_most = int(SHARE * available_memory() / per_run)
    if is_refined(process, dynamics, past=times.min() < 0):
        records, discretization, step = _refined(method, process, start, times[order], dynamics, checkpoint, at_most)
    else:

        def work(number: int, tick: Tick) -> Record:
            return carry_out(start(number), dynamics, times[order], method.seed, number, method.tolerance, tick)

        found = repeat(range(method.runs), work, checkpoint, "simulating", at_most)
        records, discretization, step = [found[number] for number in range(method.runs)], {}, None
    checkpoint.discard()
    return _trajectory(method, problem, process, times, np.argsort(order), dynamics, records, discretization, step)


def _refined(
    method: Simulation,
    process: RowProcess,
    start: Any,
    times: Array,
    dynamics: AbstractDynamics,
    checkpoint: Checkpoint,
    at_most: int,
) -> tuple[list[Record], dict[str, Array], float]:
    """Runs at three steps or more, each half the one before, extrapolated to step zero; and how far the last two steps differ.

    One Brownian path for all steps of a run. The error of a step h is c h, so 2 O(h/2) - O(h) is without it.
    """
    temperature = dynamics.temperature if isinstance(dynamics, StochasticGradientFlow) else 0.0
    first = start(0)
    rate = first.fastest_rate()
    if math.isfinite(process.model.lipschitz):
        rate += temperature * process.model.lipschitz**2 * (1 + 1 / process.delta)
    grid = Refinement.of(times, rate)
    runs = method.runs

    def work(piece: int, tick: Tick) -> Record:
        level, number = divmod(piece, runs)

        def stream(purpose: str) -> np.random.Generator:
            return generator(method.seed, number, purpose)

        return by_refined_steps(start(number), temperature, grid, level, times, stream, tick)

    pieces = list(range(3 * runs))
    found: dict[int, Record] | None = None
    for finest in range(2, FINEST + 1):
        found = repeat(pieces, work, checkpoint, f"simulating, step {_longest(grid, finest):.2g}", at_most, found)
        records: list[Record] = []
        changes: list[Record] = []
        for number in range(runs):
            coarse, middle, fine = (found[(finest - k) * runs + number] for k in (2, 1, 0))
            names = [name for name in fine if name not in ENDS]
            best = {name: 2 * fine[name] - middle[name] for name in names}
            changes.append({name: best[name] - (2 * middle[name] - coarse[name]) for name in names})
            records.append(best | {name: fine[name] for name in ENDS})
        # what is left of the error in 2 O(h/2) - O(h) is of second order: a third of what the last halving changed
        discretization = {
            name: np.abs(np.mean([change[name] for change in changes], axis=0)) / 3 for name in changes[0]
        }
        if finest == FINEST or all(
            _is_negligible(discretization[name], [record[name] for record in records]) for name in discretization
        ):
            return records, discretization, _longest(grid, finest)
        pieces += [(finest + 1) * runs + number for number in range(runs)]
    raise AssertionError


def _is_negligible(discretization: Array, values: list[Array]) -> bool:
    if len(values) < 2:
        return True  # there is no sampling error to compare it with
    sampling = np.std(values, axis=0, ddof=1) / math.sqrt(len(values))
    known = np.isfinite(discretization) & np.isfinite(sampling)
    return bool((discretization <= NEGLIGIBLE * sampling + 1e-6 * np.abs(values).mean(axis=0))[known].all())


def _longest(grid: Refinement, level: int) -> float:
    return float(grid.steps.max(initial=0.0)) / 2**level


def _trajectory(
    method: Simulation,
    problem: AbstractProblem,
    process: RowProcess,
    times: Array,
    back: npt.NDArray[np.intp],
    dynamics: AbstractDynamics,
    records: list[Record],
    discretization: Mapping[str, Array],
    step: float | None,
) -> Trajectory:
    names = [name for name in records[0] if name not in ENDS]
    if missing := [name for record in records for name in record if name not in records[0]]:
        raise AssertionError(missing)
    every = {name: np.stack([record[name][back] for record in records]) for name in names}
    values = {name: np.mean(runs, axis=0) for name, runs in every.items()}
    uncertainty = {}
    for name, runs in every.items():
        square = np.zeros_like(values[name])
        if method.runs > 1:
            square += np.var(runs, axis=0, ddof=1) / method.runs
        if name in discretization:
            square += discretization[name][back] ** 2
        if isinstance(dynamics, GradientFlow) and step is None:
            square += (method.tolerance * np.abs(values[name])) ** 2
        uncertainty[name] = np.sqrt(square) if method.runs > 1 else np.where(np.isnan(square), np.nan, np.inf)
    for place in range(len(times)):
        if method.runs > 1 and np.isfinite(values["norm"][place]).all():
            for name, error in _test_uncertainty(process, values, place).items():
                uncertainty[name][place] = math.hypot(float(uncertainty[name][place]), error)
    status = ended(records, _advice(dynamics, process))
    details: dict[str, Any] = {
        "runs": every,
        "steps": np.array([int(record["steps"]) for record in records]),
        "end_times": np.array([float(record["end"]) for record in records]),
        "notes": _notes(process, dynamics, every, times),
    }
    if step is not None:
        details |= {"step": step, "discretization": {name: error[back] for name, error in discretization.items()}}
    return Trajectory(
        times=times,
        values=values,
        uncertainty=uncertainty,
        status=status,
        problem=problem,
        method=method,
        dynamics=dynamics,
        details=details,
        references=("NI26v2",),
    )


def _test_uncertainty(process: RowProcess, values: Mapping[str, Array], place: int) -> dict[str, float]:
    """Of averages over a fresh sample that are themselves sampled, by the same points in every run."""
    if process.model.columns == 1:
        return {}
    norm, cosines = values["norm"][place], values["overlap"][place]
    overlap = cosines * np.sqrt(np.outer(np.diag(norm), np.diag(process.teacher)))
    return process.model.test_uncertainty(norm, overlap, process.teacher)


def _advice(dynamics: AbstractDynamics, process: RowProcess) -> str:
    """What to do where runs diverge."""
    if dynamics.step is None and isinstance(dynamics, (StochasticGradientFlow, PoissonSGD)):
        return "lower the temperature, or ask for earlier times"
    bound = process.stability_bound()
    return f"steps below {bound:.4g} are stable" if dynamics.step is not None and bound > 0 else "ask for earlier times"


def _notes(
    process: RowProcess, dynamics: AbstractDynamics, every: Mapping[str, Array], times: Array
) -> tuple[str, ...]:
    """What a reader of the numbers should know."""
    notes = []
    if not math.isfinite(process.model.lipschitz):
        notes.append(
            "the loss is not Lipschitz, or not known to be: the theorems behind the mean-field limit do not cover it"
        )
    if "train_error" in every and process.weight_decay == 0 and process.penalty is None:
        latest = every["train_error"][:, int(np.argmax(times))]
        separated = int((latest == 0).sum())
        if separated:
            notes.append(
                f"the data are separated at the end of {separated} of {len(latest)} runs: without weight decay the norm grows "
                "for ever and there is no end state"
            )
    losses = every["loss"]
    if len(losses) > 1 and not isinstance(dynamics, (GradientFlow, GradientDescent)):
        with np.errstate(invalid="ignore", over="ignore"):
            error = losses.std(axis=0, ddof=1) / math.sqrt(len(losses))
            uncertain = error > FEW_RUNS * np.abs(losses.mean(axis=0))
        if uncertain.any():
            notes.append(
                f"from t = {times[uncertain].min():.6g} on, the mean loss rests on few of the runs (its standard error is up to "
                f"{float(np.nanmax(error[uncertain] / losses.mean(axis=0)[uncertain])):.2g} of it): the noise may be hotter than "
                "its critical temperature, where second moments grow without bound and means of runs understate them"
            )
    return tuple(notes)


def _warn_of_large_steps(process: RowProcess, dynamics: AbstractDynamics) -> None:
    bound = process.stability_bound()
    if dynamics.step is not None and bound > 0 and dynamics.step >= bound:
        warnings.warn(
            f"the step {dynamics.step:g} is not below {bound:.4g} = 2/(weight_decay + Lip (1 + delta^(-1/2))^2), up to which it "
            "is known to be stable",
            RuntimeWarning,
            stacklevel=5,
        )
