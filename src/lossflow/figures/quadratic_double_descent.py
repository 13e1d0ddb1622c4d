"""Quadratic networks with label noise: the peak of the error at the interpolation threshold, and its shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from lossflow.end_states import learning_curve, stationary
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.figures.quadratic_learning_curves import Point, bias, draw_points, measured
from lossflow.plot import COLORS
from lossflow.problems.quadratic import QuadraticNetwork
from lossflow.spectral.thresholds import interpolation

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

KAPPA, KAPPA_STAR = 0.4, 0.3
NOISES = (0.1, 0.25, 0.5, 1.0)  # at weight decay 0.01
DECAYS = (0.1, 0.01, 0.001, 2e-4)  # at noise 1
CUSP = 122.0  # coefficient of the square root, docs/theory/quadratic.md section 5


def draw(d: int, runs: int, alphas: tuple[float, ...]) -> Outcome:
    """d, runs: of the experiments at noise 1 and weight decay 0.01, at each of alphas."""
    grid = np.concatenate([np.linspace(0.05, 0.26, 60), np.linspace(0.262, 0.32, 90), np.linspace(0.325, 0.7, 50)])
    noisy = {noise: _mse(grid, noise, 0.01) for noise in NOISES}
    decayed = {decay: _mse(grid, 1.0, decay) for decay in DECAYS} | {"0+": _mse(grid, 1.0, "0+")}
    points = [
        measured(QuadraticNetwork(alpha, KAPPA, KAPPA_STAR, 1.0, 0.01), d, runs, seed)
        for seed, alpha in enumerate(alphas)
    ]
    verdicts = [
        bias("mse, Delta = 1, lambda = 0.01", "mse", points, d),
        bias("loss, Delta = 1, lambda = 0.01", "loss", points, d),
        _peak(),
        *_cusp(),
        _single_valued(),
    ]
    words = (
        "Squared error of the end state against alpha at kappa = 0.4, kappa* = 0.3. Left: four variances of the label noise at "
        f"weight decay 0.01; points are {runs} runs of L-BFGS at d = {d}, noise 1. Middle: noise 1, weight decay from 0.1 down "
        "to its limit (black). The error peaks at the end of interpolation (dashed vertical line), as a cusp in the limit: a "
        "square root from below, a straight line above. Right: q and the error along the limit's curve against xi, of which "
        "neither is a function: the curve turns at the threshold."
    )
    canvas = _canvas(grid, noisy, decayed, points)
    return Outcome((Picture("curves", canvas, words),), tuple(verdicts))


def _mse(alphas: np.ndarray, noise: float, decay: float | str) -> np.ndarray:
    problem = QuadraticNetwork(1.0, KAPPA, KAPPA_STAR, noise, decay)  # type: ignore[arg-type]
    return learning_curve(problem, "alpha", alphas)["mse"].to_numpy()


def _peak() -> Verdict:
    """The peak moves to the threshold and reaches its height as weight decay vanishes."""
    threshold = interpolation(KAPPA, KAPPA_STAR, 1.0)
    places, heights = [], []
    for decay in (1e-3, 2e-4, 1e-5, 1e-6):
        alphas = np.linspace(threshold.alpha - 0.03, threshold.alpha + 0.03, 241)
        mse = _mse(alphas, 1.0, decay)
        places.append(float(alphas[np.argmax(mse)]) - threshold.alpha)
        heights.append(float(mse.max()) / threshold.mse)
    gaps = [1 - height for height in heights]
    agree = abs(places[-1]) < 5e-4 and all(b < a for a, b in pairwise(gaps)) and gaps[-1] < 0.05
    sentence = (
        f"alpha_inter = {threshold.alpha:.6f}; at lambda = 1e-3, 2e-4, 1e-5, 1e-6 the peak is off by "
        f"{', '.join(f'{place:+.4f}' for place in places)} and has {', '.join(f'{height:.3f}' for height in heights)} of it"
    )
    return Verdict("peak at vanishing weight decay", gaps[-1], None, None, agree, sentence)


def _cusp() -> list[Verdict]:
    """Exponents on both sides of the threshold, from two distances each."""
    threshold = interpolation(KAPPA, KAPPA_STAR, 1.0)
    gaps = (1e-6, 1e-8)
    drops = {
        side: [
            threshold.mse
            - stationary(QuadraticNetwork(threshold.alpha + side * gap, KAPPA, KAPPA_STAR, 1.0, "0+")).values["mse"]
            for gap in gaps
        ]
        for side in (-1, 1)
    }
    exponents = {side: math.log(drop[0] / drop[1]) / math.log(gaps[0] / gaps[1]) for side, drop in drops.items()}
    coefficient = drops[-1][1] / math.sqrt(gaps[1])
    return [
        Verdict(
            "cusp, below the threshold",
            abs(coefficient / CUSP - 1),
            None,
            None,
            abs(exponents[-1] - 0.5) < 0.01 and abs(coefficient / CUSP - 1) < 0.01,
            f"mse_inter - mse = {coefficient:.1f} (alpha_inter - alpha)^{exponents[-1]:.4f}; note: {CUSP:.0f}, 1/2",
        ),
        Verdict(
            "cusp, above the threshold",
            abs(exponents[1] - 1),
            None,
            None,
            abs(exponents[1] - 1) < 0.01,
            f"mse_inter - mse falls as the power {exponents[1]:.4f} of the distance; predicted is 1",
        ),
    ]


def _single_valued() -> Verdict:
    """One state at each alpha, although q and the error are no functions of xi."""
    curve = learning_curve(QuadraticNetwork(1.0, KAPPA, KAPPA_STAR, 1.0, "0+"), "alpha", np.linspace(0.05, 0.7, 130))
    most = int(curve["states"].max())
    turns = int(np.sum(np.diff(np.sign(np.diff(curve["xi"].to_numpy()))) != 0))
    agree = most == 1 and turns >= 1
    sentence = f"at most {most} end state at each of 130 alpha, while xi(alpha) turns {turns} times"
    return Verdict("one state for each alpha", None, None, None, agree, sentence)


def _canvas(
    grid: np.ndarray,
    noisy: Mapping[float, np.ndarray],
    decayed: Mapping[float | str, np.ndarray],
    points: list[Point],
) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(11.0, 3.8), layout="constrained")
    left, middle, right = canvas.subplots(1, 3)
    for j, (noise, mse) in enumerate(noisy.items()):
        left.plot(grid, mse, color=COLORS[j], label=rf"$\Delta = {noise:g}$")
        left.axvline(interpolation(KAPPA, KAPPA_STAR, noise).alpha, color=COLORS[j], ls="--", lw=0.8)
    draw_points(left, points, "mse", len(noisy) - 1)
    for j, (decay, mse) in enumerate(decayed.items()):
        color = "black" if decay == "0+" else COLORS[j]
        label = r"$\lambda \to 0^+$" if decay == "0+" else rf"$\lambda = {decay:g}$"
        middle.plot(grid, mse, color=color, label=label)
    middle.axvline(interpolation(KAPPA, KAPPA_STAR, 1.0).alpha, color="black", ls="--", lw=0.8)
    for axes, title in ((left, r"$\lambda = 0.01$"), (middle, r"$\Delta = 1$")):
        axes.set(xlabel=r"$\alpha = n/d^2$", ylabel=r"squared error $|Z - Z^*|^2/d$", yscale="log", title=title)
        axes.legend()
    curve = learning_curve(QuadraticNetwork(1.0, KAPPA, KAPPA_STAR, 1.0, "0+"), "alpha", grid)
    right.plot(curve["xi"], curve["mse"], color=COLORS[0], label="squared error")
    right.plot(curve["xi"], 1 + curve["q"], color=COLORS[1], ls="--", label="$1 + q$")
    right.set(xlabel=r"$\xi$", xscale="log", yscale="log", title=r"$\lambda \to 0^+,\ \Delta = 1$, along the curve")
    right.legend()
    return canvas


FIGURE = Figure(
    name="quadratic-double-descent",
    title="Quadratic networks: double descent at the interpolation threshold",
    claim="With label noise and vanishing weight decay the error peaks at alpha_inter, where interpolation ends, as an "
    "asymmetric cusp: a square root below and a line above.",
    sources=("MBB26v2",),
    quick={"d": 40, "runs": 4, "alphas": (0.15, 0.4, 0.6)},
    full={"d": 100, "runs": 16, "alphas": (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6)},
    draw=draw,
)
