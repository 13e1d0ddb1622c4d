"""The CP decomposition: its loss as diagrams against plain numpy, its initial weights against their law."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import pytest

import lossflow as lf


def value(loss: lf.DiagramPolynomial, tensors: Mapping[str, np.ndarray], sizes: Mapping[str, float]) -> float:
    """The polynomial summed over all values of all nodes, straight from its definition."""
    total = 0.0
    for term in loss.terms:
        weight = float(term.coefficient)
        for name, power in term.powers:
            weight *= sizes[name] ** power
        nodes: dict[str, str] = {}
        for factor in term.diagram.factors:
            nodes.update({str(node): axis for axis, node in zip(factor.tensor.axes, factor.nodes, strict=True)})
        for values in itertools.product(*(range(int(sizes[axis])) for axis in nodes.values())):
            at = dict(zip(nodes, values, strict=True))
            product = 1.0
            for factor in term.diagram.factors:
                product *= tensors[factor.tensor.name][tuple(at[str(node)] for node in factor.nodes)]
            total += weight * product
    return total


@pytest.mark.parametrize("target", [lf.Zero(), lf.Identity(), lf.Identity(Fraction(-3, 2))])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("order", [2, 3])
def test_the_diagrams_are_the_loss(order: int, symmetric: bool, target: lf.AbstractTarget) -> None:
    problem = lf.CPDecomposition(order, symmetric, target)
    sizes = {"p": 3, "H": 2, "sigma2": 0.5}
    tensors = problem.as_sample(sizes, run=0, seed=1)
    model = np.zeros((3,) * order)
    for k in range(2):
        rows = [tensors["u" if symmetric else f"u{m + 1}"][k] for m in range(order)]
        model += np.einsum(",".join("abc"[:order]) + "->" + "abc"[:order], *rows)
    scale = float(target.scale) if isinstance(target, lf.Identity) else 0.0
    model[(np.arange(3),) * order] -= scale
    # both sides are sums of a few hundred products
    assert value(problem.as_diagrams(), tensors, sizes) == pytest.approx(0.5 * np.sum(model**2), rel=1e-13)


def test_initial_weights_follow_their_law() -> None:
    problem = lf.CPDecomposition(order=3, symmetric=False)
    sizes = {"p": 40, "H": 50, "sigma2": 0.09}
    entries = np.array([list(problem.as_sample(sizes, run, 0).values()) for run in range(20)]).ravel()
    n = entries.size
    assert n == 20 * 3 * 40 * 50
    # mean, variance and fourth moment within 4 standard errors of those of N(0, 0.09)
    assert abs(entries.mean()) < 4 * 0.3 / np.sqrt(n)
    assert abs(entries.var() - 0.09) < 4 * 0.09 * np.sqrt(2 / n)
    assert abs((entries**4).mean() - 3 * 0.09**2) < 4 * 0.09**2 * np.sqrt(96 / n)


def test_slots_of_the_asymmetric_problem_are_independent() -> None:
    tensors = lf.CPDecomposition(order=2, symmetric=False).as_sample({"p": 50, "H": 60, "sigma2": 1}, 0, 0)
    assert set(tensors) == {"u1", "u2"}
    assert abs(np.mean(tensors["u1"] * tensors["u2"])) < 4 / np.sqrt(3000)


def test_an_identity_of_scale_zero_is_no_target() -> None:
    assert lf.CPDecomposition(target=lf.Identity(0)).as_diagrams() == lf.CPDecomposition(target=lf.Zero()).as_diagrams()


def test_scales_are_exact() -> None:
    assert lf.Identity(0.1) == lf.Identity("1/10") == lf.Identity(Fraction(1, 10))  # type: ignore[arg-type]


def test_wrong_problems_are_refused() -> None:
    with pytest.raises(lf.InvalidInput, match="order"):
        lf.CPDecomposition(order=1)
    with pytest.raises(lf.InvalidInput, match=r"Zero\(...\)"):
        lf.CPDecomposition(target=lf.Zero)  # type: ignore[arg-type]
    with pytest.raises(lf.UnknownField, match="did you mean 'order'"):
        lf.CPDecomposition(ordr=3)  # type: ignore[call-arg]
    with pytest.raises(lf.NotSpoken, match="Methods that apply: Limit, Series, Simulation"):
        lf.CPDecomposition().as_process()
