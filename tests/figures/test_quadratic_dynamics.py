"""Figures of the dynamics of quadratic networks: verdicts agree at small sizes, and a theory that is off is noticed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lossflow.figures import quadratic_dynamics, quadratic_recovery, quadratic_universality
from lossflow.figures.figure import Outcome


def agreeing(outcome: Outcome) -> None:
    for verdict in outcome.verdicts:
        assert verdict.agree, verdict.sentence


@pytest.fixture(scope="module")
def roads() -> quadratic_dynamics.Roads:
    return quadratic_dynamics._roads(0.5, 20, 6, 10, 24, 2, 0.003)


def test_dynamics(roads: quadratic_dynamics.Roads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quadratic_dynamics, "NOISES", (0.5,))
    monkeypatch.setattr(quadratic_dynamics, "_roads", lambda *_: roads)
    outcome = quadratic_dynamics.draw(20, 6, 10, 24, 2, 0.003)
    agreeing(outcome)
    left, middle, right = outcome.pictures[0].canvas.axes
    assert left.get_yscale() == middle.get_yscale() == "log"
    # E|Z|^2/d = 1 + (d + 1)/m, and alike for the teacher, at d = 10, m = 4, m* = 3
    mse = (1 + 11 / 4) - 2 + (1 + 11 / 3)
    assert np.asarray(right.lines[0].get_ydata())[0] == pytest.approx(mse / 2 + 0.125, rel=1e-12)


def test_a_road_that_is_off_is_noticed(roads: quadratic_dynamics.Roads) -> None:
    """Mean field that is 15% off, and runs that learn twice as fast as they should."""
    theory, runs = dict(roads.theory.details), dict(roads.short_experiment.details)
    theory["randomizations"] = {name: rows * 1.15 for name, rows in theory["randomizations"].items()}
    runs["runs"] = {name: rows[:, :1] + 2 * (rows - rows[:, :1]) for name, rows in runs["runs"].items()}
    off = roads._replace(
        theory=replace(roads.theory, details=theory),
        short_experiment=replace(roads.short_experiment, details=runs),
    )
    assert not quadratic_dynamics._paired(0.5, "mse", off).agree
    wrong = [verdict for verdict in quadratic_dynamics._short(0.5, off) if "runs" in verdict.curve]
    assert len(wrong) == 2
    assert not any(verdict.agree for verdict in wrong)


def test_what_is_linear_in_the_start_is_taken_out() -> None:
    random = np.random.default_rng(0)
    start = random.standard_normal(400)
    rows = np.outer(start, [1.0, -2.0]) + 0.1 * random.standard_normal((400, 2)) + [3.0, 4.0]
    mean, error = quadratic_dynamics.regressed(rows, start)
    assert error == pytest.approx(0.005, rel=0.15)
    assert (np.abs(mean - [3.0, 4.0]) <= 4 * error).all()


def test_recovery() -> None:
    alphas = (0.15, 0.3, 0.43, 0.45, 0.47, 0.49)
    outcome = quadratic_recovery.draw(d=16, runs=3, alphas=alphas, step=0.04, last_time=12.0)
    agreeing(outcome)
    assert "conjecture" in outcome.pictures[0].words
    told = [verdict for verdict in outcome.verdicts if "conjecture" in verdict.curve]
    assert len(told) == 4
    assert all("the threshold of vanishing weight decay" in verdict.sentence for verdict in told)


def test_where_the_exponent_stays_the_same() -> None:
    """Exponents 1 and 1 + alpha - 0.44 of two doublings."""
    alphas = np.array([0.2, 0.42, 0.43, 0.45, 0.46, 0.6])
    half = np.ones((6, 5))
    curve = quadratic_recovery.Curve(alphas, 2 * half, half, half * 2 ** -(0.56 + alphas)[:, None])
    assert curve.exponent == pytest.approx(1 + alphas - 0.44)
    assert curve.turn(0.437) == pytest.approx(0.44, rel=1e-12)
    verdict = quadratic_recovery._recovers(1.0, curve, 0.44, 0.42, 10)
    assert verdict.agree
    assert "does not exclude 0.42" in verdict.sentence
    assert not quadratic_recovery._recovers(1.0, curve, 0.40, 0.42, 40).agree


def test_universality() -> None:
    agreeing(quadratic_universality.draw(d=16, runs=4, alphas=(0.5,), path_alpha=0.3, updates=40))


def test_a_gap_that_stays_is_noticed() -> None:
    random = np.random.default_rng(1)
    small, large = 0.2 + 0.02 * random.standard_normal(16), 0.2 + 0.02 * random.standard_normal(16)
    assert not quadratic_universality._vanishes("same", small, large, 40).agree
    assert quadratic_universality._vanishes("halved", small, large / 2, 40).agree
