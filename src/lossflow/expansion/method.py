"""The expansion as a method: the exact series at finite sizes, and the large-size limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import factorial
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lossflow.description import SizeMap
from lossflow.diagrams.polynomial import names_of
from lossflow.dynamics import AbstractDynamics, GradientFlow
from lossflow.errors import InvalidInput, NotSpoken, nearest
from lossflow.expansion.random_sizes import mean_over_sizes
from lossflow.expansion.resummation import Resummation, Resummed, Taylor
from lossflow.expansion.series import LossSeries, expand
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

    sizes: a value for every size and variance of the problem, {"d": ...} for models of data, at which n and the other sizes must
    be whole numbers; order: the highest derivative used, >= 1.
    Besides `loss` the trajectory has every observable that has diagrams, such as `test_loss` and `mse`.
    The uncertainty is the truncation error as the resummation estimates it; there is no sampling error. Each observable is
    NaN from where its own sum cannot be believed; the status then names it and the last time at which there is any value.
    `details` holds the Y_s, as floats ("derivatives") and exactly ("derivatives_exact", as strings), those of the other
    observables in `details["observables"]`. Raises `InvalidInput` for sizes that are missing or break an assumption.
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
        sizes = _diagram_sizes(problem, self.sizes)
        values, uncertainty, details, statuses = {}, {}, {}, {}
        for name in problem.diagram_observables():
            series = expand(problem, self.order, observable=name)
            exact = _evaluated(series, sizes, problem.random_sizes())
            result = self.resummation.sum([y / factorial(s) for s, y in enumerate(exact)], times)
            values[name], uncertainty[name] = result.values, result.uncertainty
            statuses[name] = _worst(result, times)
            details[name] = {
                "derivatives": np.array([float(y) for y in exact]),
                "derivatives_exact": tuple(map(str, exact)),
                "assumptions": series.assumptions,
                "terms": result.terms,
            }
        return Trajectory(
            times=times,
            values=values,
            uncertainty=uncertainty,
            status=_of_all(statuses, times),
            problem=problem,
            method=self,
            dynamics=dynamics,
            details={**details["loss"], "observables": {name: details[name] for name in values if name != "loss"}},
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


def _diagram_sizes(problem: AbstractProblem, sizes: Mapping[str, float]) -> SizeMap:
    """The sizes in which the series of all observables are written, each checked by the polynomials that have it."""
    given = SizeMap(problem.diagram_sizes(sizes))
    random = problem.random_sizes()
    polynomials = [problem.as_potential(), *problem.diagram_observables().values()]
    names = names_of(*polynomials)
    for name in given:
        if name not in (*names.sizes, *names.parameters):
            raise InvalidInput(f"there is no size {name!r}; {nearest(name, (*names.sizes, *names.parameters))}")
    for polynomial in polynomials:
        needed = (*polynomial.sizes, *polynomial.parameters)
        # a random size is at least 0 and at most d: any number will do here
        polynomial.require({name: given.get(name, 1) for name in needed if name in given or name in random})
    return given


def _evaluated(series: LossSeries, sizes: Mapping[str, float], random: Mapping[str, Fraction]) -> tuple[Fraction, ...]:
    """(Y_0, ..., Y_order) at these sizes, averaged over the random ones."""
    values = {name: Fraction(sizes[name]) for name in series.variables if name not in random}
    return mean_over_sizes(series, values, int(sizes["d"]), random) if random else series.at(**values)


def _of_all(statuses: Mapping[str, Status], times: Array) -> Status:
    """Complete, or why the first observable ends, with the last time at which there is any value."""
    failed = {name: status for name, status in statuses.items() if not status}
    if not failed:
        return COMPLETE
    if len(statuses) == 1:
        return next(iter(failed.values()))
    ends = {name: status.last_time or 0.0 for name, status in failed.items()}
    first = min(ends, key=lambda name: abs(ends[name]))
    last = max(ends.values(), key=abs) if len(failed) == len(statuses) else float(times[np.argmax(np.abs(times))])
    return Status(failed[first].kind, last, f"{first!r}: {failed[first].reason}")


def _worst(result: Resummed, times: Array) -> Status:
    failed = [status for status in result.status if not status]
    return failed[-1 if times[-1] > times[0] else 0] if failed else COMPLETE


def _require_gradient_flow(method: AbstractMethod, dynamics: AbstractDynamics) -> None:
    if not isinstance(dynamics, GradientFlow):
        raise InvalidInput(f"{type(method).__name__} knows GradientFlow() alone, got {dynamics!r}")
