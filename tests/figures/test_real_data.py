"""Images against the theory for Gaussian data: shuffled features follow it, correlated ones do not."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest

import lossflow as lf
from lossflow.figures import diagonal_universality, real_data


def made_up_images(classes: tuple[int, int] | None) -> np.ndarray:
    """360 images of 64 pixels that share a few patterns, some pixels constant: as correlated as the real ones."""
    random = np.random.default_rng(0)
    images = random.standard_normal((360, 20)) @ random.standard_normal((20, 64)) + 0.3 * random.standard_normal(
        (360, 64)
    )
    images[:, :5] = 1.0
    return images


QUICK = {**real_data.FIGURE.quick, "paths": 512, "steps": 20}


@pytest.mark.slow
def test_correlations_are_what_the_theory_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real_data, "digits", made_up_images)
    outcome = real_data.draw(**QUICK)
    assert [verdict.curve for verdict in outcome.verdicts] == [
        *(f"{observable}, {name}" for observable in ("loss", "test_error") for name in real_data.NAMES[:2]),
        "loss and test_error, images",
    ]
    for verdict in outcome.verdicts:
        assert verdict.agree, verdict.sentence
    assert "as claimed, the theory is off" in outcome.verdicts[-1].sentence
    (picture,) = outcome.pictures
    assert len(picture.canvas.axes) == 2
    assert "d = 180, n = 360" in picture.words


@pytest.mark.slow
def test_a_theory_that_is_off_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With six times the weight decay."""
    monkeypatch.setattr(real_data, "digits", made_up_images)
    right = real_data.solve

    def spoiled(problem: lf.GeneralizedLinear, method: lf.AbstractMethod, *rest: object) -> lf.Trajectory:
        decay = 0.3 if isinstance(method, lf.MeanField) else problem.weight_decay
        answer = right(dataclasses.replace(problem, weight_decay=decay), method, *rest)  # type: ignore[arg-type]
        return dataclasses.replace(answer, problem=problem)

    monkeypatch.setattr(real_data, "solve", spoiled)
    outcome = real_data.draw(**QUICK)
    assert not outcome.verdicts[0].agree
    assert not outcome.verdicts[1].agree


def test_designs_are_standardized_and_shuffling_keeps_each_feature() -> None:
    real = real_data.standardized(real_data.random_features(made_up_images(None), 90))
    mixed = real_data.shuffled(real)
    for X in (real, mixed):
        assert X.shape == (360, 90)
        assert X.mean(axis=0) == pytest.approx(0, abs=1e-14)
        assert X.var(axis=0) * 90 == pytest.approx(1)
    assert np.array_equal(np.sort(real, axis=0), np.sort(mixed, axis=0))
    strongest = [np.linalg.eigvalsh(X.T @ X)[-1] for X in (real, mixed)]
    assert strongest[0] > 2 * strongest[1]


def test_no_direction_of_the_noise_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the designs of `diagonal-universality`: |X^T 1|^2 = n for independent entries, zero for columns that are centered."""
    monkeypatch.setattr(diagonal_universality, "digits", made_up_images)
    monkeypatch.setattr(diagonal_universality.importlib.util, "find_spec", lambda name: name)
    X = diagonal_universality._features((3, 8), 100)
    assert X is not None
    assert X.shape == (100, 200)
    for design in (X, real_data.shuffled(X)):
        assert 0.1 < np.sum(design.sum(axis=0) ** 2) / 100 < 10
    assert np.sum(real_data.standardized(X).sum(axis=0) ** 2) / 100 < 1e-20


def test_the_real_images() -> None:
    pytest.importorskip("sklearn")
    two, all_of_them = real_data.digits((3, 8)), real_data.digits(None)
    assert two.shape == (357, 64)
    assert all_of_them.shape == (1797, 64)


def test_without_scikit_learn_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(lf.InvalidInput, match=r"pip install 'lossflow\[data\]'"):
        real_data.digits(None)
