"""Limits on the faces of the polygon: closed forms, leading series, and how far they may be off."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lossflow as lf
from lossflow.expansion.leading import leading_series, leading_terms
from lossflow.expansion.series import expand
from lossflow.expansion.solutions.explicit import Explicit, explicit

REFERENCE = json.loads((Path(__file__).parent.parent / "reference" / "diagrams.json").read_text())
CLOSED = [
    ("free_under_asym", False, "A"),
    ("free_under_sym", True, "A"),
    ("free_over_asym", False, "B"),
    ("free_over_sym", True, "B"),
    ("free_sym_general", True, "A-B"),
    ("ntk_asym", False, "B-C"),
]
FACES = [
    (order, symmetric, regime)
    for order in (2, 3, 4)
    for symmetric in (False, True)
    for regime in (("A", "B", "A-B") if symmetric else ("A", "B", "C", "B-C"))
    if not (symmetric and (order % 2 or (order == 2 and regime == "A-B")))
]


def regime_named(problem: lf.AbstractProblem, name: str) -> lf.Regime:
    return next(regime for regime in lf.regimes(problem) if regime.name == name)


@pytest.mark.parametrize(("key", "symmetric", "regime"), CLOSED)
def test_published_values(key: str, symmetric: bool, regime: str) -> None:
    for case in REFERENCE["closed_forms"][key]:
        target = lf.Identity() if key.startswith("ntk") else lf.Zero()
        problem = lf.CPDecomposition(order=case["nu"], symmetric=symmetric, target=target)
        sizes = {"p": case["p"], "H": case["H"], "sigma2": case["sigma"] ** 2}
        answer = lf.solve(problem, lf.Limit(sizes, regime=regime), [float(case["t"])])
        assert answer.values["loss"][0] == pytest.approx(float(case["value"]), rel=1e-12)
        assert answer.details["regime"] == regime
        assert answer.details["formula"]


def taylor(form: Explicit, order: int) -> list[float]:
    """Coefficients of the closed form at t = 0, without its constant."""
    found = [form.amplitude]
    for k in range(order):
        factor = -form.rate if math.isinf(form.exponent) else -form.rate * (form.exponent + k)
        found.append(found[-1] * factor / (k + 1))
    return found


@pytest.mark.parametrize(("order", "symmetric", "regime"), FACES)
@pytest.mark.parametrize("scale", [Fraction(0), Fraction(1), Fraction(3, 2)])
def test_closed_forms_are_the_sums_of_the_leading_monomials(
    order: int, symmetric: bool, regime: str, scale: Fraction
) -> None:
    """Their Taylor coefficients equal those of the exact series, reduced to the face, at every order that is known here."""
    if not scale and "C" in regime:
        return
    target = lf.Identity(scale) if scale else lf.Zero()
    problem = lf.CPDecomposition(order=order, symmetric=symmetric, target=target)
    s_max = 4 if order == 2 else 3
    sizes: dict[str, Any] = {"p": 7, "H": 11, "sigma2": Fraction(2, 9)}
    series = expand(problem, s_max)
    known = leading_series(problem, regime_named(problem, regime), series, sizes)
    form = explicit(order, symmetric, regime, 7.0, 11.0, 2 / 9, float(scale))
    assert form is not None
    moving = [float(known.leading[0] - known.constant), *map(float, known.leading[1:])]
    if "C" in regime:  # there the target itself is learned: its constant belongs to the form
        moving[0] += float(known.constant) if regime == "B-C" else 0.0
    expected = taylor(form, s_max)
    if regime == "C":
        moving, expected = moving[1:], expected[1:]
    assert moving == pytest.approx(expected, rel=1e-12)


def test_every_leading_monomial_of_a_vertex_is_one() -> None:
    problem = lf.CPDecomposition(order=4)
    series = expand(problem, 3)
    for name in ("A", "B", "E"):
        terms = leading_terms(problem, regime_named(problem, name), series)
        assert [len(each) for each in terms[1:]] == [1, 1, 1]
    edge = leading_terms(problem, regime_named(problem, "A-B"), series)
    assert [len(each) for each in edge] == [2, 3, 4, 5]


def test_the_regime_is_found_from_the_sizes_and_its_depth_is_said() -> None:
    problem = lf.CPDecomposition(order=3, symmetric=False)
    sizes = {"p": 6, "H": 6000, "sigma2": 0.015625}
    answer = lf.solve(problem, lf.Limit(sizes), [0.01])
    placement = lf.classify(problem, sizes=sizes)
    assert answer.details["regime"] == placement.regime.name == "B-C"
    assert answer.details["depth"] == placement.depth > 0
    forced = lf.solve(problem, lf.Limit(sizes, regime="A"), [0.01])
    assert forced.details["depth"] < 0
    assert forced.uncertainty["loss"][0] > 10 * answer.uncertainty["loss"][0]


@pytest.mark.parametrize(
    "key", ["free_asym3_over_p12_H1728", "free_asym3_under_p32_H16", "free_sym4_p32_H256", "ntk_asym3_p6_H6000"]
)
def test_published_simulations_lie_within_the_uncertainty(key: str) -> None:
    """Gaps of docs/theory/diagrams.md section 14 in units of the stated uncertainty and the standard error."""
    data = REFERENCE["simulations"][key]
    setup = data["params"]
    target = lf.Zero() if setup.get("free") else lf.Identity()
    problem = lf.CPDecomposition(order=setup["nu"], symmetric=setup["scenario"] == "SYM", target=target)
    sizes = {name: setup[name] for name in ("p", "H", "sigma2")}
    answer = lf.solve(problem, lf.Limit(sizes), np.array(data["t"]) / setup["T"])
    gap = np.array(data["mean"]) - answer.values["loss"]
    deviation = gap / np.hypot(answer.uncertainty["loss"], data["stderr"])
    assert np.sqrt(np.mean(deviation**2)) <= 1.5


def test_where_no_closed_form_exists_the_leading_series_is_summed_as_far_as_it_goes() -> None:
    problem = lf.CPDecomposition(order=3, symmetric=False)
    sizes = {"p": 4, "H": 4, "sigma2": 0.01}  # E: the target is learned
    answer = lf.solve(problem, lf.Limit(sizes, regime="E"), np.array([0.0, 0.05, 40.0]))
    assert answer.values["loss"][0] == pytest.approx(2.0, rel=1e-3)
    assert not answer.status
    assert np.isnan(answer.values["loss"][-1])


def test_a_network_of_ones_own_has_limits_too() -> None:
    """On the cone that its sizes lie in the limit approaches the exact series as the sizes grow along a ray."""
    w, x = lf.Tensor("w", ("H", "p")), lf.Tensor("x", ("p", "N"), variance=1, learned=False)
    loss = lf.PolynomialProblem(
        Fraction(1, 2) * lf.size("N", -1) * lf.diagram(w("k", "i"), x("i", "n"), w("k", "j"), x("j", "n"))
    )
    gaps = []
    for scale in (1, 4, 16):
        sizes = {"p": 8 * scale, "H": 8, "N": 8 * scale**3, "sigma2": 0.1}
        time = [0.02]
        limit = lf.solve(loss, lf.Limit(sizes, resummation=lf.Pade()), time)
        exact = lf.solve(loss, lf.Series(sizes, 4, resummation=lf.Pade()), time)
        gaps.append(abs(limit.values["loss"][0] / exact.values["loss"][0] - 1))
        assert limit.uncertainty["loss"][0] >= 0.5 * abs(limit.values["loss"][0] - exact.values["loss"][0])
    assert gaps[0] > gaps[1] > gaps[2]


def test_backward_in_time_a_power_law_blows_up() -> None:
    sizes = {"p": 64, "H": 2, "sigma2": 0.1}
    free = lf.CPDecomposition(order=4, target=lf.Zero())
    form = explicit(4, True, "A", 64.0, 2.0, 0.1, 0.0)
    assert form is not None
    assert form.blow_up_time is not None
    answer = lf.solve(free, lf.Limit(sizes, regime="A"), np.array([0.5, 1.5]) * form.blow_up_time)
    assert answer.status.kind == "left_domain"
    assert answer.status.last_time == form.blow_up_time
    assert np.isfinite(answer.values["loss"][0])
    assert np.isnan(answer.values["loss"][1])


def test_what_has_no_limit_says_so() -> None:
    sizes = {"p": 64, "H": 2, "sigma2": 0.1}
    with pytest.raises(lf.NotSpoken, match="odd order"):
        lf.solve(lf.CPDecomposition(order=3), lf.Limit(sizes), [0.1])
    with pytest.raises(lf.InvalidInput, match="has no regime 'Q'"):
        lf.solve(lf.CPDecomposition(order=4), lf.Limit(sizes, regime="Q"), [0.1])
