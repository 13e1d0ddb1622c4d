"""A gallery of the diagrams that the expansion is made of, drawn from the library's own, each statement checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from lossflow.diagrams.diagram import Diagram
from lossflow.diagrams.draw import draw as draw_diagram
from lossflow.diagrams.pairing import Pairing, contracted, pairing_with, pairings
from lossflow.diagrams.polynomial import DiagramPolynomial, diagram, merge
from lossflow.diagrams.tensor import Tensor
from lossflow.diagrams.wick import mean
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.keys import generator
from lossflow.simulate.gradients import Program

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

ROUNDING = 1e-12  # relative: sums of up to 1e4 products of six numbers each
COLORED = tuple(Tensor(f"u{m}", ("H", "p")) for m in (1, 2, 3))
PLAIN = Tensor("u", ("H", "p"))


def draw(p: int, H: int, seed: int) -> Outcome:
    """p, H: sizes at which mergers are compared with gradients of random tensors, drawn from `seed`."""
    squares = {"D6": _square(COLORED), "R3": _cross(COLORED)}
    mergers = {f"{a}*{b}": merge(squares[a], squares[b]) for a, b in (("R3", "R3"), ("D6", "R3"), ("D6", "D6"))}
    verdicts = [
        _counted(name, mergers[name], expected) for name, expected in {"R3*R3": 3, "D6*R3": 6, "D6*D6": 12}.items()
    ]
    verdicts += [_product_of_gradients(name, squares, merger, p, H, seed) for name, merger in mergers.items()]
    verdicts += [
        _mean("E D6, a tensor for each slot", squares["D6"], {(3, 1, 3): 1}, "the flower alone"),
        _mean(
            "E D6, one tensor",
            _square([PLAIN] * 3),
            {(3, 1, 3): 1, (2, 1, 3): 6, (1, 1, 3): 8},
            "H (p^3 + 6 p^2 + 8 p) sigma2^3",
        ),
        _mean(
            "E tr (u^T u)^3",
            _circle(3),
            {(3, 1, 3): 1, (2, 2, 3): 3, (1, 3, 3): 1, (2, 1, 3): 3, (1, 2, 3): 3, (1, 1, 3): 4},
            "trees p^q H^n, q + n = 4, in Narayana's numbers 1, 3, 1, and 3, 3, 4 pairings with fewer nodes",
        ),
    ]
    words = (
        "Nodes are indices that are summed over, lines are entries of weight matrices, one color for each matrix. First row: "
        "the square D6 of an order-3 model and its product R3 with the identity target. Second row: a pairing of the factors of "
        "D6 (dotted) and the flower it leaves; a pairing of the circle of order 2 and the tree it leaves. Below: the "
        "mergers R3*R3, D6*R3 and D6*D6 as sums of diagrams, each with the number of times it occurs."
    )
    return Outcome((Picture("gallery", _canvas(squares, mergers), words),), tuple(verdicts))


def _square(weights: Sequence[Tensor]) -> DiagramPolynomial:
    """D = ||f||^2, two H-nodes that share one p-node for each slot."""
    return diagram(*(u(k, f"i{slot}") for slot, u in enumerate(weights) for k in ("k", "l")))


def _cross(weights: Sequence[Tensor]) -> DiagramPolynomial:
    """R = <f, identity>, one H-node and one p-node joined by an edge of each slot."""
    return diagram(*(u("k", "i") for u in weights))


def _counted(name: str, merger: DiagramPolynomial, expected: int) -> Verdict:
    """The number of diagrams, each counted as often as it occurs."""
    count = sum(term.coefficient for term in merger.terms)
    sentence = f"{count} diagrams, {len(merger.terms)} of them different; {expected} expected"
    return _exact(f"number of diagrams in {name}", count == expected, sentence)


def _product_of_gradients(
    name: str, squares: Mapping[str, DiagramPolynomial], merger: DiagramPolynomial, p: int, H: int, seed: int
) -> Verdict:
    """A * B = sum_u dA/du dB/du at random weights, the right side by differentiation of the two polynomials."""
    sizes = {"p": p, "H": H, "sigma2": 1.0}
    weights = {u.name: generator(seed, 0, u.name).standard_normal((1, H, p)) for u in COLORED}
    left, right = (Program(squares[factor], sizes)(weights)[1] for factor in name.split("*"))
    expected = sum(float((left[u.name] * right[u.name]).sum()) for u in COLORED)
    got = float(Program(merger, sizes)(weights)[0][0])
    gap = abs(got / expected - 1)
    sentence = f"merger {got:.12g}, sum of products of gradients {expected:.12g} at random weights of p = {p}, H = {H}"
    return Verdict(f"{name} as a product of gradients", gap, None, None, gap < ROUNDING, sentence)


def _mean(
    curve: str, polynomial: DiagramPolynomial, expected: Mapping[tuple[int, int, int], int], words: str
) -> Verdict:
    """E of one diagram, by Wick's theorem without enumeration and once more pairing by pairing."""
    got, slow = mean(polynomial).terms, _mean_by_enumeration(_only(polynomial))
    sentence = f"{_spelled(got)} by elimination, {_spelled(slow)} by enumeration; expected {words}"
    return _exact(curve, got == slow == expected, sentence)


def _mean_by_enumeration(diagram: Diagram) -> dict[tuple[int, int, int], int]:
    """{(q, n, l): number of pairings that leave q p-nodes and n H-nodes}, l pairs in each."""
    found: dict[tuple[int, int, int], int] = {}
    for pairs in pairings(diagram):
        axes = list(_contracted(diagram, pairs).axes.values())
        exponent = (axes.count("p"), axes.count("H"), len(pairs))
        found[exponent] = found.get(exponent, 0) + 1
    return found


def _circle(length: int) -> DiagramPolynomial:
    """tr W^length with W = U^T U: a closed path of H-nodes and p-nodes in turn."""
    return diagram(*(PLAIN(f"k{n}", f"i{m % length}") for n in range(length) for m in (n, n + 1)))


def _exact(curve: str, agree: bool, sentence: str) -> Verdict:
    return Verdict(curve, 0.0 if agree else None, None, None, agree, sentence)


def _spelled(terms: Mapping[Any, Fraction | int]) -> str:
    return " + ".join(_monomial(exponent, c) for exponent, c in sorted(terms.items(), reverse=True))


def _monomial(exponent: tuple[int, ...], coefficient: Fraction | int) -> str:
    powers = [f"{name}^{e}" if e > 1 else name for name, e in zip(("p", "H", "sigma2"), exponent, strict=True) if e]
    return " ".join(powers if coefficient == 1 else [str(coefficient), *powers])


class _Panel(NamedTuple):
    """A row and the columns from `first` to `last` of the grid, and what is drawn there."""

    row: int
    first: int
    last: int
    title: str
    shown: DiagramPolynomial | Diagram
    pairs: Pairing = ()
    legend: bool = False


def _canvas(squares: Mapping[str, DiagramPolynomial], mergers: Mapping[str, DiagramPolynomial]) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(9.0, 9.2))
    heights = (1.3, 1.2, 0.5, 0.9, 1.0)
    grid = canvas.add_gridspec(
        5, 4, left=0.01, right=0.99, bottom=0.01, top=0.96, hspace=0.35, wspace=0.05, height_ratios=heights
    )
    for panel in _panels(squares, mergers):
        axes = canvas.add_subplot(grid[panel.row, panel.first : panel.last])
        draw_diagram(panel.shown, axes, pairs=panel.pairs, legend=panel.legend)
        axes.set_title(panel.title)
    return canvas


def _panels(squares: Mapping[str, DiagramPolynomial], mergers: Mapping[str, DiagramPolynomial]) -> Iterator[_Panel]:
    square, circle = _only(squares["D6"]), _only(_circle(3))
    flower, tree = pairing_with(square, {"p": 3, "H": 1}), pairing_with(circle, {"p": 2, "H": 2})
    yield _Panel(0, 0, 2, r"$D_6 = \|f\|^2$", square, legend=True)
    yield _Panel(0, 2, 4, r"$R_3 = \langle f, \mathrm{identity}\rangle$", _only(squares["R3"]))
    yield _Panel(1, 0, 1, "$D_6$ with its factors paired", square, flower)
    yield _Panel(1, 1, 2, r"flower: $p^3 H \sigma^6$", _contracted(square, flower))
    yield _Panel(1, 2, 3, r"circle $\mathrm{tr}\,(u^T u)^3$, paired", circle, tree)
    yield _Panel(1, 3, 4, r"tree: $p^2 H^2 \sigma^6$", _contracted(circle, tree))
    for row, (name, merger) in enumerate(mergers.items(), start=2):
        yield _Panel(row, 0, 4, _title(name), merger)


def _title(name: str) -> str:
    return "$" + " * ".join(f"{factor[0]}_{factor[1]}" for factor in name.split("*")) + "$"


def _contracted(diagram: Diagram, pairs: Pairing) -> Diagram:
    left = contracted(diagram, pairs)
    assert left is not None, "without pinned nodes no contraction vanishes"
    return left


def _only(polynomial: DiagramPolynomial) -> Diagram:
    (term,) = polynomial.terms
    return term.diagram


FIGURE = Figure(
    name="diagrams",
    title="Diagrams, their mergers and contractions",
    claim="The merger of two diagrams is the product of their gradients; averages over Gaussian weights are contractions, of "
    "which flowers and trees lead at large sizes.",
    sources=("YGG26v2",),
    quick={"p": 5, "H": 4, "seed": 0},
    full={"p": 12, "H": 10, "seed": 0},
    draw=draw,
)
