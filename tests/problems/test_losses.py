"""Losses against finite differences, their own claims, and averages computed another way."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

import lossflow as lf
from lossflow.problems.gaussian import average
from lossflow.problems.losses import require_derivatives

Array = npt.NDArray[np.float64]

LOSSES = [
    lf.Square(),
    lf.Huber(0.7),
    lf.Huber(3.0),
    lf.Logistic(),
    lf.SmoothHinge(),
    lf.SmoothHinge(0.0, 10.0),
    lf.PhaseRetrieval(),
]
BINARY = np.array([-1.0, 1.0])
REAL = np.array([-1.3, 0.2, 2.0])


def labels_of(loss: lf.AbstractLoss) -> Array:
    return BINARY if loss.labels == ("binary",) else REAL


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_derivatives_are_those_of_the_value(loss: lf.AbstractLoss) -> None:
    r, y = np.meshgrid(np.linspace(-5.03, 5.01, 41), labels_of(loss))
    h = 1e-5
    slope = (loss.value(r + h, y) - loss.value(r - h, y)) / (2 * h)
    curvature = (loss.slope(r + h, y) - loss.slope(r - h, y)) / (2 * h)
    assert loss.slope(r, y) == pytest.approx(slope, rel=1e-6, abs=1e-8)
    assert loss.curvature(r, y) == pytest.approx(curvature, rel=1e-6, abs=1e-8)
    require_derivatives(loss, tuple(labels_of(loss)))


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_the_curvature_keeps_to_its_bound_and_reaches_it(loss: lf.AbstractLoss) -> None:
    r, y = np.meshgrid(np.linspace(-30, 30, 6001), labels_of(loss))
    largest = float(np.abs(loss.curvature(r, y)).max())
    if isinstance(loss, lf.PhaseRetrieval):
        assert loss.lipschitz == math.inf
        assert largest > 1000
    else:
        assert largest == pytest.approx(loss.lipschitz, rel=1e-3)
        assert largest <= loss.lipschitz * (1 + 1e-12)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_symmetries_are_as_told(loss: lf.AbstractLoss) -> None:
    r, y = np.meshgrid(np.linspace(-3, 3, 13), labels_of(loss))
    mirrored = {"odd": loss.value(-r, -y), "even": loss.value(-r, y)}
    assert loss.symmetry in mirrored
    assert mirrored[loss.symmetry] == pytest.approx(loss.value(r, y), rel=1e-13, abs=1e-15)
    if loss.of_residual:
        assert loss.value(r + 0.7, y + 0.7) == pytest.approx(loss.value(r, y), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("deviation", [1e-6, 0.3, 1.0, 4.0])
def test_averages_over_r(loss: lf.AbstractLoss, deviation: float) -> None:
    for mean in (-2.0, 0.0, 0.4):
        for y in labels_of(loss):
            expected = float(average(lambda x: loss.value(mean + deviation * x, np.full_like(x, y))))  # noqa: B023
            found = loss.average(np.array(mean), deviation**2, np.array(y))
            # the trapezoidal rule of `smoothed` is good to rounding up to deviation * sharpness = 4; then a kink
            close = 1e-3 if isinstance(loss, lf.SmoothHinge) and deviation * loss.sharpness > 4 else 1e-11
            assert float(found) == pytest.approx(expected, rel=close, abs=1e-15)


def test_no_overflow_far_from_the_label() -> None:
    with np.errstate(all="raise", under="ignore"):
        for loss in (lf.Logistic(), lf.SmoothHinge()):
            r = np.array([-1e6, -800.0, 0.0, 800.0, 1e6])
            for y in BINARY:
                labels = np.full_like(r, y)
                for part in (loss.value, loss.slope, loss.curvature):
                    assert np.isfinite(part(r, labels)).all()
            assert loss.value(r, np.ones(5))[0] == pytest.approx(1e6, rel=1e-5)


@dataclass(frozen=True, repr=False)
class Cauchy(lf.AbstractLoss):
    """log(1 + e^2)/2, with a slope and a curvature that may be spoiled."""

    slope_factor: float = 1.0
    curvature_factor: float = 1.0

    of_residual = True

    def value(self, r: Array, y: Array) -> Array:
        return 0.5 * np.log1p((r - y) ** 2)

    def slope(self, r: Array, y: Array) -> Array:
        return self.slope_factor * (r - y) / (1 + (r - y) ** 2)

    def curvature(self, r: Array, y: Array) -> Array:
        return self.curvature_factor * (1 - (r - y) ** 2) / (1 + (r - y) ** 2) ** 2


def test_a_loss_of_ones_own_is_checked_when_it_is_used() -> None:
    lf.GeneralizedLinear(Cauchy(), lf.LinearLabels(), delta=2.0).as_process()
    for spoiled, name in [(Cauchy(1.01), "slope"), (Cauchy(1.0, 0.98), "curvature"), (Cauchy(-1.0, -1.0), "slope")]:
        problem = lf.GeneralizedLinear(spoiled, lf.LinearLabels(), delta=2.0)
        with pytest.raises(lf.InvalidInput, match=rf"Cauchy\.{name} is off at r = .*, y = .*finite differences"):
            problem.as_process()
        with pytest.raises(lf.InvalidInput, match="is off"):
            lf.solve(problem, lf.Simulation({"d": 10}, runs=1), [0.0, 1.0])


@dataclass(frozen=True, repr=False)
class Silent(lf.AbstractLoss):
    """Says nothing."""


@dataclass(frozen=True, repr=False)
class Averaging(Cauchy):
    """Forgets that it works elementwise."""

    def slope(self, r: Array, y: Array) -> Array:
        return np.mean(super().slope(r, y))  # type: ignore[return-value]


@dataclass(frozen=True, repr=False)
class Infinite(Cauchy):
    """Has a pole."""

    def value(self, r: Array, y: Array) -> Array:
        return np.where(r > 2, np.inf, super().value(r, y))


@pytest.mark.parametrize(
    ("loss", "words"), [(Silent(), "define slope"), (Averaging(), "elementwise"), (Infinite(), "not finite")]
)
def test_broken_losses_are_told_so(loss: lf.AbstractLoss, words: str) -> None:
    with np.errstate(invalid="ignore"), pytest.raises(lf.InvalidInput, match=words):
        lf.GeneralizedLinear(loss, lf.LinearLabels(), delta=2.0).as_process()


@pytest.mark.parametrize(
    "make",
    [
        lambda: lf.Huber(0),
        lambda: lf.Huber(-1),
        lambda: lf.Huber(math.inf),
        lambda: lf.Huber(math.nan),
        lambda: lf.SmoothHinge(sharpness=0),
        lambda: lf.SmoothHinge(margin=math.inf),
        lambda: lf.SmoothHinge(sharpness=math.inf),
    ],
)
def test_parameters_out_of_range(make: object) -> None:
    with pytest.raises(lf.InvalidInput):
        make()  # type: ignore[operator]
