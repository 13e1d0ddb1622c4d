"""Pairings one by one agree with the mean that never enumerates them; the contractions of the gallery."""

from __future__ import annotations

from collections import Counter
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.diagrams.families import paired_factors, square

from lossflow.diagrams.diagram import Diagram
from lossflow.diagrams.pairing import contracted, pairing_with, pairings
from lossflow.diagrams.polynomial import diagram, merge
from lossflow.diagrams.tensor import Factor, Tensor, pin
from lossflow.diagrams.wick import mean
from lossflow.errors import InvalidInput

u, w = Tensor("u", ("H", "p"), variance=1), Tensor("w", ("H", "p"), variance=1)


@given(st.integers(1, 3).flatmap(lambda n: paired_factors((u, w), n)))
@settings(max_examples=60)
def test_mean_is_the_sum_of_contractions(chosen: list[Factor]) -> None:
    bare = Diagram(tuple(chosen))
    found: Counter[tuple[int, int]] = Counter()
    for pairs in pairings(bare):
        identified = contracted(bare, pairs)
        if identified is not None:
            axes = list(identified.axes.values())
            found[axes.count("p"), axes.count("H")] += 1
    total = mean(diagram(*chosen))
    assert total.terms == {tuple({"p": a, "H": b}[name] for name in total.variables): c for (a, b), c in found.items()}


def test_numbers_of_pairings() -> None:
    for m in range(5):
        same = Diagram(tuple(u(f"k{k}", "i") for k in range(2 * m)))
        assert len(list(pairings(same))) == len(set(pairings(same))) == prod(range(2 * m - 1, 0, -2))
    assert list(pairings(Diagram((u("k", "i"), w("k", "i"))))) == []


def circle(m: int) -> Diagram:
    return Diagram(tuple(f for k in range(m) for f in (u(f"k{k}", f"i{k}"), u(f"k{k}", f"i{(k + 1) % m}"))))


def test_a_circle_contracts_to_a_tree() -> None:
    """2m edges in m pairs on m + 1 nodes: a tree of double edges."""
    tree = contracted(circle(5), pairing_with(circle(5), {"H": 3, "p": 3}))
    assert tree is not None
    edges = Counter(factor.nodes for factor in tree.factors)
    assert set(edges.values()) == {2}
    assert len(edges) == 5
    assert len(tree.axes) == 6


def test_a_merger_contracts_to_a_flower() -> None:
    """D6 * D6 with all its H-nodes identified: five petals, each a double edge to one p-node."""
    merged = merge(square(3, False), square(3, False)).terms[0].diagram
    flower = contracted(merged, pairing_with(merged, {"H": 1, "p": 5}))
    assert flower is not None
    edges = Counter(factor.nodes for factor in flower.factors)
    assert set(edges.values()) == {2}
    assert {nodes[0] for nodes in edges} == {next(iter(edges))[0]}
    assert len({nodes[1] for nodes in edges}) == 5


def test_pins_and_constraints() -> None:
    both = Diagram((u("k", pin(1)), u("l", "i"), u("k", "i"), u("l", pin(1))), ((("i", 2), (pin(1), 1)),))
    identified = contracted(both, ((0, 1), (2, 3)))
    assert identified is not None
    assert {factor.nodes[1] for factor in identified.factors} == {pin(1)}
    assert identified.constraints == ()  # 0 = 0
    assert contracted(Diagram((u("k", pin(1)), u("k", pin(2)))), ((0, 1),)) is None
    moved = Diagram((u("k", pin(1)), u("l", "i"), u("k", "j"), u("l", "m")), ((("i", 2), ("j", 1), ("m", -1)),))
    identified = contracted(moved, ((0, 1), (2, 3)))  # i is pinned, j and m are one
    assert identified is not None
    assert identified.constraints == ()
    identified = contracted(moved, ((0, 2), (1, 3)))  # j is pinned, i and m are one
    assert identified is not None
    assert [sorted(c for _, c in row) for row in identified.constraints] == [[1, 1]]


def test_mistakes() -> None:
    with pytest.raises(InvalidInput, match="leaves 5 nodes on H and 5 nodes on p"):
        pairing_with(circle(3), {"H": 5, "p": 5})
    with pytest.raises(InvalidInput, match="only factors of one tensor pair, got 'u' and 'w'"):
        contracted(Diagram((u("k", "i"), w("k", "i"))), ((0, 1),))
