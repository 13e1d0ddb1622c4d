"""Gaps to the online limit: they settle like 1/delta, and a limit that is off is noticed."""

from __future__ import annotations

import pytest

from lossflow.figures import online_limit
from lossflow.meanfield.online import Online

SMALL = {"linear": (10.0, 1e3, 1e4), "committee": (3.0, 5.0, 9.0, 18.0), "temperature": 0.5, "paths": 1024, "steps": 10}


def test_gaps_fall_like_one_over_delta() -> None:
    outcome = online_limit.draw(**SMALL)
    assert [verdict.agree for verdict in outcome.verdicts] == [True, True]
    assert "gap times delta is" in outcome.verdicts[0].sentence
    left, middle, right = outcome.pictures[0].canvas.axes
    assert left.get_title() == "linear regression"
    assert middle.get_title() == "committee of two erf units"
    assert right.get_xscale() == "log"


def test_a_limit_that_is_off_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Online equations at another temperature."""
    right = Online.solve

    def wrong(self: Online, problem: object, times: object, dynamics: object) -> object:
        return right(self, problem, times, type(dynamics)(0.7, dynamics.step))  # type: ignore[arg-type, call-arg, attr-defined]

    monkeypatch.setattr(Online, "solve", wrong)
    outcome = online_limit.draw(**SMALL)
    assert not any(verdict.agree for verdict in outcome.verdicts)
