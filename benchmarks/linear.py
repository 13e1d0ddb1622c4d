"""What the closed case costs: the causal pass, the spectral solution, flows, the online limit and end states, in matrix products.

python benchmarks/linear.py

CPU seconds over those of a product of two 2000 x 2000 matrices in the same run, and what the last of them promise.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

import lossflow as lf
from lossflow.meanfield import linear, volterra
from lossflow.meanfield.volterra import Regression

RIDGE = lf.GeneralizedLinear(loss=lf.Square(), labels=lf.LinearLabels(0.25), delta=2.0, weight_decay=0.05)
LOGISTIC = lf.GeneralizedLinear(loss=lf.Logistic(), labels=lf.SignLabels(), delta=2.0, weight_decay=0.05)
COMMITTEE = lf.TwoLayer(2, 2, lf.Erf(), delta=math.inf, noise_variance=0.01, init_overlap=((0.2, 0.0), (0.0, 0.1)))
NUMBERS = Regression(2.0, 0.05, 0.25, 1.0, 0.0, 1.0)


def seconds(work: Callable[[], object], rounds: int = 3) -> float:
    """The least CPU time of several."""
    found = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def cases() -> dict[str, tuple[Callable[[], object], float]]:
    """name -> (work, the products it may cost)."""
    step, kick = 0.1, 0.05
    hot = lf.StochasticGradientFlow(0.5)
    flow = np.geomspace(0.01, 1e3, 50)
    return {
        "causal pass, 100 updates": (lambda: linear.equations(NUMBERS, step, kick, 100), 0.2),
        "causal pass, 800 updates": (lambda: linear.equations(NUMBERS, step, kick, 800), 5.0),
        "causal pass, 1600 updates": (lambda: linear.equations(NUMBERS, step, kick, 1600), 30.0),
        "spectral solution, 10000 updates": (
            lambda: volterra.descent(NUMBERS, step, kick, np.arange(0, 10001, 100)),
            5.0,
        ),
        "stochastic flow, 50 times to 1000": (lambda: lf.solve(RIDGE, lf.MeanField(), flow, hot), 4.0),
        "gradient flow, 50 times to 1000": (lambda: lf.solve(RIDGE, lf.MeanField(), flow), 1.0),
        "online committee to t = 10": (lambda: lf.solve(COMMITTEE, lf.Online(), np.linspace(0, 10, 11), hot), 6.0),
        "end state, logistic": (lambda: lf.stationary(LOGISTIC), 4.0),
        "end state, ridge": (lambda: lf.stationary(RIDGE), 0.1),
    }


def main() -> int:
    """Print the table; 1 if something costs more than it may."""
    missed = 0
    with threadpool_limits(1):
        matrix = np.random.default_rng(0).standard_normal((2000, 2000))
        unit = seconds(lambda: matrix @ matrix)
        print(f"one product of 2000 x 2000 matrices: {unit:.3f} s")
        for name, (work, allowed) in cases().items():
            used = seconds(work, 2)
            verdict = "met" if used <= allowed * unit else "MISSED"
            missed += verdict == "MISSED"
            print(f"{name:<38}{used:9.4f} s{used / unit:9.3f} products, {allowed:g} allowed  {verdict}")
        times = [seconds(lambda K=K: linear.equations(NUMBERS, 0.1, 0.05, K), 1) for K in (600, 1200)]
        print(f"the causal pass grows like updates^{math.log2(times[1] / times[0]):.2f}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
