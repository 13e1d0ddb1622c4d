"""The integrator against solutions in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lossflow.simulate import ode
from lossflow.simulate.ode import End, integrate


def solve(force, start, targets, tolerance=1e-10) -> tuple[np.ndarray, End]:
    found = np.full((len(targets), *np.shape(start)), np.nan)

    def arrived(place: int, state: np.ndarray) -> None:
        found[place] = state

    passed: list[float] = []
    end = integrate(force, np.array(start, float), np.array(targets, float), tolerance, arrived, passed.append)
    if not end.reason:
        assert sum(passed) == pytest.approx(targets[-1])
    return found, end


@pytest.mark.parametrize("tolerance", [1e-4, 1e-8, 1e-12])
def test_decay_keeps_its_relative_accuracy(tolerance: float) -> None:
    targets = np.linspace(0, 30, 61)
    found, end = solve(lambda y: -np.array([1.0, 0.3]) * y, [1.0, 2.0], targets, tolerance)
    assert not end.reason
    slow = found[:, 1] / (2 * np.exp(-0.3 * targets)) - 1
    assert np.abs(slow).max() < tolerance
    assert np.abs(found[:, 0] - np.exp(-targets)).max() < tolerance


def test_dense_output_and_ends_of_steps_agree() -> None:
    many, few = np.linspace(0, 5, 501), np.linspace(0, 5, 3)
    force = lambda y: np.array([y[1], -np.sin(y[0])])  # noqa: E731
    (dense, _), (ends, _) = solve(force, [1.0, 0.0], many), solve(force, [1.0, 0.0], few)
    assert dense[::250] == pytest.approx(ends, abs=1e-10)
    energy = dense[:, 1] ** 2 / 2 - np.cos(dense[:, 0])
    assert energy == pytest.approx(energy[0], abs=1e-9)


def test_a_blow_up_is_found_where_it_is() -> None:
    found, end = solve(lambda y: y**2, [2.0], [0.0, 0.25, 0.49, 0.6])
    assert found[:3, 0] == pytest.approx([2.0, 4.0, 100.0], rel=1e-7)
    assert math.isnan(found[3, 0])
    assert "blow" in end.reason
    assert end.time == pytest.approx(0.5, abs=1e-9)


def test_what_is_too_stiff_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ode, "MAX_STEPS", 50)
    _, end = solve(lambda y: -1e5 * (y - 1), [0.0], [1.0])
    assert "stiff" in end.reason
    assert end.steps == 50
    assert 0 < end.time < 1


@pytest.mark.parametrize("start", [[0.0, 0.0], [1.0, -2.0]])
def test_standing_still(start: list[float]) -> None:
    found, end = solve(np.zeros_like, start, [0.0, 1.0, 1e6])
    assert np.array_equal(found, [start] * 3)
    assert end.steps < 20


def test_a_force_that_is_not_finite_ends_the_run() -> None:
    def force(y: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return -1 / np.sqrt(y)  # reaches zero at t = 2/3 and has no further solution

    with np.errstate(divide="ignore", invalid="ignore"):
        found, end = solve(force, [1.0], [0.5, 1.0])
    assert found[0, 0] == pytest.approx((1 - 0.75) ** (2 / 3), rel=1e-8)
    assert end.reason
    assert end.time == pytest.approx(2 / 3, abs=1e-3)
