"""Grokking of a diagonal network: a large start under weight decay, the quasi-static law, and LASSO at the end."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lossflow.end_states import stationary
from lossflow.figures.diagonal_curves import Extrapolated, experiment, merged, verdict
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.meanfield.diagonal_timescales import QuasiStatic, grokking_time, quasi_static
from lossflow.meanfield.method import MeanField
from lossflow.method import solve
from lossflow.plot import COLORS, MARKERS
from lossflow.problems.diagonal import DiagonalLinear, SymmetricInit
from lossflow.problems.priors import RademacherSparse
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    from matplotlib.figure import Figure as Canvas

    Array = npt.NDArray[np.float64]

SIGMAS = 3.0  # standard errors that a gap may have on top of what the law leaves out
FITTED = 10.0  # of 1/(2 kappa_0), after which the first fit is over
SLOWER = 10.0  # times weight decay: the least rate of relaxation at which the law is claimed
UNSURE = 0.5  # of what is left at the end: its error
LOWEST = 1e-10  # loss that is drawn: what the quick grid resolves on the plateau
MISSED = 0.2  # of 1/(2 lambda), in which kappa falls by e: how far half-way may be from the law
LEFT_OUT = 2.0  # times weight decay: the relative correction of the law, O(lambda), measured at lambda = 0.01


def draw(
    kappa: float,
    decay: float,
    last: float,
    points: int,
    d: int,
    runs: int,
    paths: int,
    resolution: int | None,
    randomizations: int,
) -> Outcome:
    """kappa: of the start; decay: of weights; last: time; points, d, runs: of the experiments; the rest: of the theory."""
    problem = DiagonalLinear(0.5, RademacherSparse(0.1), 0.01, SymmetricInit(math.sqrt(kappa)), decay)
    times = np.geomspace(0.1 / kappa, last, points)
    theory = solve(
        problem, MeanField(paths, resolution, randomizations), merged(times, np.geomspace(0.1 / kappa, last, 120))
    )
    law = quasi_static(problem, theory.times)
    lasso = stationary(problem).values
    found = experiment(problem, times, d, runs)
    verdicts = (
        _law(theory, law, kappa, decay),
        _end(theory, lasso["mse"]),
        _delay(problem, theory, law, lasso["mse"], decay),
        verdict("loss, experiment", theory, found, "loss"),
        verdict("squared error, experiment", theory, found, "mse"),
    )
    words = (
        f"Training loss and squared error of a diagonal network that starts at kappa = {kappa:g} under weight decay {decay:g}; "
        f"delta = 0.5, density 0.1, noise 0.1. Lines with bands: the mean field; points: {runs} runs at d = {d} and {2 * d}, "
        "extrapolated. The loss falls at once, as in a linear model, the error much later, when weight decay has brought "
        "kappa_t = kappa_0 exp(-2 lambda t) down to the size of the coefficients. Dashed: the error of the interpolator "
        "that belongs to kappa_t (quasi-static law; ours and unproved), where relaxation outruns weight decay; dotted: LASSO."
    )
    return Outcome((Picture("grokking", _canvas(theory, law, lasso, found, decay), words),), verdicts)


def _law(theory: Trajectory, law: QuasiStatic, kappa: float, decay: float) -> Verdict:
    mse, error = theory.values["mse"], theory.uncertainty["mse"]
    used = (theory.times > FITTED / (2 * kappa)) & (law.rate > SLOWER * decay) & np.isfinite(mse)
    gaps = np.abs(mse / law.mse - 1)[used]
    allowed = LEFT_OUT * decay + SIGMAS * (error / law.mse)[used]
    agree = bool(used.any()) and bool((gaps <= allowed).all())
    ends = (float(theory.times[used].min()), float(theory.times[used].max()))
    reach = float(law.mse[used].max()), float(law.mse[used].min())
    sentence = (
        f"the quasi-static law holds to {100 * gaps.max():.1f}% ({100 * LEFT_OUT * decay:.0f}% and {SIGMAS:g} standard errors "
        f"allowed) while the error falls from {reach[0]:.3f} to {reach[1]:.3f}, t = {ends[0]:.3g} to {ends[1]:.3g}, as long as "
        f"the rate of relaxation is {SLOWER:g} times weight decay"
    )
    return Verdict("quasi-static law", float(gaps.max()), float((gaps / allowed).max()) * SIGMAS, ends, agree, sentence)


def _end(theory: Trajectory, lasso: float) -> Verdict:
    """The error tends to that of LASSO as t^-2: what is left is a third of what the last doubling of time changed."""
    times, mse = theory.times, theory.values["mse"]
    known = np.isfinite(mse)
    last = float(mse[known][-1])
    half = float(np.exp(np.interp(math.log(times[known][-1] / 2), np.log(times[known]), np.log(mse[known]))))
    left = (half - last) / 3
    error = math.hypot(UNSURE * left, float(theory.uncertainty["mse"][known][-1]))
    gap, deviation = abs((last - left) / lasso - 1), abs(last - left - lasso) / error
    sentence = (
        f"at t = {times[known][-1]:g} the error is {last:.5f} and still falls as t^-2 to {last - left:.5f} +- {error:.5f}, LASSO "
        f"has {lasso:.5f}: {deviation:.1f} standard errors"
    )
    return Verdict("LASSO at the end", gap, deviation, None, bool(deviation <= SIGMAS), sentence)


def _delay(problem: DiagonalLinear, theory: Trajectory, law: QuasiStatic, lasso: float, decay: float) -> Verdict:
    """Times at which loss (on a logarithmic scale) and error have gone half of their way, and the latter by the law."""
    known = np.isfinite(theory.values["mse"])
    times = np.log(theory.times[known])
    loss, mse = np.log(np.maximum(theory.values["loss"][known], LOWEST)), theory.values["mse"][known]
    fitted = math.exp(times[np.argmax(loss < (loss[0] + loss[-1]) / 2)])
    late = (times > math.log(10 * fitted)) & (law.rate[known] > decay)
    level = (float(mse[late][0]) + lasso) / 2
    grokked, expected = (
        math.exp(np.interp(-level, -np.minimum.accumulate(curve), times[late]))
        for curve in (mse[late], law.mse[known][late])
    )
    scale = problem.init.kappa * math.exp(-2 * decay * grokked)
    agree = abs(grokked - expected) <= MISSED / (2 * decay) and grokked > 100 * fitted
    sentence = (
        f"the loss has gone half of its way at t = {fitted:.3g}, the error at {grokked:.4g}, {grokked / fitted:.0f} times later, "
        f"by the law at {expected:.4g}; that is log(kappa_0/kappa_c)/(2 lambda) with kappa_c = {scale:.2g} (rms "
        f"beta* gives {grokking_time(problem).time:.4g})"
    )
    return Verdict("delay", abs(grokked / expected - 1), None, (fitted, grokked), agree, sentence)


def _canvas(
    theory: Trajectory, law: QuasiStatic, lasso: Mapping[str, float], found: Extrapolated, decay: float
) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(9.0, 3.6), layout="constrained")
    left, right = canvas.subplots(1, 2)
    times = theory.times
    for axes, name, color, marker in ((left, "loss", COLORS[0], MARKERS[0]), (right, "mse", COLORS[1], MARKERS[1])):
        values, error = theory.values[name], theory.uncertainty[name]
        axes.plot(times, values, color=color, label="mean field")
        axes.fill_between(times, values - error, values + error, color=color, alpha=0.18, lw=0)
        found.draw(axes, name, color, marker, "experiment, extrapolated")
        axes.axhline(lasso[name], ls=":", color="black", lw=1.2, label="LASSO")
        axes.set(xscale="log", yscale="log", xlabel="time $t$")
    shown = law.rate > decay
    right.plot(times[shown], law.mse[shown], "--", color="black", lw=1.2, label="quasi-static law")
    left.set_ylabel("training loss")
    left.set_ylim(bottom=LOWEST)
    right.set_ylabel("squared error")
    right.legend(loc="lower left")
    return canvas


FIGURE = Figure(
    name="diagonal-grokking",
    title="Diagonal linear networks: grokking",
    claim="A large start under small weight decay fits at once and generalizes much later, at t = log(kappa_0/kappa_c)/(2 "
    "lambda); in between it follows the interpolators of kappa_0 exp(-2 lambda t), and it ends at LASSO.",
    sources=("NI25v2",),
    quick={
        "kappa": 100.0,
        "decay": 0.01,
        "last": 3000.0,
        "points": 10,
        "d": 50,
        "runs": 12,
        "paths": 512,
        "resolution": 96,
        "randomizations": 4,
    },
    full={
        "kappa": 100.0,
        "decay": 0.01,
        "last": 3000.0,
        "points": 16,
        "d": 500,
        "runs": 16,
        "paths": 8192,
        "resolution": None,
        "randomizations": 8,
    },
    draw=draw,
)
