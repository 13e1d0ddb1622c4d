"""Small starts of diagonal networks: curves that collapse in s = t/log(1/kappa), and the steps of a single run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lossflow.figures.diagonal_curves import Extrapolated, experiment, merged, verdict
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.meanfield.method import MeanField
from lossflow.method import solve
from lossflow.plot import COLORS, MARKERS
from lossflow.problems.diagonal import DiagonalLinear, SymmetricInit
from lossflow.problems.priors import RademacherSparse
from lossflow.simulate.method import Simulation
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from matplotlib.figure import Figure as Canvas

    Array = npt.NDArray[np.float64]

DELTA, DENSITY, SIGMA = 0.5, 0.1, 0.1
STEPS = {"d": 20, "kappa": 1e-60, "last": 1.2}  # of the run in the inset
STILL, FALLEN = 0.1, 0.75  # of the time in units of the collapse, and of the fall of the loss that happens in it


def draw(
    kappas: tuple[float, float, float],
    last: float,
    points: int,
    d: int,
    runs: int,
    paths: int,
    resolution: int | None,
    randomizations: int,
) -> Outcome:
    """kappas: falling; last: in units of log(1/kappa); points, d, runs: of the experiments; the rest: of the theory."""
    scaled = np.linspace(last / points, last, points)
    smooth = np.linspace(last / 60, last, 60)
    theories, found, verdicts = [], [], []
    for kappa in kappas:
        unit = math.log(1 / kappa)
        problem = _problem(kappa)
        theories.append(solve(problem, MeanField(paths, resolution, randomizations), unit * merged(scaled, smooth)))
        found.append(experiment(problem, unit * scaled, d, runs))
        verdicts.append(verdict(f"kappa = {kappa:g}", theories[-1], found[-1], "mse"))
    verdicts.append(_collapse(kappas, theories))
    s, steps = _single_run()
    verdicts.append(_jumps(s, steps))
    words = (
        f"Squared error of a diagonal network with delta = {DELTA:g}, density {DENSITY:g}, noise {SIGMA:g} from three small "
        "starts, against time in units of log(1/kappa). Lines with bands: the mean field. Points: "
        f"{runs} runs at d = {d} and {2 * d}, extrapolated. The curves tend to one, with corrections of order 1/log(1/kappa). "
        f"Inset: the loss of a single run at d = {STEPS['d']}, kappa = {STEPS['kappa']:g}: a step whenever a coefficient becomes "
        "active, and rest in between. In the limit of large d coefficients become active at all times and the steps are gone."
    )
    return Outcome((Picture("search", _canvas(kappas, theories, found, s, steps), words),), tuple(verdicts))


def _problem(kappa: float) -> DiagonalLinear:
    return DiagonalLinear(DELTA, RademacherSparse(DENSITY), SIGMA**2, SymmetricInit(math.sqrt(kappa)))


def _collapse(kappas: tuple[float, float, float], theories: Sequence[Trajectory]) -> Verdict:
    """Corrections of first order in 1/log(1/kappa): how far the middle curve is from the line between the others."""
    x = np.array([1 / math.log(1 / kappa) for kappa in kappas])
    first, middle, last = (theory.values["mse"] for theory in theories)
    share = (x[1] - x[2]) / (x[0] - x[2])
    far = float(np.abs(first - last).max())
    near = float(np.abs(middle - last).max())
    error = max(float(np.nanmax(theory.uncertainty["mse"])) for theory in theories)
    ratio, doubt = near / far, 3 * error / far
    agree = abs(ratio - share) <= 0.4 * share + doubt
    sentence = (
        f"in units of log(1/kappa), kappa = {kappas[0]:g} and {kappas[1]:g} are {far:.3f} and {near:.3f} from kappa = "
        f"{kappas[2]:g} at most: a ratio of {ratio:.2f}, where corrections proportional to 1/log(1/kappa) make {share:.2f}"
    )
    return Verdict("collapse", near, None, None, agree, sentence)


def _single_run() -> tuple[Array, Array]:
    """Time in units of log(1/kappa), and the loss."""
    unit = math.log(1 / STEPS["kappa"])
    s = np.linspace(0.0, STEPS["last"], 1201)
    found = solve(_problem(STEPS["kappa"]), Simulation({"d": STEPS["d"]}, runs=1, seed=4, tolerance=1e-5), unit * s)
    return s, found.details["runs"]["loss"][0]


def _jumps(s: Array, loss: Array) -> Verdict:
    falls = np.sort(-np.diff(loss))[::-1]
    share = float(falls[: int(STILL * len(falls))].sum() / (loss[0] - loss[-1]))
    agree = share >= FALLEN
    sentence = (
        f"{100 * share:.0f}% of the fall of the loss of a single run happens in {100 * STILL:.0f}% of the time (at least "
        f"{100 * FALLEN:.0f}% expected)"
    )
    return Verdict("saddle to saddle", None, None, None, agree, sentence)


def _canvas(
    kappas: Sequence[float], theories: Sequence[Trajectory], found: Sequence[Extrapolated], s: Array, steps: Array
) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(9.0, 3.8), layout="constrained")
    left, right = canvas.subplots(1, 2)
    for kappa, theory, points, color, marker in zip(kappas, theories, found, COLORS, MARKERS, strict=False):
        unit = math.log(1 / kappa)
        for axes, scale in ((left, 1.0), (right, unit)):
            x, values, error = theory.times / scale, theory.values["mse"], theory.uncertainty["mse"]
            axes.plot(x, values, color=color, label=rf"$\kappa = 10^{{{math.log10(kappa):.0f}}}$")
            axes.fill_between(x, values - error, values + error, color=color, alpha=0.18, lw=0)
            runs = points.runs("mse")
            bars = runs.std(axis=0, ddof=1) / math.sqrt(len(runs))
            axes.errorbar(points.large.times / scale, runs.mean(axis=0), bars, fmt=marker, color=color, mfc="white")
    left.set(xlabel="time $t$", ylabel="squared error", title="three small starts")
    right.set(xlabel=r"$s = t/\log(1/\kappa)$", ylabel="squared error", title="collapse")
    left.legend()
    inset = right.inset_axes((0.45, 0.5, 0.53, 0.46))
    inset.plot(s, steps, color="black", lw=1.0)
    inset.set_xlabel("$s$", fontsize=7, labelpad=0)
    inset.set_ylabel("loss, one run", fontsize=7, labelpad=1)
    inset.tick_params(labelsize=6)
    return canvas


FIGURE = Figure(
    name="diagonal-search",
    title="Diagonal linear networks: the search of small starts",
    claim="From a small start a diagonal network learns in the time log(1/kappa): curves of different starts collapse in "
    "t/log(1/kappa) up to corrections of order 1/log(1/kappa), and a single run goes from saddle to saddle.",
    sources=("NI25v2",),
    quick={
        "kappas": (1e-3, 1e-6, 1e-12),
        "last": 1.2,
        "points": 6,
        "d": 60,
        "runs": 12,
        "paths": 256,
        "resolution": 36,
        "randomizations": 4,
    },
    full={
        "kappas": (1e-3, 1e-6, 1e-12),
        "last": 3.0,
        "points": 12,
        "d": 500,
        "runs": 32,
        "paths": 8192,
        "resolution": None,
        "randomizations": 8,
    },
    draw=draw,
)
