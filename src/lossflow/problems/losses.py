"""Losses of one sample, as functions of its preactivation r and its label y, with two derivatives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from lossflow.description import Description
from lossflow.errors import InvalidInput
from lossflow.problems.gaussian import smoothed

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

Symmetry = Literal["odd", "even"]


class AbstractLoss(Description):
    """rho(r, y), the loss of a sample with preactivation r and label y. Concrete losses are final.

    A loss of your own gives `value`, `slope` and `curvature`, elementwise on arrays; they are checked against one another by
    finite differences when the loss is first used. What else a loss says of itself:
    labels: the kinds of labels it takes, among "real", "squared" and "binary" (y = +-1; then wrong signs of r are errors).
    lipschitz: an upper bound of |curvature| over all r and y; inf if there is none or none is known.
    symmetry: "odd" if rho(-r, -y) = rho(r, y), "even" if rho(-r, y) = rho(r, y), None if neither is known.
    of_residual: whether rho depends on r - y alone. smooth: whether the curvature is continuous; where it jumps, flows at finite
    size are followed by steps that are halved.
    docs/theory/mean_field.md section 4 [NI26v2].
    """

    labels: ClassVar[tuple[str, ...]] = ("real", "squared", "binary")
    symmetry: ClassVar[Symmetry | None] = None
    of_residual: ClassVar[bool] = False
    smooth: ClassVar[bool] = True

    @property
    def lipschitz(self) -> float:
        """An upper bound of |d^2 rho/dr^2|."""
        return math.inf

    def value(self, r: Array, y: Array) -> Array:
        """rho(r, y)."""
        raise InvalidInput(f"{type(self).__name__} does not say what it is: define value(r, y)")

    def slope(self, r: Array, y: Array) -> Array:
        """ell = d rho/dr."""
        raise InvalidInput(f"{type(self).__name__} has no first derivative: define slope(r, y)")

    def curvature(self, r: Array, y: Array) -> Array:
        """d ell/dr."""
        raise InvalidInput(f"{type(self).__name__} has no second derivative: define curvature(r, y)")

    def average(self, mean: Array, variance: float, y: Array) -> Array:
        """E rho(r, y) over r ~ N(mean, variance), elementwise in `mean` and `y`."""
        labels = np.asarray(y)
        if variance > 0:
            labels = labels[..., None]
        return smoothed(lambda r: self.value(r, labels), np.asarray(mean), math.sqrt(variance))


@dataclass(frozen=True, repr=False)
class Square(AbstractLoss):
    """rho = (r - y)^2/2,   ell = r - y.

    docs/theory/mean_field.md section 4 [NI26v2].
    """

    symmetry = "odd"
    of_residual = True

    @property
    def lipschitz(self) -> float:
        """1."""
        return 1.0

    def value(self, r: Array, y: Array) -> Array:
        """(r - y)^2/2."""
        return 0.5 * (r - y) ** 2

    def slope(self, r: Array, y: Array) -> Array:
        """r - y."""
        return r - y

    def curvature(self, r: Array, y: Array) -> Array:
        """1."""
        return np.ones(np.broadcast_shapes(np.shape(r), np.shape(y)))

    def average(self, mean: Array, variance: float, y: Array) -> Array:
        """((mean - y)^2 + variance)/2."""
        return 0.5 * ((mean - y) ** 2 + variance)


@dataclass(frozen=True, repr=False)
class Huber(AbstractLoss):
    """rho = e^2/2 for |e| < c,  c |e| - c^2/2 beyond,   e = r - y;   ell = clip(e, -c, c).

    width: c > 0, finite.
    docs/theory/mean_field.md section 4 [NI26v2].
    """

    width: float = 1.0

    symmetry = "odd"
    of_residual = True
    smooth = False

    def check(self) -> None:
        _require_positive(self, "width", "beyond any residual it is Square()")

    @property
    def lipschitz(self) -> float:
        """1."""
        return 1.0

    def value(self, r: Array, y: Array) -> Array:
        """e^2/2 or c |e| - c^2/2."""
        e, c = np.abs(r - y), self.width
        return np.where(e < c, 0.5 * e**2, c * e - 0.5 * c**2)

    def slope(self, r: Array, y: Array) -> Array:
        """clip(r - y, -c, c)."""
        return np.clip(r - y, -self.width, self.width)

    def curvature(self, r: Array, y: Array) -> Array:
        """1 where |r - y| < c, else 0."""
        return (np.abs(r - y) < self.width).astype(np.float64)

    def average(self, mean: Array, variance: float, y: Array) -> Array:
        """Over r ~ N(mean, variance), in closed form."""
        if variance == 0:
            return self.value(mean, y)
        from scipy.special import ndtr

        a, s, c = np.asarray(mean - y), math.sqrt(variance), self.width
        low, high = (-c - a) / s, (c - a) / s
        dense_low, dense_high = (np.exp(-0.5 * x**2) / math.sqrt(2 * math.pi) for x in (low, high))
        # the inner mass as a difference of the two smaller tails
        inner = np.where(a > 0, ndtr(high) - ndtr(low), ndtr(-low) - ndtr(-high))
        squares = (a**2 + s**2) * inner + s * (2 * a + s * low) * dense_low - s * (2 * a + s * high) * dense_high
        above = (c * a - 0.5 * c**2) * ndtr(-high) + c * s * dense_high
        below = (-c * a - 0.5 * c**2) * ndtr(low) + c * s * dense_low
        return 0.5 * squares + above + below


@dataclass(frozen=True, repr=False)
class Logistic(AbstractLoss):
    """rho = log(1 + exp(-y r)),  y = +-1,   ell = -y s(-y r),   s(x) = 1/(1 + exp(-x)).

    docs/theory/mean_field.md section 4 [NI26v2].
    """

    labels = ("binary",)
    symmetry = "odd"

    @property
    def lipschitz(self) -> float:
        """1/4."""
        return 0.25

    def value(self, r: Array, y: Array) -> Array:
        """log(1 + exp(-y r))."""
        return np.logaddexp(0.0, -y * r)

    def slope(self, r: Array, y: Array) -> Array:
        """-y s(-y r)."""
        return -y * sigmoid(-y * r)

    def curvature(self, r: Array, y: Array) -> Array:
        """s(r) s(-r)."""
        decay = np.exp(-np.abs(r))
        return np.broadcast_to(decay / (1 + decay) ** 2, np.broadcast_shapes(np.shape(r), np.shape(y)))


@dataclass(frozen=True, repr=False)
class SmoothHinge(AbstractLoss):
    """rho = log(1 + exp(beta (kappa - y r)))/beta,  y = +-1,   ell = -y s(beta (kappa - y r)),   s(x) = 1/(1 + exp(-x)).

    margin: kappa, finite; zero is the smooth perceptron. sharpness: beta > 0, finite; beta -> inf is the hinge
    max(kappa - y r, 0), whose second derivative has no density and which the mean-field equations for paths do not cover.
    docs/theory/mean_field.md section 4 [NI26v2].
    """

    margin: float = 1.0
    sharpness: float = 4.0

    labels = ("binary",)
    symmetry = "odd"

    def check(self) -> None:
        _require_positive(self, "sharpness", "the hinge itself is not covered: take 4 to 20")
        if not math.isfinite(self.margin):
            raise InvalidInput(f"SmoothHinge.margin must be finite, got {self.margin!r}")

    @property
    def lipschitz(self) -> float:
        """beta/4."""
        return 0.25 * self.sharpness

    def value(self, r: Array, y: Array) -> Array:
        """log(1 + exp(beta (kappa - y r)))/beta."""
        return np.logaddexp(0.0, self.sharpness * (self.margin - y * r)) / self.sharpness

    def slope(self, r: Array, y: Array) -> Array:
        """-y s(beta (kappa - y r))."""
        return -y * sigmoid(self.sharpness * (self.margin - y * r))

    def curvature(self, r: Array, y: Array) -> Array:
        """beta s (1 - s)."""
        decay = np.exp(-np.abs(self.sharpness * (self.margin - y * r)))
        return self.sharpness * decay / (1 + decay) ** 2


@dataclass(frozen=True, repr=False)
class PhaseRetrieval(AbstractLoss):
    """rho = (r^2 - y)^2/4,   ell = (r^2 - y) r,   for labels y = r*^2 + noise.

    Not Lipschitz: the theorems behind the mean-field limit do not cover it, and gradient descent can diverge at any step.
    From overlap zero the limit stays there: escape needs times of order log d.
    docs/theory/mean_field.md sections 4 and 8 [NI26v2].
    """

    labels = ("squared",)
    symmetry = "even"

    def value(self, r: Array, y: Array) -> Array:
        """(r^2 - y)^2/4."""
        return 0.25 * (r**2 - y) ** 2

    def slope(self, r: Array, y: Array) -> Array:
        """(r^2 - y) r."""
        return (r**2 - y) * r

    def curvature(self, r: Array, y: Array) -> Array:
        """3 r^2 - y."""
        return 3 * r**2 - y

    def average(self, mean: Array, variance: float, y: Array) -> Array:
        """By the fourth moment of r ~ N(mean, variance)."""
        square = mean**2
        fourth = square**2 + 6 * square * variance + 3 * variance**2
        return 0.25 * (fourth - 2 * y * (square + variance) + y**2)


def sigmoid(x: Array) -> Array:
    """1/(1 + exp(-x)), without overflow."""
    decay = np.exp(-np.abs(x))
    return np.where(np.asarray(x) >= 0, 1.0, decay) / (1 + decay)


@lru_cache(maxsize=256)
def require_derivatives(loss: AbstractLoss, labels: tuple[float, ...]) -> None:
    """Raise `InvalidInput`, with the place, unless `slope` and `curvature` are the derivatives of `value`.

    labels: values of y to try. Central differences at two steps; a place where these disagree is a kink and says nothing.
    """
    r = np.sort(np.concatenate([np.linspace(-4.03, 4.01, 67), [0.1, -0.1, 1e-3]]))
    y = np.asarray(labels)[:, None]
    for name, lower, upper in (("slope", loss.value, loss.slope), ("curvature", loss.slope, loss.curvature)):
        grid, labels_there = np.broadcast_arrays(r, y)
        claimed = np.asarray(upper(grid, labels_there))
        if claimed.shape != grid.shape or not np.isfinite(claimed).all():
            raise InvalidInput(
                f"{type(loss).__name__}.{name}(r, y) must be finite and work elementwise: for arrays of shape {grid.shape} it "
                f"gave {'values that are not finite' if claimed.shape == grid.shape else f'shape {claimed.shape}'}"
            )
        wide, narrow = (
            (np.asarray(lower(grid + h, labels_there)) - np.asarray(lower(grid - h, labels_there))) / (2 * h)
            for h in (2e-4, 1e-4)
        )
        if narrow.shape != grid.shape:
            raise InvalidInput(
                f"{type(loss).__name__} must work elementwise: for arrays of shape {grid.shape} the function below `{name}` "
                f"gave shape {narrow.shape}"
            )
        scale = 1 + np.abs(narrow)
        smooth = np.abs(wide - narrow) < 1e-5 * scale
        wrong = smooth & (np.abs(claimed - narrow) > 1e-5 * scale)
        if not np.isfinite(narrow).all() or smooth.mean() < 0.5:
            raise InvalidInput(
                f"{type(loss).__name__}: what {name}(r, y) should be the derivative of is not smooth or not finite"
            )
        if wrong.any():
            at = np.unravel_index(int(np.argmax(np.where(wrong, np.abs(claimed - narrow) / scale, 0))), wrong.shape)
            raise InvalidInput(
                f"{type(loss).__name__}.{name} is off at r = {grid[at]:.6g}, y = {labels_there[at]:.6g}: it says "
                f"{claimed[at]:.6g}, finite differences of `{lower.__name__}` say {narrow[at]:.6g}"
            )


def _require_positive(loss: AbstractLoss, name: str, advice: str) -> None:
    value = getattr(loss, name)
    if not 0 < value < math.inf:
        raise InvalidInput(f"{type(loss).__name__}.{name} must be a finite number > 0, got {value!r}; {advice}")
