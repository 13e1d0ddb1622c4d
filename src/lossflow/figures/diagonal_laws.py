"""What becomes of a coefficient: the law of beta given beta* at three times, and its limit."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.end_states import stationary
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.meanfield.coordinate import pilot
from lossflow.meanfield.coordinate_paths import Pass
from lossflow.meanfield.coordinate_schemes import grid_of, rows_of
from lossflow.plot import COLORS, MARKERS, POINTS
from lossflow.problems.diagonal import BalancedDiagonal, DiagonalLinear, SymmetricInit
from lossflow.problems.priors import GaussianPrior
from lossflow.significance import LEVEL, judge
from lossflow.simulate.collocation import collocate
from lossflow.simulate.diagonal import DiagonalRun

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from matplotlib.figure import Figure as Canvas

    Array = npt.NDArray[np.float64]

EDGES = np.array([0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5])  # of bins of |beta*|
REACH = 8.0  # standard deviations of the noise that the limit averages over
TOLERANCE = 1e-6


class Law(NamedTuple):
    """Means and deviations of beta sign(beta*) by bin of |beta*|, (runs, bins) each."""

    mean: Array
    deviation: Array


def draw(
    kappa: float, wanted: tuple[float, float, float], late: float, d: int, runs: int, paths: int, randomizations: int
) -> Outcome:
    """kappa: of the start; wanted: about which times; late: the time that stands for the end in experiments."""
    problem = DiagonalLinear(0.5, GaussianPrior(), 0.01, SymmetricInit(math.sqrt(kappa)))
    times, laws = _theory(problem, wanted, paths, randomizations)
    found = _experiment(problem, np.append(times, late), d, runs)
    limit = _limit(problem, kappa)
    verdicts = [
        _verdict(f"t = {time:.3g}", law.mean.mean(axis=0), law.mean, experiment.mean, float(time))
        for time, law, experiment in zip(times, laws, found[:-1], strict=True)
    ]
    verdicts.append(_verdict("limit", limit[2], None, found[-1].mean, late))
    words = (
        f"beta against beta* for a Gaussian signal, delta = 0.5, noise 0.1, kappa = {kappa:g}: mean of beta given beta* with one "
        "standard deviation of beta on either side. Lines and bands: the mean field, and at the end the fixed point, where beta "
        f"is the proximal map of beta* plus Gaussian noise. Points: bins of all coordinates of {runs} runs at d = {d}; those at "
        f"t = {late:g} stand for the limit. Dashed: beta = beta*. Coefficients are shrunk by one factor early and more where "
        "they are small late."
    )
    return Outcome((Picture("laws", _canvas(times, laws, found, limit, late), words),), tuple(verdicts))


def _binned(star: Array, beta: Array, weights: Array) -> tuple[Array, Array]:
    """Mean and deviation of beta sign(beta*) in every bin, by a line in each: bins are wide, and its slope is not noise."""
    size, value = np.abs(star), beta * np.sign(star)
    mean, deviation = np.empty(len(EDGES) - 1), np.empty(len(EDGES) - 1)
    for k, (low, high) in enumerate(itertools.pairwise(EDGES)):
        inside = (size >= low) & (size < high)
        x, y, w = size[inside] - (low + high) / 2, value[inside], weights[inside] / weights[inside].sum()
        slope = (w @ (x * y) - (w @ x) * (w @ y)) / (w @ x**2 - (w @ x) ** 2)
        mean[k] = w @ y - slope * (w @ x)
        free = 1 - 2 / len(x) if len(x) > 2 else 1.0  # two numbers were fitted
        deviation[k] = math.sqrt(max(float(w @ (y - mean[k] - slope * x) ** 2), 0.0) / free)
    return mean, deviation


def _theory(
    problem: DiagonalLinear, wanted: Sequence[float], paths: int, randomizations: int
) -> tuple[Array, list[Law]]:
    """The nodes nearest to the times wanted, and the laws there."""
    process = problem.as_process()
    grid = grid_of(process, max(wanted), 48)
    rows, frame = rows_of(grid.level(2), "tr-bdf2"), pilot(process, grid, paths, 0)
    places = [rows.every * int(np.argmin(np.abs(rows.times[:: rows.every] - time))) for time in wanted]
    every: list[list[tuple[Array, Array]]] = []
    for run in range(randomizations):
        one, kept = Pass(process, rows, frame, paths, 0, run), {}
        while one.advance():
            if one.k in places:
                beta, _ = one.link.at(one.xi, float(rows.times[one.k]))
                kept[one.k] = _binned(one.paths.star, beta, one.paths.weights)
        every.append([kept[place] for place in places])
    laws = [
        Law(np.array([run[k][0] for run in every]), np.array([run[k][1] for run in every])) for k in range(len(places))
    ]
    return rows.times[places], laws


def _experiment(problem: DiagonalLinear, times: Array, d: int, runs: int) -> list[Law]:
    balanced = BalancedDiagonal.of(problem)
    process = balanced.as_process()
    every: list[list[tuple[Array, Array]]] = []
    for number in range(runs):
        sample = balanced.as_sample({"d": d}, number, 0)
        run = DiagonalRun(process, sample)
        kept: list[tuple[Array, Array]] = []

        def arrived(
            place: int, nu: Array, _: Array, run: DiagonalRun = run, kept: list[tuple[Array, Array]] = kept
        ) -> None:
            beta, _slope = run.beta(2 * (nu @ run.X), float(times[place]))
            kept.append(_binned(run.star, beta, np.ones(d)))

        collocate(run, np.zeros(len(run.y)), times, TOLERANCE, arrived, lambda _: None)
        every.append(kept)
    return [
        Law(np.array([run[k][0] for run in every]), np.array([run[k][1] for run in every])) for k in range(len(times))
    ]


def _limit(problem: DiagonalLinear, kappa: float) -> tuple[Array, Array, Array, Array]:
    """The middles of the bins, deviation, mean of beta there, (tau, theta):  beta + theta asinh(beta/kappa)/2 = beta* + tau Z."""
    end = stationary(problem).values
    tau, theta = end["tau"], end["theta"]
    xi = np.linspace(-30.0, 30.0, 60_001)
    beta = kappa * np.sinh(xi)
    x = beta + theta / 2 * xi
    z = np.linspace(-REACH, REACH, 401)
    weights = np.exp(-(z**2) / 2)
    weights /= weights.sum()
    middles = (EDGES[:-1] + EDGES[1:]) / 2
    values = np.interp(middles[:, None] + tau * z, x, beta)
    mean = values @ weights
    return middles, np.sqrt((values - mean[:, None]) ** 2 @ weights), mean, np.array([tau, theta])


def _verdict(curve: str, expected: Array, theory: Array | None, runs: Array, time: float) -> Verdict:
    differences = runs - expected
    error = np.full(len(expected), 1e-9) if theory is None else theory.std(axis=0, ddof=1) / math.sqrt(len(theory))
    mean = differences.mean(axis=0)
    judged = judge(mean, differences, error)
    gap, deviation = float(np.abs(mean).max()), float(np.abs(mean / judged.uncertainty).max())
    agree = judged.probability >= LEVEL
    sentence = (
        f"means of beta in {len(expected)} bins of beta* {'agree' if agree else 'disagree'}: largest difference {gap:.3f}, "
        f"{deviation:.1f} sigma ({judged.allowed:.1f} allowed)"
    )
    return Verdict(curve, float(np.abs(mean / expected)[2:].max()), deviation, (time, time), agree, sentence)


def _canvas(
    times: Array, laws: Sequence[Law], found: Sequence[Law], limit: tuple[Array, Array, Array, Array], late: float
) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(10.5, 3.2), layout="constrained")
    panels = canvas.subplots(1, len(times) + 1, sharex=True, sharey=True)
    middles = limit[0]
    lines = [
        (law.mean.mean(axis=0), law.deviation.mean(axis=0), f"$t = {t:.2g}$")
        for t, law in zip(times, laws, strict=True)
    ]
    lines.append((limit[2], limit[1], f"limit (points: $t = {late:g}$)"))
    for k, (axes, (mean, deviation, title), law) in enumerate(zip(panels, lines, found, strict=True)):
        axes.plot(middles, mean, color=COLORS[k], label="theory")
        axes.fill_between(middles, mean - deviation, mean + deviation, color=COLORS[k], alpha=0.18, lw=0)
        error = law.mean.std(axis=0, ddof=1) / math.sqrt(len(law.mean))
        axes.errorbar(
            middles, law.mean.mean(axis=0), error, fmt=MARKERS[k], color=COLORS[k], label="experiment", **POINTS
        )
        spread = law.deviation.mean(axis=0)
        for sign in (-1, 1):
            axes.plot(middles, law.mean.mean(axis=0) + sign * spread, "_", color=COLORS[k])
        axes.plot(middles, middles, "--", color="black", lw=1.0)
        axes.set(title=title, xlabel=r"$|\beta^*|$")
    panels[0].set_ylabel(r"$\beta\,\mathrm{sign}\,\beta^*$")
    panels[0].legend(loc="upper left")
    return canvas


FIGURE = Figure(
    name="diagonal-laws",
    title="Diagonal linear networks: the law of a coefficient",
    claim="The mean field gives the joint law of a coefficient and its target at all times; at the end it is that of a proximal "
    "map of the target plus Gaussian noise.",
    sources=("NI25v2",),
    quick={
        "kappa": 0.1,
        "wanted": (0.15, 0.5, 2.0),
        "late": 300.0,
        "d": 160,
        "runs": 24,
        "paths": 2048,
        "randomizations": 4,
    },
    full={
        "kappa": 0.1,
        "wanted": (0.15, 0.5, 2.0),
        "late": 1000.0,
        "d": 1000,
        "runs": 24,
        "paths": 8192,
        "randomizations": 8,
    },
    draw=draw,
)
