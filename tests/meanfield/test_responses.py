"""Responses: the compiled substitution against numpy, the inverse of a matrix, and probes against exact tangents."""

from __future__ import annotations

import numpy as np
import pytest

from lossflow.meanfield.responses import Probes, Tangents, plain_substitution, substitution
from lossflow.meanfield.sampling import Points

Array = np.ndarray


def _case(k: int, m: int, paths: int) -> tuple[Array, Array, Array]:
    random = np.random.default_rng(k + 10 * m)
    response = random.standard_normal((k + 1, k + 1, m, m)) * np.tri(k + 1, k=-1)[:, :, None, None]
    flat = response.transpose(0, 2, 1, 3).reshape((k + 1) * m, (k + 1) * m)
    slopes = 0.3 * np.eye(m)[:, :, None] + 0.2 * random.standard_normal((k, m, m, paths))
    return flat, slopes, np.eye(m)[:, :, None] + random.standard_normal((m, m, paths))


@pytest.mark.parametrize(("k", "m", "paths"), [(0, 1, 5), (1, 1, 3), (6, 1, 130), (9, 2, 70), (5, 3, 300)])
def test_the_loop_is_what_numpy_says(k: int, m: int, paths: int) -> None:
    response, slopes, start = _case(k, m, paths)
    kernel = np.ascontiguousarray(-response[: (k + 1) * m, : k * m].T)
    assert substitution(kernel, slopes, start) == pytest.approx(plain_substitution(kernel, slopes, start), abs=1e-12)


def test_a_carried_term() -> None:
    response, slopes, start = _case(7, 1, 50)
    kernel = np.ascontiguousarray(-response[:8, :7].T)
    carried = np.random.default_rng(0).standard_normal((7, 50))
    assert substitution(kernel, slopes, start, carried) == pytest.approx(
        plain_substitution(kernel, slopes, start, carried), abs=1e-12
    )


@pytest.mark.parametrize("m", [1, 2])
def test_a_row_of_the_inverse(m: int) -> None:
    """The average of  D (1 + R D)^{-1},  inverted path by path."""
    k, paths = 5, 40
    response, slopes, start = _case(k, m, paths)
    tangents = Tangents(paths, paths, k + 1, m)
    for l in range(k):  # noqa: E741
        tangents.keep(l, slopes[l])
    expected = np.zeros((m, k * m))
    for p in range(paths):
        D = np.zeros(((k + 1) * m, (k + 1) * m))
        for l in range(k):  # noqa: E741
            D[l * m : (l + 1) * m, l * m : (l + 1) * m] = slopes[l, :, :, p]
        inverse = np.linalg.inv(np.eye((k + 1) * m) + response @ D)
        expected += start[:, :, p] @ inverse[k * m :, : k * m] / paths
    assert tangents.row(k, response, start) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("m", [1, 2])
def test_rows_take_turns_with_the_paths(m: int) -> None:
    """Four rows of a quarter of the paths each are, on average, the row of all."""
    k, paths = 8, 40
    response, slopes, start = _case(k, m, paths)
    few, all_of_them = Tangents(paths // 4, paths, k + 4, m), Tangents(paths, paths, k + 4, m)
    for l in range(k):  # noqa: E741
        few.keep(l, slopes[l])
        all_of_them.keep(l, slopes[l])
    quarters = []
    kernel = np.ascontiguousarray(-response[: (k + 1) * m, : k * m].T)
    for first in range(0, paths, paths // 4):
        part = slice(first, first + paths // 4)
        quarters.append(plain_substitution(kernel, slopes[..., part], start[..., part]))
    assert few.row(k, response, start) == pytest.approx(quarters[k % 4], abs=1e-12)
    assert all_of_them.row(k, response, start) == pytest.approx(np.mean(quarters, axis=0), abs=1e-12)


@pytest.mark.parametrize("m", [1, 2])
def test_probes_agree_with_tangents_within_their_noise(m: int) -> None:
    k, paths = 6, 40_000
    response, slopes, start = _case(k, m, paths)
    exact = Tangents(paths, paths, k + 1, m)
    probes = Probes(paths, k + 1, m, Points(paths, {"x": 1}, 0, 0, "probes"))
    for l in range(k):  # noqa: E741
        probes.row(l, response, start)
        for estimator in (exact, probes):
            estimator.keep(l, slopes[l])
    rows = [estimator.row(k, response, start) for estimator in (exact, probes)]
    spread = np.sqrt((rows[0] ** 2).mean() + 1) * 3
    assert np.abs(rows[1] - rows[0]).max() < 5 * spread / np.sqrt(paths)
    assert np.abs(rows[0]).max() > 10 * spread / np.sqrt(paths)
