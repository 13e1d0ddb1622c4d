"""Where the diffusion picture of SGD with small batches fails: stochastic gradient flow, the jump process, and SGD itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from lossflow.comparison import Comparison, compare
from lossflow.dynamics import SGD, AbstractDynamics, PoissonSGD, StochasticGradientFlow
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.meanfield.method import MeanField
from lossflow.method import solve
from lossflow.plot import draw_trajectories
from lossflow.problems.glm import GeneralizedLinear
from lossflow.problems.labels import SignLabels
from lossflow.problems.losses import Logistic
from lossflow.simulate.method import Simulation
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

OBSERVABLES = ("train_error", "loss", "test_error")
SEPARATED = 5.0  # standard errors between the two theories


def draw(delta: float, temperature: float, step: float, steps: int, dimension: int, runs: int, paths: int) -> Outcome:
    """delta, temperature; step, steps: of all dynamics; dimension, runs: of the experiments; paths: of the theory."""
    problem = GeneralizedLinear(Logistic(), SignLabels(), delta=delta, weight_decay=0.05)
    several: dict[str, AbstractDynamics] = {
        "diffusion": StochasticGradientFlow(temperature, step),
        "jumps": PoissonSGD(temperature, step),
        "SGD": SGD(step, step / (temperature * delta)),
    }
    found: dict[str, dict[str, Comparison]] = {}
    verdicts = []
    for seed, (name, dynamics) in enumerate(several.items()):
        times = dynamics.times(steps, max(1, steps // 10))
        theory = solve(problem, MeanField(paths=paths, seed=seed), times, dynamics)
        experiment = solve(problem, Simulation({"d": dimension}, runs=runs, seed=seed), times, dynamics)
        found[name] = {observable: compare(theory, experiment, observable=observable) for observable in OBSERVABLES}
        verdicts += [Verdict.of(f"{name}, {observable}", found[name][observable].gaps[0]) for observable in OBSERVABLES]
    theories = [found[name]["train_error"].gaps[0].reference for name in ("diffusion", "jumps")]
    verdicts.append(_separation(*theories))
    words = (
        f"Logistic regression at delta = {delta:g} and temperature {temperature:g}: training error, training loss and test error "
        f"of the diffusion, of the jump process, and of SGD with batches of {step / (temperature * delta):.3g} of the samples; "
        f"theory as lines, {runs} runs at d = {dimension} as points. Jumps and SGD agree; the diffusion keeps the first two "
        "moments of the noise and misses the training error."
    )
    return Outcome((Picture("curves", _canvas(found), words),), tuple(verdicts))


def _separation(diffusion: Trajectory, jumps: Trajectory) -> Verdict:
    """That the last training errors of the two theories differ by more than chance."""
    gap = float((jumps.values["train_error"] - diffusion.values["train_error"])[-1])
    error = float(np.hypot(jumps.uncertainty["train_error"], diffusion.uncertainty["train_error"])[-1])
    time = float(jumps.times[-1])
    sentence = f"the training errors of jumps and diffusion differ by {gap:.4f} +- {error:.4f} at t = {time:g}"
    relative = abs(gap) / float(diffusion.values["train_error"][-1])
    apart = abs(gap) > SEPARATED * error
    return Verdict("jumps minus diffusion, train_error", relative, abs(gap) / error, (time, time), apart, sentence)


def _canvas(found: Mapping[str, Mapping[str, Comparison]]) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(10.0, 3.4), layout="constrained")
    for axes, observable in zip(canvas.subplots(1, len(OBSERVABLES)), OBSERVABLES, strict=True):
        gaps = [comparisons[observable].gaps[0] for comparisons in found.values()]
        pairs = [trajectory for gap in gaps for trajectory in (gap.reference, gap.other)]
        labels = [label for name in found for label in (name, "_nolegend_")]
        draw_trajectories(*pairs, observable=observable, axes=axes, labels=labels, yscale="linear")
    return canvas


FIGURE = Figure(
    name="sgf-vs-poisson",
    title="Where the diffusion picture of SGD fails",
    claim="Stochastic gradient flow and the jump process, which is the limit of SGD with small batches, have different training "
    "errors where kicks are large; each is followed by its own experiment, and SGD follows the jumps.",
    sources=("NI26v2",),
    quick={
        "delta": 4.0,
        "temperature": 6.0,
        "step": 0.25,
        "steps": 40,
        "dimension": 400,
        "runs": 16,
        "paths": 4096,
    },
    full={
        "delta": 4.0,
        "temperature": 6.0,
        "step": 0.25,
        "steps": 40,
        "dimension": 2000,
        "runs": 32,
        "paths": 32768,
    },
    draw=draw,
)
