"""Responses of the sample side: averages over paths of a row of  D (1 + R D/delta)^{-1}, exactly per path or by random probes.

Row k of the inverse is found backward, from l = k to 0, so nothing is stored but D: the history of K steps costs K numbers per
path, and K^3/3 operations that run through contiguous paths.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from lossflow.meanfield.sampling import Basis, Points

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

CHUNK = 128  # paths that share a pass: their rows stay in the cache of a core


class Tangents:
    """Exact tangents of `chosen` of the `paths` paths, others at each step. Time K^3 m^3 chosen/3, memory K m^2 paths numbers.

    Consecutive rows take consecutive stretches of the paths, so that their errors are independent and most of them averages
    out in time: with the same paths in all rows the errors of the norm after 264 steps of a flow are twice as large.
    """

    def __init__(self, chosen: int, paths: int, steps: int, columns: int) -> None:
        self.chosen, self.stretches = chosen, paths // chosen
        self._slopes = np.empty((steps, columns, columns, paths))

    def row(self, k: int, response: Array, slope: Array) -> Array:
        """E[slope J(k, l)], l < k, shape (m, k m), from R(0..k, 0..k-1) and `slope`, shape (m, m, all paths)."""
        m, first = len(slope), k % self.stretches * self.chosen
        kernel = np.ascontiguousarray(-response[: (k + 1) * m, : k * m].T)
        slopes, start = (np.ascontiguousarray(D[..., first : first + self.chosen]) for D in (self._slopes[:k], slope))
        return substitution(kernel, slopes, start)

    def keep(self, k: int, slope: Array) -> None:
        """Note D(k) = g_k grad ell_k/delta, shape (m, m, all paths)."""
        self._slopes[k] = slope


class Probes:
    """Tangents applied to one random direction per path:  p = J v,  J(k, l) ~ p_k v_l^T,  v white and orthonormal across paths.

    Time K^2 m^2 paths operations, memory 2 K m paths numbers; the noise is that of 1/sqrt(paths) per response, which averages
    out in what the responses do.
    """

    def __init__(self, paths: int, steps: int, columns: int, points: Points) -> None:
        self._moved = np.empty((steps * columns, paths))  # D(s) p(s)
        self._directions = Basis(paths)
        self._draw = points.random.standard_normal

    def row(self, k: int, response: Array, slope: Array) -> Array:
        """E[slope (p_k - v_k) v_l^T], l < k: the part of row k that is not known; see `Tangents.row`."""
        m, paths = len(slope), slope.shape[-1]
        for _ in range(m):
            self._directions.whiten(self._draw(paths))
        v = self._directions.vectors
        moved = -response[k * m : (k + 1) * m, : k * m] @ self._moved[: k * m]
        self._current = v[k * m :] + moved
        return np.einsum("abp,bp->ap", slope, moved) @ v[: k * m].T / paths

    def keep(self, k: int, slope: Array) -> None:
        """See `Tangents.keep`."""
        m = len(slope)
        self._moved[k * m : (k + 1) * m] = np.einsum("abp,bp->ap", slope, self._current)


def substitution(kernel: Array, slopes: Array, start: Array, carried: Array | None = None) -> Array:
    """The average over paths of X(0..k-1),  X(k) = start,  X(l) = (sum_{l<s<=k} X(s) F(s, l)) D(l) + X(l + 1) c(l).

    kernel: F transposed, F(s, l)_bc at [l m + c, s m + b], shape (k m, (k + 1) m); slopes: D, shape (k, m, m, paths);
    start: shape (m, m, paths); carried: c, shape (k, paths), for one column, None for zero. Returns shape (m, k m).
    With F = -R and D = g grad ell/delta this is row k of  M = E[g grad ell (1 + R D)^{-1}].
    docs/theory/mean_field.md sections 2 and 7.4 [NI26v2].
    """
    k, m, _, paths = slopes.shape
    total = np.zeros((m, k * m))
    if k:
        _compiled()(kernel, slopes, start, np.zeros((0, 0)) if carried is None else carried, total)
    return total / paths


def plain_substitution(kernel: Array, slopes: Array, start: Array, carried: Array | None = None) -> Array:
    """The same as `substitution`, in plain numpy: the oracle of the compiled loop."""
    k, m, _, paths = slopes.shape
    x = np.zeros((m, (k + 1) * m, paths))
    x[:, k * m :] = start
    for l in reversed(range(k)):  # noqa: E741
        y = np.einsum("cs,asp->acp", kernel[l * m : (l + 1) * m, (l + 1) * m :], x[:, (l + 1) * m :])
        x[:, l * m : (l + 1) * m] = np.einsum("abp,bcp->acp", y, slopes[l])
        if carried is not None:
            x[:, l] += carried[l] * x[:, l + 1]
    return x[:, : k * m].mean(axis=-1)


@cache
def _compiled() -> Callable[..., Any]:
    from numba import njit

    return njit(cache=True, fastmath=True, nogil=True)(_substitute)


def _substitute(kernel: Array, slopes: Array, start: Array, carried: Array, total: Array) -> None:
    k, m, _, paths = slopes.shape
    n = (k + 1) * m
    width = CHUNK if m == 1 else max(16, CHUNK // m)
    x = np.zeros((n, m * width))
    y = np.zeros((m, m * width))
    for first in range(0, paths, width):
        w = min(width, paths - first)
        for b in range(m):
            for a in range(m):
                for p in range(w):
                    x[k * m + b, a * width + p] = start[a, b, first + p]
                for p in range(w, width):
                    x[k * m + b, a * width + p] = 0.0
        for l in range(k - 1, -1, -1):  # noqa: E741
            for c in range(m):
                row, z = kernel[l * m + c], y[c]
                z[:] = 0.0
                s = (l + 1) * m
                while s + 4 <= n:  # four rows at a time: a quarter of the loads and stores of z
                    f0, f1, f2, f3 = row[s], row[s + 1], row[s + 2], row[s + 3]
                    x0, x1, x2, x3 = x[s], x[s + 1], x[s + 2], x[s + 3]
                    for p in range(m * width):
                        z[p] += f0 * x0[p] + f1 * x1[p] + f2 * x2[p] + f3 * x3[p]
                    s += 4
                while s < n:
                    f0, x0 = row[s], x[s]
                    for p in range(m * width):
                        z[p] += f0 * x0[p]
                    s += 1
            for c in range(m):
                target = x[l * m + c]
                for a in range(m):
                    summed = 0.0
                    for p in range(w):
                        value = 0.0
                        for b in range(m):
                            value += y[b, a * width + p] * slopes[l, b, c, first + p]
                        if carried.size:
                            value += carried[l, first + p] * x[l + 1, p]
                        target[a * width + p] = value
                        summed += value
                    for p in range(w, width):
                        target[a * width + p] = 0.0
                    total[a, l * m + c] += summed
