"""Diagonal networks: which sparse signals a small start recovers, and with which exponent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.meanfield.diagonal_entropy import Link
from lossflow.meanfield.diagonal_finite import draw as draw_sample
from lossflow.meanfield.diagonal_finite import interpolate
from lossflow.meanfield.diagonal_recovery import recovery_exponent, recovery_threshold, trade_off
from lossflow.plot import COLORS
from lossflow.problems.diagonal import DiagonalLinear
from lossflow.problems.priors import RademacherSparse
from lossflow.progress import progress

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure as Canvas

    Array = npt.NDArray[np.float64]

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
RECOVERED = 0.1  # of E beta*^2: below, a solve counts as recovery
KAPPAS = (1e-24, 1e-27, 1e-30)  # where the local exponent is measured


class Trial(NamedTuple):
    """A point of the plane: the share of runs that recover at finite size, and the exponent measured from the fixed point."""

    delta: float
    density: float
    recovered: float
    measured: float


def draw(
    points: int, deltas: tuple[float, ...], densities: tuple[float, ...], d: int, runs: int, kappa: float, margin: float
) -> Outcome:
    """points: of the contours in each direction; deltas, densities: a grid of `runs` solves at d and kappa; margin: the distance
    in delta from the line within which a finite size may decide otherwise.
    """
    trials = []
    with progress(len(deltas) * len(densities), "convex solves") as bar:
        for delta in deltas:
            for density in densities:
                trials.append(_trial(delta, density, d, runs, kappa))
                bar.update(1)
    density_axis = np.linspace(0.0, 1.0, points) ** 2  # finer where the contours meet
    line = np.array([recovery_threshold(float(density)) for density in density_axis])
    verdicts = (_sides(trials, margin, d), _exponents(trials))
    words = (
        "The plane of delta = n/d and the density of the signal, no noise. Black line: where basis pursuit, the limit of small "
        f"starts, begins to recover the signal. Contours: the exponent a in mse ~ kappa^(2a), {', '.join(map(str, LEVELS))}; "
        "it is zero on the line and one at delta = 1 and at density 0. Circles: direct solves at d "
        f"= {d}, kappa = {kappa:g}, filled "
        f"with the share of {runs} runs in which mse is below {RECOVERED:g}. The exponent is ours and unproved."
    )
    canvas = _canvas(density_axis, line, trials, points)
    return Outcome((Picture("plane", canvas, words),), verdicts)


def _trial(delta: float, density: float, d: int, runs: int, kappa: float) -> Trial:
    problem = DiagonalLinear(delta, RademacherSparse(density))
    link = Link.symmetric(kappa)
    samples = [draw_sample(problem, d, run, seed=0) for run in range(runs)]
    recovered = np.mean([interpolate(sample, link).mse(sample) < RECOVERED for sample in samples])
    mse = [trade_off(problem, np.sqrt(np.array(KAPPAS) * factor)).mse for factor in (1.01, 1 / 1.01)]
    slope = np.log(mse[0] / mse[1]) / (4 * np.log(1.01))
    inverse = 1 / np.log(1 / np.array(KAPPAS))
    measured = float(np.polynomial.Polynomial.fit(inverse, slope, 2)(0.0))
    return Trial(delta, density, float(recovered), measured)


def _sides(trials: Sequence[Trial], margin: float, d: int) -> Verdict:
    clear = [trial for trial in trials if abs(trial.delta - recovery_threshold(trial.density)) > margin]
    wrong = [t for t in clear if (t.recovered > 0.5) != (t.delta > recovery_threshold(t.density))]
    agree = not wrong and bool(clear)
    sentence = (
        f"{len(clear) - len(wrong)} of {len(clear)} points further than {margin:g} from the line are on the right side of it "
        f"at d = {d}"
    )
    return Verdict("recovery line", None, None, None, agree, sentence)


def _exponents(trials: Sequence[Trial]) -> Verdict:
    """Close to the line the local slope is still far from its limit at kappa = 1e-30: judged where a > 0.1."""
    pairs = [(t.measured, recovery_exponent(t.delta, t.density)) for t in trials]
    gaps = [abs(measured / expected - 1) for measured, expected in pairs if expected > 0.1]
    gap = max(gaps) if gaps else 0.0
    agree = bool(gaps) and gap < 0.01
    sentence = (
        f"local slopes of the fixed point at kappa = 1e-24 to 1e-30, extrapolated in 1/log(1/kappa), differ from a by at most "
        f"{100 * gap:.2f}% at {len(gaps)} points with a > 0.1"
    )
    return Verdict("recovery exponent", gap, None, None, agree, sentence)


def _canvas(densities: Array, line: Array, trials: Sequence[Trial], points: int) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(5.4, 4.4), layout="constrained")
    axes = canvas.subplots()
    deltas = np.sin(np.linspace(0.01, 0.5, points) * np.pi) ** 1.5
    inside = densities[1:-1]  # the exponent jumps at density 0 and at density 1
    exponents = np.array([[recovery_exponent(float(x), float(y)) for x in deltas[:-1]] for y in inside])
    contours = axes.contour(deltas[:-1], inside, exponents, levels=LEVELS, colors=COLORS[4], linewidths=1.0)
    column = int(np.searchsorted(deltas, 0.7))
    heights = [float(np.interp(-level, -exponents[:, column], inside)) for level in LEVELS]
    axes.clabel(contours, fmt="%g", fontsize=8, manual=[(float(deltas[column]), height) for height in heights])
    axes.plot(line, densities, color="black", label="recovery line")
    shade = axes.scatter(
        [t.delta for t in trials],
        [t.density for t in trials],
        c=[t.recovered for t in trials],
        cmap="Blues",
        vmin=0,
        vmax=1,
        s=36,
        edgecolors="#333333",
        linewidths=0.8,
        zorder=3,
    )
    canvas.colorbar(shade, ax=axes, label="share of runs that recover")
    axes.set(
        xlabel=r"$\delta = n/d$",
        ylabel="density of the signal",
        xlim=(0, 1),
        ylim=(0, 1),
        title="recovery from small starts",
    )
    axes.legend(loc="upper left")
    return canvas


FIGURE = Figure(
    name="diagonal-phase",
    title="Diagonal linear networks: which signals are recovered",
    claim="Without noise the end state of a small start recovers a sparse signal above the line of basis pursuit, with "
    "mse ~ kappa^(2a); the exponent a grows from zero on the line to one at density zero.",
    sources=("NI25v2",),
    quick={
        "points": 60,
        "deltas": (0.2, 0.4, 0.6, 0.8),
        "densities": (0.05, 0.2, 0.4, 0.6),
        "d": 120,
        "runs": 3,
        "kappa": 1e-10,
        "margin": 0.08,
    },
    full={
        "points": 200,
        "deltas": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        "densities": (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
        "d": 400,
        "runs": 8,
        "kappa": 1e-12,
        "margin": 0.04,
    },
    draw=draw,
)
