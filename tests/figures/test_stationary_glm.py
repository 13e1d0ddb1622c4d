"""Ends of flows: long descent arrives, ridge regression peaks at delta = 1, and an end that is off is noticed."""

from __future__ import annotations

import pytest

from lossflow.figures import stationary_glm
from lossflow.meanfield import stationary

SMALL = {"deltas": (0.5, 1.0, 2.0), "decays": (1e-2, 0.1), "dimension": 100, "runs": 12, "steps": 40, "paths": 1024}


@pytest.mark.slow
def test_flows_end_where_they_should() -> None:
    outcome = stationary_glm.draw(**SMALL)
    assert len(outcome.verdicts) == 3 + 2
    assert all(verdict.agree for verdict in outcome.verdicts)
    left, right = outcome.pictures[0].canvas.axes
    assert [line.get_label() for line in left.get_lines() if not str(line.get_label()).startswith("_")] == [
        "loss",
        "test loss",
        "overlap",
    ]
    assert right.get_xscale() == "log"


def test_an_end_that_is_off_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = stationary._values

    def wrong(problem: object, loss: float, C: float, m: float) -> dict[str, float]:
        return {name: 1.5 * value for name, value in right(problem, loss, C, m).items()}  # type: ignore[arg-type]

    monkeypatch.setattr(stationary, "_values", wrong)
    outcome = stationary_glm.draw(**SMALL)
    assert not any(verdict.agree for verdict in outcome.verdicts)
