"""Any loss that is a sum of diagrams, written by the user, and how its weights are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lossflow.description import Number, SizeMap
from lossflow.diagrams.polynomial import DiagramPolynomial
from lossflow.diagrams.tensor import Tensor
from lossflow.errors import InvalidInput
from lossflow.keys import generator
from lossflow.problem import AbstractProblem


@dataclass(frozen=True, repr=False)
class PolynomialProblem(AbstractProblem):
    """L = sum_j c_j prod(sizes^powers) G_j, each G_j a diagram over named tensors with independent N(mean, variance) entries.

    Learned tensors move by du/dt = -dL/du; frozen ones are drawn once. Write the loss with `lossflow.Tensor`,
    `lossflow.diagram` and `lossflow.size`. Raises `InvalidInput` for a loss without a learned tensor.
    docs/theory/diagrams.md section 5 [YGG26v2].
    """

    loss: DiagramPolynomial

    def check(self) -> None:
        require_learned(self.loss)

    @property
    def languages(self) -> tuple[str, ...]:
        return ("diagrams", "sample")

    def as_diagrams(self) -> DiagramPolynomial:
        """The loss itself."""
        return self.loss

    def as_sample(self, sizes: Mapping[str, float], run: int, seed: int) -> dict[str, npt.NDArray[np.float64]]:
        """The entries of every tensor at the start of run `run`, by tensor name."""
        return draw_tensors(self.loss, sizes, run, seed)


def require_learned(loss: DiagramPolynomial) -> None:
    """Raise `InvalidInput` unless some tensor of `loss` moves."""
    if not any(tensor.learned for tensor in loss.tensors):
        raise InvalidInput("nothing is learned: at least one tensor of the loss needs learned=True")


def draw_tensors(
    loss: DiagramPolynomial, sizes: Mapping[str, float], run: int, seed: int
) -> dict[str, npt.NDArray[np.float64]]:
    """Independent N(mean, variance) entries for every tensor of `loss`, of shape (size of each axis).

    Each tensor has its own stream (seed, run, name): the same teacher, data and initial weights for every method.
    """
    sizes = loss.require(sizes)
    return {tensor.name: _draw(tensor, sizes, generator(seed, run, tensor.name)) for tensor in loss.tensors}


def _draw(tensor: Tensor, sizes: SizeMap, random: np.random.Generator) -> npt.NDArray[np.float64]:
    shape = tuple(int(sizes[axis]) for axis in tensor.axes)
    return _number(tensor.mean, sizes) + np.sqrt(_number(tensor.variance, sizes)) * random.standard_normal(shape)


def _number(entry: str | Number, sizes: SizeMap) -> float:
    return sizes[entry] if isinstance(entry, str) else float(entry)
