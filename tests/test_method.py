"""The front door: what `solve` lets in, what it refuses, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lossflow as lf
from lossflow.method import checked_times
from lossflow.trajectory import COMPLETE

SIZES = {"p": 4, "H": 2, "sigma2": 0.25}
PROBLEM = lf.CPDecomposition(order=2)
LIMIT = lf.Limit(SIZES)


@dataclass(frozen=True, repr=False)
class Listener(lf.AbstractMethod):
    """Answers with the times it was given."""

    language: ClassVar[str] = "diagrams"

    def solve(self, problem: lf.AbstractProblem, times: Any, dynamics: lf.AbstractDynamics) -> lf.Trajectory:
        assert times.dtype == np.float64
        zero = {"loss": np.zeros(times.shape)}
        return lf.Trajectory(times, zero, zero, COMPLETE, problem, self, dynamics, {}, ())


@dataclass(frozen=True, repr=False)
class Silent(lf.AbstractProblem):
    """A problem that speaks no language."""


@dataclass(frozen=True, repr=False)
class OnlySamples(lf.AbstractProblem):
    """A problem that can be simulated and nothing else."""

    @property
    def languages(self) -> tuple[str, ...]:
        return ("sample",)


@dataclass(frozen=True, repr=False)
class Wordless(lf.AbstractMethod):
    """A method that does not say what it needs."""


@dataclass(frozen=True, repr=False)
class Foreign(lf.AbstractMethod):
    """A method that needs what does not exist."""

    language: ClassVar[str] = "diagram"


@dataclass(frozen=True, repr=False)
class Idle(lf.AbstractMethod):
    """A method that does not solve."""

    language: ClassVar[str] = "diagrams"


# times


@pytest.mark.parametrize(
    "times",
    [
        [0, 1, 2], (0.0, 1.0, 2.0), range(3), np.arange(3), np.arange(3, dtype=np.float32), np.arange(3, dtype=np.uint8),
        [Fraction(0), Fraction(1), 2], np.array([0, 1, 2], dtype=object), [np.float64(0), np.int8(1), 2],
    ],
)  # fmt: skip
def test_numbers_of_any_kind_are_times(times: Any) -> None:
    answer = lf.solve(PROBLEM, Listener(), times)
    np.testing.assert_array_equal(answer.times, [0.0, 1.0, 2.0])
    assert answer.dynamics == lf.GradientFlow()


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, unique=True), st.booleans())
def test_any_strictly_monotone_times_pass_unchanged(times: list[float], backward: bool) -> None:
    times = sorted(times, reverse=backward)
    np.testing.assert_array_equal(checked_times(times), times)


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=6))
def test_no_other_times_pass(times: list[float]) -> None:
    steps = [b - a for a, b in pairwise(times)]
    monotone = all(s > 0 for s in steps) or all(s < 0 for s in steps)
    if monotone:
        checked_times(times)
    else:
        with pytest.raises(lf.InvalidInput, match="strictly monotone"):
            checked_times(times)


def test_one_time_and_times_without_zero() -> None:
    assert lf.solve(PROBLEM, Listener(), 0.5).times.tolist() == [0.5]
    assert lf.solve(PROBLEM, Listener(), [-1, -0.5, 0.5]).times.tolist() == [-1, -0.5, 0.5]
    assert lf.solve(PROBLEM, Listener(), [3, 2]).times.tolist() == [3, 2]


def test_the_times_given_stay_as_they_are() -> None:
    times = np.linspace(0, 1, 3)
    answer = lf.solve(PROBLEM, Listener(), times)
    times[1] = 9
    assert answer.times.tolist() == [0, 0.5, 1]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([0, np.nan, 1], r"times must be finite, got times\[1\] = nan"),
        ([0, np.inf], r"times must be finite, got times\[1\] = inf"),
        ([0, 1, 1], r"strictly monotone, got times\[1\] = 1.0 and then times\[2\] = 1.0; sort them"),
        ([0, 2, 1], r"strictly monotone, got times\[1\] = 2.0 and then times\[2\] = 1.0; sort them"),
        ([3, 1, 2], r"strictly monotone, got times\[1\] = 1.0 and then times\[2\] = 2.0; sort them"),
        ([], "nonempty one-dimensional"),
        ([[0, 1]], r"nonempty one-dimensional sequence, got shape \(1, 2\)"),
        (np.zeros((2, 2, 2)), r"nonempty one-dimensional sequence, got shape \(2, 2, 2\)"),
        ("0, 1", "times must be numbers"),
        (["0", "1"], "times must be numbers"),
        ([0, "1"], "times must be numbers"),
        (np.array(["0", 1], dtype=object), "times must be numbers"),
        ([True, False], "times must be numbers"),
        ([0, 1j], "times must be numbers"),
        (np.array([0, 1 + 0j]), "times must be numbers"),
        ([0, [1, 2]], "times must be numbers"),
        (None, "times must be numbers"),
        ([0, None], "times must be numbers"),
        (np.array(["2026-01-01", "2026-01-02"], "M8[D]"), "times must be numbers"),
        ({0: 1}, "times must be numbers"),
        ([0, 10**400], "times must be numbers"),
        (np.linspace(0, 1, 5000).astype(str), "times must be numbers"),
    ],
)
def test_what_is_no_time_is_refused(times: Any, message: str) -> None:
    for method in (Listener(), LIMIT, lf.Series(SIZES, order=2), lf.Simulation(SIZES)):
        with pytest.raises(lf.InvalidInput, match=message) as caught:
            lf.solve(PROBLEM, method, times)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 200


# arguments

ARGUMENTS: list[tuple[tuple[Any, ...], str]] = [
    ((LIMIT, PROBLEM, [0, 1]), "the problem must be an? AbstractProblem such as CPDecomposition.*got Limit"),
    (([0, 1], PROBLEM, LIMIT), "the problem must be an? AbstractProblem"),
    ((PROBLEM, [0, 1], LIMIT), "the method must be an? AbstractMethod such as Simulation"),
    ((np.zeros((90, 90)), LIMIT, [0]), "the problem must be an? AbstractProblem"),
    ((lf.CPDecomposition, LIMIT, [0]), r"the problem must be an instance: write CPDecomposition\(\.\.\.\)"),
    ((PROBLEM, lf.Limit, [0]), r"the method must be an instance: write Limit\(\.\.\.\), with parentheses"),
    ((PROBLEM, LIMIT, [0], lf.GradientFlow), r"the dynamics must be an instance: write GradientFlow\("),
    ((PROBLEM, LIMIT, [0], 0.1), "the dynamics must be an? AbstractDynamics such as GradientFlow"),
    ((PROBLEM, LIMIT, [0], None), "the dynamics must be an? AbstractDynamics"),
    (("cp", LIMIT, [0]), "the problem must be an? AbstractProblem"),
    ((PROBLEM, Wordless(), [0]), "Wordless must name the language it needs"),
    ((PROBLEM, Foreign(), [0]), "got 'diagram', did you mean 'diagrams'"),
    ((PROBLEM, Idle(), [0]), "Idle does not say how it solves a problem: define its `solve`"),
]


@pytest.mark.parametrize(("arguments", "message"), ARGUMENTS)
def test_wrong_arguments_are_answered(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(lf.InvalidInput, match=message) as caught:
        lf.solve(*arguments)
    assert "\n" not in str(caught.value)


# languages


@pytest.mark.parametrize(
    "method", [LIMIT, lf.Series(SIZES, order=2), lf.Simulation(SIZES)], ids=lambda m: type(m).__name__
)
def test_a_problem_without_the_language_says_so(method: lf.AbstractMethod) -> None:
    with pytest.raises(
        lf.NotSpoken, match=r"^Silent\(\) has no \w+, needed by .*\. It offers: nothing\. .*apply: none\.$"
    ):
        lf.solve(Silent(), method, [0, 1])


def test_what_applies_instead_is_named() -> None:
    with pytest.raises(
        lf.NotSpoken, match=r"OnlySamples\(\) has no diagrams.*It offers: sample\. Methods that apply: Simulation\."
    ):
        lf.solve(OnlySamples(), LIMIT, [0, 1])


def test_translations_that_are_not_there_are_refused() -> None:
    for language, call in {
        "diagrams": lambda: Silent().as_diagrams(),
        "process": lambda: PROBLEM.as_process(),
        "spectrum": lambda: PROBLEM.as_spectrum(),
        "sample": lambda: Silent().as_sample({}, 0, 0),
    }.items():
        with pytest.raises(lf.NotSpoken, match=f"has no {language}"):
            call()


# dynamics


def test_gradient_flow_leaves_its_times_free() -> None:
    with pytest.raises(lf.InvalidInput, match="GradientFlow runs in continuous time: choose any times"):
        lf.GradientFlow().times(10)


# a method of one's own


@dataclass(frozen=True, repr=False)
class Exponential(lf.AbstractMethod):
    """A method that a user adds: L(t) = p e^{-t}."""

    sizes: Mapping[str, float]

    language: ClassVar[str] = "diagrams"

    def solve(self, problem: lf.AbstractProblem, times: Any, dynamics: lf.AbstractDynamics) -> lf.Trajectory:
        values = self.sizes["p"] * np.exp(-times)
        return lf.Trajectory(times, {"loss": values}, {"loss": 0 * values}, COMPLETE, problem, self, dynamics, {}, ())


def test_a_method_of_ones_own_works_with_everything(tmp_path: Any) -> None:
    answer = lf.solve(PROBLEM, Exponential(SIZES), np.linspace(0, 1, 5))
    np.testing.assert_allclose(answer.values["loss"], 4 * np.exp(-np.linspace(0, 1, 5)), rtol=1e-15)
    lf.save(answer, tmp_path / "mine.nc")
    assert lf.load(tmp_path / "mine.nc").identical(answer)
    assert lf.compare(answer, answer).agree
    assert repr(answer.method) == "Exponential(sizes={'H': 2, 'p': 4, 'sigma2': 0.25})"
