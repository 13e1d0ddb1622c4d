"""Small combinatorial numbers and polynomials, in exact integers."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import comb, factorial


def log2_pairings(edges: int, singles: bool) -> float:
    """An upper bound, within one, of log2 of the number of ways to pair edges, and to leave some single if that is allowed."""
    ways = [1, 1 if singles else 0]
    for n in range(2, edges + 1):
        ways.append((n - 1) * ways[n - 2] + (ways[n - 1] if singles else 0))
    return float(max(ways[edges], 1).bit_length())


def bell_number(count: int) -> int:
    """The number of partitions of a set:  B_{n+1} = sum_k binomial(n, k) B_k."""
    bell = [1]
    for n in range(count):
        bell.append(sum(comb(n, k) * bell[k] for k in range(n + 1)))
    return bell[count]


def falling_factorial(m: int) -> list[int]:
    """Coefficients of x (x - 1) ... (x - m + 1)."""
    found = [1]
    for n in range(m):
        found = [(found[k - 1] if k else 0) - n * (found[k] if k < len(found) else 0) for k in range(len(found) + 1)]
    return found


def polynomial_through(values: Sequence[int]) -> list[int]:
    """The integer coefficients of the polynomial with these values at 0, 1, 2, ... .  Newton's differences, expanded."""
    differences = list(values)
    for k in range(1, len(values)):
        for j in range(len(values) - 1, k - 1, -1):
            differences[j] -= differences[j - 1]
    found = [Fraction(0)] * len(values)
    for k, difference in enumerate(differences):
        for power, coefficient in enumerate(falling_factorial(k)):
            found[power] += Fraction(difference * coefficient, factorial(k))
    return [int(coefficient) for coefficient in found]
