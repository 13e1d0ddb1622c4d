"""The spectral solution of flows: the Volterra equation solved again step by step, limits in closed form, and rounding."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from lossflow.meanfield import volterra
from lossflow.meanfield.volterra import Regression

DELTAS = (0.3, 0.5, 0.8, 1.0, 2.0, 3.0, 10.0)


def regression(delta: float, weight_decay: float = 0.05) -> Regression:
    return Regression(delta, weight_decay, 0.25, 1.3, 0.2, 1.0)


def by_steps(problem: Regression, temperature: float, last: float, panels: int) -> tuple[float, float]:
    """(E, C) at `last` from  E(t) = E_det(t) + tau int K2(t - u) E(u) du  by Gauss collocation, piece after piece.

    The kernels and E_det are sums over 4000 midpoints of the law in the angle, with the mass at 0 by  f(0) + int (f - f(0)).
    """
    g = 1 / problem.delta
    phi = (np.arange(4000) + 0.5) * math.pi / 4000
    x = (1 - math.sqrt(g)) ** 2 + 4 * math.sqrt(g) * np.cos(phi / 2) ** 2
    w = math.pi / 4000 * 4 * g * np.sin(phi) ** 2 / (2 * math.pi * g * x)
    s = problem.weight_decay + x
    q0, m0, Q, sigma2 = problem.norm, problem.overlap, problem.teacher, problem.noise_variance
    lam = problem.weight_decay

    def mean(f: np.ndarray, at_zero: np.ndarray | float = 0.0) -> np.ndarray:
        return at_zero + (f - np.expand_dims(at_zero, -1)) @ w

    def parts(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        A = np.exp(-np.multiply.outer(t, s))
        G = (1 - A) / s
        B = G * x
        zero = np.exp(-lam * t)
        E = mean(x * (A**2 * q0 + 2 * A * (B - 1) * m0 + (B - 1) ** 2 * Q)) + sigma2 * (1 + g * mean(B**2 - 2 * B))
        C = mean(A**2 * q0 + 2 * A * B * m0 + B**2 * Q, zero**2 * q0) + sigma2 * g * mean(G**2 * x)
        return E, C

    nodes, weights = np.polynomial.legendre.leggauss(6)
    nodes, weights = (nodes + 1) / 2, weights / 2
    h = last / panels
    vander = np.polynomial.legendre.legvander(2 * nodes - 1, 5)
    inside = np.empty((6, 6))  # int_0^{c_i h} K2(c_i h - u) l_m(u/h) du
    for i, c in enumerate(nodes):
        u = c * nodes
        kernel = np.array([mean(x**2 * np.exp(-2 * s * h * (c - v))) for v in u])
        lagrange = np.polynomial.legendre.legvander(2 * u - 1, 5) @ np.linalg.inv(vander)
        inside[i] = c * h * (weights * kernel) @ lagrange
    values: list[np.ndarray] = []
    times: list[np.ndarray] = []
    for k in range(panels):
        t = h * (k + nodes)
        E, _ = parts(t)
        for past, old in zip(times, values, strict=True):
            kernel = np.array([[mean(x**2 * np.exp(-2 * s * (a - b))) for b in past] for a in t])
            E = E + temperature * kernel @ (h * weights * old)
        values.append(np.linalg.solve(np.eye(6) - temperature * inside, E))
        times.append(t)
    end, C = parts(np.array(last))
    past, old = np.concatenate(times), np.concatenate(values)
    measure = np.tile(h * weights, panels) * old
    decays = [np.exp(-2 * s * (last - b)) for b in past]
    return (
        float(end + temperature * measure @ np.array([mean(x**2 * f) for f in decays])),
        float(C + temperature * measure @ np.array([mean(x * f) for f in decays])),
    )


@pytest.mark.parametrize("delta", DELTAS)
def test_hot_flows_against_the_volterra_equation_in_steps(delta: float) -> None:
    """To 1e-9, where 1e-6 is asked for; temperature half of the critical one and weight decay."""
    problem = regression(delta)
    modes = volterra.flow(problem, 0.9, np.array([2.0]))
    moments = volterra.moments(problem, modes)
    E, C = by_steps(problem, 0.9, 2.0, 12)
    assert moments.error[0] == pytest.approx(E, abs=1e-9)
    assert moments.norm[0] == pytest.approx(C, abs=1e-9)


@pytest.mark.parametrize("delta", [0.5, 1.0, 3.0])
def test_flows_are_the_limit_of_updates(delta: float) -> None:
    """Richardson over three steps of the discrete algorithm, to 1e-6."""
    problem, temperature, last = regression(delta, 0.0), 0.7, 3.0
    exact = volterra.moments(problem, volterra.flow(problem, temperature, np.array([last])))
    rows = []
    for steps in (300, 600, 1200, 2400):
        step = last / steps
        modes = volterra.descent(problem, step, temperature * step, np.array([steps]))
        rows.append(np.concatenate(volterra.moments(problem, modes)))
    for order in (1, 2, 3):
        rows = [(2**order * b - a) / (2**order - 1) for a, b in itertools.pairwise(rows)]
    assert rows[0] == pytest.approx(np.concatenate(exact), abs=1e-9)


@pytest.mark.parametrize("delta", [0.01, 0.5, 0.999999, 1.0, 1.000001, 2.0, 1e6, math.inf])
def test_quadrature_is_exact_to_rounding_at_all_times(delta: float) -> None:
    problem = regression(delta, 0.0)
    times = np.array([0.0, 1e-9, 0.1, 3.0, 100.0, 1e5])
    for temperature in (0.0, 1.2):
        coarse, fine = (
            volterra.moments(problem, volterra.flow(problem, temperature, times, points=p)) for p in (16, 24)
        )
        for a, b in zip(coarse, fine, strict=True):
            assert np.abs(a - b).max() < 1e-12 * (1 + np.abs(b).max())


def test_the_end_of_a_hot_flow() -> None:
    """lambda = 0, delta > 1:  E = sigma^2 (1 - 1/delta)/(1 - tau/2),  since <x> = 1."""
    problem = Regression(3.0, 0.0, 0.25, 1.0, 0.0, 1.0)
    moments = volterra.moments(problem, volterra.flow(problem, 1.5, np.array([1e4])))
    assert moments.error[0] == pytest.approx(0.25 * (2 / 3) / (1 - 0.75), rel=1e-12)


def test_the_population_is_a_point() -> None:
    """delta = inf: x = 1, dE/dt = -2 (E - sigma^2) + tau E without weight decay."""
    problem = Regression(math.inf, 0.0, 0.25, 1.0, 0.0, 1.0)
    times, tau = np.array([0.0, 0.5, 2.0]), 0.8
    end = 2 * 0.25 / (2 - tau)
    expected = end + (2.25 - end) * np.exp(-(2 - tau) * times)
    assert volterra.moments(problem, volterra.flow(problem, tau, times)).error == pytest.approx(expected, rel=1e-13)


def test_ascent_has_its_closed_form() -> None:
    """Backward in time along x = 1."""
    problem = Regression(math.inf, 0.0, 0.0, 1.0, 0.0, 1.0)
    moments = volterra.moments(problem, volterra.flow(problem, 0.0, np.array([-3.0])))
    assert moments.excess[0] == pytest.approx(2 * math.exp(6.0), rel=1e-13)


@pytest.mark.parametrize("delta", [0.3, 1.0, 2.0, math.inf])
def test_heating(delta: float) -> None:
    assert volterra.heating(regression(delta, 0.0), 2.0) == pytest.approx(1.0, rel=1e-12)  # <x>/2 = 1/2 for every delta
    below = volterra.heating(regression(delta, 0.3), 2.0)
    x, w = volterra.spectrum(regression(delta, 0.3), 100.0, True)
    assert below == pytest.approx(float(w @ (x**2 / (0.3 + x))), rel=1e-12)
    # of updates: the sum of K2 itself, and the limit of small steps
    problem, step, kick = regression(delta, 0.3), 0.2, 0.1
    s = 0.3 + x
    total = kick * sum(float(w @ (x**2 * (1 - step * s) ** (2 * k))) for k in range(600))
    assert volterra.heating_of_descent(problem, step, kick) == pytest.approx(total, rel=1e-10)
    assert volterra.heating_of_descent(problem, 1e-7, 2e-7) == pytest.approx(below, rel=1e-5)
    assert volterra.heating_of_descent(problem, 2 / (0.3 + volterra.upper_edge(delta)) * 1.0001, 0.1) == math.inf


def test_beyond_the_critical_temperature_the_error_grows() -> None:
    problem = Regression(2.0, 0.0, 0.25, 1.0, 0.0, 1.0)
    late = np.array([100.0, 110.0])
    growth = {tau: volterra.moments(problem, volterra.flow(problem, tau, late)).error for tau in (1.9, 2.1)}
    assert growth[1.9][1] < growth[1.9][0] * 1.01
    assert growth[2.1][1] > growth[2.1][0] * 1.2


def test_first_change_of_the_error() -> None:
    """K2(0) = 1 + 1/delta: 1 from the noise of the weights, 1/delta from the self-response."""
    problem = Regression(4.0, 0.0, 0.25, 1.0, 0.0, 1.0)
    cold, hot = (
        volterra.moments(problem, volterra.flow(problem, tau, np.array([0.0, 1e-6]))).error for tau in (0.0, 0.5)
    )
    assert (hot[1] - cold[1]) / 1e-6 == pytest.approx(0.5 * (1 + 1 / 4) * hot[0], rel=1e-5)
