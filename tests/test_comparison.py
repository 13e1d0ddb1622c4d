"""The verdict on two trajectories: its arithmetic, its chance of error, its power, and extrapolation in a size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import lossflow as lf
from lossflow import comparison, significance
from lossflow.comparison import compare, extrapolate
from lossflow.trajectory import COMPLETE

Array = npt.NDArray[np.float64]

PROBLEM = lf.CPDecomposition(order=2)
TIMES = np.linspace(0, 1, 20)
BATTERIES = 400


@dataclass(frozen=True, repr=False)
class Told(lf.AbstractMethod):
    """A method whose answer the test makes up."""

    sizes: Mapping[str, float]
    seed: int = 0


@dataclass(frozen=True, repr=False)
class Sizeless(lf.AbstractMethod):
    """A theory without sizes, as of an infinite system."""


def sizes(p: float = 64) -> dict[str, float]:
    return {"p": p, "H": p, "sigma2": 1 / p}


def theory(values: npt.ArrayLike, error: npt.ArrayLike = 0.0, *, p: float = 64, times: Array = TIMES, **changes: Any):
    """A trajectory without runs."""
    values, error = (np.broadcast_to(np.asarray(x, dtype=float), times.shape) for x in (values, error))
    fields: dict[str, Any] = {
        "times": times,
        "values": {"loss": values},
        "uncertainty": {"loss": error},
        "status": COMPLETE,
        "problem": PROBLEM,
        "method": lf.Limit(sizes(p)),
        "dynamics": lf.GradientFlow(),
        "details": {},
        "references": (),
    }
    return lf.Trajectory(**(fields | changes))


def experiment(
    runs: Array, *, p: float = 64, seed: int = 0, hidden: npt.ArrayLike = 0.0, **changes: Any
) -> lf.Trajectory:
    """The mean of runs, with its standard error and an error that the runs do not show."""
    error = np.hypot(runs.std(axis=0, ddof=1) / np.sqrt(len(runs)), hidden)
    kept = {"method": Told(sizes(p), seed), "details": {"runs": {"loss": runs}}}
    return theory(runs.mean(axis=0), error, p=p, **(kept | changes))


def noise(random: np.random.Generator, runs: int, times: Array = TIMES, memory: float = 0.2) -> Array:
    """Gaussian runs of variance 1 with correlation exp(-|t - t'| / memory), shape (runs, times)."""
    correlation = np.exp(-np.abs(times[:, None] - times) / memory)
    return random.standard_normal((runs, times.size)) @ np.linalg.cholesky(correlation).T


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """A faster null distribution: the level is kept for any number of draws, its own scatter grows."""
    monkeypatch.setattr(significance, "DRAWS", 2000)


# the arithmetic


def test_differences_are_in_units_of_both_uncertainties() -> None:
    random = np.random.default_rng(1)
    runs = 5 + noise(random, 8)
    a, b = theory(5.5, 0.3), experiment(runs, hidden=0.2)
    (gap,) = compare(a, b).gaps
    both = np.sqrt(a.uncertainty["loss"] ** 2 + b.uncertainty["loss"] ** 2)
    np.testing.assert_allclose(gap.uncertainty, both, rtol=1e-12)
    np.testing.assert_allclose(gap.difference, b.values["loss"] - 5.5, rtol=0, atol=1e-14)
    np.testing.assert_allclose(gap.deviation, (b.values["loss"] - 5.5) / both, rtol=1e-11)
    np.testing.assert_allclose(gap.relative, (b.values["loss"] - 5.5) / 5.5, rtol=0, atol=1e-14)
    assert gap.largest_deviation == np.abs(gap.deviation).max()
    assert gap.largest_relative == np.abs(gap.relative).max()
    assert gap.valid_times == (0.0, 1.0)
    (mirrored,) = compare(b, a).gaps
    np.testing.assert_allclose(mirrored.difference, -gap.difference, rtol=1e-12)
    assert mirrored.probability == gap.probability


def test_one_time_is_students_test() -> None:
    """At a single time both statistics are |t|, so the probability is Student's: scipy knows it in closed form."""
    random = np.random.default_rng(2)
    for runs, offset in ((2, 3.0), (3, 1.0), (8, 1.0), (8, 0.1), (40, 0.35)):
        x = offset + random.standard_normal((runs, 1))
        (gap,) = compare(theory(0.0, times=TIMES[:1]), experiment(x, times=TIMES[:1])).gaps
        expected: Any = stats.ttest_1samp(x[:, 0], 0.0)
        assert gap.deviation[0] == pytest.approx(expected.statistic, rel=1e-9)
        four_sigma = 4 * np.sqrt(expected.pvalue * (1 - expected.pvalue) / significance.DRAWS) + 1 / significance.DRAWS
        assert gap.probability == pytest.approx(expected.pvalue, abs=four_sigma)


def test_paired_runs_are_students_paired_test() -> None:
    random = np.random.default_rng(3)
    shared = 100 * random.standard_normal((8, 1))
    x, y = shared + random.standard_normal((8, 1)), shared + 1 + random.standard_normal((8, 1))
    one = TIMES[:1]
    (gap,) = compare(experiment(x, times=one), experiment(y, times=one)).gaps
    expected: Any = stats.ttest_rel(y[:, 0], x[:, 0])
    assert gap.deviation[0] == pytest.approx(expected.statistic, rel=1e-9)
    four_sigma = 4 * np.sqrt(expected.pvalue / significance.DRAWS)
    assert gap.probability == pytest.approx(expected.pvalue, abs=four_sigma)


def test_more_runs_of_one_seed_are_compared_over_the_shared_ones() -> None:
    random = np.random.default_rng(4)
    runs = 100 + noise(random, 12)
    (gap,) = compare(experiment(runs[:5]), experiment(runs + 1e-6)).gaps
    np.testing.assert_allclose(gap.difference, 1e-6, rtol=1e-6)
    assert len(gap.differences) == 5
    assert not gap.agree  # a shift that is the same in every run, far below the scatter of the runs
    (independent,) = compare(experiment(runs[:5]), experiment(runs + 1e-6, seed=1)).gaps
    assert independent.agree


def test_without_runs_errors_are_gaussian() -> None:
    one = TIMES[:1]
    for sigmas in (0.5, 2.0, 2.5, 3.0):
        (gap,) = compare(theory(1.0, 0.1, times=one), theory(1.0 + 0.1 * sigmas, 0.0, times=one)).gaps
        expected = 2 * float(stats.norm.sf(sigmas))
        assert gap.probability == pytest.approx(expected, abs=4 * np.sqrt(expected / significance.DRAWS))


def test_one_outlier_is_weighed_against_the_number_of_times() -> None:
    """The largest of T independent deviations follows Sidak; looking at the rms as well costs at most a factor 2."""
    times = np.linspace(0, 1, 50)
    for sigmas in (3.0, 3.5, 4.0, 4.5):
        values = np.ones(50)
        values[20] += 0.1 * sigmas
        (gap,) = compare(theory(1.0, 0.1, times=times), theory(values, times=times)).gaps
        sidak = 1 - (1 - 2 * stats.norm.sf(sigmas)) ** 50
        slack = 4 * np.sqrt(2 * sidak / significance.DRAWS) + 1 / significance.DRAWS
        assert sidak - slack <= gap.probability <= 2 * sidak + slack


def test_what_is_allowed_is_where_the_verdict_turns() -> None:
    values = np.ones(TIMES.size)
    (gap,) = compare(theory(1.0, 0.1), theory(values)).gaps
    for share, agree in ((0.98, True), (1.02, False)):
        values[3] = 1 + 0.1 * gap.allowed * share
        assert compare(theory(1.0, 0.1), theory(values)).agree is agree


def test_the_verdict_is_reproducible_and_leaves_global_randomness_alone() -> None:
    runs = 5 + noise(np.random.default_rng(5), 8)
    state = repr(np.random.get_state())  # noqa: NPY002
    first, second = compare(theory(5.0), experiment(runs)), compare(theory(5.0), experiment(runs))
    assert (first.verdict, first.gaps[0].probability) == (second.verdict, second.gaps[0].probability)
    assert repr(np.random.get_state()) == state  # noqa: NPY002


# how often it errs


def independent_runs(random: np.random.Generator, size: int, memory: float, twist: float) -> Array:
    scale = 1 + 3 * TIMES
    return 50 + twist + scale * noise(random, size, memory=memory)


SETTINGS: dict[str, Callable[[np.random.Generator, float], tuple[lf.Trajectory, lf.Trajectory]]] = {
    "3 runs": lambda r, x: (theory(50), experiment(independent_runs(r, 3, 0.2, x))),
    "8 runs": lambda r, x: (theory(50), experiment(independent_runs(r, 8, 0.2, x))),
    "8 runs, long memory": lambda r, x: (theory(50), experiment(independent_runs(r, 8, 5.0, x))),
    "8 runs, no memory": lambda r, x: (theory(50), experiment(independent_runs(r, 8, 0.01, x))),
    "8 against 8 runs": lambda r, x: (
        experiment(independent_runs(r, 8, 0.2, 0), seed=1),
        experiment(independent_runs(r, 8, 0.2, x)),
    ),
    "6 against 15 runs": lambda r, x: (
        experiment(independent_runs(r, 6, 0.2, 0), seed=1),
        experiment(independent_runs(r, 15, 0.2, x)),
    ),
}


@pytest.mark.usefixtures("few_draws")
@pytest.mark.parametrize("setting", SETTINGS)
def test_false_alarms_come_as_often_as_stated(setting: str) -> None:
    """Gaussian runs: the probability of 400 batteries is uniform. Bounds hold for all but 1 in 1000 sets of batteries."""
    found = np.array([battery(setting, seed).gaps[0].probability for seed in range(BATTERIES)])
    for level in (0.01, 0.1, 0.5):
        low, high = stats.binom.interval(0.999, BATTERIES, level)
        assert low <= np.sum(found < level) <= high, level
    assert stats.kstest(found, "uniform").pvalue > 1e-3


@pytest.mark.usefixtures("few_draws")
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_sabotaged_theory_is_noticed(setting: str) -> None:
    """The same batteries with a theory off by 2 (4% of the value, at 2 to 0.5 standard deviations of a run) must fail."""
    found = np.array([battery(setting, seed, twist=2.0).gaps[0].probability for seed in range(200)])
    assert np.sum(found < 0.1) > stats.binom.ppf(0.9999, 200, 0.1)


def battery(setting: str, seed: int, twist: float = 0.0) -> lf.Comparison:
    return compare(*SETTINGS[setting](np.random.default_rng((7, seed)), twist))


@pytest.mark.usefixtures("few_draws")
@pytest.mark.parametrize("share", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("law", ["one common error", "independent errors"])
def test_hidden_errors_of_any_correlation_raise_no_more_alarms(law: str, share: float) -> None:
    """A theory with a stated error beside 8 runs: the level is an upper bound, whatever the correlation in time."""
    found = []
    for seed in range(BATTERIES):
        random = np.random.default_rng((8, seed))
        error = share / np.sqrt(8)
        wrong = error * random.standard_normal(1 if law == "one common error" else TIMES.size)
        found.append(compare(theory(50 + wrong, error), experiment(50 + noise(random, 8))).gaps[0].probability)
    for level in (0.01, 0.1):
        assert np.sum(np.array(found) < level) <= stats.binom.ppf(0.9995, BATTERIES, level)


@pytest.mark.usefixtures("few_draws")
def test_three_sigma_everywhere_is_noticed() -> None:
    """Without runs, 3 sigma at all times disagrees whatever the correlation; 2 sigma may be one common error."""
    assert not compare(theory(1.0, 0.1), theory(1.3)).agree
    assert compare(theory(1.0, 0.1), theory(1.2)).agree
    detected = 0
    for seed in range(100):
        runs = noise(np.random.default_rng((9, seed)), 32, memory=0.02)  # 20 nearly independent times
        detected += not compare(theory(0.0), experiment(runs + 3 / np.sqrt(32))).agree
    assert detected >= 99


@pytest.mark.usefixtures("few_draws")
def test_one_percent_off_at_precise_data_is_noticed() -> None:
    """Runs that scatter by 0.5%, eight of them: 1% is 5.7 standard errors; the truth itself passes."""
    curve = 10 * np.exp(-TIMES)
    detected = agreed = 0
    for seed in range(100):
        runs = curve * (1 + 0.005 * noise(np.random.default_rng((10, seed)), 8))
        agreed += compare(theory(curve), experiment(runs)).agree
        detected += not compare(theory(1.01 * curve), experiment(runs)).agree
    assert detected >= 90
    assert agreed >= 95


# exact results


def test_exact_results_agree_up_to_rounding() -> None:
    curve = np.exp(-TIMES)
    assert compare(theory(curve), theory(curve)).agree
    assert compare(theory(curve), theory(curve * (1 + 1e-14))).agree
    assert not compare(theory(curve), theory(curve * (1 + 1e-10))).agree
    assert compare(theory(0.0), theory(0.0)).agree
    assert not compare(theory(0.0), theory(1e-300 + 0 * curve, 0.0)).agree


def test_the_rounding_of_a_small_value_is_that_of_the_largest() -> None:
    """p/2 - p/2 leaves 1e-16 p: a loss that falls by fifteen decades agrees with zero there."""
    curve = np.geomspace(1, 1e-15, TIMES.size)
    assert compare(theory(curve), theory(np.where(curve > 1e-14, curve, 0.0))).agree


def test_deterministic_runs_are_exact() -> None:
    curve = np.tile(np.exp(-TIMES), (4, 1))
    assert compare(theory(curve[0]), experiment(curve)).agree
    assert not compare(theory(curve[0] * 1.001), experiment(curve)).agree


# which times


@given(st.data())
def test_times_match_up_to_rounding(data: st.DataObject) -> None:
    """Against the direct search over all pairs, for times in either direction."""
    grid = np.linspace(-1, 1, 41) * data.draw(st.sampled_from([1.0, 1e-6, 1e6]))
    picks = [np.array(sorted(data.draw(st.sets(st.integers(0, 40), min_size=1)))) for _ in range(2)]
    a, b = (grid[pick] * (1 + shift) for pick, shift in zip(picks, (0, 3e-16), strict=True))
    if data.draw(st.booleans()):
        b = b[::-1]
    expected = [(i, j) for i, s in enumerate(a) for j, t in enumerate(b) if abs(s - t) <= 1e-9 * abs(grid[0])]
    here, there = comparison._matched(a, b)
    assert list(zip(here.tolist(), there.tolist(), strict=True)) == expected


def test_only_common_times_are_compared() -> None:
    coarse = np.linspace(0, 1, 6)
    fine = np.linspace(0, 2, 21)
    (gap,) = compare(theory(np.exp(-coarse), times=coarse), theory(np.exp(-fine), times=fine)).gaps
    np.testing.assert_array_equal(gap.times, coarse)
    assert gap.agree
    assert sum(times.size for times in gap.left_out.values()) == 15


def test_unknown_values_are_left_out_and_said() -> None:
    values = np.where(TIMES <= 0.5, np.exp(-TIMES), np.nan)
    ended = theory(values, status=lf.Status("left_domain", 0.5, "the series diverges; raise the order"))
    found = compare(ended, theory(np.exp(-TIMES), method=lf.Series(sizes(), order=2)))
    assert found.agree
    assert found.gaps[0].valid_times == (0.0, TIMES[TIMES <= 0.5][-1])
    assert "Limit ends at t = 0.5 (left_domain: the series diverges" in found.verdict
    (reason,) = found.gaps[0].left_out
    assert "Limit has no value" in reason
    np.testing.assert_array_equal(found.gaps[0].left_out[reason], TIMES[TIMES > 0.5])


def test_infinite_uncertainty_is_no_agreement() -> None:
    error = np.where(TIMES < 0.5, 0.1, np.inf)
    (gap,) = compare(theory(1.0, error), theory(1.0)).gaps
    assert gap.times.size == np.sum(TIMES < 0.5)
    with pytest.raises(lf.InvalidInput, match=r"nothing to compare.*finite uncertainty"):
        compare(theory(1.0, np.inf), theory(1.0))


# the sentence


def test_a_verdict_to_quote() -> None:
    curve = 10 * np.exp(-TIMES)
    runs = curve * (1 + 0.01 * noise(np.random.default_rng(11), 8))
    good, bad = compare(theory(curve), experiment(runs)), compare(theory(1.1 * curve), experiment(runs))
    assert good.verdict.startswith("Limit agrees with Told (8 runs) on loss: largest gap ")
    assert good.verdict.endswith("over 20 times from 0 to 1")
    assert "sigma" in good.verdict
    assert bad.verdict.startswith("Limit disagrees with Told (8 runs) on loss: the latter is ")
    assert "% lower at t = " in bad.verdict
    assert str(bad) == bad.verdict
    assert "\n" not in bad.verdict
    assert "<td>no</td>" in bad._repr_html_()


def test_several_others_get_a_sentence_each_and_share_the_level() -> None:
    found = compare(theory(1.0, 0.1), theory(1.0), theory(2.0), theory(1.01))
    assert [gap.agree for gap in found.gaps] == [True, False, True]
    assert not found.agree
    assert len(found.verdict.splitlines()) == 3
    assert {gap.level for gap in found.gaps} == {significance.LEVEL / 3}
    assert compare(theory(1.0, 0.1), theory(1.0), theory(1.01)).agree


def test_another_observable() -> None:
    both = replace(
        theory(1.0),
        values={"loss": np.ones(20), "mse": np.full(20, 2.0)},
        uncertainty={"loss": np.zeros(20), "mse": np.full(20, 0.1)},
    )
    other = replace(both, values={"loss": np.ones(20) + 1, "mse": np.full(20, 2.1)})
    found = compare(both, other, observable="mse")
    assert found.observable == "mse"
    assert found.agree
    with pytest.raises(lf.InvalidInput, match="did you mean 'mse'"):
        compare(both, other, observable="mses")
    with pytest.raises(lf.InvalidInput, match="Limit has no 'mse'; there is: loss"):
        compare(both, theory(1.0), observable="mse")
    assert not compare(both, other).agree


# what does not belong together


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (theory(1.0, problem=lf.CPDecomposition(order=3)), "problems differ: order = 2 against 3"),
        (theory(1.0, problem=lf.CPDecomposition(target=lf.Zero())), "problems differ: target = Identity"),
        (theory(1.0, p=128), "different sizes: H = 64 against 128, p = 64 against 128"),
        (theory(1.0, times=TIMES + 10), "no time in common; solve both at the same times"),
        (theory(1.0).in_units_of(0.5), "different units, 1 against 0.5; bring both to one with in_units_of"),
        (1.0, "compare takes trajectories"),
        (lf.Limit(sizes()), "compare takes trajectories"),
    ],
)
def test_misuse_is_answered(other: Any, message: str) -> None:
    with pytest.raises(lf.InvalidInput, match=message) as caught:
        compare(theory(1.0), other)
    assert "\n" not in str(caught.value)


def test_a_lone_trajectory_is_answered() -> None:
    with pytest.raises(lf.InvalidInput, match="at least two"):
        compare(theory(1.0))


def test_a_theory_without_sizes_meets_every_size() -> None:
    assert compare(theory(1.0, method=Sizeless()), theory(1.0, p=128)).agree


def test_equal_units_of_time_are_accepted() -> None:
    assert compare(theory(1.0).in_units_of(0.3), theory(1.0).in_units_of(0.1).in_units_of(3)).agree


def test_runs_whose_mean_is_not_the_value_are_not_believed() -> None:
    runs = 5 + noise(np.random.default_rng(12), 8)
    median = theory(np.median(runs, axis=0), 0.5, method=Told(sizes()), details={"runs": {"loss": runs}})
    (gap,) = compare(theory(5.0), median).gaps
    assert not len(gap.differences)
    np.testing.assert_allclose(gap.uncertainty, 0.5, rtol=1e-12)


# growing sizes

SIZES = (64, 128, 256, 512)


def pair(
    p: int,
    runs: Array,
    *,
    constant: float = 0.0,
    slope: float = 1.0,
    power: float = 1.0,
    neglected: float = 0.0,
    seed: int = 0,
) -> lf.Comparison:
    """A theory against runs that are off by constant + slope (1 + t) / p^power; runs of relative scatter 1/p."""
    curve = p * np.exp(-TIMES)
    gap = constant + slope * (1 + TIMES) / p**power
    return compare(theory(curve, neglected * curve / p, p=p), experiment(curve * (1 + gap + runs / p), p=p, seed=seed))


def family(seed: int, runs: int = 24, memory: float = 0.01, sizes_: tuple[int, ...] = SIZES, **law: Any):
    random = np.random.default_rng((13, seed))
    return [pair(p, noise(random, runs, memory=memory), **law) for p in sizes_]


@pytest.mark.parametrize("law", [{}, {"constant": 0.01}, {"slope": 0.0}, {"slope": -3.0}])
def test_the_extrapolated_gap_is_calibrated(law: dict[str, Any]) -> None:
    """80 nearly independent deviations from the known answer, in units of the stated error: rms between 0.8 and 1.2."""
    found = [extrapolate(family(seed, **law)) for seed in range(4)]
    deviations = np.concatenate([(x.gap - law.get("constant", 0.0)) / x.uncertainty for x in found])
    assert deviations.size == 80
    assert 0.8 < np.sqrt(np.mean(deviations**2)) < 1.2
    slopes = np.concatenate([x.slope / (1 + TIMES) for x in found])
    assert np.mean(slopes) == pytest.approx(law.get("slope", 1.0), abs=4 * np.std(slopes) / np.sqrt(80))


def test_the_extrapolated_gap_of_a_sabotaged_theory_is_not() -> None:
    found = [extrapolate(family(seed, constant=0.01)) for seed in range(4)]
    deviations = np.concatenate([x.gap / x.uncertainty for x in found])
    assert np.sqrt(np.mean(deviations**2)) > 1.2
    assert not any(x.vanishes for x in found)


@pytest.mark.usefixtures("few_draws")
def test_the_measured_power_is_calibrated() -> None:
    deviations = []
    for power, slope in ((1.0, 3.0), (0.5, 0.5), (2.0, 300.0)):
        for seed in range(24):
            found = extrapolate(family(seed, slope=slope, power=power), power=power)
            deviations.append((found.measured_power - power) / found.measured_power_uncertainty)
            assert found.shrinks
    assert 0.8 < np.sqrt(np.mean(np.square(deviations))) < 1.2


@pytest.mark.usefixtures("few_draws")
def test_a_gap_vanishes_at_the_stated_level() -> None:
    found = [extrapolate(family(seed, runs=8, memory=0.2, sizes_=SIZES[:3])) for seed in range(BATTERIES)]
    for level in (0.01, 0.1):
        low, high = stats.binom.interval(0.999, BATTERIES, level)
        assert low <= sum(x.probability < level for x in found) <= high
    assert sum(not x.fits for x in found) <= stats.binom.ppf(0.9995, BATTERIES, 0.01)


@pytest.mark.usefixtures("few_draws")
def test_runs_that_share_seeds_across_sizes_are_paired() -> None:
    """The same noise at all sizes: a naive sum of independent errors would be too large by far."""
    rejected, deviations = 0, []
    for seed in range(60):
        shared = noise(np.random.default_rng((14, seed)), 24)
        found = extrapolate([pair(p, p / 64 * shared) for p in SIZES])  # relative scatter 1/64 everywhere
        rejected += not found.vanishes
        deviations.append(found.gap[10] / found.uncertainty[10])
    assert rejected <= stats.binom.ppf(0.9995, 60, significance.LEVEL)
    assert 0.8 < np.sqrt(np.mean(np.square(deviations))) < 1.2


@pytest.mark.usefixtures("few_draws")
def test_sizes_with_their_own_seeds_may_have_other_numbers_of_runs() -> None:
    random = np.random.default_rng(15)
    deviations = []
    for _ in range(60):
        counts = zip(SIZES, (40, 32, 24, 24), strict=True)
        found = extrapolate([pair(p, noise(random, n), seed=p) for p, n in counts])
        deviations.append(found.gap[10] / found.uncertainty[10])
    assert 0.8 < np.sqrt(np.mean(np.square(deviations))) < 1.2
    with pytest.raises(lf.InvalidInput, match="give each size its own seed"):
        extrapolate([pair(p, noise(random, n)) for p, n in zip(SIZES, (40, 32, 24, 24), strict=True)])


def test_a_neglected_order_drops_out_and_a_constant_error_stays() -> None:
    random = np.random.default_rng(16)
    runs = [noise(random, 24) for _ in SIZES]
    plain = extrapolate([pair(p, x) for p, x in zip(SIZES, runs, strict=True)])
    neglected = extrapolate([pair(p, x, neglected=1.0) for p, x in zip(SIZES, runs, strict=True)])
    np.testing.assert_allclose(neglected.uncertainty, plain.uncertainty, rtol=1e-6)
    constant = extrapolate([pair(p, x, neglected=0.01 * p) for p, x in zip(SIZES, runs, strict=True)])
    np.testing.assert_allclose(constant.uncertainty, np.hypot(plain.uncertainty, 0.01), rtol=1e-6)


def test_exact_gaps_are_extrapolated_exactly() -> None:
    def exact(p: int, gap: Array) -> lf.Comparison:
        curve = p * np.exp(-TIMES)
        return compare(theory(curve, p=p), theory(curve * (1 + gap), p=p, method=Told(sizes(p))))

    found = extrapolate([exact(p, 3 * (1 + TIMES) / p) for p in SIZES])
    np.testing.assert_allclose(found.gap, 0, atol=1e-12)
    np.testing.assert_allclose(found.slope, 3 * (1 + TIMES), rtol=1e-10)
    assert found.measured_power == pytest.approx(1, abs=1e-6)
    assert found.vanishes
    assert found.shrinks
    assert found.fits
    curved = extrapolate([exact(p, 3 * (1 + TIMES) / p + 100 / p**2) for p in SIZES])
    assert not curved.fits
    assert "does not describe all sizes" in curved.verdict


def test_no_gap_at_all_vanishes_but_is_not_seen_to_shrink() -> None:
    found = extrapolate(family(3, slope=0.0))
    assert found.vanishes
    assert not found.shrinks
    assert "is not seen to shrink" in str(found)


@pytest.mark.usefixtures("few_draws")
def test_without_runs_errors_of_sizes_are_independent() -> None:
    def told(p: int, deviation: float) -> lf.Comparison:
        return compare(theory(p, p=p), theory(p * (1 + 1 / p) + deviation, 1.0, p=p, method=Told(sizes(p))))

    random = np.random.default_rng(17)
    found = [extrapolate([told(p, random.standard_normal()) for p in SIZES]) for _ in range(100)]
    assert 0.8 < np.sqrt(np.mean([(x.gap[0] / x.uncertainty[0]) ** 2 for x in found])) < 1.2
    assert all(x.vanishes for x in found if abs(x.gap[0]) < 2 * x.uncertainty[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: extrapolate(family(0)[:2]), "three or more different values of 'p'"),
        (lambda: extrapolate([family(0)[0]] * 3), "three or more different values of 'p'"),
        (lambda: extrapolate(family(0), size="d"), "has no size 'd'; there is: H, p, sigma2"),
        (lambda: extrapolate(family(0), power=-1), "power must be a positive number"),
        (lambda: extrapolate([compare(theory(1.0), theory(1.0), theory(1.0))]), "one theory with one experiment"),
        (lambda: extrapolate([theory(1.0)] * 3), "one theory with one experiment"),  # type: ignore[list-item]
        (
            lambda: extrapolate([*family(0)[:2], other_problem(family(0)[2])]),
            "problems differ: target = Identity.* against Zero.*only sizes may change",
        ),
    ],
)
def test_comparisons_that_do_not_belong_together(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(lf.InvalidInput, match=message):
        make()


def other_problem(found: lf.Comparison) -> lf.Comparison:
    (gap,) = found.gaps
    free = lf.CPDecomposition(target=lf.Zero())
    return compare(replace(gap.reference, problem=free), replace(gap.other, problem=free))


# a real theory and a real experiment


def test_the_limit_and_the_simulation_of_one_problem() -> None:
    """Symmetric order 2 at p = 16, 32, 64: the 1/p correction vanishes and shrinks; a theory off by 1% does not pass."""
    times = np.linspace(0, 1, 12)
    found: dict[float, list[lf.Comparison]] = {1.0: [], 1.01: []}
    for p in (16, 32, 64):
        matrix = {"p": p, "H": p // 2, "sigma2": 1 / p}
        limit = lf.solve(PROBLEM, lf.Limit(matrix), times)
        simulation = lf.solve(PROBLEM, lf.Simulation(matrix, runs=256), times)
        assert compare(limit, simulation).agree
        for factor, comparisons in found.items():
            off = replace(limit, values={"loss": factor * limit.values["loss"]})
            comparisons.append(compare(off, simulation))
    right, wrong = (extrapolate(comparisons) for comparisons in found.values())
    assert right.vanishes
    assert right.shrinks
    assert right.measured_power == pytest.approx(1, abs=4 * right.measured_power_uncertainty)
    assert not wrong.vanishes


def test_one_simulation_has_no_standard_error() -> None:
    matrix = {"p": 4, "H": 2, "sigma2": 0.25}
    lone = lf.solve(PROBLEM, lf.Simulation(matrix, runs=1), TIMES)
    with pytest.raises(lf.InvalidInput, match=r"Simulation \(1 run\) has no finite uncertainty"):
        compare(lf.solve(PROBLEM, lf.Limit(matrix), TIMES), lone)


def test_simulations_of_one_seed_are_paired() -> None:
    """A tolerance of 1e-4 shifts every run by far less than the scatter of the runs, and the comparison sees it."""
    matrix = {"p": 8, "H": 4, "sigma2": 0.25}
    fine, coarse = (lf.solve(PROBLEM, lf.Simulation(matrix, tolerance=t), TIMES) for t in (1e-10, 1e-4))
    (gap,) = compare(fine, coarse).gaps
    scatter = fine.details["runs"]["loss"].std(axis=0, ddof=1) / np.sqrt(8)
    assert gap.agree
    assert gap.uncertainty[0] < 0.01 * scatter[0]
