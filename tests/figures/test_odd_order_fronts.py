"""Odd orders: every statement holds, and a front, a rate or a time scale that is off is noticed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lossflow.figures.odd_order_fronts as fronts
from lossflow.expansion.odd_orders import odd_front
from lossflow.figures.figure import Outcome

SMALL: dict[str, Any] = {"highest": {"3": 3, "5": 2}}


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return fronts.draw({"3": 4, "5": 2})


def test_every_statement_holds(outcome: Outcome) -> None:
    assert {verdict.curve: verdict.agree for verdict in outcome.verdicts} == {
        "order 3: fronts": True,
        "order 5: fronts": True,
        "order 3: rates of the lazy limit": True,
        "order 5: rates of the lazy limit": True,
        "order 3: quotients, A": True,
        "order 3: quotients, between": True,
        "order 3: quotients, B": True,
    }
    sentences = {verdict.curve: verdict.sentence for verdict in outcome.verdicts}
    assert "no time scale serves all s" in sentences["order 3: quotients, between"]


def test_pictures_show_front_and_distances(outcome: Outcome) -> None:
    axes = outcome.pictures[0].canvas.axes[0]
    computed, theorem = axes.lines[1], axes.lines[0]
    for line in (computed, theorem):
        assert {(int(n), int(d)) for n, d in np.asarray(line.get_xydata())} == set(odd_front(3, 4))
    assert [text.get_text() for text in axes.texts].count("-1") == 4  # without cross terms, n = 2 .. 5
    labels = {text.get_text() for text in outcome.pictures[0].canvas.axes[2].texts}
    assert labels == {"A", "B", "C", "D", "E"}


def test_what_is_wrong_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = fronts.odd_front
    monkeypatch.setattr(fronts, "odd_front", lambda order, s: {**right(order, s), (9, 9): (1, 9, 9)})
    monkeypatch.setattr(fronts, "lazy_rates", lambda order, p: dict.fromkeys(range(order, 0, -2), p + 1))
    monkeypatch.setattr(fronts, "PLACES", {"A": fronts.PLACES["A"], "between": fronts.PLACES["B"]})
    verdicts = {verdict.curve: verdict.agree for verdict in fronts.draw(**SMALL).verdicts}
    assert [curve for curve, agree in verdicts.items() if agree] == ["order 3: quotients, A"]
