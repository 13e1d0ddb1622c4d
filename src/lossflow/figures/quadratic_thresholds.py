"""Quadratic networks: how many samples end interpolation and recover a noiseless teacher, against the width of the student."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.end_states import stationary
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.figures.quadratic_learning_curves import bias, draw_points, measured
from lossflow.plot import COLORS
from lossflow.problems.quadratic import QuadraticNetwork
from lossflow.spectral.thresholds import Thresholds, thresholds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEACHERS = (0.3, 0.5)
GRID = 1e-4  # of bisection in alpha


class Onset(NamedTuple):
    """Where the end states themselves change, by bisection in alpha."""

    kappa: float
    interpolation: float
    recovery: float


def draw(widths: int, bisected: int, d: int, runs: int) -> Outcome:
    """widths: of the curves; bisected: of which the end states are asked where they change; d, runs: of the experiment."""
    verdicts, curves, onsets = [], {}, {}
    for k in TEACHERS:
        curves[k] = [(kappa, thresholds(_network(kappa, k))) for kappa in np.linspace(k, 1.1, widths)]
        onsets[k] = [_onset(float(kappa), k) for kappa in np.linspace(k + 0.05, 1.0, bisected)]
        verdicts += [_changes(k, onsets[k]), _meeting(k), _ordered(k, curves[k])]
    alphas = (0.15, 0.25, 0.5)
    points = [measured(QuadraticNetwork(a, 0.7, 0.5, 0.0, 0.005), d, runs, j) for j, a in enumerate(alphas)]
    verdicts.append(bias("mse at lambda = 0.005, kappa = 0.7, kappa* = 0.5", "mse", points[:2], d))
    words = (
        "Left and middle: thresholds of alpha = n/d^2 without label noise against the width kappa of the student, for teachers "
        "of width 0.3 and 0.5. Full: end of interpolation; dashed: recovery without weight decay, a conjecture that has "
        "numerical support only; dash-dotted: recovery with vanishing weight decay; dotted: with the best estimator. Circles: "
        "where the training loss of the end state rises from zero and where its error falls to zero, by bisection. Regions: "
        "I, recovery limited by the number of parameters; II, by interpolation; III, where the width has no influence. Right: "
        f"squared error at weight decay 0.005 and {runs} runs of L-BFGS at d = {d}, with the threshold of vanishing decay."
    )
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(11.0, 3.8), layout="constrained")
    left, middle, right = canvas.subplots(1, 3)
    for axes, k in ((left, TEACHERS[0]), (middle, TEACHERS[1])):
        _draw_regions(axes, k, curves[k], onsets[k])
    left.legend(loc="lower right", bbox_to_anchor=(1.0, 0.06), fontsize=7)
    grid = np.linspace(0.1, 0.6, 60)
    theory = [stationary(QuadraticNetwork(float(a), 0.7, 0.5, 0.0, 0.005)).values["mse"] for a in grid]
    right.plot(grid, theory, color=COLORS[0])
    draw_points(right, points, "mse", 0)
    edge = thresholds(_network(0.7, 0.5)).alpha_recovery_regularized
    right.axvline(edge, color=COLORS[2], ls="-.", lw=1.0)
    right.set(xlabel=r"$\alpha$", yscale="log", ylabel="squared error", title=r"$\kappa = 0.7,\ \kappa^* = 0.5$")
    return Outcome((Picture("curves", canvas, words),), tuple(verdicts))


def _network(kappa: float, k: float) -> QuadraticNetwork:
    return QuadraticNetwork(0.3, float(kappa), k, 0.0, "0+")


def _onset(kappa: float, k: float) -> Onset:
    """Bisection: the loss of the limit of vanishing decay is zero below alpha_inter at tiny noise, the error above alpha_PR+."""

    def first(is_above: object, network: QuadraticNetwork) -> float:
        low, high = 0.01, 0.7
        while high - low > GRID:
            middle = (low + high) / 2
            values = stationary(replace(network, alpha=middle)).values
            low, high = (low, middle) if is_above(values) else (middle, high)  # type: ignore[operator]
        return (low + high) / 2

    clean = _network(kappa, k)
    noisy = replace(clean, noise_variance=1e-14)  # without noise a recovered teacher hides where interpolation ends
    return Onset(kappa, first(lambda v: v["loss"] > 0, noisy), first(lambda v: v["mse"] == 0, clean))


def _changes(k: float, onsets: list[Onset]) -> Verdict:
    """The end states change where the thresholds say."""
    gaps = []
    for onset in onsets:
        found = thresholds(_network(onset.kappa, k))
        # the end of interpolation is approached like the cube root of the noise, 1e-5 here
        gaps += [
            abs(onset.interpolation - found.alpha_interpolation),
            abs(onset.recovery - found.alpha_recovery_regularized),
        ]
    largest = max(gaps)
    sentence = (
        f"at {len(onsets)} widths the states change within {largest:.1e} of the thresholds; bisection to {GRID:g}"
    )
    return Verdict(f"end states, kappa* = {k:g}", None, None, None, largest < 2 * GRID, sentence)


def _meeting(k: float) -> Verdict:
    """All thresholds are kappa* - kappa*^2/2 at kappa = kappa*."""
    found = thresholds(_network(k, k))
    four = [
        found.alpha_interpolation,
        found.alpha_recovery,
        found.alpha_recovery_regularized,
        found.alpha_bayes,
    ]
    gap = max(abs(value / (k - k * k / 2) - 1) for value in four)
    sentence = f"at kappa = kappa* all four are kappa* - kappa*^2/2 = {k - k * k / 2:g}, within {gap:.0e}"
    return Verdict(f"equal widths, kappa* = {k:g}", gap, None, None, gap < 1e-12, sentence)


def _ordered(k: float, curve: list[tuple[float, Thresholds]]) -> Verdict:
    """Bayes <= recovery, with or without decay, <= interpolation; and the regions in their order."""
    tiny = 1e-12
    held = all(
        t.alpha_bayes - tiny <= recovery <= t.alpha_interpolation + tiny
        for _, t in curve
        for recovery in (t.alpha_recovery, t.alpha_recovery_regularized)
    )
    regions = list(dict.fromkeys(t.region for _, t in curve[1:]))  # at kappa = kappa* I and II meet
    last = curve[-1][1]
    crossing = max((kappa for kappa, t in curve if t.alpha_recovery_regularized > t.alpha_recovery + tiny), default=k)
    sentence = (
        f"regions {', '.join(regions)} with borders at kappa = {last.width_counting:.4f} and {last.width_interpolation:.4f}; "
        f"vanishing decay no longer feels the width from {last.width_regularized:.4f}, and up to kappa = {crossing:.3f} it needs "
        "more samples than the conjecture for no decay"
    )
    return Verdict(f"order, kappa* = {k:g}", None, None, None, held and regions == ["I", "II", "III"], sentence)


def _draw_regions(axes: Axes, k: float, curve: list[tuple[float, Thresholds]], onsets: list[Onset]) -> None:
    kappa = np.array([width for width, _ in curve])
    lines = {
        "interpolation": ("-", COLORS[0], [t.alpha_interpolation for _, t in curve]),
        r"recovery, $\lambda = 0$ (conjecture)": ("--", COLORS[1], [t.alpha_recovery for _, t in curve]),
        r"recovery, $\lambda \to 0^+$": ("-.", COLORS[2], [t.alpha_recovery_regularized for _, t in curve]),
        "Bayes-optimal": (":", COLORS[6], [t.alpha_bayes for _, t in curve]),
    }
    for label, (style, color, values) in lines.items():
        axes.plot(kappa, values, style, color=color, label=label)
    widths = [onset.kappa for onset in onsets]
    axes.plot(widths, [onset.interpolation for onset in onsets], "o", mfc="white", color=COLORS[0])
    axes.plot(widths, [onset.recovery for onset in onsets], "o", mfc="white", color=COLORS[2])
    top = max(t.alpha_interpolation for _, t in curve)
    last = curve[-1][1]
    borders = [k, last.width_counting, last.width_interpolation, float(kappa[-1])]
    for j, name in enumerate(("I", "II", "III")):
        axes.axvspan(borders[j], borders[j + 1], color="#999999", alpha=0.06 * (j % 2 + 1), lw=0)
        axes.text((borders[j] + borders[j + 1]) / 2, top * 1.03, name, ha="center")
    axes.set(xlabel=r"$\kappa = m/d$", ylabel=r"$\alpha$", title=rf"$\kappa^* = {k:g}$", ylim=(None, top * 1.09))


FIGURE = Figure(
    name="quadratic-thresholds",
    title="Quadratic networks: interpolation and recovery",
    claim="Without label noise interpolation ends and recovery begins at thresholds in closed form; that of recovery without "
    "weight decay is a conjecture.",
    sources=("MBB26v2",),
    quick={"widths": 60, "bisected": 3, "d": 40, "runs": 4},
    full={"widths": 300, "bisected": 9, "d": 100, "runs": 16},
    draw=draw,
)
