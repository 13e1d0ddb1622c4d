"""Quadratic networks of extensive width in the large-size limit: one causal pass of the matrix process at finite dimension.

    W_{n+1} = W_n + eta [G_n - 2 sum_{j<=n} R_l(n, j) (Z_j - Z*) - 2 lambda] W_n,   R_l = (1 + R_Z/alpha)^{-1}

G is Gaussian with the covariance R_l (2 C + Delta) R_l^T/alpha of GOE matrices. Row n of every kernel follows from
rows before it. Two matrices with the Gaussian parts G and -G share the kernels, so that what is odd in G averages out.
docs/theory/quadratic.md section 3 [MBB26v2].
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.dynamics import AbstractDynamics, GradientDescent
from lossflow.errors import InvalidInput
from lossflow.keys import generator
from lossflow.meanfield.errors import standard_error
from lossflow.meanfield.kernels import resolvent_row
from lossflow.memory import require_memory
from lossflow.problem import AbstractProblem
from lossflow.problems.matrix import MatrixProcess
from lossflow.progress import progress
from lossflow.trajectory import COMPLETE, Status, Trajectory

if TYPE_CHECKING:
    import numpy.typing as npt

    from lossflow.meanfield.method import MeanField

    Array = npt.NDArray[np.float64]

DROPPED = 1e-9  # of the norm of a matrix: what is left of it beyond the span of earlier ones is rounding
USUAL = 120  # the dimension, where none is asked for
PATHS_PER_PROBE = 1024
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
    step: float,
    updates: int,
    d: int,
    *,
    probes: int = 4,
    seed: int = 0,
    run: int = 0,
    responding: bool = True,
) -> MatrixPass:
    """Gradient descent by mean field at dimension d, for `updates` steps of size `step`.

    process: of which network; its alpha is n/d^2 with the n of the experiment. probes: random directions on
    each of the two matrices, from which the response is estimated. seed, run: of teacher, start and all noise.
    responding: False leaves R_Z out, which is wrong on purpose.
    docs/theory/quadratic.md section 3 [MBB26v2].
    """
    sign = np.array([1.0, -1.0])
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
    fixed = noise.standard_normal(p) * goe * math.sqrt(process.noise_variance)
    W = np.stack([start, start])
    tangent = np.zeros((probed, *start.shape))
    side = np.arange(probed) % 2
    moved = np.zeros((probed, updates + 1, p), np.float32)
    pushed = np.zeros((probed, updates + 1, p), np.float32)
    basis: list[Array] = []
    gaussian: list[Array] = []
    coefficients = np.zeros((updates + 1, 8))
    response, resolvent = np.zeros((updates + 1, updates + 1)), np.zeros((updates + 1, updates + 1))
    forces = np.zeros((updates + 1, 8))
    static = np.zeros(updates + 1)
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
        rest, c = vector.copy(), np.zeros(len(basis))
        for _ in range(2):
            if basis:
                part = np.stack(basis) @ rest if len(basis) < 2 else np.array([e @ rest for e in basis])
                for e, x in zip(basis, part, strict=True):
                    rest -= x * e
                c += part
        left = float(np.linalg.norm(rest))
        if left > DROPPED * float(np.linalg.norm(vector)):
            basis.append(rest / left)
            gaussian.append(noise.standard_normal(p) * goe)
            c = np.append(c, left)
        rank = len(basis)
        if rank > coefficients.shape[1]:
            coefficients = np.pad(coefficients, ((0, 0), (0, rank)))
            forces = np.pad(forces, ((0, 0), (0, rank)))
        coefficients[n, : len(c)] = c
        for q in range(probed):
            change = tangent[q] @ W[side[q]].T
            moved[q, n] = packed(change + change.T)
            response[n, :n] += (pushed[q, :n] @ moved[q, n]) / (d * probed)
        row = resolvent_row(response[n, : n + 1], resolvent, process.alpha) if finite else np.eye(n + 1)[n]
        resolvent[n, : n + 1] = row
        forces[n] = row @ coefficients[: n + 1]
        static[n] = row.sum()
        square = 2 * float(forces[n] @ forces[n]) / d + process.noise_variance * static[n] ** 2
        if not finite:
            square = 2 * float(vector @ vector) / d + process.noise_variance
        clean = square + process.noise_variance * (1 - 2 * static[n])
        cosine = np.mean(z @ z_star / np.linalg.norm(z, axis=1)) / np.linalg.norm(z_star)
        found.append((square / 4, float(vector @ vector) / d, clean / 4, float(cosine)))
        if n == updates:
            break
        drift = -2 * math.sqrt(2) * sum((x * e for x, e in zip(forces[n], basis, strict=False)), np.zeros(2 * p))
        force = drift.reshape(2, p)
        if finite:
            random = goe_sum(forces[n], gaussian) * math.sqrt(2 / d) + static[n] * fixed
            force = force + sign[:, None] * random / math.sqrt(process.alpha)
        B = unpacked(force) - 2 * process.weight_decay * np.eye(d)
        for q in range(probed):
            push = directions.standard_normal(p) * goe
            pushed[q, n] = push
            changed = unpacked(push - 2 * (row.astype(np.float32) @ moved[q, : n + 1]).astype(np.float64))
            tangent[q] = tangent[q] + step * (B[side[q]] @ tangent[q] + changed @ W[side[q]])
        W = W + step * (B @ W)
    reached = max(n, 0)
    kept = slice(0, reached + 1)
    known = coefficients[kept]
    names = ("loss", "mse", "in_sample_error", "overlap")
    values = {name: np.array(column) for name, column in zip(names, zip(*found, strict=True), strict=True)}
    pulled = 2 * forces[kept] @ forces[kept].T / d + process.noise_variance * np.outer(static[kept], static[kept])
    return MatrixPass(values, known @ known.T / d, response[kept, kept], pulled, reached)


def goe_sum(amounts: Array, matrices: list[Array]) -> Array:
    """sum_k amounts_k matrices_k over the matrices that exist."""
    total = np.zeros_like(matrices[0])
    for amount, matrix in zip(amounts, matrices, strict=False):
        total += amount * matrix
    return total


def solve_matrix(
    method: MeanField, problem: AbstractProblem, process: MatrixProcess, times: Array, dynamics: AbstractDynamics
) -> Trajectory:
    """Averages over independent passes at dimension d with n = alpha d (d + 1), the rule of finite sizes.

    The error is the scatter of the passes and the difference from dimension d/2, which is that from infinity if it falls as 1/d.
    """
    if not isinstance(dynamics, GradientDescent):
        raise problem.silence(
            "process", f"the matrix process is followed under GradientDescent alone, not {dynamics!r}"
        )
    if method.resolution is not None:
        raise InvalidInput(
            f"{dynamics!r} has its own step; resolution is for flows, got {method.resolution}: leave it None"
        )
    d = USUAL if method.dimension is None else method.dimension
    if d < 2:
        raise InvalidInput(f"MeanField.dimension must be at least 2 for a matrix process, got {d}")
    counts = dynamics.updates(times)
    updates, probes = int(counts.max()), max(1, method.paths // PATHS_PER_PROBE // 2)
    memory = 8.0 * (updates + 1) * (probes * d * (d + 1) + 3 * (updates + 1) + 2 * d * (d + 1))
    require_memory(
        memory, f"a matrix process of {updates} steps at d = {d}", "take a smaller dimension or earlier times"
    )
    sizes = (d, max(d // 2, 1))
    levels: list[list[MatrixPass]] = []
    with progress(float(2 * method.randomizations), "mean field") as bar:
        for size in sizes:
            sized = replace(process, alpha=process.alpha * (1 + 1 / size))
            levels.append([])
            for run in range(method.randomizations):
                levels[-1].append(
                    matrix_pass(sized, dynamics.step, updates, size, probes=probes, seed=method.seed, run=run)
                )
                bar.update(1.0)
    reached = min(one.reached for level in levels for one in level)
    values, uncertainty, runs = {}, {}, {}
    for name in levels[0][0].values:
        large, small = (np.full((len(level), len(times)), np.nan) for level in levels)
        known = counts <= reached
        for array, level in zip((large, small), levels, strict=True):
            for row, one in zip(array, level, strict=True):
                row[known] = one.values[name][counts[known]]
        gap = np.abs(large.mean(axis=0) - small.mean(axis=0))
        values[name], runs[name] = large.mean(axis=0), large
        uncertainty[name] = np.sqrt(standard_error(large) ** 2 + standard_error(small) ** 2 + gap**2)
    status = COMPLETE
    if reached < updates:
        last = reached * dynamics.step
        reason = (
            f"the weights leave every scale of the problem after t = {last:.6g}; take smaller steps or earlier times"
        )
        status = Status("left_domain", last, reason)
    kept = reached + 1
    kernels = {
        name: np.mean([getattr(one, name)[:kept, :kept] for one in levels[0]], axis=0)
        for name in ("correlation", "response", "force_correlation")
    }
    return Trajectory(
        times=times,
        values=values,
        uncertainty=uncertainty,
        status=status,
        problem=problem,
        method=method,
        dynamics=dynamics,
        details={
            "route": "matrix process",
            "dimension": d,
            "randomizations": runs,
            "randomization_times": times,
            "kernel_times": dynamics.step * np.arange(kept),
            **kernels,
        },
        references=("MBB26v2",),
    )
