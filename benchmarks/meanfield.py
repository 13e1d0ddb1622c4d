"""What a mean-field solution costs: CPU time in products of two 2000 x 2000 matrices, memory, and how both grow.

python benchmarks/meanfield.py          the table (minutes)
python benchmarks/meanfield.py NAME     some of its rows
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1")  # before numpy is imported

import numpy as np

from lossflow.dynamics import SGD, AbstractDynamics, GradientDescent, StochasticGradientFlow
from lossflow.meanfield.method import MeanField
from lossflow.meanfield.row import Plan, RowPass
from lossflow.method import solve
from lossflow.problem import AbstractProblem
from lossflow.problems.glm import GeneralizedLinear
from lossflow.problems.labels import SignLabels
from lossflow.problems.losses import Logistic
from lossflow.problems.softmax import Softmax
from lossflow.problems.two_layer import Erf, TwoLayer

SIZE = 2000  # of the matrices whose product is the unit of time
LOGISTIC = GeneralizedLinear(Logistic(), SignLabels(), delta=2.0, weight_decay=0.05)
COMMITTEE = TwoLayer(
    hidden=2,
    teacher_hidden=2,
    activation=Erf(),
    delta=3.0,
    weight_decay=0.02,
    noise_variance=0.01,
    readout=(0.5, 0.5),
    teacher_readout=(0.5, 0.5),
    init_covariance=((1.0, 0.3), (0.3, 1.0)),
    init_overlap=((0.2, 0.0), (0.0, 0.1)),
)


@dataclass(frozen=True)
class Case:
    """A solution, what it may cost in products and megabytes, and the largest uncertainty allowed, relative to values above
    one: of loss, test loss and overlap, and of everything else."""

    problem: AbstractProblem
    dynamics: AbstractDynamics
    steps: int
    paths: int
    products: float
    megabytes: float
    uncertainty: float
    others: float


CASES = {
    "logistic-gd": Case(LOGISTIC, GradientDescent(0.25), 100, 8192, 12, 500, 1e-4, 1e-3),
    "logistic-sgf": Case(LOGISTIC, StochasticGradientFlow(1.0, 0.25), 100, 16384, 170, 1000, 3e-4, 3e-3),
    "logistic-sgd": Case(LOGISTIC, SGD(0.25, 0.1), 100, 16384, 170, 1000, 3e-4, 3e-3),
    "committee-2": Case(COMMITTEE, GradientDescent(0.5), 80, 8192, 110, 1000, 3e-3, 3e-3),
    "softmax-3": Case(Softmax(3, 3.0, 0.1, 2.0, 0.5), GradientDescent(1.0), 80, 8192, 110, 1000, 3e-3, 3e-3),
    "softmax-4": Case(Softmax(4, 3.0, 0.1, 2.0, 0.5), GradientDescent(1.0), 80, 32768, 110, 1000, 3e-3, 3e-3),
    "committee-4": Case(
        TwoLayer(4, 2, Erf(), 3.0, 0.02, 0.01, init_overlap=((0.2, 0.0), (0.0, 0.1), (0.1, 0.1), (0.0, 0.2))),
        GradientDescent(0.1),
        80,
        8192,
        110,
        1000,
        3e-3,
        3e-3,
    ),
    "logistic-1000": Case(LOGISTIC, GradientDescent(0.25), 1000, 4096, 670, 2000, 1e-2, 2e-2),
}
PRINCIPAL = ("loss", "test_loss", "overlap")


def product() -> float:
    """CPU seconds of one product of two matrices, the shortest of three."""
    a = np.random.default_rng(0).random((SIZE, SIZE))
    seconds = []
    for _ in range(4):
        began = time.process_time()
        np.matmul(a, a)
        seconds.append(time.process_time() - began)
    return min(seconds[1:])


def measure(name: str) -> bool:
    """Solve one case in this process, print its row; whether it stays within all that is allowed."""
    case = CASES[name]
    small = GradientDescent(case.dynamics.step or 0.1)
    solve(case.problem, MeanField(paths=64), small.times(2), small)  # compiles
    unit = product()
    began = time.process_time()
    found = solve(
        case.problem, MeanField(paths=case.paths), case.dynamics.times(case.steps, case.steps // 10), case.dynamics
    )
    seconds = time.process_time() - began
    unit = min(unit, product())
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    errors = {k: float(v.max() / max(1.0, np.abs(found.values[k]).max())) for k, v in found.uncertainty.items()}
    principal = max(errors[k] for k in PRINCIPAL)
    others = max(errors.values())
    met = seconds / unit <= case.products and megabytes <= case.megabytes
    met = met and principal <= case.uncertainty and others <= case.others
    verdict = "met" if met else "MISSED"
    print(
        f"{name:<15}{case.steps:>6}{case.paths:>7}{found.details['tangents']:>9}{seconds:>8.1f}{seconds / unit:>9.1f}"
        f"{case.products:>9g}{megabytes:>7.0f}{case.megabytes:>7g}{principal:>10.1e}{others:>10.1e}  {verdict}",
        flush=True,
    )
    return met


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Of a power law fitted to the times."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def one_pass(steps: int, paths: int, tangents: int) -> float:
    """CPU seconds of one pass of logistic descent."""
    process = LOGISTIC.as_process()
    seconds = []
    for _ in range(2):
        began = time.process_time()
        records = np.array([steps])
        RowPass(process, GradientDescent(0.1), np.full(steps, 0.1), records, Plan(paths, tangents), 0, 0).run()
        seconds.append(time.process_time() - began)
    return min(seconds)


def growth() -> None:
    """Fitted exponents of the time of one pass."""
    steps, paths = [50, 100, 200, 400], [2048, 4096, 8192, 16384]
    rows = (
        ("steps, exact tangents", exponent(steps, [one_pass(K, 2048, 2048) for K in steps])),
        ("steps, probes", exponent(steps, [one_pass(K, 8192, 0) for K in steps])),
        ("paths, exact tangents", exponent(paths, [one_pass(100, M, M) for M in paths])),
        ("paths, probes", exponent(paths, [one_pass(100, M, 0) for M in paths])),
    )
    for name, power in rows:
        print(f"time of one pass ~ power of {name:<24}{power:6.2f}")


def main(names: list[str]) -> int:
    """Print the table, every row by a process of its own, whose memory is then that of the row; 1 if one is missed."""
    if len(names) == 1:
        return int(not measure(names[0]))
    print(
        f"{'':<15}{'steps':>6}{'paths':>7}{'tangents':>9}{'CPU s':>8}{'products':>9}{'allowed':>9}{'MB':>7}{'of':>7}"
        f"{'error':>10}{'others':>10}",
        flush=True,
    )
    missed = sum(subprocess.run([sys.executable, Path(__file__), name]).returncode != 0 for name in names or CASES)
    if not names:
        growth()
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
