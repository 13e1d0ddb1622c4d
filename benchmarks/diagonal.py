"""What diagonal networks cost in products of 2000 x 2000 matrices: end states of 1000 points; the mean field in time, its errors.

python benchmarks/diagonal.py                both
python benchmarks/diagonal.py end-states
python benchmarks/diagonal.py dynamics [0-4]   the mean field up to T = 10, grokking up to 3000; with a number: that case alone
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


def unit() -> float:
    """Seconds of one product of 2000 x 2000 matrices."""
    A = np.random.default_rng(0).standard_normal((2000, 2000))
    product = min(seconds(lambda: A @ A) for _ in range(5))
    print(f"one product of 2000 x 2000: {product:.3f} s", flush=True)
    return product


def in_time() -> dict[str, tuple[lf.DiagonalLinear, float, lf.MeanField, tuple[float, float, float]]]:
    """Problem, last time, method; allowed: products, relative errors of mse and loss (inf: judged by a figure)."""

    def network(prior: lf.AbstractPrior, kappa: float, decay: float = 0.0) -> lf.DiagonalLinear:
        return lf.DiagonalLinear(0.5, prior, 0.01, lf.SymmetricInit(kappa**0.5), decay)

    gaussian, sparse = GaussianPrior(), lf.RademacherSparse(0.1)
    return {
        "Gaussian, kappa 0.1": (network(gaussian, 0.1), 10.0, lf.MeanField(32768, 88), (110, 0.001, 0.005)),
        "Gaussian, kappa 1e-3": (network(gaussian, 1e-3), 10.0, lf.MeanField(32768, 88), (110, 0.001, 0.005)),
        "sparse, kappa 0.1": (network(sparse, 0.1), 10.0, lf.MeanField(32768, 88), (110, 0.003, 0.01)),
        "sparse, kappa 1e-3": (network(sparse, 1e-3), 10.0, lf.MeanField(32768, 88), (110, 0.003, 0.01)),
        "grokking": (network(sparse, 100.0, 0.01), 3000.0, lf.MeanField(), (670, np.inf, np.inf)),
    }


def dynamics(product: float, only: str = "") -> int:
    """Print cost and largest stated relative error of every case, or of one; how many miss what is asked for."""
    missed = 0
    for number, (name, (problem, last, method, allowed)) in enumerate(in_time().items()):
        if only and int(only) != number:
            continue
        times = np.geomspace(1e-3 * last, last, 16)
        began = time.process_time()
        found = lf.solve(problem, method, times)
        cost = (time.process_time() - began) / product
        errors = [float(np.max(found.uncertainty[key] / found.values[key])) for key in ("mse", "loss")]
        met = bool(found.status) and cost <= allowed[0] and errors[0] <= allowed[1] and errors[1] <= allowed[2]
        missed += not met
        print(
            f"{name:<24}{cost:6.0f} products ({allowed[0]}), errors of mse {100 * errors[0]:.2f}% "
            f"({100 * allowed[1]:.1f}%), of loss {100 * errors[1]:.2f}% ({100 * allowed[2]:.1f}%), {found.details['rows']} rows, "
            f"{'/'.join(map(str, found.details['paths']))} paths  {'met' if met else 'MISSED'}",
            flush=True,
        )
    return missed


def main() -> int:
    """Print the tables; 1 if something costs more, or is known less well, than it may."""
    part, only = [*sys.argv[1:], "", ""][:2]
    product, missed = unit(), 0
    if part != "dynamics":
        missed += end_states(product)
    if part != "end-states":
        missed += dynamics(product, only)
    return int(missed > 0)


def end_states(product: float) -> int:
    """Print the cost of phase diagrams; how many cost more than they may."""
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
        print(f"{name:<44}{cost:7.2f} s  {cost / product:6.1f} products, {PRODUCTS} allowed  {verdict}", flush=True)
    return missed


if __name__ == "__main__":
    sys.exit(main())
