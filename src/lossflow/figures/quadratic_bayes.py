"""Quadratic networks against the best estimator: the end state at its best weight decay, and the convex problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lossflow.end_states import stationary
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.figures.quadratic_learning_curves import Point, bias, draw_points, measured
from lossflow.plot import COLORS
from lossflow.problems.quadratic import QuadraticNetwork
from lossflow.progress import progress
from lossflow.spectral.bayes import bayes_optimal
from lossflow.spectral.long_time import end_states
from lossflow.spectral.nuclear_norm import nuclear_norm

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

KAPPA_STAR = 0.3
WIDTHS = (0.35, 1.0)
NOISES = (0.0, 0.5)
DECAYS = np.geomspace(1e-4, 3.0, 31)


def draw(points: int, measured_alphas: tuple[float, ...], d: int, runs: int) -> Outcome:
    """points: of every curve in alpha; measured_alphas, d, runs: of the experiments at noise 0.5 and full width."""
    alphas = np.linspace(0.05, 0.8, points)
    best: dict[tuple[float, float], list[tuple[float, float]]] = {}
    optimal: dict[float, list[float]] = {}
    with progress(points * len(NOISES), "Bayes-optimal errors") as bar:
        for noise in NOISES:
            for kappa in WIDTHS:
                best[noise, kappa] = _best([QuadraticNetwork(float(a), kappa, KAPPA_STAR, noise) for a in alphas])
            optimal[noise] = []
            for a in alphas:
                optimal[noise].append(bayes_optimal(QuadraticNetwork(float(a), 1.0, KAPPA_STAR, noise)).values["mse"])
                bar.update(1)
    experiments = []
    for seed, alpha in enumerate(measured_alphas):
        network = QuadraticNetwork(alpha, 1.0, KAPPA_STAR, 0.5)
        experiments.append(measured(replace(network, weight_decay=_best([network])[0][0]), d, runs, seed))
    verdicts = [
        *(_never_beaten(noise, kappa, best[noise, kappa], optimal[noise]) for noise in NOISES for kappa in WIDTHS),
        bias("mse at the best weight decay, Delta = 0.5", "mse", experiments, d),
        _convex(),
    ]
    words = (
        "Left and middle: squared error against alpha = n/d^2 without and with label noise, for a teacher of width 0.3: end "
        "states at the weight decay that is best for each alpha, at width 0.35 and at full width (the convex problem), "
        f"and the Bayes-optimal error below both. Points: {runs} runs of L-BFGS at full width, d = {d}. Right: the best weight "
        "decay with noise; without noise it is the smallest of the grid from the threshold of recovery on."
    )
    canvas = _canvas(alphas, best, optimal, experiments)
    return Outcome((Picture("curves", canvas, words),), tuple(verdicts))


def _best(networks: Sequence[QuadraticNetwork]) -> list[tuple[float, float]]:
    """For each network the weight decay of smallest error and that error, on a grid refined once."""
    mse = _errors(networks, [DECAYS] * len(networks))
    nearest = [int(np.argmin(row)) for row in mse]
    fine = [np.geomspace(DECAYS[max(j - 1, 0)], DECAYS[min(j + 1, len(DECAYS) - 1)], 17) for j in nearest]
    mse = _errors(networks, fine)
    return [(float(decays[np.argmin(row)]), float(row.min())) for decays, row in zip(fine, mse, strict=True)]


def _errors(networks: Sequence[QuadraticNetwork], decays: Sequence[np.ndarray]) -> np.ndarray:
    """mse, one row for each network, one column for each weight decay."""
    all_of_them = [
        replace(network, weight_decay=float(decay))
        for network, row in zip(networks, decays, strict=True)
        for decay in row
    ]
    return end_states(all_of_them).values["mse"].reshape(len(networks), -1)


def _never_beaten(noise: float, kappa: float, best: Sequence[tuple[float, float]], optimal: Sequence[float]) -> Verdict:
    """The Bayes-optimal error is below that of every weight decay."""
    pairs = [(mse, bayes) for (_, mse), bayes in zip(best, optimal, strict=True)]
    agree = all(bayes <= mse * (1 + 1e-12) for mse, bayes in pairs)
    ratios = [mse / bayes for mse, bayes in pairs if bayes > 0]
    sentence = f"the best weight decay costs {min(ratios):.3f} to {max(ratios):.3f} times the Bayes-optimal error, where not zero"
    return Verdict(f"Bayes below, Delta = {noise:g}, kappa = {kappa:g}", None, None, None, agree, sentence)


def _convex() -> Verdict:
    """From the rank of the convex solution on, every width ends in it."""
    gaps = []
    for alpha, noise, decay in [(0.2, 0.5, 0.3), (0.4, 0.5, 0.1), (0.4, 0.0, 0.05)]:
        convex = nuclear_norm(QuadraticNetwork(alpha, 0.35, KAPPA_STAR, noise, decay))
        for kappa in (convex.values["rank"] * 1.0001, 0.9, 1.5):
            state = stationary(QuadraticNetwork(alpha, kappa, KAPPA_STAR, noise, decay))
            gaps.append(abs(state.values["mse"] / convex.values["mse"] - 1))
    sentence = f"nine networks wider than the rank of the convex solution end in it, within {max(gaps):.0e}"
    return Verdict("the nuclear-norm point", max(gaps), None, None, max(gaps) < 1e-12, sentence)


def _canvas(
    alphas: np.ndarray,
    best: Mapping[tuple[float, float], Sequence[tuple[float, float]]],
    optimal: Mapping[float, Sequence[float]],
    experiments: Sequence[Point],
) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(11.0, 3.8), layout="constrained")
    *panels, right = canvas.subplots(1, 3)
    for axes, noise in zip(panels, NOISES, strict=True):
        for j, kappa in enumerate(WIDTHS):
            label = rf"best $\lambda$, $\kappa = {kappa:g}$"
            axes.plot(alphas, [mse for _, mse in best[noise, kappa]], color=COLORS[j], label=label)
        shown = np.array([value if value > 0 else np.nan for value in optimal[noise]])
        axes.plot(alphas, shown, "--", color=COLORS[6], label="Bayes-optimal")
        axes.set(xlabel=r"$\alpha = n/d^2$", ylabel="squared error", yscale="log", title=rf"$\Delta = {noise:g}$")
        axes.legend()
    draw_points(panels[1], experiments, "mse", 1)
    for j, kappa in enumerate(WIDTHS):
        decays = [decay for decay, _ in best[0.5, kappa]]
        right.plot(alphas, decays, color=COLORS[j], label=rf"$\Delta = 0.5,\ \kappa = {kappa:g}$")
    right.set(xlabel=r"$\alpha$", ylabel=r"best $\lambda$", yscale="log", title="best weight decay")
    right.legend()
    return canvas


FIGURE = Figure(
    name="quadratic-bayes",
    title="Quadratic networks against the Bayes-optimal error",
    claim="The best weight decay does not reach the Bayes-optimal error, and a network wider than the rank of its end state "
    "solves the convex nuclear-norm problem.",
    sources=("MBB26v2",),
    quick={"points": 16, "measured_alphas": (0.2, 0.5), "d": 40, "runs": 4},
    full={"points": 60, "measured_alphas": (0.1, 0.2, 0.3, 0.5), "d": 100, "runs": 16},
    draw=draw,
)
