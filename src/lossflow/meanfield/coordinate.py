"""The mean field of diagonal linear networks: nested grids, independent randomizations, extrapolation in the step.

    xi' = -2 g,   g_t + (1/delta) int_0^t R(t, s) g_s ds = beta_t - beta* - W_t,   W ~ GP(0, (C + sigma^2)/delta)

Values at the nodes of a grid with steps h, h/2, h/4 are extrapolated as second order in the step; between nodes they are
interpolated in log(1 + t/first step).
docs/theory/diagonal.md sections 3 and 4 [NI25v2].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lossflow.checkpoint import Checkpoint
from lossflow.dynamics import AbstractDynamics, GradientFlow
from lossflow.errors import InvalidInput
from lossflow.meanfield.answer import Answer
from lossflow.meanfield.coordinate_paths import Pass
from lossflow.meanfield.coordinate_schemes import Grid, grid_of, rows_of
from lossflow.meanfield.errors import standard_error, without_crossings
from lossflow.memory import require_memory
from lossflow.problems.coordinate import CoordinateProcess
from lossflow.progress import progress
from lossflow.trajectory import COMPLETE, Status

Array = npt.NDArray[np.float64]

FORMAT = 2  # of the numbers; raised when they change
WORK = 1.5e9  # paths times rows^3/6 of the finest pass: ten seconds or so
LEAST = 512  # paths that are taken in any case
CLOSER = 1 / 3  # the error of extrapolated values in units of what the last halving changed in them
INTERPOLATED = (
    1 / 8
)  # the error of interpolation in units of that with half of the nodes: fourth order, with a margin of 2
OBSERVABLES = ("loss", "mse", "l1", "l2")


class Found(NamedTuple):
    """Of one pass at its nodes: values by observable; reached: how many nodes have values; sweeps of all rows; why it ended."""

    values: dict[str, Array]
    reached: int
    sweeps: int
    reason: str


def solve_coordinate(
    process: CoordinateProcess,
    dynamics: AbstractDynamics,
    times: Array,
    *,
    paths: int,
    resolution: int | None,
    randomizations: int,
    seed: int,
    checkpoint: Checkpoint,
) -> Answer:
    """`loss`, `mse`, `l1` and `l2` of a coordinate process at `times`, strictly monotone and >= 0.

    paths, resolution, randomizations, seed: as in `MeanField`. Raises `InvalidInput` for other dynamics than `GradientFlow`.
    """
    if not isinstance(dynamics, GradientFlow):
        raise InvalidInput(f"mean-field theory of diagonal networks knows GradientFlow() alone, got {dynamics!r}")
    if times.min() < 0:
        raise InvalidInput(f"mean-field theory runs forward in time: times must be >= 0, got {float(times.min())!r}")
    last = float(times.max())
    grid = grid_of(process, last, resolution) if last > 0 else Grid(np.zeros(0), 1)
    finest = 2 * len(grid.level(grid.levels - 1)) + 1
    taken = affordable(paths, finest)
    memory = 8.0 * taken * (finest**2 / 2 + 10 * finest)
    require_memory(memory, f"a mean-field solution of {finest} rows with {taken} paths", "take fewer paths or rows")
    passes = _all_passes(process, grid, taken, randomizations, seed, checkpoint)
    reached = _reached(passes)
    values, uncertainty = {}, {}
    for name in OBSERVABLES:
        levels = [
            np.stack([one.values[name][:count] for one in level]) for count, level in zip(reached, passes, strict=True)
        ]
        values[name], uncertainty[name] = at_times(levels, grid, times)
    details: dict[str, Any] = {
        "rows": finest,
        "paths": taken,
        "memory": memory,
        "sweeps": sum(one.sweeps for level in passes for one in level),
        "node_times": grid.nodes(grid.levels - 1),
        "randomizations": {name: np.stack([one.values[name] for one in passes[-1]]) for name in OBSERVABLES},
    }
    status = COMPLETE
    nodes = grid.nodes(grid.levels - 1)
    if reached[-1] < len(nodes):
        end = float(nodes[reached[-1] - 1])
        why = next(one.reason for level in reversed(passes) for one in level if one.reason)
        reason = f"a row after t = {end:.6g} could not be solved ({why}); ask for earlier times, or raise `resolution` or `paths`"
        status = Status("stopped", end, reason)
    return Answer(values, uncertainty, status, details)


def _reached(passes: Sequence[Sequence[Found]]) -> list[int]:
    """How many nodes of each level are used, coarsest first: those of the two finest that both have; of the coarsest no more."""
    counts = [min(one.reached for one in level) for level in passes]
    if len(counts) == 1:
        return counts
    middle = min(counts[-2], (counts[-1] - 1) // 2 + 1)
    return [min(counts[-3], (middle - 1) // 2 + 1), middle, 2 * (middle - 1) + 1]


def affordable(paths: int, rows: int) -> int:
    """How many of `paths` are taken: a power of two within `WORK`, at least `LEAST`, where not all are."""
    most = max(WORK / (rows**3 / 6), LEAST)
    return paths if paths <= most else 2 ** int(np.log2(most))


def _all_passes(
    process: CoordinateProcess, grid: Grid, paths: int, randomizations: int, seed: int, checkpoint: Checkpoint
) -> list[list[Found]]:
    """By level and randomization; what a checkpoint holds is not computed again."""
    from threadpoolctl import threadpool_limits

    done = _unpacked(checkpoint.load())
    jobs = [(j, run) for j in reversed(range(grid.levels)) for run in range(randomizations)]
    # one thread for the linear algebra: a product divided among threads would be rounded differently
    with progress(sum(float(8**j) for j, _ in jobs), "mean field") as bar, threadpool_limits(1):
        try:
            for j, run in jobs:
                if (j, run) not in done:
                    done[j, run] = one_pass(
                        process, grid, j, paths, seed, run, lambda share, j=j: bar.update(8**j * share)
                    )
                    if checkpoint.due():
                        checkpoint.save(_packed(done))
                else:
                    bar.update(float(8**j))
        except KeyboardInterrupt:
            if done:
                checkpoint.save(_packed(done))
            raise
    checkpoint.discard()
    return [[done[j, run] for run in range(randomizations)] for j in range(grid.levels)]


def one_pass(
    process: CoordinateProcess, grid: Grid, level: int, paths: int, seed: int, run: int, tick: Any = lambda share: None
) -> Found:
    """One level with the random numbers of one run; observables at the ends of its steps. tick: told the share just done."""
    rows = rows_of(grid.level(level), "tr-bdf2")
    one = Pass(process, rows, paths, seed, run)
    with np.errstate(over="ignore", invalid="ignore"):
        while one.advance():
            tick((one.k**3 - (one.k - 1) ** 3) / (one.size - 1) ** 3)
    values = {}
    nodes = 0
    for name, found in one.values.items():
        array = np.full(one.size, np.nan)
        array[: len(found)] = found
        values[name] = array[:: rows.every]
        nodes = (len(found) - 1) // rows.every + 1
    return Found(values, nodes, sum(one.sweeps), one.reason)


def at_times(levels: list[Array], grid: Grid, times: Array) -> tuple[Array, Array]:
    """Values and uncertainties at `times`, NaN beyond the nodes.

    levels: the values of each level, coarsest first, (randomizations, nodes of that level so far); the coarsest may end early.
    """
    fine = levels[-1]
    finest = grid.nodes(grid.levels - 1)[: fine.shape[1]]
    place = np.interp(times, finest, np.arange(len(finest)))
    inside = times <= finest[-1] * (1 + 1e-12)
    if len(finest) == 1:
        value, error = np.full(len(times), fine[:, 0].mean()), np.full(len(times), standard_error(fine)[0])
        return np.where(inside, value, np.nan), np.where(inside, error, np.nan)
    nodes, x = np.log1p(finest / finest[1]), np.log1p(times / finest[1])
    # one more term of the series in the step: its size at the finest level
    corrections = (fine[:, ::2] - levels[-2]) / 3
    runs = np.stack(
        [_between(nodes, run, x) + _smooth(nodes[::2], row, x) for run, row in zip(fine, corrections, strict=True)]
    )
    known = levels[-3].shape[1]
    before = (levels[-2][:, ::2][:, :known] - levels[-3]) / 3
    better, worse = (fine[:, ::4] + corrections[:, ::2])[:, :known], levels[-2][:, ::2][:, :known] + before
    change = CLOSER * without_crossings(np.abs((better - worse).mean(axis=0)))
    # where the coarsest level was not solved, the last correction itself
    left = np.append(change, np.abs(corrections.mean(axis=0))[2 * known - 1 :])
    discretization = np.interp(x, np.append(nodes[::4][:known], nodes[::2][2 * known - 1 :]), left)
    mean = fine.mean(axis=0)
    halved = INTERPOLATED * np.abs(_between(nodes[::2], mean[::2], nodes[1::2]) - mean[1::2])
    at_node = np.abs(place - np.rint(place)) < 1e-9
    interpolation = np.where(at_node, 0.0, np.interp(x, nodes[1::2], halved))
    uncertainty = np.sqrt(standard_error(runs) ** 2 + discretization**2 + interpolation**2)
    return np.where(inside, runs.mean(axis=0), np.nan), np.where(inside, uncertainty, np.nan)


def _between(nodes: Array, values: Array, x: Array) -> Array:
    """Interpolation; of the logarithm, beyond the first step, where all values are positive."""
    plain = _smooth(nodes, values, x)
    if len(values) < 6 or not (values[1:] > 0).all():
        return plain
    late = np.exp(_smooth(nodes[1:], np.log(values[1:]), np.maximum(x, nodes[1])))
    return np.where(x >= nodes[1], late, plain)


def _smooth(nodes: Array, values: Array, x: Array) -> Array:
    from scipy.interpolate import CubicSpline

    return CubicSpline(nodes, values)(x)


def _packed(done: Mapping[tuple[int, int], Found]) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {}
    for (j, run), one in done.items():
        arrays[f"{j}/{run}/counts"] = np.array([one.reached, one.sweeps])
        arrays[f"{j}/{run}/reason"] = np.frombuffer(one.reason.encode() or b" ", np.uint8)
        arrays |= {f"{j}/{run}/{name}": array for name, array in one.values.items()}
    return arrays


def _unpacked(arrays: Mapping[str, npt.NDArray[Any]] | None) -> dict[tuple[int, int], Found]:
    done: dict[tuple[int, int], Found] = {}
    for key, array in (arrays or {}).items():
        j, run, kind = key.split("/")
        if kind == "counts" and arrays is not None:
            place = f"{j}/{run}"
            values = {name: arrays[f"{place}/{name}"] for name in OBSERVABLES}
            reason = arrays[f"{place}/reason"].astype(np.uint8).tobytes().decode().strip()
            done[int(j), int(run)] = Found(values, int(array[0]), int(array[1]), reason)
    return done
