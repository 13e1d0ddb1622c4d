"""The fast inner form: diagrams as tuples of integers, their normal form, and the contraction of two edges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction

from lossflow.diagrams.canonical import Code, Edge, canonical, twins
from lossflow.diagrams.diagram import Diagram, Node, constrained_axis
from lossflow.diagrams.lattice import divisors, hermite
from lossflow.diagrams.tensor import Factor, Pinned, Tensor, pin
from lossflow.errors import InvalidInput

Sum = dict[tuple[int, Code], Fraction]  # {(monomial in the sizes, diagram): coefficient}
UNIT = 2  # the pinned node whose value, counted from 0 as in constraints, is 1
DIGIT = 20  # bits of one exponent in a monomial


class Algebra:
    """Diagrams over a fixed set of tensors and sizes as canonical codes: kinds of nodes, edges (color, nodes...), relations.

    sizes: names, sorted; tensors: sorted by name, the color of an edge is the position of its tensor. A kind is
    size * base + value, where value is 0 for a free node and that of a pinned one otherwise. A monomial in the sizes is one
    integer, sum_k exponent_k 2^(DIGIT k): products are sums.
    interchangeable: groups of colors that the caller does not want told apart; codes are then equal up to a permutation of
    the colors of each group.
    """

    def __init__(
        self, diagrams: Iterable[Diagram], sizes: Iterable[str] = (), interchangeable: Sequence[Sequence[int]] = ()
    ) -> None:
        diagrams = list(diagrams)
        tensors = distinct_tensors(factor.tensor for diagram in diagrams for factor in diagram.factors)
        self.sizes = tuple(sorted({*sizes, *(axis for tensor in tensors for axis in tensor.axes)}))
        self.tensors = tuple(tensor for tensor in tensors if not _is_witness(tensor))
        self.color = {tensor: color for color, tensor in enumerate(self.tensors)}
        self.group = {color: group for group in interchangeable for color in group}
        values = [node.value for d in diagrams for f in d.factors for node in f.nodes if isinstance(node, Pinned)]
        values += [node.value for d in diagrams for row in d.constraints for node, _ in row if isinstance(node, Pinned)]
        self.base = 1 + max([UNIT, *values])
        self.forms = 0  # how many diagrams were brought to normal form: what the time goes into

    def encode(self, diagram: Diagram) -> tuple[int, Code]:
        """The normal form of a diagram: the monomial and the code of its product with 1."""
        kinds: list[int] = []
        number: dict[tuple[str, Node], int] = {}

        def numbered(axis: str, node: Node) -> int:
            if (axis, node) not in number:
                number[axis, node] = len(kinds)
                kinds.append(self.sizes.index(axis) * self.base + (node.value if isinstance(node, Pinned) else 0))
            return number[axis, node]

        edges: list[Edge] = []
        for factor in diagram.factors:
            nodes = [numbered(axis, node) for axis, node in zip(factor.tensor.axes, factor.nodes, strict=True)]
            if not _is_witness(factor.tensor):
                edges.append((self.color[factor.tensor], *nodes))
        axes = diagram.axes
        relations = [{numbered(constrained_axis(row, axes), node): c for node, c in row} for row in diagram.constraints]
        rows = [[relation.get(node, 0) for node in range(len(kinds))] for relation in relations]
        return self.normal(kinds, edges, rows, range(len(kinds)))

    def decode(self, code: Code) -> Diagram:
        """The diagram of a code, its nodes named after their axes: H0, H1, p0, ..."""
        kinds, edges, rows = code
        names: list[Node] = []
        counts = [0] * len(self.sizes)
        for axis, value in (divmod(kind, self.base) for kind in kinds):
            names.append(pin(value) if value else _node_name(self.sizes[axis], counts[axis]))
            counts[axis] += not value
        factors = [Factor(self.tensors[edge[0]], tuple(names[node] for node in edge[1:])) for edge in edges]
        carried = {node for edge in edges for node in edge[1:]}
        for node, kind in enumerate(kinds):
            if node not in carried and self.is_free(kind):
                factors.append(witness(self.sizes[kind // self.base])(names[node]))
        constraints: list[tuple[tuple[Node, int], ...]] = []
        for row in rows:
            relation = tuple((names[node], c) for node, c in enumerate(row) if c)
            if all(isinstance(node, Pinned) for node, _ in relation):  # "t = 0 mod p" as "w = 0 and w + t = 0"
                axis = next(kinds[node] for node, c in enumerate(row) if c) // self.base
                loose = _node_name(self.sizes[axis], counts[axis])
                counts[axis] += 1
                factors.append(witness(self.sizes[axis])(loose))
                constraints.append(((loose, 1),))
                relation = ((loose, 1), *relation)
            constraints.append(relation)
        return Diagram(tuple(factors), tuple(constraints))

    def monomial(self, powers: Iterable[tuple[str, int]]) -> int:
        """prod size^power as one integer."""
        return sum(power << DIGIT * self.sizes.index(name) for name, power in powers)

    def powers(self, monomial: int) -> tuple[tuple[str, int], ...]:
        """The inverse of `monomial`, without zero powers."""
        return tuple((name, power) for name, power in zip(self.sizes, exponents(monomial), strict=False) if power)

    def is_free(self, kind: int) -> bool:
        return kind % self.base == 0

    def merge(self, left: Mapping[tuple[int, Code], Fraction], right: Mapping[tuple[int, Code], Fraction]) -> Sum:
        """sum over learned tensors of <grad left, grad right>: contract every edge of `left` with every equal one of `right`.

        With interchangeable colors `left` stands for its average over their permutations and `right` must be symmetric.
        """
        found: Sum = {}
        for (scale, code), weight in left.items():
            for (other_scale, other), other_weight in right.items():
                for times, monomial, child in self._merged(code, other):
                    key = (scale + other_scale + monomial, child)
                    found[key] = found.get(key, Fraction(0)) + times * weight * other_weight
        return {key: weight for key, weight in found.items() if weight}

    def _merged(self, left: Code, right: Code) -> Iterator[tuple[int, int, Code]]:
        shift, width = len(left[0]), len(right[0])
        shifted = [(edge[0], *[node + shift for node in edge[1:]]) for edge in right[1]]
        kinds = [*left[0], *right[0]]
        rows = [[*row, *[0] * width] for row in left[2]] + [[*[0] * shift, *row] for row in right[2]]
        ends = [count_alike(edges, twins(kinds, edges, rows)) for edges in (left[1], shifted)]
        for mine, my_times in ends[0]:
            if not self.tensors[mine[0]].learned:
                continue
            for other, other_times in ends[1]:
                if other[0] == mine[0]:
                    edges = [*left[1], *shifted]
                    edges.remove(mine)
                    edges.remove(other)
                    child = self.contract(kinds, edges, rows, zip(mine[1:], other[1:], strict=True))
                    if child is not None:
                        yield my_times * other_times, *child

    def contract(
        self,
        kinds: Sequence[int],
        edges: Sequence[Edge],
        rows: Sequence[Sequence[int]],
        pairs: Iterable[tuple[int, int]],
    ) -> tuple[int, Code] | None:
        """Identify the two nodes of each pair; None if two different pinned values meet.

        A free node identified with a pinned one becomes pinned.
        """
        count = len(kinds)
        leader = list(range(count))
        for a, b in pairs:
            while leader[a] != a:
                a = leader[a]
            while leader[b] != b:
                b = leader[b]
            if kinds[a] != kinds[b]:
                if self.is_free(kinds[a]):
                    a, b = b, a
                elif not self.is_free(kinds[b]):
                    return None
            leader[b] = a
        pinned: dict[int, int] = {}
        for node in range(count):
            if leader[node] == node and not self.is_free(kinds[node]):
                leader[node] = pinned.setdefault(kinds[node], node)
        for node in range(count):
            while leader[leader[node]] != leader[node]:
                leader[node] = leader[leader[node]]
        summed: list[list[int]] = []
        for row in rows:
            sums = [0] * count
            for node, c in enumerate(row):
                sums[leader[node]] += c
            summed.append(sums)
        edges = [(edge[0], *[leader[node] for node in edge[1:]]) for edge in edges]
        return self.normal(kinds, edges, summed, [node for node in range(count) if leader[node] == node])

    def normal(
        self, kinds: Sequence[int], edges: Sequence[Edge], rows: Sequence[Sequence[int]], nodes: Iterable[int]
    ) -> tuple[int, Code]:
        """Free nodes that neither an edge nor a relation touches become powers of sizes; the rest in canonical form.

        nodes: those that exist, with at most one pinned node per kind.
        """
        monomial = 0
        touched = {node for edge in edges for node in edge[1:]}
        if rows:
            kinds, rows, monomial = self._reduced(kinds, rows, touched)
            touched.update(node for row in rows for node, c in enumerate(row) if c)
        for node in nodes:
            if node not in touched and self.is_free(kinds[node]):
                monomial += 1 << DIGIT * (kinds[node] // self.base)
        keep = sorted(touched)
        place = {node: k for k, node in enumerate(keep)}
        return monomial, self._canonical(
            [kinds[node] for node in keep],
            [(edge[0], *[place[node] for node in edge[1:]]) for edge in edges],
            [[row[node] for node in keep] for row in rows],
        )

    def _canonical(self, kinds: list[int], edges: list[Edge], rows: list[list[int]]) -> Code:
        """Interchangeable colors become nodes of a kind of their own, which the canonical form may permute."""
        self.forms += 1
        if not self.group:
            return canonical(kinds, edges, rows)
        beyond = len(self.sizes) * self.base
        node_of: dict[int, int] = {}
        dressed: list[Edge] = []
        for edge in edges:
            group = self.group.get(edge[0])
            if group is None:
                dressed.append(edge)
                continue
            if edge[0] not in node_of:
                node_of[edge[0]] = len(kinds)
                kinds.append(beyond + group[0])
            dressed.append((group[0], node_of[edge[0]], *edge[1:]))
        first = len(kinds) - len(node_of)
        kinds_, dressed_, rows_ = canonical(kinds, dressed, [[*row, *[0] * len(node_of)] for row in rows])
        color: dict[int, int] = {}
        for node in range(first, len(kinds)):
            lowest = kinds_[node] - beyond
            color[node] = self.group[lowest][node - kinds_.index(kinds_[node])]
        edges_ = [edge if edge[0] not in self.group else (color[edge[1]], *edge[2:]) for edge in dressed_]
        return kinds_[:first], tuple(sorted(edges_)), tuple(row[:first] for row in rows_)

    def _reduced(
        self, kinds: Sequence[int], rows: Sequence[Sequence[int]], carried: set[int]
    ) -> tuple[list[int], Sequence[Sequence[int]], int]:
        """Relations with constants collected on the pinned node UNIT, and without the nodes that they determine.

        Nodes that no edge carries are summed out where that is possible at every size, that is, when the Smith divisors of
        their columns are all 1: r of them are then determined by the other nodes, and the others among them are free.
        """
        kinds = list(kinds)
        work = [list(row) for row in rows]
        for node, kind in enumerate(list(kinds)):
            axis, value = divmod(kind, self.base)
            if value in (0, UNIT) or not any(row[node] for row in work):
                continue
            if axis * self.base + UNIT not in kinds:
                kinds.append(axis * self.base + UNIT)
                work = [[*row, 0] for row in work]
            unit = kinds.index(axis * self.base + UNIT)
            for row in work:
                row[unit] += (value - 1) * row[node]
                row[node] = 0
        reduced = hermite(work)
        monomial = 0
        for axis in range(len(self.sizes)):
            loose = [node for node, kind in enumerate(kinds) if kind == axis * self.base and node not in carried]
            found = divisors([[row[node] for node in loose] for row in reduced])
            if set(found) == {1}:
                order = loose + [node for node in range(len(kinds)) if node not in loose]
                place = {node: k for k, node in enumerate(order)}
                echelon = hermite([[row[node] for node in order] for row in reduced])
                left = [row for row in echelon if not any(row[: len(loose)])]
                reduced = tuple(tuple(row[place[node]] for node in range(len(kinds))) for row in left)
                monomial -= len(found) << DIGIT * axis
        return kinds, reduced, monomial


def count_alike(edges: Iterable[Edge], leaders: Sequence[int]) -> list[tuple[Edge, int]]:
    """One edge of each class of edges that swaps of twins take into each other, with the number of edges in the class."""
    found: dict[Edge, tuple[Edge, int]] = {}
    for edge in edges:
        key = (edge[0], *[leaders[node] for node in edge[1:]])
        representative, times = found.get(key, (edge, 0))
        found[key] = (representative, times + 1)
    return list(found.values())


def exponents(monomial: int) -> Iterator[int]:
    """The exponents of a monomial, the lowest digit first, without end."""
    half = 1 << DIGIT - 1
    while True:
        digit = (monomial + half) % (2 * half) - half
        yield digit
        monomial = monomial - digit >> DIGIT


def distinct_tensors(tensors: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """The tensors without repetition, sorted by name. Raises `InvalidInput` if one name has two definitions."""
    found: dict[str, Tensor] = {}
    for tensor in tensors:
        if found.setdefault(tensor.name, tensor) != tensor:
            raise InvalidInput(f"one name, two tensors: {found[tensor.name]!r} and {tensor!r}; rename one")
    return tuple(found[name] for name in sorted(found))


def witness(axis: str) -> Tensor:
    """The constant vector of ones on an axis: a factor that says where a node sits and changes no value.

    Carries nodes that only constraints touch, such as k in  2 k + i = 0, which merging can leave behind.
    """
    return Tensor(f"one_{axis}", (axis,), variance=0, mean=1, learned=False)


def _is_witness(tensor: Tensor) -> bool:
    return len(tensor.axes) == 1 and tensor == witness(tensor.axes[0])


def _node_name(axis: str, number: int) -> str:
    """H0, p1, but p1_0 on axis p1: no two axes share a name."""
    return f"{axis}_{number}" if axis[-1].isdigit() or axis[-1] == "_" else f"{axis}{number}"
