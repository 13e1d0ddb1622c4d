"""One causal pass: closed forms, published and computed references, exact symmetries, and simulations in plain numpy."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossflow.dynamics import (
    SGD,
    AbstractDynamics,
    GradientDescent,
    GradientFlow,
    PoissonSGD,
    StochasticGradientFlow,
)
from lossflow.meanfield import linear
from lossflow.meanfield.errors import standard_error
from lossflow.meanfield.method import MeanField
from lossflow.meanfield.row import Pass, Plan, RowPass
from lossflow.method import solve
from lossflow.problem import AbstractProblem
from lossflow.problems.glm import GeneralizedLinear
from lossflow.problems.labels import LinearLabels, LogitLabels, NoiseLabels, SignLabels, SquaredLabels
from lossflow.problems.losses import Huber, Logistic, PhaseRetrieval, SmoothHinge, Square
from lossflow.problems.penalties import L1
from lossflow.problems.row import AbstractPenalty, RowProcess
from lossflow.problems.softmax import Softmax
from lossflow.problems.two_layer import Erf, TwoLayer

Array = np.ndarray
# mean-field tables of 3 to 5 replicas, one sigma each: tests/reference/README.md
REFERENCE = json.loads((Path(__file__).parent.parent / "reference" / "mean_field.json").read_text())
SETTINGS = {setting["name"]: setting for setting in REFERENCE["settings"]}
NAMES = {"train": "loss", "test": "test_loss", "trerr": "train_error", "overlap": "overlap", "C": "norm", "m": None}


def passes(
    process: RowProcess, dynamics: AbstractDynamics, records: Array, runs: int, paths: int, tangents: int | None = None
) -> list[Pass]:
    """Independent passes of a discrete dynamics."""
    assert dynamics.step is not None
    steps = np.full(int(records[-1]), dynamics.step)
    plan = Plan(paths, paths if tangents is None else tangents)
    return [RowPass(process, dynamics, steps, records, plan, 0, run).run() for run in range(runs)]


def averaged(found: list[Pass], name: str) -> tuple[Array, Array]:
    """Mean and standard error."""
    runs = np.stack([one.values[name] for one in found])
    return runs.mean(axis=0), standard_error(runs)


def regression(delta: float = 2.0) -> GeneralizedLinear:
    return GeneralizedLinear(Square(), LinearLabels(0.25), delta, weight_decay=0.1, init_variance=1.3, init_overlap=0.2)


def logistic(delta: float = 2.0, **options: Any) -> GeneralizedLinear:
    return GeneralizedLinear(Logistic(), SignLabels(), delta, weight_decay=0.05, **options)


@pytest.mark.parametrize("delta", [0.5, 2.0])
@pytest.mark.parametrize("tangents", [16, 0])
def test_gradient_descent_of_a_linear_model_is_exact_on_any_paths(delta: float, tangents: int) -> None:
    """Orthonormal paths have the right second moments, and a linear model knows no others."""
    process, dynamics, records = regression(delta).as_process(), GradientDescent(0.3), np.array([1, 10, 40])
    exact = linear.solve(process, dynamics, 0.3 * records)
    found = passes(process, dynamics, records, 1, 256, tangents)[0]
    for name, values in exact.values.items():
        assert found.values[name] == pytest.approx(values, rel=3e-6 if tangents else 0.2), name
    if tangents:
        assert found.kernels["correlation"] == pytest.approx(exact.details["correlation"], rel=1e-5)
        assert found.kernels["response"] == pytest.approx(exact.details["response"], abs=1e-5)
        assert found.kernels["force_correlation"] == pytest.approx(exact.details["force_correlation"][:2, :2], rel=1e-5)
        assert found.consistency < 1e-5


@pytest.mark.parametrize(
    "dynamics",
    [SGD(0.2, 0.25), StochasticGradientFlow(0.5, 0.2), PoissonSGD(0.5, 0.2)],
    ids=lambda dynamics: type(dynamics).__name__,
)
def test_noise_of_a_linear_model(dynamics: AbstractDynamics) -> None:
    process, records = regression().as_process(), np.array([5, 15, 30])
    exact = linear.solve(process, dynamics, 0.2 * records)
    found = passes(process, dynamics, records, 8, 1024)
    for name, values in exact.values.items():
        mean, error = averaged(found, name)
        assert mean == pytest.approx(values, rel=0.02)
        assert np.abs((mean - values) / np.hypot(error, 1e-5)).max() < 4, name


def deviations(name: str, paths: int, runs: int, tangents: int | None = None) -> Array:
    """From a reference setting, in units of the combined error and 3e-4 of the value."""
    setting = SETTINGS[name]
    found = passes(
        problem_of(setting).as_process(), dynamics_of(setting), np.array(setting["steps"]), runs, paths, tangents
    )
    table, deviations = setting["dmft"], []
    for theirs, ours in NAMES.items():
        if ours in found[0].values:
            value, error = averaged(found, ours)
            if ours == "overlap" and value.ndim == 3:
                value, error = value[:, 0, 0], error[:, 0, 0]
            expected, its_error = (np.reshape(table[key], value.shape) for key in (theirs, theirs + "_err"))
            allowed = np.sqrt(error**2 + its_error**2 + (3e-4 * expected) ** 2)
            deviations.append(((value - expected) / allowed).ravel())
    return np.concatenate(deviations)


def problem_of(setting: dict[str, Any]) -> AbstractProblem:
    model, a = setting["model_params"], setting["algorithm"]
    match setting["model"]:
        case "linear":
            variance = a["C0"][0][0]
            cosine = a["m0"][0][0] / math.sqrt(variance)
            return GeneralizedLinear(
                Square(), LinearLabels(model["sigma"] ** 2), a["delta"], a["lam"], variance, cosine
            )
        case "logistic":
            labels = SignLabels() if model["labels"] == "sign" else LogitLabels(model["kappa"])
            return GeneralizedLinear(Logistic(), labels, a["delta"], a["lam"])
    return TwoLayer(
        hidden=2,
        teacher_hidden=2,
        activation=Erf(),
        delta=a["delta"],
        weight_decay=a["lam"],
        noise_variance=model["sigma"] ** 2,
        readout=tuple(model["c"]),
        teacher_readout=tuple(model["cs"]),
        init_covariance=tuple(map(tuple, a["C0"])),
        init_overlap=tuple(map(tuple, a["m0"])),
    )


def dynamics_of(setting: dict[str, Any]) -> AbstractDynamics:
    a = setting["algorithm"]
    match a["alg"]:
        case "gd":
            return GradientDescent(a["eta"])
        case "sgd":
            return SGD(a["eta"], a["b"])
        case "sgf":
            return StochasticGradientFlow(a["tau"], a["eta"])
    return PoissonSGD(a["tau"], a["eta"])


@pytest.mark.parametrize("name", ["logit_sign_gd", "logit_logit_sgd", "logit_tau6_sgf"])
def test_references(name: str) -> None:
    found = deviations(name, 2048, 5)
    assert np.abs(found).max() < 5


@pytest.mark.slow
def test_all_references_at_full_size() -> None:
    found = {name: deviations(name, 8192, 8, 2048 if "committee" in name else None) for name in SETTINGS}
    for name, values in found.items():
        assert np.abs(values).max() < 5, name
    assert math.sqrt(np.mean(np.concatenate(list(found.values())) ** 2)) < 1.4


def flow_deviations(index: int) -> Array:
    """From the flows among the references, whose two steps leave an error of second order: the last step times their gap."""
    table = REFERENCE["extrapolated"][index]
    a = table["params"]
    flow = GradientFlow() if a["alg"] == "gd" else StochasticGradientFlow(a["tau"])
    problem = GeneralizedLinear(Logistic(), SignLabels(), a["delta"], a["lam"])
    found = solve(problem, MeanField(), table["times"], flow)
    deviations = []
    for theirs, ours in {"train": "loss", "test": "test_loss", "terr": "test_error", "overlap": "overlap"}.items():
        expected, error, gap = (np.ravel(table[theirs + kind]) for kind in ("", "_err", "_euler_gap"))
        allowed = np.sqrt(found.uncertainty[ours] ** 2 + error**2 + (0.125 * gap) ** 2 + (3e-4 * expected) ** 2)
        deviations.append((found.values[ours] - expected) / allowed)
    return np.concatenate(deviations)


@pytest.mark.slow
def test_references_of_flows() -> None:
    found = np.concatenate([flow_deviations(0), flow_deviations(1)])
    assert found.size == 48
    assert np.abs(found).max() < 5
    assert math.sqrt(np.mean(found**2)) < 1.4


@dataclass(frozen=True, repr=False)
class Smoothed(AbstractPenalty):
    """strength log cosh(3 theta)/3: a smooth relative of the absolute value."""

    strength: float
    smooth = True

    def value(self, theta: Array) -> Array:
        return self.strength * np.log(np.cosh(3 * theta)) / 3

    def force(self, theta: Array) -> Array:
        return self.strength * np.tanh(3 * theta)

    def curvature(self, theta: Array) -> Array:
        return 3 * self.strength / np.cosh(3 * theta) ** 2


GLM = GeneralizedLinear
SIMULATED: dict[str, tuple[AbstractProblem, AbstractDynamics, int]] = {
    "l1": (
        GLM(Logistic(), SignLabels(), 1.5, weight_decay=0.02, init_overlap=0.3, penalty=L1(0.1)),
        SGD(0.5, 0.25),
        24,
    ),
    "l1-regression": (GLM(Square(), LinearLabels(0.09), 1.0, penalty=L1(0.3)), GradientDescent(0.3), 24),
    "smooth-penalty": (
        GLM(Logistic(), LogitLabels(2.0), 1.5, penalty=Smoothed(0.1)),
        StochasticGradientFlow(0.5, 0.4),
        24,
    ),
    "reshuffled": (logistic(), SGD(0.5, 0.25, "reshuffled"), 24),
    "persistent": (logistic(), SGD(0.5, 0.25, "persistent", 6.0), 24),
    "phase-retrieval": (
        GLM(PhaseRetrieval(), SquaredLabels(0.01), 3.0, init_overlap=0.4, init_variance=0.5),
        GradientDescent(0.02),
        24,
    ),
    "huber": (GLM(Huber(0.7), LinearLabels(0.5), 1.5), SGD(0.3, 0.2), 24),
    "hinge": (GLM(SmoothHinge(), NoiseLabels(), 1.5, weight_decay=0.1), PoissonSGD(0.5, 0.25), 24),
    "softmax": (Softmax(3, 3.0, weight_decay=0.1, sharpness=2.0, init_variance=0.5), SGD(1.0, 0.3), 12),
    "committee": (
        TwoLayer(2, 1, Erf(), 3.0, weight_decay=0.02, readout=(1.0, -0.5), init_overlap=((0.3,), (-0.1,))),
        StochasticGradientFlow(0.3, 0.3),
        24,
    ),
    "zero-start": (logistic(init_variance=0.0), SGD(0.5, 0.25), 24),
}


def simulated(problem: AbstractProblem, dynamics: AbstractDynamics, steps: int, d: int, runs: int) -> dict[str, Array]:
    """Loss, error, norm and overlap after the last step, of every run: the algorithm of section 1, line by line."""
    process = problem.as_process()
    model, eta = process.model, dynamics.step
    assert eta is not None
    found: dict[str, list[Any]] = {}
    for run in range(runs):
        random = np.random.default_rng((7, run))
        sample = process.sample({"d": d}, run, 7)
        theta, X, y = sample["theta"].copy(), sample["X"], sample["y"]
        state = np.zeros(len(y))
        for k in range(steps):
            g, state = drawn(dynamics, k, state, process.delta, random)
            pushed = theta * (1 - eta * process.weight_decay) - (g * model.gradient(theta @ X.T, y)) @ X / process.delta
            if process.penalty is None:
                theta = pushed
            elif process.penalty.smooth:
                theta = pushed - eta * process.penalty.force(theta)
            else:
                theta = process.penalty.proximal(pushed, eta)
        r, norm, overlap = theta @ X.T, theta @ theta.T / d, theta @ sample["theta_star"].T / d
        errors = model.errors(r, y)
        values = {"loss": model.loss(r, y).mean(), "norm": norm} | model.test(norm, overlap, process.teacher)
        values |= {} if errors is None else {"train_error": errors.mean()}
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in found.items()}


def drawn(
    dynamics: AbstractDynamics, k: int, state: Array, delta: float, random: np.random.Generator
) -> tuple[Array, Array]:
    """The factors of all samples at step k, and what they remember."""
    n, eta = len(state), dynamics.step
    assert eta is not None
    match dynamics:
        case GradientDescent():
            return np.full(n, eta), state
        case StochasticGradientFlow(temperature=temperature):
            return eta + math.sqrt(temperature * delta * eta) * random.standard_normal(n), state
        case PoissonSGD(temperature=temperature):
            return temperature * delta * random.poisson(eta / (temperature * delta), n), state
        case SGD(batch_fraction=b, order="independent"):
            return eta / b * (random.random(n) < b), state
        case SGD(batch_fraction=b, order="reshuffled"):
            slots = round(1 / b)
            state = random.permutation(n) % slots if k % slots == 0 else state
            return eta / b * (state == k % slots), state
        case SGD(batch_fraction=b, persistence=float(persistence)):
            u = random.random(n)
            inside = np.where(state > 0, u >= (1 - b) / b / persistence, u < 1 / persistence) if k else u < b
            return eta / b * inside, inside.astype(float)
    raise AssertionError(dynamics)


def simulated_deviations(name: str, d: int, runs: int, paths: int, sabotage: float = 1.0) -> Array:
    problem, dynamics, steps = SIMULATED[name]
    found = passes(problem.as_process(), dynamics, np.array([steps]), 6, paths)
    deviations = []
    for observable, runs_of in simulated(problem, dynamics, steps, d, runs).items():
        value, error = (
            part[0] * factor for part, factor in zip(averaged(found, observable), (sabotage, 1.0), strict=True)
        )
        spread = np.sqrt(runs_of.var(axis=0, ddof=1) / runs * (runs - 1) / (runs - 3))
        known = np.reshape(np.hypot(error, spread), -1) > 1e-9  # what is 1/2 by symmetry has no scatter
        deviations.append(
            np.reshape(value - runs_of.mean(axis=0), -1)[known] / np.hypot(error, spread).reshape(-1)[known]
        )
    return np.concatenate(deviations)


@pytest.mark.parametrize("name", ["l1", "persistent", "committee"])
def test_simulations(name: str) -> None:
    assert np.abs(simulated_deviations(name, 500, 12, 1024)).max() < 4.5


@pytest.mark.slow
def test_all_simulations_and_a_sabotaged_theory() -> None:
    found = np.concatenate([simulated_deviations(name, 1500, 20, 8192) for name in SIMULATED])
    assert found.size >= 40
    assert math.sqrt(np.mean(found**2)) < 1.3
    assert np.abs(found).max() < 4.5
    assert np.abs(simulated_deviations("reshuffled", 1500, 20, 8192, sabotage=1.01)).max() > 4.5


def test_persistent_batches_without_persistence_are_independent() -> None:
    """Leaving at the rate 1 - b and entering at the rate b forgets the past: persistence 1/b."""
    process, records = logistic().as_process(), np.array([16])
    one, other = (
        passes(process, dynamics, records, 8, 1024) for dynamics in (SGD(0.5, 0.25), SGD(0.5, 0.25, "persistent", 4.0))
    )
    for name in ("loss", "test_loss", "norm"):
        (a, ea), (b, eb) = averaged(one, name), averaged(other, name)
        assert abs(a - b)[0] < 4 * math.hypot(ea[0], eb[0]) + 1e-6
        assert abs(a - b)[0] < 0.02 * abs(a[0])


@pytest.mark.parametrize("order", ["independent", "reshuffled"])
def test_whole_batches_are_gradient_descent(order: Any) -> None:
    process, records = logistic().as_process(), np.array([3, 10])
    one, other = (
        passes(process, dynamics, records, 1, 256)[0] for dynamics in (GradientDescent(0.4), SGD(0.4, 1.0, order))
    )
    for name, values in one.values.items():
        assert (other.values[name] == values).all()


def test_the_population_is_the_limit_of_many_samples() -> None:
    records = np.array([8])
    values = [
        passes(logistic(delta).as_process(), GradientDescent(0.5), records, 1, 2048)[0].values["test_loss"][0]
        for delta in (1e2, 1e3, math.inf)
    ]
    assert abs(values[1] - values[2]) < 0.15 * abs(values[0] - values[2])
    population = passes(logistic(math.inf).as_process(), GradientDescent(0.5), records, 1, 16384)[0].values
    assert population["loss"][0] == pytest.approx(population["test_loss"][0], rel=2e-4)


def test_weights_that_start_at_the_teacher() -> None:
    process = GLM(Huber(1e9), LinearLabels(0.0), 2.0, init_overlap=1.0).as_process()
    found = passes(process, GradientDescent(0.1), np.array([0, 5]), 1, 64)[0]
    assert found.values["loss"] == pytest.approx([0, 0], abs=1e-12)
    assert found.values["mse"] == pytest.approx([0, 0], abs=1e-12)


def test_a_process_that_leaves_every_scale_ends_with_what_it_knows() -> None:
    process = regression().as_process()
    found = passes(process, GradientDescent(40.0), np.array([1, 2, 500]), 1, 64)[0]
    assert 2 < found.reached < 500
    assert np.isfinite(found.values["loss"][:2]).all()
    assert np.isnan(found.values["loss"][2])


def test_stein_identity_holds_within_sampling() -> None:
    found = passes(logistic().as_process(), GradientDescent(0.4), np.array([40]), 1, 4096)[0]
    assert 0 < found.consistency < 2e-3
