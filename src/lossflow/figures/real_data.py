"""Logistic curves on images: what mean-field theory for independent Gaussian data says of a standardized real design."""

# pyright: reportMissingImports=false, reportMissingModuleSource=false
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lossflow.comparison import Gap, compare
from lossflow.dynamics import GradientDescent
from lossflow.errors import InvalidInput
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.keys import generator
from lossflow.meanfield.method import MeanField
from lossflow.method import solve
from lossflow.plot import draw_trajectories
from lossflow.problems.glm import GeneralizedLinear
from lossflow.problems.labels import SignLabels
from lossflow.problems.losses import Logistic
from lossflow.simulate.design import Design
from lossflow.simulate.method import Simulation
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from matplotlib.figure import Figure as Canvas

    Array = npt.NDArray[np.float64]

OBSERVABLES = ("loss", "test_error")
GAIN = 2.0  # of the features, tanh(GAIN * projection): strongly nonlinear, not yet signs
NAMES = ("Gaussian entries", "images, each feature shuffled", "images")


def draw(classes: tuple[int, int] | None, delta: float, step: float, steps: int, runs: int, paths: int) -> Outcome:
    """classes: two digits, None for all ten; then ratio and decay of the problem, the descent, and how finely it is solved."""
    problem = GeneralizedLinear(Logistic(), SignLabels(), delta=delta, weight_decay=0.05)
    images = digits(classes)
    d = int(len(images) / delta)
    n = round(delta * d)
    real = standardized(random_features(images[:n], d))
    designs = (None, shuffled(real), real)
    descent = GradientDescent(step)
    times = descent.times(steps, max(1, steps // 20))
    theory = solve(problem, MeanField(paths=paths), times, descent)
    experiments = [
        solve(problem, Simulation({"d": d}, runs=runs, design=X if X is None else Design.of(X)), times, descent)
        for X in designs
    ]
    verdicts, on_images = [], []
    for observable in OBSERVABLES:
        *described, image = compare(theory, *experiments, observable=observable).gaps
        verdicts += [Verdict.of(f"{observable}, {name}", gap) for name, gap in zip(NAMES, described, strict=False)]
        on_images.append(image)
    verdicts.append(_left_behind(f"{' and '.join(OBSERVABLES)}, {NAMES[2]}", on_images))
    words = (
        f"Logistic regression with labels of a random linear teacher, delta = {delta:g}, weight decay 0.05, descent with step "
        f"{step:g}. Line: mean-field theory for independent entries. Points: {runs} runs each at d = {d}, n = {n}, with Gaussian "
        "data; with random features of images of handwritten digits, standardized, when each feature is shuffled among the "
        "images; and with the same features as they are. Left: training loss, right: test error on Gaussian data. Shuffling "
        "keeps the law of each feature and removes the correlations between them: these are what the theory misses on images."
    )
    return Outcome((Picture("curves", _canvas(theory, experiments), words),), tuple(verdicts))


def digits(classes: tuple[int, int] | None) -> Array:
    """The images of scikit-learn's digits that show one of these classes, as vectors (images, pixels), in a fixed random order.

    Raises `InvalidInput` where scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InvalidInput(
            "the figure real-data takes its images from scikit-learn: pip install 'lossflow[data]'"
        ) from None
    pixels, labels = load_digits(return_X_y=True)
    chosen = np.asarray(pixels, np.float64)[np.isin(labels, classes) if classes else slice(None)]
    return generator(0, 0, "order of the images").permutation(chosen)


def random_features(images: Array, d: int) -> Array:
    """tanh(GAIN W x), (images, d), for standardized pixels x (constant ones left out) and W of random directions."""
    moving = images[:, images.std(axis=0) > 0]
    pixels = (moving - moving.mean(axis=0)) / moving.std(axis=0)
    directions = generator(0, 0, "random features").standard_normal((pixels.shape[1], d)) / np.sqrt(pixels.shape[1])
    return np.tanh(GAIN * pixels @ directions)


def standardized(features: Array) -> Array:
    """Columns of mean 0 and variance 1/d."""
    return (features - features.mean(axis=0)) / (features.std(axis=0) * np.sqrt(features.shape[1]))


def shuffled(X: Array) -> Array:
    """Each column in an order of its own."""
    return generator(0, 0, "shuffled features").permuted(X, axis=0)


def _left_behind(curve: str, gaps: Sequence[Gap]) -> Verdict:
    """The claim for images is that the theory does not describe them: at least one of the curves lies elsewhere.

    Not each of them: with all ten digits the training loss crosses the theory and comes to lie within its errors.
    """
    off = not all(gap.agree for gap in gaps)
    worst = max(gaps, key=lambda gap: gap.largest_deviation)
    found = "as claimed, the theory is off on images" if off else "no gap is seen"
    sentence = f"{found}: {'; '.join(gap.verdict for gap in gaps)}"
    return Verdict(curve, worst.largest_relative, worst.largest_deviation, worst.valid_times, off, sentence)


def _canvas(theory: Trajectory, experiments: list[Trajectory]) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(9.0, 3.6), layout="constrained")
    for observable, axes in zip(OBSERVABLES, canvas.subplots(1, 2), strict=True):
        draw_trajectories(theory, *experiments, observable=observable, axes=axes, labels=("mean field", *NAMES))
        if observable != OBSERVABLES[0] and (legend := axes.get_legend()):
            legend.remove()
    return canvas


FIGURE = Figure(
    name="real-data",
    title="Logistic regression on images against the theory for Gaussian data",
    claim="Mean-field theory describes Gaussian data and real features whose correlations were removed by shuffling, "
    "whatever the law of each feature; standardized real features, which are correlated, it does not describe.",
    sources=("NI26v2",),
    quick={"classes": (3, 8), "delta": 2.0, "step": 0.5, "steps": 40, "runs": 8, "paths": 2048},
    full={"classes": None, "delta": 2.0, "step": 0.25, "steps": 200, "runs": 32, "paths": 8192},
    draw=draw,
)
