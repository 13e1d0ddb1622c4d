"""MeanField as a method: routes, flows and their extrapolation, errors, statuses, interruption, and what it refuses."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossflow.dynamics import (
    SGD,
    AbstractDynamics,
    GradientDescent,
    GradientFlow,
    PoissonSGD,
    StochasticGradientFlow,
)
from lossflow.errors import InvalidInput, NotSpoken
from lossflow.meanfield import grid as grids
from lossflow.meanfield import linear, solver
from lossflow.meanfield.errors import estimate, standard_error, without_crossings
from lossflow.meanfield.method import MeanField
from lossflow.meanfield.row import RowPass
from lossflow.method import solve
from lossflow.problem import AbstractProblem
from lossflow.problems.cp import CPDecomposition
from lossflow.problems.glm import GeneralizedLinear
from lossflow.problems.labels import LinearLabels, LogitLabels, NoiseLabels, SignLabels, SquaredLabels
from lossflow.problems.losses import Huber, Logistic, PhaseRetrieval, Square
from lossflow.problems.softmax import Softmax
from lossflow.problems.two_layer import Erf, TwoLayer
from lossflow.trajectory import Trajectory

Array = np.ndarray
SMALL = MeanField(paths=256, randomizations=4)
NORM, OVERLAP = 4.145804, 1.720313  # C and m of the logistic stationary point below (tests/reference/mean_field.json)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSFLOW_CACHE", str(tmp_path))


def logistic(**options: Any) -> GeneralizedLinear:
    return GeneralizedLinear(
        **({"loss": Logistic(), "labels": SignLabels(), "delta": 2.0, "weight_decay": 0.05} | options)
    )


def nearly_square(**options: Any) -> GeneralizedLinear:
    """Huber loss too wide to be felt: a linear model that takes the sampled route."""
    return GeneralizedLinear(
        **({"loss": Huber(1e9), "labels": LinearLabels(0.25), "delta": 2.0, "weight_decay": 0.1} | options)
    )


def square(**options: Any) -> GeneralizedLinear:
    return GeneralizedLinear(
        **({"loss": Square(), "labels": LinearLabels(0.25), "delta": 2.0, "weight_decay": 0.1} | options)
    )


def worst(found: Trajectory, exact: Trajectory) -> float:
    """The largest deviation in units of the stated error, with room for the rank of the kernels."""
    return max(
        float(np.max(np.abs(found.values[name] - exact.values[name]) / np.hypot(found.uncertainty[name], 2e-6)))
        for name in exact.values
    )


def test_square_loss_is_solved_in_closed_form() -> None:
    found = solve(square(), SMALL, [0.0, 1.0])
    assert found.details["route"] == "spectral solution"
    assert max(np.max(error) for error in found.uncertainty.values()) < 1e-12


@pytest.mark.parametrize("delta", [0.6, 2.0])
def test_flows_are_extrapolated_to_their_limit(delta: float) -> None:
    times = np.array([0.0, 0.3, 1.0, 3.0])
    found = solve(nearly_square(delta=delta), MeanField(paths=128, randomizations=4), times)
    exact = solve(square(delta=delta), SMALL, times)
    assert worst(found, exact) < 1.5
    assert max(np.max(np.abs(found.values[name] - exact.values[name])) for name in exact.values) < 2e-4


@pytest.mark.parametrize("dynamics", [StochasticGradientFlow(0.4), PoissonSGD(0.4)], ids=["diffusion", "jumps"])
def test_stochastic_flows(dynamics: AbstractDynamics) -> None:
    times = np.array([0.5, 2.0])
    found = solve(nearly_square(), MeanField(paths=1024, resolution=32), times, dynamics)
    exact = solve(square(), SMALL, times, dynamics)
    assert worst(found, exact) < 4
    for name in exact.values:
        assert found.values[name] == pytest.approx(exact.values[name], rel=0.02)


def test_resolution_is_followed_and_improves() -> None:
    times = [1.0, 3.0]
    exact = solve(square(), SMALL, times).values["loss"]
    errors = []
    for resolution in (24, 48, 96):
        found = solve(nearly_square(), MeanField(paths=256, randomizations=4, resolution=resolution), times)
        assert abs(found.details["steps"] - resolution) <= 12
        errors.append(np.abs(found.values["loss"] - exact).max())
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < errors[0] / 20


def test_no_resolution_is_too_coarse_to_be_stable() -> None:
    found = solve(nearly_square(), MeanField(paths=64, randomizations=4, resolution=8), [20.0])
    assert found.details["steps"] > 50
    assert found.values["loss"][0] == pytest.approx(solve(square(), SMALL, [20.0]).values["loss"][0], rel=0.01)


def test_many_times_are_interpolated_within_the_error() -> None:
    dense = np.linspace(0, 3, 400)
    found = solve(nearly_square(), MeanField(paths=256, randomizations=4, resolution=64), dense)
    assert worst(found, solve(square(), SMALL, dense)) < 1.5
    assert found.details["steps"] < 100


def test_descending_times_give_the_same_values() -> None:
    times = np.array([0.0, 0.5, 2.0])
    forward, backward = solve(logistic(), SMALL, times), solve(logistic(), SMALL, times[::-1])
    for name in forward.values:
        assert (forward.values[name] == backward.values[name][::-1]).all()


def test_time_zero_alone() -> None:
    found = solve(logistic(), SMALL, [0.0])
    assert found.values["norm"] == pytest.approx([1.0])
    assert found.values["test_error"] == pytest.approx([0.5])


@pytest.mark.parametrize(
    ("problem", "dynamics", "observables"),
    [
        (logistic(), SGD(0.5, 0.25), "loss train_error test_loss test_error norm overlap"),
        (nearly_square(), GradientDescent(0.5), "loss test_loss mse norm overlap"),
        (Softmax(3, 3.0, 0.1), GradientDescent(0.5), "loss train_error test_loss test_error norm overlap"),
        (TwoLayer(2, 3, Erf(), 3.0), GradientDescent(0.1), "loss test_loss mse norm overlap"),
    ],
    ids=["logistic", "huber", "softmax", "committee"],
)
def test_observables_and_their_shapes(problem: AbstractProblem, dynamics: AbstractDynamics, observables: str) -> None:
    found = solve(problem, SMALL, dynamics.times(4), dynamics)
    assert set(found.values) == set(observables.split())
    process = problem.as_process()
    m, star = process.model.columns, process.model.teacher_columns
    assert found.values["loss"].shape == (5,)
    assert found.values["norm"].shape == ((5,) if m == 1 else (5, m, m))
    assert found.values["overlap"].shape == ((5,) if m == 1 else (5, m, star))
    assert found.details["correlation"].shape == ((5, 5) if m == 1 else (5, 5, m, m))
    diagonal = np.einsum("kk...->k...", found.details["correlation"])
    assert diagonal == pytest.approx(found.values["norm"], rel=1e-12)


def test_kernels_of_a_flow_have_their_continuous_meaning() -> None:
    times = np.linspace(0, 2, 5)
    found, exact = (
        solve(nearly_square(), MeanField(paths=256, randomizations=4, resolution=96), times),
        solve(square(), SMALL, times),
    )
    lower = np.tril_indices(4, -1)
    for name, tolerance in (("correlation", 0.02), ("response", 0.03), ("force_correlation", 0.04)):
        assert found.details[name][lower] == pytest.approx(exact.details[name][lower], rel=tolerance), name
    slope = found.details["fluctuation_dissipation"]
    assert np.isnan(slope[np.triu_indices(5)]).all()
    assert np.isfinite(slope[np.tril_indices(5, -1)]).all()


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    step = GradientDescent(0.5)
    one, same, other = (
        solve(logistic(), MeanField(paths=128, randomizations=4, seed=seed), step.times(5), step) for seed in (0, 0, 1)
    )
    assert one.identical(same)
    assert (one.values["loss"] != other.values["loss"]).all()


def test_more_randomizations_keep_the_old_ones() -> None:
    step = GradientDescent(0.5)
    four, six = (solve(logistic(), MeanField(128, None, n), step.times(3), step).details for n in (4, 6))
    assert (four["randomizations"]["loss"] == six["randomizations"]["loss"][:4]).all()


def test_an_interrupted_solve_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, step = logistic(), GradientDescent(0.5)
    whole = solve(problem, SMALL, step.times(5), step)
    made: list[int] = []
    result = RowPass.result

    def counted(self: RowPass) -> Any:
        made.append(1)
        if len(made) == 3:
            raise KeyboardInterrupt
        return result(self)

    monkeypatch.setattr(RowPass, "result", counted)
    with pytest.raises(KeyboardInterrupt):
        solve(problem, SMALL, step.times(5), step)
    assert solve(problem, SMALL, step.times(5), step).identical(whole)
    assert len(made) == 3 + 2  # two were kept, the third and the fourth were still to be made


def test_growth_beyond_every_scale_is_a_status() -> None:
    step = GradientDescent(3.0)
    with pytest.warns(RuntimeWarning, match="stable"):
        found = solve(nearly_square(), SMALL, step.times(200, 2), step)
    assert found.status.kind == "left_domain"
    known = np.isfinite(found.values["loss"])
    assert known[:3].all()
    assert not known[-1]
    assert found.status.last_time == pytest.approx(found.times[known][-1], abs=6.0)


def test_what_a_complete_status_says() -> None:
    step = GradientDescent(0.1)
    separable = solve(logistic(weight_decay=0.0), SMALL, step.times(2), step).status
    assert separable
    assert "separable" in separable.reason
    assert "separable" not in solve(logistic(), SMALL, step.times(2), step).status.reason
    phase = GeneralizedLinear(PhaseRetrieval(), SquaredLabels(), 3.0, init_overlap=0.3)
    assert "curvature" in solve(phase, SMALL, GradientDescent(0.01).times(2), GradientDescent(0.01)).status.reason


@pytest.mark.parametrize(
    ("labels", "delta", "expected"),
    [(SignLabels(), 50.0, True), (LogitLabels(1.0), 1.5, True), (LogitLabels(1.0), 4.0, False)],
)
def test_separable_labels(labels: Any, delta: float, expected: bool) -> None:
    """Logit labels are separable below a finite n/d, between 2 (labels of pure noise) and 4; sign labels always."""
    assert solver.never_fits(logistic(labels=labels, delta=delta, weight_decay=0.0).as_process()) is expected


def test_pure_noise_is_separable_below_two_samples_per_dimension() -> None:
    for delta, expected in ((1.98, True), (2.02, False)):
        assert solver.never_fits(logistic(labels=NoiseLabels(), delta=delta, weight_decay=0.0).as_process()) is expected
    assert not solver.never_fits(GeneralizedLinear(Square(), SignLabels(), 1.0).as_process())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"paths": 3}, "paths"),
        ({"randomizations": 3}, "randomizations"),
        ({"resolution": 2}, "resolution"),
        ({"dimension": 0}, "dimension"),
        ({"seed": -1}, "seed"),
    ],
)
def test_fields_out_of_range(fields: dict[str, int], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        MeanField(**fields)


def test_what_is_refused() -> None:
    step = GradientDescent(0.5)
    with pytest.raises(InvalidInput, match="forward"):
        solve(logistic(), SMALL, [-1.0, 1.0])
    with pytest.raises(InvalidInput, match="multiples"):
        solve(logistic(), SMALL, [0.7], step)
    with pytest.raises(InvalidInput, match="resolution"):
        solve(logistic(), MeanField(resolution=100), step.times(2), step)
    with pytest.raises(InvalidInput, match="dimension"):
        solve(logistic(), MeanField(dimension=100), step.times(2), step)
    with pytest.raises(InvalidInput, match="GiB"):
        solve(logistic(), MeanField(paths=2**22), step.times(20_000), step)
    with pytest.raises(NotSpoken):
        solve(CPDecomposition(order=2), SMALL, [0.0])


def test_no_warning_where_nothing_is_wrong() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solve(logistic(), MeanField(paths=100, randomizations=4), [0.5])


def test_grids_hit_the_requested_times() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        times = np.unique(
            np.append(random.uniform(0, 30, random.integers(1, 12)), 0.0 if random.random() < 0.5 else 1.0)
        )
        grid = grids.flow(times, 0.8, None, bool(random.integers(2)))
        assert grid.exact
        assert grid.times == pytest.approx(times, abs=1e-12)
        assert (grid.steps > 0).all()
        assert grid.steps.max() < 0.95 * 2 / 0.8
        for level in range(grid.levels):
            steps, nodes = grid.level(level)
            assert np.append(0.0, np.cumsum(steps))[nodes] == pytest.approx(times, abs=1e-11)


def test_long_flows_have_growing_steps() -> None:
    grid = grids.flow(np.array([100.0]), 0.8, None, True)
    assert grid.steps[0] < 0.3
    assert grid.steps[-2] > 1.0
    assert len(grid.steps) < 100


def test_extrapolation_is_exact_for_quadratic_errors() -> None:
    h = np.array([1.0, 0.5, 0.25])
    found = estimate([np.full((4, 1), 3 + 0.2 * step + 0.1 * step**2) for step in h])
    assert found.value == pytest.approx([3.0], abs=1e-14)
    assert found.uncertainty[0] < 0.02


def test_scatter_decides_how_far_to_extrapolate() -> None:
    """Independent scatter of all levels larger than any error of the step: the finest values as they are."""
    random = np.random.default_rng(0)
    found = estimate([3 + 0.01 * step + random.standard_normal((8, 50)) for step in (1.0, 0.5, 0.25)])
    assert np.median(found.sampling) < 0.6
    assert np.mean(((found.value - 3) / found.uncertainty) ** 2) < 1.2


def test_a_change_of_sign_is_no_small_error() -> None:
    error = np.array([0.0, 4.0, 0.1, 6.0, 2.0])
    assert without_crossings(error).tolist() == [0.0, 4.0, 2.5, 6.0, 3.0]


def test_standard_errors_make_deviations_of_mean_square_one() -> None:
    random = np.random.default_rng(0)
    runs = random.standard_normal((8, 200_000))
    assert np.mean((runs.mean(axis=0) / standard_error(runs)) ** 2) == pytest.approx(1.0, abs=0.02)


def test_diffusion_and_jumps_are_told_apart() -> None:
    """Theory section 9: at delta = 4 and temperature 6 the train errors are 0.167 and 0.193 after t = 10."""
    problem, method = logistic(delta=4.0), MeanField(paths=4096)
    one, other = (solve(problem, method, [10.0], law(6.0, 0.25)) for law in (StochasticGradientFlow, PoissonSGD))
    gap = other.values["train_error"] - one.values["train_error"]
    assert gap > 5 * np.hypot(one.uncertainty["train_error"], other.uncertainty["train_error"])
    assert one.values["train_error"] == pytest.approx([0.167], abs=0.006)
    assert other.values["train_error"] == pytest.approx([0.194], abs=0.006)
    for name in ("loss", "test_error"):
        assert one.values[name] == pytest.approx(other.values[name], rel=0.02)


def test_a_long_descent_ends_at_the_stationary_point() -> None:
    """Theory section 6.3, t = 100: where descent ends does not depend on its step."""
    step = GradientDescent(2.0)
    found = solve(logistic(), MeanField(), [100.0], step)
    assert found.values["norm"] == pytest.approx([NORM], rel=3e-4)
    assert found.values["overlap"] == pytest.approx([OVERLAP / math.sqrt(NORM)], rel=3e-4)
    assert found.values["norm"] == pytest.approx([NORM], abs=4 * found.uncertainty["norm"][0])


@pytest.mark.slow
def test_a_long_flow_ends_at_the_stationary_point() -> None:
    """To 3e-4, which the stated error is below: 1024 of the paths carry tangents, and each step takes others."""
    found = solve(logistic(), MeanField(), [1.0, 10.0, 100.0])
    assert found.values["norm"][-1] == pytest.approx(NORM, rel=3e-4)
    assert found.values["norm"][-1] == pytest.approx(NORM, abs=3 * found.uncertainty["norm"][-1])
    assert found.values["overlap"][-1] == pytest.approx(OVERLAP / math.sqrt(NORM), rel=3e-4)
    assert found.uncertainty["norm"][-1] < 3e-4 * NORM


CALIBRATED: tuple[tuple[AbstractProblem, AbstractDynamics], ...] = (
    (logistic(), GradientDescent(0.5)),
    (logistic(), SGD(0.5, 0.25)),
    (logistic(), StochasticGradientFlow(1.0, 0.25)),
    (logistic(), PoissonSGD(1.0, 0.25)),
    (GeneralizedLinear(Huber(0.7), LinearLabels(0.5), 1.5), SGD(0.3, 0.2)),
    (GeneralizedLinear(Logistic(), LogitLabels(2.0), 3.0), SGD(0.5, 0.25, "reshuffled")),
)
FLOWS: tuple[AbstractDynamics, ...] = (GradientFlow(), StochasticGradientFlow(1.0), PoissonSGD(1.0))


def calibration(problem: AbstractProblem, dynamics: AbstractDynamics, names: Sequence[str], seeds: int) -> list[float]:
    """Deviations of small solves with different seeds from one with ten times the paths, for a flow on a grid twice as fine."""
    if dynamics.step is None:
        times = np.array([1.0, 6.0])
        finer = 2 * solve(problem, MeanField(paths=64, randomizations=4), times, dynamics).details["steps"]
    else:
        times, finer = dynamics.times(30)[[10, 30]], None
    method = MeanField(paths=20_480, randomizations=8 if finer else 16, resolution=finer, seed=1000)
    large = solve(problem, method, times, dynamics)
    found: list[float] = []
    for seed in range(seeds):
        small = solve(problem, MeanField(paths=2048, seed=seed), times, dynamics)
        for name in names:
            error = np.hypot(small.uncertainty[name], large.uncertainty[name])
            found += list((small.values[name] - large.values[name]) / error)
    return found


@pytest.mark.slow
def test_errors_are_calibrated_against_larger_solves() -> None:
    """Errors of updates are scatter alone."""
    deviations = [x for one in CALIBRATED for x in calibration(*one, ("loss", "test_loss"), 6)]
    assert len(deviations) >= 60
    assert 0.8 < math.sqrt(np.mean(np.square(deviations))) < 1.2
    assert np.abs(deviations).max() < 4.5


@pytest.mark.slow
def test_errors_of_flows_are_calibrated() -> None:
    """Those of flows contain what is left of the step."""
    deviations = [x for one in FLOWS for x in calibration(logistic(), one, ("loss", "norm"), 6)]
    assert len(deviations) >= 60
    assert 0.8 < math.sqrt(np.mean(np.square(deviations))) < 1.2
    assert np.abs(deviations).max() < 4.5


def test_flows_are_flows() -> None:
    """A flow and descent with small steps."""
    flow = solve(logistic(), MeanField(paths=512, randomizations=4), [1.0], GradientFlow())
    descent = GradientDescent(0.01)
    fine = solve(logistic(), MeanField(paths=512, randomizations=4), [1.0], descent)
    for name in ("loss", "norm", "test_loss"):
        assert flow.values[name] == pytest.approx(fine.values[name], rel=4e-3)


def test_the_closed_route_says_what_it_covers() -> None:
    assert linear.covers(square().as_process(), GradientFlow())
    assert not linear.covers(nearly_square().as_process(), GradientFlow())
