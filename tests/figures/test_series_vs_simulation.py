"""Series against simulation for targets and data of every kind: the verdicts agree, and would not if the series were wrong."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import lossflow.figures.series_vs_simulation as figure
from lossflow.expansion.series import LossSeries
from lossflow.figures.figure import Outcome

NAMES = list(figure.PROBLEMS)
SMALL: dict[str, Any] = {**figure.FIGURE.quick, "sums": ("Taylor", "Pade"), "order": 2, "runs": 400, "times": 9}


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return figure.draw(**SMALL)


def test_all_series_agree_with_their_simulations(outcome: Outcome) -> None:
    assert [verdict.curve for verdict in outcome.verdicts] == [f"{n}, {s}" for n in NAMES for s in ("Taylor", "Pade")]
    for verdict in outcome.verdicts:
        assert verdict.agree, verdict.sentence
        assert verdict.valid_times is not None
        assert verdict.valid_times[0] == 0.0
        assert "claims an error below 10% up to t = " in verdict.sentence


def test_every_problem_of_the_table_has_sizes_and_times() -> None:
    assert list(figure.SIZES) == list(figure.LAST_TIMES) == NAMES
    for name, problem in figure.PROBLEMS.items():
        assert problem.as_diagrams().require(figure.SIZES[name]) == figure.SIZES[name]


def test_the_picture_shows_a_panel_for_each_problem(outcome: Outcome) -> None:
    (picture,) = outcome.pictures
    titled = [axes for axes in picture.canvas.axes if axes.get_title()]
    assert [axes.get_title() for axes in titled] == NAMES
    for axes in titled:
        full = [line for line in axes.lines if line.get_label() in ("Taylor", "Pade")]
        assert len(full) == 2
        for line in full:
            assert np.isfinite(np.asarray(line.get_ydata(), dtype=float)[:2]).all()  # believed at the start


def test_series_that_are_off_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The 400 runs know the mean losses to a few percent: a sixth too much stands out."""
    right = LossSeries.at
    monkeypatch.setattr(LossSeries, "at", lambda self, **sizes: tuple(y * Fraction(7, 6) for y in right(self, **sizes)))
    names = NAMES[:4]
    broken = figure.draw(**{**SMALL, "problems": {name: figure.SIZES[name] for name in names}, "sums": ("Taylor",)})
    assert not any(verdict.agree for verdict in broken.verdicts)
