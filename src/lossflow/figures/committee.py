"""Committees of erf units that learn a committee: how the units specialize, in theory and experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from lossflow.comparison import compare
from lossflow.dynamics import GradientDescent
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.meanfield.method import MeanField
from lossflow.method import solve
from lossflow.plot import COLORS
from lossflow.problems.two_layer import Erf, TwoLayer
from lossflow.simulate.method import Simulation
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    Array = npt.NDArray[np.float64]

OBSERVABLES = ("loss", "test_loss")
BIAS = 0.25  # of each unit towards its own teacher unit, at the start


def draw(hidden: tuple[int, ...], step: float, steps: int, dimension: int, runs: int, paths: int) -> Outcome:
    """hidden: numbers of units; step, steps: of descent; dimension, runs: of the experiments; paths: of the theory."""
    found: dict[int, tuple[Trajectory, Trajectory]] = {}
    verdicts = []
    for units in hidden:
        problem, dynamics = _committee(units), GradientDescent(step)
        times = dynamics.times(steps, max(1, steps // 20))
        theory = solve(problem, MeanField(paths=paths), times, dynamics)
        experiment = solve(problem, Simulation({"d": dimension}, runs=runs), times, dynamics)
        found[units] = theory, experiment
        comparisons = {name: compare(theory, experiment, observable=name) for name in OBSERVABLES}
        verdicts += [Verdict.of(f"m = {units}, {name}", one.gaps[0]) for name, one in comparisons.items()]
    words = (
        f"Committees of {' and '.join(map(str, hidden))} erf units that learn a committee of as many, delta = 4. Left: training "
        "and test loss. Right: the overlap of a unit with its own teacher unit (upper curves) and with another one (lower "
        f"curves), means over the pairs. Theory as lines, {runs} runs of descent at d = {dimension} as points. All units first "
        "learn what the teacher units have in common; then the overlaps split."
    )
    return Outcome((Picture("curves", _canvas(found), words),), tuple(verdicts))


def _committee(units: int) -> TwoLayer:
    start = tuple(tuple(BIAS if a == b else 0.0 for b in range(units)) for a in range(units))
    readout = (1 / units,) * units
    return TwoLayer(
        units,
        units,
        Erf(),
        delta=4.0,
        weight_decay=0.002,
        noise_variance=0.001,
        readout=readout,
        teacher_readout=readout,
        init_overlap=start,
    )


def _canvas(found: Mapping[int, tuple[Trajectory, Trajectory]]) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(8.0, 2.9 * len(found)), layout="constrained")
    rows = canvas.subplots(len(found), 2, squeeze=False)
    for (left, right), (units, (theory, experiment)) in zip(rows, found.items(), strict=True):
        for observable, color in zip(OBSERVABLES, COLORS, strict=False):
            _draw(
                left, theory, experiment, lambda t, name=observable: t.values[name], color, observable.replace("_", " ")
            )
        left.set(title=f"{units} units", xlabel="time $t$", ylabel="loss", yscale="log")
        for label, mean, color in (("own", _own, COLORS[2]), ("other", _other, COLORS[3])):
            _draw(right, theory, experiment, lambda t, mean=mean: mean(t.values["overlap"]), color, label)
        right.set(title=f"{units} units", xlabel="time $t$", ylabel="overlap")
        for axes in (left, right):
            axes.legend()
    return canvas


def _draw(
    axes: Axes, theory: Trajectory, experiment: Trajectory, of: Callable[[Trajectory], Array], color: str, label: str
) -> None:
    axes.plot(theory.times, of(theory), color=color, label=label)
    axes.plot(experiment.times, of(experiment), "o", color=color, mfc="white", mew=1.0)


def _own(overlap: Array) -> Array:
    """The mean over pairs of a unit and its own teacher unit."""
    return np.einsum("taa->t", overlap) / overlap.shape[-1]


def _other(overlap: Array) -> Array:
    """The mean over all other pairs."""
    units = overlap.shape[-1]
    return (overlap.sum(axis=(1, 2)) - units * _own(overlap)) / (units * (units - 1))


FIGURE = Figure(
    name="committee",
    title="Specialization of committees",
    claim="Training and test loss of erf committees with 2 and 4 units under gradient descent are those of the mean-field limit, "
    "through the transition at which the units specialize.",
    sources=("NI26v2",),
    quick={"hidden": (2,), "step": 1.0, "steps": 60, "dimension": 600, "runs": 12, "paths": 2048},
    full={"hidden": (2, 4), "step": 1.0, "steps": 200, "dimension": 2000, "runs": 16, "paths": 8192},
    draw=draw,
)
