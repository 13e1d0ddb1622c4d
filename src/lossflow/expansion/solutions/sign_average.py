"""Descent at order 4 through full learning: the flow of all weights in the loss averaged over their signs.

With v = u^2, q_k = sum_i v_ki, S_i = sum_k v_ki^2 and m_k = (q_k^2 - sum_i v_ki^2)/(p (p-1)), m = sum_k m_k, the mean of L over
independent signs of the entries of u is

    L = 1/2 sum_i (S_i - c)^2 + sum_k [ q_k^4/2 - sum_i v_ki^4/2 + (3/2) p (p-1) (m - m_k) m_k ],

where sum_l v_li v_lj, over the rows l != k, was replaced by its mean m - m_k for i != j. Its gradient costs p H, not p H^2, and
keeps what the formal limit loses: the largest of the H weights of each direction i, rows of different length, competition,
saturation, and the noise that goes on decaying. Each direction is learned when its largest weight blows up, at
s ~ 1/(32 log p H), which no coefficient of the expansion shows.
docs/theory/odd_order_and_descent.md part B [YGG26v2].
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.errors import InvalidInput
from lossflow.keys import generator
from lossflow.progress import progress

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

WEIGHTS = 2**15  # followed in all, at least, and
DRAWS = 4  # starts at least
FOLLOWED = 6  # largest weights of each direction whose rows are followed one by one; as many of the other rows stand for the rest
LARGEST = 2**24  # weights of one start
LOOKED_AT = 64  # times at which the loss is taken; others are interpolated
TOLERANCE = 1e-5  # of the integration, relative to weights and to sigma: its root mean square over 10^4 of them hides single ones
OF_LOSS, OF_TARGET = (
    0.75,
    0.002,
)  # the error of the averaging over signs: share OF_LOSS/p of the loss, and of c^2 p/2; see tests


class Averaged(NamedTuple):
    """The mean loss over starts, and one standard error of it: of the starts, and of the averaging over signs."""

    values: Array
    error: Array


def sign_averaged(p: int, H: int, sigma2: float, scale: float, times: Array, seed: int = 0) -> Averaged | None:
    """E L at times >= 0 (NaN at others); None beyond `LARGEST` weights.

    p, H, sigma2: the sizes; scale: c > 0 of the target c * identity; times: a vector; seed: of the starts.
    Against simulations from the same starts: see `tests/expansion/test_limit_descent.py`.
    docs/theory/odd_order_and_descent.md part B [YGG26v2].
    """
    if p * H > LARGEST or p < 2:
        return None
    asked = np.unique(times[times >= 0])
    found = Averaged(np.full(times.shape, np.nan), np.full(times.shape, np.nan))
    if not asked.size:
        return found
    looked = asked[np.unique(np.linspace(0, asked.size - 1, LOOKED_AT).round().astype(int))]
    draws = max(DRAWS, -(-WEIGHTS // (p * min(H, 2 * FOLLOWED * p))))
    runs = []
    with progress(draws, "averaging over signs") as bar:
        for run in range(draws):
            random = generator(seed, run, "sign_average")
            start = math.sqrt(sigma2) * random.normal(size=(H, p))
            runs.append(descended(*thinned(start, random), scale, looked))
            bar.update(1)
    mean, spread = np.mean(runs, axis=0), np.std(runs, axis=0, ddof=1) / math.sqrt(draws)
    error = np.hypot(spread, OF_LOSS / p * mean + OF_TARGET * scale**2 * p / 2)
    ahead = times >= 0
    for array, known in zip(found, (mean, error), strict=True):
        array[ahead] = _between(looked, known, times[ahead])
    return found


def thinned(start: Array, random: np.random.Generator) -> tuple[Array, Array]:
    """Rows of `start` that hold one of the largest weights of a direction, some of the others, and how many each stands for."""
    H = len(start)
    leading = np.unique(np.argpartition(-np.abs(start), min(FOLLOWED, H) - 1, axis=0)[:FOLLOWED])
    rest = np.setdiff1d(np.arange(H), leading)
    if rest.size <= leading.size:
        return start, np.ones(H)
    kept = random.permutation(rest)[: leading.size]
    counts = np.concatenate([np.ones(leading.size), np.full(kept.size, rest.size / kept.size)])
    return start[np.concatenate([leading, kept])], counts


def descended(start: Array, counts: Array, scale: float, times: Array) -> Array:
    """The loss averaged over signs at increasing `times` >= 0, from rows of weights `start` that stand for `counts` each.

    Raises `InvalidInput` where the steps become too short, which a finite start does not do.
    """
    from scipy.integrate import RK45

    u = np.abs(np.asarray(start, np.float64))
    size = math.sqrt(float(np.mean(u**2)))
    found = np.empty(times.shape)
    done = int(np.searchsorted(times, 0.0, side="right"))
    found[:done] = averaged_loss(u, counts, scale)
    if done == times.size:
        return found
    solver = RK45(
        lambda _, y: _force(y.reshape(u.shape), counts, scale).ravel(),
        0.0,
        u.ravel(),
        float(times[-1]),
        rtol=TOLERANCE,
        atol=TOLERANCE * size,
    )
    while done < times.size:
        with np.errstate(over="ignore", invalid="ignore"):  # trial steps beyond all bounds are rejected
            message = solver.step()
        if solver.status == "failed":
            raise InvalidInput(f"the flow averaged over signs stops at t = {solver.t:.6g}: {message}")
        upto = int(np.searchsorted(times, solver.t, side="right")) if solver.status == "running" else times.size
        if upto > done:
            path = solver.dense_output()
            for k in range(done, upto):
                found[k] = averaged_loss(path(times[k]).reshape(u.shape), counts, scale)
            done = upto
    return found


def averaged_loss(u: Array, counts: Array, scale: float) -> float:
    """The mean of L over the signs of the entries of u, as on top of this module; row k stands for counts[k] rows."""
    v = u**2
    squares = v**2
    learned, length, own, others = _sums(v, squares, counts)
    p = v.shape[1]
    rows = length**4 / 2 + 1.5 * p * (p - 1) * others * own - np.sum(squares**2, axis=1) / 2
    return float(np.sum((learned - scale) ** 2) / 2 + counts @ rows)


def _force(u: Array, counts: Array, scale: float) -> Array:
    """-dL/du, for one of the rows that each stands for."""
    v = u**2
    squares = v**2
    learned, length, _, others = _sums(v, squares, counts)
    slope = (2 * (learned - scale))[None, :] - 2 * squares - 6 * others[:, None]
    slope *= v
    slope += (2 * length**3 + 6 * others * length)[:, None]
    slope *= -2 * u
    return slope


def _sums(v: Array, squares: Array, counts: Array) -> tuple[Array, Array, Array, Array]:
    """S_i, q_k, m_k and m - m_k."""
    p = v.shape[1]
    length = v.sum(axis=1)
    own = (length**2 - squares.sum(axis=1)) / (p * (p - 1))
    return counts @ squares, length, own, counts @ own - own


def _between(known: Array, values: Array, times: Array) -> Array:
    from scipy.interpolate import PchipInterpolator

    return np.asarray(PchipInterpolator(known, values)(times) if known.size > 1 else np.full(times.shape, values[0]))


__all__ = ["Averaged", "averaged_loss", "descended", "sign_averaged", "thinned"]
