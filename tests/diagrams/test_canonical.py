"""Canonical form: invariant under renumbering, equal exactly for isomorphic structures."""

from __future__ import annotations

import itertools
from operator import eq
from random import Random

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networkx.algorithms.isomorphism import GraphMatcher

from lossflow.diagrams.canonical import Edge, canonical, twins
from lossflow.diagrams.lattice import hermite

Structure = tuple[list[int], list[Edge], list[list[int]]]


@st.composite
def structures(draw: st.DrawFn, nodes: int = 6, edges: int = 9, relations: bool = True) -> Structure:
    """Nodes of two kinds, edges of arity 0 to 3 in four colors with repetitions, perhaps relations."""
    kinds = draw(st.lists(st.integers(0, 1), min_size=1, max_size=nodes))
    node = st.integers(0, len(kinds) - 1)
    shapes = [
        st.tuples(st.just(color), *[node] * arity)
        for color, arity in ((0, 2), (1, 2), (2, 1), (3, 3), (4, 0))
    ]  # fmt: skip
    chosen = draw(st.lists(st.one_of(shapes), max_size=edges))
    rows = []
    if relations:
        row = st.lists(st.sampled_from([0, 0, 1, -1, 2]), min_size=len(kinds), max_size=len(kinds))
        rows = draw(st.lists(row, max_size=2))
    return kinds, chosen, rows


def renumbered(structure: Structure, random: Random) -> Structure:
    """The same structure with its nodes renumbered and its edges shuffled, its relations spanned by other rows."""
    kinds, edges, rows = structure
    place = list(range(len(kinds)))
    random.shuffle(place)
    old = [place.index(new) for new in range(len(place))]
    moved = [(edge[0], *(place[node] for node in edge[1:])) for edge in edges]
    random.shuffle(moved)
    mixed = [[row[node] for node in old] for row in rows]
    if len(mixed) == 2:
        mixed = [[a + 2 * b for a, b in zip(*mixed, strict=True)], [-b for b in mixed[1]]]
    return [kinds[node] for node in old], moved, mixed


@given(structures(), st.randoms(use_true_random=False))
@settings(max_examples=300)
def test_renumbering_changes_nothing(structure: Structure, random: Random) -> None:
    form = canonical(*structure)
    assert canonical(*renumbered(structure, random)) == form
    assert canonical(*form) == form


@given(structures())
@settings(max_examples=200)
def test_the_form_is_isomorphic_to_what_it_came_from(structure: Structure) -> None:
    """Searched over all renumberings."""
    kinds, edges, rows = structure
    kinds_, edges_, rows_ = canonical(*structure)
    wanted = (list(kinds_), sorted(edges_), rows_)
    for place in itertools.permutations(range(len(kinds))):
        old = [place.index(new) for new in range(len(kinds))]
        moved = sorted((edge[0], *(place[node] for node in edge[1:])) for edge in edges)
        if ([kinds[n] for n in old], moved, hermite([[row[n] for n in old] for row in rows])) == wanted:
            return
    pytest.fail(f"{structure} became {wanted}")


@given(structures(nodes=5, edges=5, relations=False), structures(nodes=5, edges=5, relations=False))
@settings(max_examples=100)
def test_equal_exactly_if_networkx_finds_an_isomorphism(a: Structure, b: Structure) -> None:
    assert (canonical(*a) == canonical(*b)) == isomorphic(a, b)


@pytest.mark.parametrize("seed", range(4))
def test_equal_exactly_if_networkx_finds_an_isomorphism_among_relatives(seed: int) -> None:
    """Structures that share all counts, so that isomorphism is the only question: 3 edges on 3 nodes, drawn at random."""
    random = Random(seed)
    family: list[Structure] = []
    for _ in range(40):
        edges = [(random.randrange(2), random.randrange(3), random.randrange(3)) for _ in range(3)]
        family.append(([0, 0, 0], edges, []))
    equal = 0
    for a, b in itertools.combinations(family, 2):
        same = canonical(*a) == canonical(*b)
        assert same == isomorphic(a, b)
        equal += same
    assert equal > 0


@pytest.mark.parametrize("seed", range(30))
def test_equal_exactly_if_nauty_agrees(seed: int) -> None:
    """Larger bipartite diagrams like those of the decompositions, regular ones among them, against pynauty's certificates."""
    random = Random(seed)
    h, p = random.randint(2, 5), random.randint(3, 8)
    degree = random.choice([2, 3, 4])
    ends = [node for node in range(h) for _ in range(degree)]
    family: list[Structure] = []
    for _ in range(8):
        random.shuffle(ends)
        edges = [(random.randrange(2) if seed % 2 else 0, end, h + k % p) for k, end in enumerate(ends)]
        family.append(([0] * h + [1] * p, edges, []))
        family.append(renumbered(family[-1], random))
    for a, b in itertools.combinations(family, 2):
        assert (canonical(*a) == canonical(*b)) == (certificate(a) == certificate(b))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (nx.cycle_graph(6), nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3))),
        (nx.cycle_graph(12), nx.disjoint_union_all([nx.cycle_graph(4)] * 3)),
        (nx.circular_ladder_graph(4), nx.complete_bipartite_graph(4, 4)),
        (nx.petersen_graph(), nx.circular_ladder_graph(5)),
        (nx.hypercube_graph(3), nx.circulant_graph(8, [1, 4])),
    ],
)
def test_graphs_that_color_refinement_cannot_tell_apart(one: nx.Graph, other: nx.Graph) -> None:
    """Regular graphs need individualization; each still equals itself under any renumbering."""
    forms = []
    for graph in (one, other):
        plain = nx.convert_node_labels_to_integers(graph)
        both_ways = [(0, a, b) for edge in plain.edges for a, b in (edge, edge[::-1])]
        structure = ([0] * len(plain), both_ways, [])
        forms.append(canonical(*structure))
        for seed in range(5):
            assert canonical(*renumbered(structure, Random(seed))) == forms[-1]
    assert forms[0] != forms[1]


def shrikhande() -> nx.Graph:
    """The strongly regular graph (16, 6, 2, 2) on a torus that is not the rook's graph."""
    torus = [(x, y) for x in range(4) for y in range(4)]
    steps = ((1, 0), (0, 1), (1, 1))
    return nx.Graph([((x, y), ((x + a) % 4, (y + b) % 4)) for x, y in torus for a, b in steps])


@pytest.mark.parametrize(
    "graph",
    [
        nx.frucht_graph(),  # no automorphism at all
        nx.disjoint_union_all([nx.cycle_graph(6), nx.cycle_graph(3), nx.cycle_graph(3)]),
        nx.disjoint_union(nx.petersen_graph(), nx.circular_ladder_graph(5)),
        nx.truncated_tetrahedron_graph(),
        nx.random_regular_graph(3, 12, seed=1),
        nx.random_regular_graph(4, 11, seed=2),
        # automorphisms that move a chosen node must not prune below it: found by trial, needs stabilizers with many orbits
        nx.disjoint_union(nx.complement(shrikhande()), nx.complete_graph(10)),
    ],
    ids=range(7),
)
def test_regular_graphs_whose_nodes_are_not_alike(graph: nx.Graph) -> None:
    """Refinement leaves one cell, its nodes are in several orbits: all of them must be tried, whatever comes first."""
    plain = nx.convert_node_labels_to_integers(graph)
    both_ways = [(0, a, b) for edge in plain.edges for a, b in (edge, edge[::-1])]
    structure = ([0] * len(plain), both_ways, [])
    form = canonical(*structure)
    assert all(canonical(*renumbered(structure, Random(seed))) == form for seed in range(5))


def test_all_small_multigraphs() -> None:
    """Every multigraph with up to 4 edges on 3 + 2 bipartite nodes: as many forms as orbits of the renumberings."""
    pairs = [(0, a, b) for a in range(3) for b in range(3, 5)]
    moves = [
        (*s, *(3 + t for t in r)) for s in itertools.permutations(range(3)) for r in itertools.permutations(range(2))
    ]
    for count in range(5):
        forms, orbits = set(), set()
        for edges in itertools.combinations_with_replacement(pairs, count):
            forms.add(canonical([0, 0, 0, 1, 1], edges))
            orbits.add(min(tuple(sorted((c, move[a], move[b]) for c, a, b in edges)) for move in moves))
        assert len(forms) == len(orbits)


@given(structures(relations=False))
def test_only_the_order_of_colors_and_kinds_matters(structure: Structure) -> None:
    kinds, edges, _ = structure
    stretched = canonical([3 * kind + 5 for kind in kinds], [(2 * edge[0] + 7, *edge[1:]) for edge in edges])
    kinds_, edges_, _ = canonical(kinds, edges)
    assert stretched[0] == tuple(3 * kind + 5 for kind in kinds_)
    assert stretched[1] == tuple((2 * edge[0] + 7, *edge[1:]) for edge in edges_)


@given(structures(relations=False))
def test_twins_may_be_swapped(structure: Structure) -> None:
    kinds, edges, _ = structure
    leaders = twins(kinds, edges)
    for a, b in itertools.combinations(range(len(kinds)), 2):
        swap = {a: b, b: a}
        swapped = sorted((edge[0], *(swap.get(node, node) for node in edge[1:])) for edge in edges)
        joined = any(a in edge[1:] and b in edge[1:] for edge in edges)
        unchanged = kinds[a] == kinds[b] and swapped == sorted(edges) and not joined
        assert (leaders[a] == leaders[b]) == unchanged


def isomorphic(a: Structure, b: Structure) -> bool:
    return GraphMatcher(incidence(a), incidence(b), node_match=eq, edge_match=eq).is_isomorphic()


def incidence(structure: Structure) -> nx.Graph:
    """Bipartite graph of nodes and edges: labels carry kinds, colors and the slots at which an edge meets a node."""
    kinds, edges, _ = structure
    graph = nx.Graph()
    for node, kind in enumerate(kinds):
        graph.add_node(("node", node), label=("node", kind))
    for k, edge in enumerate(edges):
        graph.add_node(("edge", k), label=("edge", edge[0]))
        for node in set(edge[1:]):
            slots = tuple(slot for slot, other in enumerate(edge[1:]) if other == node)
            graph.add_edge(("edge", k), ("node", node), slots=slots)
    return graph


def certificate(structure: Structure) -> tuple[object, ...]:
    """pynauty's canonical certificate of the incidence graph of two-slot edges, colored by kind and edge color."""
    pynauty = pytest.importorskip("pynauty", reason="an oracle that needs a C compiler")

    kinds, edges, _ = structure
    total = len(kinds) + len(edges)
    graph = pynauty.Graph(total)
    classes: dict[tuple[str, int], set[int]] = {}
    for node, kind in enumerate(kinds):
        classes.setdefault(("node", kind), set()).add(node)
    for k, (color, a, b) in enumerate(edges):
        classes.setdefault(("edge", color), set()).add(len(kinds) + k)
        graph.connect_vertex(len(kinds) + k, [a, b])
    order = sorted(classes)
    graph.set_vertex_coloring([classes[key] for key in order])
    return total, [(key, len(classes[key])) for key in order], pynauty.certificate(graph)
