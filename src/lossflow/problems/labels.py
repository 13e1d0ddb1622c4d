"""Labels: what a teacher says of a sample, y = y(r*, z)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from lossflow.description import Description
from lossflow.errors import InvalidInput
from lossflow.problems.gaussian import smoothed
from lossflow.problems.losses import Symmetry, sigmoid

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]


class AbstractLabels(Description):
    """y(r*, z), the label of a sample; r* ~ N(0, 1) is the teacher's preactivation, z are uniform variables.

    Concrete labels are final.

    Labels of your own define `draw`, elementwise, and say what they are:
    kind: "binary" (y = +-1), "squared" or "real" otherwise. noise_columns: how many uniform variables on (0, 1) `draw` takes.
    symmetry: "odd" if y(-r*, z) = -y(r*, z) in law, "even" if it is y(r*, z), None if neither is known.
    additive: whether y = r* + noise; then the squared distance to r* is an observable, `mse`.
    docs/theory/mean_field.md section 4 [NI26v2].
    """

    kind: ClassVar[Literal["real", "squared", "binary"]] = "real"
    symmetry: ClassVar[Symmetry | None] = None
    additive: ClassVar[bool] = False

    @property
    def noise_columns(self) -> int:
        """How many uniform variables on (0, 1) a label takes."""
        return 0

    def draw(self, teacher: Array, noise: Array) -> Array:
        """y (...), from r* (...) and uniform variables (noise_columns, ...)."""
        raise InvalidInput(f"{type(self).__name__} does not say what a label is: define draw(teacher, noise)")

    def positive(self, mean: Array, variance: float) -> Array | None:
        """P(y = 1) for r* ~ N(mean, variance), elementwise; None where no formula is known: then it is summed over r* and z."""
        return None


@dataclass(frozen=True, repr=False)
class LinearLabels(AbstractLabels):
    """y = r* + sigma z,   z ~ N(0, 1).

    noise_variance: sigma^2 >= 0.
    docs/theory/mean_field.md section 4 [NI26v2].
    """

    noise_variance: float = 0.0

    symmetry = "odd"
    additive = True

    def check(self) -> None:
        _require_variance(self)

    @property
    def noise_columns(self) -> int:
        """One, or none without noise."""
        return int(self.noise_variance > 0)

    def draw(self, teacher: Array, noise: Array) -> Array:
        """r* + sigma z."""
        return teacher + _gaussian_noise(self.noise_variance, noise)


@dataclass(frozen=True, repr=False)
class CubicNoiseLabels(AbstractLabels):
    """y = r* + scale z^3,   z ~ N(0, 1):  heavy tails, noise variance 15 scale^2, kurtosis 46.2.

    scale: > 0, finite.
    docs/theory/mean_field.md sections 4 and 9 [NI26v2].
    """

    scale: float = 0.3

    symmetry = "odd"
    additive = True

    def check(self) -> None:
        if not 0 < self.scale < math.inf:
            raise InvalidInput(f"CubicNoiseLabels.scale must be a finite number > 0, got {self.scale!r}")

    @property
    def noise_columns(self) -> int:
        """One."""
        return 1

    def draw(self, teacher: Array, noise: Array) -> Array:
        """r* + scale z^3."""
        return teacher + self.scale * normal(noise[0]) ** 3


@dataclass(frozen=True, repr=False)
class SquaredLabels(AbstractLabels):
    """y = r*^2 + sigma z,   z ~ N(0, 1).

    noise_variance: sigma^2 >= 0.
    docs/theory/mean_field.md section 4 [NI26v2].
    """

    noise_variance: float = 0.0

    kind = "squared"
    symmetry = "even"

    def check(self) -> None:
        _require_variance(self)

    @property
    def noise_columns(self) -> int:
        """One, or none without noise."""
        return int(self.noise_variance > 0)

    def draw(self, teacher: Array, noise: Array) -> Array:
        """r*^2 + sigma z."""
        return teacher**2 + _gaussian_noise(self.noise_variance, noise)


@dataclass(frozen=True, repr=False)
class SignLabels(AbstractLabels):
    """y = sign r*.

    docs/theory/mean_field.md section 4 [NI26v2].
    """

    kind = "binary"
    symmetry = "odd"

    def draw(self, teacher: Array, noise: Array) -> Array:
        """sign r*; +1 at zero."""
        return np.where(np.asarray(teacher) >= 0, 1.0, -1.0)

    def positive(self, mean: Array, variance: float) -> Array:
        """Phi(mean/sqrt(variance))."""
        if variance == 0:
            return 0.5 * (1 + np.sign(mean))
        from scipy.special import ndtr

        return ndtr(mean / math.sqrt(variance))


@dataclass(frozen=True, repr=False)
class LogitLabels(AbstractLabels):
    """y = +-1,   P(y = 1) = s(kappa r*),   s(x) = 1/(1 + exp(-x)).

    sharpness: kappa > 0, finite; kappa -> inf is SignLabels().
    docs/theory/mean_field.md section 4 [NI26v2].
    """

    sharpness: float = 1.0

    kind = "binary"
    symmetry = "odd"

    def check(self) -> None:
        if not 0 < self.sharpness < math.inf:
            raise InvalidInput(
                f"LogitLabels.sharpness must be a finite number > 0, got {self.sharpness!r}; "
                "its limits are NoiseLabels() and SignLabels()"
            )

    @property
    def noise_columns(self) -> int:
        """One."""
        return 1

    def draw(self, teacher: Array, noise: Array) -> Array:
        """+1 with probability s(kappa r*), else -1."""
        return np.where(noise[0] < sigmoid(self.sharpness * teacher), 1.0, -1.0)

    def positive(self, mean: Array, variance: float) -> Array:
        """E s(kappa r*), to rounding: as an average over r* where it is broad, over the logistic variable where that is."""
        deviation = math.sqrt(variance)
        if self.sharpness * deviation <= 4:
            return smoothed(lambda r: sigmoid(self.sharpness * r), np.asarray(mean), deviation)
        from scipy.special import ndtr

        u = np.linspace(
            -38, 38, 191
        )  # steps of 0.4: y = sign(r* + u/kappa), u of density s(u) s(-u), which has its poles at +- i pi
        weight = sigmoid(u) * sigmoid(-u)
        return ndtr((np.asarray(mean)[..., None] + u / self.sharpness) / deviation) @ (weight / weight.sum())


@dataclass(frozen=True, repr=False)
class NoiseLabels(AbstractLabels):
    """y = +-1 with probability 1/2 each, whatever r*: pure noise, the overlap stays zero where it starts there.

    docs/theory/mean_field.md section 4 [NI26v2].
    """

    kind = "binary"
    symmetry = "odd"

    @property
    def noise_columns(self) -> int:
        """One."""
        return 1

    def draw(self, teacher: Array, noise: Array) -> Array:
        """A fair coin."""
        return np.where(np.broadcast_to(noise[0], np.shape(teacher)) < 0.5, 1.0, -1.0)

    def positive(self, mean: Array, variance: float) -> Array:
        """1/2."""
        return np.full(np.shape(mean), 0.5)


def normal(uniform: Array) -> Array:
    """The standard normal variable z with Phi(z) = uniform."""
    from scipy.special import ndtri

    return ndtri(uniform)


def _gaussian_noise(variance: float, noise: Array) -> Array | float:
    return math.sqrt(variance) * normal(noise[0]) if variance else 0.0


def _require_variance(labels: LinearLabels | SquaredLabels) -> None:
    if not 0 <= labels.noise_variance < math.inf:
        raise InvalidInput(
            f"{type(labels).__name__}.noise_variance must be a finite number >= 0, got {labels.noise_variance!r}"
        )
