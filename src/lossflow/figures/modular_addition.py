"""Learning (x + y) mod p with an order-3 tensor: the exact short-time series of the real task, and the whole of its learning."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from lossflow.comparison import Gap, compare
from lossflow.expansion.method import Series
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.figures.series_vs_simulation import SUMS, draw_panel, verdict_of
from lossflow.method import solve
from lossflow.plot import COLORS, MARKERS, POINTS
from lossflow.problems.cp import CPDecomposition
from lossflow.problems.targets import ModularAddition
from lossflow.simulate.method import Simulation
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

TOLERANCE = 1e-6  # of every run: a thousandth of what the scatter of the runs leaves unknown
PROBLEM = CPDecomposition(order=3, symmetric=False, target=ModularAddition())
LEARNED = 0.01  # of the loss of the model that is zero, p^2/2


def draw(
    p: tuple[int, ...],
    width: int,
    sigma2: tuple[str, ...],
    sums: tuple[str, ...],
    order: int,
    runs: int,
    last_times: tuple[float, ...],
    end: float,
    times: int,
) -> Outcome:
    """p: odd moduli; width: H/p; sigma2: one for each p; sums: ways to sum the series of this order; last_times: of the
    comparison with the series, one for each p; end: the time at which the task is learned; times: points of each curve."""
    gaps: dict[int, Mapping[str, Gap]] = {}
    learned: dict[int, Trajectory] = {}
    for seed, (modulus, variance, last) in enumerate(zip(p, sigma2, last_times, strict=True)):
        sizes = {"p": modulus, "H": width * modulus, "sigma2": float(Fraction(variance))}
        simulation = Simulation(sizes, runs=runs, seed=seed, tolerance=TOLERANCE)
        short = np.linspace(0, last, times)
        experiment = solve(PROBLEM, simulation, short)
        found = [solve(PROBLEM, Series(sizes, order, SUMS[each][0]), short) for each in sums]
        gaps[modulus] = dict(zip(sums, compare(experiment, *found).gaps, strict=True))
        learned[modulus] = solve(PROBLEM, simulation, np.geomspace(last / 10, end, times))
    verdicts = [
        *(
            verdict_of(f"p = {modulus}, {each}", gap)
            for modulus, by_sum in gaps.items()
            for each, gap in by_sum.items()
        ),
        *(_is_learned(modulus, trajectory) for modulus, trajectory in learned.items()),
    ]
    words = (
        f"Loss under gradient flow on the table of (x + y) mod p, a p x p x p target decomposed into H = {width} p products "
        f"of independent vectors. One panel for each p = {', '.join(map(str, p))}: the mean of {runs} runs (points) at short "
        f"times, and the exact series of order {order} at these sizes, which treats the task itself, summed in {len(sums)} ways "
        "(lines, full up to the triangles and pale where their error estimate exceeds a tenth). Last panel: the loss per p^2/2, "
        "the loss of a model that is zero, until the task is learned."
    )
    return Outcome((Picture("curves", _canvas(gaps, learned), words),), tuple(verdicts))


def _is_learned(modulus: int, trajectory: Trajectory) -> Verdict:
    """Whether the mean loss ends below a hundredth of p^2/2."""
    left = float(trajectory.values["loss"][-1]) / (modulus**2 / 2)
    agree = bool(trajectory.status) and left < LEARNED
    times = (float(trajectory.times[0]), float(trajectory.times[-1]))
    sentence = (
        f"at t = {times[1]:.4g} the mean loss is {left:.2g} of p^2/2, {'below' if agree else 'not below'} {LEARNED:g}"
    )
    return Verdict(f"p = {modulus}, learned", None, None, times, agree, sentence)


def _canvas(gaps: Mapping[int, Mapping[str, Gap]], learned: Mapping[int, Trajectory]) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(3.4 * (len(gaps) + 1), 3.2), layout="constrained")
    *panels, whole = canvas.subplots(1, len(gaps) + 1)
    for axes, (modulus, by_sum) in zip(panels, gaps.items(), strict=True):
        draw_panel(axes, next(iter(by_sum.values())).reference, by_sum)
        axes.set_title(f"$p = {modulus}$")
    panels[0].legend()
    _draw_whole(whole, learned)
    return canvas


def _draw_whole(axes: Axes, learned: Mapping[int, Trajectory]) -> None:
    for (modulus, trajectory), color, marker in zip(learned.items(), COLORS[3:], MARKERS, strict=False):
        unit = modulus**2 / 2
        values, errors = trajectory.values["loss"] / unit, trajectory.uncertainty["loss"] / unit
        axes.errorbar(trajectory.times, values, errors, fmt=marker, color=color, label=f"$p = {modulus}$", **POINTS)
    axes.set(xscale="log", xlabel="time $t$", ylabel="loss $L$ / ($p^2/2$)", title="until it is learned")
    axes.set_ylim(bottom=0)
    axes.legend()


FIGURE = Figure(
    name="modular-addition",
    title="Modular addition: exact short-time series of the real task",
    claim="The exact series of gradient flow on the table of (x + y) mod p, odd p, agrees with simulation up to the time at "
    "which its own error estimate ends it; the flow goes on to learn the task.",
    sources=("YGG26v2",),
    quick={
        "p": (5, 7),
        "width": 4,
        "sigma2": ("1/20", "1/25"),
        "sums": ("Taylor", "Pade", "Borel-Pade"),
        "order": 3,
        "runs": 100,
        "last_times": (1.0, 0.8),
        "end": 10.0,
        "times": 17,
    },
    full={
        "p": (11, 23),
        "width": 4,
        "sigma2": ("3/100", "1/55"),
        "sums": ("Taylor", "Pade", "Borel-Pade"),
        "order": 5,
        "runs": 64,
        "last_times": (0.8, 0.6),
        "end": 15.0,
        "times": 25,
    },
    draw=draw,
)
