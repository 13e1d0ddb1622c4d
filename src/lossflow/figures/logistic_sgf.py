"""Logistic regression with a planted signal under descent, stochastic gradient flow and SGD: theory and experiment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lossflow.comparison import Comparison, compare
from lossflow.dynamics import SGD, AbstractDynamics, GradientDescent, StochasticGradientFlow
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.meanfield.method import MeanField
from lossflow.method import solve
from lossflow.plot import draw_trajectories
from lossflow.problems.glm import GeneralizedLinear
from lossflow.problems.labels import SignLabels
from lossflow.problems.losses import Logistic
from lossflow.simulate.method import Simulation

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

OBSERVABLES = ("loss", "test_error", "overlap")
DELTA, DECAY, START = 2.0, 0.05, 0.1


def draw(temperatures: tuple[float, ...], step: float, steps: int, dimension: int, runs: int, paths: int) -> Outcome:
    """temperatures of the noise; step, steps: of all dynamics; dimension, runs: of the experiments; paths: of the theory."""
    problem = GeneralizedLinear(Logistic(), SignLabels(), delta=DELTA, weight_decay=DECAY, init_overlap=START)
    several: dict[str, AbstractDynamics] = {"descent": GradientDescent(step)}
    for temperature in temperatures:
        several[f"flow, tau = {temperature:g}"] = StochasticGradientFlow(temperature, step)
        several[f"SGD, tau = {temperature:g}"] = SGD(step, step / (temperature * DELTA))
    found: dict[str, dict[str, Comparison]] = {}
    verdicts = []
    for seed, (name, dynamics) in enumerate(several.items()):
        times = dynamics.times(steps, max(1, steps // 10))
        theory = solve(problem, MeanField(paths=paths, seed=seed), times, dynamics)
        experiment = solve(problem, Simulation({"d": dimension}, runs=runs, seed=seed), times, dynamics)
        found[name] = {observable: compare(theory, experiment, observable=observable) for observable in OBSERVABLES}
        verdicts += [Verdict.of(f"{name}, {observable}", found[name][observable].gaps[0]) for observable in OBSERVABLES]
    words = (
        f"Logistic regression, delta = {DELTA:g}, weight decay {DECAY:g}, labels sign of the signal. From left to right training "
        f"loss, test error and overlap with the signal; mean-field theory as lines, {runs} runs at d = {dimension} as points. "
        f"Top: descent with step {step:g} and stochastic gradient flow at the temperatures "
        f"{', '.join(f'{t:g}' for t in temperatures)}. Bottom: SGD whose batches are chosen so small that the noise has the same "
        "variance. The hotter, the larger the loss; where single kicks are large SGD differs from the flow."
    )
    return Outcome((Picture("curves", _canvas(found), words),), tuple(verdicts))


def _canvas(found: Mapping[str, Mapping[str, Comparison]]) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(9.6, 5.4), layout="constrained")
    panels = canvas.subplots(2, len(OBSERVABLES), sharex=True)
    rows = [[name for name in found if not name.startswith("SGD")], [name for name in found if name.startswith("SGD")]]
    for row, names in enumerate(rows):
        for column, observable in enumerate(OBSERVABLES):
            gaps = [found[name][observable].gaps[0] for name in names]
            pairs = [trajectory for gap in gaps for trajectory in (gap.reference, gap.other)]
            labels = [label for name in names for label in (name, "_nolegend_")]
            axes = panels[row, column]
            draw_trajectories(*pairs, observable=observable, axes=axes, labels=labels, yscale="linear")
            if column and (legend := axes.get_legend()):
                legend.remove()
            if row == 0:
                axes.set_xlabel("")
    return canvas


FIGURE = Figure(
    name="logistic-sgf",
    title="Logistic regression under descent, stochastic gradient flow and SGD",
    claim="The mean-field curves of training loss, test error and overlap are those of experiments, at every temperature and for "
    "the flow as well as for SGD itself.",
    sources=("NI26v2",),
    quick={"temperatures": (0.3, 1.0, 3.0), "step": 0.25, "steps": 20, "dimension": 500, "runs": 16, "paths": 2048},
    full={"temperatures": (0.3, 1.0, 3.0), "step": 0.25, "steps": 100, "dimension": 2000, "runs": 32, "paths": 16384},
    draw=draw,
)
