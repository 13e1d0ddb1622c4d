"""Simulation as a method: finite sizes, averaged over runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from lossflow.checkpoint import Checkpoint
from lossflow.dynamics import AbstractDynamics, GradientFlow
from lossflow.errors import InvalidInput
from lossflow.method import AbstractMethod
from lossflow.problem import AbstractProblem
from lossflow.problems.coordinate import CoordinateProcess
from lossflow.problems.matrix import MatrixProcess
from lossflow.problems.row import RowProcess
from lossflow.simulate.design import Design
from lossflow.simulate.ensemble import Ensemble, run_ensemble
from lossflow.simulate.flow import BLOWN_UP, COMPLETE, MAX_STEPS, OVERFLOWN, STUCK, TOO_MANY_STEPS
from lossflow.simulate.gradients import compiled
from lossflow.trajectory import COMPLETE as ALL_TIMES_REACHED
from lossflow.trajectory import Status, Trajectory

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

FORMAT = 1  # of the checkpoint and of the numbers that lead to it; raised when either changes


@dataclass(frozen=True, repr=False)
class Simulation(AbstractMethod):
    """E L(t) ~ 1/R sum_{r < R} L(u_r(t)),   u_r(0) as the problem draws it for (seed, r),   du_r/dt by the dynamics.

    sizes: a value for every size and variance of the problem, {"d": 1000} for models of data. runs: R >= 1; one run has no
    standard error, so its uncertainty is inf. seed: >= 0; run r depends on (seed, r) alone, whatever R is. design: for models
    linear in the data, `Design.of(X)` in place of Gaussian data; teacher, start and noise are still drawn for each run.
    tolerance: the relative error of the loss of a run of a flow, 1e-13 <= tolerance <= 0.1; below the rounding of
    its terms (1e-16 times the sum of their sizes) a loss cannot be told from zero.

    backend: "jax" does the arithmetic of sums of diagrams through JAX in double precision, on the accelerator if there is one
    (the extra `lossflow[gpu]`); every run then equals that of "numpy" up to rounding.

    Sums of diagrams follow `GradientFlow`. Models linear in the data follow every dynamics: one with a step exactly as it is
    defined; `PoissonSGD` without one hit by hit; the stochastic flow, penalties that have a proximal step in place of a force,
    and losses whose curvature jumps (at times >= 0), by steps that are halved and extrapolated until what is left is small
    against the sampling error (`details["step"]`, `details["discretization"]`; all runs share the last step, so run r then
    depends on R through it). Their teacher and start have exactly the norms and overlaps of the problem, which removes
    fluctuations of order 1/sqrt(d). Values are those of the
    problem's docstring, of the empirical weights: `loss` without penalties; test observables exact for Gaussian samples.

    Diagonal networks follow `GradientFlow` and `GradientDescent`, also on a `design`; `details["solver"]` says how a flow was
    solved. What fluctuates by 1/sqrt(d) in their data is fixed (`problem.as_process().sample`), which moves averages by relative
    order 1/d. Quadratic networks follow the same two, with n = round(alpha d^2) samples and, at the same seed and d, the teachers
    and starts of `MeanField`.

    A flow takes times of either sign, both at once too: each run goes forward and backward from t = 0. The uncertainty is one
    standard error of the mean, with tolerance, discretization and rounding added in quadrature. Where a run ends early (it
    blows up: "left_domain"; it diverges or is too stiff: "stopped") the status says at which time first; the mean is NaN from
    there on, `details["runs"][name]`, shape (R, times, ...), is NaN for that run alone. Also in `details`: "steps" of each run
    and, shape (R,), "blow_up_times" (diagrams) or "end_times" (models of data), NaN for runs that reach all times; "notes" on
    what the numbers do not say. An interrupted call, made again, goes on where it was and gives the same bits (models of data:
    at most the runs under way are lost). Warns (`RuntimeWarning`) of steps that are not known to be stable.
    docs/theory/diagrams.md sections 1, 5 and 14 [YGG26v2]; docs/theory/mean_field.md sections 1 and 5 [NI26v2];
    docs/theory/diagonal.md sections 1 and 10 [NI25v2].
    """

    sizes: Mapping[str, float]
    runs: int = 8
    seed: int = 0
    design: Design | None = None
    tolerance: float = 1e-8
    backend: Literal["numpy", "jax"] = "numpy"

    language: ClassVar[str] = "sample"

    def check(self) -> None:
        if self.runs < 1:
            raise InvalidInput(f"Simulation.runs must be at least 1, got {self.runs}")
        if self.seed < 0:
            raise InvalidInput(f"Simulation.seed must be >= 0, got {self.seed}")
        if not 1e-13 <= self.tolerance <= 0.1:
            raise InvalidInput(f"Simulation.tolerance must lie between 1e-13 and 0.1, got {self.tolerance}")

    def solve(self, problem: AbstractProblem, times: Array, dynamics: AbstractDynamics) -> Trajectory:
        """The means over the runs at `times`."""
        process = problem.as_process() if "process" in problem.languages else None
        if isinstance(process, RowProcess):
            if self.backend != "numpy":
                raise InvalidInput(
                    f'backend="jax" is for losses given by diagrams; {type(problem).__name__} is simulated from its data: leave '
                    'backend="numpy"'
                )
            from lossflow.simulate.row_ensemble import solve_rows

            return solve_rows(self, problem, process, times, dynamics)
        if isinstance(process, CoordinateProcess):
            if self.backend != "numpy":
                raise InvalidInput(
                    f'backend="jax" is for losses given by diagrams, got {problem!r}: leave backend="numpy"'
                )
            from lossflow.simulate.diagonal_ensemble import solve_coordinates

            return solve_coordinates(self, problem, process, times, dynamics)
        if isinstance(process, MatrixProcess):
            from lossflow.simulate.quadratic_ensemble import solve_matrices

            return solve_matrices(self, problem, process, times, dynamics)
        if self.design is not None:
            raise InvalidInput(
                f"a design takes the place of Gaussian data in models linear in them; {problem!r} is none: leave design=None"
            )
        if not isinstance(dynamics, GradientFlow):
            raise InvalidInput(f"Simulation knows GradientFlow() alone, got {dynamics!r}")
        loss = problem.as_diagrams()
        sizes = loss.require(self.sizes)
        ensemble = run_ensemble(
            compiled(loss, sizes),
            lambda run: problem.as_sample(sizes, run, self.seed),
            self.runs,
            times,
            self.tolerance,
            # the diagrams, too: a user's own class of the same name and fields may mean another loss
            Checkpoint("simulate", self.question_key(problem, times, dynamics, str(FORMAT), loss.content_key)),
            accelerated=self.backend == "jax",
        )
        return Trajectory(
            times=times,
            values={"loss": np.mean(ensemble.loss, axis=0)},
            uncertainty={"loss": self._uncertainty(ensemble)},
            status=_status(ensemble),
            problem=problem,
            method=self,
            dynamics=dynamics,
            details={
                "runs": {"loss": ensemble.loss},
                "blow_up_times": _nearest_to_zero(np.where(ensemble.outcome == BLOWN_UP, ensemble.end, np.nan)),
                "steps": ensemble.steps.sum(axis=1),
            },
            references=("YGG26v2",),
        )

    def _uncertainty(self, ensemble: Ensemble) -> Array:
        """One standard error of the mean, the error of the integration and the rounding of the terms, in quadrature."""
        mean = np.mean(ensemble.loss, axis=0)
        if self.runs == 1:
            return np.where(np.isnan(mean), np.nan, np.inf)
        sampling = np.std(ensemble.loss, axis=0, ddof=1) / np.sqrt(self.runs)
        integration = self.tolerance * np.mean(np.abs(ensemble.loss), axis=0)
        rounding = np.finfo(np.float64).eps * np.mean(ensemble.scale, axis=0)
        return np.sqrt(sampling**2 + integration**2 + rounding**2)


def _status(ensemble: Ensemble) -> Status:
    """Complete, or the earliest time at which a run ended, and why."""
    runs = len(ensemble.loss)
    ended = ensemble.outcome != COMPLETE
    if not ended.any():
        return ALL_TIMES_REACHED
    blown = ensemble.outcome == BLOWN_UP
    if blown.any():
        first = float(np.nanmin(np.abs(np.where(blown, ensemble.end, np.nan))))
        chosen = blown & (np.abs(ensemble.end) == first)
        last = float(ensemble.end[chosen][0])
        reason = (
            f"{int(blown.any(axis=1).sum())} of {runs} runs blow up, the first at t = {last:.6g}; ask for times nearer to zero, "
            'or take the runs that go on from details["runs"]'
        )
        return Status("left_domain", last, reason)
    ends = np.where(ended, ensemble.end, np.nan)
    last = float(_nearest_to_zero(ends.reshape(1, -1))[0])
    outcome = ensemble.outcome[ended & (ensemble.end == last)][0]
    why = {
        TOO_MANY_STEPS: f"{MAX_STEPS} steps were not enough: the flow is too stiff for these times",
        STUCK: "the step became too short to move the time",
        OVERFLOWN: "the weights left the range of double precision",
    }[int(outcome)]
    count = int(ended.any(axis=1).sum())
    reason = f"{count} of {runs} runs stopped, the first at t = {last:.6g}: {why}; ask for times nearer to zero"
    return Status("stopped", last, reason)


def _nearest_to_zero(times: Array) -> Array:
    """Of the times in each row the one nearest to zero; NaN where all are NaN."""
    distance = np.where(np.isnan(times), np.inf, np.abs(times))
    return np.take_along_axis(times, np.argmin(distance, axis=1)[:, None], axis=1)[:, 0]
