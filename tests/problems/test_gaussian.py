"""Averages over Gaussian variables against closed forms, kinks and jumps included."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lossflow.keys import generator
from lossflow.problems.gaussian import average, smoothed


@pytest.mark.parametrize("power", [0, 2, 4, 8, 12])
def test_moments(power: int) -> None:
    assert float(average(lambda x: x**power)) == pytest.approx(math.prod(range(1, power, 2)), rel=1e-13)


def test_odd_moments_vanish() -> None:
    assert abs(float(average(lambda x: x**3 - 2 * x))) < 1e-14


@pytest.mark.parametrize("edge", [-2.71, 0.0, 0.3, 1 / 3, 5.0])
def test_jumps_and_kinks_anywhere(edge: float) -> None:
    tail = 0.5 * math.erfc(edge / math.sqrt(2))
    dense = math.exp(-(edge**2) / 2) / math.sqrt(2 * math.pi)
    assert float(average(lambda x: (x > edge).astype(float))) == pytest.approx(tail, rel=1e-12)
    assert float(average(lambda x: np.maximum(x - edge, 0))) == pytest.approx(dense - edge * tail, rel=1e-12)


def test_several_functions_at_once() -> None:
    both = average(lambda x: np.stack([np.cos(3 * x), np.exp(2 * x)]))
    assert both == pytest.approx([math.exp(-4.5), math.exp(2)], rel=1e-12)


def test_a_narrow_function_is_found() -> None:
    """The scale of the function is far below the panels, at their common edge zero."""
    width = 1e-4
    assert float(average(lambda x: np.exp(-((x / width) ** 2) / 2))) == pytest.approx(
        width / math.hypot(1, width), rel=1e-11
    )


def test_smoothing_is_elementwise() -> None:
    mean = np.array([[-1.0, 0.0, 2.5], [0.1, 0.2, 0.3]])
    assert smoothed(np.cos, mean, 1.7) == pytest.approx(np.cos(mean) * math.exp(-(1.7**2) / 2), rel=1e-12, abs=1e-14)
    assert np.array_equal(smoothed(np.cos, mean, 0.0), np.cos(mean))


def test_a_jump_near_the_end_of_a_panel_is_not_missed() -> None:
    """A place found by search, at which a panel and its halves agree by accident; and many others."""
    from scipy.special import ndtr

    places = np.concatenate([[1.7541160386140584], generator(0, 0, "jumps").uniform(-3, 3, 60)])
    for place in places:
        found = average(lambda x, place=place: (x < place) * 1.0)
        assert found == pytest.approx(ndtr(place), abs=1e-12)
