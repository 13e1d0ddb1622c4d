"""Page 3: quadratic networks, the learning curve of the end state and its spectrum.

docs/theory/quadratic.md section 4 [MBB26v2].
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.end_states import learning_curve, stationary
from lossflow.explore.pictures import as_html, sheet
from lossflow.plot import COLORS, paper_style
from lossflow.problems.quadratic import QuadraticNetwork, finite_size_alpha
from lossflow.simulate.quadratic import ends
from lossflow.spectral.spectrum import spectrum
from lossflow.spectral.thresholds import thresholds

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

ALPHAS = np.linspace(0.04, 0.8, 39)
D = 24  # of the experiment, whose finite size shows


class EndState(NamedTuple):
    """Learning curve and spectrum as pictures, and sentences."""

    pictures: tuple[str, str]
    words: tuple[str, ...]


@paper_style()
def end_state(problem: QuadraticNetwork, runs: int = 0, seed: int = 0) -> EndState:
    """The end of the flow of `problem` among those of other alpha; runs: of an experiment at d = 24, or none."""
    state = stationary(problem)
    words = [f"End state: {state.status.reason}."]
    if state.status:
        words.append(f"Squared error {state.values['mse']:.4g}, training loss {state.values['loss']:.4g}.")
    found = thresholds(problem)
    words.append(
        f"Interpolation at alpha = {found.alpha_interpolation:.3f}, recovery at {found.alpha_recovery:.3f}, with vanishing "
        f"weight decay at {found.alpha_recovery_regularized:.3f}, at best {found.alpha_bayes:.3f}."
    )
    experiment = ends(problem, D, runs, seed) if runs else None
    canvas, axes = sheet()
    alphas, errors = _curve(replace(problem, alpha=1.0))
    axes.plot(alphas, errors, color=COLORS[0], label="theory")
    if state.status:
        axes.plot([problem.alpha], [state.values["mse"]], "o", color=COLORS[1], ms=8, label="here")
    if experiment:
        alpha = finite_size_alpha(experiment.n, D)
        axes.plot([alpha], [experiment.means["mse"]], "s", mfc="white", color="black", label=f"{runs} runs, d = {D}")
        words.append(f"{runs} runs at d = {D}: squared error {experiment.means['mse']:.4g}.")
    axes.set(xlabel=r"$\alpha = n/d^2$", ylabel="squared error", title="learning curve", ylim=(0, None))
    axes.legend()
    curve = as_html(canvas, "curve", " ".join(words))
    canvas, axes = sheet()
    if state.status and state.values.get("xi", 0.0) > 0:
        law = spectrum(state)
        x = np.linspace(0, max(1.05 * law.upper, 0.1), 500)
        axes.plot(x, law.density(x), color=COLORS[0], label=f"theory; {law.atom:.2f} of all are zero")
        words.append(f"Eigenvalues of Z: a fraction {law.atom:.3f} is zero, the largest is {law.upper:.3g}.")
    if experiment:
        values = experiment.eigenvalues.ravel()
        heights, edges = np.histogram(values[values > 0.02], bins=18)
        axes.stairs(
            heights / (values.size * np.diff(edges)), edges, fill=True, color=COLORS[1], alpha=0.35, label="runs"
        )
    axes.set(xlabel="eigenvalue of $Z$", ylabel="density", title="spectrum at the end", ylim=(0, None))
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    return EndState((curve, as_html(canvas, "spectrum", words[-1])), tuple(words))


@lru_cache(maxsize=64)
def _curve(problem: QuadraticNetwork) -> tuple[Array, Array]:
    found = learning_curve(problem, "alpha", ALPHAS)
    return ALPHAS, np.asarray(found["mse"], dtype=np.float64)
