"""Linear regression by three roads: curves for every ratio, and a theory that is off is noticed."""

from __future__ import annotations

import pytest

from lossflow.figures import linear_volterra
from lossflow.meanfield import volterra

SMALL = {"deltas": (0.8, 2.0), "dimension": 200, "runs": 24, "steps": 24}


def test_experiment_follows_and_the_roads_agree() -> None:
    outcome = linear_volterra.draw(**SMALL)
    assert len(outcome.verdicts) == 2 * 3 * 3
    assert all(verdict.agree for verdict in outcome.verdicts)
    roads = [verdict for verdict in outcome.verdicts if verdict.curve.endswith("two roads")]
    assert max(verdict.largest_relative_gap or 0.0 for verdict in roads) < 1e-13
    panels = outcome.pictures[0].canvas.axes
    assert [axes.get_title() for axes in panels[:2]] == [r"$\delta = 0.8$", r"$\delta = 2$"]
    assert all(axes.get_ylabel() == "" for axes in (panels[1], panels[3]))


def test_a_spectrum_that_is_off_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = volterra.spectrum

    def wrong(problem: volterra.Regression, *arguments: object, **more: object) -> object:
        return right(problem._replace(delta=1.02 * problem.delta), *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(volterra, "spectrum", wrong)
    outcome = linear_volterra.draw(**{**SMALL, "deltas": (2.0,), "runs": 4})
    assert not any(verdict.agree for verdict in outcome.verdicts if verdict.curve.endswith("two roads"))
