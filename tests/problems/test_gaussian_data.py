"""Networks on Gaussian samples: exact derivatives of training and test loss against flows of simulated starts, data and teachers.

The flows are written in plain numpy, straight from the models: matrices for the linear networks, u * v and a symmetric X for the
diagonal and the quadratic network, population losses from the moments of the normal law.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.problems.taylor import Weights, along_the_flow, constant, gaussian_grid, require_means, times

import lossflow as lf
from lossflow.diagrams.polynomial import diagram
from lossflow.diagrams.wick import derivatives, mean
from lossflow.expansion.random_sizes import mean_over_sizes, multinomial_moment
from lossflow.problems.diagonal import DiagonalLinear, GeneralInit, NonNegativeInit, SymmetricInit
from lossflow.problems.gaussian_data import (
    FRESH,
    DataProblem,
    averaged,
    deep_linear,
    derived_sizes,
    diagonal_network,
    linear_regression,
    matrix_factorization,
    quadratic_network,
    square,
)
from lossflow.problems.glm import GeneralizedLinear
from lossflow.problems.labels import LinearLabels, SignLabels
from lossflow.problems.losses import Huber, Logistic, Square
from lossflow.problems.penalties import L1
from lossflow.problems.priors import AtomicPrior, BernoulliGaussian, GaussianPrior, PositiveSparse, RademacherSparse
from lossflow.problems.quadratic import QuadraticNetwork

Array = npt.NDArray[np.float64]
COUNT = 20_000
INF = float("inf")


def normal(random: np.random.Generator, variance: float | Fraction, *shape: int, count: int = COUNT) -> Array:
    return np.sqrt(float(variance)) * random.standard_normal((count, *shape))


# --- the ready-made problems


def linear_flow(layers: Weights, teacher: Array, x: Array, z: Array, last: int) -> tuple[Array, Array]:
    """1/(2N) sum_n |W_L .. W_1 x_n - T x_n - z_n|^2 and 1/2 |W_L .. W_1 - T|^2 along the flow; teacher (z, p, d), x (z, d, N)."""
    names, N = list(layers), x.shape[-1]

    def end_to_end(w: Weights, *chosen: str) -> Array | None:
        product = None
        for name in chosen:
            product = w[name] if product is None else times("zab,zbc->zac", w[name], product)
        return product

    def error(w: Weights) -> Array:
        whole = end_to_end(w, *names)
        assert whole is not None
        return whole - constant(teacher, whole)

    def residual(w: Weights) -> Array:
        e = error(w)
        return times("zoi,zin->zon", e, constant(x, e)) - constant(z, e)

    def gradient(w: Weights) -> Weights:
        r = residual(w)
        slope = times("zon,zin->zoi", r, constant(x, r)) / N
        found = {}
        for m, name in enumerate(names):
            below, above = end_to_end(w, *names[:m]), end_to_end(w, *names[m + 1 :])
            part = slope if above is None else times("zoa,zoi->zai", above, slope)
            found[name] = part if below is None else times("zai,zbi->zab", part, below)
        return found

    def loss(w: Weights) -> Array:
        r = residual(w)
        return times("zon,zon->z", r, r) / (2 * N)

    def distance(w: Weights) -> Array:
        e = error(w)
        return times("zoi,zoi->z", e, e) / 2

    return along_the_flow(layers, gradient, loss, last), along_the_flow(layers, gradient, distance, last)


def linear_regression_case(random: np.random.Generator) -> tuple[DataProblem, dict[str, Any], Array, Array]:
    sizes = {"d": 3, "N": 4, "sigma2": Fraction(1, 2), "teacher2": Fraction(3, 2), "noise2": Fraction(1, 4)}
    layers = {"w": normal(random, 1 / 2, 1, 3)}
    flow = linear_flow(layers, normal(random, 3 / 2, 1, 3), normal(random, 1, 3, 4), normal(random, 1 / 4, 1, 4), 3)
    return linear_regression(), sizes, flow[0], plus(flow[1], 1 / 8)


def matrix_factorization_case(random: np.random.Generator) -> tuple[DataProblem, dict[str, Any], Array, Array]:
    sizes = {"d": 3, "p": 2, "H": 2, "R": 1, "N": 3}
    variances = {"sigma2": Fraction(1, 4), "teacher2": Fraction(1, 2), "noise2": Fraction(1, 4)}
    layers = {"v": normal(random, 1 / 4, 2, 3), "u": normal(random, 1 / 4, 2, 2)}
    teacher = np.einsum("zpr,zdr->zpd", normal(random, 1 / 2, 2, 1), normal(random, 1 / 2, 3, 1))
    flow = linear_flow(layers, teacher, normal(random, 1, 3, 3), normal(random, 1 / 4, 2, 3), 2)
    return matrix_factorization(), {**sizes, **variances}, flow[0], plus(flow[1], 2 / 8)


def deep_linear_case(random: np.random.Generator) -> tuple[DataProblem, dict[str, Any], Array, Array]:
    sizes = {"d": 2, "h1": 3, "h2": 2, "p": 1, "N": 3}
    variances = {"sigma2": Fraction(1, 4), "teacher2": Fraction(1, 2), "noise2": Fraction(1, 4)}
    layers = {"a": normal(random, 1 / 4, 3, 2), "b": normal(random, 1 / 4, 2, 3), "c": normal(random, 1 / 4, 1, 2)}
    flow = linear_flow(layers, normal(random, 1 / 2, 1, 2), normal(random, 1, 2, 3), normal(random, 1 / 4, 1, 3), 2)
    return deep_linear(3), {**sizes, **variances}, flow[0], plus(flow[1], 1 / 8)


def quadratic_flow(start: Weights, teacher: Array, x: Array, z: Array, last: int) -> tuple[Array, Array]:
    """1/(2N) sum_n (f(x_n) - f*(x_n) - z_n)^2, f = sum_k a_k (w_k.x)^2, and E (f - f*)^2/2 over x along the flow; x (z, d, N)."""
    N = x.shape[-1]

    def top(w: Weights) -> Array:
        return w["a"] if "a" in w else constant(np.ones(w["w"].shape[1:3]), w["w"])

    def hidden(w: Weights) -> Array:
        return times("zki,zin->zkn", w["w"], constant(x, w["w"]))

    def residual(w: Weights) -> Array:
        h = hidden(w)
        f = times("zk,zkn,zkn->zn", top(w), h, h)
        return f - constant((np.einsum("zti,zin->ztn", teacher, x) ** 2).sum(1) + z, f)

    def gradient(w: Weights) -> Weights:
        r, h = residual(w), hidden(w)
        found = {"w": times("zkn,zk,zin->zki", 2 / N * times("zn,zkn->zkn", r, h), top(w), constant(x, h))}
        return found | ({"a": times("zn,zkn,zkn->zk", r, h, h) / N} if "a" in w else {})

    def loss(w: Weights) -> Array:
        r = residual(w)
        return times("zn,zn->z", r, r) / (2 * N)

    def population(w: Weights) -> Array:
        """E (x^T M x)^2 = 2 tr M^2 + (tr M)^2."""
        M = times("zk,zki,zkj->zij", top(w), w["w"], w["w"])
        M = M - constant(np.einsum("zti,ztj->zij", teacher, teacher), M)
        trace = times("zii->z", M)
        return times("zij,zij->z", M, M) + times("z,z->z", trace, trace) / 2

    return along_the_flow(start, gradient, loss, last), along_the_flow(start, gradient, population, last)


def quadratic_case(random: np.random.Generator, readout: bool) -> tuple[DataProblem, dict[str, Any], Array, Array]:
    """To first order: the second derivative has too heavy a tail for samples (it is tested by quadrature)."""
    sizes = {"d": 2, "H": 2, "R": 3, "N": 4, **({"a2": Fraction(1, 8)} if readout else {})}
    variances = {"sigma2": Fraction(1, 8), "teacher2": Fraction(1, 4), "noise2": Fraction(1, 4)}
    start = {"w": normal(random, 1 / 8, 2, 2)} | ({"a": normal(random, 1 / 8, 2)} if readout else {})
    teacher = normal(random, 1 / 4, 3, 2)
    flow = quadratic_flow(start, teacher, normal(random, 1, 2, 4), normal(random, 1 / 4, 4), 1)
    return quadratic_network(readout), {**sizes, **variances}, flow[0], plus(flow[1], 1 / 8)


def diagonal_case(random: np.random.Generator) -> tuple[DataProblem, dict[str, Any], Array, Array]:
    sizes = {"d": 3, "N": 4, "sigma2": Fraction(1, 8), "teacher2": Fraction(1, 2), "noise2": Fraction(1, 4)}
    x, z, signal = normal(random, 1, 3, 4), normal(random, 1 / 4, 4), normal(random, 1 / 2, 3)
    start = {"u": normal(random, 1 / 8, 3), "v": normal(random, 1 / 8, 3)}

    def error(w: Weights) -> Array:
        return times("zi,zi->zi", w["u"], w["u"]) - times("zi,zi->zi", w["v"], w["v"]) - constant(signal, w["u"])

    def residual(w: Weights) -> Array:
        e = error(w)
        return times("zi,zin->zn", e, constant(x, e)) - constant(z, e)

    def gradient(w: Weights) -> Weights:
        r = residual(w)
        g = times("zin,zn->zi", constant(x, r), r) / 4
        return {"u": 2 * times("zi,zi->zi", w["u"], g), "v": -2 * times("zi,zi->zi", w["v"], g)}

    def half(w: Weights, part: Callable[[Weights], Array], spec: str, scale: float) -> Array:
        return times(spec, part(w), part(w)) / scale

    train = along_the_flow(start, gradient, lambda w: half(w, residual, "zn,zn->z", 8), 3)
    test = along_the_flow(start, gradient, lambda w: half(w, error, "zi,zi->z", 2), 3)
    return diagonal_network(), sizes, train, plus(test, 1 / 8)


def plus(flow: Array, noise: float) -> Array:
    """Half of the variance of the noise belongs to the test loss and does not move."""
    return flow + np.concatenate([[noise], np.zeros(len(flow) - 1)])[:, None]


@pytest.mark.parametrize(
    "case",
    [
        linear_regression_case,
        matrix_factorization_case,
        deep_linear_case,
        lambda random: quadratic_case(random, False),
        lambda random: quadratic_case(random, True),
        diagonal_case,
    ],
    ids=["linear regression", "matrix factorization", "deep linear", "quadratic", "quadratic with readout", "diagonal"],
)
def test_exact_derivatives_against_flows(case: Callable[..., tuple[DataProblem, dict[str, Any], Array, Array]]) -> None:
    problem, sizes, train, test = case(np.random.default_rng(8))
    for observable, flow in (("loss", train), ("test_loss", test)):
        series = lf.expand(problem, len(flow) - 1, observable=observable)
        require_means(flow, series.at(**{name: sizes[name] for name in series.variables}))


@pytest.mark.parametrize("readout", [False, True])
def test_quadratic_networks_against_quadrature(readout: bool) -> None:
    """One input, neuron, sample: x, w, w*, noise (and a) averaged by a tensor Gauss-Hermite rule that is exact up to power 17."""
    points, weights = gaussian_grid(5 if readout else 4, 9)
    scaled = points * np.sqrt([1, 1 / 4, 1 / 2, 1 / 8, 1 / 2][: points.shape[1]])
    start = {"w": scaled[:, None, 1:2]} | ({"a": scaled[:, 4:5]} if readout else {})
    flow = quadratic_flow(start, scaled[:, None, 2:3], scaled[:, None, 0:1], scaled[:, 3:4], 2)
    problem = quadratic_network(readout)
    sizes = {
        "d": 1,
        "H": 1,
        "R": 1,
        "N": 1,
        "sigma2": Fraction(1, 4),
        "teacher2": Fraction(1, 2),
        "noise2": Fraction(1, 8),
    }
    sizes |= {"a2": Fraction(1, 2)} if readout else {}
    for observable, values in (("loss", flow[0]), ("test_loss", plus(flow[1], 1 / 16))):
        exact = lf.expand(problem, 2, observable=observable).at(**sizes)
        assert [float(y) for y in exact] == pytest.approx(list(values @ weights), rel=1e-10)


@pytest.mark.parametrize(
    "problem", [linear_regression(), matrix_factorization(), quadratic_network(True), diagonal_network()]
)
def test_a_fresh_sample_may_be_averaged_before_or_after(problem: DataProblem) -> None:
    """The theory note's form of the test loss, with a second frozen tensor, has the same derivatives."""
    data = next(t for t in problem.loss.tensors if t.name == "x")
    fresh = lf.Tensor("x_second", data.axes, variance=1, learned=False)
    noise = next(t for t in problem.loss.tensors if t.name == "noise")
    fresh_noise = lf.Tensor("noise_second", noise.axes, variance="noise2", learned=False)
    swap = {data: fresh, noise: fresh_noise}
    second = 0 * diagram()
    for term in problem.loss.terms:
        factors = [lf.Factor(swap.get(f.tensor, f.tensor), f.nodes) for f in term.diagram.factors]
        powers = 1 * diagram()
        for name, power in term.powers:
            powers *= lf.size(name, power)
        second += term.coefficient * powers * diagram(*factors)
    for s, (one, other) in enumerate(
        zip(derivatives(problem.loss, second), derivatives(problem.loss, problem.test_loss), strict=False)
    ):
        assert one == other
        if s == 2:
            break


def test_averaging_one_tensor_is_wicks_rule() -> None:
    w = lf.Tensor("w", ("d", "d"))
    four = diagram(w("i", "j"), FRESH("i"), FRESH("j"), w("k", "l"), FRESH("k"), FRESH("l"))
    trace, squares, crossed = (
        diagram(w("i", "i"), w("k", "k")),
        diagram(w("i", "j"), w("i", "j")),
        diagram(w("i", "j"), w("j", "i")),
    )
    assert averaged(four, FRESH) == trace + squares + crossed
    assert averaged(diagram(w("i", "j"), FRESH("i")), FRESH) == 0 * diagram()
    assert averaged(diagram(FRESH("i"), FRESH("i"), w("k", "k")), FRESH) == lf.size("d") * diagram(w("k", "k"))
    assert averaged(diagram(w(lf.pin(1), lf.pin(1)), FRESH(lf.pin(1)), FRESH(lf.pin(2))), FRESH) == 0 * diagram()


def test_squares_share_only_the_nodes_they_are_told() -> None:
    w = lf.Tensor("w", ("H", "d"))
    assert square([(1, [w("k", "i")])], "i") == diagram(w("k", "i"), w("l", "i"))
    assert (
        square([(2, [w("k", "i")]), (-1, [])], ())
        == 4 * diagram(w("k", "i"), w("l", "j")) - 4 * diagram(w("k", "i")) + diagram()
    )


def test_a_deep_network_of_one_layer_is_a_regression() -> None:
    one = lf.expand(deep_linear(1), 2).at(d=3, p=1, N=5, sigma2=2, teacher2=3, noise2=1)
    assert one == lf.expand(linear_regression(), 2).at(d=3, N=5, sigma2=2, teacher2=3, noise2=1)
    with pytest.raises(lf.InvalidInput, match="at least one layer"):
        deep_linear(0)
    with pytest.raises(lf.InvalidInput, match="depth"):
        deep_linear("two")  # type: ignore[arg-type]


def test_a_data_problem_is_a_description_that_is_simulated() -> None:
    problem = linear_regression()
    assert DataProblem.from_toml(problem.to_toml()) == problem
    sizes = {"d": 4, "N": 6, "sigma2": 0.5, "teacher2": 1.0, "noise2": 0.25}
    times_ = np.linspace(0, 0.2, 5)
    series = lf.solve(problem, lf.Series(sizes, 4), times_)
    assert set(series.values) == {"loss", "test_loss"}
    experiment = lf.solve(problem, lf.Simulation(sizes, runs=2000, seed=4), times_)
    found = lf.compare(series, experiment)
    assert found.agree, found.verdict
    w = lf.Tensor("w", ("d",), learned=False)
    with pytest.raises(lf.InvalidInput, match="nothing is learned"):
        DataProblem(diagram(w("i"), w("i")), diagram(w("i"), w("i")))
    with pytest.raises(lf.InvalidInput, match="missing 'noise2'"):
        lf.solve(problem, lf.Series({k: v for k, v in sizes.items() if k != "noise2"}, 2), [0.1])
    with pytest.raises(lf.InvalidInput, match="no size 'n'"):
        lf.solve(problem, lf.Series({**sizes, "n": 3}, 2), [0.1])


# --- the descriptions of the mean-field notes


def series_of(problem: lf.AbstractProblem, d: int, order: int) -> dict[str, list[Fraction]]:
    """The exact Y_s of every observable."""
    details = lf.solve(problem, lf.Series({"d": d}, order), [0.0]).details
    found = {"loss": details, **details["observables"]}
    return {name: [Fraction(y) for y in each["derivatives_exact"]] for name, each in found.items()}


@pytest.mark.parametrize(("overlap", "weight_decay"), [(0.0, 0.0), (-0.6, 0.25)])
def test_linear_regression_as_a_description(overlap: float, weight_decay: float) -> None:
    """d theta/dt = -weight_decay theta - (1/delta) X^T (X theta - y), entries of X of variance 1/d."""
    d, n, last = 3, 6, 3
    problem = GeneralizedLinear(Square(), LinearLabels(0.5), 2.0, weight_decay, init_variance=0.8, init_overlap=overlap)
    random = np.random.default_rng(5)
    X, z, star = normal(random, 1 / d, n, d), normal(random, 0.5, n), normal(random, 1, d)
    start = overlap * np.sqrt(0.8) * star + normal(random, 0.8 * (1 - overlap**2), d)

    def residual(w: Weights) -> Array:
        e = w["theta"] - constant(star, w["theta"])
        return times("zni,zi->zn", constant(X, e), e) - constant(z, e)

    def gradient(w: Weights) -> Weights:
        r = residual(w)
        return {"theta": weight_decay * w["theta"] + d / n * times("zni,zn->zi", constant(X, r), r)}

    def loss(w: Weights) -> Array:
        return times("zn,zn->z", residual(w), residual(w)) / (2 * n)

    def mse(w: Weights) -> Array:
        e = w["theta"] - constant(star, w["theta"])
        return times("zi,zi->z", e, e) / d

    exact = series_of(problem, d, last)
    assert set(exact) == {"loss", "test_loss", "mse", "norm"}
    require_means(along_the_flow({"theta": start}, gradient, loss, last), exact["loss"])
    require_means(along_the_flow({"theta": start}, gradient, mse, last), exact["mse"])
    test = [y / 2 for y in exact["mse"]]
    test[0] += Fraction(1, 4)
    assert exact["test_loss"] == test
    norm = along_the_flow({"theta": start}, gradient, lambda w: times("zi,zi->z", w["theta"], w["theta"]) / d, last)
    require_means(norm, exact["norm"])
    # t = 0, docs/theory/mean_field.md section 5: (C - 2m + Q + sigma^2)/2 for fresh data, and as much for data not yet seen
    C, m = 0.8, overlap * np.sqrt(0.8)
    assert float(exact["loss"][0]) == pytest.approx((C - 2 * m + 1 + 0.5) / 2, rel=1e-14)
    assert float(exact["mse"][0]) == pytest.approx(C - 2 * m + 1, rel=1e-14)


def test_the_population_flow_of_linear_regression() -> None:
    """delta = inf: theta - theta* decays like e^-t, so d^s mse/dt^s = (-2)^s mse."""
    problem = GeneralizedLinear(Square(), LinearLabels(0.5), INF, init_variance=0.25)
    exact = series_of(problem, 7, 4)
    assert exact["mse"] == [Fraction(5, 4) * (-2) ** s for s in range(5)]
    assert exact["loss"] == exact["test_loss"]
    assert exact["loss"][0] == Fraction(5, 8) + Fraction(1, 4)


def test_where_generalized_linear_models_have_diagrams() -> None:
    plain = GeneralizedLinear(Square(), LinearLabels(), 2.0)
    assert "diagrams" in plain.languages
    assert "diagrams" in GeneralizedLinear(Square(), LinearLabels(), 2.0, weight_decay="0+").languages
    for other in (
        GeneralizedLinear(Logistic(), SignLabels(), 2.0),
        GeneralizedLinear(Huber(), LinearLabels(), 2.0),
        GeneralizedLinear(Square(), SignLabels(), 2.0),
        GeneralizedLinear(Square(), LinearLabels(), 2.0, penalty=L1(0.1)),
    ):
        assert "diagrams" not in other.languages
        with pytest.raises(lf.NotSpoken, match="has no diagrams"):
            lf.solve(other, lf.Series({"d": 10}, 2), [0.1])
        with pytest.raises(lf.NotSpoken, match=r"Square\(\) and LinearLabels\(\)|penalty=None"):
            other.as_diagrams()
    with pytest.raises(
        lf.InvalidInput, match=r"n = 0\.7 \* d = 9\.1 is not a whole number >= 1 at d = 13; nearest: d = 10 and d = 20"
    ):
        lf.solve(GeneralizedLinear(Square(), LinearLabels(), 0.7), lf.Series({"d": 13}, 2), [0.1])


PRIORS = {
    "gaussian": GaussianPrior(0.5),
    "rademacher": RademacherSparse(0.25),
    "bernoulli": BernoulliGaussian(0.5),
    "positive": PositiveSparse(0.5),
    "three atoms": AtomicPrior((-1.0, 0.5, 2.0), (0.25, 0.5, 0.25)),
}


@pytest.mark.parametrize(
    ("prior", "init"),
    [
        ("gaussian", SymmetricInit(0.5)),
        ("gaussian", NonNegativeInit(0.5)),
        ("gaussian", GeneralInit(0.6, -0.2)),
        ("rademacher", SymmetricInit(0.5)),
        ("bernoulli", SymmetricInit(0.5)),
        pytest.param("bernoulli", GeneralInit(0.6, -0.2), marks=pytest.mark.slow),
        ("positive", NonNegativeInit(0.5)),
        pytest.param("rademacher", NonNegativeInit(0.5), marks=pytest.mark.slow),
        pytest.param("three atoms", SymmetricInit(0.5), marks=pytest.mark.slow),
    ],
)
def test_diagonal_networks_as_descriptions(prior: str, init: Any) -> None:
    """du/dt = -v g - weight_decay u and the same for v, g = X^T (X (u v) - y)/delta; entries of beta* drawn from the prior."""
    d, n, decay_, noise = 2, 4, 0.25, 0.5
    last = 1 if prior == "three atoms" else 2
    problem = DiagonalLinear(2.0, PRIORS[prior], noise, init, decay_)
    random = np.random.default_rng(6)
    X, z = normal(random, 1 / d, n, d), normal(random, noise, n)
    star = PRIORS[prior].draw(COUNT * d, random).reshape(COUNT, d)
    start = dict(zip("uv", (np.full((COUNT, d), w) for w in init.weights), strict=True))

    def error(w: Weights) -> Array:
        return times("zi,zi->zi", w["u"], w["v"]) - constant(star, w["u"])

    def residual(w: Weights) -> Array:
        e = error(w)
        return times("zni,zi->zn", constant(X, e), e) - constant(z, e)

    def gradient(w: Weights) -> Weights:
        r = residual(w)
        g = d / n * times("zni,zn->zi", constant(X, r), r)
        return {
            "u": times("zi,zi->zi", w["v"], g) + decay_ * w["u"],
            "v": times("zi,zi->zi", w["u"], g) + decay_ * w["v"],
        }

    exact = series_of(problem, d, last)
    assert set(exact) == {"loss", "mse"}
    loss = along_the_flow(start, gradient, lambda w: times("zn,zn->z", residual(w), residual(w)) / (2 * n), last)
    require_means(loss, exact["loss"])
    require_means(
        along_the_flow(start, gradient, lambda w: times("zi,zi->z", error(w), error(w)) / d, last), exact["mse"]
    )


def test_the_start_of_a_diagonal_network() -> None:
    """At t = 0 beta = 0 for the symmetric start: mse = m2, loss = (m2 + noise)/2, and their slopes by hand.

    kappa = scale^2: beta' = -2 kappa g, so d mse/dt = (2/d) E (beta - beta*).beta' = (4 kappa/d) E beta*.g with
    g = -X^T X beta*/delta.
    """
    d, n, scale = 5, 10, 0.7
    exact = series_of(DiagonalLinear(2.0, RademacherSparse(0.2), 0.5, SymmetricInit(scale)), d, 1)
    kappa = Fraction("0.7") ** 2
    assert float(exact["mse"][0]) == pytest.approx(1, rel=1e-14)
    assert float(exact["loss"][0]) == pytest.approx(0.75, rel=1e-14)
    assert float(exact["mse"][1]) == pytest.approx(float(-4 * kappa), rel=1e-14)  # E X^T X/delta = 1
    # d loss/dt = (d/n) (X^T r/d).beta' = -2 kappa |g|^2/d: E |X^T X b|^2 = |b|^2 (n/d)(n + d + 1)/d, the noise adds (n/d) 0.5 d
    squared = Fraction(n * (n + d + 1), d * d) + Fraction(n, 2 * d)
    assert float(exact["loss"][1]) == pytest.approx(float(-2 * kappa * squared * Fraction(d, n) ** 2), rel=1e-14)


def test_population_diagonal_networks() -> None:
    """delta = inf: g = beta - beta* in every coordinate alone, so the size d is of no matter."""
    problem = DiagonalLinear(INF, BernoulliGaussian(0.5), 0.5, SymmetricInit(0.5))
    assert series_of(problem, 3, 3) == series_of(problem, 8, 3)


def test_limits_of_starts_have_no_diagrams() -> None:
    for scale in ("0+", INF):
        problem = DiagonalLinear(2.0, GaussianPrior(), init=SymmetricInit(scale))  # type: ignore[arg-type]
        assert "diagrams" not in problem.languages
        with pytest.raises(lf.NotSpoken, match="are no numbers"):
            problem.as_diagrams()


@pytest.mark.parametrize("weight_decay", [pytest.param(0.0, marks=pytest.mark.slow), 0.25])
def test_quadratic_networks_as_descriptions(weight_decay: float) -> None:
    """dW/dt = -(d/n) sum_k r_k X_k W - 2 weight_decay W with symmetric X_k of the GOE."""
    d, n, m, m_star, last, gamma, noise, count = 3, 6, 3, 3, 2, 0.5, 0.5, 20_000
    problem = QuadraticNetwork(n / d**2, m / d, m_star / d, noise, weight_decay, gamma)
    random = np.random.default_rng(7)
    G = normal(random, 1 / (2 * d), n, d, d, count=count)
    X, z = G + np.swapaxes(G, -1, -2), normal(random, noise, n, count=count)
    star = normal(random, 1, d, m_star, count=count)
    target = np.einsum("zit,zjt->zij", star, star) / m_star

    def error(w: Weights) -> Array:
        return times("zik,zjk->zij", w["W"], w["W"]) - constant(target, w["W"])

    def residual(w: Weights, clean: bool = False) -> Array:
        e = error(w)
        r = times("zkij,zij->zk", constant(X, e), e)
        return r if clean else r - constant(z, r)

    def gradient(w: Weights) -> Weights:
        r = residual(w)
        force = d / n * times("zk,zkij->zij", r, constant(X, r))
        return {"W": times("zij,zjk->zik", force, w["W"]) + 2 * weight_decay * w["W"]}

    exact = series_of(problem, d, last)
    assert set(exact) == {"loss", "mse", "in_sample_error"}
    start = {"W": normal(random, gamma / m, d, m, count=count)}
    for name, observe in {
        "loss": lambda w: times("zk,zk->z", residual(w), residual(w)) / (4 * n),
        "mse": lambda w: times("zij,zij->z", error(w), error(w)) / d,
        "in_sample_error": lambda w: times("zk,zk->z", residual(w, True), residual(w, True)) / (4 * n),
    }.items():
        require_means(along_the_flow(start, gradient, observe, last), exact[name])


def test_the_start_of_a_quadratic_network() -> None:
    """docs/theory/quadratic.md section 1: mse(0) = gamma^2 (1 + 1/kappa) - 2 gamma + 1 + 1/kappa*, loss(0) = (2 mse + Delta)/4.

    At finite d the second is exact, and the first has gamma^2/m + 1/m* more, from E tr (W W^T)^2 = (gamma/m)^2 d m (d + m + 1).
    """
    d, kappa, kappa_star, gamma, noise = 10, 0.4, 0.3, 0.7, 0.5
    exact = series_of(QuadraticNetwork(0.3, kappa, kappa_star, noise, 0.01, gamma), d, 1)
    limit = gamma**2 * (1 + 1 / kappa) - 2 * gamma + 1 + 1 / kappa_star
    finite = gamma**2 / (kappa * d) + 1 / (kappa_star * d)
    assert float(exact["mse"][0]) == pytest.approx(limit + finite, rel=1e-14)
    assert exact["loss"][0] == (2 * exact["mse"][0] + Fraction(1, 2)) / 4
    assert exact["in_sample_error"][0] == exact["mse"][0] / 2


def test_the_population_flow_of_a_quadratic_network() -> None:
    """alpha = inf: dW/dt = 2 (Z* - weight_decay - Z) W; one derivative of the mse by moments of Wishart matrices."""
    problem = QuadraticNetwork(INF, 1.0, 1.0, 0.5, 0.25, 0.5)
    exact = series_of(problem, 4, 2)
    assert set(exact) == {"loss", "mse"}
    assert exact["loss"][0] == exact["mse"][0] / 2 + Fraction(1, 8)
    assert exact["loss"][1:] == [y / 2 for y in exact["mse"][1:]]
    random, d, count = np.random.default_rng(3), 4, 20_000
    star = normal(random, 1, d, d, count=count)
    target = np.einsum("zit,zjt->zij", star, star) / d - 0.25 * np.eye(d)

    def gradient(w: Weights) -> Weights:
        e = times("zik,zjk->zij", w["W"], w["W"]) - constant(target, w["W"])
        return {"W": 2 * times("zij,zjk->zik", e, w["W"])}

    def mse(w: Weights) -> Array:
        e = times("zik,zjk->zij", w["W"], w["W"]) - constant(target + 0.25 * np.eye(d), w["W"])
        return times("zij,zij->z", e, e) / d

    require_means(along_the_flow({"W": normal(random, 0.5 / d, d, d, count=count)}, gradient, mse, 2), exact["mse"])


def test_sizes_that_follow_from_d() -> None:
    assert derived_sizes({"d": 30}, {"n": (0.1, 1)}) == {"d": 30, "n": 3}  # though 0.1 * 30 is not 3 in floats
    assert derived_sizes({"d": 4}, {"n": (0.5, 2), "m": (INF, 1)}) == {"d": 4, "n": 8}
    for sizes, complaint in (
        ({}, "alone"),
        ({"d": 4, "n": 2}, "alone"),
        ({"d": 4.5}, "whole number >= 1"),
        ({"d": 0}, "whole number >= 1"),
        ({"d": 3}, r"n = 0\.5 \* d\^2 = 4\.5 .* nearest: d = 2 and d = 4"),
    ):
        with pytest.raises(lf.InvalidInput, match=complaint):
            derived_sizes(sizes, {"n": (0.5, 2)})
    with pytest.raises(lf.InvalidInput, match="no d up to"):
        derived_sizes({"d": 3}, {"n": (np.pi, 1)})
    with pytest.raises(lf.InvalidInput, match="is not a whole number >= 1"):
        derived_sizes({"d": 3}, {"n": (1e-3, 1)})


def test_means_of_random_sizes() -> None:
    """Against enumeration of all assignments of coordinates to classes."""
    chances = (Fraction(1, 5), Fraction(3, 10), Fraction(1, 2))
    for powers in ((0, 0, 0), (1, 0, 0), (2, 1, 0), (3, 2, 1), (0, 0, 4)):
        total = Fraction(0)
        for classes in itertools.product(range(3), repeat=4):
            chance = prod(chances[k] for k in classes)
            total += chance * prod(classes.count(k) ** power for k, power in enumerate(powers))
        assert multinomial_moment(4, chances, powers) == total
    odd = lf.expand(lf.CPDecomposition(3, target=lf.ModularAddition()), 1)
    with pytest.raises(lf.InvalidInput, match="assumes p odd cannot be averaged"):
        mean_over_sizes(odd, {"H": Fraction(1), "sigma2": Fraction(1)}, 4, {"p": Fraction(1)})


def test_noise_spread_over_coordinates_has_its_variance() -> None:
    """The mean training loss of weights that start at the teacher is half the variance of the noise, whatever the sizes."""
    problem = GeneralizedLinear(Square(), LinearLabels(0.3), 2.0, init_variance=1.0, init_overlap=1.0)
    assert mean(problem.as_diagrams()).at({"d": 7, "n": 14}) == Fraction(3, 20)
