"""The online limit: how the curves of many-pass training approach the online equations as the samples multiply."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.dynamics import AbstractDynamics, StochasticGradientFlow
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.meanfield.method import MeanField
from lossflow.meanfield.online import Online
from lossflow.method import solve
from lossflow.plot import COLORS, LINES, MARKERS, POINTS
from lossflow.problem import AbstractProblem
from lossflow.problems.glm import GeneralizedLinear
from lossflow.problems.labels import LinearLabels
from lossflow.problems.losses import Square
from lossflow.problems.two_layer import Erf, TwoLayer
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    Array = npt.NDArray[np.float64]

SETTLED = 0.02  # change of gap times delta over the last decade of the exact case
SHOWN = 100.0  # curves of larger delta lie on the limit
SIGMAS = 3.0  # what the sampled case may leave at 1/delta = 0


class Approach(NamedTuple):
    """Curves at several delta and their limit; gap: of `mse` at the last time, with one standard error, for each delta."""

    deltas: tuple[float, ...]
    curves: Sequence[Trajectory]
    limit: Trajectory
    gap: Array
    error: Array


def draw(
    linear: tuple[float, ...], committee: tuple[float, ...], temperature: float, paths: int, steps: int
) -> Outcome:
    """linear, committee: increasing delta of the two cases; temperature; paths, steps: of the mean field of the committee."""
    flow = StochasticGradientFlow(temperature)
    exact = _approach(_regression, linear, np.linspace(0, 4, 25), flow, MeanField())
    updates = StochasticGradientFlow(temperature, step=0.25)
    sampled = _approach(
        _committee, committee, updates.times(steps, max(1, steps // 20)), updates, MeanField(paths=paths)
    )
    words = (
        f"Stochastic gradient flow of temperature {temperature:g}. Left: squared error of linear regression for several ratios "
        "delta = n/d (exact) and the online limit (dashed), in which no sample is seen twice. Middle: the same for a committee "
        f"of two erf units, updates with step 0.25. Right: the gap to the online limit at the last time, times delta. For linear "
        "regression it is exact and goes to a constant; for the committee bars are one standard error. So the gap falls like "
        "1/delta in both cases."
    )
    return Outcome((Picture("approach", _canvas(exact, sampled), words),), (_settles(exact), _vanishes(sampled)))


def _regression(delta: float) -> AbstractProblem:
    return GeneralizedLinear(Square(), LinearLabels(noise_variance=0.25), delta=delta)


def _committee(delta: float) -> AbstractProblem:
    start = ((0.2, 0.0), (0.0, 0.1))
    return TwoLayer(
        2, 2, Erf(), delta=delta, weight_decay=0.02, noise_variance=0.01, readout=(0.5, 0.5), init_overlap=start
    )


def _approach(
    problem: Callable[[float], AbstractProblem],
    deltas: tuple[float, ...],
    times: Array,
    dynamics: AbstractDynamics,
    method: MeanField,
) -> Approach:
    limit = solve(problem(math.inf), Online(), times, dynamics)
    curves = [solve(problem(delta), method, times, dynamics) for delta in deltas]
    gap = np.array([curve.values["mse"][-1] - limit.values["mse"][-1] for curve in curves])
    error = np.array([math.hypot(curve.uncertainty["mse"][-1], limit.uncertainty["mse"][-1]) for curve in curves])
    return Approach(deltas, curves, limit, gap, error)


def _settles(exact: Approach) -> Verdict:
    scaled = exact.gap * np.array(exact.deltas)
    change = float(abs(scaled[-1] / scaled[-2] - 1))
    time = float(exact.limit.times[-1])
    pairs = ", ".join(f"{x:.4f} at {delta:g}" for x, delta in zip(scaled, exact.deltas, strict=True))
    sentence = f"gap times delta is {pairs}"
    return Verdict("linear regression, gap times delta", change, None, (time, time), change < SETTLED, sentence)


def _vanishes(sampled: Approach) -> Verdict:
    """gap = left + c/delta + e/delta^2 by weighted least squares: left is zero within its error, and c is not."""
    inverse = 1 / np.array(sampled.deltas)
    A = np.stack([np.ones_like(inverse), inverse, inverse**2], axis=1) / sampled.error[:, None]
    covariance = np.linalg.inv(A.T @ A)
    left, slope, _ = covariance @ A.T @ (sampled.gap / sampled.error)
    left_error, slope_error, _ = np.sqrt(np.diag(covariance))
    agree = bool(abs(left) < SIGMAS * left_error and abs(slope) > SIGMAS * slope_error)
    relative = float(abs(left) / sampled.limit.values["mse"][-1])
    time = float(sampled.limit.times[-1])
    sentence = f"gap = {left:.1e} +- {left_error:.1e} + ({slope:.3f} +- {slope_error:.3f})/delta + O(1/delta^2)"
    return Verdict(
        "committee, gap at 1/delta = 0", relative, float(abs(left) / left_error), (time, time), agree, sentence
    )


def _canvas(exact: Approach, sampled: Approach) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(10.5, 3.6), layout="constrained")
    left, middle, right = canvas.subplots(1, 3)
    for axes, case, title in ((left, exact, "linear regression"), (middle, sampled, "committee of two erf units")):
        _draw_curves(axes, case)
        axes.set_title(title)
    for case, name, color, marker in (
        (exact, "linear regression", COLORS[0], MARKERS[0]),
        (sampled, "committee", COLORS[1], MARKERS[1]),
    ):
        deltas = np.array(case.deltas)
        right.errorbar(deltas, deltas * case.gap, deltas * case.error, fmt=marker, color=color, label=name, **POINTS)
    right.axhline(0, color="#555555", lw=0.8)
    right.set(xscale="log", xlabel=r"$\delta = n/d$", ylabel=r"gap $\times\ \delta$", title="squared error, last time")
    right.legend()
    return canvas


def _draw_curves(axes: Axes, case: Approach) -> None:
    shown = [k for k, delta in enumerate(case.deltas) if delta <= SHOWN][:4]
    for k, color in zip(shown, COLORS, strict=False):
        curve = case.curves[k]
        axes.plot(curve.times, curve.values["mse"], LINES[0], color=color, label=rf"$\delta = {case.deltas[k]:g}$")
    axes.plot(case.limit.times, case.limit.values["mse"], "--", color="black", label="online limit")
    axes.set(xlabel="time $t$", ylabel="squared error", yscale="log")
    axes.legend()


FIGURE = Figure(
    name="online-limit",
    title="Approach to the online limit",
    claim="As delta = n/d grows at fixed temperature, mean-field curves approach the online equations like 1/delta, for linear "
    "regression and for a committee.",
    sources=("NI26v2",),
    quick={
        "linear": (3.0, 10.0, 100.0, 1e3, 1e4),
        "committee": (3.0, 5.0, 8.0, 16.0, 32.0),
        "temperature": 0.5,
        "paths": 2048,
        "steps": 20,
    },
    full={
        "linear": (3.0, 10.0, 100.0, 1e3, 1e4),
        "committee": (3.0, 5.0, 10.0, 20.0, 40.0),
        "temperature": 0.5,
        "paths": 16384,
        "steps": 80,
    },
    draw=draw,
)
