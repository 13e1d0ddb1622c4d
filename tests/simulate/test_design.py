"""Real designs: keys that remember a matrix, and refuse what no theory is for."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest

import lossflow as lf
from lossflow.simulate import design as module

PROBLEM = lf.GeneralizedLinear(lf.Logistic(), lf.SignLabels(), delta=2.0, weight_decay=0.1)
TIMES = np.array([0.0, 1.0, 3.0])


def standard(n: int = 80, d: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)) / np.sqrt(d)


def test_a_design_is_a_key() -> None:
    X = standard()
    design = lf.Design.of(X)
    assert (
        design
        == lf.Design.of(X.tolist())
        == lf.Design.of(np.asfortranarray(X))
        == eval(repr(design), {"Design": lf.Design})
    )
    assert pickle.loads(pickle.dumps(design)) == design
    assert lf.Design.from_toml(design.to_toml()) == design
    assert design != lf.Design.of(standard(seed=1))
    assert design != lf.Design.of(X.reshape(40, 80) * np.sqrt(0.5))
    assert np.array_equal(design.matrix(), X)
    with pytest.raises(ValueError, match="read-only"):
        design.matrix()[0, 0] = 1.0
    before = X[0, 0]
    X[0, 0] = 7.0
    assert design.matrix()[0, 0] == before


def test_a_gaussian_design_gives_what_gaussian_data_give() -> None:
    """Handing over the matrix of run 0 gives run 0, bit for bit."""
    X = PROBLEM.as_sample({"d": 40}, run=0, seed=5)["X"]
    own = lf.solve(PROBLEM, lf.Simulation({"d": 40}, runs=1, seed=5), TIMES)
    given = lf.solve(PROBLEM, lf.Simulation({"d": 40}, runs=1, seed=5, design=lf.Design.of(X)), TIMES)
    for name, values in own.values.items():
        assert np.array_equal(values, given.values[name]), name


def test_runs_on_one_design_differ_in_teacher_and_start() -> None:
    design = lf.Design.of(standard())
    found = lf.solve(PROBLEM, lf.Simulation({"d": 40}, runs=3, design=design), TIMES)
    assert found.status
    assert len(np.unique(found.details["runs"]["loss"][:, -1])) == 3
    assert found.identical(lf.solve(PROBLEM, lf.Simulation({"d": 40}, runs=3, design=design), TIMES))


def test_an_unknown_matrix_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    design = lf.Design.of(standard())
    monkeypatch.setattr(module, "_known", {})
    with pytest.raises(lf.InvalidInput, match="not known in this process"):
        lf.solve(PROBLEM, lf.Simulation({"d": 40}, design=design), TIMES)


@pytest.mark.parametrize(("shape", "words"), [((80, 41), "d = 41"), ((90, 40), "delta = 2.25"), ((40, 80), "d = 80")])
def test_a_design_must_fit_the_problem(shape: tuple[int, int], words: str) -> None:
    method = lf.Simulation({"d": 40}, design=lf.Design.of(standard(*shape)))
    with pytest.raises(lf.InvalidInput, match=words):
        lf.solve(PROBLEM, method, TIMES)


def test_problems_without_data_have_no_design() -> None:
    method = lf.Simulation({"p": 4, "H": 3, "sigma2": 0.1}, design=lf.Design.of(standard()))
    with pytest.raises(lf.InvalidInput, match="leave design=None"):
        lf.solve(lf.CPDecomposition(order=2), method, TIMES)


@pytest.mark.parametrize(
    "broken",
    [
        "matrix",
        [["0.1", "-0.1"], ["-0.1", "0.1"]],
        [1.0, 2.0],
        np.zeros((0, 3)),
        np.full((4, 3), np.nan),
        np.array([[1.0, np.inf], [0.0, 1.0]]),
        standard() * 1j,
        [[1.0, 2.0], [3.0]],
        np.zeros((10, 4)),
        np.random.default_rng(0).standard_normal((80, 40)),  # variance 1 instead of 1/d
        np.random.default_rng(0).random((80, 40)) / np.sqrt(40) * np.sqrt(3),  # all positive
    ],
    ids=["word", "words", "vector", "empty", "nan", "inf", "complex", "ragged", "zeros", "variance", "mean"],
)
def test_what_is_no_design(broken: object) -> None:
    with pytest.raises(lf.InvalidInput) as caught:
        lf.Design.of(broken)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_columns_far_from_standard_are_announced() -> None:
    X = standard(2000, 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lf.Design.of(X)
    X[:, 3] += 0.3 / np.sqrt(100)
    X[:, 5] *= 2
    with pytest.warns(RuntimeWarning, match=r"1 of 100 columns .* mean .* 1 a variance"):
        lf.Design.of(X)


@pytest.mark.parametrize("digest", ["", "abc", "g" * 64, "A" * 64])
def test_digests_are_made_not_written(digest: str) -> None:
    with pytest.raises(lf.InvalidInput, match=r"Design\.of"):
        lf.Design(digest)
