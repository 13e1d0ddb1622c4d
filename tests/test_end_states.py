"""The front door to end states: which engine answers, curves over a parameter, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import lossflow as lf
from lossflow.end_states import ENGINES

RIDGE = lf.GeneralizedLinear(loss=lf.Square(), labels=lf.LinearLabels(0.25), delta=2.0, weight_decay=0.1)
PROBLEMS = {
    "GeneralizedLinear": RIDGE,
    "DiagonalLinear": lf.DiagonalLinear(delta=0.5, prior=lf.RademacherSparse(density=0.1), noise_variance=0.01),
    "QuadraticNetwork": lf.QuadraticNetwork(alpha=0.3, kappa=0.4, kappa_star=0.3, noise_variance=0.5, weight_decay=0.1),
}


def test_every_engine_is_tried_here() -> None:
    assert set(ENGINES) == set(PROBLEMS)


@pytest.mark.parametrize("name", PROBLEMS)
def test_each_problem_has_its_end(name: str) -> None:
    end = lf.stationary(PROBLEMS[name])
    assert end.status
    assert end.problem == PROBLEMS[name]
    assert all(math.isfinite(value) for value in end.values.values())
    assert lf.stationary(PROBLEMS[name]).identical(end)


def test_a_problem_of_a_users_own_kind_is_answered_as_its_base() -> None:
    class Mine(lf.GeneralizedLinear):
        """The same model under another name."""

    mine = Mine(loss=lf.Square(), labels=lf.LinearLabels(0.25), delta=2.0, weight_decay=0.1)
    assert lf.stationary(mine).values == lf.stationary(RIDGE).values


def test_what_has_no_end() -> None:
    for problem in (lf.CPDecomposition(order=2), lf.Softmax(classes=3, delta=2.0)):
        with pytest.raises(lf.NotSpoken, match=r"no engine knows.*GeneralizedLinear.*Methods that apply"):
            lf.stationary(problem)
    for wrong in ("ridge", None, lf.GeneralizedLinear):
        with pytest.raises(lf.InvalidInput, match="must be an AbstractProblem"):
            lf.stationary(wrong)  # type: ignore[arg-type]


def test_double_descent_as_a_learning_curve() -> None:
    """The error peaks where samples and weights are equal in number, and a status that is not complete is kept."""
    bare = replace(RIDGE, weight_decay="0+")
    curve = lf.learning_curve(bare, "delta", [0.5, 0.9, 1.0, 1.1, 2.0])
    mse = curve["mse"].to_numpy()
    assert np.argmax(np.nan_to_num(mse, nan=np.inf)) == 2
    assert mse[[0, 4]] == pytest.approx([0.5 + 0.25 * 0.5 / 0.5, 0.25], rel=1e-12)
    assert curve["status"].to_numpy().tolist() == ["complete", "complete", "left_domain", "complete", "complete"]
    assert math.isnan(mse[2])
    decays = lf.learning_curve(RIDGE, "weight_decay", ["0+", 0.1, 1.0])
    assert decays["weight_decay"].to_numpy().tolist() == ["0+", "0.1", "1"]
    with pytest.raises(lf.UnknownField, match="no field 'detla'; did you mean 'delta'"):
        lf.learning_curve(RIDGE, "detla", [1.0])


def test_an_end_state_survives_a_file(tmp_path) -> None:
    for problem in (RIDGE, replace(RIDGE, loss=lf.Logistic(), labels=lf.SignLabels(), weight_decay=0.0)):
        end = lf.stationary(problem)
        lf.save(end, tmp_path / "end.nc")
        assert lf.load(tmp_path / "end.nc").identical(end)
