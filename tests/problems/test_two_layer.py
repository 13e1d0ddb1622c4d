"""Two-layer networks: derivatives, exact observables, samples with exact moments, refusals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

import lossflow as lf

Array = npt.NDArray[np.float64]

COMMITTEE = lf.TwoLayer(
    hidden=2,
    teacher_hidden=3,
    activation=lf.Erf(),
    delta=3.0,
    noise_variance=0.1,
    readout=(0.5, -1.5),
    teacher_readout=(1.0, 0.3, -0.4),
    init_covariance=((1.0, 0.3), (0.3, 0.5)),
    init_overlap=((0.2, 0.0, -0.1), (0.0, 0.4, 0.0)),
)


@dataclass(frozen=True, repr=False)
class Tanh(lf.AbstractActivation):
    """An activation without closed forms."""

    bounds = (1.0, 1.0, 4 / (3 * math.sqrt(3)))
    odd = True

    def value(self, x: Array) -> Array:
        return np.tanh(x)

    def slope(self, x: Array) -> Array:
        return 1 - np.tanh(x) ** 2

    def curvature(self, x: Array) -> Array:
        return -2 * np.tanh(x) * (1 - np.tanh(x) ** 2)


@pytest.mark.parametrize("activation", [lf.Erf(), Tanh()], ids=repr)
def test_activations(activation: lf.AbstractActivation) -> None:
    x, h = np.linspace(-6, 6, 2001), 1e-5
    assert activation.slope(x) == pytest.approx((activation.value(x + h) - activation.value(x - h)) / (2 * h), abs=1e-9)
    assert activation.curvature(x) == pytest.approx(
        (activation.slope(x + h) - activation.slope(x - h)) / (2 * h), abs=1e-9
    )
    for part, bound in zip((activation.value, activation.slope, activation.curvature), activation.bounds, strict=True):
        largest = float(np.abs(part(x)).max())
        assert 0.999 * bound <= largest <= bound * (1 + 1e-12)
    assert np.array_equal(activation.value(-x), -activation.value(x)) == activation.odd


@pytest.mark.parametrize(
    ("s", "a", "b"), [(0.3, 1.0, 0.5), (-0.7, 1.0, 0.5), (0.0, 2.0, 3.0), (1.0, 1.0, 1.0), (0.0, 0.0, 1.0)]
)
def test_the_mean_product_of_erf_against_quadrature(s: float, a: float, b: float) -> None:
    by_quadrature = lf.AbstractActivation.product(lf.Erf(), s, a, b)
    assert lf.Erf().product(s, a, b) == pytest.approx(by_quadrature, abs=1e-11)


def test_derivatives() -> None:
    model = COMMITTEE.as_process().model
    random = np.random.default_rng(0)
    r, y = random.standard_normal((2, 5, 4)), random.standard_normal((5, 4))
    gradient, jacobian = model.gradient(r, y), model.jacobian(r, y)
    assert gradient.shape == (2, 5, 4)
    assert jacobian.shape == (2, 2, 5, 4)
    h = 1e-6
    for a in range(2):
        step = np.zeros_like(r)
        step[a] = h
        assert gradient[a] == pytest.approx((model.loss(r + step, y) - model.loss(r - step, y)) / (2 * h), abs=1e-8)
        assert jacobian[:, a] == pytest.approx(
            (model.gradient(r + step, y) - model.gradient(r - step, y)) / (2 * h), abs=1e-8
        )
    assert np.linalg.norm(np.moveaxis(jacobian, (0, 1), (-2, -1)), 2, axis=(-2, -1)).max() <= model.lipschitz
    assert model.errors(r, y) is None


@pytest.mark.parametrize("activation", [lf.Erf(), Tanh()], ids=repr)
def test_observables_of_a_fresh_sample_against_sampling(activation: lf.AbstractActivation) -> None:
    problem = lf.TwoLayer(2, 2, activation, 3.0, noise_variance=0.1, readout=(0.5, -1.5), teacher_readout=(1.0, 0.3))
    model = problem.as_process().model
    random = np.random.default_rng(1)
    factor = random.standard_normal((4, 6)) / 2
    S = factor @ factor.T
    n = 200_000
    both = np.linalg.cholesky(S) @ random.standard_normal((4, n))
    y = model.labels(both[2:], random.random((1, n)))
    loss = model.loss(both[:2], y)
    output = np.array([0.5, -1.5]) @ activation.value(both[:2])
    squares = (output - np.array([1.0, 0.3]) @ activation.value(both[2:])) ** 2
    found = model.test(S[:2, :2], S[:2, 2:], S[2:, 2:])
    assert found["test_loss"] == pytest.approx(loss.mean(), abs=4 * loss.std() / math.sqrt(n))
    assert found["mse"] == pytest.approx(squares.mean(), abs=4 * squares.std() / math.sqrt(n))


def test_a_perfect_student() -> None:
    problem = lf.TwoLayer(2, 2, lf.Erf(), 4.0, noise_variance=0.5)
    found = problem.as_process().model.test(np.eye(2), np.eye(2), np.eye(2))
    assert found == {"test_loss": pytest.approx(0.25, abs=1e-15), "mse": pytest.approx(0.0, abs=1e-15)}


def test_samples_have_exact_moments() -> None:
    sample = COMMITTEE.as_sample({"d": 30}, run=1, seed=2)
    theta, star = sample["theta"], sample["theta_star"]
    assert theta.shape == (2, 30)
    assert star.shape == (3, 30)
    assert theta @ theta.T / 30 == pytest.approx(np.array([[1.0, 0.3], [0.3, 0.5]]), abs=1e-13)
    assert star @ star.T / 30 == pytest.approx(np.eye(3), abs=1e-13)
    cosines = (theta @ star.T / 30) / np.sqrt([[1.0], [0.5]])
    assert cosines == pytest.approx(np.array([[0.2, 0.0, -0.1], [0.0, 0.4, 0.0]]), abs=1e-13)
    assert sample["y"].shape == (90,)


def test_defaults_are_the_committee() -> None:
    process = lf.TwoLayer(2, 2, lf.Erf(), 4.0).as_process()
    assert np.array_equal(process.norm, np.eye(2))
    assert np.array_equal(process.overlap, np.zeros((2, 2)))
    assert process.model.odd
    assert process.model.noise_columns == 0
    r = np.array([[0.3], [0.7]])
    assert process.model.loss(r, np.zeros(1)) == pytest.approx(np.sum(lf.Erf().value(r)) ** 2 / 2)


BAD = {
    "no columns": {"hidden": 0},
    "no teacher": {"teacher_hidden": 0},
    "delta": {"delta": -1.0},
    "decay": {"weight_decay": -1.0},
    "noise": {"noise_variance": -0.1},
    "readout": {"readout": (1.0,)},
    "readout nan": {"readout": (1.0, math.nan)},
    "readout inf": {"readout": (1.0, math.inf)},
    "teacher": {"teacher_readout": (1.0, 1.0, 1.0)},
    "shape": {"init_covariance": ((1.0,),)},
    "ragged": {"init_covariance": ((1.0, 0.0), (1.0,))},
    "asymmetric": {"init_covariance": ((1.0, 0.1), (0.2, 1.0))},
    "indefinite": {"init_covariance": ((1.0, 2.0), (2.0, 1.0))},
    "negative": {"init_covariance": ((-1.0, 0.0), (0.0, 1.0))},
    "cosine": {"init_overlap": ((1.1, 0.0), (0.0, 0.0))},
    "impossible": {"init_overlap": ((0.9, 0.9), (0.0, 0.0))},
    "transposed": {"init_overlap": ((0.1,), (0.1,))},
    "activation": {"activation": lf.Erf},
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused(case: str) -> None:
    arguments = {"hidden": 2, "teacher_hidden": 2, "activation": lf.Erf(), "delta": 2.0} | BAD[case]
    with pytest.raises(lf.InvalidInput) as caught:
        lf.TwoLayer(**arguments)
    assert "\n" not in str(caught.value)


def test_the_population_problem_has_no_samples() -> None:
    population = lf.TwoLayer(2, 2, lf.Erf(), math.inf)
    assert population.languages == ("process",)
    with pytest.raises(lf.NotSpoken, match="population"):
        population.as_sample({"d": 10}, 0, 0)
