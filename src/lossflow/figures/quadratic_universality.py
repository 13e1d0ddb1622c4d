"""Quadratic networks on their own inputs, X_k = (x_k x_k^T - 1)/sqrt(d), against the GOE matrices of the theory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lossflow.end_states import learning_curve
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.plot import COLORS, MARKERS, POINTS
from lossflow.problems.quadratic import QuadraticNetwork, finite_size_alpha
from lossflow.progress import progress
from lossflow.simulate.quadratic import Ends, Instance, ends

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    Array = npt.NDArray[np.float64]

KAPPA, TEACHER, NOISE = 0.5, 0.2, 0.5
DECAYS = (0.5, 0.1)
DATA = ("goe", "network")
STEP = 0.005
OBSERVABLES = ("mse", "loss")


class Size(NamedTuple):
    """At one d: the end states by weight decay and alpha, and (runs, times, (mse, loss)) of descent, for both kinds of data."""

    d: int
    points: Mapping[float, Mapping[float, Mapping[str, Ends]]]
    paths: Mapping[str, Array]

    def ratios(self, name: str, decay: float) -> Array:
        """log(network over GOE) at the end, the mean over alpha of each pair."""
        several = self.points[decay].values()
        return np.mean([np.log(found["network"].runs[name] / found["goe"].runs[name]) for found in several], axis=0)


def draw(d: int, runs: int, alphas: tuple[float, ...], path_alpha: float, updates: int) -> Outcome:
    """d, runs: of the end states at each of alphas, and of descent at path_alpha for `updates` steps of 0.005; there are twice
    as many runs at half of d."""
    sizes = []
    with progress(2 * (len(DECAYS) * len(alphas) + 1), "runs on two kinds of data") as bar:
        for size, count in ((d // 2, 2 * runs), (d, runs)):
            points: dict[float, dict[float, dict[str, Ends]]] = {}
            for decay in DECAYS:
                points[decay] = {}
                for alpha in alphas:
                    # own teachers for every point; the two kinds of data share them
                    seed, problem = 100 * len(points) + len(points[decay]), _network(alpha, decay)
                    found = {
                        "goe": ends(problem, size, count, seed),
                        "network": ends(problem, size, count, seed, "network"),
                    }
                    points[decay][finite_size_alpha(found["goe"].n, size)] = found
                    bar.update(1)
            paths = {kind: _paths(_network(path_alpha, DECAYS[1]), size, count, updates, kind) for kind in DATA}
            sizes.append(Size(size, points, paths))
            bar.update(1)
    small, large = sizes
    times = np.asarray(STEP * np.arange(updates + 1), np.float64)
    verdicts = [
        _vanishes(f"{name} at the end, lambda = {decay:g}", small.ratios(name, decay), large.ratios(name, decay), d)
        for decay in DECAYS
        for name in OBSERVABLES
    ]
    for j, name in enumerate(OBSERVABLES):
        for k in (round(k) for k in np.geomspace(1, updates, 4)):
            first, second = (np.log(size.paths["network"][:, k, j] / size.paths["goe"][:, k, j]) for size in sizes)
            verdicts.append(_vanishes(f"{name} at t = {times[k]:g}", first, second, d))
    words = (
        f"Left and middle: squared error and training loss (logarithmic) of the end state against alpha at kappa = {KAPPA:g}, "
        f"kappa* = {TEACHER:g}, noise {NOISE:g}, two weight decays: theory (lines), {runs} runs at d = {d} with GOE matrices "
        "(filled) and with (x x^T - 1)/sqrt(d), which is a network with quadratic activation on Gaussian inputs (open). "
        f"Right: both over time (double logarithmic) under descent at alpha = {path_alpha:g}, with the same teachers and "
        "starts: full lines GOE, "
        f"dashed network at d = {d}, dotted network at d = {d // 2}. The network errs more, by a share that halves as d "
        "doubles."
    )
    return Outcome((Picture("curves", _canvas(small, large, times), words),), tuple(verdicts))


def _network(alpha: float, decay: float) -> QuadraticNetwork:
    return QuadraticNetwork(alpha, KAPPA, TEACHER, NOISE, decay)


def _paths(problem: QuadraticNetwork, d: int, runs: int, updates: int, kind: str) -> Array:
    """(runs, times, (mse, loss)) of gradient descent."""
    rows = []
    for run in range(runs):
        instance = Instance(problem, d, run, 0, "network" if kind == "network" else "goe")
        W, row = instance.start, []
        for _ in range(updates + 1):
            pushed = instance.samples.push(W)
            row.append((float(np.sum((W @ W.T - instance.teacher) ** 2)) / d, pushed.loss))
            W = W - STEP * (pushed.force + 2 * float(problem.weight_decay) * W)
        rows.append(row)
    return np.array(rows)


def _vanishes(curve: str, small: Array, large: Array, d: int) -> Verdict:
    """log(network over GOE) at d/2 and d, one entry for each pair: extrapolated in 1/d it is zero, up to its own square."""
    (first, first_error), (second, second_error) = (
        (float(rows.mean()), float(rows.std(ddof=1)) / math.sqrt(len(rows))) for rows in (small, large)
    )
    left, error = 2 * second - first, math.hypot(2 * second_error, first_error)
    agree = abs(left) <= 3 * error + second**2
    sentence = (
        f"network over GOE: {100 * first:+.1f} +- {100 * first_error:.1f} % at d = {d // 2}, {100 * second:+.1f} +- "
        f"{100 * second_error:.1f} % at d = {d} (of the logarithm; {d * second:.1f}/d), extrapolated in 1/d {100 * left:+.1f} +- "
        f"{100 * error:.1f} %"
    )
    return Verdict(curve, abs(second), abs(left) / error, None, agree, sentence)


def _canvas(small: Size, large: Size, times: Array) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(11.0, 3.8), layout="constrained")
    left, middle, right = canvas.subplots(1, 3)
    known = [alpha for several in large.points.values() for alpha in several]
    grid = np.linspace(0.7 * min(known), 1.05 * max(known), 80)
    for j, (decay, several) in enumerate(large.points.items()):
        theory = learning_curve(_network(0.3, decay), "alpha", grid)
        for axes, name in ((left, "mse"), (middle, "loss")):
            axes.plot(grid, theory[name], color=COLORS[j], label=rf"$\lambda = {decay:g}$")
            for kind in DATA:
                _draw_points(axes, several, name, kind, j)
    left.set(xlabel=r"$\alpha$", ylabel=r"squared error $|Z - Z^*|^2/d$", title="end state", ylim=(0, None))
    middle.set(xlabel=r"$\alpha$", ylabel="training loss", title="training loss", yscale="log")
    left.legend(fontsize=7)
    for j, name in enumerate(("squared error", "training loss")):
        several = (
            (large.paths["goe"], "-", "GOE"),
            (large.paths["network"], "--", f"network, $d = {large.d}$"),
            (small.paths["network"], ":", f"network, $d = {small.d}$"),
        )
        for rows, style, label in several:
            shown = f"{name}, {label}" if j == 0 or style == "-" else None
            right.plot(times[1:], rows.mean(axis=0)[1:, j], style, color=COLORS[j + 2], label=shown)
    right.set(xscale="log", yscale="log", xlabel="time $t$", ylabel="squared error, loss", title="descent")
    right.legend(fontsize=7)
    return canvas


def _draw_points(axes: Axes, several: Mapping[float, Mapping[str, Ends]], name: str, kind: str, j: int) -> None:
    shift = 1.0 if kind == "goe" else 1.015  # side by side
    x = [shift * alpha for alpha in several]
    y = [found[kind].means[name] for found in several.values()]
    errors = [found[kind].errors[name] for found in several.values()]
    look: dict[str, Any] = {**POINTS, "mfc": COLORS[j]} if kind == "goe" else {**POINTS}
    axes.errorbar(x, y, errors, fmt=MARKERS[j], color=COLORS[j], **look)


FIGURE = Figure(
    name="quadratic-universality",
    title="Quadratic networks: GOE matrices and real inputs",
    claim="Networks with quadratic activation on Gaussian inputs learn and end as with GOE sensing matrices up to a correction "
    "of relative order 1/d, which is several times 1/d for a low-rank teacher.",
    sources=("MBB26v2",),
    quick={"d": 32, "runs": 12, "alphas": (0.25, 0.5), "path_alpha": 0.3, "updates": 240},
    full={"d": 100, "runs": 16, "alphas": (0.2, 0.3, 0.4, 0.5), "path_alpha": 0.3, "updates": 400},
    draw=draw,
)
