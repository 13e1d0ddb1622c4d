"""In which order the nodes of a diagram are summed, and the expression that this order gives.

    sum over a node of  prod_f f[nodes of f]  =  one new factor on the neighbors of the node

Nodes go one after another; what a node costs is the size of the product of the factors on it. Nodes that are joined to the
rest in the same way (twins) go together: the second costs an elementwise power. So ||f||^2 of a CP decomposition becomes
sum_{kl} (sum_i u_ki u_li)^nu, and at order 2 with H > p the p x p matrix is formed instead. The tensor of p^nu entries is
formed only where it is the smaller one, H > p^(nu/2) or so. Exact search while it is short, the cheapest next node
beyond. docs/theory/diagrams.md section 2 [YGG26v2].
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations, count
from math import prod
from typing import NamedTuple

from lossflow.simulate.expressions import ONE, Expressions, Label, Labeled

Operands = Mapping[Labeled, int]  # a product of factors, each with its exponent

SEARCH_LIMIT = 300  # sets of summed nodes looked at before the search turns greedy: enough for eight unlike nodes
ELEMENTWISE = 8  # the cost of a number read and written, in multiply-adds of a matrix product


def contract(expressions: Expressions, operands: Operands, sizes: Mapping[str, int]) -> int:
    """The value, without axes, of  sum over all nodes of  prod_f f[nodes of f]^(exponent of f);  ONE for an empty product.

    operands: factors with their node names as labels; sizes: of each node. Parts that share no node are summed apart.
    """
    scalars: Counter[Labeled] = Counter()
    for part in _connected(operands):
        scalars += _contract_connected(expressions, part, sizes)
    return _multiplied(expressions, scalars, sizes, at_most=1)[0].value if scalars else ONE


def work(expressions: Expressions, numbers: Collection[int]) -> float:
    """The cost of computing these values, in multiply-adds of a matrix product."""
    total = 0.0
    for number in numbers:
        value = expressions.values[number]
        if value.kind == "contract":
            x, y = (expressions.values[operand].shape for operand in value.operands)
            xs, ys, _ = value.detail
            total += prod((dict(zip(xs, x, strict=True)) | dict(zip(ys, y, strict=True))).values())
        elif value.kind not in ("input", "constant", "view"):
            total += ELEMENTWISE * prod(value.shape)
    return total


def elimination_order(operands: Operands, sizes: Mapping[str, int]) -> list[Elimination]:
    """The eliminations, in the order in which summing over all nodes is cheapest."""
    tags: dict[object, int] = {}
    serial = count()
    queue: list[tuple[float, int, Counter[Labeled], list[Elimination]]] = [(0.0, next(serial), Counter(operands), [])]
    seen: set[frozenset[tuple[Labeled, int]]] = set()
    while True:
        cost, _, state, order = heapq.heappop(queue)
        if not _nodes(state):
            return order
        if frozenset(state.items()) in seen:
            continue
        seen.add(frozenset(state.items()))
        moves: list[Elimination] = []
        for node in _nodes(state):
            if not any(node in (move.node, *move.twins) for move in moves):
                moves.append(_elimination(state, node))
        steps = [
            (cost + _cost(state, move, sizes), next(serial), _after(state, move, tags), [*order, move])
            for move in moves
        ]
        if len(seen) > SEARCH_LIMIT:
            queue = [min(steps)]
        else:
            for step in steps:
                heapq.heappush(queue, step)


class Elimination(NamedTuple):
    """Summing over one node, the nodes that only its own factors have (inner), and its twins."""

    node: str
    inner: tuple[str, ...]
    twins: tuple[str, ...]
    keep: tuple[str, ...]  # the neighbors, on which the new factor depends

    def rest(self, operands: Operands) -> Counter[Labeled]:
        """The factors that stay."""
        gone = {self.node, *self.inner, *self.twins}
        return Counter({factor: e for factor, e in operands.items() if gone.isdisjoint(factor.labels)})


def _elimination(operands: Operands, node: str) -> Elimination:
    bucket = _bucket(operands, node)
    neighbors = sorted({str(label) for factor in bucket for label in factor.labels} - {node})
    inner = tuple(name for name in neighbors if _bucket(operands, name).items() <= bucket.items())
    signature = _signature(bucket, node)
    twins = tuple(
        name
        for name in _nodes(operands)
        if name != node and name not in neighbors and _signature(_bucket(operands, name), name) == signature
    )
    return Elimination(node, inner, twins, tuple(name for name in neighbors if name not in inner))


def _after(operands: Operands, move: Elimination, tags: dict[object, int]) -> Counter[Labeled]:
    """The factors afterwards; the new one is known by a number below -1 that depends on how it was made alone."""
    names = (*move.keep, move.node, *move.inner)
    made = frozenset(
        (factor.value, tuple(names.index(str(label)) for label in factor.labels), exponent)
        for factor, exponent in _bucket(operands, move.node).items()
    )
    after = move.rest(operands)
    after[Labeled(tags.setdefault((made, len(move.keep)), -2 - len(tags)), move.keep)] += 1 + len(move.twins)
    return after


def _cost(operands: Operands, move: Elimination, sizes: Mapping[str, int]) -> float:
    """Multiply-adds of a matrix product, everything else in these units."""
    bucket = _bucket(operands, move.node)
    groups = Counter(frozenset(factor.labels) for factor in bucket)
    cost = sum(ELEMENTWISE * _size(factor.labels, sizes) * (e.bit_length() - 1) for factor, e in bucket.items())
    cost += sum(ELEMENTWISE * _size(labels, sizes) * (n - 1) for labels, n in groups.items())
    parts = list(groups)
    while len(parts) > 2:
        a, b = _smallest_pair(parts, sizes)
        cost += ELEMENTWISE * _size(parts[a] | parts[b], sizes)
        parts = [*(part for c, part in enumerate(parts) if c not in (a, b)), parts[a] | parts[b]]
    summed = _size(frozenset[Label]().union(*parts), sizes)
    is_matrix_product = len(parts) == 2 and parts[0] - parts[1] and parts[1] - parts[0]
    cost += summed if is_matrix_product else ELEMENTWISE * summed
    return cost + ELEMENTWISE * _size(move.keep, sizes) * (1 + len(move.twins)).bit_length()


def _contract_connected(expressions: Expressions, operands: Operands, sizes: Mapping[str, int]) -> Counter[Labeled]:
    operands = Counter(operands)
    for move in elimination_order(operands, sizes):
        parts = _multiplied(expressions, _bucket(operands, move.node), sizes, at_most=2)
        if len(parts) == 1:
            made = expressions.summed(parts[0], move.keep)
        else:
            made = expressions.contracted(parts[0], parts[1], move.keep, move.keep)
        operands = move.rest(operands)
        operands[made] += 1 + len(move.twins)
    return operands


def _multiplied(expressions: Expressions, factors: Operands, sizes: Mapping[str, int], at_most: int) -> list[Labeled]:
    """The product of all factors as a product of at most so many."""
    parts = [Labeled(expressions.power(factor.value, e), factor.labels) for factor, e in factors.items()]
    parts.sort(key=lambda part: (sorted(map(str, part.labels)), part.value))
    while True:
        labels = [frozenset(part.labels) for part in parts]
        equal = [(a, b) for a, b in combinations(range(len(parts)), 2) if labels[a] == labels[b]]
        if not equal and len(parts) <= at_most:
            return parts
        a, b = equal[0] if equal else _smallest_pair(labels, sizes)
        parts = [expressions.times(parts[a], parts[b]), *(part for c, part in enumerate(parts) if c not in (a, b))]


def _connected(operands: Operands) -> list[Operands]:
    parts: list[tuple[set[Label], Counter[Labeled]]] = []
    for factor, exponent in operands.items():
        nodes, joined = set(factor.labels), Counter({factor: exponent})
        for part in [part for part in parts if part[0] & nodes]:
            parts.remove(part)
            nodes |= part[0]
            joined |= part[1]
        parts.append((nodes, joined))
    return [joined for _, joined in parts]


def _nodes(operands: Operands) -> list[str]:
    return sorted({str(label) for factor in operands for label in factor.labels})


def _bucket(operands: Operands, node: str) -> dict[Labeled, int]:
    return {factor: exponent for factor, exponent in operands.items() if node in factor.labels}


def _signature(bucket: Operands, node: str) -> frozenset[object]:
    return frozenset(
        (factor.value, tuple(None if label == node else label for label in factor.labels), exponent)
        for factor, exponent in bucket.items()
    )


def _smallest_pair(parts: Sequence[frozenset[Label]], sizes: Mapping[str, int]) -> tuple[int, int]:
    return min(combinations(range(len(parts)), 2), key=lambda ab: _size(parts[ab[0]] | parts[ab[1]], sizes))


def _size(labels: Collection[Label], sizes: Mapping[str, int]) -> float:
    return float(prod(sizes[str(label)] for label in labels))
