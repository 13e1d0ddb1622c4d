"""Quadratic networks of extensive width in the large-size limit: one causal pass of the matrix process at finite dimension.

    W_{n+1} = W_n + eta [G_n - 2 sum_{j<=n} R_l(n, j) (Z_j - Z*) - 2 lambda] W_n,   R_l = (1 + R_Z/alpha)^{-1}

G is Gaussian with the covariance R_l (2 C + Delta) R_l^T/alpha of GOE matrices. Row n of every kernel follows from
rows before it. Two matrices with the Gaussian parts G and -G share the kernels, so that what is odd in G averages out. R_Z is
estimated from random directions, probes, half of them on each matrix. Its noise would add its square to C_r, from which the
loss follows: that square is known from the difference of the two halves, and is taken off.
The flow is descent on three nested grids, extrapolated; that of all samples, alpha = inf, is known in closed form.
docs/theory/quadratic.md sections 2 and 3 [MBB26v2].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lossflow.checkpoint import Checkpoint
from lossflow.dynamics import AbstractDynamics, GradientDescent, GradientFlow
from lossflow.errors import InvalidInput
from lossflow.keys import generator
from lossflow.laws.population_flow import population_flow
from lossflow.meanfield import grid as grids
from lossflow.meanfield.answer import Answer
from lossflow.meanfield.errors import estimate, standard_error
from lossflow.meanfield.grid import Grid
from lossflow.meanfield.kernels import resolvent_row
from lossflow.memory import require_memory
from lossflow.problems.matrix import MatrixProcess
from lossflow.progress import progress
from lossflow.trajectory import COMPLETE, Status

if TYPE_CHECKING:
    import numpy.typing as npt

    from lossflow.meanfield.method import MeanField

    Array = npt.NDArray[np.float64]

DROPPED = 1e-9  # of the norm of a matrix: what is left of it beyond the span of earlier ones is rounding
USUAL = 120  # the dimension, where none is asked for
PATHS_PER_PROBE = 1024
FORMAT = 2  # of the checkpoint and of the numbers; raised when either changes
RESOLVED = 1e-10  # relative error of the averages of the population flow
OBSERVABLES = ("loss", "mse", "in_sample_error", "overlap")
KERNELS = ("correlation", "response", "force_correlation")
LOST = 1e12  # of the norm of Z, beyond which the process has left every scale


class MatrixPass(NamedTuple):
    """values: by observable, at each time k step, shape (reached + 1,). correlation: C(k, l); response: R_Z(k, l);
    force_correlation: C_r(k, l). reached: how many updates were made before the process left every scale, or all of them."""

    values: dict[str, Array]
    correlation: Array
    response: Array
    force_correlation: Array
    reached: int


def matrix_pass(
    process: MatrixProcess,
    step: float | Array,
    updates: int,
    d: int,
    *,
    probes: int = 4,
    seed: int = 0,
    run: int = 0,
    responding: bool = True,
) -> MatrixPass:
    """Gradient descent by mean field at dimension d, for `updates` steps of size `step`, one for all or one for each.

    process: of which network; its alpha is n/d^2 with the n of the experiment. probes: random directions on
    each of the two matrices, from which the response is estimated. seed, run: of teacher, start and all noise.
    responding: False leaves R_Z out, which is wrong on purpose. `loss` and C_r are free of the square of the noise of the
    probes; where that is larger than what is left, at small d and late times, a single pass can give a negative number.
    docs/theory/quadratic.md section 3 [MBB26v2].
    """
    sign, steps = np.array([1.0, -1.0]), np.broadcast_to(np.asarray(step, np.float64), (updates,))
    teacher, start = process.teacher(d, run, seed), process.start(d, run, seed)
    rows, columns = np.triu_indices(d)
    weights = np.where(rows == columns, 1.0, math.sqrt(2.0))
    p = len(rows)

    def packed(M: Array) -> Array:
        return M[..., rows, columns] * weights

    def unpacked(x: Array) -> Array:
        M = np.empty((*x.shape[:-1], d, d))
        M[..., rows, columns] = x / weights
        M[..., columns, rows] = M[..., rows, columns]
        return M

    noise, directions = generator(seed, run, "matrix noise"), generator(seed, run, "matrix probes")
    finite = math.isfinite(process.alpha)
    probed = 2 * probes if finite and responding else 0
    goe = math.sqrt(2 / d)
    # probes of one length and orthogonal over time: what others leave in each estimate has a third of its variance
    length = goe * math.sqrt(p)
    fixed = noise.standard_normal(p) * goe * math.sqrt(process.noise_variance)
    W = np.stack([start, start])
    tangent = np.zeros((probed, *start.shape))
    side = np.arange(probed) % 2
    moved = np.zeros((probed, updates + 1, p), np.float32)
    pushed = np.zeros((probed, updates + 1, p), np.float32)
    basis, gaussian, rank = np.zeros((8, 2 * p)), np.zeros((8, p)), 0
    coefficients = np.zeros((updates + 1, 8))
    response, resolvent, doubt = (np.zeros((updates + 1, updates + 1)) for _ in range(3))
    forces, doubted, doubtful = (np.zeros((updates + 1, 8)) for _ in range(3))
    static, static_doubted, static_doubtful = (np.zeros(updates + 1) for _ in range(3))
    found: list[tuple[float, ...]] = []
    z_star = packed(teacher)
    n = 0
    for n in range(updates + 1):
        Z = W @ W.transpose(0, 2, 1)
        z = packed(Z)
        if not (np.isfinite(z).all() and float(np.abs(z).max()) < LOST):
            n -= 1
            break
        vector = ((z - z_star) / math.sqrt(2)).ravel()
        rest, c = vector.copy(), np.zeros(rank)
        for _ in range(2):
            part = basis[:rank] @ rest
            rest -= part @ basis[:rank]
            c += part
        left = float(np.linalg.norm(rest))
        if left > DROPPED * float(np.linalg.norm(vector)):
            if rank == len(basis):
                basis, gaussian = (np.pad(old, ((0, rank), (0, 0))) for old in (basis, gaussian))
                coefficients, forces, doubted, doubtful = (
                    np.pad(old, ((0, 0), (0, rank))) for old in (coefficients, forces, doubted, doubtful)
                )
            basis[rank] = rest / left
            gaussian[rank] = noise.standard_normal(p) * goe
            rank += 1
            c = np.append(c, left)
        coefficients[n, : len(c)] = c
        for q in range(probed):
            change = tangent[q] @ W[side[q]].T
            moved[q, n] = packed(change + change.T)
            seen = (pushed[q, :n] @ moved[q, n]) / (d * probed)
            response[n, :n] += seen
            doubt[n, :n] += sign[side[q]] * seen
        row = resolvent_row(response[n, : n + 1], resolvent, process.alpha) if finite else np.eye(n + 1)[n]
        resolvent[n, : n + 1] = row
        forces[n] = row @ coefficients[: n + 1]
        static[n] = row.sum()
        # R_l R_D R_l, where R_D is half of the difference of two estimates of R_Z: as large as the error of their mean
        doubted[n], static_doubted[n] = doubt[n, :n] @ forces[:n], doubt[n, :n] @ static[:n]
        doubtful[n], static_doubtful[n] = row @ doubted[: n + 1], row @ static_doubted[: n + 1]
        square = 2 * (forces[n] @ forces[n] - doubtful[n] @ doubtful[n] / process.alpha**2) / d
        square += process.noise_variance * (static[n] ** 2 - static_doubtful[n] ** 2 / process.alpha**2)
        if not finite:
            square = 2 * float(vector @ vector) / d + process.noise_variance
        clean = square + process.noise_variance * (1 - 2 * static[n])
        cosine = np.mean(z @ z_star / np.linalg.norm(z, axis=1)) / np.linalg.norm(z_star)
        found.append((square / 4, float(vector @ vector) / d, clean / 4, float(cosine)))
        if n == updates:
            break
        force = (-2 * math.sqrt(2) * (forces[n, :rank] @ basis[:rank])).reshape(2, p)
        if finite:
            random = forces[n, :rank] @ gaussian[:rank] * math.sqrt(2 / d) + static[n] * fixed
            force = force + sign[:, None] * random / math.sqrt(process.alpha)
        B = unpacked(force) - 2 * process.weight_decay * np.eye(d)
        for q in range(probed):
            push = directions.standard_normal(p).astype(np.float32)
            earlier = pushed[q, max(n - p // 2, 0) : n]
            push -= ((earlier @ push) @ earlier) / length**2
            push *= length / float(np.linalg.norm(push))
            pushed[q, n] = push
            changed = unpacked((push - 2 * (row.astype(np.float32) @ moved[q, : n + 1])).astype(np.float64))
            tangent[q] = tangent[q] + steps[n] * (B[side[q]] @ tangent[q] + changed @ W[side[q]])
        W = W + steps[n] * (B @ W)
    reached = max(n, 0)
    kept = slice(0, reached + 1)
    known = coefficients[kept]
    values = {name: np.array(column) for name, column in zip(OBSERVABLES, zip(*found, strict=True), strict=True)}
    pulled = 2 * forces[kept] @ forces[kept].T / d + process.noise_variance * np.outer(static[kept], static[kept])
    pulled -= 2 * doubtful[kept] @ doubtful[kept].T / (d * process.alpha**2)
    pulled -= process.noise_variance * np.outer(static_doubtful[kept], static_doubtful[kept]) / process.alpha**2
    return MatrixPass(values, known @ known.T / d, response[kept, kept], pulled, reached)


def solve_matrix(
    method: MeanField, process: MatrixProcess, times: Array, dynamics: AbstractDynamics, checkpoint: Checkpoint
) -> Answer:
    """The population flow in closed form; else averages over independent passes at dimension d with n = round(alpha d^2).

    Run r of a pass has the teacher and the start of run r of `Simulation({"d": d})` of the same seed. The error is the scatter
    of the passes, for flows that of the extrapolation in the step, and the difference from dimension d/2, which is that from
    infinity if it falls as 1/d.
    """
    if not isinstance(dynamics, (GradientFlow, GradientDescent)):
        raise InvalidInput(
            f"mean-field theory of quadratic networks knows GradientFlow and GradientDescent, got {dynamics!r}"
        )
    if times.min() < 0:
        raise InvalidInput(f"mean-field theory runs forward in time: times must be >= 0, got {float(times.min())!r}")
    d = USUAL if method.dimension is None else method.dimension
    if d < 2:
        raise InvalidInput(f"MeanField.dimension must be at least 2 for a matrix process, got {d}")
    if isinstance(dynamics, GradientDescent) and method.resolution is not None:
        raise InvalidInput(
            f"{dynamics!r} has its own step; resolution is for flows, got {method.resolution}: leave it None"
        )
    if isinstance(dynamics, GradientFlow) and math.isinf(process.alpha):
        return population_answer(process, times)
    order = np.argsort(times)
    answer = by_passes(method, process, times[order], dynamics, d, checkpoint)
    back = np.argsort(order)
    return answer._replace(
        values={name: array[back] for name, array in answer.values.items()},
        uncertainty={name: array[back] for name, array in answer.uncertainty.items()},
    )


def population_answer(process: MatrixProcess, times: Array) -> Answer:
    """alpha = inf: the flow dW/dt = 2 (Z* - lambda - W W^T) W, averaged at d -> inf."""
    found = population_flow(
        process.kappa, process.kappa_star, process.weight_decay, process.init_variance, np.sort(times)
    )
    back = np.argsort(np.argsort(times))
    mse, overlap = found["mse"][back], found["overlap"][back]
    values = {
        "loss": mse / 2 + process.noise_variance / 4,
        "mse": mse,
        "in_sample_error": mse / 2,
        "overlap": overlap,
    }
    uncertainty = {name: RESOLVED * np.abs(array) for name, array in values.items()}
    return Answer(values, uncertainty, COMPLETE, {"route": "closed form"})


def grid_of(process: MatrixProcess, times: Array, dynamics: AbstractDynamics, resolution: int | None) -> Grid:
    """The steps to make for `times`, increasing."""
    if isinstance(dynamics, GradientDescent):
        return grids.discrete(dynamics.step, dynamics.updates(times))
    # steps of descent were seen to be stable up to 2 over two thirds of this rate
    top = max(process.init_variance * (1 + process.kappa**-0.5) ** 2, (1 + process.kappa_star**-0.5) ** 2)
    rate = 3 * top * (1 + (2 * process.alpha) ** -0.5) + 2 * process.weight_decay
    return grids.flow(times, rate, resolution, growing=True)


def by_passes(
    method: MeanField,
    process: MatrixProcess,
    times: Array,
    dynamics: AbstractDynamics,
    d: int,
    checkpoint: Checkpoint,
) -> Answer:
    """Passes at dimension d on every level of the grid and, on the coarsest, at dimension d/2; times increasing."""
    grid = grid_of(process, times, dynamics, method.resolution)
    finest, probes = int(grid.level(grid.levels - 1)[1][-1]), max(1, method.paths // PATHS_PER_PROBE // 2)
    memory = 8.0 * (finest + 1) * (probes * d * (d + 1) + 12 * (finest + 1) + 2 * d * (d + 1))
    require_memory(
        memory, f"a matrix process of {finest} steps at d = {d}", "take a smaller dimension or earlier times"
    )
    half = max(d // 2, 1)
    jobs = [(j, d) for j in range(grid.levels)] + [(0, half)]
    passes = _all_passes(method, process, grid, jobs, probes, checkpoint)
    nodes = grid.nodes
    reached = min(one.reached >> j for (j, _), several in zip(jobs, passes, strict=True) for one in several)
    known = int(np.searchsorted(nodes, reached, side="right"))
    values, uncertainty, runs = {}, {}, {}
    inside = times <= grid.times[known - 1] * (1 + 1e-12) if known else np.zeros(len(times), bool)
    for name in passes[0][0].values:
        levels = [
            np.stack([one.values[name][nodes[:known] << j] for one in several])
            for (j, _), several in zip(jobs, passes, strict=True)
        ]
        found, small = estimate(levels[:-1]), levels[-1]
        gap = np.abs(levels[0].mean(axis=0) - small.mean(axis=0))
        error = np.sqrt(found.uncertainty**2 + standard_error(small) ** 2 + gap**2)
        value, runs[name] = found.value, found.runs
        if not grid.exact:
            value, error = interpolated(grid.times[:known], value, error, times[inside])
        values[name], uncertainty[name] = (np.full(len(times), np.nan) for _ in range(2))
        values[name][inside], uncertainty[name][inside] = value, error
    status = COMPLETE
    if reached < nodes[-1]:
        last = float(np.append(0.0, np.cumsum(grid.steps))[reached])
        reason = (
            f"the weights leave every scale of the problem after t = {last:.6g}; take smaller steps or earlier times"
        )
        status = Status("left_domain", last, reason)
    large = passes[grid.levels - 1]
    kept = min(one.reached for one in large) + 1
    kernels = {name: np.mean([getattr(one, name)[:kept, :kept] for one in large], axis=0) for name in KERNELS}
    details = {
        "route": "matrix process",
        "dimension": d,
        "steps": finest,
        "memory": memory,
        "randomizations": runs,
        "randomization_times": grid.times[:known],
        "kernel_times": np.append(0.0, np.cumsum(grid.level(grid.levels - 1)[0]))[:kept],
        **kernels,
    }
    return Answer(values, uncertainty, status, details)


def _all_passes(
    method: MeanField,
    process: MatrixProcess,
    grid: Grid,
    jobs: list[tuple[int, int]],
    probes: int,
    checkpoint: Checkpoint,
) -> list[list[MatrixPass]]:
    """For each level and dimension of `jobs` all randomizations; what a checkpoint holds is not computed again."""
    from threadpoolctl import threadpool_limits

    done = _unpacked(checkpoint.load())
    costs = [4.0**j * (size / jobs[0][1]) ** 2 for j, size in jobs]
    # one thread for the linear algebra: a product divided among threads would be rounded differently
    with progress(sum(costs) * method.randomizations, "mean field") as bar, threadpool_limits(1):
        try:
            for place, (j, size) in enumerate(jobs):
                steps, nodes = grid.level(j)
                sized = process
                if math.isfinite(process.alpha):
                    sized = replace(process, alpha=process.samples(size) / size**2)
                for run in range(method.randomizations):
                    if (place, run) not in done:
                        done[place, run] = matrix_pass(
                            sized, steps[: nodes[-1]], int(nodes[-1]), size, probes=probes, seed=method.seed, run=run
                        )
                    bar.update(costs[place])
                    if checkpoint.due():
                        checkpoint.save(_packed(done))
        except KeyboardInterrupt:
            checkpoint.save(_packed(done))
            raise
    checkpoint.discard()
    return [[done[place, run] for run in range(method.randomizations)] for place in range(len(jobs))]


def interpolated(nodes: Array, value: Array, error: Array, times: Array) -> tuple[Array, Array]:
    """Cubic splines in time; a quarter of the difference from the spline through every second node is the error."""
    from scipy.interpolate import CubicSpline

    if len(nodes) < 8:
        raise InvalidInput("too few steps to interpolate between them; ask for fewer times or a finer resolution")
    every = np.unique(np.append(np.arange(0, len(nodes), 2), len(nodes) - 1))
    fine, coarse = CubicSpline(nodes, value)(times), CubicSpline(nodes[every], value[every])(times)
    return fine, np.hypot(np.interp(times, nodes, error), np.abs(fine - coarse) / 4)


def _packed(done: Mapping[tuple[int, int], MatrixPass]) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {}
    for (place, run), one in done.items():
        key = f"{place}/{run}"
        arrays[f"{key}/reached"] = np.array([one.reached])
        arrays |= {f"{key}/values/{name}": array for name, array in one.values.items()}
        arrays |= {f"{key}/kernels/{name}": getattr(one, name) for name in KERNELS}
    return arrays


def _unpacked(arrays: Mapping[str, npt.NDArray[Any]] | None) -> dict[tuple[int, int], MatrixPass]:
    done: dict[tuple[int, int], MatrixPass] = {}
    for name, array in (arrays or {}).items():
        if name.endswith("/reached") and arrays is not None:
            key = name.removesuffix("/reached")
            place, run = map(int, key.split("/"))
            values = {o: arrays[f"{key}/values/{o}"] for o in OBSERVABLES}
            correlation, response, pulled = (arrays[f"{key}/kernels/{k}"] for k in KERNELS)
            done[place, run] = MatrixPass(values, correlation, response, pulled, int(array[0]))
    return done
