"""Averages over Gaussian variables, to rounding: the observables of a fresh sample are made of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

TOLERANCE = 1e-13  # of a panel, relative to the average of |f|
DEEPEST = 48  # halvings of a panel: a jump is then known to 1e-14 of its height
JUMP = 1e-2  # of the largest value in a panel, by which the values at its ends may differ from the interpolant
MOST = 2000  # panels at once: what is still rough on all scales is noise
# graded towards 0, where steps of any width may stand; exp(-38^2/2) is the smallest double
EDGES = np.concatenate(
    [[0], 0.5 * 4.0 ** np.arange(-12, 0), np.arange(0.5, 5, 0.5), [5, 6, 7, 8, 10, 13, 18, 38]],
)


def average(f: Callable[[Array], Array]) -> Array:
    """E f(x),  x ~ N(0, 1):  Gauss-Legendre panels, halved until each agrees with its halves; x = 0 is an edge.

    f: elementwise, from x of any shape to an array (..., *shape of x); several functions at once stand in front.
    Kinks and jumps anywhere cost some tens of halvings and no accuracy. A jump beyond the last point of a panel shows neither
    in it nor in its half, so the values at the ends are compared with what the points inside say of them.
    """
    left = np.concatenate([-EDGES[:0:-1], EDGES[:-1]])
    right = np.concatenate([-EDGES[-2::-1], EDGES[1:]])
    whole, size, _ = _panels(f, left, right)
    scale = size.sum(axis=-1, keepdims=True)
    total = np.zeros(whole.shape[:-1])
    for level in range(DEEPEST):
        middle = 0.5 * (left + right)
        first, size, at_stake = _panels(f, left, middle)
        second, more, at_stake_too = _panels(f, middle, right)
        scale = np.maximum(scale, np.abs(total)[..., None] + (size + more).sum(axis=-1, keepdims=True))
        wrong = np.maximum(np.abs(first + second - whole), np.maximum(at_stake, at_stake_too)) > TOLERANCE * scale
        wrong = wrong.any(axis=tuple(range(whole.ndim - 1)))
        if level == DEEPEST - 1 or wrong.sum() > MOST:
            wrong[:] = False
        total += (first + second)[..., ~wrong].sum(axis=-1)
        if not wrong.any():
            break
        left, middle, right = left[wrong], middle[wrong], right[wrong]
        whole = np.concatenate([first[..., wrong], second[..., wrong]], axis=-1)
        left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
    return total


def smoothed(f: Callable[[Array], Array], mean: Array, deviation: float) -> Array:
    """E f(mean + deviation x),  x ~ N(0, 1), elementwise in `mean`, by the trapezoidal rule.

    Exact to rounding for f that is analytic within 0.8 deviations of the real axis; a kink costs 1e-3 deviations times the
    jump of the slope.
    """
    if deviation == 0:
        return f(mean)
    x, weight = trapezoid()
    return f(mean[..., None] + deviation * x) @ weight


@cache
def trapezoid() -> tuple[Array, Array]:
    """Points and weights for N(0, 1)."""
    x = np.linspace(-9.24, 9.24, 133)  # steps of 0.14
    weight = np.exp(-0.5 * x**2)
    return x, weight / weight.sum()


def _panels(f: Callable[[Array], Array], left: Array, right: Array) -> tuple[Array, Array, Array]:
    """The integrals; those of |f|; and where the values at an end are not those that the points inside lead to, what such a jump
    can be worth: the largest value times the width."""
    nodes, weights, ends = _rule()
    half = 0.5 * (right - left)
    inside = (0.5 * (right + left))[:, None] + half[:, None] * nodes
    at_ends = np.stack([np.nextafter(left, right), np.nextafter(right, left)], axis=1)
    x = np.concatenate([inside, at_ends], axis=1)
    values = f(x) * (np.exp(-0.5 * x**2) / math.sqrt(2 * math.pi))
    values, found = values[..., : len(nodes)], values[..., len(nodes) :]
    largest = np.maximum(np.abs(values).max(axis=-1), np.abs(found).max(axis=-1))
    broken = np.abs(found - values @ ends).max(axis=-1) > JUMP * largest
    wide = half > 1e-15 * np.abs(left)  # narrower panels have no inside
    return (
        (values @ weights) * half,
        (np.abs(values) @ weights) * half,
        np.where(broken & wide, 2 * half * largest, 0.0),
    )


@cache
def _rule() -> tuple[Array, Array, Array]:
    """Nodes and weights on [-1, 1], and the matrix (nodes, 2) of the interpolant at -1 and 1."""
    nodes, weights = np.polynomial.legendre.leggauss(10)
    ends = np.array(
        [[np.prod((end - others) / (node - others)) for end in (-1.0, 1.0)]
         for k, node in enumerate(nodes) for others in (np.delete(nodes, k),)]
    )  # fmt: skip
    return np.asarray(nodes, np.float64), np.asarray(weights, np.float64), np.asarray(ends, np.float64)
