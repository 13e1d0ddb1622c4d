"""The closed form of symmetric order 2 against quadrature, extended precision, exact series, and exact finite sizes.

Three roads that share nothing with it: the form with Psi(x, y, z) of docs/theory/diagrams.md section 9 at 450 digits; averages
over the Marchenko-Pastur law of eigenvalues evolved by an ODE solver; and at finite size the exact mean over real Wishart
matrices (`ExactMean`, a Pfaffian), itself checked against moments and simulated matrices.
"""

from __future__ import annotations

import json
import math
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt
import pytest
from numpy.polynomial import legendre
from scipy.integrate import solve_ivp
from scipy.special import gammaln

from lossflow.errors import InvalidInput
from lossflow.expansion.solutions import matrix
from lossflow.laws.marchenko_pastur import MarchenkoPastur, narayana
from lossflow.laws.wishart import trace_moment

Array = npt.NDArray[np.float64]

REFERENCE = json.loads((Path(__file__).parent.parent / "reference" / "diagrams.json").read_text())
PROMISED = 1e-12  # relative error of `loss` and `excess`
SIZES = [
    (1, 1),
    (1, 64),
    (64, 1),
    (64, 64),
    (64, 65),
    (64, 32),
    (10**6, 10**6),
    (10**6, 10**6 - 1),
    (10**6, 1),
    (1, 10**6),
]
NOISES = [10.0**k for k in range(-5, 6)]  # p sigma2: ten decades
TIMES = np.array([0, 1e-6, 1e-3, 0.02, 0.1, 0.4, 1, 3, 10, 30, 50])


# The value of the limit


@pytest.mark.parametrize(("p", "H"), SIZES)
@pytest.mark.parametrize("c", [1.0, 0.0, -0.7, 2.3])
def test_equals_the_marchenko_pastur_average(p: int, H: int, c: float) -> None:
    times = TIMES / max(c, 1)
    for noise in NOISES:
        sigma2 = noise / p
        np.testing.assert_allclose(
            matrix.loss(times, p, H, sigma2, c), _average(times, p, H, sigma2, c), rtol=PROMISED, err_msg=f"{noise=}"
        )


@pytest.mark.parametrize(("p", "H"), SIZES)
@pytest.mark.parametrize("c", [1.0, 0.0, -0.7, 2.3])
def test_ascent_equals_the_average_up_to_the_blow_up(p: int, H: int, c: float) -> None:
    """Near the blow-up a rounding of t is amplified by the distance to it; narrow spectra (sizes 1 and 1e6) add to that."""
    for noise in NOISES:
        sigma2 = noise / p
        blow_up = matrix.blow_up_time(p, H, sigma2, c)
        fractions = np.array([1e-6, 0.1, 0.5, 0.9, 0.99])
        times = fractions * blow_up if blow_up else -10 * fractions
        np.testing.assert_allclose(
            matrix.loss(times, p, H, sigma2, c), _average(times, p, H, sigma2, c), rtol=1e-10, err_msg=f"{noise=}"
        )


@pytest.mark.parametrize(("p", "H"), SIZES)
def test_equals_psi_in_extended_precision(p: int, H: int) -> None:
    """p/2 + p^2 sigma2 Psi(-t, H/p, p sigma2); at t = 50 it cancels 174 digits, of which 450 are carried."""
    times = TIMES[1:]
    for noise in NOISES[::2]:
        sigma2 = noise / p
        expected = [float(_psi_form(t, p, H, sigma2)) for t in times]
        np.testing.assert_allclose(matrix.loss(times, p, H, sigma2), expected, rtol=PROMISED, err_msg=f"{noise=}")


@pytest.mark.parametrize(("p", "H"), [(64, 63), (64, 32), (64, 1), (10**6, 10**6 - 1)])
def test_excess_is_accurate_where_the_loss_is_its_end(p: int, H: int) -> None:
    for noise in NOISES[::2]:
        expected = []
        for t in TIMES[1:]:
            with mpmath.workdps(450):
                expected.append(float(_psi_form(t, p, H, noise / p) - mpmath.mpf(p - H) / 2))
        assert expected[-1] < 1e-100  # nothing of it is left in the loss itself
        np.testing.assert_allclose(matrix.excess(TIMES[1:], p, H, noise / p), expected, rtol=PROMISED)


@pytest.mark.parametrize("case", REFERENCE["closed_forms"]["sym_nu2_loss"])
def test_published_values(case: dict[str, float]) -> None:
    """Values given to 14 digits; sigma is squared here, which may cost another rounding."""
    got = matrix.loss(case["t"], int(case["p"]), int(case["H"]), case["sigma"] ** 2)
    assert float(got) == pytest.approx(float(case["value"]), rel=1e-13, abs=0)


SIMULATED = {name: data for name, data in REFERENCE["simulations"].items() if name.startswith("sym_nu2")}


@pytest.mark.parametrize("name", SIMULATED)
def test_published_simulations(name: str) -> None:
    """The limit to its own digits, and the mean of 30 runs within its standard error and the neglected order."""
    data = SIMULATED[name]
    times, sizes = np.array(data["t"]), [data["params"][size] for size in ("p", "H", "sigma2")]
    values = matrix.loss(times, *sizes)
    np.testing.assert_allclose(values, data["theory"], rtol=1e-12)
    # the runs solved the flow of the weights to about 1e-6; the mean of rare large losses (H = p, late) has 30 runs only
    allowed = 1.3 * matrix.neglected(times, *sizes) + 3.5 * np.array(data["stderr"]) + 1e-6 * values
    assert (np.abs(data["mean"] - values) < allowed).all()


@pytest.mark.parametrize("c", [1.0, 0.6, 0.0, -0.8])
@pytest.mark.parametrize(("p", "H"), [(30, 50), (30, 30), (30, 7)])
def test_equals_eigenvalues_evolved_by_an_ode_solver(p: int, H: int, c: float) -> None:
    """dlam/dt = -4 lam (lam - c) at the nodes of the law, both directions of time; the solver is asked for 1e-11."""
    law = MarchenkoPastur(H, p, 0.03)
    start, weights = law.nodes_and_weights(1e-6)
    blow_up = matrix.blow_up_time(p, H, 0.03, c) or -0.5
    for times in (np.array([0.05, 0.3, 0.8]), blow_up * np.array([0.1, 0.5])):
        solution = solve_ivp(
            lambda _, lam: -4 * lam * (lam - c), (0, times[-1]), start, "DOP853", times, rtol=1e-11, atol=1e-14
        )
        expected = p / 2 * (law.atom * c**2 + weights @ (solution.y - c) ** 2)
        np.testing.assert_allclose(matrix.loss(times, p, H, 0.03, c), expected, rtol=1e-9)


@pytest.mark.parametrize("c", [1.0, 0.0, -0.8])
@pytest.mark.parametrize("times", [(0.1, 0.5), (-0.002, -0.01)])
def test_each_eigenvalue_obeys_the_flow_of_the_weights(c: float, times: tuple[float, ...]) -> None:
    """dU/dt = -dL/dU = -2 U (U^T U - c) integrated for one draw, against its own eigenvalues: the ODE behind the limit."""
    U = 0.4 * np.random.default_rng(7).standard_normal((5, 8))

    def error(u: Array) -> Array:
        return u.reshape(5, 8).T @ u.reshape(5, 8) - c * np.eye(8)

    solution = solve_ivp(
        lambda _, u: (-2 * u.reshape(5, 8) @ error(u)).ravel(), (0, times[-1]), U.ravel(), "DOP853", times,
        rtol=1e-11, atol=1e-14,
    )  # fmt: skip
    eigenvalues = np.append(np.linalg.svd(U, compute_uv=False) ** 2, [0.0, 0.0, 0.0])
    evolved = _residuals(eigenvalues, times, c)
    np.testing.assert_allclose((evolved**2).sum(axis=1), [np.sum(error(u) ** 2) for u in solution.y.T], rtol=1e-9)


def test_scaling_of_the_target() -> None:
    """Section 5: c times the identity is the identity after sigma2 -> sigma2/c, t -> c t, L -> c^2 L."""
    times = np.array([-0.01, 0, 0.1, 1, 7])
    for p, H in [(64, 64), (64, 20), (20, 64)]:
        for c in (1 / 3, 7.0, 1e-6, 1e6):
            expected = c**2 * matrix.loss(c * times, p, H, 0.01 / c)
            np.testing.assert_allclose(matrix.loss(times, p, H, 0.01, c), expected, rtol=PROMISED)


def test_zero_target_is_the_limit_from_both_sides() -> None:
    times = np.array([-0.05, 0, 0.1, 1, 50])
    free = matrix.loss(times, 40, 60, 0.01, 0.0)
    for c in (1e-12, -1e-12):
        np.testing.assert_allclose(matrix.loss(times, 40, 60, 0.01, c), free, rtol=1e-8)  # c t / lam(t) of it
    p, H, sigma2 = 40, 60, 0.01
    start = sigma2**2 * (p * H * H + p * p * H) / 2  # the leading mean of tr W^2 / 2
    assert free[1] == pytest.approx(start, rel=PROMISED, abs=0)


@pytest.mark.parametrize("c", [1.0, 0.0, -0.7])
def test_excess_is_symmetric_in_p_and_H(c: float) -> None:
    """The spectra of U^T U and U U^T differ by zeros, which carry the difference of the ends, and for c <= 0 do not move."""
    np.testing.assert_array_equal(matrix.excess(TIMES, 64, 20, 0.01, c), matrix.excess(TIMES, 20, 64, 0.01, c))
    np.testing.assert_array_equal(matrix.next_order(TIMES, 64, 20, 0.01, c), matrix.next_order(TIMES, 20, 64, 0.01, c))


# Late times, early times, blow-up


@pytest.mark.parametrize("noise", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize(("p", "H"), [(100, 300), (300, 100), (1000, 1010), (7, 1)])
def test_late_decay_of_different_sizes(p: int, H: int, noise: float) -> None:
    """e^{8t} (E L - end) -> (m/2) E (1 - 1/lam)^2 over the n x m law, with E 1/lam = 1/d, E 1/lam^2 = n/d^3, d = n - m."""
    n, m, sigma2 = max(p, H), min(p, H), noise / p
    d = n - m
    expected = m / 2 * (1 - 2 / (sigma2 * d) + n / (sigma2**2 * d**3))
    rounding = 1e-15 * m / 2 * n / (sigma2**2 * d**3) / expected  # of this formula
    assert float(matrix.excess(30.0, p, H, sigma2)) * math.exp(240) == pytest.approx(
        expected, rel=1e-13 + rounding, abs=0
    )


@pytest.mark.parametrize("c", [1.0, 4.0])
@pytest.mark.parametrize("noise", [1e-3, 1.0, 1e3])
def test_late_decay_of_equal_sizes_is_slow(noise: float, c: float) -> None:
    """E L -> (p/4) c^{5/2} (p sigma2)^{-1/2} e^{-2ct}, the contribution of the hard edge."""
    p, t = 50, 40 / c
    expected = p / 4 * c**2.5 / math.sqrt(noise) * math.exp(-2 * c * t)
    assert float(matrix.loss(t, p, p, noise / p, c)) == pytest.approx(expected, rel=1e-13, abs=0)


def test_decay_far_beyond_the_range_of_the_exponential() -> None:
    """From a small start e^{4t} exceeds the largest float at t = 178 while N tau does not; far beyond, the excess is zero."""
    for t in (140.0, 160.0, 180.0):
        expected = 50 / 4 / math.sqrt(50e-24) * math.exp(-2 * t)
        assert float(matrix.loss(t, 50, 50, 1e-24)) == pytest.approx(expected, rel=PROMISED, abs=0)
    assert float(matrix.loss(1e4, 50, 50, 0.02)) == 0.0
    assert float(matrix.loss(1e4, 50, 30, 0.02)) == 10.0


@pytest.mark.parametrize(("c", "expected"), [(1.0, 10.0), (2.0, 40.0), (0.0, 0.0), (-1.0, 25.0)])
def test_end_value(c: float, expected: float) -> None:
    assert matrix.end_value(50, 30, c) == expected
    assert float(matrix.loss(1e15, 50, 30, 0.02, c)) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(("H", "precision"), [(30, 1e-8), (70, 1e-8), (50, 1e-4)])
def test_free_evolution_decays_like_a_power(H: int, precision: float) -> None:
    """lam(t) -> 1/(4t), so E L -> m/(32 t^2); with a hard edge the eigenvalues that lag behind are (t b)^{-1/2} of all."""
    assert float(matrix.loss(1e9, 50, H, 0.02, 0.0)) == pytest.approx(min(50, H) / 32e18, rel=precision, abs=0)


@pytest.mark.parametrize("c", [1.0, 0.0, -0.7])
def test_no_initialization_means_no_motion(c: float) -> None:
    times = np.array([-1e4, -1, 0, 1, 1e4])
    np.testing.assert_array_equal(matrix.loss(times, 50, 30, 0.0, c), np.full(5, 25 * c**2))
    np.testing.assert_array_equal(matrix.next_order(times, 50, 30, 0.0, c), np.zeros(5))
    assert matrix.blow_up_time(50, 30, 0.0, c) is None


@pytest.mark.parametrize(("p", "H"), [(50, 50), (50, 20), (1, 1), (10**6, 1)])
@pytest.mark.parametrize("c", [1.0, 0.3, 0.0, -0.7])
def test_blow_up_is_where_the_upper_edge_diverges(p: int, H: int, c: float) -> None:
    upper = MarchenkoPastur(H, p, 3 / p).edges[1]
    blow_up = matrix.blow_up_time(p, H, 3 / p, c)
    assert blow_up is not None
    denominator = 1 + upper * (math.expm1(4 * c * blow_up) / c if c else 4 * blow_up)
    assert denominator == pytest.approx(0, abs=1e-14)
    values = matrix.loss([blow_up * (1 - 1e-9), blow_up, 1.1 * blow_up], p, H, 3 / p, c)
    assert np.isnan(values[1:]).all()
    assert np.isnan(matrix.neglected([blow_up, 2 * blow_up], p, H, 3 / p, c)).all()
    # a square-root edge meets a double pole: the loss grows like distance^(-1/2), up to the distance over the width
    half = matrix.loss([blow_up * (1 - 4e-9), blow_up * (1 - 1e-9)], p, H, 3 / p, c)
    assert half[1] / half[0] == pytest.approx(2, rel=5e-3, abs=0)


def test_no_blow_up_below_the_target() -> None:
    """All eigenvalues below c: the ascent ends at the saddle U = 0, with L = c^2 p/2."""
    assert matrix.blow_up_time(50, 50, 0.0049) is None
    assert matrix.blow_up_time(50, 50, 0.0051) is not None
    assert float(matrix.loss(-1e4, 50, 50, 0.0049)) == pytest.approx(25, rel=1e-15, abs=0)


def test_blow_up_of_a_nearly_zero_target() -> None:
    free = matrix.blow_up_time(50, 20, 0.1, 0.0)
    for c in (1e-50, -1e-50, 1e-14, -1e-14):
        assert matrix.blow_up_time(50, 20, 0.1, c) == pytest.approx(free, rel=1e-13, abs=0)


# The series in time


def test_small_times_sum_the_exact_series() -> None:
    """Y_s to leading order in 1/p, from the recurrence of section 9 and Narayana numbers, 40 terms in exact arithmetic."""
    p, H, sigma2 = 32, 16, 1 / 512
    ratio, noise = Fraction(H, p), Fraction(p, 512)
    moments = [p * noise**k * sum(narayana(k, n) * ratio**n for n in range(1, k + 1)) for k in range(1, 42)]
    derivatives = _derivatives(moments, Fraction(p, 2))
    for t in (-0.1, -0.01, 0.03, 0.1):  # the series converges for |t| < 0.9
        assert float(matrix.loss(t, p, H, sigma2)) == pytest.approx(_taylor(derivatives, t), rel=1e-14, abs=0)


def test_next_order_sums_the_exact_series() -> None:
    """The part of Y_s one degree below the leading one in (p, H), from the exact moments of Wishart matrices."""
    p, H, sigma2 = 32, 16, Fraction(1, 512)
    moments = [
        sigma2**k * sum(c * p**a * H**b for (a, b), c in trace_moment(k).items() if a + b == k) for k in range(1, 27)
    ]
    derivatives = _derivatives(moments, Fraction(0))
    for t in (-0.08, -0.01, 0.03, 0.08):
        assert float(matrix.next_order(t, p, H, float(sigma2))) == pytest.approx(
            _taylor(derivatives, t), rel=1e-13, abs=0
        )


# The next order and the neglected part


@pytest.mark.parametrize(("p", "H"), [(64, 64), (64, 65), (64, 20), (1, 64), (1, 1), (10**6, 1)])
@pytest.mark.parametrize("c", [1.0, 0.0, -0.7])
def test_next_order_is_the_mean_correction_of_linear_statistics(p: int, H: int, c: float) -> None:
    """(F(a) + F(b))/4 - (1/2) mean over the arcsine law, both numerically; the terms cancel for narrow spectra."""
    for noise in (1e-3, 1.0, 1e3):
        law = MarchenkoPastur(H, p, noise / p)
        a, b = law.edges
        blow_up = matrix.blow_up_time(p, H, noise / p, c) or -1.0
        times = np.array([0.5 * blow_up, 0.1 * blow_up, 0, 0.01, 0.2, 1, 2])
        angles = (np.arange(20000) + 0.5) * np.pi / 20000  # midpoints: exact beyond rounding for a periodic function
        arcsine = (_residuals((a + b) / 2 + (b - a) / 2 * np.cos(angles), times, c) ** 2).mean(axis=1)
        edges = (_residuals(np.array([a, b]), times, c) ** 2).sum(axis=1)
        rounding = 1e-14 * (edges + arcsine)
        assert (
            np.abs(matrix.next_order(times, p, H, noise / p, c) - (edges / 8 - arcsine / 4)) < 1e-11 + rounding
        ).all()


class ExactMean:
    """E sum_i f(lam_i) over real Wishart matrices U^T U, U of H x p standard normal entries, exactly: f @ weights.

    The density of the eigenvalues, prod lam^{(nu-1)/2} e^{-lam/2} |Vandermonde|, is a Pfaffian (de Bruijn): with functions u_j
    spanning the polynomials times the weight and A_jk = int int sgn(y - x) u_j(x) u_k(y), the mean of sum f is
    tr(A^{-1} dA)/2 where dA has f(x) + f(y) under the integral; one row and column of int u_j more if the number is odd.
    Here x = y^2, u_j are normalized Laguerre functions, and the integrals are Gauss-Legendre sums on panels.
    """

    def __init__(self, p: int, H: int) -> None:
        n, self.zeros = max(p, H), p - min(p, H)
        m, nu, order = min(p, H), abs(p - H), 24
        begin, end = max(0.0, math.sqrt(n) - math.sqrt(m) - 11), math.sqrt(n) + math.sqrt(m) + 11
        ends = np.linspace(begin, end, 2 + math.ceil((end - begin) / min(1.0, 8 / math.sqrt(m))))
        if begin == 0:  # the flow makes features as small as e^{-2t} at a hard edge
            ends = np.concatenate([[0.0], ends[1] / 3.0 ** np.arange(30, 0, -1), ends[1:]])
        nodes, w = legendre.leggauss(order)
        half = np.diff(ends)[:, None] / 2
        y, w = (ends[:-1, None] + half * (1 + nodes)).ravel(), (half * w).ravel()
        u = np.zeros((m, y.size))
        u[0] = np.exp((math.log(2) - gammaln(nu + 0.5) - y**2) / 2 + nu * np.log(y))
        for j in range(m - 1):
            previous = math.sqrt(j * (j + nu - 0.5)) * u[j - 1] if j else 0.0
            u[j + 1] = ((2 * j + nu + 0.5 - y**2) * u[j] - previous) / math.sqrt((j + 1) * (j + nu + 0.5))
        running = np.linalg.solve(
            legendre.legvander(nodes, order - 1),
            np.eye(order),
        ).T @ np.array([legendre.legval(nodes, legendre.legint(unit, lbnd=-1)) for unit in np.eye(order)])
        panels = u.reshape(m, -1, order)
        sums = (u * w).reshape(m, -1, order).sum(axis=2)
        before = np.cumsum(sums, axis=1) - sums
        integral = (before[:, :, None] + half * (panels @ running)).reshape(m, -1)
        total = sums.sum(axis=1)
        signed = total[:, None] - 2 * integral  # int sgn(y - x) u(y) dy
        A = (u * w) @ signed.T
        if m % 2:
            A = np.block([[A, total[:, None]], [-total[None, :], np.zeros((1, 1))]])
        inverse = np.linalg.inv(A)
        density = np.einsum("ki,ki->i", inverse[:m, :m] @ u, signed)
        if m % 2:
            density += inverse[m, :m] @ u
        self.eigenvalues, self.weights = y**2, w * density

    def loss(self, times: Array, sigma2: float, c: float) -> Array:
        return self.zeros * c**2 / 2 + _residuals(sigma2 * self.eigenvalues, times, c) ** 2 @ self.weights / 2


exact_mean = cache(ExactMean)


@pytest.mark.parametrize(("p", "H"), [(1, 1), (2, 3), (4, 4), (7, 7), (5, 1), (8, 33), (64, 64), (96, 128)])
def test_exact_means_reproduce_exact_moments(p: int, H: int) -> None:
    exact = exact_mean(p, H)
    assert exact.weights.sum() == pytest.approx(min(p, H), rel=1e-12, abs=0)
    for m in range(1, 7):
        expected = float(sum(c * p**a * H**b for (a, b), c in trace_moment(m).items()))
        assert exact.eigenvalues**m @ exact.weights == pytest.approx(expected, rel=1e-12, abs=0)
    if abs(p - H) > 1:
        assert (1 / exact.eigenvalues) @ exact.weights == pytest.approx(min(p, H) / (abs(p - H) - 1), rel=1e-12, abs=0)


@pytest.mark.parametrize(
    ("p", "H", "runs"), [(1, 1, 40000), (6, 6, 20000), (6, 7, 20000), (20, 20, 3000), (15, 40, 3000)]
)
def test_exact_means_are_those_of_simulated_matrices(p: int, H: int, runs: int) -> None:
    times = np.array([0.02, 0.2, 0.6, 1.5])
    losses = _simulated_losses(times, p, H, 1 / p, runs)
    deviation = (losses.mean(axis=0) - exact_mean(p, H).loss(times, 1 / p, 1.0)) / (
        losses.std(axis=0) / math.sqrt(runs)
    )
    assert (np.abs(deviation) < 4).all()


@pytest.mark.parametrize("ratio", [Fraction(1), Fraction(2), Fraction(1, 4), Fraction(3, 2)])
@pytest.mark.parametrize("noise", [0.1, 1.0, 10.0])
def test_next_order_is_the_gap_extrapolated_to_infinite_size(ratio: Fraction, noise: float) -> None:
    """gap(p) = next order + A/p + B/p^2 + ... at fixed H/p and p sigma2, so that (8 g(4p) - 6 g(2p) + g(p))/3 removes A and B.

    Away from the hard edge, i.e. early for equal sizes. What is left is at most a tenth of A/p, or 1e-3.
    """
    times = np.array([0.02, 0.1, 0.2]) if ratio == 1 else np.array([0.02, 0.1, 0.4, 1.0, 2.0])
    gaps = [
        exact_mean(p, int(p * ratio)).loss(times, noise / p, 1.0) - matrix.loss(times, p, int(p * ratio), noise / p)
        for p in (24, 48, 96)
    ]
    expected = matrix.next_order(times, 96, int(96 * ratio), noise / 96)
    extrapolated = (8 * gaps[2] - 6 * gaps[1] + gaps[0]) / 3
    left = np.abs(gaps[2] - expected)
    assert (np.abs(extrapolated - expected) < 0.1 * left + 1e-3 * np.abs(expected)).all()
    assert (left < 0.1 * np.abs(expected)).mean() >= 0.4  # else there would be no next order to speak of


GRID_TIMES = np.concatenate([np.geomspace(1e-3, 3, 60), [4, 6, 8, 12]])
GRID_NOISES = [1e-3, 1e-2, 0.1, 0.3, 1, 3, 10, 100, 1e3]
GRID_SIZES = [
    (1, 1), (1, 2), (2, 1), (1, 3), (1, 9), (1, 33), (4, 4), (4, 5), (4, 12), (4, 36), (16, 16), (16, 20), (16, 32), (32, 3),
    (32, 32), (32, 48), (64, 16), (64, 64), (64, 65), (64, 66), (64, 68), (64, 72), (64, 129), (64, 330), (96, 98),
]  # fmt: skip


@cache
def _calibration() -> Array:
    """Rows (gap / neglected, min(p, H), c) over the grid, where the gap is above the rounding of both."""
    rows = []
    for p, H in GRID_SIZES:
        exact = exact_mean(p, H)
        for c in (1.0, 0.0, -0.6):
            for noise in GRID_NOISES:
                values = matrix.loss(GRID_TIMES, p, H, noise / p, c)
                gap = np.abs(exact.loss(GRID_TIMES, noise / p, c) - values)
                known = gap > 1e-10 * values + 1e-13 * p * c**2
                ratio = gap[known] / matrix.neglected(GRID_TIMES, p, H, noise / p, c)[known]
                rows.append(np.column_stack([ratio, np.full(ratio.size, min(p, H)), np.full(ratio.size, c)]))
    return np.concatenate(rows)


def test_neglected_is_never_too_small() -> None:
    ratio = _calibration()[:, 0]
    assert ratio.size > 35000
    assert ratio.max() < 1.1


def test_neglected_is_the_gap() -> None:
    """For sizes from 16 on: nine tenths of all cases within 20%, and below half only where the gap changes sign."""
    rows = _calibration()
    ratio = rows[rows[:, 1] >= 16, 0]
    low, high = np.quantile(ratio, [0.06, 0.96])
    assert low > 0.8
    assert high < 1.01
    assert (ratio < 0.5).mean() < 0.03


def test_neglected_is_of_the_right_size_for_a_few_eigenvalues() -> None:
    ratio = _calibration()[:, 0]
    assert np.quantile(ratio, 0.01) > 1 / 25
    assert 0.8 < np.median(ratio) < 1.05


@pytest.mark.parametrize("difference", [0, 1, 2, 3])
def test_neglected_covers_the_hard_edge(difference: int) -> None:
    """Equal sizes: the true loss ends up pi/2 times the limit. Nearly equal: it decays slower than the limit, gap >> limit."""
    p, sigma2, times = 64, 1 / 64, np.array([4.0, 6.0, 8.0, 10.0])
    values = matrix.loss(times, p, p + difference, sigma2)
    gap = exact_mean(p, p + difference).loss(times, sigma2, 1.0) - values
    np.testing.assert_allclose(matrix.neglected(times, p, p + difference, sigma2), gap, rtol=0.03)
    if difference == 0:
        np.testing.assert_allclose(gap[1:] / values[1:], math.pi / 2 - 1, rtol=0.02)
        assert (matrix.next_order(times[1:], p, p, sigma2) > 10 * gap[1:]).all()  # the plain next order fails here
    else:
        assert gap[-1] > 40 * matrix.next_order(times[-1], p, p + difference, sigma2)


@pytest.mark.parametrize(
    ("p", "H", "runs"),
    [(32, 32, 4000), (64, 128, 1500), (128, 64, 1500), (128, 128, 400), (256, 256, 100), (256, 300, 80)],
)
def test_simulated_matrices_are_within_the_neglected_order(p: int, H: int, runs: int) -> None:
    times = np.array([0.01, 0.05, 0.2, 0.5, 1.0, 2.0])
    for noise in (0.1, 1.0, 10.0):
        losses = _simulated_losses(times, p, H, noise / p, runs)
        error = losses.std(axis=0) / math.sqrt(runs)
        gap = np.abs(losses.mean(axis=0) - matrix.loss(times, p, H, noise / p))
        estimate = matrix.neglected(times, p, H, noise / p)
        assert (gap < 1.3 * estimate + 3.5 * error).all(), noise
        assert (estimate < 2 * (gap + 3.5 * error)).all(), noise


def test_neglected_includes_the_rounding_of_the_loss() -> None:
    """Late, with p > H, nothing is left but the constant (p - H)/2, known to a few roundings."""
    estimate = float(matrix.neglected(50.0, 64, 32, 1 / 64))
    assert 1e-16 * 16 < estimate < 1e-14 * 16


def test_neglected_in_pieces_is_neglected_at_once() -> None:
    times = np.linspace(-0.01, 3, 1000)
    together = matrix.neglected(times, 40, 41, 0.02)
    last = matrix.neglected(times[-1], 40, 41, 0.02)  # the same largest time: the same nodes
    assert together[-1] == pytest.approx(float(last), rel=1e-13, abs=0)
    np.testing.assert_allclose(
        together[::37], [float(matrix.neglected(t, 40, 41, 0.02)) for t in times[::37]], rtol=2e-3
    )


# Arguments


def test_shape_of_the_times() -> None:
    times = np.array([[0.0, 0.1, -0.001], [1.0, 2.0, 3.0]])
    for function in (matrix.loss, matrix.excess, matrix.next_order, matrix.neglected):
        values = function(times, 20, 30, 0.01)
        assert values.shape == (2, 3)
        assert values.dtype == np.float64
        assert function(0.1, 20, 30, 0.01).shape == ()
        assert function([], 20, 30, 0.01).shape == (0,)
        assert float(function(0.1, 20, 30, 0.01)) == pytest.approx(values[0, 1], rel=2e-3, abs=0)
    assert times[0, 0] == 0.0


@pytest.mark.parametrize(("p", "H"), [(1, 1), (1, 10**6), (10**6, 10**6 - 1), (50, 30)])
@pytest.mark.parametrize("sigma2", [0, 1e-50, 1e-12, 1.0, 1e50])
@pytest.mark.parametrize("c", [1.0, 0.0, -1.0, 1e-58, 1e58, -1e58])
def test_extremes_are_finite_ordered_and_silent(p: int, H: int, sigma2: float, c: float) -> None:
    """Where the limit exists it is finite, falls in time, and no operation overflows (warnings are errors)."""
    times = np.concatenate([-np.geomspace(1e4, 1e-12, 30), [0], np.geomspace(1e-12, 1e4, 50)])
    blow_up = matrix.blow_up_time(p, H, sigma2, c)
    exists = times > (-math.inf if blow_up is None else blow_up)
    for function in (matrix.loss, matrix.excess, matrix.next_order, matrix.neglected):
        values = function(times, p, H, sigma2, c)
        np.testing.assert_array_equal(np.isfinite(values), exists)
    values = matrix.loss(times, p, H, sigma2, c)[exists]
    assert (np.diff(values) <= 1e-14 * values[:-1]).all()
    assert (matrix.neglected(times, p, H, sigma2, c)[exists] >= 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.1, 0, 5, 0.1), "size 'p' must be a whole number >= 1, got 0"),
        ((0.1, 5, 2.5, 0.1), "size 'H' must be a whole number >= 1, got 2.5"),
        ((0.1, 5, math.nan, 0.1), "size 'H' must be a whole number >= 1, got nan"),
        ((0.1, 5, 5, -0.1), r"sigma2 \* max\(p, H\) must be 0 or between 1e-60 and 1e\+60, got -0.5"),
        ((0.1, 5, 5, 1e70), r"sigma2 \* max\(p, H\) must be 0 or between 1e-60 and 1e\+60, got 5e\+70"),
        ((0.1, 5, 5, 0.1, math.inf), "the size of the target's scale must be 0 or between 1e-60 and .*, got inf"),
        (([0.1, math.nan], 5, 5, 0.1), "times must be finite, got nan"),
    ],
)
def test_misuse_raises(arguments: tuple, message: str) -> None:
    for function in (matrix.loss, matrix.excess, matrix.next_order, matrix.neglected):
        with pytest.raises(InvalidInput, match=message):
            function(*arguments)


def test_the_formula_is_the_code() -> None:
    """FORMULA, transcribed: what is shown to the reader is what was computed."""
    for t, p, H, sigma2, c in [(0.3, 64, 32, 0.02, 1.0), (0.1, 20, 50, 0.1, -0.5), (-0.001, 30, 30, 0.1, 2.0)]:
        m, N, M = min(p, H), sigma2 * max(p, H), sigma2 * min(p, H)
        tau = (math.exp(4 * c * t) - 1) / c
        Delta = math.sqrt((1 + (N + M) * tau) ** 2 - 4 * N * M * tau**2)
        plus, minus = (1 + (N - M) * tau + Delta) / 2, (1 - (N - M) * tau + Delta) / 2
        value = (p - m) * c**2 / 2 + m / 2 * (
            minus / (plus * Delta) * (c - N / minus**2) ** 2 + N * M / (plus * minus) ** 2
        )
        assert float(matrix.loss(t, p, H, sigma2, c)) == pytest.approx(value, rel=1e-12, abs=0)
    for symbol in (r"h_-}{h_+\Delta}", r"c-\frac{N}{h_-^2}", r"\frac{NM}{(h_+h_-)^2}", r"\tau = \frac{e^{4ct}-1}{c}"):
        assert symbol in matrix.FORMULA


# Independent computations


def _tau(times: npt.ArrayLike, c: float) -> Array:
    times = np.asarray(times, dtype=np.float64)
    return np.expm1(4 * c * times) / c if c else 4 * times


def _residuals(eigenvalues: npt.NDArray[np.floating[Any]], times: npt.ArrayLike, c: float) -> Array:
    """lam(t) - c for eigenvalues that began at the given ones, times x eigenvalues."""
    return (eigenvalues - c) / (1 + _tau(times, c)[:, None] * eigenvalues)


def _average(times: Array, p: int, H: int, sigma2: float, c: float) -> Array:
    law = MarchenkoPastur(H, p, sigma2)
    eigenvalues, weights = law.nodes_and_weights(1e-100)
    return p / 2 * (law.atom * c**2 + _residuals(eigenvalues, times, c) ** 2 @ weights)


def _psi_form(t: float, p: int, H: int, sigma2: float) -> Any:
    """p/2 + p^2 sigma2 Psi(-t, H/p, p sigma2) with the Hadamard product h of Narayana numbers, as section 9 writes it."""
    with mpmath.workdps(450):
        x, y, z = -mpmath.mpf(t), mpmath.mpf(H) / p, p * mpmath.mpf(sigma2)
        zeta = z * (1 - mpmath.exp(-4 * x))
        root = mpmath.sqrt(1 - 2 * zeta * (y + 1) + zeta**2 * (y - 1) ** 2)
        h = (1 - zeta * (y + 1) - root) / (2 * zeta**2)
        slope = (-(y + 1) - (-(y + 1) + zeta * (y - 1) ** 2) / root) / (2 * zeta**2) - 2 * h / zeta
        return mpmath.mpf(p) / 2 + p * z * (z * mpmath.exp(-8 * x) / 2 * slope - mpmath.exp(-4 * x) * h)


def _derivatives(moments: list[Fraction], constant: Fraction) -> list[Fraction]:
    """Y_s = (-1)^s sum_d M_{s,d} E tr W^{d+1}, with M_{s,d} = -4(d+1) M_{s-1,d} + 4d M_{s-1,d-1}; moments from m = 1."""
    weights = [Fraction(-1), Fraction(1, 2)]
    found = [sum((w * moment for w, moment in zip(weights, moments, strict=False)), constant)]
    for s in range(1, len(moments) - 1):
        weights = [
            -4 * (d + 1) * w + 4 * d * below
            for d, (w, below) in enumerate(zip([*weights, 0], [0, *weights], strict=True))
        ]
        found.append((-1) ** s * sum((w * moment for w, moment in zip(weights, moments, strict=False)), Fraction(0)))
    return found


def _taylor(derivatives: list[Fraction], t: float) -> float:
    return float(sum(y * Fraction(t) ** s / math.factorial(s) for s, y in enumerate(derivatives)))


@cache
def _simulated_eigenvalues(p: int, H: int, runs: int) -> Array:
    """runs x min(p, H): of U^T U for sampled standard normal matrices U."""
    rng = np.random.default_rng([2026, p, H])
    pieces = [rng.standard_normal((min(500, runs - first), H, p)) for first in range(0, runs, 500)]
    return np.concatenate([np.linalg.svd(U, compute_uv=False) ** 2 for U in pieces]).astype(np.float64)


def _simulated_losses(times: Array, p: int, H: int, sigma2: float, runs: int) -> Array:
    """runs x times: the loss of sampled matrices, whose eigenvalues evolve exactly."""
    eigenvalues = sigma2 * _simulated_eigenvalues(p, H, runs)
    return np.array([((p - min(p, H)) + (_residuals(lam, times, 1.0) ** 2).sum(axis=1)) / 2 for lam in eigenvalues])
