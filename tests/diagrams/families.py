"""The losses of the tests: decompositions of order nu, written with `diagram`, and random small polynomials."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import strategies as st

from lossflow.diagrams.polynomial import DiagramPolynomial, diagram, size
from lossflow.diagrams.tensor import Factor, Pinned, Tensor, pin


def weights(order: int, symmetric: bool) -> list[Tensor]:
    """One H x p matrix for all slots, or one for each."""
    return [Tensor("u" if symmetric else f"u{m + 1}", ("H", "p")) for m in range(order)]


def square(order: int, symmetric: bool) -> DiagramPolynomial:
    """D = ||f||^2: two H-nodes, `order` p-nodes, every pair joined."""
    return diagram(*(u(k, f"i{m}") for m, u in enumerate(weights(order, symmetric)) for k in ("k", "l")))


def cross(order: int, symmetric: bool) -> DiagramPolynomial:
    """R = <f, identity>: one H-node and one p-node, `order` parallel edges."""
    return diagram(*(u("k", "i") for u in weights(order, symmetric)))


def decomposition(order: int, symmetric: bool) -> DiagramPolynomial:
    """L = D/2 - R + p/2 = 1/2 ||f - identity||^2."""
    return Fraction(1, 2) * square(order, symmetric) - cross(order, symmetric) + Fraction(1, 2) * size("p")


# several tensors of every kind: arities 0 to 3, an axis twice, learned and frozen, centered and not
TENSORS = (
    Tensor("u", ("H", "p"), variance="v"),
    Tensor("w", ("H", "p"), variance="v"),
    Tensor("a", ("H",), variance=Fraction(1, 3), mean="m"),
    Tensor("b", ("H",), variance=Fraction(1, 3), mean="m"),
    Tensor("s", ("p", "p"), variance=2),
    Tensor("x", ("p",), variance="v", mean=Fraction(1, 2), learned=False),
    Tensor("t", ("p", "H", "p"), variance=1, learned=False),
    Tensor("c", (), variance="v", mean=1),
)


@st.composite
def factors(draw: st.DrawFn, tensors: tuple[Tensor, ...] = TENSORS, most: int = 4) -> list[Factor]:
    """Up to `most` factors on a few nodes of each axis, some pinned to 1 or 2."""
    chosen = draw(st.lists(st.sampled_from(tensors), min_size=1, max_size=most))
    return [tensor(*(draw(node(axis)) for axis in tensor.axes)) for tensor in chosen]


@st.composite
def paired_factors(draw: st.DrawFn, tensors: tuple[Tensor, ...], pairs: int) -> list[Factor]:
    """Each tensor an even number of times, so that there is something to pair."""
    chosen = draw(st.lists(st.sampled_from(tensors), min_size=pairs, max_size=pairs))
    return [tensor(*(draw(node(axis)) for axis in tensor.axes)) for tensor in chosen for _ in (0, 1)]


def node(axis: str) -> st.SearchStrategy[str | Pinned]:
    return st.one_of(st.sampled_from([f"{axis}{letter}" for letter in "abc"]), st.sampled_from([pin(1), pin(2)]))


@st.composite
def diagrams(draw: st.DrawFn, tensors: tuple[Tensor, ...] = TENSORS, most: int = 4) -> DiagramPolynomial:
    """One diagram, perhaps with constraints among its p-nodes."""
    chosen = draw(factors(tensors, most))
    nodes = sorted({node for f in chosen for node in f.nodes if isinstance(node, str) and node[0] == "p"})
    constraints: list[dict] = []
    if nodes:
        coefficient = st.sampled_from([1, -1, 2, -2, 3])
        free = st.dictionaries(st.sampled_from(nodes), coefficient, min_size=1, max_size=3)
        fixed = st.dictionaries(st.sampled_from([pin(1), pin(2), pin(3)]), coefficient, max_size=1)
        row = st.tuples(free, st.one_of(st.just({}), fixed)).map(lambda parts: {**parts[0], **parts[1]})
        constraints = draw(st.lists(row, max_size=2))
    return diagram(*chosen, constraints=constraints)


@st.composite
def polynomials(draw: st.DrawFn, tensors: tuple[Tensor, ...] = TENSORS, most: int = 4) -> DiagramPolynomial:
    """One to three diagrams with rational coefficients and powers of sizes."""
    total = 0 * diagram()
    for part in draw(st.lists(diagrams(tensors, most), min_size=1, max_size=3)):
        coefficient = draw(st.sampled_from([1, -2, Fraction(1, 2), Fraction(-3, 5)]))
        total = total + coefficient * size("p", draw(st.integers(-1, 1))) * part
    return total
