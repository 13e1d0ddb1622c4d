"""Taylor sums against functions known in closed form: the value, the error bar, the end of validity."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from scipy.special import exp1

import lossflow as lf
from lossflow.expansion.resummation import Taylor

Function = Callable[[np.ndarray], np.ndarray]


def _binomial(power: Fraction, order: int) -> list[Fraction]:
    coefficients = [Fraction(1)]
    for k in range(1, order + 1):
        coefficients.append(coefficients[-1] * (power - k + 1) / k)
    return coefficients


def _euler(t: np.ndarray) -> np.ndarray:
    """int_0^inf e^{-u} / (1 + t u) du = sum (-1)^k k! t^k, a series without any radius of convergence."""
    return np.exp(1 / t) * exp1(1 / t) / t


ORDER = 24
KNOWN: dict[str, tuple[list[Fraction], Function]] = {
    "exp(-t)": ([Fraction((-1) ** k, math.factorial(k)) for k in range(ORDER + 1)], lambda t: np.exp(-t)),
    "3/10 + exp(-2t)": (
        [Fraction((-2) ** k, math.factorial(k)) + (Fraction(3, 10) if k == 0 else 0) for k in range(ORDER + 1)],
        lambda t: 0.3 + np.exp(-2 * t),
    ),
    "1/(1+t)": (_binomial(Fraction(-1), ORDER), lambda t: 1 / (1 + t)),
    "(1+t)^(-4/3)": (_binomial(Fraction(-4, 3), ORDER), lambda t: (1 + t) ** (-4 / 3)),
    "1/(1+t^2)": ([Fraction(0 if k % 2 else (-1) ** (k // 2)) for k in range(ORDER + 1)], lambda t: 1 / (1 + t * t)),
    "Euler": ([Fraction((-1) ** k * math.factorial(k)) for k in range(ORDER + 1)], _euler),
}


@pytest.mark.parametrize("order", [2, 3, 4, 6, 8, 12, 24])
@pytest.mark.parametrize("name", KNOWN)
def test_the_error_bar_covers_the_error_and_is_not_idle(name: str, order: int) -> None:
    coefficients, function = KNOWN[name]
    times = np.linspace(0.01, 1.2, 60)
    result = Taylor().sum(coefficients[: order + 1], times)
    held = ~np.isnan(result.values)
    assert held[0]
    error = np.abs(result.values - function(times))[held]
    # one standard error: the truncation error stays below two of them
    assert (error <= 2 * result.uncertainty[held]).all()
    # and is typically no less than a hundredth of it: the bar is an estimate, not a blanket (rounding aside)
    significant = result.uncertainty[held] > 1e-12
    if significant.any():
        assert np.median(error[significant] / result.uncertainty[held][significant]) > 0.01


def test_no_error_bar_is_smaller_than_rounding() -> None:
    times = np.array([0.5])
    result = Taylor().sum(KNOWN["exp(-t)"][0], times)
    assert 0 < result.uncertainty[0] < 1e-14
    assert abs(result.values[0] - math.exp(-0.5)) <= result.uncertainty[0]


def test_beyond_the_radius_of_convergence_there_is_no_value() -> None:
    times = np.linspace(0, 3, 301)
    result = Taylor().sum(KNOWN["1/(1+t)"][0], times)
    left = [status for status in result.status if not status]
    assert {status.kind for status in left} == {"left_domain"}
    edge = left[0].last_time
    assert edge is not None
    assert edge == pytest.approx(1.0, abs=0.05)  # the radius is 1; at finite order the estimate ends a little before
    assert np.isnan(result.values[times >= edge]).all()
    assert not np.isnan(result.values[times < edge]).any()


def test_the_edge_does_not_depend_on_the_grid() -> None:
    coefficients = KNOWN["(1+t)^(-4/3)"][0][:9]
    edges = []
    for times in (np.linspace(0, 2, 11), np.linspace(0.3, 2, 57), np.array([1.9])):
        edges.append(Taylor().sum(coefficients, times).status[-1].last_time)
    assert edges == pytest.approx([edges[0]] * 3, rel=1e-2)  # found on a grid of 256, then by bisection


def test_an_asymptotic_series_is_cut_at_its_smallest_term() -> None:
    """The Euler series at t = 1/10: the terms k! t^k are smallest at k = 10: sqrt(2 pi / t) e^(-1/t)."""
    result = Taylor().sum(KNOWN["Euler"][0], np.array([0.1]))
    assert 9 <= result.terms[0] <= 11
    assert abs(result.values[0] - _euler(np.array([0.1]))[0]) < math.sqrt(2 * math.pi / 0.1) * math.exp(-10)


def test_time_zero_is_exact_and_negative_times_mirror() -> None:
    coefficients = KNOWN["(1+t)^(-4/3)"][0][:7]
    mirrored = [(-1) ** k * c for k, c in enumerate(coefficients)]
    times = np.linspace(-0.5, 0.5, 11)
    forward, backward = Taylor().sum(coefficients, times), Taylor().sum(mirrored, -times[::-1])
    assert forward.values == pytest.approx(backward.values[::-1], rel=1e-15)
    assert Taylor().sum(coefficients, np.array([0.0])).values[0] == 1.0


def test_a_constant_has_no_truncation_error() -> None:
    result = Taylor().sum([Fraction(3, 2), Fraction(0), Fraction(0)], np.linspace(0, 100, 5))
    assert all(result.status)
    assert (result.values == 1.5).all()
    assert (result.uncertainty < 1e-14).all()


def test_huge_coefficients_at_tiny_times_do_not_overflow() -> None:
    scale = Fraction(10) ** 40
    coefficients = [c * scale**k for k, c in enumerate(KNOWN["exp(-t)"][0])]
    result = Taylor().sum(coefficients, np.array([0.5e-40]))
    assert result.values[0] == pytest.approx(math.exp(-0.5), rel=1e-14)


def test_what_cannot_be_summed_is_refused() -> None:
    with pytest.raises(lf.InvalidInput, match="at least two"):
        Taylor().sum([Fraction(1)], np.array([0.1]))
    with pytest.raises(lf.InvalidInput, match="overflow"):
        Taylor().sum([Fraction(1), Fraction(10) ** 400], np.array([1.0]))
    with pytest.raises(lf.InvalidInput, match="sum"):
        lf.Resummation().sum([1, 1], np.array([0.1]))
