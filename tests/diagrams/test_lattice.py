"""Hermite form is a normal form of lattices; Smith divisors count solutions modulo every p."""

from __future__ import annotations

import itertools
from math import gcd
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from lossflow.diagrams.lattice import divisors, hermite

matrices = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(st.integers(-4, 4), min_size=width, max_size=width), min_size=1, max_size=4)
)


def solutions(rows: list[list[int]], p: int) -> int:
    return sum(
        all(sum(c * x for c, x in zip(row, point, strict=True)) % p == 0 for row in rows)
        for point in itertools.product(range(p), repeat=len(rows[0]))
    )


@given(matrices)
def test_divisors_count_solutions(rows: list[list[int]]) -> None:
    found = divisors(rows)
    assert all(b % a == 0 for a, b in itertools.pairwise(found))
    for p in range(1, 7):
        product = p ** (len(rows[0]) - len(found))
        for d in found:
            product *= gcd(d, p)
        assert product == solutions(rows, p)


def test_divisors_of_four_modular_crosses() -> None:
    """The example of docs/theory/diagrams.md section 5: d = (1, 1, 1, 2); 8, 32, 72 solutions at p = 2, 4, 6, 9, 25 at 3, 5."""
    # nodes 1, 2, 1', 2', 1'', 2''; relations i + i' - i'' = 0
    rows = [[1, 0, 1, 0, -1, 0], [1, 0, 0, 1, 0, -1], [0, 1, 1, 0, 0, -1], [0, 1, 0, 1, -1, 0]]
    assert divisors(rows) == (1, 1, 1, 2)
    assert [solutions(rows, p) for p in (2, 3, 4, 5, 6)] == [8, 9, 32, 25, 72]


@given(matrices, st.randoms(use_true_random=False))
def test_hermite_form_belongs_to_the_lattice(rows: list[list[int]], random: Random) -> None:
    """Unimodular row operations do not change it, and it has the echelon shape that makes it unique."""
    form = hermite(rows)
    mixed = [list(row) for row in rows]
    for _ in range(6):
        i, j = random.randrange(len(mixed)), random.randrange(len(mixed))
        if i != j:
            times = random.randint(-2, 2)
            mixed[i] = [a + times * b for a, b in zip(mixed[i], mixed[j], strict=True)]
    random.shuffle(mixed)
    assert hermite(mixed) == form
    assert hermite(form) == form
    pivots = [next(k for k, c in enumerate(row) if c) for row in form]
    assert pivots == sorted(set(pivots))
    for row in form:
        for pivot, leading in zip(pivots, form, strict=True):
            assert row is leading or 0 <= row[pivot] < leading[pivot]
    assert divisors(form) == divisors(rows)


def test_different_lattices_have_different_forms() -> None:
    """All lattices spanned by two vectors with entries in -2..2: equal forms exactly if each contains the other's rows."""
    entries = list(itertools.product(range(-2, 3), repeat=2))
    spans = [(a, b) for a in entries for b in entries if a <= b]
    box = list(itertools.product(range(-3, 4), repeat=2))

    def members(rows: tuple[tuple[int, ...], tuple[int, ...]]) -> frozenset[tuple[int, ...]]:
        reach = range(-12, 13)
        (a, b), (c, d) = rows
        every = {(x * a + y * c, x * b + y * d) for x in reach for y in reach}
        return frozenset(point for point in box if point in every)

    by_form: dict[object, set[frozenset[tuple[int, ...]]]] = {}
    for rows in spans:
        by_form.setdefault(hermite(rows), set()).add(members(rows))
    assert all(len(found) == 1 for found in by_form.values())
    assert len(set().union(*by_form.values())) == len(by_form)
