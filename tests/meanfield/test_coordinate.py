"""The mean field of diagonal networks against closed forms, an independent computation, and wrong input."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

import lossflow as lf
from lossflow.meanfield.coordinate import at_times
from lossflow.meanfield.coordinate_paths import Link, Pass
from lossflow.meanfield.coordinate_schemes import Grid, Scheme, rows_of
from lossflow.problems.coordinate import CoordinateProcess
from lossflow.problems.priors import GaussianPrior

from . import coordinate_battery

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


@pytest.mark.parametrize("scheme", ["trapezoid", "tr-bdf2"])
def test_a_large_start_is_lazy_to_second_order(scheme: Scheme) -> None:
    """Grids t = T (j/n)^2 with T = 3/(2 kappa) and K = 32, 64, 128 rows; mse is 1e-4 after extrapolation from 64 and 128."""
    kappa = 1e4
    process = CoordinateProcess(0.5, GaussianPrior(1.0), 0.25, (math.sqrt(2 * kappa), 0.0), 0.0)
    found = []
    for rows in (32, 64, 128):
        n = rows if scheme == "trapezoid" else rows // 2
        grid = rows_of(np.diff(1.5 / kappa * (np.arange(n + 1) / n) ** 2), scheme)
        one = Pass(process, grid, 64, 0, 0)
        while one.advance():
            pass
        assert not one.reason
        stride = len(grid.times) // 8
        found.append(np.array([one.values["mse"], 2 * np.array(one.values["loss"])])[:, ::stride])
        times = grid.times[::stride]
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


def test_where_the_coarsest_grid_has_no_solution_the_last_correction_is_the_error() -> None:
    grid = Grid(np.full(6, 0.5), 3)
    nodes = [grid.nodes(j) for j in range(3)]
    levels = [np.stack([np.exp(-t) + 0.1 * 4.0**-j * t * np.ones_like(t)] * 4) for j, t in enumerate(nodes)]
    times = np.array([0.5, 1.0, 2.0, 3.0])
    value, error = at_times(levels, grid, times)
    assert value == pytest.approx(np.exp(-times), rel=1e-12)
    assert error == pytest.approx(np.zeros(4), abs=1e-12)
    ended = [levels[0][:, :3], *levels[1:]]  # up to t = 1
    same, larger = at_times(ended, grid, times)
    assert np.array_equal(value, same)
    assert larger[:2] == pytest.approx(np.zeros(2), abs=1e-12)
    assert larger[2:] == pytest.approx(0.1 * 4.0**-2 * times[2:], rel=1e-12)  # what the finest grid was off by


@pytest.mark.parametrize("weights", [(1.2, 0.5), (math.sqrt(2), 0.0), (0.8, 0.8), (0.8, -0.8)])
def test_coefficients_can_be_kept_while_the_scale_falls(weights: tuple[float, float]) -> None:
    link = Link(CoordinateProcess(0.5, GaussianPrior(), 0.0, weights, 0.25))
    xi = np.array([-40.0, -3.0, -1e-3, 0.0, 0.2, 5.0, 60.0])
    later = link.kept(xi, 2 * 0.25 * 3.0)
    assert link.at(later, 4.0)[0] == pytest.approx(link.at(xi, 1.0)[0], rel=1e-12, abs=1e-15)


def test_the_gaussian_setting_of_the_references() -> None:
    (setting,) = [s for s in REFERENCE if s["name"] == "S5_gauss_underparam"]
    problem = lf.DiagonalLinear(
        setting["delta"],
        lf.BernoulliGaussian(1.0),
        setting["sigma"] ** 2,
        lf.SymmetricInit(math.sqrt(setting["kappa"])),
    )
    found = lf.solve(problem, lf.MeanField(paths=2048, resolution=48, randomizations=4), setting["times"])
    assert found.status
    theirs = setting["dmft"]
    for name, other, scale in (("mse", "test", 1.0), ("loss", "train", 0.5), ("l1", "l1", 1.0), ("l2", "l2", 1.0)):
        expected = scale * np.array(theirs[other])
        assert found.values[name] == pytest.approx(expected, rel=1e-2), name


ROWS = [row for row in coordinate_battery.table() if {"runs", "theory"} <= row.keys()]


def test_the_battery_holds_the_settings_as_they_are_written() -> None:
    asked = {coordinate_battery.described(setting): k for k, setting in enumerate(coordinate_battery.SETTINGS)}
    assert len(ROWS) == len(asked) >= 12
    for row in ROWS:
        number = asked[row["asked"]]
        assert row["theory_seed"] == coordinate_battery.THEORY_SEED + number
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
