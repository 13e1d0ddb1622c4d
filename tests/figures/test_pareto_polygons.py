"""Polygons: all points and labels are drawn, and a theorem that is off by a point is noticed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lossflow as lf
import lossflow.figures.pareto_polygons as polygons
from lossflow.expansion.pareto import identity_front
from lossflow.figures.figure import Outcome

SMALL: dict[str, Any] = {"symmetric": (2, 3), "asymmetric": (2, 4), "shown": (3, 4)}


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return polygons.draw(**SMALL)


def test_every_statement_holds(outcome: Outcome) -> None:
    assert [verdict.curve for verdict in outcome.verdicts] == [
        "one matrix, order 2: fronts",
        "one matrix, order 2: faces",
        "a matrix for each slot, order 2: fronts",
        "a matrix for each slot, order 2: faces",
    ]
    for verdict in outcome.verdicts:
        assert verdict.agree, verdict.sentence
        assert verdict.largest_relative_gap == 0
    assert "7 cones of the fan of Y_1 .. Y_3, 7 faces" in outcome.verdicts[1].sentence
    assert "11 cones of the fan of Y_1 .. Y_4, 11 faces" in outcome.verdicts[3].sentence


def test_pictures_show_the_front(outcome: Outcome) -> None:
    (picture,) = outcome.pictures
    axes = picture.canvas.axes[4]  # several matrices, s = 4
    computed, theorem = axes.lines[-1], axes.lines[-2]
    expected = set(identity_front(2, False, 4))
    for line in (computed, theorem):
        assert {(int(n), int(d)) for n, d in np.asarray(line.get_xydata())} == expected
    labels = {text.get_text() for text in axes.texts}
    assert {"A", "B", "C", "D", "E"} <= labels
    at_three = {text.get_text() for text in picture.canvas.axes[3].texts}
    assert {"A", "B", "C", "D=E"} <= at_three
    assert not picture.canvas.axes[1].get_visible()  # one matrix was expanded to s = 3 only


def test_the_map_of_scalings_is_that_of_classify(outcome: Outcome) -> None:
    axes = outcome.pictures[0].canvas.axes[5]
    problem = lf.CPDecomposition(2, symmetric=False)
    named = {text.get_text(): text.get_position() for text in axes.texts}
    assert set(named) == {"A", "B", "C", "D", "E"}
    for name, (h, v) in named.items():
        found = lf.classify(problem, exponents={"p": 1, "H": round(float(h), 2), "sigma2": round(float(v), 2)})
        assert found.regime.name == name


def test_a_wrong_theorem_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = polygons.identity_front

    def short(order: int, symmetric: bool, s: int) -> dict[Any, Any]:
        front = right(order, symmetric, s)
        front.pop(next(iter(front)))
        return front

    monkeypatch.setattr(polygons, "identity_front", short)
    verdicts = {verdict.curve: verdict.agree for verdict in polygons.draw(**{**SMALL, "shown": ()}).verdicts}
    assert not any(agree for curve, agree in verdicts.items() if "fronts" in curve)
    assert all(agree for curve, agree in verdicts.items() if "faces" in curve)


def test_wrong_faces_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """At s <= 2 the vertices C and D are one point: the fan has too few cones, and the figure says so."""
    right = polygons.observe
    monkeypatch.setattr(polygons, "observe", lambda problem, order: right(problem, 2))
    verdicts = {verdict.curve: verdict.agree for verdict in polygons.draw(**SMALL).verdicts}
    assert not verdicts["a matrix for each slot, order 2: faces"]
