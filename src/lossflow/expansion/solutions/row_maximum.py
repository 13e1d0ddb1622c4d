"""Rows that learn one by one: the estimate of the loss when the largest of the H weights of each row blows up, and saturates.

    du/dt = nu u^(nu-1) (c - u^nu),  u(0) = sigma max_k |x_k|,  x_k ~ N(0, 1),     E L ~ (p/2) E (c - u^nu)^2

At low noise it follows the learning that no coefficient of the expansion sees, at p H >> 1 around the time 1/(32 sigma2
log(p H)) for
order 4. docs/theory/odd_order_and_descent.md part B [YGG26v2].
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

POINTS = 600  # of the trapezoidal rule over the maximum
LARGEST = 12.0  # standard deviations


def row_maximum(order: int, p: float, H: float, sigma2: float, scale: float, times: Array) -> Array:
    """(p/2) E (c - u^nu)^2 at times >= 0, NaN at others.

    order: nu, even; p, H, sigma2: the sizes; scale: c > 0; times: a vector. docs/theory/odd_order_and_descent.md part B
    [YGG26v2].
    """
    from scipy.integrate import solve_ivp
    from scipy.special import log_ndtr

    x = LARGEST * (np.arange(POINTS) + 0.5) / POINTS
    # the probability that the largest of H is below x, as (2 ndtr(x) - 1)^H = exp(H log1p(-2 ndtr(-x)))
    edges = np.arange(POINTS + 1) * LARGEST / POINTS
    with np.errstate(divide="ignore"):
        below = np.exp(H * np.log1p(-np.minimum(2 * np.exp(log_ndtr(-edges)), 1.0)))
    weight = np.diff(below)
    kept = weight > 1e-14
    x, weight = x[kept], weight[kept] / weight[kept].sum()
    found = np.full(times.shape, np.nan)
    asked = np.flatnonzero(times >= 0)
    order_of = asked[np.argsort(times[asked])]
    if not asked.size:
        return found

    def pace(_: float, log_u: Array) -> Array:
        u = np.exp(log_u)
        return order * u ** (order - 2) * (scale - u**order)

    start = np.log(x * math.sqrt(sigma2))
    ends = times[order_of]
    run = solve_ivp(pace, (0.0, max(float(ends[-1]), 1e-300)), start, "LSODA", ends, rtol=1e-7, atol=1e-9)
    residual = scale - np.exp(order * run.y)
    found[order_of] = p / 2 * (weight @ residual**2)
    return found
