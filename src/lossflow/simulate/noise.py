"""Which samples move the weights in a step, and by how much: the factors g of each dynamics.

theta_{k+1} = theta_k - eta h(theta_k) - (1/delta) sum_i g_k,i x_i ell_i,   E g = eta,   Var g = v.
docs/theory/mean_field.md section 1 [NI26v2].
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lossflow.dynamics import SGD, AbstractDynamics, GradientDescent, PoissonSGD, StochasticGradientFlow
from lossflow.errors import InvalidInput

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.intp]


class Kick(NamedTuple):
    """The samples that take part in a step (None: all of them) and their factors g."""

    samples: Integers | None
    factors: Array | float


def kicks(dynamics: AbstractDynamics, n: int, delta: float, random: np.random.Generator) -> Iterator[Kick]:
    """The kicks of one step after another, for n samples; every dynamics with a step has them."""
    eta = dynamics.step
    assert eta is not None
    match dynamics:
        case GradientDescent():
            while True:
                yield Kick(None, eta)
        case StochasticGradientFlow(temperature=tau):
            spread = math.sqrt(tau * delta * eta)
            while True:
                yield Kick(None, eta + spread * random.standard_normal(n) if spread else eta)
        case PoissonSGD(temperature=tau):
            size = tau * delta
            while True:
                hits = random.poisson(eta / size, n)
                samples = np.flatnonzero(hits)
                yield Kick(samples, size * hits[samples].astype(np.float64))
        case SGD(batch_fraction=b):
            for samples in batches(dynamics, n, random):
                yield Kick(samples, eta / b)
        case _:
            raise InvalidInput(f"Simulation does not know {dynamics!r} for models of data")


def batches(dynamics: SGD, n: int, random: np.random.Generator) -> Iterator[Integers]:
    """The samples in the batch of one step after another."""
    b = dynamics.batch_fraction
    if dynamics.order == "reshuffled":
        per_epoch = round(1 / b)
        while True:
            yield from np.array_split(random.permutation(n), per_epoch)
    if dynamics.order == "persistent":
        assert dynamics.persistence is not None
        enter = 1 / dynamics.persistence
        leave = (1 - b) / b * enter  # so that P(inside) = b is stationary
        inside = random.random(n) < b
        while True:
            yield np.flatnonzero(inside)
            inside ^= random.random(n) < np.where(inside, leave, enter)
    while True:
        yield np.flatnonzero(random.random(n) < b)


def increments(steps: Array, level: int, n: int, streams: list[np.random.Generator]) -> Iterator[tuple[float, Array]]:
    """Brownian increments of n samples over `steps` halved `level` times: (length, increment), the same path at every level.

    streams: one generator for each level 0 .. level.
    """
    if level == 0:
        for length in steps:
            yield float(length), math.sqrt(length) * streams[0].standard_normal(n)
        return
    for length, increment in increments(steps, level - 1, n, streams):
        # the middle of a Brownian path of which the end is known
        middle = 0.5 * math.sqrt(length) * streams[level].standard_normal(n)
        yield 0.5 * length, 0.5 * increment + middle
        yield 0.5 * length, 0.5 * increment - middle
