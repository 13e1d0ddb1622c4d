"""The front door: a problem, a method, times and a dynamics give a trajectory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lossflow.description import Description, brief
from lossflow.dynamics import AbstractDynamics, GradientFlow
from lossflow.errors import InvalidInput, nearest
from lossflow.problem import UNDERSTOOD_BY, AbstractProblem
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    import numpy.typing as npt


class AbstractMethod(Description):
    """A way to answer a problem with a trajectory, as a description: what is computed and how finely.

    `language` names the translation of the problem that the method needs.
    """

    language: ClassVar[str]

    @property
    def known_sizes(self) -> Mapping[str, float]:
        """The sizes at which this method answers; empty for one that answers in a limit without any."""
        return getattr(self, "sizes", {})

    def question_key(
        self, problem: AbstractProblem, times: npt.NDArray[np.float64], dynamics: AbstractDynamics, *more: str
    ) -> str:
        """The key under which an unfinished answer is kept: problem, method, dynamics, times and `more`, such as a format.

        The class of the problem counts by its home, too: a user's own may have the same name and fields as another.
        """
        kind = type(problem)
        parts = (
            *more,
            kind.__module__,
            kind.__qualname__,
            problem.content_key,
            self.content_key,
            dynamics.content_key,
            times.tobytes().hex(),
        )
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def solve(self, problem: AbstractProblem, times: npt.NDArray[np.float64], dynamics: AbstractDynamics) -> Trajectory:
        """The trajectory at `times`, which the front door has checked. Use `lossflow.solve`."""
        raise InvalidInput(f"{type(self).__name__} does not say how it solves a problem: define its `solve`")


def solve(
    problem: AbstractProblem,
    method: AbstractMethod,
    times: npt.ArrayLike,
    dynamics: AbstractDynamics = GradientFlow(),  # noqa: B008  (a frozen description)
) -> Trajectory:
    """t -> E[L(t)] of `problem` under `dynamics`, as `method` knows it.

    times: strictly monotone, finite, not empty; zero need not be among them; negative times are ascent.
    Returns a `Trajectory` with one standard error of the total error beside each value. A method that cannot reach a time
    says so in `status`; values from there on are NaN.
    Raises `InvalidInput` for times or arguments out of range, `NotSpoken` when the problem lacks the method's language.
    """
    _require("problem", problem, AbstractProblem, "CPDecomposition(order=2)")
    _require("method", method, AbstractMethod, 'Simulation({"p": 64, "H": 32, "sigma2": 1 / 64})')
    _require("dynamics", dynamics, AbstractDynamics, "GradientFlow()")
    language = getattr(method, "language", None)
    if language not in UNDERSTOOD_BY:
        raise InvalidInput(
            f"{type(method).__name__} must name the language it needs, language = 'diagrams' for example; "
            f"got {brief(language)}, {nearest(language, UNDERSTOOD_BY)}"
        )
    if language not in problem.languages:
        raise problem.silence(language)
    return method.solve(problem, checked_times(times), dynamics)


def checked_times(times: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """`times` as a float64 vector, or `InvalidInput` with the first place that is not finite or not monotone."""
    try:
        array = _real(np.asarray(times))
    except (TypeError, ValueError, OverflowError):
        raise InvalidInput(f"times must be numbers, such as np.linspace(0, 1, 50); got {brief(times)}") from None
    if array.ndim == 0:
        array = array[None]
    if array.ndim != 1 or array.size == 0:
        raise InvalidInput(f"times must be a nonempty one-dimensional sequence, got shape {array.shape}")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise InvalidInput(f"times must be finite, got times[{bad[0]}] = {array[bad[0]]}")
    steps = np.diff(array)
    wrong = np.flatnonzero(steps <= 0 if steps.sum() > 0 else steps >= 0)
    if wrong.size:
        k = int(wrong[0])
        raise InvalidInput(
            f"times must be strictly monotone, got times[{k}] = {array[k]} and then times[{k + 1}] = {array[k + 1]}; sort them"
        )
    return array


def _real(array: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """As float64, but never by reading strings, counting booleans or dropping imaginary parts."""
    if array.dtype.kind not in "iuf" and not all(isinstance(x, Real) and not isinstance(x, bool) for x in array.flat):
        raise TypeError
    return array.astype(np.float64)


def _require(role: str, value: Any, kind: type, example: str) -> None:
    if isinstance(value, type) and issubclass(value, kind):
        raise InvalidInput(f"the {role} must be an instance: write {value.__name__}(...), with parentheses")
    if not isinstance(value, kind):
        raise InvalidInput(f"the {role} must be an {kind.__name__} such as {example}, got {brief(value)}")
