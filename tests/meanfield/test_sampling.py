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
    first = [Points(256, {"a": 1}, seed, run, "test").normal("a") for seed in (0, 1) for run in (0, 1)]
    correlations = np.corrcoef(first) - np.eye(4)
    assert np.abs(correlations).max() < 0.25


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


def _extended(covariance: np.ndarray, **options: float) -> Conditioning:
    conditioning = Conditioning(len(covariance), **options)
    for k, row in enumerate(covariance):
        conditioning.extend(row[:k], row[k])
    return conditioning


@pytest.mark.parametrize("truncated", [None, 1e-4])
def test_the_factor_has_the_covariance(truncated: float | None) -> None:
    root = np.random.default_rng(0).standard_normal((20, 25))
    conditioning = Conditioning(20, truncated=truncated)
    for k, row in enumerate(root @ root.T):
        assert conditioning.extend(row[:k], row[k])
    assert conditioning.factor @ conditioning.factor.T == pytest.approx(root @ root.T, rel=1e-8, abs=1e-8)


def test_smooth_kernels_are_of_low_rank_and_stay_accurate() -> None:
    t = np.linspace(0, 3, 120)
    covariance = np.exp(-((t[:, None] - t) ** 2) / 2) / (1 + t[:, None] * t)
    conditioning = _extended(covariance)
    assert conditioning.rank < 15
    assert np.abs(conditioning.factor @ conditioning.factor.T - covariance).max() < 3e-6


def test_noisy_kernels_need_the_truncated_inverse() -> None:
    """Sampled covariances have noise in all directions: what a small pivot makes of it is a large direction."""
    random = np.random.default_rng(1)
    t = np.linspace(0, 3, 60)
    smooth = np.exp(-((t[:, None] - t) ** 2) / 2)
    noise = 1e-7 * random.standard_normal((60, 60))
    covariance = smooth + noise + noise.T
    found = _extended(covariance, dropped=1e-6, truncated=1e-4)
    assert np.abs(found.factor @ found.factor.T - smooth).max() < 1e-3
    assert found.rank < 20


def test_variables_without_variance() -> None:
    conditioning = _extended(np.diag([0.0, 1.0, 0.0, 4.0]))
    assert conditioning.factor.tolist() == [[0, 0], [1, 0], [0, 0], [0, 2]]
