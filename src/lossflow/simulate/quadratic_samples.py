"""The samples of a quadratic network at finite size, and the force with which they push: GOE data, network data, all samples.

    push = (d/n) sum_k r_k X_k W,   r_k = Tr X_k (W W^T - Z*) - noise_k

GOE data are n rows of coordinates in an orthonormal basis of Sym(d), never n matrices: a product with all of them is one
matrix-vector product, and with many more samples than Sym(d) has dimensions the Gram matrix can take the place of the data.
Network data X_k = (x_k x_k^T - 1)/sqrt(d) need no more than the vectors x_k. docs/theory/quadratic.md section 8 [MBB26v2].
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from lossflow.problems.matrix import symmetric_basis

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
    Reals = npt.NDArray[np.floating[Any]]


BLOCK = 2**20  # bytes of data that are read once for both products of a pull: they stay in the fast memory of one core
GRAM = 2  # samples per dimension of Sym(d) from which the Gram matrix, once made, takes half of the time of the data


class Push(NamedTuple):
    """force: (d/n) sum_k r_k X_k W, d x m; loss = (1/4n) sum r_k^2; in_sample_error = (1/4n) sum (Tr X_k (Z - Z*))^2."""

    force: Array
    loss: float
    in_sample_error: float


class Samples(Protocol):
    """What pushes the weights."""

    def push(self, W: Array) -> Push:
        """At the weights W, d x m."""
        ...


class GoeSamples:
    """X: n x d(d+1)/2 coordinates, in single or double precision; noise: n numbers; teacher: Z*.

    gram: whether the Gram matrix takes the place of X: n d^4/8 multiplications once, d^4/4 in place of n d^2 for each push,
    and d^4/4 numbers to be read in place of n d^2/2.
    """

    def __init__(self, X: Reals, noise: Array, teacher: Array, gram: bool = False) -> None:
        self.noise, self.teacher = noise, teacher
        self.n, self.d = len(X), len(teacher)
        self.basis = symmetric_basis(self.d)
        self.X = X
        self.gram = (X.T @ X, (X.T @ noise.astype(X.dtype)).astype(np.float64)) if gram else None

    def coordinates(self, M: Array) -> Array:
        """A symmetric matrix as a vector of the same norm."""
        rows, columns, weights = self.basis
        return M[rows, columns] * weights

    def matrix(self, coordinates: Array) -> Array:
        """The symmetric matrix with these coordinates."""
        rows, columns, weights = self.basis
        M = np.empty((self.d, self.d))
        M[rows, columns] = coordinates / weights
        M[columns, rows] = M[rows, columns]
        return M

    def pull(self, Z: Array) -> tuple[Array, float, float]:
        """(1/n) sum_k r_k X_k in coordinates, loss and in-sample error at Z."""
        gap = self.coordinates(Z - self.teacher)
        n, noise = self.n, self.noise
        if self.gram is not None:
            gram, pulled = self.gram
            response = (gram @ gap.astype(gram.dtype)).astype(np.float64)
            clean = float(gap @ response)
            total = clean - 2 * float(gap @ pulled) + float(noise @ noise)
            return (response - pulled) / n, total / (4 * n), clean / (4 * n)
        X, small = self.X, gap.astype(self.X.dtype)
        outputs, force = np.empty(n), np.zeros(len(gap))
        rows = max(BLOCK // X[0].nbytes, 8)
        for first in range(0, n, rows):
            part = X[first : first + rows]
            outputs[first : first + rows] = part @ small
            force += (outputs[first : first + rows] - noise[first : first + rows]).astype(X.dtype) @ part
        residuals = outputs - noise
        return force / n, float(residuals @ residuals) / (4 * n), float(outputs @ outputs) / (4 * n)

    def push(self, W: Array) -> Push:
        """At the weights W."""
        force, loss, clean = self.pull(W @ W.T)
        return Push(self.d * (self.matrix(force) @ W), loss, clean)


class NetworkSamples:
    """X_k = (x_k x_k^T - 1)/sqrt(d), so that Tr X_k Z = (|W^T x_k|^2 - |W|^2)/sqrt(d): a network with quadratic activation.

    inputs: x_k, n x d; noise: n numbers; teacher: Z*. A push costs 4 n d m multiplications.
    """

    def __init__(self, inputs: Array, noise: Array, teacher: Array) -> None:
        self.inputs, self.noise = inputs, noise
        self.n, self.d = inputs.shape
        self.labels = self._sensed(np.sum((inputs @ teacher) * inputs, axis=1), float(np.trace(teacher)))

    def _sensed(self, squares: Array, trace: float) -> Array:
        return (squares - trace) / math.sqrt(self.d)

    def push(self, W: Array) -> Push:
        """At the weights W."""
        hidden = self.inputs @ W
        outputs = self._sensed(np.sum(hidden**2, axis=1), float(np.sum(W**2))) - self.labels
        residuals = outputs - self.noise
        summed = self.inputs.T @ (residuals[:, None] * hidden) - residuals.sum() * W
        n = self.n
        return Push(
            math.sqrt(self.d) / n * summed,
            float(residuals @ residuals) / (4 * n),
            float(outputs @ outputs) / (4 * n),
        )


class AllSamples:
    """alpha = inf: force = 2 (Z - Z*) W, loss = (2 mse + Delta)/4, in-sample error mse/2."""

    def __init__(self, noise_variance: float, teacher: Array) -> None:
        self.noise_variance, self.teacher = noise_variance, teacher

    def push(self, W: Array) -> Push:
        """At the weights W."""
        gap = W @ W.T - self.teacher
        mse = float(np.sum(gap**2)) / len(gap)
        return Push(2 * gap @ W, mse / 2 + self.noise_variance / 4, mse / 2)
