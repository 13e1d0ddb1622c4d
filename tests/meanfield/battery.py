"""Mean-field theory against simulations: settings, sizes, seeds and observables, chosen before any of them was computed.

Of each setting three numbers are compared: of the weights early, of the samples late, and of the direction late. Their
fluctuations between runs are nearly independent; how nearly is in the table, which keeps the value of every run.

python tests/meanfield/battery.py [NAME ...]    computes what battery.json lacks (a fresh table takes half an hour) and prints a
summary. A setting that takes longer than LIMIT stays in the table without numbers, with that reason.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1", LOSSFLOW_THREADS="1")

import numpy as np

from lossflow.dynamics import (
    SGD,
    AbstractDynamics,
    GradientDescent,
    GradientFlow,
    PoissonSGD,
    StochasticGradientFlow,
)
from lossflow.meanfield.method import MeanField
from lossflow.method import solve
from lossflow.problem import AbstractProblem
from lossflow.problems.glm import GeneralizedLinear
from lossflow.problems.labels import CubicNoiseLabels, LinearLabels, LogitLabels, NoiseLabels, SignLabels, SquaredLabels
from lossflow.problems.losses import Huber, Logistic, PhaseRetrieval, SmoothHinge, Square
from lossflow.problems.penalties import L1
from lossflow.problems.row import AbstractPenalty
from lossflow.problems.softmax import Softmax
from lossflow.problems.two_layer import Erf, TwoLayer
from lossflow.simulate.method import Simulation

Array = np.ndarray
Row = dict[str, Any]
TABLE = Path(__file__).with_suffix(".json")
LIMIT = 900  # CPU seconds for one setting
DIMENSION, RUNS, PATHS = 1500, 20, 8192
THEORY_SEED, SIMULATION_SEED = 100, 200  # plus the number of the setting


@dataclass(frozen=True, repr=False)
class LogCosh(AbstractPenalty):
    """strength log cosh(3 theta)/3: a smooth relative of the absolute value."""

    strength: float
    smooth = True

    def value(self, theta: Array) -> Array:
        return self.strength * np.log(np.cosh(3 * theta)) / 3

    def force(self, theta: Array) -> Array:
        return self.strength * np.tanh(3 * theta)

    def curvature(self, theta: Array) -> Array:
        return 3 * self.strength / np.cosh(3 * theta) ** 2


@dataclass(frozen=True)
class Setting:
    """times: an early and a late one; observables: one for the early time and two for the late one, entry [0, 0] of matrices."""

    name: str
    problem: AbstractProblem
    dynamics: AbstractDynamics
    times: tuple[float, float]
    observables: tuple[str, str, str] = ("norm", "loss", "overlap")

    def described(self) -> str:
        return f"{self.problem!r} {self.dynamics!r} {self.times} {self.observables}"


def _glm(loss: Any, labels: Any, delta: float, **options: Any) -> GeneralizedLinear:
    return GeneralizedLinear(loss, labels, delta, **options)


ERRORS = ("norm", "train_error", "overlap")
FRESH = ("norm", "loss", "test_loss")
SETTINGS = (
    # logistic
    Setting("sign-gd", _glm(Logistic(), SignLabels(), 2.0, weight_decay=0.05), GradientDescent(0.5), (2.0, 15.0)),
    Setting("sign-flow", _glm(Logistic(), SignLabels(), 1.5, weight_decay=0.1), GradientFlow(), (1.5, 10.0), ERRORS),
    Setting(
        "sign-sgf", _glm(Logistic(), SignLabels(), 2.0, weight_decay=0.05), StochasticGradientFlow(1.0), (1.0, 6.0)
    ),
    Setting(
        "logit-flow", _glm(Logistic(), LogitLabels(2.0), 2.5, weight_decay=0.02), GradientFlow(), (1.0, 8.0), FRESH
    ),
    Setting(
        "logit-sgd", _glm(Logistic(), LogitLabels(2.0), 2.0, weight_decay=0.05), SGD(0.5, 0.2), (2.0, 15.0), ERRORS
    ),
    Setting(
        "logit-poisson-step",
        _glm(Logistic(), LogitLabels(1.0), 3.0),
        PoissonSGD(2.0, 0.25),
        (1.0, 8.0),
        ("norm", "loss", "overlap"),
    ),
    Setting(
        "noise-gd",
        _glm(Logistic(), NoiseLabels(), 2.5, weight_decay=0.02),
        GradientDescent(1.0),
        (2.0, 20.0),
        ("norm", "loss", "train_error"),
    ),
    Setting(
        "noise-poisson",
        _glm(Logistic(), NoiseLabels(), 1.0, weight_decay=0.1),
        PoissonSGD(1.0),
        (1.0, 6.0),
        ("norm", "loss", "train_error"),
    ),
    Setting(
        "sign-reshuffled",
        _glm(Logistic(), SignLabels(), 2.0, weight_decay=0.05),
        SGD(0.5, 0.25, "reshuffled"),
        (2.0, 15.0),
        ERRORS,
    ),
    Setting(
        "sign-persistent",
        _glm(Logistic(), SignLabels(), 2.0, weight_decay=0.05),
        SGD(0.5, 0.25, "persistent", 6.0),
        (2.0, 15.0),
    ),
    Setting(
        "sign-poisson", _glm(Logistic(), SignLabels(), 4.0, weight_decay=0.05), PoissonSGD(6.0), (2.0, 10.0), ERRORS
    ),
    Setting(
        "sign-sgf-step",
        _glm(Logistic(), SignLabels(), 4.0, weight_decay=0.05),
        StochasticGradientFlow(6.0, 0.25),
        (2.0, 10.0),
        ERRORS,
    ),
    # robust regression
    Setting("huber-sgd", _glm(Huber(0.7), LinearLabels(0.5), 1.5), SGD(0.3, 0.2), (0.9, 7.5), FRESH),
    Setting("huber-flow", _glm(Huber(1.0), CubicNoiseLabels(0.3), 1.5, weight_decay=0.1), GradientFlow(), (0.5, 5.0)),
    Setting("huber-sgf", _glm(Huber(1.0), CubicNoiseLabels(0.3), 1.5), StochasticGradientFlow(0.3), (0.5, 4.0)),
    Setting(
        "huber-few",
        _glm(Huber(0.5), LinearLabels(0.25), 0.6, weight_decay=0.05, init_overlap=0.3),
        GradientDescent(0.3),
        (0.9, 9.0),
    ),
    # smooth hinge
    Setting(
        "hinge-poisson-step",
        _glm(SmoothHinge(), NoiseLabels(), 1.5, weight_decay=0.1),
        PoissonSGD(0.5, 0.25),
        (1.0, 6.0),
        ("norm", "loss", "train_error"),
    ),
    Setting(
        "hinge-gd", _glm(SmoothHinge(), SignLabels(), 2.0, weight_decay=0.1), GradientDescent(0.2), (1.0, 6.0), ERRORS
    ),
    Setting(
        "hinge-reshuffled",
        _glm(SmoothHinge(0.5, 2.0), LogitLabels(3.0), 2.0, weight_decay=0.1),
        SGD(0.3, 0.5, "reshuffled"),
        (0.9, 9.0),
    ),
    # phase retrieval
    Setting(
        "phase-gd",
        _glm(PhaseRetrieval(), SquaredLabels(0.01), 3.0, init_overlap=0.4, init_variance=0.5),
        GradientDescent(0.02),
        (0.1, 0.6),
    ),
    Setting(
        "phase-sgd",
        _glm(PhaseRetrieval(), SquaredLabels(0.01), 4.0, weight_decay=0.1, init_overlap=0.5, init_variance=0.5),
        SGD(0.02, 0.5),
        (0.1, 0.6),
    ),
    # penalties
    Setting(
        "l1-sgd",
        _glm(Logistic(), SignLabels(), 1.5, weight_decay=0.02, init_overlap=0.3, penalty=L1(0.1)),
        SGD(0.5, 0.25),
        (2.0, 12.0),
    ),
    Setting(
        "l1-regression", _glm(Square(), LinearLabels(0.09), 1.0, penalty=L1(0.3)), GradientDescent(0.3), (0.9, 7.2)
    ),
    Setting(
        "smooth-sgf-step",
        _glm(Logistic(), LogitLabels(2.0), 1.5, penalty=LogCosh(0.1)),
        StochasticGradientFlow(0.5, 0.4),
        (1.6, 9.6),
    ),
    Setting(
        "smooth-gd", _glm(Huber(1.0), LinearLabels(0.25), 2.0, penalty=LogCosh(0.3)), GradientDescent(0.2), (0.6, 5.0)
    ),
    # several columns
    Setting(
        "softmax-sgd",
        Softmax(3, 3.0, weight_decay=0.1, sharpness=2.0, init_variance=0.5),
        SGD(1.0, 0.3),
        (2.0, 12.0),
        ERRORS,
    ),
    Setting(
        "softmax-flow", Softmax(3, 2.0, weight_decay=0.1, sharpness=2.0, init_variance=0.5), GradientFlow(), (1.0, 8.0)
    ),
    Setting(
        "softmax-persistent",
        Softmax(2, 2.0, weight_decay=0.1, sharpness=3.0),
        SGD(1.0, 0.5, "persistent", 3.0),
        (2.0, 12.0),
    ),
    Setting(
        "committee-sgf-step",
        TwoLayer(2, 1, Erf(), 3.0, weight_decay=0.02, readout=(1.0, -0.5), init_overlap=((0.3,), (-0.1,))),
        StochasticGradientFlow(0.3, 0.3),
        (0.9, 7.2),
    ),
    Setting(
        "committee-gd",
        TwoLayer(
            2, 2, Erf(), 3.0, 0.02, 0.01, (0.5, 0.5), (0.5, 0.5), ((1.0, 0.3), (0.3, 1.0)), ((0.2, 0.0), (0.0, 0.1))
        ),
        GradientDescent(0.5),
        (3.0, 30.0),
    ),
    Setting(
        "committee-poisson",
        TwoLayer(2, 2, Erf(), 2.0, 0.05, 0.01, init_overlap=((0.3, 0.0), (0.0, 0.2))),
        PoissonSGD(0.3),
        (0.3, 2.0),
    ),
    Setting(
        "committee-flow",
        TwoLayer(2, 1, Erf(), 2.0, 0.05, 0.04, init_overlap=((0.4,), (0.2,))),
        GradientFlow(),
        (0.5, 5.0),
    ),
)


def computed(number: int, dimension: int = DIMENSION, runs: int = RUNS, paths: int = PATHS) -> Row:
    """The row of a setting: what was asked, theory with its uncertainty, and the value of every run; three of each."""
    setting = SETTINGS[number]
    times = np.array(setting.times)
    theory = solve(setting.problem, MeanField(paths, seed=THEORY_SEED + number), times, setting.dynamics)
    method = Simulation({"d": dimension}, runs, SIMULATION_SEED + number)
    simulation = solve(setting.problem, method, times, setting.dynamics)
    row: Row = {"name": setting.name, "asked": setting.described(), "d": dimension, "paths": paths}
    row |= {"theory_seed": THEORY_SEED + number, "simulation_seed": SIMULATION_SEED + number}
    kinds = ("theory", "uncertainty", "runs", "discretization")
    row |= {kind: [] for kind in kinds}
    for place, name in zip((0, 1, 1), setting.observables, strict=True):
        every = simulation.details["runs"][name][:, place].reshape(runs, -1)[:, 0]
        left = simulation.details.get("discretization", {}).get(name)
        found = (
            _first(theory.values[name][place]),
            _first(theory.uncertainty[name][place]),
            [float(f"{value:.9g}") for value in every],
            0.0 if left is None else _first(left[place]),
        )
        for kind, value in zip(kinds, found, strict=True):
            row[kind].append(value)
    return row


def _first(value: Array) -> float:
    return float(f"{float(np.ravel(value)[0]):.9g}")


def deviations(row: Row, factor: float = 1.0) -> Array:
    """Theory times `factor` less simulation, in units such that their mean square is one if both are right."""
    runs = np.array(row["runs"])
    count = runs.shape[1]
    sampling = runs.var(axis=1, ddof=1) / count * (count - 1) / (count - 3)
    error = np.sqrt(sampling + np.square(row["uncertainty"]) + np.square(row["discretization"]))
    return (factor * np.array(row["theory"]) - runs.mean(axis=1)) / error


def independent(row: Row) -> float:
    """How many of the three fluctuate independently:  (tr c)^2/tr c^2  of their correlations between runs."""
    correlations = np.corrcoef(row["runs"])
    return float(np.trace(correlations) ** 2 / np.sum(correlations**2))


def summary(rows: Sequence[Row], factor: float = 1.0) -> tuple[int, float, float, float]:
    """How many deviations, how many independent ones, their root mean square, and the largest."""
    found = np.concatenate([deviations(row, factor) for row in rows])
    return found.size, sum(map(independent, rows)), math.sqrt(np.mean(found**2)), float(np.abs(found).max())


class Overrun(Exception):
    """A setting took longer than `LIMIT`."""


def _overrun(signal_number: int, frame: Any) -> None:
    raise Overrun


def limited(number: int) -> Row:
    """`computed`, or what to write in its place where that takes too long."""
    signal.signal(signal.SIGPROF, _overrun)
    signal.setitimer(signal.ITIMER_PROF, LIMIT)
    try:
        return computed(number)
    except Overrun:
        setting = SETTINGS[number]
        return {"name": setting.name, "asked": setting.described(), "without": f"not done within {LIMIT} CPU seconds"}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def table() -> list[Row]:
    """All rows, in the order of `SETTINGS`, those without numbers too."""
    return json.loads(TABLE.read_text()) if TABLE.exists() else []


def measured(rows: Sequence[Row]) -> list[Row]:
    """The rows with numbers."""
    return [row for row in rows if "without" not in row]


def _keep(row: Row) -> None:
    """In the table, which another process may have changed in between."""
    rows = {old["asked"]: old for old in table()} | {row["asked"]: row}
    ordered = [rows[setting.described()] for setting in SETTINGS if setting.described() in rows]
    TABLE.write_text(json.dumps(ordered, separators=(", ", ": ")).replace("}, {", "},\n{") + "\n")


def main(names: Sequence[str]) -> int:
    """Compute what the table lacks, some of it or all; whatever was done is kept when interrupted."""
    known = {row["asked"]: row for row in measured(table())}
    for number, setting in enumerate(SETTINGS):
        if names and setting.name not in names:
            continue
        began = time.process_time()
        row = known.get(setting.described())
        if row is None:
            row = limited(number)
            _keep(row)
        text = row.get("without") or "".join(f"{value:8.2f}" for value in (*deviations(row), independent(row)))
        print(f"{setting.name:<22}{text}{time.process_time() - began:8.1f} s", flush=True)
    for factor in (1.0, 1.01, 0.99):
        print(
            "theory times {:g}: {} deviations, {:.0f} independent, rms {:.2f}, largest {:.2f}".format(
                factor, *summary(measured(table()), factor)
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
