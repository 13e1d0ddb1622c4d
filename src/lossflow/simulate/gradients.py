"""A loss at given sizes as a program: its value and its gradient for many runs at once.

    L_r = sum_j c_j prod(sizes^powers) G_j(tensors of run r),      g_r = dL_r/du  for every learned tensor u

The sums over the nodes of each diagram are ordered (`contraction`), the gradient is derived from the expressions that result
(`expressions`), and both are carried out on prepared memory (`evaluation`). docs/theory/diagrams.md sections 2 and 5 [YGG26v2].
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from math import gcd, prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lossflow.description import SizeMap
from lossflow.diagrams.diagram import Diagram
from lossflow.diagrams.polynomial import DiagramPolynomial, Term
from lossflow.diagrams.tensor import Factor, Pinned, Tensor
from lossflow.errors import InvalidInput
from lossflow.memory import require_memory
from lossflow.simulate.contraction import contract, work
from lossflow.simulate.evaluation import Evaluator, Task, blocks
from lossflow.simulate.expressions import Expressions, Labeled

Array = npt.NDArray[np.float64]


class Program:
    """The values and the gradient of a sum of diagrams at given sizes, batched over runs.

    Calling it with tensors {name: array of shape (R, *axes)} gives the losses, of shape (R,), and the gradient
    {name: (R, *axes)} with respect to each learned tensor. Raises `InvalidInput` for tensors that are missing, unknown
    or of another shape. `compiled(loss, sizes)` makes it.
    """

    def __init__(self, loss: DiagramPolynomial, sizes: Mapping[str, float]) -> None:
        sizes = loss.require(sizes)
        self.learned = {t.name: _shape(t, sizes) for t in loss.tensors if t.learned}
        self.frozen = {t.name: _shape(t, sizes) for t in loss.tensors if not t.learned}
        self.degree = max((_degree(term.diagram) for term in loss.terms), default=0)
        expressions = Expressions()
        inputs = {t.name: expressions.input(t.name, _shape(t, sizes)) for t in loss.tensors}
        terms: dict[int, float] = {}
        for term in loss.terms:
            value = _lowered(expressions, term.diagram, inputs, sizes)
            if value is not None:
                terms[value] = terms.get(value, 0.0) + _coefficient(term, sizes)
        gradient = expressions.gradient(terms, [inputs[name] for name in self.learned])
        self.coefficients = tuple(terms.values())
        self.diagrams = Task(expressions, tuple(terms), self.learned, self.frozen)
        self.gradient = Task(expressions, tuple(gradient), self.learned, self.frozen)

    def __call__(self, tensors: Mapping[str, npt.ArrayLike]) -> tuple[Array, dict[str, Array]]:
        """The losses and gradients of all runs in `tensors`."""
        arrays = {name: np.asarray(array, np.float64) for name, array in tensors.items()}
        runs = self._checked(arrays)
        scalars, gradient = (self._evaluated(task, arrays, runs) for task in (self.diagrams, self.gradient))
        return self.loss(scalars)[0], blocks(gradient, self.learned)

    def loss(self, diagrams: Array) -> tuple[Array, Array]:
        """L = sum_j c_j G_j from the values of the diagrams, shape (R, diagrams), and sum_j |c_j G_j|, its scale of rounding."""
        loss, scale = np.zeros(len(diagrams)), np.zeros(len(diagrams))
        for coefficient, diagram in zip(self.coefficients, diagrams.T, strict=True):
            loss += coefficient * diagram
            scale += np.abs(coefficient * diagram)
        return loss, scale

    @property
    def weights(self) -> int:
        """How many numbers move, per run."""
        return sum(map(prod, self.learned.values()))

    @property
    def work(self) -> float:
        """The cost of one gradient of one run, in multiply-adds of a matrix product."""
        return work(self.gradient.expressions, self.gradient.expressions.needed(self.gradient.outputs))

    def memory(self) -> int:
        """How many numbers an evaluator for the diagrams and one for the gradient keep, per run."""
        inputs = self.weights + sum(map(prod, self.frozen.values()))
        return self.diagrams.memory() + self.gradient.memory() + 2 * inputs

    def _evaluated(self, task: Task, arrays: Mapping[str, Array], runs: int) -> Array:
        evaluator = Evaluator(task, runs)
        for flat, shapes in ((evaluator.state, self.learned), (evaluator.frozen, self.frozen)):
            for name, block in blocks(flat, shapes).items():
                block[...] = arrays[name]
        evaluator.run(runs)
        return evaluator.result

    def _checked(self, arrays: Mapping[str, Array]) -> int:
        """How many runs there are, if all tensors are there and fit."""
        shapes = self.learned | self.frozen
        if set(arrays) != set(shapes):
            raise InvalidInput(f"the loss has the tensors {', '.join(sorted(shapes))}; got {', '.join(sorted(arrays))}")
        runs = max((len(array) for array in arrays.values() if array.ndim), default=0)
        for name, shape in shapes.items():
            if arrays[name].shape != (runs, *shape):
                expected = f"({runs}, {', '.join(map(str, shape))})"
                raise InvalidInput(f"tensor {name!r} must have the shape {expected}, got {arrays[name].shape}")
        return runs


@lru_cache(maxsize=8)
def compiled(loss: DiagramPolynomial, sizes: SizeMap) -> Program:
    """The program of a loss at these sizes; the last few are remembered."""
    return Program(loss, sizes)


def _lowered(expressions: Expressions, diagram: Diagram, inputs: Mapping[str, int], sizes: SizeMap) -> int | None:
    """The value of a diagram, ONE for the empty one, None where no node values satisfy the constraints."""
    axes = diagram.axes
    lengths = {node: int(sizes[axis]) for node, axis in axes.items()}
    uses = Counter(node for factor in diagram.factors for node in factor.nodes)
    solved = _solved([(dict(row), lengths[_free_node(row)]) for row in diagram.constraints], uses)
    if solved is None:
        return None
    forms, dense = solved
    operands: Counter[Labeled] = Counter()
    for factor in diagram.factors:
        operands[_operand(expressions, factor, inputs[factor.tensor.name], forms, lengths)] += 1
    for form in dense:
        nodes = tuple(sorted(form.coefficients))
        holds = _table(form, nodes) == 0
        operands[Labeled(expressions.constant(holds.astype(np.float64)), nodes)] += 1
    return contract(expressions, operands, lengths)


class _Form(NamedTuple):
    """constant + sum_j c_j node_j  modulo a size, values counted from 0."""

    constant: int
    coefficients: dict[str, int]
    modulus: int

    def plus(self, times: int, other: _Form) -> _Form:
        names = {*self.coefficients, *other.coefficients}
        sums = {n: (self.coefficients.get(n, 0) + times * other.coefficients.get(n, 0)) % self.modulus for n in names}
        constant = (self.constant + times * other.constant) % self.modulus
        return _Form(constant, {n: c for n, c in sums.items() if c}, self.modulus)


def _solved(
    rows: Sequence[tuple[Mapping[str | Pinned, int], int]], uses: Mapping[str | Pinned, int]
) -> tuple[dict[str, _Form], list[_Form]] | None:
    """Nodes as linear forms of the others, wherever a coefficient can be inverted modulo the size, and the relations left.

    Of the nodes that can be expressed, the one with the fewest factors is: each of its factors grows by the others.
    """
    left = []
    for row, modulus in rows:
        form = _Form(0, {}, modulus)
        for node, c in row.items():
            form = form.plus(
                c, _Form(node.value - 1, {}, modulus) if isinstance(node, Pinned) else _Form(0, {node: 1}, modulus)
            )
        left.append(form)
    forms: dict[str, _Form] = {}
    while True:
        units = [
            (uses[node], node, place)
            for place, form in enumerate(left)
            for node, c in form.coefficients.items()
            if gcd(c, form.modulus) == 1
        ]
        if not units:
            break
        _, node, place = min(units)
        form = left.pop(place)
        inverse = pow(form.coefficients[node], -1, form.modulus)
        solution = _Form(0, {node: 1}, form.modulus).plus(-inverse, form)
        left = [_substituted(other, node, solution) for other in left]
        forms = {name: _substituted(other, node, solution) for name, other in forms.items()} | {node: solution}
    if any(form.constant and not form.coefficients for form in left):
        return None
    return forms, [form for form in left if form.coefficients]


def _substituted(form: _Form, node: str, solution: _Form) -> _Form:
    c = form.coefficients.get(node, 0)
    return form.plus(-c, _Form(0, {node: 1}, form.modulus)).plus(c, solution) if c else form


def _operand(
    expressions: Expressions, factor: Factor, value: int, forms: Mapping[str, _Form], lengths: Mapping[str, int]
) -> Labeled:
    """A factor as a labeled value: solved nodes become gathers, pinned nodes slices, a node met twice a diagonal."""
    labels: list[str | int] = []  # a number is a fixed index
    for node in factor.nodes:
        form = forms.get(node) if isinstance(node, str) else None
        if isinstance(node, Pinned):
            labels.append(node.value - 1)
        elif form is None:
            labels.append(node)
        elif not form.coefficients:
            labels.append(form.constant)
        elif form.constant == 0 and list(form.coefficients.values()) == [1]:
            labels += form.coefficients
        else:
            nodes = tuple(sorted(form.coefficients))
            value = expressions.gather(value, len(labels), _table(form, nodes))
            labels += nodes
    free = list(dict.fromkeys(label for label in labels if isinstance(label, str)))
    axes = [free.index(label) if isinstance(label, str) else ~label for label in labels]
    return Labeled(expressions.view(value, axes), tuple(free))


def _table(form: _Form, nodes: Sequence[str]) -> npt.NDArray[np.intp]:
    """The form at all values of its nodes, one axis each."""
    n = form.modulus
    require_memory(16.0 * n ** len(nodes), "a table of the solutions of a constraint at these sizes")
    terms = np.ix_(*(form.coefficients[node] * np.arange(n) % n for node in nodes))
    return np.asarray((form.constant + sum(terms)) % n, np.intp)


def _free_node(row: Iterable[tuple[str | Pinned, int]]) -> str:
    return next(node for node, _ in row if isinstance(node, str))


def _shape(tensor: Tensor, sizes: SizeMap) -> tuple[int, ...]:
    return tuple(int(sizes[axis]) for axis in tensor.axes)


def _coefficient(term: Term, sizes: SizeMap) -> float:
    return float(term.coefficient) * prod(sizes[name] ** power for name, power in term.powers)


def _degree(diagram: Diagram) -> int:
    return sum(factor.tensor.learned for factor in diagram.factors)
