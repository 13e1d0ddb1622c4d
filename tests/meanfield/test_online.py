"""The online limit: closed forms, the mean field that approaches it, one-pass experiments, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import lossflow as lf
from lossflow.meanfield.local_fields import averages

TIMES = np.array([0.0, 0.5, 1.0, 2.0, 5.0, 10.0])
REGRESSION = lf.GeneralizedLinear(loss=lf.Square(), labels=lf.LinearLabels(0.25), delta=math.inf)
LOGISTIC = lf.GeneralizedLinear(loss=lf.Logistic(), labels=lf.SignLabels(), delta=math.inf, weight_decay=0.05)
COMMITTEE = lf.TwoLayer(
    hidden=2,
    teacher_hidden=2,
    activation=lf.Erf(),
    delta=math.inf,
    noise_variance=0.01,
    init_overlap=((0.2, 0.0), (0.0, 0.1)),
)
DISCRETE = [lf.GradientDescent(0.3), lf.SGD(0.3, 0.1), lf.StochasticGradientFlow(0.5, 0.3), lf.PoissonSGD(0.5, 0.3)]


def at_delta(problem: lf.AbstractProblem, delta: float) -> lf.AbstractProblem:
    return replace(problem, delta=delta)  # type: ignore[type-var]


@pytest.mark.parametrize("dynamics", [lf.GradientFlow(), lf.StochasticGradientFlow(0.5), lf.PoissonSGD(0.5)], ids=repr)
def test_regression_in_closed_form(dynamics: lf.AbstractDynamics) -> None:
    """dE/dt = -2 (E - s) + tau E for the error E of a sample and noise s."""
    tau = getattr(dynamics, "temperature", 0.0)
    online = lf.solve(REGRESSION, lf.Online(), TIMES, dynamics)
    end = 2 * 0.25 / (2 - tau)
    expected = (end + (2.25 - end) * np.exp(-(2 - tau) * TIMES)) / 2
    assert np.abs(online.values["loss"] - expected).max() < 1e-9
    assert (np.abs(online.values["loss"] - expected) <= online.uncertainty["loss"]).all()
    assert online.uncertainty["loss"].max() < 1e-7
    assert set(online.values) == {"loss", "test_loss", "mse", "norm", "overlap"}


@pytest.mark.parametrize("dynamics", [lf.GradientFlow(), lf.StochasticGradientFlow(0.5), *DISCRETE], ids=repr)
def test_the_mean_field_at_delta_inf_is_the_online_limit(dynamics: lf.AbstractDynamics) -> None:
    """The closed two-time equations of the same problem: another road, to the tolerance of the differential equation."""
    times = TIMES if dynamics.step is None else dynamics.times(20, 4)
    problem = replace(REGRESSION, weight_decay=0.1, init_overlap=0.3)
    online, other = (lf.solve(problem, method, times, dynamics) for method in (lf.Online(), lf.MeanField()))
    for name in other.values:
        assert np.abs(online.values[name] - other.values[name]).max() < (1e-9 if dynamics.step is None else 1e-14)


@pytest.mark.parametrize("temperature", [0.0, 0.5])
def test_the_limit_is_approached_like_one_over_delta(temperature: float) -> None:
    """Gap times delta settles; the stated uncertainty contains the neglected order, covers the gap and does not drown it."""
    dynamics = lf.StochasticGradientFlow(temperature) if temperature else lf.GradientFlow()
    limit = lf.solve(REGRESSION, lf.Online(), TIMES, dynamics)
    scaled = []
    for delta in (10.0, 100.0, 1e3, 1e4):
        problem = at_delta(REGRESSION, delta)
        theory = lf.solve(problem, lf.MeanField(), TIMES, dynamics)
        scaled.append(delta * np.abs(theory.values["mse"] - limit.values["mse"])[1:])
        online = lf.solve(problem, lf.Online(), TIMES, dynamics)
        for name, values in theory.values.items():
            assert online.values[name] == pytest.approx(limit.values[name], abs=1e-8)
            off = np.abs(online.values[name] - values)[1:] / online.uncertainty[name][1:]
            assert off.max() < 1.5
            assert off.max() > 0.1
        assert online.details["neglected"]["loss"][0] == 0.0
    assert scaled[3] == pytest.approx(scaled[2], rel=0.01)
    assert scaled[2] == pytest.approx(scaled[1], rel=0.05)
    assert "neglected" not in limit.details


def test_the_limit_of_a_committee_is_approached() -> None:
    """Discrete dynamics, so that the mean field has no error of the step: gaps at delta = 10 and 40 shrink fourfold."""
    dynamics = lf.StochasticGradientFlow(0.3, 0.25)
    times = dynamics.times(16, 16)
    limit = lf.solve(COMMITTEE, lf.Online(), times, dynamics).values["mse"]
    gaps, errors = [], []
    for delta in (10.0, 40.0):
        theory = lf.solve(at_delta(COMMITTEE, delta), lf.MeanField(paths=2048), times, dynamics)
        gaps.append(delta * (theory.values["mse"] - limit)[-1])
        errors.append(delta * theory.uncertainty["mse"][-1])
    assert abs(gaps[0]) > 5 * errors[0]
    assert abs(gaps[1] - gaps[0]) < 4 * math.hypot(*errors) + 0.3 * abs(gaps[0])


@pytest.mark.parametrize(
    "problem",
    [pytest.param(COMMITTEE, id="committee"), pytest.param(LOGISTIC, id="logistic", marks=pytest.mark.slow)],
)
def test_small_updates_are_the_flow(problem: lf.AbstractProblem) -> None:
    """First order in the step: twice as small, half as far; extrapolated, to 1e-4."""
    flow = lf.solve(problem, lf.Online(), [2.0], lf.StochasticGradientFlow(0.4)).values
    steps = [lf.StochasticGradientFlow(0.4, step) for step in (0.02, 0.01)]
    coarse, fine = (lf.solve(problem, lf.Online(), [2.0], dynamics).values for dynamics in steps)
    for name in flow:
        assert 2 * fine[name] - coarse[name] == pytest.approx(flow[name], abs=1e-4)


@pytest.mark.slow
def test_one_pass_over_the_data() -> None:
    """Fresh batches: SGD whose batches are new samples is what the equations of updates say, at finite delta and up to one pass.

    d = 400, batches of 0.1 n, ten updates, 24 runs; five standard errors and 2/d.
    """
    d, delta, step, b, runs = 400, 5.0, 0.4, 0.1, 24
    problem = replace(LOGISTIC, delta=delta, init_overlap=0.2)
    dynamics = lf.SGD(step, b)
    times = dynamics.times(10)
    online = lf.solve(problem, lf.Online(), times, dynamics)
    norms, overlaps = [], []
    batch = int(b * delta * d)
    for run in range(runs):
        sample = problem.as_sample({"d": d}, run, 11)
        X, y = sample["X"], sample["y"]
        theta, star = sample["theta"][0].copy(), sample["theta_star"][0]
        for k in range(10):
            chosen = slice(k * batch, (k + 1) * batch)
            force = X[chosen].T @ problem.loss.slope(X[chosen] @ theta, y[chosen]) / (delta * b)
            theta = theta - step * (0.05 * theta + force)
        norms.append(theta @ theta / d)
        overlaps.append(theta @ star / np.linalg.norm(theta) / np.linalg.norm(star))
    for values, name in ((norms, "norm"), (overlaps, "overlap")):
        expected = online.values[name][-1]
        assert abs(np.mean(values) - expected) < 5 * np.std(values, ddof=1) / math.sqrt(runs) + 2 / d * (1 + expected)
    # the scatter of the batches matters here: without it the norm would be another
    without = lf.solve(at_delta(problem, math.inf), lf.Online(), times, dynamics).values["norm"][-1]
    assert abs(without - online.values["norm"][-1]) > 0.05


@pytest.mark.slow
def test_sampled_averages_have_honest_errors() -> None:
    """Softmax with two classes is logistic regression of the difference of its columns."""
    softmax = lf.Softmax(classes=2, delta=math.inf, sharpness=1.0)
    dynamics = lf.GradientDescent(1.0)
    found = lf.solve(softmax, lf.Online(), dynamics.times(6, 2), dynamics)
    assert found.details["averages"] == "sampling"
    # columns a, b: r = r_a - r_b of variance 2 C, teacher r*_a - r*_b of variance 2, P = s(r*); dr/dt = -2 s'...
    logistic, labels = lf.Logistic(), lf.LogitLabels(1.0)
    C, m = 2.0, 0.0
    for k in range(7):
        if k % 2 == 0:
            seen = averages(logistic, labels, C, m, 2.0, 0.0)
            n = k // 2
            assert abs(found.values["loss"][n] - seen.loss) < 5 * found.uncertainty["loss"][n] + 1e-9
        seen = averages(logistic, labels, C, m, 2.0, 0.0)
        pull = (seen.signal - seen.curvature * m) / 2  # force along theta*_a - theta*_b, whose square is 2
        square = seen.curvature**2 * C + 2 * seen.curvature * pull * m + 2 * pull**2
        # both columns move, in opposite ways: the difference moves by twice the force
        C, m = C - 4 * seen.drag + 4 * square, m - 2 * seen.signal
    assert (found.uncertainty["loss"] < 3e-3).all()


def test_matrices_carry_their_shapes() -> None:
    found = lf.solve(COMMITTEE, lf.Online(), TIMES)
    assert found.values["norm"].shape == found.values["overlap"].shape == (6, 2, 2)
    assert found.values["overlap"][0] == pytest.approx(np.diag([0.2, 0.1]))
    assert found.details["averages"] == "closed form"
    assert "test_error" not in found.values
    assert found.values["mse"][-1] < found.values["mse"][0]


@pytest.mark.slow
def test_classification_has_errors() -> None:
    found = lf.solve(LOGISTIC, lf.Online(), TIMES, lf.StochasticGradientFlow(1.0))
    assert np.array_equal(found.values["train_error"], found.values["test_error"])
    assert found.values["test_error"][0] == pytest.approx(0.5)
    cosine = found.values["overlap"][-1]
    assert found.values["test_error"][-1] == pytest.approx(math.acos(cosine) / math.pi, rel=1e-9)


@pytest.mark.slow
def test_times_in_any_order_and_backward() -> None:
    up = lf.solve(LOGISTIC, lf.Online(), TIMES)
    down = lf.solve(LOGISTIC, lf.Online(), TIMES[::-1])
    assert np.array_equal(up.values["norm"], down.values["norm"][::-1])
    through = lf.solve(REGRESSION, lf.Online(), [-0.5, 0.0, 0.5])
    assert through.values["mse"] == pytest.approx(2 * np.exp([1.0, 0.0, -1.0]), rel=1e-8)
    late = lf.solve(LOGISTIC, lf.Online(), [2.0])
    assert late.values["norm"][0] == pytest.approx(up.values["norm"][3], rel=1e-9)


def test_weights_that_leave_every_scale() -> None:
    phase = lf.GeneralizedLinear(loss=lf.PhaseRetrieval(), labels=lf.SquaredLabels(), delta=math.inf, init_overlap=0.2)
    hot = lf.solve(phase, lf.Online(), [0.0, 0.01, 1.0], lf.StochasticGradientFlow(1.0))
    assert hot.status.kind == "left_domain"
    assert hot.status.last_time is not None
    assert 0.01 < hot.status.last_time < 1.0
    assert np.isfinite(hot.values["loss"]).tolist() == [True, True, False]
    none = lf.solve(phase, lf.Online(), [1.0, 2.0], lf.StochasticGradientFlow(1.0))
    assert not none.status
    assert np.isnan(none.values["loss"]).all()
    descent = lf.GradientDescent(3.0)
    wild = lf.solve(REGRESSION, lf.Online(), descent.times(40, 10), descent)
    assert not wild.status
    assert wild.status.last_time is not None
    assert wild.status.last_time < 120
    calm = lf.solve(phase, lf.Online(), [0.0, 10.0])
    assert calm.values["loss"][-1] < 1e-9


def test_a_flow_too_hot_grows() -> None:
    hot = lf.solve(REGRESSION, lf.Online(), [0.0, 5.0, 10.0], lf.StochasticGradientFlow(2.5))
    assert hot.values["mse"][-1] > hot.values["mse"][0]


def test_what_it_refuses() -> None:
    with pytest.raises(lf.NotSpoken, match=r"L1.*Methods that apply"):
        lf.solve(replace(REGRESSION, penalty=lf.L1(0.1)), lf.Online(), TIMES)
    with pytest.raises(lf.InvalidInput, match="backward"):
        lf.solve(REGRESSION, lf.Online(), [-1.0, 0.0], lf.StochasticGradientFlow(0.1))
    persistent = lf.SGD(0.1, 0.5, order="persistent", persistence=2.0)
    with pytest.raises(lf.InvalidInput, match="persistent"):
        lf.solve(at_delta(REGRESSION, 3.0), lf.Online(), persistent.times(3), persistent)
    assert lf.solve(REGRESSION, lf.Online(), persistent.times(3), persistent).status
    with pytest.raises(lf.InvalidInput, match="multiples"):
        lf.solve(REGRESSION, lf.Online(), [0.05], lf.GradientDescent(0.1))
    with pytest.raises(lf.UnknownField, match="no field"):
        lf.Online(paths=3)  # type: ignore[call-arg]
    with pytest.raises(lf.NotSpoken):
        lf.solve(lf.CPDecomposition(order=2), lf.Online(), TIMES)
