"""A diagram: a product of tensor entries, summed over all values of its nodes, perhaps under linear constraints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lossflow.description import Description, dataclass
from lossflow.diagrams.tensor import Factor, Pinned
from lossflow.errors import InvalidInput, nearest

Node = str | Pinned


@dataclass(frozen=True, repr=False)
class Diagram(Description):
    """sum over node values of  prod_f tensor_f[nodes of f],  over the solutions of the constraints.

    factors: the edges; nodes of one name are one node, and different nodes may take equal values. No factors: the number 1.
    constraints: {node: c, ...} says  sum_j c_j * node_j = 0  modulo the size of the axis they sit on, with node values
        counted from 0 (so `pin(1)` counts as 0). All nodes of a constraint sit on one axis.

    The axis of a node is that of the slot it sits in. Raises `InvalidInput` for a node on two axes, a constraint that
    mixes axes or names an unknown node. docs/theory/diagrams.md sections 2 and 5 [YGG26v2].
    """

    factors: tuple[Factor, ...]
    constraints: tuple[tuple[tuple[str | Pinned, int], ...], ...] = ()

    def check(self) -> None:
        axes = self.axes
        for constraint in self.constraints:
            constrained_axis(constraint, axes)
            if len({node for node, _ in constraint}) < len(constraint):
                raise InvalidInput(f"a constraint names each node once, got {constraint!r}")

    @property
    def axes(self) -> dict[str, str]:
        """The axis of each free node, in order of appearance."""
        found: dict[str, str] = {}
        for factor in self.factors:
            for node, axis in zip(factor.nodes, factor.tensor.axes, strict=True):
                if isinstance(node, str) and found.setdefault(node, axis) != axis:
                    raise InvalidInput(
                        f"node {node!r} sits on axis {found[node]!r} and, in tensor {factor.tensor.name!r}, on axis {axis!r};"
                        " use two names"
                    )
        return found

    def __repr__(self) -> str:
        """The call that makes the diagram as a polynomial of one term."""
        parts = [repr(factor) for factor in self.factors]
        if self.constraints:
            rows = (f"{{{', '.join(f'{node!r}: {c}' for node, c in row)}}}" for row in self.constraints)
            parts.append(f"constraints=[{', '.join(rows)}]")
        return f"diagram({', '.join(parts)})"


def constraint_rows(
    constraints: Sequence[Mapping[Node, int]] | Sequence[Mapping[str, int]],
) -> tuple[tuple[tuple[Node, int], ...], ...]:
    """Constraints as users write them, [{"i": 1, "j": -1}], in the hashable form of `Diagram`."""
    rows: list[tuple[tuple[Node, int], ...]] = []
    for constraint in constraints:
        if not isinstance(constraint, Mapping):
            raise InvalidInput(f'a constraint is a mapping such as {{"i": 1, "j": -1}}, got {constraint!r}')
        rows.append(tuple(constraint.items()))
    return tuple(rows)


def constrained_axis(constraint: Sequence[tuple[Node, int]], axes: Mapping[str, str]) -> str:
    """The one axis on which all nodes of a constraint sit."""
    names = [node for node, _ in constraint if isinstance(node, str)]
    for node in names:
        if node not in axes:
            raise InvalidInput(f"a constraint names node {node!r}, which no factor has; {nearest(node, axes)}")
    found = sorted({axes[node] for node in names})
    if len(found) != 1:
        kind = f"mixes the axes {', '.join(found)}" if found else "has no free node"
        raise InvalidInput(f"the constraint {dict(constraint)!r} {kind}; its nodes must sit on one axis")
    return found[0]
