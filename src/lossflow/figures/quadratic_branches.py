"""Quadratic networks whose learning curve folds: three end states at one alpha, and which of them runs reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.end_states import stationary
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.plot import COLORS
from lossflow.problems.quadratic import QuadraticNetwork, finite_size_alpha
from lossflow.progress import progress
from lossflow.simulate.quadratic import Instance, end_by_lbfgs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


class Fold(NamedTuple):
    """kappa, kappa_star, noise, weight decay; the interval of alpha with three states; whether it is a closed loop."""

    kappa: float
    k: float
    noise: float
    decay: float
    low: float
    high: float
    loop: bool

    def at(self, alpha: float) -> QuadraticNetwork:
        return QuadraticNetwork(alpha, self.kappa, self.k, self.noise, self.decay)


FOLDS = (
    Fold(0.0749, 0.0239, 5.3895, 1.588e-4, 0.107923, 0.111022, False),
    Fold(0.0445, 0.0558, 0.0, 0.04793, 0.068686, 0.078157, False),
    Fold(0.062, 0.030, 0.18, 0.02, 0.088195, 0.094806, True),
)
SELECTED = 1  # the fold at which runs are made


def draw(points: int, d: int, runs: int) -> Outcome:
    """points: in alpha, of every fold; d, runs: of L-BFGS at the middle of the fold without noise."""
    curves = []
    with progress(len(FOLDS), "folds") as bar:
        for fold in FOLDS:
            curves.append(_states(fold, points))
            bar.update(1)
    fold = FOLDS[SELECTED]
    middle = fold.at((fold.low + fold.high) / 2)
    ends = [end_by_lbfgs(Instance(middle, d, run, 0)).values["mse"] for run in range(runs)]
    alpha = finite_size_alpha(Instance(middle, d, 0, 0).n, d)
    verdicts = [_folds(fold, states) for fold, states in zip(FOLDS, curves, strict=True)]
    verdicts.append(_selection(fold, alpha, ends, d))
    words = (
        "All end states against alpha = n/d^2 at three settings in which the width cuts the spectrum; blue, the state of "
        "smallest xi, called the main one. Left: with strong noise. Middle: without noise; triangles are "
        f"{runs} runs of L-BFGS from the start of the flow at d = {d}. Right: a closed loop, which no continuation from "
        "large alpha reaches. Which state gradient flow selects at d -> infinity is open."
    )
    return Outcome((Picture("curves", _canvas(curves, alpha, ends), words),), tuple(verdicts))


def _states(fold: Fold, points: int) -> list[tuple[float, list[float]]]:
    """(alpha, mse of every state, xi increasing)."""
    width = fold.high - fold.low
    found = []
    for alpha in np.linspace(fold.low - 0.4 * width, fold.high + 0.4 * width, points):
        state = stationary(fold.at(float(alpha)))
        found.append((float(alpha), [branch.values["mse"] for branch in state.branches or (state,)]))
    return found


def _folds(fold: Fold, states: Sequence[tuple[float, list[float]]]) -> Verdict:
    """Three states inside the interval and one outside."""
    margin = 0.01 * (fold.high - fold.low)  # the borders are known to six digits
    inside = [len(mse) for alpha, mse in states if fold.low + margin < alpha < fold.high - margin]
    outside = [len(mse) for alpha, mse in states if not fold.low - margin < alpha < fold.high + margin]
    agree = set(inside) == {3} and set(outside) == {1}
    sentence = (
        f"three states at all {len(inside)} alpha between {fold.low:g} and {fold.high:g}, one at the {len(outside)} outside"
        if agree
        else f"numbers of states: {sorted(set(inside))} inside, {sorted(set(outside))} outside"
    )
    return Verdict(f"kappa = {fold.kappa:g}, kappa* = {fold.k:g}", None, None, None, agree, sentence)


def _selection(fold: Fold, alpha: float, ends: Sequence[float], d: int) -> Verdict:
    """Which of the predicted states each run ends nearest to, on a logarithmic scale: an observation at one size."""
    branches = [branch.values["mse"] for branch in stationary(fold.at(alpha)).branches]
    nearest = [int(np.argmin([abs(math.log(mse / branch)) for branch in branches])) for mse in ends]
    counts = [nearest.count(j) for j in range(len(branches))]
    sentence = (
        f"errors of the three states {', '.join(f'{mse:.3g}' for mse in branches)}; runs end at {np.mean(ends):.3g} on average, "
        f"{counts[0]} of {len(ends)} nearest to the state of smallest xi, {sum(counts[1:])} to the others (d = {d}; what "
        "happens at d -> infinity is open)"
    )
    return Verdict("selected at finite size", None, None, None, 2 * counts[0] > len(ends), sentence)


def _canvas(curves: Sequence[Sequence[tuple[float, list[float]]]], alpha: float, ends: Sequence[float]) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(11.0, 3.8), layout="constrained")
    for j, (axes, fold, states) in enumerate(zip(canvas.subplots(1, 3), FOLDS, curves, strict=True)):
        _draw_states(axes, states)
        if j == SELECTED:
            axes.plot([alpha] * len(ends), ends, "^", mfc="white", color=COLORS[2], label="L-BFGS")
        kind = "closed loop" if fold.loop else "fold"
        title = (
            rf"{kind}: $\kappa={fold.kappa:g},\ \kappa^*={fold.k:g},\ \lambda={fold.decay:g},\ \Delta={fold.noise:g}$"
        )
        axes.set_title(title, fontsize=8)
        axes.set(xlabel=r"$\alpha = n/d^2$", ylabel="squared error", yscale="log")
        axes.legend(fontsize=7)
    return canvas


def _draw_states(axes: Axes, states: Sequence[tuple[float, list[float]]]) -> None:
    main = [(alpha, mse[0]) for alpha, mse in states]
    other = [(alpha, value) for alpha, mse in states for value in mse[1:]]
    axes.plot(*zip(*main, strict=True), ".", color=COLORS[0], ms=4, label=r"smallest $\xi$")
    axes.plot(*zip(*other, strict=True), ".", color=COLORS[1], ms=4, mfc="white", label="other states")


FIGURE = Figure(
    name="quadratic-branches",
    title="Quadratic networks: several end states",
    claim="Where the width cuts the spectrum the learning curve can fold: three end states at one alpha, also on closed loops; "
    "at finite size runs from the usual start end near the state of smallest xi.",
    sources=("MBB26v2",),
    quick={"points": 91, "d": 90, "runs": 4},
    full={"points": 601, "d": 135, "runs": 16},
    draw=draw,
)
