"""Diagonal linear networks: loss, squared error and l1 norm over time, theory and experiments extrapolated in 1/d."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.meanfield.method import MeanField
from lossflow.method import solve
from lossflow.plot import COLORS, MARKERS, POINTS
from lossflow.problems.diagonal import BalancedDiagonal, DiagonalLinear, SymmetricInit
from lossflow.problems.priors import RademacherSparse
from lossflow.significance import LEVEL, judge
from lossflow.simulate.method import Simulation
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    Array = npt.NDArray[np.float64]

OBSERVABLES = {"loss": "training loss", "mse": "squared error", "l1": r"$E|\beta|$"}
DENSITY, SIGMA = 0.1, 0.1
FIRST = 0.03  # time of the first point
NEXT_ORDER = 0.2  # of the correction in 1/d: how much of it is taken as the error of having only its first order


@dataclass(frozen=True)
class Extrapolated:
    """Experiments at d and 2 d, with as many independent runs: 2 O(2 d) - O(d) is without the error of order 1/d."""

    small: Trajectory
    large: Trajectory

    def runs(self, observable: str) -> Array:
        """(runs, times)."""
        return 2 * self.large.details["runs"][observable] - self.small.details["runs"][observable]

    def hidden(self, observable: str) -> Array:
        """Errors that the runs do not show."""
        return NEXT_ORDER * np.abs(self.large.values[observable] - self.small.values[observable])

    def draw(self, axes: Axes, observable: str, color: str, marker: str, label: str = "_nolegend_") -> None:
        """Points with bars of one standard error."""
        runs = self.runs(observable)
        error = runs.std(axis=0, ddof=1) / np.sqrt(len(runs))
        axes.errorbar(self.large.times, runs.mean(axis=0), error, fmt=marker, color=color, label=label, **POINTS)


def experiment(problem: DiagonalLinear, times: Array, d: int, runs: int, tolerance: float = 1e-6) -> Extrapolated:
    """Runs at d and 2 d, of balanced samples."""
    problem = BalancedDiagonal.of(problem)
    method = Simulation({"d": d}, runs, seed=d, tolerance=tolerance)
    larger = replace(method, sizes={"d": 2 * d}, seed=2 * d)
    return Extrapolated(solve(problem, method, times), solve(problem, larger, times))


def verdict(curve: str, theory: Trajectory, found: Extrapolated, observable: str) -> Verdict:
    """Whether theory and extrapolated experiments agree at the times of the experiments, which the theory must have."""
    times = found.large.times
    places = np.searchsorted(theory.times, times)
    assert np.array_equal(theory.times[places], times)
    expected, error = theory.values[observable][places], theory.uncertainty[observable][places]
    used = np.isfinite(expected) & (times > 0)  # at t = 0 there is nothing to compare
    differences = (found.runs(observable) - expected)[:, used]
    hidden = np.hypot(error, found.hidden(observable))[used] + 1e-12 * np.abs(expected[used])
    mean = differences.mean(axis=0)
    judged = judge(mean, differences, hidden)
    gap, deviation = float(np.abs(mean / expected[used]).max()), float(np.abs(mean / judged.uncertainty).max())
    agree = judged.probability >= LEVEL
    sizes = f"d = {found.small.method.sizes['d']:g} and {found.large.method.sizes['d']:g}"  # type: ignore[attr-defined]
    sentence = (
        f"experiments at {sizes}, extrapolated, {'agree' if agree else 'disagree'} with the mean field at {used.sum()} times: "
        f"largest gap {100 * gap:.1f}%, largest deviation {deviation:.1f} sigma ({judged.allowed:.1f} allowed)"
    )
    return Verdict(curve, gap, deviation, (float(times[used].min()), float(times[used].max())), agree, sentence)


def merged(first: Array, second: Array) -> Array:
    """All times of both, in order."""
    return np.unique(np.concatenate([first, second]))


class Curve(NamedTuple):
    """One ratio and start: theory and experiment."""

    label: str
    theory: Trajectory
    found: Extrapolated


def draw(
    cases: tuple[tuple[float, float], ...],
    last: float,
    points: int,
    d: int,
    runs: int,
    paths: int,
    resolution: int | None,
    randomizations: int,
) -> Outcome:
    """cases: (delta, kappa) each; last: time; points: of the experiments, at d and 2 d; the rest: of the theory."""
    times = np.geomspace(FIRST, last, points)
    method = MeanField(paths, resolution, randomizations)
    curves = []
    for delta, kappa in cases:
        problem = DiagonalLinear(delta, RademacherSparse(DENSITY), SIGMA**2, SymmetricInit(math.sqrt(kappa)))
        theory = solve(problem, method, merged(times, np.geomspace(FIRST, last, 80)))
        curves.append(
            Curve(rf"$\delta = {delta:g}$, $\kappa = {kappa:g}$", theory, experiment(problem, times, d, runs))
        )
    verdicts = [
        verdict(f"delta = {delta:g}, kappa = {kappa:g}, {name}", curve.theory, curve.found, name)
        for (delta, kappa), curve in zip(cases, curves, strict=True)
        for name in OBSERVABLES
    ]
    words = (
        f"Training loss, squared error and mean |beta| of a diagonal linear network over time; signal of density {DENSITY:g}, "
        f"noise of deviation {SIGMA:g}, no weight decay. Lines with bands of one standard error: the mean field. Points: {runs} "
        f"runs at d = {d} and {2 * d} each, extrapolated in 1/d. A large start fits fast and ends far from the signal; a small "
        "one first searches, while nothing moves, and ends nearer to the signal. With more data than coefficients all starts end "
        "at least squares."
    )
    return Outcome((Picture("curves", _canvas(curves), words),), tuple(verdicts))


def _canvas(curves: Sequence[Curve]) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(10.0, 3.5), layout="constrained")
    panels = canvas.subplots(1, len(OBSERVABLES))
    for axes, (name, title) in zip(panels, OBSERVABLES.items(), strict=True):
        for curve, color, marker in zip(curves, COLORS, MARKERS, strict=False):
            times, values, error = curve.theory.times, curve.theory.values[name], curve.theory.uncertainty[name]
            axes.plot(times, values, color=color, label=curve.label)
            axes.fill_between(times, values - error, values + error, color=color, alpha=0.18, lw=0)
            curve.found.draw(axes, name, color, marker)
        axes.set(xscale="log", xlabel="time $t$", ylabel=title)
    panels[0].set(yscale="log")
    panels[0].legend(loc="lower left")
    return canvas


FIGURE = Figure(
    name="diagonal-curves",
    title="Diagonal linear networks over time",
    claim="The mean field of a diagonal linear network predicts training loss, squared error and l1 norm at all times, from lazy "
    "to small starts, with fewer and with more data than coefficients.",
    sources=("NI25v2",),
    quick={
        "cases": ((0.5, 1.0), (0.5, 0.1), (0.5, 1e-3), (2.0, 0.1)),
        "last": 6.0,
        "points": 6,
        "d": 80,
        "runs": 16,
        "paths": 512,
        "resolution": 36,
        "randomizations": 4,
    },
    full={
        "cases": ((0.5, 1.0), (0.5, 0.1), (0.5, 1e-3), (2.0, 0.1)),
        "last": 20.0,
        "points": 14,
        "d": 500,
        "runs": 48,
        "paths": 8192,
        "resolution": None,
        "randomizations": 8,
    },
    draw=draw,
)
