"""Sweeps: the same answers by every road, nothing lost, nothing computed twice, failures as data."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray

import lossflow as lf
from lossflow import sweeps
from lossflow.journal import Journal

NETWORK = lf.QuadraticNetwork(alpha=0.3, kappa=0.4, kappa_star=0.3, noise_variance=0.5, weight_decay=0.01)
GRID = {"alpha": np.linspace(0.1, 1, 6), "weight_decay": [0.1, "0+", 0.5]}
PROCESSES = sys.platform != "win32"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOSSFLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def here() -> Iterator[ThreadPoolExecutor]:
    """An executor in this process, so that what happens in it can be watched."""
    with ThreadPoolExecutor(2) as executor:
        yield executor


@dataclass(frozen=True, repr=False)
class Noted(lf.AbstractQuestion):
    """A question that notes every answer in a folder and can take its time, fail or kill its worker."""

    folder: str
    pause: float = 0.0
    deadly: float = -1.0

    def answer(self, problem: lf.AbstractProblem) -> lf.EndState:
        assert isinstance(problem, lf.QuadraticNetwork)
        time.sleep(self.pause)
        if problem.alpha == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if problem.kappa > 0.9:
            raise ValueError("too wide")
        found = lf.stationary(problem)
        Path(self.folder, f"{problem.content_key}-{time.time_ns()}").touch()
        return found

    @property
    def count(self) -> int:
        return len(list(Path(self.folder).iterdir()))


@pytest.fixture
def noted(tmp_path: Path) -> Noted:
    (tmp_path / "notes").mkdir()
    return Noted(str(tmp_path / "notes"))


def test_every_point_is_the_answer_to_its_own_problem(here: ThreadPoolExecutor) -> None:
    found = lf.sweep(NETWORK, GRID, lf.Stationary(), executor=here)
    assert dict(found.sizes) == {"alpha": 6, "weight_decay": 3}
    for i, alpha in enumerate(GRID["alpha"]):
        for j, decay in enumerate(GRID["weight_decay"]):
            state = lf.stationary(dataclasses.replace(NETWORK, alpha=alpha, weight_decay=decay))
            point = found.isel(alpha=i, weight_decay=j)
            assert {name: float(point[name]) for name in state.values} == dict(state.values)
            assert str(point.status.values) == state.status.kind
            assert int(point.states) == max(1, len(state.branches))
    assert found.alpha.values.tolist() == list(GRID["alpha"])
    assert found.weight_decay.values.tolist() == ["0.1", "0+", "0.5"]


@pytest.mark.skipif(not PROCESSES, reason="forks")
def test_all_executors_give_the_same(here: ThreadPoolExecutor, tmp_path: Path) -> None:
    reference = lf.sweep(NETWORK, GRID, lf.Stationary(), executor=here)
    assert lf.sweep(NETWORK, GRID, lf.Stationary()).identical(reference)
    with ProcessPoolExecutor(2) as pool:
        assert lf.sweep(NETWORK, GRID, lf.Stationary(), executor=pool, folder=str(tmp_path / "run")).identical(
            reference
        )
    assert lf.sweep(NETWORK, GRID, lf.Stationary(), folder=str(tmp_path / "run")).identical(reference)


def test_trajectories_with_time_and_run(here: ThreadPoolExecutor) -> None:
    problem = lf.CPDecomposition(order=2)
    method = lf.Simulation({"p": 6, "H": 5, "sigma2": 0.1}, runs=3)
    times = (0.0, 0.1, 0.3)
    grid = {"order": [2, 4], "method.seed": [0, 7]}
    found = lf.sweep(problem, grid, lf.Solve(method, times), executor=here)
    assert found.loss.dims == ("order", "method.seed", "time")
    assert found.loss_runs.dims == ("order", "method.seed", "run", "time")
    assert found.time.values.tolist() == list(times)
    for order in (2, 4):
        for seed in (0, 7):
            single = lf.solve(
                dataclasses.replace(problem, order=order), dataclasses.replace(method, seed=seed), np.array(times)
            )
            point = found.sel({"order": order, "method.seed": seed})
            np.testing.assert_array_equal(point.loss, single.values["loss"])
            np.testing.assert_array_equal(point.loss_uncertainty, single.uncertainty["loss"])
            np.testing.assert_array_equal(point.loss_runs, single.details["runs"]["loss"])


def test_matrices_and_different_shapes_are_padded(here: ThreadPoolExecutor) -> None:
    network = lf.TwoLayer(hidden=1, teacher_hidden=2, activation=lf.Erf(), delta=2.0)
    method = lf.MeanField(paths=64, randomizations=4)
    dynamics = lf.GradientDescent(step=0.1)
    question = lf.Solve(method, tuple(dynamics.times(steps=2)), dynamics)
    found = lf.sweep(network, {"hidden": [1, 2]}, question, executor=here)
    assert found.overlap.dims == ("hidden", "time", "overlap_0", "overlap_1")
    assert found.overlap.shape == (2, 3, 2, 2)
    assert np.isnan(found.overlap.sel(hidden=1).values[:, 1]).all()
    assert np.isfinite(found.overlap.sel(hidden=2)).all()


def test_fields_inside_descriptions() -> None:
    network = lf.DiagonalLinear(delta=0.5, prior=lf.RademacherSparse(density=0.1), noise_variance=0.01)
    with ThreadPoolExecutor(1) as here:
        inner = lf.sweep(network, {"init.scale": [0.1, 1.0]}, lf.Stationary(), executor=here)
        whole = lf.sweep(
            network, {"init": [lf.SymmetricInit(0.1), lf.SymmetricInit(1.0)]}, lf.Stationary(), executor=here
        )
    np.testing.assert_array_equal(inner.mse.values, whole.mse.values)
    assert whole.init.values[0] == "SymmetricInit(scale=0.1)"
    assert inner["init.scale"].values.tolist() == [0.1, 1.0]


def test_nothing_is_computed_twice(noted: Noted, here: ThreadPoolExecutor, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = lf.sweep(NETWORK, {"alpha": [0.2, 0.3, 0.2]}, noted, executor=here, folder=str(folder))
    assert noted.count == 2
    assert float(first.mse[0]) == float(first.mse[2])
    again = lf.sweep(NETWORK, {"alpha": [0.2, 0.3, 0.2]}, noted, executor=here, folder=str(folder))
    assert again.identical(first)
    assert noted.count == 2
    lf.sweep(NETWORK, {"alpha": [0.1, 0.2, 0.3, 0.4]}, noted, executor=here, folder=str(folder))
    assert noted.count == 4
    with xarray.open_dataset(folder / "sweep.nc", engine="h5netcdf") as lazy:
        assert lazy.alpha.values.tolist() == [0.1, 0.2, 0.3, 0.4]


def test_without_a_folder_an_interrupted_sweep_goes_on(
    noted: Noted, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, seen = Journal.append, []

    def append(self: Journal, payload: bytes) -> None:
        if len(seen) == 3:
            raise KeyboardInterrupt
        original(self, payload)
        seen.append(payload)

    monkeypatch.setattr(Journal, "append", append)
    with ThreadPoolExecutor(2) as here, pytest.raises(KeyboardInterrupt):
        lf.sweep(NETWORK, GRID, noted, executor=here)
    before = noted.count  # once the executor has ended what it had in work
    monkeypatch.setattr(Journal, "append", original)
    with ThreadPoolExecutor(2) as here:
        found = lf.sweep(NETWORK, GRID, noted, executor=here)
    assert noted.count - before == 18 - 3
    assert np.isfinite(found.mse).all()
    assert not list(cache.rglob("*.journal"))


def test_a_failing_point_is_data(noted: Noted, here: ThreadPoolExecutor, tmp_path: Path) -> None:
    grid = {"kappa": [0.5, 1.0, -1.0]}
    found = lf.sweep(NETWORK, grid, noted, executor=here, folder=str(tmp_path / "run"))
    assert found.status.values.tolist() == ["complete", "failed", "failed"]
    assert found.message.values[1] == "ValueError: too wide"
    assert "kappa" in found.message.values[2]
    assert np.isnan(found.mse.values[1:]).all()
    assert lf.sweep(NETWORK, grid, noted, executor=here, folder=str(tmp_path / "run")).identical(found)
    assert noted.count == 1
    only = lf.sweep(NETWORK, {"kappa": [1.0]}, noted, executor=here)
    assert only.status.values.tolist() == ["failed"]


@pytest.mark.skipif(not PROCESSES, reason="forks")
def test_a_point_that_kills_its_worker_fails_alone(noted: Noted, tmp_path: Path) -> None:
    question = dataclasses.replace(noted, deadly=0.3)
    alphas = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    found = lf.sweep(NETWORK, {"alpha": alphas}, question, folder=str(tmp_path / "run"))
    assert [kind == "failed" for kind in found.status.values] == [alpha == 0.3 for alpha in alphas]
    assert "died 3 times" in found.message.values[2]
    # another machine may have more memory: only what would fail again is remembered
    recovered = lf.sweep(NETWORK, {"alpha": alphas}, question, folder=str(tmp_path / "run"))
    assert "died 3 times" in recovered.message.values[2]


@pytest.mark.skipif(not PROCESSES, reason="forks")
def test_workers_compute_with_one_thread_and_end_with_the_sweep(tmp_path: Path) -> None:
    script = f"""
import os
os.environ["LOSSFLOW_CACHE"] = {str(tmp_path / "cache")!r}
import multiprocessing, numpy as np, lossflow as lf
from dataclasses import dataclass
from lossflow.cores import cores

@dataclass(frozen=True, repr=False)
class Threads(lf.AbstractQuestion):
    def answer(self, problem):
        state = lf.stationary(problem)
        return lf.EndState({{"threads": float(cores())}}, (), problem, state.status)

network = {NETWORK!r}.__class__(alpha=0.3, kappa=0.4, kappa_star=0.3, noise_variance=0.5, weight_decay=0.01)
found = lf.sweep(network, {{"alpha": [0.1, 0.2, 0.3]}}, Threads())
print(found.threads.values.tolist(), len(multiprocessing.active_children()))
"""
    script = script.replace(f"{NETWORK!r}.__class__", "lf.QuadraticNetwork")
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.split("\n")[0] == "[1.0, 1.0, 1.0] 0"


DRIVER = """
import os, sys
from dataclasses import dataclass
from pathlib import Path
import time
import numpy as np
import lossflow as lf

@dataclass(frozen=True, repr=False)
class Slow(lf.AbstractQuestion):
    folder: str
    def answer(self, problem):
        time.sleep(0.02)
        found = lf.stationary(problem)
        Path(self.folder, f"{os.getpid()}-{time.time_ns()}").write_text(str(problem.alpha))
        return found

network = lf.QuadraticNetwork(alpha=0.3, kappa=0.4, kappa_star=0.3, noise_variance=0.5, weight_decay=0.01)
grid = {"alpha": np.linspace(0.1, 1, 60), "weight_decay": [0.1, 0.5]}
print("ready", flush=True)
found = lf.sweep(network, grid, Slow(sys.argv[1]), folder=sys.argv[2])
print("done", bool(np.isfinite(found.mse).all()), flush=True)
"""


@pytest.mark.skipif(not PROCESSES, reason="kills processes")
@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_sigkill_of_drivers_and_workers_at_random_moments(kills: int, tmp_path: Path) -> None:
    """Nothing that a journal had is computed again; in work at a kill are at most the points of the tasks given out."""
    (tmp_path / "notes").mkdir()
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    command = [sys.executable, str(script), str(tmp_path / "notes"), str(tmp_path / "run")]
    random = np.random.default_rng(0)
    known = [0]
    for kill in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(random.uniform(0.0, 0.4))
        if kill % 2:
            process.kill()
            process.stdout.close()
            process.wait()
        else:
            for worker in _children(process.pid)[: 1 + kill % 4 // 2]:
                os.kill(worker, signal.SIGKILL)
            time.sleep(random.uniform(0.0, 0.2))
            process.kill()
            process.stdout.close()
            process.wait()
        known.append(len(list(Journal(tmp_path / "run" / "points.journal").records())))
    assert known == sorted(known)
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.endswith("done True\n")
    payloads = list(Journal(tmp_path / "run" / "points.journal").records())
    assert len(payloads) == 120
    with ThreadPoolExecutor(1) as here:
        grid = {"alpha": np.linspace(0.1, 1, 60), "weight_decay": [0.1, 0.5]}
        expected = lf.sweep(NETWORK, grid, lf.Stationary(), executor=here)
    with xarray.open_dataset(tmp_path / "run" / "sweep.nc", engine="h5netcdf") as found:
        xarray.testing.assert_identical(found.drop_attrs(), expected.drop_attrs())


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += map(int, task.read_text().split())
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_dask_processes_give_the_same(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    grid = {"alpha": np.linspace(0.1, 1, 1000), "weight_decay": [0.1, 0.5]}
    local = lf.sweep(NETWORK, grid, lf.Stationary())
    logistic = lf.GeneralizedLinear(loss=lf.Logistic(), labels=lf.SignLabels(), delta=2.0, weight_decay=0.05)
    descent = lf.GradientDescent(step=0.3)
    question = lf.Solve(lf.MeanField(paths=64, randomizations=4), tuple(descent.times(steps=5)), descent)
    curves = {"delta": np.linspace(0.5, 4, 20), "weight_decay": np.linspace(0.05, 0.5, 10)}
    local_curves = lf.sweep(logistic, curves, question)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        folder = str(tmp_path / "run")
        assert lf.sweep(NETWORK, grid, lf.Stationary(), executor=client.get_executor(), folder=folder).identical(local)
        assert lf.sweep(logistic, curves, question, executor=client.get_executor()).identical(local_curves)
    with xarray.open_dataset(tmp_path / "run" / "sweep.nc", engine="h5netcdf") as written:
        np.testing.assert_array_equal(written.mse, local.mse)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, {"alpha": [1]}, lf.Stationary()), "the problem must be an AbstractProblem"),
        ((NETWORK, {"alpha": [1]}, lf.Stationary), "write Stationary"),
        ((NETWORK, {"alpha": [1]}, lf.MeanField()), "the question must be Solve"),
        ((NETWORK, {}, lf.Stationary()), "at least one field"),
        ((NETWORK, {"alpha": []}, lf.Stationary()), "'alpha' are empty"),
        ((NETWORK, {"alpha": 0.3}, lf.Stationary()), "must be a sequence"),
        ((NETWORK, {"alhpa": [1]}, lf.Stationary()), "did you mean 'alpha'"),
        ((NETWORK, {"alpha.x": [1]}, lf.Stationary()), "without fields of its own"),
        ((NETWORK, {"method.seed": [1]}, lf.Stationary()), "no field 'method'"),
        ((NETWORK, {"alpha": [-1, -2]}, lf.Stationary()), "no point of the grid describes a problem"),
    ],
)
def test_misuse_is_answered(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(lf.InvalidInput, match=message):
        lf.sweep(*arguments)


def test_an_executor_that_is_none_and_a_folder_that_is_a_file(tmp_path: Path, here: ThreadPoolExecutor) -> None:
    with pytest.raises(lf.InvalidInput, match="executor must be"):
        lf.sweep(NETWORK, GRID, lf.Stationary(), executor=2)  # type: ignore[arg-type]
    (tmp_path / "file").write_text("")
    with pytest.raises(lf.InvalidInput, match="is a file"):
        lf.sweep(NETWORK, GRID, lf.Stationary(), executor=here, folder=str(tmp_path / "file"))


def test_damage_in_the_folder_is_noticed(tmp_path: Path, here: ThreadPoolExecutor) -> None:
    lf.sweep(NETWORK, {"alpha": [0.3]}, lf.Stationary(), executor=here, folder=str(tmp_path / "run"))
    path = tmp_path / "run" / sweeps.JOURNAL
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 8
    path.write_bytes(data)
    with pytest.raises(lf.CorruptedFile, match=r"points\.journal is damaged"):
        lf.sweep(NETWORK, {"alpha": [0.3]}, lf.Stationary(), executor=here, folder=str(tmp_path / "run"))


def test_questions_are_descriptions() -> None:
    question = lf.Solve(lf.Simulation({"p": 4, "H": 4, "sigma2": 0.1}), np.linspace(0, 1, 3))  # type: ignore[arg-type]
    assert question.times == (0.0, 0.5, 1.0)
    assert lf.AbstractQuestion.from_toml(question.to_toml()) == question
    with pytest.raises(lf.InvalidInput, match="strictly monotone"):
        dataclasses.replace(question, times=(0.0, 0.0))
    with pytest.raises(lf.InvalidInput, match="abstract"):
        lf.AbstractQuestion()
