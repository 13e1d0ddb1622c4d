"""Long integers as digits, and the small numbers of combinatorics, against Python's own integers and enumeration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossflow.diagrams.counting import bell_number, falling_factorial, log2_pairings, polynomial_through
from lossflow.diagrams.long_integers import digits_of, extended, floats_of, integers_of, shortened

LONG = st.lists(st.integers(-(2**95), 2**95 - 1), min_size=1, max_size=5)


@given(LONG, st.integers(3, 6))
def test_integers_survive_their_digits(values: list[int], digits: int) -> None:
    words = digits_of(values, digits)
    assert integers_of(words) == values
    assert integers_of(extended(words, digits + 2)) == values
    assert integers_of(shortened(words)) == values
    assert floats_of(words) == pytest.approx([float(value) for value in values], rel=1e-15, abs=0)


@given(LONG)
def test_no_digit_is_left_that_only_repeats_the_sign(values: list[int]) -> None:
    needed = max(1, *((value if value >= 0 else ~value).bit_length() // 32 + 1 for value in values))
    assert shortened(digits_of(values, 6)).shape[1] == needed


def test_unsigned_numbers_are_extended_by_zeros() -> None:
    assert integers_of(extended(np.array([[2**32 - 1]], np.uint32), 2, signed=False)) == [2**32 - 1]


def partitions(elements: list[int]) -> int:
    """Counted one by one."""
    if not elements:
        return 1
    found, rest = 0, elements[1:]
    for mask in range(1 << len(rest)):
        found += partitions([e for k, e in enumerate(rest) if not mask >> k & 1])
    return found


def test_small_numbers() -> None:
    assert [bell_number(n) for n in range(8)] == [partitions(list(range(n))) for n in range(8)]
    for m in range(6):
        for x in range(8):
            assert sum(c * x**k for k, c in enumerate(falling_factorial(m))) == math.perm(x, m)
    for edges in range(2, 20, 2):
        exact = math.log2(math.prod(range(edges - 1, 0, -2)))
        assert exact < log2_pairings(edges, singles=False) <= exact + 1
    for edges, involutions in ((3, 4), (4, 10), (10, 9496)):
        assert math.log2(involutions) < log2_pairings(edges, singles=True) <= math.log2(involutions) + 1


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=6))
def test_a_polynomial_is_known_by_its_values(coefficients: list[int]) -> None:
    values = [sum(c * x**k for k, c in enumerate(coefficients)) for x in range(len(coefficients) + 1)]
    assert polynomial_through(values) == [*coefficients, 0]
