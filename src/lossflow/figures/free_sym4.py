"""Free evolution of one matrix at order 4: one power law for all H ~ p^2, its two ends, and the gaps that vanish like 1/p."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from lossflow.comparison import Comparison
from lossflow.figures.figure import Figure, Outcome, Picture
from lossflow.figures.matrix_scenarios import draw_family, draw_vanishing, finely, followed, verdicts_of
from lossflow.plot import COLORS, MARKERS, POINTS
from lossflow.problems.cp import CPDecomposition
from lossflow.problems.targets import Zero

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

PROBLEM = CPDecomposition(order=4, target=Zero())

Family = Sequence[Comparison]


def draw(
    balanced: tuple[int, ...],
    balanced_runs: tuple[int, ...],
    ratios: tuple[str, ...],
    under: tuple[int, ...],
    under_runs: tuple[int, ...],
    over: tuple[int, ...],
    over_runs: tuple[int, ...],
    span: tuple[float, float],
    times: int,
) -> Outcome:
    """balanced, under, over: increasing p, with H = ratio p^2, H = p, H = p^3; runs at each; span: of t/T; times: how many."""
    grid = np.geomspace(*span, times)

    def family(shape: Callable[[int], Sized], p: tuple[int, ...], runs: tuple[int, ...], first_seed: int) -> Family:
        return [
            followed(PROBLEM, *shape(size), grid, count, first_seed + k)
            for k, (size, count) in enumerate(zip(p, runs, strict=True))
        ]

    one_scale: dict[str, Family] = {
        ratio: family(lambda p, ratio=ratio: _balanced(p, ratio), balanced, balanced_runs, 10 * k)
        for k, ratio in enumerate(ratios)
    }
    ends = {"under": family(_under, under, under_runs, 1000), "over": family(_over, over, over_runs, 2000)}
    named = {f"H/p^2 = {ratio}": found for ratio, found in one_scale.items()} | ends
    verdicts = [verdict for name, found in named.items() for verdict in verdicts_of(name, found)]
    words = (
        "Loss over time from the start L = 1, both axes logarithmic; points are means over runs, lines the limits. Upper left: "
        f"p = {balanced[-1]}, H/p^2 = {', '.join(ratios)}, time in the unit T = 1/(96 p^3 sigma^6), where the limit is "
        f"(1 + theta t/(4T))^(-4/3) with theta = 1 + 3 H/p^2. Upper right: the same for H/p^2 = {ratios[-1]} at growing p. Lower "
        "left: under, H = p; lower middle: over, H = p^3; both in units in which the limit is (1 + t/4)^(-4/3). Lower right: the "
        "relative gap against 1/p where it is largest, with lines through the sizes that end at zero within the error."
    )
    return Outcome((Picture("curves", _canvas(one_scale, ends), words),), tuple(verdicts))


Sized = tuple[Mapping[str, float], str, float]


def _balanced(p: int, ratio: str) -> Sized:
    """Sizes with E L(0) = p^4 H sigma^8 theta/2 = 1, the regime, and 1/(96 p^3 sigma^6)."""
    H = int(Fraction(ratio) * p**2)
    sizes = {"p": p, "H": H, "sigma2": (2 / (p**4 * H * (1 + 3 * H / p**2))) ** 0.25}
    return sizes, "A-B", 1 / (96 * p**3 * sizes["sigma2"] ** 3)


def _under(p: int) -> Sized:
    """Sizes with E L(0) = p^4 H sigma^8 / 2 = 1 and 1/(96 p^3 sigma^6)."""
    sizes = {"p": p, "H": p, "sigma2": (2 / p**5) ** 0.25}
    return sizes, "A", 1 / (96 * p**3 * sizes["sigma2"] ** 3)


def _over(p: int) -> Sized:
    """Sizes with E L(0) = 3 p^2 H^2 sigma^8 / 2 = 1 and 1/(288 p H sigma^6)."""
    H = p**3
    sizes = {"p": p, "H": H, "sigma2": (2 / (3 * p**2 * H**2)) ** 0.25}
    return sizes, "B", 1 / (288 * p * H * sizes["sigma2"] ** 3)


def _canvas(one_scale: Mapping[str, Family], ends: Mapping[str, Family]) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(10.5, 6.4), layout="constrained")
    panels = canvas.subplots(2, 3)
    first, second, legend = panels[0]
    _draw_ratios(first, one_scale)
    ratio, family = list(one_scale.items())[-1]
    draw_family(second, family)
    second.set_title("$H = p^2$" if ratio == "1" else f"$H = {ratio}\\,p^2$")
    for axes, (name, each), rows in zip(panels[1], ends.items(), ("p", "p^3"), strict=False):
        draw_family(axes, each)
        axes.set_title(f"{name}: $H = {rows}$")
    units = (r"1/(96 p^3\sigma^6)", r"1/(96 p^3\sigma^6)", r"1/(96 p^3\sigma^6)", r"1/(288 pH\sigma^6)")
    for axes, unit in zip((first, second, *panels[1][:2]), units, strict=True):
        axes.set(xscale="log", yscale="log", xlabel=f"time $t/T$,  $T = {unit}$", ylabel="loss $L$")
        axes.legend(loc="lower left")
    gaps = {f"$H/p^2 = {ratio}$": each for ratio, each in one_scale.items()} | dict(ends)
    draw_vanishing(panels[1][2], gaps, place="largest")
    panels[1][2].set_title("gap as $p$ grows")
    legend.set_axis_off()
    legend.legend(*panels[1][2].get_legend_handles_labels(), title="gaps below: sizes, $t/T$", loc="lower left")
    return canvas


def _draw_ratios(axes: Axes, one_scale: Mapping[str, Family]) -> None:
    for (ratio, family), color, marker in zip(one_scale.items(), COLORS, MARKERS, strict=False):
        gap = family[-1].gaps[0]
        theory, experiment = finely(gap.reference), gap.other
        axes.plot(theory.times, theory.values["loss"], color=color)
        values, errors = experiment.values["loss"], experiment.uncertainty["loss"]
        label = f"$H/p^2 = {ratio}$"
        axes.errorbar(experiment.times, values, errors, fmt=marker, color=color, label=label, **POINTS)
    p = int(next(iter(one_scale.values()))[-1].gaps[0].other.method.known_sizes["p"])
    axes.set_title(f"$p = {p}$, three ratios" if len(one_scale) == 3 else f"$p = {p}$")


FIGURE = Figure(
    name="free-sym4",
    title="Free evolution of one matrix at order 4",
    claim="For L = |sum_k u_k^(x4)|^2 / 2 the mean loss of gradient flow falls like (1 + 24 theta p^3 sigma^6 t)^(-4/3), "
    "theta = 1 + 3 H/p^2, for all H ~ p^2, and with the one or the other term of theta alone for fewer and for more rows; the "
    "relative gaps vanish like 1/p.",
    sources=("YGG26v2",),
    quick={
        "balanced": (10, 14, 20),
        "balanced_runs": (48, 24, 10),
        "ratios": ("1/8", "3/8", "3/4"),
        "under": (32, 64, 96),
        "under_runs": (100, 48, 24),
        "over": (5, 6, 8),
        "over_runs": (48, 24, 8),
        "span": (0.1, 100.0),
        "times": 12,
    },
    full={
        "balanced": (16, 32, 64),
        "balanced_runs": (100, 24, 3),
        "ratios": ("1/16", "1/4", "1"),
        "under": (64, 128, 256),
        "under_runs": (400, 200, 64),
        "over": (6, 8, 12),
        "over_runs": (200, 64, 16),
        "span": (0.1, 300.0),
        "times": 20,
    },
    draw=draw,
    beyond=(
        "H = 4 p^2 at p = 64, sixteen times as long as H = p^2, for which "
        'Simulation(sizes, backend="jax") takes an accelerator if there is one; give it to `draw` of this module'
    ),
)
