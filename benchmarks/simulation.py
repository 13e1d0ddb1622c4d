"""What the simulation owes to contraction orders and to batches, as ratios measured in one run.

    python benchmarks/simulation.py

gradient: order 4, p = 64, H = 256, against the direct way, which builds f and the residual with p^4 entries (by matrix
products, so at the full speed of the machine). batches: whole simulations of order 4, p = H = 64, 16 runs in one call
against 8 calls of one run. checkpoint: the share of the time that goes into saved states.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

import lossflow as lf
from lossflow.checkpoint import Checkpoint
from lossflow.simulate.evaluation import Evaluator
from lossflow.simulate.gradients import Program

Array = npt.NDArray[np.float64]

QUARTIC = lf.CPDecomposition(order=4)
SQUARE = {"p": 64, "H": 64, "sigma2": 0.01}
WIDE = {"p": 64, "H": 256, "sigma2": 0.005}
TIMES = np.linspace(0, 1, 21)


class Ratio(NamedTuple):
    """Two times in seconds, the smaller expected first, and what their quotient must reach."""

    name: str
    slow: float
    fast: float
    needed: float

    def line(self) -> str:
        ratio = self.slow / self.fast
        verdict = "met" if ratio >= self.needed else "MISSED"
        return f"{self.name:<58}{self.slow:>10.4f}{self.fast:>10.4f}{ratio:>10.1f}{self.needed:>8.1f}  {verdict}"


def direct_gradient(u: Array) -> Array:
    """dL/du of L = 1/2 |f - F|^2 with f and the residual in full: p^4 entries each."""
    H, p = u.shape
    pairs = np.einsum("ka,kb->kab", u, u).reshape(H, p * p)
    residual = (pairs.T @ pairs).reshape(p, p, p, p)
    residual[(np.arange(p),) * 4] -= 1
    halves = np.einsum("ka,kb->kab", u, u).reshape(H, p * p) @ residual.reshape(p * p, p * p)
    return 4 * np.einsum("kab,kb->ka", halves.reshape(H, p, p), u)


def prepared_gradient() -> tuple[Evaluator, Array]:
    """The planned gradient of one run, and the weights it is evaluated at."""
    u = QUARTIC.as_sample(WIDE, 0, 0)["u"]
    evaluator = Evaluator(Program(QUARTIC.as_diagrams(), WIDE).gradient, 1)
    evaluator.state[0] = u.ravel()
    evaluator.run(1)
    return evaluator, u


def batched() -> None:
    """16 runs in one call."""
    lf.solve(QUARTIC, lf.Simulation(SQUARE, runs=16), TIMES)


def separate() -> None:
    """8 calls of one run."""
    for seed in range(8):
        lf.solve(QUARTIC, lf.Simulation(SQUARE, runs=1, seed=seed), TIMES)


def fastest(*works: Callable[[], object], rounds: int = 5) -> list[float]:
    """The shortest of several times of each, taken in turns: what the machine does besides hits all alike."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, found in zip(works, times, strict=True):
            began = time.perf_counter()
            work()
            found.append(time.perf_counter() - began)
    return [min(found) for found in times]


def gradient_ratio() -> Ratio:
    evaluator, u = prepared_gradient()
    with threadpool_limits(1, "blas"):
        direct, planned = fastest(lambda: direct_gradient(u), lambda: [evaluator.run(1) for _ in range(20)], rounds=3)
        error = np.abs(evaluator.result.reshape(u.shape) - direct_gradient(u)).max()
    assert error < 1e-10, "the two gradients disagree"
    return Ratio("gradient, order 4, p = 64, H = 256: direct / planned", direct, planned / 20, 100)


def batch_ratio() -> Ratio:
    batched()
    one_by_one, together = fastest(separate, batched, rounds=7)
    return Ratio("simulation, order 4, p = H = 64: 8 separate / 16 batched", one_by_one, together, 1)


def checkpoint_share() -> str:
    """Saving ten times as often as by default, into a folder of its own: an upper bound of what it costs."""
    problem, method, spent = QUARTIC, lf.Simulation(WIDE, runs=16), 0.0
    original, interval = Checkpoint.save, Checkpoint.interval

    def save(self: Checkpoint, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        nonlocal spent
        began = time.perf_counter()
        original(self, arrays)
        spent += time.perf_counter() - began

    Checkpoint.save, Checkpoint.interval = save, interval / 10
    try:
        began = time.perf_counter()
        lf.solve(problem, method, [0.5])
        total = time.perf_counter() - began
    finally:
        Checkpoint.save, Checkpoint.interval = original, interval
    return f"saved every {interval / 10:g} s: {spent:.3f} s of {total:.1f} s, {spent / total:.2%}"


def main() -> int:
    """Print the table; 1 if a ratio falls short."""
    print(f"{'seconds':>68}{'':>10}{'ratio':>10}{'needed':>8}")
    ratios = [gradient_ratio(), batch_ratio()]
    for ratio in ratios:
        print(ratio.line())
    print(checkpoint_share())
    return int(any(ratio.slow < ratio.needed * ratio.fast for ratio in ratios))


if __name__ == "__main__":
    import os

    with tempfile.TemporaryDirectory() as folder:
        os.environ["LOSSFLOW_CACHE"] = folder
        sys.exit(main())
