"""What docs/errata.md corrects, shown by computations that use neither the source nor the note."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import sympy
from numpy.polynomial import Polynomial

import lossflow as lf

ROOT = Path(__file__).parent.parent


def odd_product(m: int) -> int:
    """(m - 1)!! = E z^m for even m and a standard normal z; zero for odd m."""
    return 0 if m % 2 else int(np.prod(range(1, m, 2), dtype=object))


def mean(polynomial: Polynomial, variance: Fraction) -> Fraction:
    """E P(u) for one normal weight u."""
    return sum(
        (Fraction(c) * odd_product(m) * variance ** (m // 2) for m, c in enumerate(polynomial.coef)), start=Fraction(0)
    )


@pytest.mark.parametrize("order", [2, 3, 4])
def test_the_sign_of_every_derivative(order: int) -> None:
    """Errata 1, 12: Y_s = (-1)^s E[(D/2 - R)^(s+1)] + [s = 0] p/2, with R_nu, not R_2nu. Here p = H = 1, so f = u^nu."""
    variance = Fraction(2, 7)
    base = Polynomial([0] * order + [-1] + [0] * (order - 1) + [Fraction(1, 2)])  # D/2 - R = u^(2 nu)/2 - u^nu
    power, expected = base, []
    for s in range(4):
        expected.append((-1) ** s * mean(power, variance) + (Fraction(1, 2) if s == 0 else 0))
        power = power.deriv() * base.deriv()  # the merger with the base: sum over weights of dG/du dG'/du
    assert lf.expand(lf.CPDecomposition(order), 3).at(p=1, H=1, sigma2=variance) == tuple(expected)


def test_the_mean_of_the_free_loss_of_order_3() -> None:
    """Errata 2: E D6 = E sum_kl <u_k, u_l>^3 = H E |u|^6 = H p (p + 2) (p + 4) sigma^6, for odd powers vanish off k = l."""
    half = lf.expand(lf.CPDecomposition(3, target=lf.Zero()), 0).coefficients[0]
    assert {exponents: 2 * c for exponents, c in half.items()} == {(3, 1, 3): 1, (2, 1, 3): 6, (1, 1, 3): 8}


def test_the_equation_of_the_generating_function_is_linear() -> None:
    """Errata 3: Phi . grad h = phi h. For order 2: (d_x + 4 z (1 - z) d_z) f = 4 (z - 1) f, and not = 4 (z - 1)."""
    x, z = sympy.symbols("x z")
    g = sympy.exp(4 * x)
    f = (2 * (z - 1) * g - z) / (2 * (z - (z - 1) * g) ** 2)
    left = sympy.diff(f, x) + 4 * z * (1 - z) * sympy.diff(f, z)
    assert sympy.simplify(left - 4 * (z - 1) * f) == 0
    assert sympy.simplify(left - 4 * (z - 1)) != 0
    assert sympy.simplify(f.subs(x, 0) - (z / 2 - 1)) == 0


@pytest.mark.parametrize("order", [2, 3])
def test_the_lazy_rate_carries_the_order(order: int) -> None:
    """Errata 4: with T = H sigma^(2 nu - 2) the loss p/2 decays as exp(-2 nu t/T): Y_s has (1/2)(-2 nu)^s at p T^s."""
    series = lf.expand(lf.CPDecomposition(order, symmetric=False), 4)
    for s in range(1, 5):
        assert series.coefficients[s][1, s, (order - 1) * s] == Fraction((-2 * order) ** s, 2)


def test_the_start_need_not_be_small_at_B() -> None:
    """Errata 5: exponents of p, order 3. H = p^4 and sigma2 = p^0 lie at B, and yet H sigma^6 does not vanish."""
    order, p, H, sigma = 3, 1, 4, 0
    assert (order - 1) * p + H + 2 * order * sigma > 0
    assert H - (order - 1) * p > 0
    assert H + 2 * order * sigma > 0


def test_the_start_of_the_limit_of_order_4() -> None:
    """Errata 6, 8: at t = 0, E L - p/2 -> p^2 y (theta z_2^4 / 2 - z_4), with z_2 = p sigma2, z_4 = 3 p sigma2^2.

    y = H/p^2 and theta = 1 + 3 y: the terms are p^4 H sigma^8 / 2, 3 p^2 H^2 sigma^8 / 2 and -3 p H sigma^4.
    """
    y0 = lf.expand(lf.CPDecomposition(4), 0)
    leading = {exponent: y0.coefficients[0][exponent] for exponent in y0.pareto(0)}
    assert leading == {(4, 1, 4): Fraction(1, 2), (2, 2, 4): Fraction(3, 2), (1, 1, 2): -3}


@pytest.mark.parametrize("m", [2, 4, 6])
def test_the_moments_at_the_start(m: int) -> None:
    """Errata 7: m parallel edges are worth (m - 1)!! p sigma^m for each H-node, with sigma^m and not sigma^n."""
    u = lf.Tensor("u", ("H", "p"))
    loss = lf.PolynomialProblem(lf.diagram(*[u("k", "i")] * m))
    assert lf.expand(loss, 0).coefficients[0] == {(1, 1, m // 2): odd_product(m)}


def test_the_second_moment_of_a_transformed_input() -> None:
    """Errata 9: for one-hot x in p dimensions and the unitary transform, the mean of x^_r conj(x^_r') is delta_rr' / p."""
    p = 7
    transformed = np.fft.fft(np.eye(p), norm="ortho", axis=1)  # row: the transform of one one-hot input
    second = transformed.T @ transformed.conj() / p
    np.testing.assert_allclose(second, np.eye(p) / p, atol=p * np.finfo(float).eps)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_the_number_of_mergers(order: int) -> None:
    """Errata 10: a merger power of s copies of D has 2 (nu - 1) s + 2 edges, so the next merger has 2 nu times as many terms.

    At p = H = 1 all of them equal one power of u, so the free Y_s counts them.
    """
    variance = Fraction(3, 5)
    terms, edges, expected = 1, 2 * order, []
    for s in range(4):
        expected.append((-1) ** s * Fraction(terms, 2 ** (s + 1)) * odd_product(edges) * variance ** (edges // 2))
        terms *= 2 * order * (2 * (order - 1) * (s + 1) + 2)
        edges += 2 * (order - 1)
    free = lf.CPDecomposition(order, target=lf.Zero())
    assert lf.expand(free, 3).at(p=1, H=1, sigma2=variance) == tuple(expected)


def test_every_test_that_the_errata_name_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "errata.md").read_text(encoding="utf-8"))
    assert len(named) >= 8
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{name}"
