"""Symmetric order 2: the limit in closed form against gradient flow at three ratios H/p, and what is left of their gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from lossflow.comparison import Comparison, Extrapolation, Gap, compare, extrapolate
from lossflow.expansion.method import Limit
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.method import solve
from lossflow.plot import COLORS, MARKERS, POINTS, draw_trajectories
from lossflow.problems.cp import CPDecomposition
from lossflow.simulate.method import Simulation
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


TOLERANCE = 1e-6  # of every run: a thousandth of what the scatter of the runs leaves unknown


def draw(
    p: tuple[int, ...], runs: tuple[int, ...], ratios: tuple[str, ...], p_sigma2: str, last_time: float, times: int
) -> Outcome:
    """p: increasing sizes, the last of which is drawn over time; runs: at each size; ratios: H/p; p_sigma2: p * sigma2."""
    grid = np.linspace(0, last_time, times)
    comparisons = {
        ratio: [
            _compared(size, ratio, p_sigma2, count, seed, grid)
            for seed, (size, count) in enumerate(zip(p, runs, strict=True))  # own seeds: sizes are independent
        ]
        for ratio in ratios
    }
    extrapolations = {ratio: extrapolate(several) for ratio, several in comparisons.items()}
    verdicts: list[Verdict] = []
    for ratio in ratios:
        verdicts.append(Verdict.of(f"H/p = {ratio}, p = {p[-1]}", comparisons[ratio][-1].gaps[0]))
        verdicts.append(_vanishing(f"H/p = {ratio}, p = {p[0]} to {p[-1]}", extrapolations[ratio]))
    words = (
        f"Left: loss per p at p = {p[-1]} and H/p = {', '.join(ratios)}, with p sigma2 = {p_sigma2}: the limit as lines, the "
        f"mean of {runs[-1]} runs of gradient flow as points, on a logarithmic axis. The points lie on the lines: for "
        "H > p the loss falls like exp(-8t), for H = p like exp(-2t), for H < p to the plateau (p - H)/2. Middle: experiment "
        f"minus limit at p = {p[len(p) // 2]} ({runs[len(p) // 2]} runs), of order one where the loss is of order p; lines "
        "are the next order in 1/p. Right: the relative gap at half of the time against 1/p, with lines fitted through "
        "the sizes; what they leave at 1/p = 0 (filled) is zero within its error."
    )
    return Outcome((Picture("curves", _canvas(comparisons, extrapolations), words),), tuple(verdicts))


def _compared(p: int, ratio: str, p_sigma2: str, runs: int, seed: int, times: np.ndarray) -> Comparison:
    problem = CPDecomposition(order=2)
    sizes = {"p": p, "H": int(Fraction(ratio) * p), "sigma2": float(Fraction(p_sigma2) / p)}
    theory = solve(problem, Limit(sizes), times)
    return compare(theory, solve(problem, Simulation(sizes, runs=runs, seed=seed, tolerance=TOLERANCE), times))


def _vanishing(curve: str, extrapolation: Extrapolation) -> Verdict:
    """That the relative gap goes to zero as p grows: what is left at 1/p = 0, and that in units of its uncertainty."""
    return Verdict(
        curve,
        float(np.abs(extrapolation.gap).max()),
        float(np.abs(extrapolation.gap / extrapolation.uncertainty).max()),
        (float(extrapolation.times[0]), float(extrapolation.times[-1])),
        extrapolation.vanishes and extrapolation.shrinks,
        extrapolation.verdict,
    )


def _canvas(comparisons: Mapping[str, Sequence[Comparison]], extrapolations: Mapping[str, Extrapolation]) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(10.5, 3.6), layout="constrained")
    left, middle, right = canvas.subplots(1, 3)
    gaps = {ratio: [comparison.gaps[0] for comparison in several] for ratio, several in comparisons.items()}
    _draw_curves(left, {ratio: several[-1] for ratio, several in gaps.items()})
    _draw_gaps(middle, [several[len(several) // 2] for several in gaps.values()])
    _draw_extrapolations(right, list(gaps.values()), list(extrapolations.values()))
    return canvas


def _draw_curves(axes: Axes, gaps: Mapping[str, Gap]) -> None:
    pairs = [trajectory for gap in gaps.values() for trajectory in (gap.reference, gap.other)]
    labels = [label for ratio in gaps for label in (f"limit, $H/p = {ratio}$", f"simulation, $H/p = {ratio}$")]
    draw_trajectories(*pairs, per="p", labels=labels, axes=axes)
    axes.set_title(f"$p = {_size(pairs[0])}$")


def _draw_gaps(axes: Axes, gaps: Sequence[Gap]) -> None:
    """Experiment minus limit with the errors of the experiment, and the next order as the limit knows it."""
    for gap, color, marker in zip(gaps, COLORS, MARKERS, strict=False):
        axes.errorbar(gap.times, gap.difference, gap.other.uncertainty["loss"], fmt=marker, color=color, **POINTS)
        axes.plot(gap.reference.times, gap.reference.details["next_order"], color=color)
    axes.axhline(0, color="#555555", lw=0.8)
    title = f"gap and next order, $p = {_size(gaps[0].reference)}$"
    axes.set(xlabel="time $t$", ylabel="experiment $-$ limit, in units of $L$", title=title)


def _draw_extrapolations(axes: Axes, gaps: Sequence[Sequence[Gap]], extrapolations: Sequence[Extrapolation]) -> None:
    """Relative gaps at the middle time with the errors of the experiment, and the fitted lines down to 1/p = 0."""
    times = extrapolations[0].times
    k = times.size // 2
    for several, extrapolation, color, marker in zip(gaps, extrapolations, COLORS, MARKERS, strict=False):
        inverse = np.array([1 / _size(gap.other) for gap in several])
        relative = np.array([gap.relative[k] for gap in several])
        errors = np.array([gap.other.uncertainty["loss"][k] / gap.reference.values["loss"][k] for gap in several])
        axes.errorbar(inverse, 100 * relative, 100 * errors, fmt=marker, color=color, **POINTS)
        left_over, error = extrapolation.gap[k], extrapolation.uncertainty[k]
        axes.errorbar(0.0, 100 * left_over, 100 * error, fmt=marker, color=color, elinewidth=1.0)
        line = np.array([0.0, inverse.max()])
        axes.plot(line, 100 * (left_over + extrapolation.slope[k] * line), "--", color=color, lw=1.0)
    axes.axhline(0, color="#555555", lw=0.8)
    axes.set(xlabel="$1/p$", ylabel="relative gap in %", title=f"gap at $t = {times[k]:g}$ as $p$ grows")


def _size(trajectory: Trajectory) -> int:
    return int(trajectory.method.sizes["p"])  # type: ignore[attr-defined]  (Limit and Simulation have sizes)


FIGURE = Figure(
    name="matrix",
    title="Symmetric matrix decomposition: the limit against gradient flow",
    claim="For L = |U^T U - 1|^2 / 2 the mean loss of gradient flow follows the Marchenko-Pastur average of the exact "
    "evolution of the eigenvalues; the relative gap vanishes like 1/p.",
    sources=("YGG26v2",),
    quick={
        "p": (32, 64, 128),
        "runs": (256, 128, 64),
        "ratios": ("2", "1", "1/2"),
        "p_sigma2": "1/4",
        "last_time": 1.5,
        "times": 16,
    },
    full={
        "p": (128, 256, 512),
        "runs": (256, 128, 64),
        "ratios": ("2", "1", "1/2"),
        "p_sigma2": "1/4",
        "last_time": 1.5,
        "times": 31,
    },
    draw=draw,
)
