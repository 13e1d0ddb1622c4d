"""Arrays as expressions: equal ones are one, and the gradient of a scalar is a set of further expressions.

    z[keep] = sum over the labels not kept of  x[labels of x] * y[labels of y]

Every array depends on the run, so an axis for the runs comes first and is not mentioned here. A value is known by what
makes it, with its axes counted from 0; two expressions of one making are one value. So the nu equal Gram matrices of
||f||^2 are computed once, and whatever the gradient needs of the loss is shared with it. docs/theory/diagrams.md
section 2 [YGG26v2].
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterable, Mapping, Sequence
from itertools import product
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Label = Hashable
Kind = Literal[
    "input", "constant", "view", "gather", "power", "product", "contract", "sum", "scatter", "spread", "combination"
]
ONE = -1  # the value 1, without axes, in combinations


class Value(NamedTuple):
    """What makes an array. operands: the values it is made of; detail: the rest of its making, by kind:

    "input": its name. "constant": its number (the same array for all runs). "view": for each axis of the operand the axis
    it becomes, or ~index where it is fixed. "gather": (axis, number of the table), whose entries say where along that axis
    to read. "power": (base, exponent), the product of the operands. "product": for each operand the axis that each of its
    axes becomes. "contract": labels of both operands and of the result. "sum": the axes summed over.
    "scatter", "spread": as "view" and "gather", of which they are the transposes. "combination": coefficients and, for each
    operand, the axis that each of its axes becomes.
    """

    kind: Kind
    operands: tuple[int, ...]
    detail: Any
    shape: tuple[int, ...]


class Labeled(NamedTuple):
    """A value with a label on each axis, as in an index expression: x[i, j]. Labels differ from each other."""

    value: int
    labels: tuple[Label, ...]


class Expressions:
    """A growing list of values, each after its operands."""

    def __init__(self) -> None:
        self.values: list[Value] = []
        self.constants: list[npt.NDArray[np.float64]] = []
        self.tables: list[npt.NDArray[np.intp]] = []
        self._known: dict[tuple[Kind, tuple[int, ...], Any, tuple[int, ...]], int] = {}
        self._symmetric: set[int] = set()
        self._tables_known: dict[tuple[tuple[int, ...], bytes], int] = {}

    def input(self, name: str, shape: tuple[int, ...]) -> int:
        """The array called `name`, given anew for each evaluation."""
        return self._make("input", (), name, shape)

    def constant(self, array: npt.NDArray[np.float64]) -> int:
        """An array that is the same for all runs."""
        self.constants.append(array)
        return self._make("constant", (), len(self.constants) - 1, array.shape)

    def view(self, x: int, axes: Sequence[int]) -> int:
        """x with each axis renamed to `axes`; ~index fixes an axis at an index, an axis named twice is a diagonal."""
        if tuple(axes) == tuple(range(len(axes))):
            return x
        shape = dict(zip(axes, self.values[x].shape, strict=True))
        return self._make("view", (x,), tuple(axes), tuple(shape[a] for a in range(1 + max(axes, default=-1))))

    def gather(self, x: int, axis: int, table: npt.NDArray[np.intp]) -> int:
        """x[.., table[j1, j2, ..], ..]: one axis replaced by the axes of a table of indices along it."""
        number = self._tables_known.setdefault((table.shape, table.tobytes()), len(self.tables))
        if number == len(self.tables):
            self.tables.append(table)
        shape = self.values[x].shape
        return self._make("gather", (x,), (axis, number), (*shape[:axis], *table.shape, *shape[axis + 1 :]))

    def power(self, x: int, exponent: int) -> int:
        """x^exponent, elementwise, by repeated squaring; exponent >= 1."""
        if exponent == 1:
            return x
        half = self.power(x, exponent // 2) if exponent % 2 == 0 else self.power(x, exponent - 1)
        operands = (half, half if exponent % 2 == 0 else x)
        made = self._make("power", operands, (x, exponent), self.values[x].shape)
        if x in self._symmetric:
            self._symmetric.add(made)
        return made

    def times(self, x: Labeled, y: Labeled) -> Labeled:
        """x[..] * y[..], with the labels of both."""
        if (len(x.labels), x.value) < (len(y.labels), y.value):
            x, y = y, x
        if x.labels == y.labels[::-1] and y.value in self._symmetric:
            y = Labeled(y.value, x.labels)
        elif x.labels == y.labels[::-1] and x.value in self._symmetric:
            x = Labeled(x.value, y.labels)
        if x == y:
            return Labeled(self.power(x.value, 2), x.labels)
        labels = x.labels + tuple(label for label in y.labels if label not in x.labels)
        places = tuple(tuple(map(labels.index, operand.labels)) for operand in (x, y))
        made = self._make("product", (x.value, y.value), places, self._shape(labels, (x, y)))
        if len(labels) == 2 and x.labels == y.labels and {x.value, y.value} <= self._symmetric:
            self._symmetric.add(made)
        return Labeled(made, labels)

    def summed(self, x: Labeled, keep: Iterable[Label]) -> Labeled:
        """The sum of x over all labels but those kept."""
        keep = set(keep)
        labels = tuple(label for label in x.labels if label in keep)
        if labels == x.labels:
            return x
        axes = tuple(axis for axis, label in enumerate(x.labels) if label not in keep)
        return Labeled(self._make("sum", (x.value,), axes, self._shape(labels, (x,))), labels)

    def contracted(self, x: Labeled, y: Labeled, keep: Iterable[Label], order: Sequence[Label] = ()) -> Labeled:
        """The sum of x[..] * y[..] over all labels but those kept; its axes come in `order` where that costs nothing."""
        keep = set(keep)
        x, y = (self.summed(a, keep.union(b.labels)) for a, b in ((x, y), (y, x)))
        if x.value > y.value:
            x, y = y, x
        shared = [label for label in x.labels if label in y.labels]
        batch = [label for label in shared if label in keep]
        rows = [label for label in x.labels if label not in y.labels]
        columns = [label for label in y.labels if label not in x.labels]
        if len(batch) == len(shared) or (batch and not rows and not columns):
            return self.summed(self.times(x, y), keep)
        labels = (*batch, *rows, *columns)
        if tuple(order) in (labels, (*batch, *columns, *rows)):
            labels = tuple(order)
        detail, operands = min(self._spellings(x, y, labels))
        made = self._make("contract", operands, detail, self._shape(labels, (x, y)))
        if len(labels) == 2 and (*_relabeled(y, x, labels[::-1]), y.value, x.value) == (
            *_relabeled(x, y, labels),
            x.value,
            y.value,
        ):
            self._symmetric.add(made)
        return Labeled(made, labels)

    def combination(
        self, terms: Sequence[tuple[float, Labeled]], labels: Sequence[Label], shape: tuple[int, ...]
    ) -> int:
        """sum_j c_j x_j[..], constant along the labels that an x_j lacks; the value ONE stands for 1."""
        terms = [(c, x) for c, x in terms if c != 0]
        places = tuple(tuple(map(tuple(labels).index, x.labels)) for _, x in terms)
        coefficients = tuple(c for c, _ in terms)
        made = self._make("combination", tuple(x.value for _, x in terms), (coefficients, places), shape)
        if len(shape) == 2 and all(
            x.value == ONE or (len(x.labels) == 2 and x.value in self._symmetric) for _, x in terms
        ):
            self._symmetric.add(made)
        return made

    def needed(self, outputs: Iterable[int]) -> list[int]:
        """All values that these are made of, and these, operands first."""
        found = {number for number in outputs if number != ONE}
        for number in range(max(found, default=-1), -1, -1):
            if number in found:
                found.update(operand for operand in self.values[number].operands if operand != ONE)
        return sorted(found)

    def gradient(self, loss: Mapping[int, float], inputs: Sequence[int]) -> list[int]:
        """d(sum_j c_j s_j) / d(input), from the c_j by scalar s_j (or ONE), by reverse accumulation; a value for each input."""
        adjoints: dict[int, dict[Labeled, float]] = {}

        def add(value: int, coefficient: float, term: Labeled) -> None:
            terms = adjoints.setdefault(value, {})
            terms[term] = terms.get(term, 0.0) + coefficient

        for scalar, coefficient in loss.items():
            if scalar != ONE:
                add(scalar, coefficient, Labeled(ONE, ()))
        moving = self._depending_on(inputs)
        for number in reversed(moving):
            if number in adjoints and number not in inputs:
                coefficient, adjoint = self._collected(number, adjoints.pop(number))
                for operand, factor, term in self._pulled_back(number, adjoint, moving):
                    add(operand, coefficient * factor, term)
        return [self._whole(number, adjoints.get(number, {})) for number in inputs]

    def _pulled_back(
        self, number: int, adjoint: Labeled, moving: Container[int]
    ) -> Iterable[tuple[int, float, Labeled]]:
        """What the adjoint of a value adds to those of its operands; labels of an adjoint are the axes of its value."""
        value = self.values[number]
        match value.kind:
            case "sum":
                (x,) = value.operands
                kept = [axis for axis in range(len(self.values[x].shape)) if axis not in value.detail]
                yield x, 1.0, Labeled(adjoint.value, tuple(kept[axis] for axis in adjoint.labels))  # type: ignore[index]
            case "power":
                base, exponent = value.detail
                rest = Labeled(self.power(base, exponent - 1), tuple(range(len(value.shape))))
                yield base, float(exponent), rest if adjoint.value == ONE else self.times(rest, adjoint)
            case "view" | "gather":
                (x,) = value.operands
                whole = self._whole(number, {adjoint: 1.0})
                kind = "scatter" if value.kind == "view" else "spread"
                made = self._make(kind, (whole,), value.detail, self.values[x].shape)
                yield x, 1.0, Labeled(made, tuple(range(len(self.values[x].shape))))
            case "product" | "contract":
                x, y = value.operands
                xs, ys, out = value.detail if value.kind == "contract" else (*value.detail, range(len(value.shape)))
                above = Labeled(adjoint.value, tuple(out[axis] for axis in adjoint.labels))  # type: ignore[index]
                for operand, own, other in ((x, xs, Labeled(y, ys)), (y, ys, Labeled(x, xs))):
                    if operand in moving:
                        term = (
                            self.summed(other, own) if above.value == ONE else self.contracted(above, other, own, own)
                        )
                        yield operand, 1.0, Labeled(term.value, tuple(map(own.index, term.labels)))

    def _collected(self, number: int, terms: dict[Labeled, float]) -> tuple[float, Labeled]:
        """An adjoint as one coefficient times one expression, as small as it can be."""
        if len(terms) == 1:
            ((term, coefficient),) = terms.items()
            return coefficient, term
        labels = tuple(sorted({label for term in terms for label in term.labels}))  # type: ignore[type-var]
        shape = tuple(self.values[number].shape[axis] for axis in labels)  # type: ignore[index]
        return 1.0, Labeled(self.combination([(c, term) for term, c in terms.items()], labels, shape), labels)

    def _whole(self, number: int, terms: dict[Labeled, float]) -> int:
        """An adjoint in the full shape of its value."""
        shape = self.values[number].shape
        if len(terms) == 1:
            ((term, coefficient),) = terms.items()
            if coefficient == 1 and term.value != ONE and term.labels == tuple(range(len(shape))):
                return term.value
        return self.combination([(c, term) for term, c in terms.items()], range(len(shape)), shape)

    def _depending_on(self, inputs: Sequence[int]) -> dict[int, None]:
        found: dict[int, None] = {}
        for number, value in enumerate(self.values):
            if number in inputs or any(operand in found for operand in value.operands):
                found[number] = None
        return found

    def _spellings(self, x: Labeled, y: Labeled, labels: Sequence[Label]) -> Iterable[tuple[Any, tuple[int, int]]]:
        """The same contraction with its operands exchanged and its symmetric operands transposed."""
        for a, b in ((x, y), (y, x)):
            for first, second in product(self._transposes(a), self._transposes(b)):
                yield _relabeled(first, second, labels), (a.value, b.value)

    def _transposes(self, x: Labeled) -> tuple[Labeled, ...]:
        return (x, Labeled(x.value, x.labels[::-1])) if x.value in self._symmetric else (x,)

    def _shape(self, labels: Sequence[Label], operands: Sequence[Labeled]) -> tuple[int, ...]:
        lengths: dict[Label, int] = {}
        for operand in operands:
            lengths.update(zip(operand.labels, self.values[operand.value].shape, strict=True))
        return tuple(lengths[label] for label in labels)

    def _make(self, kind: Kind, operands: tuple[int, ...], detail: Any, shape: tuple[int, ...]) -> int:
        key = (kind, operands, detail, shape)
        if key not in self._known:
            self._known[key] = len(self.values)
            self.values.append(Value(kind, operands, detail, shape))
        return self._known[key]


def _relabeled(x: Labeled, y: Labeled, labels: Sequence[Label]) -> tuple[tuple[int, ...], ...]:
    """The labels of x, y and of the result, numbered by first appearance."""
    numbers: dict[Label, int] = {}
    return tuple(
        tuple(numbers.setdefault(label, len(numbers)) for label in row) for row in (x.labels, y.labels, labels)
    )
