"""Quadratic networks without weight decay or noise: the error that descent ends with, for four scales of the start."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.dynamics import GradientDescent
from lossflow.end_states import stationary
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.method import solve
from lossflow.plot import COLORS, MARKERS
from lossflow.problems.quadratic import QuadraticNetwork, finite_size_alpha
from lossflow.progress import progress
from lossflow.simulate.method import Simulation
from lossflow.spectral.thresholds import thresholds

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure as Canvas

    Array = npt.NDArray[np.float64]

KAPPA, TEACHER = 0.7, 0.5
SCALES = (1.0, 0.5, 0.1, 0.01)  # gamma, the trace of Z(0) over d
FINITE = 1.0  # in 1/d: what the measured threshold may be away from the conjecture, relative
NEAR = 0.1  # of the conjecture: how far from it the line is laid that tells the threshold


class Curve(NamedTuple):
    """Of one scale of the start: alpha = n/(d(d+1)) increasing, and the mse of every run at a quarter, half and all of the time.

    The last three of shape (alphas, runs).
    """

    alphas: Array
    quarter: Array
    half: Array
    end: Array

    @property
    def exponent(self) -> Array:
        """p in mse ~ t^-p over the last doubling of the time, by alpha, from the mean of the runs."""
        return np.log2(self.half.mean(axis=1) / self.end.mean(axis=1))

    def turn(self, expected: float, runs: slice | npt.NDArray[np.intp] = slice(None)) -> float:
        """The alpha at which the exponent stays the same from one doubling to the next; below it falls, the error comes to rest.

        By a straight line through its changes at alphas within NEAR of the `expected` one.
        """
        means = [values[:, runs].mean(axis=1) for values in (self.quarter, self.half, self.end)]
        change = np.log2(means[1] / means[2]) - np.log2(means[0] / means[1])
        near = np.abs(self.alphas / expected - 1) < NEAR
        slope, level = np.polyfit(self.alphas[near] - expected, change[near], 1)
        return float(expected - level / slope)


def draw(d: int, runs: int, alphas: tuple[float, ...], step: float, last_time: float) -> Outcome:
    """d, runs: of the experiment at each of alphas and each scale; step, last_time: of gradient descent."""
    descent = GradientDescent(step)
    conjecture = thresholds(QuadraticNetwork(0.3, KAPPA, TEACHER, 0.0, "0+"))
    curves: dict[float, Curve] = {}
    with progress(len(SCALES) * len(alphas), "descents") as bar:
        for gamma in SCALES:
            rows = []
            for alpha in alphas:
                problem = QuadraticNetwork(alpha, KAPPA, TEACHER, init_variance=gamma)
                times = step * round(last_time / step / 4) * np.array([1, 2, 4])
                rows.append(solve(problem, Simulation({"d": d}, runs=runs), times, descent).details["runs"]["mse"])
                bar.update(1)
            known = np.array([finite_size_alpha(max(1, round(alpha * d**2)), d) for alpha in alphas])
            curves[gamma] = Curve(known, *np.array(rows).transpose(2, 0, 1))
    expected, other = conjecture.alpha_recovery, conjecture.alpha_recovery_regularized
    verdicts = [_recovers(gamma, curve, expected, other, d) for gamma, curve in curves.items()]
    verdicts += [_remembers(curves, expected), _nearest_limit(curves[SCALES[-1]])]
    words = (
        f"Left: squared error of gradient descent without weight decay or noise at t = {last_time:g} against alpha = n/(d(d+1)) "
        f"(logarithmic error), kappa = {KAPPA:g}, kappa* = {TEACHER:g}, d = {d}, {runs} runs, for starts of trace gamma; open "
        "points at half of the time. Below the dashed line, the threshold min(kappa - kappa^2/2, alpha_inter) that is a "
        "conjecture, the error has come to rest at a value that grows with the start; above, it goes on falling. The line "
        "without points is the limit of vanishing weight decay taken after t -> infinity, and dotted is where it ends. Right: "
        "the exponent p of mse ~ t^-p over the last doubling of the time (full points) and over the one before (open): it falls "
        "where the error comes to rest, and rises where the teacher is recovered. The measured threshold is where it does "
        "neither; whether its error separates the two lines, the verdicts say."
    )
    return Outcome((Picture("curves", _canvas(curves, expected, other), words),), tuple(verdicts))


def _recovers(gamma: float, curve: Curve, expected: float, other: float, d: int) -> Verdict:
    """Where the exponent of the error stays the same, with a jackknife error over the runs. other: vanishing weight decay."""
    count = curve.half.shape[1]
    found = curve.turn(expected)
    others = [curve.turn(expected, np.delete(np.arange(count), run)) for run in range(count)]
    error = math.sqrt((count - 1) * float(np.var(others)))
    relative = found / expected - 1
    apart, deviation = (abs(found - value) / error if error else math.inf for value in (other, expected))
    allowed = 3 * error + FINITE / d * expected
    decided = f"this {'excludes' if abs(found - other) > allowed else 'does not exclude'}"
    sentence = (
        f"the exponent stays the same at alpha = {found:.4f} +- {error:.4f}, the conjecture says {expected:.4f} "
        f"({100 * relative:+.1f} %; {100 * FINITE / d:.1f} % of finite size are allowed beside three errors); {decided} "
        f"{other:.4f}, the threshold of vanishing weight decay, {apart:.1f} errors away"
    )
    agree = abs(found - expected) <= allowed
    return Verdict(f"recovery, gamma = {gamma:g} (conjecture)", abs(relative), deviation, None, agree, sentence)


def _remembers(curves: Mapping[float, Curve], threshold: float) -> Verdict:
    """Below the threshold a larger start ends with a larger error."""
    first = curves[SCALES[0]]
    below = first.alphas < 0.75 * threshold
    ratios = curves[SCALES[-1]].end[below] / first.end[below]
    mean = ratios.mean(axis=1)
    rest = float(first.exponent[below].max())
    sentence = (
        f"at alpha up to {first.alphas[below].max():.3f} the start gamma = {SCALES[-1]:g} ends with {mean.min():.2f} to "
        f"{mean.max():.2f} of the error of gamma = 1, which has come to rest (exponent at most {rest:.3f})"
    )
    return Verdict("the end remembers the start", None, None, None, bool((mean < 1).all() and rest < 0.1), sentence)


def _nearest_limit(curve: Curve) -> Verdict:
    """The smallest start against the limit of vanishing weight decay, where both have an error: an observation."""
    limit = np.array([_limit(float(alpha)) for alpha in curve.alphas])
    seen = limit > 0.05
    relative = curve.end[seen].mean(axis=1) / limit[seen] - 1
    sentence = (
        f"gamma = {SCALES[-1]:g} ends {100 * relative.min():+.0f} to {100 * relative.max():+.0f} % from the end state of "
        "vanishing weight decay; that they meet as gamma -> 0 is not claimed"
    )
    return Verdict("small starts and small weight decay", None, None, None, True, sentence)


def _limit(alpha: float) -> float:
    return stationary(QuadraticNetwork(alpha, KAPPA, TEACHER, 0.0, "0+")).values["mse"]


def _canvas(curves: Mapping[float, Curve], threshold: float, other: float) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(9.0, 3.8), layout="constrained")
    left, right = canvas.subplots(1, 2, width_ratios=(3, 2))
    for j, (gamma, curve) in enumerate(curves.items()):
        errors = curve.end.std(axis=1, ddof=1) / math.sqrt(curve.end.shape[1])
        label = rf"$\gamma = {gamma:g}$"
        left.errorbar(
            curve.alphas,
            curve.end.mean(axis=1),
            errors,
            fmt=MARKERS[j] + "-",
            color=COLORS[j],
            lw=0.8,
            ms=4,
            label=label,
        )
        left.plot(curve.alphas, curve.half.mean(axis=1), MARKERS[j], color=COLORS[j], mfc="white", mew=1.0)
        right.plot(curve.alphas, curve.exponent, MARKERS[j] + "-", color=COLORS[j], lw=0.8, ms=4, label=label)
        before = np.log2(curve.quarter.mean(axis=1) / curve.half.mean(axis=1))
        right.plot(curve.alphas, before, MARKERS[j], color=COLORS[j], mfc="white", mew=1.0, ms=4)
    low, high = curves[SCALES[0]].alphas[[0, -1]]
    grid = np.linspace(low, high, 80)
    limit = np.array([_limit(float(alpha)) for alpha in grid])
    shown = limit > 0
    left.plot(grid[shown], limit[shown], color=COLORS[6], lw=1.0, label=r"$\lambda \to 0^+$ after $t \to \infty$")
    for axes in (left, right):
        axes.axvline(threshold, color=COLORS[6], ls="--", lw=1.0)
        axes.axvline(other, color=COLORS[6], ls=":", lw=1.0)
        axes.set_xlabel(r"$\alpha$")
    floor = min(float(curve.end.mean(axis=1).min()) for curve in curves.values())
    left.set(yscale="log", ylabel=r"squared error $|Z - Z^*|^2/d$", title="end of descent", ylim=(floor / 2, None))
    right.set(ylabel="exponent $p$ of the last doubling", title="recovery; dashed: conjecture")
    left.legend(fontsize=7)
    return canvas


FIGURE = Figure(
    name="quadratic-recovery",
    title="Quadratic networks: recovery without weight decay",
    claim="Without weight decay or noise descent recovers the teacher above min(kappa - kappa^2/2, alpha_inter), whatever the "
    "scale of the start (a conjecture); below, the error that it ends with grows with the start.",
    sources=("MBB26v2",),
    quick={
        "d": 20,
        "runs": 8,
        "alphas": (0.15, 0.25, 0.33, 0.42, 0.44, 0.46, 0.48, 0.5, 0.6),
        "step": 0.02,
        "last_time": 20.0,
    },
    full={
        "d": 40,
        "runs": 24,
        "alphas": (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.415, 0.43, 0.445, 0.46, 0.475, 0.49, 0.6),
        "step": 0.02,
        "last_time": 40.0,
    },
    draw=draw,
)
