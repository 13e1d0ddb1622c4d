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


def estimate(levels: Sequence[Array], deterministic: bool) -> Estimate:
    """From the values of each level, coarsest first, shape (randomizations, ...) each.

    One level: values as they are. Three, with steps h, h/2 and h/4: where sampling errors are small (deterministic dynamics)
    the extrapolation  (8 Q(h/4) - 6 Q(h/2) + Q(h))/3,  free of the first two orders; else  2 Q(h/4) - Q(h/2),  which amplifies
    sampling errors less. Their difference is the error of the latter; the former was 4 to 14 times closer on linear flows.
    """
    finest = levels[-1]
    if len(levels) == 1:
        runs, discretization = finest, np.zeros(finest.shape[1:])
    else:
        coarse, middle = levels[-3], levels[-2]
        second, third = 2 * finest - middle, (8 * finest - 6 * middle + coarse) / 3
        runs = third if deterministic else second
        discretization = np.abs((third - second).mean(axis=0)) * (CLOSER if deterministic else 1.0)
        discretization = without_crossings(discretization)
    return Estimate(runs, runs.mean(axis=0), standard_error(runs), discretization)


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
