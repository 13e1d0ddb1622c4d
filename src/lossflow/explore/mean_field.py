"""Page 2: linear models over samples, temperature and batch: ridge regression, solved in closed form, and logistic, sampled.

docs/theory/mean_field.md sections 2, 3 and 6.1 [NI26v2].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from lossflow.comparison import compare
from lossflow.dynamics import SGD, AbstractDynamics, GradientFlow, StochasticGradientFlow
from lossflow.end_states import stationary
from lossflow.explore.pictures import as_html, sheet
from lossflow.meanfield.method import MeanField
from lossflow.method import solve
from lossflow.plot import COLORS, draw_trajectories, paper_style
from lossflow.problems.glm import GeneralizedLinear
from lossflow.problems.labels import LinearLabels, SignLabels
from lossflow.problems.losses import Logistic, Square
from lossflow.simulate.method import Simulation

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

Kind = Literal["gradient flow", "stochastic gradient flow", "SGD"]
KINDS: tuple[Kind, ...] = ("gradient flow", "stochastic gradient flow", "SGD")
LOSSES = ("square", "logistic")
UNTIL = 10.0
SAMPLED = {"paths": 512, "randomizations": 8}  # of a theory without closed form: a few per mille in a second
COARSE = 32  # its resolution of a flow
INTERVALS = 25
STEP_OF_FLOW = 0.1  # of the stochastic flow, which is then an Euler scheme that theory and experiment share
NAMES = {"loss": "training loss", "test_loss": "test loss"}


class Curves(NamedTuple):
    """Training and test loss over time, and a sentence for each."""

    pictures: tuple[str, str]
    words: tuple[str, ...]


def regression(loss: str, delta: float, noise_variance: float, weight_decay: float) -> GeneralizedLinear:
    """Ridge regression on noisy labels or logistic regression on the signs of a teacher, `delta` samples per dimension."""
    if loss == "logistic":
        return GeneralizedLinear(Logistic(), SignLabels(), delta=delta, weight_decay=weight_decay)
    return GeneralizedLinear(Square(), LinearLabels(noise_variance), delta=delta, weight_decay=weight_decay)


def dynamics_of(kind: Kind, temperature: float, step: float, batch_fraction: float) -> AbstractDynamics:
    """The dynamics that a page asks for; what it does not use is left aside."""
    match kind:
        case "stochastic gradient flow":
            return StochasticGradientFlow(temperature=temperature, step=STEP_OF_FLOW)
        case "SGD":
            return SGD(step=step, batch_fraction=batch_fraction)
    return GradientFlow()


def times_of(dynamics: AbstractDynamics) -> Array:
    """Up to UNTIL; for a discrete dynamics multiples of its step."""
    if dynamics.step is None:
        return np.linspace(0, UNTIL, INTERVALS + 1)
    updates = round(UNTIL / dynamics.step)
    every = max(1, round(updates / INTERVALS))
    return dynamics.times(updates // every * every, every)


@paper_style()
def curves(
    problem: GeneralizedLinear, dynamics: AbstractDynamics, d: int = 100, runs: int = 4, seed: int = 0
) -> Curves:
    """Theory, the mean of a few runs at dimension d, and where gradient flow ends."""
    times = times_of(dynamics)
    method = MeanField()
    if not isinstance(problem.loss, Square):  # nothing is known in closed form
        method = MeanField(**SAMPLED, resolution=COARSE if dynamics.step is None else None)
    theory = solve(problem, method, times, dynamics)
    experiment = solve(problem, Simulation({"d": d}, runs=runs, seed=seed), times, dynamics)
    end = stationary(problem)
    pictures, words = [], []
    for observable, title in NAMES.items():
        canvas, axes = sheet()
        draw_trajectories(theory, experiment, observable=observable, axes=axes)
        if end.status and observable in end.values:
            axes.axhline(float(end.values[observable]), color=COLORS[2], ls=":", lw=1.5, label="end of gradient flow")
            axes.legend()
        axes.set_title(title)
        verdict = compare(theory, experiment, observable=observable).verdict
        pictures.append(as_html(canvas, observable, verdict))
        words.append(verdict)
    return Curves((pictures[0], pictures[1]), tuple(words))
