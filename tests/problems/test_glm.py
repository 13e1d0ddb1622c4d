"""Generalized linear models: exact observables of a fresh sample, samples with exact moments, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from scipy import integrate
from scipy.special import ndtr

import lossflow as lf
from lossflow.problems.labels import CubicNoiseLabels
from lossflow.problems.row import AbstractRowModel

Array = npt.NDArray[np.float64]

PAIRS = [
    (lf.Square(), lf.LinearLabels(0.3)),
    (lf.Square(), CubicNoiseLabels(0.3)),
    (lf.Huber(0.7), lf.LinearLabels(0.3)),
    (lf.Huber(1.0), CubicNoiseLabels(0.3)),
    (lf.Huber(1.0), lf.SquaredLabels(0.2)),
    (lf.Logistic(), lf.SignLabels()),
    (lf.Logistic(), lf.LogitLabels(3.0)),
    (lf.Logistic(), lf.NoiseLabels()),
    (lf.SmoothHinge(), lf.SignLabels()),
    (lf.SmoothHinge(0.5, 2.0), lf.LogitLabels(1.0)),
    (lf.Square(), lf.SignLabels()),
    (lf.Square(), lf.SquaredLabels(0.1)),
    (lf.PhaseRetrieval(), lf.SquaredLabels(0.2)),
]
C, M, Q = 1.7, 0.8, 1.0


def model_of(loss: lf.AbstractLoss, labels: lf.AbstractLabels) -> AbstractRowModel:
    return lf.GeneralizedLinear(loss, labels, delta=2.0).as_process().model


def observed(model: AbstractRowModel, c: float = C, m: float = M, q: float = Q) -> dict[str, float]:
    return model.test(np.array([[c]]), np.array([[m]]), np.array([[q]]))


@pytest.mark.parametrize(("loss", "labels"), PAIRS, ids=repr)
def test_observables_of_a_fresh_sample_against_sampling(loss: lf.AbstractLoss, labels: lf.AbstractLabels) -> None:
    model = model_of(loss, labels)
    random = np.random.default_rng(0)
    n = 200_000
    r, star = np.linalg.cholesky([[C, M], [M, Q]]) @ random.standard_normal((2, n))
    y = model.labels(star[None], random.random((model.noise_columns, n)))
    found = observed(model)
    sampled = {"test_loss": model.loss(r[None], y)}
    errors = model.errors(r[None], y)
    assert (errors is None) == ("test_error" not in found)
    if errors is not None:
        sampled["test_error"] = errors
    if labels.additive:
        sampled["mse"] = (r - star) ** 2
    assert set(sampled) == set(found)
    for name, values in sampled.items():
        assert found[name] == pytest.approx(values.mean(), abs=4 * values.std() / math.sqrt(n)), name


def test_closed_forms() -> None:
    excess = C - 2 * M + Q
    assert observed(model_of(lf.Square(), lf.LinearLabels(0.3))) == {
        "test_loss": pytest.approx((excess + 0.3) / 2, rel=1e-14),
        "mse": pytest.approx(excess, rel=1e-14),
    }
    assert observed(model_of(lf.Square(), CubicNoiseLabels(0.3)))["test_loss"] == pytest.approx(
        (excess + 15 * 0.09) / 2, rel=1e-11
    )
    phase = (3 * C**2 - 2 * (C * Q + 2 * M**2) + 3 * Q**2 + 0.2) / 4
    assert observed(model_of(lf.PhaseRetrieval(), lf.SquaredLabels(0.2)))["test_loss"] == pytest.approx(
        phase, rel=1e-11
    )
    assert observed(model_of(lf.Square(), lf.SquaredLabels(0.1)))["test_loss"] == pytest.approx(
        (C + 3 * Q**2 + 0.1) / 2, rel=1e-11
    )
    sign = observed(model_of(lf.Square(), lf.SignLabels()))
    assert sign["test_loss"] == pytest.approx((C + 1 - 2 * M * math.sqrt(2 / (math.pi * Q))) / 2, rel=1e-12)


@pytest.mark.parametrize("cosine", [-0.9, 0.0, 0.3, 0.9, 0.999999, 1.0])
def test_the_error_of_sign_labels_is_an_angle(cosine: float) -> None:
    found = observed(model_of(lf.Logistic(), lf.SignLabels()), 2.3, cosine * math.sqrt(2.3), 1.0)
    assert found["test_error"] == pytest.approx(math.acos(cosine) / math.pi, abs=1e-12)


def test_logistic_loss_of_logit_labels_by_parts() -> None:
    """E rho = E log(1 + exp(-r)) - kappa m E s'(kappa r*): two one-dimensional integrals in place of a double one."""
    kappa = 3.0

    def over(f: Callable[[float], float]) -> float:
        def density(x: float) -> float:
            return f(x) * math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)

        return integrate.quad(density, -38, 38, epsabs=1e-13, limit=200)[0]

    expected = over(lambda x: np.logaddexp(0, -math.sqrt(C) * x)) - kappa * M * over(
        lambda x: 0.25 / math.cosh(kappa * math.sqrt(Q) * x / 2) ** 2
    )
    assert observed(model_of(lf.Logistic(), lf.LogitLabels(kappa)))["test_loss"] == pytest.approx(expected, abs=1e-11)


def test_huber_with_heavy_tails_by_a_double_integral() -> None:
    """Over the noise and the residual, with the corners of the loss as break points."""
    s, scale = math.sqrt(C - 2 * M + Q), 0.3
    huber = model_of(lf.Huber(1.0), CubicNoiseLabels(scale))

    def inner(z: float) -> float:
        noise = scale * z**3
        corners = [x for x in ((noise - 1) / s, (noise + 1) / s) if abs(x) < 12]

        def density(x: float) -> float:
            e = abs(s * x - noise)
            return (e**2 / 2 if e < 1 else e - 0.5) * math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)

        return integrate.quad(density, -12, 12, points=corners or None, epsabs=1e-12, limit=200)[0]

    expected = integrate.quad(lambda z: inner(z) * math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi), -9, 9, epsabs=1e-10)[
        0
    ]
    assert observed(huber)["test_loss"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("loss", "labels"), PAIRS, ids=repr)
def test_zero_weights_and_perfect_ones(loss: lf.AbstractLoss, labels: lf.AbstractLabels) -> None:
    model = model_of(loss, labels)
    zero, perfect = observed(model, 0.0, 0.0, 1.0), observed(model, 1.0, 1.0, 1.0)
    assert all(math.isfinite(value) for value in (*zero.values(), *perfect.values()))
    if labels.kind == "binary":
        assert zero["test_error"] == pytest.approx(0.5, abs=1e-14)
        nothing = loss.value(np.zeros(1), np.ones(1))[0]
        assert zero["test_loss"] == pytest.approx(nothing, rel=1e-12)
    if labels.additive:
        assert zero["mse"] == 1.0
        assert perfect["mse"] == 0.0


@dataclass(frozen=True, repr=False)
class Flipped(lf.AbstractLabels):
    """sign r*, wrong with probability 1/4: labels of one's own without a formula."""

    kind = "binary"
    symmetry = "odd"

    @property
    def noise_columns(self) -> int:
        return 1

    def draw(self, teacher: Array, noise: Array) -> Array:
        return np.where(noise[0] < 0.25, -1.0, 1.0) * np.where(teacher >= 0, 1.0, -1.0)


def test_labels_of_ones_own() -> None:
    clean, flipped = (observed(model_of(lf.Logistic(), labels)) for labels in (lf.SignLabels(), Flipped()))
    # a jump in the noise variable costs the general sum some digits: 1e-3 of the weight of one point
    assert flipped["test_error"] == pytest.approx(
        0.75 * clean["test_error"] + 0.25 * (1 - clean["test_error"]), abs=0.02
    )
    assert flipped["test_loss"] > clean["test_loss"]


@dataclass(frozen=True, repr=False)
class Greedy(Flipped):
    """Wants more noise than there is."""

    @property
    def noise_columns(self) -> int:
        return 2


def test_the_process() -> None:
    problem = lf.GeneralizedLinear(
        lf.Logistic(), lf.SignLabels(), delta=2.0, weight_decay=0.1, init_variance=4.0, init_overlap=0.25
    )
    process = problem.as_process()
    assert (process.norm, process.overlap, process.teacher) == (4.0, 0.5, 1.0)
    assert (process.delta, process.weight_decay, process.penalty) == (2.0, 0.1, None)
    assert process.model.odd
    assert process.stability_bound() == pytest.approx(2 / (0.1 + 0.25 * (1 + 2**-0.5) ** 2), rel=1e-14)
    vanishing = lf.GeneralizedLinear(lf.Logistic(), lf.SignLabels(), delta=2.0, weight_decay="0+").as_process()
    assert vanishing.weight_decay == 0.0


def test_samples_have_exact_moments() -> None:
    problem = lf.GeneralizedLinear(lf.Logistic(), lf.SignLabels(), delta=1.5, init_variance=4.0, init_overlap=0.25)
    sample = problem.as_sample({"d": 41}, run=3, seed=1)
    assert {name: array.shape for name, array in sample.items()} == {
        "theta": (1, 41),
        "theta_star": (1, 41),
        "X": (62, 41),
        "y": (62,),
    }
    theta, star = sample["theta"][0], sample["theta_star"][0]
    assert [theta @ theta / 41, theta @ star / 41, star @ star / 41] == pytest.approx([4.0, 0.5, 1.0], rel=1e-13)
    assert np.array_equal(sample["y"], np.sign(sample["X"] @ star))
    again = problem.as_sample({"d": 41}, run=3, seed=1)
    assert all(np.array_equal(sample[name], again[name]) for name in sample)
    other = problem.as_sample({"d": 41}, run=4, seed=1)
    assert not any(np.array_equal(sample[name], other[name]) for name in sample)


def test_starts_point_in_all_directions_alike() -> None:
    """E theta_i theta_j = C 1[i=j] over runs: the frame is uniformly distributed, no coordinate and no sign is special."""
    problem = lf.GeneralizedLinear(lf.Square(), lf.LinearLabels(), delta=1.0, init_overlap=0.5)
    draws = np.array([problem.as_sample({"d": 4}, run, 0)["theta"][0] for run in range(2000)])
    assert draws.mean(axis=0) == pytest.approx(0, abs=0.1)
    assert draws.T @ draws / 2000 == pytest.approx(np.eye(4), abs=0.1)


@pytest.mark.parametrize("sizes", [{"d": 1}, {"d": 2.5}, {"n": 4}, {}, {"d": 10, "p": 3}, {"d": 0}])
def test_sizes_out_of_range(sizes: dict[str, float]) -> None:
    with pytest.raises(lf.InvalidInput, match=r"\"d\"|no size"):
        lf.GeneralizedLinear(lf.Square(), lf.LinearLabels(), delta=2.0).as_sample(sizes, 0, 0)


BAD = {
    "delta zero": {"delta": 0.0},
    "delta negative": {"delta": -1.0},
    "delta nan": {"delta": math.nan},
    "decay": {"weight_decay": -0.1},
    "decay inf": {"weight_decay": math.inf},
    "decay words": {"weight_decay": "0-"},
    "variance": {"init_variance": -1.0},
    "variance inf": {"init_variance": math.inf},
    "cosine": {"init_overlap": 1.1},
    "no direction": {"init_variance": 0.0, "init_overlap": 0.5},
    "a class": {"loss": lf.Logistic},
    "logistic of real labels": {"labels": lf.LinearLabels()},
    "hinge of squares": {"loss": lf.SmoothHinge(), "labels": lf.SquaredLabels()},
    "phase of linear": {"loss": lf.PhaseRetrieval(), "labels": lf.LinearLabels()},
    "phase of signs": {"loss": lf.PhaseRetrieval()},
    "two noises": {"labels": Greedy()},
    "penalty": {"penalty": 0.1},
    "strength": {"penalty": "L1"},
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused(case: str) -> None:
    arguments = {"loss": lf.Logistic(), "labels": lf.SignLabels(), "delta": 2.0} | BAD[case]
    with pytest.raises(lf.InvalidInput) as caught:
        lf.GeneralizedLinear(**arguments)
    assert "\n" not in str(caught.value)


def test_a_refusal_of_labels_says_what_fits() -> None:
    with pytest.raises(lf.InvalidInput, match=r"Logistic\(\) takes labels that are binary.*Square\(\)"):
        lf.GeneralizedLinear(lf.Logistic(), lf.LinearLabels(), delta=2.0)


def test_the_population_problem_has_no_samples() -> None:
    population = lf.GeneralizedLinear(lf.Logistic(), lf.SignLabels(), delta=math.inf)
    assert population.languages == ("process",)
    with pytest.raises(lf.NotSpoken, match="population"):
        population.as_sample({"d": 10}, 0, 0)
    with pytest.raises(lf.NotSpoken, match="offers: process"):
        lf.solve(population, lf.Simulation({"d": 10}), [0.0, 1.0])


def test_l1_is_its_own_proximal_step() -> None:
    """argmin_x (x - theta)^2/2 + step strength |x|, found by looking everywhere."""
    penalty = lf.L1(0.7)
    grid = np.linspace(-4, 4, 80001)
    for theta in (-3.0, -0.2, 0.0, 0.3, 1.1):
        best = grid[np.argmin((grid - theta) ** 2 / 2 + 0.5 * penalty.value(grid))]
        assert float(penalty.proximal(np.array(theta), 0.5)) == pytest.approx(best, abs=1e-4)
    theta = np.array([-3.0, -0.2, 0.3, 1.1])
    difference = (penalty.proximal(theta + 1e-6, 0.5) - penalty.proximal(theta - 1e-6, 0.5)) / 2e-6
    assert penalty.proximal_slope(theta, 0.5) == pytest.approx(difference, abs=1e-6)
    with pytest.raises(lf.InvalidInput):
        lf.L1(-0.1)


def test_probability_of_a_label_given_r() -> None:
    """The loss of sign labels once more, summed over r* instead of r."""
    rest = math.sqrt(C - M**2 / Q)
    expected = (
        2
        * integrate.quad(
            lambda x: math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) * ndtr(-M * x / rest), 0, 38, epsabs=1e-13
        )[0]
    )
    assert observed(model_of(lf.Logistic(), lf.SignLabels()))["test_error"] == pytest.approx(expected, abs=1e-12)
