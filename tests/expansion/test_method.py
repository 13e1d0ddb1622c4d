"""Series and Limit as methods: against each other, against simulation, against a published experiment, and misused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad

import lossflow as lf
from lossflow.comparison import extrapolate
from lossflow.problems.diagonal import DiagonalLinear
from lossflow.problems.gaussian_data import linear_regression
from lossflow.problems.priors import GaussianPrior

MATRIX = lf.CPDecomposition(order=2)
SIMULATIONS = json.loads((Path(__file__).parents[1] / "reference" / "diagrams.json").read_text())["simulations"]


@pytest.mark.parametrize("order", [2, 4, 8, 16])
@pytest.mark.parametrize("sigma2", [0.05, 0.3])
def test_the_series_against_an_integral(order: int, sigma2: float) -> None:
    """p = H = 1: one eigenvalue lam = u^2 that evolves in closed form, averaged over u ~ N(0, sigma2) by quadrature."""

    def exact(t: float) -> float:
        def loss(u: float) -> float:
            lam = sigma2 * u * u
            return 0.5 * ((lam - 1) / (1 + lam * np.expm1(4 * t))) ** 2 * np.exp(-u * u / 2) / np.sqrt(2 * np.pi)

        return 2 * quad(loss, 0, 12, epsabs=1e-13, epsrel=1e-12)[0]

    times = np.linspace(0, 0.25, 26)
    answer = lf.solve(MATRIX, lf.Series({"p": 1, "H": 1, "sigma2": sigma2}, order), times)
    held = ~np.isnan(answer.values["loss"])
    assert held[:3].all()
    error = np.abs(answer.values["loss"][held] - [exact(t) for t in times[held]])
    # an error bar of one standard error: no error above two of them (the series is asymptotic, the bar its smallest term)
    assert (error <= 2 * answer.uncertainty["loss"][held] + 1e-12).all()
    if not held.all():
        assert answer.status.kind == "left_domain"
        assert answer.status.last_time is not None
        assert times[held][-1] < answer.status.last_time <= times[~held][0]


@pytest.mark.parametrize(
    ("problem", "sizes", "span"),
    [
        (lf.CPDecomposition(order=2), {"p": 4, "H": 3, "sigma2": 0.05}, 0.2),
        (lf.CPDecomposition(order=2, symmetric=False), {"p": 3, "H": 4, "sigma2": 0.1}, 0.3),
        (lf.CPDecomposition(order=3), {"p": 3, "H": 2, "sigma2": 0.05}, 0.3),
        (lf.CPDecomposition(order=3, symmetric=False, target=lf.Zero()), {"p": 3, "H": 2, "sigma2": 0.2}, 0.2),
    ],
)
def test_the_series_agrees_with_a_simulation_and_a_false_one_does_not(
    problem: lf.AbstractProblem, sizes: dict[str, float], span: float
) -> None:
    times = np.linspace(0, span, 9)
    series = lf.solve(problem, lf.Series(sizes, order=3), times)
    experiment = lf.solve(problem, lf.Simulation(sizes, runs=3000, seed=11), times)
    found = lf.compare(series, experiment)
    assert found.agree, found.verdict
    shifted = lf.solve(problem, lf.Series({**sizes, "sigma2": 1.15 * sizes["sigma2"]}, order=3), times)
    sabotaged = lf.Trajectory(
        times=times,
        values=shifted.values,
        uncertainty=series.uncertainty,
        status=shifted.status,
        problem=problem,
        method=series.method,
        dynamics=series.dynamics,
        details={},
        references=(),
    )
    assert not lf.compare(sabotaged, experiment).agree


@pytest.mark.parametrize("name", [name for name in SIMULATIONS if name.startswith("sym_nu2")])
def test_the_limit_against_a_published_experiment(name: str) -> None:
    """Thirty runs at p = 64 and 128, by others: the limit's error bar is the gap (docs/theory/diagrams.md section 14)."""
    data = SIMULATIONS[name]
    sizes = {size: data["params"][size] for size in ("p", "H", "sigma2")}
    limit = lf.solve(MATRIX, lf.Limit(sizes), data["t"])
    assert limit.values["loss"] == pytest.approx(data["theory"], rel=1e-11)  # the digits that were published
    gap = np.abs(np.array(data["mean"]) - limit.values["loss"])
    # the neglected order is good to 30% (measured on exact means); four standard errors of the experiment beside it
    assert (gap <= 1.3 * limit.uncertainty["loss"] + 4 * np.array(data["stderr"])).all()
    started = np.array(data["theory"]) > 0.05 * data["params"]["p"]
    assert (gap[started] <= 0.008 * np.array(data["theory"])[started]).all()


def test_the_gap_between_limit_and_simulation_vanishes_as_sizes_double() -> None:
    times = np.array([0.0, 0.05, 0.2, 0.5])
    comparisons = []
    for p, runs in ((16, 256), (32, 256), (64, 256)):
        sizes = {"p": p, "H": p, "sigma2": 1 / p}
        limit = lf.solve(MATRIX, lf.Limit(sizes), times)
        comparisons.append(lf.compare(limit, lf.solve(MATRIX, lf.Simulation(sizes, runs=runs, seed=p), times)))
        assert comparisons[-1].agree, comparisons[-1].verdict
    found = extrapolate(comparisons, "p")
    assert found.vanishes, found.verdict
    assert found.shrinks, found.verdict
    assert abs(found.measured_power - 1) < 4 * found.measured_power_uncertainty + 0.1  # leading order 1/p, next 1/p^2


def test_the_corrected_limit_is_better_by_an_order() -> None:
    """limit + next order against 4000 runs at p = 24, H = 12: the gap of 1% falls below the statistical error."""
    sizes = {"p": 24, "H": 12, "sigma2": 1 / 24}
    times = np.array([0.02, 0.1, 0.3])
    limit = lf.solve(MATRIX, lf.Limit(sizes), times)
    experiment = lf.solve(MATRIX, lf.Simulation(sizes, runs=4000, seed=2), times)
    gap = experiment.values["loss"] - limit.values["loss"]
    left = gap - limit.details["next_order"]
    assert (np.abs(left) < 4 * experiment.uncertainty["loss"] + 0.1 * np.abs(gap)).all()
    assert (np.abs(gap) > 8 * experiment.uncertainty["loss"]).all()


def test_exact_series_and_limit_differ_by_the_next_order() -> None:
    """Derivatives at t = 0, exactly: Y_s at p, H minus its leading part is the next order times 1 + O(1/p)."""
    series = lf.expand(MATRIX, 3)
    for s, y in enumerate(series.coefficients):
        top = {e: c for e, c in y.items() if e[0] + e[1] - e[2] == 1 or e == (1, 0, 0)}
        below = {e: c for e, c in y.items() if e[0] + e[1] - e[2] == 0}
        assert top
        assert below

        def at(terms: dict[tuple[int, ...], Fraction], x: float, y_: float, z: float) -> float:
            return sum(float(c) * x ** e[0] * y_ ** e[1] * z ** e[2] for e, c in terms.items())

        step = 1e-2
        sizes = {"p": 1e4, "H": 2e4, "sigma2": 3e-5}
        nodes = step * np.cos(np.pi * (np.arange(12) + 0.5) / 12)
        limit = lf.solve(MATRIX, lf.Limit(sizes), np.sort(nodes))
        for values, terms in ((limit.values["loss"], top), (limit.details["next_order"], below)):
            polynomial = np.polynomial.Chebyshev.fit(np.sort(nodes), values, 11, domain=[-step, step])
            derivative = polynomial.deriv(s)(0.0) if s else polynomial(0.0)
            # interpolation at 12 Chebyshev nodes over 0.02: truncation below 1e-9, rounding eps (12 / 0.01)^s
            assert derivative == pytest.approx(at(terms, 1e4, 2e4, 3e-5), rel=1e-6)


def test_ascent_ends_where_the_limit_blows_up() -> None:
    sizes = {"p": 8, "H": 6, "sigma2": 1 / 8}
    answer = lf.solve(MATRIX, lf.Limit(sizes), np.linspace(0.1, -0.3, 9))
    upper = (np.sqrt(8) + np.sqrt(6)) ** 2 / 8
    assert answer.status.kind == "left_domain"
    assert answer.status.last_time == pytest.approx(np.log(1 - 1 / upper) / 4, rel=1e-12)
    assert answer.status.last_time is not None
    held = answer.times > answer.status.last_time
    assert np.array_equal(~np.isnan(answer.values["loss"]), held)
    assert lf.solve(MATRIX, lf.Limit({**sizes, "sigma2": 1 / 80}), [-1.0, -50.0]).status  # all eigenvalues below 1


def test_the_limit_says_what_it_covers() -> None:
    sizes = {"p": 8, "H": 6, "sigma2": 1 / 8}
    named = lf.solve(MATRIX, lf.Limit(sizes, regime="A-B-E"), [0.1])
    assert named.values["loss"] == lf.solve(MATRIX, lf.Limit(sizes), [0.1]).values["loss"]
    assert named.details["regime"] == "A-B-E"
    assert "tau" in named.details["formula"]
    free = lf.CPDecomposition(order=2, target=lf.Zero())
    assert lf.solve(free, lf.Limit(sizes), [0.1]).details["regime"] == "A-B"
    with pytest.raises(lf.InvalidInput, match="covers every regime"):
        lf.solve(MATRIX, lf.Limit(sizes, regime="B-C"), [0.1])
    with pytest.raises(lf.NotSpoken, match="Methods that apply: Series, Simulation"):
        lf.solve(lf.CPDecomposition(order=3), lf.Limit(sizes), [0.1])


def test_a_series_needs_a_term_to_judge_its_error() -> None:
    for order in (0, -1):
        with pytest.raises(lf.InvalidInput, match=r"Series\.order"):
            lf.Series({"p": 2, "H": 2, "sigma2": 1}, order)
    with pytest.raises(lf.InvalidInput, match="Taylor"):
        lf.Series({"p": 2, "H": 2, "sigma2": 1}, 3, resummation="taylor")  # type: ignore[arg-type]


def test_what_a_series_remembers() -> None:
    answer = lf.solve(MATRIX, lf.Series({"p": 2, "H": 3, "sigma2": 0.25}, order=3), [0.0, 0.01])
    exact = lf.expand(MATRIX, 3).at(p=2, H=3, sigma2=Fraction(1, 4))
    assert tuple(map(Fraction, answer.details["derivatives_exact"])) == exact
    assert answer.values["loss"][0] == float(exact[0])
    assert answer.references == ("YGG26v2",)


# --- several observables, and sizes that a problem derives

SAMPLES = linear_regression()
SAMPLE_SIZES = {"d": 4, "N": 6, "sigma2": 0.5, "teacher2": 1.0, "noise2": 0.25}


def test_a_series_has_every_observable_with_diagrams() -> None:
    times = [0.0, 0.01]
    answer = lf.solve(SAMPLES, lf.Series(SAMPLE_SIZES, order=3), times)
    assert list(answer.values) == ["loss", "test_loss"]
    exact = {name: Fraction(value) for name, value in SAMPLE_SIZES.items()}
    for name, details in (("loss", answer.details), ("test_loss", answer.details["observables"]["test_loss"])):
        y = lf.expand(SAMPLES, 3, observable=name).at(**exact)
        assert tuple(map(Fraction, details["derivatives_exact"])) == y
        assert answer.values[name][0] == float(y[0])
    assert set(answer.details["observables"]) == {"test_loss"}


def test_each_observable_ends_by_itself(tmp_path: Path) -> None:
    """One of the two sums ends earlier than the other; the other is not cut for its sake."""
    times = np.linspace(0, 2, 41)
    answer = lf.solve(SAMPLES, lf.Series(SAMPLE_SIZES, order=3), times)
    held = {name: times[~np.isnan(values)].max() for name, values in answer.values.items()}
    assert held["loss"] != held["test_loss"]
    assert answer.status.kind == "left_domain"
    first = min(held, key=lambda name: held[name])
    assert answer.status.reason.startswith(f"{first!r}: ")
    assert answer.status.last_time is not None
    assert max(held.values()) <= answer.status.last_time <= max(held.values()) + 0.05
    alone = lf.solve(lf.PolynomialProblem(SAMPLES.loss), lf.Series(SAMPLE_SIZES, order=3), times)
    assert np.array_equal(alone.values["loss"], answer.values["loss"], equal_nan=True)
    lf.save(answer, tmp_path / "answer.nc")
    assert lf.load(tmp_path / "answer.nc").identical(answer)


def test_one_observable_may_end_while_another_goes_on() -> None:
    """A constant has no truncation error; the loss beside it has."""
    w = lf.Tensor("w", ("p",), variance=1)

    class Kept(lf.AbstractProblem):
        """A loss, and a number beside it that no weight enters."""

        languages = ("diagrams",)  # type: ignore[assignment]

        def as_diagrams(self) -> lf.DiagramPolynomial:
            """sum_i w_i^4."""
            return lf.diagram(*[w("i")] * 4)

        def diagram_observables(self) -> dict[str, lf.DiagramPolynomial]:
            """The loss and the size p."""
            return {"loss": self.as_diagrams(), "size": lf.size("p")}

    times = np.linspace(0, 1, 11)
    answer = lf.solve(dataclass(frozen=True, repr=False)(Kept)(), lf.Series({"p": 3}, order=3), times)
    assert (answer.values["size"] == 3).all()
    assert np.isnan(answer.values["loss"][-1])
    assert answer.status.last_time == 1.0
    assert answer.status.reason.startswith("'loss': ")


def test_sizes_are_derived_by_the_problem() -> None:
    problem = DiagonalLinear(2.5, GaussianPrior())
    answer = lf.solve(problem, lf.Series({"d": 4}, 2), [0.0, 0.01])
    exact = lf.expand(problem, 2).at(d=4, n=10)
    assert tuple(map(Fraction, answer.details["derivatives_exact"])) == exact
    with pytest.raises(
        lf.InvalidInput, match=r"n = 2\.5 \* d = 12\.5 is not a whole number >= 1 at d = 5; nearest: d = 4 and d = 6"
    ):
        lf.solve(problem, lf.Series({"d": 5}, 2), [0.0])
    with pytest.raises(lf.InvalidInput, match="alone"):
        lf.solve(problem, lf.Series({"d": 4, "n": 10}, 2), [0.0])


def test_sizes_of_all_observables_are_asked_for() -> None:
    for sizes, complaint in (
        ({**SAMPLE_SIZES, "n": 3}, "no size 'n'"),
        ({name: value for name, value in SAMPLE_SIZES.items() if name != "N"}, "missing 'N'"),
        ({**SAMPLE_SIZES, "d": 2.5}, "'d' must be a whole number"),
    ):
        with pytest.raises(lf.InvalidInput, match=complaint):
            lf.solve(SAMPLES, lf.Series(sizes, 2), [0.1])
