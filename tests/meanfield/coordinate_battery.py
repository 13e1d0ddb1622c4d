"""The mean field of diagonal networks against simulations at three sizes, extrapolated in 1/d: all chosen before it was computed.

Of each setting four numbers are compared: loss and second moment early, loss and squared error late. How nearly independent
they are is in the table, which keeps the value of every run.

python tests/meanfield/coordinate_battery.py     computes what coordinate_battery.json lacks and prints a summary
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1")

import numpy as np

from lossflow.meanfield.coordinate import FORMAT
from lossflow.meanfield.method import MeanField
from lossflow.method import solve
from lossflow.problems.diagonal import (
    AbstractInit,
    BalancedDiagonal,
    DiagonalLinear,
    GeneralInit,
    NonNegativeInit,
    SymmetricInit,
)
from lossflow.problems.priors import (
    AbstractPrior,
    AtomicPrior,
    BernoulliGaussian,
    GaussianPrior,
    PositiveSparse,
    RademacherSparse,
)
from lossflow.simulate.method import Simulation

Array = np.ndarray
Row = dict[str, Any]
TABLE = Path(__file__).with_suffix(".json")
RUNS = {500: 32, 1000: 16, 2000: 8}  # by d: the same number of coordinates at each
PATHS, RESOLUTION, RANDOMIZATIONS, TOLERANCE = 2048, 40, 5, 1e-5
THEORY_SEED, SIMULATION_SEED = 1000, 2000  # plus the number of the setting; simulations also add d
NUMBERS = (("loss", 0), ("l2", 0), ("loss", 1), ("mse", 1))  # observable, place of the time


@dataclass(frozen=True)
class Setting:
    """times: an early and a late one."""

    name: str
    problem: DiagonalLinear
    times: tuple[float, float]


def _setting(
    name: str,
    prior: AbstractPrior,
    delta: float,
    sigma: float,
    init: AbstractInit | float,
    last: float,
    decay: float = 0.0,
) -> Setting:
    """init: kappa of a symmetric one, or another; the early time is a sixth of the last."""
    start = SymmetricInit(math.sqrt(init)) if isinstance(init, float) else init
    return Setting(name, DiagonalLinear(delta, prior, sigma**2, start, decay), (last / 6, last))


SETTINGS = (
    _setting("sparse-unit", RademacherSparse(0.1), 0.5, 0.1, 1.0, 3.0),
    _setting("sparse-medium", RademacherSparse(0.1), 0.5, 0.1, 0.1, 6.0),
    _setting("sparse-small", RademacherSparse(0.1), 0.5, 0.1, 1e-3, 5.0),
    _setting("sparse-noisy", RademacherSparse(0.2), 0.4, 0.3, 0.1, 6.0),
    _setting("bernoulli-gaussian", BernoulliGaussian(0.2), 0.5, 0.2, 0.3, 3.0),
    _setting("gaussian", GaussianPrior(), 0.5, 0.3, 0.5, 3.0),
    _setting("gaussian-small", GaussianPrior(), 0.7, 0.1, 0.05, 4.0),
    _setting("gaussian-many", GaussianPrior(0.5), 1.25, 0.3, 0.2, 4.0),
    _setting("positive", PositiveSparse(0.2), 0.4, 0.1, NonNegativeInit(0.4), 5.0),
    _setting("sparse-decay", RademacherSparse(0.3), 0.6, 0.0, 1.0, 6.0, 0.1),
    _setting("gaussian-decay", GaussianPrior(), 0.5, 0.3, 0.5, 5.0, 0.3),
    _setting("general-decay", GaussianPrior(0.5), 0.5, 0.2, GeneralInit(0.9, -0.4), 4.0, 0.05),
    _setting("atoms", AtomicPrior((0.0, 1.0, -2.0), (0.6, 0.3, 0.1)), 0.5, 0.2, GeneralInit(0.6, 0.2), 4.0),
    _setting("large-decay", RademacherSparse(0.1), 0.3, 0.1, 2.0, 6.0, 0.2),
    _setting("half-many", BernoulliGaussian(0.5), 1.25, 0.1, 0.05, 3.0),
    _setting("dense-tiny", RademacherSparse(0.5), 0.8, 0.2, 1e-4, 5.0),
)


def simulated(number: int) -> Row:
    """The row of a setting: what was asked, and the value of every run at every d."""
    setting = SETTINGS[number]
    row: Row = {"name": setting.name, "asked": described(setting), "simulation_seed": SIMULATION_SEED + number}
    row["runs"] = {}
    for d, runs in RUNS.items():
        method = Simulation({"d": d}, runs, SIMULATION_SEED + number + d, tolerance=TOLERANCE)
        found = solve(BalancedDiagonal.of(setting.problem), method, np.array(setting.times)).details["runs"]
        row["runs"][str(d)] = [[_short(value) for value in found[name][:, place]] for name, place in NUMBERS]
    return row


def predicted(number: int) -> Row:
    """What theory says of it, with its uncertainty."""
    setting = SETTINGS[number]
    method = MeanField(PATHS, RESOLUTION, RANDOMIZATIONS, seed=THEORY_SEED + number)
    theory = solve(setting.problem, method, np.array(setting.times))
    return {
        "theory_seed": THEORY_SEED + number,
        "format": FORMAT,
        "paths": PATHS,
        "theory": [_short(theory.values[name][place]) for name, place in NUMBERS],
        "uncertainty": [_short(theory.uncertainty[name][place]) for name, place in NUMBERS],
    }


def described(setting: Setting) -> str:
    return f"{setting.problem!r} {setting.times}"


def _short(value: Any) -> float:
    return float(f"{float(value):.9g}")


def extrapolated(row: Row) -> tuple[Array, Array]:
    """a + b/d fitted to the runs, whose variance is v/d: a of each number, and its standard error from the scatter about the fit,
    widened so that a deviation in its unit has the mean square one (Student).
    """
    sizes = np.concatenate([np.full(len(runs[0]), float(d)) for d, runs in row["runs"].items()])
    values = np.concatenate([np.array(runs) for runs in row["runs"].values()], axis=1)
    design = np.sqrt(sizes)[:, None] * np.stack([np.ones_like(sizes), 1 / sizes], axis=1)
    fit, *_ = np.linalg.lstsq(design, (np.sqrt(sizes) * values).T)
    left = np.sqrt(sizes)[:, None] * values.T - design @ fit
    free = len(sizes) - 2
    variance = (left**2).sum(axis=0) / free * np.linalg.inv(design.T @ design)[0, 0]
    return fit[0], np.sqrt(variance * free / (free - 2))


def deviations(row: Row, factor: float = 1.0) -> Array:
    """Theory times `factor` less simulation, in units such that their mean square is one if both are right."""
    limit, error = extrapolated(row)
    return (factor * np.array(row["theory"]) - limit) / np.hypot(error, factor * np.array(row["uncertainty"]))


def independent(row: Row) -> float:
    """How many of the four fluctuate independently:  (tr c)^2/tr c^2  of their correlations between runs of the smallest size."""
    correlations = np.corrcoef(next(iter(row["runs"].values())))
    return float(np.trace(correlations) ** 2 / np.sum(correlations**2))


def summary(rows: Sequence[Row], factor: float = 1.0) -> tuple[int, float, float, float]:
    """How many deviations, how many independent ones, their root mean square, and the largest."""
    every = np.concatenate([deviations(row, factor) for row in rows])
    count = sum(independent(row) for row in rows)
    return len(every), count, float(np.sqrt(np.mean(every**2))), float(np.abs(every).max())


def table() -> list[Row]:
    """What has been computed."""
    return json.loads(TABLE.read_text()) if TABLE.exists() else []


def main() -> int:
    """Compute what the table lacks, simulations first; whatever was done is kept when interrupted."""
    known = {row["asked"]: row for row in table()}
    for half in (simulated, predicted):
        for number, setting in enumerate(SETTINGS):
            row = known.setdefault(described(setting), {})
            if "runs" not in row if half is simulated else row.get("format") != FORMAT:
                began = time.process_time()
                row |= half(number)
                print(f"{half.__name__:<12}{setting.name:<22}{time.process_time() - began:8.1f} s", flush=True)
                TABLE.write_text(json.dumps(list(known.values())).replace("}, {", "},\n{") + "\n")
    rows = [known[described(setting)] for setting in SETTINGS]
    for row in rows:
        values = "".join(f"{value:8.2f}" for value in deviations(row))
        print(f"{row['name']:<22}{values}{independent(row):8.2f}")
    for factor in (1.0, 1.01, 0.99):
        print(
            "theory times {:g}: {} deviations, {:.0f} independent, rms {:.2f}, largest {:.2f}".format(
                factor, *summary(rows, factor)
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
