"""The slow road to the derivatives of a loss: the weights as power series in time along the flow, many samples at once.

Independent of the engine and of its diagrams: models are written as plain einsums, gradients by hand. A series is an array of
shape (terms, samples, ...); a product of series is a Cauchy product of einsums.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from fractions import Fraction
from math import factorial

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Weights = dict[str, Array]
Samples = Mapping[str, Array]


def times(spec: str, *series: Array) -> Array:
    """The product of series: einsum(spec) of all coefficients that add up to each power; "z" is the axis of the samples."""
    terms = series[0].shape[0]
    result: list[Array] = [np.zeros(0)] * terms
    for powers in itertools.product(range(terms), repeat=len(series)):
        if sum(powers) < terms:
            part = np.einsum(spec, *(s[k] for s, k in zip(series, powers, strict=True)))
            total = sum(powers)
            result[total] = part if not result[total].size else result[total] + part
    return np.stack(result)


def constant(value: Array, like: Array) -> Array:
    """A value without time dependence as a series of as many terms as `like`."""
    series = np.zeros((like.shape[0], *value.shape))
    series[0] = value
    return series


def along_the_flow(
    start: Weights, gradient: Callable[[Weights], Weights], observe: Callable[[Weights], Array], order: int
) -> Array:
    """d^s G/dt^s at t = 0 for s = 0 .. order, shape (order + 1, samples), under du/dt = -gradient(u)."""
    weights = {name: value[None] for name, value in start.items()}
    for k in range(order):
        slope = gradient(weights)
        weights = {name: np.concatenate([w, -slope[name][k : k + 1] / (k + 1)]) for name, w in weights.items()}
    return observe(weights) * np.array([factorial(s) for s in range(order + 1)])[:, None]


def require_means(derivatives: Array, exact: tuple[Fraction, ...] | list[Fraction], errors: float = 4.0) -> None:
    """The means over the samples are the exact numbers within so many standard errors, s by s."""
    mean = derivatives.mean(axis=1)
    error = derivatives.std(axis=1, ddof=1) / np.sqrt(derivatives.shape[1])
    deviation = (mean - np.array([float(y) for y in exact])) / error
    assert (np.abs(deviation) < errors).all(), (deviation, mean, list(map(float, exact)))
    # the samples know the numbers: they could fail
    assert (error < 0.2 * np.abs([float(y) for y in exact])).all(), error / np.abs([float(y) for y in exact])


def gaussian_grid(count: int, nodes: int) -> tuple[Array, Array]:
    """All points of a tensor Gauss-Hermite rule in `count` standard normal variables, (points, count), and their weights."""
    x, w = np.polynomial.hermite_e.hermegauss(nodes)
    grid = np.array(list(itertools.product(x, repeat=count)))
    return grid, np.prod(list(itertools.product(w / w.sum(), repeat=count)), axis=1)


def tensor_problem(order: int, symmetric: bool, target: Array, start: Weights, last: int) -> Array:
    """Derivatives of 1/2 |f - F|^2, f = sum_k prod_m u^(m)_{k,i_m}.

    target: F of shape (p, ..., p) or (samples, p, ..., p); start: u or u1, u2, ..., each (samples, H, p).
    """
    slots = "abcdef"[:order]
    names = ["u"] * order if symmetric else [f"u{m + 1}" for m in range(order)]
    samples = next(iter(start.values())).shape[0]
    F = np.broadcast_to(target, (samples, *target.shape[-order:]))

    def residual(u: Weights) -> Array:
        f = times(",".join(f"zk{i}" for i in slots) + "->z" + slots, *(u[name] for name in names))
        return f - constant(F, f)

    def gradient(u: Weights) -> Weights:
        r = residual(u)
        slope = {name: np.zeros_like(w) for name, w in u.items()}
        for m, name in enumerate(names):
            others = [u[other] for n, other in enumerate(names) if n != m]
            spec = ",".join(["z" + slots, *(f"zk{i}" for n, i in enumerate(slots) if n != m)]) + "->zk" + slots[m]
            slope[name] = slope[name] + times(spec, r, *others)
        return slope

    def loss(u: Weights) -> Array:
        r = residual(u)
        return 0.5 * times("z" + slots + ",z" + slots + "->z", r, r)

    return along_the_flow(start, gradient, loss, last)
