"""Files of results: the same comes back, damage is refused, and what was there before is never lost."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import lossflow as lf
from lossflow import storage
from lossflow.checkpoint import SEAL_LENGTH, seal, unseal
from lossflow.trajectory import COMPLETE

TIMES = np.linspace(0, 1, 7)
SIZES = {"p": 8, "H": 4, "sigma2": 0.25}
PROBLEM = lf.CPDecomposition(order=2)


def trajectory(**changes: Any) -> lf.Trajectory:
    """One that left its domain: values, then NaN."""
    values = np.where(TIMES < 0.6, np.exp(-TIMES), np.nan)
    fields: dict[str, Any] = {
        "times": TIMES,
        "values": {"loss": values},
        "uncertainty": {"loss": 0.1 * values},
        "status": lf.Status("left_domain", 0.6, "it blows up: ∞; ask for earlier times"),
        "problem": PROBLEM,
        "method": lf.Limit(SIZES),
        "dynamics": lf.GradientFlow(),
        "details": {},
        "references": ("YGG26v2",),
    }
    return lf.Trajectory(**(fields | changes))


# what goes in comes out


@pytest.mark.parametrize(
    "method",
    [lf.Limit(SIZES), lf.Series(SIZES, order=4), lf.Simulation(SIZES, runs=4, seed=3)],
    ids=lambda method: type(method).__name__,
)
@pytest.mark.parametrize("times", [TIMES, -TIMES[::-1]], ids=["descent", "ascent"])
def test_real_trajectories_come_back_identical(method: lf.AbstractMethod, times: np.ndarray, tmp_path: Path) -> None:
    """Ascent ends in a blow-up: NaN values with the status that says so."""
    original = lf.solve(PROBLEM, method, times)
    lf.save(original, tmp_path / "run.nc")
    loaded = lf.load(tmp_path / "run.nc")
    assert loaded.identical(original)
    assert_same(loaded, original)
    assert not loaded.times.flags.writeable


def test_at_least_one_of_them_had_nans() -> None:
    assert np.isnan(lf.solve(PROBLEM, lf.Limit(SIZES), -TIMES[::-1]).values["loss"]).any()


DETAILS = {
    "none": None,
    "booleans": (True, False),
    "integers": (0, -1, 2**53, -(2**70), 10**5000),
    "floats": (0.1, -0.0, math.inf, -math.inf, math.nan, 5e-324, 1.7976931348623157e308),
    "complex": (1j, complex(math.nan, -math.inf)),
    "fraction": Fraction(10**30, 7),
    "text": ("", "σ²=½ 😀", "a\0b\n\"'\\", "\ud800"),
    "bytes": b"\x00\xff",
    "tuple": ((), (1, (2.0, ("three",)))),
    "mapping": {"inner": {"innermost": (1, {"π": np.arange(3)})}, 1: 2, (1, 2): Fraction(1, 2), "": None},
    "sizes": lf.SizeMap({"p": 3, "type": 0.5}),
    "descriptions": (lf.Identity(0.5), lf.PolynomialProblem(PROBLEM.as_diagrams()), lf.Simulation(SIZES)),
    "status": COMPLETE,
    "numpy scalars": (
        np.float64(0.1),
        np.float32(0.1),
        np.int8(-3),
        np.uint64(2**64 - 1),
        np.bool_(True),
        np.str_("a"),
    ),
    "dates": np.array(["2026-01-01", "NaT"], "M8[D]"),
    "strings": np.array([["a", "ü😀"], ["", "long enough"]]),
    "empty": np.empty((0, 3)),
    "empty strings": np.empty(0, "U5"),
    "point": np.array(2.5),
    "transposed": np.arange(6).reshape(2, 3).T,
    "strided": np.arange(10)[::3],
    "loss": np.ones(7),
    **{f"array of {kind}": np.arange(6).reshape(2, 3).astype(kind) for kind in "?bBhHiIlLqQefdgFDG"},
    **{f"big-endian {kind}": np.arange(6).astype(kind) for kind in (">i4", ">u8", ">f8", ">c16", ">f2")},
    "not a number": np.array([math.nan, -math.nan, math.inf, -0.0]),
}


@pytest.mark.parametrize("name", DETAILS)
def test_details_keep_their_types(name: str, tmp_path: Path) -> None:
    original = trajectory(details={name: DETAILS[name], "beside": np.arange(3.0)})
    lf.save(original, tmp_path / "run.nc")
    loaded = lf.load(tmp_path / "run.nc")
    assert loaded.identical(original)
    assert_same(loaded, original)


def test_all_details_at_once(tmp_path: Path) -> None:
    original = trajectory(details=DETAILS | {"nested": trajectory(details=DETAILS)})
    lf.save(original, tmp_path / "run.nc")
    assert lf.load(tmp_path / "run.nc").identical(original)
    assert_same(lf.load(tmp_path / "run.nc"), original)


numeric = st.one_of(hnp.floating_dtypes(), hnp.integer_dtypes(), hnp.unsigned_integer_dtypes(), hnp.boolean_dtypes())
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.fractions(),
    hnp.arrays(numeric, hnp.array_shapes(min_dims=0, min_side=0, max_side=3)),
)  # fmt: skip
trees = st.recursive(leaves, lambda inner: st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner), max_leaves=8)


@settings(max_examples=60)
@given(details=st.dictionaries(st.text(), trees, max_size=4))
def test_any_tree_of_details_comes_back(details: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("trees") / "run.nc"
    original = trajectory(details=details)
    lf.save(original, path)
    assert lf.load(path).identical(original)
    assert_same(lf.load(path).details, original.details)


@pytest.mark.parametrize(
    "name", ["time", "loss_uncertainty", "ü", "a/b", "", "document", "lossflow", " ", "_NCProperties"]
)
def test_observables_may_have_any_name(name: str, tmp_path: Path) -> None:
    plain = trajectory()
    original = replace(
        plain,
        values={"loss": plain.values["loss"], name: 2 * plain.values["loss"]},
        uncertainty={"loss": plain.uncertainty["loss"], name: 3 * plain.uncertainty["loss"]},
    )
    lf.save(original, tmp_path / "run.nc")
    assert lf.load(tmp_path / "run.nc").identical(original)


def test_end_states_with_branches(tmp_path: Path) -> None:
    unconverged = lf.Status("stopped", None, "no convergence; raise the number of steps")
    branches = tuple(lf.EndState({"mse": x, "loss": 0.1}, (), PROBLEM, COMPLETE) for x in (0.25, 0.5))
    lost = lf.EndState({"mse": math.nan, "loss": math.inf}, (), PROBLEM, unconverged)
    original = lf.EndState({"mse": 0.25, "loss": 0.1}, (*branches, lost), PROBLEM, COMPLETE)
    lf.save(original, tmp_path / "end.nc")
    loaded = lf.load(tmp_path / "end.nc")
    assert loaded.identical(original)
    assert_same(loaded, original)
    assert math.isnan(loaded.branches[2].values["mse"])


@pytest.mark.parametrize(
    "original",
    [
        PROBLEM,
        lf.CPDecomposition(order=3, symmetric=False, target=lf.Identity(Fraction(1, 3))),
        lf.PolynomialProblem(lf.CPDecomposition(order=4).as_diagrams()),
        lf.Simulation({"p": 3, "H": 2, "sigma2": 1 / 3}, runs=4, seed=2),
        lf.GradientFlow(),
        COMPLETE,
        lf.Status("stopped", 0.5, "ünfinished"),
        lf.expand(lf.CPDecomposition(order=2), 3),
        lf.expand(lf.CPDecomposition(order=3, symmetric=False), 2),
    ],
    ids=lambda x: type(x).__name__,
)
def test_descriptions_and_series_come_back_equal(original: Any, tmp_path: Path) -> None:
    lf.save(original, tmp_path / "x.nc")
    loaded = lf.load(tmp_path / "x.nc")
    assert type(loaded) is type(original)
    assert loaded == original
    assert hash(loaded) == hash(original)


def test_a_loaded_series_still_works(tmp_path: Path) -> None:
    original = lf.expand(lf.CPDecomposition(order=2), 3)
    lf.save(original, tmp_path / "series.nc")
    assert lf.load(tmp_path / "series.nc").at(p=3, H=2, sigma2=Fraction(1, 7)) == original.at(
        p=3, H=2, sigma2=Fraction(1, 7)
    )
    assert lf.load(tmp_path / "series.nc").pareto(2) == original.pareto(2)


def test_the_last_save_wins(tmp_path: Path) -> None:
    lf.save(PROBLEM, tmp_path / "x.nc")
    lf.save(trajectory(), tmp_path / "x.nc")
    assert lf.load(tmp_path / "x.nc").identical(trajectory())
    assert os.listdir(tmp_path) == ["x.nc"]


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for path in (
        "plain",
        "a.b.c",
        Path("folder/deep/run.nc"),
        "~/home.nc",
        "ünïcode 😀.nc",
        str(tmp_path / "absolute"),
    ):
        lf.save(PROBLEM, path)
        assert Path(path).expanduser().is_file()
        assert lf.load(path) == PROBLEM


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run.nc").symlink_to(tmp_path / "disk" / "run.nc")
    lf.save(PROBLEM, tmp_path / "run.nc")
    assert (tmp_path / "run.nc").is_symlink()
    assert lf.load(tmp_path / "disk" / "run.nc") == PROBLEM


# what others see


def test_other_tools_read_the_file(tmp_path: Path) -> None:
    """xarray and h5py open the sealed file; every variable has a checksum; problem and status are there in words."""
    import h5py
    import xarray

    original = lf.solve(PROBLEM, lf.Simulation(SIZES, runs=3), TIMES)
    lf.save(original, tmp_path / "run.nc")
    with xarray.open_dataset(tmp_path / "run.nc") as data:
        np.testing.assert_array_equal(data["time"], TIMES)
        np.testing.assert_array_equal(data["loss"], original.values["loss"])
        np.testing.assert_array_equal(data["loss_uncertainty"], original.uncertainty["loss"])
        assert data.attrs["problem"] == repr(PROBLEM)
        assert data.attrs["method"] == repr(original.method)
        assert data.attrs["status"].startswith("complete")
    with xarray.open_dataset(tmp_path / "run.nc", group="lossflow") as data:
        np.testing.assert_array_equal(data["details_runs_loss"], original.details["runs"]["loss"])
    with h5py.File(tmp_path / "run.nc") as file:
        found: list[Any] = []
        file.visititems(lambda _, node: found.append(node))
        variables = [node for node in found if isinstance(node, h5py.Dataset) and not is_bare_dimension(node)]
        assert len(variables) >= 6
        assert all(node.fletcher32 for node in variables)


def is_bare_dimension(node: Any) -> bool:
    return b"not a netCDF variable" in node.attrs.get("NAME", b"")


def test_provenance_names_versions_but_no_place(tmp_path: Path) -> None:
    folder = tmp_path / "private-folder"
    lf.save(trajectory(details={"runs": {"loss": np.ones((3, 7))}}), folder / "secret-name.nc")
    data = (folder / "secret-name.nc").read_bytes()
    document = document_in(data)
    assert document["provenance"].keys() == {"lossflow", "numpy", "python", "platform", "utc"}
    assert document["provenance"]["lossflow"] == lf.__version__
    assert document["provenance"]["numpy"] == np.__version__
    assert document["provenance"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", document["provenance"]["utc"])
    import getpass
    import platform

    for private in ("private-folder", "secret-name", str(Path.home()), platform.node(), f"/{getpass.getuser()}/"):
        assert private.encode() not in data or len(private) < 3


def test_the_document_is_strict_json(tmp_path: Path) -> None:
    """Other languages read it: no NaN or Infinity, and no integers that doubles cannot hold."""

    def refuse(text: str) -> float:
        raise AssertionError(f"{text} is not JSON")

    lf.save(trajectory(details=DETAILS), tmp_path / "run.nc")
    text = json.dumps(document_in((tmp_path / "run.nc").read_bytes()))
    for number in re.findall(r"(?<![\w.\"-])\d{16,}(?![\w.\"])", text):
        assert int(number) <= 2**53
    json.loads(text, parse_constant=refuse)


# damage


@pytest.mark.parametrize("original", [trajectory(details=DETAILS), PROBLEM], ids=["trajectory", "problem"])
def test_no_damage_is_accepted(original: Any, tmp_path: Path) -> None:
    """400 flips of one bit, 40 of them in the seal; 200 truncations; appended and swapped bytes."""
    path = tmp_path / "x.nc"
    lf.save(original, path)
    whole = path.read_bytes()
    random = np.random.default_rng(1)
    places = [*random.integers(len(whole), size=360), *(len(whole) - 1 - random.integers(SEAL_LENGTH, size=40))]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(random.integers(8))
        assert_refused(path, bytes(damaged))
    for length in [0, 1, SEAL_LENGTH, len(whole) - SEAL_LENGTH, len(whole) - 1, *random.integers(len(whole), size=195)]:
        assert_refused(path, whole[:length])
    assert_refused(path, whole + b"\0")
    assert_refused(path, whole[1:])
    assert_refused(path, whole[:4096][::-1] + whole[4096:])
    path.write_bytes(whole)
    assert lf.load(path) == original


def assert_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(lf.CorruptedFile, match="delete it or restore a copy") as caught:
        lf.load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(lf.StorageError, match=r"cannot read .*No such file"):
        lf.load(tmp_path / "missing.nc")
    with pytest.raises(lf.StorageError, match=r"cannot read .*directory"):
        lf.load(tmp_path)
    (tmp_path / "empty.nc").touch()
    with pytest.raises(lf.CorruptedFile):
        lf.load(tmp_path / "empty.nc")


def test_a_foreign_netcdf_file(tmp_path: Path) -> None:
    import xarray

    xarray.Dataset({"loss": ("time", np.ones(3))}).to_netcdf(tmp_path / "foreign.nc", engine="h5netcdf")
    with pytest.raises(lf.CorruptedFile, match="was not written by lossflow"):
        lf.load(tmp_path / "foreign.nc")
    (tmp_path / "sealed.nc").write_bytes(seal((tmp_path / "foreign.nc").read_bytes()))
    (tmp_path / "npz").write_bytes(seal(b"PK a checkpoint of a computation"))
    (tmp_path / "nothing").write_bytes(seal(b""))
    for name in ("sealed.nc", "npz", "nothing"):
        with pytest.raises(lf.StorageError, match=r"holds no result; load what `lossflow.save` wrote"):
            lf.load(tmp_path / name)


def test_a_file_by_a_newer_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "FORMAT", storage.FORMAT + 1)
    lf.save(PROBLEM, tmp_path / "x.nc")
    monkeypatch.undo()
    with pytest.raises(lf.StorageError, match="reads up to format 1; update lossflow") as caught:
        lf.load(tmp_path / "x.nc")
    assert "\n" not in str(caught.value)


def test_a_description_that_no_longer_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_plain_description", lambda value, where: {"type": "CPDecomposition", "degree": 3})
    lf.save(PROBLEM, tmp_path / "x.nc")
    monkeypatch.undo()
    with pytest.raises(lf.StorageError, match=r"written by lossflow .*has no field 'degree'.*use that version"):
        lf.load(tmp_path / "x.nc")


def test_a_description_of_ones_own_must_be_imported_first(tmp_path: Path) -> None:
    module = tmp_path / "my_problems.py"
    module.write_text(
        "import lossflow as lf\nfrom dataclasses import dataclass\n"
        "@dataclass(frozen=True, repr=False)\nclass MyOwnProblem(lf.AbstractProblem):\n    steepness: float = 1.0\n"
    )
    save = "import lossflow as lf, my_problems\nlf.save(my_problems.MyOwnProblem(2), 'mine.nc')"
    load = "import lossflow as lf, sys\ntry:\n    print(lf.load('mine.nc'))\nexcept lf.UnknownName as error:\n    print(error)"
    assert run(save, tmp_path) == ""
    answer = run(load, tmp_path)
    assert answer.startswith("cannot load mine.nc: no description is called 'MyOwnProblem'")
    assert "must be imported before" in answer
    assert answer.count("\n") == 1
    assert run(f"import my_problems\n{load}", tmp_path) == "MyOwnProblem(steepness=2)\n"


# what files have no word for


@dataclass(frozen=True, repr=False)
class Odd(lf.Description):
    """A description with a field that no file can hold."""

    thing: Any


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({1, 2}, r"Trajectory\.details\['x'\] is a set"),
        (((1, object()),), r"Trajectory\.details\['x'\]\[0\]\[1\] is a object"),
        ({"y": {"z": print}}, r"Trajectory\.details\['x'\]\['y'\]\['z'\] is a builtin_function_or_method"),
        (np.array([None, 1]), r"Trajectory\.details\['x'\] is an array of object"),
        (np.zeros(2, "i4,f8"), r"Trajectory\.details\['x'\] is an array of \[\('f0'"),
        (Odd(object()), r"Trajectory\.details\['x'\] = Odd\(thing=.* has a field that files have no word for"),
    ],
)
def test_other_types_are_refused_by_place(value: Any, place: str, tmp_path: Path) -> None:
    with pytest.raises(lf.InvalidInput, match=place) as caught:
        lf.save(trajectory(details={"x": value}), tmp_path / "run.nc")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("x", [1.0, {"a": 1}, np.ones(3), lf.Trajectory, lf.CPDecomposition, None])
def test_what_is_no_result_is_refused(x: Any, tmp_path: Path) -> None:
    with pytest.raises(lf.InvalidInput, match="save takes a Trajectory"):
        lf.save(x, tmp_path / "x.nc")


@pytest.mark.parametrize("path", [None, 3, b"bytes", "a\0b", "~no-such-user-at-all/x.nc", PROBLEM])
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(lf.InvalidInput, match="a path must be a string or a Path"):
        lf.save(PROBLEM, path)
    with pytest.raises(lf.InvalidInput, match="a path must be a string or a Path"):
        lf.load(path)


# no space left


def test_without_space_nothing_is_lost(tmp_path: Path) -> None:
    """A limit on file sizes stands for a full disk: the old file stays whole, and nothing is left beside it."""
    pytest.importorskip("resource", reason="limits on file sizes are a matter of Unix")
    lf.save(trajectory(), tmp_path / "run.nc")
    before = (tmp_path / "run.nc").read_bytes()
    answer = run(
        """
        import resource, lossflow as lf, numpy as np
        from dataclasses import replace
        big = replace(lf.load("run.nc"), details={"noise": np.random.default_rng(0).standard_normal(100_000)})
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
        for path in ("run.nc", "new.nc"):
            try:
                lf.save(big, path)
            except lf.StorageError as error:
                print(error)
        """,
        tmp_path,
    )
    lines = answer.splitlines()
    assert len(lines) == 2
    assert all("no space left" in line and "nothing was changed" in line for line in lines)
    assert os.listdir(tmp_path) == ["run.nc"]
    assert (tmp_path / "run.nc").read_bytes() == before
    assert lf.load(tmp_path / "run.nc").identical(trajectory())


def test_a_place_where_no_file_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "run.nc", tmp_path, Path("/")):
        with pytest.raises(lf.StorageError, match="nothing was changed") as caught:
            lf.save(PROBLEM, path)
        assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["file"]


def run(program: str, folder: Path) -> str:
    import textwrap

    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.stdout


def document_in(data: bytes) -> dict[str, Any]:
    return storage._from_netcdf(unseal(data, "the file"))[1]


def assert_same(a: Any, b: Any) -> None:
    """Stricter than `identical`: the very types, the bits of floats and arrays, the order of mappings."""
    if isinstance(a, (lf.Trajectory, lf.EndState)):
        assert type(a) is type(b)
        a, b = vars(a), vars(b)
    if isinstance(a, Mapping) and not isinstance(a, lf.SizeMap):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, tuple):
        assert type(b) is tuple
        assert len(a) == len(b)
        for one, two in zip(a, b, strict=True):
            assert_same(one, two)
    elif isinstance(a, (np.ndarray, np.generic)):
        assert type(a) is type(b)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    elif type(a) is int:
        assert type(b) is int
        assert a == b
    else:
        assert type(a) is type(b)
        assert repr(a) == repr(b)  # tells -0.0 from 0.0, and nan is nan
