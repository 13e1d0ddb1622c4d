"""Dynamical mean-field theory as a method: the large-size limit of a problem that speaks of its single-site process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lossflow.checkpoint import Checkpoint
from lossflow.dynamics import AbstractDynamics, require_known
from lossflow.errors import InvalidInput
from lossflow.meanfield.errors import FEWEST
from lossflow.method import AbstractMethod
from lossflow.problem import AbstractProblem
from lossflow.problems.coordinate import CoordinateProcess
from lossflow.problems.matrix import MatrixProcess
from lossflow.problems.row import RowProcess
from lossflow.trajectory import Trajectory

if TYPE_CHECKING:
    import numpy.typing as npt

    from lossflow.meanfield.answer import Answer

    Array = npt.NDArray[np.float64]

SOURCES = {RowProcess: "NI26v2", CoordinateProcess: "NI25v2", MatrixProcess: "MBB26v2"}  # by process
FORMAT = 2  # of the checkpoint and of the numbers that lead to it; raised when either changes


@dataclass(frozen=True, repr=False)
class MeanField(AbstractMethod):
    """r_k = w_k - (1/delta) sum_{l<k} R(k, l) L_l,   theta_{k+1} = theta_k - eta h(theta_k) - sum_{l<=k} M(k, l) theta_l + u_k:

    the limit n, d -> inf at fixed n/d of models linear in the data, by one causal pass over two-time kernels; nothing is
    iterated. Discrete dynamics are followed update by update, exactly; flows by descent on three nested grids, extrapolated.
    Square loss with labels r* + noise is solved in closed form instead.

    paths: of the process, per randomization, >= 16; powers of two sample best; for `DiagonalLinear` of the coarsest of three
    grids, of which the finer ones take fewer. resolution: >= 4, steps of the finest grid of a flow, about; None chooses it from
    the stability bound and the last time. randomizations: >= 4, independent solves with random numbers of their own,
    averaged. dimension: of matrix processes (`QuadraticNetwork`, None: 120), which take a
    probe of the response for every 1024 paths and follow `GradientFlow` and `GradientDescent`; None for all others. seed: >= 0.

    Values are scalars for one column of weights and carry matrices (m, m) or (m, m*) behind the time for several; see the
    problem's docstring. The uncertainty is one standard error of the total error: the scatter of the randomizations, the
    extrapolation in the step, the integrals over a fresh sample. `details`: the two-time "correlation" C, "response" R and
    "force_correlation" C_L at "kernel_times", ascending (for flows C_L is a density in both times, meant for unequal ones);
    "fluctuation_dissipation", the slope [C(t, s + ds) - C(t, s)]/(ds R(t, s)), a temperature that would be the same for all
    t > s in equilibrium; "randomizations", their values at "randomization_times"; "steps", "tangents", "memory" in bytes;
    "consistency", the largest violation of Stein's identity; "route", and for closed forms what `meanfield.linear` says.
    The status is "left_domain" where the process leaves every scale; its reason tells a complete solution's caveats.
    Raises `InvalidInput` for negative times, times between the updates of discrete dynamics and too large a computation;
    warns (`RuntimeWarning`) of steps above the stability bound.
    docs/theory/mean_field.md sections 2, 3 and 7 [NI26v2].
    """

    paths: int = 8192
    resolution: int | None = None
    randomizations: int = 8
    dimension: int | None = None
    seed: int = 0

    language: ClassVar[str] = "process"

    def check(self) -> None:
        if self.paths < 16:
            raise InvalidInput(f"MeanField.paths must be at least 16, got {self.paths}; 8192 is usual")
        if self.randomizations < FEWEST:
            raise InvalidInput(
                f"MeanField.randomizations must be at least {FEWEST}, since the error is known from their scatter; "
                f"got {self.randomizations}"
            )
        if self.resolution is not None and self.resolution < 4:
            raise InvalidInput(
                f"MeanField.resolution must be at least 4, got {self.resolution}; leave None to have it chosen"
            )
        if self.dimension is not None and self.dimension < 1:
            raise InvalidInput(f"MeanField.dimension must be at least 1, got {self.dimension}")
        if self.seed < 0:
            raise InvalidInput(f"MeanField.seed must be >= 0, got {self.seed}")

    def solve(self, problem: AbstractProblem, times: Array, dynamics: AbstractDynamics) -> Trajectory:
        """The trajectory at `times`."""
        require_known("MeanField", dynamics)
        process = problem.as_process()
        source = next((key for kind, key in SOURCES.items() if isinstance(process, kind)), "")
        if not source:
            raise problem.silence("process", f"MeanField knows no {type(process).__name__} so far")
        if self.dimension is not None and not isinstance(process, MatrixProcess):
            raise InvalidInput(
                f"MeanField.dimension belongs to matrix processes such as that of QuadraticNetwork, got {self.dimension} for "
                f"{type(problem).__name__}; leave it None"
            )
        answer = self._answer(problem, process, times, dynamics)
        return Trajectory(
            times=times,
            values=answer.values,
            uncertainty=answer.uncertainty,
            status=answer.status,
            problem=problem,
            method=self,
            dynamics=dynamics,
            details=answer.details,
            references=(source,),
        )

    def _answer(
        self,
        problem: AbstractProblem,
        process: Any,
        times: Array,
        dynamics: AbstractDynamics,
    ) -> Answer:
        """By closed form where there is one, by paths where not."""
        options = {
            "paths": self.paths,
            "resolution": self.resolution,
            "randomizations": self.randomizations,
            "seed": self.seed,
        }

        def checkpoint(kind: str) -> Checkpoint:
            return Checkpoint("meanfield", self.question_key(problem, times, dynamics, kind))

        if isinstance(process, MatrixProcess):
            from lossflow.meanfield import matrix

            return matrix.solve_matrix(self, process, times, dynamics, checkpoint(f"matrix {matrix.FORMAT}"))
        if isinstance(process, CoordinateProcess):
            from lossflow.meanfield import coordinate

            kind = f"coordinate {coordinate.FORMAT}"
            return coordinate.solve_coordinate(process, dynamics, times, **options, checkpoint=checkpoint(kind))
        from lossflow.meanfield import linear

        if linear.covers(process, dynamics):
            return linear.solve(process, dynamics, times)
        from lossflow.meanfield.solver import solve_row

        return solve_row(process, dynamics, times, **options, checkpoint=checkpoint(str(FORMAT)))
