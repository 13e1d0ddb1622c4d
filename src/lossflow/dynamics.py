"""Dynamics: how the weights move. Shared by theory and experiment; a `step` here is physics, not a discretization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossflow.description import Description
from lossflow.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class AbstractDynamics(Description):
    """The law of motion of the weights, as a description. Concrete dynamics are final."""

    def times(self, steps: int, every: int = 1) -> npt.NDArray[np.float64]:
        """The times k * step of a discrete dynamics, k = 0, every, 2 every, ..., steps.

        Raises `InvalidInput` for a dynamics in continuous time, whose times are free.
        """
        raise InvalidInput(
            f"{type(self).__name__} runs in continuous time: choose any times, e.g. np.linspace(0, 1, 50)"
        )


@dataclass(frozen=True, repr=False)
class GradientFlow(AbstractDynamics):
    """du/dt = -dL/du  for problems given by diagrams; L is exactly the written loss.

    Times may be negative: that is ascent, which can blow up at a finite time.
    docs/theory/diagrams.md section 1 [YGG26v2].
    """
