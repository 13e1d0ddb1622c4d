"""Marchenko-Pastur + semicircle: closed forms against quadrature, fifty digits and one another."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import mpmath
import numpy as np
import pytest
from scipy.integrate import quad
from tests.spectral import extended

import lossflow as lf
from lossflow.laws import semicircle
from lossflow.laws.free_convolution import FreeConvolution
from lossflow.laws.tails import tails

LAWS = [FreeConvolution(k, xi) for k, xi in [(0.3, 0.05), (0.3, 1.0), (0.8, 0.01), (1.0, 0.1), (1.5, 0.2), (30.0, 0.1)]]


def density_by_roots(law: FreeConvolution) -> Callable[[float], float]:
    """The density from all roots of the cubic."""
    k, xi = law.kappa_star, law.variance

    def density(x: float) -> float:
        return max(-np.roots([xi, -(x + k * xi), 1 - k + k * x, -k]).imag.min(), 0.0) / np.pi

    return density


def integral(f: Callable[[float], float], law: FreeConvolution, b: float) -> float:
    """By adaptive quadrature between the edges above b."""
    ends = [b, *(edge for edge in law.edges() if edge > b)]
    return sum(quad(f, low, high, epsabs=1e-11, limit=200)[0] for low, high in pairwise(ends))


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_integrals_above_a_point_are_those_of_the_density(law: FreeConvolution) -> None:
    rho = density_by_roots(law)
    for b in (0.05, 0.9):
        above = law.above(b)
        moments = [above.mass, above.mean, 1 + 1 / law.kappa_star - above.missing]
        for n, moment in enumerate(moments):
            assert integral(lambda x, n=n: x**n * rho(x), law, b) == pytest.approx(float(moment), rel=1e-8, abs=1e-9)
        for n, moment in enumerate([above.hilbert, above.hilbert_mean]):
            value = integral(lambda x, n=n: x**n * rho(x) * float(law.hilbert(x)), law, b)
            assert value == pytest.approx(float(moment), rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_the_transform_is_the_cauchy_transform_of_the_density(law: FreeConvolution) -> None:
    rho = density_by_roots(law)
    for x in (law.edges()[0] - 0.5, law.edges()[-1] + 0.5):
        value = integral(lambda y, x=x: rho(y) / (x - y), law, float(law.edges()[0]))
        assert value == pytest.approx(law.transform(x).item().real, rel=1e-8)
        assert law.density(x) == 0.0
        assert not np.signbit(law.density(x))


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_the_whole_line(law: FreeConvolution) -> None:
    above = law.above(law.edges()[0] - 1.0)
    assert above.mass == pytest.approx(1.0, rel=1e-14)
    assert above.mean == pytest.approx(1.0, rel=1e-13)
    assert above.missing == pytest.approx(-law.variance, rel=1e-12)
    assert above.hilbert == pytest.approx(0.0, abs=1e-14)
    assert above.hilbert_mean == pytest.approx(0.5, rel=1e-13)
    beyond = law.above(law.edges()[-1] + 1.0)
    assert max(map(abs, (beyond.mass, beyond.mean, beyond.hilbert, beyond.hilbert_mean))) < 1e-15
    assert beyond.missing == pytest.approx(1 + 1 / law.kappa_star, rel=1e-14)


@pytest.mark.parametrize("xi", [1e-9, 1e-7, 1e-4, 1e-2, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("k", [0.03, 0.3, 0.9, 0.99, 1.5, 4.0, 30.0, 100.0, 1e4])
def test_no_digit_is_lost_at_small_variance_or_large_teachers(xi: float, k: float) -> None:
    root = math.sqrt(xi)
    # near k = 1 the bulk reaches down to the kernel, and terms of order v^2 sum to one of order v^4
    promised = 3e-13 if abs(1 - k) < 0.02 else 3e-14
    for b in (-3 * root, 0.001 * root, 0.3 * root, 1.2 * root, 0.5, 1.0, 2.0):
        t, exact = tails(b, xi, k), extended.integrals(b, xi, k)
        with mpmath.workdps(extended.DIGITS):
            missing = 1 + 1 / mpmath.mpf(k) - exact.second
            pairs = [(t.mass, exact.mass), (t.missing, missing), (t.j0, exact.j0), (t.j1, exact.j1), (t.rho, exact.rho)]
            for value, reference in pairs:
                assert abs(value - reference) <= promised * abs(reference) + 1e-25, (b, value, reference)
            # this one passes through zero: its error is that of the terms it is made of
            assert abs(t.cube - exact.cube) <= 1e-13 * (abs(exact.cube) + 1 / xi)


@pytest.mark.parametrize("law", [law for law in LAWS if law.kappa_star < 30], ids=repr)
def test_derivatives_by_the_variance(law: FreeConvolution) -> None:
    with mpmath.workdps(extended.DIGITS):
        h = mpmath.mpf(10) ** -12
        for b in (0.05, 0.9, 2.0):
            up, down = (extended.integrals(b, law.variance + s * h, law.kappa_star) for s in (1, -1))
            exact = [(x - y) / (2 * h) for x, y in zip(up, down, strict=True)]
            found = law.derivatives(b)
            for value, slope in zip(found, [exact[0], exact[1], -exact[2], exact[3], exact[4]], strict=True):
                assert float(value) == pytest.approx(float(slope), rel=1e-12, abs=1e-13)


def test_the_support_splits_where_the_teacher_is_narrow() -> None:
    assert len(FreeConvolution(0.3, 0.05).edges()) == 4
    assert len(FreeConvolution(0.3, 1.0).edges()) == 2
    for law in LAWS:
        for low, high in law.edges().reshape(-1, 2):
            assert (law.density(np.linspace(low, high, 12)[1:-1]) > 0).all()
            assert law.density([low - 1e-6 * (1 + abs(low)), high + 1e-6 * high]).max() == 0


def test_edges_at_a_reference_value() -> None:
    """The largest eigenvalue of the third setting of tests/reference/quadratic.json is an edge minus q."""
    law = FreeConvolution(0.3, 3.090770017293187)
    assert law.edges()[-1] - 0.43882449543276814 == pytest.approx(8.138829774560119, rel=1e-13)


def test_quantiles() -> None:
    for law in LAWS:
        for mass in (1e-6, 0.1, 0.3, 0.8, 1 - 1e-6):
            assert law.above(law.quantile(mass)).mass == pytest.approx(mass, rel=1e-13)
    gap = FreeConvolution(0.3, 1e-10)
    assert gap.edges()[1] < gap.quantile(0.3) < gap.edges()[2]
    for mass in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(lf.InvalidInput, match="mass between 0 and 1"):
            gap.quantile(mass)


@pytest.mark.parametrize(
    "wrong", [{"kappa_star": 0.0}, {"variance": -1.0}, {"variance": math.inf}, {"kappa_star": "x"}]
)
def test_laws_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(lf.InvalidInput, match=next(iter(wrong))):
        FreeConvolution(**{"kappa_star": 0.3, "variance": 0.1, **wrong})


def test_moments_of_the_semicircle() -> None:
    for x in (-2.0, -1.3, 0.0, 0.7, 1.5, 1.9, 1.99):
        moments = [semicircle.mass_above(x), semicircle.mean_above(x), semicircle.second_above(x)]
        for n, moment in enumerate(moments):
            value = quad(lambda y, n=n: y**n * semicircle.density(y), x, 2, epsabs=1e-13)[0]
            assert moment == pytest.approx(value, rel=1e-9, abs=1e-12)
        root = math.sqrt(4 - x * x)
        second = 0.5 - root * (x**3 - 2 * x) / (8 * math.pi) - math.asin(x / 2) / math.pi  # as the note has it
        assert moments[2] == pytest.approx(second, rel=1e-11, abs=1e-15)
        assert semicircle.quantile_above(moments[0]) == pytest.approx(x, rel=1e-12, abs=1e-14)


def test_moments_near_the_edge_of_the_semicircle() -> None:
    """At x = 2 - e the mass is (2/3 pi) e^{3/2} (1 - 3e/40 + ...), of which the usual formula has no digit left at e = 1e-12."""
    for e in (2.0**-40, 2.0**-20):
        x = 2 - e
        assert semicircle.mass_above(x) == pytest.approx(2 / (3 * math.pi) * e**1.5 * (1 - 3 * e / 40), rel=1e-10)
        assert semicircle.second_above(x) == pytest.approx(4 * semicircle.mass_above(x), rel=1e-5)
    assert semicircle.mass_above(2.0) == semicircle.mean_above(2.0) == semicircle.second_above(2.0) == 0.0
    assert semicircle.density(2.5) == 0.0
