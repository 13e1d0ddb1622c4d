"""Experiments with models linear in the data, at finite n and d: every dynamics, every observable.

    theta_{k+1} = theta_k - eta h(theta_k) - (d/n) X^T L_k,   L_k,i = g_k,i ell(x_i.theta_k, y_i)

and its continuous limits. With n = round(delta d) samples the factor is d/n, which makes du/dt = -d * d(loss + penalty)/du exact.
docs/theory/mean_field.md sections 1 and 5 [NI26v2].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lossflow.dynamics import AbstractDynamics, GradientFlow, PoissonSGD, StochasticGradientFlow
from lossflow.errors import InvalidInput
from lossflow.keys import generator
from lossflow.problems.row import RowProcess
from lossflow.simulate.noise import Kick, increments, kicks
from lossflow.simulate.ode import integrate
from lossflow.simulate.outcome import DIVERGED, Ending, of_integration
from lossflow.simulate.repetition import Record, Tick

Array = npt.NDArray[np.float64]

HUGE = 1e10  # of a typical weight, beyond which a run has diverged
COARSEST = 0.25  # of the reciprocal of the fastest rate: the first of the steps that are extrapolated to zero
GATHERED = 0.4  # of the samples in a batch up to which copying their rows is cheaper than passing over all


class RowRun:
    """One run: theta (m, d) moves on its own sample, for as long as it stays finite."""

    def __init__(self, process: RowProcess, sample: Mapping[str, Array]) -> None:
        self.process, self.model = process, process.model
        self.X, self.y = sample["X"], sample["y"]
        self.start, self.star = sample["theta"], sample["theta_star"]
        self.n, self.d = self.X.shape
        self.delta = self.n / self.d
        self.teacher = self.star @ self.star.T / self.d

    def preactivations(self, theta: Array) -> Array:
        """r (m, n)."""
        return _product(self.X, theta)

    def pull(self, theta: Array, kick: Kick) -> Array:
        """(1/delta) X^T L (m, d), the samples' part of a step."""
        samples, factors = kick
        if samples is not None and len(samples) > GATHERED * self.n:
            spread = np.zeros(self.n)
            spread[samples] = factors
            samples, factors = None, spread
        X, y = (self.X, self.y) if samples is None else (self.X[samples], self.y[samples])
        if not len(X):
            return np.zeros_like(theta)
        slopes = factors * self.model.gradient(_product(X, theta), y)
        return _product(X.T, slopes) / self.delta

    def force(self, theta: Array) -> Array:
        """d theta/dt of the gradient flow."""
        return -self.drag(theta) - self.pull(theta, Kick(None, 1.0))

    def drag(self, theta: Array) -> Array:
        """h(theta), as far as it is smooth."""
        h = self.process.weight_decay * theta
        penalty = self.process.penalty
        return h + penalty.force(theta) if penalty is not None and penalty.smooth else h

    def step(self, theta: Array, kick: Kick, length: float) -> Array:
        """theta after one step of mean size `length`; the proximal one where the penalty has no force."""
        moved = theta - length * self.drag(theta) - self.pull(theta, kick)
        penalty = self.process.penalty
        return moved if penalty is None or penalty.smooth else penalty.proximal(moved, length)

    def observe(self, theta: Array) -> dict[str, Array]:
        """Every observable at theta."""
        r = self.preactivations(theta)
        norm, overlap = theta @ theta.T / self.d, theta @ self.star.T / self.d
        found: dict[str, Array] = {"loss": np.asarray(np.mean(self.model.loss(r, self.y)), np.float64)}
        errors = self.model.errors(r, self.y)
        if errors is not None:
            found["train_error"] = np.asarray(np.mean(errors), np.float64)
        found |= {name: np.asarray(value) for name, value in self.model.test(norm, overlap, self.teacher).items()}
        lengths = np.sqrt(np.outer(np.diag(norm), np.diag(self.teacher)))
        cosines = np.divide(overlap, lengths, out=np.zeros_like(overlap), where=lengths > 0)
        if norm.size == 1 and cosines.size == 1:
            return found | {"norm": norm[0, 0], "overlap": cosines[0, 0]}
        return found | {"norm": norm, "overlap": cosines}

    def fastest_rate(self) -> float:
        """An upper estimate of the rate at which a deviation decays: of the data, weight decay and a smooth penalty."""
        lipschitz = self.model.lipschitz
        if not math.isfinite(lipschitz):  # as at the start, with room for growth
            slopes = self.model.jacobian(self.preactivations(self.start), self.y)
            lipschitz = 2 * float(np.abs(slopes).sum(axis=0).max())
        rate = self.process.weight_decay + lipschitz * (1 + self.delta**-0.5) ** 2
        penalty = self.process.penalty
        if penalty is not None and penalty.smooth:
            rate += float(np.abs(penalty.curvature(self.start)).max())
        return rate


class Answer(Ending):
    """What a run has said so far: observables at the times reached, NaN beyond."""

    def __init__(self, run: RowRun, times: Array) -> None:
        super().__init__()
        self._run, self._times = run, times
        self._values: dict[str, Array] = {}

    def note(self, place: int, theta: Array) -> None:
        """Observe theta at times[place]."""
        with np.errstate(over="ignore", invalid="ignore"):
            found = self._run.observe(theta)
        for name, value in found.items():
            if name not in self._values:
                self._values[name] = np.full((len(self._times), *np.shape(value)), np.nan)
            self._values[name][place] = value

    def record(self) -> Record:
        """As arrays."""
        if not self._values:
            self.note(0, np.full_like(self._run.start, np.nan))
        return self._values | self.ends()


def by_steps(run: RowRun, dynamics: AbstractDynamics, times: Array, random: np.random.Generator, tick: Tick) -> Record:
    """A dynamics with a step, exactly as it is defined; times in increasing order."""
    counts = dynamics.updates(times)
    assert dynamics.step is not None
    answer, theta = Answer(run, times), run.start
    last, made = int(counts[-1]), 0
    kick = kicks(dynamics, run.n, run.delta, random)
    for place, count in enumerate(counts):
        while made < count:
            theta = run.step(theta, next(kick), dynamics.step)
            made += 1
            tick(1 / last)
            if not _is_finite(theta):
                answer.stop(made * dynamics.step, DIVERGED)
                answer.steps = made
                return answer.record()
        answer.note(place, theta)
    answer.steps = made
    return answer.record()


def by_flow(run: RowRun, times: Array, tolerance: float, tick: Tick) -> Record:
    """The gradient flow, forward and backward from t = 0; times in increasing order."""
    answer = Answer(run, times)
    span = max(times[-1], 0.0) - min(times[0], 0.0)
    for sign in (1.0, -1.0):
        places = np.flatnonzero(times >= 0) if sign > 0 else np.flatnonzero(times < 0)[::-1]
        if len(places):
            end = integrate(
                lambda theta, sign=sign: sign * run.force(theta),
                run.start,
                np.abs(times[places]),
                tolerance,
                lambda place, theta, places=places: answer.note(int(places[place]), theta),
                lambda passed: tick(passed / span),
            )
            answer.steps += end.steps
            if end.reason:
                answer.stop(sign * end.time, of_integration(end))
    return answer.record()


def by_events(run: RowRun, dynamics: PoissonSGD, times: Array, random: np.random.Generator, tick: Tick) -> Record:
    """The jump process: each sample is hit at the rate 1/(tau delta) and kicks by tau delta ell; decay in between is exact."""
    size = dynamics.temperature * run.delta
    mean_wait = size / run.n
    lam = run.process.weight_decay
    answer, theta = Answer(run, times), run.start.copy()
    now, last = 0.0, float(times[-1])
    event = random.exponential(mean_wait)

    def drift(theta: Array, length: float) -> Array:
        penalty = run.process.penalty
        theta = theta * math.exp(-lam * length)
        if penalty is None:
            return theta
        return theta - length * penalty.force(theta) if penalty.smooth else penalty.proximal(theta, length)

    for place, time in enumerate(times):
        while event <= time:
            theta = drift(theta, event - now)
            sample = random.integers(run.n)
            x = run.X[sample]
            slope = run.model.gradient((theta @ x)[:, None], run.y[sample : sample + 1])
            theta -= (size / run.delta) * slope * x
            now = event
            event += random.exponential(mean_wait)
            answer.steps += 1
            if answer.steps % 64 == 0:
                tick(64 * mean_wait / last)
                if not _is_finite(theta):
                    answer.stop(now, DIVERGED)
                    return answer.record()
        theta = drift(theta, time - now)
        now = float(time)
        answer.note(place, theta)
    return answer.record()


class Refinement(NamedTuple):
    """Euler steps (level 0) and how they are halved: `steps` between 0 and the last time, `marks`: how many up to each time."""

    steps: Array
    marks: npt.NDArray[np.int64]

    @classmethod
    def of(cls, times: Array, rate: float) -> Refinement:
        """Steps of at most COARSEST/rate that hit all times >= 0, in increasing order."""
        gaps = np.diff(times, prepend=0.0)
        counts = np.ceil(gaps * rate / COARSEST).astype(np.int64)
        steps = np.repeat(np.divide(gaps, counts, out=np.zeros_like(gaps), where=counts > 0), counts)
        return cls(steps, np.cumsum(counts))


def by_refined_steps(
    run: RowRun,
    temperature: float,
    grid: Refinement,
    level: int,
    times: Array,
    stream: Callable[[str], np.random.Generator],
    tick: Tick,
) -> Record:
    """The Euler scheme of the stochastic flow on the grid halved `level` times; all levels of a run share one Brownian path."""
    answer, theta = Answer(run, times), run.start
    spread = math.sqrt(temperature * run.delta)
    streams = [stream(f"Brownian motion, level {k}") for k in range(level + 1)]
    if spread:
        path = increments(grid.steps, level, run.n, streams)
    else:
        path = ((float(length), np.zeros(())) for length in np.repeat(grid.steps / 2**level, 2**level))
    total, now, made = len(grid.steps) * 2**level, 0.0, 0
    for place, mark in enumerate(grid.marks * 2**level):
        while made < mark:
            length, increment = next(path)
            theta = run.step(theta, Kick(None, length + spread * increment), length)
            made += 1
            now += length
            tick(1 / total)
            if not _is_finite(theta):
                answer.stop(now, DIVERGED)
                answer.steps = made
                return answer.record()
        answer.note(place, theta)
    answer.steps = made
    return answer.record()


def is_refined(process: RowProcess, dynamics: AbstractDynamics, past: bool = False) -> bool:
    """Whether the dynamics is approached by Euler steps that are halved and extrapolated. past: at times < 0, too.

    That is so for noise, for penalties without a force, and for losses whose curvature jumps: each jump of each sample costs a
    scheme of high order some ten rejected steps, their number grows like d, and averages over many samples do not see it.
    """
    if isinstance(dynamics, StochasticGradientFlow):
        if dynamics.step is not None:
            return False
        if dynamics.temperature > 0:
            return True
    elif not isinstance(dynamics, GradientFlow):
        return False
    return not _has_force(process) or (not process.model.smooth and not past)


def carry_out(
    run: RowRun, dynamics: AbstractDynamics, times: Array, seed: int, number: int, tolerance: float, tick: Tick
) -> Record:
    """One run of any dynamics that needs no refinement; times in increasing order."""
    random = generator(seed, number, "dynamics")
    if dynamics.step is not None:
        return by_steps(run, dynamics, times, random, tick)
    if isinstance(dynamics, PoissonSGD):
        return by_events(run, dynamics, times, random, tick)
    return by_flow(run, times, tolerance, tick)


def require_dynamics(process: RowProcess, dynamics: AbstractDynamics, times: Array) -> None:
    """Refuse dynamics and times that have no meaning for models of data."""
    if dynamics.step is not None:
        dynamics.updates(times)
    elif times.min() < 0 and not (isinstance(dynamics, GradientFlow) and _has_force(process)):
        what = repr(dynamics) if _has_force(process) else f"a flow with the penalty {process.penalty!r}"
        raise InvalidInput(f"{what} has no past: times must be >= 0, got {float(times.min())!r}")


def _has_force(process: RowProcess) -> bool:
    return process.penalty is None or process.penalty.smooth


def _product(X: Array, theta: Array) -> Array:
    """theta X^T, a row for each column of the model; one pass over X where there is one."""
    return (X @ theta[0])[None] if len(theta) == 1 else (X @ theta.T).T


def _is_finite(theta: Array) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.vdot(theta, theta) < HUGE**2 * theta.size)
