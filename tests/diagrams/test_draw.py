"""Pictures: what must be seen is there, in the figure and apart from each other; layouts are untangled and reproducible."""

from __future__ import annotations

import itertools
from fractions import Fraction
from io import BytesIO

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from tests.diagrams.families import cross, decomposition, square

from lossflow.diagrams.diagram import Diagram
from lossflow.diagrams.draw import draw
from lossflow.diagrams.layout import layout
from lossflow.diagrams.pairing import contracted, pairing_with
from lossflow.diagrams.polynomial import DiagramPolynomial, diagram, merge, size
from lossflow.diagrams.tensor import Tensor, pin
from lossflow.errors import InvalidInput

u, a = Tensor("u", ("H", "p")), Tensor("a", ("H",), variance="a2")
x, s = Tensor("x", ("p", "N"), learned=False), Tensor("s", ("p", "p"))
t, c = Tensor("t", ("p", "H", "p")), Tensor("c", ())


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text()]


def markers(axes: Axes) -> list[tuple[float, float]]:
    """Centers of everything drawn as a marker: nodes, ends and stars."""
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in axes.lines]  # type: ignore[index]


def png(axes: Axes) -> bytes:
    picture = BytesIO()
    axes.figure.savefig(picture, format="png", dpi=60, metadata={"Software": None})  # type: ignore[union-attr]
    return picture.getvalue()


@pytest.mark.parametrize("order", [2, 3, 4, 5])
@pytest.mark.parametrize("symmetric", [True, False])
def test_every_factor_is_a_curve_and_every_node_a_marker(order: int, symmetric: bool) -> None:
    for polynomial, nodes in ((square(order, symmetric), order + 2), (cross(order, symmetric), 2)):
        axes = draw(polynomial)
        curves = [patch for patch in axes.patches if isinstance(patch, PathPatch)]
        assert len(curves) == len(polynomial.terms[0].diagram.factors)
        assert len(markers(axes)) == nodes
        shapes = {tuple(np.round(np.array(curve.get_path().vertices, dtype=float), 6).ravel()) for curve in curves}
        assert len(shapes) == len(curves), "parallel edges must fan out"
        assert len({curve.get_edgecolor() for curve in curves}) == (1 if symmetric else order)


def test_a_sum_shows_its_coefficients() -> None:
    loss = decomposition(3, False) + 3 * size("N", -2) * size("p", 2) * diagram(u("k", pin(2)))
    assert texts(draw(loss)) == [r"$\frac{1}{2}$", "$-$", r"$+\;\frac{3p^{2}}{N^{2}}$", "2", r"$+\;\frac{p}{2}$"]
    assert texts(draw(merge(cross(3, False), cross(3, False)))) == ["$+$", "$+$"]
    assert texts(draw(-1 * square(2, True) - 2 * diagram())) == ["$-$", r"$-\;2$"]
    assert texts(draw(Fraction(1, 2) * size("width", -1))) == [r"$\frac{1}{2\mathrm{width}}$"]
    assert texts(draw(0 * diagram())) == ["$0$"]
    assert texts(draw(diagram())) == ["$1$"]


def test_the_legend_names_axes_and_tensors() -> None:
    legend = draw(diagram(a("k"), u("k", "i"), x("i", "n"))).get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["$p$", "$H$", "$N$", "$a$", "$u$", "$x$"]
    assert draw(square(2, True), legend=False).get_legend() is None
    numbered = draw(Diagram((Tensor("u1", ("H_in",))("k"),))).get_legend()
    assert numbered is not None
    assert [text.get_text() for text in numbered.get_texts()] == [r"$\mathrm{H\_in}$", "$u_{1}$"]


def test_frozen_tensors_are_dashed_and_pinned_nodes_carry_their_value() -> None:
    axes = draw(diagram(u("k", pin(7)), x("i", "n"), u("k", "i")))
    dashed = [patch for patch in axes.patches if patch.get_linestyle() not in ("solid", "-")]
    assert len(dashed) == 1
    assert texts(axes) == ["7"]


def test_tensors_of_every_arity() -> None:
    """Stubs for one slot, stars with numbered slots for three, a lone square for none, arrows where an axis occurs twice."""
    axes = draw(diagram(t("i", "k", "j"), s("i", "j"), s("i", "i"), a("k"), c()))
    curves = [patch for patch in axes.patches if isinstance(patch, PathPatch)]
    assert len(curves) == 3 + 1 + 1 + 1
    assert len(markers(axes)) == 3 + 1 + 1 + 1  # nodes, the star, the end of the stub, the lone square
    assert sorted(texts(axes)) == ["1", "2", "3"]
    arrows = [text for text in axes.texts if getattr(text, "arrow_patch", None) is not None]
    assert len(arrows) == 2


def test_constraints_are_written_with_letters_at_their_nodes() -> None:
    axes = draw(diagram(u("k", "i"), u("k", "j"), x("l", "n"), constraints=[{"i": 1, "j": 1, "l": -2}]))
    assert {"$i$", "$j$", "$l$"} < set(texts(axes))
    (relation,) = (text for text in texts(axes) if "=" in text)
    assert relation.endswith("=0$")
    assert {letter for letter in relation if letter in "ijl"} == {"i", "j", "l"}


def test_pairs_are_linked_by_dotted_arcs() -> None:
    merged = merge(square(3, False), square(3, False)).terms[0].diagram
    pairs = pairing_with(merged, {"H": 1, "p": 5})
    plain, linked = draw(merged), draw(merged, pairs=pairs)
    assert len(linked.patches) == len(plain.patches) + 5
    flower = contracted(merged, pairs)
    assert flower is not None
    assert len(markers(draw(flower))) == 6
    with pytest.raises(InvalidInput, match="one diagram, got a polynomial of 3 terms"):
        draw(decomposition(3, False), pairs=pairs)


def gallery() -> list[DiagramPolynomial]:
    d, r = square(3, False), cross(3, False)
    all_kinds = diagram(t("i", "k", "j"), s("i", "j"), s("i", "i"), a("k"), u("k", pin(2)), c()) + 2 * r
    return [d, r, merge(d, d), merge(d, r), merge(r, r), decomposition(4, True), d * r, all_kinds]


@pytest.mark.parametrize("polynomial", gallery(), ids=lambda polynomial: str(len(polynomial.terms)))
def test_nothing_overlaps_or_leaves_the_figure(polynomial: DiagramPolynomial) -> None:
    axes = draw(polynomial)
    centers = markers(axes)
    assert min(np.hypot(p[0] - q[0], p[1] - q[1]) for p, q in itertools.combinations(centers, 2)) > 0.3
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    for px, py in centers:
        assert left + 0.2 < px < right - 0.2
        assert low + 0.2 < py < high - 0.2
    figure = axes.figure
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    window = figure.bbox.padded(1)
    for artist in [*axes.texts, axes.get_legend()]:
        assert artist is not None
        box = artist.get_window_extent()
        assert window.contains(box.x0, box.y0)
        assert window.contains(box.x1, box.y1)


def test_a_panel_of_a_larger_figure_is_filled_to_scale() -> None:
    figure = Figure(figsize=(8, 3))
    small, large = figure.subplots(1, 2, width_ratios=(1, 3))
    for panel in (small, large):
        assert draw(merge(square(3, False), square(3, False)), panel) is panel
        assert len(panel.patches) == 30
    assert np.ptp(small.get_xlim()) / small.bbox.width > np.ptp(large.get_xlim()) / large.bbox.width


def test_the_same_diagram_is_the_same_picture() -> None:
    assert png(draw(decomposition(3, False))) == png(draw(decomposition(3, False)))


def test_equal_shapes_look_alike_whatever_their_numbering() -> None:
    """The three terms of D6 * D6 differ by their colors alone: congruent layouts."""
    axes = draw(merge(square(3, False), square(3, False)))
    thirds = np.array(sorted(markers(axes))).reshape(3, -1, 2)
    centered = [np.sort(np.round(third - third.mean(axis=0), 3) + 0.0, axis=0) for third in thirds]
    assert np.allclose(centered[0], centered[1], atol=2e-3)  # rounded to 1e-3 before sorting
    assert np.allclose(centered[0], centered[2], atol=2e-3)


def test_layouts_of_known_graphs() -> None:
    """An edge, a path, a polygon, and the bipartite K_{2,3}: right lengths, no crossing."""
    assert np.allclose(layout(1, []), [[0, 0]])
    edge = layout(2, [(0, 1, 1.0)])
    assert np.linalg.norm(edge[0] - edge[1]) == pytest.approx(1, abs=1e-6)  # zero stress is reached
    path = layout(3, [(0, 1, 1.0), (1, 2, 1.0)])
    assert np.linalg.norm(path[0] - path[2]) == pytest.approx(2, abs=0.02)  # straight to the eye
    assert np.ptp(path[:, 1]) < 0.2
    polygon = layout(6, [(k, (k + 1) % 6, 1.0) for k in range(6)])
    radii = np.linalg.norm(polygon - polygon.mean(axis=0), axis=1)
    assert np.ptp(radii) < 0.05
    bipartite = layout(5, [(k, i, 1.0) for k in (0, 1) for i in (2, 3, 4)])
    links = [(bipartite[k], bipartite[i]) for k in (0, 1) for i in (2, 3, 4)]
    for (p, q), (r, v) in itertools.combinations(links, 2):
        if not any(np.array_equal(one, other) for one in (p, q) for other in (r, v)):
            assert not crosses(p, q, r, v)


def crosses(p: np.ndarray, q: np.ndarray, r: np.ndarray, v: np.ndarray) -> bool:
    """Whether two segments meet: solve for the parameters of the intersection."""
    matrix = np.column_stack([q - p, r - v])
    if abs(np.linalg.det(matrix)) < 1e-12:
        return False
    one, other = np.linalg.solve(matrix, r - p)
    return bool(0 <= one <= 1 and 0 <= other <= 1)
