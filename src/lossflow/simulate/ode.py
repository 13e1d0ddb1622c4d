"""One flow of moderate size, integrated to the promised error: for models whose force is a plain function.

    dy/ds = force(y),   s = 0 .. the last target

Explicit Runge-Kutta steps of order 8 (`dormand_prince`). The local error of a step is held below
LOCAL_SHARE * tolerance * |change of y in the step| + ROUNDING * |y|, so that what decays keeps its relative accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lossflow.simulate.dormand_prince import ERROR_3, ERROR_5, A, B, D, Row

Array = npt.NDArray[np.float64]

LOCAL_SHARE = 0.1  # of the tolerance, for one step
ROUNDING = 1e-14  # of |y|: smaller errors cannot be told from the rounding of the force
SAFETY, SHRINK, GROW = 0.9, 0.2, 6.0
FIRST_STEP = 0.02  # of |y|/|force|
MAX_STEPS = 200_000
STANDSTILL = 1e-13  # a step of this length, relative to the elapsed time, does not move the time
HUGE = 1e100  # |y|, beyond which powers of it overflow


class End(NamedTuple):
    """How an integration ended: at which elapsed time, and why ("" when it reached all targets)."""

    time: float
    reason: str
    steps: int


def integrate(
    force: Callable[[Array], Array], state: Array, targets: Array, tolerance: float, arrived: Callable[[int, Array], None],
    tick: Callable[[float], None],
) -> End:  # fmt: skip
    """Go through all `targets`, elapsed times >= 0 in increasing order.

    force, state: of any one shape. arrived: told the number of each target and the state there. tick: told the time that passed,
    after each step; what it raises ends the integration.
    """
    time, steps, place = 0.0, 0, 0
    while place < len(targets) and targets[place] == 0:
        arrived(place, state)
        place += 1
    if place == len(targets):
        return End(0.0, "", 0)
    last = float(targets[-1])
    slopes: dict[int, Array] = {1: force(state)}
    size, slope = _norm(state), _norm(slopes[1])
    length = last if slope == 0 else min(last, FIRST_STEP * (size / slope if size else last))
    while steps < MAX_STEPS:
        length = min(length, last - time)
        for stage in range(2, 13):
            slopes[stage] = force(state + length * _combined(A[stage], slopes))
        change = length * _combined(B, slopes)
        arrival = state + change
        slopes[13] = force(arrival)
        fifth, third = _norm(_combined(ERROR_5, slopes)), _norm(_combined(ERROR_3, slopes))
        error = length * fifth**2 / math.hypot(fifth, 0.1 * third) if fifth or third else 0.0
        allowed = LOCAL_SHARE * tolerance * _norm(change) + ROUNDING * _norm(arrival)
        steps += 1
        good = error <= allowed and math.isfinite(_norm(slopes[13])) and _norm(arrival) < HUGE
        if good:
            reached = last if length == last - time else time + length
            dense: list[Array] | None = None
            while place < len(targets) and targets[place] <= reached:
                if targets[place] == reached:
                    arrived(place, arrival)
                else:
                    dense = dense or list(_dense(force, state, arrival, slopes, length))
                    arrived(place, _within(state, dense, (float(targets[place]) - time) / length))
                place += 1
            tick(reached - time)
            time, state, slopes = reached, arrival, {1: slopes[13]}
            if place == len(targets):
                return End(time, "", steps)
        ratio = error / allowed if allowed > 0 and math.isfinite(error) else math.inf
        length *= (
            GROW if ratio == 0 else min(GROW, max(SHRINK, SAFETY * ratio ** (-1 / 8) if ratio < math.inf else 0.0))
        )
        if length <= STANDSTILL * max(time, 1e-300) or not length:
            return End(time, "the weights blow up", steps)
    return End(time, f"{MAX_STEPS} steps were not enough: the flow is too stiff for these times", steps)


def _combined(weights: Row, slopes: dict[int, Array]) -> Array:
    total = np.zeros_like(slopes[1])
    for stage, weight in weights.items():
        total += weight * slopes[stage]
    return total


def _dense(
    force: Callable[[Array], Array], state: Array, arrival: Array, slopes: dict[int, Array], length: float
) -> Iterator[Array]:
    for stage in (14, 15, 16):
        slopes[stage] = force(state + length * _combined(A[stage], slopes))
    change = arrival - state
    yield change
    yield length * slopes[1] - change
    yield 2 * change - length * (slopes[1] + slopes[13])
    for row in D:
        yield length * _combined(row, slopes)


def _within(state: Array, dense: list[Array], x: float) -> Array:
    total = np.zeros_like(state)
    for place in reversed(range(len(dense))):
        total = (x if place % 2 == 0 else 1 - x) * (dense[place] + total)
    return state + total


def _norm(x: Array) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.sqrt(np.vdot(x, x)))
