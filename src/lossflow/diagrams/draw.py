"""Diagrams as pictures: nodes by axis, edges by tensor, sums as rows with their coefficients."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from lossflow.diagrams.algebra import distinct_tensors
from lossflow.diagrams.diagram import Diagram
from lossflow.diagrams.layout import layout
from lossflow.diagrams.pairing import Pairing
from lossflow.diagrams.polynomial import DiagramPolynomial, Term
from lossflow.diagrams.tensor import Pinned, Tensor
from lossflow.errors import InvalidInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = npt.NDArray[np.float64]

# Okabe and Ito's colors, which all eyes tell apart
EDGES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
FACES = ("#FFFFFF", "#4D4D4D", "#BDBDBD", "#8C6BB1", "#F0E442", "#74C476")
MARKERS = ("o", "s", "D", "^", "v", "h")
LINE = 0.42  # height of a constraint
INCH = 0.62  # of the distance between neighboring nodes, where the figure is made here
MARGIN = 0.4  # around every diagram, in distances between neighbors
FAN = 0.2  # distance between parallel edges
WIDEST = 15.0  # a row of a figure made here
LARGE, SMALL = 0.29, 0.25  # fonts of coefficients and of the legend, in distances between neighbors
HANDLE = {"handlelength": 1.6, "columnspacing": 1.4, "borderaxespad": 0.2}  # of the legend, in font sizes


def draw(
    what: DiagramPolynomial | Diagram, axes: Axes | None = None, *, pairs: Pairing = (), legend: bool = True
) -> Axes:
    """A picture of a diagram, or of a polynomial as a row of its diagrams with their coefficients.

    One marker and shade for each axis, one color for each tensor (frozen ones dashed); pinned nodes are black and carry
    their value; factors of one slot are stubs, those of three and more slots stars around a small square; a tensor with one
    axis twice has an arrow from its first slot to its second. Constraints are written below, with letters at their nodes.
    pairs: factors to link by dotted arcs, such as `pairing.pairing_with(diagram, {"H": 1})` returns; for a single diagram.
    axes: where to draw, filled to the largest scale that fits; None makes a figure of the size that the diagrams need.
    Returns the axes; `axes.figure.savefig(...)` writes the picture.
    docs/theory/diagrams.md section 2 [YGG26v2].
    """
    if isinstance(what, Diagram):
        pieces: list[_Piece] = [_picture(what, pairs)]
        tensors = distinct_tensors(factor.tensor for factor in what.factors)
    else:
        if pairs and len(what.terms) != 1:
            raise InvalidInput(f"pairs link the factors of one diagram, got a polynomial of {len(what.terms)} terms")
        pieces = [piece for k, term in enumerate(what.terms) for piece in _pieces(term, k == 0, pairs)]
        pieces = pieces or [_text("$0$")]
        tensors = what.tensors
    style = _Style.of(tensors)
    rows, axes, unit = _fitted(pieces, axes, style.labels if legend else [])
    top = sum(row.height for row in rows) / 2
    for row in rows:
        left = -sum(piece.width for piece in row.pieces) / 2
        for piece in row.pieces:
            x, y = left + piece.width / 2, top - row.height / 2
            if isinstance(piece, _Text):
                axes.text(x, y, piece.text, ha="center", va="center", fontsize=LARGE * unit)
            else:
                _draw_picture(axes, piece, np.array([x, y]), unit, style)
            left += piece.width
        top -= row.height
    if legend:
        _draw_legend(axes, style, unit)
    return axes


# --- what is drawn: pictures and texts, with their sizes in distances between neighboring nodes ---


class _Vertex(NamedTuple):
    kind: Literal["node", "end", "star"]
    axis: str = ""
    value: int | None = None  # of a pinned node
    label: str = ""


class _Middle(NamedTuple):
    link: int


class _Link(NamedTuple):
    start: int
    end: int
    tensor: Tensor
    slot: int | None = None  # of a star
    directed: bool = False


@dataclass
class _Text:
    text: str
    width: float
    height: float = 0.6


@dataclass
class _Picture:
    vertices: list[_Vertex]
    links: list[_Link]
    positions: Array
    carriers: list[_Middle | int] = field(default_factory=list)  # where each factor is: on its link, or at its star
    pairs: Pairing = ()
    constraints: list[str] = field(default_factory=list)

    @property
    def margin(self) -> float:
        """Letters and loops stand around the nodes."""
        loops = any(link.start == link.end for link in self.links)
        return MARGIN + (0.25 if self.constraints else 0.0) + (0.35 if loops else 0.0)

    @property
    def width(self) -> float:
        return float(np.ptp(self.positions[:, 0])) + 2 * self.margin

    @property
    def height(self) -> float:
        return float(np.ptp(self.positions[:, 1])) + 2 * self.margin + LINE * len(self.constraints)


_Piece = _Text | _Picture


class _Row(NamedTuple):
    pieces: list[_Piece]
    height: float


def _pieces(term: Term, first: bool, pairs: Pairing) -> list[_Piece]:
    bare = not term.diagram.factors
    number = _coefficient(term, bare)
    sign = "-" if term.coefficient < 0 else "" if first else "+"
    pieces: list[_Piece] = []
    if sign or number:
        pieces.append(_text(f"${sign}{number}$" if first or not number else f"${sign}\\;{number}$"))
    if not bare:
        pieces.append(_picture(term.diagram, pairs))
    return pieces


def _coefficient(term: Term, bare: bool) -> str:
    """|coefficient| times powers of sizes as mathtext; empty for 1 before a diagram."""
    above, below = abs(term.coefficient.numerator), term.coefficient.denominator
    over = "".join(_power(name, power) for name, power in term.powers if power > 0)
    under = "".join(_power(name, -power) for name, power in term.powers if power < 0)
    numerator = f"{above if above != 1 or not over else ''}{over}"
    if below == 1 and not under:
        return "" if numerator == "1" and not bare else numerator
    return rf"\frac{{{numerator}}}{{{below if below != 1 or not under else ''}{under}}}"


def _power(name: str, power: int) -> str:
    return _symbol(name) if power == 1 else f"{_symbol(name)}^{{{power}}}"


def _symbol(name: str) -> str:
    """A name in mathtext: letters italic, words upright, final digits as index."""
    word, digits = re.fullmatch(r"(.*?)_?(\d*)", name).groups()  # type: ignore[union-attr]
    word = word.replace("_", r"\_") if len(word) > 1 else word
    word = rf"\mathrm{{{word}}}" if len(word) > 1 else word
    return f"{word}_{{{digits}}}" if digits else word


def _text(text: str) -> _Text:
    return _Text(text, 0.3 + _width(text, LARGE))


def _width(text: str, size: float) -> float:
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), text, size=100).get_extents().width) / 100 * size


def _picture(diagram: Diagram, pairs: Pairing) -> _Picture:
    constrained = {node for row in diagram.constraints for node, _ in row}
    letters = dict(zip(sorted(constrained, key=str), "ijlmnqrstabcdefg", strict=False))
    vertices: list[_Vertex] = []
    number: dict[tuple[str, str | Pinned], int] = {}
    for factor in diagram.factors:
        for axis, node in zip(factor.tensor.axes, factor.nodes, strict=True):
            if (axis, node) not in number:
                number[axis, node] = len(vertices)
                value = node.value if isinstance(node, Pinned) else None
                vertices.append(_Vertex("node", axis, value, "" if value else letters.get(node, "")))
    links: list[_Link] = []
    carriers: list[_Middle | int] = []
    for factor in diagram.factors:
        tensor = factor.tensor
        ends = [number[at] for at in zip(tensor.axes, factor.nodes, strict=True)]
        if len(ends) == 2:
            carriers.append(_Middle(len(links)))
            links.append(_Link(ends[0], ends[1], tensor, directed=tensor.axes[0] == tensor.axes[1]))
            continue
        carriers.append(len(vertices))
        vertices.append(_Vertex("end" if len(ends) == 1 else "star", label=tensor.name))
        repeated = len(set(tensor.axes)) < len(tensor.axes)
        for slot, end in enumerate(ends):
            links.append(_Link(len(vertices) - 1, end, tensor, slot + 1 if repeated else None))
    constraints = [_relation(row, letters) for row in diagram.constraints]
    return _Picture(vertices, links, _positions(vertices, links), carriers, pairs, constraints)


def _relation(row: Sequence[tuple[str | Pinned, int]], letters: Mapping[str | Pinned, str]) -> str:
    text = ""
    for node, c in row:
        sign = "-" if c < 0 else "+" if text else ""
        text += f"{sign}{abs(c) if abs(c) != 1 else ''}{node.value - 1 if isinstance(node, Pinned) else letters[node]}"
    return f"${text}=0$"


def _positions(vertices: Sequence[_Vertex], links: Sequence[_Link]) -> Array:
    """Each connected component laid out for itself, side by side, the larger ones first."""
    parallel: dict[tuple[int, int], int] = {}
    for link in links:
        key = (min(link[:2]), max(link[:2]))
        parallel[key] = parallel.get(key, 0) + 1
    component = list(range(len(vertices)))
    for a, b in parallel:
        old, new = component[a], component[b]
        component = [new if c == old else c for c in component]
    positions = np.zeros((len(vertices), 2))
    groups = [[n for n, c in enumerate(component) if c == root] for root in sorted(set(component))]
    left = 0.0
    for group in sorted(groups, key=len, reverse=True):
        place = {node: k for k, node in enumerate(group)}
        inner = [
            (place[a], place[b], {"node": 1.0, "end": 0.6, "star": 0.8}[vertices[a].kind] + 0.15 * max(0, times - 2))
            for (a, b), times in ((_star_first(key, vertices), n) for key, n in parallel.items())
            if a in place and a != b
        ]
        placed = layout(len(group), inner)
        for node, k in place.items():
            positions[node] = placed[k] + (left - placed[:, 0].min(), 0.0)
        left += float(np.ptp(placed[:, 0])) + 0.8
    return positions - (positions.min(axis=0) + positions.max(axis=0)) / 2 if len(vertices) else positions


def _star_first(pair: tuple[int, int], vertices: Sequence[_Vertex]) -> tuple[int, int]:
    return pair if vertices[pair[0]].kind != "node" else (pair[1], pair[0])


# --- where it is drawn ---


def _fitted(pieces: list[_Piece], axes: Axes | None, labels: Sequence[str]) -> tuple[list[_Row], Axes, float]:
    """Rows, axes with equal units, and the number of points that the distance between neighbors has there."""
    from matplotlib.figure import Figure

    if axes is None:
        rows = _broken(pieces, WIDEST)
        width, height = _extent(rows)
        width = max(width, min(_entry(labels) * len(labels), WIDEST))
        room = _room(labels, width)
        height += room
        axes = Figure(figsize=(INCH * width, INCH * height)).add_axes((0.0, 0.0, 1.0, 1.0))
        unit = 72 * INCH
    else:
        box = axes.get_window_extent()
        points = np.array([box.width, box.height]) * 72 / axes.figure.dpi  # type: ignore[union-attr]
        room = _room(labels, points[0] / (72 * INCH))
        candidates = [_broken(pieces, limit) for limit in np.cumsum([piece.width for piece in pieces])]
        scales = [float(np.min(points / np.add(_extent(rows), (0.0, room)))) for rows in candidates]
        rows, unit = candidates[int(np.argmax(scales))], min(max(scales), 72 * INCH)
        width, height = points / unit
    axes.set(xlim=(-width / 2, width / 2), ylim=(-height / 2 - room / 2, height / 2 - room / 2), aspect="equal")
    axes.axis("off")
    return rows, axes, unit


def _broken(pieces: list[_Piece], widest: float) -> list[_Row]:
    """Rows no wider than `widest`, broken before coefficients."""
    terms: list[list[_Piece]] = []
    for piece in pieces:
        if isinstance(piece, _Text) or not terms or isinstance(terms[-1][-1], _Picture):
            terms.append([])
        terms[-1].append(piece)
    rows: list[list[_Piece]] = [[]]
    for term in terms:
        if rows[-1] and sum(piece.width for piece in rows[-1] + term) > widest + 1e-9:
            rows.append([])
        rows[-1] += term
    return [_Row(row, max(piece.height for piece in row)) for row in rows]


def _extent(rows: Sequence[_Row]) -> tuple[float, float]:
    return max(sum(piece.width for piece in row.pieces) for row in rows), sum(row.height for row in rows)


def _room(labels: Sequence[str], width: float) -> float:
    """The height that a legend needs below a picture of this width."""
    return 0.3 + 0.45 * math.ceil(len(labels) / _columns(labels, width)) if labels else 0.0


def _columns(labels: Sequence[str], width: float) -> int:
    return max(1, min(len(labels), int(width / _entry(labels) + 1e-9)))


def _entry(labels: Sequence[str]) -> float:
    """The width of the widest entry of a legend, its handle and its share of the margins included."""
    return SMALL * (sum(HANDLE.values()) + 0.8) + max((_width(label, SMALL) for label in labels), default=0.0) + 0.1


# --- how it is drawn ---


@dataclass
class _Style:
    """Colors of tensors, marker and face of axes."""

    edge: dict[Tensor, str]
    face: dict[str, str]
    marker: dict[str, str]

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> _Style:
        names = {axis for tensor in tensors for axis in tensor.axes}
        names = sorted(names, key=lambda name: (not name[0].islower(), name))
        return cls(
            {tensor: EDGES[k % len(EDGES)] for k, tensor in enumerate(tensors)},
            {name: FACES[k % len(FACES)] for k, name in enumerate(names)},
            {name: MARKERS[k % len(MARKERS)] for k, name in enumerate(names)},
        )

    @property
    def labels(self) -> list[str]:
        """What the legend says: the axes, then the tensors."""
        return [f"${_symbol(name)}$" for name in [*self.face, *(tensor.name for tensor in self.edge)]]

    def line(self, tensor: Tensor, unit: float) -> dict[str, Any]:
        return {"color": self.edge[tensor], "lw": 0.045 * unit, "ls": "-" if tensor.learned else (0, (3.2, 1.4))}

    def node(self, axis: str, pinned: bool, unit: float) -> dict[str, Any]:
        return {
            "marker": self.marker[axis], "ms": (0.36 if pinned else 0.27) * unit, "mew": 0.028 * unit, "ls": "",
            "mec": "black", "mfc": "black" if pinned else self.face[axis],
        }  # fmt: skip


def _draw_picture(axes: Axes, picture: _Picture, middle: Array, unit: float, style: _Style) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    def write(x: float, y: float, text: str, size: float, color: str = "black") -> None:
        axes.text(x, y, text, fontsize=size * unit, color=color, ha="center", va="center_baseline", zorder=4)

    positions = picture.positions + middle + (0.0, LINE / 2 * len(picture.constraints))
    curves = [_curve(k, picture, positions) for k in range(len(picture.links))]
    for link, curve in zip(picture.links, curves, strict=True):
        code = [Path.MOVETO, *[Path.CURVE3 if len(curve) == 3 else Path.CURVE4] * (len(curve) - 1)]
        axes.add_patch(PathPatch(Path(curve, code), fill=False, capstyle="round", **style.line(link.tensor, unit)))
        if link.directed:
            _draw_arrow(axes, curve, style.edge[link.tensor], unit)
        if link.slot is not None:
            near = 0.62 * curve[0] + 0.38 * curve[-1] + 0.14 * _normal(curve[-1] - curve[0])
            write(near[0], near[1], str(link.slot), 0.18, style.edge[link.tensor])
    color = {link.start: style.edge[link.tensor] for link in picture.links}
    for k, vertex in enumerate(picture.vertices):
        x, y = positions[k]
        if vertex.kind == "node":
            axes.plot([x], [y], zorder=3, **style.node(vertex.axis, vertex.value is not None, unit))
            if vertex.value is not None:
                write(x, y, str(vertex.value), 0.21, "white")
            if vertex.label:
                away = 0.3 * _unit_vector(positions[k] - positions.mean(axis=0))
                write(x + away[0], y + away[1], f"${vertex.label}$", 0.26)
        else:
            marker, points = (".", 0.16) if vertex.kind == "end" else ("s", 0.13)
            shade = color.get(k) or next(c for t, c in style.edge.items() if t.name == vertex.label)
            axes.plot([x], [y], marker, color=shade, ms=points * unit, zorder=3)
    for pair in picture.pairs:
        _draw_pair(axes, picture, pair, (positions, curves), unit)
    for k, relation in enumerate(picture.constraints):
        low = middle[1] - picture.height / 2 + LINE * (len(picture.constraints) - k - 0.4)
        write(middle[0], low, relation, 0.26)


def _curve(k: int, picture: _Picture, positions: Array) -> Array:
    """Control points of a link: parallel links fan out, links from a node to itself leave it away from the center."""
    link = picture.links[k]
    pair = {link.start, link.end}
    alike = [n for n, other in enumerate(picture.links) if {other.start, other.end} == pair]
    a, b = positions[link.start], positions[link.end]
    rank = alike.index(k)
    if link.start == link.end:
        out = _unit_vector(a - positions.mean(axis=0))
        side = _normal(out)
        reach = 0.9 + 0.35 * rank
        return np.array([a, a + reach * (out + 0.8 * side), a + reach * (out - 0.8 * side), a])
    low, high = min(pair), max(pair)
    shift = (rank - (len(alike) - 1) / 2) * FAN
    return np.array([a, (a + b) / 2 + 2 * shift * _normal(positions[high] - positions[low]), b])


def _draw_pair(
    axes: Axes, picture: _Picture, pair: tuple[int, int], places: tuple[Array, Sequence[Array]], unit: float
) -> None:
    """A dotted arc between the middles of two factors; at a common node it keeps to the inner side of the corner."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    positions, curves = places
    carriers = [picture.carriers[n] for n in pair]
    a, b = (_at(curves[c.link], 0.5) if isinstance(c, _Middle) else positions[c] for c in carriers)
    ends = [set(picture.links[c.link][:2]) if isinstance(c, _Middle) else {c} for c in carriers]
    common = sorted(ends[0] & ends[1])
    middle = (a + b) / 2
    corner = middle - positions[common[0]] if len(common) == 1 else np.zeros(2)
    away = _unit_vector(corner) if np.linalg.norm(corner) > 0.05 else _normal(b - a)
    bend = middle + (0.5 if common else 0.2 * float(np.linalg.norm(b - a))) * away
    path = Path([a, bend, b], [Path.MOVETO, Path.CURVE3, Path.CURVE3])
    line = {"color": "0.4", "lw": 0.032 * unit, "ls": (0, (1.0, 1.5)), "capstyle": "round"}
    axes.add_patch(PathPatch(path, fill=False, zorder=2.5, **line))
    axes.plot(*np.transpose([a, b]), ".", color="0.4", ms=0.11 * unit, zorder=2.6)


def _at(curve: Array, t: float) -> Array:
    """A point of a Bezier curve (de Casteljau)."""
    while len(curve) > 1:
        curve = (1 - t) * curve[:-1] + t * curve[1:]
    return curve[0]


def _draw_arrow(axes: Axes, curve: Array, color: str, unit: float) -> None:
    tip, tail = _at(curve, 0.58), _at(curve, 0.5)
    head = f"-|>,head_length={0.22 * unit},head_width={0.09 * unit}"
    arrow = {"arrowstyle": head, "mutation_scale": 1.0, "color": color, "lw": 0, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (tip[0], tip[1]), (tail[0], tail[1]), arrowprops=arrow)


def _draw_legend(axes: Axes, style: _Style, unit: float) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], **style.node(name, False, 0.8 * unit)) for name in style.face]
    handles += [Line2D([], [], **style.line(tensor, unit)) for tensor in style.edge]
    for handle, label in zip(handles, style.labels, strict=True):
        handle.set_label(label)
    if handles:
        columns = _columns(style.labels, float(np.ptp(axes.get_xlim())))
        axes.legend(handles=handles, loc="lower center", ncols=columns, frameon=False, fontsize=SMALL * unit, **HANDLE)


def _normal(vector: Array) -> Array:
    return _unit_vector(vector)[::-1] * (-1.0, 1.0)


def _unit_vector(vector: Array) -> Array:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 1e-9 else np.array([0.0, 1.0])
