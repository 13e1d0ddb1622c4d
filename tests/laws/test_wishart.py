"""Exact trace moments of Wishart matrices against the chi-squared law, Narayana numbers and explicit expectations."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest

from lossflow.laws.wishart import trace_moment


def _at(m: int, p: int, H: int) -> Fraction:
    return sum((c * p**a * H**b for (a, b), c in trace_moment(m).items()), Fraction(0))


@pytest.mark.parametrize("m", range(1, 13))
def test_one_column_is_a_chi_squared_variable(m: int) -> None:
    """p = 1: tr W^m = (chi^2_H)^m, with moments H (H+2) ... (H + 2m - 2)."""
    for H in (1, 2, 3, 7):
        assert _at(m, 1, H) == math.prod(H + 2 * k for k in range(m))


@pytest.mark.parametrize("m", range(1, 13))
def test_both_dimensions_play_the_same_part(m: int) -> None:
    moment = trace_moment(m)
    assert moment == {(b, a): c for (a, b), c in moment.items()}


@pytest.mark.parametrize("m", range(1, 13))
def test_the_leading_terms_are_narayana_numbers(m: int) -> None:
    """For p and H growing together: coefficient of p^(m+1-n) H^n is N(m, n) = binom(m, n) binom(m, n-1) / m."""
    for n in range(1, m + 1):
        assert trace_moment(m)[m + 1 - n, n] == Fraction(math.comb(m, n) * math.comb(m, n - 1), m)
    assert max(a + b for a, b in trace_moment(m)) == m + 1


def _gaussian_moment(power: int) -> int:
    return 0 if power % 2 else math.prod(range(1, power, 2))


@pytest.mark.parametrize(("m", "p", "H"), [(2, 2, 2), (3, 2, 2), (2, 3, 2), (3, 3, 1), (3, 2, 3), (4, 2, 2)])
def test_small_cases_entry_by_entry(m: int, p: int, H: int) -> None:
    """E tr W^m summed over all index paths k1 i1 k2 i2 ..., each a product of moments of single entries."""
    total = 0
    for rows in itertools.product(range(H), repeat=m):
        for columns in itertools.product(range(p), repeat=m):
            powers: dict[tuple[int, int], int] = {}
            for j in range(m):
                for entry in ((rows[j], columns[j]), (rows[j], columns[(j + 1) % m])):
                    powers[entry] = powers.get(entry, 0) + 1
            total += math.prod(map(_gaussian_moment, powers.values()))
    assert _at(m, p, H) == total
