"""Page 1: the scaling point, the polygon of leading monomials, and the loss there.

The point is H = p^h, sigma2 = p^v. docs/theory/diagrams.md section 6 [YGG26v2].
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.comparison import compare
from lossflow.errors import LossflowError
from lossflow.expansion.method import Limit, Series
from lossflow.expansion.pade import Pade
from lossflow.expansion.pareto import identity_front, identity_vertices
from lossflow.expansion.regimes import Placement, classify
from lossflow.expansion.series import expand
from lossflow.explore.pictures import HEIGHT, as_html, sheet
from lossflow.figures.pareto_polygons import draw_scalings, extent
from lossflow.method import solve
from lossflow.plot import COLORS, draw_trajectories, paper_style
from lossflow.problems.cp import CPDecomposition
from lossflow.simulate.method import Simulation
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

CASES: Mapping[str, CPDecomposition] = {
    "order 2, one matrix": CPDecomposition(2),
    "order 3, a matrix for each slot": CPDecomposition(3, symmetric=False),
    "order 4, one matrix": CPDecomposition(4),
}
MOST_WEIGHTS = 20_000  # of a simulation that is to run while someone looks
SHOWN = 3  # the s of the polygon that is drawn
ORDER = 3  # of the series where there is no limit: exact coefficients in about a second
SPAN = 3.0  # times are shown up to this many time scales
TIMES = 25
WORDS = "Map of scalings."  # of a map that has no point yet


class There(NamedTuple):
    """The loss at the scaling point: a picture, and sentences."""

    picture: str
    words: tuple[str, ...]


def sizes_at(p: int, h: float, v: float) -> dict[str, float]:
    """The numbers that the scaling point stands for: H = p^h, at least one, and sigma2 = p^v."""
    return {"p": p, "H": max(1, round(p**h)), "sigma2": float(p) ** v}


def span_of(problem: CPDecomposition) -> tuple[float, float]:
    """The largest h, and the smallest v, of the map."""
    widest, faintest = extent(problem)
    return float(widest), -float(faintest)


def place(problem: CPDecomposition, h: float, v: float) -> Placement:
    """The regime of the scaling p = L, H = L^h, sigma2 = L^v."""
    return classify(problem, exponents={"p": 1, "H": round(h, 6), "sigma2": round(v, 6)})


def scaling_map(problem: CPDecomposition, h: float, v: float) -> str:
    """Which vertex of the polygon leads, over (h, v), with the point."""
    name = place(problem, h, v).regime.name
    picture, (x0, y0), (x1, y1) = _map(problem)
    x, y = x0 + h * (x1 - x0), y0 + v * (y1 - y0)
    center = f'cx="{x:.2f}" cy="{y:.2f}"'
    ring, dot = f'<circle {center} r="6" fill="white" stroke="black" stroke-width="2"/>', f'<circle {center} r="2"/>'
    point = f'<g data-h="{h:g}" data-v="{v:g}">{ring}{dot}</g>'
    words = f"Map of scalings; the point h = {h:g}, v = {v:g} lies in the regime {name}."
    return picture.replace("</svg>", f"{point}</svg>").replace(WORDS, words)


@lru_cache(maxsize=8)
@paper_style()
def _map(problem: CPDecomposition) -> tuple[str, tuple[float, float], tuple[float, float]]:
    """The map without the point, and where in the drawing (0, 0) and (1, 1) lie."""
    canvas, axes = sheet()
    draw_scalings(axes, problem)
    axes.set_title("the scaling point, and who leads where")
    picture = as_html(canvas, "map", WORDS)
    corners = (
        axes.transData.transform([(0.0, 0.0), (1.0, 1.0)]) * 72 / canvas.dpi
    )  # a drawing counts in points, from the top
    (x0, y0), (x1, y1) = ((float(x), 72 * HEIGHT - float(y)) for x, y in corners)
    return picture, (x0, y0), (x1, y1)


@paper_style()
def polygon(problem: CPDecomposition, h: float, v: float) -> str:
    """The leading monomials of one Y_s, with the face that leads at the point."""
    leading = set(place(problem, h, v).regime.name.split("-"))
    front = identity_front(problem.order, problem.symmetric, SHOWN)
    corners = {k: xy for k, xy in identity_vertices(problem.symmetric, SHOWN).items() if xy in front}
    canvas, axes = sheet()
    outline = np.array([*dict.fromkeys(corners.values()), next(iter(corners.values()))], dtype=float)
    axes.fill(*outline.T, color=COLORS[4], alpha=0.2, lw=0)
    axes.plot(*outline.T, color="#888888", lw=1.0)
    axes.plot(*np.array(list(front), dtype=float).T, "o", color="#888888", ms=4)
    chosen = np.array([xy for k, xy in corners.items() if k in leading], dtype=float)
    axes.fill(*chosen.T, color=COLORS[1], alpha=0.35, lw=0)
    axes.plot(*np.vstack([chosen, chosen[:1]]).T, "o-", color=COLORS[1], lw=2.5, ms=9)
    together: dict[tuple[int, int], list[str]] = {}
    for letter, xy in corners.items():
        together.setdefault(xy, []).append(letter)
    for xy, letters in together.items():
        text = "=".join(letters)
        axes.annotate(text, xy, xytext=(-10, 8), textcoords="offset points", ha="right", fontsize=11, fontweight="bold")
    axes.set(
        xlim=(0.2, SHOWN + 2.4),
        ylim=(-0.7, SHOWN + 1.9),
        xlabel="$n$, power of $H$",
        ylabel="$s_D$, number of squares",
        title=f"leading monomials of $Y_{SHOWN}$: {'-'.join(sorted(leading))} leads",
    )
    return as_html(canvas, "polygon", f"Polygon of the leading monomials; {', '.join(sorted(leading))} lead.")


def about(problem: CPDecomposition, h: float, v: float) -> str:
    """The regime of the point in one line."""
    found = place(problem, h, v)
    r = found.regime
    meaning = "" if r.meaning == "-" else f", known as **{r.meaning}**"
    return (
        f"Regime **{r.name}** at depth {found.depth:.2g}{meaning}. Parameterization {r.parameterization}, learning {r.learning}; "
        f"the loss changes on the time scale `{r.time_scale}`."
    )


@paper_style()
def loss_there(problem: CPDecomposition, p: int, h: float, v: float, runs: int = 4, seed: int = 0) -> There:
    """Theory and a small simulation at the sizes that the point stands for."""
    sizes = sizes_at(p, h, v)
    times = np.linspace(0, SPAN * _time_scale(problem, sizes), TIMES)
    theory, words = _theory(problem, sizes, times)
    words.insert(0, f"At p = {p}, H = {sizes['H']:g}, sigma2 = {sizes['sigma2']:.3g}.")
    curves = list(theory)
    weights = p * sizes["H"] * (1 if problem.symmetric else problem.order)
    if weights > MOST_WEIGHTS:
        words.append(f"No simulation: it would have {weights:.0f} weights, more than {MOST_WEIGHTS}; take a smaller p.")
    else:
        curves.append(solve(problem, Simulation(sizes, runs=runs, seed=seed, tolerance=1e-6), times))
        if theory:
            words.append(compare(theory[0], curves[-1]).verdict)
    canvas, axes = sheet()
    if curves:
        draw_trajectories(*curves, axes=axes, per="p")
    axes.set_title("the loss at this point")
    return There(as_html(canvas, "loss", " ".join(words)), tuple(words))


def _theory(problem: CPDecomposition, sizes: Mapping[str, float], times: Array) -> tuple[list[Trajectory], list[str]]:
    """The limit where one is known, else the exact series as far as it reaches."""
    try:
        return [_limit(problem, tuple(sizes.items()), tuple(times))], []
    except LossflowError as error:
        words = [f"No limit is known here ({_first_sentence(error)}); the exact series to order {ORDER} instead."]
    return [solve(problem, Series(sizes, ORDER, Pade()), times)], words


@lru_cache(maxsize=64)
def _limit(problem: CPDecomposition, sizes: tuple[tuple[str, float], ...], times: tuple[float, ...]) -> Trajectory:
    return solve(problem, Limit(dict(sizes)), np.array(times))


def _time_scale(problem: CPDecomposition, sizes: Mapping[str, float]) -> float:
    """The time in which the loss changes, from the exact slope at the start: |Y_0 / Y_1|, or that of the regime if longer."""
    y0, y1 = (float(y) for y in expand(problem, 1).at(**{name: Fraction(value) for name, value in sizes.items()}))
    by_slope = abs(y0 / y1)
    try:
        return max(by_slope, classify(problem, sizes=sizes).regime.time_scale.at(sizes))
    except LossflowError:
        return by_slope


def _first_sentence(error: LossflowError) -> str:
    return str(error).partition(". ")[0].rstrip(".")
