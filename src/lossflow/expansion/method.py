"""The expansion as a method: the exact series at finite sizes, and the large-size limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import factorial
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lossflow.description import SizeMap
from lossflow.dynamics import AbstractDynamics, GradientFlow
from lossflow.errors import InvalidInput, NotSpoken
from lossflow.expansion.resummation import Resummation, Resummed, Taylor
from lossflow.expansion.series import expand
from lossflow.expansion.solutions import matrix
from lossflow.method import AbstractMethod
from lossflow.problem import AbstractProblem
from lossflow.problems.cp import CPDecomposition
from lossflow.problems.targets import Identity, Zero
from lossflow.trajectory import COMPLETE, Status, Trajectory

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

SOURCE = ("YGG26v2",)


@dataclass(frozen=True, repr=False)
class Series(AbstractMethod):
    """E L(t) ~ sum_{s <= order} Y_s t^s / s!  with the exact Y_s at these finite sizes, summed by `resummation`.

    sizes: a value for every size and variance of the problem; order: the highest derivative used, >= 1.
    The uncertainty is the truncation error as the resummation estimates it; there is no sampling error.
    `details` holds the Y_s, as floats ("derivatives") and exactly ("derivatives_exact", as strings).
    docs/theory/diagrams.md section 1 [YGG26v2].
    """

    sizes: Mapping[str, float]
    order: int
    resummation: Resummation = Taylor()  # noqa: RUF009  (a frozen description)

    language: ClassVar[str] = "diagrams"

    def check(self) -> None:
        if self.order < 1:
            raise InvalidInput(
                f"Series.order must be at least 1, since one term says nothing of its error; got {self.order}"
            )

    def solve(self, problem: AbstractProblem, times: Array, dynamics: AbstractDynamics) -> Trajectory:
        """The sum of the series at `times`."""
        _require_gradient_flow(self, dynamics)
        sizes = problem.as_diagrams().require(self.sizes)
        series = expand(problem, self.order)
        exact = series.at(**{name: Fraction(value) for name, value in sizes.items()})
        result = self.resummation.sum([y / factorial(s) for s, y in enumerate(exact)], times)
        return Trajectory(
            times=times,
            values={"loss": result.values},
            uncertainty={"loss": result.uncertainty},
            status=_worst(result, times),
            problem=problem,
            method=self,
            dynamics=dynamics,
            details={
                "derivatives": np.array([float(y) for y in exact]),
                "derivatives_exact": tuple(map(str, exact)),
                "assumptions": series.assumptions,
                "terms": result.terms,
            },
            references=SOURCE,
        )


@dataclass(frozen=True, repr=False)
class Limit(AbstractMethod):
    """E L(t) to leading order in large p and H, at the given sizes.

    Symmetric CP decomposition of order 2, target zero or a multiple of the identity: the Marchenko-Pastur average of the
    exact evolution of the eigenvalues, in all regimes at once and for both directions of time. sizes: p, H, sigma2.
    regime: None, or the name of the face that the complete solution covers. The uncertainty is the size of the
    neglected next order in 1/p, which `details["next_order"]` holds with its sign. Where the ascent of the limit blows up the
    status is "left_domain" with the time. Raises `NotSpoken` for problems without a solution so far.
    docs/theory/diagrams.md section 9 [YGG26v2].
    """

    sizes: Mapping[str, float]
    regime: str | None = None

    language: ClassVar[str] = "diagrams"

    def solve(self, problem: AbstractProblem, times: Array, dynamics: AbstractDynamics) -> Trajectory:
        """The limit at `times`."""
        _require_gradient_flow(self, dynamics)
        scale, regime = _matrix_target(problem)
        if self.regime not in (None, regime):
            raise InvalidInput(
                f"the solution of order 2 is complete and covers every regime, as {regime!r}: leave regime=None; "
                f"got {self.regime!r}"
            )
        sizes: SizeMap = problem.as_diagrams().require(self.sizes)
        p, H, sigma2 = sizes["p"], sizes["H"], sizes["sigma2"]
        values = matrix.loss(times, p, H, sigma2, scale)
        correction = matrix.next_order(times, p, H, sigma2, scale)
        uncertainty = matrix.neglected(times, p, H, sigma2, scale)
        return Trajectory(
            times=times,
            values={"loss": values},
            uncertainty={"loss": uncertainty},
            status=_blow_up(matrix.blow_up_time(p, H, sigma2, scale), times),
            problem=problem,
            method=self,
            dynamics=dynamics,
            details={"regime": regime, "next_order": correction, "formula": matrix.FORMULA},
            references=SOURCE,
        )


def _matrix_target(problem: AbstractProblem) -> tuple[float, str]:
    match problem:
        case CPDecomposition(order=2, symmetric=True, target=Identity(scale=scale)) if scale:
            return float(scale), "A-B-E"
        case CPDecomposition(order=2, symmetric=True, target=Zero() | Identity()):
            return 0.0, "A-B"
    raise NotSpoken(
        f"no limit of {problem!r} is solved so far, only that of CPDecomposition(order=2, symmetric=True). "
        f"Methods that apply: {problem.answered_by('Limit')}."
    )


def _blow_up(blow_up: float | None, times: Array) -> Status:
    if blow_up is None or (times > blow_up).all():
        return COMPLETE
    reason = f"backward in time the largest eigenvalue blows up at t = {blow_up:.6g}; ask for later times"
    return Status("left_domain", blow_up, reason)


def _worst(result: Resummed, times: Array) -> Status:
    failed = [status for status in result.status if not status]
    return failed[-1 if times[-1] > times[0] else 0] if failed else COMPLETE


def _require_gradient_flow(method: AbstractMethod, dynamics: AbstractDynamics) -> None:
    if not isinstance(dynamics, GradientFlow):
        raise InvalidInput(f"{type(method).__name__} knows GradientFlow() alone, got {dynamics!r}")
