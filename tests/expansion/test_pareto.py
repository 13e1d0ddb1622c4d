"""Leading monomials: computed from all terms of the exact Y_s, they are those of the theorem, exceptions included."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lossflow as lf
from lossflow.expansion.pareto import identity_front, pareto_front, variance_power

# (order, symmetric): the highest s of a default run, and of a slow one
REACHED = {
    (2, True): (7, 12),
    (4, True): (2, 4),
    (6, True): (1, 2),
    (2, False): (5, 7),
    (3, False): (3, 5),
    (4, False): (2, 4),
    (5, False): (2, 3),
}
CASES = [
    pytest.param(*family, s, marks=[pytest.mark.slow] if s > quick else [], id=f"{family[0]}-{family[1]}-{s}")
    for family, (quick, deep) in REACHED.items()
    for s in range(deep + 1)
]

points = st.lists(st.tuples(*[st.integers(-3, 3)] * 3), min_size=1, max_size=30)


@given(points)
def test_a_front_is_what_nothing_dominates(exponents: list[tuple[int, ...]]) -> None:
    growing = (True, True, False)
    front = pareto_front(exponents, growing)
    for e in set(exponents):
        above = [o for o in exponents if o != e and o[2] == e[2] and o[0] >= e[0] and o[1] >= e[1]]
        assert (e in front) == (not above)


@given(points, st.permutations(range(3)))
def test_a_front_does_not_depend_on_the_order_of_variables(exponents: list[tuple[int, ...]], order: list[int]) -> None:
    growing = (True, False, True)
    moved = [tuple(e[k] for k in order) for e in exponents]
    expected = {tuple(e[k] for k in order) for e in pareto_front(exponents, growing)}
    assert pareto_front(moved, [growing[k] for k in order]) == expected


@pytest.mark.parametrize(("order", "symmetric", "s"), CASES)
def test_computed_fronts_are_the_theorem(order: int, symmetric: bool, s: int) -> None:
    """docs/theory/diagrams.md section 6 [YGG26v2]; the constant p/2 of s = 0 is extra, and left out by `pareto`."""
    series = lf.expand(lf.CPDecomposition(order, symmetric), s)
    theorem = identity_front(order, symmetric, s)
    assert series.pareto(s) == set(theorem.values())
    absent = set(itertools.product(range(1, s + 3), range(s + 2))) - set(theorem)
    for n, d in absent:  # nothing at all has n H-nodes and d squares, or what has is beyond n = d + 1
        power = variance_power(order, s, d)
        even = symmetric or (s + 1 - d) % 2 == 0
        found = [e for e in series.coefficients[s] if even and e[1:] == (n, power) and e != (1, 0, 0)]
        if n > d + 1 or not even:
            assert not found
        else:  # the corner (s + 2, s + 1) of several matrices
            assert (n, d, symmetric) == (s + 2, s + 1, False)
            assert not found


@pytest.mark.parametrize(("order", "symmetric", "s"), CASES[:: len(CASES) // 9])
def test_all_terms_of_one_block_have_one_sign(order: int, symmetric: bool, s: int) -> None:
    """(-1)^(s_R + s): no cancellation among diagrams with equal numbers of D and R."""
    series = lf.expand(lf.CPDecomposition(order, symmetric), s)
    for exponent, value in series.coefficients[s].items():
        if s == 0 and exponent == (1, 0, 0):
            value -= Fraction(1, 2)  # the constant p/2
            if not value:
                continue
        d = (2 * exponent[2] - (order - 2) * s) // order - 1
        assert (value > 0) == ((s + 1 - d + s) % 2 == 0)


def test_leading_exponents_lie_in_a_plane() -> None:
    """Normals (1, nu/2, (1-nu)/nu) and (1, nu-1, (1-nu)/nu) on (q, n, 2l), times nu."""
    for (order, symmetric), s in itertools.product(REACHED, range(5)):
        second = order * order // 2 if symmetric else order * (order - 1)
        normal = (order, second, 2 * (1 - order))
        values = {
            sum(a * b for a, b in zip(normal, e, strict=True)) for e in identity_front(order, symmetric, s).values()
        }
        assert len(values) == 1


def test_the_theorem_is_silent_on_odd_orders() -> None:
    with pytest.raises(lf.InvalidInput, match="even orders, got 3"):
        identity_front(3, True, 2)
