"""Engines checked against one another on the same objects: how far apart they are, and with which power the gap closes.

gap = A x^q (1 + O(x)),   x = t, 1/d, 1/p, 1/H, 1/delta:   q = order + 1 for a series cut at that order, q = 1 for a limit
gap = A t^a e^(-q t):     the slowest rate of the flow towards its end state
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.dynamics import StochasticGradientFlow
from lossflow.end_states import stationary
from lossflow.expansion.method import Limit, Series
from lossflow.expansion.solutions.explicit import explicit
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.keys import generator
from lossflow.meanfield.method import MeanField
from lossflow.meanfield.online import Online
from lossflow.method import solve
from lossflow.plot import COLORS, MARKERS
from lossflow.problem import AbstractProblem
from lossflow.problems.cp import CPDecomposition
from lossflow.problems.diagonal import DiagonalLinear
from lossflow.problems.glm import GeneralizedLinear
from lossflow.problems.labels import LinearLabels
from lossflow.problems.losses import Square
from lossflow.problems.priors import BernoulliGaussian
from lossflow.problems.quadratic import QuadraticNetwork
from lossflow.progress import progress
from lossflow.simulate.method import Simulation

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    Array = npt.NDArray[np.float64]

INFINITE = 10**12  # a dimension so large that what is left of 1/d is rounding
CLEAR = 5.0  # a gap takes part in the fit where it is as many of its standard errors
SIGMAS = 3.0
CLOSE = 0.003  # what a fit of a few corrections leaves of an exponent that gaps without scatter show
FAR = 4.6  # standard errors that the means of three controls may lie off together: one time in ten thousand
SHARP = 0.25  # the error of a power, or the relative one of a rate, above which it tells nothing
CONTROLS = 3  # early times at which the mean over the runs is known exactly
TOLERANCE = 1e-12  # of every run: gaps of order 2 go down to 1e-9
EARLIER = 10  # times of simulations are by this earlier, so that the mean at the first ones is known by one order more


REGRESSION = GeneralizedLinear(Square(), LinearLabels(noise_variance=0.25), delta=2.0, weight_decay=0.1)
DIAGONAL = DiagonalLinear(0.5, BernoulliGaussian(1.0), 0.1)
QUADRATIC = QuadraticNetwork(alpha=0.5, kappa=0.5, kappa_star=0.5)
OBJECTS: Mapping[str, AbstractProblem] = {
    "linear regression": REGRESSION,
    "diagonal network": DIAGONAL,
    "quadratic network": QUADRATIC,
}

EARLY = {"linear regression": (4, 0.02), "diagonal network": (3, 0.002)}  # order and time at which the size is varied


class Exponent(NamedTuple):
    """A fitted power with one standard error: the scatter of the gaps, and what one correction more changes in it."""

    value: float
    error: float


class Pair(NamedTuple):
    """Two engines on one object. x: what the gap depends on; gap: relative, with one standard error; law: "power" of x or a
    "rate" in x; expected: its exponent; panel: 0 times, 1 sizes, 2 late times. offset: of means of samples that are known
    exactly, in standard errors."""

    name: str
    panel: int
    x: Array
    gap: Array
    error: Array
    expected: float
    law: str = "power"
    offset: float = 0.0

    @property
    def clear(self) -> npt.NDArray[np.bool_]:
        """Where the gap is known well enough to be fitted."""
        return np.isfinite(self.gap) & (np.abs(self.gap) > CLEAR * self.error)

    @property
    def exponent(self) -> Exponent:
        """log |gap| = a + q log x + b x   or   log |gap| = a - q x + b log x,   and the same with a term more."""
        x, gap = self.x[self.clear], np.abs(self.gap[self.clear])
        noise = np.maximum(self.error[self.clear] / gap, 1e-9)
        if len(x) < 4:
            return Exponent(math.nan, math.inf)
        far, log = x / x.max(), np.log(x)
        first, corrections, sign = (log, (far, far**2, far**3), 1) if self.law == "power" else (x, (log, 1 / x), -1)
        found = []
        for number in range(1, min(len(corrections), len(x) - 3) + 1):
            A = np.stack([first, np.ones_like(x), *corrections[:number]], axis=1) / noise[:, None]
            answer, _, _, _ = np.linalg.lstsq(A, np.log(gap) / noise, rcond=None)
            misfit = float(np.sum((np.log(gap) / noise - A @ answer) ** 2)) / (len(x) - A.shape[1])
            error = float(np.sqrt(np.linalg.inv(A.T @ A)[0, 0] * max(1.0, misfit)))
            found.append((sign * float(answer[0]), error))
        (value, error), (other, _) = found[-1], found[-2] if len(found) > 1 else found[0]
        return Exponent(value, math.hypot(error, value - other))

    @property
    def verdict(self) -> Verdict:
        """Whether the exponent is the expected one, within its error, and known well enough to say so."""
        found = self.exponent
        off = abs(found.value - self.expected) / math.hypot(found.error, CLOSE)
        sharp = found.error <= SHARP * (1.0 if self.law == "power" else self.expected)
        agree = bool(off <= SIGMAS and sharp and self.offset <= FAR)
        clear = self.gap[self.clear]
        largest = float(np.max(np.abs(clear))) if len(clear) else None
        smallest = float(np.min(np.abs(clear))) if len(clear) else math.nan
        word = "exponent" if self.law == "power" else "rate"
        sentence = (
            f"{word} {found.value:.3f} +- {found.error:.3f}, expected {self.expected:.4g}, from {len(clear)} gaps between "
            f"{0.0 if largest is None else largest:.1e} and {smallest:.1e}"
            + (f"; known means within {self.offset:.1f} standard errors" if self.offset else "")
        )
        times = (float(self.x.min()), float(self.x.max())) if self.panel != 1 else None
        return Verdict(self.name, largest, off if math.isfinite(off) else None, times, agree, sentence)


def draw(
    orders: Mapping[str, tuple[int, ...]],
    last_times: Mapping[str, float],
    paths: int,
    runs: int,
    dimension: int,
    sizes: tuple[int, ...],
    widths: tuple[int, ...],
    kernels: int,
    deltas: tuple[float, ...],
) -> Outcome:
    """orders, last_times: of the series, by object; paths: of the mean field; runs, dimension: of the simulations; sizes: d and p
    at which limits are compared; widths, kernels: H and draws of frozen kernels; deltas: of the approach to the online limit."""
    field = MeanField(paths=paths, resolution=16, randomizations=4)
    jobs: list[Callable[[], list[Pair]]] = []
    for name in [name for name in orders if name in EARLY]:
        times = last_times[name] * 2.0 ** -np.arange(6.0, -0.5, -1.0)
        jobs.append(lambda name=name, times=times: series_and_mean_field(name, orders[name], times, field))
    for name in orders:
        times = last_times[name] / EARLIER * 2.0 ** -np.arange(5.0, -0.5, -0.5)
        jobs.append(
            lambda name=name, times=times: series_and_simulation(name, orders[name][:2], times, dimension, runs)
        )
    for name, (order, time) in EARLY.items():
        if name not in orders:
            continue
        jobs.append(lambda name=name, order=order, time=time: [series_at_sizes(name, order, time, sizes, field)])
    jobs += [
        lambda: [limit_and_series(sizes)],
        lambda: [kernel_limit_and_frozen_kernel(widths, kernels)],
        lambda: [online_and_mean_field(deltas)],
        lambda: [mean_field_and_end_state()],
    ]
    pairs: list[Pair] = []
    with progress(len(jobs), "cross-checks") as bar:
        for job in jobs:
            pairs += job()
            bar.update(1)
    words = (
        "Relative gaps between two engines on one and the same object, and the power with which they close (lines: the expected "
        "power through the last point; in the legend the fitted power and, in parentheses, the expected one). Left: exact "
        "series, cut at several orders, against mean field and against simulations at the same finite size; the gap is that of "
        "the terms left out, t to the order plus one. Middle: exact series at finite "
        "sizes against limits; mean field against the online limit; the kernel limit against kernels frozen at finite width: all "
        "close like one over the size. Right: mean field at late times against the end state, at the slowest rate of the flow."
    )
    return Outcome((Picture("gaps", _canvas(pairs), words),), tuple(pair.verdict for pair in pairs))


# --- the pairs


def series_and_mean_field(name: str, orders: Sequence[int], times: Array, method: MeanField) -> list[Pair]:
    """The series at d = infinity against mean field: t^(order + 1). Each time has a grid of its own."""
    problem = OBJECTS[name]
    found = [solve(problem, method, [time]) for time in times]
    field, error = (
        np.array([part["loss"][0] for part in parts])
        for parts in zip(*((f.values, f.uncertainty) for f in found), strict=True)
    )
    pairs = []
    for order in orders:
        series = solve(problem, Series({"d": INFINITE}, order), times).values["loss"]
        pairs.append(
            Pair(f"series {order} | mean field, {name}", 0, times, (series - field) / field, error / field, order + 1.0)
        )
    return pairs


def series_and_simulation(name: str, orders: Sequence[int], times: Array, d: int, runs: int) -> list[Pair]:
    """The series at dimension d against the mean of runs, from which the scatter of the first times is taken out."""
    problem = OBJECTS[name]
    experiment = solve(problem, Simulation({"d": d}, runs=runs, tolerance=TOLERANCE), times)
    exact = solve(problem, Series({"d": d}, max(orders) + 1), times[:CONTROLS]).values["loss"]
    runs_of = experiment.details["runs"]["loss"]
    powers, _ = np.linalg.qr(np.vander(times[:CONTROLS] / times[0], CONTROLS))  # differences are better conditioned
    mean, error, offset = mean_with_controls(runs_of[:, CONTROLS:], (runs_of[:, :CONTROLS] - exact) @ powers)
    later = times[CONTROLS:]
    pairs = []
    for order in orders:
        series = solve(problem, Series({"d": d}, order), later).values["loss"]
        gap, title = (series - mean) / mean, f"series {order} | simulation, {name}"
        pairs.append(Pair(title, 0, later, gap, error / mean, order + 1.0, offset=offset))
    return pairs


def mean_with_controls(y: Array, controls: Array) -> tuple[Array, Array, float]:
    """E y  from  y = E y + c . x + rest  with controls x of mean zero, by least squares: scatter in common drops out.

    y: (runs, observables); controls: (runs, controls), about independent. Returns mean and standard error of every observable;
    and Hotelling's T, how far the means of all controls are off in standard errors, since that would be mended unseen.
    """
    average, scatter = controls.mean(axis=0), np.atleast_2d(np.cov(controls.T))
    offset = math.sqrt(len(y) * float(average @ np.linalg.solve(scatter, average)))
    A = np.concatenate([np.ones((len(y), 1)), controls / controls.std(axis=0)], axis=1)
    answer, _, _, _ = np.linalg.lstsq(A, y, rcond=None)
    rest = y - A @ answer
    variance = (rest**2).sum(axis=0) / (len(y) - A.shape[1])
    return answer[0], np.sqrt(variance * np.linalg.inv(A.T @ A)[0, 0]), offset


def series_at_sizes(name: str, order: int, time: float, sizes: Sequence[int], method: MeanField) -> Pair:
    """The series at finite d against mean field at one early time: 1/d."""
    problem, times = OBJECTS[name], np.array([time])
    field = solve(problem, method, times)
    found = [solve(problem, Series({"d": d}, order), times) for d in sizes]
    gap = np.array([(one.values["loss"] - field.values["loss"])[0] for one in found])
    error = np.array([math.hypot(one.uncertainty["loss"][0], field.uncertainty["loss"][0]) for one in found])
    scale = field.values["loss"][0]
    return Pair(f"series at d | mean field, {name}", 1, 1 / np.array(sizes), gap / scale, error / scale, 1.0)


def limit_and_series(sizes: Sequence[int]) -> Pair:
    """The limit of the symmetric problem of order 2 against its exact series at an early time: 1/p."""
    problem, times = CPDecomposition(order=2), np.array([0.05])
    gap, error = [], []
    for p in sizes:
        at = {"p": p, "H": p // 2, "sigma2": 1 / (4 * p)}
        limit, series = solve(problem, Limit(at), times), solve(problem, Series(at, 8), times)
        scale = limit.values["loss"][0]
        gap.append((series.values["loss"][0] - scale) / scale)
        error.append(series.uncertainty["loss"][0] / scale)
    return Pair("limit | series at p, matrix", 1, 1 / np.array(sizes), np.array(gap), np.array(error), 1.0)


def kernel_limit_and_frozen_kernel(widths: Sequence[int], draws: int, p: int = 2) -> Pair:
    """E 1/2 |e^(-K t) (f - F)|^2  with the kernel K of the start, p^3 x p^3, against the limit of wide models: 1/H.

    docs/theory/diagrams.md section 8 [YGG26v2].
    """
    time = 1.0
    gap, error, offset = [], [], 0.0
    for H in widths:
        sigma2 = (6 * H) ** -0.5  # in the unit of time of the limit
        closed = explicit(3, False, "B-C", p, H, sigma2, 1.0)
        assert closed is not None
        limit = float(closed.at(np.array(time)))
        start = math.sqrt(sigma2) * generator(0, H, "frozen kernels").standard_normal((3, draws, H, p))
        losses, controls = _frozen(start, time)
        means = (0.0, p**3 * H * sigma2**3, 3 * p * H * sigma2**2)
        mean, one, off = mean_with_controls(losses[:, None], controls - means)
        gap.append(mean[0] / limit - 1)
        error.append(one[0] / limit)
        offset = max(offset, off)
    x, name = 1 / np.array(widths), "kernel limit | frozen kernel"
    return Pair(name, 1, x, np.array(gap), np.array(error), 1.0, offset=offset)


def _frozen(start: Array, time: float) -> tuple[Array, Array]:
    """start: u_1, u_2, u_3 of all draws, shape (3, draws, H, p). One loss for each draw; f.F, |f|^2 and F.KF of each."""
    _, draws, _, p = start.shape
    kernel = np.zeros((draws, *(p,) * 6))
    for form, x, y in (("ai,rbcjk->rabcijk", 1, 2), ("bj,racik->rabcijk", 0, 2), ("ck,rabij->rabcijk", 0, 1)):
        product = np.einsum("rhb,rhc->rhbc", start[x], start[y]).reshape(draws, -1, p * p)
        kernel += np.einsum(form, np.eye(p), (product.transpose(0, 2, 1) @ product).reshape(draws, p, p, p, p))
    model = np.einsum("rha,rhb,rhc->rabc", *start, optimize=True).reshape(draws, p**3)
    kernel = kernel.reshape(draws, p**3, p**3)
    target = np.zeros((p, p, p))
    target[np.arange(p), np.arange(p), np.arange(p)] = 1
    target = target.ravel()
    rates, modes = np.linalg.eigh(kernel)
    parts = np.einsum("rim,ri->rm", modes, model - target)
    losses = 0.5 * np.sum((np.exp(-rates * time) * parts) ** 2, axis=1)
    return losses, np.stack([model @ target, (model**2).sum(axis=1), kernel @ target @ target], axis=1)


def online_and_mean_field(deltas: Sequence[float]) -> Pair:
    """Stochastic gradient flow of linear regression: many passes over n = delta d samples against fresh ones, 1/delta."""
    flow, times = StochasticGradientFlow(temperature=0.5), np.array([2.0])
    online = solve(replace(REGRESSION, delta=math.inf), Online(), times, flow)
    found = [solve(replace(REGRESSION, delta=delta), MeanField(), times, flow) for delta in deltas]
    scale = online.values["test_loss"][0]
    gap = np.array([one.values["test_loss"][0] - scale for one in found]) / scale
    error = np.array([math.hypot(one.uncertainty["test_loss"][0], online.uncertainty["test_loss"][0]) for one in found])
    return Pair("online | mean field at delta", 1, 1 / np.array(deltas), gap, error / scale, 1.0)


def mean_field_and_end_state() -> Pair:
    """The end of ridge regression, a closed form of its own, and the flow to it: (1 - delta^(-1/2))^2 + weight decay."""
    problem, times = replace(REGRESSION, delta=4.0), np.linspace(6, 40, 18)
    field, end = solve(problem, MeanField(), times), stationary(problem).values["mse"]
    gap = field.values["mse"] - end
    rate = (1 - problem.delta**-0.5) ** 2 + float(problem.weight_decay)
    error = np.maximum(field.uncertainty["mse"], 1e-13 * end)
    return Pair("end state | mean field at late t", 2, times, gap / end, error / end, rate, "rate")


# --- the picture


def _canvas(pairs: Sequence[Pair]) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(12.0, 5.2), layout="constrained")
    panels = canvas.subplots(1, 3, width_ratios=(3, 3, 2))
    for panel, axes in enumerate(panels):
        chosen = [pair for pair in pairs if pair.panel == panel]
        for number, pair in enumerate(chosen):
            _draw(axes, pair, COLORS[number % len(COLORS)], MARKERS[number // len(COLORS) % len(MARKERS)])
        axes.set(yscale="log", xscale="linear" if panel == 2 else "log", ylabel="relative gap")
        axes.legend(fontsize=6.5, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=1 if panel else 2)
    panels[0].set(title="series and what it leaves out", xlabel="time $t$")
    panels[1].set(title="limits at finite size", xlabel=r"$1/d$, $1/p$, $1/H$, $1/\delta$")
    panels[2].set(title="the end of a flow", xlabel="time $t$")
    return canvas


def _draw(axes: Axes, pair: Pair, color: str, marker: str) -> None:
    x, gap, clear = pair.x, np.abs(pair.gap), pair.clear
    found = pair.exponent
    axes.errorbar(
        x[clear],
        gap[clear],
        pair.error[clear],
        fmt=marker,
        color=color,
        mfc="white",
        mew=1.0,
        elinewidth=0.8,
        label=f"{pair.name}: {found.value:.2f} ({pair.expected:.3g})",
    )
    if not clear.any():
        return
    last = int(np.flatnonzero(clear)[np.argmin(gap[clear])])
    law = (
        (x / x[last]) ** pair.expected
        if pair.law == "power"
        else np.exp(-pair.expected * (x - x[last])) * (x[last] / x) ** 1.5
    )
    axes.plot(x[clear], gap[last] * law[clear], "-", color=color, lw=0.8, alpha=0.7)


FIGURE = Figure(
    name="cross-checks",
    title="Cross-checks between the engines",
    claim="On the same objects the gap between exact series and mean field or simulation closes like t^(order + 1), limits are "
    "approached like one over the size, the kernel limit is that of frozen kernels, and the mean field ends in the end state.",
    sources=("YGG26v2", "NI26v2", "NI25v2", "MBB26v2"),
    quick={
        "orders": {"linear regression": (1, 2, 3), "diagonal network": (1, 2), "quadratic network": (1, 2)},
        "last_times": {"linear regression": 0.05, "diagonal network": 0.02, "quadratic network": 0.005},
        "paths": 1024,
        "runs": 256,
        "dimension": 8,
        "sizes": (8, 16, 32, 64, 128),
        "widths": (8, 16, 32, 64, 128),
        "kernels": 4000,
        "deltas": (10.0, 30.0, 100.0, 300.0, 1e3, 1e4),
    },
    full={
        "orders": {"linear regression": (1, 2, 3, 4), "diagonal network": (1, 2, 3), "quadratic network": (1, 2)},
        "last_times": {"linear regression": 0.05, "diagonal network": 0.02, "quadratic network": 0.005},
        "paths": 4096,
        "runs": 4096,
        "dimension": 8,
        "sizes": (8, 16, 32, 64, 128, 256),
        "widths": (8, 16, 32, 64, 128, 256),
        "kernels": 20000,
        "deltas": (10.0, 30.0, 100.0, 300.0, 1e3, 1e4),
    },
    draw=draw,
)
