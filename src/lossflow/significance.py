"""Is a difference chance? One test for vectors of correlated differences whose errors are known only from a few runs.

Numbers alone; `comparison` says which differences of which trajectories are judged, and states the rule in full.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lossflow.keys import generator

Array = npt.NDArray[np.float64]

LEVEL = 0.01  # the chance that trajectories which do agree are said to disagree
DRAWS = 20_000  # of the null distribution: at the level of 1% their own scatter moves the level by 0.07%


@dataclass(frozen=True)
class Judgment:
    """uncertainty: one standard error of each difference; probability: of a difference as extreme by chance; allowed: the
    deviation, in these standard errors, up to which a single entry passes at the level that was asked for."""

    uncertainty: Array
    probability: float
    allowed: float


def judge(difference: Array, differences: Array, hidden: Array, level: float = LEVEL) -> Judgment:
    """The rule of `compare` for one vector of differences.

    difference: shape (times,); differences: shape (runs, times), with `difference` as mean, or no rows; hidden: standard
    errors > 0 that runs do not show.
    """
    runs = len(differences)
    residual = differences - differences.mean(axis=0) if runs else differences
    sampled = (residual**2).sum(axis=0) / (max(runs - 1, 1) * max(runs, 1))  # variance of the mean
    variance = sampled + hidden**2
    deviation = difference / np.sqrt(variance)
    # the share of the difference that chance among runs explains turns with them, the rest belongs to the hidden error
    turning = residual + difference * sampled / variance
    peaks, means = _null(turning if difference.sum() > 0 else -turning, hidden)  # the same for a - b and b - a
    peak_tails = _tails(np.append(peaks, np.abs(deviation).max()))
    mean_tails = _tails(np.append(means, np.sqrt((deviation**2).mean())))
    smaller = np.minimum(peak_tails, mean_tails)
    critical = np.quantile(smaller, level)
    return Judgment(
        uncertainty=np.sqrt(variance),
        probability=float(np.mean(smaller <= smaller[-1])),
        allowed=float(np.quantile(peaks, 1 - critical)),
    )


def condensed(runs: Array, count: int) -> Array:
    """`count` independent vectors with the mean of all runs and the variance of that mean (Scheffe, 1943)."""
    head = runs[:count]
    return runs.mean(axis=0) + math.sqrt(count / len(runs)) * (head - head.mean(axis=0))


def student(runs: int) -> float:
    """The one-sided quantile at `LEVEL` of a statistic whose error comes from `runs` runs (0: it is known)."""
    from scipy.special import ndtri, stdtrit

    return float(stdtrit(runs - 1, 1 - LEVEL) if runs else ndtri(1 - LEVEL))


def _null(differences: Array, hidden: Array) -> tuple[Array, Array]:
    """Largest and root-mean-square deviation for random rotations of the runs plus hidden errors, `DRAWS` of each.

    A rotation among n Gaussian runs leaves their joint law unchanged; it turns the axis (1, ..., 1), along which the mean is
    taken, into a random direction.
    """
    random = generator(0, 0, "comparison")
    runs, count = differences.shape
    squared = (differences**2).sum(axis=0)
    frame = (
        np.linalg.qr(differences, mode="r") if runs else differences
    )  # the same geometry in as few dimensions as it has
    peaks, means = np.empty(DRAWS), np.empty(DRAWS)
    step = max(1, 2_000_000 // max(count, len(frame), 1))
    for start in range(0, DRAWS, step):
        draws = slice(start, min(start + step, DRAWS))
        shape = (draws.stop - draws.start, count)
        mean, variance = np.zeros(shape), np.broadcast_to(hidden**2, shape)
        if runs:
            direction = random.standard_normal((shape[0], len(frame)))
            length = (direction**2).sum(axis=1)
            if runs > len(frame):
                length += random.chisquare(runs - len(frame), shape[0])
            along = direction @ frame / np.sqrt(length)[:, None]
            mean = along / math.sqrt(runs)
            variance = np.maximum(squared - along**2, 0) / ((runs - 1) * runs) + hidden**2
        noise = random.standard_normal(shape)
        independent, common = mean + hidden * noise, mean + hidden * noise[:, :1]
        peaks[draws] = np.sqrt((independent**2 / variance).max(axis=1))
        means[draws] = np.sqrt((common**2 / variance).mean(axis=1))
    return peaks, means


def _tails(values: Array) -> Array:
    """For each value the fraction of values that are at least as large."""
    return 1 - np.searchsorted(np.sort(values), values) / values.size
