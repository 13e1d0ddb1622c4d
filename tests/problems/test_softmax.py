"""Softmax regression: derivatives, labels, exact and sampled observables, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest

import lossflow as lf
from lossflow.problems.softmax import largest_probability, normal_points


def moments(m: int, seed: int = 1, size: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    factor = np.random.default_rng(seed).standard_normal((2 * m, 3 * m)) * math.sqrt(size / (3 * m))
    S = factor @ factor.T
    return S[:m, :m], S[:m, m:], S[m:, m:]


def test_derivatives() -> None:
    model = lf.Softmax(3, 2.0).as_process().model
    random = np.random.default_rng(0)
    r, y = random.standard_normal((3, 5, 4)), random.integers(0, 3, (5, 4)).astype(float)
    gradient, jacobian, h = model.gradient(r, y), model.jacobian(r, y), 1e-6
    assert jacobian.shape == (3, 3, 5, 4)
    for a in range(3):
        step = np.zeros_like(r)
        step[a] = h
        assert gradient[a] == pytest.approx((model.loss(r + step, y) - model.loss(r - step, y)) / (2 * h), abs=1e-8)
        assert jacobian[:, a] == pytest.approx(
            (model.gradient(r + step, y) - model.gradient(r - step, y)) / (2 * h), abs=1e-8
        )
    assert np.linalg.norm(np.moveaxis(jacobian, (0, 1), (-2, -1)), 2, axis=(-2, -1)).max() <= model.lipschitz == 0.5


def test_two_classes_are_logistic_regression() -> None:
    model = lf.Softmax(2, 2.0).as_process().model
    r = np.random.default_rng(0).standard_normal((2, 50))
    for y, sign in ((0.0, 1.0), (1.0, -1.0)):
        expected = lf.Logistic().value(r[0] - r[1], np.full(50, sign))
        assert model.loss(r, np.full(50, y)) == pytest.approx(expected, rel=1e-13)


def test_labels_follow_the_teacher() -> None:
    model = lf.Softmax(3, 2.0, sharpness=1.5).as_process().model
    teacher = np.repeat(np.array([[0.3], [-0.4], [0.9]]), 100_000, axis=1)
    y = model.labels(teacher, np.random.default_rng(0).random((1, 100_000)))
    weights = np.exp(1.5 * teacher[:, 0])
    assert np.bincount(y.astype(int), minlength=3) / 100_000 == pytest.approx(weights / weights.sum(), abs=0.006)


@pytest.mark.parametrize(("m", "size"), [(2, 1.0), (3, 1.0), (3, 10.0), (4, 1.0), (6, 1.0)])
def test_observables_of_a_fresh_sample_against_sampling(m: int, size: float) -> None:
    model = lf.Softmax(m, 2.0, sharpness=2.0).as_process().model
    norm, overlap, teacher = moments(m, size=size)
    random = np.random.default_rng(2)
    n = 200_000
    S = np.block([[norm, overlap], [overlap.T, teacher]])
    both = np.linalg.cholesky(S) @ random.standard_normal((2 * m, n))
    y = model.labels(both[m:], random.random((1, n)))
    found, spread = model.test(norm, overlap, teacher), model.test_uncertainty(norm, overlap, teacher)
    for name, values in {"test_loss": model.loss(both[:m], y), "test_error": model.errors(both[:m], y)}.items():
        assert values is not None
        assert found[name] == pytest.approx(
            values.mean(), abs=4 * math.hypot(values.std() / math.sqrt(n), spread[name])
        )
        assert spread[name] < 2e-3


def test_the_loss_of_few_classes_is_exact() -> None:
    """Two classes with independent columns: logistic loss of logit labels in the difference of the columns."""
    c, m0 = 0.9, 0.5
    softmax = lf.Softmax(2, 2.0, sharpness=1.5).as_process().model
    logistic = lf.GeneralizedLinear(lf.Logistic(), lf.LogitLabels(1.5), 2.0).as_process().model
    found = softmax.test(c * np.eye(2), m0 * np.eye(2), np.eye(2))
    expected = logistic.test(np.array([[2 * c]]), np.array([[2 * m0]]), np.array([[2.0]]))
    assert found["test_loss"] == pytest.approx(expected["test_loss"], abs=1e-10)
    assert found["test_error"] == pytest.approx(expected["test_error"], abs=1e-10)
    assert max(softmax.test_uncertainty(c * np.eye(2), m0 * np.eye(2), np.eye(2)).values()) < 1e-12


def test_the_product_rule_agrees_with_sampled_points() -> None:
    """Three classes, broad labels: the rule applies; sharper labels: sampled points do, by continuity close by."""
    one = np.eye(3)
    model = lf.Softmax(3, 2.0).as_process().model
    norm, overlap, teacher = 0.9 * one, 0.5 * one, one
    exact = model.test(norm, overlap, teacher)["test_error"]
    assert model.test_uncertainty(norm, overlap, teacher)["test_error"] == 0
    z = normal_points(6)
    star = z[..., :3]
    p = np.exp(star) / np.exp(star).sum(axis=-1, keepdims=True)
    r = 0.5 * star + math.sqrt(0.9 - 0.25) * z[..., 3:]
    wrong = 1 - np.take_along_axis(p, r.argmax(axis=-1)[..., None], -1).mean(axis=(1, 2))
    assert exact == pytest.approx(wrong.mean(), abs=5 * wrong.std() / math.sqrt(len(wrong)))


@pytest.mark.parametrize("m", [2, 3, 4])
def test_zero_weights_guess(m: int) -> None:
    model = lf.Softmax(m, 2.0).as_process().model
    zero = np.zeros((m, m))
    found = model.test(zero, zero, np.eye(m))
    assert found == {
        "test_loss": pytest.approx(math.log(m), abs=1e-12),
        "test_error": pytest.approx(1 - 1 / m, abs=1e-4),
    }


def test_probabilities_of_being_largest_sum_to_one() -> None:
    norm, _, _ = moments(4, seed=3)
    z = normal_points(2)
    mean = np.array([0.1, -0.2, 0.3, 0.0])
    each = [largest_probability(np.broadcast_to(mean, (*z.shape[:2], 4)), norm, a, z).mean() for a in range(4)]
    assert sum(each) == pytest.approx(1, abs=1e-4)
    r = mean + np.random.default_rng(0).standard_normal((400_000, 4)) @ np.linalg.cholesky(norm).T
    assert each == pytest.approx(np.bincount(r.argmax(axis=1)) / 400_000, abs=0.004)


def test_the_process_and_its_samples() -> None:
    problem = lf.Softmax(3, 2.0, weight_decay=0.1, init_variance=0.5)
    process = problem.as_process()
    assert np.array_equal(process.norm, 0.5 * np.eye(3))
    assert np.array_equal(process.overlap, np.zeros((3, 3)))
    sample = problem.as_sample({"d": 20}, 0, 0)
    assert sample["theta"] @ sample["theta"].T / 20 == pytest.approx(0.5 * np.eye(3), abs=1e-13)
    assert sample["theta"] @ sample["theta_star"].T / 20 == pytest.approx(np.zeros((3, 3)), abs=1e-13)
    assert set(sample["y"]) <= {0.0, 1.0, 2.0}


@pytest.mark.parametrize(
    "wrong",
    [
        {"classes": 1},
        {"delta": 0.0},
        {"weight_decay": -1.0},
        {"sharpness": 0.0},
        {"sharpness": math.inf},
        {"init_variance": -1.0},
    ],
)
def test_what_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(lf.InvalidInput):
        lf.Softmax(**({"classes": 3, "delta": 2.0} | wrong))  # type: ignore[arg-type]


def test_the_population_problem_has_no_samples() -> None:
    population = lf.Softmax(3, math.inf)
    assert population.languages == ("process",)
    with pytest.raises(lf.NotSpoken, match="population"):
        population.as_sample({"d": 10}, 0, 0)
