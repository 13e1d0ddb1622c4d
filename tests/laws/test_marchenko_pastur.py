"""The Marchenko-Pastur law against its Stieltjes transform, exact moments, adaptive quadrature and sampled spectra."""

from __future__ import annotations

import itertools
import math
import pickle

import mpmath
import numpy as np
import pytest
from scipy.integrate import quad

from lossflow.description import Description
from lossflow.errors import InvalidInput
from lossflow.laws.marchenko_pastur import MarchenkoPastur, narayana

SIZES = [(1, 1), (2, 1), (1, 2), (7, 5), (1, 10**6), (10**6, 1), (10**6, 10**6), (10**6 + 1, 10**6), (64, 512)]
ROUNDING = 2e-14  # sums of about 1600 positive terms, each a handful of roundings


@pytest.mark.parametrize(("rows", "columns"), SIZES)
@pytest.mark.parametrize("variance", [1.0, 1e-7, 3e5])
def test_quadrature_gives_mass_and_moments(rows: float, columns: float, variance: float) -> None:
    law = MarchenkoPastur(rows, columns, variance)
    _, weights = law.nodes_and_weights()
    assert (weights > 0).all()
    assert weights.sum() + law.atom == pytest.approx(1, rel=ROUNDING, abs=0)
    for k in range(1, 9):
        assert law.average(lambda x, k=k: x**k) == pytest.approx(law.moment(k), rel=ROUNDING, abs=0)


@pytest.mark.parametrize(("rows", "columns"), SIZES)
def test_quadrature_resolves_every_scale_at_the_lower_edge(rows: float, columns: float) -> None:
    """E 1/(x + delta) is algebraic: with s = delta + rows - columns it is (sqrt(s^2 + 4 columns delta) - s)/(2 columns delta)."""
    law = MarchenkoPastur(rows, columns)
    for exponent in range(-90, 10, 6):
        delta = 10.0**exponent
        with mpmath.workdps(250):
            d = mpmath.mpf(delta)
            s = d + (rows - columns)
            expected = float((mpmath.sqrt(s * s + 4 * columns * d) - s) / (2 * columns * d))
        assert law.average(lambda x, delta=delta: 1 / (x + delta), finest=1e-100) == pytest.approx(
            expected, rel=ROUNDING, abs=0
        )


@pytest.mark.parametrize(("rows", "columns"), [(7, 5), (5, 7), (3, 3)])
def test_quadrature_resolves_a_pole_beyond_the_upper_edge(rows: float, columns: float) -> None:
    """E 1/(b (1 + gap) - x), continued from the same formula; its error is the rounding of x over the gap."""
    law = MarchenkoPastur(rows, columns)
    upper = law.edges[1]
    for gap in (1.0, 1e-2, 1e-4, 1e-6):
        pole = upper * (1 + gap)
        with mpmath.workdps(40):
            d = mpmath.mpf(-pole)
            s = d + (rows - columns)
            expected = float((-mpmath.sqrt(s * s + 4 * columns * d) - s) / (2 * columns * d))
        assert -law.average(lambda x, pole=pole: 1 / (pole - x)) == pytest.approx(
            expected, rel=ROUNDING + 1e-15 / gap, abs=0
        )


@pytest.mark.parametrize(("rows", "columns", "variance"), [(7, 5, 1.0), (5, 7, 0.3), (3, 3, 2.0), (1, 40, 1.0)])
def test_density_and_quadrature_are_the_same_law(rows: float, columns: float, variance: float) -> None:
    law = MarchenkoPastur(rows, columns, variance)
    a, b = law.edges
    # u^2 for x - a removes the inverse root of a hard edge, which adaptive quadrature does not like
    numbers = [
        quad(
            lambda u: 2 * u * float(law.density(a + u * u)) * math.exp(-(a + u * u) / b), 0, math.sqrt(b - a), epsabs=0
        ),
        quad(lambda u: 2 * u * float(law.density(a + u * u)), 0, math.sqrt(b - a), epsabs=0),
    ]
    smooth, mass = (value for value, _ in numbers)
    assert smooth + law.atom == pytest.approx(
        law.average(lambda x: np.exp(-x / b)), rel=1e-8, abs=0
    )  # quad asks for 1.5e-8
    assert mass + law.atom == pytest.approx(1, rel=1e-8, abs=0)


def test_density_outside_and_at_the_edges() -> None:
    law = MarchenkoPastur(2, 1)
    a, b = law.edges
    np.testing.assert_array_equal(law.density([[-1.0, 0.0], [a / 2, 2 * b]]), np.zeros((2, 2)))
    assert MarchenkoPastur(3, 3).density(0.0) == math.inf
    assert MarchenkoPastur(3, 3).edges[0] == 0.0


@pytest.mark.parametrize(("rows", "columns"), [(10**6 + 1, 10**6), (10**12 + 1, 10**12), (3, 2)])
def test_the_lower_edge_survives_nearly_equal_sizes(rows: int, columns: int) -> None:
    with mpmath.workdps(50):
        expected = float((mpmath.sqrt(rows) - mpmath.sqrt(columns)) ** 2)
    assert MarchenkoPastur(rows, columns).edges[0] == pytest.approx(expected, rel=1e-15, abs=0)


def test_only_ratio_and_scale_matter() -> None:
    one, other = MarchenkoPastur(30, 20, 0.5), MarchenkoPastur(1.5, 1, 10)
    assert one.edges == pytest.approx(other.edges, rel=1e-15, abs=0)
    assert one.moment(5) == pytest.approx(other.moment(5), rel=1e-15, abs=0)
    assert one.average(np.sqrt) == pytest.approx(other.average(np.sqrt), rel=ROUNDING, abs=0)


def test_transposed_matrices_have_the_same_nonzero_spectrum() -> None:
    wide, tall = MarchenkoPastur(3, 11), MarchenkoPastur(11, 3)
    assert wide.edges == tall.edges
    assert wide.atom == pytest.approx(8 / 11, rel=1e-15, abs=0)
    assert tall.atom == 0
    x, weights = wide.nodes_and_weights()
    y, others = tall.nodes_and_weights()
    np.testing.assert_array_equal(x, y)
    np.testing.assert_allclose(11 * weights, 3 * others, rtol=1e-15)


@pytest.mark.parametrize("k", range(1, 7))
def test_narayana_numbers_count_non_crossing_partitions(k: int) -> None:
    """Against brute force: all set partitions, given by restricted growth strings, of which the crossing ones are dropped."""
    counts = dict.fromkeys(range(1, k + 1), 0)
    for blocks in itertools.product(range(k), repeat=k):
        if any(block > max(blocks[:i], default=-1) + 1 for i, block in enumerate(blocks)):
            continue
        crossing = any(
            blocks[i] == blocks[j] != blocks[h] == blocks[g] for i, h, j, g in itertools.combinations(range(k), 4)
        )
        if not crossing:
            counts[max(blocks) + 1] += 1
    assert counts == {n: narayana(k, n) for n in range(1, k + 1)}


def _largest_gap(law: MarchenkoPastur, eigenvalues: np.ndarray) -> float:
    """Kolmogorov distance between the continuous law and the sample."""
    x, weights = law.nodes_and_weights()
    order = np.argsort(x)
    x, cumulative = x[order], np.cumsum(weights[order]) - weights[order] / 2
    sample = np.searchsorted(np.sort(eigenvalues), x) / eigenvalues.size
    return float(np.abs(sample - cumulative / weights.sum()).max())


@pytest.mark.parametrize(("rows", "columns"), [(120, 120), (240, 120), (120, 400)])
def test_sampled_spectra_follow_the_law(rows: int, columns: int) -> None:
    """Real Wishart spectra differ from their law by about half an eigenvalue in min(rows, columns); 2% in scale by more."""
    rng = np.random.default_rng([2026, rows, columns])
    samples = [np.linalg.svd(rng.standard_normal((rows, columns)), compute_uv=False) ** 2 for _ in range(40)]
    eigenvalues = 0.7 * np.concatenate(samples)
    tolerance = 0.6 / min(rows, columns)
    assert _largest_gap(MarchenkoPastur(rows, columns, 0.7), eigenvalues) < tolerance
    assert _largest_gap(MarchenkoPastur(rows, columns, 0.714), eigenvalues) > tolerance


def test_it_is_a_description() -> None:
    law = MarchenkoPastur(3, 2, 0.5)
    assert law == MarchenkoPastur(3.0, 2.0, 0.5)
    assert hash(law) == hash(MarchenkoPastur(3.0, 2.0, 0.5))
    assert pickle.loads(pickle.dumps(law)) == law
    assert Description.from_toml(law.to_toml()) == law
    assert repr(law) == "MarchenkoPastur(rows=3, columns=2, variance=0.5)"


@pytest.mark.parametrize("bad", [{"rows": 0}, {"columns": -1}, {"variance": math.inf}, {"variance": 0.0}])
def test_sizes_and_variance_are_positive(bad: dict[str, float]) -> None:
    name, value = next(iter(bad.items()))
    with pytest.raises(InvalidInput, match=f"MarchenkoPastur.{name} must be positive and finite, got {value}"):
        MarchenkoPastur(**({"rows": 1, "columns": 1, "variance": 1.0} | bad))


def test_resolution_is_a_fraction() -> None:
    with pytest.raises(InvalidInput, match="finest is a fraction of the upper edge"):
        MarchenkoPastur(1, 1).nodes_and_weights(0.0)


def test_panels_may_be_coarse_above_and_finer_within() -> None:
    """e^{-1000 x} varies near the lower edge alone; another number of nodes gives the same average."""
    law = MarchenkoPastur(rows=1.0, columns=1.0)
    exact = law.average(lambda x: np.exp(-1000 * x))
    for above, points in ((1.0, 16), (1.0, 24), (None, 24)):
        x, weights = law.nodes_and_weights(1e-9, above, points)
        assert weights @ np.exp(-1000 * x) == pytest.approx(exact, rel=1e-13)
    assert law.nodes_and_weights(1e-9, 1.0)[0].size < 0.7 * law.nodes_and_weights(1e-9)[0].size
    with pytest.raises(InvalidInput, match="finest"):
        law.nodes_and_weights(1e-9, 2.0)
