"""Moments of one weight that starts Gaussian and follows  dw/dpsi = nu w^(nu-1):  the two functions behind the limit of
even orders.

    w(psi) = x / (1 - nu (nu-2) psi x^(nu-2))^(1/(nu-2)),   x ~ N(0, 1),
    F(a) = E w(a)^2,   G(a) = E w(a)^nu = F'(a)/(2 nu),        finite for a <= 0.

For a > 0 a weight with nu (nu-2) a x^(nu-2) > 1 has blown up: there F and G are the lateral continuations of their asymptotic
series, above and below the axis complex conjugates of each other. Order 4 has F = -1/(8a) + sqrt(pi) erfcx(1/(4
sqrt(-a)))/(32 a sqrt(-a)),
which cancels near a = 0; the integral does not. docs/theory/diagrams.md section 10 [YGG26v2],
docs/theory/odd_order_and_descent.md part B.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

DEPTH = 42.0  # of the trapezoidal rule: its error is e^-DEPTH
BELOW = 4.3  # by how much q begins below the pole: there log x is e^2.8 further down, and what is left out e^-38 of the whole
HIGHEST = 2.4  # q where the Gaussian has vanished
BLOCK = 256  # arguments that are integrated at once


class Quadrature(NamedTuple):
    """F(a) = sum first/(1 - a reach)^(2/(nu-2)),  G(a) = sum second/(1 - a reach)^(nu/(nu-2)).

    Good for |a| up to the one it was made for. power: nu - 2; the other fields: vectors over the points.
    """

    power: int
    reach: npt.NDArray[Any]
    first: npt.NDArray[Any]
    second: npt.NDArray[Any]

    def F(self, a: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """F at a vector of arguments."""
        inverse = 1 / (1 - a[:, None] * self.reach[None, :])
        return (inverse ** (2 / self.power) if self.power > 2 else inverse) @ self.first

    def both(self, a: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """F and G at a vector of arguments."""
        inverse = 1 / (1 - a[:, None] * self.reach[None, :])
        shrunk = inverse ** (2 / self.power) if self.power > 2 else inverse
        return shrunk @ self.first, (shrunk * inverse) @ self.second


def quadrature(order: int, largest: float, turn: float = 0.0) -> Quadrature:
    """The trapezoidal rule in q,  log x = q - e^(pole - q - 3/2),  for both functions.

    One end falls off doubly exponentially, below the pole of the largest a, log x = pole, and the strip of analyticity does not
    depend on a. order: nu; largest: |a|; turn: the angle by which the path of x leaves the real axis.
    """
    power = order - 2
    # the integrand is analytic for |Im log x| < min(pi/4, pi/(nu-2)) where a < 0, as far as the pole on the axis where a > 0
    strip = min(math.pi / 4 - abs(turn), abs(turn)) if turn else min(math.pi / 4, math.pi / power)
    step = 2 * math.pi * strip / DEPTH
    pole = min(0.0, -math.log(order * power * largest) / power) if largest else 0.0
    q = np.arange(pole - BELOW, HIGHEST if not turn else HIGHEST + 0.4, step)
    bend = np.exp(pole - 1.5 - q)
    x = np.exp(q - bend + 1j * turn) if turn else np.exp(q - bend)
    first = 2 * step / math.sqrt(2 * math.pi) * (1 + bend) * x**3 * np.exp(-(x**2) / 2)
    return Quadrature(power, order * power * x**power, first, first * x**power)


def moments(order: int, a: npt.NDArray[Any], turn: float = 0.0) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """F(a) and G(a), relative error below 1e-13 for real a.

    order: nu, even, >= 4; a: a vector, a <= 0 for turn = 0. turn: the angle by which the path of x leaves the real axis, see
    `lateral_turn`; then a may be positive or complex. docs/theory/diagrams.md section 10 [YGG26v2].
    """
    rule = quadrature(order, float(np.abs(a).max(initial=0.0)), turn)
    parts = [rule.both(block) for block in np.array_split(a, max(1, -(-a.size // BLOCK)))]
    return np.concatenate([F for F, _ in parts]), np.concatenate([G for _, G in parts])


def lateral_turn(order: int) -> float:
    """The angle of the path of x for the continuation to a > 0: a x^(nu-2) turns away from 1, the Gaussian still decays."""
    return min(0.4, 1.2 / (order - 2))


def series(order: int, terms: int) -> list[int]:
    """The coefficients of the asymptotic series of F:  E x^(2 + k (nu-2)) nu^k prod_{l<k} (2 + l (nu-2)) / k!,  exact integers.

    order: nu, even, >= 4; terms: how many. docs/theory/diagrams.md section 10 [YGG26v2].
    """
    found = []
    for k in range(terms):
        rising = math.prod(2 + step * (order - 2) for step in range(k))
        pairings = math.prod(range(1 + k * (order - 2), 0, -2))
        found.append(pairings * order**k * rising // math.factorial(k))
    return found
