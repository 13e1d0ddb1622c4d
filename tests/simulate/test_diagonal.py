"""Experiments with diagonal networks against (u, v) integrated as written, their diagrams, convex solves, and wrong input."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import lossflow as lf
from lossflow.keys import generator
from lossflow.meanfield.diagonal_entropy import Link
from lossflow.meanfield.diagonal_finite import Sample, interpolate
from lossflow.problems.diagonal import BalancedDiagonal
from lossflow.simulate import collocation, diagonal, diagonal_ensemble
from lossflow.simulate.diagonal import DiagonalRun, by_flow
from lossflow.simulate.gradients import compiled

Array = npt.NDArray[np.float64]

SPARSE = lf.DiagonalLinear(0.5, lf.RademacherSparse(0.25), 0.01, lf.SymmetricInit(0.3))
PROBLEMS = {
    "sparse": SPARSE,
    "small": replace(SPARSE, init=lf.SymmetricInit(1e-4)),
    "decaying": replace(SPARSE, init=lf.SymmetricInit(2.0), weight_decay=0.05),
    "many": lf.DiagonalLinear(1.25, lf.RademacherSparse(0.25), 0.1, lf.SymmetricInit(0.5)),
    "overdetermined": lf.DiagonalLinear(2.0, lf.BernoulliGaussian(0.5), 0.1, lf.SymmetricInit(0.5), 0.02),
    "general": lf.DiagonalLinear(0.75, lf.GaussianPrior(0.5), 0.1, lf.GeneralInit(0.9, -0.4), 0.03),
    "non-negative": lf.DiagonalLinear(0.75, lf.PositiveSparse(0.25), 0.1, lf.NonNegativeInit(0.4)),
}
D = 16
TIMES = np.array([0.0, 0.3, 1.0, 6.0])


def nothing(_: float) -> None:
    """No progress is shown."""


def as_written(problem: lf.DiagonalLinear, sample: dict[str, Array], times: Array) -> dict[str, Array]:
    """du/dt = -v g - lambda u,  dv/dt = -u g - lambda v,  by scipy."""
    from scipy.integrate import solve_ivp

    X, y, star = sample["X"], sample["y"], sample["beta_star"]
    (n, d), decay = X.shape, float(problem.weight_decay)

    def force(_: float, w: Array) -> Array:
        u, v = w[:d], w[d:]
        g = X.T @ (X @ (u * v) - y) * (d / n)
        return np.concatenate([-v * g - decay * u, -u * g - decay * v])

    start = np.concatenate([sample["u"], sample["v"]])
    found = solve_ivp(force, (0.0, times[-1]), start, method="DOP853", t_eval=times, rtol=1e-12, atol=1e-20)
    beta = (found.y[:d] * found.y[d:]).T
    return {
        "loss": ((beta @ X.T - y) ** 2).mean(axis=1) / 2,
        "mse": ((beta - star) ** 2).mean(axis=1),
        "l1": np.abs(beta).mean(axis=1),
        "l2": (beta**2).mean(axis=1),
    }


@pytest.mark.parametrize("stiff", [False, True])
@pytest.mark.parametrize("name", PROBLEMS)
def test_both_solvers_follow_the_flow_of_the_weights(name: str, stiff: bool) -> None:
    problem = PROBLEMS[name]
    sample = problem.as_sample({"d": D}, 0, 7)
    found = by_flow(DiagonalRun(problem.as_process(), sample), TIMES, 1e-9, stiff, nothing)
    assert not found["outcome"]
    for observable, expected in as_written(problem, sample, TIMES).items():
        assert found[observable] == pytest.approx(expected, rel=1e-8, abs=1e-14), observable


@pytest.mark.parametrize("tolerance", [1e-4, 1e-6, 1e-8])
def test_the_implicit_solver_keeps_its_tolerance_over_a_long_horizon(tolerance: float) -> None:
    """A start of kappa = 100 under weight decay: the fastest rate is 10^6 times the slowest."""
    problem = lf.DiagonalLinear(0.5, lf.RademacherSparse(0.1), 0.01, lf.SymmetricInit(10.0), 0.01)
    run = DiagonalRun(problem.as_process(), problem.as_sample({"d": 40}, 0, 0))
    times = np.geomspace(0.001, 2000.0, 25)
    found = by_flow(run, times, tolerance, True, nothing)
    best = by_flow(run, times, 1e-11, True, nothing)
    assert found["steps"] < 300
    for name in diagonal.OBSERVABLES:
        assert found[name] == pytest.approx(best[name], rel=tolerance, abs=0), name


def test_the_force_is_the_gradient_of_the_diagrams() -> None:
    problem = lf.DiagonalLinear(1.5, lf.BernoulliGaussian(1.0), 0.1, lf.GeneralInit(1.2, 0.5), 0.1)
    sizes, d, n = problem.as_diagrams().require(problem.diagram_sizes({"d": 4})), 4, 6
    random = np.random.default_rng(0)
    signal, x, noise = random.standard_normal(d), random.standard_normal((d, n)), random.standard_normal((d, n))
    X, y = x.T / 2, x.T @ signal / 2 + noise.sum(axis=0) / 2
    u, v = (np.full(d, weight) for weight in problem.init.weights)
    process = replace(problem.as_process(), weight_decay=0.1)
    run = DiagonalRun(process, {"u": u, "v": v, "beta_star": signal, "X": X, "y": y})
    nu, time = 0.3 * random.standard_normal(len(run.y)), 0.7
    xi = 2 * nu @ run.X
    beta, slope = run.beta(xi, time)
    moved = slope * 2 * (run.force(nu, time) @ run.X) - 2 * 0.1 * beta
    plus, minus = process.squares
    unit = max(plus, minus)
    a, b = (np.sqrt(q / unit) * np.exp(s * xi / 2 - 0.1 * time) for q, s in ((plus, 1), (minus, -1)))
    weights = {"a": a, "b": b, "signal": signal, "x": x, "noise": noise}
    program = compiled(problem.as_potential(), sizes)
    _, gradient = program({name: array[None] for name, array in weights.items()})
    expected = unit * (-a * gradient["a"][0] + b * gradient["b"][0])
    assert moved == pytest.approx(expected, rel=1e-12)
    (loss,), _ = compiled(problem.as_diagrams(), sizes)({name: array[None] for name, array in weights.items()})
    assert run.observe(beta)["loss"] == pytest.approx(float(loss), rel=1e-12)


@pytest.mark.parametrize("scale", [2.0, 0.1, 1e-3])
def test_few_data_end_at_the_interpolator_of_least_entropy(scale: float) -> None:
    problem = replace(SPARSE, init=lf.SymmetricInit(scale))
    sample = problem.as_sample({"d": 32}, 1, 7)
    long = np.array([0.0, 1e6])
    found = by_flow(DiagonalRun(problem.as_process(), sample), long, 1e-8, True, nothing)
    end = interpolate(Sample(sample["X"], sample["y"], sample["beta_star"]), Link.symmetric(scale**2))
    assert not found["outcome"]
    assert found["mse"][1] == pytest.approx(np.mean((end.beta - sample["beta_star"]) ** 2), rel=1e-7)
    assert found["l1"][1] == pytest.approx(np.abs(end.beta).mean(), rel=1e-7)
    assert found["loss"][1] < 1e-24


def test_many_data_end_at_least_squares_and_weight_decay_at_the_lasso() -> None:
    many = replace(PROBLEMS["overdetermined"], weight_decay=0.0)
    sample = many.as_sample({"d": 20}, 0, 3)
    found = by_flow(DiagonalRun(many.as_process(), sample), np.array([1e5]), 1e-8, True, nothing)
    beta, rest, *_ = np.linalg.lstsq(sample["X"], sample["y"])
    assert found["mse"][0] == pytest.approx(np.mean((beta - sample["beta_star"]) ** 2), rel=1e-6)
    assert found["loss"][0] == pytest.approx(float(rest[0]) / (2 * len(sample["y"])), rel=1e-8)
    decaying = replace(SPARSE, weight_decay=0.05)
    sample = decaying.as_sample({"d": 32}, 0, 3)
    found = by_flow(DiagonalRun(decaying.as_process(), sample), np.array([10000.0]), 1e-8, True, nothing)
    beta = lasso(sample["X"], sample["y"], 0.05)
    assert found["mse"][0] == pytest.approx(np.mean((beta - sample["beta_star"]) ** 2), rel=1e-6)
    assert found["l1"][0] == pytest.approx(np.abs(beta).mean(), rel=1e-6)


def lasso(X: Array, y: Array, strength: float) -> Array:
    """argmin |y - X b|^2/(2 delta) + strength |b|_1, coordinate after coordinate."""
    n, d = X.shape
    beta, left = np.zeros(d), y.copy()
    squares = (X**2).sum(axis=0) * d / n
    for _ in range(20_000):
        before = beta.copy()
        for j in range(d):
            pull = X[:, j] @ left * d / n + squares[j] * beta[j]
            new = np.sign(pull) * max(abs(pull) - strength, 0.0) / squares[j]
            left += X[:, j] * (beta[j] - new)
            beta[j] = new
        if np.abs(beta - before).max() < 1e-13:
            break
    return beta


@pytest.mark.parametrize("prior", [lf.GaussianPrior(0.5), lf.RademacherSparse(0.25)])
def test_samples_are_those_of_the_exact_series_at_the_same_size(prior: lf.AbstractPrior) -> None:
    """Balanced samples are far off: at d = 8 their averages are others."""
    network, times = lf.DiagonalLinear(0.5, prior, 0.1), np.array([0.0, 0.004])
    series = lf.solve(network, lf.Series({"d": 8}, 3), times)
    off = {}
    for problem in (network, BalancedDiagonal.of(network)):
        found = lf.solve(problem, lf.Simulation({"d": 8}, runs=1000, tolerance=1e-6), times)
        for name in ("loss", "mse"):
            runs = found.details["runs"][name]
            falls, expected = runs[:, 0] - runs[:, 1], series.values[name][0] - series.values[name][1]
            off[problem, name] = abs(falls.mean() - expected) / (falls.std(ddof=1) / math.sqrt(len(falls)))
    assert off[network, "loss"] < 4
    assert off[network, "mse"] < 4
    assert off[BalancedDiagonal.of(network), "loss"] > 8


def test_balanced_samples_have_exactly_what_would_fluctuate() -> None:
    problem = BalancedDiagonal(0.5, lf.BernoulliGaussian(0.1), 0.25)
    sample = problem.as_sample({"d": 400}, 2, 5)
    X, y, star = sample["X"], sample["y"], sample["beta_star"]
    noise = y - X @ star
    assert np.count_nonzero(star) == 40
    assert np.mean(star**2) == pytest.approx(1.0, rel=0.1)
    assert np.mean(noise**2) == pytest.approx(0.25, rel=1e-12)
    assert np.mean((X @ star) ** 2) == pytest.approx(np.mean(star**2), rel=1e-12)
    assert noise @ X @ star == pytest.approx(0.0, abs=1e-9)
    assert np.mean(X**2) * 400 == pytest.approx(1.0, rel=6 * math.sqrt(2 / X.size))


def test_components_have_their_share_on_average() -> None:
    """7 entries of weights 0.3, 0.5, 0.2: 2.1, 3.5 and 1.4 of them."""
    process = lf.DiagonalLinear(1.0, lf.AtomicPrior((0.0, 1.0, 2.0), (0.3, 0.5, 0.2))).as_process()
    draws = np.array([process._balanced_signal(7, generator(0, run, "signal")) for run in range(2000)])
    for atom, expected in ((0.0, 2.1), (1.0, 3.5), (2.0, 1.4)):
        counts = (draws == atom).sum(axis=1)
        assert counts.max() - counts.min() <= 2
        assert counts.mean() == pytest.approx(expected, abs=4 * counts.std() / math.sqrt(2000))


def test_descent_is_its_definition_and_tends_to_the_flow() -> None:
    problem = PROBLEMS["general"]
    sample = problem.as_sample({"d": D}, 0, 1)
    X, y = sample["X"], sample["y"]
    u, v = sample["u"], sample["v"]
    for _ in range(10):
        g = X.T @ (X @ (u * v) - y) * X.shape[1] / len(X)
        u, v = u - 0.02 * (v * g + 0.03 * u), v - 0.02 * (u * g + 0.03 * v)
    method = lf.Simulation({"d": D}, runs=1, seed=1)
    found = lf.solve(problem, method, [0.0, 0.2], lf.GradientDescent(0.02))
    assert found.values["mse"][1] == pytest.approx(np.mean((u * v - sample["beta_star"]) ** 2), rel=1e-12)
    flow = lf.solve(problem, method, [0.0, 0.2]).values["mse"][1]
    errors = [
        lf.solve(problem, method, [0.0, 0.2], lf.GradientDescent(step)).values["mse"][1] - flow
        for step in (0.02, 0.01, 0.005)
    ]
    assert errors[0] / errors[1] == pytest.approx(2.0, abs=0.1)
    assert errors[1] / errors[2] == pytest.approx(2.0, abs=0.05)


def test_a_trajectory_knows_its_runs_and_its_solver() -> None:
    few = lf.Simulation({"d": 24}, runs=3, seed=2)
    short = lf.solve(SPARSE, few, [0.0, 0.5, 2.0])
    more = lf.solve(SPARSE, replace(few, runs=4), [0.0, 0.5, 2.0])
    assert short.status
    assert set(short.values) == {"loss", "mse", "l1", "l2"}
    assert short.details["solver"] == "runge-kutta"
    for name, runs in short.details["runs"].items():
        assert runs.shape == (3, 3)
        assert np.array_equal(runs, more.details["runs"][name][:3])
        assert short.values[name] == pytest.approx(runs.mean(axis=0))
        assert short.uncertainty[name] == pytest.approx(runs.std(axis=0, ddof=1) / math.sqrt(3), rel=1e-6, abs=1e-8)
    long = lf.solve(SPARSE, replace(few, runs=1), [0.0, 500.0])
    assert long.details["solver"] == "collocation"
    assert np.isinf(long.uncertainty["loss"]).all()
    backward = lf.solve(SPARSE, few, [2.0, 0.5, 0.0, -0.01])
    assert backward.values["mse"][:3] == pytest.approx(short.values["mse"][::-1], rel=1e-7)
    assert backward.values["loss"][3] > backward.values["loss"][2]


def test_a_design_takes_the_place_of_the_data() -> None:
    X = np.sign(np.random.default_rng(0).standard_normal((12, 24))) / math.sqrt(24)
    found = lf.solve(SPARSE, lf.Simulation({"d": 24}, runs=2, design=lf.Design.of(X)), [0.0, 1.0])
    sample = SPARSE.as_process().sample({"d": 24}, 1, 0, design=X)
    assert sample["X"] is X
    expected = as_written(SPARSE, sample, np.array([0.0, 1.0]))
    assert found.details["runs"]["mse"][1] == pytest.approx(expected["mse"], rel=1e-7)


def test_what_ends_early_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    method = lf.Simulation({"d": 24}, runs=2)
    diverged = lf.solve(SPARSE, method, [0.0, 20.0, 40.0], lf.GradientDescent(2.0))
    assert diverged.status.kind == "stopped"
    assert "smaller step" in diverged.status.reason
    assert np.isnan(diverged.values["loss"][-1])
    blown = lf.solve(SPARSE, method, [0.0, -100.0])
    assert blown.status.kind == "left_domain"
    assert blown.status.last_time is not None
    assert -100 < blown.status.last_time < 0
    monkeypatch.setattr(collocation, "MAX_STEPS", 5)
    stopped = lf.solve(SPARSE, method, [0.0, 1000.0])
    assert stopped.status.kind == "stopped"
    assert "too many steps" in stopped.status.reason
    assert np.isfinite(stopped.values["loss"][0])


WRONG: list[tuple[Any, dict[str, Any], str]] = [
    (lf.SGD(0.1, 0.5), {}, "GradientFlow"),
    (lf.GradientDescent(0.3), {}, "multiples of its step"),
    (lf.GradientFlow(), {"backend": "jax"}, "numpy"),
    (lf.GradientFlow(), {"sizes": {"d": 2.5}}, "whole number"),
    (lf.GradientFlow(), {"sizes": {"n": 20}}, "derived"),
    (lf.GradientFlow(), {"design": lf.Design("0" * 64)}, "not known"),
]


@pytest.mark.parametrize(("dynamics", "options", "message"), WRONG)
def test_what_cannot_be_simulated_is_refused(dynamics: Any, options: dict[str, Any], message: str) -> None:
    method = lf.Simulation(**{"sizes": {"d": 24}, "runs": 1, **options})
    with pytest.raises(lf.InvalidInput, match=message):
        lf.solve(SPARSE, method, [0.0, 1.0], dynamics)


def test_problems_without_a_sample_say_why() -> None:
    method = lf.Simulation({"d": 24}, runs=1)
    for problem, reason in (
        (replace(SPARSE, delta=math.inf), "population"),
        (replace(SPARSE, init=lf.SymmetricInit("0+")), "limit of starts"),
    ):
        assert "sample" not in problem.languages
        with pytest.raises(lf.NotSpoken, match=reason):
            problem.as_sample({"d": 24}, 0, 0)
        with pytest.raises(lf.NotSpoken, match="no sample"):
            lf.solve(problem, method, [0.0, 1.0])


def test_short_and_long_horizons_are_told_apart() -> None:
    process = SPARSE.as_process()
    assert diagonal.stiffness(process, 1.0) == pytest.approx(diagonal.stiffness(process, 10.0) / 10)
    decaying = replace(process, weights=(math.sqrt(200.0), 0.0), weight_decay=0.01)
    grown = diagonal.stiffness(decaying, 1e3) - diagonal.stiffness(replace(decaying, weights=(1e-6, 0.0)), 1e3)
    assert grown == pytest.approx(2 * (1 + math.sqrt(2)) ** 2 * 100 / 0.02, rel=1e-6)
    assert diagonal_ensemble._solver(process, lf.GradientFlow(), 1.0) == "runge-kutta"
