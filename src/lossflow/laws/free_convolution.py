"""The free convolution of a Marchenko-Pastur law with a semicircle: the spectrum of a Wishart matrix plus noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.description import Description
from lossflow.errors import InvalidInput
from lossflow.laws import tails

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]


class TailIntegrals(NamedTuple):
    """Integrals above b, and their derivatives by the variance at fixed b when they come from `derivatives`.

    mass: int_b rho. mean: int_b x rho. missing: 1 + 1/kappa_star - int_b x^2 rho. hilbert: int_b rho h.
    hilbert_mean: int_b x rho h.
    """

    mass: Array
    mean: Array
    missing: Array
    hilbert: Array
    hilbert_mean: Array


@dataclass(frozen=True, repr=False)
class FreeConvolution(Description):
    """x(g) = 1/g + variance g + kappa_star/(kappa_star - g):  the law of  Z* + sqrt(variance) GOE.

    Z* = (1/m*) sum of m* projectors w* w*^T, w* ~ N(0, 1_d), m*/d = kappa_star > 0: Marchenko-Pastur, of mean 1 and second
    moment 1 + 1/kappa_star, with an atom 1 - kappa_star at zero when that is positive. GOE: the semicircle on [-2, 2].
    variance: > 0. g(x) = int rho(y) dy/(x - y) = h(x) - i pi rho(x) on the real line.
    Raises `InvalidInput` when a number is not positive and finite.
    docs/theory/quadratic.md sections 4.1 and 4.2 [MBB26v2].
    """

    kappa_star: float
    variance: float

    def check(self) -> None:
        for name in ("kappa_star", "variance"):
            if not 0 < getattr(self, name) < math.inf:
                raise InvalidInput(f"FreeConvolution.{name} must be positive and finite, got {getattr(self, name)}")

    def transform(self, x: npt.ArrayLike) -> npt.NDArray[np.complex128]:
        """g(x) = h(x) - i pi rho(x), real outside of the support. x: any shape."""
        return np.vectorize(self._transform, otypes=[complex])(x)

    def density(self, x: npt.ArrayLike) -> Array:
        """rho(x). x: any shape."""
        return -self.transform(x).imag / np.pi + 0.0

    def hilbert(self, x: npt.ArrayLike) -> Array:
        """h(x), the principal value of int rho(y) dy/(x - y). x: any shape."""
        return self.transform(x).real

    def above(self, b: npt.ArrayLike) -> TailIntegrals:
        """Integrals over x > b, in closed form, to about 1e-14. b: any shape."""
        return TailIntegrals(*np.vectorize(self._above, otypes=[float] * 5)(b))

    def derivatives(self, b: npt.ArrayLike) -> TailIntegrals:
        """Derivatives of `above(b)` by the variance at fixed b, exact by dg/dvariance = -g dg/dx (Burgers). b: any shape."""
        return TailIntegrals(*np.vectorize(self._derivatives, otypes=[float] * 5)(b))

    def edges(self) -> Array:
        """The ends of the support, increasing: two, or four where a gap is open."""
        k, xi = self.kappa_star, self.variance
        # (k - g)^2 (xi g^2 - 1) + k g^2 = 0 in v = sqrt(xi) g, c = sqrt(xi) k: all coefficients of one size
        c = k * math.sqrt(xi)
        quartic = np.array([1.0, -2 * c, c * c - 1.0 + k, 2 * c, -c * c])
        roots = np.roots(quartic)
        slope = np.polyder(quartic)
        real = []
        for root in roots:
            v = root
            for _ in range(3):
                derivative = np.polyval(slope, v)
                if derivative != 0:
                    v = v - np.polyval(quartic, v) / derivative
            if abs(v.imag) < 1e-9 * max(abs(v), 1e-300):
                real.append(v.real / math.sqrt(xi))
        return np.sort([1 / g + xi * g + k / (k - g) for g in real])

    def quantile(self, mass: float) -> float:
        """omega with int_omega rho = mass, 0 < mass < 1. Raises `InvalidInput` for other masses."""
        if not 0 < mass < 1:
            raise InvalidInput(f"a mass between 0 and 1 lies above a quantile, got {mass}")
        return tails.quantile(mass, self.variance, self.kappa_star, 1.0)

    def _transform(self, x: float) -> complex:
        k, xi = self.kappa_star, self.variance
        g = tails.transform(float(x), xi, k)
        if g.imag:
            return g
        # outside of the support g falls with x, which tells its root from the others
        for root in np.roots([xi, -(x + k * xi), 1 - k + k * x, -k]):
            real = root.real
            if abs(root.imag) <= 1e-7 * abs(root) and -1 / real**2 + xi + k / (k - real) ** 2 <= 0:
                return complex(real)
        return g

    def _above(self, b: float) -> tuple[float, ...]:
        t = tails.tails(float(b), self.variance, self.kappa_star)
        mean = tails.mean_above(float(b), self.variance, self.kappa_star)
        return t.mass, mean, t.missing, t.j0, t.j1

    def _derivatives(self, b: float) -> tuple[float, ...]:
        t = tails.tails(float(b), self.variance, self.kappa_star)
        flow = t.rho * t.h
        cubic = math.pi * t.rho * t.h**2 - math.pi**3 * t.rho**3 / 3  # -Im g^3 / 3
        return (
            flow,
            b * flow + t.j0,
            -b * b * flow - 2 * t.j1,
            cubic / math.pi,
            (t.cube / 3 + b * cubic) / math.pi,
        )
