"""The figures of end states of diagonal networks agree, and would not if the theory were wrong."""

from __future__ import annotations

import numpy as np
import pytest

import lossflow as lf
from lossflow.figures import diagonal_double_descent, diagonal_init, diagonal_phase, diagonal_tradeoff
from lossflow.figures.figure import Outcome
from lossflow.meanfield import diagonal_recovery

INIT = {**diagonal_init.FIGURE.quick, "densities": (0.1,), "sigmas": (0.3,), "sizes": (60, 120), "runs": 8}
DESCENT = {
    **diagonal_double_descent.FIGURE.quick,
    "points": 8,
    "deltas": (0.6, 2.5),
    "scales": (0.03, 1.0),
    "sizes": (60, 120),
}
TRADEOFF = {**diagonal_tradeoff.FIGURE.quick, "scales": (0.3, 3.0), "sizes": (60, 120, 240), "points": 30}
PHASE = {**diagonal_phase.FIGURE.quick, "points": 20, "deltas": (0.3, 0.7), "densities": (0.05, 0.5), "d": 60}


def require(outcome: Outcome) -> None:
    for verdict in outcome.verdicts:
        assert verdict.agree, verdict.sentence
        assert verdict.valid_times is None
    (picture,) = outcome.pictures
    assert len(picture.words) > 200


def test_the_scale_of_the_start() -> None:
    outcome = diagonal_init.draw(**INIT)
    require(outcome)
    (axes,) = outcome.pictures[0].canvas.axes
    line = axes.lines[0]
    scale, mse = float(np.asarray(line.get_xdata())[5]), float(np.asarray(line.get_ydata())[5])
    problem = lf.DiagonalLinear(0.5, lf.RademacherSparse(0.1), 0.09, lf.SymmetricInit(scale))
    assert mse == pytest.approx(lf.stationary(problem).values["mse"], rel=1e-9)


def test_double_descent() -> None:
    outcome = diagonal_double_descent.draw(**DESCENT)
    require(outcome)
    assert [verdict.curve for verdict in outcome.verdicts] == ["scale 0.03", "scale 1", "delta > 1"]
    assert outcome.pictures[0].canvas.axes[0].get_xlabel() == r"$\delta = n/d$"


def test_the_price_of_speed() -> None:
    outcome = diagonal_tradeoff.draw(**TRADEOFF)
    require(outcome)
    assert outcome.verdicts[2].largest_relative_gap is not None
    assert outcome.verdicts[2].largest_relative_gap < 2e-3
    assert len(outcome.pictures[0].canvas.axes) == 3


def test_the_recovery_line() -> None:
    require(diagonal_phase.draw(**PHASE))


def test_an_exponent_that_is_off_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = diagonal_recovery.recovery_exponent
    for module in (diagonal_tradeoff, diagonal_phase):
        monkeypatch.setattr(module, "recovery_exponent", lambda *arguments: 1.03 * right(*arguments))
    assert not diagonal_phase.draw(**PHASE).verdicts[1].agree
    assert not diagonal_tradeoff.draw(**TRADEOFF).verdicts[2].agree


def test_a_line_that_is_off_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagonal_phase, "recovery_threshold", lambda density: 0.25 * (1 - density))
    assert not diagonal_phase.draw(**PHASE).verdicts[0].agree


def test_an_error_that_is_off_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = diagonal_init.trade_off

    def wrong(*arguments: object) -> diagonal_recovery.TradeOff:
        found = right(*arguments)  # type: ignore[arg-type]
        return found._replace(mse=1.2 * found.mse)

    monkeypatch.setattr(diagonal_init, "trade_off", wrong)
    assert not diagonal_init.draw(**{**INIT, "densities": (1.0,)}).agree
