"""The closed case of the mean-field equations: square loss and linear labels. No paths, no sampling error.

`solve(process, dynamics, times)` is the whole of it: an `Answer` of values, uncertainty, status and details, for whatever
`covers(process, dynamics)`: gradient flow and descent, stochastic gradient flow and Poisson SGD (continuous, or with their step),
SGD with independent batches. The values are those of the exact spectral solution in `volterra`. Discrete dynamics are
solved once more by the causal pass of the mean-field equations, flows with a finer quadrature; the uncertainty is how far the two
differ, and rounding.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lossflow.dynamics import (
    SGD,
    AbstractDynamics,
    GradientDescent,
    GradientFlow,
    PoissonSGD,
    StochasticGradientFlow,
)
from lossflow.errors import InvalidInput
from lossflow.meanfield import volterra
from lossflow.meanfield.answer import Answer
from lossflow.meanfield.volterra import Moments, Regression
from lossflow.problems.glm import LinearModel
from lossflow.problems.labels import CubicNoiseLabels, LinearLabels
from lossflow.problems.losses import Square
from lossflow.problems.row import RowProcess
from lossflow.progress import progress
from lossflow.trajectory import COMPLETE, Status

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

ROUNDING = 4 * np.finfo(np.float64).eps  # of 1 + |value|: the least error that is claimed
CAUSAL_STEPS = 1000  # updates up to which the causal pass is made as well, about a second
KERNEL_TIMES = 500  # times up to which the two-time kernels are kept
FINER = 24  # nodes per panel of the second quadrature, in place of 16


def covers(process: RowProcess, dynamics: AbstractDynamics) -> bool:
    """Whether `solve` knows the answer: square loss, labels r* + noise, no penalty, and samples drawn anew at each step."""
    return _noise_variance(process) is not None and process.penalty is None and _is_memoryless(dynamics)


def solve(process: RowProcess, dynamics: AbstractDynamics, times: Array) -> Answer:
    """The exact answer at `times`, strictly monotone as the front door has checked. Requires `covers(process, dynamics)`.

    values, uncertainty: "loss", "test_loss", "mse", "norm", "overlap". details: "route"; for stochastic dynamics "heating",
    temperature int_0^inf K2 dt, from 1 on the second moment grows without bound; for at most 500 times "correlation",
    "response" and "force_correlation", the two-time C, R and C_L at "kernel_times", ascending, (times, times). For flows
    C_L is the regular part, without the delta function at equal times.
    Raises `InvalidInput` for times before 0 of stochastic or discrete dynamics. docs/theory/mean_field.md section 6.1 [NI26v2].
    """
    noise_variance = _noise_variance(process)
    if noise_variance is None or not covers(process, dynamics):
        raise InvalidInput(
            f"the closed equations need square loss, linear labels, no penalty and new samples at each step: {dynamics!r}"
        )
    norm, overlap, teacher = (float(moment[0, 0]) for moment in (process.norm, process.overlap, process.teacher))
    problem = Regression(process.delta, process.weight_decay, noise_variance, norm, overlap, teacher)
    forward = times[0] <= times[-1]
    times = times if forward else times[::-1]
    found, other, details = (_flow if dynamics.step is None else _descent)(problem, dynamics, times)
    values, check = _observables(problem, found), _observables(problem, other)
    known = np.all([np.isfinite(array) for array in (*values.values(), *check.values())], axis=0)
    if not known.all():
        details = {name: value for name, value in details.items() if not isinstance(value, np.ndarray)}
    uncertainty = {}
    for name, array in values.items():
        values[name] = np.where(known, array, np.nan)
        with np.errstate(invalid="ignore"):
            error = np.abs(array - check[name]) + ROUNDING * (1 + np.abs(array))
        uncertainty[name] = np.where(known, error, np.nan)
    status = _status(problem, dynamics, times, known, details.get("heating", 0.0))
    turn = slice(None) if forward else slice(None, None, -1)
    return Answer(
        {k: v[turn] for k, v in values.items()}, {k: v[turn] for k, v in uncertainty.items()}, status, details
    )


def _flow(problem: Regression, dynamics: AbstractDynamics, times: Array) -> tuple[Moments, Moments, dict[str, Any]]:
    temperature = _temperature(dynamics)
    if temperature and times[0] < 0:
        raise InvalidInput(
            f"{type(dynamics).__name__} does not run backward: times must be >= 0, got {float(times[0])!r}"
        )
    modes = volterra.flow(problem, temperature, times)
    other = volterra.flow(problem, temperature, times, points=FINER)
    details: dict[str, Any] = {"route": "spectral solution"}
    if temperature:
        details["heating"] = volterra.heating(problem, temperature)
    if times.size <= KERNEL_TIMES:
        with np.errstate(over="ignore", invalid="ignore"):  # of what grew beyond all doubles, and is not kept
            two_time = volterra.kernels(problem, modes, times)
            own = temperature * two_time.self_response * np.diag(two_time.residual)
            forces = two_time.residual - own - own.T
        details |= {"correlation": two_time.correlation, "response": two_time.response, "force_correlation": forces}
        details["kernel_times"] = times
    return volterra.moments(problem, modes), volterra.moments(problem, other), details


def _descent(problem: Regression, dynamics: AbstractDynamics, times: Array) -> tuple[Moments, Moments, dict[str, Any]]:
    step, kick = dynamics.step or 0.0, _kick(dynamics, problem.delta)
    counts = dynamics.updates(times)
    last = int(counts[-1])
    modes = volterra.descent(problem, step, kick, counts)
    details: dict[str, Any] = {"route": "spectral solution"}
    if kick:
        details["heating"] = volterra.heating_of_descent(problem, step, kick)
    if 0 < last <= CAUSAL_STEPS:
        details["route"] = "mean-field equations and spectral solution"
        solution = equations(problem, step, kick, last)
        C, m = np.diag(solution.correlation), solution.overlap
        error = np.diag(solution.residual)
        other = Moments(*(moment[counts] for moment in (error, m, C, C - 2 * m + problem.teacher)))
        if times.size <= KERNEL_TIMES:
            chosen = np.ix_(counts, counts)
            forces = force_correlation(problem, solution, step, kick)[chosen]
            response = toeplitz(solution.response)[chosen]
            details |= {"correlation": solution.correlation[chosen], "response": response, "force_correlation": forces}
            details["kernel_times"] = times
    else:
        other = volterra.moments(problem, volterra.descent(problem, step, kick, counts, points=FINER))
    return volterra.moments(problem, modes), other, details


def _observables(problem: Regression, moments: Moments) -> dict[str, Array]:
    with np.errstate(invalid="ignore", over="ignore"):
        length = np.sqrt(np.maximum(moments.norm, 0.0) * problem.teacher)
        cosine = np.where(length > 0, moments.overlap / np.where(length > 0, length, 1.0), 0.0)
        return {
            "loss": moments.error / 2,
            "test_loss": (moments.excess + problem.noise_variance) / 2,
            "mse": moments.excess,
            "norm": moments.norm,
            "overlap": np.clip(cosine, -1.0, 1.0),
        }


def _status(
    problem: Regression, dynamics: AbstractDynamics, times: Array, known: npt.NDArray[np.bool_], heating: float
) -> Status:
    """Complete; or why values are missing, or grow without bound. A loss that grows is right at every finite time."""
    if not known.all():
        held = times[known]
        last = (held[-1] if times[~known][0] > 0 else held[0]) if held.size else 0.0
        return Status(
            "left_domain", float(last), "values exceed the range of doubles beyond this time; ask for times nearer to 0"
        )
    if dynamics.step is not None:
        bound = 2 / (problem.weight_decay + volterra.upper_edge(problem.delta))
        if dynamics.step >= bound:
            reason = (
                f"the step {dynamics.step:g} is not below the stability bound {bound:.6g}: the loss grows without bound"
            )
            return Status(
                "left_domain", math.inf, f"{reason}; the values are right, take a smaller step if it should fall"
            )
    if heating >= 1:
        reason = f"the noise heats more than the force cools, by the factor {heating:.6g}: the second moment grows without bound"
        temperature = _temperature(dynamics)
        if temperature:
            reason += f"; the temperature is {temperature:g} and the critical one {temperature / heating:.6g}"
        return Status(
            "left_domain", math.inf, f"{reason}; the values are right, take smaller noise if the loss should fall"
        )
    return COMPLETE


def _noise_variance(process: RowProcess) -> float | None:
    """That of y given r*, for square loss and labels r* + noise; None for any other model."""
    model = process.model
    if not isinstance(model, LinearModel) or not isinstance(model.sample_loss, Square):
        return None
    match model.label_law:
        case LinearLabels(noise_variance=variance):
            return variance
        case CubicNoiseLabels(scale=scale):
            return 15 * scale**2  # second moments are all that enters
    return None


def _is_memoryless(dynamics: AbstractDynamics) -> bool:
    """Whether the factors g of a sample are independent over time."""
    match dynamics:
        case SGD(order=order):
            return order == "independent"
        case GradientFlow() | GradientDescent() | StochasticGradientFlow() | PoissonSGD():
            return True
    return False


def _temperature(dynamics: AbstractDynamics) -> float:
    match dynamics:
        case StochasticGradientFlow(temperature=temperature) | PoissonSGD(temperature=temperature):
            return temperature
    return 0.0


def _kick(dynamics: AbstractDynamics, delta: float) -> float:
    """Var g / delta of a discrete dynamics. docs/theory/mean_field.md section 1 [NI26v2]."""
    match dynamics:
        case SGD(step=step, batch_fraction=b):
            return step**2 * (1 - b) / (b * delta)
    return _temperature(dynamics) * (dynamics.step or 0.0)


class Equations(NamedTuple):
    """The two-time solution after K updates, k, l = 0 .. K.

    correlation: C(k, l), (K+1, K+1). residual: S(k, l) = E e_k e_l, (K+1, K+1). overlap: m_k. response:
    R(k, l) at [k-l-1], l < k; self_response: delta P(k, l) at [k-l-1]: a constant step makes both depend on k - l alone.
    """

    correlation: Array
    residual: Array
    overlap: Array
    response: Array
    self_response: Array


def equations(problem: Regression, step: float, kick: float, steps: int) -> Equations:
    """The causal pass:  e = r - y,  omega = w - y,  P = (1 + step R/delta)^(-1) R/delta,  M = step (1 - step P),  J = 1 - step P,

        S = J C_omega J^T + delta kick P E P^T,     E_k = S(k, k),      C_omega(k,l) = C(k,l) - m_k - m_l + Q + noise_variance
        C_L(k,l)/delta = step^2 S(k,l)/delta - step kick P(k,l) E_l  (l < k),     C_L(k,k)/delta = (step^2/delta + kick) E_k
        R(k+1,l) = a R(k,l) - sum_s M(k,s) R(s,l) + 1[k=l],     m_{k+1} = a m_k - sum_s M(k,s) (m_s - Q),   a = 1 - step lambda
        C(k+1,j) = a C(k,j) - sum_s M(k,s) (C(s,j) - m_j) + sum_{s<j} C_L(k,s) R(j,s)/delta.

    step: eta > 0; kick: v/delta, the variance of the factor per sample over delta, finite at delta = inf; steps: K >= 1.
    Time steps^3, memory 16 steps^2 bytes. docs/theory/mean_field.md section 6.1 [NI26v2].
    """
    count, inverse = steps + 1, 1 / problem.delta
    shift = problem.teacher + problem.noise_variance
    a = 1 - step * problem.weight_decay
    r, q = _responses(problem, step, steps)
    p = inverse * q
    C, S, m = np.zeros((count, count)), np.zeros((count, count)), np.zeros(count)
    C[0, 0], m[0] = problem.norm, problem.overlap
    with progress(steps**3, "mean-field equations") as bar:
        for k in range(count):
            own = p[:k][::-1]  # P(k, s), s < k
            kept = 1 - step * own.sum()  # of J, sum over a row
            pulled = own @ C[:k, : k + 1]
            mean = m[k] - step * (own @ m[:k])
            row = C[k, : k + 1] - step * pulled - mean - kept * (m[: k + 1] - shift)  # J C_omega
            S[k, : k + 1] = row
            S[k, 1 : k + 1] += _causal(p[:k], kick * q[:k][::-1] * S.diagonal()[:k] - step * row[:k])
            S[: k + 1, k] = S[k, : k + 1]
            if k == steps:
                break
            D = inverse * step**2 * S[k, : k + 1]
            D[:k] -= step * kick * own * S.diagonal()[:k]
            D[k] += kick * S[k, k]
            m[k + 1] = a * m[k] - step * (mean - kept * problem.teacher)
            new = a * C[k, : k + 1] - step * (C[k, : k + 1] - step * pulled - kept * m[: k + 1])
            new[1:] += _causal(r[:k], D[:k])
            C[k + 1, : k + 1] = C[: k + 1, k + 1] = new
            across = C[: k + 1, k + 1]
            last = a * across[k] - step * (across[k] - step * (own @ across[:k]) - kept * m[k + 1])
            C[k + 1, k + 1] = last + D @ r[: k + 1][::-1]
            bar.update(3 * k * k)
    return Equations(C, S, m, r, q)


def _responses(problem: Regression, step: float, steps: int) -> tuple[Array, Array]:
    """R(k, l) and delta P(k, l) for k - l = 1 .. steps."""
    r, q = np.zeros(steps), np.zeros(steps)
    inverse, a = 1 / problem.delta, 1 - step * problem.weight_decay
    for n in range(steps):
        r[n] = (a - step) * r[n - 1] + step**2 * inverse * (q[: n - 1][::-1] @ r[: n - 1]) if n else 1.0
        q[n] = r[n] - step * inverse * (r[:n][::-1] @ q[:n])
    return r, q


def force_correlation(problem: Regression, solution: Equations, step: float, kick: float) -> Array:
    """C_L(k, l) = step^2 S(k,l) - step v P(k,l) E_l (l < k),  C_L(k, k) = (step^2 + v) E_k,  v = delta kick.  (K+1, K+1).

    inf on the diagonal where delta is and the kick is not 0. docs/theory/mean_field.md section 6.1 [NI26v2].
    """
    error = np.diag(solution.residual)
    own = step * kick * toeplitz(solution.self_response) * error
    return step**2 * solution.residual - own - own.T + np.diag(problem.delta * kick * error if kick else 0 * error)


def toeplitz(lower: Array) -> Array:
    """F(k, l) = lower[k - l - 1] below the diagonal, 0 elsewhere, (size + 1, size + 1)."""
    lags = np.subtract.outer(np.arange(lower.size + 1), np.arange(lower.size + 1))
    return np.where(lags > 0, np.append(0.0, lower)[np.maximum(lags, 0)], 0.0)


def _causal(kernel: Array, row: Array) -> Array:
    """sum_{s<=j} kernel[j-s] row[s], j = 0 .. size - 1."""
    return np.convolve(kernel, row)[: row.size] if row.size else row
