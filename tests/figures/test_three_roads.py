"""Series, experiment and limit at one small size: they agree, and would not if a road were wrong."""

from __future__ import annotations

from fractions import Fraction
from math import factorial

import numpy as np
import pytest

import lossflow as lf
import lossflow.figures.three_roads as three_roads
from lossflow.expansion import method
from lossflow.expansion.solutions import matrix as solution
from lossflow.figures.figure import Outcome


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return three_roads.FIGURE.make("quick")


def test_the_roads_meet(outcome: Outcome) -> None:
    assert [verdict.curve for verdict in outcome.verdicts] == ["exact series", "large-size limit"]
    for verdict in outcome.verdicts:
        assert verdict.agree, verdict.sentence


def test_each_road_is_judged_where_it_holds(outcome: Outcome) -> None:
    series, limit = outcome.verdicts
    assert limit.valid_times == (0.0, 0.15)
    assert series.valid_times is not None
    assert series.valid_times[0] == 0.0
    assert 0.1 < series.valid_times[1] < 0.15  # the series ends before the experiment does


def test_the_pictures_show_the_trajectories(outcome: Outcome) -> None:
    (picture,) = outcome.pictures
    left, right = picture.canvas.axes
    legend = left.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["Series, order 12", "Limit", "Simulation, 2048 runs"]
    curves = {line.get_label(): line for line in left.lines}
    times = np.asarray(curves["Limit"].get_xdata())
    assert np.allclose(curves["Limit"].get_ydata(), solution.loss(times, 8, 6, 1 / 8), rtol=1e-13)  # type: ignore[arg-type]
    exact = lf.expand(lf.CPDecomposition(), 12).at(p=8, H=6, sigma2=Fraction(1, 8))
    values = np.asarray(curves["Series, order 12"].get_ydata())[:3]
    expected = [sum(float(y) * t**s / factorial(s) for s, y in enumerate(exact)) for t in times[:3]]
    assert np.allclose(values, expected, rtol=1e-5)  # where the last terms matter, the sum stops before them
    assert right.get_ylabel() == "gap / uncertainty"


def test_a_series_that_is_off_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The 256 runs know the mean to about 2%, so 20% stand out."""
    right = method.ring_values
    monkeypatch.setattr(method, "ring_values", lambda *asked: tuple(y * Fraction(6, 5) for y in right(*asked)))
    series, limit = three_roads.draw(**{**three_roads.FIGURE.quick, "runs": 256}).verdicts
    assert not series.agree
    assert limit.agree


def test_a_limit_that_is_off_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its uncertainty at this size is about 12%."""
    right = solution.loss
    monkeypatch.setattr(solution, "loss", lambda *arguments: 0.6 * right(*arguments))
    series, limit = three_roads.draw(**{**three_roads.FIGURE.quick, "runs": 256}).verdicts
    assert series.agree
    assert not limit.agree
