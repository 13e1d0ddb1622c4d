"""That no end state is missed: random settings, known folds, a closed loop, and a brute-force scan as referee."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tests.spectral.settings import COUNT, settings

from lossflow.spectral import branches
from lossflow.spectral.compiled import compiled

REFEREE_POINTS = 2000
# alpha, kappa, kappa_star, noise, weight decay
LOOP = (0.09, 0.062, 0.030, 0.18, 0.02)
KNOWN_FOLDS = [
    # (kappa, kappa_star, noise, weight decay), and the interval of alpha with three states
    ((0.0749, 0.0239, 5.3895, 1.588e-4), (0.107923, 0.111022)),
    ((0.0445, 0.0558, 0.0, 0.04793), (0.068686, 0.078157)),
    ((0.062, 0.030, 0.18, 0.02), (0.088195, 0.094806)),
]


def found_by(setting: Any) -> np.ndarray:
    """xi of every state, from the plain path."""
    rows = np.zeros((branches.MOST, branches.COLUMNS))
    alpha, kappa, k, noise, decay = setting
    count = branches.all_states(alpha, kappa, k, noise, decay, rows)
    assert count > 0, setting
    assert rows[:count, 6:].max() <= 1e-12, setting
    return rows[:count, 0].copy()


def seen_by_the_referee(setting: Any, points: int = REFEREE_POINTS, at=branches.at) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Middles of the intervals of a plain scan in log xi in which Phi changes sign."""
    alpha, _, k, noise, decay = setting
    low = noise / (4 * alpha) if noise else 1e-10
    grid = np.geomspace(low * (1 - 1e-6), 300 * (2 + 1 / k + noise + decay**2) / min(alpha, 1.0), points)
    phi = np.array([at(float(xi), *setting, 1.0).phi for xi in grid])
    change = np.flatnonzero((phi[:-1] > 0) != (phi[1:] > 0))
    return np.sqrt(grid[change] * grid[change + 1])


def agree(found: np.ndarray, seen: np.ndarray, points: int = REFEREE_POINTS) -> bool:
    """The referee may miss a pair of states between two of its points, and must see all others."""
    far = [xi for xi in seen if np.abs(np.log(found / xi)).min() > 40 * math.log(10) / points]
    return not far and (len(found) - len(seen)) % 2 == 0 and len(found) >= len(seen)


def test_a_sample_of_random_settings_is_solved() -> None:
    for setting in list(settings())[::5]:
        found_by(setting)


def test_the_referee_agrees_on_a_few_settings() -> None:
    for setting in [*list(settings())[::60], LOOP]:
        assert agree(found_by(setting), seen_by_the_referee(setting, 200), 200), setting


@pytest.mark.slow
def test_every_random_setting_is_solved_and_no_state_is_missed() -> None:
    fast = compiled()
    rows = np.zeros((branches.MOST, branches.COLUMNS))
    several = 0
    for setting in settings():
        count = fast.all_states(*setting, rows)
        assert count > 0, setting
        assert rows[:count, 6:].max() <= 1e-12, setting
        assert agree(rows[:count, 0], seen_by_the_referee(setting, at=fast.at)), setting
        several += count > 1
    assert several >= 2  # two of the 600: folds are rare
    assert COUNT == 600


@pytest.mark.slow
def test_no_state_is_missed_around_folds() -> None:
    """Known folds, all parameters moved by some 6%: a third of the settings have three states."""
    fast = compiled()
    random = np.random.default_rng(7)
    rows = np.zeros((branches.MOST, branches.COLUMNS))
    several = 0
    for j in range(300):
        parameters, (low, high) = KNOWN_FOLDS[j % 3]
        setting = tuple(
            map(float, np.array([(low + high) / 2, *parameters]) * np.exp(0.06 * random.standard_normal(5)))
        )
        count = fast.all_states(*setting, rows)
        assert count > 0, setting
        assert agree(rows[:count, 0], seen_by_the_referee(setting, at=fast.at)), setting
        several += count == 3
    assert several >= 100


@pytest.mark.parametrize(("parameters", "interval"), KNOWN_FOLDS, ids=str)
def test_known_folds(parameters: Any, interval: tuple[float, float]) -> None:
    low, high = interval
    width = high - low
    for alpha in np.linspace(low + 0.01 * width, high - 0.01 * width, 5):
        assert len(found_by((float(alpha), *parameters))) == 3
    for alpha in (low - 0.02 * width, high + 0.02 * width):
        assert len(found_by((float(alpha), *parameters))) == 1


def test_the_closed_loop_is_seen_by_the_referee() -> None:
    """A curve from large alpha never reaches two of its three states."""
    assert len(found_by(LOOP)) == len(seen_by_the_referee(LOOP)) == 3


def test_folds_of_the_published_widths() -> None:
    for kappa in (0.1, 0.15):
        counts = [len(found_by((float(a), kappa, 0.1, 1.0, 1e-3))) for a in np.linspace(0.08, 0.2, 61)]
        assert max(counts) == 3


@pytest.mark.parametrize("xi", [1e-3, 0.1, 1.0, 30.0])
@pytest.mark.parametrize(
    "setting",
    [
        (0.3, 0.4, 0.3, 0.5, 0.01),
        (0.3, 0.7, 0.5, 0.0, 0.5),
        (0.2, 1.3, 0.3, 0.5, 0.0),
        (0.5, 0.4, 0.3, 0.5, 0.0),
        (0.11, 0.0749, 0.0239, 5.3895, 1.588e-4),
        (0.3, 0.9, 1.4, 0.1, 0.1),
    ],
    ids=str,
)
def test_the_slope_is_exact(setting: Any, xi: float) -> None:
    h = 1e-5
    alpha, kappa, k, noise, decay = setting

    def at(x: float) -> branches.Point:
        return branches.at(x, alpha, kappa, k, noise, decay, 1.0)

    up, down = (at(xi * math.exp(s * h)).phi for s in (1, -1))
    assert at(xi).slope == pytest.approx((up - down) / (2 * h), rel=1e-8, abs=3e-9)


def test_an_interval_that_holds_no_zero_is_told_from_one_that_may() -> None:
    zeros = branches._zeros
    assert zeros(0.6, 1.0, 0.0, 1.0, 0.0, False, False) == 0
    assert zeros(0.6, 1.0, -1.0, 0.4, -1.0, False, False) == 0
    assert zeros(0.6, 0.3, -1.0, -0.3, -1.0, False, False) == 1
    assert zeros(0.6, 0.05, -1.0, 0.05, 1.0, False, False) == 2  # a dip through zero
    assert zeros(0.6, 0.3, 2.0, -0.3, 2.0, False, False) == 2  # three zeros, perhaps
    assert zeros(0.6, 0.05, -1.0, 0.05, 1.0, False, True) == 0
    assert zeros(0.6, 0.0, 0.0, 0.0, 0.0, False, False) == 0
