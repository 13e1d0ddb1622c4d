"""The flow of one weight: published values, an ODE of all weights at once, leading coefficients, both asymptotics, the window."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import dawsn, erfcx, wofz

import lossflow as lf
from lossflow.expansion.solutions.moments import lateral_turn, moments
from lossflow.expansion.solutions.one_weight import OneWeight, one_weight, weight_law

DATA = json.loads((Path(__file__).parents[1] / "reference" / "diagrams.json").read_text())
CLOSED, DESCENT = DATA["closed_forms"], DATA["descent_nu4"]


def test_moments_of_order_4_as_published_and_in_closed_form() -> None:
    for a, value in CLOSED["F"].items():
        assert moments(4, np.array([float(a)]))[0][0] == pytest.approx(float(value), rel=1e-13)
    for a, value in CLOSED["F_prime"].items():
        assert 8 * moments(4, np.array([float(a)]))[1][0] == pytest.approx(float(value), rel=1e-13)
    a = -np.logspace(-2, 6, 9)
    expected = -1 / (8 * a) + math.sqrt(math.pi) * erfcx(1 / (4 * np.sqrt(-a))) / (32 * a * np.sqrt(-a))
    assert moments(4, a)[0] == pytest.approx(expected, rel=1e-12)
    b = np.array([0.003, 0.01, 0.1])
    z = 1 / (4 * np.sqrt(b))
    lateral = -1 / (8 * b) + (dawsn(z) + 0.5j * math.sqrt(math.pi) * np.exp(-(z**2))) / (16 * b**1.5)
    assert moments(4, b + 0j, lateral_turn(4))[0] == pytest.approx(lateral, rel=1e-10)


def test_the_threshold_to_13_digits() -> None:
    assert lf.quartic_threshold(1) == pytest.approx(2.07780944847258, rel=3e-13)
    assert lf.quartic_threshold(4.0) == pytest.approx(lf.quartic_threshold(1) / 4, rel=1e-15)
    assert weight_law(4).total == pytest.approx(float(CLOSED["int_{-inf}^0 F^3"]), rel=1e-12)
    for wrong in (0, -1, math.inf, math.nan):
        with pytest.raises(lf.InvalidInput, match="theta"):
            lf.quartic_threshold(wrong)


@pytest.mark.parametrize("case", CLOSED["nu4_ascent"])
def test_ascent_as_published(case: dict) -> None:  # type: ignore[type-arg]
    theta, rho, p = case["theta"], case["rho"], 32.0
    variance = math.sqrt(rho / p**3)
    flow = OneWeight(4, p, (theta - 1) / 3 * p**2, variance, 1.0, theta)
    s = np.array([point["s"] for point in case["points"]])
    got = (flow.at(s / variance) - p / 2) / (rho * (theta - 1) / 3)
    assert got == pytest.approx([float(point["gbar"]) for point in case["points"]], rel=1e-10)
    if "s_crit" in case:
        assert flow.blow_up_time is not None
        assert flow.blow_up_time * variance == pytest.approx(float(case["s_crit"]), rel=1e-12)
        left = np.array([1e-3, 1e-4, 1e-5, 1e-6, 1e-9])
        amplitude = p**2 * theta * (theta - 1) / 6 * (24 * theta * left / variance) ** (-4 / 3)
        ratio = (flow.at(flow.blow_up_time + left / variance) - p / 2) / amplitude
        assert ratio == pytest.approx([0.863, 0.972, 0.994, 0.9987, 1.0], abs=6e-4)
    else:
        assert flow.blow_up_time is None
        late = -np.array([1e2, 1e4]) / variance
        short = 1 - (flow.at(late) - p / 2) * late**2 / (-p * flow.H / 64)
        assert 0 < short[1] < 0.007  # the next term falls like s^(-1/2)
        assert 7 < short[0] / short[1] < 13


@pytest.mark.parametrize(("order", "sigma2", "scale"), [(4, 0.02, 1.0), (6, 0.3, 1.0), (6, 0.05, 2.0), (8, 0.05, -1.0)])
def test_against_the_ode_of_many_weights(order: int, sigma2: float, scale: float) -> None:
    p, H = 12.0, 100.0
    flow = one_weight(order, "A-B-E", p, H, sigma2, scale)
    assert flow is not None
    end = flow.blow_up_time or -flow.sign * 3 / flow.clock
    x = np.linspace(-9.5, 9.5, 801)
    weight = np.exp(-(x**2) / 2)
    weight /= weight.sum()

    def pace(_: float, u: np.ndarray) -> np.ndarray:
        return order * (scale * u ** (order - 1) - flow.theta * (p * (weight @ u**2)) ** (order - 1) * u)

    times = np.array([0.1, 0.5, 0.9]) * end
    run = solve_ivp(pace, (0.0, times[-1]), x * math.sqrt(sigma2), "DOP853", times, rtol=1e-12, atol=1e-14)
    field, learned = p * (weight @ run.y**2), p * (weight @ run.y**order)
    expected = scale**2 * p / 2 + H * (flow.theta * field**order / 2 - scale * learned)
    assert flow.at(times) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("key", DESCENT)
def test_the_formal_limit_of_descent_as_published(key: str) -> None:
    p, H, rho = map(float, key.split(","))
    variance = math.sqrt(rho / p**3)
    case, s = DESCENT[key], np.array(DESCENT[key]["s"])
    answer = lf.solve(
        lf.CPDecomposition(order=4), lf.Limit({"p": p, "H": H, "sigma2": variance}, regime="A-B-E"), s / variance
    )
    details, values, error = answer.details, answer.values["loss"], answer.uncertainty["loss"]
    # the published digits come from an integration of their own
    assert details["formal"] == pytest.approx(case["formal_lateral_re"], rel=4e-8)
    assert details["row_maximum"][:8] == pytest.approx(case["neuron_extreme_value"][:8], rel=2e-3)
    assert answer.status.kind == "left_domain"
    assert answer.status.last_time == details["window"]
    held = ~np.isnan(values)
    assert details["estimate"][held] == pytest.approx(details["formal"][held], rel=1e-15)
    assert np.array_equal(held, s / variance < details["window"])
    assert held[:5].all()
    assert not held[7:].any()
    gap = np.abs(values - case["sim"])[held]
    assert (gap <= 3 * np.hypot(error[held], np.array(case["se"])[held])).all()


@pytest.mark.parametrize(("rho", "scale"), [(0.001, 1.0), (0.1, 1.0), (1.0, 2.0), (5.0, 1.0), (50.0, 1.0)])
def test_the_lateral_side_against_an_integration_of_the_closed_form(rho: float, scale: float) -> None:
    """F by the Faddeeva function, dPsi/ds = e J^(-1/2), dJ/ds = e field F^3 J^(-1/2) by a Runge-Kutta method of order 8."""
    p = 32.0
    flow = OneWeight(4, p, 1024.0, math.sqrt(rho / p**3), scale, 4.0)

    def F(a: complex) -> complex:
        if abs(a) < 2e-3:  # the asymptotic series, to its smallest term
            terms = [math.factorial(2 * k + 1) / math.factorial(k) * (4 * a) ** k for k in range(50)]
            stop = min(range(50), key=lambda k: abs(terms[k]))
            return sum(terms[:stop])
        root = np.sqrt(complex(a))
        return -1 / (8 * a) - 1j * math.sqrt(math.pi) * wofz(1 / (4 * root)) / (32 * a * root)

    def pace(_: float, y: np.ndarray) -> np.ndarray:
        return flow.sign * np.array([1.0, flow.field * F(y[0]) ** 3]) / np.sqrt(y[1])

    s = np.array([1e-4, 1e-3, 0.004, 0.01, 0.03])
    run = solve_ivp(pace, (0.0, s[-1]), np.array([0j, 1 + 0j]), "DOP853", s, rtol=1e-12, atol=1e-15)
    found = flow._lateral(s, -lateral_turn(4))  # pyright: ignore[reportPrivateUsage]
    assert found[0] == pytest.approx(run.y[0], rel=1e-10)
    assert found[1] == pytest.approx(run.y[1], rel=1e-10)
    assert found[2] == pytest.approx([F(a) for a in run.y[0]], rel=1e-10)


@pytest.mark.parametrize("regime", ["A-B-E", "B-E", "E-A", "E"])
def test_short_times_against_the_exact_leading_coefficients(regime: str) -> None:
    problem = lf.CPDecomposition(order=4)
    sizes = {"p": 5, "H": 7, "sigma2": Fraction(1, 50)}
    from lossflow.expansion.leading import chosen_regime, leading_series

    floats = {name: float(value) for name, value in sizes.items()}
    known = leading_series(problem, chosen_regime(problem, regime, floats)[0], lf.expand(problem, 3), sizes)  # type: ignore[arg-type]
    flow = one_weight(4, regime, 5.0, 7.0, 0.02, 1.0)
    assert flow is not None
    for time in (-2e-3, -1e-3):
        exact = float(sum(c * Fraction(time) ** s for s, c in enumerate(known.leading)))
        assert flow.at(np.array([time]))[0] == pytest.approx(exact, abs=60 * abs(float(known.leading[3])) * time**4)


def test_the_lazy_limit_of_odd_order_has_two_rates() -> None:
    data = DATA["simulations"]["odd_sym3_lazy_p6_H20000"]
    sizes = {name: data["params"][name] for name in ("p", "H", "sigma2")}
    unit = 1 / (sizes["H"] * sizes["sigma2"] ** 2)
    answer = lf.solve(lf.CPDecomposition(order=3), lf.Limit(sizes, regime="B-C"), np.array(data["t"]) * unit)
    assert answer.values["loss"] == pytest.approx(data["theory"], rel=1e-9)
    assert answer.status
    assert "e^" in answer.details["formula"]
    assert lf.solve(lf.CPDecomposition(order=3), lf.Limit(sizes, regime="C"), [0.1]).details["regime"] == "C"
