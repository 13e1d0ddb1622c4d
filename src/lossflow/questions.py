"""What a sweep asks of every problem: a trajectory or an end state."""

from __future__ import annotations

from dataclasses import dataclass

from lossflow.description import Description
from lossflow.dynamics import AbstractDynamics, GradientFlow
from lossflow.end_states import stationary
from lossflow.errors import InvalidInput
from lossflow.method import AbstractMethod, checked_times, solve
from lossflow.problem import AbstractProblem
from lossflow.trajectory import EndState, Trajectory


class AbstractQuestion(Description):
    """A question with the same form of answer for every problem; subclasses define `answer`."""

    def answer(self, problem: AbstractProblem) -> Trajectory | EndState:
        """The answer for one problem, determined by the question and the problem alone."""
        raise InvalidInput(f"{type(self).__name__} does not say what it asks: define its `answer`")


@dataclass(frozen=True, repr=False)
class Solve(AbstractQuestion):
    """t -> E[L(t)]: what `solve(problem, method, times, dynamics)` returns.

    times: strictly monotone and finite, as `solve` takes them.
    Raises `InvalidInput` for other times.
    """

    method: AbstractMethod
    times: tuple[float, ...]
    dynamics: AbstractDynamics = GradientFlow()  # noqa: RUF009  (a frozen description)

    def check(self) -> None:
        checked_times(self.times)

    def answer(self, problem: AbstractProblem) -> Trajectory:
        """The trajectory of `problem`."""
        return solve(problem, self.method, self.times, self.dynamics)


@dataclass(frozen=True, repr=False)
class Stationary(AbstractQuestion):
    """t -> inf: what `stationary(problem)` returns."""

    def answer(self, problem: AbstractProblem) -> EndState:
        """The end state of `problem`."""
        return stationary(problem)
