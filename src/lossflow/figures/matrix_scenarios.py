"""Symmetric order 2 in four scenarios of sizes and noise: the loss per p collapses on one limit as p grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import numpy as np

from lossflow.comparison import Comparison, Extrapolation, Gap, compare, extrapolate
from lossflow.expansion.method import Limit
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.method import solve
from lossflow.plot import COLORS, MARKERS, POINTS
from lossflow.problem import AbstractProblem
from lossflow.problems.cp import CPDecomposition
from lossflow.simulate.method import Simulation
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    Array = npt.NDArray[np.float64]

TOLERANCE = 1e-5  # of every run: a hundredth of what the scatter of the runs leaves unknown
FINE = 81  # points of a line
SIGMAS = 3.0  # standard errors of a power


def draw(
    scenarios: tuple[tuple[str, str], ...],
    p: tuple[tuple[int, ...], ...],
    runs: tuple[int, ...],
    spans: tuple[tuple[float, float], ...],
    times: int,
) -> Outcome:
    """scenarios: (H/p, p sigma2); p: increasing sizes of each; runs: at each; spans: first and last time; times: how many."""
    families = []
    for (ratio, variance), several, span in zip(scenarios, p, spans, strict=True):
        grid = np.geomspace(*span, times)
        families.append([
            followed(CPDecomposition(2), _sizes(size, ratio, variance), None, 1.0, grid, count, seed)
            for seed, (size, count) in enumerate(zip(several, runs, strict=True))  # own seeds: sizes are independent
        ])  # fmt: skip
    names = [f"H/p = {ratio}, p sigma2 = {variance}" for ratio, variance in scenarios]
    verdicts = [verdict for name, each in zip(names, families, strict=True) for verdict in verdicts_of(name, each)]
    words = (
        f"Loss per p over time (both axes logarithmic) at three sizes p (points, means of {', '.join(map(str, runs))} runs) "
        "and the limit (line), which depends on H/p and p sigma2 alone: "
        f"{'; '.join(names)}. In the order of the panels: fast loss of noise to the plateau (p - H)/2, fast loss of much noise, "
        "a saddle that is left after a logarithmic time, and slow learning at the hard edge H = p. The points approach the line "
        "from one size to the next. Last: the relative gap at the middle time against 1/p, with lines through the sizes; what "
        "they leave at 1/p = 0 (filled) is zero within its error."
    )
    return Outcome((Picture("curves", _canvas(families, scenarios), words),), tuple(verdicts))


def followed(
    problem: AbstractProblem,
    sizes: Mapping[str, float],
    regime: str | None,
    unit: float,
    grid: Array,
    runs: int,
    seed: int,
) -> Comparison:
    """The limit and an experiment at times unit * grid, compared over `grid`."""
    theory = solve(problem, Limit(sizes, regime=regime), unit * grid)
    experiment = solve(problem, Simulation(sizes, runs=runs, seed=seed, tolerance=TOLERANCE), unit * grid)
    if unit == 1:
        return compare(theory, experiment)
    return compare(theory.in_units_of(unit), experiment.in_units_of(unit))


def verdicts_of(name: str, family: Sequence[Comparison], size: str = "p") -> list[Verdict]:
    """What the largest size says, and that the relative gap goes to zero as the size grows.

    A gap that is too small for its power to be told from zero has to leave room for the power of the claim.
    """
    found = extrapolate(family, size)
    possible = abs(found.measured_power - found.power) <= SIGMAS * found.measured_power_uncertainty
    sizes = [int(comparison.gaps[0].other.method.known_sizes[size]) for comparison in family]
    vanishing = Verdict(
        f"{name}, {size} = {sizes[0]} to {sizes[-1]}",
        float(np.abs(found.gap).max()),
        float(np.abs(found.gap / found.uncertainty).max()),
        (float(found.times[0]), float(found.times[-1])),
        bool(found.vanishes and (found.shrinks or possible)),
        found.verdict,
    )
    return [Verdict.of(f"{name}, {size} = {sizes[-1]}", family[-1].gaps[0]), vanishing]


def draw_family(axes: Axes, family: Sequence[Comparison], size: str = "p", per: str | None = None) -> None:
    """The limit of the largest size as a line, the experiments of all sizes as points. per: a size that divides the loss."""
    gaps = [comparison.gaps[0] for comparison in family]
    for gap, color, marker in zip(gaps, COLORS, MARKERS, strict=False):
        scale = _scale(gap.other, per)
        values, errors = gap.other.values["loss"] / scale, gap.other.uncertainty["loss"] / scale
        label = f"${size} = {int(gap.other.method.known_sizes[size])}$"
        axes.errorbar(gap.other.times, values, errors, fmt=marker, color=color, label=label, **POINTS)
    theory = finely(gaps[-1].reference)
    axes.plot(theory.times, theory.values["loss"] / _scale(theory, per), color="#000000", lw=1.2, label="limit")


def finely(theory: Trajectory) -> Trajectory:
    """The same question at many times between the first and the last one."""
    unit = float(theory.details.get("time_unit", 1.0))
    first, last = unit * theory.times[0], unit * theory.times[-1]
    even = theory.times.size < 3 or np.isclose(theory.times[2] - theory.times[1], theory.times[1] - theory.times[0])
    grid = np.linspace(first, last, FINE) if even else np.geomspace(first, last, FINE)
    found = solve(theory.problem, theory.method, grid)
    return found if unit == 1 else found.in_units_of(unit)


def draw_vanishing(
    axes: Axes,
    families: Mapping[str, Sequence[Comparison]],
    size: str = "p",
    place: Literal["middle", "largest"] = "middle",
) -> None:
    """Relative gaps at one time against 1/size with the errors of the experiment, and the fitted lines down to zero.

    place: the middle time, or for each family the time at which the smallest size has its largest gap.
    """
    for (name, family), color, marker in zip(families.items(), COLORS, MARKERS, strict=False):
        found = extrapolate(family, size)
        gaps = [comparison.gaps[0] for comparison in family]
        k = found.times.size // 2 if place == "middle" else int(np.argmax(np.abs(gaps[0].relative)))
        label = f"{name}, $t = {found.times[k]:.3g}$" if name else f"$t = {found.times[k]:.3g}$"
        _draw_line(axes, gaps, found, k, size, (color, marker, label))
    axes.axhline(0, color="#555555", lw=0.8)
    axes.set(xlabel=f"$1/{size}$", ylabel="relative gap in %")


def _draw_line(
    axes: Axes, gaps: Sequence[Gap], found: Extrapolation, k: int, size: str, look: tuple[str, str, str]
) -> None:
    color, marker, label = look
    inverse = np.array([1 / gap.other.method.known_sizes[size] for gap in gaps])
    relative = np.array([gap.relative[k] for gap in gaps])
    errors = np.array([gap.other.uncertainty["loss"][k] / abs(gap.reference.values["loss"][k]) for gap in gaps])
    axes.errorbar(inverse, 100 * relative, 100 * errors, fmt=marker, color=color, label=label, **POINTS)
    axes.errorbar(0.0, 100 * found.gap[k], 100 * found.uncertainty[k], fmt=marker, color=color, elinewidth=1.0)
    line = np.array([0.0, inverse.max()])
    axes.plot(line, 100 * (found.gap[k] + found.slope[k] * line), "--", color=color, lw=1.0)


def _scale(trajectory: Trajectory, per: str | None) -> float:
    return 1.0 if per is None else trajectory.method.known_sizes[per]


def _sizes(p: int, ratio: str, variance: str) -> dict[str, float]:
    return {"p": p, "H": int(Fraction(ratio) * p), "sigma2": float(Fraction(variance) / p)}


def _canvas(families: Sequence[Sequence[Comparison]], scenarios: Sequence[tuple[str, str]]) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    columns = (len(families) + 3) // 2
    canvas = Canvas(figsize=(3.5 * columns, 5.6), layout="constrained")
    *panels, last, empty = np.ravel(canvas.subplots(2, columns))
    for axes in panels[len(families) :]:
        axes.set_axis_off()
    for axes, family, (ratio, variance) in zip(panels, families, scenarios, strict=False):
        draw_family(axes, family, per="p")
        values = family[-1].gaps[0].reference.values["loss"]
        axes.set(xscale="log", yscale="log" if values.max() > 3 * values.min() else "linear")
        axes.set(xlabel="time $t$", ylabel="loss $L$ / $p$")
        axes.set_title(rf"$H/p = {ratio}$, $p\,\sigma^2 = {variance}$")
        axes.legend(loc="lower left")
    labels = {f"{ratio}, {variance}": family for (ratio, variance), family in zip(scenarios, families, strict=True)}
    draw_vanishing(last, labels)
    last.set_title("gap as $p$ grows")
    empty.set_axis_off()
    empty.legend(*last.get_legend_handles_labels(), title=r"$H/p$, $p\,\sigma^2$, time of the gap", loc="center left")
    return canvas


FIGURE = Figure(
    name="matrix-scenarios",
    title="Symmetric matrix decomposition in four scenarios, at growing size",
    claim="At fixed H/p and p sigma2 the mean loss per p of gradient flow on |U^T U - 1|^2 / 2 approaches one curve as p grows, "
    "the closed form of the limit, from much and from little noise, with fewer, as many and more rows than columns; the relative "
    "gap vanishes like 1/p.",
    sources=("YGG26v2",),
    quick={
        "scenarios": (("1/4", "16"), ("8", "10"), ("1/8", "1/100"), ("1", "1")),
        "p": ((16, 32, 64), (4, 8, 16), (16, 32, 64), (16, 32, 64)),
        "runs": (400, 200, 100),
        "spans": ((0.001, 1.0), (0.0003, 1.0), (0.05, 3.0), (0.01, 0.8)),
        "times": 12,
    },
    full={
        "scenarios": (("1/4", "16"), ("8", "10"), ("1/8", "1/100"), ("1", "1")),
        "p": ((64, 128, 256), (16, 32, 64), (128, 256, 512), (64, 128, 256)),
        "runs": (400, 200, 100),
        "spans": ((0.001, 1.0), (0.0003, 1.0), (0.05, 3.0), (0.01, 1.5)),
        "times": 25,
    },
    draw=draw,
)
