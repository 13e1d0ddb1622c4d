"""Dynamics: how the weights move. Shared by theory and experiment; a `step` here is physics, not a discretization."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from lossflow.description import Description, coerce
from lossflow.errors import InvalidInput

if TYPE_CHECKING:
    import numpy.typing as npt


class AbstractDynamics(Description):
    """The law of motion of the weights, as a description. Concrete dynamics are final.

    `step` is the time between two updates of a discrete dynamics, None where time is continuous.
    """

    step: float | None  # annotated only: a value here would become the default of every dynamics that has a step

    def times(self, steps: int, every: int = 1) -> npt.NDArray[np.float64]:
        """The times k * step of a discrete dynamics, k = 0, every, 2 every, ..., steps.

        steps: >= 1, the number of updates; every: >= 1, the updates between two times (a last, shorter stretch ends at `steps`).
        Raises `InvalidInput` for a dynamics in continuous time, whose times are free.
        """
        if getattr(self, "step", None) is None:
            raise InvalidInput(
                f"{type(self).__name__} runs in continuous time: choose any times, e.g. np.linspace(0, 1, 50)"
            )
        steps, every = coerce(steps, int, "steps"), coerce(every, int, "every")
        if steps < 1 or every < 1:
            raise InvalidInput(f"steps and every must be at least 1, got steps={steps!r}, every={every!r}")
        assert self.step is not None
        counts = np.arange(0, steps + 1, every)
        return self.step * (counts if counts[-1] == steps else np.append(counts, steps)).astype(np.float64)

    def updates(self, times: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """The number of updates made at each of `times`, for a discrete dynamics.

        Raises `InvalidInput` with the nearest valid time for one that is negative or no multiple of the step.
        """
        if getattr(self, "step", None) is None:
            raise InvalidInput(f"{self!r} runs in continuous time and makes no updates that could be counted")
        assert self.step is not None
        counts = np.rint(times / self.step).astype(np.int64)
        off = np.flatnonzero(
            (np.abs(times - counts * self.step) > 1e-9 * np.maximum(self.step, np.abs(times))) | (times < 0)
        )
        if off.size:
            time = float(times[off[0]])
            near = max(int(counts[off[0]]), 0)
            raise InvalidInput(
                f"times of {type(self).__name__} are multiples of its step {self.step!r}, >= 0; got {time!r}, the nearest is "
                f"{near * self.step!r}. dynamics.times(steps, every) makes such times"
            )
        return counts


@dataclass(frozen=True, repr=False)
class GradientFlow(AbstractDynamics):
    """du/dt = -dL/du  for problems given by diagrams; L is exactly the written loss.  du/dt = -d * d(loss + penalty)/du  for
    models of data, d the input dimension.

    Times may be negative: that is ascent, which can blow up at a finite time.
    docs/theory/diagrams.md section 1 [YGG26v2]; docs/theory/mean_field.md section 1 [NI26v2].
    """

    step = None


@dataclass(frozen=True, repr=False)
class GradientDescent(AbstractDynamics):
    """u_{k+1} = u_k + step * (du/dt of the gradient flow at u_k),   t = k step.

    step: > 0, in the unit of time of the flow. Stable for models of data while
    step (weight_decay + Lip (1 + delta^(-1/2))^2) < 2.
    docs/theory/mean_field.md sections 1 and 7.5 [NI26v2].
    """

    step: float  # pyright: ignore[reportIncompatibleVariableOverride]

    def check(self) -> None:
        _require_positive(self, "step")


@dataclass(frozen=True, repr=False)
class StochasticGradientFlow(AbstractDynamics):
    """d theta = -h(theta) dt - (1/delta) X^T dL,   dL_i = ell_i (dt + sqrt(tau delta) dB_i)   (Ito, one B a sample).

    temperature: tau >= 0; zero is the gradient flow. step: None for the continuous limit; a number for the Euler scheme with
    this step exactly, whose factor per sample has the mean step and the variance tau delta step.
    docs/theory/mean_field.md section 1 [NI26v2].
    """

    temperature: float
    step: float | None = None

    def check(self) -> None:
        _require_temperature(self)
        _require_positive(self, "step")


@dataclass(frozen=True, repr=False)
class PoissonSGD(AbstractDynamics):
    """theta moves by kicks: each sample is hit at the rate 1/(tau delta) and then contributes tau delta ell_i.

    The exact limit of SGD with batches small against n. temperature: tau > 0, the raw learning rate over the batch size.
    step: None for the jump process; a number for the scheme with factors tau delta Poisson(step/(tau delta)) exactly.
    docs/theory/mean_field.md section 1 [NI26v2].
    """

    temperature: float
    step: float | None = None

    def check(self) -> None:
        _require_temperature(self)
        if self.temperature == 0:
            raise InvalidInput(
                "PoissonSGD.temperature must be > 0, since it is the size of a kick; write GradientFlow()"
            )
        _require_positive(self, "step")


@dataclass(frozen=True, repr=False)
class SGD(AbstractDynamics):
    """theta_{k+1} = theta_k - step h(theta_k) - (1/delta) X^T L_k,   L_k,i = (step/b) s_k,i ell_i,   P(s = 1) = b,   t = k step.

    step: > 0; the raw rate of the batch-averaged gradient is step * d. batch_fraction: b = B/n in (0, 1].
    order: "independent" draws each sample anew at each step; "reshuffled" goes through all samples once per epoch (1/b must be
    a whole number); "persistent" keeps a sample in and out of the batch as a two-state Markov chain whose
    rate from out to in is 1/persistence, persistence >= max(1, (1 - b)/b) steps.
    docs/theory/mean_field.md section 1 [NI26v2].
    """

    step: float  # pyright: ignore[reportIncompatibleVariableOverride]
    batch_fraction: float
    order: Literal["independent", "reshuffled", "persistent"] = "independent"
    persistence: float | None = None

    def check(self) -> None:
        _require_positive(self, "step")
        b = self.batch_fraction
        if not 0 < b <= 1:
            raise InvalidInput(f"SGD.batch_fraction is the batch over all samples and must lie in (0, 1], got {b!r}")
        if self.order == "reshuffled" and abs(1 / b - round(1 / b)) > 1e-9 * round(1 / b):
            raise InvalidInput(
                f"reshuffled epochs need 1/batch_fraction whole, got {1 / b!r}; the nearest is {1 / round(1 / b)!r}"
            )
        if (self.order == "persistent") != (self.persistence is not None):
            raise InvalidInput(
                f'SGD.persistence belongs to order="persistent" and to no other; got order={self.order!r}, '
                f"persistence={self.persistence!r}"
            )
        if self.persistence is not None and not max(1.0, (1 - b) / b) <= self.persistence < math.inf:
            raise InvalidInput(
                f"SGD.persistence must be finite and at least max(1, (1 - b)/b) = {max(1.0, (1 - b) / b)!r}, "
                f"got {self.persistence!r}"
            )

    @classmethod
    def from_batch(cls, learning_rate: float, batch: int, samples: int, dimension: int) -> SGD:
        """The SGD that moves by -(learning_rate/batch) * sum over the batch of x_i ell_i at each step, |x_i|^2 ~ 1.

        step = learning_rate/dimension, batch_fraction = batch/samples; one unit of time is `dimension` steps of rate one.
        The temperature is learning_rate/batch: `StochasticGradientFlow` at it keeps the first two moments of the noise only;
        `PoissonSGD` at it is the limit of small batches.
        Warns (`RuntimeWarning`) where the diffusion picture fails. Raises `InvalidInput` for a batch outside 1 .. samples.
        docs/theory/mean_field.md section 1 [NI26v2].
        """
        learning_rate = coerce(learning_rate, float, "learning_rate")
        batch, samples = coerce(batch, int, "batch"), coerce(samples, int, "samples")
        dimension = coerce(dimension, int, "dimension")
        if not 1 <= batch <= samples:
            raise InvalidInput(f"the batch must be a whole number from 1 to samples = {samples!r}, got {batch!r}")
        if dimension < 1:
            raise InvalidInput(f"the dimension must be at least 1, got {dimension!r}")
        temperature = learning_rate / batch
        if batch < samples and temperature > LARGE_KICK:
            warnings.warn(
                f"kicks of size learning_rate/batch = {temperature:g} are not small: StochasticGradientFlow is no picture of "
                "this SGD unless the loss is square; use the SGD itself or PoissonSGD",
                RuntimeWarning,
                stacklevel=2,
            )
        return cls(step=learning_rate / dimension, batch_fraction=batch / samples)


LARGE_KICK = (
    1.0  # tau Lip at which SGF and Poisson differ beyond the error bars (mean_field.md section 9), Lip of order one
)


def _require_positive(dynamics: AbstractDynamics, name: str) -> None:
    value = getattr(dynamics, name)
    if value is not None and not 0 < value < math.inf:
        raise InvalidInput(f"{type(dynamics).__name__}.{name} must be a finite number > 0, got {value!r}")


def _require_temperature(dynamics: AbstractDynamics) -> None:
    temperature = getattr(dynamics, "temperature")  # noqa: B009
    if not 0 <= temperature < math.inf:
        raise InvalidInput(f"{type(dynamics).__name__}.temperature must be a finite number >= 0, got {temperature!r}")


def require_known(method: str, dynamics: AbstractDynamics) -> None:
    """Raise `InvalidInput` unless `dynamics` is one of those defined here; `method` is a name for the message."""
    known = (GradientFlow, GradientDescent, StochasticGradientFlow, PoissonSGD, SGD)
    if not isinstance(dynamics, known):
        names = ", ".join(kind.__name__ for kind in known)
        raise InvalidInput(f"{method} knows the dynamics {names}; got {dynamics!r}")
