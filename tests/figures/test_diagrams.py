"""The gallery: counts, mergers and means that the text of the theory states, and pictures of all of them."""

from __future__ import annotations

import pytest

import lossflow.figures.diagrams as gallery
from lossflow.diagrams.polynomial import DiagramPolynomial
from lossflow.figures.figure import Outcome


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return gallery.FIGURE.make("quick")


def test_every_statement_holds(outcome: Outcome) -> None:
    assert {verdict.curve: verdict.agree for verdict in outcome.verdicts} == {
        "number of diagrams in R3*R3": True,
        "number of diagrams in D6*R3": True,
        "number of diagrams in D6*D6": True,
        "R3*R3 as a product of gradients": True,
        "D6*R3 as a product of gradients": True,
        "D6*D6 as a product of gradients": True,
        "E D6, a tensor for each slot": True,
        "E D6, one tensor": True,
        "E tr (u^T u)^3": True,
    }


def test_every_diagram_has_its_panel(outcome: Outcome) -> None:
    (picture,) = outcome.pictures
    panels = picture.canvas.axes
    assert [axes.get_title() for axes in panels] == [
        r"$D_6 = \|f\|^2$",
        r"$R_3 = \langle f, \mathrm{identity}\rangle$",
        "$D_6$ with its factors paired",
        r"flower: $p^3 H \sigma^6$",
        r"circle $\mathrm{tr}\,(u^T u)^3$, paired",
        r"tree: $p^2 H^2 \sigma^6$",
        "$R_3 * R_3$",
        "$D_6 * R_3$",
        "$D_6 * D_6$",
    ]
    edges = [len(axes.patches) for axes in panels]  # one for each factor, and one for each dotted pair
    assert edges == [6, 3, 6 + 3, 6, 6 + 3, 6, 3 * 4, 3 * 7, 3 * 10]


def test_a_wrong_merger_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One diagram too many, or one percent too much, and the statements fail."""
    right = gallery.merge

    def counted_twice(a: DiagramPolynomial, b: DiagramPolynomial) -> DiagramPolynomial:
        merger = right(a, b)
        return merger + DiagramPolynomial(merger.terms[:1])

    monkeypatch.setattr(gallery, "merge", counted_twice)
    verdicts = {verdict.curve: verdict.agree for verdict in gallery.FIGURE.make("quick").verdicts}
    assert not any(agree for curve, agree in verdicts.items() if "*" in curve)
    assert all(agree for curve, agree in verdicts.items() if "*" not in curve)
