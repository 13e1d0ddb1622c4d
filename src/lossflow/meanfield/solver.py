"""From one causal pass to an answer: grids, independent randomizations, extrapolation, checkpoints, and what must be said."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lossflow.checkpoint import Checkpoint
from lossflow.dynamics import AbstractDynamics, GradientDescent, GradientFlow, StochasticGradientFlow
from lossflow.errors import InvalidInput
from lossflow.meanfield import grid as grids
from lossflow.meanfield.answer import Answer
from lossflow.meanfield.errors import Estimate, estimate
from lossflow.meanfield.grid import Grid
from lossflow.meanfield.row import Pass, Plan, RowPass, spread
from lossflow.memory import require_memory
from lossflow.problems.row import RowProcess
from lossflow.progress import progress
from lossflow.trajectory import COMPLETE, Status

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

WORK = 3e10  # multiply-adds of one pass that exact tangents may take, some seconds; beyond it probes do
USUAL = 1e9  # that they take where that buys more than `LEAST` paths: a fraction of what all the rest takes
CALM = 0.25  # of `USUAL` for deterministic dynamics, whose tangents differ little between paths
LEAST = 1024  # paths with exact tangents, below which their average is biased


def solve_row(
    process: RowProcess,
    dynamics: AbstractDynamics,
    times: Array,
    *,
    paths: int,
    resolution: int | None,
    randomizations: int,
    seed: int,
    checkpoint: Checkpoint,
) -> Answer:
    """The observables of a row process at `times`, strictly monotone and >= 0.

    paths, resolution, randomizations, seed: as in `MeanField`; checkpoint: where finished passes are kept until all are made.
    """
    order = slice(None) if times[0] <= times[-1] else slice(None, None, -1)
    grid = grid_of(process, dynamics, times[order], resolution)
    if process.penalty is not None and process.model.columns > 1:
        raise InvalidInput("penalties besides weight decay are known for one column of weights only")
    plan = plan_for(process, dynamics, grid.finest, paths)
    memory = bytes_of(process, dynamics, grid.finest, plan)
    what = f"a mean-field solution of {grid.finest} steps with {paths} paths"
    require_memory(memory, what, "take fewer paths, times nearer to 0 or a coarser resolution")
    passes = _all_passes(process, dynamics, grid, plan, randomizations, seed, checkpoint)
    reached = min(p.reached // 2**j for j, level in enumerate(passes) for p in level)
    known = int(np.searchsorted(grid.nodes, reached, side="right"))
    estimates = {
        name: estimate([np.stack([p.values[name][:known] for p in level]) for level in passes])
        for name in (passes[0][0].values if known else ())
    }
    integrals = {
        name: np.mean([p.integrals[name][:known] for p in passes[-1]], axis=0) for name in passes[0][0].integrals
    }
    values, uncertainty = _at_times(estimates, integrals, grid, times[order])
    status = _status(process, dynamics, grid, reached, passes)
    details = _details(grid, passes[-1], estimates, plan, memory)
    return Answer(
        {k: v[order] for k, v in values.items()}, {k: v[order] for k, v in uncertainty.items()}, status, details
    )


def grid_of(process: RowProcess, dynamics: AbstractDynamics, times: Array, resolution: int | None) -> Grid:
    """The steps to make for `times`, increasing."""
    if times[0] < 0:
        raise InvalidInput(f"mean-field theory runs forward in time: times must be >= 0, got {float(times[0])!r}")
    bound = process.stability_bound()
    if dynamics.step is not None:
        if resolution is not None:
            raise InvalidInput(
                f"{dynamics!r} has its own step and is followed exactly; resolution is for flows, got {resolution}: leave it None"
            )
        if dynamics.step >= bound > 0:
            warnings.warn(
                f"the step {dynamics.step:g} is not below 2/(weight_decay + Lip (1 + delta^(-1/2))^2) = {bound:.4g}, up to which "
                "descent is stable: the loss may oscillate or grow",
                RuntimeWarning,
                stacklevel=5,
            )
        return grids.discrete(dynamics.step, dynamics.updates(times))
    rate = 2 / bound if bound > 0 else 10.0  # no bound is known: what is usual, to be refined by `resolution`
    return grids.flow(times, rate, resolution, growing=isinstance(dynamics, GradientFlow))


def plan_for(process: RowProcess, dynamics: AbstractDynamics, steps: int, paths: int) -> Plan:
    """Exact tangents of `LEAST` paths as far as `WORK` goes, then probes, which scatter two to five times as much at equal cost;
    of more paths, a power of two, where these are cheap. Rows take turns with the paths, so few are enough."""
    one = (steps * process.model.columns) ** 3 / 6
    least = min(LEAST, paths // 2)
    if one * least > WORK:
        return Plan(paths, 0)
    usual = CALM * USUAL if isinstance(dynamics, GradientFlow | GradientDescent) else USUAL
    wanted = max(usual / one, least)
    return Plan(paths, paths if wanted >= paths else 2 ** int(math.log2(wanted)))


def bytes_of(process: RowProcess, dynamics: AbstractDynamics, steps: int, plan: Plan) -> float:
    """Memory of one pass at its peak."""
    m, noisy = process.model.columns, not isinstance(dynamics, GradientFlow | GradientDescent)
    rows = steps * m  # pushes
    rows += 2 * steps * m if noisy else 64  # innovations, while they are copied to a larger place
    rows += steps if isinstance(dynamics, StochasticGradientFlow) else 0
    rows += steps * m * m + 64 if plan.tangents else 3 * steps * m
    rows += 4 * steps if process.penalty is not None else 0
    rows += 2 * sum(spread(process, dynamics, steps))
    kernels = 5 * (steps * m) ** 2
    return 8.0 * (plan.paths * (rows + 40 * m * m) + kernels)


def _all_passes(
    process: RowProcess,
    dynamics: AbstractDynamics,
    grid: Grid,
    plan: Plan,
    randomizations: int,
    seed: int,
    checkpoint: Checkpoint,
) -> list[list[Pass]]:
    """By level and randomization; what a checkpoint holds is not computed again."""
    from threadpoolctl import threadpool_limits

    done = _unpacked(checkpoint.load())
    jobs = [(j, run) for j in reversed(range(grid.levels)) for run in range(randomizations)]
    costs = {j: float(4**j) for j in range(grid.levels)}
    # one thread for the linear algebra: a product divided among threads would be rounded differently
    with progress(sum(costs[j] for j, _ in jobs), "mean field") as bar, threadpool_limits(1):
        try:
            for job in jobs:
                if job in done:
                    bar.update(costs[job[0]])
                    continue
                steps, nodes = grid.level(job[0])
                one = RowPass(process, dynamics, steps, nodes, plan, seed, job[1])
                total = int(nodes[-1]) or 1
                while one.advance():
                    bar.update(costs[job[0]] * (2 * one.reached - 1) / total**2)
                done[job] = one.result()
                if checkpoint.due():
                    checkpoint.save(_packed(done))
        except KeyboardInterrupt:
            if done:
                checkpoint.save(_packed(done))
            raise
    checkpoint.discard()
    return [[done[j, run] for run in range(randomizations)] for j in range(grid.levels)]


def _packed(done: Mapping[tuple[int, int], Pass]) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {}
    for (j, run), one in done.items():
        place = f"{j}/{run}"
        arrays[f"{place}/pass"] = np.array([one.reached, one.consistency])
        arrays |= {f"{place}/values/{name}": array for name, array in one.values.items()}
        arrays |= {f"{place}/integrals/{name}": array for name, array in one.integrals.items()}
        arrays |= {f"{place}/kernels/{name}": array for name, array in one.kernels.items()}
    return arrays


def _unpacked(arrays: Mapping[str, npt.NDArray[Any]] | None) -> dict[tuple[int, int], Pass]:
    done: dict[tuple[int, int], Pass] = {}
    for name, array in (arrays or {}).items():
        j, run, kind = name.split("/")[:3]
        if kind == "pass":
            groups: dict[str, dict[str, Array]] = {"values": {}, "integrals": {}, "kernels": {}}
            for group, found in groups.items():
                prefix = f"{j}/{run}/{group}/"
                found |= {k.removeprefix(prefix): v for k, v in (arrays or {}).items() if k.startswith(prefix)}
            done[int(j), int(run)] = Pass(
                groups["values"], groups["integrals"], int(array[0]), groups["kernels"], float(array[1])
            )
    return done


def _at_times(
    estimates: Mapping[str, Estimate], integrals: Mapping[str, Array], grid: Grid, times: Array
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Values and uncertainty at the requested times, NaN where the process did not get."""
    values, uncertainty = {}, {}
    for name, found in estimates.items():
        value, error = found.value, np.hypot(found.uncertainty, integrals.get(name, 0.0))
        if not grid.exact:
            value, error = _interpolated(grid.times[: len(value)], value, error, times)
        if len(value) < len(times):
            missing = np.full((len(times) - len(value), *value.shape[1:]), np.nan)
            value, error = np.concatenate([value, missing]), np.concatenate([error, missing])
        values[name], uncertainty[name] = value, error
    return values, uncertainty


def _interpolated(nodes: Array, value: Array, error: Array, times: Array) -> tuple[Array, Array]:
    """Cubic splines through the nodes; a quarter of the difference from the spline through every second node is the error."""
    from scipy.interpolate import CubicSpline

    times = times[times <= nodes[-1] * (1 + 1e-12)]
    if len(nodes) < 8:
        raise InvalidInput("too few steps to interpolate between them; ask for fewer times or a finer resolution")
    fine = CubicSpline(nodes, value)(times)
    every = np.unique(np.append(np.arange(0, len(nodes), 2), len(nodes) - 1))
    coarse = CubicSpline(nodes[every], value[every])(times)
    sampled = np.array([np.interp(times, nodes, column) for column in error.reshape(len(nodes), -1).T]).T
    return fine, np.hypot(sampled.reshape(fine.shape), np.abs(fine - coarse) / 4)


def _status(
    process: RowProcess, dynamics: AbstractDynamics, grid: Grid, reached: int, passes: list[list[Pass]]
) -> Status:
    said = []
    if math.isinf(process.model.lipschitz):
        said.append("no bound of the curvature of this loss is known, and the theorems behind the limit need one")
    if never_fits(process):
        said.append("the labels are separable and nothing holds the weights: their norm grows without bound")
    if reached >= grid.nodes[-1]:
        return Status("complete", None, "; ".join([COMPLETE.reason, *said]))
    last = float(np.append(0.0, np.cumsum(grid.steps))[reached])
    reason = f"the weights leave every scale of the problem after t = {last:.6g}; ask for earlier times or take smaller steps"
    return Status("left_domain", last, "; ".join([reason, *said]))


def never_fits(process: RowProcess) -> bool:
    """Whether the weights run away: no weight decay, a loss that falls forever along the label, and separable labels.

    Separable at n/d = delta:  min_t E (Z - t V)_+^2 < 1/delta,  Z ~ N(0, 1),  V = y r*  (one column, labels +-1).
    """
    model = process.model
    if process.weight_decay or process.penalty is not None or model.columns > 1 or model.teacher_columns > 1:
        return False
    from scipy.special import ndtr, ndtri

    points = (np.arange(4096) + 0.5) / 4096
    teacher = np.sqrt(process.teacher[0, 0]) * ndtri(points)
    noise = np.tile(np.asarray(np.arange(4096) * 0.6180339887498949 % 1.0, np.float64), (model.noise_columns, 1))
    y = model.labels(teacher[None], noise)
    if model.errors(np.ones((1, 1)), np.ones(1)) is None or not np.isin(y, (-1.0, 1.0)).all():
        return False
    far = 30 * np.array([[1.0, -1.0]])
    if (model.gradient(far, far[0] / 30) * far > 0).any():
        return False  # a loss that rises again holds the weights
    margin = y * teacher
    scales = np.append(0.0, np.geomspace(1e-3, 1e4, 400))[:, None] * margin
    squares = (1 + scales**2) * ndtr(-scales) - scales * np.exp(-0.5 * scales**2) / np.sqrt(2 * np.pi)
    return bool(squares.mean(axis=1).min() < 1 / process.delta)


def _details(
    grid: Grid, finest: list[Pass], estimates: Mapping[str, Estimate], plan: Plan, memory: float
) -> dict[str, Any]:
    details: dict[str, Any] = {
        "route": "causal pass",
        "randomizations": {name: found.runs for name, found in estimates.items()},
        "randomization_times": grid.times[: len(next(iter(estimates.values())).runs[0])] if estimates else np.zeros(0),
        "steps": grid.finest,
        "tangents": plan.tangents,
        "memory": memory,
        "consistency": max(one.consistency for one in finest),
    }
    for name in finest[0].kernels:
        arrays = [one.kernels[name] for one in finest if name in one.kernels]
        size = min(len(array) for array in arrays)
        cut = (slice(size),) if arrays[0].ndim == 1 else (slice(size), slice(size))
        details[name] = np.mean([array[cut] for array in arrays], axis=0)
    return details
