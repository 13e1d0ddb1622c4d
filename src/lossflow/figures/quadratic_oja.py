"""Quadratic networks with unlimited samples: the population flow, and the power laws with which it ends."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.keys import generator
from lossflow.laws.population_flow import population_flow
from lossflow.laws.semicircle import density as semicircle
from lossflow.laws.semicircle import quantile_above
from lossflow.plot import COLORS, MARKERS, POINTS
from lossflow.spectral.riccati import late_distance, late_distance_bound, oja

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure as Canvas

    Array = npt.NDArray[np.float64]

K, DECAY = 0.3, 2.0  # teacher and weight decay of the averaged flow: A = Z* - 2 has density at zero
WIDTHS = (0.4, 0.1)  # above the mass of positive eigenvalues of A, and below
SEMICIRCLE_WIDTHS = (0.8, 0.2)
MEASURED = (7.0, 25.0)  # times of the source: beyond them too few eigenvalues are within 1/t of zero at d = 400
CURVED = 0.06  # of a slope: what is left of order 1/t^2


def draw(d: int, runs: int, last_time: float) -> Outcome:
    """d, runs: of the flows at finite size; last_time: of the averages, in the clock of the library."""
    times = np.geomspace(0.02, last_time, 60)
    averages = {kappa: population_flow(kappa, K, DECAY, 1.0, times) for kappa in WIDTHS}
    sampled_times = np.geomspace(0.02, 3.0, 8)
    sampled = {kappa: _sampled(kappa, d, runs, sampled_times) for kappa in WIDTHS}
    laws = {WIDTHS[0]: _wide_law(times), WIDTHS[1]: _cut_law(times)}
    clock = np.geomspace(2.0, 40.0, 12)
    semicircles = {kappa: _semicircle(kappa, d, runs, clock) for kappa in SEMICIRCLE_WIDTHS}
    verdicts = [_follows(kappa, sampled[kappa], sampled_times, runs) for kappa in WIDTHS]
    verdicts += [
        _power("t^-3, the width covers A > 0", averages[WIDTHS[0]]["distance"], laws[WIDTHS[0]], times, -3.0),
        _power("t^-1, the width cuts A", averages[WIDTHS[1]]["distance"], laws[WIDTHS[1]], times, -1.0),
        *(_authors(kappa, semicircles[kappa], clock, d) for kappa in SEMICIRCLE_WIDTHS),
    ]
    words = (
        f"Left: squared error of the population flow at kappa* = {K:g}, weight decay {DECAY:g}, for a width above and one below "
        f"the number of eigenvalues that survive; lines: the average at d -> infinity, points: {runs} flows at d = {d}. "
        "Middle: distance to the end; it falls as t^-3 where the width covers all positive eigenvalues and as t^-1 "
        "where it cuts (dashed: prediction with its prefactor). Right: the same laws for a semicircle in the clock of the "
        "source, dW/dt = (A - W W^T) W."
    )
    canvas = _canvas(times, averages, laws, sampled_times, sampled, clock, semicircles)
    return Outcome((Picture("curves", canvas, words),), tuple(verdicts))


def _sampled(kappa: float, d: int, runs: int, times: Array) -> Array:
    """mse over time, one row for each run."""
    rows = []
    for run in range(runs):
        columns, m = round(K * d), round(kappa * d)
        factor = generator(0, run, "teacher").standard_normal((d, columns))
        teacher = factor @ factor.T / columns
        start = generator(0, run, "start").standard_normal((d, m)) / math.sqrt(m)
        flow = oja(teacher - DECAY * np.eye(d), start, times)
        rows.append([np.sum((z - teacher) ** 2) / d for z in flow])
    return np.array(rows)


def _semicircle(kappa: float, d: int, runs: int, times: Array) -> Array:
    """|Z(t) - Z(inf)|^2/d for a GOE A and the authors' clock, one row for each run."""
    rows = []
    for run in range(runs):
        noise = generator(1, run, "matrix").standard_normal((d, d))
        a, basis = np.linalg.eigh((noise + noise.T) / math.sqrt(2 * d))
        m = round(kappa * d)
        start = generator(1, run, "start").standard_normal((d, m)) / math.sqrt(m)
        end = (basis * np.where(np.arange(d) >= d - m, np.maximum(a, 0), 0)) @ basis.T
        flow = oja((basis * a) @ basis.T, start, times, speed=1.0)
        rows.append([np.sum((z - end) ** 2) / d for z in flow])
    return np.array(rows)


def _teacher_density(x: float) -> float:
    low, high = (1 - K**-0.5) ** 2, (1 + K**-0.5) ** 2
    return K / (2 * math.pi * x) * math.sqrt((x - low) * (high - x))


def _wide_law(times: Array) -> Array:
    return late_distance(_teacher_density(DECAY), times)


def _cut_law(times: Array) -> Array:
    from lossflow.laws.tails import quantile

    omega = quantile(WIDTHS[1], 0.0, K, 1.0)
    return late_distance_bound(_teacher_density(omega), omega - DECAY, times)


def _follows(kappa: float, sampled: Array, times: Array, runs: int) -> Verdict:
    """Flows at finite size on the average: within three standard errors and a few 1/d."""
    average = population_flow(kappa, K, DECAY, 1.0, times)["mse"]
    mean = sampled.mean(axis=0)
    errors = sampled.std(axis=0, ddof=1) / math.sqrt(runs)
    relative = float(np.abs(mean / average - 1).max())
    deviation = float((np.abs(mean - average) / errors).max())
    agree = bool((np.abs(mean - average) <= 4 * errors + 0.02 * average).all())
    sentence = f"{runs} flows differ from the average by at most {100 * relative:.1f}%, {deviation:.1f} standard errors"
    return Verdict(
        f"average, kappa = {kappa:g}", relative, deviation, (float(times[0]), float(times[-1])), agree, sentence
    )


def _power(curve: str, distance: Array, law: Array, times: Array, exponent: float) -> Verdict:
    late = times > times[-1] / 4
    slope = float(np.polyfit(np.log(times[late]), np.log(distance[late]), 1)[0])
    prefactor = float(distance[-1] / law[-1])
    agree = abs(slope - exponent) < 0.03 and abs(prefactor - 1) < 0.03
    sentence = f"the average falls as t^{slope:.4f} with {prefactor:.4f} of the predicted prefactor"
    return Verdict(curve, abs(prefactor - 1), None, (float(times[late][0]), float(times[-1])), agree, sentence)


def _authors(kappa: float, rows: Array, times: Array, d: int) -> Verdict:
    """distance = C (t + c)^-p:  t (C t^-p/distance)^(1/p) = t + c has the slope one, whatever the correction of order 1/t is."""
    power = 3 if kappa >= 0.5 else 1
    near = (times >= MEASURED[0]) & (times <= MEASURED[1])
    law = _semicircle_law(kappa, times)

    def line(some: Array) -> Array:
        return np.polyfit(times[near], (times * (law / some.mean(axis=0)) ** (1 / power))[near], 1)

    slope, ahead = line(rows)
    others = [line(np.delete(rows, run, axis=0))[0] for run in range(len(rows))]
    error = math.sqrt((len(rows) - 1) * float(np.var(others)))
    agree, root = abs(slope - 1) <= CURVED + 4 * error, "^(1/3)" if power == 3 else ""
    sentence = (
        f"from t = {times[near][0]:.3g} to {times[near][-1]:.3g}, d = {d}: t (prediction/distance){root} grows with slope "
        f"{slope:.3f} +- {error:.3f}, 1 is predicted, and is ahead of t by {ahead:.2f}, a correction of order 1/t"
    )
    return Verdict(f"semicircle, kappa = {kappa:g}", abs(slope - 1), None, MEASURED, bool(agree), sentence)


def _semicircle_law(kappa: float, times: Array) -> Array:
    if kappa >= 0.5:
        return late_distance(1 / math.pi, times, speed=1.0)
    omega = quantile_above(kappa)
    return late_distance_bound(semicircle(omega), omega, times, speed=1.0)


def _canvas(
    times: Array,
    averages: dict[float, dict[str, Array]],
    laws: dict[float, Array],
    sampled_times: Array,
    sampled: dict[float, Array],
    clock: Array,
    semicircles: dict[float, Array],
) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(11.0, 3.8), layout="constrained")
    left, middle, right = canvas.subplots(1, 3)
    for j, kappa in enumerate(WIDTHS):
        label = rf"$\kappa = {kappa:g}$"
        left.plot(times, averages[kappa]["mse"], color=COLORS[j], label=label)
        errors = sampled[kappa].std(axis=0, ddof=1) / math.sqrt(len(sampled[kappa]))
        left.errorbar(sampled_times, sampled[kappa].mean(axis=0), errors, fmt=MARKERS[j], color=COLORS[j], **POINTS)
        middle.plot(times, averages[kappa]["distance"], color=COLORS[j], label=label)
        shown = times > 1
        middle.plot(times[shown], laws[kappa][shown], "--", color=COLORS[6], lw=1.0)
    for j, kappa in enumerate(SEMICIRCLE_WIDTHS):
        rows = semicircles[kappa]
        errors = rows.std(axis=0, ddof=1) / math.sqrt(len(rows))
        right.errorbar(
            clock, rows.mean(axis=0), errors, fmt=MARKERS[j], color=COLORS[j], label=rf"$\kappa = {kappa:g}$", **POINTS
        )
        right.plot(clock, _semicircle_law(kappa, clock), "--", color=COLORS[6], lw=1.0)
    left.set(xscale="log", yscale="log", xlabel="time $t$", ylabel="squared error", title="population flow")
    middle.set(
        xscale="log", yscale="log", xlabel="time $t$", ylabel=r"$|Z(t) - Z(\infty)|^2/d$", title="distance to the end"
    )
    right.set(xscale="log", yscale="log", xlabel="time $t$ of the source", title="distance, semicircle")
    right.set_xticks([2, 5, 10, 20, 40], ["2", "5", "10", "20", "40"])
    right.minorticks_off()
    for axes in (left, middle, right):
        axes.legend()
    return canvas


FIGURE = Figure(
    name="quadratic-oja",
    title="Quadratic networks: the population flow and its power laws",
    claim="With unlimited samples the flow is Oja's and is solved in closed form; it ends as t^-3 where the width covers the "
    "positive eigenvalues of Z* - lambda and as t^-1 where it cuts them.",
    sources=("MBB26v2",),
    quick={"d": 120, "runs": 4, "last_time": 1000.0},
    full={"d": 400, "runs": 8, "last_time": 10000.0},
    draw=draw,
)
