"""Quadratic networks: the rank of the end state against samples, at ten weight decays, with and without label noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lossflow.end_states import learning_curve
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.figures.quadratic_learning_curves import Point, measured
from lossflow.plot import POINTS
from lossflow.problems.quadratic import QuadraticNetwork
from lossflow.progress import progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

WIDTHS = {"kappa": 1.0, "kappa_star": 0.3}
NOISES = (0.0, 0.5)
DECAYS = (1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001)
MEASURED = (0.5, 0.1)  # weight decays of the experiments


def draw(d: int, runs: int, alphas: tuple[float, ...]) -> Outcome:
    """d, runs: of the experiments, at each of alphas, for two of the ten weight decays."""
    keys = [(noise, decay) for noise in NOISES for decay in MEASURED]
    points: dict[tuple[float, float], list[Point]] = {key: [] for key in keys}
    with progress(len(keys) * len(alphas), "runs of L-BFGS") as bar:
        for noise, decay in keys:
            for seed, alpha in enumerate(alphas):
                problem = QuadraticNetwork(alpha, noise_variance=noise, weight_decay=decay, **WIDTHS)
                points[noise, decay].append(measured(problem, d, runs, seed))
                bar.update(1)
    verdicts = [_counted(key, found, d) for key, found in points.items()]
    grid = np.geomspace(0.02, 2.0, 160)
    curves = {
        (noise, decay): learning_curve(
            QuadraticNetwork(1.0, noise_variance=noise, weight_decay=decay, **WIDTHS), "alpha", grid
        )["rank"].to_numpy()
        for noise in NOISES
        for decay in DECAYS
    }
    verdicts += [_settles(noise, curves) for noise in NOISES]
    words = (
        "Rank of the end state over d against alpha = n/d^2 at full width, kappa = 1, for a teacher of rank 0.3 d (dotted), ten "
        f"weight decays from 1 (dark) to 0.001; left without, right with label noise of variance 0.5. Points: {runs} runs of "
        f"L-BFGS at d = {d}. A network of any width above the line ends in the same state. The rank rises with alpha past that "
        "of the teacher and falls back to what weight decay leaves of it, with noise and little decay only far to the right."
    )
    return Outcome((Picture("curves", _canvas(grid, curves, points), words),), tuple(verdicts))


def _counted(key: tuple[float, float], points: Sequence[Point], d: int) -> Verdict:
    """Eigenvalues above zero, counted, against the predicted rank: within two of d, and three standard errors."""
    gaps = np.array([p.experiment.means["rank"] - p.theory["rank"] for p in points])
    errors = np.array([p.experiment.errors["rank"] for p in points])
    relative = float(np.max(np.abs(gaps) / [p.theory["rank"] for p in points]))
    agree = bool((np.abs(gaps) <= 2 / d + 3 * errors).all())
    sentence = (
        f"ranks differ from theory by at most {float(np.abs(gaps).max()) * d:.2f} eigenvalues of {d}; 2 are allowed"
    )
    name = f"rank, Delta = {key[0]:g}, lambda = {key[1]:g}"
    return Verdict(name, relative, None, None, agree, sentence)


def _settles(noise: float, curves: Mapping[tuple[float, float], np.ndarray]) -> Verdict:
    """With many samples the rank is that of the teacher's eigenvalues above the weight decay."""
    from lossflow.end_states import stationary

    gaps = []
    for decay in DECAYS:
        problem = QuadraticNetwork(1e6, noise_variance=noise, weight_decay=decay, **WIDTHS)
        limit = stationary(replace(problem, alpha=float("inf"))).values["rank"]
        gaps.append(abs(stationary(problem).values["rank"] / limit - 1))
    largest = max(gaps)
    highest = max(float(curves[noise, decay].max()) for decay in DECAYS)
    sentence = f"at alpha = 1e6 the ranks are those of the population within {largest:.0e}; the highest before is {highest:.3f}"
    return Verdict(f"rank at large alpha, Delta = {noise:g}", largest, None, None, largest < 1e-2, sentence)


def _canvas(
    grid: np.ndarray,
    curves: Mapping[tuple[float, float], np.ndarray],
    points: Mapping[tuple[float, float], Sequence[Point]],
) -> Canvas:
    from matplotlib import colormaps
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(9.0, 3.8), layout="constrained")
    shades = colormaps["viridis"](np.linspace(0.0, 0.92, len(DECAYS)))
    for axes, noise in zip(canvas.subplots(1, 2, sharey=True), NOISES, strict=True):
        for decay, shade in zip(DECAYS, shades, strict=True):
            axes.plot(grid, curves[noise, decay], color=shade, label=rf"$\lambda = {decay:g}$")
            for point in points.get((noise, decay), ()):
                means, errors = point.experiment.means, point.experiment.errors
                axes.errorbar(point.alpha, means["rank"], errors["rank"], fmt="o", color=shade, **POINTS)
        axes.axhline(WIDTHS["kappa_star"], color="#555555", ls=":", lw=1.0)
        axes.set(xscale="log", xlabel=r"$\alpha = n/d^2$", title=rf"$\Delta = {noise:g}$")
    canvas.axes[0].set_ylabel("rank of $Z$ over $d$")
    canvas.axes[1].legend(fontsize=7)
    return canvas


FIGURE = Figure(
    name="quadratic-rank",
    title="Quadratic networks: the rank of the end state",
    claim="Weight decay leaves a state of low rank: the mass of the spectrum of the teacher plus a semicircle above q, whatever "
    "the width beyond it.",
    sources=("MBB26v2",),
    quick={"d": 40, "runs": 4, "alphas": (0.1, 0.4)},
    full={"d": 100, "runs": 8, "alphas": (0.05, 0.1, 0.2, 0.4, 0.8)},
    draw=draw,
)
