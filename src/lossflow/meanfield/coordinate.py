"""The mean field of diagonal linear networks: nested grids, independent randomizations, extrapolation in the step.

    xi' = -2 g,   g_t + (1/delta) int_0^t R(t, s) g_s ds = beta_t - beta* - W_t,   W ~ GP(0, (C + sigma^2)/delta)

    Q = Q_0(N_0) + [Q_1 - Q_0](N_1) + [Q_2 - Q_1](N_2) + [Q_2 - Q_1](N_2)/3

Level j has steps h/2^j. A row costs the more the more rows there are, so most paths belong to the coarsest grid, N_0, and
fewer to what a finer one changes: the same points move nearly the same paths on both. The last term makes the values free
of the second order of the step. Between nodes they are interpolated in log(1 + t/first step).
The guess of the field that all levels share (`coordinate_field`) comes from rougher solutions, the pilots.
docs/theory/diagonal.md sections 3 and 4 [NI25v2].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lossflow.checkpoint import Checkpoint
from lossflow.dynamics import AbstractDynamics, GradientFlow
from lossflow.errors import InvalidInput
from lossflow.meanfield.answer import Answer
from lossflow.meanfield.coordinate_field import Frame, frame_of, smooth_frame
from lossflow.meanfield.coordinate_paths import Pass
from lossflow.meanfield.coordinate_schemes import Grid, Scheme, grid_of, rows_of
from lossflow.meanfield.errors import standard_error, without_crossings
from lossflow.memory import require_memory
from lossflow.problems.coordinate import CoordinateProcess
from lossflow.progress import progress
from lossflow.trajectory import COMPLETE, Status

Array = npt.NDArray[np.float64]

FORMAT = 3  # of the numbers; raised when they change
SHARES = (1.0, 1 / 16, 1 / 32)  # N_j/N_0: paths by level
LEAST = 512  # paths of every level, where N_0 is not less
# level and paths/N_0 of rougher solutions, one after the other
PILOTS = ((0, 1 / 16), (0, 1 / 8), (0, 1 / 4), (1, 1 / 16))
ROUGHEST = 1024  # paths of a pilot
CLOSER = 1 / 5  # the error of extrapolated values in units of what the last halving changed in them; third order: 1/7
INTERPOLATED = (
    1 / 8
)  # the error of interpolation in units of that with half of the nodes: fourth order, with a margin of 2
SCHEME: Scheme = "tr-bdf2"
OBSERVABLES = ("loss", "mse", "l1", "l2")


class Found(NamedTuple):
    """Of one pass: values by observable at its rows; reached: how many have them, an end of a step being the last; sweeps of all
    rows; why it ended."""

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
    taken = _paths(paths, grid.levels)
    rows = [len(rows_of(grid.level(j), SCHEME).times) for j in range(grid.levels)]
    memory = max(8.0 * count * (K**2 / 2 + 10 * K) for count, K in zip(taken, rows, strict=True))
    require_memory(memory, f"a mean-field solution of {rows[-1]} rows with {paths} paths", "take fewer paths or rows")
    passes = _all_passes(process, grid, taken, randomizations, seed, checkpoint)
    reached = _reached(passes, grid.levels)
    values, uncertainty, at_nodes = {}, {}, {}
    for name in OBSERVABLES:
        levels = [
            Level(
                rows_of(grid.level(j), SCHEME).times[: reached[j]],
                *(np.stack([one.values[name][: reached[j]] for one in passes[j, count]]) for count in counts),
            )
            for j, counts in enumerate(_counts(taken))
        ]
        values[name], uncertainty[name] = at_times(levels, times)
        at_nodes[name] = with_all_paths(levels)
    details: dict[str, Any] = {
        "rows": rows[-1],
        "paths": np.array(taken),
        "memory": memory,
        "sweeps": sum(one.sweeps for level in passes.values() for one in level),
        "node_times": grid.nodes(grid.levels - 1),
        "randomizations": at_nodes,
    }
    status = COMPLETE
    nodes = grid.nodes(grid.levels - 1)
    if reached[-1] // 2 + 1 < len(nodes):
        end = float(nodes[reached[-1] // 2])
        why = next(one.reason for _, level in sorted(passes.items(), reverse=True) for one in level if one.reason)
        reason = f"a row after t = {end:.6g} could not be solved ({why}); ask for earlier times, or raise `resolution` or `paths`"
        status = Status("stopped", end, reason)
    return Answer(values, uncertainty, status, details)


def _paths(paths: int, levels: int) -> list[int]:
    """N_j, coarsest level first: powers of two below N_0."""
    shares = SHARES[:levels]
    return [paths, *(min(paths, max(LEAST, 2 ** round(math.log2(paths * share)))) for share in shares[1:])]


def _counts(taken: Sequence[int]) -> list[tuple[int, int]]:
    """By level: the paths of its own, and those on which the next level is compared with it."""
    return list(zip(taken, [*taken[1:], taken[-1]], strict=True))


def _reached(passes: Mapping[tuple[int, int], Sequence[Found]], levels: int) -> list[int]:
    """How many rows of each level are used, coarsest first: those of the two finest that both have; of the coarsest no more."""
    counts = [
        min(one.reached for (level, _), runs in passes.items() if level == j for one in runs) for j in range(levels)
    ]
    if levels == 1:
        return counts
    middle = min(counts[-2], _half(counts[-1]))
    return [min(counts[-3], _half(middle)), middle, 2 * (middle - 1) + 1]


def _half(rows: int) -> int:
    """Rows of the coarser grid up to the same time, or before it, where a step ends."""
    return (rows - 1) // 4 * 2 + 1


def pilot(process: CoordinateProcess, grid: Grid, paths: int, seed: int) -> Frame:
    """A guess of the field for all levels, by the covariances of rougher solutions; each begins with the guess of the one before,
    and one that ends earlier than another is not used.
    """
    rows = [rows_of(grid.level(j), SCHEME) for j in range(grid.levels)]
    frame, reached = smooth_frame(rows[0].times), 0.0
    for number, (level, share) in enumerate(PILOTS):
        if level >= grid.levels:
            continue
        one = _solved(Pass(process, rows[level], frame, max(ROUGHEST, int(paths * share)), seed, number, "pilot"))
        known, time = one.k + 1, float(one.rows.times[one.k])
        if known > 2 and time >= reached * (1 - 1e-9):
            frame, reached = frame_of(one.rows.times[:known], one.C[:known, :known]), time
    return frame


def _solved(one: Pass, tick: Callable[[float], object] = lambda share: None) -> Pass:
    with np.errstate(over="ignore", invalid="ignore"):
        while one.advance():
            tick((one.k**3 - (one.k - 1) ** 3) / (one.size - 1) ** 3)
    return one


def _all_passes(
    process: CoordinateProcess, grid: Grid, taken: Sequence[int], randomizations: int, seed: int, checkpoint: Checkpoint
) -> dict[tuple[int, int], list[Found]]:
    """By level and paths, then randomization; what a checkpoint holds is not computed again."""
    from threadpoolctl import threadpool_limits

    done = _unpacked(checkpoint.load())
    kinds = sorted({(j, count) for j, counts in enumerate(_counts(taken)) for count in counts}, reverse=True)
    jobs = [(*kind, run) for kind in kinds for run in range(randomizations)]
    work = {(j, count): float(count * 4**j) for j, count in kinds}
    # one thread for the linear algebra: a product divided among threads would be rounded differently
    with progress(sum(work[j, count] for j, count, _ in jobs), "mean field") as bar, threadpool_limits(1):
        try:
            frame = (
                pilot(process, grid, taken[0], seed)
                if grid.steps.size
                else Frame(np.array([0.0, 1.0]), np.ones((2, 1)))
            )
            for j, count, run in jobs:
                if (j, count, run) not in done:
                    done[j, count, run] = one_pass(
                        process, grid, j, frame, count, seed, run, lambda share, w=work[j, count]: bar.update(w * share)
                    )
                    if checkpoint.due():
                        checkpoint.save(_packed(done))
                else:
                    bar.update(work[j, count])
        except KeyboardInterrupt:
            if done:
                checkpoint.save(_packed(done))
            raise
    checkpoint.discard()
    return {(j, count): [done[j, count, run] for run in range(randomizations)] for j, count in kinds}


def one_pass(
    process: CoordinateProcess,
    grid: Grid,
    level: int,
    frame: Frame,
    paths: int,
    seed: int,
    run: int,
    tick: Callable[[float], object] = lambda share: None,
) -> Found:
    """One level with the random numbers of one run; observables at the ends of its steps. tick: told the share just done."""
    rows = rows_of(grid.level(level), SCHEME)
    one = _solved(Pass(process, rows, frame, paths, seed, run), tick)
    values = {}
    for name, found in one.values.items():
        values[name] = np.full(one.size, np.nan)
        values[name][: len(found)] = found
    reached = one.k // rows.every * rows.every + 1
    return Found(values, reached, sum(one.sweeps), one.reason)


class Level(NamedTuple):
    """One observable on one grid: times of its rows so far, every second of which ends a step; values (randomizations, rows) on
    all its paths, and on those of the next level."""

    times: Array
    own: Array
    shared: Array


def with_all_paths(levels: Sequence[Level]) -> Array:
    """Values of each randomization at the ends of the finest steps, (randomizations, nodes): not extrapolated in the step."""
    if len(levels[-1].times) == 1:
        return levels[0].own
    nodes = levels[-1].times[::2]
    return levels[-1].own[:, ::2] + _more_paths(levels, _places(nodes, nodes), nodes)


def at_times(levels: Sequence[Level], times: Array) -> tuple[Array, Array]:
    """Values and uncertainties at `times`, NaN beyond the rows.

    levels: coarsest first; the coarsest may end early.
    """
    fine, finest = levels[-1].own[:, ::2], levels[-1].times[::2]
    inside = times <= finest[-1] * (1 + 1e-12)
    if len(finest) == 1:
        start = levels[0].own
        value, error = np.full(len(times), start[:, 0].mean()), np.full(len(times), standard_error(start)[0])
        return np.where(inside, value, np.nan), np.where(inside, error, np.nan)
    nodes, x = _places(finest, finest), _places(times, finest)
    mean = fine.mean(axis=0)
    scale = _between(nodes, mean, x)
    # one more term of the series in the step: its size at the finest level
    coarse, middle = levels[-3], levels[-2]
    corrections = (fine[:, ::2] - middle.shared[:, ::2]) / 3
    runs = np.stack([_between(nodes, run, x) for run in fine])
    runs += scale * _shares(nodes[::2], corrections, mean[::2], x) + _more_paths(levels, x, finest)
    # what extrapolation from the last two levels changes in that from the first two
    before = coarse.shared[:, ::2]
    known = before.shape[1]
    before = (middle.own[:, ::4][:, :known] - before) / 3
    change = CLOSER * without_crossings(np.abs((4 * corrections[:, ::2][:, :known] - before).mean(axis=0)))
    # where the coarsest level was not solved, the last correction itself
    left = np.append(change, np.abs(corrections.mean(axis=0))[2 * known - 1 :])
    discretization = np.interp(x, np.append(nodes[::4][:known], nodes[::2][2 * known - 1 :]), left)
    halved = INTERPOLATED * np.abs(_between(nodes[::2], mean[::2], nodes[1::2]) - mean[1::2])
    place = np.interp(times, finest, np.arange(len(finest)))
    at_node = np.abs(place - np.rint(place)) < 1e-9
    interpolation = np.where(at_node, 0.0, np.interp(x, nodes[1::2], halved))
    uncertainty = np.sqrt(standard_error(runs) ** 2 + discretization**2 + interpolation**2)
    return np.where(inside, runs.mean(axis=0), np.nan), np.where(inside, uncertainty, np.nan)


def _places(times: Array, finest: Array) -> Array:
    """Times as interpolation knows them. finest: the nodes of the finest grid."""
    return np.log1p(times / finest[1])


def _more_paths(levels: Sequence[Level], x: Array, finest: Array) -> Array:
    """What the paths of coarser levels that finer ones lack change in each randomization, at x.

    It is zero on average at all times; beyond the last row of a level its share of the value is kept constant.
    """
    total = np.zeros((len(levels[0].own), len(x)))
    scale = _between(_places(finest, finest), levels[-1].own[:, ::2].mean(axis=0), x)
    for level in levels[:-1]:
        changes = level.own - level.shared
        if changes.shape[1] > 1 and changes.any():
            places = _places(level.times, finest)
            total += scale * _shares(places, changes, level.own.mean(axis=0), np.minimum(x, places[-1]))
    return total


def _shares(nodes: Array, changes: Array, values: Array, x: Array) -> Array:
    """changes/values at x, (randomizations, times): of values that range over orders of magnitude shares are smooth in time."""
    known = values != 0
    shares = np.where(known, changes / np.where(known, values, 1.0), 0.0)
    if not known[0]:
        shares[:, 0] = shares[:, 1]  # all begins in proportion to a power of time
    return np.stack([_smooth(nodes, row, x) for row in shares])


def _between(nodes: Array, values: Array, x: Array) -> Array:
    """Interpolation; of the logarithm, beyond the first step, where all values are positive.

    What begins at zero is a power of time in the first step.
    """
    plain = _smooth(nodes, values, x)
    if len(values) < 6 or not (values[1:] > 0).all():
        return plain
    late = np.exp(_smooth(nodes[1:], np.log(values[1:]), np.maximum(x, nodes[1])))
    if values[0] == 0:
        power = np.log(values[2] / values[1]) / np.log(np.expm1(nodes[2]) / np.expm1(nodes[1]))
        plain = values[1] * (np.expm1(x) / np.expm1(nodes[1])) ** power
    return np.where(x >= nodes[1], late, plain)


def _smooth(nodes: Array, values: Array, x: Array) -> Array:
    from scipy.interpolate import CubicSpline

    return CubicSpline(nodes, values)(x)


def _packed(done: Mapping[tuple[int, int, int], Found]) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {}
    for (j, count, run), one in done.items():
        place = f"{j}/{count}/{run}"
        arrays[f"{place}/counts"] = np.array([one.reached, one.sweeps])
        arrays[f"{place}/reason"] = np.frombuffer(one.reason.encode() or b" ", np.uint8)
        arrays |= {f"{place}/{name}": array for name, array in one.values.items()}
    return arrays


def _unpacked(arrays: Mapping[str, npt.NDArray[Any]] | None) -> dict[tuple[int, int, int], Found]:
    done: dict[tuple[int, int, int], Found] = {}
    for key, array in (arrays or {}).items():
        place, _, kind = key.rpartition("/")
        if kind == "counts" and arrays is not None:
            j, count, run = map(int, place.split("/"))
            values = {name: arrays[f"{place}/{name}"] for name in OBSERVABLES}
            reason = arrays[f"{place}/reason"].astype(np.uint8).tobytes().decode().strip()
            done[j, count, run] = Found(values, int(array[0]), int(array[1]), reason)
    return done
