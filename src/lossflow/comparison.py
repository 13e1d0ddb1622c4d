"""Do trajectories agree? Differences in units of their uncertainty, a verdict, and what is left of a gap as sizes grow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from lossflow.description import Description, brief, coerce
from lossflow.errors import InvalidInput, nearest
from lossflow.significance import LEVEL, condensed, judge, student
from lossflow.trajectory import Trajectory

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

ROUNDING = 1e-12  # of the largest value: what sums of many terms lose in double precision
SAME_TIME = 1e-12  # relative difference of two times that are one time up to rounding
POWERS = (-4.0, 8.0)  # where the power of a finite-size gap is looked for


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """What `compare` found. verdict: one sentence for each of the other trajectories; agree: whether all of them agree.

    gaps: the numbers behind each sentence; observable: what was compared. Printing a comparison prints its verdict.
    """

    verdict: str
    agree: bool
    gaps: tuple[Gap, ...] = ()
    observable: str = "loss"

    def __str__(self) -> str:
        return self.verdict

    def __repr__(self) -> str:
        return f"<Comparison: {self.verdict}>"

    def _repr_html_(self) -> str:
        head = "<tr><th>reference</th><th>other</th><th>agree</th><th>largest gap</th><th>largest deviation</th></tr>"
        rows = (
            f"<tr><td>{escape(_name(gap.reference))}</td><td>{escape(_name(gap.other))}</td>"
            f"<td>{'yes' if gap.agree else 'no'}</td><td>{_percent(gap.largest_relative)}</td>"
            f"<td>{gap.largest_deviation:.2g} sigma</td></tr>"
            for gap in self.gaps
        )
        return f"<table><caption>{escape(self.observable)}</caption>{head}{''.join(rows)}</table>"


@dataclass(frozen=True, eq=False, repr=False)
class Gap:
    """other - reference at the times that both know, and how likely as much is by chance.

    times, difference, uncertainty: vectors of one shape; uncertainty: one standard error of the difference ("sigma").
    differences: independent differences run by run, shape (runs, times), of which `difference` is the mean; no rows when
    neither trajectory keeps its runs. reference_error, other_error: the parts of the two uncertainties that no run shows
    (discretization, neglected orders). probability: that two trajectories that agree differ as much (see `compare`);
    allowed: the deviation in sigma up to which a single time passes. left_out: {reason: times}.
    """

    reference: Trajectory
    other: Trajectory
    observable: str
    times: Array
    difference: Array
    uncertainty: Array
    differences: Array
    reference_error: Array
    other_error: Array
    probability: float
    allowed: float
    level: float
    left_out: Mapping[str, Array]

    @property
    def agree(self) -> bool:
        """Whether the difference may be chance, at the level of the comparison."""
        return self.probability >= self.level

    @property
    def deviation(self) -> Array:
        """The difference in units of its uncertainty."""
        return self.difference / self.uncertainty

    @property
    def relative(self) -> Array:
        """difference / |reference|; infinite where the reference is 0 and the other is not."""
        base = np.abs(self.reference.values[self.observable][_matched(self.reference.times, self.times)[0]])
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.difference == 0, 0.0, self.difference / base)

    @property
    def largest_deviation(self) -> float:
        """max |deviation|."""
        return float(np.max(np.abs(self.deviation)))

    @property
    def largest_relative(self) -> float:
        """max |relative|."""
        return float(np.max(np.abs(self.relative)))

    @property
    def valid_times(self) -> tuple[float, float]:
        """First and last of the times compared."""
        return float(self.times[0]), float(self.times[-1])

    @property
    def verdict(self) -> str:
        """One sentence to quote."""
        relative, deviation = self.relative, self.deviation
        widest, worst = int(np.argmax(np.abs(relative))), int(np.argmax(np.abs(deviation)))
        rms = float(np.sqrt(np.mean(deviation**2)))
        first, last = self.valid_times
        span = (
            f"over {self.times.size} times from {first:.4g} to {last:.4g}"
            if self.times.size > 1
            else f"at t = {first:.4g}"
        )
        names = f" {'agrees' if self.agree else 'disagrees'} with ".join(_names(self.reference, self.other))
        allowed = f"{self.allowed:.1f} allowed, rms {rms:.2g}"
        gap = f"largest gap {_percent(abs(relative[widest]))} at t = {self.times[widest]:.4g}"
        sigmas = f"{abs(deviation[worst]):.2g} sigma ({allowed})"
        if self.agree:
            numbers = f"{gap} ({abs(deviation[widest]):.2g} sigma), largest deviation {sigmas}"
        else:
            side = "higher" if self.difference[worst] > 0 else "lower"
            numbers = (
                f"the latter is {_percent(abs(relative[worst]))} {side} at t = {self.times[worst]:.4g}, {sigmas}; {gap}"
            )
        return f"{names} on {self.observable}: {numbers}, {span}{self._incomplete()}"

    def __repr__(self) -> str:
        return f"<Gap: {self.verdict}>"

    def _incomplete(self) -> str:
        parts = []
        statuses = (self.reference.status, self.other.status)
        for name, status in zip(_names(self.reference, self.other), statuses, strict=True):
            if not status:
                where = "" if status.last_time is None else f" at t = {status.last_time:.4g}"
                parts.append(f"; {name} ends{where} ({status.kind}: {status.reason})")
        return "".join(parts)


def compare(reference: Trajectory, *others: Trajectory, observable: str = "loss") -> Comparison:
    """Whether |other - reference| <= what chance and the stated uncertainties allow, for each of `others`.

    reference, others: trajectories; observable: the name of what is compared, a key of their `values`, with a place for one
    entry of a matrix: "overlap[0, 1]".

    All trajectories must answer the same problem under the same dynamics, at the same sizes where their methods have sizes,
    in the same unit of time. They are compared at their common times where both have a value.

    Rule. The deviation z(t) is the difference in units of its standard error, sqrt(u1^2 + u2^2). Where trajectories keep
    their runs, the differences are taken run by run (which pairs runs of one seed; samples of n < N runs are joined by
    Scheffe's n independent differences) and their own scatter replaces the sampling part of u1 and u2. Two statistics are
    judged together: the largest |z(t)| and the root mean square of z over the times. Trajectories disagree when values as
    extreme have a probability below 1%, divided by the number of `others`. The null distribution is that of the same runs
    after a random rotation among them (Langsrud, Stat. Comput. 15, 2005): exact for Gaussian runs, however few (Student's
    factor included) and however correlated in time. The parts of the uncertainties that runs do not show (discretization,
    neglected orders; everything, when no runs are kept) count as Gaussian errors of unknown correlation in time, in the
    worst case for each statistic: independent from time to time for the largest |z|, one common error for the rms
    (Szekely and Bakirov, Probab. Theory Relat. Fields 126, 2003). Standard errors below 1e-12 of the largest value count
    as that much, which is how two exact results may differ by rounding.

    Raises `InvalidInput` when the trajectories do not belong together or have no time in common.
    """
    if not others:
        raise InvalidInput("compare needs at least two trajectories: compare(theory, experiment)")
    for trajectory in (reference, *others):
        if not isinstance(trajectory, Trajectory):
            raise InvalidInput(f"compare takes trajectories, such as lossflow.solve returns; got {brief(trajectory)}")
    gaps = tuple(_gap(reference, other, observable, LEVEL / len(others)) for other in others)
    return Comparison("\n".join(gap.verdict for gap in gaps), all(gap.agree for gap in gaps), gaps, observable)


@dataclass(frozen=True, eq=False, repr=False)
class Extrapolation:
    """What is left of a relative gap as a size grows:  gap_k(t) = gap(t) + slope(t) / size_k^power.

    vanishes: whether `gap` may be zero, by the rule of `compare`; shrinks: whether the measured power is positive beyond
    chance. gap, slope, uncertainty: vectors over times; uncertainty: one standard error of `gap`. power: what the fit
    assumed; measured_power: of gap_k ~ size_k^-power without a constant, with its standard error. fits: whether the law
    describes the gaps at all sizes. Printing it prints the verdict.
    """

    verdict: str
    vanishes: bool
    shrinks: bool
    sizes: Array
    times: Array
    gap: Array
    uncertainty: Array
    slope: Array
    power: float
    measured_power: float
    measured_power_uncertainty: float
    probability: float
    fits: bool

    def __str__(self) -> str:
        return self.verdict

    def __repr__(self) -> str:
        return f"<Extrapolation: {self.verdict}>"


def extrapolate(comparisons: Sequence[Comparison], size: str = "p", *, power: float = 1.0) -> Extrapolation:
    """gap_k(t) = (other - reference) / |reference| at size_k  ->  gap(t) for an infinite size, by weighted least squares.

    comparisons: of one theory with one experiment on one problem, at three or more values of `size` (the other sizes in
    fixed proportion, which is yours to choose); power: of the leading correction, 1 for an expansion in 1/size.
    Weights come from the sampling errors, one for each size. Errors are propagated run by run, so that runs which share
    seeds across sizes may be correlated; the reference's own uncertainty enters as one error common to all sizes, so the part
    that shrinks like the gap drops out and a constant part stays. Valid where one power dominates at all sizes: see `fits`.
    Raises `InvalidInput` for fewer than three sizes or comparisons that do not belong together.
    """
    gaps = [_only_gap(comparison) for comparison in comparisons]
    sizes = np.array([gap.other.method.known_sizes.get(size, math.nan) for gap in gaps])
    _require_one_family(gaps, sizes, size)
    power = coerce(power, float, "power")
    if not 0 < power < math.inf:
        raise InvalidInput(f"the power must be a positive number, got {power:g}")
    order = np.argsort(sizes)
    sizes, series = sizes[order], _aligned([gaps[k] for k in order])

    design = np.stack([np.ones_like(sizes), (sizes / sizes[0]) ** -power], axis=1)
    root = 1 / np.sqrt(series.shares)
    fit = np.linalg.pinv(design * root[:, None]) * root  # (gap, scaled slope) = fit @ gaps
    gap, scaled_slope = fit @ series.gaps
    remaining = judge(*series.combined(fit[:1]))
    misfit = judge(*series.combined(np.eye(sizes.size) - design @ fit))
    measured, error = _measured_power(sizes, series)

    runs = series.differences.shape[1]
    vanishes = remaining.probability >= LEVEL
    shrinks = measured > student(runs) * error
    worst = int(np.argmax(np.abs(gap / remaining.uncertainty)))
    verdict = (
        f"The gap between {_name(gaps[0].reference)} and {_name(gaps[0].other)} "
        f"{'vanishes' if vanishes else 'does not vanish'} as {size} grows from {sizes[0]:g} to {sizes[-1]:g}: extrapolated "
        f"{_percent(gap[worst])} +- {_percent(remaining.uncertainty[worst])} at t = {series.times[worst]:.4g} "
        f"({abs(gap[worst] / remaining.uncertainty[worst]):.2g} sigma, {remaining.allowed:.1f} allowed); "
        f"it {f'shrinks by a factor {2**-measured:.2f} per doubling' if shrinks else 'is not seen to shrink'} "
        f"(power {measured:.2f} +- {error:.2g})"
        f"{'' if misfit.probability >= LEVEL else f'; one power {power:g} does not describe all sizes'}"
    )
    return Extrapolation(
        verdict=verdict,
        vanishes=vanishes,
        shrinks=bool(shrinks),
        sizes=sizes,
        times=series.times,
        gap=gap,
        uncertainty=remaining.uncertainty,
        slope=scaled_slope * sizes[0] ** power,
        power=power,
        measured_power=measured,
        measured_power_uncertainty=error,
        probability=remaining.probability,
        fits=misfit.probability >= LEVEL,
    )


def _gap(reference: Trajectory, other: Trajectory, observable: str, level: float) -> Gap:
    _require_same_question(reference, other)
    reference, other = reference.entry(observable), other.entry(observable)
    here, there, left_out = _compared(reference, other, observable)
    a, b = reference.values[observable][here], other.values[observable][there]
    first, second = _runs(reference, observable, here), _runs(other, observable, there)
    if len(first) and len(second):
        runs = min(len(first), len(second))
        if _same_draws(reference.method, other.method):
            first, second = first[:runs], second[:runs]
        differences = condensed(second, runs) - condensed(first, runs)
    else:
        differences = second - a if len(second) else b - first
    difference = differences.mean(axis=0) if len(differences) else b - a
    scale = float(max(np.abs(a).max(), np.abs(b).max())) or 1.0  # squares of what is measured in it cannot overflow
    reference_error = _beyond_runs(reference.uncertainty[observable][here], first)
    other_error = _beyond_runs(other.uncertainty[observable][there], second)
    hidden = np.sqrt((reference_error / scale) ** 2 + (other_error / scale) ** 2 + ROUNDING**2)
    found = judge(difference / scale, differences / scale, hidden, level)
    return Gap(
        reference=reference,
        other=other,
        observable=observable,
        times=reference.times[here],
        difference=difference,
        uncertainty=found.uncertainty * scale,
        differences=differences,
        reference_error=reference_error,
        other_error=other_error,
        probability=found.probability,
        allowed=found.allowed,
        level=level,
        left_out=left_out,
    )


def _runs(trajectory: Trajectory, observable: str, at: Indices) -> Array:
    """Every run's values, shape (runs, times), if the trajectory keeps them and reports their mean; else no rows."""
    kept = trajectory.details.get("runs")
    runs = kept.get(observable) if isinstance(kept, Mapping) else None
    nothing = np.empty((0, at.size))
    if not isinstance(runs, np.ndarray) or runs.ndim != 2 or runs.shape[1] != trajectory.times.size or len(runs) < 2:
        return nothing
    chosen, values = runs[:, at].astype(np.float64), trajectory.values[observable][at]
    # the mean of runs summed in another order
    close = np.abs(chosen.mean(axis=0) - values) <= ROUNDING * np.abs(chosen).max()
    return chosen if close.all() else nothing


def _beyond_runs(uncertainty: Array, runs: Array) -> Array:
    """The part of a standard error that the scatter of the runs does not account for."""
    if not len(runs):
        return uncertainty
    return np.sqrt(np.maximum(uncertainty**2 - runs.var(axis=0, ddof=1) / len(runs), 0))


def _same_draws(a: Description, b: Description) -> bool:
    """Whether run r of one method starts from the same random numbers as run r of the other."""
    return type(a) is type(b) and all(_settings(a).get(name) == _settings(b).get(name) for name in ("seed", "sizes"))


def _settings(method: Description) -> dict[str, Any]:
    return {f.name: getattr(method, f.name) for f in fields(method)}  # type: ignore[arg-type]


def _require_same_question(a: Trajectory, b: Trajectory) -> None:
    for role, one, two in (("problems", a.problem, b.problem), ("dynamics", a.dynamics, b.dynamics)):
        if one != two:
            raise InvalidInput(f"the {role} differ: {_contrast(one, two)}; theory and experiment must share them")
    one, two = a.method.known_sizes, b.method.known_sizes
    differing = [
        f"{name} = {one[name]:g} against {two[name]:g}" for name in one if name in two and one[name] != two[name]
    ]
    if differing:
        raise InvalidInput(
            f"{_name(a)} and {_name(b)} were made at different sizes: {', '.join(differing)}; use the same"
        )
    units = [float(trajectory.details.get("time_unit", 1.0)) for trajectory in (a, b)]
    if not math.isclose(*units, rel_tol=SAME_TIME):
        raise InvalidInput(
            f"times are in different units, {units[0]:g} against {units[1]:g}; bring both to one with in_units_of"
        )


def _contrast(a: Description, b: Description) -> str:
    if type(a) is not type(b):
        return f"{brief(a)} against {brief(b)}"
    one, two = _settings(a), _settings(b)
    return ", ".join(
        f"{name} = {brief(one[name])} against {brief(two[name])}" for name in one if one[name] != two[name]
    )


def _compared(a: Trajectory, b: Trajectory, observable: str) -> tuple[Indices, Indices, dict[str, Array]]:
    """Where in a and in b the times to be compared are, and which times are left out for what reason."""
    here, there = _matched(a.times, b.times)
    first, second = _names(a, b)
    if not here.size:
        raise InvalidInput(
            f"{first} ({_span(a)}) and {second} ({_span(b)}) have no time in common; solve both at the same times"
        )
    left_out = {
        f"not a time of {second}": np.delete(a.times, here),
        f"not a time of {first}": np.delete(b.times, there),
    }
    usable = np.ones(here.size, dtype=bool)
    for name, trajectory, at in ((first, a, here), (second, b, there)):
        for what, numbers in (("value", trajectory.values), ("finite uncertainty", trajectory.uncertainty)):
            missing = usable & ~np.isfinite(numbers[observable][at])
            ended = "" if trajectory.status else f" ({trajectory.status.kind}: {trajectory.status.reason})"
            left_out[f"{name} has no {what}{ended}"] = trajectory.times[at][missing]
            usable &= ~missing
    left_out = {reason: times for reason, times in left_out.items() if times.size}
    if not usable.any():
        raise InvalidInput(f"nothing to compare at the {here.size} common times: {'; '.join(left_out)}")
    return here[usable], there[usable], left_out


def _matched(a: Array, b: Array) -> tuple[Indices, Indices]:
    """Indices of the times that are in both, up to rounding, in the order of a."""
    order = np.argsort(b)
    after = np.searchsorted(b[order], a).clip(1, max(b.size - 1, 1)).clip(max=b.size - 1)
    before = np.maximum(after - 1, 0)
    later = np.abs(b[order[after]] - a) < np.abs(b[order[before]] - a)
    closest = order[np.where(later, after, before)]
    reach = max(np.abs(a).max(), np.abs(b).max())
    near = np.abs(b[closest] - a) <= SAME_TIME * np.abs(a) + 4 * np.finfo(float).eps * reach
    return np.flatnonzero(near), closest[near]


def _names(reference: Trajectory, other: Trajectory) -> tuple[str, str]:
    first, second = _name(reference), _name(other)
    return first, second if second != first else f"another {second}"


def _name(trajectory: Trajectory) -> str:
    kept = trajectory.details.get("runs")
    runs = {len(each) for each in kept.values()} if isinstance(kept, Mapping) else set()
    return type(trajectory.method).__name__ + (f" ({max(runs)} run{'s' * (max(runs) > 1)})" if runs else "")


def _span(trajectory: Trajectory) -> str:
    return f"t = {trajectory.times[0]:.4g} to {trajectory.times[-1]:.4g}"


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.2g}%"


@dataclass(frozen=True)
class _GapsBySize:
    """Relative gaps at several sizes and common times: gaps (sizes, times), differences (sizes, runs, times)."""

    times: Array
    gaps: Array
    differences: Array
    reference_error: Array
    other_error: Array
    shares: Array  # of each size in the sampling variance, averaged over times

    def combined(self, weights: Array) -> tuple[Array, Array, Array]:
        """Linear combinations of sizes, one after the other along time, as `judge` takes them."""
        difference = (weights @ self.gaps).reshape(-1)
        differences = np.einsum("ck,krt->rct", weights, self.differences)
        hidden = (weights @ self.reference_error) ** 2 + weights**2 @ self.other_error**2
        rounding = ROUNDING * np.abs(weights).sum(axis=1, keepdims=True)  # of a relative gap
        return (
            difference,
            differences.reshape(len(differences), difference.size),
            np.sqrt(hidden + rounding**2).reshape(-1),
        )


def _aligned(gaps: Sequence[Gap]) -> _GapsBySize:
    times = gaps[0].times
    for gap in gaps[1:]:
        times = times[_matched(times, gap.times)[0]]
    places = [_matched(times, gap.times)[1] for gap in gaps] if times.size else []
    bases = [np.abs(gap.reference.values[gap.observable][_matched(times, gap.reference.times)[1]]) for gap in gaps]
    usable = np.all([base > 0 for base in bases], axis=0)
    if not usable.any():
        raise InvalidInput("the comparisons have no time in common at which the reference differs from 0")
    times, bases = times[usable], [base[usable] for base in bases]
    places = [place[usable] for place in places]
    count = min(len(gap.differences) for gap in gaps)
    rows, other_errors = [], []
    for gap, place, base in zip(gaps, places, bases, strict=True):
        rows.append(condensed(gap.differences[:, place], count) / base if count else np.empty((0, times.size)))
        sampled = gap.differences[:, place].var(axis=0, ddof=1) / len(gap.differences) if len(gap.differences) else 0.0
        other_errors.append(np.sqrt(gap.other_error[place] ** 2 + (0.0 if count else sampled)) / base)
    differences, other_error = np.stack(rows), np.stack(other_errors)
    sampled = differences.var(axis=1, ddof=1) / count if count else other_error**2
    total = sampled.sum(axis=0)
    noisy = total > 0
    shares = (sampled[:, noisy] / total[noisy]).mean(axis=1) if noisy.any() else np.ones(len(gaps))
    return _GapsBySize(
        times=times,
        gaps=np.stack([gap.difference[place] / base for gap, place, base in zip(gaps, places, bases, strict=True)]),
        differences=differences,
        reference_error=np.stack(
            [gap.reference_error[place] / base for gap, place, base in zip(gaps, places, bases, strict=True)]
        ),
        other_error=other_error,
        shares=np.maximum(shares, ROUNDING),
    )


def _measured_power(sizes: Array, series: _GapsBySize) -> tuple[float, float]:
    """q and its standard error in gap_k(t) = b(t) size_k^-q, by weighted least squares over all sizes and times.

    The error is the jackknife over runs; without runs, the scatter when each size errs by one standard error at all times.
    """
    runs = series.differences.shape[1]
    variance = series.differences.var(axis=1, ddof=1).sum(axis=0) if runs else (series.other_error**2).sum(axis=0)
    variance = variance + (ROUNDING * np.abs(series.gaps).max(axis=0)) ** 2 + np.finfo(float).tiny

    def best(gaps: Array) -> float:
        return _best_power(sizes, gaps, 1 / series.shares, 1 / variance)

    power = best(series.gaps)
    if runs:
        others = [best(np.delete(series.differences, r, axis=1).mean(axis=1)) for r in range(runs)]
        return power, math.sqrt((runs - 1) * np.var(others))
    shifts = np.eye(sizes.size)[:, :, None] * series.other_error
    return power, math.sqrt(sum((best(series.gaps + shift) - power) ** 2 for shift in shifts))


def _best_power(sizes: Array, gaps: Array, of_sizes: Array, of_times: Array) -> float:
    """The q that leaves least of sum_kt w_k v_t (gap_kt - b_t size_k^-q)^2, with the best b at each time.

    What it explains is x'Mx / sum_k w_k x_k^2 with x_k = size_k^-q and M_kl = w_k w_l sum_t v_t gap_kt gap_lt.
    """
    M = (of_sizes[:, None] * gaps * of_times) @ (gaps.T * of_sizes)
    low, high = POWERS
    while high - low > 1e-8:  # zoom into a grid: there may be several maxima, but one per cell of the first grid
        grid = np.linspace(low, high, 61)
        x = (sizes / sizes[0]) ** -grid[:, None]
        explained = ((x @ M) * x).sum(axis=1) / (x**2 @ of_sizes)
        best = int(np.argmax(explained))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)]
    return float((low + high) / 2)


def _only_gap(comparison: Comparison) -> Gap:
    if not isinstance(comparison, Comparison) or len(comparison.gaps) != 1:
        raise InvalidInput(f"extrapolate takes comparisons of one theory with one experiment, got {brief(comparison)}")
    return comparison.gaps[0]


def _require_one_family(gaps: Sequence[Gap], sizes: Array, size: str) -> None:
    for gap in gaps:
        known = gap.other.method.known_sizes
        if size not in known:
            raise InvalidInput(f"{_name(gap.other)} has no size {size!r}; {nearest(size, known)}")
        _require_same_problem(gaps[0], gap)
    if len(set(sizes)) != len(sizes) or len(sizes) < 3:
        raise InvalidInput(
            f"extrapolate needs three or more different values of {size!r}, got {[f'{s:g}' for s in sizes]}"
        )
    runs = {len(gap.differences) for gap in gaps}
    seeds = [_settings(gap.other.method).get("seed") for gap in gaps]
    if len(runs) > 1 and 0 not in runs and len(set(map(repr, seeds))) < len(seeds):
        raise InvalidInput(
            f"runs of one seed are correlated across sizes, so each size needs as many; got {sorted(runs)}: give each "
            "size its own seed, or equal numbers of runs"
        )


def _require_same_problem(a: Gap, b: Gap) -> None:
    if a.reference.problem != b.reference.problem:
        raise InvalidInput(
            f"the problems differ: {_contrast(a.reference.problem, b.reference.problem)}; only sizes may change"
        )
    if a.reference.dynamics != b.reference.dynamics:
        raise InvalidInput(
            f"the dynamics differ: {_contrast(a.reference.dynamics, b.reference.dynamics)}; only sizes may change"
        )
    if a.observable != b.observable:
        raise InvalidInput(f"the observables differ: {a.observable!r} against {b.observable!r}")


__all__ = ["Comparison", "Extrapolation", "Gap", "compare", "extrapolate"]
