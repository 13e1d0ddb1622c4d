"""Recurrences of leading monomials against exact derivatives, closed forms, and one another; guesses against their origin."""

from __future__ import annotations

import itertools
import json
import math
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lossflow as lf
from lossflow.expansion.leading import leading_terms
from lossflow.expansion.leading_recurrences import (
    bond_values,
    leading_polynomials,
    leading_recurrence,
    merge_rules,
    ring_recurrence,
    ring_values,
)
from lossflow.expansion.recurrence import Recurrence
from lossflow.expansion.solutions import matrix
from lossflow.expansion.solutions.moments import lateral_turn, moments
from lossflow.expansion.solutions.one_weight import OneWeight
from lossflow.laws.wishart import trace_moment

DATA = json.loads((Path(__file__).parents[1] / "reference" / "diagrams.json").read_text())
# (order, one matrix, highest s): what the engine reaches in seconds; the slow ones go on
REACHED = [(4, True, 3), (6, True, 1), (8, True, 0), (2, False, 5), (3, False, 3), (4, False, 2), (5, False, 1)]
FURTHER = [(4, True, 4), (6, True, 2), (2, False, 7), (3, False, 4), (4, False, 3), (5, False, 2)]
# gbar of docs/theory/diagrams.md section 10 has no p and H of its own: with sigma = p = 1 they are 3 H = theta rho - 1
GBAR = {(4, Fraction(1, 10)): "4,1/10", (4, Fraction(5)): "4,5"}


def gbar_series(theta: int, rho: Fraction, order: int) -> list[Fraction]:
    H = (theta * rho - 1) / 3
    recurrence = leading_recurrence(4, True, "A-B-E", order)
    assert recurrence is not None
    return [c / H for c in recurrence.series(order, bond_values(recurrence, Fraction(1), H, Fraction(1)))]


# --- values


def check_against_the_exact_series(order: int, symmetric: bool, highest: int, scale: Fraction) -> None:
    target = lf.Identity(scale) if scale else lf.Zero()
    problem = lf.CPDecomposition(order=order, symmetric=symmetric, target=target)
    series = lf.expand(problem, max(highest, 1))
    compared = 0
    for regime in lf.regimes(problem):
        recurrence = leading_recurrence(order, symmetric, regime.name, highest, scale)
        if recurrence is None:
            continue
        exact = leading_terms(problem, regime, series)
        found = leading_polynomials(recurrence, highest)
        # at s = 0 the constant stands for what C and C-D keep, and what they neglect is all that is left
        for s in range(int(regime.name in ("C", "B-C", "C-D")), highest + 1):
            assert {e: c * math.factorial(s) for e, c in found[s].items()} == dict(exact[s]), (regime.name, s)
            compared += 1
    assert compared >= (2 if not scale else 5) * highest


@pytest.mark.parametrize(("order", "symmetric", "highest"), REACHED)
@pytest.mark.parametrize("scale", [Fraction(0), Fraction(1)])
def test_leading_coefficients_equal_the_exact_ones(order: int, symmetric: bool, highest: int, scale: Fraction) -> None:
    """On every face with a recurrence, at every order: exact fractions on both sides. docs/theory/diagrams.md section 13."""
    check_against_the_exact_series(order, symmetric, highest, scale)


@pytest.mark.slow
@pytest.mark.parametrize(("order", "symmetric", "highest"), FURTHER)
@pytest.mark.parametrize("scale", [Fraction(0), Fraction(1), Fraction(-3, 2)])
def test_leading_coefficients_equal_the_exact_ones_further(
    order: int, symmetric: bool, highest: int, scale: Fraction
) -> None:
    check_against_the_exact_series(order, symmetric, highest, scale)


def test_rings_equal_the_exact_series_of_order_2() -> None:
    """With exact moments of the traces all of Y_s, with their leading parts (Narayana numbers) those of the regimes."""
    for scale in (Fraction(1), Fraction(0), Fraction(-2, 3)):
        target = lf.Identity(scale) if scale else lf.Zero()
        exact = lf.expand(lf.CPDecomposition(order=2, target=target), 6)
        for s, level in enumerate(ring_recurrence(scale).coefficients(6)):
            found: dict[tuple[int, ...], Fraction] = {(1, 0, 0): scale**2 / 2} if s == 0 and scale else {}
            for (d,), c in level.items():
                for (a, b), weight in trace_moment(d + 1).items():
                    key = (a, b, d + 1)
                    found[key] = found.get(key, Fraction(0)) + weight * c * math.factorial(s)
            assert {e: c for e, c in found.items() if c} == dict(exact.coefficients[s])


def test_rings_with_narayana_numbers_are_the_matrix_limit() -> None:
    """40 orders at a time inside the radius of convergence against the closed form."""
    p, H, sigma2, t = 7, 5, Fraction(1, 20), Fraction(1, 60)
    total = Fraction(p, 2)
    for s, level in enumerate(ring_recurrence().coefficients(40)):
        for (d,), c in level.items():
            m = d + 1
            mean = sum(
                Fraction(math.comb(m, n) * math.comb(m, n - 1), m) * p ** (m + 1 - n) * H**n for n in range(1, m + 1)
            )
            total += c * mean * sigma2**m * t**s
    assert float(total) == pytest.approx(matrix.loss(float(t), p, H, float(sigma2)), rel=1e-13)


@pytest.mark.parametrize(("theta", "rho"), GBAR)
def test_the_published_coefficients_of_order_4(theta: int, rho: Fraction) -> None:
    published = [Fraction(c) for c in DATA["descent_nu4_series_theta_rho"][GBAR[theta, rho]]]
    assert gbar_series(theta, rho, len(published) - 1) == published


def test_48_orders_of_order_4_in_less_than_a_second() -> None:
    gbar_series(4, Fraction(5), 8)  # imports
    began = time.process_time()
    found = gbar_series(4, Fraction(1, 10), 48)
    assert time.process_time() - began < 1  # 0.3 s measured
    growth = [float(b / a) / (k + 1) for k, (a, b) in enumerate(itertools.pairwise(found))]
    assert growth[-1] == pytest.approx(16, rel=0.1)  # the singularity of the Borel transform is at 1/16
    assert abs(growth[-1] - 16) < abs(growth[23] - 16)


def test_two_roads_to_a_series() -> None:
    """Power series along the curves, and all coefficients C."""
    for order, symmetric, regime in ((4, True, "A-B-E"), (3, False, "E-A"), (3, False, "C-D"), (3, False, "B-C")):
        recurrence = leading_recurrence(order, symmetric, regime, 5, Fraction(2, 3))
        assert recurrence is not None
        values = bond_values(recurrence, Fraction(3), Fraction(4), Fraction(1, 5))
        names = recurrence.variables[1:]
        direct = [
            sum(c * math.prod(values[name] ** e for name, e in zip(names, n, strict=True)) for n, c in level.items())
            for level in recurrence.coefficients(5)
        ]
        assert recurrence.series(5, values) == direct


@pytest.mark.parametrize("order", [4, pytest.param(6, marks=pytest.mark.slow)])
def test_ascent_of_one_weight_is_the_borel_sum_of_its_recurrence(order: int) -> None:
    """Another road to the limit on A-B-E: 30 coefficients summed, against the quadrature of `one_weight`."""
    p, H, sigma2 = 6.0, 9.0, 0.125
    recurrence = leading_recurrence(order, True, "A-B-E", 30)
    assert recurrence is not None
    series = recurrence.series(30, bond_values(recurrence, Fraction(6), Fraction(9), Fraction(1, 8)))
    series[0] += 3
    theta = 1 + math.prod(range(order - 1, 0, -2)) * H / p ** (order // 2)
    flow = OneWeight(order, p, H, sigma2, 1.0, theta)
    assert flow.blow_up_time is not None
    times = flow.blow_up_time * np.array([0.05, 0.2])
    summed = lf.resum(series, times, lf.BorelPade())
    assert summed.values == pytest.approx(flow.at(times), rel=1e-5)
    assert (np.abs(summed.values - flow.at(times)) <= summed.uncertainty + 1e-12 * np.abs(summed.values)).all()


@pytest.mark.parametrize(
    ("rho", "times", "three_digits"),
    [
        pytest.param("1/10", (0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.012, 0.015), (), marks=pytest.mark.slow),
        ("5", (0.001, 0.002, 0.004, 0.006, 0.008), (0.01,)),
    ],
)
def test_borel_pade_20_20_equals_the_closed_lateral_sum(
    rho: str, times: tuple[float, ...], three_digits: tuple[float, ...]
) -> None:
    """Real and imaginary part, in units of |gbar(0)|, in the ranges of docs/theory/odd_order_and_descent.md part B."""
    gap = lateral_gap(Fraction(rho), np.array(times + three_digits))
    assert gap.size > 4
    assert gap[: len(times)].max() < 1e-4  # 8e-7 measured at low noise, 1.4e-5 at high noise
    assert gap.max() < 1e-3  # 1.5e-4 measured


def lateral_gap(rho: Fraction, s: np.ndarray) -> np.ndarray:
    """|Borel-Pade [20/20] - lateral| / |gbar(0)| at scaled times, the larger of real and imaginary part."""
    series, theta, p = gbar_series(4, rho, 40), 4.0, 32.0
    begin, lift = float(series[0]), 1000
    series[0] += lift  # a diagonal approximant takes a constant along; the sum passes through zero without it
    median = lf.resum(series, s, lf.BorelPade())
    wide = lf.resum(series, s, lf.BorelPade(ambiguity=True))
    # the imaginary part stands in the uncertainty, in quadrature
    imaginary = np.sqrt(np.maximum(wide.uncertainty**2 - median.uncertainty**2, 0))
    variance = math.sqrt(float(rho) / p**3)
    formal = OneWeight(4, p, p**2, variance, 1.0, theta).formal(s / variance)
    scale = float(rho) * p**2 / p**2
    real, ambiguity = (formal.values - p / 2) / scale, formal.ambiguity / scale
    gap = np.maximum(np.abs(median.values - lift - real), np.abs(imaginary - ambiguity))
    return gap / abs(begin)


def test_the_lateral_sum_has_a_form_with_dawson_s_function() -> None:
    """The oracle of the test above has one of its own. docs/theory/odd_order_and_descent.md part B."""
    from scipy.special import dawsn

    a = np.array([0.004, 0.02])
    z = 1 / (4 * np.sqrt(a))
    expected = -1 / (8 * a) + (dawsn(z) + 0.5j * math.sqrt(math.pi) * np.exp(-(z**2))) / (16 * a**1.5)
    assert moments(4, a + 0j, lateral_turn(4))[0] == pytest.approx(expected, rel=1e-10)


# --- rules


def test_the_merge_rules_are_those_of_the_theory() -> None:
    """nu m (z_{m+nu-2} - theta z_2^(nu-1) z_m) with theta = 1 + (nu-1)!! H/p^(nu/2), found by enumeration."""
    for order in (4, 6, 8):
        by_kind = {rule.kind: rule for rule in merge_rules(order, True)}
        assert len(by_kind) == len(merge_rules(order, True)) == 3
        mixed, same, new = by_kind["R"], by_kind["same row"], by_kind["new row"]
        assert (mixed.weight, mixed.change, mixed.bonds) == (order, (order - 2,), ())
        assert (same.weight, same.powers, same.bonds) == (-order, (order - 1, 0), ((2,),) * (order - 1))
        pairings = math.prod(range(order - 1, 0, -2))
        assert (new.weight, new.powers, new.bonds) == (-order * pairings, (order // 2 - 1, 1), ((2,),) * (order - 1))
    for order in (2, 3, 4):
        assert {rule.kind: rule.weight for rule in merge_rules(order, False)} == {"R": 1, "same row": -1, "new row": -1}


def test_what_has_no_recurrence() -> None:
    assert leading_recurrence(2, True, "A-B", 3) is None  # mergers of leading contractions do not lead at order 2
    assert leading_recurrence(3, True, "A", 3) is None
    assert leading_recurrence(3, False, "A-B", 3) is None
    assert leading_recurrence(4, True, "A-B-E", 3, 0) is None


# --- guesses


def test_a_guess_finds_what_made_the_numbers() -> None:
    free = leading_recurrence(4, True, "A", 0)
    assert free is not None
    line = free.along("z2", 4, 3).along("p", 4, 3).along("H", 1, 0)
    numbers = line.series(7)
    found = Recurrence.guess(numbers)
    assert found.verified_to == 7
    assert found.series(20) == line.series(20)
    assert set(found.terms) == {(0,), (-1,)}


def test_a_guess_in_two_variables() -> None:
    levels = ring_recurrence().coefficients(6)
    found = Recurrence.guess(levels, variables=("t", "z"))
    assert found.verified_to == 6
    assert found.coefficients(12) == ring_recurrence().coefficients(12)


@pytest.mark.slow
def test_a_guess_from_the_exact_derivatives() -> None:
    """Balanced free evolution, order 4: the coefficients of p^q H^n on the edge A-B, known to s = 4, in s and n."""
    problem = lf.CPDecomposition(order=4, target=lf.Zero())
    regime = next(each for each in lf.regimes(problem) if each.name == "A-B")
    terms = leading_terms(problem, regime, lf.expand(problem, 4))
    levels = [{(n,): c / math.factorial(s) for (_, n, _), c in level.items()} for s, level in enumerate(terms)]
    found = Recurrence.guess(levels)
    derived = leading_recurrence(4, True, "A-B", 0)
    assert derived is not None
    for s, (mine, theirs) in enumerate(zip(found.coefficients(9), derived.coefficients(9), strict=True)):
        assert mine == {(n[1],): c for n, c in theirs.items()}, s


def test_catalan_numbers_and_a_second_order_equation() -> None:
    catalan = [Fraction(math.comb(2 * k, k), k + 1) for k in range(9)]
    found = Recurrence.guess(catalan)
    assert found.series(30)[30] == Fraction(math.comb(60, 30), 31)
    bessel = [Fraction((-1) ** k, math.factorial(k) ** 2) for k in range(9)]
    second = Recurrence.guess(bessel)
    assert second.degree == 2
    assert second.series(12)[12] == Fraction(1, math.factorial(12) ** 2)
    with pytest.raises(lf.InvalidInput, match="first order"):
        second.characteristics()


def test_a_guess_that_holds_for_the_first_orders_only_is_refused() -> None:
    numbers: list[Any] = [Fraction(2) ** k for k in range(10)]
    numbers[9] += 1
    with pytest.raises(lf.InvalidInput, match="no recurrence"):
        Recurrence.guess(numbers)
    primes = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]
    with pytest.raises(lf.InvalidInput, match="no recurrence"):
        Recurrence.guess(primes)


@pytest.mark.parametrize(
    ("series", "message"),
    [([1, 2, 3], "four orders"), ([1, 2, 3, 4.5, 6], "exact numbers"), ([1, {(0,): 2}, 3, 4], "one length")],
)
def test_what_nothing_is_guessed_from(series: list[Any], message: str) -> None:
    with pytest.raises(lf.InvalidInput, match=message):
        Recurrence.guess(series)


# --- misuse


@pytest.mark.parametrize(
    ("variables", "terms", "start", "message"),
    [
        (("t",), {(0, 0): {(1, 0): 1}}, {(): 1}, "needs 1 entries"),
        (("t",), {(-1,): {(0,): 1}}, {(): 1}, "newest coefficient"),
        (("t",), {(0,): {(1,): 1}, (1,): {(0,): 1}}, {(): 1}, "newest coefficient"),
        (("t", "z"), {(0, 0): {(1, 0): 1}}, {(): 1}, "index of the start needs 1 entries"),
    ],
)
def test_recurrences_that_determine_nothing(variables: Any, terms: Any, start: Any, message: str) -> None:
    with pytest.raises(lf.InvalidInput, match=message):
        Recurrence(variables, terms, start)


def test_beyond_the_kinds_that_were_kept_there_is_no_number() -> None:
    recurrence = leading_recurrence(4, True, "A-B-E", 3)
    assert recurrence is not None
    with pytest.raises(lf.InvalidInput, match="orders to 3 only"):
        recurrence.coefficients(4)
    with pytest.raises(lf.InvalidInput, match="missing for p, H"):
        recurrence.series(3, {"z2": 1})
    with pytest.raises(lf.InvalidInput, match="leaves the line"):
        recurrence.along("z2", 4, 3)
    terms: Any = {(0,): {(1,): 1, (0,): -2}, (-1,): {(0,): 1}}
    vanishing = Recurrence(("t",), terms, {(): Fraction(1)})
    with pytest.raises(lf.InvalidInput, match="factor vanishes"):
        vanishing.coefficients(3)


def test_rings_at_sizes_are_the_polynomials_at_sizes() -> None:
    """The fast road of `Series` at order 2 against the general one, exactly."""
    for scale in (Fraction(1), Fraction(0), Fraction(-2, 3)):
        target = lf.Identity(scale) if scale else lf.Zero()
        exact = lf.expand(lf.CPDecomposition(order=2, target=target), 8).at(p=7, H=4, sigma2=Fraction(2, 11))
        assert ring_values(scale, 8, Fraction(7), Fraction(4), Fraction(2, 11)) == exact
