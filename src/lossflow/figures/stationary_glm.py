"""Where the flow ends: long descent against the fixed point of the M-estimator, and double descent in delta."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.dynamics import GradientDescent
from lossflow.end_states import stationary
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.meanfield.method import MeanField
from lossflow.method import solve
from lossflow.plot import COLORS, MARKERS, POINTS
from lossflow.problems.glm import GeneralizedLinear
from lossflow.problems.labels import LinearLabels, SignLabels
from lossflow.problems.losses import Logistic, Square
from lossflow.trajectory import EndState, Trajectory

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    Array = npt.NDArray[np.float64]

LONG = ("loss", "test_loss", "overlap")  # followed over time
RELATIVE = 3e-4  # of a long descent to its end, besides the error of the mean field
SIGMAS = 5.0  # of a point of the experiment
SIZE = 2.0  # over d, relative: what the size of the experiment may change


class Point(NamedTuple):
    """The mean over runs of |theta - theta*|^2/d at one delta, with its standard error."""

    delta: float
    mean: float
    error: float


def draw(
    deltas: tuple[float, ...], decays: tuple[float, ...], dimension: int, runs: int, steps: int, paths: int
) -> Outcome:
    """deltas: of the experiments; decays: weight decays of the double descent; dimension, runs: of ridge regression on samples;
    steps, paths: of the long descent of logistic regression."""
    logistic = GeneralizedLinear(Logistic(), SignLabels(), delta=2.0, weight_decay=0.05)
    descent = GradientDescent(2.0)  # where the flow ends does not depend on the step
    path = solve(logistic, MeanField(paths=paths), descent.times(steps), descent)
    end = stationary(logistic)
    verdicts = [_arrives(name, path, end) for name in LONG]
    grid = np.unique(np.concatenate([np.geomspace(min(deltas), max(deltas), 60), np.linspace(0.9, 1.1, 21)]))
    lines = {decay: np.array([stationary(_ridge(delta, decay)).values["mse"] for delta in grid]) for decay in decays}
    points = {decay: [_experiment(delta, decay, dimension, runs) for delta in deltas] for decay in decays}
    verdicts += [_follows(decay, several, dimension) for decay, several in points.items()]
    words = (
        "Left: logistic regression with labels sign(r*), delta = 2, weight decay 0.05, descent with step 2 by mean-field theory; "
        "dashed: the fixed point of the M-estimator. Right: ridge regression with noise of variance 1/4, squared error of the "
        f"end state over delta for decays {', '.join(f'{decay:g}' for decay in decays)}: with little decay it peaks where "
        f"samples and weights are equal in number, and falls again beyond. Points: {runs} samples at d = {dimension}, solved."
    )
    return Outcome((Picture("end", _canvas(path, end, grid, lines, points), words),), tuple(verdicts))


def _ridge(delta: float, decay: float) -> GeneralizedLinear:
    return GeneralizedLinear(Square(), LinearLabels(noise_variance=0.25), delta=delta, weight_decay=decay)


def _experiment(delta: float, decay: float, dimension: int, runs: int) -> Point:
    """(X^T X/delta + decay) theta = X^T y/delta on samples."""
    problem, found = _ridge(delta, decay), []
    for run in range(runs):
        sample = problem.as_sample({"d": dimension}, run, 0)
        X = sample["X"]
        theta = np.linalg.solve(X.T @ X / delta + decay * np.eye(dimension), X.T @ sample["y"] / delta)
        found.append(float(np.mean((theta - sample["theta_star"][0]) ** 2)))
    return Point(delta, float(np.mean(found)), float(np.std(found, ddof=1)) / math.sqrt(runs))


def _arrives(name: str, path: Trajectory, end: EndState) -> Verdict:
    """The last value of the long descent is the end state."""
    last, error = float(path.values[name][-1]), float(path.uncertainty[name][-1])
    expected, time = end.values[name], float(path.times[-1])
    gap = abs(last - expected)
    sentence = f"{name} is {last:.6f} +- {error:.1e} at t = {time:g} and {expected:.6f} at the fixed point"
    return Verdict(
        f"long descent, {name}",
        gap / abs(expected),
        gap / error,
        (time, time),
        gap < SIGMAS * error + RELATIVE * abs(expected),
        sentence,
    )


def _follows(decay: float, points: Sequence[Point], dimension: int) -> Verdict:
    expected = np.array([stationary(_ridge(point.delta, decay)).values["mse"] for point in points])
    mean, error = np.array([point.mean for point in points]), np.array([point.error for point in points])
    gap = np.abs(mean - expected)
    agree = bool((gap < SIGMAS * error + SIZE / dimension * expected).all())
    relative, deviation = float((gap / expected).max()), float((gap / error).max())
    sentence = f"ridge solutions differ by at most {100 * relative:.1f}% ({deviation:.1f} sigma) at {len(points)} values of delta"
    return Verdict(f"double descent, weight decay {decay:g}", relative, deviation, None, agree, sentence)


def _canvas(
    path: Trajectory, end: EndState, grid: Array, lines: Mapping[float, Array], points: Mapping[float, Sequence[Point]]
) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(9.0, 3.6), layout="constrained")
    left, right = canvas.subplots(1, 2)
    _draw_long(left, path, end)
    for (decay, line), color, marker in zip(lines.items(), COLORS, MARKERS, strict=False):
        right.plot(grid, line, color=color, label=rf"$\lambda = {decay:g}$")
        xs, means, errors = np.array(points[decay]).T
        right.errorbar(xs, means, errors, fmt=marker, color=color, **POINTS)
    right.set(
        xscale="log",
        yscale="log",
        xlabel=r"$\delta = n/d$",
        ylabel="squared error",
        title="ridge regression, end of the flow",
    )
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10) if grid[0] <= tick <= grid[-1]]
    right.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    right.minorticks_off()
    right.legend()
    return canvas


def _draw_long(axes: Axes, path: Trajectory, end: EndState) -> None:
    later = path.times > 0
    for name, color in zip(LONG, COLORS, strict=False):
        axes.plot(path.times[later], path.values[name][later], color=color, label=name.replace("_", " "))
        axes.axhline(end.values[name], color=color, ls="--", lw=1.0)
    axes.set(xscale="log", xlabel="time $t$", ylabel="value", title="logistic regression, descent and its end")
    axes.legend()


FIGURE = Figure(
    name="stationary-glm",
    title="The end of the flow as an M-estimator",
    claim="Long descent by mean-field theory ends at the fixed point of the M-estimator; with little weight decay the error of "
    "the end state peaks at delta = 1, as ridge regression on samples shows.",
    sources=("NI26v2",),
    quick={
        "deltas": (0.2, 0.4, 0.7, 1.0, 1.5, 2.5, 5.0),
        "decays": (1e-3, 1e-2, 0.1),
        "dimension": 200,
        "runs": 12,
        "steps": 50,
        "paths": 2048,
    },
    full={
        "deltas": (0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0),
        "decays": (1e-3, 1e-2, 0.1),
        "dimension": 1000,
        "runs": 24,
        "steps": 100,
        "paths": 16384,
    },
    draw=draw,
)
