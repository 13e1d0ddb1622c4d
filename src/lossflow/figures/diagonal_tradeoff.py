"""Diagonal networks: how fast a start converges, what it costs in squared error, and the exponent of recovery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.meanfield.diagonal_entropy import Link
from lossflow.meanfield.diagonal_finite import draw as draw_sample
from lossflow.meanfield.diagonal_finite import interpolate
from lossflow.meanfield.diagonal_recovery import TradeOff, recovery_exponent, trade_off
from lossflow.plot import COLORS, LINES, MARKERS, POINTS
from lossflow.problems.diagonal import DiagonalLinear
from lossflow.problems.priors import RademacherSparse
from lossflow.progress import progress

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    Array = npt.NDArray[np.float64]

EDGE = -2 / 3  # the smallest eigenvalue comes to the edge of the spectrum like d to this power
KAPPAS = np.geomspace(1e-5, 1e-30, 26)  # where the local exponent is measured


class Edges(NamedTuple):
    """Smallest eigenvalues at d -> inf for each scale, with standard errors and the theory."""

    scales: Array
    limit: Array
    error: Array
    rate: Array


def draw(
    delta: float,
    density: float,
    sigmas: tuple[float, ...],
    scales: tuple[float, ...],
    sizes: tuple[int, ...],
    runs: int,
    points: int,
) -> Outcome:
    """sigmas: of the noise; scales: at which eigenvalues are computed, at `sizes` d with `runs` of the largest; points: of a
    line.
    """
    prior = RademacherSparse(density)
    grid = np.geomspace(30.0, 1e-6, points)
    curves = {sigma: trade_off(DiagonalLinear(delta, prior, sigma**2), grid) for sigma in sigmas}
    dense = trade_off(DiagonalLinear(delta, RademacherSparse(1.0), sigmas[-1] ** 2), grid)
    edges = _edges(DiagonalLinear(delta, prior, sigmas[-1] ** 2), scales, sizes, runs)
    exponent = recovery_exponent(delta, density)
    local = _local_exponent(DiagonalLinear(delta, prior))
    verdicts = (
        _by_eigenvalues(edges, sizes),
        _lazy(grid, curves[sigmas[-1]], delta),
        _recovers(local, exponent),
        _costs(curves, dense),
    )
    words = (
        f"Left: the rate at which residuals vanish against the scale of the start, delta = {delta:g}, density {density:g}. "
        "Lines: theory, one for each noise; dashes: the lazy limit 2 kappa (delta^(-1/2) - 1)^2; "
        "points: the smallest eigenvalue of "
        f"X D X^T/delta at direct solves with sigma = {sigmas[-1]:g}, extrapolated in d^(-2/3). Middle: squared error against "
        "rate as the scale runs from 1e-6 to 30. Sparse signals (colors): faster is worse. A dense "
        "one (black): faster is better. Right: "
        f"without noise, the local slope of log mse against 2 log kappa (points) comes to a = {exponent:.4f} (line) like "
        "1/log(1/kappa). Edge and exponent are ours and unproved."
    )
    return Outcome((Picture("tradeoff", _canvas(grid, curves, dense, edges, local, exponent, delta), words),), verdicts)


def _edges(problem: DiagonalLinear, scales: Sequence[float], sizes: Sequence[int], runs: int) -> Edges:
    limits, errors = [], []
    with progress(len(scales) * len(sizes), "eigenvalues") as bar:
        for scale in scales:
            means, deviations = [], []
            for d in sizes:
                count = max(runs * max(sizes) // d, 2)
                least = [_least_eigenvalue(problem, scale, d, run) for run in range(count)]
                means.append(np.mean(least))
                deviations.append(np.std(least, ddof=1) / np.sqrt(count))
                bar.update(1)
            design = np.vander(np.array(sizes, dtype=np.float64) ** EDGE, 2, increasing=True)
            weighted = design / np.array(deviations)[:, None]
            covariance = np.linalg.inv(weighted.T @ weighted)
            limits.append(covariance[0] @ weighted.T @ (np.array(means) / deviations))
            errors.append(np.sqrt(covariance[0, 0]))
    rate = trade_off(problem, scales).rate
    return Edges(np.array(scales), np.array(limits), np.array(errors), rate)


def _least_eigenvalue(problem: DiagonalLinear, scale: float, d: int, run: int) -> float:
    sample = draw_sample(problem, d, run, seed=d)
    slope = interpolate(sample, Link.symmetric(scale**2)).slope
    return float(np.linalg.eigvalsh((sample.X * (2 * slope)) @ sample.X.T / problem.delta)[0])


def _local_exponent(problem: DiagonalLinear) -> Array:
    """(d log mse/d log kappa)/2 at `KAPPAS`."""
    near = [np.log(trade_off(problem, np.sqrt(KAPPAS * factor)).mse) for factor in (1.01, 1 / 1.01)]
    return (near[0] - near[1]) / (4 * np.log(1.01))


def _by_eigenvalues(edges: Edges, sizes: Sequence[int]) -> Verdict:
    relative = edges.limit / edges.rate - 1
    deviation = (edges.limit - edges.rate) / edges.error
    gap, worst = float(np.abs(relative).max()), float(np.abs(deviation).max())
    agree = bool(np.all((np.abs(deviation) < 3.5) | (np.abs(relative) < 0.03)))
    sentence = (
        f"the smallest eigenvalue at d = {', '.join(map(str, sizes))}, extrapolated, {'agrees' if agree else 'disagrees'} with "
        f"the edge at {relative.size} scales: largest gap {100 * gap:.1f}%, largest deviation {worst:.1f} sigma"
    )
    return Verdict("rate against eigenvalues", gap, worst, None, agree, sentence)


def _lazy(grid: Array, curve: TradeOff, delta: float) -> Verdict:
    k = int(np.argmax(grid))
    gap = abs(float(curve.rate[k] / (2 * grid[k] ** 2 * (delta**-0.5 - 1) ** 2)) - 1)
    agree = gap < 10 / float(grid[k]) ** 4
    sentence = f"at scale {grid[k]:g} the rate is that of a linear model to {gap:.1e}, kappa^(-2) = {grid[k] ** -4:.1e}"
    return Verdict("lazy limit of the rate", gap, None, None, agree, sentence)


def _recovers(local: Array, exponent: float) -> Verdict:
    """The local slope is a + b/log(1/kappa) + ...: a line through the last points must end near a."""
    inverse = 1 / np.log(1 / KAPPAS[-6:])
    limit = float(np.polynomial.Polynomial.fit(inverse, local[-6:], 1)(0.0))
    gap = abs(limit / exponent - 1)
    agree = gap < 2e-3
    sentence = f"the local slope, extrapolated in 1/log(1/kappa), ends at {limit:.4f}, the exponent is {exponent:.4f}"
    return Verdict("recovery exponent", gap, None, None, agree, sentence)


def _costs(curves: Mapping[float, TradeOff], dense: TradeOff) -> Verdict:
    few = dense.scales > 1e-3
    dearer = all(bool(np.all(np.diff(curve.mse[few]) < 0)) for curve in curves.values())  # scales fall
    cheaper = bool(np.all(np.diff(dense.mse[few]) > 0))
    faster = all(bool(np.all(np.diff(curve.rate) < 0)) for curve in (*curves.values(), dense))
    agree = dearer and cheaper and faster
    sentence = (
        "a larger scale is faster for every signal; above scale 1e-3 it is worse for the sparse ones and better for the dense one"
        if agree
        else "rate and squared error do not both grow with the scale"
    )
    return Verdict("price of speed", None, None, None, agree, sentence)


def _canvas(
    grid: Array,
    curves: Mapping[float, TradeOff],
    dense: TradeOff,
    edges: Edges,
    local: Array,
    exponent: float,
    delta: float,
) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(10.5, 3.6), layout="constrained")
    left, middle, right = canvas.subplots(1, 3)
    for (sigma, curve), color, line in zip(curves.items(), COLORS, LINES, strict=False):
        left.plot(grid, curve.rate, line, color=color, label=rf"$\sigma = {sigma:g}$")
        middle.plot(curve.rate, curve.mse, line, color=color, label=rf"$\sigma = {sigma:g}$")
    _draw_rates(left, grid, edges, delta)
    middle.plot(dense.rate, dense.mse, color="black", label="dense")
    middle.set(xscale="log", yscale="log", xlabel="rate", ylabel="squared error at the end", title="trade-off")
    middle.set_ylim(bottom=1e-7)
    middle.legend()
    right.plot(KAPPAS, local, MARKERS[0], color=COLORS[0], mfc="white")
    right.axhline(exponent, color="#555555", lw=1.0)
    right.set(
        xscale="log", xlabel=r"$\kappa$", ylabel=r"$d\,\log$ mse$\,/\,2\,d\,\log\kappa$", title="recovery without noise"
    )
    return canvas


def _draw_rates(axes: Axes, grid: Array, edges: Edges, delta: float) -> None:
    lazy = 2 * grid**2 * (delta**-0.5 - 1) ** 2
    shown = grid > 0.1
    axes.plot(grid[shown], lazy[shown], "--", color="#555555", lw=1.0, label="lazy limit")
    color = COLORS[2]
    axes.errorbar(edges.scales, edges.limit, edges.error, fmt=MARKERS[2], color=color, label="eigenvalues", **POINTS)
    axes.set(xscale="log", yscale="log", xlabel="scale of the start", ylabel="rate", title="convergence")
    axes.legend()


FIGURE = Figure(
    name="diagonal-tradeoff",
    title="Diagonal linear networks: the price of a good start",
    claim="Without weight decay residuals vanish at the lower edge of a generalized Marchenko-Pastur law, faster from larger "
    "starts; for sparse signals faster is worse, and without noise mse ~ kappa^(2a) where they can be recovered.",
    sources=("NI25v2",),
    quick={
        "delta": 0.5,
        "density": 0.1,
        "sigmas": (0.0, 0.1, 0.3),
        "scales": (0.03, 0.3, 1.0, 3.0),
        "sizes": (100, 200, 400),
        "runs": 6,
        "points": 60,
    },
    full={
        "delta": 0.5,
        "density": 0.1,
        "sigmas": (0.0, 0.1, 0.3),
        "scales": (1e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
        "sizes": (200, 400, 800, 1600),
        "runs": 8,
        "points": 120,
    },
    draw=draw,
)
