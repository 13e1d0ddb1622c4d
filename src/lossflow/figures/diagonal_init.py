"""Diagonal networks: the squared error at the end against the scale of the start, theory and direct convex solves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.end_states import stationary
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.meanfield.diagonal_entropy import Link
from lossflow.meanfield.diagonal_finite import draw as draw_sample
from lossflow.meanfield.diagonal_finite import interpolate
from lossflow.meanfield.diagonal_recovery import Best, best_scale, trade_off
from lossflow.plot import COLORS, MARKERS, POINTS
from lossflow.problems.diagonal import DiagonalLinear, SymmetricInit
from lossflow.problems.priors import RademacherSparse
from lossflow.progress import progress
from lossflow.significance import LEVEL, judge

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    Array = npt.NDArray[np.float64]

SMALLEST = 1e-10  # scale that is drawn: the best one may lie there
NEXT_ORDER = 0.2  # of the correction in 1/d: how much of it is taken as the error of having only its first order


class Curve(NamedTuple):
    """One density and noise: theory over scales, its two limits and its best, and solves: log mse at d -> inf, per run."""

    density: float
    sigma: float
    scales: Array
    mse: Array
    limits: tuple[float, float]
    best: Best
    solved_scales: Array
    expected: Array  # log mse by theory at these scales
    solved: Array  # (runs, scales)
    hidden: Array  # (scales,): errors that runs do not show


def draw(
    delta: float,
    densities: tuple[float, ...],
    sigmas: tuple[float, ...],
    scales: tuple[float, ...],
    sizes: tuple[int, int],
    runs: int,
) -> Outcome:
    """densities, sigmas: of signal and noise; scales: at which to solve, at two sizes d, the second twice the first."""
    with progress(len(densities) * len(sigmas), "convex solves") as bar:
        curves = []
        for sigma in sigmas:
            for density in densities:
                curves.append(_curve(delta, density, sigma, scales, sizes, runs))
                bar.update(1)
    best = ", ".join(
        f"{_scale(c.best.scale)} (density {c.density:g}, sigma {c.sigma:g})"
        for c in curves
        if c.sigma and c.density < 1
    )
    words = (
        "Squared error of the coefficients at the end of the flow against the scale of the start, "
        f"delta = {delta:g}, one panel for each noise, one color for each density of the signal. "
        "Lines: theory; the short dashes on "
        "the left of each panel are basis pursuit (vanishing start, approached like 1/log), on the right ridgeless regression "
        f"(infinite start). Stars: the best scale, at {best or 'the smallest scale without noise'}. "
        "Points: direct convex solves at "
        f"d = {sizes[0]} and {sizes[1]}, {runs} runs each, extrapolated in 1/d, with one standard error."
    )
    verdicts = tuple(_verdict(curve, sizes) for curve in curves)
    return Outcome((Picture("init", _canvas(curves, sigmas, delta), words),), verdicts)


def _curve(
    delta: float, density: float, sigma: float, scales: Sequence[float], sizes: tuple[int, int], runs: int
) -> Curve:
    problem = DiagonalLinear(delta, RademacherSparse(density), sigma**2)
    grid = np.geomspace(10 * max(scales), SMALLEST, 91)
    pursuit, ridgeless = (
        stationary(replace(problem, init=SymmetricInit(scale))).values["mse"] for scale in ("0+", math.inf)
    )
    small, large = (np.array([_solve(problem, d, run, scales) for run in range(runs)]) for d in sizes)
    hidden = NEXT_ORDER * np.abs(large.mean(axis=0) - small.mean(axis=0)) + 1e-9
    return Curve(
        density,
        sigma,
        grid,
        trade_off(problem, grid).mse,
        (pursuit, ridgeless),
        best_scale(problem),
        np.array(scales),
        np.log(trade_off(problem, scales).mse),
        2 * large - small,
        hidden,
    )


def _solve(problem: DiagonalLinear, d: int, run: int, scales: Sequence[float]) -> list[float]:
    sample = draw_sample(problem, d, run, seed=d)  # the sizes are independent
    found = [interpolate(sample, Link.symmetric(scale**2)) for scale in scales]
    return [math.log(solution.mse(sample)) for solution in found]


def _verdict(curve: Curve, sizes: tuple[int, int]) -> Verdict:
    differences = curve.solved - curve.expected
    mean = differences.mean(axis=0)
    judged = judge(mean, differences, curve.hidden)
    gap, deviation = float(np.abs(np.expm1(mean)).max()), float(np.abs(mean / judged.uncertainty).max())
    agree = judged.probability >= LEVEL
    sentence = (
        f"convex solves at d = {sizes[0]} and {sizes[1]}, extrapolated, {'agree' if agree else 'disagree'} with the fixed point "
        f"at {mean.size} scales: largest gap {100 * gap:.1f}%, largest deviation {deviation:.1f} sigma "
        f"({judged.allowed:.1f} allowed)"
    )
    return Verdict(f"density {curve.density:g}, sigma {curve.sigma:g}", gap, deviation, None, agree, sentence)


def _canvas(curves: Sequence[Curve], sigmas: Sequence[float], delta: float) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(3.5 * len(sigmas) + 0.5, 3.7), layout="constrained")
    panels = np.atleast_1d(canvas.subplots(1, len(sigmas)))
    for axes, sigma in zip(panels, sigmas, strict=True):
        shown = [curve for curve in curves if curve.sigma == sigma]
        for curve, color, marker in zip(shown, COLORS, MARKERS, strict=False):
            _draw(axes, curve, color, marker)
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="scale of the start",
            title=rf"$\delta = {delta:g}$, $\sigma = {sigma:g}$",
        )
    panels[0].set_ylabel("squared error at the end")
    panels[0].legend(title="density", loc="lower right")
    return canvas


def _draw(axes: Axes, curve: Curve, color: str, marker: str) -> None:
    axes.plot(curve.scales, curve.mse, color=color, label=f"{curve.density:g}")
    low, high = curve.scales.min(), curve.scales.max()
    for limit, span in zip(curve.limits, ((low, 100 * low), (high / 30, high)), strict=True):
        if limit > 0:  # basis pursuit may find the signal itself
            axes.plot(span, [limit, limit], "--", color=color, lw=1.0)
    best = curve.best.scale
    if not isinstance(best, str) and low < best < high:
        axes.plot(best, curve.best.end.values["mse"], "*", color=color, ms=9, zorder=3)
    log = curve.solved.mean(axis=0)
    error = curve.solved.std(axis=0, ddof=1) / math.sqrt(len(curve.solved))
    mean = np.exp(log)
    bars = mean * np.array([-np.expm1(-error), np.expm1(error)])  # errors are those of the logarithm
    axes.errorbar(curve.solved_scales, mean, bars, fmt=marker, color=color, **POINTS)


def _scale(scale: float | str) -> str:
    return scale if isinstance(scale, str) else f"{scale:.2g}"


FIGURE = Figure(
    name="diagonal-init",
    title="Diagonal linear networks: what the scale of the start decides",
    claim="Gradient flow of a diagonal linear network with fewer data than coefficients ends at the interpolator of least "
    "hyperbolic entropy, between basis pursuit for small starts and ridgeless regression for large ones; with noise and a sparse "
    "signal the best scale is finite.",
    sources=("NI25v2",),
    quick={
        "delta": 0.5,
        "densities": (0.1, 1.0),
        "sigmas": (0.0, 0.3),
        "scales": (1e-3, 0.1, 1.0),
        "sizes": (120, 240),
        "runs": 12,
    },
    full={
        "delta": 0.5,
        "densities": (0.05, 0.1, 0.3, 1.0),
        "sigmas": (0.0, 0.1, 0.3),
        "scales": (1e-4, 1e-3, 1e-2, 0.1, 0.5, 2.0, 10.0),
        "sizes": (400, 800),
        "runs": 16,
    },
    draw=draw,
)
