"""The times at which a process is followed: the updates of a discrete dynamics, or nested grids for a flow.

A flow is the limit of descent with small steps, and the error of descent is a power series in them. The grids of three levels
share their nodes: each step of one is two of the next. Then values at common nodes can be extrapolated whatever the shape
of the grid is. docs/theory/mean_field.md sections 7.5 and 7.6 [NI26v2].
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

LEVELS = 3
FIRST = 0.2  # of 1/rate: the first steps of the coarsest grid of a deterministic flow, extrapolated to third order
NOISY = 0.8  # of 1/rate: all steps of that of a stochastic flow, where sampling errors are larger
GROWTH = 0.1  # of the time passed: later steps of a deterministic flow may be as long, its rates slow down as 1/t
SAFE = 0.7  # of the stability bound: no step is longer, before rounding
ROUNDED = 1.3  # steps for one: between two requested times there is a whole number of steps
FEWEST = 8  # steps of the coarsest grid
DENSE = 64  # requested times beyond which the values are interpolated in time, unless the grid is that fine anyway


class Grid(NamedTuple):
    """steps: eta_k of the coarsest level, shape (K,). nodes: numbers of coarsest steps after which values are known, increasing.
    levels: 1 for discrete dynamics, else `LEVELS`; level j has every step cut into 2^j. exact: whether the nodes are at the
    requested times."""

    steps: Array
    nodes: Integers
    levels: int
    exact: bool

    @property
    def times(self) -> Array:
        """Of the nodes."""
        return np.append(0.0, np.cumsum(self.steps))[self.nodes]

    def level(self, j: int) -> tuple[Array, Integers]:
        """Steps and nodes of a level, 0 the coarsest."""
        return np.repeat(self.steps, 2**j) / 2**j, self.nodes * 2**j

    @property
    def finest(self) -> int:
        """Steps of the finest level."""
        return len(self.steps) * 2 ** (self.levels - 1)


def discrete(step: float, counts: Integers) -> Grid:
    """Every update of a discrete dynamics; counts: of updates at the requested times, increasing."""
    return Grid(np.full(max(int(counts[-1]), 1), step), counts, 1, True)


def flow(times: Array, rate: float, resolution: int | None, growing: bool) -> Grid:
    """A grid for a flow up to the last of `times`, increasing and >= 0.

    rate: twice over the stability bound of a step, which no step of any level comes near. resolution: how many steps the finest
    level has, about; None: from the rate.
    growing: whether later steps may be longer: for deterministic flows.
    """
    last = float(times[-1])
    if last == 0:
        return Grid(np.ones(1), np.zeros(1, np.int64), 1, True)
    longest = SAFE * 2 / rate if rate > 0 else last
    usual = (FIRST if growing else NOISY) / rate if rate > 0 else last
    first = min(usual, longest, last / FEWEST)

    def count(t: Array, scale: float) -> Array:
        """The integral of one over the length of a step, scale * min(longest, first + growth t), from 0 to t."""
        growth = GROWTH if growing else 0.0
        if growth == 0:
            return t / (scale * first)
        turn = max(0.0, (longest / scale - first) / growth)
        inner = np.minimum(t, turn)
        return (np.log1p(growth * inner / first) / growth + np.maximum(t - turn, 0) / (longest / scale)) / scale

    scale = 1.0
    if resolution is not None:
        wanted = max(1.0, resolution / 2 ** (LEVELS - 1))
        scale = float(count(np.array([last]), 1.0)[0]) / wanted
    total = float(count(np.array([last]), scale)[0])
    anchors = np.unique(np.append(0.0, times))
    allowed = max(total, DENSE) if resolution is None else total
    exact = len(anchors) - 1 <= allowed
    if not exact:
        anchors = np.array([0.0, last])
    pieces = [np.zeros(1)]
    numbers = [0]
    for left, right in pairwise(anchors):
        begin, end = (float(count(np.array([t]), scale)[0]) for t in (left, right))
        parts = max(1, round(end - begin))
        parts += end - begin > ROUNDED * parts
        inner = np.interp(np.linspace(begin, end, parts + 1), *_inverse(count, scale, left, right))
        inner[0], inner[-1] = left, right
        pieces.append(inner[1:])
        numbers.append(numbers[-1] + parts)
    grid = np.concatenate(pieces)
    nodes = np.searchsorted(anchors, times) if exact else np.arange(len(grid))
    return Grid(np.diff(grid), np.array(numbers)[nodes] if exact else nodes, LEVELS, exact)


def _inverse(count: Callable[[Array, float], Array], scale: float, left: float, right: float) -> tuple[Array, Array]:
    """Counts and times between two times, densely."""
    t = np.linspace(left, right, 257)
    return count(t, scale), t
