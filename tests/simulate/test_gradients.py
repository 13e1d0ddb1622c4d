"""Value and gradient of sums of diagrams: against the sum over all node values, written out, and against einsum."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lossflow as lf
from lossflow.diagrams.diagram import Diagram
from lossflow.diagrams.polynomial import DiagramPolynomial, Term
from lossflow.diagrams.tensor import Factor, Pinned, Tensor
from lossflow.simulate import contraction
from lossflow.simulate.evaluation import Evaluator, Task
from lossflow.simulate.expressions import Expressions, Labeled
from lossflow.simulate.gradients import Program, compiled

Array = npt.NDArray[np.float64]

TENSORS = (
    Tensor("u", ("H", "p")),
    Tensor("a", ("H",)),
    Tensor("w", ("p", "p"), learned=False),
    Tensor("v", ("p", "p")),
    Tensor("t", ("H", "p", "p")),
    Tensor("x", ("p", "N"), learned=False),
    Tensor("s", ()),
)
ROUNDING = 1e-14  # of the sum of the absolute values of everything that is added: some tens of roundings


def explicit(
    loss: DiagramPolynomial, sizes: Mapping[str, float], tensors: Mapping[str, Array]
) -> tuple[float, dict[str, Array]]:
    """The sum over all values of all nodes, and its derivative by every entry of every tensor, for one run."""
    value = 0.0
    gradient = {name: np.zeros_like(tensor) for name, tensor in tensors.items()}
    for term in loss.terms:
        coefficient = float(term.coefficient) * prod(sizes[name] ** power for name, power in term.powers)
        axes = term.diagram.axes
        nodes = list(axes)
        lengths = [int(sizes[axes[node]]) for node in nodes]
        grids = np.indices(lengths).reshape(len(nodes), prod(lengths))
        at: dict[Any, Any] = dict(zip(nodes, grids, strict=True))
        places = [
            tuple(np.full(prod(lengths), n.value - 1) if isinstance(n, Pinned) else at[n] for n in factor.nodes)
            for factor in term.diagram.factors
        ]
        entries = [tensors[f.tensor.name][place] for f, place in zip(term.diagram.factors, places, strict=True)]
        counted = np.full(prod(lengths), coefficient)
        for row in term.diagram.constraints:
            modulus = int(sizes[next(axes[node] for node, _ in row if isinstance(node, str))])
            total = sum(c * (node.value - 1 if isinstance(node, Pinned) else at[node]) for node, c in row)
            counted = counted * (total % modulus == 0)
        value += float(np.sum(prod(entries, start=counted)))
        for k, (factor, place) in enumerate(zip(term.diagram.factors, places, strict=True)):
            others = prod((e for j, e in enumerate(entries) if j != k), start=counted)
            np.add.at(gradient[factor.tensor.name], place, others if place else np.sum(others))
    return value, gradient


def draw_runs(loss: DiagramPolynomial, sizes: Mapping[str, float], runs: int, seed: int = 0) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {t.name: random.standard_normal((runs, *(int(sizes[axis]) for axis in t.axes))) for t in loss.tensors}


def assert_is_explicit(loss: DiagramPolynomial, sizes: Mapping[str, float], seed: int = 0) -> None:
    """Value and gradient of three runs agree with the explicit sum to the rounding of its terms."""
    program = Program(loss, sizes)
    tensors = draw_runs(loss, sizes, 3, seed)
    values, gradient = program(tensors)
    positive = DiagramPolynomial(tuple(Term(abs(t.coefficient), t.powers, t.diagram) for t in loss.terms))
    assert set(gradient) == {tensor.name for tensor in loss.tensors if tensor.learned}
    for run in range(3):
        one = {name: tensor[run] for name, tensor in tensors.items()}
        value, derivative = explicit(loss, sizes, one)
        scale, steepness = explicit(positive, sizes, {name: np.abs(tensor) for name, tensor in one.items()})
        assert abs(values[run] - value) <= ROUNDING * scale
        for name, got in gradient.items():
            assert (np.abs(got[run] - derivative[name]) <= ROUNDING * steepness[name]).all(), name


@st.composite
def polynomials(draw: st.DrawFn) -> DiagramPolynomial:
    """Up to three diagrams of up to five factors, with pinned nodes, repeated nodes, constraints and powers of sizes."""
    total = lf.diagram() * 0
    for _ in range(draw(st.integers(1, 3))):
        factors = []
        for tensor in draw(st.lists(st.sampled_from(TENSORS), min_size=1, max_size=5)):
            nodes: list[str | Pinned] = []
            for axis in tensor.axes:
                free = st.sampled_from([f"{axis}{k}" for k in range(3)])
                nodes.append(
                    draw(
                        free | st.just(lf.pin(1))
                        if axis != "p"
                        else free | free | st.sampled_from([lf.pin(1), lf.pin(2)])
                    )
                )
            factors.append(Factor(tensor, tuple(nodes)))
        met = sorted({n for f in factors for n in f.nodes if isinstance(n, str) and n.startswith("p")})
        rows: list[tuple[tuple[str | Pinned, int], ...]] = []
        if met:
            for _ in range(draw(st.integers(0, 2))):
                chosen = draw(st.lists(st.sampled_from(met), min_size=1, max_size=3, unique=True))
                row = [(node, draw(st.integers(-3, 3).filter(bool))) for node in chosen]
                pinned = [(lf.pin(2), draw(st.integers(1, 2)))] if draw(st.booleans()) else []
                rows.append((*row, *pinned))
        coefficient = draw(st.fractions(-3, 3, max_denominator=4).filter(bool))
        powers = draw(st.sampled_from([(), (("N", -1),), (("p", 2),)]))
        total += DiagramPolynomial((Term(coefficient, powers, Diagram(tuple(factors), tuple(rows))),))
    return total


@given(polynomials(), st.integers(2, 5), st.integers(1, 3), st.integers(1, 2))
def test_value_and_gradient_are_the_sum_over_all_nodes(loss: DiagramPolynomial, p: int, H: int, N: int) -> None:
    known = {"p": p, "H": H, "N": N, "sigma2": 1.0}
    assert_is_explicit(loss, {name: known[name] for name in (*loss.sizes, *loss.parameters)})


@given(polynomials(), st.integers(2, 4))
def test_the_greedy_order_gives_the_same_sums(loss: DiagramPolynomial, p: int) -> None:
    known = {"p": p, "H": 2, "N": 3, "sigma2": 1.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contraction, "SEARCH_LIMIT", 0)
        assert_is_explicit(loss, {name: known[name] for name in (*loss.sizes, *loss.parameters)})


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    ("order", "p", "H"), [(2, 5, 3), (2, 3, 7), (3, 4, 3), (3, 3, 11), (4, 3, 2), (4, 2, 9), (5, 2, 2)]
)
def test_cp_decomposition_by_einsum(order: int, p: int, H: int, symmetric: bool) -> None:
    """The residual tensor built in full: L = 1/2 |f - F|^2, and its gradient by leaving out one factor."""
    problem = lf.CPDecomposition(order=order, symmetric=symmetric)
    loss = problem.as_diagrams()
    sizes = {"p": p, "H": H, "sigma2": 1.0}
    tensors = draw_runs(loss, sizes, 2)
    values, gradient = Program(loss, sizes)(tensors)
    names = ["u"] * order if symmetric else [f"u{m + 1}" for m in range(order)]
    letters = "abcdefg"[:order]
    for run in range(2):
        factors = [tensors[name][run] for name in names]
        residual = np.einsum(",".join(f"k{i}" for i in letters) + "->" + letters, *factors)
        residual[(np.arange(p),) * order] -= 1
        scale = 0.5 * float(np.sum((np.abs(residual) + 1) ** 2)) + p
        assert values[run] == pytest.approx(0.5 * np.sum(residual**2), abs=ROUNDING * scale)
        expected = {name: np.zeros((H, p)) for name in names}
        for m, name in enumerate(names):
            rest = [factor for j, factor in enumerate(factors) if j != m]
            subscripts = letters + "," + ",".join(f"k{i}" for j, i in enumerate(letters) if j != m)
            expected[name] += np.einsum(f"{subscripts}->k{letters[m]}", residual, *rest)
        for name in gradient:
            assert gradient[name][run] == pytest.approx(
                expected[name], rel=1e-11, abs=1e-11 * np.abs(expected[name]).max()
            )


def test_finite_differences_of_a_network() -> None:
    """A third road for a loss with learned and frozen tensors of arity 1, 2 and 3 and a constraint modulo p."""
    u, a, x = Tensor("u", ("H", "p")), Tensor("a", ("H",)), Tensor("x", ("p", "N"), learned=False)
    t = Tensor("t", ("H", "p", "p"))
    loss = (
        Fraction(1, 2)
        * lf.size("N", -1)
        * lf.diagram(a("k"), u("k", "i"), x("i", "n"), a("l"), u("l", "j"), x("j", "n"))
    )
    loss += lf.diagram(t("k", "i", "j"), u("k", "l"), a("k"), constraints=[{"i": 1, "j": 1, "l": -1}])
    loss -= 3 * lf.diagram(t("k", lf.pin(2), "j"), u("k", "j"))
    sizes = {"p": 5, "H": 3, "N": 4, "sigma2": 1}
    program = Program(loss, sizes)
    tensors = draw_runs(loss, sizes, 1)
    _, gradient = program(tensors)
    random, step = np.random.default_rng(1), 1e-5
    for name in program.learned:
        direction = random.standard_normal(tensors[name].shape)
        ahead, _ = program(tensors | {name: tensors[name] + step * direction})
        behind, _ = program(tensors | {name: tensors[name] - step * direction})
        slope = (ahead - behind)[0] / (2 * step)  # error: step^2 from the third derivative, 1e-16 / step from rounding
        assert np.sum(gradient[name] * direction) == pytest.approx(slope, rel=1e-8, abs=1e-8)


def test_a_run_does_not_depend_on_its_batch() -> None:
    """Bit by bit, for all kinds of operations."""
    u, w, x = Tensor("u", ("H", "p")), Tensor("w", ("p", "p")), Tensor("x", ("p", "N"), learned=False)
    loss = lf.CPDecomposition(order=4).as_diagrams() + lf.CPDecomposition(order=2, target=lf.Zero()).as_diagrams()
    loss += lf.diagram(u("k", "i"), u("k", "j"), u("k", "l"), constraints=[{"i": 1, "j": 1, "l": -1}])
    loss += lf.diagram(u("k", "i"), u("k", "j"), constraints=[{"i": 2, "j": 2}])
    loss += lf.diagram(w("i", "i"), w("i", lf.pin(1)), x("i", "n"), x("j", "n"), u("k", "j"))
    for p, H in ((4, 3), (1, 1), (18, 33)):
        sizes = {"p": p, "H": H, "N": 7, "sigma2": 1}
        tensors = draw_runs(loss, sizes, 7)
        values, gradient = Program(loss, sizes)(tensors)
        for chosen in ([0], [3], [6], [2, 5], [6, 0, 3], [4, 3, 2, 1]):
            some, some_gradient = Program(loss, sizes)({name: tensor[chosen] for name, tensor in tensors.items()})
            assert some.tobytes() == values[chosen].tobytes()
            for name in gradient:
                assert some_gradient[name].tobytes() == gradient[name][chosen].tobytes()


def test_an_evaluation_leaves_no_trace_in_the_next() -> None:
    """Buffers are used again, for fewer runs too."""
    problem = lf.CPDecomposition(order=3, symmetric=False)
    sizes = {"p": 4, "H": 3, "sigma2": 1}
    program = Program(problem.as_diagrams(), sizes)
    evaluator = Evaluator(program.gradient, 5)
    random = np.random.default_rng(0)
    for runs in (5, 2, 4, 5, 1):
        evaluator.state[:] = random.standard_normal(evaluator.state.shape)
        evaluator.run(runs)
        fresh = Evaluator(program.gradient, runs)
        fresh.state[:] = evaluator.state[:runs]
        fresh.run(runs)
        assert evaluator.result[:runs].tobytes() == fresh.result.tobytes()


def test_a_value_and_its_transpose_may_share_memory() -> None:
    """2 x^2 + 3 (x^2)^T, where x^2 is needed for nothing else and could be overwritten too early."""
    expressions = Expressions()
    square = expressions.power(expressions.input("x", (3, 3)), 2)
    terms = [(2.0, Labeled(square, (0, 1))), (3.0, Labeled(square, (1, 0)))]
    total = expressions.combination(terms, (0, 1), (3, 3))
    scalar = expressions.summed(Labeled(expressions.power(total, 2), (0, 1)), ()).value
    evaluator = Evaluator(Task(expressions, (scalar,), {"x": (3, 3)}, {}), 1)
    x = np.arange(9.0).reshape(3, 3)
    evaluator.state[0] = x.ravel()
    evaluator.run(1)
    assert evaluator.result[0, 0] == np.sum((2 * x**2 + 3 * (x**2).T) ** 2)


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_tensor_is_never_built(symmetric: bool) -> None:
    """Every array of an order-4 program at H = 4 p is at most H x H, though the tensor has p^4 entries."""
    program = Program(lf.CPDecomposition(order=4, symmetric=symmetric).as_diagrams(), {"p": 64, "H": 256, "sigma2": 1})
    assert max(prod(value.shape) for value in program.gradient.expressions.values) == 256 * 256


def test_equal_parts_are_computed_once() -> None:
    """||f||^2 of a symmetric decomposition and its gradient: one Gram matrix and one product, whatever the order."""
    for order in (3, 4, 7):
        expressions = Program(
            lf.CPDecomposition(order=order).as_diagrams(), {"p": 16, "H": 8, "sigma2": 1}
        ).gradient.expressions
        assert [value.kind for value in expressions.values].count("contract") == 2


def test_order_two_takes_the_smaller_matrix() -> None:
    for p, H in ((8, 32), (32, 8)):
        program = Program(lf.CPDecomposition(order=2).as_diagrams(), {"p": p, "H": H, "sigma2": 1})
        assert max(prod(value.shape) for value in program.gradient.expressions.values) == p * H


def test_modular_addition_grows_by_one_node_only() -> None:
    """The node that the constraint determines is read off, not summed over: H p^2 numbers, not H p^3."""
    u1, u2, u3 = (Tensor(f"u{m}", ("H", "p")) for m in (1, 2, 3))
    loss = lf.diagram(u1("k", "i"), u2("k", "j"), u3("k", "l"), constraints=[{"i": 1, "j": 1, "l": -1}])
    program = Program(loss, {"p": 12, "H": 5, "sigma2": 1})
    assert max(prod(value.shape) for value in program.gradient.expressions.values) == 5 * 12 * 12


def test_a_constraint_without_solution_is_zero() -> None:
    a = Tensor("a", ("p",))
    odd = lf.diagram(a("i"), constraints=[{"i": 2, lf.pin(2): 1}])  # type: ignore[dict-item]
    values, gradient = Program(odd, {"p": 4, "sigma2": 1})({"a": np.ones((2, 4))})
    assert (values == 0).all()
    assert (gradient["a"] == 0).all()


def test_coefficients_of_sizes_and_constants() -> None:
    a = Tensor("a", ("p",))
    loss = Fraction(1, 3) * lf.size("p", 2) * lf.size("N", -1) + lf.diagram(a(lf.pin(2)), a(lf.pin(2)))
    values, gradient = Program(loss, {"p": 3, "N": 0.5, "sigma2": 1})({"a": np.array([[1.0, 2.0, 3.0]])})
    assert values == pytest.approx([3 / 0.5 + 4])
    assert (gradient["a"] == [[0.0, 4.0, 0.0]]).all()


def test_wrong_tensors_are_refused() -> None:
    program = Program(lf.CPDecomposition(order=2).as_diagrams(), {"p": 3, "H": 2, "sigma2": 1})
    with pytest.raises(lf.InvalidInput, match=r"must have the shape \(4, 2, 3\), got \(4, 3, 2\)"):
        program({"u": np.zeros((4, 3, 2))})
    with pytest.raises(lf.InvalidInput, match="the loss has the tensors u; got v"):
        program({"v": np.zeros((4, 3, 2))})


def test_programs_are_remembered() -> None:
    loss = lf.CPDecomposition(order=2).as_diagrams()
    assert compiled(loss, lf.SizeMap({"p": 3, "H": 2, "sigma2": 1})) is compiled(
        loss, lf.SizeMap({"H": 2, "p": 3.0, "sigma2": 1})
    )
