"""The weights and slopes of one Runge-Kutta step, and everything that is done with them: the heavy part of a flow.

The arrays may live in the memory of the processor, as here, or on an accelerator (`device`). `flow` decides on steps from the few
numbers for each leg that these return. n legs stand in one order; `keep` closes ranks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lossflow.simulate.dormand_prince import ERROR_3, ERROR_5, A, B, D, Row
from lossflow.simulate.evaluation import Evaluator
from lossflow.simulate.gradients import Program

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class Trial(NamedTuple):
    """A step that was tried, for each leg: the norms of the error estimates of orders 5 and 3 per unit of the step, of the change
    of the weights and of the weights on arrival, and <u, dL/du> there."""

    fifth: Array
    third: Array
    moved: Array
    size: Array
    growth: Array


class AbstractStages(ABC):
    """What a flow asks of the arrays of its legs."""

    @abstractmethod
    def begin(self) -> tuple[Array, Array]:
        """Evaluate the gradient where the legs stand; |u| and |dL/du|, shape (n,)."""

    @abstractmethod
    def attempt(self, signed: Array) -> Trial:
        """Try a step of each leg: u + signed * (weighted slopes), signed < 0 for descent."""

    @abstractmethod
    def accept(self, taken: npt.NDArray[np.bool_]) -> None:
        """Let the legs that are taken stand where the last attempt arrived."""

    @abstractmethod
    def extend(self, legs: Integers, signed: Array) -> None:
        """The three more slopes that the dense output needs, for these legs, whose steps are `signed`."""

    @abstractmethod
    def diagrams_here(self, legs: Integers) -> Array:
        """The values of the diagrams of the loss where these legs stand, shape (legs, diagrams)."""

    @abstractmethod
    def diagrams_within(self, legs: Integers, weights: Array, at_end: Integers) -> Array:
        """The same at u + weights . slopes, shape of the weights (legs, SLOTS), and on arrival for the places `at_end`."""

    @abstractmethod
    def keep(self, stay: Integers) -> None:
        """Let all legs but these leave."""

    @abstractmethod
    def states(self) -> Array:
        """The weights of the legs, shape (n, weights)."""


class HostStages(AbstractStages):
    """In the memory of the processor, with everything laid out beforehand. The bits of a leg do not depend on the others."""

    def __init__(self, program: Program, states: Array, frozen: Array) -> None:
        n = len(states)
        self._count = n
        self._gradient = Evaluator(program.gradient, n)
        self._loss = Evaluator(program.diagrams, n)
        self._slopes = np.zeros((n, SLOTS, program.weights))
        self._change = np.zeros((n, program.weights))
        self._error = np.zeros((n, program.weights))
        self._slopes[:, HERE] = states
        self._frozen = frozen
        self._place(np.arange(n))

    def begin(self) -> tuple[Array, Array]:
        n = self._count
        np.copyto(self._gradient.state[:n], self._slopes[:n, HERE])
        self._gradient.run(n)
        np.copyto(self._slopes[:n, K1], self._gradient.result[:n])
        return _norm(self._slopes[:n, HERE]), _norm(self._slopes[:n, K1])

    def attempt(self, signed: Array) -> Trial:
        n = self._count
        slopes, state = self._slopes[:n], self._gradient.state[:n]
        weights = STAGES * signed[:, None, None]
        weights[:, :, HERE] = 1.0
        for stage, (first, last, slot) in enumerate(STAGE_SLOTS):
            np.matmul(weights[:, stage, None, first:last], slopes[:, first:last], state[:, None])
            self._gradient.run(n)
            np.copyto(slopes[:, slot], self._gradient.result[:n])
        change, error = self._change[:n], self._error[:n]
        np.matmul(STEP_WEIGHTS[K1:K13] * signed[:, None, None], slopes[:, K1:K13], change[:, None])
        np.matmul(ERROR_WEIGHTS[0], slopes[:, K1:K13], error)
        fifth = _norm(error)
        np.matmul(ERROR_WEIGHTS[1], slopes[:, K1:K13], error)
        third = _norm(error)
        moved = _norm(change)
        arrival = np.add(slopes[:, HERE], change, change)
        size = _norm(arrival)
        np.copyto(state, arrival)
        self._gradient.run(n)
        np.copyto(slopes[:, K13], self._gradient.result[:n])
        return Trial(fifth, third, moved, size, _dot(slopes[:, K13], arrival))

    def accept(self, taken: npt.NDArray[np.bool_]) -> None:
        n = self._count
        arrival = self._change[:n]
        if taken.all():
            np.copyto(self._slopes[:n, HERE], arrival)
            np.copyto(self._slopes[:n, K1], self._slopes[:n, K13])
        else:
            self._slopes[:n, HERE][taken] = arrival[taken]
            self._slopes[:n, K1][taken] = self._slopes[:n, K13][taken]

    def extend(self, legs: Integers, signed: Array) -> None:
        weights = DENSE_STAGES * signed[:, None, None]
        weights[:, :, HERE] = 1.0
        self._place(legs)
        for stage, slot in enumerate((K14, K15, K16)):
            self._combine(weights[:, stage, HERE:slot], legs, slice(HERE, slot), self._gradient.state)
            self._gradient.run(len(legs))
            self._slopes[legs, slot] = self._gradient.result[: len(legs)]
        if len(legs) < self._count:
            self._place(np.arange(self._count))

    def diagrams_here(self, legs: Integers) -> Array:
        self._loss.state[: len(legs)] = self._slopes[legs, HERE]
        return self._diagrams(legs)

    def diagrams_within(self, legs: Integers, weights: Array, at_end: Integers) -> Array:
        weights = weights.copy()
        weights[:, HERE] = 1.0
        self._combine(weights[:, HERE:], legs, slice(HERE, SLOTS), self._loss.state)
        self._loss.state[at_end] = self._change[legs[at_end]]
        return self._diagrams(legs)

    def keep(self, stay: Integers) -> None:
        for slot in (HERE, K1):
            self._slopes[: len(stay), slot] = self._slopes[stay, slot]
        self._count = len(stay)
        self._frozen = self._frozen[stay]
        self._place(np.arange(self._count))

    def states(self) -> Array:
        return self._slopes[: self._count, HERE]

    def _diagrams(self, legs: Integers) -> Array:
        n = len(legs)
        if self._frozen.size:
            self._loss.frozen[:n] = self._frozen[legs]
        self._loss.run(n)
        return self._loss.result[:n]

    def _combine(self, weights: Array, legs: Integers, slots: slice, out: Array) -> None:
        """out[j] = sum_s weights[j, s] slopes[legs[j], s], leg by leg where not all are concerned: no copy is made."""
        n = len(legs)
        if n == self._count:
            np.matmul(weights[:, None], self._slopes[:n, slots], out[:n, None])
        else:
            for place, leg in enumerate(legs):
                np.matmul(weights[place], self._slopes[leg, slots], out[place])

    def _place(self, legs: Integers) -> None:
        """Put the frozen numbers of these legs where the gradient is evaluated."""
        if self._frozen.size:
            self._gradient.frozen[: len(legs)] = self._frozen[legs]


def dense_weights(x: Array) -> Array:
    """The weights of state and slopes at the fraction x of a step, shape (len(x), SLOTS)."""
    factors = []
    product = np.ones_like(x)
    for k in range(len(DENSE)):
        product = product * (x if k % 2 == 0 else 1 - x)
        factors.append(product)
    rows = np.stack(factors, axis=1)[:, None]  # one product for each: the same bits in every batch
    return np.matmul(rows, DENSE)[:, 0]


def _dot(x: Array, y: Array) -> Array:
    return np.matmul(x[:, None], y[:, :, None])[:, 0, 0]


def _norm(x: Array) -> Array:
    return np.sqrt(_dot(x, x))


# --- the tableau, with the slopes of a step in slots: one that k_2 and k_3 share, then the state itself, then k_1, k_4, k_5, ...
# Thus the slopes that a stage needs lie side by side, and the state at a stage is one product of weights and slots.

HERE, K1, K13, K14, K15, K16, SLOTS = 1, 2, 12, 13, 14, 15, 16


def _slot(stage: int) -> int:
    return {1: K1, 2: 0, 3: 0}.get(stage, stage - 1)


def _weights(row: Row) -> Array:
    weights = np.zeros(SLOTS)
    for stage, coefficient in row.items():
        weights[_slot(stage)] = coefficient
    return weights


def _span(stage: int) -> tuple[int, int, int]:
    """From which slot to before which the weights of a stage are not zero, and where its slope goes."""
    slots = {HERE, *map(_slot, A[stage])}
    return min(slots), 1 + max(slots), _slot(stage)


STAGES = np.array([_weights(A[stage]) for stage in range(2, 13)])
DENSE_STAGES = np.array([_weights(A[stage]) for stage in (14, 15, 16)])
STAGE_SLOTS = tuple(map(_span, range(2, 13)))
STEP_WEIGHTS = _weights(B)
ERROR_WEIGHTS = np.array([_weights(ERROR_5), _weights(ERROR_3)])[:, K1:K13]
_end, _first, _last = _weights(B), _weights({1: 1.0}), _weights({13: 1.0})
DENSE = np.array([_end, _first - _end, 2 * _end - _first - _last, *map(_weights, D)])
