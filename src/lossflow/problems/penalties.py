"""Penalties on single weights besides weight decay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lossflow.errors import InvalidInput
from lossflow.problems.row import AbstractPenalty

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class L1(AbstractPenalty):
    """H(theta) = strength |theta|,  by its proximal step:  theta' = sign(x) max(|x| - step strength, 0),

    x = theta after a step of all other forces.

    strength: >= 0, finite. A subgradient in place of the proximal step is wrong weight by weight.
    docs/theory/mean_field.md section 2.2 [NI26v2].
    """

    strength: float

    smooth = False

    def check(self) -> None:
        if not 0 <= self.strength < math.inf:
            raise InvalidInput(f"L1.strength must be a finite number >= 0, got {self.strength!r}")

    def value(self, theta: Array) -> Array:
        """strength |theta|."""
        return self.strength * np.abs(theta)

    def proximal(self, theta: Array, step: float) -> Array:
        """sign(theta) max(|theta| - step strength, 0)."""
        return theta - np.clip(theta, -step * self.strength, step * self.strength)

    def proximal_slope(self, theta: Array, step: float) -> Array:
        """1 where |theta| > step strength, else 0."""
        return (np.abs(theta) > step * self.strength).astype(np.float64)
