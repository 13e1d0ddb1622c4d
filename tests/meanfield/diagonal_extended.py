"""The end states of diagonal linear networks once more, in fifty digits and by another road: the oracle of the end states.

The library integrates over xi, by Gauss-Legendre panels in double precision, with formulas that avoid cancellation. Here
integrals are over z, x = E beta* + deviation z, the proximal map is a root found at every node, differences are taken as they
stand in fifty digits, and for normal components E beta beta* = variance E[d beta/dx] (Stein) replaces the conditional mean.
A solution is accepted when both equations hold to 1e-22.

python tests/meanfield/diagonal_extended.py    writes tests/reference/diagonal_extended.json (about ten minutes)
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
from mpmath import mp, mpf

import lossflow as lf
from lossflow.meanfield.interpolation import end_state
from lossflow.problems.diagonal import GeneralInit
from lossflow.problems.priors import AbstractPrior, AtomicPrior, GaussianPrior, PositiveSparse

DIGITS = 50
TABLE = Path(__file__).parent.parent / "reference" / "diagonal_extended.json"
PRIORS: Mapping[str, AbstractPrior] = {
    "rademacher": lf.RademacherSparse(0.1),
    "rare": lf.RademacherSparse(0.02),
    "bernoulli-gaussian": lf.BernoulliGaussian(0.2),
    "gaussian": GaussianPrior(),
    "positive": PositiveSparse(0.3),
    "atoms": AtomicPrior((0.0, 0.5, -2.0), (0.7, 0.2, 0.1)),
}


def points() -> list[dict[str, Any]]:
    """Forty interpolators spread over priors, kappa, delta and noise, and eight ends with a penalty."""
    rows: list[dict[str, Any]] = []
    kappas = np.geomspace(1e-30, 1e6, 36)
    deltas = (0.5, 0.3, 0.8, 0.6, 0.95, 0.1, 0.45)
    noises = (0.0, 0.01, 0.25, 0.0, 1e-6)
    names = list(PRIORS)
    for k, kappa in enumerate(kappas):
        rows.append(
            {
                "prior": names[k % 6],
                "delta": deltas[(5 * k) % 7],
                "noise_variance": noises[(3 * k) % 5],
                "plus": float(kappa),
                "minus": float(kappa),
            }
        )
    for prior, plus, minus in (
        ("atoms", 8.0, 0.5),
        ("gaussian", 1e-6, 1e-2),
        ("positive", 0.02, 0.0),
        ("positive", 1e-8, 0.0),
    ):
        rows.append({"prior": prior, "delta": 0.4, "noise_variance": 0.04, "plus": plus, "minus": minus})
    for k, penalty in enumerate((1e-6, 1e-3, 0.1, 1.0, 1e-4, 0.03, 0.3, 1e-9)):
        delta = (0.5, 0.8, 1.5, 1.0)[k % 4]
        rows.append({"prior": names[k % 6], "delta": delta, "noise_variance": noises[k % 5], "weight_decay": penalty})
    return rows


def problem(row: Mapping[str, Any]) -> lf.DiagonalLinear:
    """The problem of a row; plus and minus are a0^2 and b0^2."""
    init: lf.AbstractInit = lf.SymmetricInit()
    if "plus" in row:
        a, b = math.sqrt(row["plus"]), math.sqrt(row["minus"])
        init = lf.SymmetricInit(a) if a == b else GeneralInit((a + b) / math.sqrt(2), (a - b) / math.sqrt(2))
    return lf.DiagonalLinear(
        row["delta"], PRIORS[row["prior"]], row["noise_variance"], init, row.get("weight_decay", 0.0)
    )


def evaluate(row: Mapping[str, Any]) -> dict[str, str]:
    """mse, l1, tau, theta and, without penalty, the rate, as decimal strings of 20 digits, and the residual reached."""
    with mp.workdps(DIGITS):
        found = _interpolator(problem(row)) if "plus" in row else _lasso(problem(row))
        return {name: str(mpmath.nstr(value, 5 if name == "residual" else 20)) for name, value in found.items()}


def _interpolator(described: lf.DiagonalLinear) -> dict[str, Any]:
    guess = end_state(described).values  # only a start: what counts is the residual in fifty digits
    law = _Law(described, mpf(guess["theta"]), mpf(guess["rate"]))
    search = [mpf(guess["tau"]), mpf(guess["theta"])]
    delta, noise = mpf(described.delta), mpf(described.noise_variance)

    def residual(tau: Any, theta: Any) -> tuple[Any, Any, Any]:
        nodes = law.nodes(tau, theta)
        q = mpmath.fsum(w * s / (s + theta / 2) for w, _, s, _ in nodes)
        mse = mpmath.fsum(w * e for w, _, _, e in nodes)
        return q / delta - 1, (noise + mse) / (delta * tau**2) - 1, nodes

    for _ in range(3):
        f, g, nodes = residual(*search)
        if max(abs(f), abs(g)) < mpf(10) ** -22:
            break
        tau, theta = search
        small = mpf(10) ** -15
        f1, g1, _ = residual(tau * (1 + small), theta)
        f2, g2, _ = residual(tau, theta * (1 + small))
        a, b, c, d = (f1 - f) / small, (f2 - f) / small, (g1 - g) / small, (g2 - g) / small
        determinant = a * d - b * c
        search = [tau * (1 - (d * f - b * g) / determinant), theta * (1 - (a * g - c * f) / determinant)]
    f, g, nodes = residual(*search)
    return {
        "mse": mpmath.fsum(w * e for w, _, _, e in nodes),
        "l1": mpmath.fsum(w * abs(beta) for w, beta, _, _ in nodes),
        "tau": search[0],
        "theta": search[1],
        "rate": _edge([(w, 2 * s) for w, _, s, _ in nodes], delta),
        "residual": max(abs(f), abs(g)),
    }


def _edge(law: list[tuple[Any, Any]], delta: Any) -> Any:
    """-1/m + E[D/(1 + D m)]/delta at E[(D m/(1 + D m))^2] = delta, as the note writes it."""
    excess = lambda log_m: mpmath.fsum(w * (D * m / (1 + D * m)) ** 2 for w, D in law for m in [mp.exp(log_m)]) - delta  # noqa: E731
    low, high = mpf(-60), mpf(160)
    while high - low > 0.5:
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    m = mp.exp(mpmath.findroot(excess, (low, high), solver="anderson", tol=mpf(10) ** -50, maxsteps=60))
    return -1 / m + mpmath.fsum(w * D / (1 + D * m) for w, D in law) / delta


class _Law:
    """Nodes (weight, beta, d beta/d xi, E[(beta - beta*)^2 | node]) in z, refined where the map x -> beta bends."""

    def __init__(self, described: lf.DiagonalLinear, theta: Any, rate: Any) -> None:
        self.components = [tuple(map(mpf, c)) for c in described.prior.components]
        plus, minus = described.init.squares
        self.plus, self.minus = mpf(plus), mpf(minus)
        self.legendre = _legendre(24)
        self.marks = self._marks(theta)

    def _marks(self, theta: Any) -> list[Any]:
        """x around which the map bends on the scale theta: where D equals theta, where beta = 0, and some way between."""
        marks = []
        for log_speed in range(-40, 44, 4):  # of D/theta: the rate looks at other D than the map itself
            speed = theta * mp.exp(log_speed) / 2
            if self.minus:
                kappa = mp.sqrt(self.plus * self.minus)
                if speed > kappa:
                    shift, inner = mp.log(self.minus / self.plus) / 2, mp.acosh(speed / kappa)
                    marks += [kappa * mp.sinh(s * inner) + theta / 2 * (s * inner + shift) for s in (-1, 1)]
            else:
                marks.append(speed + theta / 2 * mp.log(2 * speed / self.plus))
        if self.minus:
            marks.append(theta / 2 * mp.log(self.minus / self.plus) / 2)
        return marks

    def nodes(self, tau: Any, theta: Any) -> list[tuple[Any, Any, Any, Any]]:
        found = []
        for weight, mean, variance in self.components:
            deviation = mp.sqrt(variance + tau**2)
            edges = self._edges(mean, deviation, theta)
            guess = None
            for low, high in pairwise(edges):
                for node, share in self.legendre:
                    z = (low + high) / 2 + (high - low) / 2 * node
                    mass = weight * share * (high - low) / 2 * mp.exp(-z * z / 2) / mp.sqrt(2 * mp.pi)
                    xi = guess = self._root(mean + deviation * z, theta, guess)
                    up, down = self.plus * mp.exp(xi) / 2, self.minus * mp.exp(-xi) / 2
                    beta, slope = up - down, up + down
                    if variance:  # about the mean, whose part of E beta beta* is mean * beta
                        q = slope / (slope + theta / 2)
                        error = beta**2 - 2 * (mean * beta + variance * q) + variance + mean**2
                    else:
                        error = (beta - mean) ** 2
                    found.append((mass, beta, slope, error))
        return found

    def _edges(self, mean: Any, deviation: Any, theta: Any) -> list[Any]:
        """z up to 13; each panel is shorter than its distance to the nearest bend, or than theta at a bend."""
        marks = [(mark - mean) / deviation for mark in self.marks]
        fine = theta / deviation
        edges = [mpf(-13)]
        while edges[-1] < 13:
            at = edges[-1]
            ahead = [mark for mark in marks if mark > at]
            length = min([max(min(abs(at - mark) for mark in marks) * mpf("0.7"), fine), mpf("1.5")])
            step = at + length
            if ahead:  # do not run past the next bend
                step = min(step, max(at + fine, (at + min(ahead)) / 2) if min(ahead) - at > fine else min(ahead))
            edges.append(min(step, mpf(13)))
        return sorted({*edges, *(m for m in [self._zero(mean, deviation, theta)] if m is not None and -13 < m < 13)})

    def _zero(self, mean: Any, deviation: Any, theta: Any) -> Any:
        """z where beta = 0, at which |beta| has a kink."""
        return (theta / 4 * mp.log(self.minus / self.plus) - mean) / deviation if self.minus else None

    def _root(self, x: Any, theta: Any, guess: Any) -> Any:
        """xi with beta(xi) + theta xi/2 = x: bisection until Newton can be trusted."""
        value = lambda xi: (self.plus * mp.exp(xi) - self.minus * mp.exp(-xi) + theta * xi) / 2 - x  # noqa: E731
        slope = lambda xi: (self.plus * mp.exp(xi) + self.minus * mp.exp(-xi) + theta) / 2  # noqa: E731
        xi = guess
        if xi is None:
            low, high = mpf(-3000), mpf(3000)
            while high - low > 1:
                xi = (low + high) / 2
                low, high = (xi, high) if value(xi) < 0 else (low, xi)
        for _ in range(400):
            step = max(min(value(xi) / slope(xi), mpf(2)), mpf(-2))
            xi -= step
            if abs(step) < mpf(10) ** -(DIGITS - 6):
                return xi
        raise ArithmeticError(f"no root at x = {x}")


def _legendre(count: int) -> list[tuple[Any, Any]]:
    """Nodes and weights of Gauss-Legendre in full precision, by Newton from the double ones."""
    nodes = []
    for start in np.polynomial.legendre.leggauss(count)[0]:
        x, derivative = mpf(float(start)), mpf(1)
        for _ in range(4):
            before, value = mpf(1), x
            for n in range(1, count):
                before, value = value, ((2 * n + 1) * x * value - n * before) / (n + 1)
            derivative = count * (x * value - before) / (x * x - 1)
            x -= value / derivative
        nodes.append((x, 2 / ((1 - x * x) * derivative**2)))
    return nodes


def _lasso(described: lf.DiagonalLinear) -> dict[str, Any]:
    """By adaptive quadrature over z of the soft threshold as it stands."""
    guess = end_state(described).values
    penalty, delta, noise = map(mpf, (described.weight_decay, described.delta, described.noise_variance))
    components = [tuple(map(mpf, c)) for c in described.prior.components]

    def average(f: Any, tau: Any, T: Any) -> Any:
        total = mpf(0)
        for weight, mean, variance in components:
            deviation = mp.sqrt(variance + tau**2)
            kinks = [(s * T - mean) / deviation for s in (-1, 1)]
            edges = sorted([mpf(-14), mpf(14), mpf(-5), mpf(5), mpf(0), *(k for k in kinks if -14 < k < 14)])

            def integrand(z: Any, mean: Any = mean, variance: Any = variance, deviation: Any = deviation) -> Any:
                return f(mean + deviation * z, mean, variance, T) * mp.npdf(z)

            total += weight * mp.quad(integrand, edges)
        return total

    def soft(x: Any, T: Any) -> Any:
        return mp.sign(x) * max(abs(x) - T, 0)

    def error(x: Any, mean: Any, variance: Any, T: Any) -> Any:
        beta, q = soft(x, T), mpf(abs(x) > T)
        return (beta - mean) ** 2 if not variance else beta**2 - 2 * (mean * beta + variance * q) + variance + mean**2

    def residual(tau: Any, T: Any) -> list[Any]:
        active = average(lambda x, *_: mpf(abs(x) > T), tau, T)
        mse = average(error, tau, T)
        return [T * (1 - active / delta) / penalty - 1, (noise + mse) / (delta * tau**2) - 1]

    start = (mpf(guess["tau"]), mpf(guess["theta"]) * penalty)
    solution = mpmath.findroot(residual, start, tol=mpf(10) ** -50, verify=False, maxsteps=8)
    tau, T = solution
    return {
        "mse": delta * tau**2 - noise if noise else average(error, tau, T),
        "l1": average(lambda x, mean, variance, T: abs(soft(x, T)), tau, T),
        "tau": tau,
        "theta": T / penalty,
        "residual": max(map(abs, residual(tau, T))),
    }


def main() -> int:
    """Write the table; 1 if an equation is not solved."""
    rows = []
    for row in points():
        rows.append({**row, **evaluate(row)})
        print(rows[-1], flush=True)
    header = (
        "End states of diagonal linear networks (docs/theory/diagonal.md sections 5, 6 and 8) computed by "
        "tests/meanfield/diagonal_extended.py in 50 digits: quadrature over z with the proximal map found by roots. "
        "plus, minus: a0^2, b0^2 of the start. mse, l1, tau, theta, rate as in EndState; residual of both equations, relative."
    )
    TABLE.write_text(json.dumps({"how": header, "points": rows}, indent=1) + "\n", encoding="utf-8")
    return int(any(float(row["residual"]) > 1e-20 for row in rows))


if __name__ == "__main__":
    sys.exit(main())
