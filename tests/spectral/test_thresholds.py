"""Thresholds against the table, their limits, and the states around them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lossflow as lf
from lossflow.laws.semicircle import quantile_above, second_above
from lossflow.problems.quadratic import QuadraticNetwork
from lossflow.spectral.thresholds import (
    counting_width,
    interpolation,
    noiseless_interpolation,
    regularized_recovery,
    regularized_width,
)

TABLE = json.loads((Path(__file__).parents[1] / "reference" / "quadratic.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("row", TABLE["noiseless_thresholds"], ids=lambda row: f"{row['kappa']}-{row['kappa_star']}")
def test_the_table_without_noise(row: dict[str, Any]) -> None:
    found = lf.thresholds(QuadraticNetwork(0.3, row["kappa"], row["kappa_star"]))
    assert found.alpha_interpolation == pytest.approx(row["alpha_inter"], rel=1e-11, abs=0)
    assert found.alpha_recovery == pytest.approx(row["alpha_PR_unreg"], rel=1e-11, abs=0)
    assert found.alpha_recovery_regularized == pytest.approx(row["alpha_PR_plus"], rel=1e-11, abs=0)


def test_the_tables_of_widths() -> None:
    for k, width in TABLE["kappa_crit_plus"].items():
        assert regularized_width(float(k)) == pytest.approx(width, rel=1e-11, abs=0)
    for k, width in TABLE["kappa_border_I_II"].items():
        assert counting_width(float(k)) == pytest.approx(width, rel=1e-11, abs=0)


@pytest.mark.parametrize("row", TABLE["alpha_inter_noisy"], ids=lambda row: f"{row['kappa']}-{row['Delta']}")
def test_the_table_with_noise(row: dict[str, Any]) -> None:
    found = interpolation(row["kappa"], row["kappa_star"], row["Delta"])
    assert found.alpha == pytest.approx(row["alpha_inter"], rel=1e-11, abs=0)
    assert found.xi == pytest.approx(row["xi"], rel=1e-11, abs=0)
    assert found.mse == pytest.approx(row["mse"], rel=1e-11, abs=0)
    network = QuadraticNetwork(0.3, row["kappa"], row["kappa_star"], row["Delta"])
    assert lf.thresholds(network).alpha_interpolation == found.alpha


def test_vanishing_noise_is_approached_slowly() -> None:
    """The note's gaps at (.3, .2): roughly Delta^{1/3}."""
    limit = noiseless_interpolation(0.3, 0.2)
    for noise, gap in [(1e-2, 0.0070), (1e-4, 0.0019), (1e-6, 0.0004)]:
        assert abs(interpolation(0.3, 0.2, noise).alpha - limit) == pytest.approx(gap, abs=6e-5)
    assert interpolation(0.3, 0.2, 1e-18).alpha == pytest.approx(limit, abs=1e-6)


@pytest.mark.parametrize("kappa", [0.2, 0.4, 0.7, 1.2])
def test_strong_noise_hides_the_teacher(kappa: float) -> None:
    """Half the second moment of the top kappa of a semicircle; 1/4 for kappa >= 1/2."""
    limit = second_above(max(0.0, quantile_above(min(kappa, 1.0)))) / 2
    assert interpolation(kappa, 0.3, 1e10).alpha == pytest.approx(limit, abs=1e-5)
    if kappa >= 0.5:
        assert limit == 0.25


def test_the_threshold_is_where_both_branches_meet() -> None:
    """At vanishing weight decay: q -> 0 from below, chi -> 0 from above, and the mse is that of the threshold."""
    meeting = interpolation(0.4, 0.3, 1.0)
    below, above = (
        lf.stationary(QuadraticNetwork(meeting.alpha * (1 + s * 1e-9), 0.4, 0.3, 1.0, "0+")).values for s in (-1, 1)
    )
    assert 0 < below["q"] < 1e-3
    assert below["loss"] == 0.0
    assert above["q"] == 0.0
    assert 0 < above["loss"] < 1e-12
    assert below["mse"] == pytest.approx(meeting.mse, rel=1e-3)
    assert above["mse"] == pytest.approx(meeting.mse, rel=1e-6)


def test_the_peak_is_a_cusp() -> None:
    """mse_inter - mse ~ 122 sqrt(alpha_inter - alpha) and q ~ 3.6 sqrt(.) below, linear above, for (.4, .3, Delta = 1)."""
    meeting = interpolation(0.4, 0.3, 1.0)
    roots, shrinkages, lines = [], [], []
    for gap in (1e-6, 1e-8):
        below, above = (
            lf.stationary(QuadraticNetwork(meeting.alpha + s * gap, 0.4, 0.3, 1.0, "0+")).values for s in (-1, 1)
        )
        roots.append((meeting.mse - below["mse"]) / math.sqrt(gap))
        shrinkages.append(below["q"] / math.sqrt(gap))
        lines.append((meeting.mse - above["mse"]) / gap)
    assert roots[-1] == pytest.approx(122, rel=0.005)
    assert roots[0] == pytest.approx(roots[1], rel=0.02)
    assert shrinkages[-1] == pytest.approx(3.6, rel=0.01)
    assert lines[0] == pytest.approx(lines[1], rel=1e-3)


def test_regions_and_where_they_meet() -> None:
    k = 0.3
    border, end, free = counting_width(k), (1 + k) / 2, regularized_width(k)

    def at(kappa: float) -> lf.Thresholds:
        return lf.thresholds(QuadraticNetwork(0.3, kappa, k))

    for kappa, region in [(k, "I"), (0.4, "I"), (border + 1e-6, "II"), (end - 1e-6, "II"), (end, "III"), (2.0, "III")]:
        if kappa > k:
            assert at(kappa).region == region
        assert at(kappa).width_counting == border
        assert at(kappa).width_interpolation == end
        assert at(kappa).width_regularized == free
    assert at(border).alpha_recovery == pytest.approx(border - border**2 / 2, rel=1e-12)
    assert at(border).alpha_recovery == pytest.approx(noiseless_interpolation(border, k), rel=1e-12)
    assert at(end).alpha_interpolation == pytest.approx((1 + 2 * k - k * k) / 4, rel=1e-14)
    assert at(3.0).alpha_interpolation == at(end).alpha_interpolation
    assert at(free + 1e-3).alpha_recovery_regularized == at(1.0).alpha_recovery_regularized
    assert at(free - 1e-2).alpha_recovery_regularized < at(1.0).alpha_recovery_regularized


def test_equal_widths() -> None:
    for k in (0.1, 0.5, 0.9):
        found = lf.thresholds(QuadraticNetwork(0.3, k, k))
        four = (
            found.alpha_interpolation,
            found.alpha_recovery,
            found.alpha_recovery_regularized,
            found.alpha_bayes,
        )
        assert four == pytest.approx([k - k * k / 2] * 4, rel=1e-14)


def test_a_teacher_of_full_width() -> None:
    found = lf.thresholds(QuadraticNetwork(0.3, 1.5, 1.2))
    assert found.region == "III"
    assert {
        found.alpha_interpolation,
        found.alpha_recovery,
        found.alpha_recovery_regularized,
        found.alpha_bayes,
    } == {0.5}


@pytest.mark.parametrize(("kappa", "k"), [(0.2, 0.3), (0.9, 1.0), (0.9, 3.0)])
def test_a_narrow_student_never_recovers(kappa: float, k: float) -> None:
    found = lf.thresholds(QuadraticNetwork(0.3, kappa, k))
    assert found.alpha_recovery == found.alpha_recovery_regularized == math.inf
    assert found.region is None
    assert 0 < found.alpha_interpolation < 0.5
    assert found.alpha_bayes == (0.5 if k >= 1 else k - k * k / 2)
    # it interpolates up to there, and not beyond
    network = QuadraticNetwork(0.3, kappa, k, 0.0, "0+")
    for s in (-1, 1):
        values = lf.stationary(replace(network, alpha=found.alpha_interpolation * (1 + s * 1e-3))).values
        assert (values["loss"] > 0) is (s > 0)


def test_regularized_recovery_needs_no_more_samples_than_interpolation() -> None:
    for k in (0.05, 0.3, 0.8):
        for kappa in (k, k + 0.3 * (1 - k), 1.0):
            assert regularized_recovery(kappa, k) <= noiseless_interpolation(kappa, k) + 1e-15
            assert regularized_recovery(kappa, k) >= k - k * k / 2 - 1e-15


def test_thresholds_do_not_depend_on_samples_or_decay() -> None:
    network = QuadraticNetwork(0.3, 0.4, 0.3, 0.5, 0.1)
    assert lf.thresholds(network) == lf.thresholds(replace(network, alpha=math.inf, weight_decay="0+"))
    assert lf.thresholds(network) != lf.thresholds(replace(network, noise_variance=0.4))


def test_misuse() -> None:
    with pytest.raises(lf.InvalidInput, match="QuadraticNetwork"):
        lf.thresholds(lf.CPDecomposition())  # type: ignore[arg-type]
