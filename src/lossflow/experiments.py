"""Experiments and sweeps from a file: the tables of a TOML document are the descriptions, and every mistake has its place.

[problem] [methods.NAME] [times] [dynamics] [output]   an experiment: one problem, several answers, a verdict
[problem] [grid] [question] [executor] [output]        a sweep: one question at every point of a grid
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import numpy as np

from lossflow.checkpoint import read, write_atomically
from lossflow.comparison import Comparison, compare
from lossflow.description import Description, brief, coerce
from lossflow.dynamics import AbstractDynamics, GradientFlow
from lossflow.errors import InvalidInput, LossflowError, StorageError, UnknownField, nearest
from lossflow.method import AbstractMethod, checked_times, solve
from lossflow.problem import AbstractProblem
from lossflow.questions import AbstractQuestion
from lossflow.storage import load, save
from lossflow.sweeps import swept
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    import numpy.typing as npt

    Table = Mapping[str, Any]

D = TypeVar("D", bound=Description)

RANGE = ("from", "to", "count", "spacing")
STEPS = ("steps", "every")
MOST = 10**6  # values of one range
VERDICT = "verdict"  # the file of verdicts, so that no method may be called like it
SUCH_AS: Mapping[type, str] = {
    AbstractProblem: 'type = "CPDecomposition"; `lossflow list problems` prints all',
    AbstractMethod: 'type = "Simulation"; `lossflow list methods` prints all',
    AbstractDynamics: 'type = "GradientFlow"; `lossflow list dynamics` prints all',
    AbstractQuestion: 'type = "Stationary"; `lossflow list questions` prints all',
}


@dataclass(frozen=True)
class Experiment:
    """One problem and the methods that answer it at the same times under the same dynamics.

    methods: by the names of their tables; the first is the reference of the comparison. observables: what is compared.
    folder: where answers and verdicts go.
    """

    title: str
    problem: AbstractProblem
    methods: Mapping[str, AbstractMethod]
    times: npt.NDArray[np.float64]
    dynamics: AbstractDynamics
    observables: tuple[str, ...]
    folder: Path


@dataclass(frozen=True)
class Survey:
    """The arguments of `lossflow.sweep`. executor: "processes" of this machine or "dask"; workers: None for all cores;
    address: of a dask scheduler, None for a cluster on this machine."""

    title: str
    problem: AbstractProblem
    grid: Mapping[str, Sequence[Any]]
    question: AbstractQuestion
    executor: Literal["processes", "dask"]
    workers: int | None
    address: str | None
    folder: Path


class Answer(NamedTuple):
    """One trajectory and its file; computed: now, not in an earlier run."""

    name: str
    trajectory: Trajectory
    path: Path
    computed: bool


def read_experiment(path: Path) -> Experiment:
    """The experiment of a file.

        title = "..."                                      optional, as is everything marked so
        [problem]           type = "...", fields           a description, as `problem.to_toml()` writes it
        [methods.NAME]      type = "...", fields           one or more; the first is compared with the others
        [times]             from, to, count, spacing       or `values`, or `steps` and `every` for discrete dynamics
        [dynamics]          type = "...", fields           optional: GradientFlow
        [output]            folder, observables            optional: the name of the file, ["loss"]

    Raises `InvalidInput` with the file and the place in it, what was expected and the nearest right name.
    """
    with _placed(path):
        data = _document(path)
        _require_keys(data, "the file", ("title", "problem", "method", "methods", "times", "dynamics", "output"))
        problem = _required(data, "problem", AbstractProblem)
        methods = _methods(data)
        dynamics = _optional(data, "dynamics", AbstractDynamics, GradientFlow())
        if "times" not in data:
            raise InvalidInput("[times] is missing: write from = 0, to = 1, count = 21, or values = [...]")
        times = np.array(_times(data["times"], "times", dynamics))
        output = _table(data.get("output", {}), "output")
        _require_keys(output, "[output]", ("folder", "observables"))
        observables = coerce(output.get("observables", ["loss"]), tuple[str, ...], "[output] observables")
        if not observables:
            raise InvalidInput('[output] observables is empty; leave it out to compare ["loss"]')
        for name, method in methods.items():
            if method.language not in problem.languages:
                raise InvalidInput(f"[methods.{name}] {problem.silence(method.language)}")
        return Experiment(_title(data), problem, methods, times, dynamics, observables, _folder(output, path))


def read_survey(path: Path) -> Survey:
    """The sweep of a file.

        title = "..."                                      optional, as is everything marked so
        [problem]           type = "...", fields           a description, as `problem.to_toml()` writes it
        [grid]              FIELD = [...]                  or FIELD = { from, to, count, spacing }; fields of fields are dotted
        [question]          type = "...", fields           Solve takes `times` as experiments do
        [executor]          type, workers, address         optional: "processes" on all cores, or "dask"
        [output]            folder                         optional: the name of the file

    Raises `InvalidInput` with the file and the place in it, what was expected and the nearest right name.
    """
    with _placed(path):
        data = _document(path)
        _require_keys(data, "the file", ("title", "problem", "grid", "question", "executor", "output"))
        problem = _required(data, "problem", AbstractProblem)
        grid = _grid(_table(data.get("grid", {}), "grid"), "grid")
        asked = _required(_with_times_listed(data), "question", AbstractQuestion)
        executor = _table(data.get("executor", {}), "executor")
        _require_keys(executor, "[executor]", ("type", "workers", "address"))
        kind = coerce(executor.get("type", "processes"), Literal["processes", "dask"], "[executor] type")
        workers = executor.get("workers")
        if workers is not None:
            workers = _count(workers, "[executor] workers", 1)
        address = executor.get("address")
        if address is not None:
            address = coerce(address, str, "[executor] address")
            if kind != "dask" or workers is not None:
                raise InvalidInput(
                    '[executor] address is that of a dask scheduler: write type = "dask", without workers'
                )
        output = _table(data.get("output", {}), "output")
        _require_keys(output, "[output]", ("folder",))
        return Survey(_title(data), problem, grid, asked, kind, workers, address, _folder(output, path))


def answers(experiment: Experiment) -> Iterator[Answer]:
    """The answer of every method, saved as `FOLDER/NAME.nc` before it is handed out.

    A file that already answers the same question is not computed again, one with another trajectory is replaced.
    Raises `CorruptedFile` for a damaged file and `StorageError` for one that holds something else.
    """
    for name, method in experiment.methods.items():
        path = experiment.folder / f"{name}.nc"
        known = _kept(path, experiment, method)
        if known is not None:
            yield Answer(name, known, path, False)
            continue
        try:
            found = solve(experiment.problem, method, experiment.times, experiment.dynamics)
        except LossflowError as error:
            raise type(error)(f"[methods.{name}] {error}") from None
        save(found, path)
        yield Answer(name, found, path, True)


def verdicts(experiment: Experiment, found: Sequence[Answer]) -> tuple[Comparison, ...]:
    """The first answer against the others, for each observable; written to `FOLDER/verdict.json`. Empty for one answer."""
    if len(found) < 2:
        return ()
    trajectories = [answer.trajectory for answer in found]
    compared = tuple(compare(*trajectories, observable=name) for name in experiment.observables)
    data = {
        "title": experiment.title,
        "problem": experiment.problem.to_plain(),
        "dynamics": experiment.dynamics.to_plain(),
        "methods": {answer.name: answer.trajectory.method.to_plain() for answer in found},
        "agree": all(one.agree for one in compared),
        "verdicts": [
            {"observable": one.observable, "agree": one.agree, "sentences": one.verdict.split("\n")} for one in compared
        ],
    }
    text = json.dumps(data, indent=2, allow_nan=True) + "\n"
    write_atomically(experiment.folder / f"{VERDICT}.json", text.encode())
    return compared


def survey(plan: Survey) -> Any:
    """What `lossflow.sweep` returns for the plan, an `xarray.Dataset`; resumable in `plan.folder`."""
    with _executor(plan) as executor:
        return swept(plan.problem, plan.grid, plan.question, executor, str(plan.folder), plan.workers)


@contextmanager
def _executor(plan: Survey) -> Iterator[Executor | None]:
    """None for processes of this machine, which `swept` makes and mends itself."""
    if plan.executor == "processes":
        yield None
        return
    try:
        import distributed  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InvalidInput(
            '[executor] type = "dask" needs dask.distributed: pip install "lossflow[cluster]", or leave [executor] out'
        ) from None
    if plan.address is not None:
        try:
            client = distributed.Client(plan.address)
        except (OSError, ValueError) as error:
            raise InvalidInput(f"[executor] no dask scheduler answers at {plan.address!r}: {error}") from None
        with client:
            yield client.get_executor()
        return
    with (
        distributed.LocalCluster(
            n_workers=plan.workers, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client.get_executor()


def _kept(path: Path, experiment: Experiment, method: AbstractMethod) -> Trajectory | None:
    """The trajectory in a file, where it answers the same question."""
    if not path.exists():
        return None
    held = load(path)
    if not isinstance(held, Trajectory):
        raise StorageError(
            f"{path} holds {brief(held)}, no answer of an experiment; move it away or choose another folder"
        )
    asked = (experiment.problem, method, experiment.dynamics)
    same = (held.problem, held.method, held.dynamics) == asked and np.array_equal(held.times, experiment.times)
    return held if same else None


# --- reading: every function says where it stands


@contextmanager
def _placed(path: Path) -> Iterator[None]:
    """Errors begin with the name of the file."""
    try:
        yield
    except StorageError:
        raise  # names it already
    except LossflowError as error:
        raise type(error)(f"{path}: {error}") from None


def _document(path: Path) -> Table:
    content = read(path)
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError:
        raise InvalidInput("is not a text file; an experiment is described in TOML") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"not a TOML document: {error}") from None


def _require_keys(table: Table, place: str, known: Sequence[str]) -> None:
    for name in table:
        if name not in known:
            raise UnknownField(f"{place} has no {name!r}; {nearest(name, known)}")


def _table(value: Any, place: str) -> Table:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"[{place}] must be a table, got {brief(value)}")
    return value


def _title(data: Table) -> str:
    return coerce(data.get("title", ""), str, "title")


def _folder(output: Table, path: Path) -> Path:
    return Path(coerce(output.get("folder", path.stem), str, "[output] folder")).expanduser()


def _required(data: Table, name: str, kind: type[D], place: str | None = None) -> D:
    place = place or name
    if name not in data:
        raise InvalidInput(f"[{place}] is missing: write a table [{place}] with {SUCH_AS[kind]}")
    if "type" not in _table(data[name], place):
        raise InvalidInput(f"[{place}] needs a type, such as {SUCH_AS[kind]}")
    return coerce(_described(data[name], place), kind, f"[{place}]")


def _optional(data: Table, name: str, kind: type[D], default: D, place: str | None = None) -> D:
    return _required(data, name, kind, place) if name in data else default


def _described(data: Any, place: str) -> Any:
    """Tables with a type become descriptions, from the inside out, so that a mistake is answered with its place."""
    if isinstance(data, (list, tuple)):
        return tuple(_described(item, f"{place}[{k}]") for k, item in enumerate(data))
    if not isinstance(data, Mapping):
        return data
    inner = {name: _described(item, f"{place}.{name}") for name, item in data.items()}
    kind = data.get("type")
    if (
        not isinstance(kind, str) or kind == "Fraction"
    ):  # a size called "type" has a number; fractions are read one level up
        return inner
    try:
        return Description.from_plain(inner)
    except LossflowError as error:
        raise type(error)(f"[{place}] {error}") from None


def _methods(data: Table) -> dict[str, AbstractMethod]:
    if "method" in data and "methods" in data:
        raise InvalidInput("[method] is one method and [methods.NAME] several; choose one form")
    if "method" in data:
        return {"method": _required(data, "method", AbstractMethod)}
    tables = _table(data.get("methods", {}), "methods")
    if not tables:
        raise InvalidInput(f"[methods] is missing: write a table [methods.theory] with {SUCH_AS[AbstractMethod]}")
    if isinstance(tables.get("type"), str):
        raise InvalidInput("[methods] holds tables by name: write [methods.theory], or [method] for a single one")
    for name in tables:
        if not re.fullmatch(r"[\w-]+", name) or name == VERDICT:
            raise InvalidInput(f"[methods] {name!r} cannot be the name of a file; use letters, digits, - and _")
    return {name: _required(tables, name, AbstractMethod, f"methods.{name}") for name in tables}


def _times(data: Any, place: str, dynamics: AbstractDynamics) -> tuple[float, ...]:
    if isinstance(data, list):
        data = {"values": data}
    table = _table(data, place)
    _require_keys(table, f"[{place}]", ("values", *RANGE, *STEPS))
    if "values" in table:
        _require_alone(table, place, ("values",))
        values = coerce(table["values"], tuple[float, ...], f"[{place}] values")
    elif "steps" in table:
        _require_alone(table, place, STEPS)
        values = _of_steps(table, place, dynamics)
    else:
        values = _range(table, place, begin=0.0)
    try:
        return tuple(float(value) for value in checked_times(values))
    except InvalidInput as error:
        raise InvalidInput(f"[{place}] {error}") from None


def _require_alone(table: Table, place: str, names: Sequence[str]) -> None:
    others = [name for name in table if name not in names]
    if others:
        raise InvalidInput(f"[{place}] {names[0]} and {others[0]} are two ways to say the same; leave one out")


def _of_steps(table: Table, place: str, dynamics: AbstractDynamics) -> tuple[float, ...]:
    steps = _count(table["steps"], f"[{place}] steps", 1)
    every = _count(table.get("every", 1), f"[{place}] every", 1)
    try:
        return tuple(map(float, dynamics.times(steps, every)))
    except InvalidInput as error:
        raise InvalidInput(f"[{place}] steps: {error}") from None


def _range(table: Table, place: str, begin: float | None = None) -> tuple[float, ...]:
    """from, ..., to in `count` steps of equal size or equal ratio."""
    _require_keys(table, f"[{place}]", RANGE)
    for name in ("from", "to", "count"):
        if name not in table and not (name == "from" and begin is not None):
            raise InvalidInput(f"[{place}] needs {name!r}: write from, to and count, or a list of values")
    first = coerce(table.get("from", begin), float, f"[{place}] from")
    last = coerce(table["to"], float, f"[{place}] to")
    count = _count(table["count"], f"[{place}] count", 2)
    spacing = coerce(table.get("spacing", "linear"), Literal["linear", "logarithmic"], f"[{place}] spacing")
    for name, value in (("from", first), ("to", last)):
        if not math.isfinite(value):
            raise InvalidInput(f"[{place}] {name} must be finite, got {value!r}")
    if first == last:
        raise InvalidInput(f"[{place}] from and to must differ, got {first!r} twice")
    if spacing == "linear":
        return tuple(map(float, np.linspace(first, last, count)))
    if not first * last > 0:
        raise InvalidInput(f"[{place}] logarithmic spacing needs from and to of one sign, got {first!r} and {last!r}")
    return tuple(map(float, np.geomspace(first, last, count)))


def _count(value: Any, place: str, least: int) -> int:
    count = coerce(value, int, place)
    if not least <= count <= MOST:
        raise InvalidInput(f"{place} must be a whole number from {least} to {MOST}, got {value!r}")
    return count


def _with_times_listed(data: Table) -> Table:
    """The document with the times of its question as numbers, where they are told as those of an experiment are."""
    question = data.get("question")
    if not isinstance(question, Mapping) or not isinstance(question.get("times"), Mapping):
        return data
    dynamics = _optional(question, "dynamics", AbstractDynamics, GradientFlow(), "question.dynamics")
    return {**data, "question": {**question, "times": list(_times(question["times"], "question.times", dynamics))}}


def _grid(table: Table, place: str) -> dict[str, Sequence[Any]]:
    """Axes by the path of their field; a table without a range holds fields of a field."""
    if not table:
        raise InvalidInput(
            f"[{place}] names no field: write alpha = [0.1, 0.2] or alpha = {{ from = 0.1, to = 1, count = 10 }}"
        )
    axes: dict[str, Sequence[Any]] = {}
    for name, item in table.items():
        here = f"{place}.{name}"
        if isinstance(item, list):
            axes[name] = _described(item, here)
        elif isinstance(item, Mapping) and set(item) & set(RANGE):
            axes[name] = _range(item, here)
        elif isinstance(item, Mapping):
            axes |= {f"{name}.{inner}": values for inner, values in _grid(item, here).items()}
        else:
            raise InvalidInput(f"[{here}] must be a list of values or a table with from, to, count, got {brief(item)}")
    return axes
