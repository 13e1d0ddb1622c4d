"""Figures of end states: verdicts agree at small sizes, pictures show what was computed, a wrong theory is noticed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import lossflow as lf
from lossflow.figures import (
    quadratic_bayes,
    quadratic_branches,
    quadratic_double_descent,
    quadratic_learning_curves,
    quadratic_oja,
    quadratic_rank,
    quadratic_thresholds,
)
from lossflow.figures.figure import Outcome
from lossflow.problems.quadratic import QuadraticNetwork
from lossflow.simulate.quadratic import Instance, end_by_descent, end_by_lbfgs, ends
from lossflow.trajectory import EndState

LEARNING: dict[str, Any] = {"d": 20, "runs": 3, "alphas": (0.15, 0.4), "spectrum_alpha": 0.4}


def agreeing(outcome: Outcome) -> None:
    for verdict in outcome.verdicts:
        assert verdict.agree, verdict.sentence


def test_learning_curves() -> None:
    outcome = quadratic_learning_curves.draw(**LEARNING)
    agreeing(outcome)
    left = outcome.pictures[0].canvas.axes[0]
    line = left.lines[0]
    network = QuadraticNetwork(1.0, 0.7, 0.5, 0.0, 0.5)
    alphas, errors = map(np.asarray, line.get_data())
    for alpha, mse in zip(alphas[::40], errors[::40], strict=True):
        assert lf.stationary(replace(network, alpha=float(alpha))).values["mse"] == pytest.approx(mse, rel=1e-12)
    assert left.get_xlabel() == r"$\alpha = n/d^2$"


def test_a_theory_that_is_off_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = quadratic_learning_curves.stationary

    def wrong(problem: QuadraticNetwork) -> EndState:
        state = right(problem)
        values = dict(state.values) | {name: 1.5 * state.values[name] for name in ("mse", "loss")}
        return EndState(values, (), problem, state.status)

    monkeypatch.setattr(quadratic_learning_curves, "stationary", wrong)
    outcome = quadratic_learning_curves.draw(**LEARNING)
    assert not all(verdict.agree for verdict in outcome.verdicts if "all curves" in verdict.curve)


def test_rank() -> None:
    agreeing(quadratic_rank.draw(d=20, runs=3, alphas=(0.1, 0.4)))


def test_double_descent() -> None:
    outcome = quadratic_double_descent.draw(d=40, runs=2, alphas=(0.2, 0.6))
    agreeing(outcome)
    middle = outcome.pictures[0].canvas.axes[1]
    limit = middle.lines[len(quadratic_double_descent.DECAYS)]
    alphas, mse = map(np.asarray, limit.get_data())
    assert alphas[np.argmax(mse)] == pytest.approx(0.2875, abs=1e-3)
    assert middle.get_yscale() == "log"


def test_thresholds() -> None:
    outcome = quadratic_thresholds.draw(widths=21, bisected=1, d=20, runs=3)
    agreeing(outcome)
    assert "conjecture" in outcome.pictures[0].words
    assert any("conjecture" in verdict.sentence for verdict in outcome.verdicts)


def test_oja() -> None:
    agreeing(quadratic_oja.draw(d=80, runs=3, last_time=1000.0))


@pytest.mark.parametrize(("kappa", "power"), [(0.8, 3), (0.2, 1)])
def test_a_time_that_is_ahead_changes_no_power_law(kappa: float, power: int) -> None:
    """distance = C (t + 2)^-p; with another C or another p it is noticed."""
    times = np.geomspace(2.0, 40.0, 12)
    law = quadratic_oja._semicircle_law(kappa, times)
    rows = np.tile(law * (times / (times + 2)) ** power, (4, 1))
    verdict = quadratic_oja._authors(kappa, rows, times, 400)
    assert verdict.agree
    assert verdict.largest_relative_gap == pytest.approx(0, abs=1e-9)
    for wrong in (1.5 * rows, rows * (times / 10) ** 0.5):
        assert not quadratic_oja._authors(kappa, wrong, times, 400).agree


def test_bayes() -> None:
    agreeing(quadratic_bayes.draw(points=3, measured_alphas=(0.5,), d=20, runs=3))


def test_branches() -> None:
    outcome = quadratic_branches.draw(points=13, d=90, runs=1)
    agreeing(outcome)
    assert "open" in outcome.pictures[0].words


def test_runs_are_paired_and_depend_on_seed_and_run_alone() -> None:
    network = QuadraticNetwork(0.3, 0.4, 0.3, 0.5, 0.1)
    first, other = (Instance(p, 10, 2, 5) for p in (network, replace(network, alpha=0.6, weight_decay=0.2)))
    assert np.array_equal(first.teacher, other.teacher)
    assert np.array_equal(first.start, other.start)
    assert not np.array_equal(first.teacher, Instance(network, 10, 3, 5).teacher)


def test_descent_and_lbfgs_end_in_the_same_state() -> None:
    instance = Instance(QuadraticNetwork(0.3, 0.7, 0.5, 0.0, 0.5), 20, 0, 0)
    fast, slow = end_by_lbfgs(instance), end_by_descent(instance, time=60.0, step=0.02)
    assert slow.gradient < 1e-3
    for name in ("mse", "loss", "in_sample_error"):
        assert slow.values[name] == pytest.approx(fast.values[name], rel=5e-3)  # directions at the cut die slowly
    assert slow.iterations == 3000


@pytest.mark.parametrize(
    "wrong", [{"alpha": np.inf}, {"weight_decay": "0+"}, {"kappa": 0.01}, {"alpha": 1e-5}], ids=str
)
def test_instances_that_make_no_sense(wrong: dict[str, Any]) -> None:
    network = replace(QuadraticNetwork(0.3, 0.4, 0.3, 0.5, 0.1), **wrong)
    with pytest.raises(lf.InvalidInput):
        ends(network, 10, 1, 0)


@pytest.mark.slow
def test_the_bias_at_d_100() -> None:
    """Mean signed bias of at most 2% over a whole learning-curve figure, 16 runs at each of 30 points: half an hour."""
    agreeing(quadratic_learning_curves.FIGURE.make("full"))
