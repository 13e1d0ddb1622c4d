"""Diagonal networks: the squared error at the end against the number of data, for several scales of the start."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lossflow.end_states import stationary
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.meanfield.diagonal_entropy import Link
from lossflow.meanfield.diagonal_finite import draw as draw_sample
from lossflow.meanfield.diagonal_finite import interpolate
from lossflow.plot import COLORS, MARKERS, POINTS
from lossflow.problems.diagonal import DiagonalLinear, SymmetricInit
from lossflow.problems.priors import RademacherSparse
from lossflow.progress import progress
from lossflow.significance import LEVEL, judge

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure as Canvas

    Array = npt.NDArray[np.float64]

NEXT_ORDER = 0.2  # of the correction in 1/d: how much of it is taken as the error of having only its first order


def draw(
    density: float,
    sigma: float,
    scales: tuple[float, ...],
    last_delta: float,
    points: int,
    deltas: tuple[float, ...],
    sizes: tuple[int, int],
    runs: int,
) -> Outcome:
    """Curves at up to 4 `points` values of delta up to last_delta; solves at `deltas`, at two sizes d, the second twice the
    first.
    """
    near = np.geomspace(0.005, 0.1, points)
    below = np.union1d(np.linspace(0.1, 0.9, points), 1 - near)
    above = np.union1d(np.linspace(1.1, last_delta, points), 1 + near)
    prior = RademacherSparse(density)

    def theory(scale: float, grid: Sequence[float] | Array) -> Array:
        problems = [DiagonalLinear(float(delta), prior, sigma**2, SymmetricInit(scale)) for delta in grid]
        return np.array([stationary(problem).values["mse"] for problem in problems])

    curves = {scale: (theory(scale, below), theory(scale, above)) for scale in scales}
    solved: dict[float, Array] = {}
    hidden: dict[float, Array] = {}
    with progress(len(scales), "convex solves") as bar:
        for scale in scales:
            small, large = (_solves(prior, sigma, scale, deltas, d, runs) for d in sizes)
            solved[scale] = 2 * large - small
            hidden[scale] = NEXT_ORDER * np.abs(large.mean(axis=0) - small.mean(axis=0)) + 1e-9
            bar.update(1)
    verdicts = [_by_solves(scale, solved[scale], hidden[scale], np.log(theory(scale, deltas))) for scale in scales]
    verdicts.append(_one_curve(above, sigma, [curves[scale][1] for scale in scales]))
    words = (
        f"Squared error of the coefficients at the end of the flow against delta = n/d for {len(scales)} scales of the start; "
        f"density {density:g}, sigma = {sigma:g}. All curves peak at delta = 1, where the noise has as many coefficients as data "
        "to hide in, and are one curve beyond, that of least squares. Below, small starts come to their least error with fewer "
        f"data, and it is smaller. Points: direct solves at d = {sizes[0]} and {sizes[1]}, {runs} "
        "runs each, extrapolated in 1/d, "
        "with one standard error."
    )
    canvas = _canvas(below, above, curves, deltas, solved, density, sigma)
    return Outcome((Picture("curves", canvas, words),), tuple(verdicts))


def _solves(prior: RademacherSparse, sigma: float, scale: float, deltas: Sequence[float], d: int, runs: int) -> Array:
    """log mse, (runs, deltas)."""
    link = Link.symmetric(scale**2)
    logs = np.empty((runs, len(deltas)))
    for k, delta in enumerate(deltas):
        problem = DiagonalLinear(delta, prior, sigma**2)
        for run in range(runs):
            sample = draw_sample(problem, d, run, seed=1000 * k + d)
            if delta < 1:
                mse = interpolate(sample, link).mse(sample)
            else:
                beta = np.linalg.lstsq(sample.X, sample.y, rcond=None)[0]
                mse = float(np.mean((beta - sample.signal) ** 2))
            logs[run, k] = math.log(mse)
    return logs


def _by_solves(scale: float, solved: Array, hidden: Array, expected: Array) -> Verdict:
    differences = solved - expected
    mean = differences.mean(axis=0)
    judged = judge(mean, differences, hidden)
    gap, deviation = float(np.abs(np.expm1(mean)).max()), float(np.abs(mean / judged.uncertainty).max())
    agree = judged.probability >= LEVEL
    sentence = (
        f"direct solves {'agree' if agree else 'disagree'} with theory at {mean.size} values of delta: largest gap "
        f"{100 * gap:.1f}%, largest deviation {deviation:.1f} sigma ({judged.allowed:.1f} allowed)"
    )
    return Verdict(f"scale {scale:g}", gap, deviation, None, agree, sentence)


def _one_curve(deltas: Array, sigma: float, curves: Sequence[Array]) -> Verdict:
    expected = sigma**2 / (deltas - 1)
    gap = max(float(np.abs(curve / expected - 1).max()) for curve in curves)
    agree = gap < 1e-12
    but = "" if agree else ", which they do not"
    sentence = f"for delta > 1 every scale ends at sigma^2/(delta - 1){but}: largest gap {gap:.1e}"
    return Verdict("delta > 1", gap, None, None, agree, sentence)


def _canvas(
    below: Array,
    above: Array,
    curves: Mapping[float, tuple[Array, Array]],
    deltas: Sequence[float],
    solved: Mapping[float, Array],
    density: float,
    sigma: float,
) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(6.4, 4.0), layout="constrained")
    axes = canvas.subplots()
    few = np.array(deltas) < 1

    def points(logs: Array, chosen: npt.NDArray[np.bool_], marker: str, color: str) -> None:
        """Means of the logarithms with their errors."""
        error = logs.std(axis=0, ddof=1) / math.sqrt(len(logs))
        mean = np.exp(logs.mean(axis=0))
        bars = mean * np.array([-np.expm1(-error), np.expm1(error)])
        axes.errorbar(np.array(deltas)[chosen], mean[chosen], bars[:, chosen], fmt=marker, color=color, **POINTS)

    for (scale, (left, _)), color, marker in zip(curves.items(), COLORS, MARKERS, strict=False):
        axes.plot(below, left, color=color, label=f"{scale:g}")
        points(solved[scale], few, marker, color)
    any_scale = next(iter(curves))
    right = curves[any_scale][1]
    axes.plot(above, right, color="#555555", label="any, $n > d$")
    points(solved[any_scale], ~few, "o", "#555555")
    axes.axvline(1, color="#999999", lw=0.8, ls=":")
    axes.set(yscale="log", xlabel=r"$\delta = n/d$", ylabel="squared error at the end")
    axes.set_ylim(0.5 * min(float(right.min()), float(min(left.min() for left, _ in curves.values()))), 20)
    axes.set_title(rf"density {density:g}, $\sigma = {sigma:g}$")
    axes.legend(title="scale of the start")
    return canvas


FIGURE = Figure(
    name="diagonal-double-descent",
    title="Diagonal linear networks: double descent and the scale of the start",
    claim="The squared error at the end of gradient flow peaks where data are as many as coefficients, whatever the start; with "
    "more data the start is forgotten, with fewer it decides.",
    sources=("NI25v2",),
    quick={
        "density": 0.1,
        "sigma": 0.3,
        "scales": (1e-4, 0.03, 0.3, 1.0, 10.0),
        "last_delta": 3.0,
        "points": 30,
        "deltas": (0.3, 0.6, 1.6, 2.5),
        "sizes": (120, 240),
        "runs": 8,
    },
    full={
        "density": 0.1,
        "sigma": 0.3,
        "scales": (1e-4, 0.03, 0.3, 1.0, 10.0),
        "last_delta": 3.0,
        "points": 120,
        "deltas": (0.2, 0.3, 0.45, 0.6, 0.75, 1.4, 1.8, 2.4, 3.0),
        "sizes": (400, 800),
        "runs": 16,
    },
    draw=draw,
)
