"""The same end state at a finite size, by direct convex minimization: what the large-size limit is held against.

Without penalty and with n < d the flow ends at the beta of  xi = 2 X^T nu,  X beta(xi) = y: the stationary point of the convex
dual  Phi(nu) = sum_j (a0^2 e^xi_j + b0^2 e^-xi_j)/4 - y^T nu,  found by Newton, scale after scale for small starts.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.errors import InvalidInput
from lossflow.keys import generator
from lossflow.meanfield.diagonal_entropy import Link

if TYPE_CHECKING:
    import numpy.typing as npt

    from lossflow.problems.diagonal import DiagonalLinear
    from lossflow.problems.priors import AbstractPrior

    Array = npt.NDArray[np.float64]

LARGEST_MOVE = 3.0  # of any xi in a step of Newton, where the potential is exponential
FACTOR = 30.0  # between one scale and the next
MOST_STEPS = 500
TOLERANCE = 1e-10  # of |X beta - y| relative to |y|


class Sample(NamedTuple):
    """Data: X (n, d) with entries of variance 1/d, y (n,), and the signal (d,)."""

    X: Array
    y: Array
    signal: Array


class Interpolator(NamedTuple):
    """beta (d,) with X beta = y, d beta/d xi (d,), and |X beta - y|/|y| as reached."""

    beta: Array
    slope: Array
    residual: float

    def mse(self, sample: Sample) -> float:
        """||beta - beta*||^2/d."""
        return float(np.mean((self.beta - sample.signal) ** 2))


def draw(problem: DiagonalLinear, d: int, run: int, seed: int) -> Sample:
    """Data of `problem` in d dimensions, n = round(delta d). The signal has as many entries of each kind as the prior says,
    normal entries and noise have exactly their mean square: most of the scatter between runs is in these.

    run, seed: as for `keys.generator`.
    """
    n = round(problem.delta * d) if math.isfinite(problem.delta) else 0
    if n < 1 or d < 1:
        raise InvalidInput(f"a sample needs at least one row and one column, got d = {d!r} and n = {n!r}")
    X = generator(seed, run, "x").standard_normal((n, d)) / math.sqrt(d)
    signal = _signal(problem.prior, d, generator(seed, run, "signal"))
    noise = generator(seed, run, "noise").standard_normal(n)
    noise *= math.sqrt(problem.noise_variance * n) / float(np.linalg.norm(noise))
    return Sample(X, X @ signal + noise, signal)


def _signal(prior: AbstractPrior, d: int, random: np.random.Generator) -> Array:
    components = prior.components
    ends = np.rint(np.cumsum([0.0, *(c.weight for c in components)]) * d).astype(int)
    signal = np.empty(d)
    for component, low, high in zip(components, ends[:-1], ends[1:], strict=True):
        z = random.standard_normal(high - low)
        if high - low > 1:
            z /= math.sqrt(float(np.mean(z**2)))
        signal[low:high] = component.mean + math.sqrt(component.variance) * z
    return random.permutation(signal)


def interpolate(sample: Sample, link: Link) -> Interpolator:
    """The interpolator that the flow from this start ends at. Raises `InvalidInput` for n > d.

    A one-sided model may have none: then `residual` stays large.
    """
    n, d = sample.X.shape
    if n > d:
        raise InvalidInput(f"interpolation needs n <= d, got n = {n} and d = {d}")
    size = max(float(np.sqrt(np.mean(sample.signal**2))), 1e-300)
    scale = math.sqrt(link.plus) * math.sqrt(link.minus or link.plus)
    ladder = max(math.ceil(math.log(size / scale) / math.log(FACTOR)), 0)
    nu = np.zeros(n)
    found = None
    for k in range(ladder, -1, -1):
        factor = FACTOR**k
        found, nu = _newton(sample, Link(link.plus * factor, link.minus * factor, link.start * factor), nu)
    assert found is not None
    return found


def _newton(sample: Sample, link: Link, nu: Array) -> tuple[Interpolator, Array]:
    X, y = sample.X, sample.y
    norm = float(np.linalg.norm(y)) or 1.0

    def at(nu: Array) -> tuple[float, Interpolator, Array]:
        xi = 2 * (nu @ X)
        up, down = link.plus / 2 * np.exp(xi), link.minus / 2 * np.exp(-xi)
        gradient = X @ (up - down) - y
        potential = float((up + down).sum()) / 2 - float(y @ nu)
        return potential, Interpolator(up - down, up + down, float(np.linalg.norm(gradient)) / norm), gradient

    potential, found, gradient = at(nu)
    for _ in range(MOST_STEPS):
        if found.residual < TOLERANCE:
            break
        step = -np.linalg.solve(2 * (X * found.slope) @ X.T, gradient)
        step *= min(1.0, LARGEST_MOVE / (2 * float(np.abs(step @ X).max())))
        descent = float(gradient @ step)
        for _ in range(40):
            trial = at(nu + step)
            if trial[0] <= potential + 1e-4 * descent or trial[1].residual < found.residual:
                break
            step, descent = step / 2, descent / 2
        else:
            break  # rounding: nothing is better
        nu = nu + step
        potential, found, gradient = trial
    return found, nu
