"""The kernel regime of several matrices: loss, what is learned, and a kernel that stands still; with one matrix it moves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.comparison import Comparison
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.figures.matrix_scenarios import draw_family, followed, verdicts_of
from lossflow.plot import COLORS, MARKERS, POINTS
from lossflow.problems.cp import CPDecomposition
from lossflow.significance import LEVEL, judge

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    Array = npt.NDArray[np.float64]

START = 0.5  # of the diagonal of f, on average, for one matrix of even order
ACCURACY = 1e-6  # of every step: a thousandth of what the scatter of the runs leaves unknown
SEED = 17


class Learned(NamedTuple):
    """The mean diagonal entry of f and the loss over t/T, run by run: shape (runs, times)."""

    order: int
    p: int
    H: int
    times: Array
    runs: Array
    losses: Array


class Drift(NamedTuple):
    """How far the kernel has moved when the loss has fallen to half, for each width and run: shape (widths, runs)."""

    name: str
    widths: Array
    runs: Array


def draw(
    p: Mapping[int, int],
    widths: Mapping[int, tuple[int, ...]],
    runs: tuple[int, ...],
    span: tuple[float, float],
    times: int,
    orders: tuple[int, ...],
    drift_p: int,
    drift_widths: tuple[int, ...],
    drift_runs: int,
) -> Outcome:
    """p, widths: of each order compared at growing H; runs: at each H; span: of t/T, T = 1/(H sigma^(2 nu - 2)); orders: of which
    f and the kernel are followed, at drift_p, drift_widths, in drift_runs."""
    grid = np.linspace(*span, times)
    families: dict[int, list[Comparison]] = {}
    for order, size in p.items():
        problem = CPDecomposition(order, symmetric=False)
        families[order] = [
            followed(problem, sizes := _kernel_sizes(order, size, H), "B-C", _unit(order, sizes), grid, count, seed)
            for seed, (H, count) in enumerate(zip(widths[order], runs, strict=True))
        ]
    learned = [_learned(order, drift_p, drift_widths[-1], drift_runs, grid) for order in orders]
    drifts = [
        *(_drift(f"{order} matrices", order, False, drift_p, drift_widths, drift_runs) for order in orders),
        *(_drift(f"one matrix, order {order}", order, True, drift_p, drift_widths, drift_runs) for order in (2, 4)),
    ]
    verdicts = [
        *(
            verdict
            for order, family in families.items()
            for verdict in verdicts_of(f"loss, order {order}, p = {p[order]}", family, "H")
        ),
        *(
            _learns(each, what, float(drift.runs[-1].mean()))
            for each, drift in zip(learned, drifts, strict=False)
            for what in ("diagonal of f", "loss")
        ),
        *(_moves(drift) if drift.name.startswith("one") else _stands(drift) for drift in drifts),
    ]
    words = (
        "Sizes with p^(nu-1) H sigma^(2 nu) = 1, where the loss is p at the start, over t/T, T = 1/(H sigma^(2 nu - 2)). "
        f"First: loss of order {' and '.join(map(str, p))} at growing H (points, means over runs) and the limit p exp(-2 nu "
        f"t/T) (line), logarithmic. Then, at p = {drift_p}, H = {drift_widths[-1]}, order {' and '.join(map(str, orders))}: "
        "loss with p exp(-2 nu t/T), and the mean diagonal entry of f with 1 - exp(-nu t/T). Last: how far the kernel, "
        "applied to the target, has moved when the loss has fallen to half of its start, against H, both axes logarithmic: "
        "with several matrices it goes to zero nearly like 1/H, with one matrix of even order it stays, since there f cannot "
        "move without its kernel."
    )
    return Outcome((Picture("curves", _canvas(families, learned, drifts), words),), tuple(verdicts))


def _kernel_sizes(order: int, p: int, H: int) -> dict[str, float]:
    """p^(nu-1) H sigma^(2 nu) = 1: target and start have the same share of the loss."""
    return {"p": p, "H": H, "sigma2": (p ** (order - 1) * H) ** (-1 / order)}


def _unit(order: int, sizes: Mapping[str, float]) -> float:
    return 1 / (sizes["H"] * sizes["sigma2"] ** (order - 1))


@dataclass(frozen=True)
class Model:
    """f = sum_k u_k^1 x ... x u_k^nu, with nu matrices or one in all slots, as a function of all weights in one vector."""

    order: int
    symmetric: bool
    p: int
    H: int

    def at(self, weights: Array) -> Array:
        """f, of shape (p, ..., p)."""
        return self._sum(self._slots(weights))

    def pulled_back(self, weights: Array, tensor: Array) -> Array:
        """The gradient of <f, tensor>."""
        slots = self._slots(weights)
        parts = []
        for m in range(self.order):
            rows = np.moveaxis(tensor, m, 0).reshape(self.p, -1)
            parts.append(_products(slots[:m] + slots[m + 1 :]) @ rows.T)
        return np.sum(parts, axis=0).ravel() if self.symmetric else np.concatenate([part.ravel() for part in parts])

    def kernel_on(self, weights: Array, tensor: Array) -> Array:
        """Theta tensor, Theta = (df/du)(df/du)^T: how f moves if the loss pulls it along `tensor`."""
        slots, moves = self._slots(weights), self._slots(self.pulled_back(weights, tensor))
        return np.sum([self._sum([*slots[:m], moves[m], *slots[m + 1 :]]) for m in range(self.order)], axis=0)

    def _slots(self, weights: Array) -> list[Array]:
        matrices = weights.reshape(-1, self.H, self.p)
        return [matrices[0]] * self.order if self.symmetric else list(matrices)

    def _sum(self, slots: Sequence[Array]) -> Array:
        half = self.order // 2
        return (_products(slots[:half]).T @ _products(slots[half:])).reshape((self.p,) * self.order)


def _products(slots: Sequence[Array]) -> Array:
    """The rows of all slots multiplied out: shape (H, p^slots)."""
    found = slots[0]
    for slot in slots[1:]:
        found = (found[:, :, None] * slot[:, None, :]).reshape(found.shape[0], -1)
    return found


def flow(model: Model, sizes: Mapping[str, float], run: int, times: Array, stop: float | None = None) -> list[Array]:
    """The weights of one run of gradient flow at `times`; stop: at the loss that is this share of the first, if it comes."""
    from scipy.integrate import solve_ivp

    problem = CPDecomposition(model.order, symmetric=model.symmetric)
    start = np.concatenate([matrix.ravel() for matrix in problem.as_sample(sizes, run, SEED).values()])
    target = _identity(model)

    def loss(weights: Array) -> float:
        return 0.5 * float(np.sum((model.at(weights) - target) ** 2))

    def pace(_: float, weights: Array) -> Array:
        return model.pulled_back(weights, target - model.at(weights))

    events: list[Callable[[float, Array], float]] = []
    if stop is not None:
        begin = loss(start)

        def arrived(_: float, weights: Array) -> float:
            return loss(weights) - stop * begin

        arrived.terminal = True  # type: ignore[attr-defined]  (how scipy marks an event that ends the run)
        events.append(arrived)
    scale = ACCURACY * math.sqrt(sizes["sigma2"])
    found = solve_ivp(pace, (0.0, times[-1]), start, "DOP853", times, events=events, rtol=ACCURACY, atol=scale)
    if stop is not None and found.y_events[0].size:
        return [start, np.asarray(found.y_events[0][0], np.float64)]
    return list(found.y.T)


def _identity(model: Model) -> Array:
    target = np.zeros((model.p,) * model.order)
    target[(np.arange(model.p),) * model.order] = 1.0
    return target


def _learned(order: int, p: int, H: int, runs: int, grid: Array) -> Learned:
    model, sizes = Model(order, False, p, H), _kernel_sizes(order, p, H)
    target, times = _identity(model), np.append(0.0, _unit(order, sizes) * grid)
    tensors = np.array([[model.at(weights) for weights in flow(model, sizes, run, times)[1:]] for run in range(runs)])
    diagonals = tensors[(..., *((np.arange(p),) * order))].mean(axis=-1)
    losses = 0.5 * np.sum((tensors - target).reshape(runs, grid.size, -1) ** 2, axis=-1)
    return Learned(order, p, H, grid, diagonals, losses)


def _drift(name: str, order: int, symmetric: bool, p: int, widths: tuple[int, ...], runs: int) -> Drift:
    found = np.empty((len(widths), runs))
    for k, H in enumerate(widths):
        model = Model(order, symmetric, p, H)
        sizes = _kernel_sizes(order, p, H)
        if symmetric:
            pairings = math.prod(range(order - 1, 0, -2))
            sizes["sigma2"] = (START / (pairings * H)) ** (2 / order)
        target, late = _identity(model), np.array([0.0, 20 * _unit(order, sizes)])
        for run in range(runs):
            first, last = flow(model, sizes, run, late, stop=0.5)
            before, after = model.kernel_on(first, target), model.kernel_on(last, target)
            found[k, run] = np.linalg.norm(after - before) / np.linalg.norm(before)
    return Drift(name, np.array(widths, np.float64), found)


def _learns(learned: Learned, what: str, drift: float) -> Verdict:
    """The diagonal of f, or the loss, against the closed form; drift: of the kernel at this width, by which rates may be off."""
    nu, p, t = learned.order, learned.p, learned.times
    if what == "loss":
        runs, theory, formula, rate = learned.losses, p * np.exp(-2 * nu * t), f"p exp(-{2 * nu} t/T)", 2 * nu
        moved = rate * t * theory
    else:
        runs, theory, formula, rate = learned.runs, -np.expm1(-nu * t), f"1 - exp(-{nu} t/T)", nu
        moved = rate * t * (1 - theory)
    difference = runs.mean(axis=0) - theory
    found = judge(difference, runs - theory, drift * moved + 1e-12)
    deviation = difference / found.uncertainty
    worst = int(np.argmax(np.abs(deviation)))
    agree = found.probability >= LEVEL
    sentence = (
        f"{'follows' if agree else 'leaves'} {formula}: largest deviation {abs(deviation[worst]):.2g} sigma ({found.allowed:.1f} "
        f"allowed) at t/T = {t[worst]:.3g}, where the difference is {difference[worst]:.2g}; the kernel drifts by {drift:.2g}"
    )
    relative, times = np.abs(difference / theory), (float(t[0]), float(t[-1]))
    name = f"{what}, order {nu}, p = {p}, H = {learned.H}"
    return Verdict(name, float(relative.max()), float(np.abs(deviation).max()), times, bool(agree), sentence)


def _slope(drift: Drift) -> tuple[float, float]:
    """d log(mean drift) / d log H and its standard error."""
    x, mean = np.log(drift.widths), drift.runs.mean(axis=1)
    error = drift.runs.std(axis=1, ddof=1) / math.sqrt(drift.runs.shape[1]) / mean
    weight = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    return float(weight @ np.log(mean)), float(np.sqrt(np.sum((weight * error) ** 2)))


def _stands(drift: Drift) -> Verdict:
    slope, error = _slope(drift)
    agree = slope + 3 * error < -0.5
    sentence = (
        f"the kernel drifts by {drift.runs[0].mean():.2g} at H = {drift.widths[0]:g} and by {drift.runs[-1].mean():.2g} at H = "
        f"{drift.widths[-1]:g} while half of the loss is learned: like H^({slope:.2f} +- {error:.2g}), in the limit not at all"
    )
    return Verdict(f"kernel drift, {drift.name}", None, None, None, bool(agree), sentence)


def _moves(drift: Drift) -> Verdict:
    first, last = drift.runs[0].mean(), drift.runs[-1].mean()
    slope, error = _slope(drift)
    agree = last > 0.1 and slope + 0.1 > -3 * error
    sentence = (
        f"the kernel drifts by {first:.2g} at H = {drift.widths[0]:g} and still by {last:.2g} at H = {drift.widths[-1]:g}: like "
        f"H^({slope:.2f} +- {error:.2g}); there is no kernel regime"
    )
    return Verdict(f"kernel drift, {drift.name}", None, None, None, bool(agree), sentence)


def _canvas(
    families: Mapping[int, Sequence[Comparison]], learned: Sequence[Learned], drifts: Sequence[Drift]
) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(3.0 * (len(families) + 3) + 0.4, 3.5), layout="constrained")
    *first, second, third, last = canvas.subplots(1, len(families) + 3)
    for axes, (order, family) in zip(first, families.items(), strict=True):
        draw_family(axes, family, "H", per="p")
        p = int(family[0].gaps[0].other.method.known_sizes["p"])
        axes.set(yscale="log", xlabel="time $t/T$", ylabel="loss $L$ / $p$", title=f"{order} matrices, $p = {p}$")
        axes.legend(loc="lower left")
    for each, color, marker in zip(learned, COLORS, MARKERS, strict=False):
        nu, fine, label = each.order, np.linspace(0, each.times[-1], 101), f"order {each.order}"
        second.plot(fine, np.exp(-2 * nu * fine), color=color)
        third.plot(fine, -np.expm1(-nu * fine), color=color)
        for axes, runs in ((second, each.losses / each.p), (third, each.runs)):
            error = runs.std(axis=0, ddof=1) / math.sqrt(len(runs))
            axes.errorbar(each.times, runs.mean(axis=0), error, fmt=marker, color=color, label=label, **POINTS)
    sizes = f"$p = {learned[0].p}$, $H = {learned[0].H}$"
    second.set(yscale="log", xlabel="time $t/T$", ylabel="loss $L$ / $p$", title=sizes)
    third.set(xlabel="time $t/T$", ylabel="mean of $f_{i \\cdots i}$", title=f"what is learned, {sizes}")
    second.legend(loc="lower left")
    third.legend(loc="lower right")
    _draw_drifts(last, drifts)
    return canvas


def _draw_drifts(axes: Axes, drifts: Sequence[Drift]) -> None:
    for drift, color, marker in zip(drifts, COLORS, MARKERS, strict=False):
        mean = drift.runs.mean(axis=1)
        error = drift.runs.std(axis=1, ddof=1) / math.sqrt(drift.runs.shape[1])
        axes.errorbar(drift.widths, mean, error, fmt=marker + "-", color=color, lw=0.8, label=drift.name, **POINTS)
    first = drifts[0]
    guide = first.runs[0].mean() * first.widths[0] / first.widths / 2
    axes.plot(first.widths, guide, ":", color="#555555", lw=1.0, label="$1/H$")
    axes.set(xscale="log", yscale="log", xlabel="rows $H$", ylabel="relative change of the kernel")
    axes.set_xticks(first.widths, [f"{H:g}" for H in first.widths])
    axes.set_xticks([], minor=True)
    axes.set_title("when half of the loss is learned")
    low, high = axes.get_ylim()
    axes.set_ylim(low / 6, high)
    axes.legend(loc="lower left", fontsize=7)


FIGURE = Figure(
    name="ntk-asym3",
    title="The kernel regime of several matrices, and none for one",
    claim="With nu = 3 and 4 matrices and p^(nu-1) H sigma^(2 nu) = 1 the mean loss of gradient flow falls like p exp(-2 nu "
    "t/T), T = 1/(H sigma^(2 nu - 2)), and the diagonal of f grows like 1 - exp(-nu t/T), up to gaps that vanish as H grows; "
    "the kernel stands still. With one matrix of even order it moves as much at every width.",
    sources=("YGG26v2",),
    quick={
        "p": {
            3: 6
        },  # the exact series of order 4, which say how much the limit neglects, take half a minute the first time
        "widths": {3: (150, 450, 1350)},
        "runs": (250, 80, 30),
        "span": (0.05, 0.5),
        "times": 10,
        "orders": (3, 4),
        "drift_p": 4,
        "drift_widths": (125, 500, 2000),
        "drift_runs": 8,
    },
    full={
        "p": {3: 6, 4: 4},
        "widths": {3: (1500, 6000, 24000), 4: (1000, 4000, 16000)},
        "runs": (200, 64, 16),
        "span": (0.05, 0.6),
        "times": 12,
        "orders": (3, 4),
        "drift_p": 4,
        "drift_widths": (125, 500, 2000, 8000),
        "drift_runs": 32,
    },
    draw=draw,
)
