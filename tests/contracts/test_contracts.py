"""What every problem and every method promises, whoever wrote it. Join by a line in `catalog.py`."""

from __future__ import annotations

import itertools
import pickle
import zlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from tests.contracts.catalog import ANSWERED, CASES, METHODS, Case

import lossflow as lf
from lossflow import storage
from lossflow.problem import UNDERSTOOD_BY

TIMES = np.array([0.0, 0.001, 0.004, 0.01])


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.mark.parametrize("name", CASES)
def test_a_problem_is_a_key_and_survives_every_writing(name: str) -> None:
    problem = CASES[name].problem
    names = {known: getattr(lf, known) for known in lf.__all__} | {"Fraction": Fraction}
    copies = [
        pickle.loads(pickle.dumps(problem)),
        lf.AbstractProblem.from_toml(problem.to_toml()),
        lf.AbstractProblem.from_plain(problem.to_plain()),
        eval(repr(problem), names),
    ]
    for copy in copies:
        assert copy == problem
        assert hash(copy) == hash(problem)
        assert copy.content_key == problem.content_key


def test_different_problems_have_different_keys() -> None:
    assert len({case.problem.content_key for case in CASES.values()}) == len(CASES)


def test_languages_are_exactly_those_that_are_spoken(case: Case) -> None:
    spoken = []
    for language, translate in {
        "diagrams": case.problem.as_diagrams,
        "process": case.problem.as_process,
        "spectrum": case.problem.as_spectrum,
        "sample": lambda: case.problem.as_sample(case.sizes, 0, 0),
    }.items():
        try:
            translate()
        except lf.NotSpoken as error:
            assert "It offers" in str(error)
            assert "\n" not in str(error)
        else:
            spoken.append(language)
    assert set(spoken) == set(case.problem.languages)


def test_the_table_of_languages_names_the_methods_that_need_them() -> None:
    for make in METHODS.values():
        method = make({"p": 2})
        assert type(method).__name__ in UNDERSTOOD_BY[method.language]
    listed = {name for names in UNDERSTOOD_BY.values() for name in names}
    assert listed == {type(make({"p": 2})).__name__ for make in METHODS.values()}


def test_every_public_problem_and_method_is_listed() -> None:
    public = [getattr(lf, name) for name in lf.__all__]
    kinds = [c for c in public if isinstance(c, type) and not c.__name__.startswith("Abstract")]
    problems = {c for c in kinds if issubclass(c, lf.AbstractProblem)}
    methods = {c for c in kinds if issubclass(c, lf.AbstractMethod)}
    assert problems == {type(case.problem) for case in CASES.values()}
    assert methods == {type(make({"p": 2})) for make in METHODS.values()}


def test_runs_depend_on_seed_and_run_alone(case: Case) -> None:
    if "sample" not in case.problem.languages:
        return
    first, again = (case.problem.as_sample(case.sizes, 1, 3) for _ in range(2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    for run, seed in [(2, 3), (1, 4)]:
        other = case.problem.as_sample(case.sizes, run, seed)
        assert not any(np.array_equal(first[name], other[name]) for name in first if name not in case.given)


def test_the_weights_move_by_minus_the_gradient_of_the_written_loss(case: Case) -> None:
    """dL/dt = -speed |dL/du|^2 at t = 0, with L written independently and differentiated by central differences."""
    if "sample" not in case.problem.languages:
        return
    learned = case.learned or {tensor.name for tensor in case.problem.as_diagrams().tensors if tensor.learned}
    sample = case.problem.as_sample(case.sizes, 0, 5)
    step, descent = 1e-5, 0.0
    for name in learned:
        for index in np.ndindex(sample[name].shape):
            up, down = ({k: v.copy() for k, v in sample.items()} for _ in range(2))
            up[name][index] += step
            down[name][index] -= step
            descent += ((case.loss(up) - case.loss(down)) / (2 * step)) ** 2
    dt = 1e-4
    simulation = lf.Simulation(case.sizes, runs=1, seed=5, tolerance=1e-12)
    before, now, after = lf.solve(case.problem, simulation, [-dt, 0.0, dt]).details["runs"]["loss"][0]
    assert now == pytest.approx(case.loss(sample), rel=1e-13)
    # central differences in time and weights: errors of second order in dt and step, rounding 1e-16 L / dt
    assert (before - after) / (2 * dt) == pytest.approx(case.speed * descent, rel=1e-5)


@pytest.mark.parametrize(("problem_name", "method_name"), list(itertools.product(CASES, METHODS)))
def test_a_method_answers_with_a_sound_trajectory_or_says_what_applies(
    problem_name: str, method_name: str, tmp_path: Path
) -> None:
    case = CASES[problem_name]
    method = METHODS[method_name](case.sizes)
    try:
        answer = lf.solve(case.problem, method, TIMES)
    except lf.NotSpoken as error:
        assert ANSWERED[method_name] != problem_name
        assert "Methods that apply" in str(error)
        return
    assert answer.problem == case.problem
    assert answer.method == method
    assert answer.dynamics == lf.GradientFlow()
    assert np.array_equal(answer.times, TIMES)
    assert "loss" in answer.values
    for name, values in answer.values.items():
        held = ~np.isnan(values)
        assert held.all() or not answer.status
        assert (answer.uncertainty[name][held] >= 0).all()
        assert values.dtype == np.float64
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0.0
    assert answer.references
    assert lf.solve(case.problem, method, TIMES).identical(answer)
    assert pickle.loads(pickle.dumps(answer)).identical(answer)
    lf.save(answer, tmp_path / "answer.nc")
    assert lf.load(tmp_path / "answer.nc").identical(answer)
    require_that_damage_is_noticed(tmp_path / "answer.nc", answer)


def require_that_damage_is_noticed(path: Path, answer: lf.Trajectory) -> None:
    """Two files cut short, three with one bit flipped, one in a newer format: none of them is an answer."""
    whole = path.read_bytes()
    random = np.random.default_rng(zlib.crc32(repr(answer).encode()))
    damaged = [whole[:k] for k in random.integers(0, len(whole), 2)]
    for bit in random.integers(0, 8 * len(whole), 3):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(flipped))
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(lf.CorruptedFile, match="damaged or was not written by lossflow"):
            lf.load(path)
    with pytest.MonkeyPatch.context() as later:
        later.setattr(storage, "FORMAT", storage.FORMAT + 1)
        lf.save(answer, path)
    with pytest.raises(lf.StorageError, match="update lossflow"):
        lf.load(path)


@pytest.mark.parametrize(("problem_name", "method_name"), list(itertools.product(CASES, METHODS)))
def test_what_is_asked_survives_files(problem_name: str, method_name: str, tmp_path: Path) -> None:
    """Problem, method at the sizes of the problem, and the question of both: by netCDF and by TOML."""
    case = CASES[problem_name]
    method = METHODS[method_name](case.sizes)
    for asked in (case.problem, method, lf.Solve(method, tuple(TIMES))):
        lf.save(asked, tmp_path / "asked.nc")
        for copy in (lf.load(tmp_path / "asked.nc"), lf.Description.from_toml(asked.to_toml())):
            assert type(copy) is type(asked)
            assert copy == asked
            assert copy.content_key == asked.content_key


@pytest.mark.parametrize(("problem_name", "method_name"), [(p, m) for m, p in ANSWERED.items()])
def test_other_times_in_the_grid_change_no_value(problem_name: str, method_name: str) -> None:
    """Values are those of the flow, not of the grid: dropping times leaves the others, to the promised error."""
    case = CASES[problem_name]
    method = METHODS[method_name](case.sizes)
    full = lf.solve(case.problem, method, TIMES)
    part = lf.solve(case.problem, method, TIMES[2:])
    assert full.status
    # the simulation promises its tolerance, 1e-8; series and limit only rounding
    assert part.values["loss"] == pytest.approx(full.values["loss"][2:], rel=1e-8)


@pytest.mark.parametrize("method_name", [name for name, make in METHODS.items() if make({"p": 2}).known_sizes])
def test_sizes_that_make_no_sense_are_refused_in_one_line(method_name: str) -> None:
    case = CASES[ANSWERED[method_name]]
    for wrong in [{"p": -3}, {"p": 2.5}, {"p": 0}, {"p": float("nan")}, {"sigma2": -0.1}, {"q": 3}, {"p": "six"}]:
        with pytest.raises(lf.InvalidInput) as caught:
            lf.solve(case.problem, METHODS[method_name]({**case.sizes, **wrong}), TIMES)
        assert next(iter(wrong)) in str(caught.value)
        assert "\n" not in str(caught.value)
    for name in case.sizes:
        missing = {key: value for key, value in case.sizes.items() if key != name}
        with pytest.raises(lf.InvalidInput, match=name):
            lf.solve(case.problem, METHODS[method_name](missing), TIMES)


@dataclass(frozen=True, repr=False)
class Unheard(lf.AbstractDynamics):
    """A dynamics that no method knows."""


@pytest.mark.parametrize("method_name", METHODS)
def test_a_dynamics_that_a_method_does_not_know_is_refused(method_name: str) -> None:
    case = CASES[ANSWERED[method_name]]
    with pytest.raises(lf.InvalidInput, match="Unheard"):
        lf.solve(case.problem, METHODS[method_name](case.sizes), TIMES, Unheard())
