"""Order 4 forward in time: a divergent limit, its sums, their window, and what comes then."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.comparison import compare
from lossflow.expansion.borel import BorelPade, ConformalBorel
from lossflow.expansion.method import Limit
from lossflow.expansion.pade import Pade
from lossflow.expansion.resummation import Resummation, Resummed, Taylor, resum
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.method import solve
from lossflow.plot import COLORS, POINTS
from lossflow.problems.cp import CPDecomposition
from lossflow.simulate.method import Simulation
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    Array = npt.NDArray[np.float64]

PROBLEM = CPDecomposition(order=4)
TOLERANCE = 1e-4  # of every run: far below the scatter of the runs
SUMS: Mapping[str, tuple[Resummation, str]] = {
    "Taylor": (Taylor(), "-"),
    "Pade": (Pade(), "--"),
    "Borel-Pade": (BorelPade(), ":"),
    "conformal Borel": (ConformalBorel(), "-."),
}
AGREED = 1e-4  # of |gbar(0)|: how well Borel-Pade of order 40 finds the closed lateral sum
ESTIMATED = 0.1  # how well the estimate of all weights with averaged signs does beyond the window, until 90% is learned
HALFWAY = (
    0.15  # how well rows one by one tell the time at which half is learned, at little noise and p = 16 (2% at p = 32)
)
FINE = 121  # points of a curve


class Descent(NamedTuple):
    """At one noise: the limit on a fine grid and at the times of the experiment, the sums of its series, and the experiment.

    clock: s/t, s = sigma2 t the scaled time; scale: rho H/p^2, with E L = p/2 + scale gbar(s).
    """

    noise: str
    clock: float
    scale: float
    fine: Trajectory
    limit: Trajectory
    experiment: Trajectory
    sums: Mapping[str, Resummed]


def draw(
    sizes: tuple[int, int],
    noises: tuple[str, ...],
    reach: tuple[float, ...],
    order: int,
    runs: int,
    last: float,
    times: int,
) -> Outcome:
    """sizes: (p, H); noises: rho = p^3 sigma^4; reach: the s up to which Borel-Pade is held to the lateral sum, for each; order:
    of the series; last: scaled time s of the experiment; times: how many."""
    descents = [_descent(sizes, noise, order, runs, last, times, seed) for seed, noise in enumerate(noises)]
    verdicts: list[Verdict] = []
    for descent, end in zip(descents, reach, strict=True):
        verdicts.append(_held(descent))
        little = float(Fraction(descent.noise)) < 1
        verdicts.append(_estimated(descent))
        verdicts.append(_rows(descent, claimed=little))
        verdicts.extend(_summed(descent, name, end) for name in SUMS)
    words = (
        f"Loss over the scaled time s = sigma2 t at p = {sizes[0]}, H = {sizes[1]}, noise rho = {' and '.join(noises)}. Upper "
        f"row: simulation (points, {runs} runs), the formal limit p/2 + rho (H/p^2) Re gbar(s), the median of its two lateral "
        "sums (black, pale beyond its window), the estimate with all weights and averaged signs (dashed, beyond the window) "
        "and that of rows which learn one by one (dotted). The shaded stretch is the window in which the limit is believed: "
        "there the points lie on the line; at its end rows begin to learn, which no coefficient sees, and the formal limit "
        "turns back to p/2, while the points follow the dashed line. Lower row: the distance of each sum of the series of "
        f"order {order} to the closed lateral sum in units of |gbar(0)|, logarithmic: Borel-Pade is the best early, conformal "
        "Borel late; optimal truncation and Pade serve for short times."
    )
    return Outcome((Picture("curves", _canvas(descents), words),), tuple(verdicts))


def _descent(sizes: tuple[int, int], noise: str, order: int, runs: int, last: float, times: int, seed: int) -> Descent:
    p, H = sizes
    sigma2 = math.sqrt(float(Fraction(noise)) / p**3)
    given = {"p": p, "H": H, "sigma2": sigma2}
    grid, fine = np.linspace(last / times, last, times), np.linspace(0, last, FINE)
    coefficients = series(Fraction(noise), 1 + Fraction(3 * H, p**2), order)
    return Descent(
        noise,
        sigma2,
        float(Fraction(noise)) * H / p**2,
        solve(PROBLEM, Limit(given, regime="A-B-E"), fine / sigma2),
        solve(PROBLEM, Limit(given, regime="A-B-E"), grid / sigma2),
        solve(PROBLEM, Simulation(given, runs=runs, seed=seed, tolerance=TOLERANCE), grid / sigma2),
        {name: resum(coefficients, fine, how) for name, (how, _) in SUMS.items()},
    )


def series(rho: Fraction, theta: Fraction, order: int) -> list[Fraction]:
    """The coefficients of gbar(s) = theta rho zeta_2^4 / 2 - zeta_4, exact, from the flow of the moments of one weight

    d zeta_m/ds = 4 m (zeta_{m+2} - theta rho zeta_2^3 zeta_m),  zeta_m(0) = (m - 1)!!,  zeta_m = E u^m / sigma^m.

    docs/theory/diagrams.md section 10 [YGG26v2].
    """
    moments = {m: [Fraction(math.prod(range(m - 1, 0, -2)))] for m in range(2, 2 * order + 8, 2)}
    field: list[Fraction] = []  # of zeta_2^3
    square: list[Fraction] = []
    for k in range(order):
        second = moments[2]
        square.append(_product(second, second, k))
        field.append(_product(square, second, k))
        for m in range(2, 2 * (order - k) + 4, 2):
            pull = theta * rho * _product(field, moments[m], k)
            moments[m].append(4 * m * (moments[m + 2][k] - pull) / (k + 1))
    square.append(_product(moments[2], moments[2], order))
    return [theta * rho / 2 * _product(square, square, k) - moments[4][k] for k in range(order + 1)]


def _product(a: Sequence[Fraction], b: Sequence[Fraction], k: int) -> Fraction:
    """The k-th coefficient of a product of power series."""
    return sum((a[j] * b[k - j] for j in range(k + 1)), Fraction(0))


def _held(descent: Descent) -> Verdict:
    """The limit against the experiment within its window."""
    gap = compare(descent.limit, descent.experiment).gaps[0]
    found = Verdict.of(f"limit, rho = {descent.noise}", gap)
    window = descent.clock * descent.limit.details["window"]
    s = descent.clock * gap.times
    sentence = f"up to the end of the window, s = {window:.3g}: {found.sentence}"
    return Verdict(
        found.curve,
        found.largest_relative_gap,
        found.largest_deviation,
        (float(s[0]), float(s[-1])),
        found.agree,
        sentence,
    )


def _estimated(descent: Descent) -> Verdict:
    """All weights with averaged signs against the experiment, from the end of the window until 90% is learned."""
    s, details = descent.clock * descent.limit.times, descent.limit.details
    mean, error = descent.experiment.values["loss"], descent.experiment.uncertainty["loss"]
    there = (s >= descent.clock * details["window"]) & (mean > descent.limit.method.known_sizes["p"] / 20)
    mean, error, estimate = mean[there], error[there], details["estimate"][there]
    gap = np.abs(estimate - mean)
    agree = bool((gap <= ESTIMATED * mean + 3 * error).all())
    deviation = gap / np.hypot(error, details["estimate_error"][there])
    sentence = (
        f"beyond the window the estimate is {'within' if agree else 'not within'} {ESTIMATED:.0%} and three standard errors: "
        f"off by up to {np.max(gap / mean):.1%}, {np.max(deviation):.1f} of its own errors"
    )
    span = float(s[there][0]), float(s[there][-1])
    name = f"signs averaged, rho = {descent.noise}"
    return Verdict(name, float(np.max(gap / mean)), float(np.max(deviation)), span, agree, sentence)


def _rows(descent: Descent, claimed: bool) -> Verdict:
    """Rows that learn one by one against the experiment: the time at which the loss has fallen to p/4."""
    s, half = descent.clock * descent.fine.times, descent.limit.method.known_sizes["p"] / 4
    experiment = descent.clock * descent.experiment.times
    runs = descent.experiment.details["runs"]["loss"]
    arrived = [_crossing(experiment, run, half) for run in (descent.experiment.values["loss"], *runs)]
    estimate, mean = _crossing(s, descent.fine.details["row_maximum"], half), arrived[0]
    name, span = f"rows one by one, rho = {descent.noise}", (float(experiment[0]), float(experiment[-1]))
    if not math.isfinite(mean) or not math.isfinite(estimate):
        sentence = (
            f"half is not learned by s = {s[-1]:.3g} in the experiment; rows one by one make no claim at this noise"
        )
        return Verdict(name, None, None, span, not claimed, sentence)
    error = float(np.nanstd(arrived[1:], ddof=1)) / math.sqrt(len(runs))
    relative = abs(estimate / mean - 1)
    agree = not claimed or relative <= HALFWAY
    sentence = (
        f"half is learned at s = {mean:.4g} +- {error:.1g} in the experiment, at {estimate:.4g} if rows learn one by one"
        f"{'' if claimed else ', which is no claim at this noise'}"
    )
    return Verdict(name, relative, abs(estimate - mean) / error, span, agree, sentence)


def _crossing(times: Array, values: Array, level: float) -> float:
    """The first time at which values fall to the level, NaN if they do not."""
    below = np.flatnonzero(values <= level)
    if not below.size:
        return math.nan
    if not below[0]:
        return float(times[0])
    k = int(below[0])
    return float(np.interp(-level, -values[k - 1 : k + 1], times[k - 1 : k + 1]))


def _summed(descent: Descent, name: str, end: float) -> Verdict:
    """A sum against the lateral sum: that its own error covers the distance where it gives values, and Borel-Pade to `AGREED`."""
    s, distance, errors, unit = _distances(descent, name)
    known = np.isfinite(distance) & (s > 0)
    deviation = distance[known] / np.maximum(errors[known], 1e-8 * unit)  # the closed form itself is good to 1e-10
    held = known & (s <= end)
    largest = float(np.max(distance[held]) / unit) if held.any() else math.inf
    covered = float(np.mean(deviation <= 3))
    good = covered >= 0.95 and (name != "Borel-Pade" or (largest <= AGREED and bool(held[(s > 0) & (s <= end)].all())))
    sentence = (
        f"has values up to s = {s[known].max():.3g}; its error covers the distance to the lateral sum (three times) at "
        f"{covered:.0%} of the times; up to s = {end:g} the distance is at most {largest:.1e} of |gbar(0)|"
    )
    curve = f"{name}, rho = {descent.noise}"
    return Verdict(curve, largest, float(deviation.max()), (0.0, float(s[known].max())), good, sentence)


def _distances(descent: Descent, name: str) -> tuple[Array, Array, Array, float]:
    """s, |sum - lateral|, the uncertainty of the sum, and |gbar(0)|."""
    p = descent.fine.method.known_sizes["p"]
    s = descent.clock * descent.fine.times
    lateral = (descent.fine.details["formal"] - p / 2) / descent.scale
    found = descent.sums[name]
    return s, np.abs(found.values - lateral), found.uncertainty, abs(float(found.values[0]))


def _canvas(descents: Sequence[Descent]) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(5.2 * len(descents), 6.4), layout="constrained")
    panels = canvas.subplots(2, len(descents), squeeze=False, sharex=True, height_ratios=(1.5, 1))
    for upper, lower, descent in zip(*panels, descents, strict=True):
        _draw_curves(upper, descent)
        _draw_distances(lower, descent)
        lower.set_xlabel(r"scaled time $s = \sigma^2 t$")
    panels[0][0].set_ylabel("loss $L$")
    panels[1][0].set_ylabel(r"$|$sum $-$ lateral$|$ / $|\bar g(0)|$")
    return canvas


def _draw_curves(axes: Axes, descent: Descent) -> None:
    s = descent.clock * descent.fine.times
    formal = descent.fine.details["formal"]
    window = descent.clock * descent.limit.details["window"]
    axes.axvspan(0, window, color="#E69F00", alpha=0.13, lw=0, label="window of the limit")
    axes.plot(s, formal, color="#000000", alpha=0.35)
    values, errors = descent.fine.values["loss"], descent.fine.uncertainty["loss"]
    axes.plot(s, values, color="#000000", label="limit (median of the lateral sums)")
    axes.fill_between(s, values - errors, values + errors, color="#000000", alpha=0.12, lw=0)
    estimate = np.where(s >= window, descent.fine.details["estimate"], np.nan)
    axes.plot(s, estimate, "--", color=COLORS[2], label="estimate: signs averaged")
    axes.plot(s, descent.fine.details["row_maximum"], ":", color=COLORS[0], label="rows that learn one by one")
    mean, error = descent.experiment.values["loss"], descent.experiment.uncertainty["loss"]
    points = descent.clock * descent.experiment.times
    runs = len(descent.experiment.details["runs"]["loss"])
    axes.errorbar(points, mean, error, fmt="o", color=COLORS[1], label=f"simulation, {runs} runs", **POINTS)
    sizes = descent.limit.method.known_sizes
    axes.set_ylim(-0.03 * sizes["p"], 1.6 * max(float(mean.max()), sizes["p"] / 2))
    axes.set_title(rf"$\rho = {descent.noise}$, $p = {sizes['p']:g}$, $H = {sizes['H']:g}$")
    axes.legend(loc="upper right")


def _draw_distances(axes: Axes, descent: Descent) -> None:
    for (name, (_, line)), color in zip(SUMS.items(), (COLORS[0], COLORS[1], "#000000", COLORS[3]), strict=True):
        s, distance, _, unit = _distances(descent, name)
        axes.plot(s, np.maximum(distance / unit, 1e-12), line, color=color, label=name)
    axes.set(yscale="log", ylim=(1e-11, 1e5))
    axes.axvline(descent.clock * descent.limit.details["window"], color="#E69F00", lw=1.0)
    axes.legend(loc="upper right", ncol=2)


FIGURE = Figure(
    name="quartic-descent",
    title="Order 4 forward in time: the formal limit, its sums, and their window",
    claim="Forward in time the series of the limit of L = |sum_k u_k^(x4) - 1|^2 / 2 diverges, and Borel-Pade of order 40 finds "
    "its closed lateral sum to 1e-4. Within its window the median of the lateral sums agrees with gradient flow. Afterwards rows "
    "learn one by one, which no coefficient sees: the flow of all weights with averaged signs follows the loss within 10% until "
    "90% is learned, and at little noise the law of the row maximum tells when half is.",
    sources=("YGG26v2",),
    quick={
        "sizes": (16, 256),
        "noises": ("1/10", "5"),
        "reach": (0.015, 0.008),
        "order": 40,
        "runs": 12,
        "last": 0.024,
        "times": 16,
    },
    full={
        "sizes": (32, 1024),
        "noises": ("1/10", "5"),
        "reach": (0.015, 0.008),
        "order": 40,
        "runs": 8,
        "last": 0.03,
        "times": 30,
    },
    draw=draw,
)
