"""Diagnoses of runs whose regime is known: by construction, or because the weights are."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lossflow as lf

LAZY_SIZES = {"p": 6, "H": 6000, "sigma2": 0.015625}
APART = lf.CPDecomposition(order=3, symmetric=False)


def kernel(weights: list[np.ndarray], place: tuple[int, ...]) -> float:
    """sum_k sum_m prod over the other slots of u^2, for nu matrices: written out."""
    return sum(
        float(np.sum(np.prod([weights[j][:, place[j]] ** 2 for j in range(len(place)) if j != m], axis=0)))
        for m in range(len(place))
    )


def test_a_lazy_run() -> None:
    run = lf.solve(APART, lf.Simulation(LAZY_SIZES, runs=2), np.linspace(0, 0.4, 9))
    found = lf.diagnose(run)
    assert found["learning"] == "lazy"
    assert found["regime"] == "B-C" == found["placement"][0]
    assert found["misfit"]["B-C"] < 0.03 < found["misfit"]["C"]
    assert found["kernel_drift"][-1] < 0.02
    assert found["feature_movement"][-1] < 0.05
    assert found["rate_drift"] == pytest.approx(1, abs=0.05)
    assert found["learned"] > 0.9


def test_a_rich_run() -> None:
    run = lf.solve(APART, lf.Simulation({"p": 2, "H": 300, "sigma2": 300 ** (-2 / 3)}, runs=2), np.linspace(0, 4, 9))
    found = lf.diagnose(run)
    assert found["learning"] == "rich"
    assert found["regime"] == "C-D"
    assert found["kernel_drift"][-1] > 0.5
    assert (np.diff(found["feature_movement"]) > 0).all()


def test_a_free_run() -> None:
    free = lf.CPDecomposition(order=4, target=lf.Zero())
    run = lf.solve(free, lf.Simulation({"p": 48, "H": 4, "sigma2": 0.02}, runs=8), np.linspace(0, 0.1, 9))
    found = lf.diagnose(run)
    assert found["learning"] == "none"
    assert math.isnan(found["learned"])
    assert found["regime"] == "A"


def test_a_run_that_has_not_learned_yet() -> None:
    run = lf.solve(
        lf.CPDecomposition(order=4), lf.Simulation({"p": 8, "H": 8, "sigma2": 0.01}, runs=2), [0.0, 0.1, 0.2]
    )
    found = lf.diagnose(run)
    assert found["learning"] == "none"
    assert 0 <= found["learned"] < 0.1


def test_weights_of_one_s_own() -> None:
    """Kernel and features from weights that are given, against sums written out; saved and loaded as well."""
    random = np.random.default_rng(1)
    weights = {name: random.normal(size=(3, 5, 2)) for name in ("u1", "u2", "u3")}
    run = lf.solve(APART, lf.Limit({"p": 2, "H": 5, "sigma2": 0.2}, regime="B-C"), [0.0, 0.01, 0.02])
    mine = replace(run, details={**run.details, "weights": weights})
    found = lf.diagnose(mine)
    moved = [
        math.sqrt(
            sum(np.sum((w[t] - w[0]) ** 2) for w in weights.values()) / sum(np.sum(w[0] ** 2) for w in weights.values())
        )
        for t in range(3)
    ]
    assert found["feature_movement"] == pytest.approx(moved, rel=1e-12)
    # p^3 = 8 entries: all that exist, and the two diagonal ones once more
    places = [(0, 0, 0), (1, 1, 1), *(tuple((j * (2 * m + 1) + m * m) % 2 for m in range(3)) for j in range(8))]
    values = np.array([[kernel([w[t] for w in weights.values()], place) for place in places] for t in range(3)])
    drift = np.linalg.norm(values - values[0], axis=1) / np.linalg.norm(values[0])
    assert found["kernel_drift"] == pytest.approx(drift, rel=1e-12)


def test_a_recorded_run_that_is_another_one_is_not_taken_for_it() -> None:
    run = lf.solve(APART, lf.Simulation({"p": 3, "H": 5, "sigma2": 0.2}, runs=2), [0.0, 0.1, 0.2])
    details = {**run.details, "runs": {"loss": np.asarray(run.details["runs"]["loss"]) * 1.01}}
    found = lf.diagnose(replace(run, details=details))
    assert found["feature_movement"].size == 0
    assert any("not the one" in reason for reason in found["reasons"])


def test_a_problem_of_data_has_a_rate_and_no_regime() -> None:
    problem = lf.GeneralizedLinear(lf.Square(), lf.LinearLabels(), delta=2.0)
    run = lf.solve(problem, lf.Simulation({"d": 40}, runs=2), np.linspace(0, 1, 6))
    found = lf.diagnose(run)
    assert found["learning"] == "unknown"
    assert found["regime"] is None
    assert found["rate_drift"] > 1 or math.isnan(found["rate_drift"])
    assert found["reasons"]


def test_a_diagnosis_after_loading(tmp_path: Path) -> None:
    run = lf.solve(APART, lf.Simulation({"p": 3, "H": 5, "sigma2": 0.2}, runs=2), [0.0, 0.1, 0.2])
    lf.save(run, tmp_path / "run.nc")
    before, after = lf.diagnose(run), lf.diagnose(lf.load(tmp_path / "run.nc"))
    for name in ("feature_movement", "kernel_drift", "times"):
        assert np.array_equal(before[name], after[name])
    assert before["learning"] == after["learning"]


@pytest.mark.parametrize("wrong", [None, "run", {"loss": [1, 2]}])
def test_what_is_not_a_trajectory(wrong: Any) -> None:
    with pytest.raises(lf.InvalidInput, match="Trajectory"):
        lf.diagnose(wrong)


def test_one_time_is_no_curve() -> None:
    run = lf.solve(APART, lf.Simulation({"p": 3, "H": 5, "sigma2": 0.2}, runs=2), [0.1])
    with pytest.raises(lf.InvalidInput, match="two times"):
        lf.diagnose(run)
    kept = {**run.details, "weights": {"u1": np.zeros((4, 5, 3))}}
    longer = lf.solve(APART, lf.Simulation({"p": 3, "H": 5, "sigma2": 0.2}, runs=2), [0.1, 0.2])
    with pytest.raises(lf.InvalidInput, match="first axis"):
        lf.diagnose(replace(longer, details=kept))
