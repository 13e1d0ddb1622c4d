"""Recurrences of leading monomials, from the merge rules of leading contracted diagrams.

A leading contraction leaves bonds: pairs (H-node, p-node) joined by m_c edges of each color c. Merging D or R into an edge of a
bond replaces it and adds bonds, and each of the few ways to identify the new nodes that lead is found by enumeration. So a
step in s acts on the product of all bonds like a derivative, which is a recurrence of first order:

    d(bond)/dt = sum over edges and rules of  weight * p^a H^b * (bond with the edge replaced) * (new bonds)

docs/theory/diagrams.md sections 3, 6, 7 and 10 [YGG26v2].
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from lossflow.expansion.recurrence import Index, Recurrence
from lossflow.laws.wishart import trace_moment
from lossflow.problem import AbstractProblem
from lossflow.problems.cp import CPDecomposition
from lossflow.problems.targets import Identity, Zero

Bond = tuple[int, ...]  # how many edges of each color; sorted downward where the colors are alike
MIXED, SAME, NEW = "R", "same row", "new row"  # what a merger does: it adds R, or D with its H-nodes identified or not
FACES = {
    (True, "A"): (SAME,),
    (True, "B"): (NEW,),
    (True, "A-B"): (SAME, NEW),
    (True, "E"): (MIXED,),
    (True, "E-A"): (SAME, MIXED),
    (True, "B-E"): (NEW, MIXED),
    (True, "A-B-E"): (SAME, NEW, MIXED),
    (False, "A"): (SAME,),
    (False, "E-A"): (SAME, MIXED),
    (False, "C-D"): (NEW, MIXED),
}
LAZY = {"B": (True, False), "C": (False, True), "B-C": (True, True)}  # which of start and target the loss consists of


@dataclass(frozen=True)
class Rule:
    """One leading way to merge into an edge of a bond, or to contract a term of the loss.

    kind: R, same row or new row. weight: its number of ways, with sign. powers: of p and H that it adds. change: of the bond
    that the edge belongs to; bonds: the new ones.
    """

    kind: str
    weight: Fraction
    powers: tuple[int, int]
    change: Bond
    bonds: tuple[Bond, ...]


def leading_recurrence(
    order: int, symmetric: bool, regime: str, reach: int, scale: Fraction | int = 1
) -> Recurrence | None:
    """The recurrence of the leading coefficients of E L(t) on a face, without the constant c^2 p/2; None where none is known.

    variables: t, p, H and one for each kind of bond, whose value is its mean (see `bond_values`); lazy faces have t, p, H and s2,
    order 2 is known by rings (`ring_recurrence`). order: nu; regime: the face; reach: the highest s for which the kinds of bonds
    are kept; scale: c of the target c * identity.

    Symmetric even orders >= 4: "A", "B", "A-B", "E", "E-A", "B-E", "A-B-E"; asymmetric: "A", "E-A", "C-D" and the lazy "B", "C",
    "B-C" ("C": from s = 1 on). docs/theory/diagrams.md sections 7, 8 and 10 [YGG26v2].
    """
    scale = Fraction(scale)
    if not symmetric and regime in LAZY:
        return _lazy(order, *LAZY[regime], scale)
    kinds = FACES.get((symmetric, regime))
    if kinds is None or (symmetric and (order % 2 or order < 4)) or (MIXED in kinds and not scale):
        return None
    rules = [rule for rule in merge_rules(order, symmetric) if rule.kind in kinds]
    begin = [rule for rule in loss_terms(order, symmetric) if rule.kind in kinds]
    return _assembled(order, symmetric, rules, begin, reach, scale)


def bond_values(recurrence: Recurrence, p: Fraction, H: Fraction, sigma2: Fraction) -> dict[str, Fraction]:
    """The values of all variables but the time: the mean of a bond is prod_c (m_c - 1)!! sigma^m_c, zero if any m_c is odd."""
    values = {"p": Fraction(p), "H": Fraction(H), "s2": Fraction(sigma2)}
    found = {}
    for name in recurrence.variables[1:]:
        found[name] = values[name] if name in values else pairings(_bond(name)) * sigma2 ** (sum(_bond(name)) // 2)
    return found


def leading_polynomials(recurrence: Recurrence, order: int) -> list[dict[tuple[int, int, int], Fraction]]:
    """{powers of p, H, sigma2: coefficient of t^s} for s = 0 .. order: the leading monomials, with their bonds contracted."""
    found = []
    names = recurrence.variables[1:]
    for level in recurrence.coefficients(order):
        terms: dict[tuple[int, int, int], Fraction] = {}
        for n, c in level.items():
            given = dict(zip(names, n, strict=True))
            edges = 2 * given.pop("s2", 0)
            p, H = given.pop("p", 0), given.pop("H", 0)
            for name, count in given.items():
                c *= pairings(_bond(name)) ** count
                edges += count * sum(_bond(name))
            if c:
                terms[p, H, edges // 2] = terms.get((p, H, edges // 2), Fraction(0)) + c
        found.append({e: c for e, c in terms.items() if c})
    return found


def ring_recurrence(scale: Fraction | int = 1) -> Recurrence:
    """s C_{s,d} = 4 c (d+1) C_{s-1,d} - 4 d C_{s-1,d-1}  of  L(t) = sum C_{s,d} t^s tr W^(d+1), symmetric order 2.

    All diagrams are rings: merging D or R into one of the 2 m edges of a ring (weight -2 or +2 c) gives the ring with two edges
    more, or the same. Without the constant c^2 p/2. docs/theory/diagrams.md section 9 [YGG26v2].
    """
    scale, per_edge = Fraction(scale), Fraction(2)  # nu
    both = 2 * per_edge  # of the two edges for each power of W
    terms = {
        (0, 0): {(1, 0): Fraction(1)},
        (-1, 0): {(0, 0): -both * scale, (0, 1): -both * scale},
        (-1, -1): {(0, 0): both, (0, 1): both},
    }
    return Recurrence(("t", "z"), terms, {(0,): -scale, (1,): Fraction(1, 2)})


def ring_scale(problem: AbstractProblem) -> Fraction | None:
    """c of a target c * identity or zero of the symmetric problem of order 2, None for other problems."""
    match problem:
        case CPDecomposition(order=2, symmetric=True, target=Zero()):
            return Fraction(0)
        case CPDecomposition(order=2, symmetric=True, target=Identity(scale=scale)):
            return Fraction(scale)
    return None


def ring_values(scale: Fraction, order: int, p: Fraction, H: Fraction, sigma2: Fraction) -> tuple[Fraction, ...]:
    """(Y_0, ..., Y_order) of the symmetric problem of order 2 at finite sizes, exactly: rings and the moments of their traces.

    docs/theory/diagrams.md section 9 [YGG26v2].
    """
    rows, columns = ([(x.numerator if x.denominator == 1 else x) ** k for k in range(order + 3)] for x in (p, H))
    means = [Fraction(0)]
    for m in range(1, order + 3):
        inner: dict[int, int | Fraction] = {}
        for (a, b), c in trace_moment(m).items():  # the coefficients are whole numbers
            inner[a] = inner.get(a, 0) + c.numerator * columns[b]
        means.append(sigma2**m * sum(rows[a] * each for a, each in inner.items()))
    found = []
    for s, level in enumerate(_ring_levels(scale, order)):
        total = sum((c * means[d + 1] for (d,), c in level.items()), Fraction(0))
        found.append(math.factorial(s) * total + (scale**2 * p / 2 if s == 0 else 0))
    return tuple(found)


@lru_cache(maxsize=8)
def _ring_levels(scale: Fraction, order: int) -> list[dict[Index, Fraction]]:
    return ring_recurrence(scale).coefficients(order)


def pairings(bond: Bond) -> int:
    """prod_c (m_c - 1)!!, zero if any m_c is odd."""
    return 0 if any(m % 2 for m in bond) else math.prod(math.prod(range(m - 1, 0, -2)) for m in bond)


@lru_cache(maxsize=32)
def merge_rules(order: int, symmetric: bool) -> tuple[Rule, ...]:
    """The leading ways to merge D or R into an edge of the first color, for target scale 1.

    D replaces the edge (k, i) by (l, i) with a new row l, and joins k and l by nu - 1 new p-nodes, one for each other slot.
    Of all identifications of these nodes those lead that gain p^a H^b with a + slope b = nu - 1, the gradient of the front, and
    leave no bond odd that R could not mend (in one matrix R changes the number of edges by nu - 2, in nu matrices that of every
    color). docs/theory/diagrams.md sections 3 and 6 [YGG26v2].
    """
    slots, base = _slots(order, symmetric)
    others = tuple(a - b for a, b in zip(slots, base, strict=True))
    weight = Fraction(order if symmetric else 1)
    found = [Rule(MIXED, weight, (0, 0), tuple(a - b for a, b in zip(others, base, strict=True)), ())]
    legs = [base, *_others(order, symmetric)]  # the color of the edge to i, then those to the new p-nodes
    for kind, row_powers in ((SAME, 0), (NEW, 1)):
        ways: Counter[tuple[tuple[int, int], Bond, tuple[Bond, ...]]] = Counter()
        for classes in _partitions(range(len(legs))):
            if (len(classes) - 1) + _slope(order, symmetric) * row_powers != order - 1:
                continue
            old_row = [[leg for leg in members if leg] for members in classes]  # k lost its edge to i, the leg 0
            new_row = classes
            change, bonds = [-x for x in base], []
            for a, b in zip(old_row, new_row, strict=True):
                here, there = _edges(legs, a), _edges(legs, b)
                joined = [tuple(x + y for x, y in zip(here, there, strict=True))] if kind == SAME else [here, there]
                if 0 in b:
                    change = [x + y for x, y in zip(change, joined[0], strict=True)]
                    joined = joined[1:]
                bonds += joined
            if all(_mended(each, symmetric) for each in (*bonds, tuple(change))):
                ways[(len(classes) - 1, row_powers), tuple(change), tuple(sorted(map(_kind, bonds)))] += 1
        found += [Rule(kind, -weight * count, *key) for key, count in ways.items()]
    return tuple(found)


@lru_cache(maxsize=32)
def loss_terms(order: int, symmetric: bool) -> tuple[Rule, ...]:
    """The leading contractions of L = D/2 - R, by the same criterion. docs/theory/diagrams.md section 6 [YGG26v2]."""
    slots, _ = _slots(order, symmetric)
    found = [Rule(MIXED, Fraction(-1), (1, 1), (), (slots,))]
    legs = _legs(order, symmetric)
    for kind, rows in ((SAME, 1), (NEW, 2)):
        ways: Counter[tuple[tuple[int, int], tuple[Bond, ...]]] = Counter()
        for classes in _partitions(range(order)):
            if len(classes) - 1 + _slope(order, symmetric) * (rows - 1) != order - 1:
                continue
            edges = [_edges(legs, members) for members in classes]
            bonds = [tuple(2 * x for x in each) for each in edges] if kind == SAME else [*edges, *edges]
            if all(_mended(each, symmetric) for each in bonds):
                ways[(len(classes), rows), tuple(sorted(map(_kind, bonds)))] += 1
        found += [Rule(kind, Fraction(count, 2), powers, (), bonds) for (powers, bonds), count in ways.items()]
    return tuple(found)


def _assembled(
    order: int, symmetric: bool, rules: Sequence[Rule], begin: Sequence[Rule], reach: int, scale: Fraction
) -> Recurrence:
    """The derivation on products of bonds as a recurrence, with the kinds of bonds that `reach` steps lead to."""
    kinds: dict[Bond, None] = {bond: None for rule in (*begin, *rules) for bond in rule.bonds}
    latest = list(kinds)
    for _ in range(reach):
        latest = list(dict.fromkeys(to for bond in latest for to, _, _ in _replaced(bond, rules) if to not in kinds))
        kinds.update(dict.fromkeys(latest))
    names = ["t", "p", "H", *map(_name, kinds)]
    place = {name: j for j, name in enumerate(names)}

    def index(powers: tuple[int, int], bonds: Sequence[Bond]) -> Index:
        found = [0, *powers] + [0] * len(kinds)
        for bond in bonds:
            found[place[_name(bond)]] += 1
        return tuple(found)

    zero = (0,) * len(names)
    terms: dict[Index, dict[Index, Fraction]] = {zero: {_unit(0, len(names)): Fraction(1)}}
    for bond in kinds:
        own = place[_name(bond)]
        for to, rule, edges in _replaced(bond, rules):
            if to not in kinds:
                continue
            gain = index(rule.powers, (*rule.bonds, to))
            # d/dt x_own = c * prod: the monomial n comes from n + k with k = e_own - gain, in C_{n+k} * (index of own)
            step = tuple((j == own) - x - (j == 0) for j, x in enumerate(gain))
            factor = -rule.weight * edges * (scale if rule.kind == MIXED else 1)
            polynomial = terms.setdefault(step, {})
            unit = _unit(own, len(names))
            polynomial[unit] = polynomial.get(unit, Fraction(0)) + factor
    start: dict[Index, Fraction] = {}
    for rule in begin:
        n = index(rule.powers, [_kind(bond) for bond in rule.bonds])[1:]
        start[n] = start.get(n, Fraction(0)) + rule.weight * (scale if rule.kind == MIXED else 1)
    closed = all(rule.kind != MIXED for rule in rules)
    return Recurrence(tuple(names), terms, start, reach=None if closed else reach)


def _replaced(bond: Bond, rules: Sequence[Rule]) -> Iterator[tuple[Bond, Rule, int]]:
    """(the bond after it, the rule, number of edges): mergers into each color of a bond; rules are spelled for the first one."""
    for color, edges in enumerate(bond):
        if edges:
            for rule in rules:
                change = (rule.change[0], *rule.change[1:])
                moved = list(change[1:])
                moved.insert(color, change[0])  # the other colors are alike
                yield _kind(tuple(a + b for a, b in zip(bond, moved, strict=True))), rule, edges


def _lazy(order: int, start: bool, target: bool, scale: Fraction) -> Recurrence:
    """A kernel that does not move: merging along one of nu colors of either residual, the other edges of the row pair up.

    d/dt 1/2 |f - F|^2 = -2 nu H sigma^(2 nu - 2) * 1/2 |f - F|^2.
    """
    residuals, colors = 2, order
    rate = Fraction(residuals * colors)
    terms = {(0, 0, 0, 0): {(1, 0, 0, 0): Fraction(1)}, (-1, 0, -1, 1 - order): {(0, 0, 0, 0): rate}}
    begin = {}
    if start:
        begin[(order, 1, order)] = Fraction(1, 2)  # the mean of 1/2 |f(0)|^2
    if target:
        begin[(1, 0, 0)] = scale**2 / 2
    return Recurrence(("t", "p", "H", "s2"), terms, begin)


def _slots(order: int, symmetric: bool) -> tuple[Bond, Bond]:
    """The edges of R, and of one slot (of the first color)."""
    return ((order,), (1,)) if symmetric else ((1,) * order, (1, *(0,) * (order - 1)))


def _legs(order: int, symmetric: bool) -> list[Bond]:
    return [(1,)] * order if symmetric else [_unit(c, order) for c in range(order)]


def _others(order: int, symmetric: bool) -> list[Bond]:
    return _legs(order, symmetric)[1:]


def _slope(order: int, symmetric: bool) -> Fraction:
    """What one power of H is worth in powers of p, on the plane of the leading monomials."""
    return Fraction(order, 2) if symmetric else Fraction(order - 1)


def _edges(legs: Sequence[Bond], members: Sequence[int]) -> Bond:
    return tuple(sum(legs[leg][c] for leg in members) for c in range(len(legs[0])))


def _mended(bond: Bond, symmetric: bool) -> bool:
    """Whether no color is odd, or (in nu matrices) all are, which one R repairs."""
    parities = {m % 2 for m in bond}
    return parities == {0} or (not symmetric and parities == {1})


def _partitions(items: Sequence[int]) -> Iterator[list[list[int]]]:
    """All partitions of a sequence into classes."""
    items = list(items)
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for size in range(len(rest) + 1):
        for others in itertools.combinations(rest, size):
            left = [x for x in rest if x not in others]
            for classes in _partitions(left):
                yield [[first, *others], *classes]


def _kind(bond: Bond) -> Bond:
    return tuple(sorted(bond, reverse=True))


def _name(bond: Bond) -> str:
    return "z" + "_".join(map(str, bond))


def _bond(name: str) -> Bond:
    return tuple(map(int, name[1:].split("_")))


def _unit(place: int, length: int) -> Index:
    return tuple(int(j == place) for j in range(length))


__all__ = [
    "bond_values",
    "leading_polynomials",
    "leading_recurrence",
    "loss_terms",
    "merge_rules",
    "ring_recurrence",
    "ring_scale",
    "ring_values",
]
