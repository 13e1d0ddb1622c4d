"""Modular addition: series and simulation of the real task agree at short times, and the flow goes on to learn it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import lossflow as lf
import lossflow.figures.modular_addition as figure
from lossflow.expansion.series import LossSeries
from lossflow.figures.figure import Outcome

SMALL: dict[str, Any] = {**figure.FIGURE.quick, "sums": ("Taylor",), "order": 3, "runs": 48, "times": 9}


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return figure.draw(**SMALL)


def test_series_and_simulation_agree_and_the_task_is_learned(outcome: Outcome) -> None:
    curves = [verdict.curve for verdict in outcome.verdicts]
    assert curves == ["p = 5, Taylor", "p = 7, Taylor", "p = 5, learned", "p = 7, learned"]
    for verdict in outcome.verdicts:
        assert verdict.agree, verdict.sentence


def test_the_picture_shows_short_times_and_the_whole(outcome: Outcome) -> None:
    (picture,) = outcome.pictures
    five, seven, whole = picture.canvas.axes
    assert five.get_title() == "$p = 5$"
    assert seven.get_title() == "$p = 7$"
    (line,) = [line for line in five.lines if line.get_label() == "Taylor"]
    exact = lf.expand(figure.PROBLEM, 0).at(p=5, H=20, sigma2=Fraction(1, 20))
    assert np.asarray(line.get_ydata())[0] == pytest.approx(float(exact[0]), rel=1e-14)
    # p^2/2 from the target, p^3 H sigma^6/2 from the model
    assert exact[0] == Fraction(25, 2) + Fraction(125 * 20, 2 * 20**3)
    assert whole.get_xscale() == "log"


def test_a_task_that_is_not_learned_yet_is_reported() -> None:
    outcome = figure.draw(**{**SMALL, "p": (5,), "sigma2": ("1/20",), "last_times": (0.5,), "end": 1.0, "runs": 8})
    assert [verdict.agree for verdict in outcome.verdicts] == [True, False]
    assert "not below 0.01" in outcome.verdicts[1].sentence


def test_even_moduli_are_refused() -> None:
    with pytest.raises(lf.InvalidInput, match="assumes p odd"):
        figure.draw(**{**SMALL, "p": (4,), "sigma2": ("1/20",), "last_times": (0.5,), "runs": 2})


def test_a_series_that_is_off_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = LossSeries.at
    monkeypatch.setattr(
        LossSeries, "at", lambda self, **sizes: tuple(y * Fraction(21, 20) for y in right(self, **sizes))
    )
    outcome = figure.draw(**{**SMALL, "p": (5,), "sigma2": ("1/20",), "last_times": (0.5,)})
    assert not outcome.verdicts[0].agree
