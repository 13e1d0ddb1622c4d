"""Models linear in the data in the large-size limit: one causal pass through the steps of a discrete dynamics.

    r_k = w_k - (1/delta) sum_{l<k} R(k, l) L_l,    L_k = g_k ell(r_k, y),    w Gaussian with the covariance of theta

on paths (w*, z, w, g), and the parameter side of `parameters`. Row k + 1 of every kernel follows from rows up to k, so nothing
is iterated; the only errors are averages over paths. docs/theory/mean_field.md sections 2 and 7 [NI26v2].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.dynamics import AbstractDynamics, StochasticGradientFlow
from lossflow.meanfield.factors import Factors
from lossflow.meanfield.parameters import ClosedSide, ParameterSide, SampledSide
from lossflow.meanfield.responses import Probes, Tangents
from lossflow.meanfield.sampling import Basis, Conditioning, Points
from lossflow.problems.row import RowProcess

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

SPREAD = 256  # innovations of w, and cosine modes of the noise, that take low-discrepancy points at most: a fifth of the scatter
KERNEL_TIMES = 200  # at which two-time functions are kept at most
LOST = 1e12  # a squared norm beyond which the process has left every scale of the problem


class Plan(NamedTuple):
    """How one pass is computed. paths: of the sample side; tangents: how many of them carry exact tangents, 0 for probes."""

    paths: int
    tangents: int


class Pass(NamedTuple):
    """What one pass found.

    values: by observable, NaN after step `reached`, shape (records, ...); integrals: standard errors of those observables that
    are sampled integrals over a fresh sample; reached: how many steps were made; kernels: two-time functions, see `MeanField`;
    consistency: the largest violation of Stein's identity (section 2.1), relative to step and norm.
    """

    values: dict[str, Array]
    integrals: dict[str, Array]
    reached: int
    kernels: dict[str, Array]
    consistency: float


class RowPass:
    """One pass with its own random numbers, advanced step by step.

    steps: eta_k, shape (K,); records: the numbers of steps after which observables are wanted, increasing; seed, run: of the
    random numbers.
    """

    def __init__(
        self,
        process: RowProcess,
        dynamics: AbstractDynamics,
        steps: Array,
        records: Integers,
        plan: Plan,
        seed: int,
        run: int,
    ) -> None:
        model = process.model
        self.process, self.steps, self.records, self.plan = process, steps, records, plan
        innovations, modes = spread(process, dynamics, len(steps))
        groups = {
            "teacher": model.teacher_columns,
            "labels": model.noise_columns,
            "innovations": innovations,
            "noise in time": modes,
        }
        self.points = Points(plan.paths, groups, seed, run, "samples of the mean field")
        self.basis = Basis(plan.paths)
        self.teacher, self.labels = self._draw_labels()
        self.first = self.basis.count  # of the innovations
        self.factors = Factors(dynamics, steps, process.delta, self.points)
        self.parameters = self._parameter_side(seed, run)
        count = len(steps)
        self.conditioning = Conditioning((count + 1) * model.columns)
        self.pushes = np.empty((count * model.columns, plan.paths))  # L_k/delta
        self.response: Tangents | Probes = (
            Tangents(plan.tangents, plan.paths, count, model.columns)
            if plan.tangents
            else Probes(plan.paths, count, model.columns, self.points)
        )
        self.values: dict[str, list[Array]] = {}
        self.integrals: dict[str, list[float]] = {}
        self.consistency = 0.0
        self.reached = 0

    def run(self) -> Pass:
        """All steps."""
        while self.advance():
            pass
        return self.result()

    def advance(self) -> bool:
        """Step k, its observables first; False when all records are made or the process has left every scale."""
        k = self.reached
        norm = self.parameters.norm(k)
        if not np.isfinite(norm).all() or np.trace(norm) > LOST:
            return False
        r, innovations = self._preactivations(k)
        if k in self.records:
            self._record(k, r)
        if k == self.records[-1]:
            return False
        self._step(k, r, innovations)
        self.reached = k + 1
        return True

    def result(self) -> Pass:
        """What was found up to here."""
        values = {name: self._padded(found) for name, found in self.values.items()}
        integrals = {name: self._padded(found) for name, found in self.integrals.items()}
        return Pass(values, integrals, self.reached, self._kernels(), self.consistency)

    def _padded(self, found: Sequence[Array | float]) -> Array:
        whole = np.full((len(self.records), *np.shape(found[0])), np.nan)
        whole[: len(found)] = found
        return whole

    def _draw_labels(self) -> tuple[Array, Array]:
        """w*, shape (m*, paths), and the labels. An odd model needs half of the space: each path stands for itself and its mirror
        image, under which odd moments vanish."""
        from scipy.special import ndtr, ndtri

        model = self.process.model
        if not model.odd:
            self.basis.whiten(np.ones(self.plan.paths))
        standard = []
        for column in range(model.teacher_columns):
            u = self.points.uniform("teacher")
            standard.append(self.basis.whiten(ndtri((1 + u) / 2 if model.odd and column == 0 else u)))
        noise = [self.basis.whiten(self.points.normal("labels")) for _ in range(model.noise_columns)]
        values, vectors = np.linalg.eigh(self.process.teacher)
        self.root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
        teacher = self.root @ np.array(standard)
        return teacher, model.labels(teacher, ndtr(np.reshape(noise, (model.noise_columns, self.plan.paths))))

    def _parameter_side(self, seed: int, run: int) -> ParameterSide:
        if self.process.penalty is None:
            return ClosedSide(self.process, self.steps)
        groups = {"parameters": 2, "forces": min(len(self.steps), SPREAD)}
        return SampledSide(
            self.process, self.steps, Points(self.plan.paths, groups, seed, run, "parameters of the mean field")
        )

    def _preactivations(self, k: int) -> tuple[Array, Array]:
        """r_k and the part of w_k that w* does not explain, shape (m, paths)."""
        side, m = self.parameters, self.process.model.columns
        for a in range(m):
            row = side.correlation.matrix[k * m + a]
            if self.conditioning.extend(row[: k * m + a], row[k * m + a]):
                self.basis.whiten(self.points.normal("innovations"))
        innovations = self.conditioning.factor[k * m :] @ self.basis.vectors[self.first :]
        r = side.overlap[k] @ side.precision @ self.teacher + innovations
        if k:
            r -= side.response.row(k, k) @ self.pushes[: k * m]
        return r, innovations

    def _record(self, k: int, r: Array) -> None:
        model, side = self.process.model, self.parameters
        norm, overlap, teacher = side.norm(k), side.overlap[k], self.process.teacher
        found: dict[str, Array | float] = {"loss": float(model.loss(r, self.labels).mean())}
        errors = model.errors(r, self.labels)
        if errors is not None:
            found["train_error"] = float(errors.mean())
        found |= model.test(norm, overlap, teacher)
        scale = np.sqrt(np.outer(np.diag(norm), np.diag(teacher)))
        cosine = np.divide(overlap, scale, out=np.zeros_like(overlap), where=scale > 0)
        one = norm.shape == (1, 1) and teacher.shape == (1, 1)
        found |= {"norm": norm[0, 0] if one else norm, "overlap": cosine[0, 0] if one else cosine}
        for name, value in found.items():
            self.values.setdefault(name, []).append(np.asarray(value, dtype=np.float64))
        for name, value in model.test_uncertainty(norm, overlap, teacher).items():
            self.integrals.setdefault(name, []).append(value)

    def _step(self, k: int, r: Array, innovations: Array) -> None:
        model, factors, side = self.process.model, self.factors, self.parameters
        m, paths, delta = model.columns, self.plan.paths, self.process.delta
        gradient, slope = model.gradient(r, self.labels), model.jacobian(r, self.labels)
        factor = factors.draw(k, gradient[0])  # g_k/delta
        push = factor * gradient
        eta = factors.mean(k)
        # where g_k is independent of the past its average is taken exactly, else with the paths
        known = factors.fresh or np.isinf(delta)
        mean_push, mean_slope = (eta * gradient, eta * slope) if known else (delta * push, delta * factor * slope)
        memory = np.empty((m, (k + 1) * m))
        memory[:, : k * m] = self.response.row(k, side.response.matrix, mean_slope)
        memory[:, k * m :] = mean_slope.mean(axis=-1)
        self.pushes[k * m : (k + 1) * m] = push
        noise = mean_push @ self.pushes[: (k + 1) * m].T / paths
        square = gradient @ gradient.T / paths
        if known:
            noise[:, k * m :] = (eta**2 / delta + factors.variance_over_delta(k)) * square
        self.response.keep(k, factor * slope)
        self._check(k, memory, mean_push @ innovations.T / paths)
        side.advance(k, memory, noise, mean_push @ self.teacher.T / paths)

    def _check(self, k: int, memory: Array, sampled: Array) -> None:
        """Stein:  E[L_k w_k^T] = sum_s M(k, s) C(s, k)  for the parts that w* does not explain, relative to the step."""
        m = self.process.model.columns
        correlation = self.parameters.correlation
        predicted = memory @ correlation.matrix[: (k + 1) * m, k * m : (k + 1) * m]
        scale = self.steps[k] * max(np.trace(correlation.block(k, k)), 1e-300)
        self.consistency = max(self.consistency, float(np.abs(sampled - predicted).max() / scale))

    def _kernels(self) -> dict[str, Array]:
        """Two-time functions at the records that were reached, thinned evenly to `KERNEL_TIMES`."""
        side, steps = self.parameters, self.steps
        chosen = self.records[self.records <= self.reached]
        if len(chosen) > KERNEL_TIMES:
            chosen = chosen[np.unique(np.linspace(0, len(chosen) - 1, KERNEL_TIMES).round().astype(np.int64))]
        explained = np.einsum("kai,ij,lbj->klab", side.overlap[chosen], side.precision, side.overlap[chosen])
        one = self.process.model.columns == 1
        kernels = {
            "kernel_times": np.append(0.0, np.cumsum(steps))[chosen],
            "correlation": side.correlation.at(chosen) + (explained[:, :, 0, 0] if one else explained),
            "response": side.response.at(chosen),
            "fluctuation_dissipation": self._fluctuation_dissipation(chosen),
        }
        made = chosen[chosen < self.reached]
        if np.isfinite(self.process.delta) and len(made):
            kernels["force_correlation"] = self.process.delta * side.noise.at(made)
            if self.factors.dynamics.step is None:  # a density in both times
                area = np.outer(steps[made], steps[made])
                kernels["force_correlation"] /= area if one else area[:, :, None, None]
        return kernels

    def _fluctuation_dissipation(self, chosen: Integers) -> Array:
        """tr [C(t, s + ds) - C(t, s)]/(ds tr R(t, s)) for s < t, NaN elsewhere."""
        side, m = self.parameters, self.process.model.columns
        trace = np.einsum("kaia->ki", side.correlation.matrix.reshape(side.correlation.times, m, -1, m)[chosen])
        trace += np.einsum("kai,ij,laj->kl", side.overlap[chosen], side.precision, side.overlap)
        response = np.einsum("kaia->ki", side.response.matrix.reshape(side.response.times, m, -1, m)[chosen])
        found = np.full((len(chosen), len(chosen)), np.nan)
        for i, l in enumerate(chosen[:-1]):  # noqa: E741
            with np.errstate(divide="ignore", invalid="ignore"):
                found[i + 1 :, i] = ((trace[:, l + 1] - trace[:, l]) / (self.steps[l] * response[:, l]))[i + 1 :]
        return found


def spread(process: RowProcess, dynamics: AbstractDynamics, steps: int) -> tuple[int, int]:
    """How many innovations of w, and modes of the noise in time, take low-discrepancy points."""
    noisy = isinstance(dynamics, StochasticGradientFlow) and dynamics.temperature > 0
    return min(steps * process.model.columns, SPREAD), min(steps, SPREAD) if noisy else 0
