"""What an end state of a quadratic network costs: against matrix products, and against nested bracketing with quadrature.

python benchmarks/quadratic.py
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.spectral.slow_route import Route

import lossflow as lf
from lossflow.spectral.long_time import main_states

STATES = 10_000
PRODUCTS = 20  # of 2000 x 2000 matrices: what STATES end states may cost
POINTS = 60  # of a learning curve
FASTER = 1000  # than nested bracketing, which is measured on SAMPLED of the points
SAMPLED = 3
NETWORK = lf.QuadraticNetwork(alpha=0.3, kappa=0.4, kappa_star=0.3, noise_variance=0.5, weight_decay=0.01)


def seconds(work: Callable[[], object], rounds: int = 1) -> float:
    """Processor time of the fastest of `rounds`."""
    found = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def random_settings(count: int) -> np.ndarray:
    """alpha, kappa, kappa_star, noise and weight decay over a decade or two each."""
    random = np.random.default_rng(0)
    low = np.log([0.02, 0.02, 0.02, 1e-2, 2e-4])
    high = np.log([2.0, 2.0, 2.0, 10.0, 2.0])
    settings = np.exp(random.uniform(low, high, (count, 5)))
    settings[random.random(count) < 0.3, 3] = 0.0
    return settings


def main() -> int:
    """Print the table; 1 if a bound is missed."""
    missed = 0
    main_states(random_settings(1000))  # compiled, or fetched from the cache
    matrix = np.random.default_rng(0).standard_normal((2000, 2000))
    product = seconds(lambda: matrix @ matrix, 3)
    states = seconds(lambda: main_states(random_settings(STATES)))
    verdict = "met" if states <= PRODUCTS * product else "MISSED"
    missed += verdict == "MISSED"
    print(
        f"{STATES} end states: {states:.2f} s, {1e3 * states / STATES:.3f} ms each, {states / product:.1f} products of "
        f"2000 x 2000 ({product:.3f} s each), {PRODUCTS} allowed: {verdict}"
    )
    alphas = np.linspace(0.1, 0.6, POINTS)
    lf.learning_curve(NETWORK, "alpha", alphas)
    curve = seconds(lambda: lf.learning_curve(NETWORK, "alpha", alphas), 5)
    bracketing, worst = 0.0, 0.0
    for alpha in alphas[:: POINTS // SAMPLED]:
        network = replace(NETWORK, alpha=float(alpha))
        mse = lf.stationary(network).values["mse"]
        # as published: numpy's roots with a small imaginary shift, adaptive quadrature, tolerances 1e-4
        route = Route(network.alpha, network.kappa, network.kappa_star, 0.5, 0.01, shift=1e-6, tolerance=1e-4)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = []
            bracketing += seconds(lambda route=route, found=found: found.append(route.solve(0.05, 1e3)))
        worst = max(worst, abs(found[0].mse / mse - 1))
    ratio = bracketing / SAMPLED * POINTS / curve
    verdict = "met" if ratio >= FASTER else "MISSED"
    missed += verdict == "MISSED"
    print(
        f"{POINTS}-point curve: {curve:.3f} s; nested bracketing {bracketing / SAMPLED:.1f} s for each alpha "
        f"({SAMPLED} measured, mse off by up to {worst:.0e}); ratio {ratio:.0f}, {FASTER} asked for: {verdict}"
    )
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
