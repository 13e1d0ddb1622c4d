"""A series at random sizes: the numbers of independent coordinates in classes, averaged exactly.

Given these numbers the coordinates of one class are alike, and the series is a polynomial in the numbers; their law is
multinomial, with  E prod_k (N_k)_{i_k} = (d)_{sum i} prod_k q_k^{i_k}  for falling factorials (x)_i = x (x-1) .. (x-i+1).
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from itertools import product
from math import perm, prod

from lossflow.diagrams.wick import SizePolynomial
from lossflow.errors import InvalidInput
from lossflow.expansion.series import LossSeries


def mean_over_sizes(
    series: LossSeries, sizes: Mapping[str, Fraction], count: int, probabilities: Mapping[str, Fraction]
) -> tuple[Fraction, ...]:
    """(Y_0, ..., Y_order), averaged over the sizes named in `probabilities`: how many of `count` draws fall into each class.

    sizes: the values of all other variables. Powers of random sizes are >= 0 in every series of diagrams.
    Raises `InvalidInput` for a series with assumptions, which some of the random sizes might break.
    """
    if series.assumptions:
        raise InvalidInput(
            f"a series that assumes {', '.join(series.assumptions)} cannot be averaged over random sizes"
        )
    fixed = [name not in probabilities for name in series.variables]
    known = tuple(name for name, keep in zip(series.variables, fixed, strict=True) if keep)
    chances = tuple(probabilities[name] for name, keep in zip(series.variables, fixed, strict=True) if not keep)
    means = []
    for y in series.coefficients:
        by_power: dict[tuple[int, ...], dict[tuple[int, ...], Fraction]] = {}
        for exponents, c in y.items():
            powers = tuple(e for e, keep in zip(exponents, fixed, strict=True) if not keep)
            by_power.setdefault(powers, {})[tuple(e for e, keep in zip(exponents, fixed, strict=True) if keep)] = c
        total = Fraction(0)
        for powers, terms in by_power.items():
            total += multinomial_moment(count, chances, powers) * SizePolynomial(known, terms).at(sizes)
        means.append(total)
    return tuple(means)


@cache
def multinomial_moment(count: int, probabilities: tuple[Fraction, ...], powers: tuple[int, ...]) -> Fraction:
    """E prod_k N_k^powers[k]  for the numbers N_k of `count` independent draws in classes of these probabilities."""
    total = Fraction(0)
    for orders in product(*(range(power + 1) for power in powers)):
        ways = prod(stirling(power, order) for power, order in zip(powers, orders, strict=True))
        if ways:
            chance = prod((q**order for q, order in zip(probabilities, orders, strict=True)), start=Fraction(1))
            total += ways * perm(count, sum(orders)) * chance
    return total


@cache
def stirling(n: int, k: int) -> int:
    """The number of partitions of n things into k nonempty sets: x^n = sum_k stirling(n, k) (x)_k."""
    if n == k:
        return 1
    if k == 0 or k > n:
        return 0
    return k * stirling(n - 1, k) + stirling(n - 1, k - 1)
