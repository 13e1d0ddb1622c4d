"""The convex problem that a wide network solves: squares of residuals and a nuclear norm."""

from __future__ import annotations

from dataclasses import replace

from lossflow.description import brief
from lossflow.errors import InvalidInput
from lossflow.problems.quadratic import QuadraticNetwork
from lossflow.spectral.long_time import end_state
from lossflow.trajectory import EndState


def nuclear_norm(problem: QuadraticNetwork) -> EndState:
    """min over Z >= 0 of  (1/4n) sum_k (Tr X_k Z - y_k)^2 + (weight_decay/d) Tr Z:  convex, since |W|^2 = Tr W W^T.

    The end state of the network of full width; every width kappa >= `rank` of this state ends in it as well. For
    weight_decay="0+" it is the interpolator of smallest nuclear norm, where there is one.
    The `problem` of the result has kappa = 1 when that of `problem` is below; values as in `stationary`.
    Raises `InvalidInput` at weight_decay = 0 or for another problem.
    docs/theory/quadratic.md section 7 [MBB26v2].
    """
    if not isinstance(problem, QuadraticNetwork):
        raise InvalidInput(f"nuclear_norm is known for a QuadraticNetwork, got {brief(problem)}")
    return end_state(replace(problem, kappa=max(problem.kappa, 1.0)))
