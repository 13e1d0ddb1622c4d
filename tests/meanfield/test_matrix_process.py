"""Quadratic networks by mean field against gradient descent with the same teacher and start, and against the population."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq

import lossflow as lf
from lossflow import keys
from lossflow.laws.semicircle import quantile_above, second_above
from lossflow.laws.tails import quantile, tails
from lossflow.meanfield import matrix
from lossflow.meanfield.matrix import MatrixPass, matrix_pass
from lossflow.problems.matrix import MatrixProcess, symmetric_basis
from lossflow.problems.quadratic import QuadraticNetwork
from lossflow.simulate.quadratic import Instance

NETWORK = QuadraticNetwork(0.3, 0.4, 0.3, 0.5, 0.01)


def test_the_population_is_descended_exactly() -> None:
    d, step = 20, 0.01
    process = MatrixProcess(np.inf, 0.4, 0.3, 0.5, 0.01, 1.0)
    found = matrix_pass(process, step, 20, d)
    W, teacher = process.start(d, 0, 0), process.teacher(d, 0, 0)
    for mse, loss in zip(found.values["mse"], found.values["loss"], strict=True):
        exact = np.sum((W @ W.T - teacher) ** 2) / d
        assert mse == pytest.approx(exact, rel=1e-10)
        assert loss == pytest.approx(exact / 2 + 0.125, rel=1e-10)
        W = W + step * (2 * (teacher - W @ W.T) @ W - 0.02 * W)


def test_the_response_is_that_of_the_flow() -> None:
    """R_Z(t, s) = (2/d^2) tr over Sym(d) of dZ(t)/dH(s) by differences; with so many samples that the forces are all known."""
    d, step, updates, h = 6, 0.02, 14, 1e-6
    process = MatrixProcess(1e12, 0.5, 0.5, 0.5, 0.01, 1.0)
    teacher, start = process.teacher(d, 0, 0), process.start(d, 0, 0)

    def descended(push: np.ndarray, place: int) -> np.ndarray:
        W, found = start, []
        for n in range(updates + 1):
            found.append(W @ W.T)
            W = W + step * ((2 * (teacher - W @ W.T) - 0.02 * np.eye(d) + (push if n == place else 0)) @ W)
        return np.array(found)

    exact = np.zeros((updates + 1, updates + 1))
    rows, columns, weights = symmetric_basis(d)
    for place in range(updates):
        for i, j, weight in zip(rows, columns, weights, strict=True):
            push = np.zeros((d, d))
            push[i, j] = push[j, i] = 1 / weight
            change = (descended(h * push, place) - descended(-h * push, place)) / (2 * h)
            exact[:, place] += 2 / d**2 * np.sum(change * push, axis=(1, 2))
    found = matrix_pass(process, step, updates, d, probes=400).response
    assert np.abs(found - exact).max() < 0.06 * exact.max()
    assert np.sum(found * exact) == pytest.approx(np.sum(exact**2), rel=0.01)
    assert found.sum(axis=1) == pytest.approx(exact.sum(axis=1), rel=0.03)


def test_the_noise_of_the_probes_adds_nothing_to_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """After one step R_Z = 2 step (d + 1)/d tau(Z(0)), whose estimate enters the loss with its square."""
    d, step, alpha, noise = 5, 0.02, 0.3, 0.5
    process = MatrixProcess(alpha, 0.4, 0.6, noise, 0.01, 1.0)
    stream = [0]

    def generator(seed: int, run: int, purpose: Any) -> np.random.Generator:
        return keys.generator(seed, stream[0] if purpose == "matrix probes" else run, purpose)

    monkeypatch.setattr(matrix, "generator", generator)
    losses, responses = np.zeros((2, 400))
    covariance = np.zeros((2, 2))
    for k in range(400):
        stream[0] = k
        found = matrix_pass(process, step, 1, d, probes=1)
        losses[k], responses[k] = found.values["loss"][1], found.response[1, 0]
        assert 4 * losses[k] == pytest.approx(found.force_correlation[1, 1], rel=1e-12)
        covariance = 2 * found.correlation + noise  # the same for all probes

    def loss(response: Any) -> Any:
        (a, b), (_, c) = covariance
        x = -np.asarray(response) / alpha
        return (a * x**2 + 2 * b * x + c) / 4

    W = process.start(d, 0, 0)
    exact = 2 * step * (d + 1) / d * np.sum(W**2) / d
    linear = loss(exact) + (responses - exact) * (loss(exact + 1) - loss(exact - 1)) / 2
    gaps, plain = losses - linear, loss(responses) - linear
    error = gaps.std(ddof=1) / np.sqrt(400)
    assert abs(gaps.mean()) <= 3 * error
    assert plain.mean() > 5 * error


def test_descent_is_met_in_pairs_and_not_without_the_response() -> None:
    """docs/theory/quadratic.md section 3 [MBB26v2]: 8 pairs at d = 60; 28% without the response at t = 0.02."""
    d, step, records = 60, 0.02, [0, 1, 5, 20, 40]
    gaps, wrong = [], []
    for run in range(8):
        instance = Instance(NETWORK, d, run, 0)
        process = MatrixProcess(instance.n / d**2, 0.4, 0.3, 0.5, 0.01, 1.0)
        assert np.array_equal(process.teacher(d, run, 0), instance.teacher)
        assert np.array_equal(process.start(d, run, 0), instance.start)
        found = matrix_pass(process, step, 40, d, run=run).values
        blind = matrix_pass(process, step, 2, d, run=run, responding=False).values
        W, row, loss = instance.start.copy(), [], 1.0
        for k in range(41):
            if k in records:
                Z = W @ W.T
                mse, loss = np.sum((Z - instance.teacher) ** 2) / d, instance.samples.push(W).loss
                row.append((found["mse"][k] / mse - 1, found["loss"][k] / loss - 1))
            if k == 1:
                wrong.append(blind["loss"][k] / loss - 1)
            W -= step * instance.objective(W)[1]
        gaps.append(row)
    mean, error = np.mean(gaps, axis=0), np.std(gaps, axis=0, ddof=1) / np.sqrt(8)
    assert (np.abs(mean) <= 3 * error + 1e-12).all()
    assert np.mean(wrong) > 0.15


def test_without_the_response_the_loss_rises_again_and_below_a_threshold_blows_up() -> None:
    """The forces stay at full strength, chi = 1: W follows A = Z* + sqrt(xi) GOE - lambda, and an end, if there is one, solves
    mse = F(xi) at q = lambda and b = omega with 2 alpha xi = mse + Delta/2. F(xi)/xi tends to m_2(omega), so there is one for
    alpha > m_2(omega)/2 = 0.248; below it nothing holds the process. docs/theory/quadratic.md sections 3, 4 and 5 [MBB26v2].
    """

    def passes(alpha: float, d: int, updates: int, runs: int, responding: bool) -> list[MatrixPass]:
        process = replace(NETWORK, alpha=alpha).as_process()
        process = replace(process, alpha=process.samples(d) / d**2)
        return [matrix_pass(process, 0.02, updates, d, run=run, responding=responding) for run in range(runs)]

    threshold = second_above(quantile_above(0.4)) / 2
    assert threshold == pytest.approx(0.2484, abs=1e-4)
    for one in passes(0.15, 30, 200, 3, responding=False):
        assert one.reached * 0.02 < 1
        assert one.values["loss"][-1] > 1e6
    # above the threshold, as at the alpha of the published figures, the loss turns but stays finite
    blind, right = (np.mean([one.values["loss"] for one in passes(0.3, 60, 100, 4, r)], axis=0) for r in (False, True))
    first = 0.02 * int(np.flatnonzero(blind >= 10 * right)[0])
    assert 0.5 < first < 0.7
    assert 0.3 < 0.02 * int(np.argmin(blind)) < 0.9
    assert blind[-1] > 1.5 * blind.min()
    assert blind[-1] > 50 * right[-1]
    # where it ends, far above the threshold, where little is amplified
    ends = np.array([one.values["mse"][-1] for one in passes(0.6, 40, 200, 6, responding=False)])

    def excess(mse: float) -> float:
        xi = (mse + 0.25) / (2 * 0.6 * 40 / 41)
        t = tails(quantile(0.4, xi, 0.3, 1.0), xi, 0.3)
        return t.missing + 0.01**2 * t.mass + 4 * xi * (t.j1 - 0.01 * t.j0) - mse

    expected = float(brentq(excess, 0.01, 10.0))  # type: ignore[arg-type]
    assert ends.std(ddof=1) < 0.2 * expected
    assert abs(ends.mean() - expected) <= 3 * ends.std(ddof=1) / np.sqrt(6) + expected / 40


def test_a_flow_is_met_in_pairs() -> None:
    """The extrapolated passes against runs of the flow with the same teacher and start."""
    times = [0.0, 0.02, 0.1]
    theory = lf.solve(NETWORK, lf.MeanField(dimension=30, randomizations=12, seed=2), times)
    experiment = lf.solve(NETWORK, lf.Simulation({"d": 30}, runs=12, seed=2, tolerance=1e-6), times)
    assert theory.status
    ratios = {
        name: runs / experiment.details["runs"][name] - 1 for name, runs in theory.details["randomizations"].items()
    }
    assert np.abs(ratios["mse"][:, 0]).max() < 1e-12
    for ratio in ratios.values():
        error = ratio.std(axis=0, ddof=1) / np.sqrt(12)
        assert (np.abs(ratio.mean(axis=0)) <= 3.5 * error + 1e-12).all()
        assert error.max() < 0.08
    assert lf.compare(theory, experiment).agree


def test_all_samples_in_closed_form() -> None:
    """Against runs of the population flow, up to a correction of order 1/d."""
    population = replace(NETWORK, alpha=np.inf)
    times = np.array([0.0, 0.05, 0.3, 1.0])
    closed = lf.solve(population, lf.MeanField(), times)
    assert closed.details["route"] == "closed form"
    experiment = lf.solve(population, lf.Simulation({"d": 60}, runs=16), times)
    for name, values in closed.values.items():
        gap = np.abs(values - experiment.values[name])
        assert (gap <= 4 * experiment.uncertainty[name] + 0.5 / 60 * values).all(), name
    assert closed.values["loss"] == pytest.approx(closed.values["mse"] / 2 + 0.125, rel=1e-14)
    backwards = lf.solve(population, lf.MeanField(), times[::-1])
    assert np.array_equal(backwards.values["mse"], closed.values["mse"][::-1])


def test_many_times_are_interpolated_and_come_in_any_order() -> None:
    method = lf.MeanField(dimension=16, randomizations=4)
    dense = lf.solve(NETWORK, method, np.linspace(0, 0.1, 90)[::-1])
    assert dense.status
    nodes = dense.details["randomization_times"]
    assert len(nodes) < 90
    at_nodes = dense.details["randomizations"]["loss"].mean(axis=0)
    assert np.interp(dense.times, nodes, at_nodes) == pytest.approx(dense.values["loss"], rel=0.05)
    x, times = np.linspace(0, 1, 12), np.linspace(0, 1, 55)
    value, error = matrix.interpolated(x, np.exp(-3 * x), np.full(12, 1e-6), times)
    assert np.linalg.norm(value - np.exp(-3 * times)) <= np.linalg.norm(error)
    assert error.max() < 1e-3


def test_an_interrupted_call_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    method, times = lf.MeanField(dimension=10, randomizations=4), [0.0, 0.05]
    whole = lf.solve(NETWORK, method, times)
    calls = []

    def interrupted(*arguments: Any, **more: Any) -> MatrixPass:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return matrix_pass(*arguments, **more)

    monkeypatch.setattr(matrix, "matrix_pass", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lf.solve(NETWORK, method, times)
    assert lf.solve(NETWORK, method, times).identical(whole)
    assert len(calls) == 6 + 16 - 5


def test_steps_that_are_too_large_are_told() -> None:
    steep = lf.GradientDescent(0.5)
    answer = lf.solve(NETWORK, lf.MeanField(dimension=10, randomizations=4), steep.times(40), steep)
    assert answer.status.kind == "left_domain"
    assert "smaller steps" in answer.status.reason
    assert np.isnan(answer.values["mse"][-1])


def test_what_cannot_be_asked() -> None:
    method = lf.MeanField(dimension=20)
    with pytest.raises(lf.InvalidInput, match="GradientFlow and GradientDescent"):
        lf.solve(NETWORK, method, [0.0, 0.1], lf.SGD(0.1, 0.5))
    with pytest.raises(lf.InvalidInput, match="forward in time"):
        lf.solve(NETWORK, method, [-0.1, 0.1])
    descent = lf.GradientDescent(0.02)
    with pytest.raises(lf.InvalidInput, match="resolution"):
        lf.solve(NETWORK, lf.MeanField(dimension=20, resolution=8), descent.times(2), descent)
    with pytest.raises(lf.InvalidInput, match="at least 2"):
        lf.solve(NETWORK, lf.MeanField(dimension=1), descent.times(2), descent)


def test_solve() -> None:
    descent = lf.GradientDescent(0.02)
    answer = lf.solve(NETWORK, lf.MeanField(dimension=24, randomizations=4), descent.times(4), descent)
    assert answer.status
    assert set(answer.values) == {"loss", "mse", "in_sample_error", "overlap"}
    assert all((errors > 0).all() for errors in answer.uncertainty.values())
    limit = 1 + 1 / 0.4 - 2 + 1 + 1 / 0.3
    assert abs(answer.values["mse"][0] - limit) <= 3 * answer.uncertainty["mse"][0]
    experiment = lf.solve(NETWORK, lf.Simulation({"d": 24}, runs=4), descent.times(4), descent)
    first, second = answer.details["randomizations"]["mse"], experiment.details["runs"]["mse"]
    assert first[:, 0] == pytest.approx(second[:, 0], rel=1e-12)  # the same teacher and start
    assert np.corrcoef(first[:, 1], second[:, 1])[0, 1] > 0.9
