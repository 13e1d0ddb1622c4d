"""Many runs: grouping, threads and interruptions change no bit; nothing finished is done twice."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import lossflow as lf
from lossflow.checkpoint import Checkpoint
from lossflow.simulate import ensemble
from lossflow.simulate.ensemble import Ensemble, bytes_per_leg, grouping, run_ensemble
from lossflow.simulate.flow import RUNNING, Flow
from lossflow.simulate.gradients import Program
from lossflow.simulate.method import FORMAT

Array = npt.NDArray[np.float64]


def question_key(method: lf.Simulation, problem: lf.AbstractProblem, times: Array) -> str:
    """Under which `Simulation` keeps an unfinished flow."""
    return method.question_key(problem, times, lf.GradientFlow(), str(FORMAT), problem.as_diagrams().content_key)


PROBLEM = lf.PolynomialProblem(lf.CPDecomposition(order=4).as_diagrams())
SIZES = {"p": 6, "H": 5, "sigma2": 0.3}
TIMES = np.linspace(-0.02, 0.5, 27)


def run(runs: int, times: Array = TIMES, name: str = "test") -> Ensemble:
    program = Program(PROBLEM.as_diagrams(), SIZES)
    return run_ensemble(
        program, lambda r: PROBLEM.as_sample(SIZES, r, 3), runs, times, 1e-8, Checkpoint("simulate", name)
    )


def assert_identical(a: Ensemble, b: Ensemble) -> None:
    for name in Ensemble._fields:
        assert getattr(a, name).tobytes() == getattr(b, name).tobytes(), name


def test_runs_do_not_depend_on_their_number() -> None:
    many, few = run(7), run(2)
    for name in Ensemble._fields:
        assert getattr(many, name)[:2].tobytes() == getattr(few, name).tobytes(), name


@pytest.mark.parametrize(("threads", "size"), [(1, 1), (1, 14), (2, 3), (5, 1)])
def test_grouping_and_threads_change_nothing(threads: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(7)
    monkeypatch.setattr(ensemble, "grouping", lambda program, legs: (threads, size))
    assert_identical(run(7), expected)


def test_both_directions_at_once_are_the_two_directions() -> None:
    both = run(4)
    forward, backward = run(4, TIMES[TIMES >= 0]), run(4, TIMES[TIMES < 0])
    assert both.loss.tobytes() == np.concatenate([backward.loss, forward.loss], axis=1).tobytes()
    assert (both.steps == forward.steps + backward.steps).all()
    assert (both.steps > 0).all()
    falling = run(4, TIMES[::-1])
    assert falling.loss.tobytes() == both.loss[:, ::-1].tobytes()


def test_time_zero_alone_is_the_start() -> None:
    start = run(3, np.array([0.0]))
    assert start.loss[:, 0].tobytes() == run(3).loss[:, np.searchsorted(TIMES, 0.0)].tobytes()
    assert (start.steps == 0).all()


State = Mapping[str, npt.NDArray[Any]]


class Saves:
    """Keeps the states that are saved, and once interrupts the computation, at the first state that says `stop`."""

    def __init__(self, patch: pytest.MonkeyPatch, stop: Callable[[State], bool]) -> None:
        self.states: list[State] = []
        original, stopped = Checkpoint.save, threading.Event()

        def save(checkpoint: Checkpoint, arrays: State) -> None:
            original(checkpoint, arrays)
            self.states.append({name: np.array(array) for name, array in arrays.items()})
            if stop(arrays) and not stopped.is_set():
                stopped.set()
                raise KeyboardInterrupt

        patch.setattr(Checkpoint, "save", save)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint every few steps, however fast the machine is: every step takes at least a fifth of the interval."""
    original = Flow._step

    def step(self: Flow) -> None:
        original(self)
        time.sleep(0.004)

    monkeypatch.setattr(Flow, "_step", step)
    monkeypatch.setattr(Checkpoint, "interval", 0.02)
    monkeypatch.setattr(Checkpoint, "share", 1.0)
    monkeypatch.setattr(ensemble, "PATIENCE", 0.005)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("size", [1, 3])
def test_an_interrupted_ensemble_goes_on(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted at every other save, with legs waiting, on their way and done."""
    expected = run(6)
    monkeypatch.setattr(ensemble, "grouping", lambda program, legs: (2, size))
    elapsed = [0.0]
    while True:
        with pytest.MonkeyPatch.context() as patch:
            saves = Saves(patch, lambda state: np.sum(state["elapsed"]) > elapsed[-1] + 0.3)
            try:
                found = run(6, name="interrupted")
            except KeyboardInterrupt:
                elapsed.append(float(np.sum(saves.states[-1]["elapsed"])))
                continue
            break
    assert len(elapsed) > 4
    assert elapsed == sorted(elapsed)
    assert_identical(found, expected)
    assert not Checkpoint("simulate", "interrupted").path.exists()


@pytest.mark.usefixtures("often")
def test_what_is_done_is_not_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the last save before the end nothing is drawn but the runs that were on their way."""
    monkeypatch.setattr(ensemble, "grouping", lambda program, legs: (2, 1))
    drawn: list[int] = []

    def finished(state: State) -> npt.NDArray[np.bool_]:
        return (state["outcome"].reshape(10, 2) != RUNNING).all(axis=1)

    def sample(r: int) -> dict[str, Array]:
        drawn.append(r)
        return PROBLEM.as_sample(SIZES, r, 3)

    program = Program(PROBLEM.as_diagrams(), SIZES)
    saves = Saves(monkeypatch, lambda state: finished(state).sum() >= 3)
    with pytest.raises(KeyboardInterrupt):
        run_ensemble(program, sample, 10, TIMES, 1e-8, Checkpoint("simulate", "again"))
    done = np.flatnonzero(finished(saves.states[-1]))
    assert 3 <= len(done) < 10
    drawn.clear()
    run_ensemble(program, sample, 10, TIMES, 1e-8, Checkpoint("simulate", "again"))
    assert set(drawn) == set(range(10)) - set(done.tolist())


@pytest.mark.usefixtures("often")
def test_lost_weights_are_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that says a leg is on its way but lacks its weights: that leg starts anew, and nothing is wrong."""
    expected = run(3)
    saves = Saves(monkeypatch, lambda state: len(state["moving"]) > 1)
    with pytest.raises(KeyboardInterrupt):
        run(3, name="lost")
    state = dict(saves.states[-1])
    state["moving"], state["state"] = state["moving"][1:], state["state"][1:]
    Checkpoint("simulate", "lost").save(state)
    assert_identical(run(3, name="lost"), expected)


@pytest.mark.usefixtures("often")
def test_a_failing_draw_leaves_the_last_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program(PROBLEM.as_diagrams(), SIZES)
    monkeypatch.setattr(ensemble, "grouping", lambda program, legs: (2, 1))

    def sample(r: int) -> dict[str, Array]:
        if r == 6:
            raise MemoryError
        return PROBLEM.as_sample(SIZES, r, 3)

    with pytest.raises(MemoryError):
        run_ensemble(program, sample, 7, TIMES, 1e-8, Checkpoint("simulate", "failing"))
    assert Checkpoint("simulate", "failing").load() is not None
    assert_identical(run(7, name="failing"), run(7))


def test_ctrl_c_saves_and_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real signal once the flow is on its way, which then goes on from there."""
    times = np.linspace(0, 800, 3)  # hundreds of steps: the signal after twenty of them comes in their midst
    problem, sizes = lf.CPDecomposition(order=2), {"p": 24, "H": 24, "sigma2": 1 / 24}
    method = lf.Simulation(sizes, runs=6, tolerance=1e-8)
    original, steps = Flow._step, itertools.count(1)

    def step(self: Flow) -> None:
        original(self)
        if next(steps) == 20:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Flow, "_step", step)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores the signal
    gc.disable()  # other libraries have callbacks in the collector, and Python only prints what is raised in those
    try:
        with pytest.raises(KeyboardInterrupt):
            lf.solve(problem, method, times)
    finally:
        gc.enable()
        signal.signal(signal.SIGINT, handler)
    key = question_key(method, problem, times)
    saved = Checkpoint("simulate", key).load()
    assert saved is not None
    assert 0 < saved["elapsed"].astype(float).sum() < 6 * 800
    resumed = lf.solve(problem, method, times)
    assert resumed.identical(lf.solve(problem, method, times))
    assert threading.active_count() == 1


KILLED = """
import os, signal, sys, time
import numpy as np
import lossflow as lf
from lossflow.checkpoint import Checkpoint
from lossflow.simulate import ensemble
from lossflow.simulate.flow import Flow
from lossflow.simulate.method import FORMAT

problem = lf.PolynomialProblem(lf.CPDecomposition(order=4).as_diagrams())
method = lf.Simulation({"p": 20, "H": 24, "sigma2": 0.05}, runs=8, seed=1, tolerance=1e-12)
times = np.linspace(-0.01, 100, 40)
key = method.question_key(problem, times, lf.GradientFlow(), str(FORMAT), problem.as_diagrams().content_key)
lf.solve(problem, method, times[:1])  # all modules are loaded before the first fork
Checkpoint.interval, Checkpoint.share, ensemble.PATIENCE = 0.01, 0.5, 0.002
original = Flow._step


def step(flow):
    original(flow)
    time.sleep(0.001)  # thousands of steps: no machine is so fast that it finishes between twenty kills


Flow._step = step


def attempt():
    lf.save(lf.solve(problem, method, times), sys.argv[1])


random, elapsed = np.random.default_rng(0), [0.0]
for kill in range(200):
    if kill >= 20 and elapsed[-1] > 0:
        break
    child = os.fork()
    if child == 0:
        attempt()
        os._exit(0)
    time.sleep(random.uniform(0.0, 0.15) * (1 + kill // 20))  # a busy machine may reach nothing in so short a time
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"finished before kill {kill}: the computation is too short for this test"
    saved = Checkpoint("simulate", key).load()
    elapsed.append(0.0 if saved is None else float(np.sum(saved["elapsed"])))
print(*elapsed)
attempt()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are killed after a fork")
def test_sigkill_at_twenty_random_moments(tmp_path: Path) -> None:
    """Killed twenty times, never behind what it had reached, and in the end the bits of a computation left alone."""
    result = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "killed.nc")],
        env=os.environ | {"LOSSFLOW_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    elapsed = [float(word) for word in result.stdout.split()]
    assert elapsed == sorted(elapsed)
    assert elapsed[-1] > 0
    assert not list((tmp_path / "cache").rglob("*.npz"))
    method = lf.Simulation({"p": 20, "H": 24, "sigma2": 0.05}, runs=8, seed=1, tolerance=1e-12)
    assert lf.load(tmp_path / "killed.nc").identical(lf.solve(PROBLEM, method, np.linspace(-0.01, 100, 40)))


def test_batches_fill_the_cores_and_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ensemble, "cores", lambda: 2)
    monkeypatch.setattr(ensemble, "idle_cores", lambda: 2)
    small, large = (Program(PROBLEM.as_diagrams(), {"p": n, "H": n, "sigma2": 1}) for n in (4, 64))
    assert grouping(small, 16) == (1, 16)  # two threads would wait for each other
    assert grouping(large, 16) == (2, 8)
    assert grouping(large, 1) == (1, 1)
    monkeypatch.setattr(ensemble, "idle_cores", lambda: 1)
    assert grouping(large, 16) == (1, 16)  # others would take the time of the interpreter
    assert grouping(large, 100) == (2, 50)  # not from work like this
    for fitting, expected in ((1.5, (1, 1)), (6.5, (2, 3)), (7.5, (2, 3))):
        monkeypatch.setattr(ensemble, "available_memory", lambda n=fitting: n * bytes_per_leg(large) / ensemble.SHARE)
        assert grouping(large, 100) == expected


def test_idle_cores_are_some_of_them() -> None:
    assert 1 <= ensemble.idle_cores() <= ensemble.cores()


def test_the_announced_memory_is_what_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not more, and not much less, for a problem whose arrays dwarf all else."""
    import tracemalloc

    monkeypatch.setattr(ensemble, "cores", lambda: 1)

    problem, sizes = lf.CPDecomposition(order=3, symmetric=False), {"p": 40, "H": 120, "sigma2": 0.01}
    program = Program(problem.as_diagrams(), sizes)
    start = problem.as_sample(sizes, 0, 0)
    tracemalloc.start()
    try:
        run_ensemble(program, lambda r: start, 4, np.array([0.01]), 1e-4, Checkpoint("simulate", "memory"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0.6 < peak / (4 * bytes_per_leg(program)) < 1
