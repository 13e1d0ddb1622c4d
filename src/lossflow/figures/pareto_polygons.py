"""Leading monomials of the exact Y_s as polygons, the theorem overlaid, and the scalings at which each face leads."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.expansion.pareto import Exponent, identity_front, identity_vertices
from lossflow.expansion.regimes import NoTimeScale, classify, observe, regimes, survey
from lossflow.expansion.series import LossSeries, expand
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.plot import COLORS
from lossflow.problems.cp import CPDecomposition

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

RESOLUTION = 481  # points along each side of a map of scalings
SHADES = {"A": COLORS[5], "B": COLORS[1], "C": COLORS[3], "D": COLORS[2], "E": COLORS[4]}


class Case(NamedTuple):
    """A problem, its exact series, and the s that are shown."""

    name: str
    problem: CPDecomposition
    series: LossSeries
    shown: tuple[int, ...]


def draw(symmetric: tuple[int, int], asymmetric: tuple[int, int], shown: tuple[int, ...]) -> Outcome:
    """symmetric, asymmetric: (order of the tensor, highest s that is compared); shown: the s whose polygons are drawn."""
    cases = []
    for (order, highest), same, name in (
        (symmetric, True, "one matrix"),
        (asymmetric, False, "a matrix for each slot"),
    ):
        problem = CPDecomposition(order, same)
        series = expand(problem, highest)
        cases.append(Case(f"{name}, order {order}", problem, series, tuple(s for s in shown if s <= highest)))
    verdicts = [verdict for case in cases for verdict in (_fronts(case), _cones(case))]
    words = (
        f"Rows: {cases[0].name}, and {cases[1].name}. Left: the leading monomials p^q H^n of Y_s, as computed from all its terms "
        "(filled) and as the theorem has them (rings), over n and the number of squares D, with q beside each; crosses mark "
        "what the theorem says is absent. Their polygon has the vertices A, B, E, or A to E. Right: the exponents of H and of "
        "sigma^2, with p = L, at which each vertex leads; walls between them are the edges, and the point where all meet is "
        "the full problem."
    )
    return Outcome((Picture("polygons", _canvas(cases), words),), tuple(verdicts))


def _fronts(case: Case) -> Verdict:
    """The computed fronts are those of the theorem, for every s that was reached."""
    order, symmetric = case.problem.order, case.problem.symmetric
    wrong = [
        s
        for s in range(case.series.order + 1)
        if case.series.pareto(s) != set(identity_front(order, symmetric, s).values())
    ]
    points = sum(len(case.series.pareto(s)) for s in range(case.series.order + 1))
    found = f"all {points} leading monomials" if not wrong else f"not those of s = {', '.join(map(str, wrong))}"
    sentence = f"{found} of Y_0 .. Y_{case.series.order} are those of the theorem"
    return Verdict(f"{case.name}: fronts", None if wrong else 0.0, None, None, not wrong, sentence)


def _cones(case: Case) -> Verdict:
    """The cones that the exact series show, with nothing known of the problem, are the faces of the theorem."""
    atlas = observe(case.problem, case.series.order)
    agree = len(atlas.regimes) == len(regimes(case.problem))
    partners: dict[str, str] = {}
    for a in _scalings(case.problem, 12):
        known = classify(case.problem, exponents=dict(zip(atlas.variables, a, strict=True)))  # type: ignore[call-overload]
        face = atlas.fan.closure(atlas.fan.locate(a))
        mine = atlas.regimes[face].name if face else "none"
        agree = agree and partners.setdefault(known.regime.name, mine) == mine
    agree = agree and len(set(partners.values())) == len(partners)
    faces = len(regimes(case.problem))
    sentence = f"{len(atlas.regimes)} cones of the fan of Y_1 .. Y_{case.series.order}, {faces} faces of the theorem"
    return Verdict(f"{case.name}: faces", 0.0 if agree else None, None, None, agree, sentence)


def _scalings(problem: CPDecomposition, count: int) -> list[tuple[Fraction, Fraction, Fraction]]:
    """p = L, H = L^h, 1/sigma2 = L^w on a grid that covers all faces."""
    widest, faintest = extent(problem)
    heights = [Fraction(k * widest, count) for k in range(1, count + 1)]
    depths = [Fraction(k * faintest, count) for k in range(-count // 3, count + 1)]
    return [(Fraction(1), h, -w) for h in heights for w in depths]


def extent(problem: CPDecomposition) -> tuple[int, int]:
    """How far a map goes: the largest exponents of H and of 1/sigma2, at p = L."""
    order = problem.order
    return (order if problem.symmetric and order % 2 == 0 else 2 * (order - 1)), 3


def _canvas(cases: Sequence[Case]) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    columns = max(len(case.shown) for case in cases) + 1
    canvas = Canvas(figsize=(3.5 * columns, 3.4 * len(cases)), layout="constrained")
    grid = canvas.subplots(len(cases), columns, squeeze=False)
    for row, case in zip(grid, cases, strict=True):
        for axes, s in zip(row, case.shown, strict=False):
            _draw_polygon(axes, case, s)
        for axes in row[len(case.shown) : -1]:
            axes.set_visible(False)
        draw_scalings(row[-1], case.problem)
        row[-1].set_title(f"where each face leads, order {case.problem.order}")
    return canvas


def _draw_polygon(axes: Axes, case: Case, s: int) -> None:
    order, symmetric = case.problem.order, case.problem.symmetric
    theorem = identity_front(order, symmetric, s)
    computed = {squares(order, s, e): e for e in case.series.pareto(s)}
    corners = {name: place for name, place in identity_vertices(symmetric, s).items() if place in theorem}
    outline = np.array([*dict.fromkeys(corners.values()), next(iter(corners.values()))], dtype=float)
    axes.fill(*outline.T, color=COLORS[4], alpha=0.25, lw=0)
    axes.plot(*outline.T, color=COLORS[0], lw=1.0)
    absent = [(n, d) for d in range(s + 2) for n in range(1, d + 2) if (n, d) not in theorem]
    if absent:
        axes.plot(*np.array(absent).T, "x", color="#999999", ms=4, ls="none")
    axes.plot(*np.array(list(theorem)).T, "o", mfc="none", mec=COLORS[1], ms=8, ls="none")
    axes.plot(*np.array(list(computed)).T, "o", color=COLORS[0], ms=3.5, ls="none")
    for (n, d), exponent in computed.items():
        axes.annotate(
            str(exponent[0]), (n, d), xytext=(5, -9), textcoords="offset points", fontsize=6.5, color="#555555"
        )
    together: dict[tuple[int, int], list[str]] = {}
    for name, place in corners.items():
        together.setdefault(place, []).append(name)
    for place, names in together.items():
        axes.annotate(
            "=".join(names),
            place,
            xytext=(-3, 5),
            textcoords="offset points",
            ha="right",
            fontsize=9,
            fontweight="bold",
        )
    axes.set(
        xlim=(0.3, s + 2.7),
        ylim=(-0.7, s + 1.8),
        xlabel="$n$, power of $H$",
        ylabel="$s_D$, number of squares",
        title=f"{'one matrix' if symmetric else 'a matrix for each slot'}, order {order}, $s = {s}$",
    )
    axes.set_xticks(range(1, s + 3))
    axes.set_yticks(range(s + 2))


def squares(order: int, s: int, exponent: Exponent) -> tuple[int, int]:
    """(n, s_D) of a monomial of Y_s, whose power of the variance counts its squares."""
    _, n, power = exponent
    return n, (2 * power - (order - 2) * s) // order - 1


def draw_scalings(axes: Axes, problem: CPDecomposition) -> None:
    """The vertex that leads at p = L, H = L^h, sigma2 = L^v over (h, v); gray and hatched where no single time scale holds."""
    atlas = survey(problem)
    widest, faintest = extent(problem)
    h, v = np.linspace(0, widest, RESOLUTION), np.linspace(-faintest, 1, RESOLUTION)
    scalings = np.stack(np.broadcast_arrays(1.0, h[None, :], v[:, None]), axis=-1)
    sums = np.array(
        [np.sum(leaders, axis=0) for leaders in atlas.fan.leaders]
    )  # who leads every Y_s leads their product
    leading = np.argmax(scalings @ sums.T, axis=-1)
    for face, regime in atlas.regimes.items():
        if len(face) > 1:
            continue
        here = leading == min(face)
        lawless = isinstance(regime.time_scale, NoTimeScale)
        if not here.any():
            continue
        color = "#bbbbbb" if lawless else SHADES[regime.name]
        filled = axes.contourf(
            h, v, here, levels=(0.5, 1.5), colors=[color], alpha=0.45, hatches=["////" if lawless else None]
        )
        filled.set_edgecolor("#777777")
        filled.set_linewidth(0.0)
        axes.contour(h, v, here, levels=(0.5,), colors="#444444", linewidths=0.6)
        if not lawless:
            rows, columns = np.nonzero(here)
            place = (h[columns].mean(), v[rows].mean())
            axes.annotate(regime.name, place, ha="center", va="center", fontsize=10, fontweight="bold")
    axes.set(xlabel=r"$h$,  $H = p^h$", ylabel=r"$v$,  $\sigma^2 = p^v$")
    axes.grid(False)


FIGURE = Figure(
    name="pareto-polygons",
    title="Leading monomials: polygons from the exact series, and the theorem",
    claim="The leading monomials of Y_s, computed from all its terms, are those of the theorem: a triangle A-B-E for one matrix "
    "and even order, a pentagon A-B-C-D-E for a matrix in each slot; the cones of the fan of the series are its faces.",
    sources=("YGG26v2",),
    quick={"symmetric": (2, 4), "asymmetric": (3, 4), "shown": (3, 4)},
    full={"symmetric": (4, 4), "asymmetric": (3, 5), "shown": (3, 4)},
    draw=draw,
)
