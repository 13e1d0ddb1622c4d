"""How much faster a sweep is on two cores than on one, for points of a fifth of a second and more; on an idle machine.

python benchmarks/sweep.py
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

import lossflow as lf
from lossflow.cores import cores, idle_cores
from lossflow.sweeps import swept

SPEED_UP = 1.7  # asked for, with two workers
LEAST = 0.2  # seconds of a point for which it is asked
POINTS = 2000  # of end states, whose rate is printed
NETWORK = lf.QuadraticNetwork(alpha=0.3, kappa=0.4, kappa_star=0.3, noise_variance=0.5, weight_decay=0.01)
LOGISTIC = lf.GeneralizedLinear(loss=lf.Logistic(), labels=lf.SignLabels(), delta=2.0, weight_decay=0.05)
DESCENT = lf.GradientDescent(step=0.3)
QUESTION = lf.Solve(lf.MeanField(paths=1024, randomizations=8), tuple(DESCENT.times(steps=24)), DESCENT)
CURVES: Mapping[str, Any] = {"delta": np.linspace(0.5, 4, 8), "weight_decay": np.linspace(0.05, 0.5, 5)}


def timed(
    problem: lf.AbstractProblem, grid: Mapping[str, Any], question: lf.AbstractQuestion, workers: int
) -> tuple[Any, float]:
    """The dataset and the seconds on the clock: starting and ending the workers is part of the price."""
    began = time.perf_counter()
    found = swept(problem, grid, question, None, None, workers)
    return found, time.perf_counter() - began


def main() -> int:
    """Print the table; 1 if the speed-up is missed."""
    free = idle_cores()
    if free < 2:
        print(f"{free} of {cores()} cores are idle: two workers will share them, and the speed-up says nothing")
    lf.solve(LOGISTIC, QUESTION.method, QUESTION.times, DESCENT)  # compiled and imported, also for the workers
    began = time.perf_counter()
    lf.solve(LOGISTIC, QUESTION.method, QUESTION.times, DESCENT)
    each = time.perf_counter() - began
    one, alone = timed(LOGISTIC, CURVES, QUESTION, 1)
    two, together = timed(LOGISTIC, CURVES, QUESTION, 2)
    same = one.identical(two)
    points = one.status.size
    ratio = alone / together
    verdict = "met" if ratio >= SPEED_UP and same and each >= LEAST else "MISSED"
    print(
        f"{points} mean-field points of {each:.2f} s ({LEAST} asked for): one worker {alone:.1f} s, two {together:.1f} s; "
        f"speed-up {ratio:.2f}, {SPEED_UP} asked for; {'identical' if same else 'DIFFERENT'}: {verdict}"
    )
    states, seconds = timed(
        NETWORK, {"alpha": np.linspace(0.1, 1, POINTS // 2), "weight_decay": [0.1, 0.5]}, lf.Stationary(), 2
    )
    whole = bool(np.isfinite(states.mse).all())
    print(f"{POINTS} end states, two workers: {seconds:.1f} s, {POINTS / seconds:.0f} a second; all found: {whole}")
    return int(verdict == "MISSED")


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(main())
