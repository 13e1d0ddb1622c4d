"""End states of quadratic networks against tables, fifty digits and a slow road; limits and misuse."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
from tests.spectral import extended
from tests.spectral.slow_route import Route

import lossflow as lf
from lossflow.laws.tails import quantile
from lossflow.problems.quadratic import QuadraticNetwork
from lossflow.spectral import branches, long_time
from lossflow.spectral.long_time import OBSERVABLES, end_state, end_states
from lossflow.spectral.spectrum import spectrum

TABLE = json.loads((Path(__file__).parents[1] / "reference" / "quadratic.json").read_text(encoding="utf-8"))
NETWORK = QuadraticNetwork(alpha=0.3, kappa=0.4, kappa_star=0.3, noise_variance=0.5, weight_decay=0.01)


def network(row: dict[str, Any], decay: Any) -> QuadraticNetwork:
    return QuadraticNetwork(row["alpha"], row["kappa"], row["kappa_star"], row["Delta"], decay)


def close(value: float, reference: float) -> bool:
    return value == pytest.approx(reference, rel=1e-11, abs=0)


@pytest.mark.parametrize("row", TABLE["settings"], ids=lambda row: f"{row['alpha']}-{row['lam']}")
def test_the_table_of_end_states(row: dict[str, Any]) -> None:
    state = lf.stationary(network(row, row["lam"]))
    assert state.status
    for name, column in {"loss": "train_loss", "q": "q", "xi": "xi", "mse": "mse", "rank": "rank"}.items():
        assert close(state.values[name], row[column]), name
    assert close(state.values["in_sample_error"], row["in_sample_error"])
    law = spectrum(state)
    assert close(law.upper, row["top_eig"])
    assert law.lower == pytest.approx(row["smallest_nonzero_eig"], rel=1e-11, abs=0)
    assert (law.lower > 0) is row["width_constraint_active"]
    assert law.atom == 1 - state.values["rank"]


@pytest.mark.parametrize("row", TABLE["lambda_zero_plus"], ids=lambda row: row["branch"])
def test_the_table_of_vanishing_weight_decay(row: dict[str, Any]) -> None:
    state = lf.stationary(network(row, "0+"))
    assert close(state.values["xi"], row["xi"])
    assert close(state.values["mse"], row["mse"])
    assert state.values["q"] == pytest.approx(row.get("q", 0.0), rel=1e-11, abs=0)
    assert state.values["loss"] == pytest.approx(row["loss_train"], rel=1e-11, abs=0)
    assert state.values["in_sample_error"] == pytest.approx(row["ise"], rel=1e-11, abs=0)


# alpha, kappa, kappa_star, noise, weight decay; xi from 7e-8 to 2e3, weight decay from 2e-4
HARD = [
    (0.6, 0.7, 0.5, 0.0, 2e-4),
    (0.6, 1.0, 0.5, 0.0, 2e-4),
    (0.9, 0.31, 0.3, 0.0, 2e-4),
    (0.49, 0.5, 0.3, 0.0, 1e-3),
    (2.0, 1.5, 1.2, 0.0, 2e-4),
    (0.3, 0.4, 0.3, 0.5, 2e-4),
    (0.2876, 0.4, 0.3, 1.0, 2e-4),
    (0.11, 0.0749, 0.0239, 5.3895, 1.588e-4),
    (0.3, 0.7, 100.0, 0.5, 0.1),
    (0.2, 0.4, 0.98, 0.1, 0.01),
]


@pytest.mark.parametrize("setting", HARD, ids=str)
def test_every_digit_holds_in_fifty(setting: tuple[float, ...]) -> None:
    state = end_state(QuadraticNetwork(*setting))
    for found in state.branches or (state,):
        values = found.values
        omega = quantile(setting[1], values["xi"], setting[2], 1.0) if setting[1] < 1 else -math.inf
        exact = extended.end_state((values["q"], values["xi"], omega), *setting)
        for name, reference in exact.items():
            with mpmath.workdps(extended.DIGITS):
                assert abs(values[name] / reference - 1) < 1e-11, name


def test_hard_settings_reach_the_smallest_xi() -> None:
    least = min(end_state(QuadraticNetwork(*setting)).values["xi"] for setting in HARD)
    assert 1e-8 < least < 1e-7


SLOW_SETTINGS = [(0.3, 0.7, 0.5, 0.0, 0.5), (0.28, 0.4, 0.3, 0.5, 0.05)]


@pytest.mark.parametrize("setting", SLOW_SETTINGS, ids=str)
def test_the_state_solves_the_equations_by_quadrature(setting: tuple[float, ...]) -> None:
    """Adaptive quadrature of numpy's roots; omega and q by bracketing, at the xi that was found."""
    values = end_state(QuadraticNetwork(*setting)).values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the quadrature dislikes the edges
        slow = Route(*setting, tolerance=1e-8).mse(values["xi"])
    for name in ("q", "mse", "rank"):
        assert values[name] == pytest.approx(getattr(slow, name), rel=1e-7), name
    assert 2 * setting[0] * values["xi"] == pytest.approx(slow.mse + setting[3] / 2, rel=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("setting", SLOW_SETTINGS, ids=str)
def test_a_road_that_shares_nothing(setting: tuple[float, ...]) -> None:
    """The same, with xi by bracketing too."""
    values = end_state(QuadraticNetwork(*setting)).values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        slow = Route(*setting, tolerance=1e-6).solve(values["xi"] * 0.9, values["xi"] * 1.15)
    for name in ("q", "xi", "mse", "rank"):
        assert values[name] == pytest.approx(getattr(slow, name), rel=1e-5), name


@pytest.mark.parametrize("branch", [0.2, 0.5], ids=["interpolating", "over-determined"])
@pytest.mark.parametrize("kappa", [0.4, 1.0])
def test_vanishing_weight_decay_is_the_limit(branch: float, kappa: float) -> None:
    limit = end_state(QuadraticNetwork(branch, kappa, 0.3, 0.5, "0+")).values
    gaps = []
    for decay in (1e-5, 1e-6):
        near = end_state(QuadraticNetwork(branch, kappa, 0.3, 0.5, decay)).values
        gaps.append([abs(near[name] - limit[name]) for name in OBSERVABLES])
        assert near["mse"] == pytest.approx(limit["mse"], rel=100 * decay)
    for coarse, fine in zip(*gaps, strict=True):
        assert fine <= 0.2 * coarse + 1e-12


def test_vanishing_noise_is_the_limit() -> None:
    """Of every observable of a state without noise, approached linearly in the noise."""
    for alpha, decay in [(0.2, "0+"), (0.35, 0.05), (0.5, "0+")]:
        clean = end_state(QuadraticNetwork(alpha, 0.4, 0.3, 0.0, decay)).values
        noisy = end_state(QuadraticNetwork(alpha, 0.4, 0.3, 1e-9, decay)).values
        # a recovered teacher has rank kappa_star, and any noise fills the width
        for name in ("mse", "loss", "in_sample_error", "rank")[: 4 if clean["xi"] else 3]:
            assert noisy[name] == pytest.approx(clean[name], rel=1e-6, abs=1e-8), name


def test_many_samples_lead_to_the_population() -> None:
    for decay in ("0+", 0.05, 0.5, 50.0):
        for kappa in (0.2, 0.4, 1.2):
            population = end_state(QuadraticNetwork(math.inf, kappa, 0.3, 0.5, decay)).values
            near = end_state(QuadraticNetwork(1e7, kappa, 0.3, 0.5, decay)).values
            assert population["xi"] == 0.0
            for name in ("mse", "loss", "in_sample_error", "rank", "q"):
                # the kernel of the teacher spreads to sqrt(xi), which only the rank at vanishing weight decay counts
                if not (decay == "0+" and name == "rank"):
                    assert near[name] == pytest.approx(population[name], rel=1e-5, abs=3e-7), name
            # E (Z - Z*)^2 by the eigenvalues themselves
            k, size = 0.3, 400
            random = np.random.default_rng(1)
            factor = random.standard_normal((size, int(k * size)))
            x = np.linalg.eigvalsh(factor @ factor.T / (k * size))[::-1]
            shrunk = np.maximum(x - (0.0 if decay == "0+" else decay), 0.0)
            shrunk[int(kappa * size) :] = 0.0
            assert population["mse"] == pytest.approx(np.mean((shrunk - x) ** 2), rel=0.05, abs=1e-20)


def test_heavy_weight_decay_ends_at_zero() -> None:
    values = end_state(replace(NETWORK, weight_decay=100.0)).values
    assert values["mse"] == pytest.approx(1 + 1 / 0.3, rel=1e-14)
    assert values["rank"] == 0.0
    assert values["q"] == 100.0
    assert values["loss"] == pytest.approx((2 * (1 + 1 / 0.3) + 0.5) / 4, rel=1e-14)  # of W = 0


def test_a_width_beyond_the_rank_makes_no_difference() -> None:
    wide = end_state(replace(NETWORK, kappa=1.0, weight_decay=0.3))
    assert end_state(replace(NETWORK, kappa=wide.values["rank"] + 1e-9, weight_decay=0.3)).values == pytest.approx(
        dict(wide.values), rel=1e-12
    )
    narrow = end_state(replace(NETWORK, kappa=wide.values["rank"] - 0.01, weight_decay=0.3))
    assert narrow.values["rank"] == wide.values["rank"] - 0.01
    assert narrow.values["mse"] != pytest.approx(wide.values["mse"], rel=1e-6)


def test_recovery() -> None:
    recovered = end_state(QuadraticNetwork(0.4, 0.5, 0.3, 0.0, "0+"))
    assert dict(recovered.values) == {
        "q": 0.0,
        "xi": 0.0,
        "mse": 0.0,
        "loss": 0.0,
        "in_sample_error": 0.0,
        "rank": 0.3,
    }
    for kappa in (0.35, 0.5, 1.0, 1.4):
        edge = lf.thresholds(QuadraticNetwork(0.3, kappa, 0.3)).alpha_recovery_regularized
        assert end_state(QuadraticNetwork(edge * (1 + 1e-9), kappa, 0.3, 0.0, "0+")).values["mse"] == 0.0
        assert end_state(QuadraticNetwork(edge * (1 - 1e-4), kappa, 0.3, 0.0, "0+")).values["mse"] > 0.0
    narrow = end_state(QuadraticNetwork(5.0, 0.2, 0.3, 0.0, "0+"))
    assert narrow.values["mse"] > 0.1


def test_on_the_threshold_of_equal_widths_the_search_ends() -> None:
    """At kappa = kappa_star and alpha = kappa - kappa^2/2 every xi of an interval solves the equations to all digits."""
    state = end_state(QuadraticNetwork(0.3 - 0.3**2 / 2, 0.3, 0.3, 0.0, "0+"))
    assert state.status
    assert state.values["mse"] == 0.0


def test_the_regularized_loss_is_stationary() -> None:
    """loss + lambda tau(Z) is a minimum over W, so its derivative by lambda is tau(Z) alone."""
    from lossflow.laws.tails import mean_above

    def trace_and_loss(decay: float) -> tuple[float, float]:
        values = end_state(replace(NETWORK, weight_decay=decay)).values
        b = max(values["q"], quantile(0.4, values["xi"], 0.3, 1.0))
        trace = mean_above(b, values["xi"], 0.3) - values["q"] * values["rank"]
        return trace, values["loss"] + decay * trace

    h = 1e-5
    slope = (trace_and_loss(0.1 + h)[1] - trace_and_loss(0.1 - h)[1]) / (2 * h)
    assert slope == pytest.approx(trace_and_loss(0.1)[0], rel=1e-8)


def test_the_spectrum_holds_the_moments_of_the_state() -> None:
    state = end_state(QuadraticNetwork(0.28, 0.4, 0.3, 0.5, 0.05))
    law = spectrum(state)
    x = law.lower + (law.upper - law.lower) * (1 - np.cos(np.linspace(0, np.pi, 4001))) / 2
    mass = np.trapezoid(law.density(x), x)
    assert mass == pytest.approx(1 - law.atom, rel=1e-3)
    assert (law.density([law.lower / 2, law.upper + 0.1, -1.0]) == 0).all()
    with pytest.raises(lf.InvalidInput, match="xi > 0"):
        spectrum(end_state(QuadraticNetwork(0.4, 0.5, 0.3, 0.0, "0+")))


def test_several_states() -> None:
    state = end_state(QuadraticNetwork(0.11, 0.0749, 0.0239, 5.3895, 1.588e-4))
    assert [branch.values["xi"] for branch in state.branches] == sorted(b.values["xi"] for b in state.branches)
    assert len(state.branches) == 3
    assert dict(state.branches[0].values) == dict(state.values)
    assert "smallest xi" in state.status.reason
    assert "first of 3" in state.status.reason
    assert end_state(NETWORK).branches == ()
    assert "only" in end_state(NETWORK).status.reason


def test_compiled_and_plain_path_agree() -> None:
    problems = [replace(NETWORK, alpha=a) for a in np.linspace(0.05, 0.8, 5)] + [replace(NETWORK, alpha=math.inf)]
    few = end_states(problems)
    for j, problem in enumerate(problems):
        assert {name: few.values[name][j] for name in OBSERVABLES} == dict(end_state(problem).values)
    assert few.settled.all()
    assert (few.number == 1).all()


@pytest.mark.slow
def test_machine_code_gives_the_same_states(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = [replace(NETWORK, alpha=float(a)) for a in np.linspace(0.05, 0.8, 40)]
    plain = end_states(problems)
    monkeypatch.setattr(long_time, "FEW", 1)
    fast = end_states(problems)
    for name in OBSERVABLES:
        assert fast.values[name] == pytest.approx(plain.values[name], rel=1e-12)


def test_zero_weight_decay_is_refused_with_a_hint() -> None:
    for ask in (lf.stationary, lf.nuclear_norm):
        with pytest.raises(lf.InvalidInput, match=r'weight_decay="0\+"'):
            ask(replace(NETWORK, weight_decay=0.0))


@pytest.mark.parametrize(
    "setting",
    [
        (1e300, 0.3, 0.3, 0.3, 0.3),
        (0.3, 0.3, 1e-300, 0.3, 0.3),
        (0.3, 0.3, 0.3, 1e300, 0.3),
        (1e-300, 0.3, 0.3, 0.3, 0.3),
    ],
    ids=str,
)
def test_parameters_beyond_double_precision_are_no_numbers(setting: tuple[float, ...]) -> None:
    state = end_state(QuadraticNetwork(*setting))
    assert not state.status
    assert state.status.reason
    assert all(math.isnan(value) for value in state.values.values())
    many = end_states([QuadraticNetwork(*setting)])
    assert not many.settled[0]
    assert all(np.isnan(column[0]) for column in many.values.values())


def test_what_rounding_leaves_is_said() -> None:
    state = end_state(QuadraticNetwork(1e-6, 0.4, 0.3, 0.5, 0.01))
    assert state.status
    assert "rounding leaves" in state.status.reason


def test_a_search_that_does_not_settle_is_no_complete_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branches, "_polish", lambda low, *rest: (math.exp(low), False))
    state = end_state(NETWORK)
    assert not state.status
    assert "did not settle" in state.status.reason
