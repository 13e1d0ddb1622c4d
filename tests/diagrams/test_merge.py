"""merge = gradient product on explicit polynomials, exactly; its algebra; the counts of docs/theory/diagrams.md section 3."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.diagrams.explicit import expand, gradient_product
from tests.diagrams.families import cross, decomposition, polynomials, square

from lossflow.diagrams.polynomial import DiagramPolynomial, diagram, merge, size
from lossflow.diagrams.tensor import Tensor, pin

SIZES = ({"p": 2, "H": 2}, {"p": 3, "H": 2})


@given(polynomials(most=3), polynomials(most=3), st.sampled_from(SIZES))
@settings(max_examples=150, deadline=None)
def test_merge_is_the_gradient_product(
    left: DiagramPolynomial, right: DiagramPolynomial, sizes: dict[str, int]
) -> None:
    assert expand(merge(left, right), sizes) == gradient_product(expand(left, sizes), expand(right, sizes))


@given(polynomials(most=3), polynomials(most=3), polynomials(most=3))
@settings(max_examples=40, deadline=None)
def test_merge_is_bilinear_and_commutative(a: DiagramPolynomial, b: DiagramPolynomial, c: DiagramPolynomial) -> None:
    assert merge(a, b) == merge(b, a)
    assert merge(2 * a - b, c) == 2 * merge(a, c) - merge(b, c)
    assert merge(c, size("p", -1) * a) == size("p", -1) * merge(c, a)


def test_merge_is_not_associative() -> None:
    """(x^2 * x^2) * x^3 = 4 x^2 * x^3 = 24 x^3, but x^2 * (x^2 * x^3) = x^2 * 6 x^3 = 36 x^3."""
    x = Tensor("x", ("d",))
    two, three = diagram(x("i"), x("i")), diagram(x("i"), x("i"), x("i"))
    assert merge(merge(two, two), three) == 24 * three
    assert merge(two, merge(two, three)) == 36 * three


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_merging_a_square_or_a_cross_into_an_edge(order: int) -> None:
    """Numbers of terms per edge and of edges added: 2 and 2(nu-1) for D, 1 and nu-2 for R; nu times as many in SYM."""
    for symmetric, alike in ((False, 1), (True, order)):
        d, r = square(order, symmetric), cross(order, symmetric)
        for left in (d, r):
            edges = len(left.terms[0].diagram.factors)
            for right, per_edge, added in ((d, 2 * alike, 2 * (order - 1)), (r, alike, order - 2)):
                merged = merge(left, right)
                assert sum(term.coefficient for term in merged.terms) == edges * per_edge
                assert {len(term.diagram.factors) for term in merged.terms} == {edges + added}


def test_numbers_of_mergers_of_order_three() -> None:
    """D6 * D6 = 12 diagrams, D6 * R3 = 6, R3 * R3 = 3, counted with multiplicity (ASYM)."""
    d, r = square(3, False), cross(3, False)
    assert sum(term.coefficient for term in merge(d, d).terms) == 12
    assert sum(term.coefficient for term in merge(d, r).terms) == 6
    assert sum(term.coefficient for term in merge(r, r).terms) == 3


def test_pinned_nodes() -> None:
    """Free with pinned gives pinned; the same pin twice is one node; two different pins give nothing."""
    a = Tensor("a", ("p",))
    free, one, two = diagram(a("i"), a("i"), a("i")), diagram(a(pin(1))), diagram(a(pin(2)), a(pin(2)))
    assert merge(free, one) == 3 * diagram(a(pin(1)), a(pin(1)))
    assert merge(one, one) == diagram()
    assert merge(one, two) == 0 * diagram()


def test_constraints_are_carried_along() -> None:
    """i + j - l = 0 merged with itself at the i's: solving for i leaves j - l = j' - l'."""
    a, b, c = (Tensor(name, ("p",)) for name in "abc")
    cubic = diagram(a("i"), b("j"), c("l"), constraints=[{"i": 1, "j": 1, "l": -1}])
    both = diagram(b("j"), c("l"), b("m"), c("n"), constraints=[{"j": 1, "l": -1, "m": -1, "n": 1}])
    at_j = diagram(a("j"), c("l"), a("m"), c("n"), constraints=[{"j": 1, "l": -1, "m": -1, "n": 1}])
    at_l = diagram(a("j"), b("l"), a("m"), b("n"), constraints=[{"j": 1, "l": 1, "m": -1, "n": -1}])
    assert merge(cubic, cubic) == both + at_j + at_l


def test_a_node_that_only_a_constraint_holds_survives() -> None:
    """sum_i [2 i = k] over i counts the halves of k, which depends on the parity of p: it cannot become a size."""
    a, b = Tensor("a", ("p",)), Tensor("b", ("p",), learned=False)
    doubled = diagram(a("i"), b("k"), constraints=[{"i": 2, "k": 1}])
    halves = merge(doubled, diagram(a("i")))
    for p in (3, 4):
        explicit = expand(halves, {"p": p})
        assert len(explicit) == (3 if p == 3 else 2)
        assert set(explicit.values()) == {Fraction(1 if p == 3 else 2)}
    assert merge(doubled, diagram(a("i"), constraints=[{"i": 1}])) == diagram(b("k"), constraints=[{"k": 1}])


def test_only_learned_tensors_are_differentiated() -> None:
    u, x = Tensor("u", ("p",)), Tensor("x", ("p",), learned=False)
    linear = diagram(u("i"), x("i"))
    assert merge(linear, linear) == diagram(x("i"), x("i"))
    assert merge(diagram(x("i")), linear) == 0 * diagram()


def test_powers_of_the_matrix_loss_are_traces() -> None:
    """With T_m = tr (U^T U)^m: T_a * T_b = 4 a b T_{a+b-1}; L = T_2/2 - T_1 has L * L = 4 T_3 - 8 T_2 + 4 T_1. Section 9."""
    u = Tensor("u", ("H", "p"))

    def trace(m: int) -> DiagramPolynomial:
        return diagram(*(f for k in range(m) for f in (u(f"k{k}", f"i{k}"), u(f"k{k}", f"i{(k + 1) % m}"))))

    for a in range(1, 5):
        for b in range(1, 5):
            assert merge(trace(a), trace(b)) == 4 * a * b * trace(a + b - 1)
    loss = decomposition(2, True)
    assert merge(loss, loss) == 4 * trace(3) - 8 * trace(2) + 4 * trace(1)
