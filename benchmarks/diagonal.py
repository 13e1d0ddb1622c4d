"""What end states of diagonal networks cost: a phase diagram of 1000 points against products of 2000 x 2000 matrices, in one run.

python benchmarks/diagonal.py
"""

from __future__ import annotations

import os

for threads in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ[threads] = "1"  # before numpy is imported: one core for both sides

import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterable  # noqa: E402

import numpy as np  # noqa: E402

import lossflow as lf  # noqa: E402
from lossflow.problems.priors import GaussianPrior, PositiveSparse  # noqa: E402

PRODUCTS = 75  # what 1000 points may cost
POINTS = 1000


def seconds(work: Callable[[], object]) -> float:
    """Processor time."""
    began = time.process_time()
    work()
    return time.process_time() - began


def plane(noise: float, scale: float) -> list[lf.DiagonalLinear]:
    """The plane of delta and density at one scale: 40 x 25 cold starts."""
    axes = np.linspace(0.02, 0.98, 40), np.linspace(0.02, 0.98, 25)
    init = lf.SymmetricInit(scale)
    return [lf.DiagonalLinear(float(x), lf.RademacherSparse(float(y)), noise, init) for x in axes[0] for y in axes[1]]


def scattered() -> list[lf.DiagonalLinear]:
    """Points at random over priors, noise, delta and kappa from 1e-30 to 1e6."""
    random = np.random.default_rng(0)
    priors = [lf.RademacherSparse(0.1), lf.BernoulliGaussian(0.2), GaussianPrior(), PositiveSparse(0.3)]
    return [
        lf.DiagonalLinear(
            random.uniform(0.05, 0.95),
            priors[random.integers(4)],
            float(random.choice([0.0, 0.01, 0.25])),
            lf.SymmetricInit(10 ** random.uniform(-15, 3)),
        )
        for _ in range(POINTS)
    ]


def penalized() -> list[lf.DiagonalLinear]:
    """LASSO over delta and weight decay."""
    return [
        lf.DiagonalLinear(float(x), lf.BernoulliGaussian(0.2), 0.04, weight_decay=float(y))
        for x in np.linspace(0.1, 2, 40)
        for y in np.geomspace(1e-3, 1, 25)
    ]


def solve(problems: Iterable[lf.DiagonalLinear]) -> None:
    """All end states, each from a cold start."""
    for problem in problems:
        assert lf.stationary(problem).status


def main() -> int:
    """Print the table; 1 if a phase diagram costs more than it may."""
    A = np.random.default_rng(0).standard_normal((2000, 2000))
    product = min(seconds(lambda: A @ A) for _ in range(5))
    print(f"one product of 2000 x 2000: {product:.3f} s")
    missed = 0
    cases = {
        "delta-density plane, sigma 0.3, scale 0.1": plane(0.09, 0.1),
        "delta-density plane, no noise, scale 1e-3": plane(0.0, 1e-3),
        "priors, noise, kappa 1e-30 .. 1e6": scattered(),
        "LASSO": penalized(),
    }
    solve(cases["LASSO"][:1])  # imports
    for name, problems in cases.items():
        cost = seconds(lambda problems=problems: solve(problems)) * POINTS / len(problems)
        verdict = "met" if cost <= PRODUCTS * product else "MISSED"
        missed += verdict == "MISSED"
        print(f"{name:<44}{cost:7.2f} s  {cost / product:6.1f} products, {PRODUCTS} allowed  {verdict}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
