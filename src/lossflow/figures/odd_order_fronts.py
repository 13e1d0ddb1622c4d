"""Symmetric odd orders: leading monomials that lie in no plane, and scalings at which no time scale serves all orders."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from lossflow.expansion.odd_orders import lazy_rates, lazy_weights, odd_front
from lossflow.expansion.pareto import variance_power
from lossflow.expansion.series import LossSeries, expand
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.figures.pareto_polygons import draw_scalings, squares
from lossflow.plot import COLORS, MARKERS
from lossflow.problems.cp import CPDecomposition

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

SIZE = 10**9  # p at which quotients of derivatives are taken
CONSTANT = 0.2  # how far log_p of the quotients may move where one time scale serves: coefficients to the power 1/log p
PLACES: Mapping[str, Fraction] = {  # H = p^((nu - 1) x), with free noise, sigma2 = 1
    "A": Fraction(1, 4),
    "between": Fraction(7, 10),
    "B": Fraction(3, 2),
}


def draw(highest: Mapping[str, int]) -> Outcome:
    """highest: the order of the tensor (as a word) -> highest s that is compared; the first one's scalings are drawn."""
    series = {int(order): expand(CPDecomposition(int(order)), s) for order, s in highest.items()}
    first = next(iter(series))
    quotients = {name: _quotients(first, series[first], name) for name in PLACES}
    verdicts = [_fronts(order, known) for order, known in series.items()]
    verdicts += [_lazy(order, known) for order, known in series.items()]
    verdicts += [_times(first, name, values) for name, values in quotients.items()]
    words = (
        f"Leading monomials p^q H^n of Y_s for one matrix and orders {' and '.join(map(str, series))}, over n and the number of "
        "squares D: computed (filled), theorem (rings). The number beside a point is how far q lies above (+) or below (-) the "
        "plane 1 + (nu-1) s_D - (nu-1)/2 (n-1): six and more cross terms lift points off it, none lets them fall. Then, for "
        f"order {first}: the scalings at which one vertex leads Y_1 to Y_4, labeled, and those at which none does, hatched; and "
        f"log_p of |Y_(s+1)/Y_s| at p = {SIZE:g} from the exact series, at large noise: constant in A and in B, not in between."
    )
    return Outcome((Picture("fronts", _canvas(series, quotients), words),), tuple(verdicts))


def _fronts(order: int, series: LossSeries) -> Verdict:
    wrong = [s for s in range(series.order + 1) if series.pareto(s) != set(odd_front(order, s).values())]
    points = sum(len(series.pareto(s)) for s in range(series.order + 1))
    found = f"all {points} leading monomials" if not wrong else f"not those of s = {', '.join(map(str, wrong))}"
    sentence = f"{found} of Y_0 .. Y_{series.order} are those of the theorem"
    return Verdict(f"order {order}: fronts", None if wrong else 0.0, None, None, not wrong, sentence)


def _lazy(order: int, series: LossSeries) -> Verdict:
    """The highest power of H beside two cross terms decays with the rates of the averaged kernel, exactly, at several p."""
    wrong = []
    for s in range(1, series.order + 1):
        for p in (2, 5, 64):
            power = variance_power(order, s, s - 1)
            exact = sum(c * p ** e[0] for e, c in series.coefficients[s].items() if e[1:] == (s, power))
            rates, weights = lazy_rates(order, p), lazy_weights(order, p)
            if exact != sum(weights[k][0] * (-2 * rates[k]) ** s for k in rates) / 2:
                wrong.append(s)
    sentence = (
        f"coefficients of H^s in Y_1 .. Y_{series.order} are those of {(order + 1) // 2} exponentials, exactly at p = 2, 5, 64"
        if not wrong
        else f"Y_s differs from the exponentials at s = {', '.join(map(str, sorted(set(wrong))))}"
    )
    return Verdict(f"order {order}: rates of the lazy limit", None if wrong else 0.0, None, None, not wrong, sentence)


def _quotients(order: int, series: LossSeries, place: str) -> list[float]:
    """log_p |Y_(s+1)/Y_s| for s >= 1 at p = SIZE and the scaling called `place`, with free noise."""
    values = series.at(p=SIZE, H=round(SIZE ** float(PLACES[place] * (order - 1))), sigma2=1)[1:]
    return [_logarithm(abs(b / a)) / math.log(SIZE) for a, b in pairwise(values)]


def _logarithm(x: Fraction) -> float:
    return math.log(x.numerator) - math.log(x.denominator)


def _times(order: int, name: str, values: Sequence[float]) -> Verdict:
    """In A and B the quotients are constant; in between they move by more than coefficients explain."""
    spread = max(values) - min(values)
    constant = spread < CONSTANT
    agree = constant == (name != "between")
    sentence = (
        f"log_p of |Y_(s+1)/Y_s| {'is constant within' if constant else 'varies by'} {spread:.2f}: "
        f"{'one time scale serves all s' if constant else 'no time scale serves all s'}"
    )
    return Verdict(f"order {order}: quotients, {name}", None, None, None, agree, sentence)


def _canvas(series: Mapping[int, LossSeries], quotients: Mapping[str, Sequence[float]]) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(9.0, 7.4), layout="constrained")
    grid = canvas.subplots(2, 2)
    for axes, (order, known) in zip(grid[0], series.items(), strict=False):
        _draw_front(axes, order, known)
    first = next(iter(series))
    draw_scalings(grid[1, 0], CPDecomposition(first))
    grid[1, 0].set_title(f"order {first}: hatched where no single time scale")
    _draw_quotients(grid[1, 1], first, quotients)
    return canvas


def _draw_front(axes: Axes, order: int, series: LossSeries) -> None:
    s = series.order
    theorem = odd_front(order, s)
    computed = {squares(order, s, e): e for e in series.pareto(s)}
    axes.plot(*np.array(list(theorem)).T, "o", mfc="none", mec=COLORS[1], ms=8, ls="none", label="theorem")
    axes.plot(*np.array(list(computed)).T, "o", color=COLORS[0], ms=3.5, ls="none", label="computed")
    for (n, d), (q, _, _) in computed.items():
        off = q - (1 + (order - 1) * d - (order - 1) // 2 * (n - 1))
        words = "0" if not off else f"{off:+d}"
        axes.annotate(words, (n, d), xytext=(5, -9), textcoords="offset points", fontsize=7.5, color="#555555")
    axes.set(
        xlim=(0.5, s + 2.0),
        ylim=(-0.7, s + 1.8),
        xlabel="$n$, power of $H$",
        ylabel="$s_D$, number of squares",
        title=f"one matrix, order {order}, $s = {s}$: distance from the plane",
    )
    axes.set_xticks(range(1, s + 2))
    axes.set_yticks(range(s + 2))
    axes.legend(loc="lower right")


def _draw_quotients(axes: Axes, order: int, quotients: Mapping[str, Sequence[float]]) -> None:
    for (name, values), color, marker in zip(quotients.items(), COLORS, MARKERS, strict=False):
        h = PLACES[name] * (order - 1)
        label = f"{name}: $H = p^{{{h}}}$"
        axes.plot(range(1, len(values) + 1), values, marker + "-", color=color, mfc="white", mew=1.0, label=label)
    axes.set(
        xlabel="$s$",
        ylabel=r"$\log_p\,|Y_{s+1}/Y_s|$",
        title=rf"order {order}, $\sigma^2 = 1$, $p = 10^{{{round(math.log10(SIZE))}}}$",
    )
    axes.set_xticks(range(1, max(map(len, quotients.values())) + 1))
    axes.legend()


FIGURE = Figure(
    name="odd-order-fronts",
    title="Symmetric odd orders: leading monomials off the plane, and no single time scale",
    claim="For one matrix and odd order the leading monomials of the exact Y_s are those of the theorem, which lie in no plane; "
    "between the free regimes A and B no time scale serves all s; the lazy limit has (nu+1)/2 rates.",
    sources=("YGG26v2",),
    quick={"highest": {"3": 4, "5": 3}},
    full={"highest": {"3": 6, "5": 4}},
    draw=draw,
)
