"""The long-time equations by brute force: numpy's roots, adaptive quadrature, one bracketing inside another.

The independent road of the tests, and with an imaginary shift and loose tolerances the yardstick of benchmarks/quadratic.py.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq


class Slow(NamedTuple):
    q: float
    xi: float
    mse: float
    rank: float


class Route(NamedTuple):
    """shift: of the point where the cubic is solved, into the complex plane. tolerance: of quadratures and brackets."""

    alpha: float
    kappa: float
    k: float
    noise: float
    decay: float
    shift: float = 0.0
    tolerance: float = 1e-10

    def transform(self, x: float, xi: float) -> complex:
        z = x + 1j * self.shift
        roots = np.roots([xi, -(z + self.k * xi), 1 - self.k + self.k * z, -self.k])
        return complex(roots[np.argmin(roots.imag)])

    def top(self, xi: float) -> float:
        return (1 + self.k**-0.5) ** 2 + 2 * math.sqrt(xi)

    def integral(self, f, b: float, xi: float) -> float:  # type: ignore[no-untyped-def]
        """int_b rho(x) f(x, h(x)) dx."""

        def integrand(x: float) -> float:
            g = self.transform(x, xi)
            return -g.imag / math.pi * f(x, g.real)

        high = self.top(xi)
        if b >= high:
            return 0.0
        return quad(integrand, b, high, epsabs=self.tolerance, epsrel=self.tolerance, limit=400)[0]

    def omega(self, xi: float) -> float:
        if self.kappa >= 1:
            return -math.inf
        low, high = -2 * math.sqrt(xi), self.top(xi)
        return brentq(  # type: ignore[return-value]
            lambda b: self.integral(lambda x, h: 1.0, b, xi) - self.kappa, low, high, xtol=self.tolerance
        )

    def q(self, xi: float, omega: float) -> float:
        def left(q: float) -> float:
            b = max(q, omega)
            return self.decay / q + self.integral(lambda x, h: h * (x - q), b, xi) / self.alpha - 1

        return brentq(left, self.decay * (1 - 1e-12), self.top(xi) + self.decay + 1, xtol=self.tolerance)  # type: ignore[return-value]

    def mse(self, xi: float) -> Slow:
        omega = self.omega(xi)
        q = self.q(xi, omega)
        b = max(q, omega)
        divergence = self.integral(lambda x, h: h * (x - q), b, xi)
        part = self.integral(lambda x, h: q * q - x * x, b, xi)
        rank = self.integral(lambda x, h: 1.0, b, xi)
        return Slow(q, xi, 1 + 1 / self.k + part + 4 * xi * divergence, rank)

    def solve(self, low: float, high: float) -> Slow:
        """The state whose xi lies between low and high."""

        def excess(log_xi: float) -> float:
            xi = math.exp(log_xi)
            return math.log((self.mse(xi).mse + self.noise / 2) / (2 * self.alpha * xi))

        log_xi = brentq(excess, math.log(low), math.log(high), xtol=self.tolerance)
        return self.mse(math.exp(log_xi))  # type: ignore[arg-type]
