"""Expressions as a list of operations on prepared memory, for many runs at once.

Everything is decided before the first evaluation: where each value lives, which views the operations act on, where a matrix
product needs no copy. An evaluation is a loop over ready-made calls. Operations act on each run by itself: what is computed
for one run does not depend, to the last bit, on which other runs are computed with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lossflow.simulate.expressions import ONE, Expressions, Value

Array = npt.NDArray[np.float64]
Shapes = Mapping[str, tuple[int, ...]]


class Task(NamedTuple):
    """What is to be computed. outputs: the values wanted; learned, frozen: the shapes of the inputs by name."""

    expressions: Expressions
    outputs: tuple[int, ...]
    learned: Shapes
    frozen: Shapes

    def memory(self) -> int:
        """How many numbers an evaluation needs besides its inputs, per run."""
        return sum(_Plan(self).lengths) + sum(prod(_shape(self, number)) for number in self.outputs)


class Evaluator:
    """The operations of a task on memory for up to `capacity` runs.

    Write the learned tensors into `state`, shape (capacity, learned numbers), and the frozen ones into `frozen`; `run(r)`
    evaluates the first r runs; `result` then holds the outputs one after another, shape (capacity, their numbers).
    """

    def __init__(self, task: Task, capacity: int) -> None:
        self.task = task
        self.state = np.zeros((capacity, sum(map(prod, task.learned.values()))))
        self.frozen = np.zeros((capacity, sum(map(prod, task.frozen.values()))))
        self.result = np.zeros((capacity, sum(prod(_shape(task, number)) for number in task.outputs)))
        self.plan = _Plan(task)
        self._memory = [np.zeros((capacity, length)) for length in self.plan.lengths]
        self._scratch: dict[tuple[str, int], Array] = {}
        self._operations: dict[int, list[Operation]] = {}

    def run(self, runs: int) -> None:
        """Evaluate the first `runs` rows of `state` and `frozen` into those of `result`."""
        operations = self._operations.get(runs)
        if operations is None:
            operations = self._operations[runs] = _Binding(self, runs).operations
        for function, arguments in operations:
            function(*arguments)

    def memory(self, number: int, runs: int) -> Array:
        """The stretch of memory of a value, shape (runs, length)."""
        return self._memory[self.plan.place[number]][:runs]

    def scratch(self, role: str, shape: tuple[int, ...]) -> Array:
        """Memory for one operation only; operations with an equal need in the same role share it."""
        key = (role, prod(shape[1:]))
        if key not in self._scratch:
            self._scratch[key] = np.zeros((len(self.state), key[1]))
        return self._scratch[key][: shape[0]].reshape(shape)


def blocks(flat: Array, shapes: Shapes) -> dict[str, Array]:
    """Views of the numbers of each run, shape (R, total), as tensors of shape (R, *axes) one after another."""
    views: dict[str, Array] = {}
    start = 0
    for name, shape in shapes.items():
        views[name] = flat[:, start : start + prod(shape)].reshape(len(flat), *shape)
        start += prod(shape)
    return views


Operation = tuple[Callable[..., object], tuple[Any, ...]]


class _Plan:
    """Which stretch of memory each value lives in; a stretch is used again when the value in it is no longer needed."""

    def __init__(self, task: Task) -> None:
        values = task.expressions.values
        needed = task.expressions.needed(task.outputs)
        self.order = [number for number in needed if values[number].kind not in ("input", "constant")]
        outputs = [number for number in task.outputs if number != ONE]
        # what is computed straight into the result
        self.direct = {n for n in outputs if values[n].kind == "combination" and outputs.count(n) == 1}
        self.lengths: list[int] = []
        self.place: dict[int, int] = {}
        last = self._last_uses(task)
        free: dict[int, list[int]] = {}
        for step, number in enumerate(self.order):
            value = values[number]
            if value.kind == "view" or number in self.direct:
                continue
            length = prod(value.shape)
            inherited = self._inherited(number, step, last, values)
            if inherited is not None:
                self.place[number] = self.place[inherited]
            elif free.get(length):
                self.place[number] = free[length].pop()
            else:
                self.place[number] = len(self.lengths)
                self.lengths.append(length)
            for operand in {_owner(values, operand) for operand in value.operands if operand != ONE}:
                if last.get(operand) == step and operand in self.place and operand != inherited:
                    free.setdefault(self.lengths[self.place[operand]], []).append(self.place[operand])

    def _last_uses(self, task: Task) -> dict[int, int]:
        values = task.expressions.values
        last: dict[int, int] = {}
        for step, number in enumerate(self.order):
            for operand in values[number].operands:
                if operand != ONE:
                    last[_owner(values, operand)] = step
        for number in task.outputs:
            if number != ONE:
                last[_owner(values, number)] = len(self.order)
        return last

    def _inherited(self, number: int, step: int, last: Mapping[int, int], values: Sequence[Value]) -> int | None:
        """An operand that is not needed afterwards and can be overwritten number by number."""
        value = values[number]
        if value.kind not in ("power", "product", "combination") or not value.operands:
            return None
        operand = value.operands[0]
        if (
            operand == ONE
            or values[operand].shape != value.shape
            or values[operand].kind == "view"
            or last[operand] != step
        ):
            return None
        places = (
            value.detail[0] if value.kind == "product" else value.detail[1][0] if value.kind == "combination" else ()
        )
        others = {_owner(values, other) for other in value.operands[1:] if other != ONE}
        if list(places) != sorted(places) or (value.kind != "power" and operand in others):
            return None
        return operand if operand in self.place else None


class _Binding:
    """The list of operations for a fixed number of runs: all views made, nothing left to decide."""

    def __init__(self, evaluator: Evaluator, runs: int) -> None:
        self.evaluator, self.runs, self.task = evaluator, runs, evaluator.task
        self.operations: list[Operation] = []
        self.arrays = self._inputs()
        shapes = {str(place): _shape(self.task, number) for place, number in enumerate(self.task.outputs)}
        results = list(blocks(evaluator.result[:runs], shapes).values())
        direct = {n: out for n, out in zip(self.task.outputs, results, strict=True) if n in evaluator.plan.direct}
        for number in evaluator.plan.order:
            self._bind(number, direct.get(number))
        for number, result in zip(self.task.outputs, results, strict=True):
            if number not in direct:
                self._emit(np.copyto, result, 1.0 if number == ONE else self.arrays[number])

    def _inputs(self) -> dict[int, Array]:
        """Views of the inputs, and constants as if each run had its own."""
        evaluator, expressions = self.evaluator, self.task.expressions
        views = blocks(evaluator.state[: self.runs], self.task.learned)
        views |= blocks(evaluator.frozen[: self.runs], self.task.frozen)
        arrays: dict[int, Array] = {}
        for number in expressions.needed(self.task.outputs):
            value = expressions.values[number]
            if value.kind == "input":
                arrays[number] = views[value.detail]
            elif value.kind == "constant":
                arrays[number] = np.broadcast_to(expressions.constants[value.detail], (self.runs, *value.shape))
        return arrays

    def _emit(self, function: Callable[..., object], *arguments: Any) -> None:
        self.operations.append((function, arguments))

    def _bind(self, number: int, result: Array | None) -> None:
        value = self.task.expressions.values[number]
        operands = [self.arrays[operand] if operand != ONE else None for operand in value.operands]
        if value.kind == "view":
            assert operands[0] is not None
            self.arrays[number] = _viewed(operands[0], value.detail)
            return
        out = self.evaluator.memory(number, self.runs).reshape(self.runs, *value.shape) if result is None else result
        self.arrays[number] = out
        match value.kind:
            case "power":
                self._emit(np.multiply, *operands, out)
            case "product":
                aligned = [_aligned(x, to, len(value.shape)) for x, to in zip(operands, value.detail, strict=True)]  # type: ignore[arg-type]
                self._emit(np.multiply, *aligned, out)
            case "sum":
                self._emit(np.add.reduce, operands[0], tuple(axis + 1 for axis in value.detail), None, out)
            case "contract":
                self._contract(value.detail, *operands, out)  # type: ignore[arg-type]
            case "combination":
                self._combination(value.detail, operands, out)
            case "gather":
                axis, table = value.detail
                self._emit(np.take, operands[0], self.task.expressions.tables[table], axis + 1, out, "clip")
            case "scatter":
                self._emit(np.copyto, out, 0.0)
                self._emit(np.copyto, _viewed(out, value.detail), operands[0])
            case "spread":
                self._spread(value.detail, operands[0], out)  # type: ignore[arg-type]

    def _combination(self, detail: Any, operands: Sequence[Array | None], out: Array) -> None:
        """out = c (x_0 +- x_1 +- ...) where all coefficients have one size, which saves products, else sum_j c_j x_j."""
        coefficients, places = detail
        terms = [1.0 if x is None else _aligned(x, to, out.ndim - 1) for x, to in zip(operands, places, strict=True)]
        if len(terms) > 1 and len({abs(c) for c in coefficients}) == 1:
            total = terms[0]
            for c, term in zip(coefficients[1:], terms[1:], strict=True):
                self._emit(np.add if c == coefficients[0] else np.subtract, total, term, out)
                total = out
            terms, coefficients = [total], coefficients[:1]
        self._emit(np.multiply, *((terms[0], coefficients[0]) if terms else (0.0, 0.0)), out)
        for c, term in zip(coefficients[1:], terms[1:], strict=True):
            scaled = self.evaluator.scratch("term", out.shape)
            self._emit(np.multiply, term, c, scaled)
            self._emit(np.add, out, scaled, out)

    def _contract(self, detail: Any, x: Array, y: Array, out: Array) -> None:
        """A batch of matrix products: (batch, rows, inner) times (batch, inner, columns), in whichever order out has."""
        xs, ys, labels = detail
        batch = [label for label in labels if label in xs and label in ys]
        inner = [label for label in xs if label in ys and label not in labels]
        if any(label not in xs for label in labels[len(batch) : len(batch) + 1]):  # the columns of y come first
            x, y, xs, ys = y, x, ys, xs
        rows = [label for label in labels if label in xs and label not in batch]
        columns = [label for label in labels if label in ys and label not in batch]
        left = self._matrix("left", x, [*batch, *rows, *inner], xs, len(rows), len(inner))
        right = self._matrix("right", y, [*batch, *inner, *columns], ys, len(inner), len(columns))
        order = [*batch, *rows, *columns]
        lengths = dict(zip(labels, out.shape[1:], strict=True))
        shape = (self.runs, *(lengths[label] for label in batch))
        target = out.transpose(0, *(1 + labels.index(label) for label in order))
        matrix = target.reshape(
            *shape, prod(lengths[label] for label in rows), prod(lengths[label] for label in columns)
        )
        if np.shares_memory(matrix, out):
            self._emit(np.matmul, left, right, matrix)
        else:
            matrix = self.evaluator.scratch("result", matrix.shape)
            self._emit(np.matmul, left, right, matrix)
            self._emit(np.copyto, target, matrix.reshape(target.shape))

    def _matrix(
        self, role: str, x: Array, order: Sequence[int], labels: Sequence[int], rows: int, columns: int
    ) -> Array:
        """x with its axes in `order`, the last `columns` axes and the `rows` before them merged into the sides of a matrix.

        A view where strides allow it and BLAS accepts it, else a copy.
        """
        moved = x.transpose(0, *(1 + labels.index(label) for label in order))
        split = moved.ndim - columns
        shape = (*moved.shape[: split - rows], prod(moved.shape[split - rows : split]), prod(moved.shape[split:]))
        matrix = moved.reshape(shape)
        unit = any(n == 1 or step == x.itemsize for n, step in zip(shape[-2:], matrix.strides[-2:], strict=True))
        if unit and np.may_share_memory(matrix, x):
            return matrix
        copy = self.evaluator.scratch(role, moved.shape)
        self._emit(np.copyto, copy, moved)
        return copy.reshape(shape)

    def _spread(self, detail: tuple[int, int], x: Array, out: Array) -> None:
        """The sum of x over all entries of a table that hold the same index: the transpose of a gather."""
        axis, number = detail
        table = self.task.expressions.tables[number]
        sources, present = _sources(table, out.shape[axis + 1])
        flat = x.reshape(*x.shape[: axis + 1], table.size, *x.shape[axis + 1 + table.ndim :])
        gathered = self.evaluator.scratch("spread", (*flat.shape[: axis + 1], *sources.shape, *flat.shape[axis + 2 :]))
        self._emit(np.take, flat, sources, axis + 1, gathered, "clip")
        if not present.all():
            mask = present.reshape(*present.shape, *(1,) * (flat.ndim - axis - 2))
            self._emit(np.multiply, gathered, mask.astype(np.float64), gathered)
        self._emit(np.add.reduce, gathered, axis + 2, None, out)


def _shape(task: Task, number: int) -> tuple[int, ...]:
    return () if number == ONE else task.expressions.values[number].shape


def _owner(values: Sequence[Value], number: int) -> int:
    """The value whose memory a view shows."""
    while values[number].kind == "view":
        (number,) = values[number].operands
    return number


def _viewed(x: Array, axes: Sequence[int]) -> Array:
    """x with axes fixed (~index) or merged into diagonals, as a view; the first axis counts the runs."""
    x = x[(slice(None), *(~a if a < 0 else slice(None) for a in axes))]
    kept = [a for a in axes if a >= 0]
    strides = [
        sum(x.strides[1 + k] for k, a in enumerate(kept) if a == axis) for axis in range(1 + max(kept, default=-1))
    ]
    lengths = [x.shape[1 + kept.index(axis)] for axis in range(len(strides))]
    return np.lib.stride_tricks.as_strided(x, (len(x), *lengths), (x.strides[0], *strides))


def _aligned(x: Array, places: Sequence[int], rank: int) -> Array:
    """x with its axes at `places` of `rank` axes, length one elsewhere; the first axis counts the runs."""
    x = x.transpose(0, *(1 + axis for axis in sorted(range(len(places)), key=places.__getitem__)))
    return x[(slice(None), *(slice(None) if axis in places else None for axis in range(rank)))]


def _sources(table: npt.NDArray[np.intp], length: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """For each index the entries of the table that hold it, padded to one width, and where they are no padding."""
    flat = table.ravel()
    counts = np.bincount(flat, minlength=length)
    order = np.argsort(flat, kind="stable")
    starts = np.cumsum(counts) - counts
    width = np.arange(max(int(counts.max()), 1))
    present = width < counts[:, None]
    return order[np.where(present, starts[:, None] + width, 0)], present
