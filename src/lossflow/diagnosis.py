"""What a run looks like: how far its features moved, how far its kernel drifted, and whose limit its loss follows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lossflow.description import SizeMap, brief
from lossflow.dynamics import GradientFlow
from lossflow.errors import InvalidInput, NotSpoken
from lossflow.expansion.leading import recurrent_series
from lossflow.expansion.regimes import Regime, classify, regimes
from lossflow.expansion.series import expand
from lossflow.expansion.solutions import matrix
from lossflow.expansion.solutions.face import solved
from lossflow.problem import AbstractProblem
from lossflow.problems.cp import CPDecomposition
from lossflow.problems.targets import Identity, Zero
from lossflow.simulate.flow import COMPLETE, at_start, integrate
from lossflow.simulate.gradients import Program, compiled
from lossflow.simulate.method import Simulation
from lossflow.trajectory import FrozenMapping, Trajectory

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

AT = 12  # times at which weights are looked at
ENTRIES = 128  # of the kernel, beside those of the diagonal
LAZY = 0.3  # drift of the kernel below which it counts as frozen
UNTOUCHED = 0.8  # of the target's share of the loss: above it nothing was learned
CLOSE = 0.05  # of the largest loss: a limit this near, or as near as the best one within this factor
FACTOR = 1.5
RESUMMED = 12  # orders of the limits that have no closed form
SAME_RUN = 1e-4  # relative, by which a run that is made again may differ from the recorded one


def diagnose(trajectory: Trajectory) -> Mapping[str, Any]:
    """||u(t) - u(0)|| / ||u(0)||,  ||K(t) - K(0)|| / ||K(0)||,  and the regimes whose limits the loss follows.

    trajectory: of any method. Weights are those in `details["weights"]`, {name: array (times, ...)}, where the user has them;
    of a `Simulation` by gradient flow, run 0 is made again. Returns

        "times"             those at which weights were looked at
        "feature_movement"  of the weights, "kernel_drift" of K_II = |d f_I/du|^2 over entries I of a decomposition (NaN where
                            weights or kernel are not known)
        "rate_drift"        largest over smallest rate -d log(L - L_end)/dt, 1 for one exponential, over the middle of the fall
        "learned"           share of the target's part of the loss that is gone at the end, NaN without a target
        "learning"          "none", "lazy", "rich", or "unknown"
        "regime", "misfit"  of the regimes that learn like this, the simplest whose limit is closest, None if none is; {name:
                            rms distance / largest loss} of all limits that are known over half of the fall
        "placement"         (name, depth) of the regime that the sizes belong to, None where that is not told
        "reasons"           sentences, for what could not be told too

    The kernel counts as frozen below a drift of 0.3, a target as untouched while 80% of its part of the loss are left, a limit
    as close within 5% of the largest loss. Raises `InvalidInput` for a trajectory without a loss at two times or more.
    docs/theory/diagrams.md sections 6 and 8 [YGG26v2].
    """
    if not isinstance(trajectory, Trajectory):
        raise InvalidInput(f"a Trajectory is diagnosed, such as solve(...) returns; got {brief(trajectory)}")
    loss = trajectory.values.get("loss")
    known = np.isfinite(loss) if loss is not None and loss.ndim == 1 else np.zeros(0, bool)
    if known.sum() < 2 or loss is None:
        raise InvalidInput("a diagnosis needs the loss at two times or more")
    reasons: list[str] = []
    times, values = trajectory.times[known], loss[known]
    order = np.argsort(times)
    times, values = times[order], values[order]
    looked, weights = _weights(trajectory, times, reasons)
    movement, drift = _movement(weights), _drift(trajectory.problem, weights)
    learned = _learned(trajectory, values)
    rate = _rate_drift(times, values)
    learning, why = _learning(trajectory.problem, learned, drift, rate)
    placement, misfit, closest = _regimes(trajectory, times, values, learning, reasons)
    return FrozenMapping({
        "times": looked,
        "feature_movement": movement,
        "kernel_drift": drift,
        "rate_drift": rate,
        "learned": learned,
        "learning": learning,
        "regime": closest,
        "misfit": FrozenMapping(misfit),
        "placement": placement,
        "reasons": (*reasons, why),
    })  # fmt: skip


def _learning(problem: AbstractProblem, learned: float, drift: Array, rate: float) -> tuple[str, str]:
    match problem:
        case CPDecomposition(target=Zero()):
            return "none", "there is no target that could be learned"
    if not math.isnan(learned) and learned < 1 - UNTOUCHED:
        return "none", f"{max(learned, 0.0):.0%} of the target's part of the loss are gone: nothing was learned yet"
    if np.isnan(drift).all():
        return "unknown", f"the kernel is not known; the rate of the loss changes by a factor {rate:.3g}"
    most = float(np.nanmax(drift))
    if most < LAZY:
        return "lazy", f"the target is learned while the kernel drifts by {most:.2g}"
    return "rich", f"the kernel drifts by {most:.2g} while the target is learned"


def _weights(trajectory: Trajectory, times: Array, reasons: list[str]) -> tuple[Array, dict[str, Array]]:
    """Weights at some of the times, {name: (times, ...)}, the first at t = 0 or as near to it as is known."""
    given = trajectory.details.get("weights")
    if isinstance(given, Mapping):
        found = {str(name): np.asarray(array, np.float64) for name, array in given.items()}
        if found and all(array.shape[:1] == trajectory.times.shape for array in found.values()):
            order = np.argsort(np.abs(trajectory.times))
            return trajectory.times[order], {name: array[order] for name, array in found.items()}
        raise InvalidInput('details["weights"] must map names to arrays whose first axis is that of the times')
    problem, method = trajectory.problem, trajectory.method
    if not isinstance(method, Simulation) or not isinstance(trajectory.dynamics, GradientFlow):
        reasons.append(
            f'{type(method).__name__} keeps no weights; add them as details["weights"] to have them looked at'
        )
        return times[:0], {}
    if "diagrams" not in problem.languages or "process" in problem.languages:
        reasons.append(f"the runs of {type(problem).__name__} are not made again here")
        return times[:0], {}
    potential = problem.as_diagrams()
    sizes = potential.require(method.sizes)
    program = compiled(potential, sizes)
    ahead = times[times > 0] if (times > 0).any() else times[times < 0][::-1]
    chosen = np.unique(np.linspace(0, len(ahead) - 1, AT).round().astype(int))
    looked, states, losses = _made_again(
        program, problem.as_sample(sizes, 0, method.seed), ahead[chosen], method.tolerance
    )
    recorded = _recorded(trajectory, looked)
    if recorded is not None and not np.allclose(losses, recorded, rtol=SAME_RUN, atol=1e-12):
        reasons.append("run 0, made again, is not the one that was recorded: its weights are not looked at")
        return times[:0], {}
    return looked, states


def _made_again(
    program: Program, start: Mapping[str, Array], times: Array, tolerance: float
) -> tuple[Array, dict[str, Array], Array]:
    """Times reached, 0 first, the weights there and the losses."""
    frozen = _flat(start, program.frozen)
    state, now, looked, states, losses = _flat(start, program.learned), 0.0, [0.0], [], []
    states.append(state)
    losses.append(_loss(program, state, frozen))
    for t in times:
        legs = at_start(np.array([1 if t > 0 else -1]), np.array([[abs(float(t) - now)]]), state[None], frozen[None])
        ended = integrate(program, legs, tolerance)
        if int(ended.outcome[0]) != COMPLETE:
            break
        state, now = ended.state[0], float(t)
        looked.append(now)
        states.append(state)
        losses.append(float(ended.loss[0, 0]))
    found, place = {}, 0
    for name, shape in program.learned.items():
        count = math.prod(shape)
        found[name] = np.array([each[place : place + count].reshape(shape) for each in states])
        place += count
    return np.array(looked), found, np.array(losses)


def _flat(tensors: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> Array:
    return np.concatenate([np.ravel(tensors[name]) for name in shapes]) if shapes else np.zeros(0)


def _loss(program: Program, state: Array, frozen: Array) -> float:
    tensors, place = {}, 0
    for shapes, flat in ((program.learned, state), (program.frozen, frozen)):
        place = 0
        for name, shape in shapes.items():
            count = math.prod(shape)
            tensors[name] = flat[place : place + count].reshape(1, *shape)
            place += count
    return float(program(tensors)[0][0])


def _recorded(trajectory: Trajectory, looked: Array) -> Array | None:
    """The recorded losses of run 0 at these times, interpolating nothing; None where there are none."""
    runs = trajectory.details.get("runs")
    if not isinstance(runs, Mapping) or "loss" not in runs:
        return None
    values = dict(zip(trajectory.times.tolist(), np.asarray(runs["loss"])[0].tolist(), strict=True))
    return np.array([values.get(t, np.nan) for t in looked.tolist()]) if all(t in values for t in looked[1:]) else None


def _movement(weights: Mapping[str, Array]) -> Array:
    if not weights:
        return np.full(0, np.nan)
    moved = sum(np.sum((w - w[:1]) ** 2, axis=tuple(range(1, w.ndim))) for w in weights.values())
    size = sum(float(np.sum(w[0] ** 2)) for w in weights.values())
    return np.sqrt(np.asarray(moved, np.float64) / size) if size else np.full(np.shape(moved), np.nan)


def _drift(problem: AbstractProblem, weights: Mapping[str, Array]) -> Array:
    """The relative change of the diagonal K_II over all I = (i, i, ..., i) and ENTRIES others."""
    length = len(next(iter(weights.values()))) if weights else 0
    if not isinstance(problem, CPDecomposition) or not weights:
        return np.full(length, np.nan)
    slots = [weights[tensor.name] for tensor in problem.weights]
    p, nu = slots[0].shape[-1], problem.order
    places = [(i,) * nu for i in range(p)]
    places += [tuple((j * (2 * m + 1) + m * m) % p for m in range(nu)) for j in range(min(ENTRIES, p**nu))]
    kernel = np.empty((length, len(places)))
    for column, place in enumerate(places):
        columns = [u[:, :, i] for u, i in zip(slots, place, strict=True)]
        gradients: dict[tuple[str, int], Array] = {}
        for m, tensor in enumerate(problem.weights):
            rest = np.ones(columns[0].shape)
            for other, each in enumerate(columns):
                rest = rest if other == m else rest * each
            key = (tensor.name, place[m])
            gradients[key] = gradients[key] + rest if key in gradients else rest
        kernel[:, column] = sum(np.sum(g**2, axis=1) for g in gradients.values())
    size = np.linalg.norm(kernel[0])
    return np.linalg.norm(kernel - kernel[0], axis=1) / size if size else np.full(length, np.nan)


def _learned(trajectory: Trajectory, values: Array) -> float:
    problem, sizes = trajectory.problem, trajectory.method.known_sizes
    if "diagrams" not in problem.languages or not sizes:
        return math.nan
    match problem:
        case CPDecomposition(target=Zero()):
            return math.nan
    try:
        series = expand(problem, 0)
        given = problem.diagram_sizes(sizes)
        constant = sum(
            float(c) * math.prod(float(given[name]) ** e for name, e in zip(series.variables, powers, strict=True))
            for powers, c in series.constant.items()
        )
    except (InvalidInput, NotSpoken, KeyError):
        return math.nan
    return float(1 - values[-1] / constant) if constant else math.nan


def _rate_drift(times: Array, values: Array) -> float:
    """Largest over smallest rate of the excess over the last loss, while it falls from 90% to 20%."""
    excess = values - values[-1]
    fallen = excess / excess[0] if excess[0] > 0 else np.zeros(values.shape)
    kept = (fallen <= 0.9) & (fallen >= 0.2)
    if kept.sum() < 3:
        return math.nan
    rates = -np.diff(np.log(excess[kept])) / np.diff(times[kept])
    return float(rates.max() / rates.min()) if rates.min() > 0 else math.inf


def _regimes(
    trajectory: Trajectory, times: Array, values: Array, learning: str, reasons: list[str]
) -> tuple[tuple[str, float] | None, dict[str, float], str | None]:
    """Where the sizes belong, how far the loss is from each limit that is known, and the simplest of the closest."""
    problem, given = trajectory.problem, trajectory.method.known_sizes
    if "diagrams" not in problem.languages or not given:
        reasons.append("regimes are told of problems with diagrams, at sizes that the method knows")
        return None, {}, None
    try:
        sizes = SizeMap(problem.diagram_sizes(given))
        placed = classify(problem, sizes=sizes)
        placement: tuple[str, float] | None = (placed.regime.name, placed.depth)
    except (InvalidInput, NotSpoken, KeyError) as error:
        reasons.append(f"the sizes belong to no regime: {error}")
        return None, {}, None
    misfit, fitting = {}, {}
    for regime in regimes(problem):
        limit = _limit(problem, regime, sizes, times)
        held = np.isfinite(limit) if limit is not None else np.zeros(values.shape, bool)
        if limit is None or held.sum() < 3 or np.ptp(values[held]) < np.ptp(values) / 2:
            continue
        misfit[regime.name] = float(np.sqrt(np.mean((limit - values)[held] ** 2)) / np.abs(values).max())
        if learning == "unknown" or regime.learning in ("unknown", learning):
            fitting[regime.name] = misfit[regime.name]
    if not fitting or min(fitting.values()) > 4 * CLOSE:
        reasons.append("no limit that is known, and learns as the run does, comes near the loss")
        return placement, misfit, None
    close = {name: far for name, far in fitting.items() if far <= max(CLOSE, FACTOR * min(fitting.values()))}
    return placement, misfit, min(close, key=lambda name: (name.count("-"), close[name]))


def _limit(problem: AbstractProblem, regime: Regime, sizes: SizeMap, times: Array) -> Array | None:
    match problem:
        case CPDecomposition(order=2, symmetric=True, target=Identity() | Zero()):
            full = "A-B-E" if isinstance(problem.target, Identity) else "A-B"
            scale = float(problem.target.scale) if isinstance(problem.target, Identity) else 0.0
            return matrix.loss(times, sizes["p"], sizes["H"], sizes["sigma2"], scale) if regime.name == full else None
    found = solved(problem, regime.name, sizes, times)
    if found is not None:
        return found.values
    series = recurrent_series(problem, regime.name, sizes, RESUMMED) if len(regime.vertices) > 1 else None
    if series is None:
        return None
    from lossflow.expansion.pade import Pade

    return Pade().sum(series, times).values


__all__ = ["diagnose"]
