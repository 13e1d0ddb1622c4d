"""The Bayes-optimal error and the convex problem."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad

import lossflow as lf
from lossflow.laws.free_convolution import FreeConvolution
from lossflow.problems.quadratic import QuadraticNetwork
from lossflow.spectral.bayes import information

TABLE = json.loads((Path(__file__).parents[1] / "reference" / "quadratic.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("row", TABLE["bayes_optimal"], ids=lambda row: f"{row['alpha']}")
def test_the_table(row: dict[str, float]) -> None:
    """Given to about 1e-10; two of its three rows agree to 1e-13."""
    state = lf.bayes_optimal(QuadraticNetwork(row["alpha"], 0.4, row["kappa_star"], row["Delta"]))
    assert state.status
    assert state.values["mse"] == pytest.approx(row["mse"], rel=2e-10, abs=0)
    assert state.values["xi"] == pytest.approx(row["xi"], rel=2e-10, abs=0)


@pytest.mark.parametrize(("k", "xi"), [(0.3, 0.05), (0.3, 1.0), (1.5, 0.2), (0.9, 1e-4), (0.3, 1e-6)])
def test_the_information_of_a_spectrum(k: float, xi: float) -> None:
    """Against adaptive quadrature, and  int rho h^2 = (pi^2/3) int rho^3."""
    law = FreeConvolution(k, xi)
    direct = other = 0.0
    for low, high in law.edges().reshape(-1, 2):
        middle, radius = (low + high) / 2, (high - low) / 2

        def at(theta: float, middle: float = middle, radius: float = radius) -> tuple[float, float, float]:
            g = law.transform(middle - radius * math.cos(theta)).item()
            return -g.imag / math.pi, g.real, radius * math.sin(theta)

        direct += quad(lambda t, at=at: at(t)[0] ** 3 * at(t)[2], 0, math.pi, limit=200, epsrel=1e-9)[0]
        other += quad(lambda t, at=at: at(t)[0] * at(t)[1] ** 2 * at(t)[2], 0, math.pi, limit=200, epsrel=1e-9)[0]
    assert information(k, xi) == pytest.approx(4 * math.pi**2 / 3 * direct, rel=1e-8)
    assert information(k, xi) == pytest.approx(4 * other, rel=1e-7)


def test_no_weight_decay_beats_the_best_estimator() -> None:
    for alpha, kappa, k, noise in [(0.3, 0.7, 0.5, 0.5), (0.2, 1.0, 0.3, 0.1), (0.6, 0.4, 0.3, 1.0)]:
        network = QuadraticNetwork(alpha, kappa, k, noise)
        best = lf.bayes_optimal(network).values["mse"]
        curve = lf.learning_curve(network, "weight_decay", np.geomspace(1e-3, 2, 30))["mse"]
        assert best < float(curve.min())
        assert best > 0.3 * float(curve.min())


def test_recovery_without_noise() -> None:
    for k, edge in [(0.3, 0.255), (1.4, 0.5)]:
        network = QuadraticNetwork(edge, 0.5, k)
        assert lf.bayes_optimal(replace(network, alpha=edge * (1 + 1e-12))).values["mse"] == 0.0
        below = lf.bayes_optimal(replace(network, alpha=edge - 1e-3)).values["mse"]
        assert 0 < below < 0.05
        assert lf.thresholds(network).alpha_bayes == pytest.approx(edge, rel=1e-15)


def test_the_error_falls_with_samples_and_grows_with_noise() -> None:
    network = QuadraticNetwork(0.3, 0.5, 0.3, 0.5)
    errors = [lf.bayes_optimal(replace(network, alpha=a)).values["mse"] for a in (0.01, 0.3, 2.0, 100.0)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 1 + 1 / 0.3
    assert lf.bayes_optimal(replace(network, alpha=math.inf)).values["mse"] == 0.0
    noises = [lf.bayes_optimal(replace(network, noise_variance=v)).values["mse"] for v in (0.0, 1e-8, 1.0, 100.0)]
    assert noises == sorted(noises)
    assert noises[1] == pytest.approx(noises[0], abs=1e-6)


def test_wide_networks_solve_the_convex_problem() -> None:
    network = QuadraticNetwork(0.3, 0.35, 0.3, 0.5, 0.3)
    convex = lf.nuclear_norm(network)
    assert convex.values == lf.stationary(replace(network, kappa=1.7)).values
    assert convex.problem == replace(network, kappa=1.0)
    assert convex.values["rank"] < 1
    wide = replace(network, kappa=convex.values["rank"] * 1.001)
    assert dict(lf.stationary(wide).values) == pytest.approx(dict(convex.values), rel=1e-13)
    assert lf.nuclear_norm(replace(network, kappa=1.2)).problem == replace(network, kappa=1.2)


def test_the_convex_optimality_condition() -> None:
    """The least loss + lambda tau(Z) of all widths is that of the widest."""
    from lossflow.laws.tails import mean_above, quantile

    def objective(kappa: float) -> float:
        values = lf.stationary(QuadraticNetwork(0.3, kappa, 0.3, 0.5, 0.1)).values
        omega = quantile(kappa, values["xi"], 0.3, 1.0) if kappa < 1 else -math.inf
        trace = mean_above(max(omega, values["q"]), values["xi"], 0.3) - values["q"] * values["rank"]
        return values["loss"] + 0.1 * trace

    found = [objective(kappa) for kappa in (0.1, 0.2, 0.3, 1.0)]
    assert found == sorted(found, reverse=True)


def test_misuse() -> None:
    for ask in (lf.bayes_optimal, lf.nuclear_norm):
        with pytest.raises(lf.InvalidInput, match="QuadraticNetwork"):
            ask(lf.CPDecomposition())  # type: ignore[arg-type]
