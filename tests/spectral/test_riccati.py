"""The population flow: closed form against the table, an integrator and many digits; its average and its power laws."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import lossflow as lf
from lossflow.laws import population_flow as averaged
from lossflow.laws.free_convolution import FreeConvolution
from lossflow.laws.population_flow import population_flow
from lossflow.laws.semicircle import density as semicircle_density
from lossflow.laws.semicircle import quantile_above
from lossflow.problems.quadratic import QuadraticNetwork
from lossflow.spectral.riccati import late_distance, late_distance_bound, oja

TABLE = json.loads((Path(__file__).parents[1] / "reference" / "quadratic.json").read_text(encoding="utf-8"))["riccati"]
INDEX = np.arange(4)
A = 1 / (1 + np.abs(INDEX[:, None] - INDEX)) - 0.9 * np.eye(4)
W = 0.4 * np.cos(INDEX[:, None] + 2 * np.arange(2) + 1)


def test_the_table() -> None:
    times = [row["t"] for row in TABLE["values"]]
    assert max(times) == 50.0
    for found, row in zip(oja(A, W, times), TABLE["values"], strict=True):
        assert found == pytest.approx(np.array(row["Z"]), rel=1e-11, abs=0)


def test_other_times_in_the_grid_change_no_value() -> None:
    alone = np.array([oja(A, W, t)[0] for t in (0.3, 2.0, 30.0)])
    assert oja(A, W, [0.1, 0.3, 2.0, 7.7, 30.0])[[1, 2, 4]] == pytest.approx(alone, rel=1e-13)
    assert oja(A, W, 0.0)[0] == pytest.approx(W @ W.T, rel=1e-14)


def test_an_integrator() -> None:
    def flow(_: float, flat: np.ndarray) -> np.ndarray:
        w = flat.reshape(W.shape)
        return (2 * (A - w @ w.T) @ w).ravel()

    w = solve_ivp(flow, (0, 3), W.ravel(), "DOP853", rtol=1e-12, atol=1e-13).y[:, -1].reshape(W.shape)
    assert oja(A, W, 3.0)[0] == pytest.approx(w @ w.T, rel=1e-9)
    assert oja(A, W, 6.0, speed=1.0) == pytest.approx(oja(A, W, 3.0, speed=2.0), rel=1e-12)


def test_four_hundred_digits() -> None:
    """The formula itself, which at t = 40 needs some seventy digits."""
    with mpmath.workdps(400):
        a, basis = mpmath.eigsy(mpmath.matrix(A.tolist()))
        w = basis.T * mpmath.matrix(W.tolist())
        t = mpmath.mpf(40)
        grown = mpmath.diag([mpmath.exp(2 * x * t) for x in a]) * w
        phi = mpmath.diag([mpmath.expm1(4 * x * t) / x for x in a])
        exact = basis * grown * mpmath.inverse(mpmath.eye(2) + w.T * phi * w) * grown.T * basis.T
    exact = np.array(exact.tolist(), dtype=float)
    assert oja(A, W, 40.0)[0] == pytest.approx(exact, rel=1e-13, abs=1e-15)


def test_eigenvalues_at_zero() -> None:
    """Ẇ = -2 W W^T W has Z(t) = Z0 (1 + 4 t Z0)^{-1}."""
    start = W @ W.T
    exact = start @ np.linalg.inv(np.eye(4) + 4 * 1.7 * start)
    assert oja(np.zeros((4, 4)), W, 1.7)[0] == pytest.approx(exact, rel=1e-12)


def test_the_end_is_the_positive_part() -> None:
    a, basis = np.linalg.eigh(A)
    kept = np.maximum(a, 0) * (np.argsort(np.argsort(-a)) < 2)
    assert oja(A, W, 400.0)[0] == pytest.approx((basis * kept) @ basis.T, abs=1e-13)


@pytest.mark.parametrize(
    "wrong",
    [
        {"A": np.ones((2, 3))},
        {"A": np.array([[0.0, 1.0], [0.0, 0.0]]), "W": np.ones((2, 1))},
        {"W": np.ones((3, 2))},
        {"times": [1.0, 0.5]},
        {"times": -1.0},
        {"times": math.nan},
        {"speed": 0.0},
    ],
    ids=str,
)
def test_arguments_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(lf.InvalidInput):
        oja(**{"A": A, "W": W, "times": 1.0, **wrong})


def sampled(kappa: float, k: float, decay: float, gamma: float, times: list[float], d: int) -> tuple[np.ndarray, ...]:
    """mse, overlap, trace of flows of dimension d, two runs."""
    random = np.random.default_rng(3)
    runs = []
    for _ in range(2):
        factor = random.standard_normal((d, round(k * d)))
        teacher = factor @ factor.T / round(k * d)
        start = random.standard_normal((d, round(kappa * d))) * math.sqrt(gamma / round(kappa * d))
        flow = oja(teacher - decay * np.eye(d), start, times)
        overlap = [np.sum(z * teacher) / math.sqrt(np.sum(z * z) * np.sum(teacher**2)) for z in flow]
        runs.append([[np.sum((z - teacher) ** 2) / d for z in flow], overlap, [np.trace(z) / d for z in flow]])
    return tuple(np.mean(runs, axis=0))


@pytest.mark.parametrize(
    ("kappa", "k", "decay", "gamma"), [(0.4, 0.3, 0.05, 1.0), (0.2, 0.5, 0.0, 0.3), (1.2, 1.5, 0.3, 0.5)], ids=str
)
def test_the_average_is_that_of_large_samples(kappa: float, k: float, decay: float, gamma: float) -> None:
    times = [0.0, 0.05, 0.3, 1.0, 4.0]
    found = population_flow(kappa, k, decay, gamma, times)
    mse, overlap, trace = sampled(kappa, k, decay, gamma, times, 300)
    # one run differs by 2% at d = 300; a wrong second moment would by 20%
    assert found["mse"] == pytest.approx(mse, rel=0.03)
    assert found["overlap"] == pytest.approx(overlap, rel=0.025)
    assert found["trace"] == pytest.approx(trace, rel=0.015)


@pytest.mark.parametrize(("kappa", "decay"), [(0.4, 0.05), (0.2, 0.05), (0.2, "0+"), (1.3, 0.6)], ids=str)
def test_the_average_ends_in_the_end_state(kappa: float, decay: Any) -> None:
    end = lf.stationary(QuadraticNetwork(math.inf, kappa, 0.3, 0.0, decay)).values
    late = population_flow(kappa, 0.3, 0.0 if decay == "0+" else decay, 0.7, [1e3, 1e5])["mse"]
    gaps = np.abs(late - end["mse"])
    assert gaps[1] <= 1e-4 * (1 + end["mse"])
    assert gaps[1] <= 0.02 * gaps[0] + 1e-10


def test_the_average_starts_at_the_start_and_moves_by_the_flow() -> None:
    """d tau(Z)/dt = 4 tau((Z* - lambda - Z) Z) at t = 0, with Z(0) independent of Z*."""
    kappa, k, decay, gamma, dt = 0.4, 0.3, 0.1, 0.6, 1e-5
    found = population_flow(kappa, k, decay, gamma, [0.0, dt, 2 * dt])
    assert found["mse"][0] == pytest.approx(gamma**2 * (1 + 1 / kappa) - 2 * gamma + 1 + 1 / k, rel=1e-12)
    assert found["trace"][0] == pytest.approx(gamma, rel=1e-14)
    slope = (4 * found["trace"][1] - found["trace"][2] - 3 * found["trace"][0]) / (2 * dt)
    assert slope == pytest.approx(4 * (gamma * (1 - decay) - gamma**2 * (1 + 1 / kappa)), rel=1e-6)


@pytest.mark.parametrize("wrong", [{"kappa": 0.0}, {"kappa_star": math.inf}, {"weight_decay": -1.0}, {"times": [-1.0]}])
def test_averages_that_make_no_sense(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {"kappa": 0.4, "kappa_star": 0.3, "weight_decay": 0.1, "init_variance": 1.0, "times": [1.0]}
    with pytest.raises(lf.InvalidInput):
        population_flow(**{**right, **wrong})


def test_the_average_is_resolved_at_all_times(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [0.0, 1e-3, 0.1, 1.0, 30.0, 1e4]
    for arguments in [(0.4, 0.3, 0.05, 1.0), (0.2, 0.3, 0.0, 1e-3), (0.5, 1.0, 0.3, 2.0), (0.5, 4.0, 0.01, 0.5)]:
        found = population_flow(*arguments, times)
        with monkeypatch.context() as finer:
            finer.setattr(averaged, "NODES_PER_PANEL", 31)
            finer.setattr(averaged, "BASE_PANELS", 11)
            for name, values in population_flow(*arguments, times).items():
                assert found[name] == pytest.approx(values, rel=1e-10), (name, arguments)


def test_power_laws() -> None:
    """t^-3 where the width covers the positive part of A = Z* - lambda, t^-1 where it cuts: each to a percent at late times."""
    k, decay = 0.3, 2.0

    def density(x: float) -> float:
        low, high = (1 - k**-0.5) ** 2, (1 + k**-0.5) ** 2
        return k / (2 * math.pi * x) * math.sqrt((x - low) * (high - x))

    times = np.array([30.0, 300.0, 3000.0])
    wide = population_flow(0.4, k, decay, 1.0, times)["distance"] / late_distance(density(decay), times)
    cut = end_of(0.1, k)
    narrow = population_flow(0.1, k, decay, 1.0, times)["distance"]
    narrow = narrow / late_distance_bound(density(cut), cut - decay, times)
    for ratio in (wide, narrow):
        assert ratio[-1] == pytest.approx(1.0, rel=0.01)
        assert abs(ratio[1] - 1) < 0.3 * abs(ratio[0] - 1)


def end_of(kappa: float, k: float) -> float:
    """The top-kappa quantile of the teacher, from a law with next to no noise."""
    return FreeConvolution(k, 1e-14).quantile(kappa)


def test_power_laws_of_a_semicircle_at_finite_size() -> None:
    """The authors' clock: within what a few eigenvalues decide at d = 300."""
    random = np.random.default_rng(0)
    d = 300
    noise = random.standard_normal((d, d))
    a, basis = np.linalg.eigh((noise + noise.T) / math.sqrt(2 * d))
    m = round(0.2 * d)
    start = random.standard_normal((d, m)) / math.sqrt(m)
    flow = oja((basis * a) @ basis.T, start, [20.0], speed=1.0)[0]
    end = (basis * np.where(np.arange(d) >= d - m, a, 0)) @ basis.T
    omega = quantile_above(0.2)
    expected = late_distance_bound(semicircle_density(omega), omega, 20.0, speed=1.0)
    assert np.sum((flow - end) ** 2) / d == pytest.approx(expected, rel=0.25)
