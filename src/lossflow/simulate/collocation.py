"""Stiff flows of moderate size whose Jacobian is symmetric and not positive: collocation at the nodes of Radau.

    z(t0 + c_i h) = z0 + h sum_j A_ij z'(t0 + c_j h),   i = 1 .. STAGES,   c_STAGES = 1

L-stable, of order 2 STAGES - 1 where a step resolves the flow and of order STAGES in what is stiff. Newton's method with one
eigenbasis of the Jacobian for all stages, step lengths and iterations: each then costs a few products of matrices. The error of
a step is read off the Legendre coefficients of z' in it, the last times the rate at which they decay; the same bounds the error
of the polynomial between the nodes. Hairer and Wanner, Solving ordinary differential equations II, section IV.8.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from numpy.polynomial import legendre

from lossflow.simulate.ode import End

Array = npt.NDArray[np.float64]

STAGES = 7
LOCAL_SHARE = 0.1  # of the tolerance, for one step
SOLVED = 0.03  # of the error allowed to a step: what Newton's method may leave of it
ROUNDING = (
    1e-14  # of |z|, of what that does to z', and of the largest |z'| so far: the force is a difference of such terms
)
SAFETY, SHRINK, GROW = 0.8, 0.2, 4.0
FIRST_STEP = 0.3  # of the reciprocal of the fastest rate
SLOW, HOPELESS = (
    0.5,
    0.9,
)  # contraction of an iteration at which the Jacobian is computed anew; at which a step is given up
ITERATIONS = 40  # of one step
MAX_STEPS = 50_000
STANDSTILL = 1e-13  # a step of this length, relative to the elapsed time, does not move the time


class Flow(Protocol):
    """z' = force(z, t); curvature(z, t) = -d force/dz, symmetric."""

    def force(self, nu: Array, time: float | Array, /) -> Array: ...

    def curvature(self, nu: Array, time: float, /) -> Array: ...


class Tableau(NamedTuple):
    """nodes: c (s,); A (s, s) = vectors diag(values) inverse; coefficients: (s, s) from values at the nodes to those of P_k."""

    nodes: Array
    A: Array
    values: npt.NDArray[np.complex128]
    vectors: npt.NDArray[np.complex128]
    inverse: npt.NDArray[np.complex128]
    coefficients: Array


def tableau(s: int) -> Tableau:
    """Radau IIA with s stages."""
    nodes = np.sort(legendre.legroots([*np.zeros(s - 1), -1.0, 1.0]).real) / 2 + 0.5  # numpy >= 2.5 calls them complex
    nodes[-1] = 1.0
    coefficients = np.asarray(np.linalg.inv(legendre.legvander(2 * nodes - 1, s - 1)), np.float64)
    A = integrals(nodes, s) @ coefficients
    values, vectors = np.linalg.eig(A)
    values, vectors = values.astype(np.complex128), vectors.astype(np.complex128)
    inverse = np.asarray(np.linalg.inv(vectors), np.complex128)
    return Tableau(nodes, A, values, vectors, inverse, coefficients)


def integrals(x: Array, s: int) -> Array:
    """int_0^x P_k(2 c - 1) dc, (len(x), s) for k < s."""
    P = legendre.legvander(2 * x - 1, s)
    k = np.arange(1, s)
    return np.hstack([x[:, None], (P[:, 2:] - P[:, : s - 1]) / (2 * (2 * k + 1))])


RADAU = tableau(STAGES)


class Basis(NamedTuple):
    """Of the Jacobian -vectors diag(rates) vectors^T."""

    rates: Array
    vectors: Array

    @classmethod
    def of(cls, flow: Flow, z: Array, time: float) -> Basis:
        rates, vectors = np.linalg.eigh(flow.curvature(z, time))
        return cls(np.maximum(rates, 0.0), vectors)


class Solved(NamedTuple):
    """Z: z - z0 at the nodes (s, m); slopes: z' there; contraction: of the last iterations; ok: whether it converged."""

    Z: Array
    slopes: Array
    contraction: float
    ok: bool


def collocate(
    flow: Flow, z: Array, targets: Array, tolerance: float, arrived: Callable[[int, Array, Array], None],
    tick: Callable[[float], None],
) -> End:  # fmt: skip
    """Go through all `targets`, times >= 0 in increasing order, from z at t = 0.

    arrived: told the number of each target, z and z' there: where the flow is stiff, z' is known better than force(z). tick: told
    the time that passed, after each step; what it raises ends the integration.
    """
    time, place, steps = 0.0, 0, 0
    slope = flow.force(z, 0.0)
    while place < len(targets) and targets[place] == 0:
        arrived(place, z, slope)
        place += 1
    if place == len(targets):
        return End(0.0, "", 0)
    last = float(targets[-1])
    basis, fresh = Basis.of(flow, z, 0.0), True
    length = min(last, FIRST_STEP / max(float(basis.rates[-1]), 1 / last))
    largest = float(np.linalg.norm(slope))
    before: tuple[Array, float] | None = None  # coefficients of z' in the last step, and its length
    while steps < MAX_STEPS:
        length = min(length, last - time)
        steps += 1
        guess = _guess(slope, before, length)
        found = _newton(flow, basis, z, time, length, guess, tolerance)
        if not found.ok and not fresh:
            basis, fresh = Basis.of(flow, z, time), True
            continue
        share, coefficients = SHRINK, found.slopes
        if found.ok:
            coefficients = RADAU.coefficients @ found.slopes
            size = float(np.linalg.norm(z))
            rounding = ROUNDING * (size + length * (size * float(basis.rates[-1]) + largest))
            allowed = LOCAL_SHARE * tolerance * float(np.linalg.norm(found.Z[-1])) + rounding
            ratio = _error(coefficients) * length / allowed
            share = min(GROW, max(SHRINK, SAFETY * ratio ** (-1 / STAGES))) if ratio > 0 else GROW
            if ratio <= 1:
                reached = last if length == last - time else time + length
                while place < len(targets) and targets[place] <= reached:
                    x = np.array([(float(targets[place]) - time) / length])
                    inside = z + length * (integrals(x, STAGES) @ coefficients)[0]
                    arrived(place, inside, (legendre.legvander(2 * x - 1, STAGES - 1) @ coefficients)[0])
                    place += 1
                tick(reached - time)
                z, slope, time, before = z + found.Z[-1], found.slopes[-1], reached, (coefficients, length)
                largest = max(largest, float(np.linalg.norm(slope)))
                if place == len(targets):
                    return End(time, "", steps)
                fresh = False
                if found.contraction > SLOW:
                    basis, fresh = Basis.of(flow, z, time), True
            share = min(share, 1.0) if found.contraction > SLOW else share
        length *= share
        if length <= STANDSTILL * max(time, 1e-300) or not length:
            return End(time, "the step became too short to move the time", steps)
    return End(time, f"{MAX_STEPS} steps were not enough", steps)


def _guess(slope: Array, before: tuple[Array, float] | None, length: float) -> Array:
    """z' at the nodes: that of the last step, continued, for as long as it is not too far away."""
    if before is None or length > GROW * before[1]:
        return np.tile(slope, (STAGES, 1))
    coefficients, old = before
    kept = max(1, min(STAGES, round(STAGES / max(length / old, 1.0))))  # high powers do not reach far
    x = 2 * (1 + RADAU.nodes * length / old) - 1
    return legendre.legvander(x, kept - 1) @ coefficients[:kept]


def _newton(flow: Flow, basis: Basis, z: Array, time: float, length: float, guess: Array, tolerance: float) -> Solved:
    times = time + RADAU.nodes[:, None] * length
    Z = length * RADAU.A @ guess
    filters = 1 / (1 + length * np.outer(RADAU.values, basis.rates))
    size = float(np.linalg.norm(z))
    old, contraction = math.inf, 0.0
    slopes = guess
    for iteration in range(ITERATIONS):
        slopes = flow.force(z + Z, times)
        if not np.isfinite(slopes).all():
            return Solved(Z, slopes, math.inf, False)
        left = (length * RADAU.A @ slopes - Z) @ basis.vectors
        change = (RADAU.vectors @ (filters * (RADAU.inverse @ left))).real
        # what it does to z, and to z' by the stiffness
        moved = max(float(np.linalg.norm(change)) / length, float(np.linalg.norm(change * basis.rates)))
        Z = Z + change @ basis.vectors.T
        scale = LOCAL_SHARE * tolerance * float(np.linalg.norm(slopes)) / math.sqrt(STAGES)
        if iteration:
            contraction = max(moved / old, contraction / 3)
        if moved <= SOLVED * scale + ROUNDING * size * max(float(basis.rates[-1]), 1 / length):
            return Solved(Z, flow.force(z + Z, times), contraction, True)
        if iteration > 2 and contraction > HOPELESS:
            break
        old = moved
    return Solved(Z, slopes, math.inf, False)


def _error(coefficients: Array) -> float:
    """Of z', by what follows its last coefficient if they go on decaying as they do."""
    third, second, last = (float(np.linalg.norm(c)) for c in coefficients[-3:])
    if not last:
        return 0.0
    decay = max(last / second if second else 1.0, math.sqrt(last / third) if third else 1.0)
    return last * min(1.0, decay)
