"""Random numbers depend on (seed, run, purpose) alone, and on nothing else, in every release."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy import stats

import lossflow as lf
from lossflow.keys import generator

# Computed with this library, version 0.1.0 (numpy 2.4): a change would give every user other runs for the same seed.
GOLDEN = {
    (0, 0, "u"): [-1.1869842286888064, -0.4429526013891375, -0.39317853160809624],
    (0, 1, "u"): [-0.6547130018302781, -0.5632021019178945, 0.436547516613213],
    (1, 0, "u"): [-0.9741661331457033, -1.1652982490954091, 1.8116677176485378],
    (12345, 67, "a long purpose"): [0.4749103332731251, 0.6491965081167087, -1.5351781947170813],
    (2**64, 0, ""): [-0.6945433574870137, -0.729120915625907, -1.6710403913335974],
}


@pytest.mark.parametrize("key", GOLDEN)
def test_the_streams_of_old_releases(key: tuple[int, int, str]) -> None:
    assert generator(*key).standard_normal(3).tolist() == GOLDEN[key]


def test_one_key_is_one_stream() -> None:
    first, second = generator(3, 4, "w"), generator(3, 4, "w")
    assert first is not second
    np.testing.assert_array_equal(first.random(1000), second.random(1000))
    np.testing.assert_array_equal(generator(np.int64(3), np.int64(4), "w").random(5), generator(3, 4, "w").random(5))  # type: ignore[arg-type]


def test_streams_are_independent() -> None:
    """Each of seed, run and purpose makes another stream; correlations of 10^4 normals stay within 5 standard errors."""
    keys = [(seed, run, purpose) for seed in (0, 1, 2**32) for run in (0, 1, 2**32) for purpose in ("u", "v", "u1")]
    draws = np.array([generator(*key).standard_normal(10_000) for key in keys])
    correlations = [draws[a] @ draws[b] / 10_000 for a, b in combinations(range(len(keys)), 2)]
    assert np.abs(correlations).max() < 5 / np.sqrt(10_000)
    assert stats.kstest(draws.ravel()[:100_000], "norm").pvalue > 1e-3


def test_seeds_and_runs_are_not_mixed_up() -> None:
    """(seed, run) and (run, seed), or a carry from one into the other, are different streams."""
    assert generator(1, 2, "u").random() != generator(2, 1, "u").random()
    assert generator(2**32, 0, "u").random() != generator(0, 1, "u").random()
    assert generator(5 + 7 * 2**32, 1, "u").random() != generator(5, 7, "u").random()


@pytest.mark.parametrize(("seed", "run"), [(-1, 0), (0, -1), (0.5, 0), (0, "1"), (None, 0), (True, 0)])
def test_wrong_keys_are_refused(seed: Any, run: Any) -> None:
    with pytest.raises(lf.InvalidInput, match=r"seed|run"):
        generator(seed, run, "u")


def test_a_problem_draws_by_seed_and_run_alone() -> None:
    problem = lf.CPDecomposition(order=3, symmetric=False)
    sizes = {"p": 3, "H": 2, "sigma2": 0.25}
    one, again, other = (problem.as_sample(sizes, run, 5) for run in (2, 2, 3))
    assert set(one) == {"u1", "u2", "u3"}
    for name in one:
        np.testing.assert_array_equal(one[name], again[name])
        np.testing.assert_array_equal(one[name], 0.5 * generator(5, 2, name).standard_normal((2, 3)))
        assert not np.array_equal(one[name], other[name])


def test_more_runs_change_no_old_one() -> None:
    sizes = {"p": 3, "H": 2, "sigma2": 0.25}
    few, many = (lf.solve(lf.CPDecomposition(), lf.Simulation(sizes, runs=n), [0, 0.5]) for n in (2, 5))
    np.testing.assert_array_equal(many.details["runs"]["loss"][:2], few.details["runs"]["loss"])
