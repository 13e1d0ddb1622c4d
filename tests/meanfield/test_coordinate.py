"""The mean field of diagonal networks against closed forms, an independent computation, and wrong input."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lossflow as lf
from lossflow.meanfield import coordinate
from lossflow.meanfield.coordinate import FORMAT, Level, at_times
from lossflow.meanfield.coordinate_field import CONDITIONED, Field, Frame, frame_of, smooth_frame
from lossflow.meanfield.coordinate_paths import Link, Pass
from lossflow.meanfield.coordinate_schemes import Grid, Rows, Scheme, rows_of
from lossflow.problems.coordinate import CoordinateProcess
from lossflow.problems.priors import GaussianPrior, PositiveSparse

from . import coordinate_battery

Array = np.ndarray
REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "diagonal.json").read_text())["dynamics"]


def lazy(delta: float, noise: float, kappa: float, t: float) -> tuple[float, float]:
    """mse and twice the loss of a large start by Marchenko and Pastur, E beta*^2 = 1 (docs/theory/diagonal.md section 4)."""
    low, high = (1 - delta**-0.5) ** 2, (1 + delta**-0.5) ** 2
    angle = (np.arange(4000) + 0.5) * np.pi / 4000
    x = (low + high) / 2 + (high - low) / 2 * np.cos(angle)
    w = ((high - low) / 2 * np.sin(angle)) ** 2 / (2 * np.pi / delta * x) * np.pi / 4000
    fast = np.exp(-2 * kappa * x * t)
    mse = max(1 - delta, 0) + w @ fast**2 + noise / delta * (w @ ((1 - fast) ** 2 / x))
    return mse, w @ (x * fast**2) + noise * (max(1 - 1 / delta, 0) + w @ fast**2 / delta)


def solution(process: CoordinateProcess, rows: Rows, frame: Frame) -> Pass:
    one = Pass(process, rows, frame, 64, 0, 0)
    while one.advance():
        pass
    assert not one.reason
    return one


@pytest.mark.parametrize("scheme", ["trapezoid", "tr-bdf2"])
def test_a_large_start_is_lazy_to_second_order(scheme: Scheme) -> None:
    """Grids t = T (j/n)^2 with T = 3/(2 kappa) and K = 32, 64, 128 rows; mse is 1e-4 after extrapolation from 64 and 128."""
    kappa = 1e4
    process = CoordinateProcess(0.5, GaussianPrior(1.0), 0.25, (math.sqrt(2 * kappa), 0.0), 0.0)
    found, frame = [], None
    for rows in (32, 64, 128):
        n = rows if scheme == "trapezoid" else rows // 2
        grid = rows_of(np.diff(1.5 / kappa * (np.arange(n + 1) / n) ** 2), scheme)
        frame = frame or smooth_frame(grid.times)
        # the covariance does not depend on paths here: its guess is nearly exact
        frame = frame_of(grid.times, solution(process, grid, frame).C)
        one = solution(process, grid, frame)
        found.append(np.array([one.values["mse"], 2 * np.array(one.values["loss"])])[:, :: len(grid.times) // 8])
        times = grid.times[:: len(grid.times) // 8]
    exact = np.array([lazy(0.5, 0.25, kappa, float(t)) for t in times]).T
    errors = [np.abs(values / exact - 1).max(axis=1) for values in found]
    for coarse, fine in itertools.pairwise(errors):
        assert (coarse / fine > 3.0).all()
    extrapolated = (4 * found[2] - found[1]) / 3
    assert np.abs(extrapolated / exact - 1).max() < 1e-4


def test_infinitely_many_data_decouple() -> None:
    """w = e^xi obeys  w' = -kappa (w - w+)(w - w-),  here for one atom beta* = 1 by its logistic solution."""
    kappa = 0.1
    problem = lf.DiagonalLinear(math.inf, lf.RademacherSparse(1.0), init=lf.SymmetricInit(math.sqrt(kappa)))
    times = np.array([0.0, 0.5, 1.0, 2.0, 4.0])
    found = lf.solve(problem, lf.MeanField(paths=16, resolution=128, randomizations=4), times)
    root = math.sqrt(1 + kappa**2)
    high, low = (1 + root) / kappa, (1 - root) / kappa
    ratio = (1 - high) / (1 - low) * np.exp(-2 * root * times)
    w = (high - low * ratio) / (1 - ratio)
    error = kappa * (w - 1 / w) / 2 - 1
    assert found.status
    assert found.values["mse"] == pytest.approx(error**2, rel=1e-4, abs=1e-6)


def synthetic(changes: float = 0.0) -> list[Level]:
    """exp(-t) with an error of second order in the step; `changes`: what all paths of the coarser levels change."""
    grid = Grid(np.full(6, 0.5), 3)
    levels = []
    for j in range(3):
        times = rows_of(grid.level(j), "tr-bdf2").times
        values = np.stack([np.exp(-times) + 0.1 * 4.0**-j * times] * 4)
        levels.append(Level(times, values * (1 + changes * (j < 2)), values))
    return levels


def test_where_the_coarsest_grid_has_no_solution_the_last_correction_is_the_error() -> None:
    levels = synthetic()
    times = np.array([0.5, 1.0, 2.0, 3.0])
    value, error = at_times(levels, times)
    assert value == pytest.approx(np.exp(-times), rel=1e-12)
    assert error == pytest.approx(np.zeros(4), abs=1e-12)
    coarsest = Level(levels[0].times[:5], levels[0].own[:, :5], levels[0].shared[:, :5])  # up to t = 1
    same, larger = at_times([coarsest, *levels[1:]], times)
    assert np.array_equal(value, same)
    assert larger[:2] == pytest.approx(np.zeros(2), abs=1e-12)
    assert larger[2:] == pytest.approx(0.1 * 4.0**-2 * times[2:], rel=1e-12)  # what the finest grid was off by


def test_what_more_paths_change_on_coarse_grids_changes_the_result() -> None:
    """A share of 1 % on each of two levels is one of 2 % of the whole, up to the error of the finest grid, also between nodes."""
    times = np.array([0.1, 0.25, 0.5, 0.8, 1.0, 2.0, 3.0])
    exact, moved = at_times(synthetic(), times)[0], at_times(synthetic(0.01), times)[0]
    finest = exact + 0.1 * 4.0**-2 * times
    assert moved - exact == pytest.approx(2 * (0.01 / 1.01) * finest, rel=1e-3)


def test_an_interrupted_solution_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After the second pass an interrupt; what was done is not done again, and the result is the same."""
    monkeypatch.setenv("LOSSFLOW_CACHE", str(tmp_path))
    problem = lf.DiagonalLinear(0.5, GaussianPrior(), 0.01, lf.SymmetricInit(0.5))
    method, times, right = lf.MeanField(64, 12, 4), [0.5, 1.0], coordinate.one_pass
    whole = lf.solve(problem, method, times)
    calls: list[int] = []

    def interrupted(*arguments: Any) -> coordinate.Found:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return right(*arguments)

    monkeypatch.setattr(coordinate, "one_pass", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lf.solve(problem, method, times)
    resumed = lf.solve(problem, method, times)
    assert len(calls) == 3 + 10  # four randomizations of three grids: two passes had been done
    for name, values in whole.values.items():
        assert np.array_equal(values, resumed.values[name])


@pytest.mark.parametrize("length", [2.0, 2.02, 2.6])
def test_a_field_has_the_covariance_that_its_rows_ask_for(length: float) -> None:
    """The guess has correlation length 2. Variances are exact; what is neglected elsewhere is the product of two small things."""
    times = np.append(0.0, np.geomspace(0.01, 10, 40))
    x = np.log1p(times / times[1])

    def law(length: float) -> Array:
        return np.exp(-(((x[:, None] - x) / length) ** 2) / 2) * (1 + 0.3 * np.exp(-x[:, None]) * np.exp(-x))

    covariance, guess = law(length), frame_of(times, law(2.0))
    field = Field(np.zeros((guess.factor.shape[1], 1)), 7.0 * guess.at(times), covariance[0, 0])
    for k in range(len(times)):
        field.prepare()
        field.keep(field.coefficients(covariance[k, :k], covariance[k, k]), covariance[k, k])
    gap, moved = field.factor @ field.factor.T - covariance, np.abs(field.factor - guess.factor).max()
    assert np.abs(np.diag(gap)).max() < 1e-14
    assert np.abs(gap).max() < CONDITIONED * moved + 1e-7
    assert (moved < 1e-6) == (length == 2.0)


@pytest.mark.parametrize("weights", [(1.2, 0.5), (math.sqrt(2), 0.0), (0.8, 0.8), (0.8, -0.8)])
def test_coefficients_can_be_kept_while_the_scale_falls(weights: tuple[float, float]) -> None:
    link = Link(CoordinateProcess(0.5, GaussianPrior(), 0.0, weights, 0.25))
    xi = np.array([-40.0, -3.0, -1e-3, 0.0, 0.2, 5.0, 60.0])
    later = link.kept(xi, 2 * 0.25 * 3.0)
    assert link.at(later, 4.0)[0] == pytest.approx(link.at(xi, 1.0)[0], rel=1e-12, abs=1e-15)


def reference_problem(setting: dict[str, Any]) -> lf.DiagonalLinear:
    """Their sigma is a deviation; "uv" is the non-negative start u = v = 0.3."""
    priors = {"rad": lf.RademacherSparse, "bg": lf.BernoulliGaussian, "pos": PositiveSparse}
    prior = priors[setting["prior"]["kind"]](setting["prior"]["rho"])
    assert math.sqrt(prior.second_moment) == pytest.approx(1.0)
    init = lf.NonNegativeInit(0.3) if setting["init"] == "uv" else lf.SymmetricInit(math.sqrt(setting["kappa"]))
    assert init.squares == pytest.approx((setting["a0"] ** 2, setting["b0"] ** 2))
    return lf.DiagonalLinear(setting["delta"], prior, setting["sigma"] ** 2, init, setting["lam"])


@pytest.mark.parametrize(
    "setting",
    [
        pytest.param(
            setting, id=setting["name"], marks=() if setting["name"] == "S5_gauss_underparam" else pytest.mark.slow
        )
        for setting in REFERENCE
    ],
)
def test_references_lie_within_their_stated_errors(setting: dict[str, Any]) -> None:
    """Their errors: Monte Carlo, which three seeds tell, and the size of the Richardson correction from K = 24 (S7: 48) steps to
    twice as many. Their `train` is twice the loss. Single errors of three seeds are Student's with two degrees of freedom.
    """
    found = lf.solve(reference_problem(setting), lf.MeanField(8192, 48), setting["times"])
    assert found.status
    theirs, units = (
        setting["dmft"],
        {"mse": ("test", 1.0), "loss": ("train", 0.5), "l1": ("l1", 1.0), "l2": ("l2", 1.0)},
    )

    def deviations(factor: float) -> Array:
        every = []
        for name, (other, unit) in units.items():
            expected, *errors = (
                unit * np.array(theirs[other + kind]) for kind in ("", "_mc_se", "_richardson_correction")
            )
            error = np.sqrt(found.uncertainty[name] ** 2 + errors[0] ** 2 + errors[1] ** 2)
            every.append((factor * found.values[name] - expected) / error)
        return np.concatenate(every)

    right = deviations(1.0)
    assert np.abs(right).max() < 4
    assert np.sqrt(np.mean(right**2)) < 1.5
    for factor in (0.99, 1.01):
        assert np.sqrt(np.mean(deviations(factor) ** 2)) > 3


ROWS = [row for row in coordinate_battery.table() if {"runs", "theory"} <= row.keys()]


def test_the_battery_holds_the_settings_as_they_are_written() -> None:
    asked = {coordinate_battery.described(setting): k for k, setting in enumerate(coordinate_battery.SETTINGS)}
    assert len(ROWS) == len(asked) >= 12
    for row in ROWS:
        number = asked[row["asked"]]
        assert row["theory_seed"] == coordinate_battery.THEORY_SEED + number
        assert row["format"] == FORMAT
        assert row["simulation_seed"] == coordinate_battery.SIMULATION_SEED + number
        assert {int(d): len(runs[0]) for d, runs in row["runs"].items()} == coordinate_battery.RUNS


def test_theory_and_extrapolated_simulations_agree_within_their_errors() -> None:
    count, _, rms, largest = coordinate_battery.summary(ROWS)
    assert count >= 60
    assert 0.8 < rms < 1.2
    assert largest < 4


@pytest.mark.parametrize(("factor", "least"), [(0.99, 1.2), (1.01, 1.2), (0.97, 2.0), (1.03, 2.0)])
def test_a_theory_that_is_off_fails(factor: float, least: float) -> None:
    _, _, rms, _ = coordinate_battery.summary(ROWS, factor)
    assert rms > least


@pytest.mark.slow
def test_errors_are_calibrated_against_larger_solves() -> None:
    """Sixteen times the paths and a grid twice finer, with other random numbers; two small solves for each large one."""
    deviations = []
    for number, setting in enumerate(coordinate_battery.SETTINGS):
        times = np.array(setting.times)
        large = lf.solve(setting.problem, lf.MeanField(16384, 56, 8, seed=500 + number), times)
        for seed in (0, 1):
            small = lf.solve(setting.problem, lf.MeanField(1024, 28, 8, seed=100 + 10 * number + seed), times)
            for name, place in coordinate_battery.NUMBERS:
                error = math.hypot(small.uncertainty[name][place], large.uncertainty[name][place])
                deviations.append((small.values[name][place] - large.values[name][place]) / error)
    assert len(deviations) == 128
    print(f"\nrms {np.sqrt(np.mean(np.square(deviations))):.2f}, largest {np.abs(deviations).max():.1f}")
    assert 0.8 < np.sqrt(np.mean(np.square(deviations))) < 1.2
    assert np.abs(deviations).max() < 4


def test_what_has_no_mean_field_is_refused() -> None:
    problem = lf.DiagonalLinear(0.5, lf.RademacherSparse(0.1))
    with pytest.raises(lf.InvalidInput, match=r"GradientFlow\(\) alone"):
        lf.solve(problem, lf.MeanField(), [0.0, 0.1], lf.GradientDescent(0.1))
    with pytest.raises(lf.InvalidInput, match="forward in time"):
        lf.solve(problem, lf.MeanField(), [-1.0, 0.1])
    with pytest.raises(lf.InvalidInput, match="dimension"):
        lf.solve(problem, lf.MeanField(dimension=3), [0.0, 0.1])
    for scale in ("0+", math.inf):
        with pytest.raises(lf.NotSpoken, match="has no process"):
            lf.solve(
                lf.DiagonalLinear(0.5, lf.RademacherSparse(0.1), init=lf.SymmetricInit(scale)),
                lf.MeanField(),
                [0.0, 1.0],
            )
