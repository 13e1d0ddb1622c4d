"""One problem, a grid and a question: every point answered once, by any executor, and kept as soon as it is answered.

The driver alone writes: answers come back from the executor and go into a journal, under the content key of their point. So
the executor needs no disk in common with the driver, and a sweep that was interrupted, killed or enlarged goes on with what is
there.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from lossflow.checkpoint import cache_folder, write_atomically
from lossflow.cores import LIMIT, cores
from lossflow.description import Description, brief
from lossflow.errors import InvalidInput, LossflowError, UnknownField, nearest
from lossflow.journal import Journal
from lossflow.problem import AbstractProblem
from lossflow.progress import progress
from lossflow.questions import AbstractQuestion
from lossflow.trajectory import EndState, Trajectory

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Record = dict[str, Array]

JOURNAL, DATASET = "points.journal", "sweep.nc"
CHUNK = 0.25  # seconds that the points of one task take together, about
AHEAD = 2  # tasks for each worker, one of them waiting
PATIENCE = 0.2  # seconds between looks at the keyboard and the progress bar
UNEXPECTED = "unexpected"  # in a record: its error may be gone another time, so that it is not kept
DEATHS = 3  # of a worker with nothing but one point in work, after which the point counts as failed


def sweep(
    problem: AbstractProblem,
    grid: Mapping[str, Iterable[Any]],
    question: AbstractQuestion,
    *,
    executor: Executor | None = None,
    folder: str | None = None,
) -> Any:
    """answer(x_1, ..., x_n) = question(problem with field_i = x_i)  for all x in grid_1 x ... x grid_n, an `xarray.Dataset`.

    grid: the values of each swept field, in any order. A field is one of the problem, "delta", or of a description inside it,
    "init.scale"; "dynamics.temperature" and "method.seed" belong to the question. question: `Solve(method, times, dynamics)` or
    `Stationary()`. executor: any `concurrent.futures.Executor`, that of a `dask.distributed` client for example; by default a
    process on every core, each computing with one thread. folder: a path, where answers are kept, so that the same call again,
    or one with a larger grid, computes only what is missing; by default in the cache until the sweep is complete.

    The dimensions are the swept fields, "time" for `Solve`, "run" for single runs of a simulation, and "NAME_0", "NAME_1" for
    observables that are matrices. The coordinate of a field is its values if all are numbers, otherwise what they print as.
    Variables: every observable NAME, for `Solve` also "NAME_uncertainty", one standard error, and "NAME_runs" for simulations;
    for `Stationary` also "states", how many end states there are; "status", the kind of the `Status`, or "failed" where there
    is no answer; "message", the reason of a status or the error. Values without an answer are NaN. `FOLDER/sweep.nc` holds the
    same: `xarray.open_dataset` reads it lazily.

    Points are told apart by content: a value given twice is computed once. An error is the answer of its point, and kept if it
    is one of lossflow's; others (no space, a bug) are tried again in the next call. A worker that dies (killed, out of memory) is
    replaced and its points tried again, by themselves, three times. Ctrl-C and even a killed driver lose only the points in
    work, and no other process may write into the same folder meanwhile.
    Raises `UnknownField` for a field that is not there, `InvalidInput` for an empty grid or where no point describes a problem.
    """
    return swept(problem, grid, question, executor, folder, None)


def swept(
    problem: AbstractProblem,
    grid: Mapping[str, Iterable[Any]],
    question: AbstractQuestion,
    executor: Executor | None,
    folder: str | None,
    workers: int | None,
) -> Any:
    """`sweep` with so many processes of its own where there is no executor; None: one on every core."""
    _check(problem, question, executor)
    axes = {name: _chosen(name, values) for name, values in _named(grid).items()}
    points = [_point(problem, question, axes, values) for values in itertools.product(*axes.values())]
    _require_some(points)
    keys = list(dict.fromkeys(point.key for point in points))
    by_key = {point.key: point for point in points}
    place = _folder(folder, keys)
    context = _context()
    journal = Journal(place / JOURNAL)
    with journal:
        known = _read(journal, set(keys))
        for point in by_key.values():
            if point.error and point.key not in known:
                known[point.key] = _failure(point.error)
        missing = deque(by_key[key] for key in keys if key not in known)
        with progress(len(keys), "sweep", unit="points") as bar:
            bar.update(len(known))
            for key, record, lasting in _answers(missing, executor, workers or cores(), context):
                if lasting:
                    journal.append(_packed(key, record))
                known[key] = record
                bar.update(1)
    found = _dataset(problem, question, axes, [known[point.key] for point in points])
    if folder is None:
        journal.path.unlink(missing_ok=True)
        place.rmdir()
    else:
        _write(found, place / DATASET)
    return found


@dataclass(eq=False)
class _Point:
    """One point of the grid: the question and the problem there, or why there is none."""

    key: str
    problem: AbstractProblem | None = None
    question: AbstractQuestion | None = None
    error: str = ""
    deaths: int = 0


# --- from the grid to points


def _check(problem: Any, question: Any, executor: Any) -> None:
    if not isinstance(problem, AbstractProblem):
        raise InvalidInput(
            f"the problem must be an AbstractProblem such as QuadraticNetwork(...), got {brief(problem)}"
        )
    if isinstance(question, type) and issubclass(question, AbstractQuestion):
        raise InvalidInput(f"the question must be an instance: write {question.__name__}(...), with parentheses")
    if not isinstance(question, AbstractQuestion):
        raise InvalidInput(
            f"the question must be Solve(method, times) or Stationary(), got {brief(question)}; a method alone does not say "
            "at which times"
        )
    if executor is not None and not isinstance(executor, Executor):
        raise InvalidInput(
            "the executor must be a concurrent.futures.Executor such as ProcessPoolExecutor(), or the `get_executor()` of a "
            f"dask client; got {brief(executor)}"
        )


def _named(grid: Any) -> Mapping[str, Any]:
    if not isinstance(grid, Mapping) or not grid:
        raise InvalidInput(f'the grid must name at least one field, such as {{"delta": [1, 2, 4]}}, got {brief(grid)}')
    return grid


def _chosen(name: Any, values: Any) -> list[Any]:
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable) or np.ndim(cast(Any, values)) > 1:
        raise InvalidInput(f"the values of {name!r} must be a sequence such as [0.1, 0.2], got {brief(values)}")
    chosen = list(values)
    if not chosen:
        raise InvalidInput(f"the values of {name!r} are empty; a grid needs at least one value of every field")
    return chosen


def _point(
    problem: AbstractProblem, question: AbstractQuestion, axes: Mapping[str, Any], values: Sequence[Any]
) -> _Point:
    """The point with these values; a combination that describes nothing is a point that failed."""
    try:
        for name, value in zip(axes, values, strict=True):
            problem, question = _changed(problem, question, name, value)
    except UnknownField:
        raise
    except LossflowError as error:
        text = f"{type(error).__name__}: {error}"
        return _Point(hashlib.sha256(f"{text}\n{values!r}".encode()).hexdigest(), error=text)
    kind = type(problem)
    parts = (kind.__module__, kind.__qualname__, problem.content_key, question.content_key)
    return _Point(hashlib.sha256("\n".join(parts).encode()).hexdigest(), problem, question)


def _changed(
    problem: AbstractProblem, question: AbstractQuestion, name: str, value: Any
) -> tuple[AbstractProblem, AbstractQuestion]:
    first = str(name).partition(".")[0]
    of_question = [f.name for f in fields(cast(Any, question)) if isinstance(getattr(question, f.name), Description)]
    if first in of_question and first not in _names(problem):
        return problem, _with(question, name, value, name)
    return _with(problem, name, value, name), question


def _with(description: Any, path: str, value: Any, whole: str) -> Any:
    """`description` with the field at `path` replaced."""
    name, _, rest = str(path).partition(".")
    known = _names(description)
    if name not in known:
        raise UnknownField(
            f"cannot sweep {whole!r}: {type(description).__name__} has no field {name!r}; {nearest(name, known)}"
        )
    if not rest:
        return replace(description, **{name: value})
    inner = getattr(description, name)
    if not isinstance(inner, Description):
        raise UnknownField(
            f"cannot sweep {whole!r}: {name!r} of {type(description).__name__} is {brief(inner)}, without fields of its own"
        )
    return replace(description, **{name: _with(inner, rest, value, whole)})


def _names(description: Any) -> list[str]:
    return [f.name for f in fields(description)]


def _require_some(points: Sequence[_Point]) -> None:
    if all(point.error for point in points):
        raise InvalidInput(f"no point of the grid describes a problem; the first: {points[0].error}")


def _folder(folder: str | None, keys: Sequence[str]) -> Path:
    if folder is None:
        return cache_folder() / "sweep" / hashlib.sha256("\n".join(keys).encode()).hexdigest()
    place = Path(folder).expanduser()
    if place.exists() and not place.is_dir():
        raise InvalidInput(f"the folder {place} is a file; choose another name")
    return place


# --- from points to answers


def _answers(
    missing: deque[_Point], executor: Executor | None, workers: int, context: BaseContext
) -> Iterator[tuple[str, Record, bool]]:
    """(key, record, whether it will be the same next time) of every point, as they come."""
    if not missing:
        return
    with _Crew(missing, executor, workers, context) as crew:
        yield from crew.answers()


class _Crew:
    """Workers, the points they have in work, and what to do when one of them dies."""

    def __init__(self, missing: deque[_Point], executor: Executor | None, workers: int, context: BaseContext) -> None:
        self.missing, self.context = missing, context
        self.suspects: deque[_Point] = deque()  # in work when a worker died
        self.given = executor
        self.pool = executor
        self.busy: dict[Future[tuple[list[Record], float]], list[_Point]] = {}
        self.workers = workers if executor is None else 0
        self.seconds, self.answered = 0.0, 0

    def __enter__(self) -> _Crew:
        if self.given is None:
            self.pool = _pool(min(self.workers, len(self.missing)), self.context)
        return self

    def __exit__(self, *_: object) -> None:
        for future in self.busy:
            future.cancel()
        if self.given is None and self.pool is not None:
            _end(cast(ProcessPoolExecutor, self.pool))

    def answers(self) -> Iterator[tuple[str, Record, bool]]:
        while self.missing or self.suspects or self.busy:
            self._submit()
            for future in wait(self.busy, PATIENCE, FIRST_COMPLETED).done:
                points = self.busy.pop(future, None)
                if points is None:
                    continue  # its worker died together with that of another
                try:
                    records, seconds = future.result()
                except Exception as error:  # a broken pool, no memory, or what the executor makes of a lost worker
                    yield from self._worker_died(points, error)
                    continue
                self.seconds, self.answered = self.seconds + seconds, self.answered + len(points)
                for point, record in zip(points, records, strict=True):
                    yield point.key, record, UNEXPECTED not in record

    def _submit(self) -> None:
        """Keep every worker busy; a point under suspicion runs alone, so that a death is its own."""
        if self.suspects:
            if not self.busy:
                self._send([self.suspects.popleft()])
            return
        most = AHEAD * (self.workers or _workers(self.given))
        while self.missing and len(self.busy) < most and not self.suspects:
            size = 1
            if self.answered:
                each = max(self.seconds / self.answered, 1e-6)
                size = max(1, min(int(CHUNK / each), len(self.missing) // most))
            self._send([self.missing.popleft() for _ in range(min(size, len(self.missing)))])

    def _send(self, points: list[_Point]) -> None:
        assert self.pool is not None
        tasks = [(point.question, point.problem) for point in points if point.question and point.problem]
        try:
            self.busy[self.pool.submit(_answered, tasks)] = points
        except BrokenExecutor as error:
            if self.given is not None:
                raise InvalidInput(f"the executor is broken and cannot be used: {error}; make a new one") from None
            self.suspects.extend(points)
            self._renew()

    def _worker_died(self, points: list[_Point], error: BaseException) -> Iterator[tuple[str, Record, bool]]:
        alone = len(points) == 1 and not self.busy
        lost = [points, *self.busy.values()] if self.given is None and isinstance(error, BrokenExecutor) else [points]
        if len(lost) > 1:
            self.busy.clear()
        if self.given is None and isinstance(error, BrokenExecutor):
            self._renew()
        elif isinstance(error, BrokenExecutor):
            raise InvalidInput(f"the executor broke: {error}; make a new one, and the sweep goes on") from None
        if alone:
            points[0].deaths += 1
            if points[0].deaths >= DEATHS:
                text = f"its worker died {DEATHS} times ({type(error).__name__}: {error}); is there enough memory?"
                yield points[0].key, _failure(text), False
                return
        self.suspects.extend(point for group in lost for point in group)

    def _renew(self) -> None:
        assert self.pool is not None
        _end(cast(ProcessPoolExecutor, self.pool))
        self.pool = _pool(self.workers, self.context)


def _context() -> BaseContext:
    """Processes are forked where that is safe, so that a script needs no `if __name__ == "__main__"`."""
    import multiprocessing

    safe = sys.platform == "linux" and threading.active_count() == 1 and "jax" not in sys.modules
    return multiprocessing.get_context("fork" if safe else "spawn")


def _pool(workers: int, context: BaseContext) -> ProcessPoolExecutor:
    """Processes that compute with one thread each and end with their driver."""
    return ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(os.getpid(),))


def _end(pool: ProcessPoolExecutor) -> None:
    """Without waiting for what is in work."""
    for worker in list((getattr(pool, "_processes", None) or {}).values()):
        worker.terminate()
    pool.shutdown(wait=True, cancel_futures=True)


def _begin(driver: int) -> None:
    """What a process of the pool does first."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver answers Ctrl-C
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for name in (LIMIT, "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"
    threading.Thread(target=_watch, args=(driver,), daemon=True).start()


def _watch(driver: int) -> None:
    """A worker whose driver was killed would wait for work for ever."""
    while os.getppid() == driver:
        time.sleep(PATIENCE)
    os._exit(1)


def _workers(executor: Executor | None) -> int:
    """How many tasks an executor of somebody else's works on at once, as far as it says."""
    declared = getattr(executor, "_max_workers", None)
    if isinstance(declared, int):
        return declared
    client = getattr(executor, "_client", None)  # that of dask
    return max(sum(client.nthreads().values()), 1) if client is not None else cores()


def _answered(tasks: Sequence[tuple[AbstractQuestion, AbstractProblem]]) -> tuple[list[Record], float]:
    """What a worker does: the answers of some points, errors among them, and the seconds they took."""
    from threadpoolctl import threadpool_limits

    began = time.monotonic()
    records = []
    with threadpool_limits(1):
        for question, problem in tasks:
            try:
                records.append(_record(question.answer(problem)))
            except MemoryError:
                raise  # another time there may be more
            except Exception as error:
                found = _failure(f"{type(error).__name__}: {error}")
                records.append(found if isinstance(error, LossflowError) else found | {UNEXPECTED: np.array(True)})
    return records, time.monotonic() - began


# --- records: an answer as named arrays


def _record(found: Trajectory | EndState) -> Record:
    record: Record = {"status": np.array(found.status.kind), "message": np.array(found.status.reason)}
    if isinstance(found, EndState):
        record |= {f"end/{name}": np.array(value, np.float64) for name, value in found.values.items()}
        return record | {"states": np.array(max(len(found.branches), 1))}
    for name, values in found.values.items():
        record |= {f"value/{name}": values, f"uncertainty/{name}": found.uncertainty[name]}
    for name, runs in found.details.get("runs", {}).items():
        record[f"runs/{name}"] = np.asarray(runs, np.float64)
    return record


def _failure(message: str) -> Record:
    return {"status": np.array("failed"), "message": np.array(message)}


def _packed(key: str, record: Record) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{"key": np.array(key), **record})  # type: ignore[arg-type]
    return buffer.getvalue()


def _read(journal: Journal, wanted: set[str]) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for payload in journal.records():
        with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
            key = str(archive["key"])
            if key in wanted:
                found[key] = {name: archive[name] for name in archive.files if name != "key"}
    return found


# --- from records to a dataset


@dataclass
class _Column:
    """One variable: its dimensions behind those of the grid, and its values by number of the point."""

    dims: tuple[str, ...]
    values: dict[int, Array] = field(default_factory=dict)

    def stacked(self, count: int) -> Array:
        """One array, NaN where a point has no values or fewer than others."""
        shape = tuple(max(v.shape[k] for v in self.values.values()) for k in range(len(self.dims)))
        found = np.full((count, *shape), math.nan)
        for number, values in self.values.items():
            found[(number, *map(slice, values.shape))] = values
        return found


def _dataset(
    problem: AbstractProblem, question: AbstractQuestion, axes: Mapping[str, Sequence[Any]], records: Sequence[Record]
) -> Any:
    import xarray

    from lossflow import __version__

    shape = tuple(map(len, axes.values()))
    columns: dict[str, _Column] = {}
    for number, record in enumerate(records):
        for name, values in record.items():
            if "/" in name:
                title, dims = _labels(name, values.ndim)
                columns.setdefault(title, _Column(dims)).values[number] = values
    variables: dict[str, Any] = {}
    for title, column in columns.items():
        stacked = column.stacked(len(records))
        variables[title] = ((*axes, *column.dims), stacked.reshape(shape + stacked.shape[1:]))
    if any("states" in record for record in records):
        states = np.array([int(record.get("states", 0)) for record in records])
        variables["states"] = (tuple(axes), states.reshape(shape))
    for name in ("status", "message"):
        texts = np.array([str(record[name]) for record in records], dtype=object)
        variables[name] = (tuple(axes), texts.reshape(shape))
    coordinates: dict[str, Any] = {name: _coordinate(values) for name, values in axes.items()}
    if any("time" in column.dims for column in columns.values()):
        coordinates["time"] = np.array(getattr(question, "times", ()), np.float64)
    attributes = {"problem": repr(problem), "question": repr(question), "lossflow": __version__}
    return xarray.Dataset(variables, coordinates, attributes)


def _labels(name: str, ndim: int) -> tuple[str, tuple[str, ...]]:
    """The name of a variable and its dimensions."""
    kind, _, observable = name.partition("/")
    if kind == "end":
        return observable, tuple(f"{observable}_{k}" for k in range(ndim))
    if kind == "runs":
        return f"{observable}_runs", ("run", "time", *(f"{observable}_{k}" for k in range(ndim - 2)))
    title = observable if kind == "value" else f"{observable}_uncertainty"
    return title, ("time", *(f"{observable}_{k}" for k in range(ndim - 1)))


def _coordinate(values: Sequence[Any]) -> Array:
    if all(isinstance(value, Real) and not isinstance(value, bool) for value in values):
        return np.array([float(value) for value in values])
    return np.array([value if isinstance(value, str) else repr(value) for value in values])


def _write(found: Any, path: Path) -> None:
    """As netCDF with a checksum for every variable of numbers."""
    numbers = [name for name, variable in found.variables.items() if variable.dtype.kind == "f" and variable.ndim]
    with _locks_of_this_process():
        content = found.to_netcdf(engine="h5netcdf", encoding={name: {"fletcher32": True} for name in numbers})
    write_atomically(path, bytes(content))


def _locks_of_this_process() -> AbstractContextManager[object]:
    """With a dask client around, xarray asks its cluster for the lock of a file, which does not know files in memory."""
    if "dask" not in sys.modules:
        return nullcontext()
    import dask  # pyright: ignore[reportMissingImports]

    return dask.config.set(scheduler="synchronous")
