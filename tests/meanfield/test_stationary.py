"""The end of gradient flow: the printed fixed point, one solved by other means, closed forms, minimizers at finite size."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest

import lossflow as lf
from lossflow.meanfield import stationary
from lossflow.meanfield.local_fields import averages
from lossflow.problems.labels import CubicNoiseLabels

LOGISTIC = lf.GeneralizedLinear(loss=lf.Logistic(), labels=lf.SignLabels(), delta=2.0, weight_decay=0.05)
RIDGE = lf.GeneralizedLinear(loss=lf.Square(), labels=lf.LinearLabels(0.25), delta=2.0, weight_decay=0.1)
GRID = [
    LOGISTIC,
    pytest.param(replace(LOGISTIC, weight_decay=1e-4), marks=pytest.mark.slow),
    pytest.param(replace(LOGISTIC, labels=lf.LogitLabels(2.0), delta=0.7), marks=pytest.mark.slow),
    replace(LOGISTIC, labels=lf.NoiseLabels()),
    replace(LOGISTIC, loss=lf.SmoothHinge(sharpness=8.0), delta=5.0),
    replace(LOGISTIC, loss=lf.Huber(0.7)),
    replace(LOGISTIC, penalty=lf.L1(0.1)),
    replace(RIDGE, loss=lf.Huber(0.5), labels=CubicNoiseLabels(0.3)),
    replace(RIDGE, loss=lf.Huber(1.0), labels=lf.SquaredLabels(0.1)),
    replace(RIDGE, loss=lf.Huber(1.0), labels=lf.LinearLabels(0.5), weight_decay=0.0),
    replace(RIDGE, penalty=lf.L1(0.3), delta=0.5),
]


def solved(problem: lf.GeneralizedLinear) -> stationary.Point:
    decay = 0.0 if problem.weight_decay == "0+" else float(problem.weight_decay)
    found = stationary.solve(problem.loss, problem.labels, problem.delta, decay, stationary._strength(problem))
    assert found is not None
    return found


def test_the_printed_fixed_point(references: dict) -> None:
    """tests/reference/mean_field.json, logistic_stationary: seven digits."""
    expected = references["stationary"][0]
    V, C, m = solved(replace(LOGISTIC, delta=expected["delta"], weight_decay=expected["lam"]))
    assert [V, m, C, C - m**2] == pytest.approx([expected[k] for k in ("V", "m", "C", "qperp")], abs=6e-7)


@pytest.mark.parametrize("problem", GRID, ids=repr)
def test_the_fixed_point_is_fixed(problem: lf.GeneralizedLinear) -> None:
    """V = 1/(delta A) and the others as the note writes them, to 1e-9 of each."""
    point = solved(problem)
    V, C, m = point
    seen = averages(problem.loss, problem.labels, C, m, 1.0, V)
    if problem.penalty is None:
        decay = float(problem.weight_decay)  # type: ignore[arg-type]
        A = decay + seen.curvature
        assert pytest.approx(1 / (problem.delta * A), rel=1e-9) == V
        assert C - m**2 == pytest.approx(seen.force / (problem.delta * A**2), rel=1e-9)
        assert decay * m == pytest.approx(-seen.signal, rel=1e-9, abs=1e-11)
    again = stationary._round(
        problem.loss,
        problem.labels,
        problem.delta,
        float(problem.weight_decay),
        stationary._strength(problem),
        1.0,
        point,
    )  # type: ignore[arg-type]
    assert again == pytest.approx(point, rel=1e-9, abs=1e-11)


@pytest.mark.slow
def test_another_way_to_the_fixed_point() -> None:
    """By two-dimensional Gauss sums over (w*, w) with y = 1, bisection for the proximal point and plain iteration: to 1e-8."""
    delta, decay = 2.0, 0.05
    nodes, weights = np.polynomial.legendre.leggauss(120)
    star = 4.5 * (1 + nodes)  # w* > 0; by symmetry half of the space is enough
    half = 4.5 * weights * 2 * np.exp(-0.5 * star**2) / math.sqrt(2 * math.pi)
    z = np.arange(-80, 81) * 0.11
    both = half[:, None] * (0.11 * np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi))

    def turn(V: float, q: float, m: float) -> tuple[float, float, float]:
        w = m * star[:, None] + math.sqrt(q) * z
        low, high = w, w + V
        for _ in range(60):
            middle = 0.5 * (low + high)
            below = middle - V / (1 + np.exp(middle)) < w
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        s = 1 / (1 + np.exp(0.5 * (low + high)))
        bend = s * (1 - s)
        A = decay + np.sum(both * bend / (1 + V * bend))
        pull = np.sum(both * -s * star[:, None])
        return 1 / (delta * A), np.sum(both * s**2) / (delta * A**2), ((A - decay) * m - pull) / A

    x = np.array([4.0, 1.2, 1.7])
    for _ in range(60):
        x = np.array(turn(*x))
    V, C, m = solved(LOGISTIC)
    assert x == pytest.approx([V, C - m**2, m], rel=1e-8)


SAMPLED = [pytest.param(labels, marks=pytest.mark.slow) for labels in (lf.SignLabels(), lf.SquaredLabels(0.1))]


@pytest.mark.parametrize("delta", [0.2, 0.5, 0.99, 1.0, 1.01, 2.0, 10.0, math.inf])
@pytest.mark.parametrize("decay", [1e-3, 0.1, 3.0])
@pytest.mark.parametrize("labels", [lf.LinearLabels(0.25), *SAMPLED], ids=repr)
def test_square_loss_by_spectrum_and_by_fixed_point(delta: float, decay: float, labels: lf.AbstractLabels) -> None:
    problem = replace(RIDGE, labels=labels, delta=delta, weight_decay=decay, init_variance=3.0, init_overlap=0.5)
    end = lf.stationary(problem).values
    _, C, m = solved(problem)
    assert end["norm"] == pytest.approx(C, rel=1e-9)
    assert end["overlap"] * math.sqrt(C) == pytest.approx(m, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("delta", [0.5, 2.0])
def test_ridgeless_in_closed_form(delta: float) -> None:
    """Least squares with noise s: excess s/(delta - 1) for delta > 1; for delta < 1 the nearest interpolator to the start."""
    problem = replace(RIDGE, delta=delta, weight_decay=0.0, init_variance=2.0, init_overlap=0.3)
    start = 2 - 2 * 0.3 * math.sqrt(2) + 1
    expected = 0.25 / (delta - 1) if delta > 1 else (1 - delta) * start + 0.25 * delta / (1 - delta)
    end = lf.stationary(problem)
    assert end.status
    assert end.values["mse"] == pytest.approx(expected, rel=1e-12)
    assert end.values["loss"] == pytest.approx(0.125 * max(1 - 1 / delta, 0), abs=1e-14)
    shortest = lf.stationary(replace(problem, weight_decay="0+")).values["mse"]
    assert shortest == pytest.approx(expected if delta > 1 else (1 - delta) + 0.25 * delta / (1 - delta), rel=1e-12)
    assert lf.stationary(replace(problem, weight_decay=1e-9)).values["mse"] == pytest.approx(shortest, rel=1e-6)


@pytest.mark.parametrize("problem", [RIDGE, replace(RIDGE, delta=0.5, weight_decay=0.0, init_overlap=0.4)], ids=repr)
def test_the_flow_ends_there(problem: lf.GeneralizedLinear) -> None:
    late = lf.solve(problem, lf.MeanField(), [1e4])
    end = lf.stationary(problem)
    assert set(end.values) == set(late.values)
    for name, value in end.values.items():
        assert late.values[name][0] == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("loss", [lf.Huber(0.5), lf.Huber(3.0)], ids=repr)
def test_losses_that_reach_zero_interpolate_as_square_loss_does(loss: lf.Huber) -> None:
    for decay in (0.0, "0+"):
        below = replace(RIDGE, delta=0.5, weight_decay=decay, init_overlap=0.4)
        a, b = lf.stationary(replace(below, loss=loss)), lf.stationary(below)
        assert a.status
        assert [a.values[k] for k in ("loss", "mse", "norm")] == [b.values[k] for k in ("loss", "mse", "norm")]
    clean = lf.stationary(replace(RIDGE, loss=loss, labels=lf.LinearLabels(), weight_decay=0.0))
    assert clean.values["mse"] == pytest.approx(0.0, abs=1e-14)
    assert clean.values["overlap"] == pytest.approx(1.0, rel=1e-14)


def test_the_interpolation_threshold_is_said() -> None:
    for loss in (lf.Square(), lf.Huber()):
        end = lf.stationary(replace(RIDGE, loss=loss, delta=1.0, weight_decay="0+"))
        assert not end.status
        assert "without bound" in end.status.reason
        assert end.values["norm"] == math.inf


def test_separability() -> None:
    assert stationary.separable_below(lf.NoiseLabels()) == pytest.approx(2.0, rel=1e-12)  # Cover
    assert stationary.separable_below(lf.SignLabels()) == math.inf
    thresholds = [stationary.separable_below(lf.LogitLabels(k)) for k in (0.01, 1.0, 3.0, 10.0)]
    assert thresholds == sorted(thresholds)
    assert thresholds[0] == pytest.approx(2.0, rel=1e-3)
    # a grid in t and plain sums
    x, dx = np.linspace(-9, 9, 20001), 18 / 20000
    p = dx * np.exp(-0.5 * x**2) / math.sqrt(2 * math.pi) / (1 + np.exp(-x))
    from scipy.special import ndtr

    def tail(a: np.ndarray) -> np.ndarray:
        return (1 + a**2) * ndtr(-a) - a * np.exp(-0.5 * a**2) / math.sqrt(2 * math.pi)

    least = min(2 * float(p @ tail(t * x)) for t in np.linspace(0, 2, 401))
    assert thresholds[1] == pytest.approx(1 / least, rel=1e-5)


@pytest.mark.slow
def test_just_above_the_threshold_the_norm_is_large_and_finite() -> None:
    logit = replace(LOGISTIC, labels=lf.LogitLabels(1.0), weight_decay="0+")
    threshold = stationary.separable_below(logit.labels)
    norms = [lf.stationary(replace(logit, delta=threshold * (1 + e))).values["norm"] for e in (0.4, 0.1)]
    assert norms == sorted(norms)
    assert norms[-1] > 40
    below = lf.stationary(replace(logit, delta=threshold * 0.999))
    assert not below.status
    assert "separable" in below.status.reason


def test_margins_of_fair_coins() -> None:
    """Gardner: delta E (kappa + Z)_+^2 = 1."""
    from scipy.special import ndtr

    for delta in (0.5, 1.0, 1.9):
        cosine, kappa = stationary.largest_margin(lf.NoiseLabels(), delta)
        assert cosine == 0.0
        density = math.exp(-0.5 * kappa**2) / math.sqrt(2 * math.pi)
        assert delta * ((1 + kappa**2) * ndtr(kappa) + kappa * density) == pytest.approx(1.0, rel=1e-11)


@pytest.mark.parametrize("labels", [lf.SignLabels(), lf.LogitLabels(3.0)], ids=repr)
def test_the_direction_of_the_largest_margin_by_a_quadratic_program(labels: lf.AbstractLabels) -> None:
    """min |theta|^2 with all margins >= 1, through its dual, which is least squares with non-negative variables; five standard
    errors and 1/d."""
    from scipy.optimize import nnls

    delta, d, runs = 1.5, 120, 12
    found = []
    for run in range(runs):
        sample = replace(LOGISTIC, labels=labels, delta=delta, weight_decay=0.0).as_sample({"d": d}, run, 7)
        rows = sample["y"][:, None] * sample["X"]
        # max sum a - |rows^T a|^2/2 over a >= 0  <=>  min |[rows^T; big] a - [0; big target]|: the direction alone matters
        big = 1e3
        a, _ = nnls(np.vstack([rows.T, np.full((1, len(rows)), big)]), np.append(np.zeros(d), big))
        theta = rows.T @ a
        star = sample["theta_star"][0]
        margin = (rows @ theta).min() / np.linalg.norm(theta) * math.sqrt(d)
        found.append([theta @ star / np.linalg.norm(theta) / np.linalg.norm(star), margin])
    mean, error = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / math.sqrt(runs)
    expected = np.array(stationary.largest_margin(labels, delta))
    assert (np.abs(mean - expected) < 5 * error + 2 / d).all()


@pytest.mark.slow
def test_the_largest_margin_is_the_limit_of_no_decay() -> None:
    """The direction at decay 1e-3 ... 1e-5 comes closer to that of the largest margin, like 1/log."""
    direct = lf.stationary(replace(LOGISTIC, weight_decay="0+"))
    assert not direct.status
    assert direct.values["norm"] == math.inf
    assert direct.values["train_error"] == 0.0
    decays = (1e-3, 1e-4, 1e-5)
    ends = [lf.stationary(replace(LOGISTIC, weight_decay=decay)).values["overlap"] for decay in decays]
    gaps = [end - direct.values["overlap"] for end in ends]
    assert gaps == sorted(gaps, reverse=True)
    assert 0 < gaps[-1] < 0.014


def minimizer(problem: lf.GeneralizedLinear, d: int, run: int, steps: int = 3000) -> dict[str, float]:
    """Accelerated proximal descent on one sample, with restarts."""
    sample = problem.as_sample({"d": d}, run, 3)
    X, y, star = sample["X"], sample["y"], sample["theta_star"][0]
    decay, strength = float(problem.weight_decay), stationary._strength(problem)  # type: ignore[arg-type]
    step = 1 / (decay + problem.loss.lipschitz * (1 + problem.delta**-0.5) ** 2 * 1.2)
    theta = look = np.zeros(d)
    age = 1.0
    for _ in range(steps):
        new = look - step * (decay * look + X.T @ problem.loss.slope(X @ look, y) / problem.delta)
        new = np.sign(new) * np.maximum(np.abs(new) - step * strength, 0)
        if (look - new) @ (new - theta) > 0:
            age = 1.0
        older, age = age, (1 + math.sqrt(1 + 4 * age**2)) / 2
        moved = new - theta
        look, theta = new + (older - 1) / age * moved, new
        if np.abs(moved).max() < 1e-9:
            break
    r = X @ theta
    found = {"loss": problem.loss.value(r, y).mean(), "norm": theta @ theta / d}
    found["overlap"] = theta @ star / np.linalg.norm(theta) / np.linalg.norm(star)
    if problem.labels.kind == "binary":
        found["train_error"] = np.mean(np.sign(r) != y)
    return found


@pytest.mark.parametrize(
    "problem",
    [
        LOGISTIC,
        pytest.param(
            replace(LOGISTIC, labels=lf.LogitLabels(3.0), delta=5.0, weight_decay=0.0), marks=pytest.mark.slow
        ),
        replace(LOGISTIC, loss=lf.SmoothHinge(), weight_decay=0.2),
        replace(RIDGE, loss=lf.Huber(0.5), labels=CubicNoiseLabels(0.3)),
        replace(RIDGE, penalty=lf.L1(0.2), delta=0.8, weight_decay=0.0),
        replace(LOGISTIC, penalty=lf.L1(0.1), weight_decay=0.0),
    ],
    ids=repr,
)
def test_minimizers_at_finite_size(problem: lf.GeneralizedLinear) -> None:
    """d = 300, 10 runs: five standard errors of the mean and 1.5/d for the size."""
    d, runs = 300, 10
    rows = [minimizer(problem, d, run) for run in range(runs)]
    end = lf.stationary(problem).values
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        allowed = 5 * values.std(ddof=1) / math.sqrt(runs) + 1.5 / d * (1 + abs(end[name]))
        assert abs(values.mean() - end[name]) < allowed, name


def test_what_has_no_end_state() -> None:
    phase = lf.GeneralizedLinear(loss=lf.PhaseRetrieval(), labels=lf.SquaredLabels(), delta=2.0, weight_decay=0.1)
    with pytest.raises(lf.NotSpoken, match=r"not convex.*Methods that apply"):
        lf.stationary(phase)

    @dataclass(frozen=True, repr=False)
    class Bent(lf.AbstractPenalty):
        """theta^4."""

        smooth = True

    with pytest.raises(lf.NotSpoken, match="L1 penalties only"):
        lf.stationary(replace(RIDGE, penalty=Bent()))


def test_the_population() -> None:
    """delta = inf: logit labels are learned exactly without decay; signs without bound; coins not at all."""
    infinite = replace(LOGISTIC, delta=math.inf)
    logit = lf.stationary(replace(infinite, labels=lf.LogitLabels(1.7), weight_decay=0.0)).values
    assert logit["norm"] == pytest.approx(1.7**2, rel=1e-9)
    assert logit["overlap"] == pytest.approx(1.0, rel=1e-12)
    assert logit["loss"] == pytest.approx(logit["test_loss"], rel=1e-10)
    signs = lf.stationary(replace(infinite, weight_decay="0+"))
    assert not signs.status
    assert signs.values["test_error"] == 0.0
    assert lf.stationary(replace(infinite, labels=lf.NoiseLabels())).values["norm"] == 0.0
    ridge = lf.stationary(replace(RIDGE, delta=math.inf)).values
    assert ridge["norm"] == pytest.approx(1 / 1.1**2, rel=1e-12)


def test_large_delta_approaches_the_population() -> None:
    far = lf.stationary(replace(LOGISTIC, delta=1e5)).values
    limit = lf.stationary(replace(LOGISTIC, delta=math.inf)).values
    for name in ("loss", "test_loss", "norm", "overlap"):
        assert far[name] == pytest.approx(limit[name], rel=2e-3)


@pytest.mark.slow
def test_strong_decay_and_strong_penalties_leave_nothing() -> None:
    strong = lf.stationary(replace(LOGISTIC, weight_decay=1e6))
    assert strong.status
    assert strong.values["norm"] < 1e-11
    assert strong.values["loss"] == pytest.approx(math.log(2), rel=1e-5)
    sparse = lf.stationary(replace(RIDGE, penalty=lf.L1(10.0)))
    assert sparse.status
    assert sparse.values["norm"] < 1e-11
    assert sparse.values["loss"] == pytest.approx(0.625, rel=1e-5)
