"""Y_s = E d^s L/dt^s on four roads: reference values, explicit polynomials, integration over the initial weights, zonal sums."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from tests.diagrams.explicit import expand, gaussian_mean, gradient_product, holds_at
from tests.diagrams.families import cross, decomposition, polynomials, square, weights

from lossflow.diagrams.polynomial import DiagramPolynomial, diagram, merge, size
from lossflow.diagrams.tensor import Tensor, pin
from lossflow.diagrams.wick import SizePolynomial, derivatives, mean
from lossflow.errors import InvalidInput

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "diagrams.json").read_text())["Y"]


@cache
def series(loss: DiagramPolynomial, order: int) -> tuple[SizePolynomial, ...]:
    return tuple(islice(derivatives(loss), order + 1))


@pytest.mark.parametrize("family", REFERENCE)
def test_reference_values(family: str) -> None:
    """Every coefficient of every Y_s; docs/theory/diagrams.md section 13 says how the reference was computed."""
    kind, order = family.split("_nu")
    expected = REFERENCE[family]
    computed = series(decomposition(int(order), kind == "SYM"), len(expected) - 1)
    for got, terms in zip(computed, expected, strict=True):
        assert got.variables == ("p", "H", "sigma2")
        assert got.terms == {tuple(map(int, key.split(","))): Fraction(value) for key, value in terms.items()}
        assert got.assumptions == ()


# --- explicit polynomials: gradients and moments of entries, no diagrams ---


def losses() -> Iterator[tuple[str, DiagramPolynomial, dict[str, int], int]]:
    """(name, loss, sizes, order) for models and targets of docs/theory/diagrams.md section 5."""
    half = Fraction(1, 2)
    u, v, w = weights(3, False)
    yield "matrix", decomposition(2, True), {"p": 2, "H": 2}, 3
    yield "order 4", decomposition(4, True), {"p": 2, "H": 1}, 2
    yield "asymmetric", decomposition(3, False), {"p": 2, "H": 1}, 2

    spiked = decomposition(3, False) - 3 * diagram(*(m("k", pin(1)) for m in (u, v, w)))
    yield "identity and spike", spiked, {"p": 2, "H": 1}, 2
    yield "two spikes", spiked + half * diagram(*(m("k", pin(2)) for m in (u, v, w))), {"p": 2, "H": 1}, 1

    modular = half * square(3, False) - diagram(
        u("k", "i"), v("k", "j"), w("k", "l"), constraints=[{"i": 1, "j": 1, "l": -1}]
    )
    yield "modular addition", modular, {"p": 2, "H": 1}, 2
    yield "modular addition", modular, {"p": 3, "H": 1}, 1

    m, a = Tensor("u", ("H", "p")), Tensor("a", ("K", "p"), variance="b2", learned=False)
    teacher = half * diagram(a("k", "i"), a("k", "j"), a("l", "i"), a("l", "j"))
    student = half * square(2, True) - diagram(m("k", "i"), m("k", "j"), a("l", "i"), a("l", "j")) + teacher
    yield "random teacher", student, {"p": 2, "H": 1, "K": 2}, 2

    matrix, target = Tensor("W", ("o", "d")), Tensor("V", ("o", "d"), variance="b2", learned=False)
    x = Tensor("x", ("d", "N"), variance=1, learned=False)

    def product(left: Tensor, right: Tensor) -> DiagramPolynomial:
        return diagram(left("o", "i"), x("i", "n"), right("o", "j"), x("j", "n"))

    linear = half * size("N", -1) * (product(matrix, matrix) - 2 * product(matrix, target) + product(target, target))
    yield "linear net with data", linear, {"o": 1, "d": 2, "N": 2}, 2

    hidden, readout = Tensor("w", ("H", "p")), Tensor("a", ("H",), variance="a2")
    data = Tensor("x", ("p", "N"), variance=1, learned=False)

    def network(k: str, i: str, j: str) -> tuple:
        return (readout(k), hidden(k, i), data(i, "n"), hidden(k, j), data(j, "n"))

    output = half * size("N", -1) * diagram(*network("k", "i", "j"), *network("l", "q", "r"))
    yield "quadratic net with readout", output, {"p": 1, "H": 2, "N": 1}, 1

    biased = Tensor("u", ("H", "p"), mean=Fraction(1, 2))
    norm = diagram(biased("k", "i"), biased("k", "i"))
    yield "mean not zero", half * norm * norm - diagram(biased("k", "i")), {"p": 1, "H": 2}, 2

    cubic = Tensor("g", ("p", "H", "p"), variance=Fraction(1, 3), mean="m")
    yield "three slots", diagram(cubic("i", "k", "i"), cubic("i", "k", "j")) - cross(2, True), {"p": 2, "H": 1}, 2

    one, two = Tensor("u1", ("d",)), Tensor("u2", ("d",))
    quartics = [diagram(*[t("i")] * 4) for t in (one, two)]
    mixed = diagram(one("i"), two("i"))
    yield "alike, in separate terms", quartics[0] + quartics[1] + mixed, {"d": 2}, 2
    yield "of equal law, not alike", quartics[0] + 2 * quartics[1] + mixed, {"d": 2}, 2
    frozen = Tensor("u2", ("d",), learned=False)
    yield "learned and frozen of equal law", quartics[0] + diagram(one("i"), one("i"), frozen("j")), {"d": 2}, 2
    alike = quartics[0] + diagram(*[frozen("i")] * 4) + diagram(one("i"), frozen("i"))
    yield "alike but for the gradient", alike, {"d": 2}, 2


PARAMETERS = {
    "sigma2": Fraction(2, 5),
    "v": Fraction(2, 3),
    "a2": Fraction(1, 3),
    "b2": Fraction(3, 2),
    "m": Fraction(-1, 4),
}


@pytest.mark.parametrize(
    ("name", "loss", "sizes", "order"), list(losses()), ids=lambda x: x if isinstance(x, str) else ""
)
def test_explicit_derivatives(name: str, loss: DiagramPolynomial, sizes: dict[str, int], order: int) -> None:
    """dG/dt = -<grad G, grad L>, applied s times to L as a polynomial in all entries, then averaged moment by moment."""
    explicit = expand(loss, sizes)
    derivative, sign = explicit, 1
    for y in series(loss, order):
        values = {variable: {**sizes, **PARAMETERS}[variable] for variable in y.variables}
        assert not any("odd" in assumption for assumption in y.assumptions)
        assert y.at(values) == sign * gaussian_mean(derivative, PARAMETERS)
        derivative, sign = gradient_product(derivative, explicit), -sign


@given(polynomials(most=3))
@settings(max_examples=60)
def test_explicit_derivatives_of_random_losses(loss: DiagramPolynomial) -> None:
    """Tensors of equal law, some of which the loss treats alike; pins; constraints; sizes that the assumptions admit."""
    for sizes in ({"p": 2, "H": 2}, {"p": 3, "H": 1}):
        explicit = expand(loss, sizes)
        derivative, sign = explicit, 1
        for y in series(loss, 2 if sizes["H"] == 1 else 1):
            if holds_at(y, sizes):
                values = {variable: {**sizes, **PARAMETERS}[variable] for variable in y.variables}
                assert y.at(values) == sign * gaussian_mean(derivative, PARAMETERS)
            derivative, sign = gradient_product(derivative, explicit), -sign


@given(polynomials(most=3), polynomials(most=3))
@settings(max_examples=40)
def test_explicit_derivatives_of_random_observables(
    potential: DiagramPolynomial, observable: DiagramPolynomial
) -> None:
    """A G = -<grad G, grad V> with two unrelated polynomials: tensors alike in one of them alone, sizes of either."""
    for sizes in ({"p": 2, "H": 2}, {"p": 3, "H": 1}):
        flow, derivative, sign = expand(potential, sizes), expand(observable, sizes), 1
        for y in islice(derivatives(potential, observable), 3 if sizes["H"] == 1 else 2):
            if holds_at(y, sizes):
                values = {variable: {**sizes, **PARAMETERS}[variable] for variable in y.variables}
                assert y.at(values) == sign * gaussian_mean(derivative, PARAMETERS)
            derivative, sign = gradient_product(derivative, flow), -sign


def test_tensors_that_the_potential_treats_alike_and_the_observable_does_not() -> None:
    """V is symmetric under u1 <-> u2; G is not, nor are its terms equal, yet both of them count."""
    one, two = Tensor("u1", ("d",)), Tensor("u2", ("d",))
    potential = diagram(*[one("i")] * 4) + diagram(*[two("i")] * 4) + diagram(one("i"), two("i"))
    observable = 3 * diagram(*[one("i")] * 2) - 5 * diagram(*[two("i")] * 2) + diagram(one("i"), one("j"), two("j"))
    sizes = {"d": 2}
    flow, derivative, sign = expand(potential, sizes), expand(observable, sizes), 1
    for y in islice(derivatives(potential, observable), 3):
        assert y.at({**sizes, "sigma2": PARAMETERS["sigma2"]}) == sign * gaussian_mean(derivative, PARAMETERS)
        derivative, sign = gradient_product(derivative, flow), -sign


def test_an_observable_may_have_names_of_its_own() -> None:
    """A fresh sample, averaged over N2 copies, beside a penalty lam |w|^2 in the potential alone."""
    w = Tensor("w", ("d",))
    x = Tensor("x", ("d", "N"), variance=1, learned=False)
    fresh = Tensor("z", ("d", "M"), variance="b2", learned=False)
    potential = size("N", -1) * diagram(w("i"), x("i", "n"), w("j"), x("j", "n")) + size("lam") * diagram(
        w("i"), w("i")
    )
    observable = size("M", -1) * diagram(w("i"), fresh("i", "n"), w("j"), fresh("j", "n"))
    sizes = {"d": 2, "N": 2, "M": 1}
    flow, derivative, sign = expand(potential, {**sizes, "lam": 3}), expand(observable, sizes), 1
    for y in islice(derivatives(potential, observable), 3):
        assert y.variables == ("d", "lam", "M", "N", "b2", "sigma2")
        values = {**sizes, "lam": 3, "b2": PARAMETERS["b2"], "sigma2": PARAMETERS["sigma2"]}
        assert y.at(values) == sign * gaussian_mean(derivative, PARAMETERS)
        derivative, sign = gradient_product(derivative, flow), -sign


def test_names_that_clash_between_potential_and_observable_are_refused() -> None:
    w, other = Tensor("w", ("d",)), Tensor("w", ("p",))
    clash = Tensor("x", ("p",), variance="d", learned=False)
    potential = diagram(w("i"), w("i"))
    with pytest.raises(InvalidInput, match="one name, two tensors"):
        next(derivatives(potential, diagram(other("i"), other("i"))))
    with pytest.raises(InvalidInput, match="both a size and a parameter"):
        next(derivatives(potential, diagram(clash("i"), clash("i"))))


def test_derivatives_are_means_of_left_nested_powers() -> None:
    loss = decomposition(3, True)
    power, sign = loss, 1
    for y in series(loss, 2):
        assert y == mean(sign * power)
        power, sign = merge(power, loss), -sign


def test_modular_addition_needs_odd_p_from_the_third_derivative_on() -> None:
    """Four constraints with divisors (1, 1, 1, 2) need four copies of the cross term: section 5."""
    u, v, w = weights(3, False)
    target = diagram(u("k", "i"), v("k", "j"), w("k", "l"), constraints=[{"i": 1, "j": 1, "l": -1}])
    loss = Fraction(1, 2) * square(3, False) - target
    assert [y.assumptions for y in series(loss, 3)] == [(), (), (), ("p odd",)]


# --- integration over the initial weights: Taylor arithmetic of the flow itself at Gauss-Hermite nodes ---


def taylor_loss(order: int, start: np.ndarray, steps: int) -> np.ndarray:
    """d^s L/dt^s at 0, s = 0..steps, of shape (steps + 1, points): the flow of 1/2 ||f - identity||^2, power series in t.

    start: initial weights, shape (points, 1 or order, H, p); one matrix for all slots, or one for each.
    """
    points, matrices, _, p = start.shape
    slots = [m if matrices > 1 else 0 for m in range(order)]
    target = np.zeros((p,) * order)
    target[(np.arange(p),) * order] = 1
    letters = "abcdef"[:order]
    weights_ = [start]
    residuals: list[np.ndarray] = []

    def convolve(factors: list[tuple[str, list[np.ndarray]]], result: str, degree: int) -> np.ndarray | float:
        """The coefficient of t^degree in an einsum of power series."""
        rule = f"{','.join(f'z{labels}' for labels, _ in factors)}->z{result}"
        total: np.ndarray | float = 0.0
        for split in itertools.product(range(degree + 1), repeat=len(factors)):
            if sum(split) == degree and all(k < len(s) for k, (_, s) in zip(split, factors, strict=True)):
                total = total + np.einsum(
                    rule, *(s[k] for k, (_, s) in zip(split, factors, strict=True)), optimize=True
                )
        return total

    for degree in range(steps + 1):
        rows = [[w[:, m] for w in weights_] for m in range(matrices)]
        model = convolve([(f"k{c}", rows[m]) for c, m in zip(letters, slots, strict=True)], letters, degree)
        residuals.append(model - target * (degree == 0))
        velocity = np.zeros_like(start)
        for slot, m in enumerate(slots):
            others = [(f"k{letters[n]}", rows[slots[n]]) for n in range(order) if n != slot]
            velocity[:, m] -= convolve([(letters, residuals), *others], f"k{letters[slot]}", degree)
        weights_.append(velocity / (degree + 1))
    losses_ = [0.5 * np.asarray(convolve([(letters, residuals)] * 2, "", s)) for s in range(steps + 1)]
    factorial = np.cumprod([1, *range(1, steps + 1)])
    return np.array(losses_).reshape(steps + 1, points) * factorial[:, None]


@pytest.mark.parametrize(
    ("order", "symmetric", "p", "h", "steps"),
    [
        *((2, True, p, h, 5) for p, h in ((1, 1), (2, 1), (1, 2), (3, 1), (1, 3))),
        (2, True, 2, 2, 4),
        (2, True, 4, 1, 4),
        (2, False, 2, 1, 4),
        (2, False, 1, 2, 4),
        (3, True, 2, 1, 3),
        (3, True, 1, 3, 2),
        (3, False, 1, 1, 3),
        (4, True, 2, 1, 3),
        (4, True, 1, 2, 3),
    ],
)
def test_gauss_hermite_integration(order: int, symmetric: bool, p: int, h: int, steps: int) -> None:
    """E over the initial weights by a tensor rule that is exact for these degrees; 1e-13 allows for its roundoff alone."""
    variance = 0.7
    matrices = 1 if symmetric else order
    entries = matrices * h * p
    degree = order * (steps + 2) + (order - 2) * steps
    nodes, node_weights = np.polynomial.hermite_e.hermegauss(degree // 2 + 1)
    node_weights = node_weights / node_weights.sum()
    grid = np.array(list(itertools.product(nodes, repeat=entries))) * np.sqrt(variance)
    mass = np.prod(np.array(list(itertools.product(node_weights, repeat=entries))), axis=1)
    integrated = taylor_loss(order, grid.reshape(-1, matrices, h, p), steps) @ mass
    exact = [y.at({"p": p, "H": h, "sigma2": Fraction(7, 10)}) for y in series(decomposition(order, symmetric), steps)]
    assert integrated == pytest.approx([float(y) for y in exact], rel=1e-13, abs=0)


# --- the symmetric matrix problem by zonal polynomials ---


def trace_moment(m: int, p: int, h: int) -> Fraction:
    """E tr (U^T U)^m / sigma2^m: sum over partitions of m without the box (3, 2). docs/theory/diagrams.md section 9."""
    total = Fraction(0)
    for first in range(1, m + 1):
        for second in range(min(first, m - first) + 1):
            rest = m - first - second
            if rest and not second:
                continue
            shape = [first, *([second] if second else []), *[1] * rest]
            columns = [sum(row > j for row in shape) for j in range(first)]
            boxes = [(i, j) for i, row in enumerate(shape) for j in range(row)]
            norm, value = 1, Fraction(2 * m)
            for i, j in boxes:
                arm, leg = shape[i] - j - 1, columns[j] - i - 1
                norm *= (2 * arm + leg + 1) * (2 * arm + leg + 2)
                value *= (p + 2 * j - i) * (h + 2 * j - i) * ((2 * j - i) if (i, j) != (0, 0) else 1)
            total += value / norm
    return total


def test_zonal_sum_of_the_matrix_problem() -> None:
    """Circles only: M_{s,d} = -4(d+1) M_{s-1,d} + 4d M_{s-1,d-1}, Y_s = (-1)^s sum_d M_{s,d} E tr W^(d+1).

    Equal at more points (p, H) than the degrees allow for different polynomials.
    """
    steps = 7
    circles = {0: Fraction(-1), 1: Fraction(1, 2)}
    for s, y in enumerate(series(decomposition(2, True), steps)):
        for p, h in itertools.product(range(1, s + 5), repeat=2):
            by_power: dict[int, Fraction] = {}
            for (a, b, power), c in y.terms.items():
                by_power[power] = by_power.get(power, Fraction(0)) + c * p**a * h**b
            expected = {d + 1: (-1) ** s * c * trace_moment(d + 1, p, h) for d, c in circles.items()}
            if s == 0:
                expected[0] = Fraction(p, 2)
            assert by_power == expected
        circles = {d: -4 * (d + 1) * circles.get(d, 0) + 4 * d * circles.get(d - 1, Fraction(0)) for d in range(s + 3)}


def test_leading_terms_of_traces_are_narayana_numbers() -> None:
    """tr W^m: the leading monomials p^{m+1-n} H^n have coefficient N(m, n) = C(m,n) C(m,n-1) / m. Section 9."""
    from math import comb

    u = Tensor("u", ("H", "p"))
    for m in range(1, 8):
        circle = diagram(*(f for k in range(m) for f in (u(f"k{k}", f"i{k}"), u(f"k{k}", f"i{(k + 1) % m}"))))
        terms = mean(circle).terms
        for n in range(1, m + 1):
            assert terms[m + 1 - n, n, m] == comb(m, n) * comb(m, n - 1) // m
        assert max(a + b for a, b, _ in terms) == m + 1
