"""Small problems of every kind: their exact series, summed in four ways, against simulation, as far as each is believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from lossflow.comparison import Gap, compare
from lossflow.expansion.borel import BorelPade, ConformalBorel
from lossflow.expansion.method import Series
from lossflow.expansion.pade import Pade
from lossflow.expansion.resummation import Resummation, Taylor
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.method import solve
from lossflow.plot import COLORS, POINTS
from lossflow.problem import AbstractProblem
from lossflow.problems.cp import CPDecomposition
from lossflow.problems.gaussian_data import deep_linear, diagonal_network
from lossflow.problems.targets import ModularAddition, RandomTeacher, Spiked
from lossflow.simulate.method import Simulation
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

BELIEVED = 0.1  # the error estimate, relative to the sum, up to which a curve is drawn in full
TOLERANCE = 1e-6  # of every run: a thousandth of what the scatter of the runs leaves unknown
PROBLEMS: Mapping[str, AbstractProblem] = {
    "one matrix, identity": CPDecomposition(3),
    "three matrices, identity": CPDecomposition(3, symmetric=False),
    "identity and a spike": CPDecomposition(3, symmetric=False, target=Spiked((Fraction(1),))),
    "modular addition": CPDecomposition(3, symmetric=False, target=ModularAddition()),
    "random teacher": CPDecomposition(3, symmetric=False, target=RandomTeacher("R", "teacher2")),
    "linear network on data": deep_linear(2),
    "diagonal network on data": diagonal_network(),
}
SUMS: Mapping[str, tuple[Resummation, str]] = {
    "Taylor": (Taylor(), "-"),
    "Pade": (Pade(), "--"),
    "Borel-Pade": (BorelPade(), ":"),
    "conformal Borel": (ConformalBorel(), "-."),
}


def draw(
    problems: Mapping[str, Mapping[str, float]],
    last_times: Mapping[str, float],
    sums: tuple[str, ...],
    order: int,
    runs: int,
    times: int,
) -> Outcome:
    """problems: their sizes; last_times: of the simulations; sums: keys of `SUMS`; order of the series."""
    experiments: dict[str, Trajectory] = {}
    gaps: dict[str, dict[str, Gap]] = {}
    for seed, (name, sizes) in enumerate(problems.items()):
        grid = np.linspace(0, last_times[name], times)
        problem = PROBLEMS[name]
        experiments[name] = solve(problem, Simulation(sizes, runs=runs, seed=seed, tolerance=TOLERANCE), grid)
        found = [solve(problem, Series(sizes, order, SUMS[each][0]), grid) for each in sums]
        gaps[name] = dict(zip(sums, compare(experiments[name], *found).gaps, strict=True))
    verdicts = [verdict_of(f"{name}, {each}", gap) for name, by_sum in gaps.items() for each, gap in by_sum.items()]
    words = (
        f"Loss over time of {len(problems)} problems at small sizes: the mean of {runs} runs of gradient flow (points, one "
        f"standard error) and the exact series of order {order} at the same finite sizes, summed in {len(sums)} ways (lines, "
        "with their truncation error as a band). A triangle on the time axis marks the end of the stretch over which a sum "
        f"claims an error below {BELIEVED:.0%}; there the points lie on the line. Beyond it the line is pale, and it stops "
        "where the error reaches the sum."
    )
    return Outcome((Picture("curves", _canvas(experiments, gaps), words),), tuple(verdicts))


def _canvas(experiments: Mapping[str, Trajectory], gaps: Mapping[str, Mapping[str, Gap]]) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    columns = min(4, len(experiments))
    rows = -(-len(experiments) // columns)
    canvas = Canvas(figsize=(2.9 * columns + 0.6, 2.6 * rows + 0.6), layout="constrained")
    panels: Sequence[Axes] = list(np.ravel(canvas.subplots(rows, columns, squeeze=False)))
    for axes, (name, experiment) in zip(panels, experiments.items(), strict=False):
        draw_panel(axes, experiment, gaps[name])
        axes.set_title(name, fontsize="medium")
    for axes in panels[len(experiments) :]:
        axes.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    if len(panels) > len(experiments):
        panels[-1].legend(handles, labels, loc="center", frameon=False)
    else:
        panels[0].legend()
    return canvas


def verdict_of(curve: str, gap: Gap) -> Verdict:
    """What `lossflow.compare` found, and how far the series claims to be good."""
    found = Verdict.of(curve, gap)
    _, _, last = _fine(gap)
    return replace(found, sentence=f"{found.sentence}; claims an error below {BELIEVED:.0%} up to t = {last:.3g}")


def _fine(gap: Gap) -> tuple[Trajectory, npt.NDArray[np.bool_], float]:
    """The series on a fine grid, where it is believed, and the last of these times."""
    series = solve(gap.other.problem, gap.other.method, np.linspace(0, gap.reference.times[-1], 201))
    doubtful = ~(series.uncertainty["loss"] <= BELIEVED * np.abs(series.values["loss"]))
    believed = np.cumsum(doubtful) == 0
    return series, believed, float(series.times[believed][-1]) if believed.any() else 0.0


def draw_panel(axes: Axes, experiment: Trajectory, gaps: Mapping[str, Gap]) -> None:
    """The points, and above them a line for each sum: full where it is believed."""
    values, errors = experiment.values["loss"], experiment.uncertainty["loss"]
    axes.errorbar(experiment.times, values, errors, fmt="o", color="#333333", label="simulation", **POINTS)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    for (name, gap), color in zip(gaps.items(), COLORS, strict=False):
        series, believed, last = _fine(gap)
        times, values, errors = series.times, series.values["loss"], series.uncertainty["loss"]
        axes.plot(times, values, SUMS[name][1], color=color, alpha=0.35)
        axes.plot(times, np.where(believed, values, np.nan), SUMS[name][1], color=color, label=name)
        axes.fill_between(times, values - errors, values + errors, color=color, alpha=0.06, lw=0)
        if last < times[-1]:
            axes.plot(last, 0, "^", color=color, ms=5, clip_on=False, transform=axes.get_xaxis_transform())
    axes.set_ylim(max(0.0, low - 0.3 * (high - low)), high + 0.15 * (high - low))
    axes.set(xlabel="time $t$", ylabel="loss $L$")


SIZES: Mapping[str, Mapping[str, float]] = {
    "one matrix, identity": {"p": 4, "H": 3, "sigma2": 1 / 16},
    "three matrices, identity": {"p": 4, "H": 4, "sigma2": 1 / 8},
    "identity and a spike": {"p": 4, "H": 4, "sigma2": 1 / 8},
    "modular addition": {"p": 5, "H": 4, "sigma2": 1 / 8},
    "random teacher": {"p": 4, "H": 4, "sigma2": 1 / 8, "R": 2, "teacher2": 1 / 4},
    "linear network on data": {"d": 4, "h1": 3, "p": 2, "N": 6, "sigma2": 1 / 4, "teacher2": 1 / 4, "noise2": 1 / 16},
    "diagonal network on data": {"d": 6, "N": 8, "sigma2": 1 / 8, "teacher2": 1 / 4, "noise2": 1 / 16},
}
LAST_TIMES: Mapping[str, float] = {
    "one matrix, identity": 0.3,
    "three matrices, identity": 0.6,
    "identity and a spike": 0.6,
    "modular addition": 0.6,
    "random teacher": 0.5,
    "linear network on data": 0.5,
    "diagonal network on data": 0.7,
}

FIGURE = Figure(
    name="series-vs-simulation",
    title="The exact finite-size series against simulation",
    claim="At small finite sizes the exact power series of the mean loss, summed by Taylor, Pade, Borel-Pade or a conformal "
    "map, agrees with the mean of simulated gradient flows up to the time at which its own error estimate ends it, for "
    "targets and data of all kinds.",
    sources=("YGG26v2",),
    quick={
        "problems": SIZES,
        "last_times": LAST_TIMES,
        "sums": ("Taylor", "Pade", "Borel-Pade", "conformal Borel"),
        "order": 3,
        "runs": 1000,
        "times": 21,
    },
    full={
        "problems": SIZES,
        "last_times": LAST_TIMES,
        "sums": ("Taylor", "Pade", "Borel-Pade", "conformal Borel"),
        "order": 5,
        "runs": 20000,
        "times": 41,
    },
    draw=draw,
)
