"""Limits as they are used: other scales of the target, files, and questions that have no answer."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lossflow as lf
from lossflow.expansion.leading import chosen_regime, exact_series, leading_series

QUARTIC = lf.CPDecomposition(order=4)
LOW = {"p": 32, "H": 1024, "sigma2": math.sqrt(0.1 / 32**3)}
HIGH = {"p": 32, "H": 1024, "sigma2": math.sqrt(5.0 / 32**3)}


# --- scales of the target


@pytest.mark.parametrize(
    ("order", "symmetric", "regime"), [(4, True, "A-B-E"), (3, False, "B-C"), (3, False, "E-A"), (3, False, "C-D")]
)
@pytest.mark.parametrize("scale", [Fraction(1, 2), Fraction(-3, 2)])
def test_scaled_targets_at_short_times(order: int, symmetric: bool, regime: str, scale: Fraction) -> None:
    """Values of `Limit` against the leading part of the exact derivatives of the scaled problem, s <= 3."""
    problem = lf.CPDecomposition(order=order, symmetric=symmetric, target=lf.Identity(scale))
    sizes: dict[str, Any] = {"p": 6, "H": 12, "sigma2": 0.125}
    series = exact_series(problem, 3)
    face, _ = chosen_regime(problem, regime, sizes)
    known = leading_series(problem, face, series, sizes)
    t = -1e-3 if symmetric and scale > 0 else 1e-3
    exact = float(sum(c * Fraction(t) ** k for k, c in enumerate(known.leading)))
    bound = 30 * abs(float(known.leading[3])) * abs(t) ** 3 + 1e-13
    if regime in ("B-C", "C-D"):  # at s = 0 what they neglect leads
        bound += abs(float(known.leading[0] - known.constant))
    answer = lf.solve(problem, lf.Limit(sizes, regime=regime), [t])
    assert answer.values["loss"][0] == pytest.approx(exact, abs=bound)
    assert abs(answer.values["loss"][0] - float(known.leading[0])) > 0


@pytest.mark.parametrize(
    ("order", "symmetric", "sizes", "span"),
    [
        (4, True, {"p": 24, "H": 300, "sigma2": 0.004}, -3.0),
        (2, True, {"p": 24, "H": 30, "sigma2": 0.02}, 0.4),
        (3, False, {"p": 4, "H": 4000, "sigma2": 0.02}, 0.4),
    ],
)
def test_scaled_targets_against_simulation(order: int, symmetric: bool, sizes: dict[str, float], span: float) -> None:
    problem = lf.CPDecomposition(order=order, symmetric=symmetric, target=lf.Identity(Fraction(1, 2)))
    times = np.linspace(0, span, 5)[1:]
    limit = lf.solve(problem, lf.Limit(sizes), times)
    run = lf.solve(problem, lf.Simulation(sizes, runs=6), times)
    gap = limit.values["loss"] - run.values["loss"]
    deviation = gap / np.hypot(limit.uncertainty["loss"], run.uncertainty["loss"])
    assert np.isfinite(deviation).all()
    assert np.sqrt(np.mean(deviation**2)) <= 1.5
    moved = np.abs(run.values["loss"] - run.values["loss"][0])[-1]
    assert moved > 3 * np.abs(gap[-1])


@pytest.mark.parametrize(("order", "symmetric", "highest"), [(4, True, 2), (3, False, 3), (2, False, 4), (3, True, 3)])
@pytest.mark.parametrize("target", [lf.Identity(Fraction(-3, 2)), lf.Zero()])
def test_the_series_of_a_multiple_is_that_of_the_identity(
    order: int, symmetric: bool, highest: int, target: lf.AbstractTarget
) -> None:
    problem = lf.CPDecomposition(order=order, symmetric=symmetric, target=target)
    mine, theirs = exact_series(problem, highest), lf.expand(problem, highest)
    assert mine.variables == theirs.variables
    assert [dict(level) for level in mine.coefficients] == [dict(level) for level in theirs.coefficients]
    assert dict(mine.constant) == dict(theirs.constant)


# --- which face is used


def test_without_a_regime_the_largest_solved_face_is_used() -> None:
    """At p = 32, H = 1024, rho = 0.1 the sizes are placed at E, which neglects the noise; A-B-E neglects less."""
    at = [-0.5, 0.5]
    chosen = lf.solve(QUARTIC, lf.Limit(LOW), at)
    assert (chosen.details["placed"], chosen.details["regime"]) == ("E", "A-B-E")
    named = lf.solve(QUARTIC, lf.Limit(LOW, regime="E"), at)
    assert named.details["regime"] == "E"
    assert (chosen.uncertainty["loss"] < named.uncertainty["loss"] / 4).all()
    apart = lf.CPDecomposition(order=3, symmetric=False)
    wide = lf.solve(apart, lf.Limit({"p": 4, "H": 10**7, "sigma2": 1e-3}), [0.01])
    assert wide.details["placed"] in ("B", "C", "B-C")
    assert wide.details["regime"] == "B-C"
    free = lf.CPDecomposition(order=4, target=lf.Zero())
    assert lf.solve(free, lf.Limit({"p": 64, "H": 2, "sigma2": 0.1}), [0.1]).details["regime"] == "A-B"


# --- files


@pytest.mark.parametrize(
    ("problem", "sizes", "times"),
    [
        (QUARTIC, LOW, [-1.0, 0.0, 0.5]),  # no blow-up, window inf
        (QUARTIC, HIGH, [-10.0, -0.1, 0.0]),  # beyond the blow-up
        (lf.CPDecomposition(order=3), {"p": 6, "H": 20000, "sigma2": 0.0036}, [0.0, 0.1]),
        pytest.param(
            lf.CPDecomposition(order=3, symmetric=False),
            {"p": 12, "H": 2, "sigma2": 0.03},
            [0.0, 0.5],
            marks=pytest.mark.slow,  # an integral over approximants of 22 orders
        ),
        (lf.CPDecomposition(order=4, target=lf.Zero()), {"p": 64, "H": 2, "sigma2": 0.1}, [0.0, 0.5]),
    ],
)
def test_a_limit_is_the_same_after_loading(
    problem: lf.AbstractProblem, sizes: dict[str, float], times: list[float], tmp_path: Path
) -> None:
    answer = lf.solve(problem, lf.Limit(sizes), times)
    lf.save(answer, tmp_path / "answer.nc")
    again = lf.load(tmp_path / "answer.nc")
    assert again.identical(answer)
    if sizes is LOW:
        assert math.isnan(again.details["blow_up_time"])
        assert again.details["window"] == math.inf


# --- what has no answer


def test_times_beyond_the_blow_up_have_no_number() -> None:
    answer = lf.solve(QUARTIC, lf.Limit(HIGH), [-0.2, -0.6, -5.0])
    blow_up = answer.details["blow_up_time"]
    assert answer.status.kind == "left_domain"
    assert answer.status.last_time == blow_up
    assert np.array_equal(np.isnan(answer.values["loss"]), answer.times <= blow_up)
    assert np.isnan(answer.values["loss"]).any()


@pytest.mark.parametrize(
    ("problem", "regime"),
    [
        (QUARTIC, "C"),
        (QUARTIC, "A-C"),
        (lf.CPDecomposition(order=4, target=lf.Zero()), "A-B-E"),
        (lf.CPDecomposition(order=3, symmetric=False), "B-E"),
        (lf.CPDecomposition(order=3, symmetric=False, target=lf.Zero()), "B-C"),
    ],
)
def test_regimes_that_do_not_exist(problem: lf.AbstractProblem, regime: str) -> None:
    with pytest.raises(lf.InvalidInput, match="has no regime"):
        lf.solve(problem, lf.Limit({"p": 8, "H": 8, "sigma2": 0.1}, regime=regime), [0.1])


def test_sizes_between_regimes_whose_joint_face_has_no_solution_get_a_series_and_where_it_ends() -> None:
    """A-B without symmetry has no closed form: the leading series, no formula, and no number where it is not believed."""
    free = lf.CPDecomposition(order=3, symmetric=False, target=lf.Zero())
    sizes = {"p": 12, "H": 144, "sigma2": 0.1}
    answer = lf.solve(free, lf.Limit(sizes, resummation=lf.Taylor()), [0.001, 5.0])
    assert answer.details["regime"] == "A-B"
    assert answer.details["formula"] == ""
    assert answer.status.kind == "left_domain"
    assert np.array_equal(np.isnan(answer.values["loss"]), [False, True])
    with pytest.raises(lf.NotSpoken, match="Simulation"):
        lf.solve(lf.CPDecomposition(order=3), lf.Limit({"p": 8, "H": 8, "sigma2": 0.3}), [0.1])


@pytest.mark.parametrize("method", [lf.Pade(), lf.BorelPade(), lf.ConformalBorel()])
def test_a_series_too_short_for_its_resummation(method: lf.Resummation) -> None:
    with pytest.raises(lf.InvalidInput, match="three coefficients"):
        lf.solve(QUARTIC, lf.Series({"p": 3, "H": 3, "sigma2": 0.1}, 1, resummation=method), [0.01])


def test_a_divergent_series_asked_for_taylor_ends_with_a_status() -> None:
    answer = lf.solve(QUARTIC, lf.Series({"p": 3, "H": 3, "sigma2": 0.5}, 4, resummation=lf.Taylor()), [1e-5, 1.0])
    assert answer.status.kind == "left_domain"
    assert answer.status.last_time is not None
    assert 1e-5 < answer.status.last_time < 1.0
    assert np.isfinite(answer.values["loss"][0])
    assert np.isnan(answer.values["loss"][1])
