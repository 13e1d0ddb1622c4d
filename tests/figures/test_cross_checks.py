"""The engines agree on their common objects, and would not if one of them were off by a percent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest

import lossflow as lf
from lossflow.figures import cross_checks
from lossflow.figures.cross_checks import EARLIER, FAR, FIGURE, Pair, mean_with_controls

SMALL = {
    **FIGURE.quick,
    "orders": {"linear regression": (1, 2)},
    "runs": 64,
    "sizes": (8, 16, 32, 64),
    "widths": (8, 16, 32, 64),
    "deltas": (10.0, 30.0, 100.0, 300.0),
}
TIMES = 0.05 * 2.0 ** -np.arange(6.0, -0.5, -1.0)
EARLY = 0.05 / EARLIER * 2.0 ** -np.arange(5.0, -0.5, -0.5)


def test_every_pair_closes_with_its_exponent() -> None:
    outcome = cross_checks.draw(**SMALL)
    assert len(outcome.verdicts) == 9
    for verdict in outcome.verdicts:
        assert verdict.agree, f"{verdict.curve}: {verdict.sentence}"
    (picture,) = outcome.pictures
    assert [axes.get_xlabel() for axes in picture.canvas.axes[::2]] == ["time $t$", "time $t$"]
    assert len(picture.canvas.axes[0].get_legend().get_texts()) == 4  # type: ignore[union-attr]


@pytest.mark.parametrize("off", [1.01, 0.99])
def test_a_mean_field_that_is_off_is_noticed(off: float, monkeypatch: pytest.MonkeyPatch) -> None:
    right = cross_checks.solve

    def wrong(problem: lf.AbstractProblem, method: lf.AbstractMethod, *more: object) -> lf.Trajectory:
        found = right(problem, method, *more)  # type: ignore[arg-type]
        if not isinstance(method, lf.MeanField):
            return found
        return replace(found, values={name: off * values for name, values in found.values.items()})

    monkeypatch.setattr(cross_checks, "solve", wrong)
    pairs = [
        *cross_checks.series_and_mean_field("linear regression", (1, 2), TIMES, lf.MeanField()),
        cross_checks.series_at_sizes("linear regression", 4, 0.02, (8, 16, 32, 64), lf.MeanField()),
        cross_checks.online_and_mean_field((10.0, 30.0, 100.0, 300.0)),
        cross_checks.mean_field_and_end_state(),
    ]
    assert not [pair.verdict.sentence for pair in pairs if pair.verdict.agree]


@dataclass(frozen=True, repr=False)
class NormalizedDiagonal(lf.DiagonalLinear):
    """Rows of norm one instead of independent entries: the same limit, other averages at finite d."""

    def as_sample(self, sizes: Mapping[str, float], run: int, seed: int) -> dict[str, npt.NDArray[np.float64]]:
        sample = super().as_sample(sizes, run, seed)
        X, noise = sample["X"], sample["y"] - sample["X"] @ sample["beta_star"]
        X = X / np.linalg.norm(X, axis=1, keepdims=True)
        return sample | {"X": X, "y": X @ sample["beta_star"] + noise}


def test_data_that_are_off_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = NormalizedDiagonal(0.5, lf.BernoulliGaussian(1.0), 0.1)
    monkeypatch.setitem(cross_checks.OBJECTS, "diagonal network", problem)  # type: ignore[arg-type]
    pairs = cross_checks.series_and_simulation("diagonal network", (1,), 0.4 * EARLY, 8, 256)
    assert pairs[0].offset > FAR
    assert not pairs[0].verdict.agree


def test_a_frozen_kernel_that_is_off_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = cross_checks._frozen
    monkeypatch.setattr(cross_checks, "_frozen", lambda start, time: right(1.02 * start, time))
    assert not cross_checks.kernel_limit_and_frozen_kernel((8, 16, 32, 64, 128), 1000).verdict.agree


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
def test_exponents_of_known_gaps(power: float) -> None:
    x = 2.0 ** -np.arange(8.0)
    exact = Pair("known", 0, x, 0.3 * x**power * (1 - 0.5 * x + 0.1 * x**2), 1e-14 * x, power)
    assert exact.verdict.agree
    assert exact.exponent.value == pytest.approx(power, abs=0.005)
    for wrong in (power + 1, power - 1, power + 0.5):
        assert not exact._replace(expected=wrong).verdict.agree
    noisy = exact._replace(gap=np.random.default_rng(0).standard_normal(8), error=np.ones(8))
    assert not noisy.verdict.agree
    assert "nan" in noisy.verdict.sentence


def test_rates_of_known_gaps() -> None:
    t = np.linspace(6, 40, 18)
    gap = np.exp(-0.35 * t) * t**-1.5 * (1 + 1 / t)
    pair = Pair("known", 2, t, gap, 1e-13 * np.ones(18), 0.35, "rate")
    assert pair.verdict.agree
    assert pair.exponent.error < 0.1
    assert not pair._replace(expected=0.7).verdict.agree


@pytest.mark.parametrize(("off", "passes"), [(0.0, True), (0.01, False)])
def test_means_with_controls_are_calibrated(off: float, passes: bool) -> None:
    """200 means of 64 runs whose scatter is that of the controls to a percent: deviations of one standard error."""
    deviations = []
    for seed in range(200):
        random = np.random.default_rng(seed)
        controls = random.standard_normal((64, 2))
        rest = 0.01 * random.standard_normal((64, 1))
        mean, error, offset = mean_with_controls(2 + off + controls @ [[1.0], [-3.0]] + rest, controls)
        deviations.append(float((mean[0] - 2) / error[0]))
        assert offset < FAR
        assert mean_with_controls(rest, controls + 1)[2] > FAR
    rms = float(np.sqrt(np.mean(np.square(deviations))))
    assert (0.8 < rms < 1.2) == passes, rms
