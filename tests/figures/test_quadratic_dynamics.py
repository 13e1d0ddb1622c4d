"""Figures of the dynamics of quadratic networks: verdicts agree at small sizes, and a theory that is off is noticed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import lossflow as lf
from lossflow.figures import quadratic_dynamics, quadratic_recovery, quadratic_universality
from lossflow.figures.figure import Outcome

DYNAMICS: dict[str, Any] = {"d": 20, "pairs": 6, "short_d": 10, "short_runs": 24, "order": 2, "short_time": 0.003}


def agreeing(outcome: Outcome) -> None:
    for verdict in outcome.verdicts:
        assert verdict.agree, verdict.sentence


@pytest.fixture
def one_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quadratic_dynamics, "NOISES", (0.5,))


@pytest.mark.usefixtures("one_noise")
def test_dynamics() -> None:
    outcome = quadratic_dynamics.draw(**DYNAMICS)
    agreeing(outcome)
    left, middle, right = outcome.pictures[0].canvas.axes
    assert left.get_yscale() == middle.get_yscale() == "log"
    series = lf.solve(lf.QuadraticNetwork(0.3, 0.4, 0.3, 0.5, 0.01), lf.Series({"d": 10}, 2), [0.003])
    times, loss = map(np.asarray, right.lines[0].get_data())
    assert np.interp(0.003, times, loss) == pytest.approx(series.values["loss"][0], rel=1e-12)


@pytest.mark.usefixtures("one_noise")
def test_a_mean_field_that_is_off_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = quadratic_dynamics.solve

    def wrong(problem: Any, method: Any, times: Any, *more: Any) -> lf.Trajectory:
        answer = right(problem, method, times, *more)
        if "randomizations" not in answer.details:
            return answer
        runs = {name: rows * 1.15 for name, rows in answer.details["randomizations"].items()}
        return replace(answer, details={**answer.details, "randomizations": runs})

    monkeypatch.setattr(quadratic_dynamics, "solve", wrong)
    outcome = quadratic_dynamics.draw(**{**DYNAMICS, "order": 1})
    assert not any(verdict.agree for verdict in outcome.verdicts if verdict.curve.startswith("mse, noise"))


def test_what_is_linear_in_the_start_is_taken_out() -> None:
    random = np.random.default_rng(0)
    start = random.standard_normal(400)
    rows = np.outer(start, [1.0, -2.0]) + 0.1 * random.standard_normal((400, 2)) + [3.0, 4.0]
    mean, error = quadratic_dynamics.regressed(rows, start)
    assert error == pytest.approx(0.005, rel=0.15)
    assert (np.abs(mean - [3.0, 4.0]) <= 4 * error).all()


def test_recovery() -> None:
    outcome = quadratic_recovery.draw(d=16, runs=2, alphas=(0.15, 0.3, 0.45, 0.6), step=0.04, last_time=8.0)
    agreeing(outcome)
    assert "conjecture" in outcome.pictures[0].words
    assert sum("conjecture" in verdict.curve for verdict in outcome.verdicts) == 4


def test_where_a_curve_begins_to_fall() -> None:
    """mse ~ t^-2 above 0.4, a plateau below 0.3."""
    alphas = np.array([0.2, 0.3, 0.4, 0.5])
    half = np.ones((4, 5))
    end = np.array([1.0, 1.0, 0.25, 0.25])[:, None] * half
    curve = quadratic_recovery.Curve(alphas, half, end)
    assert curve.exponent == pytest.approx([0, 0, 2, 2])
    assert curve.crossing() == pytest.approx(0.35)


def test_universality() -> None:
    agreeing(quadratic_universality.draw(d=16, runs=5, alphas=(0.4,), path_alpha=0.3, updates=40))


def test_a_gap_that_stays_is_noticed() -> None:
    random = np.random.default_rng(1)
    small, large = 0.2 + 0.02 * random.standard_normal(16), 0.2 + 0.02 * random.standard_normal(16)
    assert not quadratic_universality._vanishes("same", small, large, 40).agree
    assert quadratic_universality._vanishes("halved", small, large / 2, 40).agree
