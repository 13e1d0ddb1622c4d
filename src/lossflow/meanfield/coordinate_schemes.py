"""How xi moves over a step of a coordinate process, and the grids of times on which it does.

Every scheme is a row of   xi_k = near xi_{k-1} + far xi_{k-2} - explicit g_{k-1} - implicit g_k.   TR-BDF2 makes two rows of
each step h: the trapezoid over gamma h, then the backward formula with three points, gamma = 2 - sqrt 2. It is of second
order, and stiff modes die in one step. The trapezoid alone is twice as accurate and keeps stiff modes alive.
docs/theory/diagonal.md section 4 [NI25v2].
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from lossflow.problems.coordinate import CoordinateProcess

Array = npt.NDArray[np.float64]
Scheme = Literal["tr-bdf2", "trapezoid"]

GAMMA = 2 - np.sqrt(2)


class Rows(NamedTuple):
    """times: (K + 1,), from 0; near, far, explicit, implicit: (K + 1,), of row k, row 0 unused; every: rows per step."""

    times: Array
    near: Array
    far: Array
    explicit: Array
    implicit: Array
    every: int


def rows_of(steps: Array, scheme: Scheme) -> Rows:
    """The rows of a scheme for these steps, which start at t = 0."""
    ends = np.cumsum(steps)
    if scheme == "trapezoid":
        zero = np.zeros(len(steps) + 1)
        times, h = np.append(0.0, ends), np.append(0.0, steps)
        return Rows(times, zero + 1, zero, h, h, 1)
    rows = 2 * len(steps) + 1
    times, near, far, explicit, implicit = (np.zeros(rows) for _ in range(5))
    times[1::2] = ends - steps + GAMMA * steps
    times[2::2] = ends
    near[1::2], explicit[1::2] = 1.0, GAMMA * steps
    near[2::2] = 1 / (GAMMA * (2 - GAMMA))
    far[2::2] = 1 - near[2::2]
    implicit[1:] = np.repeat(GAMMA * steps, 2)
    return Rows(times, near, far, explicit, implicit, 2)


class Grid(NamedTuple):
    """steps: of the coarsest level, each cut in two by the next level; levels: how many."""

    steps: Array
    levels: int

    def level(self, j: int) -> Array:
        """The steps of level j, 0 the coarsest."""
        return np.repeat(self.steps, 2**j) / 2**j

    def nodes(self, j: int) -> Array:
        """The ends of these steps, from 0."""
        return np.append(0.0, np.cumsum(self.level(j)))


LEVELS = 3
GROWTH = 0.2  # of the time passed: a step of the finest level, where nothing else is shorter
FIRST = 0.3  # of the shortest time scale: its first step
SEARCH = 0.7  # of 1/rms beta*: its steps while small coefficients are still found
SEARCHED = 1.5  # in units of the time log(rms/kappa)/rms
FADING = 0.4  # of 1/weight_decay: its steps while the scale kappa_t falls
FADED = 0.08  # of the time passed: steps of this length resolve how slowly the end is approached
FEWEST, MOST = 32, 84  # steps of the finest level that are chosen for the user
SAMPLES = 4000  # points at which the length of a step is known


def grid_of(process: CoordinateProcess, last: float, resolution: int | None) -> Grid:
    """Three nested grids from 0 to `last` > 0, whose finest has about `resolution` rows, two for each of its steps.

    Steps grow with time from a fraction of the fastest rate, 2 D (1 + delta^(-1/2))^2 for d beta/d xi = D, and are held down
    where a small start searches and where weight decay lets the scale fall.
    """
    moment = process.prior.second_moment
    rms = math.sqrt(moment) or math.sqrt(process.noise_variance) or 1.0
    plus, minus = process.squares
    start = (plus + minus) / 2
    edge = (1 + process.delta**-0.5) ** 2
    first = min(FIRST / (2 * max(start, rms) * edge), last / FEWEST)
    kappa = math.sqrt(plus) * math.sqrt(minus) or max(plus, minus) / 2
    searched = SEARCHED * max(math.log(rms) - math.log(kappa), 0.0) / rms
    inside = np.geomspace(first / 10, last, SAMPLES)
    t = np.append(0.0, inside)
    h = first + GROWTH * t
    h = np.where(t < searched, np.minimum(h, SEARCH / rms), h)
    if process.weight_decay > 0:
        h = np.minimum(h, np.maximum(FADING / process.weight_decay, FADED * t))
    density = 1 / h
    count = np.append(0.0, np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(t)))
    coarse = 2 ** (LEVELS - 1)
    wanted = min(max(count[-1], FEWEST), MOST) if resolution is None else resolution / 2
    steps = max(2, round(wanted / coarse))
    ends = np.interp(np.linspace(0, count[-1], steps + 1), count, t)
    ends[-1] = last
    return Grid(np.diff(ends), LEVELS)
