"""One small problem on three roads: its exact power series, simulations, and the large-size limit."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from lossflow.comparison import Comparison, compare
from lossflow.expansion.method import Limit, Series
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.method import solve
from lossflow.plot import draw_deviations, draw_trajectories
from lossflow.problems.cp import CPDecomposition
from lossflow.simulate.method import Simulation
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

TOLERANCE = 1e-6  # of every run: a thousandth of what the scatter of the runs leaves unknown


def draw(p: int, H: int, sigma2: str, order: int, runs: int, last_time: float, times: int) -> Outcome:
    """Sizes, the order of the series, and the number and times of the runs."""
    problem = CPDecomposition(order=2)
    sizes = {"p": p, "H": H, "sigma2": float(Fraction(sigma2))}
    methods = Simulation(sizes, runs=runs, tolerance=TOLERANCE), Series(sizes, order), Limit(sizes)
    experiment, series, limit = (solve(problem, method, np.linspace(0, last_time, times)) for method in methods)
    comparison = compare(experiment, series, limit)
    by_series, by_limit = comparison.gaps
    words = (
        f"Left: loss of the symmetric order-2 problem with p = {p}, H = {H}, sigma2 = {sigma2} at short times. The mean of "
        f"{runs} runs of gradient flow (points) lies on the exact power series of order {order}, whose truncation error (band) "
        "opens until the series ends at the dotted line. The limit of large p and H runs below both: at this size its "
        "uncertainty, the neglected next order in 1/p, is as wide as the gap. Right: series and limit minus experiment in "
        "units of the combined uncertainty."
    )
    return Outcome(
        (Picture("curves", _canvas(experiment, series, limit, comparison), words),),
        (Verdict.of("exact series", by_series), Verdict.of("large-size limit", by_limit)),
    )


def _canvas(experiment: Trajectory, series: Trajectory, limit: Trajectory, comparison: Comparison) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(9.0, 3.6), layout="constrained")
    left, right = canvas.subplots(1, 2, width_ratios=(3, 2))
    draw_trajectories(experiment, series, limit, axes=left)
    draw_deviations(*comparison.gaps, axes=right)
    left.set_title("loss")
    right.set_title("theory minus experiment")
    right.set_xlim(left.get_xlim())
    left.set_ylim(0.5 * experiment.values["loss"].min(), 1.1 * experiment.values["loss"].max())
    right.legend()
    return canvas


FIGURE = Figure(
    name="three-roads",
    title="Three roads to one curve: series, experiment, limit",
    claim="At finite size the exact power series and the mean of gradient flow agree as far as the series can be summed; the "
    "limit differs from both by the next order in 1/p, which is its stated uncertainty.",
    sources=("YGG26v2",),
    quick={"p": 8, "H": 6, "sigma2": "1/8", "order": 12, "runs": 2048, "last_time": 0.15, "times": 21},
    full={"p": 8, "H": 6, "sigma2": "1/8", "order": 20, "runs": 65536, "last_time": 0.15, "times": 41},
    draw=draw,
)
