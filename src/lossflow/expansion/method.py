"""The expansion as a method: the exact series at finite sizes, and the large-size limit."""

from __future__ import annotations

import warnings
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
from lossflow.expansion.borel import BorelPade
from lossflow.expansion.leading import Leading, chosen_regime, exact_series, leading_series, recurrent_series
from lossflow.expansion.leading_recurrences import ring_scale, ring_values
from lossflow.expansion.random_sizes import mean_over_sizes
from lossflow.expansion.regimes import OBSERVED
from lossflow.expansion.resummation import Resummation, Resummed, Taylor
from lossflow.expansion.series import LossSeries, expand
from lossflow.expansion.solutions import matrix
from lossflow.expansion.solutions.face import solved, widest
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
            exact, assumptions = _derivatives(problem, name, self.order, sizes)
            result = self.resummation.sum([y / factorial(s) for s, y in enumerate(exact)], times)
            values[name], uncertainty[name] = result.values, result.uncertainty
            statuses[name] = _worst(result, times)
            details[name] = {
                "derivatives": np.array([float(y) for y in exact]),
                "derivatives_exact": tuple(map(str, exact)),
                "assumptions": assumptions,
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
    """E L(t) to leading order in large sizes, at the given sizes.

    Symmetric CP decomposition of order 2, target zero or a multiple of the identity: the Marchenko-Pastur average of the
    exact evolution of the eigenvalues, in all regimes at once and for both directions of time. Other problems: on the face
    `regime` of the polygon of leading monomials the solution where there is one (decompositions: "A", "B", "A-B" and "C", "B-C";
    "A-B-E" and its faces for symmetric even orders >= 4, the flow of one weight; "B", "C", "B-C" with several rates for symmetric
    odd orders), else the leading monomials of the exact Y_s, summed by `resummation` up to where its error allows.
    Where the flow of one weight is a resummed formal series (descent), it holds up to the time `details["window"]` at which rows
    that the expansion does not see learn; the status says so, and `details["estimate"]`, with "estimate_error", goes on through
    full learning (order 4: all weights, their signs averaged). Asymmetric "E-A", "C-D" and their ends "E", "D" have the leading
    series to order 22 at order 3 (40 at order 2, 12 at order 4), by recurrence.

    sizes: all sizes and variances. regime: its name, or None for the one that the sizes belong to, or for the largest face around
    it that is solved, which neglects less; `details` say where the sizes were "placed", which "regime" was used, how deep inside
    its cone they lie ("depth", negative outside), the "formula" where there is one, and the "neglected" part, whose size is the
    uncertainty: the difference of the exact series and the leading one. Where a
    closed form blows up backward in time the status is "left_domain" with that time.
    Raises `NotSpoken` for symmetric decompositions of odd order outside the lazy regimes, where no single time scale exists, and
    for problems whose sizes are random; `InvalidInput` for a regime that the problem does not have.
    docs/theory/diagrams.md sections 6-10 [YGG26v2], docs/theory/additions.md section 6.
    """

    sizes: Mapping[str, float]
    regime: str | None = None
    resummation: Resummation = BorelPade()  # noqa: RUF009  (a frozen description)

    language: ClassVar[str] = "diagrams"

    def solve(self, problem: AbstractProblem, times: Array, dynamics: AbstractDynamics) -> Trajectory:
        """The limit at `times`."""
        _require_gradient_flow(self, dynamics)
        match problem:
            case CPDecomposition(order=2, symmetric=True, target=Identity(scale=scale)) if scale:
                return self._matrix(problem, times, dynamics, float(scale), "A-B-E")
            case CPDecomposition(order=2, symmetric=True, target=Zero() | Identity()):
                return self._matrix(problem, times, dynamics, 0.0, "A-B")
        return self._face(problem, times, dynamics)

    def _matrix(
        self, problem: AbstractProblem, times: Array, dynamics: AbstractDynamics, scale: float, regime: str
    ) -> Trajectory:
        """The complete solution of the symmetric problem of order 2."""
        if self.regime not in (None, regime):
            raise InvalidInput(
                f"the solution of order 2 is complete and covers every regime, as {regime!r}: leave regime=None; "
                f"got {self.regime!r}"
            )
        sizes: SizeMap = problem.as_diagrams().require(self.sizes)
        p, H, sigma2 = sizes["p"], sizes["H"], sizes["sigma2"]
        correction = matrix.next_order(times, p, H, sigma2, scale)
        return Trajectory(
            times=times,
            values={"loss": matrix.loss(times, p, H, sigma2, scale)},
            uncertainty={"loss": matrix.neglected(times, p, H, sigma2, scale)},
            status=_blow_up(matrix.blow_up_time(p, H, sigma2, scale), times),
            problem=problem,
            method=self,
            dynamics=dynamics,
            details={"regime": regime, "next_order": correction, "formula": matrix.FORMULA},
            references=SOURCE,
        )

    def _face(self, problem: AbstractProblem, times: Array, dynamics: AbstractDynamics) -> Trajectory:
        """The leading part on a face, in closed form or summed."""
        if problem.random_sizes():
            raise NotSpoken(
                f"{problem!r} has random sizes, which have no leading monomials. Methods that apply: "
                f"{problem.answered_by('Limit')}."
            )
        sizes = _diagram_sizes(problem, self.sizes)
        regime, depth = chosen_regime(problem, self.regime, sizes)
        placed = regime.name
        if self.regime is None and (wider := widest(problem, placed)) not in (None, placed):
            regime, depth = chosen_regime(problem, wider, sizes)
        closed = solved(problem, regime.name, sizes, times)
        if closed is None and _is_odd(problem):
            raise NotSpoken(
                f"{problem!r} has no limit with one time scale in the regime {regime.name!r}: at odd order the largest power "
                f"of p misses the bulk of the loss. Methods that apply: {problem.answered_by('Limit')}."
            )
        series = exact_series(problem, _leading_order(problem))
        known = leading_series(problem, regime, series, sizes)
        if closed is not None and closed.leading is not None:
            known = known._replace(leading=closed.leading[: series.order + 1])
        order = series.order
        if closed is None:
            longer = recurrent_series(problem, regime.name, sizes)
            order = order if longer is None else len(longer) - 1
            found = self.resummation.sum(known.leading if longer is None else longer, times)
            values, error, status = found.values, found.uncertainty, _worst(found, times)
        else:
            values, error, status = closed.values, closed.error, closed.status
        neglected = self._neglected(known, times, values, _is_odd(problem))
        return Trajectory(
            times=times,
            values={"loss": values},
            uncertainty={"loss": np.where(np.isnan(values), np.nan, np.hypot(error, neglected))},
            status=status,
            problem=problem,
            method=self,
            dynamics=dynamics,
            details={
                "regime": regime.name,
                "placed": placed,
                "depth": depth,
                "neglected": neglected,
                "formula": "" if closed is None else closed.formula,
                "order": order,
                "assumptions": series.assumptions,
                **({} if closed is None else closed.details),
            },
            references=SOURCE,
        )

    def _neglected(self, known: Leading, times: Array, values: Array, growing: bool) -> Array:
        """How far the exact loss may be: the best of three estimates that share no assumption about late times.

        The sum of the neglected terms; the sum of the exact series; the loss without its constant times a neglected share. That
        is the larger one of Y_0 and Y_1, which holds where it does not grow with time. In the lazy regimes of symmetric odd
        orders it does grow, since the slowest of many kernels stay: there it is the share of the known terms at that time, all
        taken positive, of Y_0 early and of the last one late.
        """
        rest = [a - b for a, b in zip(known.whole, known.leading, strict=True)]
        estimates = []
        for coefficients, base in ((rest, np.zeros(times.shape)), (known.whole, values)):
            found = self.resummation.sum(coefficients, times)
            estimates.append(np.abs(found.values - base) + found.uncertainty)
        kept = [known.leading[0] - known.constant, *known.leading[1:]]
        if growing:
            powers = np.abs(times)[:, None] ** np.arange(len(rest))
            left, led = (powers @ np.abs(np.array([float(c) for c in each])) for each in (rest, kept))
            share = np.divide(left, led, out=np.zeros(times.shape), where=led > 0)
        else:
            first = (abs(r / y) for r, y in zip(rest[:2], kept[:2], strict=True) if y)
            share = np.full(times.shape, float(max(first, default=Fraction(0))))
        estimates.append(share * np.abs(values - float(known.constant)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # all of them unknown
            best = np.nanmin(estimates, axis=0)
        # an estimate that passes through zero says nothing there: its share of the loss does not fall with time
        order = np.argsort(np.abs(times))
        shares = np.empty(times.shape)
        shares[order] = np.fmax.accumulate((best / np.abs(values))[order])
        return shares * np.abs(values)


def _is_odd(problem: AbstractProblem) -> bool:
    match problem:
        case CPDecomposition(symmetric=True, order=order, target=Zero() | Identity()):
            return order % 2 == 1
    return False


def _leading_order(problem: AbstractProblem) -> int:
    """The order to which the exact series takes seconds."""
    factors = max(len(term.diagram.factors) for term in problem.as_potential().terms)
    return next((order for most, order in OBSERVED if factors <= most), 2)


def _blow_up(blow_up: float | None, times: Array) -> Status:
    if blow_up is None or (times > blow_up).all():
        return COMPLETE
    reason = f"backward in time the loss blows up at t = {blow_up:.6g}; ask for later times"
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


def _derivatives(
    problem: AbstractProblem, observable: str, order: int, sizes: SizeMap
) -> tuple[tuple[Fraction, ...], tuple[str, ...]]:
    """(Y_0, ..., Y_order) of an observable at these sizes, and what the series assumes of them."""
    scale = ring_scale(problem)
    if scale is not None and observable == "loss":  # without the polynomials, which have 10^5 terms at order 40
        return ring_values(scale, order, *(Fraction(sizes[name]) for name in ("p", "H", "sigma2"))), ()
    series = expand(problem, order, observable=observable)
    return _evaluated(series, sizes, problem.random_sizes()), series.assumptions


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
