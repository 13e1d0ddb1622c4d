"""Canonical form of a colored hypergraph with repeated edges and a lattice of relations: equal exactly for isomorphic ones.

Twins (nodes that a swap leaves in place) and repeated edges are first collapsed to multiplicities. Then color refinement,
and individualization of the nodes of the first cell that is not a single node, up to the automorphisms met on the way.
Small and self-contained: this is the hot loop.
"""

from __future__ import annotations

from collections.abc import Sequence

from lossflow.diagrams.lattice import Rows, hermite

Edge = tuple[int, ...]
Code = tuple[tuple[int, ...], tuple[Edge, ...], Rows]


def canonical(kinds: Sequence[int], edges: Sequence[Edge], rows: Sequence[Sequence[int]] = ()) -> Code:
    """The representative of the isomorphism class of (kinds, edges, lattice of rows) under renumbering of nodes.

    kinds[n] >= 0: the kind of node n, which renumbering keeps. edges: (color, node, node, ...), color >= 0, order of nodes
    meaningful, order of edges not; repeated edges count. rows: integer vectors over the nodes, spanning a lattice.
    The result has nondecreasing kinds, sorted edges, and the Hermite form of the lattice. Kinds and colors enter by their
    order alone, so an order-preserving renumbering of them commutes with this function.
    """
    groups = _group_twins(len(kinds), twins(kinds, edges, rows))
    number = {group[0]: k for k, group in enumerate(groups)}
    repetitions: dict[Edge, int] = {}
    for edge in edges:
        if all(node in number for node in edge[1:]):
            key = (edge[0], *[number[node] for node in edge[1:]])
            repetitions[key] = repetitions.get(key, 0) + 1
    most = max(repetitions.values(), default=0) + 1
    quotient = _Search(
        [(kinds[group[0]], len(group)) for group in groups],
        [(edge[0] * most + times, *edge[1:]) for edge, times in repetitions.items()],
        [[row[group[0]] for group in groups] for row in rows],
    )
    place = [0] * len(kinds)
    after = 0
    for k in quotient.order():
        for node in groups[k]:
            place[node] = after
            after += 1
    return (
        tuple(sorted(kinds)),
        tuple(sorted([(edge[0], *[place[node] for node in edge[1:]]) for edge in edges])),
        hermite(_permuted(rows, place)) if rows else (),
    )


def twins(kinds: Sequence[int], edges: Sequence[Edge], rows: Sequence[Sequence[int]] = ()) -> list[int]:
    """For each node the least node whose swap with it changes nothing (itself, if there is no other).

    Swaps within one class of twins generate all its permutations. Nodes under relations have no twins here.
    """
    seen: list[list[Edge]] = [[] for _ in kinds]
    for edge in edges:
        for node in set(edge[1:]):
            seen[node].append((edge[0], *[-1 if other == node else other for other in edge[1:]]))
    first: dict[tuple[int, tuple[Edge, ...]], int] = {}
    found: list[int] = []
    for node, kind in enumerate(kinds):
        if any(row[node] for row in rows):
            found.append(node)
        else:
            seen[node].sort()
            found.append(first.setdefault((kind, tuple(seen[node])), node))
    return found


def _group_twins(count: int, leaders: Sequence[int]) -> list[list[int]]:
    groups: dict[int, list[int]] = {}
    for node in range(count):
        groups.setdefault(leaders[node], []).append(node)
    return list(groups.values())


class _Search:
    """Depth-first over individualizations; keeps the least leaf and the automorphisms that equal leaves reveal."""

    def __init__(self, kinds: Sequence[tuple[int, int]], edges: Sequence[Edge], rows: Sequence[Sequence[int]]) -> None:
        longest = max(map(len, edges), default=0)
        self.edges = edges
        self.paddings = [longest * len(kinds) ** (longest - len(edge)) for edge in edges]
        self.rows = rows
        self.relations = _pair_relations(rows) if rows else None
        self.best: tuple[list[Edge], Rows] | None = None
        self.best_place: list[int] = []
        self.automorphisms: list[list[int]] = []
        rank = {kind: position for position, kind in enumerate(sorted(set(kinds)))}
        self.descend(self.refine([rank[kind] for kind in kinds], len(rank)), [])

    def order(self) -> list[int]:
        """The nodes in canonical order."""
        return _inverse(self.best_place)

    def descend(self, colors: list[int], prefix: list[int]) -> None:
        classes = max(colors, default=-1) + 1
        if classes == len(colors):
            self.leaf(colors)
            return
        cells: list[list[int]] = [[] for _ in range(classes)]
        for node, color in enumerate(colors):
            cells[color].append(node)
        cell = next(nodes for nodes in cells if len(nodes) > 1)
        tried: list[int] = []
        for node in cell:
            if tried and self.is_equivalent(node, tried, prefix):
                continue
            tried.append(node)
            split = [color + (color > colors[node]) for color in colors]
            for other in cell:
                split[other] += other != node
            self.descend(self.refine(split, classes + 1), [*prefix, node])

    def refine(self, colors: list[int], classes: int) -> list[int]:
        """Split cells by the multiset of what their nodes see, until nothing splits; the order of cells is kept."""
        count = len(colors)
        while classes < count:
            seen: list[list[int]] = [[] for _ in range(count)]
            for edge, padding in zip(self.edges, self.paddings, strict=True):
                view = edge[0]
                for node in edge[1:]:
                    view = view * count + colors[node]
                view *= padding  # room for the slot, and views compare first by the color of the edge
                for node in edge[1:]:
                    seen[node].append(view)
                    view += 1
            if self.relations is not None:
                beyond = 1 + max((view for views in seen for view in views), default=0)
                for views, related in zip(seen, self.relations, strict=True):
                    views += [beyond + code * count + colors[other] for other, code in related]
            views = [(color, sorted(views)) for color, views in zip(colors, seen, strict=True)]
            order = sorted(range(count), key=views.__getitem__)
            refined = [0] * count
            position = 0
            previous = views[order[0]]
            for node in order:
                if views[node] != previous:
                    position += 1
                    previous = views[node]
                refined[node] = position
            if position + 1 == classes:
                return colors
            colors, classes = refined, position + 1
        return colors

    def leaf(self, place: list[int]) -> None:
        """A discrete coloring: place[n] is the new number of node n."""
        code = (
            sorted([(edge[0], *[place[node] for node in edge[1:]]) for edge in self.edges]),
            hermite(_permuted(self.rows, place)) if self.rows else (),
        )
        if self.best is None or code < self.best:
            self.best, self.best_place = code, place
        elif code == self.best:
            node_at = _inverse(self.best_place)
            self.automorphisms.append([node_at[new] for new in place])

    def is_equivalent(self, node: int, tried: list[int], prefix: list[int]) -> bool:
        """Whether known automorphisms that fix the prefix take `node` to a node tried before."""
        group = [g for g in self.automorphisms if all(g[fixed] == fixed for fixed in prefix)]
        orbit, frontier = {node}, [node]
        while frontier:
            current = frontier.pop()
            for g in group:  # finite order: images under g alone reach the whole orbit
                if g[current] not in orbit:
                    orbit.add(g[current])
                    frontier.append(g[current])
        return not orbit.isdisjoint(tried)


def _pair_relations(rows: Sequence[Sequence[int]]) -> list[list[tuple[int, int]]]:
    """For each node its (other node, code), the code saying which lattice the relations induce on the pair of nodes.

    It depends on the lattice alone, not on the rows that span it, so it may steer the refinement.
    """
    count = len(rows[0])
    nodes = [n for n in range(count) if any(row[n] for row in rows)]
    induced = {(a, b): hermite([(row[a], row[b]) for row in rows]) for a in nodes for b in nodes}
    codes = {relation: code for code, relation in enumerate(sorted(set(induced.values())))}
    related: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for (a, b), relation in induced.items():
        related[a].append((b, codes[relation]))
    return related


def _permuted(rows: Sequence[Sequence[int]], place: Sequence[int]) -> list[list[int]]:
    node_at = _inverse(place)
    return [[row[node] for node in node_at] for row in rows]


def _inverse(place: Sequence[int]) -> list[int]:
    node_at = [0] * len(place)
    for node, new in enumerate(place):
        node_at[new] = node
    return node_at
