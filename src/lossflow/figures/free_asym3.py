"""Free evolution of three matrices: an exponential with many rows, a power law with few, and the gaps that vanish like 1/p."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lossflow.comparison import Comparison
from lossflow.figures.figure import Figure, Outcome, Picture
from lossflow.figures.matrix_scenarios import draw_family, draw_vanishing, followed, verdicts_of
from lossflow.problems.cp import CPDecomposition
from lossflow.problems.targets import Zero

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

PROBLEM = CPDecomposition(order=3, symmetric=False, target=Zero())


def draw(
    over: tuple[int, ...],
    over_runs: tuple[int, ...],
    under: tuple[int, ...],
    under_runs: tuple[int, ...],
    over_span: float,
    under_span: tuple[float, float],
    times: int,
) -> Outcome:
    """over, under: increasing p, with H = p^3 and H = p; runs at each; spans: of t/T, T of each regime; times: of each curve."""
    families = {
        "over": [
            followed(PROBLEM, *_over(p), np.linspace(over_span / times, over_span, times), runs, seed)
            for seed, (p, runs) in enumerate(zip(over, over_runs, strict=True))
        ],
        "under": [
            followed(PROBLEM, *_under(p), np.geomspace(*under_span, times), runs, 100 + seed)
            for seed, (p, runs) in enumerate(zip(under, under_runs, strict=True))
        ],
    }
    verdicts = [verdict for name, family in families.items() for verdict in verdicts_of(name, family)]
    words = (
        f"Loss over time, from the start L = 1. Left: H = p^3 rows, p = {', '.join(map(str, over))}, logarithmic loss: the limit "
        f"is the straight line exp(-6 t/T). Middle: H = p rows, p = {', '.join(map(str, under))}, both axes logarithmic: the "
        "limit is the power law (1 + 4 t/T)^(-3/2). Points are means over runs; they approach the lines as p grows, from "
        "below, at late times of the left panel from above. Right: the relative gap against 1/p at the time of the largest "
        "gap, with lines through the sizes that end at zero within the error."
    )
    return Outcome((Picture("curves", _canvas(families), words),), tuple(verdicts))


def _over(p: int) -> tuple[Mapping[str, float], str, float]:
    """Sizes with E L(0) = 1, the regime and its time T = 1/(H sigma^4)."""
    sizes = _started(p, p**3)
    return sizes, "B", 1 / (sizes["H"] * sizes["sigma2"] ** 2)


def _under(p: int) -> tuple[Mapping[str, float], str, float]:
    """Sizes with E L(0) = 1, the regime and its time T = 1/(p^2 sigma^4)."""
    sizes = _started(p, p)
    return sizes, "A", 1 / (p**2 * sizes["sigma2"] ** 2)


def _started(p: int, H: int) -> dict[str, float]:
    """E L(0) = p^3 H sigma^6 / 2 = 1."""
    return {"p": p, "H": H, "sigma2": (2 / (p**3 * H)) ** (1 / 3)}


def _canvas(families: Mapping[str, Sequence[Comparison]]) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(10.5, 3.5), layout="constrained")
    left, middle, right = canvas.subplots(1, 3)
    draw_family(left, families["over"])
    left.set(yscale="log", xlabel=r"time $t/T$,  $T = 1/(H\sigma^4)$", ylabel="loss $L$", title="over: $H = p^3$")
    draw_family(middle, families["under"])
    middle.set(xscale="log", yscale="log", xlabel=r"time $t/T$,  $T = 1/(p^2\sigma^4)$", ylabel="loss $L$")
    middle.set_title("under: $H = p$")
    for axes in (left, middle):
        axes.legend(loc="lower left")
    draw_vanishing(right, families, place="largest")
    right.set_title("gap as $p$ grows")
    right.legend(title="regime, $t/T$")
    return canvas


FIGURE = Figure(
    name="free-asym3",
    title="Free evolution of three matrices, with many rows and with few",
    claim="For L = |sum_k u_k x v_k x w_k|^2 / 2 the mean loss of gradient flow falls like exp(-6 H sigma^4 t) if H >> p^2 "
    "and like (1 + 4 p^2 sigma^4 t)^(-3/2) if H << p^2; the relative gaps vanish like 1/p.",
    sources=("YGG26v2",),
    quick={
        "over": (6, 8, 12),
        "over_runs": (128, 48, 12),
        "under": (32, 64, 128),
        "under_runs": (48, 16, 6),
        "over_span": 0.5,
        "under_span": (0.03, 1.5),
        "times": 12,
    },
    full={
        "over": (12, 16, 32),
        "over_runs": (64, 24, 4),
        "under": (32, 64, 128),
        "under_runs": (256, 128, 64),
        "over_span": 0.5,
        "under_span": (0.03, 2.0),
        "times": 20,
    },
    draw=draw,
)
