"""Simulation as users call it: what comes back, against references computed elsewhere, and how misuse is answered."""

from __future__ import annotations

import dataclasses
import json
import pickle
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lossflow as lf
from lossflow import memory
from lossflow.simulate import flow
from lossflow.simulate.gradients import Program

REFERENCES: dict[str, Any] = json.loads((Path(__file__).parent.parent / "reference" / "diagrams.json").read_text())[
    "simulations"
]
MATRIX = {"p": 10, "H": 6, "sigma2": 0.1}


# --- references: ensembles of another program with other seeds (tests/reference/README.md)


def assert_agrees(name: str, runs: int) -> None:
    """Two independent estimates of one mean, at each time within four standard errors of their difference.

    With 5 or 6 correlated times and few runs (Student's t) a true mean exceeds four about once in a hundred ensembles; the
    seed is fixed.
    """
    reference = REFERENCES[name]
    params = reference["params"]
    problem = lf.CPDecomposition(
        order=params["nu"],
        symmetric=params["scenario"] == "SYM",
        target=lf.Zero() if params.get("free") else lf.Identity(),
    )
    times = np.array(reference["t"]) / params["T"]  # du/dt = -(1/T) dL/du there
    sizes = {name: params[name] for name in ("p", "H", "sigma2")}
    found = lf.solve(problem, lf.Simulation(sizes, runs=runs, tolerance=1e-6), times)
    assert found.status
    theirs, error = np.array(reference["mean"]), np.array(reference["stderr"])
    if "rho" in params:
        theirs = theirs + params["p"] / 2  # the values there are L - p/2
    sigmas = np.abs(found.values["loss"] - theirs) / np.hypot(found.uncertainty["loss"], error)
    assert (sigmas < 4).all(), sigmas


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("sym_nu2_p128_H64_psig2_1.0", 12),
        ("sym_nu2_p64_H16_psig2_16.0", 16),
        ("free_asym3_under_p32_H16", 16),
        ("free_sym4_p32_H256", 6),
    ],
)
def test_mean_of_another_program(name: str, runs: int) -> None:
    assert_agrees(name, runs)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_mean_of_another_program_with_more_runs(name: str) -> None:
    assert_agrees(name, 16)


# --- what comes back


def test_a_trajectory_with_everything() -> None:
    problem = lf.CPDecomposition(order=2)
    method = lf.Simulation(MATRIX, runs=5, seed=2)
    times = np.linspace(0, 1, 6)
    found = lf.solve(problem, method, times)
    runs = found.details["runs"]["loss"]
    assert found.status.kind == "complete"
    assert runs.shape == (5, 6)
    assert (found.values["loss"] == np.mean(runs, axis=0)).all()
    sampling = np.std(runs, axis=0, ddof=1) / np.sqrt(5)
    assert found.uncertainty["loss"] == pytest.approx(sampling, rel=1e-6)
    assert np.isnan(found.details["blow_up_times"]).all()
    assert found.details["steps"].shape == (5,)
    assert (found.details["steps"] > 10).all()
    assert found.references == ("YGG26v2",)
    assert (found.problem, found.method, found.dynamics) == (problem, method, lf.GradientFlow())


def test_the_start_is_what_the_problem_draws() -> None:
    problem = lf.CPDecomposition(order=3, symmetric=False)
    found = lf.solve(problem, lf.Simulation(MATRIX, runs=3, seed=7), [0.0])
    program = Program(problem.as_diagrams(), MATRIX)
    for run in range(3):
        values, _ = program({name: tensor[None] for name, tensor in problem.as_sample(MATRIX, run, 7).items()})
        assert found.details["runs"]["loss"][run, 0] == values[0]


def test_the_mean_follows_the_exact_mean_at_the_start() -> None:
    """E L(0) = (p^2 H + p H^2 + p H) sigma2^2/2 - p H sigma2 + p/2, docs/theory/diagrams.md section 4 [YGG26v2]."""
    p, H, s = 10, 6, 0.1
    problem = lf.PolynomialProblem(lf.CPDecomposition(order=2).as_diagrams())
    found = lf.solve(problem, lf.Simulation(MATRIX, runs=400), [0.0])
    exact = (p * p * H + p * H * H + p * H) * s**2 / 2 - p * H * s + p / 2
    assert abs(found.values["loss"][0] - exact) < 4 * found.uncertainty["loss"][0]


def test_more_runs_change_no_old_one_and_seeds_differ() -> None:
    problem, times = lf.CPDecomposition(order=2), [0.1, 0.5]
    few, many = (lf.solve(problem, lf.Simulation(MATRIX, runs=n), times).details["runs"]["loss"] for n in (2, 5))
    assert few.tobytes() == many[:2].tobytes()
    other = lf.solve(problem, lf.Simulation(MATRIX, runs=2, seed=1), times).details["runs"]["loss"]
    assert len({*few[:, 0], *other[:, 0]}) == 4


def test_one_run_has_no_standard_error() -> None:
    found = lf.solve(lf.CPDecomposition(order=2), lf.Simulation(MATRIX, runs=1), [0.0, 0.5])
    assert found.status
    assert np.isfinite(found.values["loss"]).all()
    assert (found.uncertainty["loss"] == np.inf).all()


def test_the_uncertainty_knows_of_rounding_and_tolerance() -> None:
    """Without randomness what is left is the tolerance, and where the loss has decayed the rounding of its terms."""
    still = lf.Tensor("v", ("n",), variance=0, mean=2)
    problem = lf.PolynomialProblem(
        Fraction(1, 2) * lf.diagram(still("i"), still("i")) - lf.diagram(still("i")) + Fraction(1, 2) * lf.size("n")
    )
    times = np.array([0.0, 1.0, 30.0])
    found = lf.solve(problem, lf.Simulation({"n": 100}, runs=4, tolerance=1e-6), times)
    exact = 50 * np.exp(-2 * times)
    assert found.uncertainty["loss"][:2] == pytest.approx(1e-6 * exact[:2], rel=1e-3)
    assert 0 < found.uncertainty["loss"][2] < 1e-13
    assert (np.abs(found.values["loss"] - exact) < 4 * found.uncertainty["loss"]).all()


def test_ascent_that_blows_up() -> None:
    """Status and NaN from the first blow-up on; the runs that go on are there."""
    problem = lf.CPDecomposition(order=2)
    times = np.linspace(-0.2, 0.05, 11)
    found = lf.solve(problem, lf.Simulation({"p": 10, "H": 4, "sigma2": 0.1}, runs=6), times)
    blow_up = found.details["blow_up_times"]
    largest = [
        np.linalg.svd(problem.as_sample({"p": 10, "H": 4, "sigma2": 0.1}, run, 0)["u"], compute_uv=False)[0] ** 2
        for run in range(6)
    ]
    exact = np.array([np.log(1 - 1 / lam) / 4 if lam > 1 else np.nan for lam in largest])
    exact[exact < times[0]] = np.nan  # not met
    assert blow_up == pytest.approx(exact, rel=1e-9, nan_ok=True)
    met = np.isfinite(exact)
    assert 1 < met.sum() < 6
    assert found.status.kind == "left_domain"
    assert found.status.last_time == np.nanmax(blow_up)
    assert f"{met.sum()} of 6 runs blow up" in found.status.reason
    assert (np.isnan(found.values["loss"]) == (times <= np.nanmax(blow_up))).all()
    assert (np.isnan(found.uncertainty["loss"]) == np.isnan(found.values["loss"])).all()
    runs = found.details["runs"]["loss"]
    assert (np.isnan(runs) == (times[None] <= np.where(met, exact, -1)[:, None])).all()


def test_a_limit_of_the_computation_is_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "MAX_STEPS", 20)
    found = lf.solve(lf.CPDecomposition(order=2), lf.Simulation(MATRIX, runs=3), [0.01, 1e3])
    assert found.status.kind == "stopped"
    assert found.status.last_time is not None
    assert 0.01 < found.status.last_time < 1e3
    assert "3 of 3 runs stopped" in found.status.reason
    assert np.isnan(found.values["loss"]).tolist() == [False, True]


def test_a_network_of_my_own_descends() -> None:
    """A loss written by the user, with frozen data: non-increasing forward, and its gradient is that of the diagrams."""
    w, a = lf.Tensor("w", ("H", "p")), lf.Tensor("a", ("H",), variance="a2")
    x = lf.Tensor("x", ("p", "N"), variance=1, learned=False)
    one = [a("k"), w("k", "i"), x("i", "n"), w("k", "j"), x("j", "n")]
    two = [a("l"), w("l", "q"), x("q", "n"), w("l", "r"), x("r", "n")]
    problem = lf.PolynomialProblem(Fraction(1, 2) * lf.size("N", -1) * lf.diagram(*one, *two))
    found = lf.solve(
        problem, lf.Simulation({"p": 3, "H": 2, "N": 5, "sigma2": 0.25, "a2": 1}, runs=4), np.linspace(0, 5, 20)
    )
    assert found.status
    assert (np.diff(found.details["runs"]["loss"], axis=1) <= 0).all()
    assert (found.values["loss"] > 0).all()


# --- descriptions and misuse


def test_it_is_a_description() -> None:
    method = lf.Simulation({"p": 4, "H": np.float64(2), "sigma2": 1}, runs=3)
    assert method == lf.Simulation({"H": 2, "sigma2": 1.0, "p": 4}, runs=np.int64(3))  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(method)) == method
    assert lf.Simulation.from_toml(method.to_toml()) == method
    assert eval(repr(method), {"Simulation": lf.Simulation}) == method
    assert [f.name for f in dataclasses.fields(lf.Simulation)] == [
        "sizes",
        "runs",
        "seed",
        "design",
        "tolerance",
        "backend",
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"runs": 0}, "Simulation.runs must be at least 1, got 0"),
        ({"runs": 2.5}, "Simulation.runs must be a whole number"),
        ({"seed": -1}, "Simulation.seed must be >= 0, got -1"),
        ({"tolerance": 0}, "Simulation.tolerance must lie between"),
        ({"tolerance": 0.5}, "Simulation.tolerance must lie between"),
        ({"tolerance": float("nan")}, "Simulation.tolerance must be a number"),
        ({"run": 3}, "Simulation has no field 'run'; did you mean 'runs'"),
    ],
)
def test_wrong_fields(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(lf.InvalidInput, match=message):
        lf.Simulation(MATRIX, **fields)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"p": 4, "H": 2}, "missing 'sigma2'"),
        ({"p": 4, "H": 2, "sigma2": 1, "N": 3}, "no size 'N'"),
        ({"p": 4.5, "H": 2, "sigma2": 1}, "whole number"),
        ({"p": 0, "H": 2, "sigma2": 1}, "whole number >= 1"),
    ],
)
def test_wrong_sizes(sizes: dict[str, float], message: str) -> None:
    with pytest.raises(lf.InvalidInput, match=message):
        lf.solve(lf.CPDecomposition(order=2), lf.Simulation(sizes), [0.0, 1.0])


def test_other_dynamics_are_refused() -> None:
    @dataclasses.dataclass(frozen=True, repr=False)
    class Drift(lf.AbstractDynamics):
        pass

    with pytest.raises(lf.InvalidInput, match=r"Simulation knows GradientFlow\(\) alone, got Drift\(\)"):
        lf.solve(lf.CPDecomposition(order=2), lf.Simulation(MATRIX), [0.0], Drift())


def test_what_does_not_fit_is_refused_before_it_is_built() -> None:
    with pytest.raises(lf.InvalidInput, match=r"one run .* would need .* GiB may be taken; choose smaller sizes"):
        lf.solve(lf.CPDecomposition(order=2), lf.Simulation({"p": 2e6, "H": 3e6, "sigma2": 1}), [0.0])
    with pytest.raises(lf.InvalidInput, match=r"the record of 1000000000 runs at 2 times would need"):
        lf.solve(lf.CPDecomposition(order=2), lf.Simulation(MATRIX, runs=10**9), [0.0, 1.0])
    u = lf.Tensor("u", ("p",))
    relation = lf.diagram(
        u("i"), u("j"), u("k"), u("l"), u("m"), constraints=[{"i": 2, "j": 2, "k": 2, "l": 2, "m": 2}]
    )
    with pytest.raises(lf.InvalidInput, match=r"a table of the solutions of a constraint .* would need"):
        lf.solve(lf.PolynomialProblem(relation), lf.Simulation({"p": 1000, "sigma2": 1}), [0.0])


def test_available_memory_is_plausible() -> None:
    assert 2**26 < memory.available_memory() < 2**45
