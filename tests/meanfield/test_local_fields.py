"""Averages over the field of one sample: against plain sums over many points, against one another, and against Stein."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from scipy.stats import qmc

import lossflow as lf
from lossflow.meanfield.local_fields import Averages, averages, error, proximal, second_moments, tilt
from lossflow.problems.labels import AbstractLabels, CubicNoiseLabels
from lossflow.problems.losses import AbstractLoss

C, M, Q = 1.3, 0.7, 1.0
CASES = [
    (lf.Logistic(), lf.SignLabels()),
    (lf.Logistic(), lf.LogitLabels(2.0)),
    (lf.Logistic(), lf.LogitLabels(20.0)),
    (lf.SmoothHinge(), lf.NoiseLabels()),
    (lf.Huber(0.5), lf.LinearLabels(0.3)),
    (lf.Huber(0.5), CubicNoiseLabels(0.3)),
    (lf.Huber(1.0), lf.SignLabels()),
    (lf.Huber(1.0), lf.SquaredLabels(0.1)),
    (lf.Square(), CubicNoiseLabels(0.1)),
    (lf.Square(), lf.SignLabels()),
    (lf.Square(), lf.SquaredLabels(0.1)),
]


@dataclass(frozen=True, repr=False)
class Cosh(AbstractLoss):
    """log cosh(r - y): convex, smooth, of the residual, and known to nobody."""

    of_residual: ClassVar[bool] = True

    def value(self, r, y):
        return np.logaddexp(r - y, y - r) - math.log(2)

    def slope(self, r, y):
        return np.tanh(r - y)

    def curvature(self, r, y):
        return 1 - np.tanh(r - y) ** 2


@dataclass(frozen=True, repr=False)
class Hidden(Cosh):
    """The same, without saying that it depends on the residual."""

    of_residual: ClassVar[bool] = False


def by_points(loss: AbstractLoss, labels: AbstractLabels, V: float, run: int) -> np.ndarray:
    from scipy.special import ndtri

    u = qmc.Sobol(3, seed=np.random.default_rng(run)).random(2**15).T  # pyright: ignore[reportCallIssue]
    star, other = ndtri(np.clip(u[:2], 1e-12, 1 - 1e-12))
    w = M * star + math.sqrt(C - M**2) * other
    y = labels.draw(star, u[2:][: labels.noise_columns])
    r = proximal(loss, w, y, V)
    ell, bend = loss.slope(r, y), loss.curvature(r, y)
    wrong = 0.5 * (1 - np.sign(r) * y)
    rows = [bend / (1 + V * bend), ell**2, ell * star, ell * w, loss.value(r, y), wrong]
    return np.array([row.mean() for row in rows])


@pytest.mark.parametrize("V", [0.0, 2.0])
@pytest.mark.parametrize(("loss", "labels"), CASES, ids=str)
def test_against_points(loss: AbstractLoss, labels: AbstractLabels, V: float) -> None:
    """Eight scrambled Sobol sequences; the largest of all deviations is that of a Student variable."""
    runs = np.array([by_points(loss, labels, V, run) for run in range(8)])
    mean, deviation = runs.mean(axis=0), runs.std(axis=0, ddof=1) / math.sqrt(8)
    found = [*averages(loss, labels, C, M, Q, V), error(loss, labels, C, M, Q, V) if labels.kind == "binary" else 0.0]
    for got, expected, one in zip(found[: 6 if labels.kind == "binary" else 5], mean, deviation, strict=False):
        assert abs(got - expected) < 6 * one + 1e-9


@pytest.mark.parametrize(("loss", "labels"), CASES, ids=str)
def test_without_response_the_loss_is_the_test_loss(loss: AbstractLoss, labels: AbstractLabels) -> None:
    problem = lf.GeneralizedLinear(loss=loss, labels=labels, delta=1.0)
    test = problem.as_process().model.test(np.array([[C]]), np.array([[M]]), np.array([[Q]]))
    assert averages(loss, labels, C, M, Q, 0.0).loss == pytest.approx(test["test_loss"], rel=1e-11)
    if "test_error" in test:
        assert error(loss, labels, C, M, Q, 0.0) == pytest.approx(test["test_error"], rel=1e-11)


def test_phase_retrieval_in_closed_form_and_by_quadrature() -> None:
    closed = averages(lf.PhaseRetrieval(), lf.SquaredLabels(0.2), C, M, Q, 0.0)
    assert closed == pytest.approx(averages(lf.PhaseRetrieval(), Doubled(), C, M, Q, 0.0), rel=1e-10)


@dataclass(frozen=True, repr=False)
class Doubled(AbstractLabels):
    """r*^2 + noise of variance 0.2, by hand."""

    kind = "squared"
    noise_columns = 1  # type: ignore[assignment]

    def draw(self, teacher, noise):
        from scipy.special import ndtri

        return teacher**2 + math.sqrt(0.2) * ndtri(noise[0])


def test_a_loss_of_the_user_by_three_roads() -> None:
    """One dimension for a residual with Gaussian noise; two, given the teacher, without that knowledge."""
    for V in (0.0, 1.5):
        one = averages(Cosh(), lf.LinearLabels(0.3), C, M, Q, V)
        assert one == pytest.approx(averages(Hidden(), lf.LinearLabels(0.3), C, M, Q, V), rel=1e-8)


def test_a_wide_huber_loss_is_square_loss() -> None:
    for labels in (lf.LinearLabels(0.3), lf.SquaredLabels(0.1), lf.SignLabels()):
        for V in (0.0, 3.0):
            wide = averages(lf.Huber(1e3), labels, C, M, Q, V)
            assert wide == pytest.approx(averages(lf.Square(), labels, C, M, Q, V), rel=1e-10)


@pytest.mark.parametrize(("loss", "labels"), CASES[:7], ids=str)
@pytest.mark.parametrize("V", [0.0, 2.0])
def test_stein(loss: AbstractLoss, labels: AbstractLabels, V: float) -> None:
    """E ell w = C E ell'/(1 + V ell') + m M*,  E ell r* = m E ell'/(1 + V ell') + Q M*: the same M* in both."""
    a: Averages = averages(loss, labels, C, M, Q, V)
    pull = (a.signal - a.curvature * M) / Q
    assert a.drag == pytest.approx(C * a.curvature + M * pull, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("V", [1e-8, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("loss", [lf.Logistic(), lf.SmoothHinge(sharpness=20.0), lf.Huber(0.3), Cosh()], ids=repr)
def test_the_proximal_point_solves_its_equation(loss: AbstractLoss, V: float) -> None:
    """Newton's method alone runs in circles at V = 100 and w = -10."""
    w = np.concatenate([np.linspace(-50, 50, 1001), [-1e4, 1e4, 0.0]])
    for y in (-1.0, 1.0):
        r = proximal(loss, w, np.full_like(w, y), V)
        scale = 1 + np.abs(w) + np.abs(r) + V * np.abs(loss.slope(r, np.full_like(w, y)))
        assert (
            np.abs(r + V * loss.slope(r, np.full_like(w, y)) - w)
            < 2e-14 * scale * (1 + V * loss.curvature(r, np.full_like(w, y)))
        ).all()


def test_moments_and_tilts_of_labels() -> None:
    assert second_moments(lf.LinearLabels(0.3), 2.0) == (2.0, 2.3)
    assert second_moments(CubicNoiseLabels(0.1), 1.0) == (1.0, pytest.approx(1.15))
    assert second_moments(lf.SignLabels(), 4.0) == pytest.approx((2 * math.sqrt(2 / math.pi), 1.0))
    assert second_moments(lf.SquaredLabels(0.5), 1.0) == pytest.approx((0.0, 3.5), abs=1e-12)
    assert second_moments(lf.NoiseLabels(), 1.0) == (0.0, 1.0)
    mean = np.linspace(-3, 3, 7)
    for labels in (
        lf.LogitLabels(3.9),
        lf.LogitLabels(4.1),
        lf.SignLabels(),
    ):  # on both sides of a change of quadrature
        h = 1e-4
        slope = (labels.positive(mean + h, 1.0) - labels.positive(mean - h, 1.0)) / (2 * h)
        assert tilt(labels, mean, 1.0) == pytest.approx(slope, rel=1e-6, abs=1e-9)


def test_labels_of_the_user_need_a_probability() -> None:
    @dataclass(frozen=True, repr=False)
    class Coin(AbstractLabels):
        """Sign, with a probability only when asked for."""

        kind = "binary"

        def draw(self, teacher, noise):
            return np.sign(teacher)

    @dataclass(frozen=True, repr=False)
    class Known(Coin):
        def positive(self, mean, variance):
            return lf.LogitLabels(2.0).positive(mean, variance)

    with pytest.raises(lf.NotSpoken, match="define positive"):
        averages(lf.Logistic(), Coin(), C, M, Q, 1.0)
    known = averages(lf.Logistic(), Known(), C, M, Q, 1.0)
    assert known == pytest.approx(averages(lf.Logistic(), lf.LogitLabels(2.0), C, M, Q, 1.0), rel=1e-9)


def test_at_the_edges_of_the_moments() -> None:
    for labels in (lf.SignLabels(), lf.LogitLabels(1.0), lf.NoiseLabels()):
        at_rest = averages(lf.Logistic(), labels, 0.0, 0.0, 1.0, 0.0)  # w = 0
        assert at_rest.curvature == pytest.approx(0.25, rel=1e-12)
        assert at_rest.force == pytest.approx(0.25, rel=1e-12)
        assert error(lf.Logistic(), labels, 0.0, 0.0, 1.0, 0.0) == 0.5
        aligned = averages(lf.Logistic(), labels, 4.0, 2.0, 1.0, 0.0)  # w = 2 r*
        assert np.isfinite(aligned).all()
    assert averages(lf.Huber(), lf.LinearLabels(0.0), 1.0, 1.0, 1.0, 0.0) == Averages(1.0, 0.0, 0.0, 0.0, 0.0)
