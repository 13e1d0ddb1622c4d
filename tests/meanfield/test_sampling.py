"""Points, whitening across paths, and Gaussian variables given the past."""

from __future__ import annotations

import numpy as np
import pytest

from lossflow.meanfield.sampling import Basis, Conditioning, Points


def test_a_variable_keeps_its_coordinate_whatever_else_is_drawn() -> None:
    groups = {"a": 2, "b": 3}
    one, other = (Points(64, groups, 0, 0, "test") for _ in range(2))
    one.uniform("a")
    assert (one.uniform("b") == other.uniform("b")).all()


def test_points_go_on_without_end_and_stay_inside() -> None:
    points = Points(100, {"a": 2}, 3, 1, "test")
    for _ in range(5):
        u = points.uniform("a")
        assert u.shape == (100,)
        assert ((u > 0) & (u < 1)).all()
    assert np.isfinite(points.normal("a")).all()


def test_runs_and_seeds_are_independent() -> None:
    """Averages of different randomizations scatter as those of independent numbers do: here around zero."""
    means = [np.mean(Points(64, {"a": 1}, 0, run, "test").normal("a") ** 3) for run in range(40)]
    assert abs(np.mean(means)) < 4 * np.std(means) / np.sqrt(40)
    assert np.std(means) > 1e-3
    other = np.mean(Points(64, {"a": 1}, 1, 0, "test").normal("a") ** 3)
    assert other not in means


def test_low_discrepancy_is_what_makes_an_average_accurate() -> None:
    points = Points(4096, {"a": 2}, 0, 0, "test")
    x, y = points.normal("a"), points.normal("a")
    assert abs(np.mean(np.cos(x) * np.cos(y)) - np.exp(-1)) < 3e-4  # independent points: 6e-3


@pytest.mark.parametrize("weighted", [False, True])
def test_whitened_vectors_are_orthonormal(weighted: bool) -> None:
    random = np.random.default_rng(0)
    weights = random.dirichlet(np.ones(50)) if weighted else None
    basis = Basis(50, weights)
    for _ in range(20):
        basis.whiten(1 + random.standard_normal(50))
    w = np.full(50, 1 / 50) if weights is None else weights
    assert basis.vectors * w @ basis.vectors.T == pytest.approx(np.eye(20), abs=1e-12)


def test_a_variable_that_the_others_determine_is_zero() -> None:
    basis = Basis(3)
    for x in np.eye(3):
        basis.whiten(x)
    assert (basis.whiten(np.array([1.0, 2.0, 3.0])) == 0).all()


def _extended(covariance: np.ndarray, truncated: float) -> Conditioning:
    conditioning = Conditioning(len(covariance), truncated)
    for k, row in enumerate(covariance):
        conditioning.extend(row[:k], row[k])
    return conditioning


def _error(conditioning: Conditioning, covariance: np.ndarray) -> float:
    deviation = np.sqrt(np.diag(covariance))
    made = conditioning.factor @ conditioning.factor.T
    return float((np.abs(made - covariance) / deviation / deviation[:, None]).max())


def test_the_factor_has_the_covariance() -> None:
    root = np.random.default_rng(0).standard_normal((20, 25))
    conditioning = _extended(root @ root.T, 1e-6)
    assert conditioning.rank == 20
    assert _error(conditioning, root @ root.T) < 1e-13


KERNELS = {
    "smooth": lambda t, s: np.exp(-((t - s) ** 2) / 2) / (1 + t + s),
    "decaying": lambda t, s: np.exp(-(t + s)) / (1 + t + s),
    "algebraic": lambda t, s: 1 / (1 + t + s),
}


@pytest.mark.parametrize("truncated", [1e-5, 1e-6, 1e-7])
@pytest.mark.parametrize("size", [40, 120, 400])
@pytest.mark.parametrize("name", KERNELS)
def test_smooth_kernels_are_of_low_rank_and_stay_accurate(name: str, size: int, truncated: float) -> None:
    """On the finer grids a triangular factor with dropped pivots is off by 4e-1 or more, whatever the threshold."""
    t = np.linspace(0, 3, size)
    covariance = KERNELS[name](t[:, None], t)
    conditioning = _extended(covariance, truncated)
    assert conditioning.rank < 40
    assert _error(conditioning, covariance) < 30 * truncated


def test_rough_kernels_are_exact() -> None:
    t = np.linspace(0, 3, 60)
    covariance = 1 + np.minimum(t[:, None], t)
    conditioning = _extended(covariance, 1e-6)
    assert conditioning.rank == 60
    assert _error(conditioning, covariance) < 1e-13


def test_noisy_kernels_need_a_larger_threshold() -> None:
    random = np.random.default_rng(1)
    t = np.linspace(0, 3, 60)
    smooth = np.exp(-((t[:, None] - t) ** 2) / 2)
    noise = 1e-7 * random.standard_normal((60, 60))
    found = _extended(smooth + noise + noise.T, 1e-4)
    assert _error(found, smooth) < 1e-3
    assert found.rank < 30


def test_variables_without_variance() -> None:
    conditioning = _extended(np.diag([0.0, 1.0, 0.0, 4.0]), 1e-6)
    assert conditioning.factor.tolist() == [[0, 0], [1, 0], [0, 0], [0, 2]]
