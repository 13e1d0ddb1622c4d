"""Mean-field theory against simulations at d = 1500: the table that `battery.py` computes, judged.

docs/theory/mean_field.md section 9 [NI26v2].
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from lossflow.dynamics import SGD, GradientDescent, GradientFlow, PoissonSGD, StochasticGradientFlow
from lossflow.problems.glm import GeneralizedLinear
from lossflow.problems.losses import Huber, Logistic, PhaseRetrieval, SmoothHinge
from lossflow.problems.row import AbstractPenalty
from lossflow.problems.softmax import Softmax
from lossflow.problems.two_layer import TwoLayer

from . import battery

ROWS = battery.measured(battery.table())


def by_name(name: str) -> battery.Row:
    return next(row for row in ROWS if row["name"] == name)


def test_the_table_answers_the_settings_as_they_are_written() -> None:
    asked = {setting.described(): number for number, setting in enumerate(battery.SETTINGS)}
    assert all(row["asked"] in asked for row in battery.table())
    for row in ROWS:
        number = asked[row["asked"]]
        assert (row["theory_seed"], row["simulation_seed"]) == (
            battery.THEORY_SEED + number,
            battery.SIMULATION_SEED + number,
        )
        assert row["d"] >= 1500
        assert np.shape(row["runs"])[0] == 3
        assert np.shape(row["runs"])[1] >= 16


def test_every_model_dynamics_and_penalty_is_among_them() -> None:
    measured = {row["asked"] for row in ROWS}
    settings = [setting for setting in battery.SETTINGS if setting.described() in measured]
    assert settings == list(battery.SETTINGS)
    losses = {type(s.problem.loss) for s in settings if isinstance(s.problem, GeneralizedLinear)}
    assert losses >= {Logistic, Huber, SmoothHinge, PhaseRetrieval}
    assert {type(s.problem) for s in settings} >= {GeneralizedLinear, Softmax, TwoLayer}
    assert {type(s.dynamics) for s in settings} >= {
        GradientFlow,
        GradientDescent,
        StochasticGradientFlow,
        PoissonSGD,
        SGD,
    }
    orders = {s.dynamics.order for s in settings if isinstance(s.dynamics, SGD)}
    assert orders == {"independent", "reshuffled", "persistent"}
    penalties = {
        penalty.smooth
        for s in settings
        if isinstance(s.problem, GeneralizedLinear) and isinstance(penalty := s.problem.penalty, AbstractPenalty)
    }
    assert penalties == {True, False}


def test_theory_and_simulation_agree_within_their_errors() -> None:
    count, independent, rms, largest = battery.summary(ROWS)
    assert count >= 72
    assert independent >= 60
    assert 0.8 < rms < 1.2
    assert largest < 4


@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_a_theory_that_is_off_by_a_percent_fails(factor: float) -> None:
    _, _, rms, largest = battery.summary(ROWS, factor)
    assert rms > 1.2
    assert largest > 4


def test_diffusion_and_jumps_part_by_more_than_five_sigma_and_each_is_its_own_simulation() -> None:
    """Train error at t = 10, (delta, temperature) = (4, 6): continuous jumps, diffusion by its Euler steps."""
    means, errors = {}, {}
    for name in ("sign-poisson", "sign-sgf-step"):
        row = by_name(name)
        runs = np.array(row["runs"][1])
        means[name], errors[name] = runs.mean(), runs.std(ddof=1) / math.sqrt(runs.size)
        assert abs(battery.deviations(row)[1]) < 4
    assert means["sign-poisson"] - means["sign-sgf-step"] > 5 * math.hypot(*errors.values())
    theories = [by_name(name) for name in ("sign-poisson", "sign-sgf-step")]
    gap = theories[0]["theory"][1] - theories[1]["theory"][1]
    assert gap > 5 * math.hypot(*(row["uncertainty"][1] for row in theories))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sign-gd", "l1-sgd"])
def test_rows_come_out_again(name: str) -> None:
    """The same seeds give the same numbers, up to rounding that grows along a run."""
    number = next(i for i, setting in enumerate(battery.SETTINGS) if setting.name == name)
    stored, again = by_name(name), battery.computed(number)
    assert np.array(again["runs"]) == pytest.approx(np.array(stored["runs"]), rel=1e-6, abs=1e-6)
    assert np.array(again["theory"]) == pytest.approx(np.array(stored["theory"]), rel=1e-6)
