"""Pictures of trajectories: what is drawn is what the trajectories hold, and every axis, line and end is labeled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import matplotlib.colors as colors
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.container import ErrorbarContainer

import lossflow as lf
from lossflow.plot import COLORS, draw_comparison, draw_deviations, draw_trajectories, format_number, format_sizes
from lossflow.trajectory import COMPLETE, Status, Trajectory

PROBLEM = lf.CPDecomposition(order=2)
SIZES = {"p": 8, "H": 6, "sigma2": 1 / 8}
TIMES = np.linspace(0, 1, 6)


def theory(values: np.ndarray, *, status: Status = COMPLETE, times: np.ndarray = TIMES, sizes=SIZES) -> Trajectory:
    errors = np.where(np.isnan(values), np.nan, 0.25)
    method = lf.Limit(sizes)
    return Trajectory(times, {"loss": values}, {"loss": errors}, status, PROBLEM, method, lf.GradientFlow(), {}, ())


def experiment(values: np.ndarray, *, times: np.ndarray = TIMES, sizes=SIZES) -> Trajectory:
    runs = values + np.array([[-1.0], [0.0], [1.0]])
    errors = np.full(values.shape, 0.5)
    method = lf.Simulation(sizes, runs=3)
    details = {"runs": {"loss": runs}}
    return Trajectory(
        times, {"loss": values}, {"loss": errors}, COMPLETE, PROBLEM, method, lf.GradientFlow(), details, ()
    )


def points(axes: Axes) -> Iterator[ErrorbarContainer]:
    return (container for container in axes.containers if isinstance(container, ErrorbarContainer))


def bands(axes: Axes) -> list[PolyCollection]:
    return [collection for collection in axes.collections if isinstance(collection, PolyCollection)]


def test_theory_is_a_line_with_a_band_and_experiment_points_with_bars() -> None:
    expected, measured = np.linspace(4, 2, 6), np.linspace(4.1, 2.2, 6)
    axes = draw_trajectories(theory(expected), experiment(measured))
    line = next(line for line in axes.lines if line.get_linestyle() == "-")
    assert np.array_equal(line.get_xydata(), np.column_stack([TIMES, expected]))  # type: ignore[arg-type]
    (band,) = bands(axes)
    corners = band.get_paths()[0].vertices
    assert {*np.asarray(corners)[:, 1]} >= {*(expected - 0.25), *(expected + 0.25)}
    (bars,) = points(axes)
    assert np.array_equal(bars.lines[0].get_xydata(), np.column_stack([TIMES, measured]))  # type: ignore[arg-type]
    assert bars.lines[0].get_linestyle() == "None"
    segments = np.array(bars.lines[2][0].get_segments())
    assert np.allclose(segments[:, :, 1], np.column_stack([measured - 0.5, measured + 0.5]), rtol=0, atol=1e-15)


def test_axes_and_legend_say_what_is_drawn() -> None:
    axes = draw_trajectories(theory(np.linspace(4, 2, 6)), experiment(np.linspace(4, 2, 6)))
    assert axes.get_xlabel() == "time $t$"
    assert axes.get_ylabel() == "loss $L$"
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["Limit", "Simulation, 3 runs"]
    assert legend.get_title().get_text() == r"$p = 8$, $H = 6$, $\sigma^2 = 1/8$"


def test_sizes_stand_in_the_legend_where_they_differ() -> None:
    other = {**SIZES, "H": 12}
    axes = draw_trajectories(theory(np.linspace(4, 2, 6)), theory(np.linspace(4, 2, 6), sizes=other))
    legend = axes.get_legend()
    assert legend is not None
    first, second = (text.get_text() for text in legend.get_texts())
    assert "H = 6" in first
    assert "H = 12" in second


def test_a_system_has_one_color_and_the_colors_differ() -> None:
    small, large = SIZES, {**SIZES, "p": 16}
    values = np.linspace(4, 2, 6)
    axes = draw_trajectories(
        theory(values), experiment(values), theory(values, sizes=large), experiment(values, sizes=large)
    )
    lines = [line.get_color() for line in axes.lines if line.get_linestyle() == "-"]
    dots = [container.lines[0].get_color() for container in points(axes)]
    assert lines == dots
    assert lines[0] != lines[1]
    assert small != large


def test_methods_of_one_system_are_told_apart() -> None:
    axes = draw_trajectories(theory(np.linspace(4, 2, 6)), experiment(np.linspace(4, 2, 6)))
    (line,) = (line for line in axes.lines if line.get_linestyle() == "-")
    (dots,) = points(axes)
    assert line.get_color() != dots.lines[0].get_color()


def test_the_palette_is_readable_without_color() -> None:
    """Neighbors in the palette differ in luminance or hue for the commonest color blindness (Machado et al. 2009)."""
    deuteranopia = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
    seen = [deuteranopia @ np.array(colors.to_rgb(color)) for color in COLORS]
    distances = [np.linalg.norm(a - b) for k, a in enumerate(seen) for b in seen[:k]]
    assert min(distances) > 0.15  # green to red of the same luminance would give 0.05


def test_values_per_size() -> None:
    axes = draw_trajectories(theory(np.linspace(4, 2, 6)), per="p")
    assert np.array_equal(axes.lines[0].get_ydata(), np.linspace(4, 2, 6) / 8)  # type: ignore[arg-type]
    assert axes.get_ylabel() == "loss $L$ / $p$"


def test_the_end_of_validity_is_marked() -> None:
    status = Status("left_domain", 0.5, "the limit blows up")
    values = np.where(TIMES < 0.5, 3.0, np.nan)
    axes = draw_trajectories(theory(values, status=status))
    assert any(list(line.get_xdata()) == [0.5, 0.5] for line in axes.lines)  # type: ignore[arg-type]
    assert any("holds up to here" in text.get_text() for text in axes.texts)


def test_nothing_is_marked_when_complete() -> None:
    assert len(draw_trajectories(theory(np.ones(6))).lines) == 1


@pytest.mark.parametrize(
    ("times", "values", "scales"),
    [
        (np.linspace(0, 1, 6), np.linspace(4, 2, 6), ("linear", "linear")),
        (np.linspace(0, 1, 6), np.geomspace(4, 0.01, 6), ("linear", "log")),
        (np.geomspace(0.01, 10, 6), np.linspace(4, 2, 6), ("log", "linear")),
        (np.linspace(0, 1, 6), np.linspace(4, -2, 6), ("linear", "linear")),
        (np.linspace(0, -1, 6), np.linspace(4, 2, 6), ("linear", "linear")),
    ],
)
def test_scales_follow_the_data(times: np.ndarray, values: np.ndarray, scales: tuple[str, str]) -> None:
    axes = draw_trajectories(theory(values, times=times))
    assert (axes.get_xscale(), axes.get_yscale()) == scales


def test_scales_can_be_chosen() -> None:
    axes = draw_trajectories(theory(np.geomspace(4, 0.01, 6)), yscale="linear")
    assert axes.get_yscale() == "linear"


def test_natural_units_are_named() -> None:
    axes = draw_trajectories(theory(np.linspace(4, 2, 6)).in_units_of(0.25))
    assert axes.get_xlabel() == "time $t / T$,  $T = 1/4$"


def test_deviations_are_those_of_the_comparison() -> None:
    gap = lf.compare(theory(np.full(6, 4.0)), experiment(np.linspace(4, 5, 6))).gaps[0]
    axes = draw_deviations(gap)
    assert np.array_equal(axes.lines[0].get_xydata(), np.column_stack([gap.times, gap.deviation]))  # type: ignore[arg-type]
    assert "uncertainty" in axes.get_ylabel()
    assert axes.get_xlabel() == "time $t$"
    relative = draw_deviations(gap, unit="relative").lines[0].get_ydata()
    assert np.allclose(relative, (np.linspace(4, 5, 6) - 4) / 4, rtol=0, atol=1e-15)  # type: ignore[arg-type]


def test_deviations_have_the_colors_of_the_curves() -> None:
    pairs = [
        (theory(np.full(6, 4.0), sizes={**SIZES, "p": p}), experiment(np.full(6, 4.0), sizes={**SIZES, "p": p}))
        for p in (8, 16)
    ]
    upper = draw_trajectories(*(trajectory for pair in pairs for trajectory in pair))
    lower = draw_deviations(*(lf.compare(*pair).gaps[0] for pair in pairs))
    assert [dots.lines[0].get_color() for dots in points(upper)] == [line.get_color() for line in lower.lines[:2]]


def test_a_comparison_has_both_panels_over_one_axis() -> None:
    picture = draw_comparison(theory(np.linspace(4, 2, 6)), experiment(np.linspace(4.1, 2.2, 6)))
    upper, lower = picture.axes
    assert upper.get_xlim() == lower.get_xlim()
    assert upper.get_ylabel() == "loss $L$"
    assert lower.get_xlabel() == "time $t$"


def test_all_of_three_roads_keep_their_colors() -> None:
    roads = [theory(np.linspace(4, 2, 6)), replace(theory(np.linspace(4, 2, 6)), method=lf.Series(SIZES, 3))]
    upper, lower = draw_comparison(*roads, experiment(np.linspace(4.1, 2.2, 6))).axes
    colors = [line.get_color() for line in upper.lines[:2]] + [next(points(upper)).lines[0].get_color()]
    assert len(set(colors)) == 3
    assert [line.get_color() for line in lower.lines[:2]] == colors[1:]


def test_misuse_is_answered() -> None:
    good = theory(np.linspace(4, 2, 6))
    with pytest.raises(lf.InvalidInput, match="at least one trajectory"):
        draw_trajectories()
    with pytest.raises(lf.InvalidInput, match="as many labels"):
        draw_trajectories(good, labels=["a", "b"])
    with pytest.raises(lf.UnknownName, match="did you mean 'loss'"):
        draw_trajectories(good, observable="los")
    with pytest.raises(lf.UnknownName, match="no size 'P'; did you mean 'p'"):
        draw_trajectories(good, per="P")
    with pytest.raises(lf.InvalidInput, match="natural units"):
        draw_trajectories(good, good.in_units_of(2.0))
    with pytest.raises(lf.InvalidInput, match="expected trajectories"):
        draw_trajectories("loss")  # type: ignore[arg-type]
    with pytest.raises(lf.InvalidInput, match="takes gaps"):
        draw_deviations()
    with pytest.raises(lf.InvalidInput, match="takes gaps"):
        draw_deviations(good)  # type: ignore[arg-type]
    with pytest.raises(lf.InvalidInput, match="1 gaps need as many labels"):
        draw_deviations(lf.compare(good, experiment(np.ones(6))).gaps[0], labels=[])


@pytest.mark.parametrize(
    ("value", "text"),
    [(64.0, "64"), (1 / 64, "1/64"), (1.5, "3/2"), (0.123456, "0.1235"), (0.0, "0"), (1e-9, "1e-09"), (0.1, "1/10")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert format_number(value) == text


def test_sizes_are_in_reading_order() -> None:
    assert format_sizes({"sigma2": 0.5, "p": 4, "a2": 1, "H": 2}) == (
        r"$p = 4$, $H = 2$, $\mathrm{a2} = 1$, $\sigma^2 = 1/2$"
    )
