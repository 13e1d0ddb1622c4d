"""The Marchenko-Pastur law: the spectrum of U^T U for a large Gaussian matrix U."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lossflow.description import Description
from lossflow.errors import InvalidInput

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

NODES_PER_PANEL = 16  # the nearest singularity of an admissible function leaves 4.6^-32 < 1e-21 of it


@dataclass(frozen=True, repr=False)
class MarchenkoPastur(Description):
    """density(x) = sqrt((x - a)(b - x)) / (2 pi columns variance x) on [a, b], plus max(0, 1 - rows/columns) at x = 0.

    The law of one eigenvalue of W = U^T U when U is rows x columns with independent N(0, variance) entries and both sizes
    are large;  a, b = variance (sqrt(rows) -+ sqrt(columns))^2.  Only rows/columns and columns * variance matter. The two
    sizes are kept apart because their difference, exact here, decides the lower edge: a ratio of 1.000001 would have lost it.

    rows, columns, variance: numbers > 0, not necessarily whole. Total mass 1, mean rows * variance.
    Raises `InvalidInput` when one of them is not positive and finite.
    docs/theory/diagrams.md section 9 [YGG26v2].
    """

    rows: float
    columns: float
    variance: float = 1.0

    def check(self) -> None:
        for name in ("rows", "columns", "variance"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise InvalidInput(f"MarchenkoPastur.{name} must be positive and finite, got {value}")

    @property
    def edges(self) -> tuple[float, float]:
        """(a, b): where the continuous part begins and ends; a = 0 exactly when rows = columns."""
        root_sum = math.sqrt(self.rows) + math.sqrt(self.columns)
        return self.variance * ((self.rows - self.columns) / root_sum) ** 2, self.variance * root_sum**2

    @property
    def atom(self) -> float:
        """max(0, 1 - rows/columns): the mass at x = 0, the directions that U does not reach."""
        return max(0.0, self.columns - self.rows) / self.columns

    def density(self, x: npt.ArrayLike) -> Array:
        """The continuous part at `x`, of the same shape: zero outside the edges, infinite at a hard edge x = a = 0."""
        a, b = self.edges
        x = np.asarray(x, dtype=np.float64)
        inside = (x >= a) & (x <= b)
        y = np.where(inside, x, b)
        with np.errstate(divide="ignore"):
            root = np.sqrt((b - y) / y) if a == 0 else np.sqrt((y - a) * (b - y)) / y
        return root / (2 * np.pi * self.columns * self.variance)

    def moment(self, k: int) -> float:
        """E x^k = (columns variance)^k sum_n N(k, n) (rows/columns)^n  with the Narayana numbers N; k = 0, 1, 2, ..."""
        ratio = self.rows / self.columns
        terms = sum(narayana(k, n) * ratio**n for n in range(1, k + 1)) if k else 1.0
        return (self.columns * self.variance) ** k * terms

    def average(self, f: Callable[[Array], Array], finest: float = 1e-24) -> float:
        """E f(x), atom included.  f: maps an array of eigenvalues to an array of the same shape.  finest: see below."""
        x, weights = self.nodes_and_weights(finest)
        at_zero = self.atom * float(f(np.zeros(1))[0]) if self.atom else 0.0
        return at_zero + float(weights @ f(x))

    def nodes_and_weights(
        self, finest: float = 1e-24, above: float | None = None, points: int = NODES_PER_PANEL
    ) -> tuple[Array, Array]:
        """(x, w) with  sum_i w_i f(x_i) = integral of f over the continuous part, exact to rounding; all w_i > 0.

        f may vary on any scale down to `finest * b` near either edge (near an edge that is not zero, no finer than rounding
        lets x resolve), as long as it is analytic away from the real axis and from the far side of the edges: in
        x = a + (b - a) sin(phi)^2  Gauss-Legendre panels halve toward both edges, so that every panel is as long as its
        distance from the edge. About 1600 nodes by default.

        above: `finest` at the upper edge, if it differs: 1 for functions that are smooth there, which halves the work.
        points: nodes per panel; a second number of them shows how exact the first was.
        """
        above = finest if above is None else above
        for fraction in (finest, above):
            if not 0 < fraction <= 1:
                raise InvalidInput(
                    f"finest is a fraction of the upper edge in (0, 1], got {fraction}; the default resolves 1e-24"
                )
        a, b = (edge / self.variance for edge in self.edges)
        width = 4 * math.sqrt(self.rows) * math.sqrt(self.columns)  # b - a
        rounding = np.finfo(np.float64).eps / 4
        low, low_weights = _halving_panels(max(finest, rounding * a / b), points)
        high, high_weights = _halving_panels(max(above, rounding), points)
        x = np.append(a + width * np.sin(low) ** 2, b - width * np.sin(high) ** 2)
        root = width / 2 * np.append(np.sin(2 * low), np.sin(2 * high))  # sqrt((x - a)(b - x))
        weights = np.append(low_weights, high_weights) * root**2 / x
        return self.variance * x, weights / (np.pi * self.columns)


def narayana(k: int, n: int) -> int:
    """N(k, n) = binom(k, n) binom(k, n-1) / k for 1 <= n <= k: non-crossing partitions of k points into n blocks."""
    return math.comb(k, n) * math.comb(k, n - 1) // k


def _halving_panels(finest: float, points: int) -> tuple[Array, Array]:
    """Gauss-Legendre nodes and weights on (0, pi/4): panels halve toward zero until their square is below `finest`."""
    count = 2 + math.ceil(-math.log2(finest) / 2)
    ends = np.append(0.0, np.pi / 4 * 0.5 ** np.arange(count)[::-1])
    nodes, weights = np.polynomial.legendre.leggauss(points)
    half = np.diff(ends)[:, None] / 2
    return (ends[:-1, None] + half * (1 + nodes)).ravel(), (half * weights).ravel()
