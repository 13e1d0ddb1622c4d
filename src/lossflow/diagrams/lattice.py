"""Integer lattices of linear relations: Hermite form (a normal form of the relations), Smith divisors (counts solutions)."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

Rows = tuple[tuple[int, ...], ...]


def hermite(rows: Sequence[Sequence[int]]) -> Rows:
    """The Hermite normal form of the lattice spanned by `rows`: equal exactly for equal lattices.

    Echelon form with positive pivots; entries above a pivot d lie in 0..d-1; zero rows are dropped.
    """
    work = [list(row) for row in rows]
    done = 0
    for column in range(len(work[0]) if work else 0):
        while True:
            live = [row for row in work[done:] if row[column]]
            if len(live) < 2:
                break
            smallest = min(live, key=lambda row: abs(row[column]))
            for row in live:
                if row is not smallest:
                    _subtract(row, smallest, row[column] // smallest[column])
        if not live:
            continue
        pivot = live[0]
        position = next(k for k in range(done, len(work)) if work[k] is pivot)
        work[done], work[position] = pivot, work[done]
        if pivot[column] < 0:
            pivot[:] = [-c for c in pivot]
        for row in work[:done]:
            _subtract(row, pivot, row[column] // pivot[column])
        done += 1
    return tuple(tuple(row) for row in work[:done])


def divisors(rows: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The Smith invariants d_1 | d_2 | ... | d_r > 0 of an integer matrix of rank r.

    The system  rows x = 0 mod p  in q unknowns has  p^(q-r) prod_j gcd(d_j, p)  solutions, for every p >= 1.
    """
    work = [list(row) for row in rows if any(row)]
    found: list[int] = []
    while work:
        _, i, j = min((abs(c), i, j) for i, row in enumerate(work) for j, c in enumerate(row) if c)
        pivot = work[i]
        d = pivot[j]
        for row in work:
            if row is not pivot:
                _subtract(row, pivot, row[j] // d)
        for column in range(len(pivot)):
            quotient = pivot[column] // d if column != j else 0
            if quotient:
                for row in work:
                    row[column] -= quotient * row[j]
        if any(row[j] for row in work if row is not pivot) or any(c for k, c in enumerate(pivot) if k != j):
            continue  # a smaller remainder appeared: it is the next pivot
        found.append(abs(d))
        work = [row for row in work if row is not pivot and any(row)]
    for k in range(len(found)):  # diagonal, now make each divide the next: (a, b) -> (gcd, lcm)
        for m in range(k + 1, len(found)):
            a, b = found[k], found[m]
            found[k], found[m] = gcd(a, b), a * b // gcd(a, b)
    return tuple(found)


def _subtract(row: list[int], other: list[int], times: int) -> None:
    if times:
        for k, c in enumerate(other):
            row[k] -= times * c
