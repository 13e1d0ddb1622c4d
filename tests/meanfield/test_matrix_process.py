"""Quadratic networks by mean field against gradient descent with the same teacher and start, and against the population."""

from __future__ import annotations

import numpy as np
import pytest

import lossflow as lf
from lossflow.meanfield.matrix import matrix_pass
from lossflow.problems.matrix import MatrixProcess
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
                mse, loss = np.sum((Z - instance.teacher) ** 2) / d, instance.pull(Z)[1]
                row.append((found["mse"][k] / mse - 1, found["loss"][k] / loss - 1))
            if k == 1:
                wrong.append(blind["loss"][k] / loss - 1)
            W -= step * instance.objective(W)[1]
        gaps.append(row)
    mean, error = np.mean(gaps, axis=0), np.std(gaps, axis=0, ddof=1) / np.sqrt(8)
    assert (np.abs(mean) <= 3 * error + 1e-12).all()
    assert np.mean(wrong) > 0.15


def test_what_cannot_be_asked() -> None:
    with pytest.raises(lf.NotSpoken, match="GradientDescent alone"):
        lf.solve(NETWORK, lf.MeanField(dimension=20), [0.0, 0.1])
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
