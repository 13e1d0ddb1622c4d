"""Figures of large-size limits at small sizes: their verdicts agree, and would not if the limits were off."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lossflow as lf
from lossflow.expansion.resummation import Resummed, resum
from lossflow.expansion.solutions import matrix as matrix_solution
from lossflow.expansion.solutions.explicit import Explicit
from lossflow.figures import free_asym3, free_sym4, matrix_scenarios, ntk_asym3, quartic_ascent, quartic_descent
from lossflow.figures.figure import Outcome

DATA = json.loads((Path(__file__).parents[1] / "reference" / "diagrams.json").read_text())

SCENARIOS: dict[str, Any] = {
    "scenarios": (("1/4", "16"), ("1", "1")),
    "p": ((8, 16, 32), (12, 24, 48)),
    "runs": (200, 80, 32),
    "spans": ((0.001, 1.0), (0.01, 0.5)),
    "times": 6,
}
FREE_3: dict[str, Any] = {
    "over": (4, 5, 7),
    "over_runs": (128, 64, 24),
    "under": (16, 32, 48),
    "under_runs": (64, 32, 16),
    "over_span": 0.4,
    "under_span": (0.03, 1.0),
    "times": 5,
}
FREE_4: dict[str, Any] = {
    "balanced": (8, 10, 12),
    "balanced_runs": (48, 32, 16),
    "ratios": ("1/2",),
    "under": (16, 32, 64),
    "under_runs": (100, 48, 24),
    "over": (3, 4, 5),
    "over_runs": (64, 40, 24),
    "span": (1.0, 100.0),
    "times": 5,
}
KERNEL: dict[str, Any] = {
    "p": {3: 4},
    "widths": {3: (60, 180, 540)},
    "runs": (150, 48, 16),
    "span": (0.1, 0.5),
    "times": 4,
    "orders": (3,),
    "drift_p": 3,
    "drift_widths": (100, 800),
    "drift_runs": 8,
}
ASCENT: dict[str, Any] = {
    "p": 6,
    "thetas": (2.0,),
    "shares": (0.05, 0.2, 0.5, 1.2, 2.5),
    "runs": 10,
    "growing": (4, 8),
    "growing_theta": 1.75,
    "growing_shares": (0.1, 0.3, 0.6, 1.2),
    "curve": (16, 64),
    "noises": (0.3, 8.0),
    "curve_runs": 6,
    "reach": (0.5, 0.05),
    "times": 5,
}
DESCENT: dict[str, Any] = {
    "sizes": (12, 144),
    "noises": ("1/10",),
    "reach": (0.006,),
    "order": 24,
    "runs": 12,
    "last": 0.024,
    "times": 8,
}


def disagreeing(outcome: Outcome) -> list[str]:
    return [f"{verdict.curve}: {verdict.sentence}" for verdict in outcome.verdicts if not verdict.agree]


def complete(outcome: Outcome) -> None:
    """Titles, axes and legends have words, and every verdict a sentence."""
    for verdict in outcome.verdicts:
        assert verdict.sentence
        assert verdict.largest_relative_gap is None or verdict.largest_relative_gap >= 0
    for axes in outcome.pictures[0].canvas.axes:
        if axes.axison and axes.lines:
            assert axes.get_ylabel() or not axes.get_subplotspec().is_first_col()  # type: ignore[union-attr]
            assert axes.get_xlabel() or not axes.get_subplotspec().is_last_row()  # type: ignore[union-attr]
            assert axes.get_title() or not axes.get_subplotspec().is_first_row()  # type: ignore[union-attr]


def test_scenarios_agree_and_would_not_with_another_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = matrix_scenarios.draw(**SCENARIOS)
    assert disagreeing(outcome) == []
    complete(outcome)
    right = matrix_solution.loss
    monkeypatch.setattr(matrix_solution, "loss", lambda *arguments: 1.1 * right(*arguments))
    broken = matrix_scenarios.draw(
        **{**SCENARIOS, "scenarios": (("1/4", "16"),), "p": ((8, 16, 32),), "spans": ((0.001, 1),)}
    )
    assert len(disagreeing(broken)) == 2


@pytest.mark.parametrize(
    ("figure", "small"), [(free_asym3, FREE_3), pytest.param(free_sym4, FREE_4, marks=pytest.mark.slow)]
)
def test_free_evolution_agrees(figure: Any, small: dict[str, Any]) -> None:
    outcome = figure.draw(**small)
    assert disagreeing(outcome) == []
    complete(outcome)
    for verdict in outcome.verdicts:
        assert verdict.valid_times is not None


def test_free_evolution_at_another_rate_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Explicit.at
    monkeypatch.setattr(Explicit, "at", lambda self, times: right(self._replace(rate=1.5 * self.rate), times))
    broken = free_asym3.draw(**FREE_3)
    assert [verdict.agree for verdict in broken.verdicts if " to " in verdict.curve] == [False, False]


def test_the_kernel_regime() -> None:
    outcome = ntk_asym3.draw(**KERNEL)
    assert disagreeing(outcome) == []
    complete(outcome)


def test_runs_of_the_kernel_figure_are_those_of_the_simulation() -> None:
    problem, sizes = lf.CPDecomposition(3, symmetric=False), ntk_asym3._kernel_sizes(3, 3, 40)
    times = np.array([0.0, 0.1, 0.4]) * ntk_asym3._unit(3, sizes)
    model = ntk_asym3.Model(3, False, 3, 40)
    target = ntk_asym3._identity(model)
    runs = lf.solve(problem, lf.Simulation(sizes, runs=2, seed=ntk_asym3.SEED), times).details["runs"]["loss"]
    for run in range(2):
        found = [0.5 * np.sum((model.at(u) - target) ** 2) for u in ntk_asym3.flow(model, sizes, run, times)]
        assert found == pytest.approx(runs[run], rel=1e-4)


@pytest.mark.parametrize(("order", "symmetric"), [(2, True), (3, False), (4, True), (4, False)])
def test_the_kernel_is_that_of_the_jacobian(order: int, symmetric: bool) -> None:
    p, H = 3, 2
    model = ntk_asym3.Model(order, symmetric, p, H)
    random = np.random.default_rng(order)
    weights = random.standard_normal((1 if symmetric else order) * H * p)
    tensor = random.standard_normal((p,) * order)
    step = 1e-6
    unit = np.eye(weights.size) * step
    jacobian = np.array([(model.at(weights + e) - model.at(weights - e)).ravel() / (2 * step) for e in unit])
    assert model.pulled_back(weights, tensor) == pytest.approx(jacobian @ tensor.ravel(), rel=1e-6, abs=1e-6)
    expected = jacobian.T @ (jacobian @ tensor.ravel())
    assert model.kernel_on(weights, tensor).ravel() == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_one_matrix_of_order_2_moves_its_kernel_as_far_as_f() -> None:
    """f = START * identity grows to 1 - (1 - START)/sqrt 2 while the loss falls to half, and the kernel is linear in f."""
    drift = ntk_asym3._drift("one", 2, True, 3, (3000,), 4)
    expected = (1 - (1 - ntk_asym3.START) / math.sqrt(2)) / ntk_asym3.START - 1
    assert drift.runs.mean() == pytest.approx(expected, rel=0.1)


def test_ascent() -> None:
    outcome = quartic_ascent.draw(**ASCENT)
    assert disagreeing(outcome) == []
    complete(outcome)
    assert [verdict.curve.partition(",")[0] for verdict in outcome.verdicts] == [
        "blow-ups",
        "threshold",
        "little noise",
        "much noise",
    ]


def test_the_threshold_of_a_sharp_step_is_between_its_neighbors() -> None:
    rates = quartic_ascent.Rates(8, 2.0, 10, np.array([0.1, 0.2, 0.4, 0.8, 1.6]), np.array([0.0, 0, 0, 1, 1]))
    share, error = rates.threshold
    assert share == pytest.approx(math.sqrt(0.4 * 0.8), rel=1e-12)
    assert 0 < error < share


def test_descent() -> None:
    outcome = quartic_descent.draw(**DESCENT)
    found = {verdict.curve: verdict for verdict in outcome.verdicts}
    assert found["limit, rho = 1/10"].agree, found["limit, rho = 1/10"].sentence
    for name, verdict in found.items():
        assert verdict.agree or not name.startswith(tuple(quartic_descent.SUMS)), verdict.sentence
    complete(outcome)
    window = found["limit, rho = 1/10"].valid_times
    assert window is not None
    assert window[1] < 0.012  # no statement beyond the window


def test_the_series_of_descent_is_the_published_one() -> None:
    for key, published in DATA["descent_nu4_series_theta_rho"].items():
        theta, rho = map(Fraction, key.split(","))
        expected = [Fraction(text) for text in published]
        assert quartic_descent.series(rho, theta, len(expected) - 1) == expected


def test_a_sum_whose_error_is_too_small_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def boastful(*arguments: Any) -> Resummed:
        found = resum(*arguments)
        return found._replace(values=found.values * 1.01, uncertainty=found.uncertainty * 1e-3)

    monkeypatch.setattr(quartic_descent, "resum", boastful)
    outcome = quartic_descent.draw(**{**DESCENT, "runs": 2, "order": 12})
    found = {verdict.curve: verdict for verdict in outcome.verdicts}
    assert not found["Borel-Pade, rho = 1/10"].agree
    assert not found["conformal Borel, rho = 1/10"].agree
