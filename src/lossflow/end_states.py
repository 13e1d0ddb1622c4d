"""End states: which engine knows where a flow ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from lossflow.description import brief
from lossflow.errors import InvalidInput, NotSpoken, UnknownField, nearest
from lossflow.problem import AbstractProblem
from lossflow.progress import progress
from lossflow.trajectory import EndState

if TYPE_CHECKING:
    import numpy.typing as npt


def stationary(problem: AbstractProblem) -> EndState:
    """The end state of the gradient flow of `problem` in the large-size limit:  t -> inf after d -> inf.

    Values by the names of `Trajectory`; `branches` holds all end states where there are several. `status` is falsy, with the
    reason, where no end state was found or none exists.
    Raises `NotSpoken` for a problem whose end no engine knows.
    docs/theory/mean_field.md section 6.3 [NI26v2], docs/theory/diagonal.md sections 5 and 6 [NI25v2],
    docs/theory/quadratic.md sections 4 and 5 [MBB26v2].
    """
    if not isinstance(problem, AbstractProblem):
        raise InvalidInput(
            f"the problem must be an AbstractProblem such as QuadraticNetwork(...), got {brief(problem)}"
        )
    engine = next((ENGINES[kind.__name__] for kind in type(problem).__mro__ if kind.__name__ in ENGINES), None)
    if engine is None:
        raise NotSpoken(
            f"no engine knows the end state of {problem!r}; those of {', '.join(ENGINES)} are known. "
            f"Methods that apply: {problem.answered_by()}"
        )
    return engine(problem)


def learning_curve(problem: AbstractProblem, parameter: str, values: npt.ArrayLike) -> Any:
    """The end states of `problem` with `parameter` set to each of `values`, as an `xarray.Dataset` over the parameter.

    problem: any that `stationary` answers. parameter: one of its fields, "alpha" for example. values: what the field may be, in
    any order; where all are numbers they are the coordinate, otherwise it is what they print as ("0+" among weight decays).

    One variable for every value of the end state (of smallest xi for a `QuadraticNetwork`, see `stationary`), NaN where none
    was found; "states", the number of end states; "status", the kind of each `Status`.
    Raises `InvalidInput` for values out of range, `UnknownField` for a parameter that the problem does not have.
    docs/theory/quadratic.md section 4 [MBB26v2].
    """
    if not isinstance(problem, AbstractProblem):
        raise InvalidInput(
            f"the problem must be an AbstractProblem such as QuadraticNetwork(...), got {brief(problem)}"
        )
    names = [f.name for f in fields(problem)]  # type: ignore[arg-type]  (descriptions are dataclasses)
    if parameter not in names:
        raise UnknownField(f"{type(problem).__name__} has no field {brief(parameter)}; {nearest(parameter, names)}")
    chosen = _chosen(values)
    problems = [replace(problem, **{parameter: value}) for value in chosen]  # type: ignore[type-var]
    columns, states, kinds = _all_at_once(problems) or _one_by_one(problems)

    import xarray

    numeric = all(isinstance(value, Real) for value in chosen)
    coordinate = np.array([float(v) for v in chosen]) if numeric else np.array([_printed(v) for v in chosen])
    variables: dict[str, Any] = {name: (parameter, column) for name, column in columns.items()}
    variables |= {"states": (parameter, np.asarray(states)), "status": (parameter, np.asarray(kinds))}
    attributes = {"problem": repr(problem), "parameter": parameter}
    return xarray.Dataset(variables, coords={parameter: coordinate}, attrs=attributes)


def _chosen(values: Any) -> list[Any]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable) or np.ndim(values) > 1:  # type: ignore[arg-type]
        raise InvalidInput(f"the values of a learning curve are a sequence such as [0.1, 0.2], got {brief(values)}")
    chosen = list(values)
    if not chosen:
        raise InvalidInput("a learning curve needs at least one value, got none")
    return chosen


def _printed(value: Any) -> str:
    return value if isinstance(value, str) else brief(value)


Columns = tuple[dict[str, Any], Sequence[int], Sequence[str]]


def _all_at_once(problems: list[Any]) -> Columns | None:
    """Quadratic networks in one compiled loop."""
    if type(problems[0]).__name__ != "QuadraticNetwork":
        return None
    from lossflow.spectral.long_time import end_states

    found = end_states(problems)
    return found.values, list(map(int, found.number)), ["complete" if ok else "stopped" for ok in found.settled]


def _one_by_one(problems: list[Any]) -> Columns:
    found = []
    with progress(len(problems), "end states") as bar:
        for problem in problems:
            found.append(stationary(problem))
            bar.update(1)
    names = dict.fromkeys(name for state in found for name in state.values)
    columns = {name: np.array([dict(state.values).get(name, math.nan) for state in found]) for name in names}
    return columns, [max(len(state.branches), 1) for state in found], [state.status.kind for state in found]


def _generalized_linear(problem: Any) -> EndState:
    from lossflow.meanfield.stationary import end_state

    return end_state(problem)


def _diagonal_linear(problem: Any) -> EndState:
    from lossflow.meanfield.interpolation import end_state

    return end_state(problem)


def _quadratic_network(problem: Any) -> EndState:
    from lossflow.spectral.long_time import end_state

    return end_state(problem)


# problem -> its engine, imported when it is asked
ENGINES: dict[str, Callable[[Any], EndState]] = {
    "GeneralizedLinear": _generalized_linear,
    "DiagonalLinear": _diagonal_linear,
    "QuadraticNetwork": _quadratic_network,
}
