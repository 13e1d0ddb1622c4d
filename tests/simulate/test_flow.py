"""The integrator against flows known in closed form: eigenvalues, one weight, exponentials; and its bookkeeping, bit by bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

import lossflow as lf
from lossflow.simulate import flow
from lossflow.simulate.flow import BLOWN_UP, COMPLETE, OVERFLOWN, STUCK, TOO_MANY_STEPS, Flow, Legs, at_start, integrate
from lossflow.simulate.gradients import Program

Array = npt.NDArray[np.float64]

EPSILON = float(np.finfo(np.float64).eps)
v = lf.Tensor("v", ("n",))


def started(
    program: Program,
    states: npt.ArrayLike,
    times: Sequence[float] | Array,
    direction: int = 1,
    frozen: npt.ArrayLike = (),
) -> Legs:
    """Legs from these states, shape (R, weights), all with the same targets."""
    states = np.atleast_2d(np.asarray(states, float)).reshape(-1, program.weights)
    R = len(states)
    targets = np.tile(np.abs(np.asarray(times, float)), (R, 1))
    return at_start(np.full(R, direction), targets, states, np.tile(np.asarray(frozen, float), (R, 1)))


def draw(problem: lf.CPDecomposition, sizes: dict[str, float], runs: int) -> tuple[Program, Array]:
    program = Program(problem.as_diagrams(), sizes)
    samples = [problem.as_sample(sizes, run, 0) for run in range(runs)]
    return program, np.array([np.concatenate([s[name].ravel() for name in program.learned]) for s in samples])


def eigenvalues(state: Array, p: int) -> Array:
    u = state.reshape(-1, p)
    found = np.zeros(p)
    found[: min(u.shape)] = np.linalg.svd(u, compute_uv=False) ** 2
    return found


def exact_loss(state: Array, p: int, times: Array) -> Array:
    """1/2 sum_lambda (lambda(t) - 1)^2 with  lambda - 1 -> (lambda - 1) d / (lambda (1 - d) + d),  d = exp(-4 t).

    docs/theory/diagrams.md section 9, in the form that keeps its accuracy for small residuals [YGG26v2].
    """
    lam, d = eigenvalues(state, p), np.exp(-4 * times)[:, None]
    return 0.5 * np.sum(((lam - 1) * d / (lam * (1 - d) + d)) ** 2, axis=1)


TIMES = np.concatenate([[0.0], np.geomspace(1e-3, 5, 25)])


def assert_exact(p: int, H: int, psigma2: float, runs: int) -> None:
    """|L - exact| <= 1e-8 L + (rounding of the terms of L), for every run at every time.

    The terms |W|^2/2, tr W and p/2 cancel when the loss falls to zero: of their sum, eps is one standard error.
    """
    program, states = draw(lf.CPDecomposition(order=2), {"p": p, "H": H, "sigma2": psigma2 / p}, runs)
    legs = integrate(program, started(program, states, TIMES), 1e-8)
    assert (legs.outcome == COMPLETE).all()
    for run in range(runs):
        exact = exact_loss(states[run], p, TIMES)
        error = np.abs(legs.loss[run] - exact)
        assert (error <= 1e-8 * exact + 4 * EPSILON * legs.scale[run]).all(), (error / exact).max()


@pytest.mark.parametrize("psigma2", [0.01, 1.0, 16.0])
@pytest.mark.parametrize("H", [16, 32, 64])
def test_loss_of_a_matrix_is_that_of_its_eigenvalues(H: int, psigma2: float) -> None:
    assert_exact(32, H, psigma2, runs=3)


@pytest.mark.slow
@pytest.mark.parametrize("psigma2", [0.01, 1.0, 16.0])
@pytest.mark.parametrize(("p", "H"), [(64, 32), (64, 64), (64, 128), (128, 64), (128, 128), (128, 256)])
def test_loss_of_a_large_matrix_is_that_of_its_eigenvalues(p: int, H: int, psigma2: float) -> None:
    assert_exact(p, H, psigma2, runs=3)


def test_a_larger_matrix_at_the_edge_of_its_spectrum() -> None:
    assert_exact(128, 128, 1.0, runs=1)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6, 1e-10])
def test_the_error_is_below_the_tolerance(tolerance: float) -> None:
    """Not only at the default: relative to the loss at all times, forward."""
    program, states = draw(lf.CPDecomposition(order=2), {"p": 16, "H": 16, "sigma2": 1 / 16}, 4)
    legs = integrate(program, started(program, states, TIMES), tolerance)
    for run in range(4):
        exact = exact_loss(states[run], 16, TIMES)
        assert (np.abs(legs.loss[run] - exact) <= tolerance * exact + 4 * EPSILON * legs.scale[run]).all()


def test_a_smaller_tolerance_costs_steps() -> None:
    """Order 8: a tolerance smaller by 10^4 needs steps shorter by about 10^(4/8) = 3.2."""
    program, states = draw(lf.CPDecomposition(order=2), {"p": 8, "H": 8, "sigma2": 1 / 8}, 1)
    coarse, fine = (integrate(program, started(program, states, [5.0]), tol).accepted[0] for tol in (1e-6, 1e-10))
    assert 2 < fine / coarse < 5


def test_the_dense_output_agrees_with_steps_that_end_there() -> None:
    program, states = draw(lf.CPDecomposition(order=4), {"p": 6, "H": 5, "sigma2": 0.2}, 2)
    times = np.linspace(0, 1, 40)
    together = integrate(program, started(program, states, times), 1e-8)
    for k in (1, 7, 20, 38):
        alone = integrate(program, started(program, states, times[k : k + 1]), 1e-8)
        assert together.loss[:, k] == pytest.approx(alone.loss[:, 0], rel=1e-8)


def test_many_targets_cost_no_steps() -> None:
    program, states = draw(lf.CPDecomposition(order=2), {"p": 8, "H": 8, "sigma2": 1 / 8}, 1)
    few = integrate(program, started(program, states, [1.0]), 1e-8)
    many = integrate(program, started(program, states, np.linspace(0, 1, 500)), 1e-8)
    assert few.accepted == many.accepted
    assert few.loss[0, -1] == many.loss[0, -1]


def test_backward_is_the_inverse_of_forward() -> None:
    """Forward for a time, then backward for the same: the loss at the start returns."""
    program, states = draw(lf.CPDecomposition(order=4, symmetric=False), {"p": 5, "H": 4, "sigma2": 0.2}, 3)
    forward = integrate(program, started(program, states, [0.0, 0.1]), 1e-10)
    backward = integrate(program, started(program, forward.state, [0.1], direction=-1), 1e-10)
    # what is forgotten on the way forward is amplified on the way back: e^{rate t} with rates of some units
    assert backward.loss[:, 0] == pytest.approx(forward.loss[:, 0], rel=1e-8)


def test_ascent_of_a_matrix_and_its_blow_up() -> None:
    """Backward the largest eigenvalue lambda > 1 diverges at t = log(1 - 1/lambda)/4, and the loss is exact until then."""
    p = 12
    program, states = draw(lf.CPDecomposition(order=2), {"p": p, "H": 8, "sigma2": 1 / p}, 5)
    times = -np.array([0.02, 0.05, 0.1, 0.12, 1.0])
    legs = integrate(program, started(program, states, times, direction=-1), 1e-8)
    assert (legs.outcome == BLOWN_UP).all()
    for run in range(5):
        blow_up = np.log(1 - 1 / eigenvalues(states[run], p)[0]) / 4
        assert -legs.end[run] == pytest.approx(blow_up, rel=1e-9)
        before = times > blow_up
        assert 0 < before.sum() < len(times)
        assert np.isnan(legs.loss[run, ~before]).all()
        assert legs.loss[run, before] == pytest.approx(exact_loss(states[run], p, times[before]), rel=1e-8)


def test_blow_up_of_one_weight_of_order_four() -> None:
    """p = H = 1: L = (u^4 - 1)^2/2, w = u^2 > 1 diverges backward after (artanh(1/w) - 1/w)/8; w < 1 lives forever."""
    program = Program(lf.CPDecomposition(order=4).as_diagrams(), {"p": 1, "H": 1, "sigma2": 1})
    starts = np.array([[1.3], [-2.0], [30.0], [0.9], [-0.2]])
    legs = integrate(program, started(program, starts, [1e3], direction=-1), 1e-8)
    w = starts[:3, 0] ** 2
    assert list(legs.outcome) == [BLOWN_UP] * 3 + [COMPLETE] * 2
    assert w[0] < 2
    # for large w the difference cancels: the series 1/(3 w^3) + 1/(5 w^5) + ... has the same sum
    exact = np.sum([w ** -(2 * k + 1) / (2 * k + 1) for k in range(1, 60)], axis=0) / 8
    assert exact[0] == pytest.approx((np.arctanh(1 / w[0]) - 1 / w[0]) / 8, rel=1e-12)
    assert legs.end[:3] == pytest.approx(exact, rel=1e-9)


def test_one_weight_of_order_four_forward() -> None:
    """The time from w_0 to w along ds = dw/(8 w^2 (1 - w^2)) is (F(w) - F(w_0))/8 with F(w) = artanh(w) - 1/w."""
    program = Program(lf.CPDecomposition(order=4).as_diagrams(), {"p": 1, "H": 1, "sigma2": 1})
    for start, end in ((0.3, 0.9), (0.5, 0.999)):
        time = (np.arctanh(end) - 1 / end - np.arctanh(start) + 1 / start) / 8
        legs = integrate(program, started(program, [[start**0.5]], [time]), 1e-8)
        assert legs.loss[0, 0] == pytest.approx((end**2 - 1) ** 2 / 2, rel=1e-8)


@pytest.mark.parametrize("tolerance", [0.1, 1e-3, 1e-12])
def test_blow_up_is_found_at_any_tolerance(tolerance: float) -> None:
    """L = -v^4/4: v' = v^3, so v = 1 diverges forward at t = 1/2, and v = 2 at t = 1/8."""
    from fractions import Fraction

    program = Program(Fraction(-1, 4) * lf.diagram(*(v("i") for _ in range(4))), {"n": 1, "sigma2": 1})
    legs = integrate(program, started(program, [[1.0], [-2.0]], [0.1, 0.125, 3.0]), tolerance)
    assert list(legs.outcome) == [BLOWN_UP, BLOWN_UP]
    assert legs.end == pytest.approx([0.5, 0.125], rel=tolerance)
    assert legs.loss[0, :2] == pytest.approx([-0.25 / (1 - 2 * t) ** 2 for t in (0.1, 0.125)], rel=tolerance)
    assert np.isnan(legs.loss[0, 2])
    assert np.isnan(legs.loss[1, 2])


def test_cubic_flows_blow_up_on_one_side_only() -> None:
    """L = -v^3/3: v' = v^2, v = 1/(1 - t) diverges forward from v > 0 and backward from v < 0."""
    from fractions import Fraction

    program = Program(Fraction(-1, 3) * lf.diagram(v("i"), v("i"), v("i")), {"n": 1, "sigma2": 1})
    forward = integrate(program, started(program, [[1.0], [-1.0]], [2.0]), 1e-8)
    backward = integrate(program, started(program, [[1.0], [-1.0]], [2.0], direction=-1), 1e-8)
    assert list(forward.outcome) == [BLOWN_UP, COMPLETE]
    assert list(backward.outcome) == [COMPLETE, BLOWN_UP]
    assert forward.end[0] == pytest.approx(1, rel=1e-9)
    assert forward.loss[1, 0] == pytest.approx(1 / 81, rel=1e-8)


def test_exponential_growth_stops_with_a_reason() -> None:
    """L = -v^2/2: v = e^t has no end but leaves the numbers; up to there the loss is exact."""
    from fractions import Fraction

    program = Program(Fraction(-1, 2) * lf.diagram(v("i"), v("i")), {"n": 1, "sigma2": 1})
    legs = integrate(program, started(program, [[1.0]], [1.0, 100.0, 1000.0]), 1e-8)
    assert legs.outcome[0] == OVERFLOWN
    assert legs.loss[0, :2] == pytest.approx([-np.exp(2) / 2, -np.exp(200) / 2], rel=1e-8 * 100)
    assert np.isnan(legs.loss[0, 2])
    assert 340 < legs.end[0] < 360  # e^t = 1e150 at t = 345


def test_a_start_beyond_all_numbers_stops_at_zero() -> None:
    program = Program(lf.CPDecomposition(order=4).as_diagrams(), {"p": 1, "H": 1, "sigma2": 1})
    legs = integrate(program, started(program, [[1e60]], [0.0, 1.0]), 1e-8)
    assert legs.outcome[0] == OVERFLOWN
    assert legs.end[0] == 0


def test_stiff_flows_stop_at_the_limit_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "MAX_STEPS", 30)
    program, states = draw(lf.CPDecomposition(order=2), {"p": 8, "H": 8, "sigma2": 1 / 8}, 2)
    legs = integrate(program, started(program, states, [0.01, 100.0]), 1e-8)
    assert list(legs.outcome) == [TOO_MANY_STEPS] * 2
    assert np.isfinite(legs.loss[:, 0]).all()
    assert np.isnan(legs.loss[:, 1]).all()
    assert (legs.accepted + legs.rejected == 30).all()
    assert ((legs.end > 0.01) & (legs.end < 100)).all()


def test_a_step_that_does_not_move_the_time_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "BLOW_UP", 0.0)  # the prediction is never believed, so the steps shrink to nothing
    program, states = draw(lf.CPDecomposition(order=2), {"p": 8, "H": 8, "sigma2": 1 / 8}, 1)
    legs = integrate(program, started(program, states, [5.0], direction=-1), 1e-8)
    assert legs.outcome[0] == STUCK


def test_a_stationary_point_stays() -> None:
    program = Program(lf.CPDecomposition(order=3).as_diagrams(), {"p": 4, "H": 2, "sigma2": 0})
    legs = integrate(program, started(program, np.zeros((1, 8)), [0.0, 1.0, 1e6]), 1e-8)
    assert (legs.loss == 2.0).all()
    assert legs.accepted[0] == 1


def test_a_flow_that_starts_at_zero_moves() -> None:
    """L = v^2/2 - v, from v = 0, where the size of v says nothing about the first step: v = 1 - e^-t."""
    from fractions import Fraction

    program = Program(Fraction(1, 2) * lf.diagram(v("i"), v("i")) - lf.diagram(v("i")), {"n": 1, "sigma2": 1})
    times = np.array([1e-3, 1.0, 8.0])
    legs = integrate(program, started(program, [[0.0]], times), 1e-8)
    assert legs.loss[0] + 0.5 == pytest.approx(np.exp(-2 * times) / 2, rel=1e-8, abs=1e-15)


def test_frozen_tensors_stay_with_their_run() -> None:
    """L = (v - x)^2/2 with x frozen, another one in each run: v = x + (v_0 - x) e^-t."""
    from fractions import Fraction

    x = lf.Tensor("x", ("n",), learned=False)
    loss = (
        Fraction(1, 2) * lf.diagram(v("i"), v("i"))
        - lf.diagram(v("i"), x("i"))
        + Fraction(1, 2) * lf.diagram(x("i"), x("i"))
    )
    program = Program(loss, {"n": 2, "sigma2": 1})
    random = np.random.default_rng(0)
    states, frozen = random.standard_normal((2, 6, 2))
    times = np.array([0.3, 0.7, 2.0, 4.0])
    targets = np.array([np.concatenate([times[: 1 + k % 4], np.full(3 - k % 4, np.inf)]) for k in range(6)])
    legs = integrate(program, at_start(np.ones(6, int), targets, states, frozen), 1e-8)
    exact = 0.5 * np.sum((states - frozen) ** 2, axis=1)[:, None] * np.exp(-2 * times)
    for k in range(6):
        n = 1 + k % 4
        assert legs.loss[k, :n] == pytest.approx(exact[k, :n], rel=1e-8)
        assert np.isnan(legs.loss[k, n:]).all()


def test_a_leg_does_not_depend_on_the_others() -> None:
    """Bit by bit: alone, in a batch, in another order, with legs that go backward and blow up on the way."""
    program, states = draw(lf.CPDecomposition(order=4), {"p": 6, "H": 5, "sigma2": 0.3}, 9)
    times = np.tile(np.linspace(0, 0.5, 30), (9, 1))
    direction = np.array([1, -1, 1, 1, -1, 1, -1, 1, 1])
    frozen = np.zeros((9, 0))
    together = integrate(program, at_start(direction, times, states, frozen), 1e-8)
    assert BLOWN_UP in together.outcome
    assert COMPLETE in together.outcome
    for chosen in ([0], [1], [4], [8, 2], [7, 6, 5, 4, 3, 2, 1, 0]):
        apart = integrate(program, at_start(direction[chosen], times[chosen], states[chosen], frozen[chosen]), 1e-8)
        for name in ("loss", "scale", "accepted", "rejected", "end", "outcome"):
            assert getattr(apart, name).tobytes() == getattr(together, name)[chosen].tobytes(), name


def test_interruptions_change_nothing() -> None:
    """Stopped after any number of steps and taken up from the numbers alone: the same bits."""
    program, states = draw(lf.CPDecomposition(order=3, symmetric=False), {"p": 5, "H": 4, "sigma2": 0.3}, 3)
    legs = started(program, states, np.linspace(0, 2, 17))
    whole = integrate(program, legs, 1e-8)
    random = np.random.default_rng(0)
    for _ in range(5):
        piece, interruptions = legs, 0
        while True:
            steps = iter(random.integers(0, 5) * [False] + [True])
            broken = Flow(program, piece, 1e-8)
            ended = broken.advance(lambda steps=steps: next(steps))
            piece = broken.legs()
            if ended:
                break
            interruptions += 1
        assert interruptions > 3
        for name in Legs._fields:
            if name != "state":
                assert getattr(piece, name).tobytes() == getattr(whole, name).tobytes(), name


def test_inputs_are_not_changed() -> None:
    program, states = draw(lf.CPDecomposition(order=2), {"p": 4, "H": 4, "sigma2": 1 / 4}, 2)
    legs = started(program, states, [0.0, 1.0])
    before = [array.copy() for array in legs]
    integrate(program, legs, 1e-6)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(legs, before, strict=True))
