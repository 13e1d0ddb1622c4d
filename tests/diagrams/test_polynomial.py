"""How losses are written: tensors, diagrams and their sums; normal form, printing, round trips, errors."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from fractions import Fraction
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.diagrams.explicit import expand
from tests.diagrams.families import decomposition, diagrams, polynomials, square

import lossflow
from lossflow.diagrams.diagram import Diagram
from lossflow.diagrams.polynomial import DiagramPolynomial, Term, diagram, size
from lossflow.diagrams.tensor import Factor, Pinned, Tensor, pin
from lossflow.errors import InvalidInput, LossflowError, UnknownField

NAMES = {"Fraction": Fraction, **{name: getattr(lossflow, name) for name in ("Tensor", "diagram", "pin", "size")}}
u, a = Tensor("u", ("H", "p")), Tensor("a", ("H",), variance="a2")


@given(polynomials())
@settings(max_examples=60)
def test_printing_is_the_expression_that_makes_it(polynomial: DiagramPolynomial) -> None:
    assert eval(repr(polynomial), NAMES) == polynomial
    assert pickle.loads(pickle.dumps(polynomial)) == polynomial
    assert DiagramPolynomial.from_toml(polynomial.to_toml()) == polynomial
    assert hash(DiagramPolynomial(polynomial.terms)) == hash(polynomial)


def test_how_a_loss_prints() -> None:
    loss = Fraction(1, 2) * size("N", -1) * diagram(u("k", "i"), u("k", pin(2))) - diagram(a("k")) + 3 * size("p", 2)
    assert repr(loss) == (
        "Fraction(1, 2) * size('N', -1) * diagram(Tensor(name='u', axes=('H', 'p'))('H0', 'p0'), "
        "Tensor(name='u', axes=('H', 'p'))('H0', pin(2))) - "
        "diagram(Tensor(name='a', axes=('H',), variance='a2')('H0')) + 3 * size('p', 2)"
    )
    assert repr(diagram()) == "diagram()"
    assert repr(0 * loss) == "0 * diagram()"
    assert repr(-size("p")) == "-1 * size('p')"


@given(diagrams(), st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_names_of_nodes_and_order_of_factors_do_not_matter(one: DiagramPolynomial, random: Random) -> None:
    (term,) = one.terms or (Term(Fraction(1), (), Diagram(())),)
    names = sorted(term.diagram.axes)
    random.shuffle(names)
    new = dict(zip(term.diagram.axes, [f"node {name}" for name in names], strict=True))
    moved = [
        Factor(f.tensor, tuple(new.get(n, n) if isinstance(n, str) else n for n in f.nodes))
        for f in term.diagram.factors
    ]
    random.shuffle(moved)
    rows = [{new[n] if isinstance(n, str) else n: -c for n, c in row} for row in term.diagram.constraints]
    random.shuffle(rows)
    again = term.coefficient * diagram(*moved, constraints=rows)  # type: ignore[arg-type]
    for name, power in term.powers:
        again = size(name, power) * again
    assert not one.terms or again == one


@given(polynomials(most=3), polynomials(most=3))
@settings(max_examples=60)
def test_sums_and_products_are_those_of_functions(left: DiagramPolynomial, right: DiagramPolynomial) -> None:
    sizes = {"p": 2, "H": 2}
    f, g = expand(left, sizes), expand(right, sizes)
    product: dict[object, Fraction] = {}
    for m, x in f.items():
        for n, y in g.items():
            powers = dict(m)
            for entry, k in n:
                powers[entry] = powers.get(entry, 0) + k
            key = frozenset(powers.items())
            product[key] = product.get(key, Fraction(0)) + x * y
    assert expand(left * right, sizes) == {key: c for key, c in product.items() if c}
    total = {key: f.get(key, Fraction(0)) - 2 * g.get(key, Fraction(0)) for key in f | g}
    assert expand(left - 2 * right, sizes) == {key: c for key, c in total.items() if c}
    assert left * right == right * left
    assert left - left == 0 * diagram()


def test_nodes_of_two_factors_of_a_product_are_not_confused() -> None:
    norm = diagram(u("k", "i"), u("k", "i"))
    assert norm * norm == diagram(u("k", "i"), u("k", "i"), u("l", "j"), u("l", "j"))
    assert norm * norm != diagram(u("k", "i"), u("k", "i"), u("k", "j"), u("k", "j"))
    pinned = diagram(u("k", pin(1)))
    assert pinned * pinned == diagram(u("k", pin(1)), u("l", pin(1)))


def test_nodes_without_factors_are_sizes() -> None:
    one = Tensor("one_p", ("p",), variance=0, mean=1, learned=False)
    assert diagram(one("i")) == size("p")
    assert diagram(one("i"), one("j"), constraints=[{"i": 1, "j": -1}]) == size("p")
    assert diagram(one(pin(2))) == diagram() == size("p", 0)


def test_equal_relations_are_one() -> None:
    e = Tensor("e", ("p",))
    rows = [{"i": 1, "j": 1}, {"j": 1, "k": 1}]
    other = [{"i": -1, "k": 1}, {"k": 1, "j": 1}, {"i": 2, "j": 2}]
    assert diagram(e("i"), e("j"), e("k"), constraints=rows) == diagram(e("i"), e("j"), e("k"), constraints=other)
    assert diagram(e("i"), constraints=[{"i": 2}]) != diagram(e("i"), constraints=[{"i": 1}])


def test_names_of_axes_that_end_in_digits() -> None:
    """Eleven nodes on axis p and one on axis p1 keep different names."""
    many, few = Tensor("m", ("p",)), Tensor("f", ("p1",))
    both = diagram(*(many(f"x{k}") for k in range(11)), few("y"))
    assert len(both.terms[0].diagram.axes) == 12
    assert eval(repr(both), NAMES) == both


def test_numbers_of_every_type_are_coefficients() -> None:
    d: Any = square(2, True)
    assert 0.5 * d == Fraction(1, 2) * d == d * 0.5 == np.float64(0.5) * d
    assert np.int64(3) * d == 3 * d == d + d + d
    assert 0.1 * d == Fraction(1, 10) * d
    with pytest.raises(InvalidInput, match="rational number"):
        _ = d * float("nan")
    for wrong in ("2", None, True):
        with pytest.raises(TypeError):
            _ = d * wrong
    with pytest.raises(TypeError):
        _ = d + 1


def test_sizes_parameters_and_tensors() -> None:
    x = Tensor("x", ("d", "N"), variance=1, mean="m", learned=False)
    loss = size("M", -1) * diagram(u("k", "i"), u("k", "i")) + diagram(a("k"), x("i", "n"))
    assert loss.sizes == ("d", "p", "H", "M", "N")
    assert loss.parameters == ("a2", "m", "sigma2")
    assert loss.tensors == (a, u, x)


def test_require_returns_what_is_needed() -> None:
    loss = decomposition(2, True)
    sizes = {"p": 3, "H": np.int64(2), "sigma2": Fraction(1, 2)}
    assert dict(loss.require(sizes)) == {"p": 3.0, "H": 2.0, "sigma2": 0.5}  # type: ignore[arg-type]
    assert (size("N", -1) * loss).require({**sizes, "N": 2.5})["N"] == 2.5  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"p": 3, "H": 2}, "missing 'sigma2'; needed: p, H, sigma2"),
        ({"p": 3, "h": 2, "sigma2": 1}, "there is no size 'h'; did you mean 'H'"),
        ({"p": 3.5, "H": 2, "sigma2": 1}, "size 'p' must be a whole number >= 1, got 3.5"),
        ({"p": 0, "H": 2, "sigma2": 1}, "size 'p' must be a whole number >= 1, got 0"),
        ({"p": -1, "H": 2, "sigma2": 1}, "size 'p' must be a finite number >= 0"),
        ({"p": 1, "H": 2, "sigma2": -1}, "size 'sigma2' must be a finite number >= 0"),
        ({"p": 1, "H": 2, "sigma2": float("nan")}, "size 'sigma2'"),
        ({"p": "three", "H": 2, "sigma2": 1}, "size 'p' must be a number"),
        ([1, 2, 3], "must be a mapping"),
    ],
)
def test_require_answers_mistakes(sizes: dict[str, float], says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        decomposition(2, True).require(sizes)
    assert "\n" not in str(caught.value)


def test_require_makes_room_for_pinned_values() -> None:
    loss = diagram(u("k", pin(3)), u("k", pin(1)))
    with pytest.raises(InvalidInput, match="size 'p' must be a whole number >= 3, got 2"):
        loss.require({"p": 2, "H": 1, "sigma2": 1})
    assert loss.require({"p": 3, "H": 1, "sigma2": 1})["p"] == 3
    with pytest.raises(InvalidInput, match="size 'N' must be > 0, got 0"):
        (size("N", -1) * loss).require({"p": 3, "H": 1, "sigma2": 1, "N": 0})


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: u("k"), "tensor 'u' has 2 axes (H, p), got 1 nodes"),
        (lambda: u("k", 3), "Factor.nodes[1] must be"),
        (lambda: u("k", ""), "nonempty name"),
        (lambda: pin(0), "value >= 1, got 0"),
        (lambda: pin(1.5), "Pinned.value must be a whole number"),  # type: ignore[arg-type]
        (lambda: Tensor("u", ("H", "p"), variance=-1), "variance of tensor 'u' must be >= 0, got -1"),
        (lambda: Tensor("u", ("H", "p"), variance="p"), "'p' both as an axis and as its variance"),
        (lambda: Tensor("u", ("H", "2p")), "an axis of tensor 'u' must be a word"),
        (lambda: Tensor("u v", ("H",)), "the name of a tensor must be a word"),
        (lambda: Tensor("u", "Hp"), "Tensor.axes must be a sequence"),
        (lambda: size("p q"), "a size must be a word"),
        (lambda: size("p", 1001), "powers of sizes go from -1000 to 1000, got p^1001"),
        (lambda: size("p", -600) * size("p", -600), "got p^-1200"),
        (lambda: size("p", 1.5), "must be a whole number"),  # type: ignore[arg-type]
        (lambda: diagram(u("k", "k")), "node 'k' sits on axis 'H' and, in tensor 'u', on axis 'p'; use two names"),
        (lambda: diagram(u), "Diagram.factors[0] must be a Factor"),
        (lambda: diagram(u("k", "i"), constraints=[{"j": 1}]), "names node 'j', which no factor has"),
        (lambda: diagram(u("k", "i"), constraints=[{"i": 1, "k": 1}]), "mixes the axes H, p"),
        (lambda: diagram(u("k", pin(2)), constraints=[{pin(2): 1}]), "has no free node"),  # type: ignore[arg-type]
        (lambda: diagram(u("k", "i"), constraints=[("i", 1)]), "a constraint is a mapping such as"),  # type: ignore[arg-type]
        (lambda: diagram(u("k", "i"), constraints={"i": 1}), "a constraint is a mapping such as"),  # type: ignore[arg-type]
        (lambda: diagram(a("k")) + diagram(Tensor("a", ("H",))("k")), "one name, two tensors"),
        (lambda: diagram(u("k", "i")) * size("sigma2"), "'sigma2' is both a size and a parameter"),
    ],
)
def test_mistakes_are_answered_in_one_line(make: Callable[[], object], says: str) -> None:
    with pytest.raises(LossflowError) as caught:
        make()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_field_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownField, match="did you mean 'variance'"):
        Tensor("u", ("H",), varience=1)  # type: ignore[call-arg]


def test_numbers_are_coerced() -> None:
    assert Tensor("u", ["H", "p"], variance=1.0) == Tensor("u", ("H", "p"), variance=1)  # type: ignore[arg-type]
    assert Tensor("u", ("H",), variance=0.5) == Tensor("u", ("H",), variance=Fraction(1, 2))  # type: ignore[arg-type]
    assert pin(2.0) == Pinned(2)  # type: ignore[arg-type]
    assert repr(pin(2)) == "pin(2)"
