"""Linear regression: the mean-field equations, the exact spectral solution and experiment, for three dynamics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lossflow.comparison import Comparison, compare
from lossflow.dynamics import SGD, AbstractDynamics, GradientDescent, StochasticGradientFlow
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.meanfield.method import MeanField
from lossflow.method import solve
from lossflow.plot import Scale, draw_trajectories
from lossflow.problems.glm import GeneralizedLinear
from lossflow.problems.labels import LinearLabels
from lossflow.problems.losses import Square
from lossflow.simulate.method import Simulation
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

OBSERVABLES: Mapping[str, Scale] = {"loss": "log", "mse": "linear"}
EXACT = 1e-12  # how far the two theoretical roads may differ
STEP, BATCH, TEMPERATURE = 0.2, 0.5, 0.6
DYNAMICS: Mapping[str, AbstractDynamics] = {
    "descent": GradientDescent(STEP),
    "SGD, half per batch": SGD(STEP, BATCH),
    "stochastic flow": StochasticGradientFlow(TEMPERATURE, STEP / 4),
}


def draw(deltas: tuple[float, ...], dimension: int, runs: int, steps: int) -> Outcome:
    """deltas: one column of panels each; dimension, runs: of the experiments; steps: updates of descent, each of 0.2."""
    comparisons: dict[float, dict[str, dict[str, Comparison]]] = {}
    verdicts = []
    for delta in deltas:
        problem = GeneralizedLinear(Square(), LinearLabels(noise_variance=0.25), delta=delta)
        comparisons[delta] = {}
        for seed, (name, dynamics) in enumerate(DYNAMICS.items()):
            finer = round(STEP / (dynamics.step or STEP))
            times = dynamics.times(steps * finer, max(1, steps // 12) * finer)
            theory = solve(problem, MeanField(), dynamics.times(steps * finer, finer), dynamics)
            experiment = solve(problem, Simulation({"d": dimension}, runs=runs, seed=seed), times, dynamics)
            found = {observable: compare(theory, experiment, observable=observable) for observable in OBSERVABLES}
            comparisons[delta][name] = found
            curve = f"delta = {delta:g}, {name}"
            verdicts += [Verdict.of(f"{curve}, {observable}", found[observable].gaps[0]) for observable in OBSERVABLES]
            verdicts.append(_two_roads(curve, theory))
    words = (
        f"Training loss (top) and squared distance to the signal (bottom) of linear regression with noise of variance 1/4, for "
        f"delta = {', '.join(f'{delta:g}' for delta in deltas)}. Lines: the closed mean-field equations, which agree with the "
        f"Marchenko-Pastur law and its Volterra equation to {EXACT:g}. Points: {runs} runs at d = {dimension}. Descent with step "
        f"{STEP:g}, SGD that sees {BATCH:g} of the samples in each step, and stochastic gradient flow of temperature "
        f"{TEMPERATURE:g}: noise of the batches raises the loss and, for few samples, the final distance as well."
    )
    return Outcome((Picture("curves", _canvas(comparisons), words),), tuple(verdicts))


def _two_roads(curve: str, theory: Trajectory) -> Verdict:
    """The uncertainty of the closed case is the difference between its two roads, and rounding."""
    difference = max(float(errors.max()) for errors in theory.uncertainty.values())
    sentence = f"mean-field equations and spectral solution differ by at most {difference:.1e} in all observables"
    ends = (float(theory.times[0]), float(theory.times[-1]))
    return Verdict(f"{curve}, two roads", difference, None, ends, difference < EXACT, sentence)


def _canvas(comparisons: Mapping[float, Mapping[str, Mapping[str, Comparison]]]) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(2.7 * len(comparisons) + 0.6, 5.4), layout="constrained")
    panels = canvas.subplots(2, len(comparisons), squeeze=False, sharex=True)
    for column, (delta, several) in enumerate(comparisons.items()):
        for row, (observable, scale) in enumerate(OBSERVABLES.items()):
            axes = panels[row, column]
            gaps = [found[observable].gaps[0] for found in several.values()]
            pairs = [trajectory for gap in gaps for trajectory in (gap.reference, gap.other)]
            labels = [label for name in several for label in (name, "_nolegend_")]
            draw_trajectories(*pairs, observable=observable, axes=axes, labels=labels, yscale=scale)
            if (row, column) != (0, 0) and (legend := axes.get_legend()):
                legend.remove()
            if row == 0:
                axes.set(title=rf"$\delta = {delta:g}$", xlabel="")
            if column:
                axes.set_ylabel("")
    return canvas


FIGURE = Figure(
    name="linear-volterra",
    title="Linear regression: mean field, spectral solution and experiment",
    claim="For square loss the mean-field equations close without sampling and agree to 1e-12 with the Marchenko-Pastur law and "
    "a Volterra equation, for descent, SGD and stochastic gradient flow; experiments follow them.",
    sources=("NI26v2",),
    quick={"deltas": (0.5, 0.8, 2.0, 3.0), "dimension": 200, "runs": 24, "steps": 60},
    full={"deltas": (0.5, 0.8, 2.0, 3.0), "dimension": 2000, "runs": 16, "steps": 100},
    draw=draw,
)
