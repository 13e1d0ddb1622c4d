"""Losses written by a user: what is drawn for each tensor, and what is refused."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import lossflow as lf


def test_a_polynomial_problem_is_its_loss() -> None:
    cp = lf.CPDecomposition(order=3)
    problem = lf.PolynomialProblem(cp.as_diagrams())
    assert problem.as_diagrams() == cp.as_diagrams()
    assert lf.expand(problem, 1).coefficients == lf.expand(cp, 1).coefficients


def test_every_tensor_is_drawn_by_its_own_law() -> None:
    a = lf.Tensor("a", ("H",), variance="a2", mean="mu")
    x = lf.Tensor("x", ("H", "N"), variance=Fraction(1, 4), learned=False)
    problem = lf.PolynomialProblem(lf.diagram(a("k"), x("k", "n")))
    sizes = {"H": 200, "N": 300, "a2": 4.0, "mu": 3.0}
    tensors = problem.as_sample(sizes, run=0, seed=0)
    assert tensors["a"].shape == (200,)
    assert tensors["x"].shape == (200, 300)
    # within four standard errors
    assert abs(tensors["a"].mean() - 3) < 4 * 2 / np.sqrt(200)
    assert abs(tensors["a"].std() - 2) < 4 * 2 / np.sqrt(400)
    assert abs(tensors["x"].mean()) < 4 * 0.5 / np.sqrt(60000)
    assert abs(tensors["x"].std() - 0.5) < 4 * 0.5 / np.sqrt(120000)


def test_theory_and_experiment_share_the_teacher() -> None:
    """A tensor is drawn from (seed, run, name) alone: adding another tensor, or using another size, changes nothing."""
    w = lf.Tensor("w", ("p",))
    teacher = lf.Tensor("teacher", ("p",), variance=1, learned=False)
    alone = lf.PolynomialProblem(lf.diagram(w("i"), w("i")))
    both = lf.PolynomialProblem(lf.diagram(w("i"), w("i")) - 2 * lf.diagram(w("i"), teacher("i")))
    sizes = {"p": 5, "sigma2": 1.0}
    assert np.array_equal(alone.as_sample(sizes, 2, 7)["w"], both.as_sample(sizes, 2, 7)["w"])


def test_the_value_of_a_pinned_loss() -> None:
    v = lf.Tensor("v", ("p",))
    loss = lf.diagram(v("i"), v("i")) - 2 * lf.diagram(v(lf.pin(2)))
    problem = lf.PolynomialProblem(loss)
    sizes = {"p": 3, "sigma2": 1.0}
    runs = lf.solve(problem, lf.Simulation(sizes, runs=4, seed=3), [0.0, 0.5]).details["runs"]["loss"]
    for run in range(4):
        start = problem.as_sample(sizes, run, 3)["v"]
        assert runs[run, 0] == pytest.approx(start @ start - 2 * start[1], rel=1e-13, abs=1e-13)
        end = start * np.exp(-1.0)
        end[1] = 1 + (start[1] - 1) * np.exp(-1.0)
        assert runs[run, 1] == pytest.approx(end @ end - 2 * end[1], rel=1e-8, abs=1e-8)  # the simulation's tolerance


def test_a_loss_without_learned_tensors_is_refused() -> None:
    frozen = lf.Tensor("x", ("p",), learned=False)
    with pytest.raises(lf.InvalidInput, match="nothing is learned"):
        lf.PolynomialProblem(lf.diagram(frozen("i"), frozen("i")))
