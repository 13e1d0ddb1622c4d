"""The figures of diagonal networks in time agree, and would not if the theory were wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lossflow.figures import (
    diagonal_curves,
    diagonal_grokking,
    diagonal_laws,
    diagonal_search,
    diagonal_universality,
)
from lossflow.trajectory import Trajectory

THEORY = {"paths": 256, "resolution": 24, "randomizations": 4}
CURVES = {
    **diagonal_curves.FIGURE.quick,
    **THEORY,
    "cases": ((0.5, 1.0),),
    "last": 1.0,
    "points": 4,
    "d": 120,
    "runs": 16,
}
LAWS = {**diagonal_laws.FIGURE.quick, "wanted": (0.15, 0.3, 0.5), "d": 100, "runs": 16, "paths": 512}
FIGURES = {
    "curves": diagonal_curves.FIGURE,
    "grokking": diagonal_grokking.FIGURE,
    "laws": diagonal_laws.FIGURE,
    "search": diagonal_search.FIGURE,
    "universality": diagonal_universality.FIGURE,
}


def off_by(factor: float) -> Any:
    right = diagonal_curves.solve

    def wrong(problem: Any, method: Any, times: Any) -> Trajectory:
        found = right(problem, method, times)
        if "MeanField" not in type(method).__name__:
            return found
        return replace(found, values={name: factor * value for name, value in found.values.items()})

    return wrong


def test_curves_agree_and_notice_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = diagonal_curves.draw(**CURVES)
    assert [verdict.curve for verdict in outcome.verdicts] == [
        f"delta = 0.5, kappa = 1, {name}" for name in ("loss", "mse", "l1")
    ]
    for verdict in outcome.verdicts:
        assert verdict.agree, verdict.sentence
        assert verdict.largest_relative_gap is not None
    monkeypatch.setattr(diagonal_curves, "solve", off_by(1.3))
    assert not diagonal_curves.draw(**CURVES).agree


def test_laws_agree_and_notice_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for verdict in diagonal_laws.draw(**LAWS).verdicts:
        assert verdict.agree, verdict.sentence
    right = diagonal_laws._limit

    def wrong(*arguments: Any) -> Any:
        middles, deviation, mean, both = right(*arguments)
        return middles, deviation, 1.3 * mean, both

    monkeypatch.setattr(diagonal_laws, "_limit", wrong)
    assert not diagonal_laws.draw(**LAWS).verdicts[-1].agree


def test_bins_of_a_line_are_the_line() -> None:
    star = np.linspace(-2.4, 2.4, 4000)
    mean, deviation = diagonal_laws._binned(star, 0.5 * star, np.ones(4000))
    middles = (diagonal_laws.EDGES[:-1] + diagonal_laws.EDGES[1:]) / 2
    assert mean == pytest.approx(0.5 * middles, rel=1e-3)
    assert np.abs(deviation).max() < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_a_quick_figure_agrees(name: str) -> None:
    outcome = FIGURES[name].make("quick")
    for verdict in outcome.verdicts:
        assert verdict.agree, verdict.sentence
    (picture,) = outcome.pictures
    assert len(picture.words) > 200
