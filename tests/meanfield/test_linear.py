"""The closed equations of linear regression against the spectral solution, published numbers, and matrices of finite size."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lossflow as lf
from lossflow.meanfield import linear, volterra
from lossflow.meanfield.volterra import Regression
from lossflow.problems.labels import CubicNoiseLabels

STEP = 0.1
DELTAS = (0.3, 0.5, 0.8, 1.0, 2.0, 3.0, 10.0)
DYNAMICS = {
    "descent": lf.GradientDescent(STEP),
    "sgd": lf.SGD(step=STEP, batch_fraction=0.2),
    "sgf": lf.StochasticGradientFlow(temperature=0.5, step=STEP),
    "poisson": lf.PoissonSGD(temperature=0.5, step=STEP),
}


def regression(delta: float = 2.0, weight_decay: float = 0.05, noise_variance: float = 0.25) -> Regression:
    return Regression(delta, weight_decay, noise_variance, 1.3, 0.2, 1.0)


def problem(
    delta: float, weight_decay: float = 0.0, noise_variance: float = 0.25, **more: float
) -> lf.GeneralizedLinear:
    labels = lf.LinearLabels(noise_variance)
    return lf.GeneralizedLinear(loss=lf.Square(), labels=labels, delta=delta, weight_decay=weight_decay, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", DYNAMICS)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("delta", [*DELTAS, 0.99, 1e4, math.inf])
def test_mean_field_is_the_spectral_solution(delta: float, weight_decay: float, name: str) -> None:
    """All observables and all kernels, to 1e-12: the acceptance of the closed case."""
    given_, steps = regression(delta, weight_decay), 80
    kick = linear._kick(DYNAMICS[name], delta)
    solution = linear.equations(given_, STEP, kick, steps)
    modes = volterra.descent(given_, STEP, kick, np.arange(steps + 1))
    moments = volterra.moments(given_, modes)
    kernels = volterra.kernels(given_, modes, STEP * np.arange(steps + 1.0), STEP)
    C, m = np.diag(solution.correlation), solution.overlap
    for got, expected in [
        (np.diag(solution.residual), moments.error),
        (m, moments.overlap),
        (C, moments.norm),
        (C - 2 * m + given_.teacher, moments.excess),
        (solution.correlation, kernels.correlation),
        (solution.residual, kernels.residual),
        (linear.toeplitz(solution.response), kernels.response),
        (linear.toeplitz(solution.self_response), kernels.self_response),
    ]:
        assert np.abs(got - expected).max() < 1e-12


@settings(max_examples=25)
@given(
    delta=st.floats(0.05, 50),
    weight_decay=st.floats(0, 2),
    noise_variance=st.floats(0, 3),
    norm=st.floats(0, 4),
    cosine=st.floats(-1, 1),
    fraction=st.floats(0.05, 0.95),
    kick=st.floats(0, 0.2),
)
def test_both_roads_agree_everywhere(
    delta: float, weight_decay: float, noise_variance: float, norm: float, cosine: float, fraction: float, kick: float
) -> None:
    given_ = Regression(delta, weight_decay, noise_variance, norm, cosine * math.sqrt(norm), 1.0)
    step = 2 * fraction / (weight_decay + volterra.upper_edge(delta))
    solution = linear.equations(given_, step, kick * step, 30)
    moments = volterra.moments(given_, volterra.descent(given_, step, kick * step, np.arange(31)))
    scale = 1e-12 * max(1.0, float(moments.norm.max()), float(moments.error.max()))
    assert np.abs(np.diag(solution.residual) - moments.error).max() < scale
    assert np.abs(np.diag(solution.correlation) - moments.norm).max() < scale
    assert np.abs(solution.overlap - moments.overlap).max() < scale


def test_the_forces_obey_the_identity_of_stein() -> None:
    """E[L_k w_j] = sum_s M(k, s) C(s, j) + M(k, *) m_j, with E[L_k w_j] = step E e_k w_j found from the equation of C itself."""
    given_, steps, kick = regression(), 12, 0.03
    solution = linear.equations(given_, STEP, kick, steps)
    C, m = solution.correlation, solution.overlap
    P = linear.toeplitz(solution.self_response) / given_.delta
    M = STEP * (np.eye(steps + 1) - STEP * P)
    forces = linear.force_correlation(given_, solution, STEP, kick)
    R = linear.toeplitz(solution.response)
    kept = 1 - STEP * given_.weight_decay
    for k in range(steps):
        for j in range(k + 1):
            moved = kept * C[k, j] - M[k] @ C[:, j] + M[k].sum() * m[j] + forces[k, :j] @ R[j, :j] / given_.delta
            assert C[k + 1, j] == pytest.approx(moved, abs=1e-13)


@pytest.mark.parametrize("name", DYNAMICS)
def test_correlations_are_those_of_random_variables(name: str) -> None:
    given_ = regression(0.7, 0.0)
    kick = linear._kick(DYNAMICS[name], 0.7)
    solution = linear.equations(given_, STEP, kick, 60)
    for gram in (solution.correlation, solution.residual, linear.force_correlation(given_, solution, STEP, kick)):
        assert np.linalg.eigvalsh((gram + gram.T) / 2).min() > -1e-12 * np.abs(gram).max()


def reference(name: str, references: dict) -> dict:
    return next(setting for setting in references["settings"] if setting["name"] == name)


def test_published_descent(references: dict) -> None:
    """tests/reference/mean_field.json, ridge_gd_d2: values to the seven digits that are printed."""
    found = reference("ridge_gd_d2", references)
    a, expected = found["algorithm"], found["dmft"]
    norm, overlap = a["C0"][0][0], a["m0"][0][0]
    ridge = problem(a["delta"], a["lam"], 0.25, init_variance=norm, init_overlap=overlap / math.sqrt(norm))
    dynamics = lf.GradientDescent(a["eta"])
    answer = linear.solve(ridge.as_process(), dynamics, a["eta"] * np.array(found["steps"]))
    assert answer.status
    for name, column in {"loss": "train", "test_loss": "test", "mse": "terr", "overlap": "overlap"}.items():
        assert np.abs(answer.values[name] - expected[column]).max() < 6e-8
    assert np.abs(answer.values["norm"] - np.array(expected["C"])[:, 0, 0]).max() < 6e-8
    last = expected["R_theta_K_l"]
    solution = linear.equations(Regression(2.0, 0.1, 0.25, norm, overlap, 1.0), a["eta"], 0.0, 100)
    row = linear.toeplitz(solution.response)[100, last["l"]]
    assert np.abs(row - np.array(last["values"])[:, 0, 0]).max() < 6e-8


@pytest.mark.parametrize("index", [0, 1])
def test_published_flows(index: int, references: dict) -> None:
    """tests/reference/mean_field.json, ridge_flow: Volterra by trapezoids and Richardson, to 1e-7 or so."""
    found = references["ridge_flow"][index]
    ridge = problem(
        found["delta"],
        found["lam"],
        found["sigma"] ** 2,
        init_variance=found["q0"],
        init_overlap=found["m0"] / math.sqrt(found["q0"]),
    )
    tau = found["tau"]
    dynamics = lf.StochasticGradientFlow(tau) if tau else lf.GradientFlow()
    answer = linear.solve(ridge.as_process(), dynamics, np.array(found["times"], dtype=float))
    for name, column in {"loss": "train", "norm": "C", "mse": "excess"}.items():
        assert np.abs(answer.values[name] - found[column]).max() < (5e-7 if tau else 6e-8)
        assert answer.uncertainty[name].max() < 1e-13


@pytest.mark.parametrize("dynamics", DYNAMICS.values(), ids=str)
def test_one_large_matrix(dynamics: lf.AbstractDynamics) -> None:
    """Given X, n = 240 and d = 120, the mean over weights, labels and batches is exact by matrices: kicks sample by sample.

    theta_k = A theta_0 + B theta* + N noise + what the kicks add, of covariance S. Left is the fluctuation
    of X: that of <x> alone has the standard deviation sqrt(2/delta)/d = 1/d.
    """
    d, delta, decay, sigma2 = 120, 2.0, 0.05, 0.25
    n, one = int(delta * d), np.eye(d)
    X = np.random.default_rng(5).standard_normal((n, d)) / math.sqrt(d)
    kick = delta * linear._kick(dynamics, delta)
    A, B, N, S = one, 0 * one, np.zeros((d, n)), 0 * one
    move = (1 - STEP * decay) * one - STEP * X.T @ X / delta
    excess, loss = [], []
    for _ in range(31):
        away = B - one
        excess.append((np.sum(A**2) + np.sum(away**2) + sigma2 * np.sum(N**2) + np.trace(S)) / d)
        residual = ((X @ A) ** 2).sum(1) + ((X @ away) ** 2).sum(1) + sigma2 * ((X @ N - np.eye(n)) ** 2).sum(1)
        residual += np.einsum("ij,jk,ik->i", X, S, X)
        loss.append(residual.mean() / 2)
        S = move @ S @ move.T + kick / delta**2 * (X.T * residual) @ X
        A, B, N = move @ A, move @ B + STEP / delta * X.T @ X, move @ N + STEP / delta * X.T
    answer = linear.solve(problem(delta, decay, sigma2).as_process(), dynamics, dynamics.times(30))
    for got, name in ((excess, "mse"), (loss, "loss")):
        assert np.abs(got / answer.values[name] - 1).max() < 3 / d
        assert np.abs(got / answer.values[name] - 1).max() > 1e-6  # no tautology


@pytest.mark.parametrize("dynamics", DYNAMICS.values(), ids=str)
def test_sgd_runs_that_are_too_hot_say_so(dynamics: lf.AbstractDynamics) -> None:
    process = problem(0.5).as_process()
    hot = {"GradientDescent": lf.GradientDescent(0.4), "SGD": lf.SGD(0.3, 0.01)}.get(type(dynamics).__name__)
    hot = hot or type(dynamics)(temperature=3.0, step=0.1)  # type: ignore[call-arg]
    assert linear.solve(process, dynamics, dynamics.times(10)).status
    answer = linear.solve(process, hot, hot.times(10))
    assert not answer.status
    assert answer.status.kind == "left_domain"
    assert "without bound" in answer.status.reason
    assert all(np.isfinite(values).all() for values in answer.values.values())  # and right, at these times


def test_the_critical_temperature_is_named() -> None:
    answer = linear.solve(problem(3.0).as_process(), lf.StochasticGradientFlow(2.5), np.array([0.0, 1.0]))
    assert "critical one 2;" in answer.status.reason
    assert answer.details["heating"] == pytest.approx(1.25, rel=1e-12)
    assert linear.solve(problem(3.0).as_process(), lf.PoissonSGD(1.99), np.array([0.0, 1.0])).status


def test_values_beyond_all_doubles_are_missing_and_said_to_be() -> None:
    answer = linear.solve(problem(0.1).as_process(), lf.StochasticGradientFlow(4.0), np.array([0.0, 1.0, 10.0, 1000.0]))
    assert answer.status.last_time == 1.0 or answer.status.last_time == 10.0
    assert np.isnan(answer.values["loss"][-1])
    assert np.isnan(answer.uncertainty["loss"][-1])
    assert "correlation" not in answer.details
    back = linear.solve(problem(0.1).as_process(), lf.GradientFlow(), np.array([0.0, -1.0, -100.0]))
    assert back.status.last_time == -1.0
    assert np.isnan(back.values["norm"]).tolist() == [False, False, True]


def test_long_descents_are_solved_along_the_spectrum_alone() -> None:
    process = problem(1.0).as_process()
    dynamics = lf.GradientDescent(0.4)
    times = dynamics.times(linear.CAUSAL_STEPS + 200, 400)
    answer = linear.solve(process, dynamics, times)
    assert answer.details["route"] == "spectral solution"
    assert answer.uncertainty["loss"].max() < 1e-13
    within = linear.solve(process, dynamics, times[:3])
    assert "mean-field equations" in within.details["route"]
    assert np.array_equal(within.values["loss"], answer.values["loss"][:3]) or np.allclose(
        within.values["loss"], answer.values["loss"][:3], rtol=1e-13, atol=0
    )


def test_order_of_times_and_zero_step() -> None:
    process = problem(2.0).as_process()
    dynamics = lf.GradientDescent(0.1)
    up, down = (
        linear.solve(process, dynamics, times) for times in (np.array([0.0, 0.5, 2.0]), np.array([2.0, 0.5, 0.0]))
    )
    for name in up.values:
        assert np.array_equal(up.values[name], down.values[name][::-1])
    only = linear.solve(process, dynamics, np.array([0.0]))
    assert only.values["norm"] == [1.0]
    assert only.values["mse"] == pytest.approx([2.0], rel=1e-14)


def test_at_norm_zero_the_overlap_is_zero() -> None:
    answer = linear.solve(problem(2.0, init_variance=0.0).as_process(), lf.GradientFlow(), np.array([0.0, 1e-6]))
    assert answer.values["overlap"][0] == 0.0
    # theta = t (H theta* + X^T noise/delta):  <x>/sqrt(<x^2> + noise/delta)
    assert answer.values["overlap"][1] == pytest.approx(1 / math.sqrt(1 + 1 / 2 + 0.25 / 2), rel=1e-5)


def test_what_is_covered() -> None:
    linear_process = problem(2.0).as_process()
    assert all(linear.covers(linear_process, dynamics) for dynamics in [lf.GradientFlow(), *DYNAMICS.values()])
    assert not linear.covers(linear_process, lf.SGD(0.1, 0.5, order="reshuffled"))
    assert not linear.covers(linear_process, lf.SGD(0.1, 0.5, order="persistent", persistence=2.0))
    for other in [
        lf.GeneralizedLinear(loss=lf.Square(), labels=lf.SignLabels(), delta=2.0),
        lf.GeneralizedLinear(loss=lf.Huber(), labels=lf.LinearLabels(), delta=2.0),
        lf.GeneralizedLinear(loss=lf.Square(), labels=lf.LinearLabels(), delta=2.0, penalty=lf.L1(0.1)),
        lf.Softmax(classes=2, delta=2.0),
    ]:
        assert not linear.covers(other.as_process(), lf.GradientFlow())
        with pytest.raises(lf.InvalidInput, match="square loss"):
            linear.solve(other.as_process(), lf.GradientFlow(), np.array([0.0, 1.0]))


def test_heavy_tails_enter_by_their_variance() -> None:
    cubic = lf.GeneralizedLinear(loss=lf.Square(), labels=CubicNoiseLabels(scale=0.1), delta=2.0)
    dynamics = lf.SGD(0.1, 0.2)
    heavy = linear.solve(cubic.as_process(), dynamics, dynamics.times(20))
    normal = linear.solve(problem(2.0, noise_variance=0.15).as_process(), dynamics, dynamics.times(20))
    assert np.allclose(heavy.values["loss"], normal.values["loss"], rtol=1e-14)


def test_stochastic_dynamics_do_not_run_backward() -> None:
    for dynamics in (lf.StochasticGradientFlow(0.5), lf.PoissonSGD(0.5)):
        with pytest.raises(lf.InvalidInput, match="backward"):
            linear.solve(problem(2.0).as_process(), dynamics, np.array([-1.0, 0.0]))
    with pytest.raises(lf.InvalidInput, match="multiples of its step"):
        linear.solve(problem(2.0).as_process(), lf.GradientDescent(0.1), np.array([-0.1, 0.0]))


def test_kernels_are_kept_at_the_times_asked_for() -> None:
    process = problem(2.0, 0.1).as_process()
    dynamics = lf.StochasticGradientFlow(0.5, step=0.1)
    times = dynamics.times(40, 10)
    details = linear.solve(process, dynamics, times).details
    fine = linear.solve(process, dynamics, dynamics.times(40)).details
    for name in ("correlation", "response", "force_correlation"):
        assert np.allclose(details[name], fine[name][::10, ::10], rtol=1e-13, atol=1e-15)
    assert np.array_equal(details["kernel_times"], times)
    # flow: the same kernels in the limit of small steps, C_L/step^2 off the diagonal
    flow = linear.solve(process, lf.StochasticGradientFlow(0.5), times).details
    errors = []
    for step in (0.02, 0.01):
        discrete = lf.StochasticGradientFlow(0.5, step=step)
        found = linear.solve(process, discrete, times).details
        lower = np.tril_indices(times.size, -1)
        errors.append(
            [
                np.abs(found["correlation"] - flow["correlation"]).max(),
                np.abs(found["response"] - flow["response"])[lower].max(),
                np.abs(found["force_correlation"] / step**2 - flow["force_correlation"])[lower].max(),
            ]
        )
    assert np.array(errors[0]) / np.array(errors[1]) == pytest.approx([2.0, 2.0, 2.0], rel=0.1)
