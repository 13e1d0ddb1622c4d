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
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

LOWEST = -38.0  # log x where the integrals over log x begin: what is below is e^-38 of them at every a
HIGHEST = 2.4  # log x where the Gaussian has vanished
BLOCK = 256  # arguments that are integrated at once


def moments(order: int, a: npt.NDArray[Any], turn: float = 0.0) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """F(a) and G(a), relative error below 1e-13, by the trapezoidal rule in log x, whose strip of analyticity does not
    depend on a.

    order: nu, even, >= 4; a: a vector, a <= 0 for turn = 0. turn: the angle by which the path of x leaves the real axis, see
    `lateral_turn`; then a may be positive or complex. docs/theory/diagrams.md section 10 [YGG26v2].
    """
    power = order - 2
    step = min(0.03 if turn else 0.06, 0.5 / power)  # the integrand is analytic for |Im log x| < min(pi/4, pi/(nu-2))
    logs = np.arange(LOWEST, HIGHEST if not turn else HIGHEST + 0.4, step)
    x = np.exp(logs + 1j * turn) if turn else np.exp(logs)
    weight = 2 * step / math.sqrt(2 * math.pi) * x**3 * np.exp(-(x**2) / 2)
    reach = order * power * x**power
    parts = []
    for block in np.array_split(a, max(1, -(-a.size // BLOCK))):
        inverse = 1 / (1 - block[:, None] * reach[None, :])
        shrunk = inverse ** (2 / power) if power > 2 else inverse
        parts.append((shrunk @ weight, (shrunk * inverse) @ (weight * x**power)))
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
