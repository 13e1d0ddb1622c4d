"""Functions of two times that grow by a row: correlations, responses, and the resolvent of a response.

A causal process in discrete time determines row k of each of its kernels from the rows before it. Blocks F(k, l) have the shape
(m, m) for a process of m columns; they lie side by side in one matrix, so that a sum over a time and a column is one product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]


class TwoTime:
    """F(k, l), k, l = 0, ..., times - 1, with blocks (columns, columns); zero where nothing was written.

    matrix: shape (times * columns, times * columns), F(k, l)_ab at [k m + a, l m + b].
    """

    def __init__(self, times: int, columns: int = 1) -> None:
        self.times, self.columns = times, columns
        self.matrix: Array = np.zeros((times * columns, times * columns))

    def rows(self, k: int) -> Array:
        """F(0..k-1, 0..k-1), a view."""
        return self.matrix[: k * self.columns, : k * self.columns]

    def row(self, k: int, until: int) -> Array:
        """F(k, 0..until-1), shape (m, until m), a view."""
        m = self.columns
        return self.matrix[k * m : (k + 1) * m, : until * m]

    def grow(self, k: int, row: Array, mirror: bool = False) -> None:
        """Write F(k, 0..), shape (m, any number of blocks); `mirror` writes F(l, k) = F(k, l)^T as well."""
        m = self.columns
        self.matrix[k * m : (k + 1) * m, : row.shape[1]] = row
        if mirror:
            self.matrix[: row.shape[1], k * m : (k + 1) * m] = row.T

    def block(self, k: int, l: int) -> Array:  # noqa: E741  (the second time of the papers)
        """F(k, l), a view."""
        m = self.columns
        return self.matrix[k * m : (k + 1) * m, l * m : (l + 1) * m]

    def at(self, chosen: npt.NDArray[np.int64]) -> Array:
        """F at chosen pairs of times, shape (chosen, chosen, m, m); (chosen, chosen) for one column."""
        m = self.columns
        blocks = self.matrix.reshape(self.times, m, self.times, m).transpose(0, 2, 1, 3)
        found = blocks[np.ix_(chosen, chosen)]
        return found[:, :, 0, 0] if m == 1 else found


def resolvent_row(response: Array, resolvent: Array, scale: float) -> Array:
    """Row k of  A = (1 + R/scale)^{-1}  from row k of R and the rows of A before it:

        A(k, .) = (e_k - (1/scale) sum_{l<k} R(k, l) A(l, .)) / (1 + R(k, k)/scale).

    response: R(k, 0..k), shape (k + 1,), whose last entry is zero for explicit schemes; resolvent: A(0..k-1, 0..k-1).
    Returns shape (k + 1,). docs/theory/quadratic.md section 3, docs/theory/diagonal.md section 4.
    """
    k = len(response) - 1
    row = np.empty(k + 1)
    row[:k] = response[:k] @ resolvent[:k, :k]
    row[:k] /= -scale
    row[k] = 1.0
    return row / (1.0 + response[k] / scale)
