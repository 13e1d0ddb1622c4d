"""Errors of estimation in one place: what independent randomizations and refined grids say of the error of a mean.

    uncertainty^2 = (n - 1)/(n - 3) * variance over n randomizations / n  +  (error of the extrapolation)^2  +  others

The first factor makes deviations have the mean square one in these units although the variance is known from n runs only:
Student's distribution with n - 1 degrees of freedom has the variance (n - 1)/(n - 3).
docs/theory/mean_field.md section 7.5 [NI26v2].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

FEWEST = 4  # randomizations from which an error follows: with three the variance of Student's distribution is infinite

CLOSER = 1 / 3  # the error of the third order in units of its difference from the second, at most


class Estimate(NamedTuple):
    """runs: the extrapolated values of each randomization, shape (randomizations, ...); value: their mean; sampling and
    discretization: one standard error each; all of the shape of one run."""

    runs: Array
    value: Array
    sampling: Array
    discretization: Array

    @property
    def uncertainty(self) -> Array:
        """One standard error of the total error."""
        return np.hypot(self.sampling, self.discretization)


def estimate(levels: Sequence[Array]) -> Estimate:
    """From the values of each level, coarsest first, shape (randomizations, times, ...) each.

    One level: values as they are. Three, with steps h, h/2 and h/4: the values Q(h/4) themselves, or
    2 Q(h/4) - Q(h/2),  or  (8 Q(h/4) - 6 Q(h/2) + Q(h))/3,  free of the first one and two orders of the step, at each time
    whichever has the smallest error in total: each order amplifies the scatter by about two. The error of the step is the
    difference from the next order, as far as its own scatter lets it be known, for the last one `CLOSER` times that from
    the one before.
    """
    finest = levels[-1]
    if len(levels) == 1:
        return Estimate(finest, finest.mean(axis=0), standard_error(finest), np.zeros(finest.shape[1:]))
    coarse, middle = levels[-3], levels[-2]
    second, third = 2 * finest - middle, (8 * finest - 6 * middle + coarse) / 3
    first_gap, second_gap = (
        without_crossings(np.hypot((better - worse).mean(axis=0), standard_error(better - worse)))
        for better, worse in ((second, finest), (third, second))
    )
    orders = np.stack([finest, second, third])
    gaps = np.stack([first_gap, second_gap, CLOSER * second_gap])
    errors = np.stack([standard_error(runs) for runs in orders])
    best = np.argmin(np.hypot(errors, gaps), axis=0)[None]
    runs = np.take_along_axis(orders, best[:, None], axis=0)[0]
    sampling, discretization = (np.take_along_axis(array, best, axis=0)[0] for array in (errors, gaps))
    return Estimate(runs, runs.mean(axis=0), sampling, discretization)


def without_crossings(error: Array) -> Array:
    """At least half of the mean of the errors at the neighboring times: a difference that changes its sign is no small error.

    error: shape (times, ...); zeros, where nothing was approximated, stay.
    """
    if len(error) < 3:
        return error
    padded = np.concatenate([error[1:2], error, error[-2:-1]])
    around = (padded[:-2] + padded[2:]) / 4
    return np.where(error > 0, np.maximum(error, around), error)


def standard_error(runs: Array) -> Array:
    """Of the mean of independent runs, shape (runs, ...), such that deviations in its units have mean square one."""
    n = len(runs)
    return runs.std(axis=0, ddof=1) * np.sqrt((n - 1) / (n - 3) / n)
