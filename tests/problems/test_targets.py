"""Targets of the CP decomposition: as tensors, as diagrams, and through the exact derivatives of their loss.

Roads: the explicit tensor F in plain numpy, tensor Gauss-Hermite quadrature over all initial weights (exact for polynomials),
Monte Carlo over initial weights, and counting by brute force where a polynomial in p must fail.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from tests.diagrams.explicit import expand as entries
from tests.problems.taylor import gaussian_grid, require_means, tensor_problem

import lossflow as lf
from lossflow.diagrams.wick import SizePolynomial

Array = npt.NDArray[np.float64]
TEACHER = lf.RandomTeacher("R", "teacher2")
TARGETS = [
    lf.Spiked((Fraction(3, 2), Fraction(-1, 2))),
    lf.Constant(Fraction(2, 3)),
    lf.ModularAddition(),
    TEACHER,
]


def tensor(target: lf.AbstractTarget, order: int, p: int, tensors: Mapping[str, Array]) -> Array:
    """F, entry by entry."""
    F = np.zeros((p,) * order)
    for index in itertools.product(range(p), repeat=order):
        match target:
            case lf.Spiked(strengths=strengths):
                F[index] = len(set(index)) == 1
                if len(set(index)) == 1 and index[0] < len(strengths):
                    F[index] += strengths[index[0]]
            case lf.Constant(value=value):
                F[index] = value
            case lf.ModularAddition():
                F[index] = sum(index[:-1]) % p == index[-1]
            case lf.RandomTeacher():
                names = [name for name in ("teacher", *(f"teacher{m + 1}" for m in range(order))) if name in tensors]
                rows = [tensors[names[min(m, len(names) - 1)]][:, i] for m, i in enumerate(index)]
                F[index] = np.sum(np.prod(rows, axis=0))
    return F


def sizes_of(target: lf.AbstractTarget, p: int, H: int, sigma2: Fraction) -> dict[str, Fraction]:
    extra = {"R": Fraction(2), "teacher2": Fraction(1, 2)} if isinstance(target, lf.RandomTeacher) else {}
    return {"p": Fraction(p), "H": Fraction(H), "sigma2": sigma2, **extra}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("order", "p"), [(2, 3), (3, 2), (3, 3), (4, 2)])
def test_the_diagrams_are_the_loss(order: int, p: int, symmetric: bool, target: lf.AbstractTarget) -> None:
    problem = lf.CPDecomposition(order, symmetric, target)
    sizes = {
        name: int(x) if name in ("p", "H", "R") else float(x)
        for name, x in sizes_of(target, p, 2, Fraction(1, 2)).items()
    }
    drawn = problem.as_sample(sizes, run=0, seed=3)
    names = ["u"] * order if symmetric else [f"u{m + 1}" for m in range(order)]
    letters = "abcd"[:order]
    model = np.einsum(",".join(f"k{i}" for i in letters) + "->" + letters, *(drawn[name] for name in names))
    expected = 0.5 * np.sum((model - tensor(target, order, p, drawn)) ** 2)
    whole = {name: int(x) for name, x in sizes.items() if name in ("p", "H", "R")}
    found = 0.0
    for monomial, coefficient in entries(problem.as_diagrams(), whole).items():
        found += float(coefficient) * np.prod([drawn[t.name][place] ** power for (t, place), power in monomial])
    assert found == pytest.approx(expected, rel=1e-12)  # sums of a few thousand products
    start = lf.solve(problem, lf.Simulation(sizes, runs=1, seed=3), [0.0]).details["runs"]["loss"]
    assert start[0, 0] == pytest.approx(expected, rel=1e-12)


def exact_mean(problem: lf.CPDecomposition, p: int, H: int, sigma2: Fraction, last: int, nodes: int) -> Array:
    """E d^s L/dt^s by quadrature over all initial weights: exact when each weight occurs with powers below 2 nodes."""
    slots = 1 if problem.symmetric else problem.order
    points, weights = gaussian_grid(slots * H * p, nodes)
    blocks = np.sqrt(float(sigma2)) * points.reshape(len(points), slots, H, p)
    start = {"u" if problem.symmetric else f"u{m + 1}": blocks[:, m] for m in range(slots)}
    F = tensor(problem.target, problem.order, p, {})
    return tensor_problem(problem.order, problem.symmetric, F, start, last) @ weights


# (order, symmetric, p, H, last s, quadrature nodes): powers per weight stay below 2 * nodes
QUADRATURE = [
    (2, True, 2, 2, 3, 6),
    (2, False, 2, 1, 3, 5),
    (3, True, 2, 1, 3, 10),
    (3, True, 3, 1, 2, 8),
    (3, True, 2, 2, 1, 6),
    (3, False, 2, 1, 3, 5),
    (3, False, 3, 1, 1, 3),
    (4, True, 2, 1, 2, 11),
]


@pytest.mark.parametrize(
    ("order", "symmetric", "p", "H", "last", "nodes", "target"),
    [
        (*case, target)
        for case in QUADRATURE
        for target in TARGETS
        # for modular addition at even p see below
        if target != TEACHER and not (target == lf.ModularAddition() and case[0] > 2 and case[2] % 2 == 0)
    ],
)
def test_derivatives_against_quadrature(
    order: int, symmetric: bool, p: int, H: int, last: int, nodes: int, target: lf.AbstractTarget
) -> None:
    problem = lf.CPDecomposition(order, symmetric, target)
    sigma2 = Fraction(1, 3)
    found = lf.expand(problem, last).at(p=p, H=H, sigma2=sigma2)
    exact = exact_mean(problem, p, H, sigma2, last, nodes)
    # rounding of some 1e5 points times the size of single terms
    assert [float(y) for y in found] == pytest.approx(list(exact), rel=1e-10)


def test_a_random_teacher_against_quadrature() -> None:
    """Order 3 in one matrix, p = 2, H = R = 1: two weights and two entries of the teacher, all of them averaged exactly."""
    sigma2, teacher2 = Fraction(1, 3), Fraction(1, 4)
    found = lf.expand(lf.CPDecomposition(3, True, TEACHER), 3).at(p=2, H=1, R=1, sigma2=sigma2, teacher2=teacher2)
    points, weights = gaussian_grid(4, 10)
    a = np.sqrt(float(teacher2)) * points[:, 2:]
    start = {"u": np.sqrt(float(sigma2)) * points[:, None, :2]}
    exact = tensor_problem(3, True, np.einsum("za,zb,zc->zabc", a, a, a), start, 3) @ weights
    assert [float(y) for y in found] == pytest.approx(list(exact), rel=1e-10)


@pytest.mark.parametrize(
    ("target", "symmetric"),
    # one matrix in all slots has a heavy tail with a teacher of its kind: the quadrature above is the better road
    [
        (target, symmetric)
        for target in TARGETS
        for symmetric in (True, False)
        if (target, symmetric) != (TEACHER, True)
    ],
)
def test_derivatives_against_simulated_starts(target: lf.AbstractTarget, symmetric: bool) -> None:
    """Order 3, p = 3, H = 2: derivatives along the flow of 20 000 starts; the third with independent slots."""
    last, count, sizes = 2 if symmetric else 3, 20_000, sizes_of(target, 3, 2, Fraction(1, 8))
    problem = lf.CPDecomposition(3, symmetric, target)
    exact = lf.expand(problem, last).at(**sizes)
    random = np.random.default_rng(20)
    start = {u.name: np.sqrt(1 / 8) * random.standard_normal((count, 2, 3)) for u in problem.weights}
    F = tensor(target, 3, 3, {}) if target != TEACHER else teachers(random, count)
    require_means(tensor_problem(3, symmetric, F, start, last), exact)


def teachers(random: np.random.Generator, count: int) -> Array:
    a = np.sqrt(0.5) * random.standard_normal((3, count, 2, 3))
    return np.einsum("zta,ztb,ztc->zabc", *a)


# --- modular addition: where the number of solutions depends on the parity of p


def ignoring_assumptions(series: lf.LossSeries, s: int, **sizes: Fraction | int) -> Fraction:
    return SizePolynomial(series.variables, series.coefficients[s]).at({name: Fraction(x) for name, x in sizes.items()})


def test_modular_addition_of_independent_slots_at_even_p() -> None:
    """Below s = 3 the polynomial holds at even p too; at s = 3 it is refused there, and rightly so."""
    problem = lf.CPDecomposition(3, symmetric=False, target=lf.ModularAddition())
    sigma2 = Fraction(1, 3)
    below, beyond = lf.expand(problem, 2), lf.expand(problem, 3)
    assert below.assumptions == ()
    assert beyond.assumptions == ("p odd",)
    exact = exact_mean(problem, 2, 1, sigma2, 3, 5)
    assert [float(y) for y in below.at(p=2, H=1, sigma2=sigma2)] == pytest.approx(list(exact[:3]), rel=1e-10)
    with pytest.raises(lf.InvalidInput, match="assumes p odd, got p = 2"):
        beyond.at(p=2, H=1, sigma2=sigma2)
    with pytest.raises(lf.InvalidInput, match="assumes p odd"):
        lf.solve(problem, lf.Series({"p": 4, "H": 2, "sigma2": 0.1}, order=3), [0.1])
    assert lf.solve(problem, lf.Series({"p": 4, "H": 2, "sigma2": 0.1}, order=2), [0.01]).status
    wrong = float(ignoring_assumptions(beyond, 3, p=2, H=1, sigma2=sigma2))
    assert abs(wrong - exact[3]) > 1e-3 * abs(exact[3])  # not vacuous
    assert beyond.at(p=3, H=1, sigma2=sigma2)[:3] == below.at(p=3, H=1, sigma2=sigma2)


def test_what_the_polynomial_misses_at_even_p() -> None:
    """Four conditions (1,1',1'') (1,2',2'') (2,1',2'') (2,2',1'') have 8, 32, 72 solutions at p = 2, 4, 6, not p^2.

    They arise from merged products R * R * R * R alone, which enter with the sign (-1)^3: the gap of Y_3 is a whole number of
    pairings, times the solutions that p^2 does not count.
    """

    def solutions(p: int) -> int:
        rows = ((0, 2, 4), (0, 3, 5), (1, 2, 5), (1, 3, 4))
        values = itertools.product(range(p), repeat=6)
        return sum(all((v[a] + v[b] - v[c]) % p == 0 for a, b, c in rows) for v in values)

    assert [solutions(p) for p in (2, 3, 4, 5)] == [8, 9, 32, 25]
    problem = lf.CPDecomposition(3, symmetric=False, target=lf.ModularAddition())
    series = lf.expand(problem, 3)
    for sigma2 in (Fraction(1, 3), Fraction(1, 5)):
        exact = exact_mean(problem, 2, 1, sigma2, 3, 5)
        gap = exact[3] - float(ignoring_assumptions(series, 3, p=2, H=1, sigma2=sigma2))
        # four R have 12 edges, three mergers take 6 of them, the others pair: sigma2^3
        pairings = -gap / (float(sigma2) ** 3 * (solutions(2) - 4))
        assert pairings == pytest.approx(36, rel=1e-8)


def test_modular_addition_in_one_matrix_at_even_p() -> None:
    """With equal slots i + i = j mod p occurs in Y_1 already: no two, one or two solutions j = -j at odd and even p."""
    problem = lf.CPDecomposition(3, target=lf.ModularAddition())
    sigma2 = Fraction(1, 3)
    start, slope = lf.expand(problem, 0), lf.expand(problem, 1)
    assert start.assumptions == ()
    assert slope.assumptions == ("p odd",)
    for p, holds in ((2, False), (3, True), (4, False)):
        exact = exact_mean(problem, p, 1, sigma2, 1, 8)
        assert float(start.at(p=p, H=1, sigma2=sigma2)[0]) == pytest.approx(exact[0], rel=1e-10)
        found = float(ignoring_assumptions(slope, 1, p=p, H=1, sigma2=sigma2))
        assert (abs(found - exact[1]) < 1e-10 * abs(exact[1])) == holds
        assert holds or abs(found - exact[1]) > 1e-3 * abs(exact[1])


def test_modular_addition_of_order_2_is_the_identity() -> None:
    for symmetric in (True, False):
        sums = lf.CPDecomposition(2, symmetric, lf.ModularAddition())
        assert sums.as_diagrams() == lf.CPDecomposition(2, symmetric).as_diagrams()


# --- what else holds exactly


def test_spikes_of_no_strength_are_no_spikes() -> None:
    for symmetric in (True, False):
        plain = lf.CPDecomposition(3, symmetric).as_diagrams()
        assert lf.CPDecomposition(3, symmetric, lf.Spiked(())).as_diagrams() == plain
        assert lf.CPDecomposition(3, symmetric, lf.Spiked((Fraction(0), Fraction(0)))).as_diagrams() == plain
    assert (
        lf.CPDecomposition(3, True, lf.Constant(Fraction(0))).as_diagrams()
        == lf.CPDecomposition(3, True, lf.Zero()).as_diagrams()
    )


def test_the_order_of_spikes_does_not_matter() -> None:
    one = lf.expand(lf.CPDecomposition(3, target=lf.Spiked((Fraction(1), Fraction(2)))), 2)
    other = lf.expand(lf.CPDecomposition(3, target=lf.Spiked((Fraction(2), Fraction(1)))), 2)
    assert one.coefficients == other.coefficients
    assert one.assumptions == ("p >= 2",)


def test_a_spike_at_p_1_is_a_scaled_identity() -> None:
    spiked = lf.expand(lf.CPDecomposition(3, target=lf.Spiked((Fraction(3, 2),))), 3)
    scaled = lf.expand(lf.CPDecomposition(3, target=lf.Identity(Fraction(5, 2))), 3)
    sizes = {"p": 1, "H": 4, "sigma2": Fraction(2, 7)}
    assert spiked.at(**sizes) == scaled.at(**sizes)


def test_a_teacher_of_rank_zero_variance_is_no_target() -> None:
    taught = lf.expand(lf.CPDecomposition(3, target=TEACHER), 2).at(p=3, H=2, R=4, sigma2=Fraction(1, 5), teacher2=0)
    assert taught == lf.expand(lf.CPDecomposition(3, target=lf.Zero()), 2).at(p=3, H=2, sigma2=Fraction(1, 5))


def test_a_teacher_may_share_the_names_of_the_model() -> None:
    """As wide as the model and drawn like it: the same series with equal values."""
    own = lf.expand(lf.CPDecomposition(3, False, lf.RandomTeacher("H", "sigma2")), 2)
    assert own.variables == ("p", "H", "sigma2")
    other = lf.expand(lf.CPDecomposition(3, False, TEACHER), 2)
    same = {"p": 3, "H": 2, "sigma2": Fraction(1, 5)}
    assert own.at(**same) == other.at(**same, R=2, teacher2=Fraction(1, 5))


def test_theory_and_experiment_share_the_teacher() -> None:
    sizes = {"p": 3, "H": 2, "sigma2": 0.1, "R": 2, "teacher2": 0.5}
    a = lf.CPDecomposition(3, False, TEACHER).as_sample(sizes, 0, 0)
    assert set(a) == {"u1", "u2", "u3", "teacher1", "teacher2", "teacher3"}
    assert a["teacher1"].shape == (2, 3)
    assert set(lf.CPDecomposition(3, True, TEACHER).as_sample(sizes, 0, 0)) == {"u", "teacher"}


@pytest.mark.parametrize("target", TARGETS)
def test_targets_print_and_survive_files(target: lf.AbstractTarget) -> None:
    problem = lf.CPDecomposition(3, False, target)
    names = {
        name: getattr(lf, name)
        for name in ("CPDecomposition", "Spiked", "Constant", "ModularAddition", "RandomTeacher")
    }
    assert eval(repr(problem), {**names, "Fraction": Fraction}) == problem
    assert lf.CPDecomposition.from_toml(problem.to_toml()) == problem


def test_numbers_of_targets_are_exact() -> None:
    assert lf.Spiked((0.1, 2)) == lf.Spiked((Fraction(1, 10), Fraction(2)))  # type: ignore[arg-type]
    assert lf.Constant(0.5) == lf.Constant(Fraction(1, 2))  # type: ignore[arg-type]


def test_wrong_targets_are_refused() -> None:
    with pytest.raises(lf.InvalidInput, match=r"Spiked\.strengths must be a sequence"):
        lf.Spiked(0.5)  # type: ignore[arg-type]
    with pytest.raises(lf.InvalidInput, match=r"Constant\.value"):
        lf.Constant("much")  # type: ignore[arg-type]
    with pytest.raises(lf.InvalidInput, match=r"strengths\[0\]"):
        lf.Spiked((float("nan"),))  # type: ignore[arg-type]
    with pytest.raises(lf.UnknownField, match="needs 'strengths'"):
        lf.Spiked()  # type: ignore[call-arg]
    for rank, variance, complaint in (
        ("R 2", "v", "a word such as 'R'"),
        ("R", "", "a word such as 'teacher2'"),
        ("R", "R", "two names"),
        ("R", "p", "'p' is a size"),
        ("R", "H", "'H' is a size"),
        ("sigma2", "v", "'sigma2' is a variance"),
    ):
        with pytest.raises(lf.InvalidInput, match=complaint):
            lf.RandomTeacher(rank, variance)
    with pytest.raises(lf.InvalidInput, match="must be a whole number >= 2"):
        lf.solve(lf.CPDecomposition(3, target=TARGETS[0]), lf.Series({"p": 1, "H": 1, "sigma2": 1}, 2), [0.1])
    with pytest.raises(lf.InvalidInput, match="missing 'R', 'teacher2'"):
        lf.solve(lf.CPDecomposition(3, target=TEACHER), lf.Series({"p": 2, "H": 1, "sigma2": 1}, 2), [0.1])
