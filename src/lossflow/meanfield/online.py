"""The online limit: so many samples that none is seen twice. Closed equations for the moments of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np

from lossflow.dynamics import SGD, AbstractDynamics, GradientFlow, PoissonSGD, StochasticGradientFlow, require_known
from lossflow.errors import InvalidInput, NotSpoken
from lossflow.keys import generator
from lossflow.meanfield import committee
from lossflow.meanfield.local_fields import averages
from lossflow.method import AbstractMethod
from lossflow.problem import AbstractProblem
from lossflow.problems.glm import LinearModel
from lossflow.problems.row import RowProcess, square_root
from lossflow.problems.two_layer import CommitteeModel, Erf
from lossflow.progress import Bar, progress
from lossflow.trajectory import COMPLETE, Status, Trajectory

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

TOLERANCE = 1e-10  # relative, of the differential equation; it is solved once more with 100 times that, for the error
FARTHEST = 1e9  # a norm beyond it has left every scale
REPLICATES = 8  # independent scramblings of the points, where averages are sampled
POINTS = 2**12  # of each
RETURNS = 2**10  # points for the neglected order


@dataclass(frozen=True, repr=False)
class Online(AbstractMethod):
    """dm/dt = -lambda m - E[ell w*^T],     dC/dt = -2 lambda C - E[ell w^T] - E[w ell^T] + tau E[ell ell^T]

    over (w, w*) ~ N(0, [[C, m], [m^T, Q]]), for the moments C = E theta theta^T, m = E theta theta*^T of a row: delta -> inf at
    fixed temperature tau. So `StochasticGradientFlow` and `PoissonSGD` have the same limit; `GradientFlow` is the population
    flow, tau = 0. Discrete dynamics are followed update by update, with the square of the step: weights move by the mean force
    and by the scatter of a batch, (v + step^2)/delta E[ell ell^T], v the variance of the factor of a sample.

    At delta = inf the uncertainty is that of the numbers: averages in closed form or by quadrature are exact to rounding, others
    are sampled. A problem of finite delta is answered as if each batch were made of new samples, which is exact until samples
    return, and the uncertainty then contains an estimate of what their return changes, of order 1/delta: `details["neglected"]`.
    Write `dataclasses.replace(problem, delta=math.inf)` for the limit itself.

    The training observables are those of fresh samples. For several columns norm and overlap are matrices behind the time.
    Status "left_domain" where the norm leaves every scale. Raises `InvalidInput` for negative times, except those of
    `GradientFlow`, and for persistent batches of finite delta; `NotSpoken` for penalties other than weight decay.
    docs/theory/mean_field.md section 6.2 [NI26v2].
    """

    language: ClassVar[str] = "process"

    def solve(self, problem: AbstractProblem, times: Array, dynamics: AbstractDynamics) -> Trajectory:
        """The trajectory at `times`."""
        require_known("Online", dynamics)
        process = problem.as_process()
        if not isinstance(process, RowProcess):
            raise problem.silence("process", f"Online knows models linear in the data, not {type(process).__name__}")
        if process.penalty is not None:
            raise NotSpoken(
                f"under {process.penalty!r} the moments of the weights do not obey equations of their own, which Online needs. "
                f"Methods that apply: {problem.answered_by('Online')}."
            )
        _require_forward(dynamics, times, process.delta)
        seen, kind = _statistics(process)
        found = [_moments(process, dynamics, times, statistics) for statistics in seen]
        values, uncertainty, details = _observables(process, times, found)
        return Trajectory(
            times=times,
            values=values,
            uncertainty=uncertainty,
            status=_status(times, found),
            problem=problem,
            method=self,
            dynamics=dynamics,
            details={"averages": kind, **details},
            references=("NI26v2",),
        )


class Forces(NamedTuple):
    """Averages over (w, w*, y). signal: E ell w*^T (m, m*). drag: E ell w^T, scatter: E ell ell^T, curvature: E ell' (m, m)."""

    signal: Array
    drag: Array
    scatter: Array
    curvature: Array


class Statistics(Protocol):
    """The averages at the moments (C, m)."""

    def __call__(self, C: Array, m: Array, /) -> Forces: ...


class _Found(NamedTuple):
    """The state over times by one function of averages, NaN from where it left every scale, at `last`; again, less exactly."""

    state: _State
    fine: Array
    coarse: Array
    last: float | None


def _statistics(process: RowProcess) -> tuple[list[Statistics], str]:
    """One function for exact averages; several, with points of their own, for sampled ones."""
    model, Q = process.model, process.teacher
    if isinstance(model, LinearModel):
        q = float(Q[0, 0])

        def of_one_column(C: Array, m: Array) -> Forces:
            a = averages(model.sample_loss, model.label_law, max(float(C[0, 0]), 0.0), float(m[0, 0]), q, 0.0)
            return Forces(*(np.full((1, 1), value) for value in (a.signal, a.drag, a.force, a.curvature)))

        return [of_one_column], "quadrature"
    if isinstance(model, CommitteeModel) and isinstance(model.activation, Erf):

        def of_committee(C: Array, m: Array) -> Forces:
            return Forces(*committee.forces(C, m, Q, model.readout, model.teacher_readout, model.noise_variance))

        return [of_committee], "closed form"
    return [_Points(process, run, POINTS).forces for run in range(REPLICATES)], "sampling"


class _Points:
    """Scrambled Sobol points of (w, w*, y) whose Gaussian part has exact first and second moments."""

    def __init__(self, process: RowProcess, run: int, count: int) -> None:
        from scipy.special import ndtri
        from scipy.stats import qmc

        self.model = model = process.model
        stars = model.teacher_columns
        dimensions = stars + model.columns + model.noise_columns
        random = generator(0, run, "averages of the online limit")
        u = qmc.Sobol(dimensions, seed=random).random(count).T  # pyright: ignore[reportCallIssue]
        u = np.clip(u, 1e-12, 1 - 1e-12)
        z = ndtri(u[: stars + model.columns])
        z -= z.mean(axis=1, keepdims=True)
        z = np.linalg.solve(np.linalg.cholesky(z @ z.T / count), z)
        self.precision = np.linalg.pinv(process.teacher, hermitian=True)
        self.teacher, self.rest = square_root(process.teacher) @ z[:stars], z[stars:]
        self.y = model.labels(self.teacher, u[stars + model.columns :])

    def preactivations(self, C: Array, m: Array) -> Array:
        along = m @ self.precision
        return along @ self.teacher + square_root(C - along @ m.T) @ self.rest

    def forces(self, C: Array, m: Array) -> Forces:
        w, count = self.preactivations(C, m), self.y.size
        ell = self.model.gradient(w, self.y)
        curvature = self.model.jacobian(w, self.y).mean(axis=-1)
        return Forces(ell @ self.teacher.T / count, ell @ w.T / count, ell @ ell.T / count, curvature)

    def returns(self, C: Array, m: Array) -> tuple[Array, Array]:
        """E ell' ell w*^T and E ell' ell w^T: by how much the force of a sample changes when r has moved by -ell."""
        w = self.preactivations(C, m)
        change = np.einsum("abp,bp->ap", self.model.jacobian(w, self.y), self.model.gradient(w, self.y)) / self.y.size
        return change @ self.teacher.T, change @ w.T


def _moments(process: RowProcess, dynamics: AbstractDynamics, times: Array, statistics: Statistics) -> _Found:
    state = _State(process, statistics, _noise(dynamics, process.delta))
    if dynamics.step is not None:
        return _by_updates(state, dynamics.step, dynamics.updates(times))
    fine, last = _by_flow(state, times, TOLERANCE)
    return _Found(state, fine, _by_flow(state, times, 100 * TOLERANCE)[0], last)


class _State:
    """C, m, and three numbers of the neglected order, as one vector.

    pull: V, by which the earlier pulls of a sample that returns have moved its preactivation, r = w - V ell,
    dV/dt = 1/delta - (lambda + c) V,  c the mean curvature of the loss. off_norm, off_overlap: what this does to C and m,
    since it changes the force by -V ell' ell and correlates the noise of the weights over time,

        d off_norm/dt = -2 (lambda + c_min) off_norm + 2 V (|E ell' ell w^T| + |E ell ell^T|)
        d off_overlap/dt = -(lambda + c_min) off_overlap + V |E ell' ell w*^T|.

    The pulls of a sample are taken to be equal, as if its force did not change in time.
    """

    def __init__(self, process: RowProcess, statistics: Statistics, noise: float) -> None:
        self.process, self.statistics, self.noise = process, statistics, noise
        self.shapes = process.norm.shape, process.overlap.shape
        self.start = np.concatenate([process.norm.ravel(), process.overlap.ravel(), np.zeros(3)])
        self.points = _Points(process, 0, RETURNS) if process.delta < math.inf else None

    def read(self, x: Array) -> tuple[Array, Array, Array]:
        """C, m, (pull, off_norm, off_overlap)."""
        size = self.process.norm.size
        C = x[:size].reshape(self.shapes[0])
        return (C + C.T) / 2, x[size:-3].reshape(self.shapes[1]), x[-3:]

    def velocity(self, x: Array) -> Array:
        """d/dt of the vector, for flows."""
        C, m, off = self.read(x)
        decay = self.process.weight_decay
        seen = self.statistics(C, m)
        dC = -2 * decay * C - seen.drag - seen.drag.T + self.noise * seen.scatter
        dm = -decay * m - seen.signal
        return np.concatenate([dC.ravel(), dm.ravel(), self._neglected(C, m, off, seen)])

    def update(self, x: Array, step: float) -> Array:
        """The vector after one update: the weights move by the mean force, linear in (theta, theta*), and its scatter."""
        C, m, off = self.read(x)
        seen, Q = self.statistics(C, m), self.process.teacher
        off = np.maximum(off + step * self._neglected(C, m, off, seen), 0.0)
        kept = 1 - step * self.process.weight_decay
        # E ell | theta, theta*  =  curvature theta + along theta*
        along = (seen.signal - seen.curvature @ m) @ np.linalg.pinv(Q, hermitian=True)
        cross = seen.curvature @ m @ along.T
        square = seen.curvature @ C @ seen.curvature.T + cross + cross.T + along @ Q @ along.T
        C = kept**2 * C - kept * step * (seen.drag + seen.drag.T) + step**2 * square + self.noise * seen.scatter
        m = kept * m - step * seen.signal
        return np.concatenate([C.ravel(), m.ravel(), off])

    def _neglected(self, C: Array, m: Array, off: Array, seen: Forces) -> Array:
        if self.points is None:
            return np.zeros(3)
        pull, off_norm, off_overlap = off
        decay, bends = self.process.weight_decay, np.linalg.eigvalsh((seen.curvature + seen.curvature.T) / 2)
        signal, drag = self.points.returns(C, m)
        return np.array(
            [
                1 / self.process.delta - (decay + bends.mean()) * pull,
                -2 * (decay + bends[0]) * off_norm + 2 * pull * (np.abs(drag).max() + np.abs(seen.scatter).max()),
                -(decay + bends[0]) * off_overlap + pull * np.abs(signal).max(),
            ]
        )


def _by_flow(state: _State, times: Array, tolerance: float) -> tuple[Array, float | None]:
    """The state at `times`, NaN from where it left every scale; and that time."""
    from scipy.integrate import solve_ivp

    result, last = np.full((times.size, state.start.size), np.nan), None
    result[times == 0] = state.start
    for sign in (1.0, -1.0):
        chosen = np.flatnonzero(sign * times > 0)
        if not chosen.size:
            continue
        chosen = chosen[np.argsort(np.abs(times[chosen]))]
        wanted = np.abs(times[chosen])
        with progress(float(wanted[-1]), "online limit") as bar, np.errstate(over="ignore", invalid="ignore"):
            watch = _Watch(state, sign, bar)
            span = (0.0, float(wanted[-1]))
            found = solve_ivp(
                watch, span, state.start, "DOP853", wanted, events=_leaves(state), rtol=tolerance, atol=tolerance
            )
        if len(found.t):  # else scipy leaves empty lists
            result[chosen[: len(found.t)]] = found.y.T
        if found.status != 0:
            last = sign * watch.reached
    return result, last


class _Watch:
    """The velocity, times +-1 for the direction of time, and the latest time at which it was asked for."""

    def __init__(self, state: _State, sign: float, bar: Bar) -> None:
        self.state, self.sign, self.bar, self.reached = state, sign, bar, 0.0

    def __call__(self, t: float, x: Array) -> Array:
        self.bar.update(max(t - self.reached, 0.0))
        self.reached = max(self.reached, float(t))
        return self.sign * self.state.velocity(x)


def _leaves(state: _State) -> Callable[[float, Array], float]:
    size = state.process.norm.size

    def distance(t: float, x: Array) -> float:
        return FARTHEST - float(np.abs(x[:size]).max())

    distance.terminal = True  # type: ignore[attr-defined]  (how scipy is told to stop)
    return distance


def _by_updates(state: _State, step: float, counts: npt.NDArray[np.int64]) -> _Found:
    size = state.process.norm.size
    result, x, done, last = np.full((counts.size, state.start.size), np.nan), state.start, 0, None
    with progress(float(counts.max()), "online limit") as bar, np.errstate(over="ignore", invalid="ignore"):
        for n in np.argsort(counts):
            while done < counts[n] and last is None:
                new = state.update(x, step)
                if not np.isfinite(new).all() or np.abs(new[:size]).max() > FARTHEST:
                    last = done * step
                else:
                    x, done = new, done + 1
                    bar.update(1)
            if last is not None:
                break
            result[n] = x
    return _Found(state, result, result, last)


def _observables(
    process: RowProcess, times: Array, found: list[_Found]
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Any]]:
    """Values, uncertainties and details: means over the functions of averages; their scatter, accuracy and neglected order."""
    known = np.all([np.isfinite(one.fine).all(axis=1) & np.isfinite(one.coarse).all(axis=1) for one in found], axis=0)
    if not known.any():
        start = _over_times(process, found[0].state, found[0].state.start[None])
        nothing = {name: np.full((times.size, *value.shape[1:]), np.nan) for name, value in start.items()}
        return nothing, dict(nothing), {}
    rows = [_over_times(process, one.state, one.fine[known]) for one in found]
    others = [_over_times(process, one.state, one.coarse[known]) for one in found]
    sampled = [_sampling_errors(process, one.state, one.fine[known]) for one in found[:1]]
    neglected = _neglected(process, found[0].state, found[0].fine[known], rows[0])
    values, uncertainty, left_out = {}, {}, {}
    for name, first in rows[0].items():
        several = np.array([row[name] for row in rows])
        value = several.mean(axis=0)
        error = several.std(axis=0, ddof=1) / math.sqrt(len(several)) if len(several) > 1 else np.zeros_like(first)
        accuracy = np.max([np.abs(a[name] - b[name]) for a, b in zip(rows, others, strict=True)], axis=0)
        error = np.hypot(error, sampled[0].get(name, 0.0)) + accuracy + 1e-14 * (1 + np.abs(value)) + neglected[name]
        for whole, part in ((values, value), (uncertainty, error), (left_out, neglected[name])):
            whole[name] = np.full((times.size, *part.shape[1:]), np.nan)
            whole[name][known] = part
    return values, uncertainty, {"neglected": left_out} if process.delta < math.inf else {}


def _over_times(process: RowProcess, state: _State, states: Array) -> dict[str, Array]:
    rows = [_at(process, *state.read(x)[:2]) for x in states]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _at(process: RowProcess, C: Array, m: Array) -> dict[str, Any]:
    """The observables at moments C and m. Samples are new, so training and test observables agree."""
    test = process.model.test(C, m, process.teacher)
    found: dict[str, Any] = {"loss": test["test_loss"]}
    if "test_error" in test:
        found["train_error"] = test["test_error"]
    scale = np.sqrt(np.outer(np.maximum(np.diag(C), 0.0), np.diag(process.teacher)))
    cosine = np.clip(np.divide(m, scale, out=np.zeros_like(m), where=scale > 0), -1.0, 1.0)
    one = m.size == 1 and C.size == 1
    return found | test | {"norm": C[0, 0] if one else C, "overlap": cosine[0, 0] if one else cosine}


def _sampling_errors(process: RowProcess, state: _State, states: Array) -> dict[str, Array]:
    rows = [process.model.test_uncertainty(*state.read(x)[:2], process.teacher) for x in states]
    found = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    for train, test in (("loss", "test_loss"), ("train_error", "test_error")):
        if test in found:
            found[train] = found[test]
    return found


def _neglected(process: RowProcess, state: _State, states: Array, values: dict[str, Array]) -> dict[str, Array]:
    """What samples that return change, to first order in 1/delta, all correlations taken as perfect."""
    found = {name: np.zeros_like(value) for name, value in values.items()}
    if process.delta == math.inf:
        return found
    small = 1e-4
    for n, x in enumerate(states):
        C, m, (pull, off_norm, off_overlap) = state.read(x)
        here = _at(process, C, m)
        longer, flatter = _at(process, C * (1 + small), m), _at(process, C, m * (1 - small))
        largest, along = float(np.diag(C).max()), float(np.abs(m).max())
        for name in values:
            by_norm = np.abs(longer[name] - here[name]) * (off_norm / largest if largest > 0 else 0.0)
            by_overlap = np.abs(flatter[name] - here[name]) * (off_overlap / along if along > 0 else 0.0)
            found[name][n] = (by_norm + by_overlap) / small
        scatter = state.statistics(C, m).scatter
        found["loss"][n] += pull * float(np.trace(scatter))
        if "train_error" in found and largest > 0:  # r within its own shift of 0
            found["train_error"][n] += pull * math.sqrt(float(np.diag(scatter).max()) / largest)
        found["overlap"][n] = np.minimum(found["overlap"][n], 1.0)
    return found


def _status(times: Array, found: list[_Found]) -> Status:
    lasts = [one.last for one in found if one.last is not None]
    if not lasts:
        return COMPLETE
    last = min(lasts, key=abs)
    return Status(
        "left_domain",
        last,
        f"the weights leave every scale at t = {last:.6g}: take less noise, a smaller step or more weight decay",
    )


def _noise(dynamics: AbstractDynamics, delta: float) -> float:
    """(v + step^2)/delta of a discrete dynamics, tau of a flow: the white noise on the weights is this times E ell ell^T."""
    step = dynamics.step or 0.0
    match dynamics:
        case StochasticGradientFlow(temperature=temperature) | PoissonSGD(temperature=temperature):
            return temperature * step + step**2 / delta if step else temperature
        case SGD(batch_fraction=b):
            return step**2 / (b * delta)
    return step**2 / delta


def _require_forward(dynamics: AbstractDynamics, times: Array, delta: float) -> None:
    if isinstance(dynamics, SGD) and dynamics.order == "persistent" and delta < math.inf:
        raise InvalidInput(
            "persistent batches of finite delta see the same samples for many steps, which the online limit leaves out; "
            "take order='independent' or 'reshuffled', or MeanField()"
        )
    if dynamics.step is None and not isinstance(dynamics, GradientFlow) and times.min() < 0:
        raise InvalidInput(
            f"{type(dynamics).__name__} does not run backward: times must be >= 0, got {float(times.min())!r}"
        )
