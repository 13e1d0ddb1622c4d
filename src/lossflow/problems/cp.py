"""Decomposition of a tensor into a sum of rank-one tensors: the model of the diagram expansion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from lossflow.description import brief
from lossflow.diagrams.polynomial import DiagramPolynomial, diagram, size
from lossflow.diagrams.tensor import Pinned, Tensor, pin
from lossflow.errors import InvalidInput
from lossflow.problem import AbstractProblem
from lossflow.problems.polynomial import draw_tensors
from lossflow.problems.targets import (
    AbstractTarget,
    Constant,
    Identity,
    ModularAddition,
    RandomTeacher,
    Spiked,
    Zero,
)

MOST_SLOTS = 100


@dataclass(frozen=True, repr=False)
class CPDecomposition(AbstractProblem):
    """L = 1/2 ||f - F||^2,  f_{i1..i_nu} = sum_{k=1..H} prod_m u^(m)_{k,i_m},  du/dt = -dL/du,  u(0) ~ N(0, sigma2).

    order: nu, 2 to 100. symmetric: one H x p matrix "u" in every slot, or nu matrices "u1", ..., "u<nu>". target: F.
    Sizes, given to the method: p (dimension of each index), H (number of terms), sigma2 (variance of the initial entries), and
    those that the target names. The target need not be a symmetric tensor when the model is.
    Observable: `loss`, unscaled. Raises `InvalidInput` for another order.
    docs/theory/diagrams.md sections 1, 2 and 5 [YGG26v2].
    """

    order: int = 2
    symmetric: bool = True
    target: AbstractTarget = Identity()  # noqa: RUF009  (a frozen description)

    def check(self) -> None:
        if self.order < 2:
            raise InvalidInput(f"CPDecomposition.order must be at least 2, got {self.order}")
        if self.order > MOST_SLOTS:
            raise InvalidInput(
                f"CPDecomposition.order must be at most {MOST_SLOTS}, got {brief(self.order)}: a diagram has an edge for every "
                "slot, and with more of them the first derivative alone takes minutes"
            )

    @property
    def languages(self) -> tuple[str, ...]:
        return ("diagrams", "sample")

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """The matrix of each slot, with axes ("H", "p")."""
        names = ["u"] * self.order if self.symmetric else [f"u{m + 1}" for m in range(self.order)]
        return tuple(Tensor(name, ("H", "p")) for name in names)

    def as_diagrams(self) -> DiagramPolynomial:
        """L = D/2 - X + C: the square of the model, its product with the target, and the square of the target."""
        return _loss(self)

    def as_sample(self, sizes: Mapping[str, float], run: int, seed: int) -> dict[str, npt.NDArray[np.float64]]:
        """The entries of every weight matrix at the start of run `run`, by name."""
        return draw_tensors(self.as_diagrams(), sizes, run, seed)


@lru_cache(maxsize=64)
def _loss(problem: CPDecomposition) -> DiagramPolynomial:
    """Remembered, since every run of a simulation asks for it and bringing diagrams to normal form takes milliseconds."""
    slots = [f"i{m}" for m in range(problem.order)]
    square = [u(k, i) for u, i in zip(problem.weights, slots, strict=True) for k in ("k", "l")]
    cross, constant = _target(problem, slots)
    return Fraction(1, 2) * diagram(*square) - cross + constant


def _target(problem: CPDecomposition, slots: list[str]) -> tuple[DiagramPolynomial, DiagramPolynomial]:
    """<f, F> and |F|^2 / 2: the table of docs/theory/diagrams.md section 5."""
    p, nu = size("p"), problem.order
    model = [u("k", i) for u, i in zip(problem.weights, slots, strict=True)]
    match problem.target:
        case Zero():
            return 0 * p, 0 * p
        case Identity(scale=scale):
            return scale * _aligned(problem, "i"), scale**2 / 2 * p
        case Spiked(strengths=strengths):
            cross, constant = _aligned(problem, "i"), Fraction(1, 2) * p
            for value, strength in enumerate(strengths, start=1):
                cross += strength * _aligned(problem, pin(value))
                constant += (strength + strength**2 / 2) * diagram()
            return cross, constant
        case Constant(value=value):
            return value * diagram(*model), value**2 / 2 * size("p", nu)
        case ModularAddition() if nu == 2:
            return _aligned(problem, "i"), Fraction(1, 2) * p
        case ModularAddition():
            sum_of_the_others = dict.fromkeys(slots[:-1], 1) | {slots[-1]: -1}
            return diagram(*model, constraints=[sum_of_the_others]), Fraction(1, 2) * size("p", nu - 1)
        case RandomTeacher(rank=rank, variance=variance):
            names = ["teacher"] * nu if problem.symmetric else [f"teacher{m + 1}" for m in range(nu)]
            teachers = [Tensor(name, (rank, "p"), variance=variance, learned=False) for name in names]
            entries = [a("t", i) for a, i in zip(teachers, slots, strict=True)]
            others = [a("s", i) for a, i in zip(teachers, slots, strict=True)]
            return diagram(*model, *entries), Fraction(1, 2) * diagram(*entries, *others)
    raise problem.silence("diagrams", f"the target {problem.target!r} is not known as diagrams")


def _aligned(problem: CPDecomposition, node: str | Pinned) -> DiagramPolynomial:
    """sum_k prod_m u^(m)_{k,i} with all slots at one node: R of docs/theory/diagrams.md section 2."""
    return diagram(*(u("k", node) for u in problem.weights))
