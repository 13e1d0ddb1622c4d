"""Trajectories, end states and statuses: what they promise, they keep, also through pickle and other units of time."""

from __future__ import annotations

import copy
import math
import pickle
from dataclasses import FrozenInstanceError, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lossflow as lf
from lossflow.trajectory import COMPLETE, FrozenMapping

TIMES = np.linspace(0, 1, 5)
SIZES = {"p": 8, "H": 4, "sigma2": 0.25}
PROBLEM = lf.CPDecomposition(order=2)


def trajectory(**changes: Any) -> lf.Trajectory:
    fields: dict[str, Any] = {
        "times": TIMES,
        "values": {"loss": np.exp(-TIMES)},
        "uncertainty": {"loss": np.full(5, 0.1)},
        "status": COMPLETE,
        "problem": PROBLEM,
        "method": lf.Limit(SIZES),
        "dynamics": lf.GradientFlow(),
        "details": {"runs": {"loss": np.ones((3, 5))}, "list": [np.zeros(2), {"deep": np.ones(1)}]},
        "references": ["YGG26v2"],
    }
    return lf.Trajectory(**(fields | changes))


def arrays_in(x: Any) -> list[np.ndarray]:
    if isinstance(x, np.ndarray):
        return [x]
    if isinstance(x, (FrozenMapping, tuple)):
        items = x.values() if isinstance(x, FrozenMapping) else x
        return [array for item in items for array in arrays_in(item)]
    return []


# status


def test_only_complete_is_truthy() -> None:
    assert COMPLETE
    assert lf.Status("complete", None, "all times reached") == COMPLETE
    assert not lf.Status("left_domain", 0.5, "blow-up")
    assert not lf.Status("stopped", None, "no more steps")
    assert lf.Status("stopped", 1, "x") == lf.Status("stopped", np.float64(1), "x")  # type: ignore[arg-type]
    assert hash(lf.Status("stopped", 1, "x")) == hash(lf.Status("stopped", 1.0, "x"))


@pytest.mark.parametrize(
    ("kind", "last", "message"),
    [
        ("completed", None, "did you mean 'complete'"),
        ("stopped", math.nan, r"Status\.last_time must be a number, got nan"),
        ("stopped", "now", r"Status\.last_time must be a number, got 'now'"),
        ("complete", 1.0, "a complete status has no last time"),
    ],
)
def test_a_wrong_status_is_answered(kind: Any, last: Any, message: str) -> None:
    with pytest.raises(lf.InvalidInput, match=message):
        lf.Status(kind, last, "reason")


# what a trajectory keeps


@pytest.mark.parametrize(
    "journey",
    [
        lambda x: x,
        lambda x: pickle.loads(pickle.dumps(x)),
        copy.deepcopy,
        copy.copy,
        replace,
        lambda x: x.in_units_of(1),
    ],
    ids=["new", "pickled", "deep copy", "copy", "replaced", "in other units"],
)
def test_arrays_are_read_only_and_of_double_precision(journey: Any) -> None:
    x = journey(trajectory())
    found = [x.times, *arrays_in(x.values), *arrays_in(x.uncertainty), *arrays_in(x.details)]
    assert len(found) == 6
    for array in found:
        assert array.dtype == np.float64
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7
    with pytest.raises(TypeError):
        x.values["loss"] = 0  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        x.times = TIMES  # type: ignore[misc]


def test_what_was_given_is_not_touched_and_may_change() -> None:
    values, details = np.exp(-TIMES), {"a": [np.zeros(2)]}
    x = trajectory(values={"loss": values}, details=details)
    values[0] = details["a"][0][0] = 7
    details["b"] = [np.ones(1)]
    assert x.values["loss"][0] == 1
    assert x.details["a"][0][0] == 0
    assert list(x.details) == ["a"]


def test_plain_lists_and_whole_numbers_become_doubles() -> None:
    x = trajectory(times=range(3), values={"loss": [3, 2, 1]}, uncertainty={"loss": np.zeros(3, np.float32)})
    assert [a.dtype for a in (x.times, x.values["loss"], x.uncertainty["loss"])] == [np.float64] * 3


def test_details_keep_their_precision() -> None:
    x = trajectory(details={"a": np.ones(2, np.float32), "b": np.arange(2)})
    assert (x.details["a"].dtype, x.details["b"].dtype) == (np.float32, np.arange(2).dtype)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": {"loss": np.ones(4)}}, r"'loss' and its uncertainty must begin with the shape \(5,\) of the times"),
        (
            {"uncertainty": {"loss": np.ones((5, 1))}},
            r"'loss' and its uncertainty must begin with the shape \(5,\) of the times",
        ),
        ({"uncertainty": {}}, "needs an uncertainty for each value"),
        ({"uncertainty": {"mse": np.ones(5)}}, "needs an uncertainty for each value"),
        ({"uncertainty": {"loss": np.array([0, 0, -1, 0, 0])}}, "uncertainty of 'loss' must be >= 0"),
        ({"uncertainty": {"loss": np.array([0, 0, math.nan, 0, 0])}}, "uncertainty of 'loss' must be >= 0"),
        ({"values": {"loss": [1, 1, 1, math.nan, 1]}}, "'loss' is NaN at t = 0.75, yet the status is complete"),
        ({"status": lf.Status("left_domain", 0.5, "")}, "'loss' has values beyond the last time 0.5"),
        ({"times": [0, 1, 2, 2, 3]}, "nonempty, finite, strictly monotone"),
        ({"times": [0, 1, 2, math.nan, 3]}, "nonempty, finite, strictly monotone"),
        ({"times": np.zeros((5, 1))}, "nonempty, finite, strictly monotone"),
        ({"times": [], "values": {}, "uncertainty": {}}, "nonempty, finite, strictly monotone"),
    ],
)
def test_what_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(lf.InvalidInput, match=message):
        trajectory(**changes)


@pytest.mark.parametrize("sign", [1, -1])
def test_values_beyond_the_last_time_are_unknown_on_its_side_only(sign: int) -> None:
    times = sign * np.linspace(-1, 1, 5)
    ended = lf.Status("left_domain", 0.5 * sign, "blow-up")
    x = trajectory(times=times, values={"loss": [1, 1, 1, 1, math.nan]}, status=ended)
    assert np.isnan(x.values["loss"][-1])
    assert not x.status
    with pytest.raises(lf.InvalidInput, match="beyond the last time"):
        trajectory(times=times, values={"loss": [math.nan, 1, 1, 1, 1]}, status=ended)


def test_an_unknown_observable_is_answered_with_the_nearest() -> None:
    with pytest.raises(KeyError, match="did you mean 'loss'"):
        trajectory().values["los"]


def test_real_trajectories_keep_the_promises() -> None:
    for method in (lf.Limit(SIZES), lf.Series(SIZES, order=4), lf.Simulation(SIZES, runs=3)):
        for times in (TIMES, -TIMES[::-1], [0.3]):
            x = lf.solve(PROBLEM, method, times)
            assert x.problem is PROBLEM
            assert x.method is method
            assert x.values["loss"].shape == x.uncertainty["loss"].shape == np.shape(times)
            assert bool(x.status) == (not np.isnan(x.values["loss"]).any())
            assert pickle.loads(pickle.dumps(x)).identical(x)


# equality


def test_identical_is_bit_by_bit() -> None:
    x = trajectory()
    assert x.identical(trajectory())
    assert x == trajectory()
    nan = [1, 1, 1, math.nan, math.nan]
    ended = lf.Status("stopped", 0.5, "")
    assert trajectory(values={"loss": nan}, status=ended).identical(trajectory(values={"loss": nan}, status=ended))
    different = [
        {"times": TIMES * (1 + 1e-16) + 1e-16},
        {"values": {"loss": np.nextafter(np.exp(-TIMES), 2)}},
        {"uncertainty": {"loss": np.full(5, 0.2)}},
        {"status": lf.Status("stopped", None, "x")},
        {"problem": lf.CPDecomposition(order=3)},
        {"method": lf.Series(SIZES, order=2)},
        {"details": {}},
        {"references": ()},
    ]
    for changes in different:
        assert not x.identical(trajectory(**changes)), changes
        assert x != trajectory(**changes)
    assert not x.identical("x")  # type: ignore[arg-type]
    assert x != "x"


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1, 1.0), (1, True), (np.float64(1), 1.0), (np.ones(2), np.ones(2, np.float32)), (np.ones(2), (1.0, 1.0)),
        (np.ones((1, 2)), np.ones((2, 1))), ((1,), (1, 2)), ({"a": 1}, {"b": 1}), (0j, complex(math.nan)), ("1", 1), (None, 0),
    ],
)  # fmt: skip
def test_details_of_other_types_or_shapes_are_not_identical(a: Any, b: Any) -> None:
    assert not trajectory(details={"x": a}).identical(trajectory(details={"x": b}))
    assert not trajectory(details={"x": b}).identical(trajectory(details={"x": a}))
    assert trajectory(details={"x": a}).identical(trajectory(details={"x": copy.deepcopy(a)}))


@pytest.mark.parametrize(
    "x", [math.nan, complex(1, math.nan), np.float32("nan"), (math.nan, {"y": np.array([math.nan])})]
)
def test_nan_is_itself(x: Any) -> None:
    assert trajectory(details={"x": x}).identical(trajectory(details={"x": copy.deepcopy(x)}))


def test_trajectories_are_no_keys() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(trajectory())


# other units of time


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_units_of_time_compose(first: float, second: float) -> None:
    ended = trajectory(values={"loss": [1, 1, 1, math.nan, math.nan]}, status=lf.Status("left_domain", 0.6, "blow-up"))
    once, twice = ended.in_units_of(first * second), ended.in_units_of(first).in_units_of(second)
    np.testing.assert_allclose(once.times * first * second, TIMES, rtol=1e-14)
    np.testing.assert_allclose(twice.times, once.times, rtol=1e-14)
    assert once.status.last_time == pytest.approx(0.6 / (first * second), rel=1e-14)
    assert twice.details["time_unit"] == pytest.approx(first * second, rel=1e-14)
    np.testing.assert_array_equal(once.values["loss"], ended.values["loss"])


def test_a_time_scale_is_taken_at_the_sizes_of_the_method() -> None:
    class Natural:
        def at(self, sizes: Any) -> float:
            return 1 / (sizes["p"] * sizes["sigma2"])

    x = trajectory().in_units_of(Natural())
    np.testing.assert_array_equal(x.times, TIMES * 2)
    assert x.details["time_unit"] == 0.5


@pytest.mark.parametrize("T", [0, -1.0, math.inf, math.nan, True, "1", None])
def test_a_wrong_unit_is_refused(T: Any) -> None:
    with pytest.raises(lf.InvalidInput, match="the unit of time must be a"):
        trajectory().in_units_of(T)


def test_numbers_of_any_kind_are_units() -> None:
    for T in (2, 2.0, np.float32(2), np.int64(2), Fraction(2)):
        assert trajectory().in_units_of(T).identical(trajectory().in_units_of(2))  # type: ignore[arg-type]


# other forms


def test_as_xarray() -> None:
    data = trajectory().to_xarray()
    np.testing.assert_array_equal(data["time"], TIMES)
    np.testing.assert_array_equal(data["loss"], np.exp(-TIMES))
    np.testing.assert_array_equal(data["loss_uncertainty"], 0.1)
    assert data["loss"].dims == ("time",)
    assert data.attrs["problem"] == "CPDecomposition()"
    assert data.attrs["method"] == repr(lf.Limit(SIZES))
    assert data.attrs["status"] == "complete: all times reached"
    assert float(data["loss"].sel(time=0.5)) == np.exp(-0.5)


def test_printing() -> None:
    assert repr(trajectory()) == (
        "<Trajectory of loss at 5 times from 0 to 1, complete: "
        "CPDecomposition() by Limit(sizes={'H': 4, 'p': 8, 'sigma2': 0.25})>"
    )


# end states


def test_end_states() -> None:
    branch = lf.EndState({"mse": np.float64(0.5)}, (), PROBLEM, COMPLETE)  # type: ignore[dict-item]
    x = lf.EndState({"mse": 1, "loss": Fraction(1, 4)}, [branch], PROBLEM, COMPLETE)  # type: ignore[arg-type,dict-item]
    assert dict(x.values) == {"mse": 1.0, "loss": 0.25}
    assert type(x.branches[0].values["mse"]) is float
    assert x == pickle.loads(pickle.dumps(x))
    assert x != branch
    assert not x.identical(replace(x, branches=()))
    assert not x.identical(replace(x, status=lf.Status("stopped", None, "")))
    with pytest.raises(TypeError):
        x.values["mse"] = 2  # type: ignore[index]
    with pytest.raises(lf.InvalidInput, match=r"EndState\.values\['mse'\] must be a number, got nan"):
        lf.EndState({"mse": math.nan}, (), PROBLEM, COMPLETE)


def test_an_end_state_that_was_not_found_is_data() -> None:
    lost = lf.EndState({"mse": math.nan}, (), PROBLEM, lf.Status("stopped", None, "no convergence; raise the steps"))
    assert math.isnan(lost.values["mse"])
    assert not lost.status
    assert lost == pickle.loads(pickle.dumps(lost))


# matrices, such as the overlaps of several columns


def matrices() -> lf.Trajectory:
    overlap = np.arange(20.0).reshape(5, 2, 2)
    runs = np.stack([overlap - 1, overlap + 1])
    return trajectory(
        values={"loss": np.exp(-TIMES), "overlap": overlap},
        uncertainty={"loss": np.full(5, 0.1), "overlap": np.ones((5, 2, 2))},
        details={"runs": {"overlap": runs}},
    )


def test_an_entry_of_a_matrix_is_a_trajectory_with_its_runs() -> None:
    entry = matrices().entry("overlap[1, 0]")
    assert set(entry.values) == {"overlap[1, 0]"}
    np.testing.assert_array_equal(entry.values["overlap[1, 0]"], 2 + 4 * np.arange(5.0))
    np.testing.assert_array_equal(entry.details["runs"]["overlap[1, 0]"].mean(axis=0), entry.values["overlap[1, 0]"])
    assert lf.compare(matrices(), matrices(), observable="overlap[0, 1]").agree


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("overlap", r"write 'overlap\[0, 0\]' for one number"),
        ("overlap[2, 0]", "has the shape"),
        ("overlap[x]", "has the shape"),
        ("loss[0]", "write 'loss' for one number"),
        ("overlp[0, 0]", "has no 'overlp'; nearest|has no 'overlp'"),
    ],
)
def test_a_wrong_entry_is_answered_with_the_right_one(name: str, message: str) -> None:
    with pytest.raises(lf.InvalidInput, match=message):
        matrices().entry(name)


def test_a_matrix_must_cover_all_times_and_its_uncertainty_all_entries() -> None:
    with pytest.raises(lf.InvalidInput, match="must begin with the shape"):
        trajectory(values={"m": np.ones((4, 2))}, uncertainty={"m": np.ones((4, 2))})
    with pytest.raises(lf.InvalidInput, match="must begin with the shape"):
        trajectory(values={"m": np.ones((5, 2))}, uncertainty={"m": np.ones(5)})


def test_matrices_survive_files_and_have_named_axes(tmp_path: Any) -> None:
    lf.save(matrices(), tmp_path / "m.nc")
    assert lf.load(tmp_path / "m.nc").identical(matrices())
    assert matrices().to_xarray()["overlap"].dims == ("time", "overlap_0", "overlap_1")
