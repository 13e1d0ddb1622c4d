"""Exact moments of Wishart matrices at finite size: E tr W^m as a polynomial in both dimensions."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from math import lcm, prod


@cache
def trace_moment(m: int) -> dict[tuple[int, int], Fraction]:
    """E tr W^m for W = U^T U, U of H x p independent standard normal entries, as {(a, b): coefficient of p^a H^b}.

    The sum over partitions lambda of m without the box (3, 2), the only zonal polynomials with which the power sum p_m
    overlaps:  sum (2m / j_lambda) prod_{boxes but (1,1)} c(box) prod_{boxes} (p + c(box)) (H + c(box)),  where the content
    of the box (i, j) is c = 2(j-1) - (i-1) and j_lambda = prod (2 arm + leg + 1)(2 arm + leg + 2).
    O(m^2) terms. m >= 1. docs/theory/diagrams.md section 9 [YGG26v2].
    """
    from flint import fmpz_mat

    weights: list[Fraction] = []
    rising: list[list[int]] = []
    for shape in _shapes(m):
        contents = [2 * j - i for i, row in enumerate(shape) for j in range(row)]
        weights.append(Fraction(2 * m * prod(contents[1:]), _hook_product(shape)))
        rising.append(_product(contents))
    # one integer matrix product, sum_lambda weight_lambda rising_lambda(p) rising_lambda(H), over the common denominator
    common = lcm(*(weight.denominator for weight in weights))
    weighted = fmpz_mat([[int(weight * common) * x for x in row] for weight, row in zip(weights, rising, strict=True)])
    total = fmpz_mat(rising).transpose() * weighted
    return {(a, b): Fraction(int(total[a, b]), common) for a in range(m + 1) for b in range(m + 1) if int(total[a, b])}


def _shapes(m: int) -> Iterator[tuple[int, ...]]:
    """Partitions of m with at most one box in each row from the third on."""
    for first in range(m, 0, -1):
        rest = m - first
        if rest == 0:
            yield (first,)
        for second in range(min(first, rest), 0, -1):
            yield (first, second) + (1,) * (rest - second)


def _hook_product(shape: tuple[int, ...]) -> int:
    columns = [sum(1 for row in shape if row > j) for j in range(shape[0])]
    product = 1
    for i, row in enumerate(shape):
        for j in range(row):
            arm, leg = row - j - 1, columns[j] - i - 1
            product *= (2 * arm + leg + 1) * (2 * arm + leg + 2)
    return product


def _product(contents: list[int]) -> list[int]:
    """Coefficients of prod (x + c), lowest power first."""
    poly = [1]
    for c in contents:
        poly = [c * low + high for low, high in zip([*poly, 0], [0, *poly], strict=True)]
    return poly
