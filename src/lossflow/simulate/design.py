"""Real designs: the data matrix of an experiment, known by the digest of its content."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lossflow.description import Description, brief
from lossflow.errors import InvalidInput

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

_known: dict[str, npt.NDArray[np.float64]] = {}  # digest -> the matrix, for as long as the process lives

SCALE = 0.1  # by which the mean square of an entry may differ from 1/d
COLUMN_MEAN = 0.05  # of a standard deviation, beyond six standard errors
COLUMN_SCALE = 2.0  # by which the variance of a column may differ from 1/d, as a factor
STANDARDIZE = "standardize it: X = (X - X.mean(0)) / (X.std(0) * np.sqrt(X.shape[1])), without constant columns"


@dataclass(frozen=True, repr=False)
class Design(Description):
    """X (n, d), a given matrix of n samples in place of independent Gaussian entries of variance 1/d; made by `Design.of(X)`.

    digest: SHA-256 of shape and content, in hexadecimal. The matrix itself is kept by this process and not by the description,
    which therefore is a key, can be pickled and saved. In another process, `Design.of` of the same matrix makes it known again.
    """

    digest: str

    def check(self) -> None:
        if len(self.digest) != 64 or not set(self.digest) <= set("0123456789abcdef"):
            raise InvalidInput(
                f"Design.digest is a SHA-256 in hexadecimal, got {brief(self.digest)}; write Design.of(X)"
            )

    @classmethod
    def of(cls, X: npt.ArrayLike) -> Design:
        """The design of a matrix X (n, d) of finite real numbers, a row for each sample, columns of mean 0 and variance 1/d.

        Raises `InvalidInput` for anything else, and says how to standardize; warns (`RuntimeWarning`) of single columns that are
        far from it. The matrix is copied.
        """
        try:
            given = np.asarray(X)
        except ValueError:  # rows of different lengths
            raise InvalidInput(f"a design is a matrix of real numbers (n, d), got {brief(X)}") from None
        if given.dtype.kind not in "iuf" or given.ndim != 2 or 0 in given.shape:
            raise InvalidInput(
                f"a design is a matrix of real numbers (n, d), got the shape {given.shape} with entries of type {given.dtype}"
            )
        matrix = np.array(given, dtype=np.float64, order="C")
        if not np.isfinite(matrix).all():
            row, column = np.argwhere(~np.isfinite(matrix))[0]
            raise InvalidInput(f"a design must be finite, got X[{row}, {column}] = {matrix[row, column]}")
        _require_standard(matrix)
        matrix.flags.writeable = False
        digest = hashlib.sha256(repr(matrix.shape).encode() + matrix.tobytes()).hexdigest()
        _known[digest] = matrix
        return cls(digest)

    def matrix(self) -> Array:
        """X (n, d), read-only. Raises `InvalidInput` in a process that has not seen it."""
        if self.digest not in _known:
            raise InvalidInput(
                f"the matrix of {self!r} is not known in this process: call Design.of(X) with the same X first"
            )
        return _known[self.digest]

    def require(self, dimension: int, delta: float) -> Array:
        """X, or `InvalidInput` unless it has `dimension` columns and round(delta dimension) rows."""
        X = self.matrix()
        n, d = X.shape
        if d != dimension or abs(n - delta * d) > 0.5:
            raise InvalidInput(
                f"the design has the shape {X.shape}, so that d = {d} and delta = {n / d:.6g}; the sizes say d = {dimension} and "
                f"the problem says delta = {delta!r}: n = {delta * dimension:.6g} rows. Change whichever is wrong"
            )
        return X


def _require_standard(X: Array) -> None:
    n, d = X.shape
    square = float(np.mean(X**2)) * d
    if abs(square - 1) > min(0.5, SCALE + 6 * np.sqrt(2 / (n * d))):
        raise InvalidInput(
            f"the entries of a design must have mean 0 and variance 1/d; their mean square times d is {square:.4g}: {STANDARDIZE}"
        )
    means, variances = np.abs(X.mean(axis=0)) * np.sqrt(d), X.var(axis=0) * d
    error = 6 / np.sqrt(n)
    if float(np.abs(X.mean())) * np.sqrt(d) > COLUMN_MEAN + error / np.sqrt(d):
        raise InvalidInput(
            f"the entries of a design must have mean 0; theirs is {X.mean() * np.sqrt(d):.3g} standard deviations: {STANDARDIZE}"
        )
    shifted = int((means > COLUMN_MEAN + error).sum())
    scaled = int(((variances > COLUMN_SCALE + 4 * error) | (variances < 1 / (COLUMN_SCALE + 4 * error))).sum())
    if shifted or scaled:
        warnings.warn(
            f"{shifted} of {d} columns of the design have a mean that is not 0, and {scaled} a variance that is not 1/d: theory "
            f"is for standardized columns; {STANDARDIZE}",
            RuntimeWarning,
            stacklevel=3,
        )
