"""Where to put the nodes of a small graph in the plane: stress minimization from several starts, the least tangled wins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

STARTS = 60  # enough for the dozen nodes of a typical diagram to find an untangled layout
SWEEPS = 100  # the stress of so few nodes is stationary to the eye after this many majorization steps
CLEARANCE = 0.3  # a node closer than this to a link it does not belong to looks as if it did


def layout(count: int, links: Sequence[tuple[int, int, float]]) -> Array:
    """Positions (count, 2) that minimize  sum_{i<j} (|x_i - x_j| / d_ij - 1)^2,  d the distances along connected links.

    links: (one node, other node, length). The widest direction is horizontal, the center at the origin. Deterministic.
    """
    if count == 1:
        return np.zeros((1, 2))
    distances = _distances(count, links)
    starts = np.random.default_rng(0).standard_normal((STARTS, count, 2))
    candidates = _majorized(distances, starts)
    strains = (_lengths(candidates) / distances - 1) ** 2 * (1 - np.eye(count))
    tangles = [_tangles(positions, [link[:2] for link in links]) for positions in candidates]
    scores = strains.sum(axis=(1, 2)) + 10 * np.array(tangles)
    return _upright(candidates[int(np.argmin(np.round(scores, 6)))])  # rounded: the first of equally good ones


def _distances(count: int, links: Sequence[tuple[int, int, float]]) -> Array:
    """Shortest paths (Floyd and Warshall); ones on the diagonal, which only ever divides zeros."""
    distances = np.full((count, count), np.inf)
    for a, b, length in links:
        distances[a, b] = distances[b, a] = min(distances[a, b], length)
    for k in range(count):
        distances = np.minimum(distances, distances[:, k, None] + distances[None, k, :])
    np.fill_diagonal(distances, 1.0)
    return distances


def _lengths(positions: Array) -> Array:
    """All distances, shape (..., count, count), of positions (..., count, 2)."""
    return np.linalg.norm(positions[..., :, None, :] - positions[..., None, :, :], axis=-1)


def _majorized(distances: Array, positions: Array) -> Array:
    """SMACOF for all starts at once: the Guttman transform with weights d^-2, which never increases the stress."""
    weights = distances**-2.0
    np.fill_diagonal(weights, 0.0)
    inverse = np.linalg.pinv(np.diag(weights.sum(axis=1)) - weights)
    diagonal = np.arange(len(distances))
    for _ in range(SWEEPS):
        ratios = -weights * distances / np.maximum(_lengths(positions), 1e-9)
        ratios[..., diagonal, diagonal] = -ratios.sum(axis=-1)
        positions = inverse @ (ratios @ positions)
    return positions


def _tangles(positions: Array, links: Sequence[tuple[int, int]]) -> int:
    """Crossings of links plus nodes that lie on foreign links or on each other."""
    distinct = sorted({(min(link), max(link)) for link in links if link[0] != link[1]})
    tangles = int(np.sum(np.triu(_lengths(positions) < 0.6 * CLEARANCE, 1)))
    for k, (a, b) in enumerate(distinct):
        for c, d in distinct[k + 1 :]:
            tangles += len({a, b, c, d}) == 4 and _cross(*positions[[a, b, c, d]])
        for node in range(len(positions)):
            tangles += node not in (a, b) and _distance(positions[node], positions[a], positions[b]) < CLEARANCE
    return tangles


def _cross(a: Array, b: Array, c: Array, d: Array) -> bool:
    def side(p: Array, q: Array, r: Array) -> bool:
        return bool((q[0] - p[0]) * (r[1] - p[1]) > (q[1] - p[1]) * (r[0] - p[0]))

    return side(a, b, c) != side(a, b, d) and side(c, d, a) != side(c, d, b)


def _distance(point: Array, a: Array, b: Array) -> float:
    along = np.clip(np.dot(point - a, b - a) / max(float(np.dot(b - a, b - a)), 1e-12), 0, 1)
    return float(np.linalg.norm(point - a - along * (b - a)))


def _upright(positions: Array) -> Array:
    """Principal axis horizontal, the heavier sides left and low, so that equal shapes look alike whatever their numbering."""
    centered = positions - positions.mean(axis=0)
    _, _, axes = np.linalg.svd(centered, full_matrices=True)
    turned = centered @ axes.T
    for column in (0, 1):
        if np.sum(turned[:, column] ** 3) < -1e-6:
            turned[:, column] *= -1
    return turned - (turned.min(axis=0) + turned.max(axis=0)) / 2
