"""Learning curves: end states over one parameter, of quadratic networks and of any other problem with an end."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

import lossflow as lf
from lossflow import end_states
from lossflow.trajectory import EndState, Status

NETWORK = lf.QuadraticNetwork(alpha=0.3, kappa=0.4, kappa_star=0.3, noise_variance=0.5, weight_decay=0.01)


@pytest.mark.slow
def test_the_end_states_of_user_script_u10() -> None:
    """Three end states, a curve of sixty points and the limit of vanishing weight decay; its dynamics are tested elsewhere."""
    network = lf.QuadraticNetwork(
        alpha=0.11, kappa=0.0749, kappa_star=0.0239, noise_variance=5.3895, weight_decay=1.588e-4
    )
    assert [round(branch.values["mse"], 3) for branch in lf.stationary(network).branches] == [36.243, 241.867, 1549.721]
    curve = lf.learning_curve(network, "alpha", np.linspace(0.05, 0.6, 60))
    assert curve.sizes == {"alpha": 60}
    assert (curve["status"] == "complete").all()
    limit = lf.stationary(dataclasses.replace(network, weight_decay="0+"))
    assert limit.status
    assert limit.values["q"] == 0.0


def test_a_curve_holds_the_end_states() -> None:
    alphas = [0.2, 0.6, math.inf, 0.1]
    curve = lf.learning_curve(NETWORK, "alpha", alphas)
    assert list(curve["alpha"].to_numpy()) == alphas
    for j, alpha in enumerate(alphas):
        state = lf.stationary(dataclasses.replace(NETWORK, alpha=alpha))
        for name, value in state.values.items():
            assert curve[name].dtype == np.float64
            assert float(curve[name][j]) == pytest.approx(value, rel=1e-13, abs=0)
    assert list(curve["states"].to_numpy()) == [1, 1, 1, 1]
    assert curve.attrs["problem"] == repr(NETWORK)


def test_several_states_are_counted_and_the_main_one_is_shown() -> None:
    fold = lf.QuadraticNetwork(0.1, 0.0749, 0.0239, 5.3895, 1.588e-4)
    curve = lf.learning_curve(fold, "alpha", [0.1, 0.11, 0.12])
    assert list(curve["states"].to_numpy()) == [1, 3, 1]
    assert float(curve["mse"][1]) == pytest.approx(36.2427528, rel=1e-8)


def test_values_that_are_no_numbers_are_printed() -> None:
    curve = lf.learning_curve(NETWORK, "weight_decay", ["0+", 0.1])
    assert list(curve["weight_decay"].to_numpy()) == ["0+", "0.1"]
    limit = lf.stationary(dataclasses.replace(NETWORK, weight_decay="0+"))
    assert float(curve.sel(weight_decay="0+")["mse"]) == limit.values["mse"]


def test_other_parameters() -> None:
    for parameter, values in {"kappa": [0.2, 1.0], "noise_variance": [0.0, 2.0], "init_variance": [0.1, 1.0]}.items():
        curve = lf.learning_curve(NETWORK, parameter, values)
        assert curve.sizes == {parameter: 2}
    start = lf.learning_curve(NETWORK, "init_variance", [0.1, 1.0])["mse"]
    assert float(start[0]) == float(start[1])  # with weight decay the start is forgotten


def test_what_is_not_found_is_no_number() -> None:
    curve = lf.learning_curve(NETWORK, "noise_variance", [0.5, 1e300])
    assert list(curve["status"].to_numpy()) == ["complete", "stopped"]
    assert math.isnan(float(curve["mse"][1]))
    assert not math.isnan(float(curve["mse"][0]))


def test_any_problem_with_an_end_has_a_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one, where no engine knows many at once; a value that some states lack is NaN there."""

    def known(problem: Any) -> EndState:
        values = {"mse": float(problem.order)} | ({"loss": 1.0} if problem.order == 2 else {})
        return EndState(values, (), problem, Status("complete", None, "known"))

    with pytest.raises(lf.NotSpoken):
        lf.learning_curve(lf.CPDecomposition(), "order", [2, 4])
    monkeypatch.setitem(end_states.ENGINES, "CPDecomposition", known)
    curve = lf.learning_curve(lf.CPDecomposition(), "order", [2, 4])
    assert list(curve["mse"].to_numpy()) == [2.0, 4.0]
    assert float(curve["loss"][0]) == 1.0
    assert math.isnan(float(curve["loss"][1]))


@pytest.mark.parametrize(
    ("parameter", "values", "complaint"),
    [
        ("alhpa", [0.1], "did you mean 'alpha'"),
        (3, [0.1], "no field 3"),
        ("alpha", "0+", "a sequence"),
        ("alpha", 0.3, "a sequence"),
        ("alpha", [[0.1]], "a sequence"),
        ("alpha", [], "at least one"),
        ("alpha", [0.1, -1.0], "must be positive"),
        ("alpha", [math.nan], "must be a number"),
        ("weight_decay", [0.1, 0.0], r'weight_decay="0\+"'),
    ],
    ids=str,
)
def test_misuse(parameter: Any, values: Any, complaint: str) -> None:
    with pytest.raises(lf.InvalidInput, match=complaint):
        lf.learning_curve(NETWORK, parameter, values)
    with pytest.raises(lf.InvalidInput, match="AbstractProblem"):
        lf.learning_curve("network", "alpha", [0.1])  # type: ignore[arg-type]
