"""The stages of a step on an accelerator, through JAX in double precision.

The expressions of a program become one compiled function; weights and slopes stay on the device, and only a few numbers for each
leg come back at each step. Sums are carried out in another order than on the processor, so results are equal up to rounding,
not bit by bit. JAX is the extra `lossflow[gpu]`; double precision is switched on around each call alone.
"""

# pyright: reportMissingImports=false, reportMissingModuleSource=false
from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from lossflow.errors import InvalidInput
from lossflow.memory import available_memory
from lossflow.simulate.evaluation import Task
from lossflow.simulate.expressions import ONE
from lossflow.simulate.gradients import Program
from lossflow.simulate.stages import (
    DENSE_STAGES,
    ERROR_WEIGHTS,
    HERE,
    K1,
    K13,
    K14,
    K15,
    K16,
    SLOTS,
    STAGE_SLOTS,
    STAGES,
    STEP_WEIGHTS,
    AbstractStages,
    Trial,
)

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
LETTERS = "abcdefghijklmnopqstuvwxyz"  # without r, which counts the runs


def double_precision() -> AbstractContextManager[Any]:
    """JAX with float64, here and nowhere else. Raises `InvalidInput` where JAX is not installed."""
    try:
        import jax
    except ImportError:
        raise InvalidInput(
            "simulation on an accelerator needs JAX, which is not installed: pip install 'lossflow[gpu]', or leave "
            'backend="numpy"'
        ) from None
    return jax.enable_x64(True)


def devices() -> str:
    """What JAX computes on, in words: "gpu: NVIDIA H100" or "cpu: cpu"."""
    with double_precision():
        import jax

        return ", ".join(sorted({f"{device.platform}: {device.device_kind}" for device in jax.devices()}))


def free_memory() -> float:
    """Bytes of the device that are free: those of the processor where JAX computes there."""
    with double_precision():
        import jax

        found = jax.devices()[0].memory_stats()
    if not found or "bytes_limit" not in found:
        return available_memory()
    return float(found["bytes_limit"] - found.get("bytes_in_use", 0))


def function(task: Task) -> Callable[[Any, Any], Any]:
    """A task as a function of JAX arrays: from state (n, learned numbers) and frozen (n, frozen numbers) to (n, all outputs)."""
    import jax.numpy as jnp

    values, needed = task.expressions.values, task.expressions.needed(task.outputs)

    def evaluated(state: Any, frozen: Any) -> Any:
        runs = state.shape[0]
        inputs: dict[str, Any] = {}
        for flat, shapes in ((state, task.learned), (frozen, task.frozen)):
            start = 0
            for name, shape in shapes.items():
                inputs[name] = flat[:, start : start + prod(shape)].reshape(runs, *shape)
                start += prod(shape)
        arrays: dict[int, Any] = {}
        for number in needed:
            value = values[number]
            operands: list[Any] = [arrays[k] if k != ONE else None for k in value.operands]
            match value.kind:
                case "input":
                    made = inputs[value.detail]
                case "constant":
                    made = jnp.broadcast_to(task.expressions.constants[value.detail], (runs, *value.shape))
                case "view":
                    made = _viewed(operands[0], value.detail)
                case "power":
                    made = operands[0] * operands[1]
                case "product":
                    aligned = (_aligned(x, to, len(value.shape)) for x, to in zip(operands, value.detail, strict=True))
                    made = prod(aligned, start=1.0)
                case "sum":
                    made = jnp.sum(operands[0], axis=tuple(axis + 1 for axis in value.detail))
                case "contract":
                    xs, ys, out = ("r" + "".join(LETTERS[label] for label in labels) for labels in value.detail)
                    made = jnp.einsum(f"{xs},{ys}->{out}", *operands, precision="highest")
                case "combination":
                    made = jnp.zeros((runs, *value.shape))
                    for x, c, to in zip(operands, *value.detail, strict=True):
                        made = made + (c if x is None else c * _aligned(x, to, len(value.shape)))
                case "gather":
                    axis, table = value.detail
                    made = jnp.take(operands[0], task.expressions.tables[table], axis=axis + 1)
                case "scatter":
                    made = (
                        jnp.zeros((runs, *value.shape))
                        .at[_places(value.detail, operands[0].shape[1:])]
                        .set(operands[0])
                    )
                case "spread":
                    axis, number_of_table = value.detail
                    table = task.expressions.tables[number_of_table]
                    x = operands[0].reshape(
                        *operands[0].shape[: axis + 1], table.size, *operands[0].shape[axis + 1 + table.ndim :]
                    )
                    made = jnp.zeros((runs, *value.shape)).at[(*[slice(None)] * (axis + 1), table.ravel())].add(x)
            arrays[number] = made
        rows = [jnp.ones((runs, 1)) if k == ONE else arrays[k].reshape(runs, -1) for k in task.outputs]
        return jnp.concatenate(rows, axis=1) if rows else jnp.zeros((runs, 0))

    return evaluated


class DeviceStages(AbstractStages):
    """Weights and slopes on the device, shape (rows, SLOTS, weights); each step is a handful of compiled calls.

    A new number of rows would be compiled anew, so a leg that has ended keeps its row and rests there, until half of all
    rows rest: then the others close ranks.
    """

    def __init__(self, program: Program, states: Array, frozen: Array) -> None:
        with double_precision():
            import jax
            import jax.numpy as jnp

            self._gradient, self._diagrams, self._stage, self._sums = _compiled(program)
            self._frozen = jax.device_put(jnp.asarray(frozen))
            self._slopes = jnp.zeros((len(states), SLOTS, program.weights)).at[:, HERE].set(states)
            self._arrival = self._slopes[:, HERE]
        self._row = np.arange(len(states))  # of each leg

    def begin(self) -> tuple[Array, Array]:
        with double_precision():
            here = self._slopes[:, HERE]
            slope = self._gradient(here, self._frozen)
            self._slopes = self._slopes.at[:, K1].set(slope)
            return _norm(here)[self._row], _norm(slope)[self._row]

    def attempt(self, signed: Array) -> Trial:
        steps = self._rows(signed)
        weights = STAGES * steps[:, None, None]
        weights[:, :, HERE] = 1.0
        with double_precision():
            for stage, (first, last, slot) in enumerate(STAGE_SLOTS):
                row = np.zeros((len(steps), SLOTS))
                row[:, first:last] = weights[:, stage, first:last]
                self._slopes = self._stage(self._slopes, row, slot, self._frozen)
            self._slopes, self._arrival, numbers = self._sums(self._slopes, steps, self._frozen)
            return Trial(*np.asarray(numbers)[:, self._row])

    def accept(self, taken: npt.NDArray[np.bool_]) -> None:
        with double_precision():
            import jax.numpy as jnp

            mask = jnp.asarray(self._rows(taken))[:, None]
            here = jnp.where(mask, self._arrival, self._slopes[:, HERE])
            slope = jnp.where(mask, self._slopes[:, K13], self._slopes[:, K1])
            self._slopes = self._slopes.at[:, HERE].set(here).at[:, K1].set(slope)

    def extend(self, legs: Integers, signed: Array) -> None:
        steps = np.zeros(len(self._row))
        steps[legs] = signed
        steps = self._rows(steps)
        with double_precision():
            for stage, slot in enumerate((K14, K15, K16)):
                row = DENSE_STAGES[stage] * steps[:, None]
                row[:, HERE] = 1.0
                row[:, :HERE] = row[:, slot:] = 0.0
                self._slopes = self._stage(self._slopes, row, slot, self._frozen)

    def diagrams_here(self, legs: Integers) -> Array:
        with double_precision():
            return np.asarray(self._diagrams(self._slopes[:, HERE], self._frozen))[self._row[legs]]

    def diagrams_within(self, legs: Integers, weights: Array, at_end: Integers) -> Array:
        with double_precision():
            import jax.numpy as jnp

            rows = np.zeros((self._slopes.shape[0], SLOTS))
            rows[self._row[legs], HERE:] = weights[:, HERE:]
            rows[:, HERE] = 1.0
            ends = np.zeros(len(rows), bool)
            ends[self._row[legs[at_end]]] = True
            inside = jnp.einsum("rs,rsw->rw", rows, self._slopes, precision="highest")
            found = self._diagrams(jnp.where(ends[:, None], self._arrival, inside), self._frozen)
            return np.asarray(found)[self._row[legs]]

    def keep(self, stay: Integers) -> None:
        self._row = self._row[stay]
        if 0 < len(self._row) <= self._slopes.shape[0] // 2:
            with double_precision():
                self._slopes, self._arrival, self._frozen = (
                    x[self._row] for x in (self._slopes, self._arrival, self._frozen)
                )
            self._row = np.arange(len(self._row))

    def states(self) -> Array:
        with double_precision():
            return np.asarray(self._slopes[:, HERE])[self._row]

    def _rows(self, of_legs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Numbers of the legs at their rows, 0 where a row rests: a step of length 0."""
        rows = np.zeros(self._slopes.shape[0], of_legs.dtype)
        rows[self._row] = of_legs
        return rows


@lru_cache(maxsize=8)
def _compiled(program: Program) -> tuple[Any, Any, Any, Any]:
    """The gradient, the diagrams, one stage and the end of a step, each compiled once for each number of legs."""
    import jax
    import jax.numpy as jnp

    gradient, diagrams = function(program.gradient), function(program.diagrams)

    def stage(slopes: Any, row: Any, slot: int, frozen: Any) -> Any:
        state = jnp.einsum("rs,rsw->rw", row, slopes, precision="highest")
        return slopes.at[:, slot].set(gradient(state, frozen))

    def sums(slopes: Any, signed: Any, frozen: Any) -> tuple[Any, Any, Any]:
        used = slopes[:, K1:K13]
        change = jnp.einsum("s,rsw->rw", STEP_WEIGHTS[K1:K13], used, precision="highest") * signed[:, None]
        errors = [jnp.einsum("s,rsw->rw", weights, used, precision="highest") for weights in ERROR_WEIGHTS]
        arrival = slopes[:, HERE] + change
        slope = gradient(arrival, frozen)
        norms = [jnp.sqrt(jnp.sum(x * x, axis=1)) for x in (*errors, change, arrival)]
        return slopes.at[:, K13].set(slope), arrival, jnp.stack([*norms, jnp.sum(slope * arrival, axis=1)])

    return (
        jax.jit(gradient),
        jax.jit(diagrams),
        jax.jit(stage, donate_argnums=0),
        jax.jit(sums, donate_argnums=0),
    )


def _norm(x: Any) -> Array:
    import jax.numpy as jnp

    return np.asarray(jnp.sqrt(jnp.sum(x * x, axis=1)))


def _viewed(x: Any, axes: Sequence[int]) -> Any:
    """x with axes fixed (~index) or merged into diagonals; the first axis counts the runs."""
    import jax.numpy as jnp

    x = x[(slice(None), *(~a if a < 0 else slice(None) for a in axes))]
    kept = "".join(LETTERS[a] for a in axes if a >= 0)
    return jnp.einsum(f"r{kept}->r{''.join(sorted(set(kept)))}", x)


def _places(axes: Sequence[int], shape: Sequence[int]) -> tuple[Any, ...]:
    """Where a view of this shape lies in the array it was taken from."""
    grid = np.ix_(*map(range, shape)) if shape else ()
    return (slice(None), *(~a if a < 0 else grid[a] for a in axes))


def _aligned(x: Any, places: Sequence[int], rank: int) -> Any:
    """x with its axes at `places` of `rank` axes, length one elsewhere; the first axis counts the runs."""
    x = x.transpose(0, *(1 + axis for axis in sorted(range(len(places)), key=places.__getitem__)))
    return x[(slice(None), *(slice(None) if axis in places else None for axis in range(rank)))]
