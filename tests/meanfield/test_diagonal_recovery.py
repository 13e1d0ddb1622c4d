"""Recovery, the best scale, the trade-off and the timescales of diagonal linear networks."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import minimize_scalar
from scipy.stats import norm

import lossflow as lf
from lossflow.meanfield import diagonal_timescales as timescales
from lossflow.meanfield.diagonal_recovery import best_scale, recovery_exponent, recovery_threshold, trade_off
from lossflow.problems.priors import AtomicPrior, GaussianPrior, PositiveSparse

SPARSE = lf.DiagonalLinear(0.5, lf.RademacherSparse(0.1))


def test_the_exponent_of_the_note() -> None:
    """docs/theory/diagonal.md section 5: a = .4236, and half of the local slope at three scales."""
    assert recovery_exponent(0.5, 0.1) == pytest.approx(0.4236, abs=5e-5)
    for kappa, slope in ((1e-6, 0.4268), (1e-12, 0.4248), (1e-20, 0.4241)):
        above, below = trade_off(SPARSE, np.sqrt(kappa * np.array([1.01, 1 / 1.01]))).mse
        assert math.log(above / below) / (4 * math.log(1.01)) == pytest.approx(slope, abs=6e-5)


@pytest.mark.parametrize(("delta", "density"), [(0.5, 0.1), (0.8, 0.3), (0.3, 0.02), (0.95, 0.5)])
def test_the_exponent_is_that_of_the_fixed_point(delta: float, density: float) -> None:
    """The local slope differs by something like 1/log(1/kappa), which is removed; atoms of any shape have the same exponent."""
    a = recovery_exponent(delta, density)
    for prior in (
        lf.RademacherSparse(density),
        PositiveSparse(density),
        AtomicPrior((0.0, 1.0, -3.0), (1 - density, density / 2, density / 2)),
    ):
        problem = lf.DiagonalLinear(delta, prior)
        kappas = np.array([1e-24, 1e-32, 1e-48])
        curves = [np.log(trade_off(problem, np.sqrt(kappas * factor)).mse) for factor in (1.01, 1 / 1.01)]
        slopes = (curves[0] - curves[1]) / (4 * math.log(1.01))
        limit = np.polynomial.Polynomial.fit(1 / np.log(1 / kappas), slopes, 2)(0.0)
        assert limit == pytest.approx(a, rel=2e-3)


@pytest.mark.parametrize("density", [0.01, 0.1, 0.3, 0.7, 0.99])
def test_the_threshold_by_minimization(density: float) -> None:
    def ratio(t: float) -> float:
        return float(density * (1 + t * t) + 2 * (1 - density) * ((1 + t * t) * norm.sf(t) - t * norm.pdf(t)))

    threshold = recovery_threshold(density)
    found = minimize_scalar(ratio, bounds=(0, 6), method="bounded", options={"xatol": 1e-10})
    assert threshold == pytest.approx(float(found.fun), rel=1e-10)
    assert recovery_exponent(threshold * (1 - 1e-6), density) == 0
    assert 0 < recovery_exponent(threshold * (1 + 1e-6), density) < 1e-3 + 1e-5 / (1 - threshold)
    for prior in (lf.RademacherSparse(density), lf.BernoulliGaussian(density)):
        ends = [
            lf.stationary(lf.DiagonalLinear(threshold + e, prior, init=lf.SymmetricInit("0+"))).values["mse"]
            for e in (-1e-3 * (1 - threshold), 1e-3 * (1 - threshold))
        ]
        assert ends[0] > 0 == ends[1]


def test_corners_of_the_exponent() -> None:
    assert recovery_exponent(0.5, 0.0) == recovery_exponent(1.0, 0.3) == 1
    assert recovery_exponent(0.5, 1e-9) == pytest.approx(1, abs=1e-3)
    assert recovery_exponent(1 - 1e-9, 0.3) == pytest.approx(1, abs=1e-3)
    assert recovery_exponent(0.3, 0.3) == recovery_exponent(0.3, 1.0) == 0
    assert (recovery_threshold(0), recovery_threshold(1)) == (0, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: recovery_exponent(1.5, 0.1), "delta must be in"),
        (lambda: recovery_exponent(0.0, 0.1), "delta must be in"),
        (lambda: recovery_exponent(0.5, -0.1), "density must be in"),
        (lambda: recovery_exponent("half", 0.1), "delta must be a number"),  # type: ignore[arg-type]
        (lambda: recovery_threshold(1.1), "density must be in"),
        (lambda: best_scale(replace(SPARSE, delta=2.0)), "delta < 1 and weight_decay=0"),
        (lambda: best_scale(replace(SPARSE, weight_decay="0+")), "delta < 1 and weight_decay=0"),
        (lambda: trade_off(SPARSE, [0.0]), "must be > 0"),
        (lambda: trade_off(lf.CPDecomposition(), [1.0]), "DiagonalLinear"),  # type: ignore[arg-type]
        (lambda: timescales.grokking_time(SPARSE), "weight decay that makes kappa fall"),
        (lambda: timescales.grokking_time(replace(SPARSE, weight_decay=0.1), 0.0), "kappa_c must be positive"),
        (lambda: timescales.quasi_static(replace(SPARSE, weight_decay=0.1), [-1.0]), "times must be"),
        (
            lambda: timescales.quasi_static(replace(SPARSE, weight_decay=0.1, init=lf.NonNegativeInit()), [1.0]),
            "SymmetricInit",
        ),
        (lambda: timescales.lazy_time(replace(SPARSE, init=lf.NonNegativeInit())), "kappa > 0.*non-negative"),
        (lambda: timescales.lazy_time(replace(SPARSE, init=lf.SymmetricInit("0+"))), "limit of starts"),
        (lambda: timescales.search_time(replace(SPARSE, prior=AtomicPrior((0.0,), (1.0,)))), "without a signal"),
        (lambda: timescales.activation_time(0.0, 1e-3), "not zero"),
    ],
)
def test_wrong_input_is_answered(call: Any, message: str) -> None:
    with pytest.raises(lf.InvalidInput, match=message):
        call()


def test_the_trade_off_is_that_of_end_states() -> None:
    noisy = replace(SPARSE, noise_variance=0.04)
    scales = np.array([3.0, 0.3, 1e-3, 1e-8, 0.5])
    curve = trade_off(noisy, scales)
    for k, scale in enumerate(scales):
        end = lf.stationary(replace(noisy, init=lf.SymmetricInit(float(scale)))).values
        found = curve.mse[k], curve.rate[k], curve.tau[k], curve.theta[k]
        assert found == pytest.approx((end["mse"], end["rate"], end["tau"], end["theta"]), rel=1e-10)
    assert trade_off(noisy, []).mse.size == 0
    nothing = trade_off(replace(SPARSE, prior=AtomicPrior((0.0,), (1.0,))), [1.0, 2.0])
    assert nothing.mse.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("problem", "scale"),
    [
        (SPARSE, "0+"),
        (replace(SPARSE, prior=GaussianPrior()), math.inf),
        (replace(SPARSE, prior=lf.RademacherSparse(0.2), noise_variance=0.25), None),
    ],
)
def test_the_best_scale(problem: lf.DiagonalLinear, scale: Any) -> None:
    best = best_scale(problem)
    if scale is not None:
        assert best.scale == scale
    else:
        assert 0 < best.scale < 10  # type: ignore[operator]
        ends = [
            lf.stationary(replace(problem, init=lf.SymmetricInit(s))).values["mse"] for s in np.geomspace(1e-12, 10, 60)
        ]
        assert min(ends) * (1 - 1e-3) < best.end.values["mse"] <= min(ends)
    assert best.end.problem == replace(problem, init=lf.SymmetricInit(best.scale))


def test_a_tiny_start_beats_basis_pursuit_with_noise() -> None:
    """docs/theory/diagonal.md section 5: at kappa = 1e-16 by 5e-4."""
    noisy = replace(SPARSE, noise_variance=0.09)
    tiny, limit = (lf.stationary(replace(noisy, init=lf.SymmetricInit(s))).values["mse"] for s in (1e-8, "0+"))
    assert limit - tiny == pytest.approx(5e-4, abs=5e-5)
    assert best_scale(noisy).end.values["mse"] <= tiny


# --- times


def test_a_coefficient_alone_is_activated_when_the_formula_says() -> None:
    """beta' = -2 sqrt(beta^2 + kappa^2) (beta - beta*), integrated: one half at the activation time."""
    for coefficient, kappa in ((1.0, 1e-4), (-3.0, 1e-8)):
        scale = timescales.activation_time(coefficient, kappa)
        assert scale.holds

        def motion(_: float, xi: Any, kappa: float = kappa, coefficient: float = coefficient) -> Any:
            return -2 * (kappa * np.sinh(xi) - coefficient)

        end = solve_ivp(motion, (0, scale.time), [0.0], rtol=1e-11, atol=1e-11).y[0, -1]
        assert kappa * math.sinh(end) == pytest.approx(coefficient / 2, rel=10 * kappa + 1e-7)
    assert not timescales.activation_time(1.0, 0.5).holds


def test_lazy_and_rich_times_and_where_they_hold() -> None:
    large = timescales.lazy_time(replace(SPARSE, init=lf.SymmetricInit(10.0)))
    assert (large.time, large.holds) == (0.005, True)
    assert "1.0e-04" in large.where
    assert not timescales.lazy_time(SPARSE).holds
    small = replace(SPARSE, init=lf.SymmetricInit(1e-3))
    rich, search = timescales.rich_time(small), timescales.search_time(small)
    assert rich.time == pytest.approx(math.log(1e6))
    assert search.time == pytest.approx(math.log(1e6) / (2 * math.sqrt(3)))
    assert rich.holds
    assert search.holds
    assert not timescales.rich_time(replace(small, weight_decay=0.1)).holds
    assert rich.at({}) == rich.time


def test_units_of_the_times() -> None:
    """beta -> c beta, kappa -> c kappa, sigma -> c sigma is t -> t/c."""
    one = lf.DiagonalLinear(0.5, AtomicPrior((0.0, 1.0), (0.5, 0.5)), 0.04, lf.SymmetricInit(1e-2))
    four = lf.DiagonalLinear(0.5, AtomicPrior((0.0, 4.0), (0.5, 0.5)), 0.64, lf.SymmetricInit(2e-2))
    for function in (timescales.lazy_time, timescales.rich_time, timescales.search_time):
        assert function(one).time == pytest.approx(4 * function(four).time, rel=1e-12)
    ends = [lf.stationary(problem).values for problem in (one, four)]
    assert ends[1]["rate"] == pytest.approx(4 * ends[0]["rate"], rel=1e-10)
    assert ends[1]["mse"] == pytest.approx(16 * ends[0]["mse"], rel=1e-10)


def test_grokking() -> None:
    """The run of the note: kappa0 = 100, weight decay 0.01; the error falls at about 250."""
    problem = lf.DiagonalLinear(0.5, lf.RademacherSparse(0.1), 0.01, lf.SymmetricInit(10.0), 0.01)
    scale = timescales.grokking_time(problem)
    assert scale.time == pytest.approx(math.log(100) / 0.02)
    assert scale.holds
    assert not timescales.grokking_time(replace(problem, weight_decay=1.0)).holds
    assert not timescales.grokking_time(replace(problem, delta=2.0)).holds
    times = np.linspace(0, 500, 101)
    law = timescales.quasi_static(problem, times)
    assert law.kappa == pytest.approx(100 * np.exp(-0.02 * times))
    halfway = times[np.argmin(np.abs(law.mse - (law.mse[0] + law.mse[-1]) / 2))]
    assert halfway == pytest.approx(scale.time, abs=80)
    k = 60
    end = lf.stationary(replace(problem, weight_decay=0.0, init=lf.SymmetricInit(float(law.kappa[k] ** 0.5)))).values
    assert (law.mse[k], law.rate[k]) == pytest.approx((end["mse"], end["rate"]), rel=1e-10)
