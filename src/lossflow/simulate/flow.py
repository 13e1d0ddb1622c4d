"""Gradient flow of many runs at once, each with its own time and step.

    du/ds = -+ dL/du,   s = |t| the elapsed time;   - forward, + backward in t

Explicit Runge-Kutta steps of order 8 (`dormand_prince`). The flow does not depend on time, so runs that stand at different
times share every evaluation of the gradient; a run that has arrived leaves. The local error of a step is held below

    LOCAL_SHARE * tolerance * |change of u in the step| + ROUNDING * |u|.

An error e in u changes the loss by <dL/du, e>, hence by at most tolerance * LOCAL_SHARE times what the step changes the
loss by: the loss keeps its relative accuracy while it decays over many decades, down to the rounding of its terms.

The solution of a polynomial flow ends only where |u| goes to infinity. Near that time |u|^(2 - degree) falls to zero
linearly, so each point predicts the blow-up time, and the steps shrink until the prediction stands still.
docs/theory/diagrams.md sections 1, 10 and 14 [YGG26v2].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lossflow.simulate.gradients import Program
from lossflow.simulate.stages import AbstractStages, HostStages, dense_weights

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

LOCAL_SHARE = 0.1  # of the tolerance, for one step: the errors of some tens of steps add up
ROUNDING = 2e-15  # of |u|: smaller errors cannot be told from the rounding of twelve evaluations
SAFETY, SHRINK, GROW = 0.9, 0.2, 6.0  # of the next step, as usual for this order
FIRST_STEP = 0.02  # of |u| / |du/dt|
MAX_STEPS = 100_000  # of one run in one direction
BLOW_UP = 1e-12  # the predicted time left, relative to the elapsed one, at which the prediction is the answer
STANDSTILL = 1e-14  # a step of this length, relative to the elapsed time, does not move the time
HUGE = 1e150  # |u|, beyond which squares overflow


# how a leg stands
RUNNING, COMPLETE, BLOWN_UP, TOO_MANY_STEPS, STUCK, OVERFLOWN = range(6)


class Legs(NamedTuple):
    """Runs in one direction of time each, n of them, wherever they stand.

    direction: +1 or -1, shape (n,). targets: the elapsed times at which the loss is wanted, increasing, padded with inf,
    shape (n, T). elapsed: where each leg stands; step: what it tries next, 0 before the first; right_step: what would have been
    right for the last one taken, 0 before the first. reached: how many targets.
    loss, scale: at the targets reached, NaN beyond; scale is the sum of the absolute terms of the loss. accepted,
    rejected: steps. outcome: one of the constants above; end: the elapsed time at which a leg that is not complete ended,
    the blow-up time where there is one, else NaN. state: the learned numbers, shape (n, weights); frozen: the others.
    """

    direction: Integers
    targets: Array
    elapsed: Array
    step: Array
    right_step: Array
    reached: Integers
    loss: Array
    scale: Array
    accepted: Integers
    rejected: Integers
    outcome: Integers
    end: Array
    state: Array
    frozen: Array


def at_start(direction: Integers, targets: Array, state: Array, frozen: Array) -> Legs:
    """Legs at elapsed time 0."""
    n = len(direction)
    unknown = np.full(targets.shape, np.nan)
    zeros, nothing = np.zeros(n), np.zeros(n, np.int64)
    return Legs(
        direction, targets, zeros, zeros.copy(), zeros.copy(), nothing, unknown, unknown.copy(), nothing.copy(), nothing.copy(),
        nothing.copy(), np.full(n, np.nan), state, frozen,
    )  # fmt: skip


def integrate(program: Program, legs: Legs, tolerance: float) -> Legs:
    """The legs when all have ended: at their last target, at a blow-up, or at a limit of the computation."""
    flow = Flow(program, legs, tolerance)
    flow.advance()
    return flow.legs()


class Flow:
    """An integration that can be interrupted between steps: `advance`, `legs`, and later on from there.

    The steps of a leg do not depend on which other legs are integrated with it, nor on interruptions: the bits are the same.
    """

    def __init__(
        self,
        program: Program,
        legs: Legs,
        tolerance: float,
        stages: Callable[[Program, Array, Array], AbstractStages] = HostStages,
    ) -> None:
        self.program = program
        self.tolerance = tolerance
        self._legs = Legs._make(map(np.array, legs))
        self._rows = np.flatnonzero(legs.outcome == RUNNING)
        self._stages = stages(program, legs.state[self._rows], legs.frozen[self._rows])
        self._load()
        self._begin()

    @property
    def progress(self) -> float:
        """The sum over all legs of elapsed time / last target, for a progress bar; may be read while another thread steps."""
        time, last = self._time, self._last
        share = float(np.sum(time / last)) if time.shape == last.shape else 0.0
        return float(np.sum(self._legs.outcome != RUNNING)) + share

    def advance(self, pause: Callable[[], bool] = lambda: False) -> bool:
        """Step until all legs have ended, or until `pause` says so between two steps; whether all have ended."""
        with np.errstate(all="ignore"):  # overflow is found where it is decided whether to take a step
            while len(self._rows) and not pause():
                self._step()
        return len(self._rows) == 0

    def legs(self) -> Legs:
        """Where all legs stand."""
        self._store()
        return Legs._make(map(np.array, self._legs))

    def _begin(self) -> None:
        """The slope at the current state; for legs that have not started, the loss at time 0 and the first step."""
        if len(self._rows) == 0:
            return
        with np.errstate(all="ignore"):
            size, slope = self._stages.begin()
            first = np.where(slope > 0, FIRST_STEP * size / slope, self._last)
            first = np.where((slope > 0) & (size == 0), FIRST_STEP * self._last, first)
            self._length = np.where(self._length == 0, np.minimum(first, self._last), self._length)
            at_zero = np.flatnonzero((self._time == 0) & (self._targets[:, 0] == 0) & (self._reached == 0))
            if len(at_zero):
                self._record(at_zero, self._stages.diagrams_here(at_zero))
            failed = np.where(np.isfinite(slope), RUNNING, OVERFLOWN)
        self._finish(np.where(self._reached == self._count, COMPLETE, failed), self._time)

    def _step(self) -> None:
        """One step of every leg; those whose error is too large stay and try a shorter one."""
        length = np.minimum(self._length, self._last - self._time)
        descending = self._legs.direction[self._rows] > 0
        signed = np.where(descending, -length, length)  # the slopes are gradients
        trial = self._stages.attempt(signed)
        fifth, third = trial.fifth, trial.third
        estimate = length * fifth**2 / np.sqrt(fifth**2 + 0.01 * third**2)
        estimate[(fifth == 0) & (third == 0)] = 0.0
        allowed = LOCAL_SHARE * self.tolerance * trial.moved + ROUNDING * trial.size
        ratio = np.where(estimate == 0, 0.0, estimate / allowed)
        growth = np.where(descending, -1.0, 1.0) * trial.growth  # d(|u|^2/2)/ds
        taken = (ratio <= 1) & np.isfinite(growth) & (trial.size < np.inf)
        self._move(taken, length, signed)
        self._length = self._next_length(taken, ratio, length)
        self._judge(taken, trial.size, growth)

    def _next_length(self, taken: npt.NDArray[np.bool_], ratio: Array, length: Array) -> Array:
        """The step to try next: where the right step has become shorter, it is expected to go on doing so."""
        eighth_root = np.sqrt(np.sqrt(np.sqrt(ratio)))  # order 8; unlike a power, the same bits in every batch
        right = length * np.clip(1 / eighth_root, SHRINK, GROW)
        right = np.where(taken | (ratio > 1), right, SHRINK * length)  # also where nothing is finite
        expected = right * np.where(taken & (self._right > 0), np.minimum(1.0, right / self._right), 1.0)
        self._right = np.where(taken, right, self._right)
        return SAFETY * np.maximum(expected, SHRINK * length)

    def _move(self, taken: npt.NDArray[np.bool_], length: Array, signed: Array) -> None:
        """Take the steps that were good enough; note the loss at the targets they pass."""
        time = np.where(length == self._last - self._time, self._last, self._time + length)
        passed = np.where(taken, np.sum(self._targets <= time[:, None], axis=1), self._reached)
        if (passed > self._reached).any():
            self._interpolate(passed, time, length, signed)
        self._stages.accept(taken)
        self._time = np.where(taken, time, self._time)
        self._accepted += taken
        self._rejected += ~taken

    def _interpolate(self, passed: Integers, time: Array, length: Array, signed: Array) -> None:
        """The loss at the targets inside the steps, for which the dense output needs three more slopes, and at their ends."""
        legs = np.flatnonzero(passed > self._reached)
        inside = legs[self._targets[legs, self._reached[legs]] < time[legs]]
        if len(inside):
            self._stages.extend(inside, signed[inside])
        while len(legs):
            target = self._targets[legs, self._reached[legs]]
            weights = dense_weights((target - self._time[legs]) / length[legs]) * signed[legs, None]
            self._record(legs, self._stages.diagrams_within(legs, weights, np.flatnonzero(target == time[legs])))
            legs = legs[self._reached[legs] < passed[legs]]

    def _record(self, legs: Integers, diagrams: Array) -> None:
        """The loss of these legs at their next target, from the values of its diagrams there."""
        loss, scale = self.program.loss(diagrams)
        rows, column = self._rows[legs], self._reached[legs]
        self._legs.loss[rows, column] = loss
        self._legs.scale[rows, column] = scale
        self._reached[legs] += 1

    def _judge(self, taken: npt.NDArray[np.bool_], size: Array, growth: Array) -> None:
        """Which legs have ended, and where."""
        outcome = np.full(len(self._rows), RUNNING, np.int64)
        end = self._time.copy()
        outcome[self._accepted + self._rejected >= MAX_STEPS] = TOO_MANY_STEPS
        outcome[self._length <= STANDSTILL * self._time] = STUCK
        outcome[self._length == 0] = STUCK
        outcome[taken & ~(size < HUGE)] = OVERFLOWN
        if self.program.degree > 2:
            left = size**2 / ((self.program.degree - 2) * growth)
            blown = taken & (growth > 0) & (left <= BLOW_UP * self._time)
            outcome[blown] = BLOWN_UP
            end[blown] += left[blown]
        outcome[self._reached == self._count] = COMPLETE
        self._finish(outcome, end)

    def _finish(self, outcome: Integers, end: Array) -> None:
        """Let the legs that have ended leave, and close ranks."""
        ended = outcome != RUNNING
        if not ended.any():
            return
        self._store()
        gone = self._rows[ended]
        self._legs.outcome[gone] = outcome[ended]
        self._legs.end[gone] = np.where(outcome[ended] == COMPLETE, np.nan, end[ended])
        stay = np.flatnonzero(~ended)
        self._stages.keep(stay)
        self._rows = self._rows[stay]
        self._load()

    def _load(self) -> None:
        """Copies of what the remaining legs need at every step."""
        rows = self._rows
        self._targets = self._legs.targets[rows]
        self._count = np.sum(np.isfinite(self._targets), axis=1)
        self._last = self._targets[np.arange(len(rows)), self._count - 1]
        self._time, self._length = self._legs.elapsed[rows], self._legs.step[rows]
        self._right = self._legs.right_step[rows]
        self._reached = self._legs.reached[rows]
        self._accepted, self._rejected = self._legs.accepted[rows], self._legs.rejected[rows]

    def _store(self) -> None:
        rows = self._rows
        self._legs.elapsed[rows], self._legs.step[rows] = self._time, self._length
        self._legs.right_step[rows] = self._right
        self._legs.reached[rows] = self._reached
        self._legs.accepted[rows], self._legs.rejected[rows] = self._accepted, self._rejected
        self._legs.state[rows] = self._stages.states()
