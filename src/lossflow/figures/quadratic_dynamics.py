"""Quadratic networks: error and loss over time by mean field, gradient descent, all samples, and the exact short-time series."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.dynamics import GradientDescent
from lossflow.expansion.method import Series
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.meanfield.method import MeanField
from lossflow.method import solve
from lossflow.plot import COLORS, MARKERS, POINTS
from lossflow.problems.quadratic import QuadraticNetwork
from lossflow.simulate.method import Simulation
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    Array = npt.NDArray[np.float64]

NOISES = (0.25, 0.5)
STEP = 0.02
COMPARED = (0.02, 0.1, 0.4, 1.0, 2.0)  # times of the pairs
OBSERVABLES = {"mse": "squared error $|Z - Z^*|^2/d$", "loss": "training loss"}
FINITE = 2.0  # in 1/d: what a run at finite size may differ from the limit of all samples, relative
AT_SHORT_TIMES = 0.4  # in 1/d: the same for mean field and series, up to the last time that is compared


class Roads(NamedTuple):
    """Of one noise: mean field and descent in pairs, and all samples, on one grid; and three roads of the flow at short times."""

    theory: Trajectory
    experiment: Trajectory
    population: Trajectory
    series: Trajectory
    short_theory: Trajectory
    short_experiment: Trajectory


def draw(d: int, pairs: int, short_d: int, short_runs: int, order: int, short_time: float) -> Outcome:
    """d, pairs: of mean field and descent, run by run with the same teacher and start; short_d, short_runs, order: of the
    series and what it is compared with, up to short_time."""
    found = {noise: _roads(noise, d, pairs, short_d, short_runs, order, short_time) for noise in NOISES}
    verdicts = []
    for noise, roads in found.items():
        verdicts += [_paired(noise, name, roads) for name in OBSERVABLES]
        verdicts += _short(noise, roads)
    verdicts.append(_all_samples(found[NOISES[0]].population, d, pairs))
    words = (
        f"Left and middle: squared error and training loss over time (both axes logarithmic, from the second step on) at kappa = "
        f"0.4, kappa* = 0.3, alpha = 0.3, lambda = 0.01 and noise {' and '.join(f'{noise:g}' for noise in NOISES)}. Full lines: "
        f"the matrix mean field at d = {d}, mean of {pairs} passes; points: gradient descent with step {STEP:g} and the same "
        "teachers and starts. Dashed: the population flow, all samples at once, in closed form: with few samples the error stays "
        "behind, while the loss falls below that of all samples, since noise is fitted. Right: the "
        f"training loss of the gradient flow at short times and d = {short_d}: its exact power series of order {order} with the "
        f"error of truncation (band), mean field, and {short_runs} runs, what these owe to their starts taken out."
    )
    return Outcome((Picture("curves", _canvas(found), words),), tuple(verdicts))


def _roads(noise: float, d: int, pairs: int, short_d: int, short_runs: int, order: int, short_time: float) -> Roads:
    network = QuadraticNetwork(0.3, 0.4, 0.3, noise, 0.01)
    descent = GradientDescent(STEP)
    times = descent.times(round(COMPARED[-1] / STEP))
    all_samples = replace(network, alpha=math.inf)
    short = np.linspace(0, short_time, 6)
    return Roads(
        solve(network, MeanField(dimension=d, randomizations=pairs), times, descent),
        solve(network, Simulation({"d": d}, runs=pairs), times, descent),
        solve(all_samples, MeanField(), times),
        solve(network, Series({"d": short_d}, order), np.linspace(0, 2 * short_time, 21)),
        solve(network, MeanField(dimension=short_d, randomizations=16), short),
        solve(network, Simulation({"d": short_d}, runs=short_runs), short),
    )


def _paired(noise: float, name: str, roads: Roads) -> Verdict:
    """The mean over pairs of the relative difference is within three of its standard errors at all compared times."""
    at = [round(t / STEP) for t in COMPARED]
    ratio = roads.theory.details["randomizations"][name][:, at] / roads.experiment.details["runs"][name][:, at] - 1
    mean, error = ratio.mean(axis=0), ratio.std(axis=0, ddof=1) / math.sqrt(len(ratio))
    deviation = float((np.abs(mean) / error).max())
    told = ", ".join(
        f"{100 * m:+.1f} +- {100 * e:.1f} % at t = {t:g}" for m, e, t in zip(mean, error, COMPARED, strict=True)
    )
    sentence = f"mean field over descent, mean of {len(ratio)} pairs: {told}"
    span = (COMPARED[0], COMPARED[-1])
    return Verdict(f"{name}, noise {noise:g}", float(np.abs(mean).max()), deviation, span, deviation <= 3, sentence)


def _short(noise: float, roads: Roads) -> list[Verdict]:
    """Mean field and experiment against the series, at the times of the short grid; mean field is the limit d -> inf."""
    verdicts = []
    series, d = roads.series, roads.short_experiment.method.known_sizes["d"]
    several = {
        "runs": (roads.short_experiment, "runs", 0.0),
        "mean field": (roads.short_theory, "randomizations", AT_SHORT_TIMES / d),
    }
    for name in OBSERVABLES:
        for road, (found, kept, finite) in several.items():
            times = found.times[1:]
            places = [int(np.argmin(np.abs(series.times - t))) for t in times]
            expected, truncation = series.values[name][places], series.uncertainty[name][places]
            start = found.details[kept][name][:, 0] - series.values[name][0]
            mean, error = regressed(found.details[kept][name][:, 1:], start)
            gap, combined = np.abs(mean - expected), np.hypot(error, truncation)
            relative, deviation = float((gap / expected).max()), float((gap / combined).max())
            agree = bool((gap <= 3 * combined + finite * expected).all())
            what = "runs" if finite == 0 else "passes of mean field"
            sentence = (
                f"series and {len(start)} {what}, what they owe to their starts taken out, differ by at most "
                f"{100 * relative:.2f} % up to t = {times[-1]:g}, {deviation:.1f} combined errors of up to "
                f"{100 * float((combined / expected).max()):.2f} %"
                + (f"; {100 * finite:.1f} % of finite size are allowed beside" if finite else "")
            )
            span = (float(times[0]), float(times[-1]))
            verdicts.append(
                Verdict(f"{name}, series and {road}, noise {noise:g}", relative, deviation, span, agree, sentence)
            )
    return verdicts


def regressed(rows: Array, start: Array) -> tuple[Array, Array]:
    """Mean and standard error of the rows, (runs, times), after what is linear in the deviation of their start is taken out.

    start: of each run, a quantity whose exact mean is zero. Part of the scatter of short times is that of the start.
    """
    centered = start - start.mean()
    slope = centered @ rows / (centered @ centered)
    mean = rows.mean(axis=0) - slope * start.mean()
    left = rows - rows.mean(axis=0) - np.outer(centered, slope)
    n = len(rows)
    # the slope is known as well as the runs tell it
    error = np.sqrt(np.sum(left**2, axis=0) / (n - 2) * (1 / n + start.mean() ** 2 / (centered @ centered)))
    return mean, error


def _all_samples(population: Trajectory, d: int, runs: int) -> Verdict:
    """Runs of the population flow at finite size against its average in closed form."""
    places = [round(t / STEP) for t in COMPARED]
    times = population.times[places]
    experiment = solve(population.problem, Simulation({"d": d}, runs=runs, tolerance=1e-6), times)
    expected, mean = population.values["mse"][places], experiment.values["mse"]
    error = experiment.uncertainty["mse"]
    relative = float(np.abs(mean / expected - 1).max())
    agree = bool((np.abs(mean - expected) <= 3 * error + FINITE / d * expected).all())
    deviation = float((np.abs(mean - expected) / error).max())
    sentence = (
        f"{runs} runs with all samples at d = {d} differ from the closed form by at most {100 * relative:.1f} %, {deviation:.1f} "
        f"standard errors; {100 * FINITE / d:.1f} % of finite size are allowed beside three of them"
    )
    return Verdict("population flow", relative, deviation, (COMPARED[0], COMPARED[-1]), agree, sentence)


def _canvas(found: Mapping[float, Roads]) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(11.0, 3.8), layout="constrained")
    left, middle, right = canvas.subplots(1, 3)
    for axes, name in zip((left, middle), OBSERVABLES, strict=True):
        for j, (noise, roads) in enumerate(found.items()):
            _draw(axes, name, roads, j, rf"$\Delta = {noise:g}$")
        axes.set(xscale="log", yscale="log", xlabel="time $t$", ylabel=OBSERVABLES[name])
    left.set_title("squared error")
    middle.set_title("training loss")
    for j, roads in enumerate(found.values()):
        _draw_short(right, roads, j)
    right.set(xlabel="time $t$", ylabel="training loss", title="gradient flow at short times")
    left.legend(fontsize=7)
    right.legend(fontsize=7)
    return canvas


def _draw(axes: Axes, name: str, roads: Roads, j: int, label: str) -> None:
    times = roads.theory.times
    seen = _spread(len(times))
    experiment = roads.experiment
    axes.plot(times[1:], roads.theory.details["randomizations"][name].mean(axis=0)[1:], color=COLORS[j], label=label)
    axes.errorbar(
        times[seen],
        experiment.values[name][seen],
        experiment.uncertainty[name][seen],
        fmt=MARKERS[j],
        color=COLORS[j],
        **POINTS,
    )
    if name == "loss" or j == 0:
        all_samples = "all samples" if name == "mse" else None
        color = COLORS[6] if name == "mse" else COLORS[j]
        axes.plot(times[1:], roads.population.values[name][1:], "--", color=color, lw=1.0, label=all_samples)


def _draw_short(axes: Axes, roads: Roads, j: int) -> None:
    series = roads.series
    value, error = series.values["loss"], series.uncertainty["loss"]
    axes.plot(series.times, value, color=COLORS[j], label="series" if j == 0 else None)
    axes.fill_between(series.times, value - error, value + error, color=COLORS[j], alpha=0.18, lw=0)
    several = {
        "mean field": (roads.short_theory, "randomizations", "x"),
        "runs": (roads.short_experiment, "runs", MARKERS[j]),
    }
    for name, (found, kept, marker) in several.items():
        start = found.details[kept]["loss"][:, 0] - series.values["loss"][0]
        mean, errors = regressed(found.details[kept]["loss"], start)
        label = name if j == 0 else None
        axes.errorbar(found.times, mean, errors, fmt=marker, color=COLORS[j], label=label, **POINTS)
    axes.set_ylim(0.97 * float((value - error)[: len(value) // 2 + 1].min()), 1.02 * float(value[0]))


def _spread(count: int) -> Sequence[int]:
    """Some ten places, evenly in the logarithm of the time, from the first step on."""
    return sorted({round(k) for k in np.geomspace(1, count - 1, 10)})


FIGURE = Figure(
    name="quadratic-dynamics",
    title="Quadratic networks: learning over time",
    claim="The matrix mean field follows gradient descent with the same teacher and start within its sampling error, with few "
    "noisy samples far from the population flow; at short times both meet the exact power series of the flow.",
    sources=("MBB26v2",),
    quick={"d": 40, "pairs": 8, "short_d": 20, "short_runs": 64, "order": 2, "short_time": 0.004},
    full={"d": 120, "pairs": 24, "short_d": 40, "short_runs": 128, "order": 4, "short_time": 0.008},
    draw=draw,
)
