"""The flow through JAX, on whatever device it has, against the flow on the processor. Skipped where JAX is not installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from tests.contracts.catalog import CASES, Case

import lossflow as lf
from lossflow.checkpoint import Checkpoint
from lossflow.simulate.ensemble import Ensemble, run_ensemble
from lossflow.simulate.gradients import compiled

needs_jax = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="the extra `gpu` is not installed")
TOLERANCE = 1e-10


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSFLOW_CACHE", str(tmp_path))


def ensemble(case: Case, times: np.ndarray, accelerated: bool, runs: int = 3) -> Ensemble:
    loss = case.problem.as_diagrams()
    sizes = loss.require(case.sizes)
    return run_ensemble(
        compiled(loss, sizes),
        lambda run: case.problem.as_sample(sizes, run, 4),
        runs,
        times,
        TOLERANCE,
        Checkpoint("test", f"{accelerated}"),
        accelerated,
    )


@needs_jax
@pytest.mark.parametrize("name", ["matrix", "matrix-scaled", "cubic", "network", "pinned"])
@pytest.mark.parametrize("times", [np.linspace(0, 1, 6), np.array([-0.05, 0.0, 0.2])], ids=["forward", "both"])
def test_every_run_equals_that_of_the_processor(name: str, times: np.ndarray) -> None:
    here, there = ensemble(CASES[name], times, False), ensemble(CASES[name], times, True)
    np.testing.assert_array_equal(here.outcome, there.outcome)
    gap = np.abs(here.loss - there.loss)
    assert (gap <= 1e-9 * np.abs(here.loss) + 8 * np.finfo(float).eps * here.scale).all()
    assert np.isfinite(here.loss).all()


@needs_jax
def test_constraints_and_fixed_indices_are_carried_over() -> None:
    """Gathers, scatters and spreads: a loss with a linear relation among its nodes and a pinned node."""
    u, v = lf.Tensor("u", ("H", "p")), lf.Tensor("v", ("H", "p"))
    related = lf.diagram(u("k", "i"), v("k", "j"), u("k", "l"), constraints=[{"i": 1, "j": 1, "l": -1}])
    square = lf.diagram(u("k", "i"), u("k", "i")) + lf.diagram(v("k", "i"), v("k", "i"))
    pinned = lf.diagram(u("k", lf.pin(2)), v("k", lf.pin(1)))
    problem = lf.PolynomialProblem(square + related - pinned)
    case = Case(problem, {"p": 5, "H": 3, "sigma2": 0.1}, lambda tensors: 0.0)
    times = np.linspace(0, 0.6, 4)
    here, there = ensemble(case, times, False), ensemble(case, times, True)
    gap = np.abs(here.loss - there.loss)
    assert (gap <= 1e-9 * np.abs(here.loss) + 8 * np.finfo(float).eps * here.scale).all()


@needs_jax
def test_blow_up_is_found_at_the_same_time() -> None:
    times = np.array([-2.0, -1.0, 0.0])
    here, there = ensemble(CASES["quartic"], times, False), ensemble(CASES["quartic"], times, True)
    np.testing.assert_array_equal(here.outcome, there.outcome)
    np.testing.assert_allclose(here.end, there.end, rtol=1e-9)


def test_without_jax_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.__import__

    def without(name: str, *rest: object, **named: object) -> object:
        if name.split(".")[0] == "jax":
            raise ImportError(name)
        return real(name, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(lf.InvalidInput, match=r"lossflow\[gpu\]"):
        ensemble(CASES["matrix"], np.linspace(0, 1, 3), True)


@needs_jax
def test_the_method_takes_it_as_a_setting() -> None:
    problem, sizes, times = lf.CPDecomposition(order=2), {"p": 6, "H": 4, "sigma2": 0.1}, np.linspace(0, 0.5, 4)
    here = lf.solve(problem, lf.Simulation(sizes, runs=3), times)
    there = lf.solve(problem, lf.Simulation(sizes, runs=3, backend="jax"), times)
    np.testing.assert_allclose(there.details["runs"]["loss"], here.details["runs"]["loss"], rtol=1e-9)
    assert lf.compare(here, there).agree


def test_models_of_data_have_one_backend() -> None:
    problem = lf.GeneralizedLinear(lf.Logistic(), lf.SignLabels(), delta=2.0)
    with pytest.raises(lf.InvalidInput, match="leave backend"):
        lf.solve(problem, lf.Simulation({"d": 10}, backend="jax"), [0.1])
