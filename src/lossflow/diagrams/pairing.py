"""Wick pairings one by one, for pictures and as a slow road to means; `wick.mean` never enumerates them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lossflow.diagrams.diagram import Diagram, Node
from lossflow.diagrams.tensor import Factor, Pinned
from lossflow.errors import InvalidInput

Pairing = tuple[tuple[int, int], ...]  # positions of the paired factors in the diagram


def pairings(diagram: Diagram) -> Iterator[Pairing]:
    """All perfect matchings of the factors into pairs of one tensor: (2m - 1)!! of them for 2m factors of one tensor."""
    return _matchings(diagram.factors, list(range(len(diagram.factors))))


def pairing_with(diagram: Diagram, nodes: Mapping[str, int]) -> Pairing:
    """The first pairing that leaves these numbers of free nodes, such as {"p": 4, "H": 1}.

    Raises `InvalidInput` if there is none.
    """
    for pairs in pairings(diagram):
        found = contracted(diagram, pairs)
        if found is not None:
            axes = list(found.axes.values())
            if all(axes.count(axis) == number for axis, number in nodes.items()):
                return pairs
    wanted = " and ".join(f"{number} nodes on {axis}" for axis, number in nodes.items())
    raise InvalidInput(f"no pairing of these {len(diagram.factors)} factors leaves {wanted}; ask for other numbers")


def contracted(diagram: Diagram, pairs: Pairing) -> Diagram | None:
    """The diagram with the nodes of paired factors identified slot by slot; the factors stay, so pairs become double edges.

    None where two different pinned values meet: the contraction vanishes. Raises `InvalidInput` for a pair of two tensors,
    and for a constraint that is left with pinned nodes alone and does not hold at every size.
    docs/theory/diagrams.md section 4 [YGG26v2].
    """
    leader: dict[tuple[str, Node], tuple[str, Node]] = {}

    def leading(axis: str, node: Node) -> tuple[str, Node]:
        found = (axis, node)
        while found in leader:
            found = leader[found]
        return found

    for one, other in pairs:
        a, b = diagram.factors[one], diagram.factors[other]
        if a.tensor != b.tensor:
            raise InvalidInput(f"only factors of one tensor pair, got {a.tensor.name!r} and {b.tensor.name!r}")
        for axis, node, partner in zip(a.tensor.axes, a.nodes, b.nodes, strict=True):
            x, y = leading(axis, node), leading(axis, partner)
            if x == y:
                continue
            if isinstance(y[1], Pinned):
                x, y = y, x
            if isinstance(y[1], Pinned):
                return None
            leader[y] = x
    factors: list[Factor] = []
    for factor in diagram.factors:
        slots = zip(factor.tensor.axes, factor.nodes, strict=True)
        factors.append(Factor(factor.tensor, tuple(leading(axis, node)[1] for axis, node in slots)))
    axes = diagram.axes
    rows: list[tuple[tuple[Node, int], ...]] = []
    for constraint in diagram.constraints:
        axis = next(axes[node] for node, _ in constraint if isinstance(node, str))
        sums: dict[Node, int] = {}
        for node, c in constraint:
            image = leading(axis, node)[1]
            sums[image] = sums.get(image, 0) + c
        constant = sum(c * (node.value - 1) for node, c in sums.items() if isinstance(node, Pinned))
        if constant or any(c for node, c in sums.items() if isinstance(node, str)):
            rows.append(tuple((node, c) for node, c in sums.items() if c))
    return Diagram(tuple(factors), tuple(rows))


def _matchings(factors: tuple[Factor, ...], rest: list[int]) -> Iterator[Pairing]:
    if not rest:
        yield ()
        return
    for k in range(1, len(rest)):
        if factors[rest[k]].tensor == factors[rest[0]].tensor:
            for later in _matchings(factors, rest[1:k] + rest[k + 1 :]):
                yield ((rest[0], rest[k]), *later)
