"""The mean field of a quadratic network against gradient descent with the same teacher and start, pair by pair.

python benchmarks/quadratic_dynamics.py [dimension] [pairs] [last time] [times at which to compare]
"""

from __future__ import annotations

import sys
import time

import numpy as np

from lossflow.meanfield.matrix import matrix_pass
from lossflow.problems.matrix import MatrixProcess
from lossflow.problems.quadratic import QuadraticNetwork
from lossflow.simulate.quadratic_samples import GoeSamples

NETWORK = QuadraticNetwork(alpha=0.3, kappa=0.4, kappa_star=0.3, noise_variance=0.5, weight_decay=0.01)
STEP = 0.02
TIMES = (0.02, 0.1, 0.4, 1.0, 2.0)
ALLOWED = {"mse": 0.015, "loss": 0.04}  # standard errors of the paired mean, up to t = 2
FINE = 0.01  # the step with which the response is left out
BLIND_TIMES, BLIND = (0.01, 0.02, 0.05), (0.14, 0.28, 0.68)  # and by how much the loss is then too large
TENFOLD = 10  # times the loss of descent, which the loss without the response passes before LONG_BLIND
LONG_BLIND, BLIND_PAIRS = 2.0, 4


def descended(
    process: MatrixProcess, samples: GoeSamples, start: np.ndarray, step: float, counts: list[int]
) -> np.ndarray:
    """(mse, loss) after `counts` updates."""
    W, found = start, []
    for k in range(counts[-1] + 1):
        pushed = samples.push(W)
        if k in counts:
            found.append((np.sum((W @ W.T - samples.teacher) ** 2) / len(W), pushed.loss))
        W = W - step * (pushed.force + 2 * process.weight_decay * W)
    return np.array(found)


def ratio_of_means(above: np.ndarray, below: np.ndarray) -> tuple[float, float]:
    """And its jackknife error."""
    n = len(above)
    others = (above.sum() - above) / (below.sum() - below)
    return float(above.sum() / below.sum()), float(np.sqrt((n - 1) * np.var(others)))


def main() -> int:
    """Print the table; 1 if a bound is missed."""
    d, pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 120, int(sys.argv[2]) if len(sys.argv) > 2 else 24
    last = float(sys.argv[3]) if len(sys.argv) > 3 else TIMES[-1]
    times = tuple(map(float, sys.argv[4:])) or (*(t for t in TIMES if t < last), last)
    counts = [round(t / STEP) for t in times]
    fine = [round(t / FINE) for t in BLIND_TIMES]
    process = NETWORK.as_process()
    process = MatrixProcess(process.samples(d) / d**2, *(getattr(process, name) for name in (
        "kappa", "kappa_star", "noise_variance", "weight_decay", "init_variance")))  # fmt: skip
    blind_counts = list(range(round(LONG_BLIND / STEP) + 1))
    gaps, both, blind, long_blind, costs = [], [], [], [], np.zeros(2)
    for run in range(pairs):
        began = time.process_time()
        theory = matrix_pass(process, STEP, counts[-1], d, run=run).values
        costs[0] += time.process_time() - began
        without = matrix_pass(process, FINE, fine[-1], d, run=run, responding=False).values["loss"]
        began = time.process_time()
        teacher = process.teacher(d, run, 0)
        samples = GoeSamples(process.goe(d, run, 0, single=True), process.label_noise(d, run, 0), teacher)
        found = descended(process, samples, process.start(d, run, 0), STEP, counts)
        costs[1] += time.process_time() - began
        loss = descended(process, samples, process.start(d, run, 0), FINE, fine)[:, 1]
        both.append((np.array([theory["mse"][counts], theory["loss"][counts]]).T, found))
        gaps.append(both[-1][0] / found - 1)
        if run < BLIND_PAIRS:
            unheld = matrix_pass(process, STEP, blind_counts[-1], d, run=run, responding=False).values["loss"]
            held = descended(process, samples, process.start(d, run, 0), STEP, blind_counts)[:, 1]
            long_blind.append((unheld, held))
        blind.append(without[fine] / loss - 1)
        print(f"pair {run}: mse {gaps[-1][:, 0].round(4)}, loss {gaps[-1][:, 1].round(4)}", flush=True)
    mean, error = np.mean(gaps, axis=0), np.std(gaps, axis=0, ddof=1) / np.sqrt(pairs)
    missed = 0
    print(
        f"d = {d}, {pairs} pairs; mean field {costs[0] / pairs:.1f} s, descent {costs[1] / pairs:.1f} s of processor time each"
    )
    for j, t in enumerate(times):
        for k, name in enumerate(("mse", "loss")):
            sigma = abs(mean[j, k]) / error[j, k]
            good = sigma <= 3 and (error[j, k] <= ALLOWED[name] or t > TIMES[-1])
            missed += not good
            print(
                f"t = {t:g}, {name}: mean field over descent {100 * mean[j, k]:+.2f} +- {100 * error[j, k]:.2f} % "
                f"({sigma:.1f} sigma): {'met' if good else 'MISSED'}"
            )
    for j, t in enumerate(times):
        if t > TIMES[-1]:  # where single runs differ by their own size, the ratio of the means says more
            for k, name in enumerate(("mse", "loss")):
                ratio, scatter = ratio_of_means(*(np.array([pair[i][j, k] for pair in both]) for i in (0, 1)))
                print(f"t = {t:g}, {name}: ratio of the means {100 * ratio - 100:+.2f} +- {100 * scatter:.2f} %")
    unheld, held = np.mean(long_blind, axis=0)
    first = np.flatnonzero(unheld >= TENFOLD * held)
    missed += not len(first)
    print(
        f"without the response the loss is least at t = {STEP * np.argmin(unheld):g}, "
        + (f"{TENFOLD} times that of descent from t = {STEP * first[0]:g} on, " if len(first) else "")
        + f"{unheld[-1] / held[-1]:.0f} times at t = {LONG_BLIND:g}, where it is {unheld[-1] / unheld.min():.2f} of its least"
    )
    without, scatter = np.mean(blind, axis=0), np.std(blind, axis=0, ddof=1) / np.sqrt(pairs)
    for t, value, err, expected in zip(BLIND_TIMES, without, scatter, BLIND, strict=True):
        print(
            f"t = {t:g}: without the response the loss is {100 * value:+.1f} +- {100 * err:.1f} % off ({100 * expected:g})"
        )
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
