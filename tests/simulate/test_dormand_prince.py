"""The tableau against the order conditions of Butcher, one for each rooted tree, and against another program's copy."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from lossflow.simulate import dormand_prince as tableau

Array = npt.NDArray[np.float64]
Tree = tuple["Tree", ...]  # the subtrees at the root

TREES_BY_ORDER = [1, 1, 2, 4, 9, 20, 48, 115]  # OEIS A000081


@cache
def trees(order: int) -> tuple[Tree, ...]:
    """All rooted trees with so many nodes."""
    return tuple(sorted(set(forests(order - 1, order - 1))))


@cache
def forests(nodes: int, largest: int) -> tuple[Tree, ...]:
    """All multisets of trees of at most `largest` nodes with so many nodes together."""
    if nodes == 0:
        return ((),)
    found = []
    for first in range(1, min(nodes, largest) + 1):
        for tree in trees(first):
            found += [tuple(sorted((tree, *rest))) for rest in forests(nodes - first, first)]
    return tuple(set(found))


def order_of(tree: Tree) -> int:
    return 1 + sum(map(order_of, tree))


def density(tree: Tree) -> int:
    result = order_of(tree)
    for branch in tree:
        result *= density(branch)
    return result


def elementary_weights(tree: Tree, A: Array) -> Array:
    result = np.ones(len(A))
    for branch in tree:
        result = result * (A @ elementary_weights(branch, A))
    return result


def row(coefficients: tableau.Row) -> Array:
    return np.array([coefficients.get(stage, 0.0) for stage in range(1, 17)])


def matrix() -> Array:
    """All 16 stages; stage 13 is the end of the step, so its row is b."""
    return np.array([row(tableau.B if stage == 13 else tableau.A.get(stage, {})) for stage in range(1, 17)])


def conditions(weights: Array, order: int, at: float = 1.0) -> Array:
    """sum_j w_j Phi_j(t) - x^r/gamma(t) for all trees of r <= order nodes: zero to the order of the method."""
    A = matrix()
    return np.array(
        [
            weights @ elementary_weights(tree, A) - at**r * float(Fraction(1, density(tree)))
            for r in range(1, order + 1)
            for tree in trees(r)
        ]
    )


def test_the_trees_are_all_there() -> None:
    assert [len(trees(r)) for r in range(1, 9)] == TREES_BY_ORDER


def test_the_step_has_order_eight() -> None:
    assert np.abs(conditions(row(tableau.B), 8)).max() < 1e-14
    assert np.abs(conditions(row(tableau.B), 9)).max() > 1e-6  # and no more: the conditions can fail


@pytest.mark.parametrize(("error", "order"), [(tableau.ERROR_5, 5), (tableau.ERROR_3, 3)])
def test_the_errors_are_differences_to_embedded_methods(error: tableau.Row, order: int) -> None:
    assert np.abs(conditions(row(tableau.B) - row(error), order)).max() < 1e-14
    assert np.abs(conditions(row(tableau.B) - row(error), order + 1)).max() > 1e-4


@pytest.mark.parametrize("x", [0.0, 0.1, 0.37, 0.5, 0.9, 1.0])
def test_the_dense_output_has_order_seven(x: float) -> None:
    """With the weights as the integrator uses them."""
    from lossflow.simulate.stages import K1, SLOTS, dense_weights

    slots = dense_weights(np.array([x]))[0]
    weights = np.zeros(16)
    weights[0] = slots[K1]
    weights[3:] = slots[3:SLOTS]
    assert slots[0] == slots[1] == 0
    assert np.abs(conditions(weights, 7, x)).max() < 1e-13
    if x in (0.0, 1.0):
        assert np.abs(weights - x * row(tableau.B)).max() < 1e-15


def test_the_numbers_are_those_of_scipy() -> None:
    from scipy.integrate import DOP853

    assert (matrix()[:12, :12] == DOP853.A).all()
    assert (matrix()[13:] == DOP853.A_EXTRA).all()
    assert (row(tableau.B)[:12] == DOP853.B).all()
    assert (row(tableau.ERROR_5)[:13] == DOP853.E5).all()
    assert (row(tableau.ERROR_3)[:13] == DOP853.E3).all()
    assert (np.array([row(d) for d in tableau.D]) == DOP853.D).all()
