"""The field of a coordinate process on paths:  W_k = sum_j V_kj zeta_j,  few standard variables zeta_j for all rows.

    V_k = v + m b,    v = (V^T V + e^2)^-1 V^T s,   b = e^2 (V^T V + e^2)^-1 F_k,   s = Cov(W_k, W_<k),   |V_k|^2 = Var W_k

V: the rows so far. A new value is conditioned on the old ones as far as they determine it well. Where they do not, conditioning
is an analytic continuation, which turns the zeta_j into one another: the points of a sequence that were meant for the few
directions in which W varies most would be spent on others. There the row follows a guess F, the factor of the covariance of an
earlier, rougher solution. What that neglects of the covariance is the product of two small things, the difference of the two
solutions and the share e of the directions that are not conditioned on.
docs/theory/diagonal.md section 4 [NI25v2].
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

RANK = 16  # variables of a field at most
NEGLIGIBLE = 1e-8  # of the largest variance: directions that are left out
CONDITIONED = 1e-2  # of the largest singular value of the past: directions below it follow the guess, in the mean
SMOOTH = 1.5  # correlation length of a field of which nothing is known yet, in log(1 + t/first step)


class Frame(NamedTuple):
    """A guess of the factor of a field. times: (n,), from 0, increasing; factor: (n, variables), large columns first."""

    times: Array
    factor: Array

    def at(self, times: Array) -> Array:
        """(K, variables), constant beyond the last time that is known."""
        from scipy.interpolate import CubicSpline

        first = self.times[1]
        x = np.log1p(np.minimum(times, self.times[-1]) / first)
        return CubicSpline(np.log1p(self.times / first), self.factor)(x)


def frame_of(times: Array, covariance: Array) -> Frame:
    """By the eigenvectors of a covariance at `times`."""
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = min(RANK, int(np.sum(values > NEGLIGIBLE * values[0])))
    return Frame(times, vectors[:, :kept] * np.sqrt(values[:kept]))


def smooth_frame(times: Array) -> Frame:
    """Of a field that forgets over a constant ratio of times: where nothing better is known."""
    x = np.log1p(times / times[1])
    return frame_of(times, np.exp(-(((x[:, None] - x) / SMOOTH) ** 2) / 2))


class Field:
    """W on the paths, one row after the other.

    variables: zeta, (variables, paths), orthonormal in the average over paths; guess: F, (rows, variables), up to a factor;
    variance: of W_0.
    """

    def __init__(self, variables: Array, guess: Array, variance: float) -> None:
        self.variables, self.guess = variables, guess * math.sqrt(variance) / np.linalg.norm(guess[0])
        self.factor = np.zeros_like(guess)
        self.count = 0
        self.neglected = 0.0  # of the variance of a row, the largest share that no variable was left for

    def prepare(self) -> None:
        """Before the solution of a row: how it depends on its covariances with the past, and what it follows beyond."""
        known, guess = self.factor[: self.count], self.guess[self.count]
        self.inverse = np.zeros((len(guess), self.count))
        self.beyond = guess
        if known.any():
            left, singular, right = np.linalg.svd(known, full_matrices=False)
            least = CONDITIONED * singular[0]
            share = singular**2 / (singular**2 + least**2)
            self.inverse = (right.T * (singular / (singular**2 + least**2))) @ left.T
            self.beyond = guess - (right.T * share) @ (right @ guess)

    def coefficients(self, covariances: Array, variance: float) -> Array:
        """(v, p^2), from the covariances of W_k with the old ones and its variance."""
        v = self.inverse @ covariances
        return np.append(v, variance - float(v @ v))

    def row(self, coefficients: Array) -> Array:
        """V_k = v + m b  with  |V_k|^2 = Var W_k:  the larger root m."""
        v, left, b = coefficients[:-1], float(coefficients[-1]), self.beyond
        across, size = float(v @ b), float(b @ b)
        if not size:
            return v
        return v + (math.sqrt(max(across**2 + size * left, 0.0)) - across) / size * b

    def value(self, coefficients: Array) -> Array:
        """W_k on the paths."""
        return self.row(coefficients) @ self.variables

    def keep(self, coefficients: Array, variance: float) -> None:
        """The row is solved."""
        row = self.row(coefficients)
        if variance > 0:
            self.neglected = max(self.neglected, abs(1 - float(row @ row) / variance))
        self.factor[self.count] = row
        self.count += 1
