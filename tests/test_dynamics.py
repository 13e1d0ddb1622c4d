"""Dynamics as descriptions: time grids, ranges, the map from a learning rate and a batch."""

from __future__ import annotations

import math
import pickle
import warnings

import numpy as np
import pytest

import lossflow as lf

ALL = [
    lf.GradientFlow(),
    lf.GradientDescent(0.1),
    lf.StochasticGradientFlow(0.3),
    lf.StochasticGradientFlow(0.3, step=0.1),
    lf.PoissonSGD(0.3),
    lf.PoissonSGD(0.3, step=0.1),
    lf.SGD(0.1, 0.25),
    lf.SGD(0.1, 0.25, order="reshuffled"),
    lf.SGD(0.1, 0.25, order="persistent", persistence=4.0),
]


@pytest.mark.parametrize("dynamics", ALL, ids=repr)
def test_a_dynamics_is_a_key(dynamics: lf.AbstractDynamics) -> None:
    for copy in (
        pickle.loads(pickle.dumps(dynamics)),
        lf.AbstractDynamics.from_toml(dynamics.to_toml()),
        eval(repr(dynamics), {name: getattr(lf, name) for name in lf.__all__}),
    ):
        assert copy == dynamics
        assert copy.content_key == dynamics.content_key


def test_times_are_multiples_of_the_step() -> None:
    dynamics = lf.GradientDescent(0.1)
    assert np.array_equal(dynamics.times(4), 0.1 * np.arange(5.0))
    assert np.array_equal(dynamics.times(7, every=3), 0.1 * np.array([0.0, 3, 6, 7]))
    assert np.array_equal(dynamics.updates(dynamics.times(1000, 7)), [*range(0, 1000, 7), 1000])
    assert np.array_equal(lf.SGD(1e-3, 0.5).updates(np.array([5.0, 100.0])), [5000, 100000])


@pytest.mark.parametrize("time", [0.25, 0.1 + 1e-6, -0.1, 0.05])
def test_times_off_the_grid_are_refused_with_the_nearest(time: float) -> None:
    with pytest.raises(lf.InvalidInput, match=r"multiples of its step 0\.1.*nearest"):
        lf.GradientDescent(0.1).updates(np.array([0.0, time]))


@pytest.mark.parametrize("dynamics", [d for d in ALL if d.step is None], ids=repr)
def test_continuous_time_has_no_grid(dynamics: lf.AbstractDynamics) -> None:
    with pytest.raises(lf.InvalidInput, match="continuous"):
        dynamics.times(10)
    with pytest.raises(lf.InvalidInput, match="continuous"):
        dynamics.updates(np.array([0.0]))


@pytest.mark.parametrize(("steps", "every"), [(0, 1), (10, 0), (-1, 1), (2.5, 1), ("ten", 1), (10, True)])
def test_grids_that_make_no_sense(steps: object, every: object) -> None:
    with pytest.raises(lf.InvalidInput):
        lf.GradientDescent(0.1).times(steps, every)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [
        lambda: lf.GradientDescent(0.0),
        lambda: lf.GradientDescent(-0.1),
        lambda: lf.GradientDescent(math.inf),
        lambda: lf.GradientDescent(math.nan),
        lambda: lf.StochasticGradientFlow(-0.1),
        lambda: lf.StochasticGradientFlow(math.inf),
        lambda: lf.StochasticGradientFlow(0.1, step=0.0),
        lambda: lf.PoissonSGD(0.0),
        lambda: lf.PoissonSGD(1.0, step=-1.0),
        lambda: lf.SGD(0.1, 0.0),
        lambda: lf.SGD(0.1, 1.1),
        lambda: lf.SGD(0.0, 0.5),
        lambda: lf.SGD(0.1, 0.3, order="reshuffled"),
        lambda: lf.SGD(0.1, 0.5, order="shuffled"),  # type: ignore[arg-type]
        lambda: lf.SGD(0.1, 0.5, order="persistent"),
        lambda: lf.SGD(0.1, 0.5, persistence=3.0),
        lambda: lf.SGD(0.1, 0.1, order="persistent", persistence=8.9),
        lambda: lf.SGD(0.1, 0.9, order="persistent", persistence=0.5),
        lambda: lf.SGD(0.1, 0.5, order="persistent", persistence=math.inf),
    ],
)
def test_values_out_of_range(make: object) -> None:
    with pytest.raises(lf.InvalidInput):
        make()  # type: ignore[operator]


def test_a_learning_rate_and_a_batch() -> None:
    """theta moves by -(rate/B) sum over the batch of x ell; with step = rate/d and b = B/n that is -(1/delta)(step/b) x ell."""
    n, d, rate, batch = 2000, 1000, 0.5, 20
    sgd = lf.SGD.from_batch(rate, batch, samples=n, dimension=d)
    assert (sgd.step, sgd.batch_fraction) == (rate / d, batch / n)
    assert (d / n) * sgd.step / sgd.batch_fraction == pytest.approx(rate / batch, rel=1e-14)
    # and its variance is that of the stochastic flow at the temperature rate/batch, up to the factor 1 - b
    variance = sgd.step**2 * (1 - sgd.batch_fraction) / sgd.batch_fraction
    flow = lf.StochasticGradientFlow(rate / batch, step=sgd.step)
    assert variance == pytest.approx((1 - sgd.batch_fraction) * flow.temperature * (n / d) * sgd.step, rel=1e-13)
    assert lf.SGD.from_batch(np.float64(0.5), np.int64(20), 2000, 1000) == sgd  # type: ignore[arg-type]


def test_large_kicks_are_announced() -> None:
    with pytest.warns(RuntimeWarning, match="kicks of size"):
        lf.SGD.from_batch(30.0, 10, samples=2000, dimension=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lf.SGD.from_batch(30.0, 2000, samples=2000, dimension=1000)  # the full batch has no noise


@pytest.mark.parametrize(
    ("rate", "batch", "samples", "dimension"),
    [
        (0.1, 0, 10, 5),
        (0.1, 11, 10, 5),
        (0.1, 2.5, 10, 5),
        (0.1, 2, 10, 0),
        (0.0, 2, 10, 5),
        (-1.0, 2, 10, 5),
        ("fast", 2, 10, 5),
    ],
)
def test_batches_that_make_no_sense(rate: object, batch: object, samples: int, dimension: int) -> None:
    with pytest.raises(lf.InvalidInput):
        lf.SGD.from_batch(rate, batch, samples, dimension)  # type: ignore[arg-type]
