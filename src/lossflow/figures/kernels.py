"""Two-time functions of logistic regression: correlation, response, and how far the two are from equilibrium."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lossflow.dynamics import StochasticGradientFlow
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.meanfield.method import MeanField
from lossflow.method import solve
from lossflow.problems.glm import GeneralizedLinear
from lossflow.problems.labels import SignLabels
from lossflow.problems.losses import Logistic
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

CONSISTENT = 1e-2  # the largest violation of Stein's identity by sampling


def draw(temperature: float, step: float, steps: int, paths: int) -> Outcome:
    """temperature of the noise; step, steps: of its Euler scheme; paths: of the theory."""
    problem = GeneralizedLinear(Logistic(), SignLabels(), delta=2.0, weight_decay=0.05)
    dynamics = StochasticGradientFlow(temperature, step)
    found = solve(problem, MeanField(paths=paths), dynamics.times(steps, max(1, steps // 100)), dynamics)
    words = (
        f"Logistic regression, delta = 2, weight decay 0.05, stochastic gradient flow of temperature {temperature:g}. Left: the "
        "correlation C(t, s) of a weight. Middle: its response R(t, s) to a force at time s < t, on a logarithmic scale, blank "
        "where it is negative. Right: the slope of C against the integral of R, for three times t; in equilibrium it would be "
        "one temperature for all s."
    )
    return Outcome((Picture("kernels", _canvas(found), words),), _verdicts(found))


def _verdicts(found: Trajectory) -> tuple[Verdict, ...]:
    violation = float(found.details["consistency"])
    ends = (float(found.times[0]), float(found.times[-1]))
    stein = Verdict(
        "Stein's identity",
        violation,
        None,
        ends,
        violation < CONSISTENT,
        f"E[L w] and the sum of memory and correlation differ by at most {violation:.1e} of the step",
    )
    C = found.details["correlation"]
    lowest = float(np.linalg.eigvalsh(C).min() / np.trace(C))
    positive = Verdict(
        "C is a covariance", None, None, ends, lowest > -1e-10, f"its lowest eigenvalue is {lowest:.1e} of the trace"
    )
    return stein, positive


def _canvas(found: Trajectory) -> Canvas:
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(10.5, 3.4), layout="constrained")
    left, middle, right = canvas.subplots(1, 3)
    times, C, R = (found.details[name] for name in ("kernel_times", "correlation", "response"))
    image = left.pcolormesh(times, times, C, shading="nearest", cmap="viridis", rasterized=True)
    canvas.colorbar(image, ax=left)
    left.set(title="correlation $C(t, s)$", xlabel="$s$", ylabel="$t$")
    shown = np.where(R > 0, R, np.nan)
    image = middle.pcolormesh(
        times, times, shown, shading="nearest", cmap="magma", norm=LogNorm(1e-3, 1.0), rasterized=True
    )
    canvas.colorbar(image, ax=middle)
    middle.set(title="response $R(t, s)$", xlabel="$s$", ylabel="$t$")
    slope = found.details["fluctuation_dissipation"]
    for share in (0.25, 0.5, 1.0):
        row = int(share * (len(times) - 1))
        right.plot(times[:row], slope[row, :row], label=f"$t = {times[row]:g}$")
    right.set(title="fluctuation over dissipation", xlabel="$s$", ylabel=r"$\partial_s C(t, s)/R(t, s)$")
    right.legend()
    return canvas


FIGURE = Figure(
    name="kernels",
    title="Correlation and response in two times",
    claim="The mean-field equations determine the correlation and the response of a weight in two times; sampled kernels keep "
    "Stein's identity and are covariances.",
    sources=("NI26v2",),
    quick={"temperature": 1.0, "step": 0.25, "steps": 60, "paths": 2048},
    full={"temperature": 1.0, "step": 0.25, "steps": 200, "paths": 8192},
    draw=draw,
)
