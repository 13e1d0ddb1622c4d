"""Two-time kernels: blocks in one matrix, and the resolvent row by row."""

from __future__ import annotations

import numpy as np
import pytest

from lossflow.meanfield.kernels import TwoTime, resolvent_row


@pytest.mark.parametrize("columns", [1, 3])
def test_blocks_are_where_they_were_written(columns: int) -> None:
    random = np.random.default_rng(0)
    whole = random.standard_normal((4, 4, columns, columns))
    kernel = TwoTime(4, columns)
    for k in range(4):
        kernel.grow(k, np.concatenate(list(whole[k, : k + 1]), axis=1))
    for k in range(4):
        for l in range(4):  # noqa: E741
            assert (kernel.block(k, l) == (whole[k, l] if l <= k else 0)).all()
    assert (kernel.row(2, 3) == np.concatenate(list(whole[2, :3]), axis=1)).all()
    assert kernel.rows(2).shape == (2 * columns, 2 * columns)


def test_mirrored_rows_make_a_symmetric_kernel() -> None:
    random = np.random.default_rng(1)
    kernel = TwoTime(3, 2)
    for k in range(3):
        row = random.standard_normal((2, 2 * k + 2))
        row[:, 2 * k :] += row[:, 2 * k :].T
        kernel.grow(k, row, mirror=True)
    assert (kernel.matrix == kernel.matrix.T).all()


def test_chosen_times() -> None:
    kernel = TwoTime(4, 2)
    kernel.matrix[:] = np.arange(64).reshape(8, 8)
    found = kernel.at(np.array([1, 3]))
    assert found.shape == (2, 2, 2, 2)
    assert (found[0, 1] == kernel.block(1, 3)).all()
    single = TwoTime(3)
    single.matrix[:] = np.arange(9).reshape(3, 3)
    assert (single.at(np.array([0, 2])) == [[0, 2], [6, 8]]).all()


@pytest.mark.parametrize("implicit", [False, True])
def test_the_resolvent_is_the_inverse(implicit: bool) -> None:
    size, scale = 7, 1.7
    response = np.tril(np.random.default_rng(2).standard_normal((size, size)), 0 if implicit else -1)
    resolvent = np.zeros((size, size))
    for k in range(size):
        resolvent[k, : k + 1] = resolvent_row(response[k, : k + 1], resolvent[:k, :k], scale)
    assert resolvent == pytest.approx(np.linalg.inv(np.eye(size) + response / scale), abs=1e-12)
