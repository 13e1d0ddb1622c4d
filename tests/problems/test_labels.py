"""Labels: the law that is drawn is the law that is told."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

import lossflow as lf
from lossflow.problems.gaussian import average
from lossflow.problems.labels import CubicNoiseLabels

LABELS = [
    lf.LinearLabels(),
    lf.LinearLabels(0.3),
    CubicNoiseLabels(0.3),
    lf.SquaredLabels(),
    lf.SquaredLabels(0.5),
    lf.SignLabels(),
    lf.LogitLabels(2.0),
    lf.NoiseLabels(),
]


def drawn(labels: lf.AbstractLabels, teacher: np.ndarray, seed: int = 0) -> np.ndarray:
    return labels.draw(teacher, np.random.default_rng(seed).random((labels.noise_columns, *teacher.shape)))


@pytest.mark.parametrize("labels", LABELS, ids=repr)
def test_kinds_and_shapes(labels: lf.AbstractLabels) -> None:
    y = drawn(labels, np.linspace(-3, 3, 24).reshape(2, 3, 4))
    assert y.shape == (2, 3, 4)
    assert y.dtype == np.float64
    if labels.kind == "binary":
        assert set(np.unique(y)) <= {-1.0, 1.0}


@pytest.mark.parametrize("labels", LABELS, ids=repr)
def test_symmetry_in_law(labels: lf.AbstractLabels) -> None:
    teacher = np.random.default_rng(1).standard_normal(20000)
    sign = {"odd": -1.0, "even": 1.0}[labels.symmetry or ""]
    there, mirrored = drawn(labels, teacher, 2), sign * drawn(labels, -teacher, 3)
    if labels.kind == "binary":
        assert np.mean(there * teacher) == pytest.approx(np.mean(mirrored * teacher), abs=0.03)
    else:
        result = stats.ks_2samp(there - mirrored, mirrored - there)
        assert result.pvalue > 1e-3  # pyright: ignore[reportAttributeAccessIssue]
        assert np.mean(there) == pytest.approx(np.mean(mirrored), abs=0.05)


def test_noise_variances() -> None:
    teacher = np.zeros(400000)
    assert drawn(lf.LinearLabels(0.3), teacher).var() == pytest.approx(0.3, rel=0.01)
    assert drawn(lf.SquaredLabels(0.5), teacher).var() == pytest.approx(0.5, rel=0.01)
    cubic = drawn(CubicNoiseLabels(0.3), teacher)
    assert cubic.var() == pytest.approx(15 * 0.09, rel=0.05)
    assert stats.kurtosis(cubic) > 30
    assert np.median(np.abs(cubic)) == pytest.approx(0.3 * stats.norm.ppf(0.75) ** 3, rel=0.02)


@pytest.mark.parametrize("labels", [label for label in LABELS if label.kind == "binary"], ids=repr)
@pytest.mark.parametrize("deviation", [0.0, 1e-3, 1.0, 3.0])
def test_probabilities_are_those_of_the_draws(labels: lf.AbstractLabels, deviation: float) -> None:
    random = np.random.default_rng(4)
    for mean in (-0.7, 0.2):
        teacher = mean + deviation * random.standard_normal(100000)
        probability = labels.positive(np.array([mean]), deviation**2)
        assert probability is not None
        frequency = float(np.mean(drawn(labels, teacher) > 0))
        assert float(probability[0]) == pytest.approx(frequency, abs=5 * 0.5 / math.sqrt(100000))


@pytest.mark.parametrize("sharpness", [0.1, 1.0, 3.9, 4.1, 30.0, 1e4])
def test_logit_probabilities_to_rounding(sharpness: float) -> None:
    """Both ways of averaging, against adaptive panels with their edge at the step."""
    from scipy.special import expit

    for mean in (0.0, 0.8, -2.0):
        found = lf.LogitLabels(sharpness).positive(np.array(mean), 1.0)

        def shifted(z: np.ndarray, mean: float = mean) -> np.ndarray:
            # over N(mean, 1), written as a change of measure so that the step stands at z = 0
            return expit(sharpness * z) * np.exp(mean * z - mean**2 / 2)

        assert float(found) == pytest.approx(float(average(shifted)), rel=1e-11)


@pytest.mark.parametrize(
    "make",
    [
        lambda: lf.LinearLabels(-0.1),
        lambda: lf.LinearLabels(math.inf),
        lambda: lf.SquaredLabels(-1),
        lambda: lf.LogitLabels(0),
        lambda: lf.LogitLabels(math.inf),
        lambda: CubicNoiseLabels(0),
        lambda: CubicNoiseLabels(math.inf),
    ],
)
def test_parameters_out_of_range(make: object) -> None:
    with pytest.raises(lf.InvalidInput):
        make()  # type: ignore[operator]
