"""The lazy limit of symmetric decompositions of odd order: many terms, a kernel that does not move, and several rates.

    E L = 1/2 sum_l (|F_l|^2 + E |f_l(0)|^2) exp(-2 lambda_l H sigma2^(nu-1) t),    l = nu, nu - 2, ..., 1,

over the harmonic parts of symmetric tensors; for nu = 3 with the rates 18 and 3p + 24. docs/theory/additions.md section 6.
"""

from __future__ import annotations

from fractions import Fraction
from math import factorial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.expansion.odd_orders import lazy_rates, lazy_weights

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

FACES = ("B", "B-C", "C")


class Lazy(NamedTuple):
    """constant + sum_l amplitude_l e^(-rate_l t), exactly at rational sizes."""

    constant: Fraction
    terms: tuple[tuple[Fraction, Fraction], ...]

    @property
    def blow_up_time(self) -> float | None:
        """Never."""
        return None

    def at(self, times: Array) -> Array:
        """The loss at `times`."""
        loss = np.full(times.shape, float(self.constant))
        for amplitude, rate in self.terms:
            loss += float(amplitude) * np.exp(-float(rate) * times)
        return loss

    def taylor(self, order: int) -> tuple[Fraction, ...]:
        """The coefficients of t^0 .. t^order."""
        rest = [sum((a * (-rate) ** s for a, rate in self.terms), Fraction(0)) / factorial(s) for s in range(order + 1)]
        return (rest[0] + self.constant, *rest[1:])

    @property
    def formula(self) -> str:
        """LaTeX."""
        terms = [rf"{float(a):.6g}\, e^{{-{float(rate):.6g}\, t}}" for a, rate in self.terms]
        return " + ".join(([f"{float(self.constant):.6g}"] if self.constant else []) + terms)


def lazy(
    order: int, regime: str, p: float | Fraction, H: float | Fraction, sigma2: float | Fraction, scale: Fraction
) -> Lazy | None:
    """The lazy limit on a face, None on others.

    order: nu, odd; regime: "B" (the target does not matter yet), "C" (the start does not), "B-C"; scale: c of the target
    c * identity.
    Exact in p: the limit is that of many rows H alone. docs/theory/additions.md section 6.
    """
    if regime not in FACES:
        return None
    p, H, sigma2 = Fraction(p), Fraction(H), Fraction(sigma2)
    speed = 2 * H * sigma2 ** (order - 1)
    rates, weights = lazy_rates(order, p), lazy_weights(order, p)
    terms = []
    for degree, (target, start) in weights.items():
        amplitude = (target * scale**2 if "C" in regime else 0) + (start * H * sigma2**order if "B" in regime else 0)
        terms.append((amplitude / 2, rates[degree] * speed))
    return Lazy(scale**2 * p / 2 if regime == "B" else Fraction(0), tuple(terms))
