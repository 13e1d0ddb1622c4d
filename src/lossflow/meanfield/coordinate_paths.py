"""Many paths of one coordinate, moved row by row with the two-time response that their tangents make.

    xi_k = past_k - c_k g_k,   g = A (beta - beta* - W),   W ~ GP(0, (C + sigma^2)/delta),   C(t, s) = E Delta_t Delta_s,
    A = (1 + R/delta)^(-1),    R(k, s) = E[d beta_k / d U_s],   U = A W.

Everything of row k depends on itself through W_k and A_k; see `Pass.advance`.
docs/theory/diagonal.md sections 3 and 4 [NI25v2].
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from lossflow.meanfield.coordinate_field import Field, Frame
from lossflow.meanfield.coordinate_schemes import Rows
from lossflow.meanfield.sampling import Basis, Points
from lossflow.problems.coordinate import CoordinateProcess

Array = npt.NDArray[np.float64]

FEWEST = 32  # paths of a stratum: more than a field has variables
TOLERANCE = 1e-6  # of a row, relative to the square root of the loss, the size of what is left of the residuals
STRICTEST, LOOSEST = 1e-12, 1e-8  # of a row, relative to its own size
SWEEPS = 80  # of a row
DEPTH = 8  # of the acceleration
NEWTON = 60
SETTLED = 1e-7  # relative step of Newton's method after which, being of second order, it leaves rounding alone


class Paths:
    """beta* and the standard variables of the field on paths, in strata with exact weights.

    Second moments within each stratum are exact. Where the process is odd, a stratum that is symmetric about zero is sampled on
    one half: each path stands for its mirror image, too.
    purpose: of the random numbers; see `lossflow.keys`.
    """

    def __init__(
        self, process: CoordinateProcess, paths: int, variables: int, seed: int, run: int, purpose: str
    ) -> None:
        strata = process.strata()
        share = max(FEWEST, 2 ** round(math.log2(paths / len(strata))))
        star, weights, fields = [], [], []
        for number, (weight, mean, variance) in enumerate(strata):
            groups = {"signal": 1 if variance else 0, "field": variables}
            points = Points(share, groups, seed, run, f"coordinate {purpose}, stratum {number}")
            basis = Basis(share)
            folded = process.is_odd and mean == 0
            if not folded:
                basis.whiten(np.ones(share))
            names = [name for name, count in groups.items() for _ in range(count)]
            standard = np.array([self._standard(points, name, folded and not j) for j, name in enumerate(names)])
            standard = np.array([np.array(basis.whiten(variable)) for variable in standard])
            star.append(mean + math.sqrt(variance) * standard[0] if variance else np.full(share, mean))
            weights.append(np.full(share, weight / share))
            fields.append(standard[len(names) - variables :])
        self.star, self.weights = np.concatenate(star), np.concatenate(weights)
        self.field = np.concatenate(fields, axis=1)
        self.count = len(self.star)

    @staticmethod
    def _standard(points: Points, group: str, half: bool) -> Array:
        from scipy.special import ndtri

        u = points.uniform(group)
        return ndtri((1 + u) / 2 if half else u)


class Link:
    """beta at given xi and time:  beta = kappa_t sinh(xi - shift), one-sided  +-(square/2) e^(+-xi)."""

    def __init__(self, process: CoordinateProcess) -> None:
        plus, minus = process.squares
        self.decay = process.weight_decay
        self.sided = 0 if plus and minus else (1 if plus else -1)
        if self.sided:
            self.shift, self.log = 0.0, math.log(plus or minus)
        else:
            self.shift = (math.log(minus) - math.log(plus)) / 2
            self.log = (math.log(plus) + math.log(minus)) / 2

    def at(self, xi: Array, time: float) -> tuple[Array, Array]:
        """beta and D = d beta/d xi."""
        log = self.log - 2 * self.decay * time
        if self.sided:
            size = np.exp(self.sided * xi + log) / 2
            return self.sided * size, size
        eta = xi - self.shift
        size = np.abs(eta)
        grown = np.exp(size + log) / 2
        less = np.exp(-2 * size)
        return np.copysign(-grown * np.expm1(-2 * size), eta), grown * (1 + less)

    def kept(self, xi: Array, fall: float) -> Array:
        """xi that leaves beta what it is when the logarithm of the scale falls by `fall`."""
        if self.sided:
            return xi + self.sided * fall
        size = np.abs(xi - self.shift)
        # asinh(e^fall sinh size) without overflow
        grown = np.where(size > 20, size + fall, np.arcsinh(np.exp(fall) * np.sinh(np.minimum(size, 20))))
        return np.copysign(grown, xi - self.shift) + self.shift

    def solve(self, right: Array, factor: float, time: float, guess: Array) -> Array:
        """xi with  xi + factor beta(xi) = right,  factor > 0. guess: where to begin."""
        log = self.log - 2 * self.decay * time + math.log(factor)
        if self.sided:
            from scipy.special import wrightomega

            # y = factor |beta|:  sided right = sided xi + y,  y = e^(sided xi + log)/2
            return right - self.sided * wrightomega(self.sided * right + log - math.log(2)).real
        goal = np.abs(right - self.shift)
        # the function is convex there: the first step of Newton's method leads to the right of the root, the others down to it
        bound = np.minimum(goal, np.log1p(2 * math.exp(min(-log, 690.0)) * goal))
        eta = np.clip(np.copysign(1.0, right - self.shift) * (guess - self.shift), 0.0, bound)
        for _ in range(NEWTON):
            grown, less = np.exp(eta + log) / 2, np.exp(-2 * eta)
            step = (eta - grown * np.expm1(-2 * eta) - goal) / (1 + grown * (1 + less))
            eta = np.clip(eta - step, 0.0, bound)
            if not np.any(np.abs(step) > SETTLED * (1e-3 + eta)):
                break
        return np.copysign(eta, right - self.shift) + self.shift


class Pass:
    """One solution on one grid with one set of random numbers. frame: a guess of the field, see `coordinate_field`."""

    def __init__(
        self,
        process: CoordinateProcess,
        rows: Rows,
        frame: Frame,
        paths: int,
        seed: int,
        run: int,
        purpose: str = "paths",
    ) -> None:
        self.process, self.rows = process, rows
        self.inverse_delta = 1 / process.delta
        guess = frame.at(rows.times)
        self.paths = Paths(process, paths, guess.shape[1], seed, run, purpose)
        self.link = Link(process)
        size, count = len(rows.times), self.paths.count
        self.size, self.k = size, 0
        self.errors = np.zeros((size, count))  # Delta
        self.drives = np.zeros((size, count))  # Delta - W
        self.A = np.zeros((size, size))
        self.C = np.zeros((size, size))  # E Delta Delta + sigma^2
        self.tangents: list[Array] = []  # by s: d beta_m/d U_s for m >= s, shape (size - s, paths)
        self.values: dict[str, list[float]] = {"loss": [], "mse": [], "l1": [], "l2": []}
        self.sweeps: list[int] = []
        self.reason = ""
        self._start(guess)

    def _start(self, guess: Array) -> None:
        beta, _ = self.link.at(np.zeros(self.paths.count), 0.0)
        delta = beta - self.paths.star
        variance = float(self.variances(delta, 0)[0]) * self.inverse_delta
        self.field = Field(self.paths.field, guess, variance)
        self.field.prepare()
        coefficients = self.field.coefficients(np.zeros(0), variance)
        w = self.field.value(coefficients)
        self.A[0, 0] = 1.0
        self.xi = np.zeros(self.paths.count)
        self.older = self.xi
        self.g = delta - w
        count = self.paths.count
        self.tangents.append(np.zeros((self.size, count)))
        self.dxi, self.older_dxi = np.zeros((1, count)), np.zeros((1, count))
        self.dg = -np.ones((1, count))
        self._keep(beta, delta, w, coefficients)

    def variances(self, delta: Array, k: int) -> Array:
        """E Delta_m Delta_k + sigma^2 for m < k and, last, m = k."""
        weighted = self.paths.weights * delta
        return np.append(self.errors[:k] @ weighted, delta @ weighted) + self.process.noise_variance

    def _keep(self, beta: Array, delta: Array, w: Array, coefficients: Array) -> None:
        k, weights = self.k, self.paths.weights
        self.errors[k], self.drives[k] = delta, delta - w
        row = self.variances(delta, k)
        self.C[k, : k + 1] = row
        self.C[: k + 1, k] = row
        self.field.keep(coefficients, float(row[-1]) * self.inverse_delta)
        a = self.A[k, : k + 1]
        for name, value in (
            ("loss", float(a @ self.C[: k + 1, : k + 1] @ a) / 2),
            ("mse", float(row[-1]) - self.process.noise_variance),
            ("l1", float(weights @ np.abs(beta))),
            ("l2", float(weights @ beta**2)),
        ):
            self.values[name].append(value)

    def advance(self) -> bool:
        """One more row; False at the end, and where a row has no solution that is found, with `reason` set.

        Given beta_k on the paths: W_k by conditioning, A_kk by a scalar equation, A_k by a linear one. Given these, beta_k solves
        a monotone equation. This loop is accelerated (Anderson).
        """
        k = self.k + 1
        if k >= self.size or self.reason:
            return False
        rows = self.rows
        time, c = float(rows.times[k]), float(rows.implicit[k])
        past = rows.near[k] * self.xi + rows.far[k] * self.older - rows.explicit[k] * self.g
        self.field.prepare()
        self.k = k
        row = _Row(self, k, c)

        # the first guess: xi goes on as it went; while weight decay lets the scale fall, beta stays where it is
        span = float(rows.times[k] - rows.times[k - 1])
        guesses = [self.xi - 2 * span * np.clip(self.g, -1 / span, 1 / span)]
        if k > 1:
            before = float(rows.times[k - 1] - rows.times[k - 2])
            guesses = [self.xi + np.clip((self.xi - self.older) * span / before, -1.0, 1.0)]
        if self.process.weight_decay:
            guesses.insert(0, self.link.kept(self.xi, 2 * self.process.weight_decay * span))
        found = None
        for guess in guesses:
            found = self._solved(row, past, c, time, guess)
            if found is not None:
                break
        if found is None:
            return False
        self.reason = ""
        xi, beta, slope, w, coefficients, a, sweeps = found
        self.sweeps.append(sweeps)
        self.A[k, : k + 1] = a
        delta = beta - self.paths.star
        g = a[:k] @ self.drives[:k] + a[k] * (delta - w)
        row.keep_tangents(a, slope)
        self.older, self.xi, self.g = self.xi, xi, g
        self._keep(beta, delta, w, coefficients)
        return True

    def _solved(
        self, row: _Row, past: Array, c: float, time: float, guess: Array
    ) -> tuple[Array, Array, Array, Array, Array, Array, int] | None:
        """xi, beta, D, W, its coefficients, A_k and the sweeps it took; None, with `reason` set, where no solution is found."""
        k = self.k
        xi = guess
        beta, slope = self.link.at(xi, time)
        x = row.unknowns(beta - self.paths.star, slope)
        mixing = Anderson()
        residual = math.sqrt(max(2 * self.values["loss"][-1], 0.0) / max(float(self.C[k - 1, k - 1]), 1e-300))
        tolerance = min(max(TOLERANCE * residual, STRICTEST), LOOSEST)
        error = math.inf
        for sweeps in range(1, SWEEPS + 1):
            coefficients, a = row.split(x)
            w = row.field_value(coefficients)
            right = past - c * (a[:k] @ self.drives[:k]) + c * a[k] * (self.paths.star + w)
            xi = self.link.solve(right, c * a[k], time, xi)
            beta, slope = self.link.at(xi, time)
            new = row.unknowns(beta - self.paths.star, slope)
            error = row.distance(new, x)
            if not math.isfinite(error):
                self.reason = "the paths left every scale"
                return None
            if error < tolerance:
                return xi, beta, slope, w, coefficients, a, sweeps
            x = mixing.next(x, new)
            x[len(coefficients) + k] = min(max(x[len(coefficients) + k], 1e-12), 1.0)
        self.reason = f"{SWEEPS} sweeps left an error of {error:.1e}"
        return None


class _Row:
    """The equations of row k, and what in them does not change while they are solved."""

    def __init__(self, one: Pass, k: int, c: float) -> None:
        self.one, self.k, self.c = one, k, c
        self.coupled = one.inverse_delta > 0
        self.rank = len(one.field.variables)
        if self.coupled:
            rows = one.rows
            self.past = rows.near[k] * one.dxi - rows.explicit[k] * one.dg
            if rows.far[k]:
                self.past[: len(one.older_dxi)] += rows.far[k] * one.older_dxi

    def unknowns(self, delta: Array, slope: Array) -> Array:
        """(v, p^2, A_k) from Delta_k and D_k on the paths."""
        one, k, c = self.one, self.k, self.c
        row = one.variances(delta, k) * one.inverse_delta
        coefficients = one.field.coefficients(row[:-1], float(row[-1]))
        self.variance = float(row[-1])
        if not self.coupled:
            return np.concatenate([coefficients, np.zeros(k), [1.0]])
        weights, old = one.paths.weights, one.A[:k, :k]
        diagonal = _diagonal(c * slope, weights, one.inverse_delta, float(one.A[k - 1, k - 1]))
        pressure = weights * slope / (1 + c * diagonal * slope)
        Q = np.zeros((k, k))
        for s in range(k):
            Q[s:, s] = one.tangents[s][: k - s] @ pressure
        matrix = np.eye(k) - (c * diagonal * one.inverse_delta) * (old @ Q)
        response = np.linalg.solve(matrix.T, self.past @ pressure)
        a = -(diagonal * one.inverse_delta) * (response @ old)
        return np.concatenate([coefficients, a, [diagonal]])

    def split(self, x: Array) -> tuple[Array, Array]:
        return x[: self.rank + 1], x[self.rank + 1 :]

    def field_value(self, coefficients: Array) -> Array:
        if not self.coupled:
            return np.zeros(self.one.paths.count)
        return self.one.field.value(coefficients)

    def distance(self, new: Array, old: Array) -> float:
        """The change of the two parts, each in units of its size."""
        (f, a), (g, b) = self.split(new), self.split(old)
        field = np.abs(f[:-1] - g[:-1]).max(initial=0.0) / math.sqrt(self.variance) if self.variance > 0 else 0.0
        left = abs(f[-1] - g[-1]) / self.variance if self.variance > 0 else 0.0
        return max(float(field), float(left), float(np.abs(a - b).max()))

    def keep_tangents(self, a: Array, slope: Array) -> None:
        one, k, c = self.one, self.k, self.c
        if not self.coupled:
            return
        known = np.stack([a[s:k] @ one.tangents[s][: k - s] for s in range(k)])
        below = 1 + c * a[k] * slope
        dxi = np.empty((k + 1, one.paths.count))
        dxi[:k] = (self.past - c * known) / below
        dxi[k] = c / below
        one.tangents.append(np.zeros((one.size - k, one.paths.count)))
        dg = np.empty_like(dxi)
        for s in range(k + 1):
            moved = slope * dxi[s]
            one.tangents[s][k - s] = moved
            dg[s] = a[k] * moved + (known[s] if s < k else -1.0)
        one.older_dxi, one.dxi, one.dg = one.dxi, dxi, dg


def _diagonal(strength: Array, weights: Array, inverse_delta: float, guess: float) -> float:
    """A in (0, 1] with  A + E[strength A/(1 + strength A)]/delta = 1;  the left side is concave and increasing."""
    a = guess
    for _ in range(200):
        share = 1 / (1 + strength * a)
        value = a + inverse_delta * float(weights @ (strength * a * share)) - 1
        slope = 1 + inverse_delta * float(weights @ (strength * share**2))
        moved = max(a - value / slope, a / 10)
        if abs(moved - a) <= 1e-15 * a:
            return moved
        a = moved
    return a


class Anderson:
    """Acceleration of x -> f(x) by the last residuals (Anderson, 1965)."""

    def __init__(self) -> None:
        self.points: list[Array] = []
        self.residuals: list[Array] = []

    def next(self, x: Array, new: Array) -> Array:
        self.points = [*self.points, new][-DEPTH:]
        self.residuals = [*self.residuals, new - x][-DEPTH:]
        if len(self.points) == 1:
            return new.copy()
        F = np.diff(np.array(self.residuals), axis=0).T
        G = np.diff(np.array(self.points), axis=0).T
        gamma = np.linalg.lstsq(F, self.residuals[-1], rcond=1e-10)[0]
        return new - G @ gamma
