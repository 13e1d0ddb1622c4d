"""Diagonal networks on designs that are not Gaussian: random signs, images whose features are shuffled, and images."""

from __future__ import annotations

import importlib.util
import math
from typing import TYPE_CHECKING

import numpy as np

from lossflow.comparison import compare
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.figures.real_data import digits, random_features, shuffled, standardized
from lossflow.keys import generator
from lossflow.meanfield.method import MeanField
from lossflow.method import solve
from lossflow.plot import draw_trajectories
from lossflow.problems.diagonal import BalancedDiagonal, SymmetricInit
from lossflow.problems.priors import RademacherSparse
from lossflow.simulate.design import Design
from lossflow.simulate.method import Simulation
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from matplotlib.figure import Figure as Canvas

    Array = npt.NDArray[np.float64]

OBSERVABLES = {"loss": "training loss", "mse": "squared error"}
NAMES = ("Gaussian entries", "random signs", "images, each feature shuffled", "images")


def draw(
    kappa: float,
    last: float,
    points: int,
    classes: tuple[int, int] | None,
    n: int,
    runs: int,
    paths: int,
    resolution: int | None,
    randomizations: int,
) -> Outcome:
    """kappa: of the start; last: time; classes: of digits, None for all; n: samples, d = 2 n; the rest: of the theory."""
    d = 2 * n
    problem = BalancedDiagonal(0.5, RademacherSparse(0.1), 0.01, SymmetricInit(math.sqrt(kappa)))
    images = _features(classes, n)
    gaussian, signs = (generator(0, 0, f"universality, {kind}") for kind in ("Gaussian", "signs"))
    designs = (
        gaussian.standard_normal((n, d)) / math.sqrt(d),
        np.sign(signs.standard_normal((n, d))) / math.sqrt(d),
        *(() if images is None else (shuffled(images), images)),
    )
    times = np.geomspace(0.05, last, points)
    theory = solve(problem, MeanField(paths, resolution, randomizations), times)
    experiments = [
        solve(problem, Simulation({"d": d}, runs, seed=k, design=Design.of(X), tolerance=1e-5), times)
        for k, X in enumerate(designs)
    ]
    verdicts = []
    for observable in OBSERVABLES:
        gaps = compare(experiments[0], *experiments[1:], observable=observable).gaps
        verdicts += [Verdict.of(f"{observable}, {name}", gap) for name, gap in zip(NAMES[1:3], gaps[:2], strict=False)]
        if images is None:
            continue
        image = gaps[2]
        found = "as claimed, images differ" if not image.agree else "no difference is seen"
        verdicts.append(
            Verdict(
                f"{observable}, {NAMES[3]}",
                image.largest_relative,
                image.largest_deviation,
                image.valid_times,
                not image.agree,
                f"{found}: {image.verdict}",
            )
        )
    words = (
        f"Loss and squared error of a diagonal network, delta = 0.5, density 0.1, noise 0.1, kappa = {kappa:g}, for designs with "
        "Gaussian entries, random signs, random features of images of digits with each feature shuffled among the images, and "
        f"the same features as they are. Points: {runs} runs at d = {d} each; line: the mean field. Designs of "
        "independent entries are as good as Gaussian ones; images, whose features are correlated, are not."
        + (" (Without scikit-learn there are no images: pip install 'lossflow[data]'.)" if images is None else "")
    )
    return Outcome((Picture("universality", _canvas(theory, experiments), words),), tuple(verdicts))


def _features(classes: tuple[int, int] | None, n: int) -> Array | None:
    """Random features of n images, standardized (n, 2 n); None where scikit-learn, which has the images, is not installed.

    Standardized among all images, of which n are then taken: columns that add up to zero exactly would leave the mean of the
    noise out of reach, and with it a loss of noise_variance/(2 n) for ever.
    """
    if importlib.util.find_spec("sklearn") is None:
        return None
    return standardized(random_features(digits(classes), 2 * n))[:n]


def _canvas(theory: Trajectory, experiments: Sequence[Trajectory]) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(9.0, 3.6), layout="constrained")
    for (observable, title), axes in zip(OBSERVABLES.items(), canvas.subplots(1, 2), strict=True):
        draw_trajectories(
            theory,
            *experiments,
            observable=observable,
            axes=axes,
            labels=("mean field", *NAMES[: len(experiments)]),
            xscale="log",
        )
        axes.set_ylabel(title)
        if observable != "loss" and (legend := axes.get_legend()):
            legend.remove()
    return canvas


FIGURE = Figure(
    name="diagonal-universality",
    title="Diagonal linear networks on designs that are not Gaussian",
    claim="Designs of independent standardized entries, Gaussian, random signs or shuffled real features, give the same curves; "
    "real features with their correlations do not.",
    sources=("NI25v2",),
    quick={
        "kappa": 0.1,
        "last": 6.0,
        "points": 9,
        "classes": (3, 8),
        "n": 100,
        "runs": 16,
        "paths": 512,
        "resolution": 32,
        "randomizations": 4,
    },
    full={
        "kappa": 0.1,
        "last": 20.0,
        "points": 14,
        "classes": None,
        "n": 800,
        "runs": 32,
        "paths": 8192,
        "resolution": None,
        "randomizations": 8,
    },
    draw=draw,
)
