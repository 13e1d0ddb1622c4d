"""What methods return: a trajectory in time or an end state, with an uncertainty and a status."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np

from lossflow.description import SizeMap, coerce
from lossflow.dynamics import AbstractDynamics
from lossflow.errors import InvalidInput, nearest
from lossflow.problem import AbstractProblem

if TYPE_CHECKING:
    import numpy.typing as npt
    import xarray

    from lossflow.method import AbstractMethod

    Array = npt.NDArray[np.float64]

Kind = Literal["complete", "left_domain", "stopped"]


K = TypeVar("K")
V = TypeVar("V", covariant=True)


@runtime_checkable
class TimeScale(Protocol):
    """A time that depends on the sizes: the loss changes by O(1) in t / time_scale."""

    def at(self, sizes: Mapping[str, float]) -> float:
        """The time at these sizes."""
        ...


class FrozenMapping(Mapping[K, V]):
    """A mapping that cannot be changed and, unlike a mapping proxy, can be pickled."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[K, V]) -> None:
        self._items = dict(items)

    def __getitem__(self, name: K) -> V:
        try:
            return self._items[name]
        except KeyError:
            raise KeyError(f"there is no {name!r}; {nearest(name, map(str, self._items))}") from None

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return repr(self._items)

    def __reduce__(self) -> tuple[type, tuple[dict[K, V]]]:
        return (FrozenMapping, (self._items,))


@dataclass(frozen=True)
class Status:
    """How a computation ended; truthy when it is complete.

    kind: "complete"; "left_domain": the answer does not exist, or is not known, beyond `last_time`; "stopped": a limit of
    the computation was reached. last_time: the supremum of the times at which values hold, the blow-up time itself where it
    is known; None when complete. reason: one sentence that says what happened and what to do.
    """

    kind: Kind
    last_time: float | None
    reason: str

    def __post_init__(self) -> None:
        coerce(self.kind, Kind, "Status.kind")
        if self.last_time is not None:
            object.__setattr__(self, "last_time", coerce(self.last_time, float, "Status.last_time"))
        if self.kind == "complete" and self.last_time is not None:
            raise InvalidInput(f"a complete status has no last time, got {self.last_time!r}; write None")

    def __bool__(self) -> bool:
        return self.kind == "complete"


COMPLETE = Status("complete", None, "all times reached")


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Observables over time: `values[name]` at `times`, each with one standard error of the *total* error beside it.

    times: strictly monotone, in the unit of the problem's flow (see `in_units_of`). values, uncertainty: mappings from
    the observable's name ("loss", ...) to arrays over `times`, float64 and read-only; matrices, such as the overlaps of several
    columns, have the shape (times, rows, columns), and `entry("overlap[0, 1]")` takes one number out of them. The uncertainty
    covers sampling, discretization, truncation and neglected orders. problem, method, dynamics: what was asked. status: truthy
    when complete, otherwise values beyond `status.last_time` are NaN. details: what else the method knows (simulations
    keep `details["runs"]`: every run's values).
    references: keys of docs/references.bib. Two trajectories are equal when `identical`.
    """

    times: Array
    values: Mapping[str, Array]
    uncertainty: Mapping[str, Array]
    status: Status
    problem: AbstractProblem
    method: AbstractMethod
    dynamics: AbstractDynamics
    details: Mapping[str, Any]
    references: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", _frozen(np.asarray(self.times, dtype=np.float64)))
        for name in ("values", "uncertainty"):
            arrays = {key: np.asarray(array, dtype=np.float64) for key, array in getattr(self, name).items()}
            object.__setattr__(self, name, _frozen(arrays))
        object.__setattr__(self, "details", _frozen(self.details))
        object.__setattr__(self, "references", tuple(self.references))
        if self.times.ndim != 1 or not self.times.size or not _is_monotone(self.times):
            raise InvalidInput("the times of a trajectory must be a nonempty, finite, strictly monotone vector")
        if set(self.values) != set(self.uncertainty):
            raise InvalidInput("a trajectory needs an uncertainty for each value")
        beyond = _beyond(self.times, self.status.last_time)
        for name, values in self.values.items():
            errors = self.uncertainty[name]
            if values.shape[:1] != self.times.shape or errors.shape != values.shape:
                raise InvalidInput(
                    f"{name!r} and its uncertainty must begin with the shape {self.times.shape} of the times"
                )
            unknown = np.isnan(values)
            if self.status and unknown.any():
                where = self.times[unknown.reshape(self.times.size, -1).any(axis=1)][0]
                raise InvalidInput(f"{name!r} is NaN at t = {where}, yet the status is complete")
            if not unknown[beyond].all():
                raise InvalidInput(
                    f"{name!r} has values beyond the last time {self.status.last_time}; they must be NaN"
                )
            if not (errors[~unknown] >= 0).all():
                raise InvalidInput(f"the uncertainty of {name!r} must be >= 0 wherever there is a value")

    def __reduce__(self) -> tuple[Any, ...]:
        return (Trajectory, tuple(getattr(self, f.name) for f in fields(self)))  # made anew: arrays stay read-only

    def identical(self, other: Trajectory) -> bool:
        """Whether every number (bit by bit, NaN equal to NaN), description and detail is the same."""
        return isinstance(other, Trajectory) and all(
            _same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trajectory) and self.identical(other)

    __hash__ = None  # type: ignore[assignment]

    def entry(self, name: str) -> Trajectory:
        """The trajectory of one number: "loss", or "overlap[0, 1]" for an entry of a matrix; runs are cut alike.

        Raises `InvalidInput` for an observable that is not there, or a matrix without the place of the entry.
        """
        stem, _, place = name.partition("[")
        if stem not in self.values:
            raise InvalidInput(f"{type(self.method).__name__} has no {stem!r}; {nearest(stem, self.values)}")
        shape = self.values[stem].shape[1:]
        try:
            index = tuple(int(part) for part in place.rstrip("] ").split(",")) if place else ()
        except ValueError:
            index = None
        if index is None or len(index) != len(shape) or not all(0 <= k < n for k, n in zip(index, shape, strict=True)):
            example = f"{stem}[{', '.join('0' * len(shape))}]" if shape else stem
            raise InvalidInput(
                f"{stem!r} has the shape {shape} at each time: write {example!r} for one number, got {name!r}"
            )
        cut = (slice(None), *index)
        details = dict(self.details)
        kept = self.details.get("runs")
        if isinstance(kept, Mapping):
            details["runs"] = {name: kept[stem][(slice(None), *cut)]} if stem in kept else {}
        return replace(
            self,
            values={name: self.values[stem][cut]},
            uncertainty={name: self.uncertainty[stem][cut]},
            details=details,
        )

    def in_units_of(self, T: float | TimeScale) -> Trajectory:
        """The same values over times t / T; `details["time_unit"]` remembers T in the problem's own unit.

        T: a time > 0, or a time scale, taken at the method's sizes. Raises `InvalidInput` for a T that is not a positive number.
        """
        if isinstance(T, TimeScale) and not isinstance(T, numbers.Real):
            if not self.method.known_sizes:
                raise InvalidInput(f"{self.method!r} has no sizes at which to take the time scale; give a number")
            T = T.at(self.method.known_sizes)
        unit = coerce(T, float, "the unit of time")
        if not 0 < unit < math.inf:
            raise InvalidInput(f"the unit of time must be a positive number, got {unit!r}")
        last = self.status.last_time
        return replace(
            self,
            times=self.times / unit,
            status=replace(self.status, last_time=None if last is None else last / unit),
            details={**self.details, "time_unit": self.details.get("time_unit", 1.0) * unit},
        )

    def to_xarray(self) -> xarray.Dataset:
        """An `xarray.Dataset` over "time": one variable per observable and one called `<observable>_uncertainty`.

        Further axes of a matrix are called `<observable>_0`, `<observable>_1`.
        """
        import xarray

        variables = {}
        for name, values in self.values.items():
            axes = ("time", *(f"{name}_{k}" for k in range(values.ndim - 1)))
            variables[name] = (axes, values)
            variables[f"{name}_uncertainty"] = (axes, self.uncertainty[name])
        attributes = {
            "problem": repr(self.problem),
            "method": repr(self.method),
            "dynamics": repr(self.dynamics),
            "status": f"{self.status.kind}: {self.status.reason}",
            "references": ", ".join(self.references),
        }
        return xarray.Dataset(variables, coords={"time": self.times}, attrs=attributes)

    def __repr__(self) -> str:
        span = f"{self.times.size} times from {self.times[0]:g} to {self.times[-1]:g}"
        return f"<Trajectory of {', '.join(self.values)} at {span}, {self.status.kind}: {self.problem!r} by {self.method!r}>"


@dataclass(frozen=True, eq=False)
class EndState:
    """Where a flow ends: observables by name, and the other branches where the end is not unique.

    values: the same names as in `Trajectory`. branches: all end states, this one among them, when there are several.
    problem: whose end it is. status: truthy when the end was found.
    """

    values: Mapping[str, float]
    branches: tuple[EndState, ...]
    problem: AbstractProblem
    status: Status

    def __post_init__(self) -> None:
        values = {}
        for name, value in self.values.items():
            unknown = not self.status and value != value  # NaN, where the search did not converge
            values[name] = math.nan if unknown else coerce(value, float, f"EndState.values[{name!r}]")
        object.__setattr__(self, "values", FrozenMapping(values))
        object.__setattr__(self, "branches", tuple(self.branches))

    def identical(self, other: EndState) -> bool:
        """Whether every number, branch and description is the same."""
        return isinstance(other, EndState) and all(
            _same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EndState) and self.identical(other)

    __hash__ = None  # type: ignore[assignment]


def _frozen(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        array = value.copy()
        array.flags.writeable = False
        return array
    if isinstance(value, Mapping) and not isinstance(value, SizeMap):
        return FrozenMapping({name: _frozen(item) for name, item in value.items()})
    if type(value) in (tuple, list):
        return tuple(map(_frozen, value))
    return value


def _is_monotone(times: Array) -> bool:
    steps = np.diff(times)
    return bool(np.isfinite(times).all() and ((steps > 0).all() or (steps < 0).all()))


def _beyond(times: Array, last: float | None) -> npt.NDArray[np.bool_]:
    """Times on the side of `last` that lie further from 0, by more than the rounding of a time."""
    if not last:
        return np.zeros(times.shape, dtype=bool)
    return times / last > 1 + 1e-12


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, (np.ndarray, np.generic)) or isinstance(b, (np.ndarray, np.generic)):
        same_form = type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape
        return same_form and a.tobytes() == b.tobytes()
    if isinstance(a, (EndState, Trajectory)):
        return a.identical(b)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return set(a) == set(b) and all(_same(a[name], b[name]) for name in a)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, complex) and isinstance(b, complex):
        return _same(a.real, b.real) and _same(a.imag, b.imag)
    return type(a) is type(b) and a == b


__all__ = ["COMPLETE", "EndState", "FrozenMapping", "Status", "TimeScale", "Trajectory"]
