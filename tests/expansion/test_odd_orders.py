"""Odd order, one matrix: the front is that of exact blocks and of a search over contractions; the lazy limit is exact in p."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import lossflow as lf
from lossflow.diagrams.derivatives import graded_means
from lossflow.diagrams.polynomial import merge
from lossflow.diagrams.wick import mean
from lossflow.expansion.odd_orders import lazy_rates, lazy_weights, odd_block, odd_front
from lossflow.expansion.pareto import pareto_front, variance_power

REFERENCE = Path(__file__).parents[1] / "reference" / "diagrams.json"
PUBLISHED = json.loads(REFERENCE.read_text(encoding="utf-8"))["odd_sym_fronts"]

QUICK = {
    3: [(0, 2), (0, 5), (1, 2), (1, 6), (2, 0), (2, 1), (2, 2), (2, 4), (3, 0), (3, 2), (4, 0)],
    5: [(0, 4), (1, 2), (1, 4), (2, 0), (2, 2), (3, 0)],
    7: [(1, 0), (1, 4), (2, 0)],
}
DEEP = {3: [(1, 10), (1, 14), (2, 6), (3, 4), (5, 0)], 5: [(1, 6), (1, 10), (2, 4)], 7: [(1, 8), (2, 2)]}
BLOCKS = [
    pytest.param(order, *block, marks=marks, id=f"{order}-{block[0]}-{block[1]}")
    for blocks, marks in ((QUICK, []), (DEEP, [pytest.mark.slow]))
    for order, several in blocks.items()
    for block in several
]


@cache
def factors(order: int) -> dict[str, lf.DiagramPolynomial]:
    u = lf.Tensor("u", ("H", "p"))
    return {
        "D": lf.diagram(*(u(k, f"i{m}") for m in range(order) for k in "kl")),
        "R": lf.diagram(*[u("k", "i")] * order),
    }


@cache
def block(order: int, d: int, r: int) -> lf.DiagramPolynomial:
    """The sum of all left-nested mergers of d factors D and r factors R, in every order."""
    if d + r == 1:
        return factors(order)["D" if d else "R"]
    smaller = [("D", block(order, d - 1, r))] if d else []
    smaller += [("R", block(order, d, r - 1))] if r else []
    total = 0 * lf.diagram()
    for name, other in smaller:
        total += merge(other, factors(order)[name])
    return total


def front_of(points: set[tuple[int, int]]) -> set[tuple[int, int]]:
    return {(n, q) for n, q in pareto_front(points, (True, True))}


@pytest.mark.parametrize(("order", "d", "r"), BLOCKS)
def test_exact_blocks_have_the_front_of_the_theorem(order: int, d: int, r: int) -> None:
    """docs/theory/additions.md section 5; and no term is negative, so that nothing cancels."""
    exact = mean(block(order, d, r))
    p, H = exact.variables.index("p"), exact.variables.index("H")
    assert all(value > 0 for value in exact.terms.values())
    assert front_of({(e[H], e[p]) for e in exact.terms}) == odd_block(order, d, r)


TABLE = {
    3: [(1, 24), (2, 14), (3, 8), (4, 4), (6, 0)],
    5: [(1, 16), (2, 8), (3, 4), (4, 0)],
    7: [(1, 12), (2, 6), (3, 2)],
}


@pytest.mark.slow
@pytest.mark.parametrize(("order", "d", "r"), [(order, *most) for order, several in TABLE.items() for most in several])
def test_the_table_of_blocks(order: int, d: int, r: int) -> None:
    """docs/theory/additions.md section 5: every block with up to d squares and r cross terms."""
    seen = set()
    for grade, exact in graded_means(factors(order), {"D": d, "R": r}):
        p, H = exact.variables.index("p"), exact.variables.index("H")
        assert all(value > 0 for value in exact.terms.values())
        assert front_of({(e[H], e[p]) for e in exact.terms}) == odd_block(order, grade["D"], grade["R"]), grade
        seen.add((grade["D"], grade["R"]))
    assert len(seen) == (d + 1) * (r + 1) - 1


@pytest.mark.parametrize("order", [3, 5])
def test_published_blocks(order: int) -> None:
    """docs/theory/odd_order_and_descent.md section A: [n, q] of blocks "s_D,s_R"; some list only a part of the front."""
    for key, several in PUBLISHED[f"nu{order}"].items():
        assert {tuple(point) for point in several} <= odd_block(order, *map(int, key.split(","))), key


@pytest.mark.parametrize(
    ("order", "s"),
    [*((3, s) for s in range(4)), pytest.param(3, 5, marks=pytest.mark.slow), (5, 0), (5, 1), (5, 2), (7, 1)],
)
@pytest.mark.parametrize("target", [lf.Identity(), lf.Zero()])
def test_fronts_of_the_series(order: int, s: int, target: lf.AbstractTarget) -> None:
    """All of Y_s, whose blocks are told apart by the power of the variance."""
    computed = lf.expand(lf.CPDecomposition(order, target=target), s).pareto(s)
    assert computed == set(odd_front(order, s, target=target == lf.Identity()).values())


def set_partitions(count: int) -> Iterator[list[int]]:
    """Every way to sort `count` things into classes: the class of each, classes numbered by first appearance."""

    def extended(classes: list[int], used: int) -> Iterator[list[int]]:
        if len(classes) == count:
            yield classes
            return
        for c in range(used + 1):
            yield from extended([*classes, c], max(used, c + 1))

    return extended([], 0)


def parity_vectors(order: int, d: int) -> set[tuple[int, ...]]:
    """The parities of the edges of each p-node to the H-nodes (bits), for every tree of d squares."""
    found = {(0,)}
    for new in range(1, d + 1):
        found = {
            tuple(sorted([*vectors[:i], vectors[i] ^ tie, *vectors[i + 1 :], *[tie] * (order - 1)]))
            for vectors in found
            for k in range(new)
            for tie in [1 << k | 1 << new]
            for i in range(len(vectors))
        }
    return found


def search(order: int, d: int) -> dict[tuple[int, int], int]:
    """{(n, cost): most classes of p-nodes with n classes of H-nodes and `cost` odd pairs}, by trying everything."""
    best: dict[tuple[int, int], int] = {}
    for vectors in parity_vectors(order, d):
        for classes in set_partitions(d + 1):
            merged = [0] * len(vectors)
            for i, vector in enumerate(vectors):
                for k in range(d + 1):
                    merged[i] ^= (vector >> k & 1) << classes[k]
            odd = [vector for vector in merged if vector]
            for sorting in set_partitions(len(odd)):
                sums = [0] * (max(sorting, default=-1) + 1)
                for c, vector in zip(sorting, odd, strict=True):
                    sums[c] ^= vector
                key = (max(classes) + 1, sum(s.bit_count() for s in sums))
                best[key] = max(best.get(key, 0), len(sums) + len(merged) - len(odd))
    return best


@pytest.mark.parametrize(("order", "d"), [(3, 1), (3, 2), (3, 3), (5, 1), pytest.param(5, 2, marks=pytest.mark.slow)])
def test_a_search_over_all_contractions_finds_the_front(order: int, d: int) -> None:
    """For every number r of cross terms, until nothing is contracted any more: docs/theory/additions.md section 5."""
    best = search(order, d)
    for r in range(0, 2 + 2 * (order - 1) * d + 6, 2):
        points = {(n, q) for (n, cost), q in best.items() if cost <= r}
        assert front_of(points) == odd_block(order, d, r), r
    assert odd_block(order, d, 2 + 2 * (order - 1) * d) == {(d + 1, 1 + (order - 1) * d)}


def test_the_fronts_of_one_order_lie_in_no_plane() -> None:
    """Unlike those of even orders: docs/theory/odd_order_and_descent.md section A."""
    points = np.array([[*e, 1] for e in odd_front(3, 4).values()])
    assert np.linalg.matrix_rank(points) == 4


@pytest.mark.parametrize(("order", "highest"), [(3, 3), pytest.param(3, 4, marks=pytest.mark.slow), (5, 2), (7, 1)])
def test_the_lazy_limit_is_exact_at_every_p(order: int, highest: int) -> None:
    """The highest powers of H in Y_s: H^s beside two cross terms, H^(s+1) beside none. docs/theory/additions.md section 6."""
    series = lf.expand(lf.CPDecomposition(order), highest)
    for s in range(1, highest + 1):
        for p in (1, 2, 3, 8, Fraction(5, 2)):
            rates, weights = lazy_rates(order, p), lazy_weights(order, p)
            for part, d in enumerate((s - 1, s + 1)):  # from the target, from the start
                n, power = d + 1 - part, variance_power(order, s, d)
                exact = sum(c * p ** e[0] for e, c in series.coefficients[s].items() if e[1:] == (n, power))
                assert exact == sum(weights[k][part] * (-2 * rates[k]) ** s for k in rates) / 2


def test_the_rates_of_the_note() -> None:
    """docs/theory/odd_order_and_descent.md section A: 18 and 3 p + 24; shares p - 3p/(p+2), 3p/(p+2), and Q (p-1), 3 Q."""
    for p in (2, 5, 64):
        assert lazy_rates(3, p) == {3: 18, 1: 3 * p + 24}
        Q = p * (p + 4)
        assert lazy_weights(3, p) == {
            3: (p - Fraction(3 * p, p + 2), Q * (p - 1)),
            1: (Fraction(3 * p, p + 2), 3 * Q),
        }
    for order in (3, 5, 7, 9):
        for p in (1, 2, 7):
            weights = lazy_weights(order, p)
            assert sum(target for target, _ in weights.values()) == p
            assert sum(start for _, start in weights.values()) == np.prod(
                [p + 2 * i for i in range(order)], dtype=object
            )


def test_the_averaged_kernel_has_these_rates() -> None:
    """Monte Carlo of nu^2 Sym(u^(nu-1) x G u^(nu-1)) on a traceless and on a trace tensor, nu = 3, within 4 standard errors."""
    p, runs = 3, 200_000
    u = np.random.default_rng(11).standard_normal((runs, p))
    for degree, v in ((3, np.array([1.0, 1.0j, 0.0])), (1, np.array([0.0, 0.0, 1.0]))):
        # G(u) = (u.v)^3 with v.v = 0 is harmonic; |u|^2 (u.v) has degree 1. Its kernel, read off at the point w:
        w = np.array([0.3, -0.7, 1.1])
        values = (u @ v) ** 3 if degree == 3 else (u**2).sum(1) * (u @ v)
        slope = 3 * (u @ v) ** 2 * (w @ v) if degree == 3 else 2 * (u @ w) * (u @ v) + (u**2).sum(1) * (w @ v)
        at_w = (w @ v) ** 3 if degree == 3 else (w @ w) * (w @ v)
        assert values.shape == slope.shape
        ratio = (3 * (u @ w) ** 2 * slope / at_w).real
        expected = float(lazy_rates(3, p)[degree])
        assert abs(ratio.mean() - expected) < 4 * ratio.std() / runs**0.5


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: odd_block(4, 1, 1), "odd order"),
        (lambda: odd_block(1, 1, 1), "odd order >= 3"),
        (lambda: odd_block(3, 0, 0), "at least one factor"),
        (lambda: odd_block(3, -1, 2), "at least one factor"),
        (lambda: lazy_rates(2, 5), "odd order"),
        (lambda: lazy_weights(4, 5), "odd order"),
    ],
)
def test_what_makes_no_sense_is_refused(call: object, match: str) -> None:
    with pytest.raises(lf.InvalidInput, match=match):
        call()  # type: ignore[operator]
