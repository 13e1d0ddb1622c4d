"""Order 4 backward in time: which runs blow up against the threshold of the limit, and single curves at little and much noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.comparison import Gap, compare
from lossflow.expansion.method import Limit
from lossflow.expansion.solutions.one_weight import quartic_threshold
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.method import solve
from lossflow.plot import COLORS, MARKERS, POINTS
from lossflow.problems.cp import CPDecomposition
from lossflow.simulate.method import Simulation
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    Array = npt.NDArray[np.float64]

PROBLEM = CPDecomposition(order=4)
SETTLED = 2.0  # |s| = sigma2 |t| by which a run has blown up or shrunk: what is left of int F^3 is 1% of the whole
DECISIVE = 1e-2  # tolerance of runs of which only the fate is asked
TOLERANCE = 1e-5  # of runs that are drawn
FAR_BELOW = 0.1  # of rho*: there no run is expected to blow up


class Rates(NamedTuple):
    """The share of runs that blow up at p and theta, at several rho/rho*(theta)."""

    p: int
    theta: float
    runs: int
    shares: Array
    rates: Array

    @property
    def threshold(self) -> tuple[float, float]:
        """rho/rho* at which half of the runs blow up, and its standard error: the mean of log rho over the fates (Spearman)."""
        logs = np.log(self.shares)
        widths = np.gradient(logs)
        mean = logs[-1] + widths[-1] / 2 - float(self.rates @ widths)
        spread = (self.rates * (1 - self.rates) + 0.25 / self.runs) / self.runs  # never without an error
        return math.exp(mean), math.exp(mean) * math.sqrt(float(np.sum(widths**2 * spread)))


class Curve(NamedTuple):
    """theory against experiment at one noise. valid: from which time on the limit is compared (negative)."""

    name: str
    gap: Gap
    theory: Trajectory
    experiment: Trajectory
    blow_up: float


def draw(
    p: int,
    thetas: tuple[float, ...],
    shares: tuple[float, ...],
    runs: int,
    growing: tuple[int, ...],
    growing_theta: float,
    growing_shares: tuple[float, ...],
    curve: tuple[int, int],
    noises: tuple[float, float],
    curve_runs: int,
    reach: tuple[float, float],
    times: int,
) -> Outcome:
    """thetas, shares: the grid of theta = 1 + 3 H/p^2 and rho/rho*, runs in each cell at p; growing: sizes p at one theta;
    curve: (p, H) of the curves at the two noises rho/rho*; reach: the longest |s| of the first, the longest share of |s_crit|
    of the second."""
    grid = [_rates(p, theta, shares, runs) for theta in thetas]
    series = [_rates(size, growing_theta, growing_shares, runs) for size in growing]
    low = _curve("little noise", curve, noises[0], reach[0], None, curve_runs, times)
    high = _curve("much noise", curve, noises[1], None, reach[1], curve_runs, times)
    verdicts = [*(_above(each) for each in grid), _approach(series), _of_curve(low), _of_curve(high)]
    words = (
        f"First: the share of {runs} runs that blow up backward in time at p = {p}, over theta = 1 + 3 H/p^2 and the noise rho = "
        "p^3 sigma^4 (logarithmic): none in open circles, all in filled ones. The line is rho*(theta) = 2.0778/theta, above "
        "which the limit blows up: all runs above it do, and with so few columns also some below, since single rows are "
        f"larger than the mean. Second: that share against rho/rho* at theta = {growing_theta:g} and growing p, ever steeper "
        f"steps below 1. Third and last: L - p/2 at (p, H) = {curve} over |t|, double logarithmic, little and much noise: "
        f"points are means over {curve_runs} runs, lines the limit; at little noise it ends as -pH/(64 t^2), at much noise it "
        "rises to the blow-up, the dotted line; runs blow up before."
    )
    return Outcome((Picture("curves", _canvas(grid, series, (low, high)), words),), tuple(verdicts))


def _rates(p: int, theta: float, shares: Sequence[float], runs: int) -> Rates:
    H = round((theta - 1) * p**2 / 3)
    true = 1 + 3 * H / p**2
    found = []
    for k, share in enumerate(shares):
        sigma2 = math.sqrt(share * quartic_threshold(true) / p**3)
        sizes = {"p": p, "H": H, "sigma2": sigma2}
        simulation = Simulation(sizes, runs=runs, seed=1000 * p + k, tolerance=DECISIVE)
        ends = solve(PROBLEM, simulation, [-SETTLED / sigma2]).details["blow_up_times"]
        found.append(float(np.isfinite(ends).mean()))
    return Rates(p, true, runs, np.array(shares, np.float64), np.array(found))


def _curve(
    name: str, curve: tuple[int, int], share: float, reach: float | None, part: float | None, runs: int, times: int
) -> Curve:
    p, H = curve
    sigma2 = math.sqrt(share * quartic_threshold(1 + 3 * H / p**2) / p**3)
    limit = Limit({"p": p, "H": H, "sigma2": sigma2}, regime="A-B-E")
    simulation = Simulation({"p": p, "H": H, "sigma2": sigma2}, runs=runs, seed=3, tolerance=TOLERANCE)
    blow_up = solve(PROBLEM, limit, [-1e-9 / sigma2]).details["blow_up_time"]
    end = reach / sigma2 if reach is not None else (part or 0.0) * -blow_up
    grid = -np.geomspace(end / 300, end, times)
    experiment = solve(PROBLEM, simulation, grid)
    fine = -np.geomspace(end / 300, end if reach is not None else -0.9999 * blow_up, 200)
    return Curve(
        name, compare(solve(PROBLEM, limit, grid), experiment).gaps[0], solve(PROBLEM, limit, fine), experiment, blow_up
    )


def _above(rates: Rates) -> Verdict:
    """That all runs above the threshold blow up, and none far below."""
    above, below = rates.rates[rates.shares > 1], rates.rates[rates.shares <= FAR_BELOW]
    share, error = rates.threshold
    agree = bool((above == 1).all() and (below == 0).all())
    sentence = (
        f"of {rates.runs} runs per noise {'all' if (above == 1).all() else 'not all'} above rho* blow up, and "
        f"{'none' if (below == 0).all() else 'some'} below {FAR_BELOW:g} rho*; half of them at rho/rho* = {share:.2f} +- "
        f"{error:.2g}"
    )
    return Verdict(f"blow-ups, p = {rates.p}, theta = {rates.theta:.3g}", 1 - share, None, None, agree, sentence)


def _approach(series: Sequence[Rates]) -> Verdict:
    """That the threshold lies below that of the limit and does not recede from it as p grows."""
    found = [rates.threshold for rates in series]
    (first, first_error), (last, last_error) = found[0], found[-1]
    rise, error = last - first, math.hypot(first_error, last_error)
    agree = rise > -2 * error and all(share < 1 for share, _ in found)
    several = ", ".join(f"{share:.2f} +- {e:.2g}" for share, e in found)
    sentence = (
        f"half of the runs blow up at rho/rho* = {several} for p = {', '.join(str(rates.p) for rates in series)}: "
        f"{'rising' if rise > 2 * error else 'not seen to rise'} toward 1 ({rise / error:.1f} sigma), as the largest of H "
        "rows counts"
    )
    name = f"threshold, p = {series[0].p} to {series[-1].p}"
    return Verdict(name, 1 - last, None, None, bool(agree), sentence)


def _of_curve(curve: Curve) -> Verdict:
    """The gap relative to L - p/2, which is what moves."""
    gap = curve.gap
    p = gap.reference.method.known_sizes["p"]
    moved = np.abs(gap.reference.values["loss"][: gap.times.size] - p / 2)
    relative = float(np.max(np.abs(gap.difference) / moved))
    ends = curve.experiment.details["blow_up_times"]
    blown = ends[np.isfinite(ends)]
    first = (
        f"; the first of {ends.size} runs blows up at {blown.max() / curve.blow_up:.2f} of the limit's time"
        if blown.size
        else ""
    )
    sentence = f"in units of L - p/2 the largest gap is {relative:.1%}{first}; {gap.verdict}"
    sizes = gap.reference.method.known_sizes
    name = f"{curve.name}, p = {sizes['p']:g}, H = {sizes['H']:g}"
    return Verdict(name, relative, gap.largest_deviation, gap.valid_times, gap.agree, sentence)


def _canvas(grid: Sequence[Rates], series: Sequence[Rates], curves: Sequence[Curve]) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(12.4, 3.5), layout="constrained")
    first, second, *others = canvas.subplots(1, 4)
    _draw_grid(first, grid)
    for rates, color, marker in zip(series, COLORS, MARKERS, strict=False):
        label = f"$p = {rates.p}$: {rates.threshold[0]:.2f}"
        second.plot(rates.shares, rates.rates, marker + "-", color=color, mfc="white", lw=1.0, label=label)
    second.axvline(1, color="#000000", lw=1.0)
    second.set(
        xscale="log", xlabel=r"noise $\rho/\rho^*(\theta)$", ylabel="share of runs that blow up", ylim=(-0.05, 1.7)
    )
    second.set_xticks([0.2, 0.5, 1.0], ["0.2", "0.5", "1"])
    second.set_xticks([], minor=True)
    second.set_title(rf"$\theta = {series[0].theta:.3g}$")
    second.legend(title="half of the runs at", loc="upper left")
    for axes, curve in zip(others, curves, strict=True):
        _draw_curve(axes, curve)
    return canvas


def _draw_grid(axes: Axes, grid: Sequence[Rates]) -> None:
    for rates in grid:
        noises = rates.shares * quartic_threshold(rates.theta)
        for noise, rate in zip(noises, rates.rates, strict=True):
            axes.plot(rates.theta, noise, "o", ms=8, mfc=str(1 - rate), mec="#333333", mew=0.8)
    theta = np.linspace(min(r.theta for r in grid) * 0.9, max(r.theta for r in grid) * 1.1, 100)
    threshold = np.array([quartic_threshold(float(x)) for x in theta])
    axes.plot(theta, threshold, color=COLORS[1], label=r"$\rho^*(\theta)$")
    low, high = grid[0].shares[0], grid[0].shares[-1]
    axes.set(yscale="log", ylim=(0.7 * low * threshold.min(), 3.2 * high * threshold.max()))
    axes.set(
        xlabel=r"$\theta = 1 + 3H/p^2$", ylabel=r"noise $\rho = p^3\sigma^4$", title=f"blow-ups, $p = {grid[0].p}$"
    )
    axes.plot([], [], "o", ms=8, mfc="black", mec="#333333", label="all blow up")
    axes.plot([], [], "o", ms=8, mfc="white", mec="#333333", label="none")
    axes.legend(loc="upper right", ncol=3, columnspacing=0.8, handletextpad=0.3)


def _draw_curve(axes: Axes, curve: Curve) -> None:
    sizes = curve.theory.method.known_sizes
    half = sizes["p"] / 2
    sign = 1.0 if curve.name == "much noise" else -1.0
    axes.plot(-curve.theory.times, sign * (curve.theory.values["loss"] - half), color=COLORS[0], label="limit")
    runs = curve.experiment.details["runs"]["loss"] - half
    if sign > 0:
        axes.plot(-curve.experiment.times, runs.T, color="#999999", lw=0.6)
        axes.plot([], [], color="#999999", lw=0.6, label="single runs")
        axes.axvline(-curve.blow_up, color="#000000", ls=":", lw=1.2, label="blow-up of the limit")
    values, errors = curve.experiment.values["loss"] - half, curve.experiment.uncertainty["loss"]
    axes.errorbar(
        -curve.experiment.times, sign * values, errors, fmt="o", color=COLORS[1], label="mean of runs", **POINTS
    )
    label = "$L - p/2$" if sign > 0 else "$-(L - p/2)$"
    rho = sizes["p"] ** 3 * sizes["sigma2"] ** 2
    axes.set(xscale="log", yscale="log", xlabel="time $-t$", ylabel=label)
    axes.set_title(rf"{curve.name}: $\rho = {rho:.2g}$, $p = {sizes['p']:g}$, $H = {sizes['H']:g}$", fontsize="medium")
    axes.legend(loc="upper left" if sign > 0 else "lower left")


FIGURE = Figure(
    name="quartic-ascent",
    title="Order 4 backward in time: the threshold of blow-up",
    claim="Backward in time the limit of L = |sum_k u_k^(x4) - 1|^2 / 2 blows up if and only if rho = p^3 sigma^4 exceeds rho* = "
    "2.0778/theta. At finite size all runs above it blow up, and below it runs with large rows, down to about a third of it. At "
    "little noise, and at much noise long before the blow-up, L - p/2 follows the limit.",
    sources=("YGG26v2",),
    quick={
        "p": 12,
        "thetas": (1.25, 1.75, 2.5, 4.0),
        "shares": (0.08, 0.125, 0.1875, 0.25, 0.375, 0.5, 0.75, 1.125, 2.0),
        "runs": 10,
        "growing": (6, 12, 20),
        "growing_theta": 1.5,
        "growing_shares": (0.15, 0.2, 0.25, 0.3, 0.36, 0.43, 0.52, 0.62, 0.75, 1.1),
        "curve": (32, 256),
        "noises": (0.3, 8.0),
        "curve_runs": 8,
        "reach": (1.0, 0.05),
        "times": 12,
    },
    full={
        "p": 64,
        "thetas": (1.1, 1.25, 1.5, 1.75, 2.0),
        "shares": (0.1, 0.2, 0.3, 0.45, 0.67, 1.1, 1.7),
        "runs": 10,
        "growing": (8, 16, 32, 48),
        "growing_theta": 1.5,
        "growing_shares": (0.15, 0.2, 0.25, 0.3, 0.36, 0.43, 0.52, 0.62, 0.75, 1.1),
        "curve": (256, 1024),
        "noises": (0.3, 8.0),
        "curve_runs": 4,
        "reach": (1.0, 0.05),
        "times": 16,
    },
    draw=draw,
    beyond=(
        "theta > 2 at p = 64, whose cost grows like (theta - 1)^2 and for which "
        'Simulation(sizes, backend="jax") takes an accelerator if there is one; give them to `draw` of this module'
    ),
)
