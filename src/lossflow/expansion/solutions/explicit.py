"""Closed forms of the limit of tensor decompositions: free evolution and the kernel regime.

    free, one vertex or A-B:  c^2 p/2 + a (1 + b t)^(-nu/(nu - 1))        kernel regime (asymmetric):  c^2 p/2 + a e^(-b t), ...

with the target c * identity. docs/theory/diagrams.md sections 7.1 and 8 [YGG26v2].
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]


class Explicit(NamedTuple):
    """constant + amplitude * (1 + rate t)^(-exponent), or with e^(-rate t) where the exponent is inf."""

    constant: float
    amplitude: float
    rate: float
    exponent: float

    def at(self, times: Array) -> Array:
        """The loss at `times`; NaN where it does not exist any more, backward in time."""
        if math.isinf(self.exponent):
            return self.constant + self.amplitude * np.exp(-self.rate * times)
        base = 1 + self.rate * times
        power = np.full(base.shape, np.nan)
        power[base > 0] = base[base > 0] ** -self.exponent
        return self.constant + self.amplitude * power

    @property
    def blow_up_time(self) -> float | None:
        """Where it blows up backward in time, if it does."""
        return None if math.isinf(self.exponent) or self.amplitude == 0 else -1 / self.rate

    @property
    def formula(self) -> str:
        """LaTeX."""
        constant = "" if self.constant == 0 else f"{self.constant:.6g} + "
        if math.isinf(self.exponent):
            return rf"{constant}{self.amplitude:.6g}\, e^{{-{self.rate:.6g}\, t}}"
        return rf"{constant}{self.amplitude:.6g}\, (1 + {self.rate:.6g}\, t)^{{-{self.exponent:.6g}}}"


def explicit(
    order: int, symmetric: bool, regime: str, p: float, H: float, sigma2: float, scale: float
) -> Explicit | None:
    """The closed form on a face, None where there is none.

    order: nu; symmetric: one matrix in all slots (even nu) or nu; regime: "A", "B", "A-B" (symmetric, nu >= 4), "C", "B-C"
    (asymmetric); p, H, sigma2: the sizes; scale: c of the target c * identity, 0 for free evolution.
    docs/theory/diagrams.md sections 7.1 and 8 [YGG26v2].
    """
    nu = order
    if symmetric and nu % 2:
        return None
    target = scale**2 * p / 2
    start = p**nu * H * sigma2**nu / 2  # the norm of the model at the start, where its terms do not interfere
    slots, rows = p ** (nu - 1) * sigma2 ** (nu - 1), H * sigma2 ** (nu - 1)
    algebraic = nu / (nu - 1)
    if regime == "A":
        return Explicit(target, start, (2 * nu if symmetric else 2) * (nu - 1) * slots, algebraic)
    if symmetric:
        pairings = float(math.prod(range(nu - 1, 0, -2)))
        if regime == "B":
            begin = pairings * p ** (nu // 2) * H**2 * sigma2**nu / 2
            return Explicit(target, begin, 2 * nu * (nu - 1) * pairings * p ** (nu // 2 - 1) * rows, algebraic)
        if regime == "A-B" and nu >= 4:
            theta = 1 + pairings * H / p ** (nu // 2)
            return Explicit(target, theta * start, 2 * nu * (nu - 1) * theta * slots, algebraic)
        return None
    if regime == "B":
        return Explicit(target, start, 2 * nu * rows, math.inf)
    if regime == "C":
        return Explicit(0.0, target, 2 * nu * rows, math.inf)
    if regime == "B-C":
        return Explicit(0.0, target + start, 2 * nu * rows, math.inf)
    return None
