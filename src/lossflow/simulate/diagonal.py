"""Experiments with diagonal linear networks: the exact dual of their flow, n numbers in place of 2 d, and gradient descent.

    xi = 2 X^T nu,   dnu/dt = -(X beta - y)/delta,   beta = e^(-2 lambda t) (a0^2 e^xi - b0^2 e^-xi)/2

The growth of (u, v) is exponential, that of xi linear, so nothing is lost at small starts. With many more samples than
coordinates R of X = Q R takes the place of X: the flow is that of R and Q^T y.
docs/theory/diagonal.md section 1 [NI25v2].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from lossflow.dynamics import GradientDescent
from lossflow.problems.coordinate import CoordinateProcess
from lossflow.simulate.collocation import collocate
from lossflow.simulate.ode import End, integrate
from lossflow.simulate.outcome import DIVERGED, Ending, of_integration
from lossflow.simulate.repetition import Record, Tick

Array = npt.NDArray[np.float64]
Arrived = Callable[[int, Array, Array | None], None]

MANY = 1.5  # n/d from which the triangle R is worth its price
HUGE = 1e10  # of a typical weight, beyond which descent has diverged
CLOCK = 1e-6  # of the slowest force, the speed of a clock that the explicit solver carries along with weight decay
STIFF = 2000.0  # of the fastest rate, integrated over time: beyond, the implicit solver is faster and more accurate
OBSERVABLES = ("loss", "mse", "l1", "l2")


def stiffness(process: CoordinateProcess, last: float) -> float:
    """int_0^last of 2 D (1 + delta^(-1/2))^2 dt, the fastest rate, with D <= kappa_t + |beta| for the largest beta likely."""
    largest = max(abs(c.mean) + 4 * math.sqrt(c.variance) for c in process.prior.components)
    noise = math.sqrt(process.noise_variance * (1 + 1 / process.delta))
    decay = 2 * process.weight_decay
    start = sum(process.squares) / 2
    scale = -start * math.expm1(-decay * last) / decay if decay else start * last
    return 2 * (1 + process.delta**-0.5) ** 2 * (scale + (largest + noise) * last)


class DiagonalRun:
    """One run, on its own sample."""

    def __init__(self, process: CoordinateProcess, sample: Mapping[str, Array]) -> None:
        self.star, self.u, self.v = sample["beta_star"], sample["u"], sample["v"]
        X, y = sample["X"], sample["y"]
        self.n, self.d = X.shape
        self.delta = self.n / self.d
        self.decay = process.weight_decay
        self.rest = 0.0  # |y|^2 outside the reach of X
        if self.n > MANY * self.d:
            R = np.asarray(np.linalg.qr(np.column_stack([X, y]), mode="r"), np.float64)
            self.rest = float(R[self.d, self.d] ** 2)
            X, y = R[: self.d, : self.d], R[: self.d, self.d]
        self.X, self.y = X, y
        plus, minus = process.squares
        with np.errstate(divide="ignore"):
            self._plus, self._minus = float(np.log(plus)), float(np.log(minus))

    def beta(self, xi: Array, time: float | Array) -> tuple[Array, Array]:
        """beta and D = d beta/d xi; for a0 = b0 without cancellation, whatever the scale."""
        plus, minus = self._plus - 2 * self.decay * time, self._minus - 2 * self.decay * time
        if self._plus == self._minus:
            size = np.abs(xi)
            grown = np.exp(size + plus) / 2
            return np.copysign(-grown * np.expm1(-2 * size), xi), grown + np.exp(plus - size) / 2
        up, down = np.exp(xi + plus) / 2, np.exp(minus - xi) / 2
        return up - down, up + down

    def force(self, nu: Array, time: float | Array) -> Array:
        """dnu/dt, for nu (n,) at a time or (k, n) at times (k, 1)."""
        beta, _ = self.beta(2 * (nu @ self.X), time)
        return -(beta @ self.X.T - self.y) / self.delta

    def curvature(self, nu: Array, time: float) -> Array:
        """-(d force/d nu) = (2/delta) X D X^T, symmetric and not negative."""
        _, slope = self.beta(2 * (nu @ self.X), time)
        half = self.X * np.sqrt(2 * slope / self.delta)
        return half @ half.T

    def observe(self, beta: Array, residual: Array | None = None) -> dict[str, float]:
        """Every observable; residual: X beta - y where it is known better than from beta."""
        r = self.X @ beta - self.y if residual is None else residual
        return {
            "loss": (float(r @ r) + self.rest) / (2 * self.n),
            "mse": float(np.mean((beta - self.star) ** 2)),
            "l1": float(np.mean(np.abs(beta))),
            "l2": float(np.mean(beta**2)),
        }


class Answer(Ending):
    """What a run has said so far: observables at the times reached, NaN beyond."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.values = {name: np.full(count, np.nan) for name in OBSERVABLES}

    def note(self, place: int, found: Mapping[str, float]) -> None:
        """Observables at times[place]."""
        for name, value in found.items():
            self.values[name][place] = value

    def record(self) -> Record:
        """As arrays."""
        return self.values | self.ends()


def by_flow(run: DiagonalRun, times: Array, tolerance: float, stiff: bool, tick: Tick) -> Record:
    """The gradient flow, forward and backward from t = 0; times in increasing order. stiff: forward by the implicit solver."""
    answer = Answer(len(times))
    span = max(times[-1], 0.0) - min(times[0], 0.0)

    def passed(time: float) -> None:
        tick(time / span)

    for sign in (1.0, -1.0):
        places = np.flatnonzero(times >= 0) if sign > 0 else np.flatnonzero(times < 0)[::-1]
        if not len(places):
            continue

        def arrived(place: int, nu: Array, slope: Array | None, places: npt.NDArray[np.intp] = places) -> None:
            beta, _ = run.beta(2 * (nu @ run.X), float(times[places[place]]))
            found = run.observe(beta, None if slope is None else -run.delta * slope)
            answer.note(int(places[place]), found)

        targets = np.abs(times[places])
        with np.errstate(over="ignore", invalid="ignore"):
            if stiff and sign > 0:
                end = collocate(run, np.zeros(len(run.y)), targets, tolerance, arrived, passed)
            else:
                end = _explicit(run, sign, targets, tolerance, arrived, passed)
        answer.steps += end.steps
        if end.reason:
            answer.stop(sign * end.time, of_integration(end))
    return answer.record()


def _explicit(run: DiagonalRun, sign: float, targets: Array, tolerance: float, arrived: Arrived, passed: Tick) -> End:
    """By Runge-Kutta steps of order 8, which want a force that does not depend on time: weight decay has a clock in the state."""
    m, speed = len(run.y), CLOCK * run.decay

    def force(state: Array) -> Array:
        time = float(state[m]) / speed if speed else 0.0
        moved = np.append(run.force(state[:m], time), speed)
        return sign * moved

    return integrate(
        force,
        np.zeros(m + 1),
        targets,
        tolerance,
        lambda place, state: arrived(place, state[:m], None),
        passed,
    )


def by_descent(run: DiagonalRun, dynamics: GradientDescent, times: Array, tick: Tick) -> Record:
    """u <- u - step (v g + lambda u), v likewise,  g = X^T (X beta - y)/delta; times in increasing order."""
    counts = dynamics.updates(times)
    answer, u, v, made = Answer(len(times)), run.u.copy(), run.v.copy(), 0
    last = max(int(counts[-1]), 1)
    for place, count in enumerate(counts):
        while made < count:
            g = ((run.X @ (u * v) - run.y) @ run.X) / run.delta
            u, v = u - dynamics.step * (v * g + run.decay * u), v - dynamics.step * (u * g + run.decay * v)
            made += 1
            tick(1 / last)
            with np.errstate(over="ignore", invalid="ignore"):
                finite = bool(np.vdot(u, u) + np.vdot(v, v) < HUGE**2 * len(u))
            if not finite:
                answer.stop(made * dynamics.step, DIVERGED)
                answer.steps = made
                return answer.record()
        answer.note(place, run.observe(u * v))
    answer.steps = made
    return answer.record()
