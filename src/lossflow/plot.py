"""Trajectories as pictures: theory as lines with an uncertainty band, experiment as points with error bars.

Bands and bars are one standard error. What keeps the runs of an experiment (`details["runs"]`) is drawn as points. One
system (problem, sizes, dynamics) has one color, so that a theory and its experiment belong together at a glance; colors
and markers stay distinct in print and for color-blind readers (Okabe and Ito's palette).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from lossflow.description import SizeMap
from lossflow.errors import InvalidInput, UnknownName, nearest
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lossflow.comparison import Gap

    Array = npt.NDArray[np.float64]

Scale = Literal["auto", "linear", "log"]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
POINTS: Mapping[str, Any] = {"mfc": "white", "mew": 1.0, "elinewidth": 1.0}
STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "legend.title_fontsize": 8.0,
    "lines.linewidth": 1.5,
    "lines.markersize": 3.6,
    "errorbar.capsize": 0.0,
    "svg.hashsalt": "lossflow",  # the same picture is the same file
}
LOG_SPAN = 30.0  # a quantity that stays positive and spans more than this factor is drawn on a logarithmic axis
QUANTITIES = {
    "loss": "loss $L$",
    "test_loss": "test loss",
    "mse": "squared error",
    "overlap": "overlap",
    "norm": "norm",
}
SYMBOLS = {"sigma2": r"\sigma^2"}


@contextmanager
def paper_style() -> Iterator[None]:
    """Fonts, lines and grid of every picture of the library."""
    from matplotlib import rc_context

    with rc_context(STYLE):
        yield


def draw_trajectories(
    *trajectories: Trajectory,
    observable: str = "loss",
    axes: Axes | None = None,
    labels: Sequence[str] | None = None,
    per: str | None = None,
    xscale: Scale = "auto",
    yscale: Scale = "auto",
) -> Axes:
    """`observable` over time for every trajectory, on `axes` or on a new picture.

    labels: one for each trajectory; by default method, settings and, where they differ, sizes. per: the name of a size by
    which every value is divided ("p": loss per p). The end of validity of a theory is marked by a vertical line.
    Returns the axes; `axes.figure.savefig(...)` writes the picture.
    Raises `InvalidInput` for no trajectory, mixed units of time or a wrong number of labels, `UnknownName` for an
    observable or a size that is not there.
    """
    _check(trajectories, labels)
    looks = _looks(trajectories)
    if axes is None:
        axes = _new_axes()
    shared = _shared_sizes(trajectories)
    names = labels if labels is not None else [_label(trajectory, shared is None) for trajectory in trajectories]
    drawn = [_values(trajectory, observable, per) for trajectory in trajectories]
    for trajectory, (values, errors), look, name in zip(trajectories, drawn, looks, names, strict=True):
        if _is_experiment(trajectory):
            axes.errorbar(trajectory.times, values, errors, fmt=look.marker, color=look.color, label=name, **POINTS)
        else:
            axes.plot(trajectory.times, values, look.line, color=look.color, label=name)
            axes.fill_between(trajectory.times, values - errors, values + errors, color=look.color, alpha=0.18, lw=0)
            _mark_end(axes, trajectory, look)
    _set_scales(axes, [t.times for t in trajectories], [values for values, _ in drawn], xscale, yscale)
    axes.set_xlabel(_time_label(trajectories))
    axes.set_ylabel(QUANTITIES.get(observable, observable.replace("_", " ")) + (f" / ${_symbol(per)}$" if per else ""))
    axes.legend(title=None if shared is None or labels is not None else format_sizes(shared))
    return axes


def draw_deviations(
    *gaps: Gap,
    axes: Axes | None = None,
    labels: Sequence[str] | None = None,
    unit: Literal["sigma", "relative"] = "sigma",
) -> Axes:
    """(other - reference)(t) of every gap, as `lossflow.compare(...).gaps` holds them, on `axes` or on a new picture.

    unit: "sigma", in units of the combined uncertainty, with a band of +-2; "relative", over |reference|. Colors are those
    of `draw_trajectories` for the same trajectories.
    Raises `InvalidInput` for no gap or a wrong number of labels.
    """
    from lossflow.comparison import Gap

    if not gaps or not all(isinstance(gap, Gap) for gap in gaps):
        raise InvalidInput(f"draw_deviations takes gaps, such as those of lossflow.compare(a, b).gaps; got {gaps!r}")
    if labels is not None and len(labels) != len(gaps):
        raise InvalidInput(f"{len(gaps)} gaps need as many labels, got {len(labels)}")
    if axes is None:
        axes = _new_axes()
    trajectories = _distinct(t for gap in gaps for t in (gap.reference, gap.other))
    looks = _looks(trajectories)
    shared = _shared_sizes(trajectories)
    for place, gap in enumerate(gaps):
        look = next(look for look, other in zip(looks, trajectories, strict=True) if _is_same_answer(gap.other, other))
        label = labels[place] if labels is not None else _label(gap.other, shared is None)
        ratio = gap.deviation if unit == "sigma" else np.where(np.isfinite(gap.relative), gap.relative, np.nan)
        axes.plot(gap.times, ratio, look.marker + "-", color=look.color, mfc="white", mew=1.0, lw=0.8, label=label)
    axes.axhline(0, color="#555555", lw=0.8)
    if unit == "sigma":
        axes.axhspan(-2, 2, color="#999999", alpha=0.15, lw=0)
    axes.set_xlabel(_time_label(trajectories))
    axes.set_ylabel("gap / uncertainty" if unit == "sigma" else "relative gap")
    return axes


def draw_comparison(
    reference: Trajectory, *others: Trajectory, observable: str = "loss", per: str | None = None
) -> Figure:
    """A picture of two panels over one time axis: the curves, and below them the deviations in units of the uncertainty.

    Raises what `draw_trajectories` and `lossflow.compare` raise.
    """
    from matplotlib.figure import Figure

    from lossflow.comparison import compare

    gaps = compare(reference, *others, observable=observable).gaps
    with paper_style():
        picture = Figure(figsize=(5.6, 5.0), layout="constrained")
        upper, lower = picture.subplots(2, 1, sharex=True, height_ratios=(3, 1.3))
        draw_trajectories(reference, *others, observable=observable, per=per, axes=upper)
        draw_deviations(*gaps, axes=lower)
        upper.set_xlabel("")
    return picture


def format_sizes(sizes: Mapping[str, float]) -> str:
    """Sizes for legends and captions: {"p": 8, "sigma2": 0.125} -> "$p = 8$, $\\sigma^2 = 1/8$"."""
    variances_last = sorted(sizes, key=lambda name: (len(name) > 1, name.lower() == "h", name))
    return ", ".join(f"${SYMBOLS.get(name, _symbol(name))} = {format_number(sizes[name])}$" for name in variances_last)


def format_number(value: float) -> str:
    """A number as short as it can be said: 64, 1/64, 3/2, 0.1234."""
    from fractions import Fraction

    near = Fraction(value).limit_denominator(4096)
    if near and float(near) == value and (near.denominator == 1 or near.numerator < 10):
        return str(near)
    return f"{value:.4g}"


class _Look(NamedTuple):
    color: str
    line: str
    marker: str


def _looks(trajectories: Sequence[Trajectory]) -> list[_Look]:
    """One color per system; one line style per method within it. A single system gives its color range to the methods."""
    systems: list[Trajectory] = []
    seen: dict[int, int] = {}
    looks = []
    for trajectory in trajectories:
        if not any(_is_same_system(trajectory, other) for other in systems):
            systems.append(trajectory)
    for place, trajectory in enumerate(trajectories):
        system = next(k for k, other in enumerate(systems) if _is_same_system(trajectory, other))
        color = system if len(systems) > 1 else place
        rank = seen.get(color, 0)
        if not _is_experiment(trajectory):
            seen[color] = rank + 1
        looks.append(_Look(COLORS[color % len(COLORS)], LINES[rank % len(LINES)], MARKERS[color % len(MARKERS)]))
    return looks


def _distinct(trajectories: Iterable[Trajectory]) -> list[Trajectory]:
    found: list[Trajectory] = []
    for trajectory in trajectories:
        if not any(_is_same_answer(trajectory, other) for other in found):
            found.append(trajectory)
    return found


def _is_same_answer(a: Trajectory, b: Trajectory) -> bool:
    """Whether they are one trajectory, of which gaps may hold copies."""
    return (a.problem, a.method, a.dynamics) == (b.problem, b.method, b.dynamics) and np.array_equal(a.times, b.times)


def _is_same_system(a: Trajectory, b: Trajectory) -> bool:
    """Whether they answer one question; a method without sizes answers for all of them."""
    one, two = a.method.known_sizes, b.method.known_sizes
    return a.problem == b.problem and a.dynamics == b.dynamics and (one == two or not one or not two)


def _shared_sizes(trajectories: Sequence[Trajectory]) -> SizeMap | None:
    """The sizes of all methods that have sizes, if they are the same."""
    found = [sizes for sizes in (trajectory.method.known_sizes for trajectory in trajectories) if sizes]
    return SizeMap(found[0]) if found and all(sizes == found[0] for sizes in found) else None


def _is_experiment(trajectory: Trajectory) -> bool:
    return "runs" in trajectory.details


def _label(trajectory: Trajectory, with_sizes: bool) -> str:
    """The method, those of its settings that a reader asks for, and its sizes."""
    method = trajectory.method
    settings = {f.name: getattr(method, f.name) for f in fields(method) if getattr(method, f.name) != f.default}  # type: ignore[arg-type]
    parts = [type(method).__name__]
    parts += [f"{name} {settings[name]}" for name in ("order", "regime", "resummation") if name in settings]
    parts += [f"{len(next(iter(trajectory.details['runs'].values())))} runs"] if _is_experiment(trajectory) else []
    parts += [format_sizes(method.known_sizes)] if method.known_sizes and with_sizes else []
    return ", ".join(parts)


def _values(trajectory: Trajectory, observable: str, per: str | None) -> tuple[Array, Array]:
    if observable.partition("[")[0] not in trajectory.values:
        raise UnknownName(f"{trajectory!r} has no observable {observable!r}; {nearest(observable, trajectory.values)}")
    trajectory = trajectory.entry(observable)
    divisor = 1.0
    if per is not None:
        sizes = trajectory.method.known_sizes
        if per not in sizes:
            raise UnknownName(f"{trajectory.method!r} has no size {per!r}; {nearest(per, sizes)}")
        divisor = sizes[per]
    return trajectory.values[observable] / divisor, trajectory.uncertainty[observable] / divisor


def _mark_end(axes: Axes, trajectory: Trajectory, look: _Look) -> None:
    last = trajectory.status.last_time
    if trajectory.status or last is None or not np.isfinite(last):
        return
    axes.axvline(last, color=look.color, ls=(0, (1, 2)), lw=1.2)
    forward = trajectory.times[-1] >= trajectory.times[0]  # the words stand beyond the end, where the curve is not
    axes.annotate(
        "holds up to here",
        (last, 0.02),
        xycoords=("data", "axes fraction"),
        rotation=90,
        fontsize=7,
        color=look.color,
        xytext=(2 if forward else -2, 0),
        textcoords="offset points",
        ha="left" if forward else "right",
        va="bottom",
    )


def _set_scales(axes: Axes, times: Sequence[Array], values: Sequence[Array], xscale: Scale, yscale: Scale) -> None:
    if xscale == "log" or (xscale == "auto" and all(map(_is_geometric, times))):
        axes.set_xscale("log")
    known = np.concatenate(values)
    known = known[np.isfinite(known)]
    if yscale == "log" or (
        yscale == "auto" and known.size and known.min() > 0 and known.max() > LOG_SPAN * known.min()
    ):
        axes.set_yscale("log")
        positive = known[known > 0]
        if positive.size:
            axes.set_ylim(positive.min() / 2, positive.max() * 2)


def _is_geometric(times: Array) -> bool:
    """Whether times are spread over decades, so that their middle lies far below the middle of their range."""
    low, high = float(times.min()), float(times.max())
    return low > 0 and high > LOG_SPAN * low and float(np.median(times)) < 0.25 * (low + high)


def _time_label(trajectories: Sequence[Trajectory]) -> str:
    units = {float(trajectory.details.get("time_unit", 0.0)) for trajectory in trajectories}
    if units == {0.0}:
        return "time $t$"
    return f"time $t / T$,  $T = {format_number(min(units))}$" if len(units) == 1 else "time $t / T$"


def _symbol(name: str) -> str:
    return name if len(name) == 1 else r"\mathrm{" + name.replace("_", r"\_") + "}"


def _check(trajectories: Sequence[Trajectory], labels: Sequence[str] | None) -> None:
    if not trajectories:
        raise InvalidInput("there is nothing to draw: give at least one trajectory")
    for trajectory in trajectories:
        if not isinstance(trajectory, Trajectory):
            raise InvalidInput(f"expected trajectories, as lossflow.solve returns them, got {trajectory!r}")
    if labels is not None and len(labels) != len(trajectories):
        raise InvalidInput(f"{len(trajectories)} trajectories need as many labels, got {len(labels)}")
    natural = {"time_unit" in trajectory.details for trajectory in trajectories}
    if len(natural) > 1:
        raise InvalidInput("some times are in natural units and others are not; apply in_units_of to all or to none")


def _new_axes() -> Axes:
    from matplotlib.figure import Figure

    with paper_style():
        return Figure(figsize=(5.6, 3.8), layout="constrained").add_subplot()
