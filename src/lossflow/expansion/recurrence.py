"""Recurrences between the coefficients of a generating function: their values to any order, and what they are guessed from.

    sum_k P_k(n + k) C_{n+k} = 0  for all n in Z^d,     C = 0 off N_0^d,     h(x) = sum_n C_n x^n

The first of the variables is the time t: its index s goes up from the coefficients `start` of t^0. The same recurrence as a
differential equation: `pde`; its solution along curves: `characteristics`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from lossflow.errors import InvalidInput
from lossflow.trajectory import FrozenMapping

if TYPE_CHECKING:
    from lossflow.expansion.characteristics import Characteristics
    from lossflow.expansion.pde import PDE

Index = tuple[int, ...]
Polynomial = Mapping[Index, Fraction]
Level = dict[Index, Fraction]

GUESSED_STEPS = 3  # how far back, and
GUESSED_DEGREE = 3  # of which degree, recurrences are looked for


@dataclass(frozen=True)
class Recurrence:
    """sum_k P_k(n + k) C_{n+k} = 0  for all n,  so that  sum_k x^{-k} P_k(x d/dx) h = 0  for  h(x) = sum_n C_n x^n.

    variables: names of x, the time first. terms: {k: P_k}, each P_k = {powers: coefficient} a polynomial in the index that its C
    carries; one k has no step in time, k = 0, all others go back, k_0 < 0. start: {index without s: C} at s = 0.
    verified_to: the order up to which a guessed recurrence was compared, None for a derived one. reach: the last order that
    these variables suffice for, where only the first of infinitely many were kept; None where all are there.
    Raises `InvalidInput` for terms that do not determine the coefficients. docs/theory/diagrams.md section 7 [YGG26v2].
    """

    variables: tuple[str, ...]
    terms: Mapping[Index, Polynomial]
    start: Mapping[Index, Fraction]
    verified_to: int | None = None
    reach: int | None = None

    def __post_init__(self) -> None:
        terms = {
            tuple(k): FrozenMapping({tuple(e): Fraction(c) for e, c in polynomial.items() if c})
            for k, polynomial in self.terms.items()
        }
        object.__setattr__(self, "variables", tuple(self.variables))
        object.__setattr__(self, "terms", FrozenMapping({k: each for k, each in terms.items() if each}))
        start = {tuple(n): Fraction(c) for n, c in self.start.items() if c}
        object.__setattr__(self, "start", FrozenMapping(start))
        count = len(self.variables)
        if not count or any(len(k) != count for k in (*self.terms, *(e for P in self.terms.values() for e in P))):
            raise InvalidInput(f"each index of a recurrence in {', '.join(self.variables)} needs {count} entries")
        if any(len(n) != count - 1 for n in self.start):
            raise InvalidInput(f"each index of the start needs {count - 1} entries: that of the time is 0")
        if (0,) * count not in self.terms or any(k[0] >= 0 for k in self.terms if any(k)):
            raise InvalidInput(
                "a recurrence is solved for the newest coefficient: it needs the term k = 0, and k_0 < 0 in all others; got "
                + ", ".join(map(str, self.terms))
            )

    def __hash__(self) -> int:
        return hash((self.variables, frozenset(self.terms), frozenset(self.start.items())))

    def coefficients(self, order: int) -> list[Level]:
        """[{index without s: C}] for s = 0 .. order, exactly. Raises `InvalidInput` beyond `reach`."""
        self._require(order)
        newest = self.terms[(0,) * len(self.variables)]
        levels: list[Level] = [dict(self.start)]
        for s in range(1, order + 1):
            found: Level = {}
            for k, P in self.terms.items():
                if k[0] == 0 or s + k[0] < 0:
                    continue
                for n, c in levels[s + k[0]].items():
                    to = tuple(a - b for a, b in zip(n, k[1:], strict=True))
                    value = _value(P, (s + k[0], *n)) if min(to, default=0) >= 0 else Fraction(0)
                    if value:
                        found[to] = found.get(to, Fraction(0)) - value * c
            levels.append({n: c / self._divisor(newest, (s, *n)) for n, c in found.items() if c})
        return levels

    def series(self, order: int, values: Mapping[str, int | Fraction] | None = None) -> list[Fraction]:
        """The coefficients of t^0 .. t^order of h at given values of the other variables, exactly.

        By the power series of the characteristics where the recurrence is of first order with coefficients that do not
        depend on t, which takes thousands of variables; else from all C.
        Raises `InvalidInput` for missing values, and beyond `reach`.
        """
        self._require(order)
        point = self._point(values or {})
        curves = self.characteristics() if self.degree == 1 else None
        if curves is not None and curves.autonomous:
            return curves.taylor(order, point, self.start)
        return [
            sum((c * _power(point, n) for n, c in level.items()), Fraction(0)) for level in self.coefficients(order)
        ]

    @property
    def degree(self) -> int:
        """The highest degree of the polynomials P_k: the order of the differential equation."""
        return max(sum(e) for P in self.terms.values() for e in P)

    def to_pde(self) -> PDE:
        """sum_k x^{-k} P_k(x d/dx) h = 0."""
        from lossflow.expansion.pde import PDE

        return PDE(self)

    def characteristics(self) -> Characteristics:
        """The curves along which a first-order equation is an ordinary one. Raises `InvalidInput` for higher orders."""
        from lossflow.expansion.characteristics import characteristics

        return characteristics(self)

    def along(self, variable: str, intercept: int, slope: int) -> Recurrence:
        """The recurrence of C_{s, intercept + slope s, ...}, for a `variable` whose index is bound to s by homogeneity.

        Raises `InvalidInput` where start or steps leave this line.
        """
        place = self.variables.index(variable)
        if any(k[place] != slope * k[0] for k in self.terms) or any(n[place - 1] != intercept for n in self.start):
            raise InvalidInput(f"the index of {variable!r} is not {intercept} + {slope} s: a step leaves the line")
        terms: dict[Index, dict[Index, Fraction]] = {}
        for k, P in self.terms.items():
            on_line: dict[Index, Fraction] = {}
            for e, c in P.items():
                rest = [*e[:place], *e[place + 1 :]]
                for j in range(e[place] + 1):  # (intercept + slope s)^m
                    power = (rest[0] + j, *rest[1:])
                    share = math.comb(e[place], j) * slope**j * intercept ** (e[place] - j)
                    on_line[power] = on_line.get(power, Fraction(0)) + c * share
            terms[k[:place] + k[place + 1 :]] = on_line
        start = {n[: place - 1] + n[place:]: c for n, c in self.start.items()}
        return replace(self, variables=self.variables[:place] + self.variables[place + 1 :], terms=terms, start=start)

    @classmethod
    def guess(
        cls,
        series: Sequence[Any],
        *,
        variables: Sequence[str] | None = None,
        steps: Iterable[Index] | None = None,
        degree: int | None = None,
    ) -> Recurrence:
        """The simplest recurrence of the coefficients C_s, or C_{s, n}, fitted to the first and verified on the rest.

        series: for s = 0, 1, ... a number, or a mapping {index: number}; exact ones, since a recurrence holds exactly or not
        at all. steps: the k to be used, degree: of the P_k; None tries 1, 2, 3 steps back and degrees to 3 in turn. variables:
        their names. The result carries `verified_to`, the last order of the series; at least two orders are never fitted to.
        Raises `InvalidInput` where none fits, or the series is too short to tell.
        """
        table, names = _table(series, variables)
        last = len(series) - 1
        chosen = None if steps is None else tuple(dict.fromkeys(((0,) * len(names), *map(tuple, steps))))
        for ansatz in _ansaetze(len(names), chosen, degree):
            found = _fitted(table, ansatz, last)
            if found is not None:
                start = {n[1:]: c for n, c in table.items() if n[0] == 0}
                return cls(names, found, start, verified_to=last)
        looked = f"{'these' if steps else f'up to {GUESSED_STEPS}'} steps and degree {degree or GUESSED_DEGREE}"
        raise InvalidInput(
            f"no recurrence with {looked} is fixed by orders 0 .. {last - 2} and holds for two more; give more orders or "
            "other steps"
        )

    def _require(self, order: int) -> None:
        if order < 0:
            raise InvalidInput(f"the order must be >= 0, got {order}")
        if self.reach is not None and order > self.reach:
            raise InvalidInput(f"this recurrence has the variables for orders to {self.reach} only, asked for {order}")

    def _point(self, values: Mapping[str, int | Fraction]) -> tuple[Fraction, ...]:
        missing = [name for name in self.variables[1:] if name not in values]
        if missing:
            raise InvalidInput(f"values are missing for {', '.join(missing)}")
        return tuple(Fraction(values[name]) for name in self.variables[1:])

    def _divisor(self, newest: Polynomial, n: Index) -> Fraction:
        value = _value(newest, n)
        if not value:
            raise InvalidInput(f"the recurrence does not determine the coefficient at {n}: its factor vanishes there")
        return value


def _value(P: Polynomial, n: Index) -> Fraction:
    total = Fraction(0)
    for e, c in P.items():
        for base, power in zip(n, e, strict=True):
            if power:
                c = c * base**power
        total += c
    return total


def _power(point: Sequence[Fraction], n: Index) -> Fraction:
    return math.prod((x**e for x, e in zip(point, n, strict=True) if e), start=Fraction(1))


def _table(series: Sequence[Any], variables: Sequence[str] | None) -> tuple[Level, tuple[str, ...]]:
    if len(series) < 4:
        raise InvalidInput(f"a guess needs at least four orders, got {len(series)}")
    table: Level = {}
    for s, each in enumerate(series):
        level = each if isinstance(each, Mapping) else {(): each}
        for n, c in level.items():
            if isinstance(c, float):
                raise InvalidInput(f"a recurrence is guessed from exact numbers, got the float {c!r} at order {s}")
            table[(s, *n)] = Fraction(c)
    widths = {len(n) for n in table}
    if len(widths) != 1:
        raise InvalidInput("all coefficients of a series need indices of one length")
    width = widths.pop()
    names = tuple(variables) if variables is not None else ("t", *(f"x{j}" for j in range(1, width)))
    if len(names) != width:
        raise InvalidInput(f"{width} variables are needed, the time first; got {', '.join(names)}")
    return table, names


Ansatz = tuple[tuple[Index, ...], tuple[Index, ...]]


def _ansaetze(width: int, steps: tuple[Index, ...] | None, degree: int | None) -> list[Ansatz]:
    """(steps, monomials of the P_k), the ones with fewest unknowns first."""
    choices = [steps] if steps is not None else [_box(width, reach) for reach in range(1, GUESSED_STEPS + 1)]
    degrees = [degree] if degree is not None else list(range(GUESSED_DEGREE + 1))
    found = []
    for each in choices:
        for highest in degrees:
            powers = [e for e in itertools.product(range(highest + 1), repeat=width) if sum(e) <= highest]
            found.append((each, tuple(powers)))
    return sorted(found, key=lambda ansatz: len(ansatz[0]) * len(ansatz[1]))


def _box(width: int, reach: int) -> tuple[Index, ...]:
    back = [k for k in itertools.product(range(-reach, 1), repeat=width) if k[0] < 0]
    return ((0,) * width, *sorted(back, key=lambda k: (-sum(k), k)))


def _fitted(table: Level, ansatz: Ansatz, last: int) -> dict[Index, dict[Index, Fraction]] | None:
    """A solution of the equations of all orders but two, more of them than unknowns, that also solves those of these two.

    The factor of the newest coefficient is a polynomial in s alone. None where there is no solution, or where those of the
    lower orders do not all hold on.
    """
    steps, powers = ansatz
    unknowns = [(k, e) for k in steps for e in powers if any(k) or not any(e[1:])]
    places = {tuple(a - b for a, b in zip(n, k, strict=True)) for n in table for k in steps}
    fit, rest = [], []
    for n in sorted(places):
        if 0 <= n[0] <= last:
            at = {k: tuple(a + b for a, b in zip(n, k, strict=True)) for k in steps}
            row = [table.get(at[k], Fraction(0)) * _power([Fraction(x) for x in at[k]], e) for k, e in unknowns]
            (fit if n[0] <= last - 2 else rest).append(row)
    if len(fit) < len(unknowns):
        return None
    kernel = _kernel(fit, len(unknowns))
    if any(sum(a * b for a, b in zip(row, solution, strict=True)) for row in rest for solution in kernel):
        return None
    for solution in kernel:
        found: dict[Index, dict[Index, Fraction]] = {}
        for (k, e), c in zip(unknowns, solution, strict=True):
            if c:
                found.setdefault(k, {})[e] = c
        if steps[0] in found and len(found) > 1:
            return found
    return None


def _kernel(rows: Sequence[Sequence[Fraction]], width: int) -> list[list[Fraction]]:
    """A basis of the vectors that all rows are orthogonal to."""
    from flint import fmpq, fmpq_mat

    entries = [fmpq(x.numerator, x.denominator) for row in rows for x in row]
    reduced, rank = fmpq_mat(len(rows), width, entries).rref()
    pivots = [next(j for j in range(width) if reduced[i, j]) for i in range(rank)]
    basis = []
    for free in (j for j in range(width) if j not in pivots):
        vector = [Fraction(0)] * width
        vector[free] = Fraction(1)
        for i, pivot in enumerate(pivots):
            vector[pivot] = -Fraction(int(reduced[i, free].p), int(reduced[i, free].q))
        common = math.lcm(*(x.denominator for x in vector))
        divisor = math.gcd(*(int(x * common) for x in vector)) or 1
        basis.append([x * common / divisor for x in vector])
    return basis


__all__ = ["Recurrence"]
