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
from lossflow.explore.pictures import as_html, sheet
from lossflow.figures.pareto_polygons import draw_scalings, extent
from lossflow.method import solve
from lossflow.plot import COLORS, draw_trajectories, paper_style
from lossflow.problems.cp import CPDecomposition
from lossflow.simulate.method import Simulation
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes

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
NARROWEST, TOP, GRID = 0.1, 1.0, 0.05  # of the map: the smallest h, the largest v, the steps of both
HANDLE = 0.05  # half the box by which the point is dragged, as a share of the map
DOTS = 200  # per inch of the map, which is no vector graphic


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


@paper_style()
def scaling_map(problem: CPDecomposition, h: float, v: float) -> Axes:
    """Which vertex of the polygon leads, over (h, v), with the point: axes to be shown where a point can be chosen."""
    canvas, axes = sheet()
    canvas.set_dpi(DOTS)
    draw_scalings(axes, problem)
    axes.plot([h], [v], "o", ms=11, mfc="white", mec="black", mew=2)
    axes.plot([h], [v], "o", ms=3, color="black")
    axes.set_title("drag the point, or click: who leads where")
    return axes


def in_words(problem: CPDecomposition, h: float, v: float) -> str:
    """The map for those who do not see it."""
    name = place(problem, h, v).regime.name
    return f"Map of scalings; the point h = {h:g}, v = {v:g} lies in the regime {name}."


def handle(problem: CPDecomposition, h: float, v: float) -> dict[str, tuple[float, float]]:
    """The box around the point by which it is dragged; at a border of the map only what lies inside."""
    widest, faintest = span_of(problem)
    across, up = HANDLE * widest, HANDLE * (TOP - faintest)
    return {
        "x": (max(0.0, h - across), min(widest, h + across)),
        "y": (max(faintest, v - up), min(TOP, v + up)),
    }


def chosen(problem: CPDecomposition, selection: object, h: float, v: float) -> tuple[float, float]:
    """The point that a box on the map stands for, its center on the grid of the sliders; (h, v) for what is no box.

    The box of the point itself stands for the point, also where the border of the map cuts it.
    """
    corners = [getattr(selection, name, None) for name in ("x_min", "x_max", "y_min", "y_max")]
    if any(corner is None for corner in corners):
        return h, v
    x0, x1, y0, y1 = (float(corner) for corner in corners if corner is not None)
    mine = handle(problem, h, v)
    if np.allclose((x0, x1, y0, y1), (*mine["x"], *mine["y"]), rtol=0, atol=1e-6):
        return h, v
    return nearest(problem, (x0 + x1) / 2, (y0 + y1) / 2)


def nearest(problem: CPDecomposition, h: float, v: float) -> tuple[float, float]:
    """The point of the grid of the sliders that is nearest, inside the map of this problem."""
    widest, faintest = span_of(problem)
    return _on_grid(h, NARROWEST, widest), _on_grid(v, faintest, TOP)


def _on_grid(x: float, least: float, most: float) -> float:
    steps = round((min(max(x, least), most) - least) / GRID)
    return round(min(least + GRID * steps, most), 6)


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
