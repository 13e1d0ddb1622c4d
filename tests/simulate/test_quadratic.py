"""Quadratic networks at finite size: data and forces against full matrices, runs against flows that are known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import lossflow as lf
from lossflow.simulate import quadratic_ensemble, quadratic_samples
from lossflow.simulate.quadratic import Instance
from lossflow.simulate.quadratic_samples import AllSamples, GoeSamples, NetworkSamples

NETWORK = lf.QuadraticNetwork(alpha=0.5, kappa=0.5, kappa_star=0.5, noise_variance=0.5, weight_decay=0.1)
DESCENT = lf.GradientDescent(0.02)


def matrices(samples: Any) -> np.ndarray:
    """X_k one by one, n x d x d."""
    if isinstance(samples, GoeSamples):
        return np.array([samples.matrix(row.astype(np.float64)) for row in samples.X])
    d = samples.d
    return np.array([(np.outer(x, x) - np.eye(d)) / math.sqrt(d) for x in samples.inputs])


@pytest.mark.parametrize("alpha", [0.4, 1.8])
@pytest.mark.parametrize("data", ["goe", "network"])
def test_the_objective_and_its_gradient(alpha: float, data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By full matrices X_k and by differences; by the data, in several parts, and by their Gram matrix."""
    monkeypatch.setattr(quadratic_samples, "BLOCK", 10 * 36 * 8)
    instance = Instance(replace(NETWORK, alpha=alpha), 8, 0, 0, data)
    samples, W, n = instance.samples, instance.start, instance.n
    assert n == round(alpha * 64)
    assert isinstance(samples, GoeSamples if data == "goe" else NetworkSamples)
    if isinstance(samples, GoeSamples):
        assert (samples.gram is not None) is (alpha > 1)
    X = matrices(samples)
    assert (X.transpose(0, 2, 1) == X).all()

    def loss(W: np.ndarray) -> float:
        residuals = np.einsum("kij,ij->k", X, W @ W.T - instance.teacher) - samples.noise
        return float(np.mean(residuals**2) / 4 + 0.1 / 8 * np.sum(W**2))

    value, gradient = instance.objective(W)
    assert value / 8 == pytest.approx(loss(W), rel=1e-12)
    clean = np.einsum("kij,ij->k", X, W @ W.T - instance.teacher)
    assert samples.push(W).in_sample_error == pytest.approx(np.mean(clean**2) / 4, rel=1e-12)
    h = 1e-5
    for place in [(0, 0), (3, 2), (7, 1)]:
        up, down = W.copy(), W.copy()
        up[place] += h
        down[place] -= h
        assert gradient[place] == pytest.approx(8 * (loss(up) - loss(down)) / (2 * h), rel=1e-7)


@pytest.mark.parametrize("data", ["goe", "network"])
def test_data_have_the_law_of_the_note(data: Any) -> None:
    """E X_ij X_kl = (delta_ik delta_jl + delta_il delta_jk)/d."""
    samples = Instance(replace(NETWORK, alpha=60.0), 6, 0, 0, data).samples
    X = matrices(samples)
    error = (4 if data == "goe" else 12) * 2 / 6 / math.sqrt(len(X))
    assert np.mean(X[:, 1, 1] ** 2) == pytest.approx(2 / 6, abs=error)
    assert np.mean(X[:, 1, 2] ** 2) == pytest.approx(1 / 6, abs=error)
    assert np.mean(X[:, 1, 2] * X[:, 0, 0]) == pytest.approx(0.0, abs=error)
    assert np.mean(X[:, 1, 1] * X[:, 0, 0]) == pytest.approx(0.0, abs=error)
    assert np.mean(X, axis=0) == pytest.approx(np.zeros((6, 6)), abs=5 * math.sqrt(2 / 6 / len(X)))


def test_all_samples_are_the_mean_over_many() -> None:
    many = Instance(replace(NETWORK, alpha=400.0), 5, 1, 0)
    pushed = many.samples.push(many.start)
    all_of_them = AllSamples(0.5, many.teacher).push(many.start)
    assert pushed.force == pytest.approx(all_of_them.force, abs=0.06 * np.abs(all_of_them.force).max())
    assert pushed.loss == pytest.approx(all_of_them.loss, rel=0.05)
    assert pushed.in_sample_error == pytest.approx(all_of_them.in_sample_error, rel=0.05)


def test_descent_is_that_of_the_instance() -> None:
    """The same draws, and the same steps one by one."""
    answer = lf.solve(NETWORK, lf.Simulation({"d": 10}, runs=3, seed=4), DESCENT.times(12, 4), DESCENT)
    assert answer.status
    assert set(answer.values) == {"loss", "mse", "in_sample_error", "overlap"}
    assert answer.details["samples"] == 50
    for run in range(3):
        instance = Instance(NETWORK, 10, run, 4)
        W = instance.start
        for k in range(13):
            if k % 4 == 0:
                Z, pushed = W @ W.T, instance.samples.push(W)
                found = {name: values[run, k // 4] for name, values in answer.details["runs"].items()}
                assert found["loss"] == pytest.approx(pushed.loss, rel=1e-10)
                assert found["in_sample_error"] == pytest.approx(pushed.in_sample_error, rel=1e-10)
                assert found["mse"] == pytest.approx(np.sum((Z - instance.teacher) ** 2) / 10, rel=1e-10)
                cosine = np.sum(Z * instance.teacher) / np.linalg.norm(Z) / np.linalg.norm(instance.teacher)
                assert found["overlap"] == pytest.approx(cosine, rel=1e-10)
            W = W - 0.02 * instance.objective(W)[1]


def test_the_flow_is_the_limit_of_small_steps() -> None:
    """2 Q(h/2) - Q(h) is off by O(h^2), which a smaller h shows."""
    times = np.array([0.0, 0.1, 0.4])
    simulation = lf.Simulation({"d": 10}, runs=2, tolerance=1e-10)
    flow = lf.solve(NETWORK, simulation, times).details["runs"]["loss"]
    gaps = []
    for h in (0.004, 0.002):
        coarse, fine = (
            lf.solve(NETWORK, simulation, times, lf.GradientDescent(step)).details["runs"]["loss"]
            for step in (h, h / 2)
        )
        gaps.append(np.abs(2 * fine - coarse - flow).max())
    assert gaps[0] < 5e-3 * flow.max()
    assert gaps[1] < 0.3 * gaps[0]


def test_all_samples_follow_the_closed_form() -> None:
    from lossflow.spectral.riccati import oja

    population = replace(NETWORK, alpha=math.inf)
    times = [0.0, 0.1, 1.0, 3.0]
    answer = lf.solve(population, lf.Simulation({"d": 12}, runs=3, seed=1, tolerance=1e-10), times)
    for run in range(3):
        sample = population.as_sample({"d": 12}, run, 1)
        assert set(sample) == {"W", "teacher"}
        flow = oja(sample["teacher"] - 0.1 * np.eye(12), sample["W"], times)
        mse = np.array([np.sum((Z - sample["teacher"]) ** 2) / 12 for Z in flow])
        assert answer.details["runs"]["mse"][run] == pytest.approx(mse, rel=1e-9)
        assert answer.details["runs"]["loss"][run] == pytest.approx(mse / 2 + 0.125, rel=1e-9)


def test_a_draw_is_the_same_for_every_number_of_samples_but_the_data() -> None:
    few, many = (replace(NETWORK, alpha=alpha).as_sample({"d": 8}, 2, 3) for alpha in (0.5, 1.0))
    assert few["X"].shape == (32, 36)
    assert many["y"].shape == (64,)
    for name in ("W", "teacher"):
        assert np.array_equal(few[name], many[name])


def test_a_gram_matrix_changes_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """d = 8: sixty updates pay for it, two do not."""
    made = []

    def recorded(X: Any, noise: Any, teacher: Any, gram: bool = False) -> GoeSamples:
        made.append(gram)
        return GoeSamples(X, noise, teacher, gram)

    monkeypatch.setattr(quadratic_ensemble, "GoeSamples", recorded)
    network = replace(NETWORK, alpha=1.8)
    simulation = lf.Simulation({"d": 8}, runs=2)
    short = lf.solve(network, simulation, DESCENT.times(2), DESCENT)
    long = lf.solve(network, simulation, DESCENT.times(60), DESCENT)
    assert made == [False, False, True, True]
    for name, values in short.details["runs"].items():
        assert long.details["runs"][name][:, :3] == pytest.approx(values, rel=1e-9)


def test_runs_that_end_early() -> None:
    steep = lf.GradientDescent(0.5)
    answer = lf.solve(NETWORK, lf.Simulation({"d": 10}, runs=2), steep.times(40), steep)
    assert answer.status.kind == "stopped"
    assert "smaller steps" in answer.status.reason
    assert np.isnan(answer.values["mse"][-1])
    backward = lf.solve(NETWORK, lf.Simulation({"d": 10}, runs=2), [-1.0, -0.001, 0.0, 0.1])
    assert backward.status.kind == "left_domain"
    assert list(np.isnan(backward.values["loss"])) == [True, False, False, False]
    assert backward.values["loss"][1] > backward.values["loss"][2] > backward.values["loss"][3]


def test_three_roads_at_short_times() -> None:
    """The exact series at this d, runs of the flow, and the mean field of the same teachers and starts.

    Most of the scatter is that of the start, whose mean the series knows: it is regressed out.
    """
    times = np.array([0.002, 0.004])
    series = lf.solve(NETWORK, lf.Series({"d": 16}, order=2), [0.0, *times])
    experiment = lf.solve(NETWORK, lf.Simulation({"d": 16}, runs=96), [0.0, *times])
    theory = lf.solve(NETWORK, lf.MeanField(dimension=16, randomizations=16), [0.0, *times])
    for name, error_allowed in {"mse": 0.01, "loss": 0.02, "in_sample_error": 0.02}.items():
        expected, truncation = series.values[name][1:], series.uncertainty[name][1:]
        runs = experiment.details["runs"]
        start = runs[name][:, 0] - series.values[name][0]
        slope = (start - start.mean()) @ runs[name] / np.sum((start - start.mean()) ** 2)
        rows = (runs[name] - np.outer(start, slope))[:, 1:]
        error = np.hypot(rows.std(axis=0, ddof=2) / math.sqrt(96), truncation)
        assert (np.abs(rows.mean(axis=0) - expected) <= 3.5 * error).all(), name
        assert (error <= error_allowed * expected).all(), name
        drop = series.values[name][0] - expected
        assert (drop > 6 * error).all(), name  # runs that stand still would be noticed
        pairs = theory.details["randomizations"][name] / runs[name][:16] - 1
        assert (np.abs(pairs.mean(axis=0)) <= 3.5 * pairs.std(axis=0, ddof=1) / 4 + 1e-12).all(), name
        assert (pairs.std(axis=0, ddof=1) / 4 < 2.5 * error_allowed).all(), name


@pytest.mark.parametrize(
    ("simulation", "dynamics", "complaint"),
    [
        (lf.Simulation({"d": 8}), lf.SGD(0.1, 0.5), "GradientFlow and GradientDescent"),
        (lf.Simulation({"d": 8}, backend="jax"), DESCENT, "by numpy"),
        (lf.Simulation({"d": 8}, design=lf.Design.of(np.eye(8))), DESCENT, "its own random matrices"),
        (lf.Simulation({"p": 8}), DESCENT, "no size"),
        (lf.Simulation({"d": 2.5}), DESCENT, "whole number"),
        (lf.Simulation({"d": 10**7}), DESCENT, "memory"),
    ],
    ids=str,
)
def test_misuse(simulation: lf.Simulation, dynamics: Any, complaint: str) -> None:
    with pytest.raises(lf.InvalidInput, match=complaint):
        lf.solve(NETWORK, simulation, DESCENT.times(2), dynamics)
    with pytest.raises(lf.InvalidInput, match="no column is left"):
        lf.solve(replace(NETWORK, kappa=0.01), lf.Simulation({"d": 8}), DESCENT.times(2), DESCENT)
