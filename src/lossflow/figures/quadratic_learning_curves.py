"""Quadratic networks: error and training loss of the end state against samples, and its spectrum; theory and experiment."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.end_states import learning_curve, stationary
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.plot import COLORS, MARKERS, POINTS
from lossflow.problems.quadratic import QuadraticNetwork, finite_size_alpha
from lossflow.progress import progress
from lossflow.simulate.quadratic import Ends, ends
from lossflow.spectral.spectrum import spectrum

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

BIAS_AT_100 = 0.02  # the mean signed bias that d = 100 may leave; it shrinks like 1/d
WIDTHS = ((0.7, 0.5, (0.5, 0.1, 0.05)), (0.35, 0.3, (0.1, 0.05, 0.01)))


class Point(NamedTuple):
    """An experiment and the theory at alpha = n/(d(d+1))."""

    alpha: float
    theory: Mapping[str, float]
    experiment: Ends


def draw(d: int, runs: int, alphas: tuple[float, ...], spectrum_alpha: float) -> Outcome:
    """d, runs: of the experiments, at each of alphas; spectrum_alpha: where the spectra of both widths are drawn."""
    curves = {
        (kappa, k, decay): QuadraticNetwork(1.0, kappa, k, 0.0, decay)
        for kappa, k, decays in WIDTHS
        for decay in decays
    }
    points: dict[tuple[float, float, float], list[Point]] = {}
    with progress(len(curves) * len(alphas), "runs of L-BFGS") as bar:
        for key, problem in curves.items():
            points[key] = []
            for alpha in alphas:
                # own teachers for every point, so that the errors of a mean over points average out
                points[key].append(
                    measured(replace(problem, alpha=alpha), d, runs, seed=len(points) * 100 + len(points[key]))
                )
                bar.update(1)
    spectral = [replace(curves[(kappa, k, decays[1])], alpha=spectrum_alpha) for kappa, k, decays in WIDTHS]
    spectra = [measured(problem, d, runs, seed) for seed, problem in enumerate(spectral)]
    verdicts = []
    for observable in ("mse", "loss"):
        verdicts += [bias(f"{observable}, {_name(key)}", observable, found, d) for key, found in points.items()]
        everything = [point for found in points.values() for point in found]
        verdicts.append(bias(f"{observable}, all curves", observable, everything, d))
    verdicts += [
        _same_spectrum(f"spectrum, {_name((p.kappa, p.kappa_star, float(p.weight_decay)))}", p, point, d)
        for p, point in zip(spectral, spectra, strict=True)
    ]
    words = (
        f"Left and middle: squared error and training loss of the end state against alpha = n/d^2, without label noise, at two "
        f"pairs of widths (full and dashed lines) and three weight decays each; points are {runs} runs of L-BFGS from the start "
        f"of the flow at d = {d}, placed at alpha = n/(d(d+1)). Less weight decay means less error once samples are enough. "
        "Right: eigenvalues of Z at the end, pooled over the runs, on the predicted density: that of the teacher plus noise, "
        "shifted by q and cut. Where the width cuts, the density begins with a step behind a gap."
    )
    return Outcome((Picture("curves", _canvas(curves, points, spectral, spectra, alphas), words),), tuple(verdicts))


def measured(problem: QuadraticNetwork, d: int, runs: int, seed: int) -> Point:
    """The ends of `runs` runs at dimension d, and the theory by the rule for finite sizes."""
    experiment = ends(problem, d, runs, seed)
    alpha = finite_size_alpha(experiment.n, d)
    return Point(alpha, dict(stationary(replace(problem, alpha=alpha)).values), experiment)


def bias(curve: str, observable: str, points: Sequence[Point], d: int) -> Verdict:
    """The mean signed relative bias over the points: at most 2% at d = 100 and as 1/d elsewhere, beyond three standard errors."""
    relative = np.array([p.experiment.means[observable] / p.theory[observable] - 1 for p in points])
    errors = np.array([p.experiment.errors[observable] / p.theory[observable] for p in points])
    mean, error = float(relative.mean()), float(np.sqrt(np.sum(errors**2))) / len(points)
    allowed = BIAS_AT_100 * 100 / d
    agree = abs(mean) <= allowed + 3 * error
    sentence = (
        f"mean signed bias {100 * mean:+.2f}% over {len(points)} points at d = {d}, standard error {100 * error:.2f}%; "
        f"{100 * allowed:.1f}% of bias are allowed at this size"
    )
    return Verdict(curve, float(np.abs(relative).max()), float(np.abs(relative / errors).max()), None, agree, sentence)


def _same_spectrum(curve: str, problem: QuadraticNetwork, point: Point, d: int) -> Verdict:
    """The largest distance of the two distribution functions beyond the eigenvalues that are zero: a few eigenvalues of d."""
    law = spectrum(stationary(replace(problem, alpha=point.alpha)))
    x = np.linspace(max(law.lower, 0.02), law.upper, 400)
    density = law.density(x)
    above = np.concatenate([np.cumsum(((density[1:] + density[:-1]) / 2 * np.diff(x))[::-1])[::-1], [0.0]])
    eigenvalues = np.sort(point.experiment.eigenvalues.ravel())
    counted = 1 - np.searchsorted(eigenvalues, x, side="right") / eigenvalues.size
    distance = float(np.abs(above - counted).max())
    allowed = 3 / d
    sentence = (
        f"distribution functions differ by at most {distance:.4f}, {distance * d:.1f} of {d} eigenvalues; 3 are allowed"
    )
    return Verdict(curve, None, None, None, distance <= allowed, sentence)


def _name(key: tuple[float, float, float]) -> str:
    return f"kappa = {key[0]:g}, kappa* = {key[1]:g}, lambda = {key[2]:g}"


def _canvas(
    curves: Mapping[tuple[float, float, float], QuadraticNetwork],
    points: Mapping[tuple[float, float, float], Sequence[Point]],
    spectral: Sequence[QuadraticNetwork],
    spectra: Sequence[Point],
    alphas: Sequence[float],
) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(11.0, 3.8), layout="constrained")
    left, middle, right = canvas.subplots(1, 3)
    grid = np.linspace(0.5 * min(alphas), 1.1 * max(alphas), 120)
    for j, (key, problem) in enumerate(curves.items()):
        theory = learning_curve(problem, "alpha", grid)
        style = "-" if key[:2] == WIDTHS[0][:2] else "--"
        label = rf"$\kappa={key[0]:g},\ \kappa^*={key[1]:g},\ \lambda={key[2]:g}$"
        for axes, observable in ((left, "mse"), (middle, "loss")):
            axes.plot(grid, theory[observable], style, color=COLORS[j % 7], label=label)
            draw_points(axes, points[key], observable, j)
    left.set(xlabel=r"$\alpha = n/d^2$", ylabel=r"squared error $|Z - Z^*|^2/d$", title="end state", ylim=(0, None))
    middle.set(xlabel=r"$\alpha$", ylabel="training loss", title="training loss", yscale="log")
    left.legend(fontsize=7)
    for j, (problem, point) in enumerate(zip(spectral, spectra, strict=True)):
        _draw_spectrum(right, replace(problem, alpha=point.alpha), point, j)
    right.set(xlabel="eigenvalue of $Z$", ylabel="density", title=rf"spectrum at $\alpha={spectra[0].alpha:.3g}$")
    right.legend(fontsize=7)
    return canvas


def draw_points(axes: Axes, points: Sequence[Point], observable: str, j: int) -> None:
    """Experiments with their standard errors, in the color and marker number j."""
    x = [point.alpha for point in points]
    y = [point.experiment.means[observable] for point in points]
    errors = [point.experiment.errors[observable] for point in points]
    errors = [error if math.isfinite(error) else 0.0 for error in errors]
    axes.errorbar(x, y, errors, fmt=MARKERS[j % 7], color=COLORS[j % 7], **POINTS)


def _draw_spectrum(axes: Axes, problem: QuadraticNetwork, point: Point, j: int) -> None:
    law = spectrum(stationary(problem))
    color = COLORS[j]
    eigenvalues = point.experiment.eigenvalues.ravel()
    bins = np.linspace(0, law.upper * 1.05, 30)
    weights = np.full(eigenvalues.size, 1 / (eigenvalues.size * (bins[1] - bins[0])))
    shown = eigenvalues > 0.02
    axes.hist(eigenvalues[shown], bins=bins, weights=weights[shown], color=color, alpha=0.25)  # type: ignore[arg-type]
    x = np.linspace(0, law.upper * 1.02, 500)
    label = rf"$\kappa={problem.kappa:g},\ \lambda={problem.weight_decay:g}$, atom {law.atom:.2f}"
    axes.plot(x, law.density(x), color=color, label=label)


FIGURE = Figure(
    name="quadratic-learning-curves",
    title="Quadratic networks: learning curves of the end state",
    claim="Error, training loss and spectrum of the state that gradient flow ends in follow from the spectrum of the teacher "
    "plus a semicircle; with alpha = n/(d(d+1)) the mean bias at d = 100 is at most 2%.",
    sources=("MBB26v2",),
    quick={"d": 40, "runs": 4, "alphas": (0.12, 0.2, 0.5), "spectrum_alpha": 0.3},
    full={"d": 100, "runs": 16, "alphas": (0.1, 0.2, 0.3, 0.4, 0.55), "spectrum_alpha": 0.247},
    draw=draw,
)
