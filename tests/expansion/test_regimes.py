"""Regimes: the table of the theory, cones that tile, time scales against exact derivatives, and fans of one's own problems."""

from __future__ import annotations

import itertools
import math
import pickle
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import lossflow as lf
from lossflow.expansion.regimes import COMPARABLE, MonomialTime, NoTimeScale, observe, spell_monomial
from lossflow.trajectory import TimeScale

Powers = tuple[Fraction | int, ...]

# docs/theory/diagrams.md section 6, written by hand: name -> what goes to infinity, what stays of order one, 1/T, size, learning.
# Exponents are those of p, H, sigma2; T is given as in the note, an inverse time.


def note(order: int, symmetric: bool) -> dict[str, tuple[list[Powers], list[Powers], Powers, str, str]]:
    nu, half = order, Fraction(order, 2)
    slots, rich = (nu - 1, 0, nu - 1), (0, 0, half - 1)
    noise = (nu - 1, 0, half)  # p^(nu-1) sigma^nu
    if symmetric:
        wide, start = (-nu, 2, 0), (nu - 2, 2, nu)  # H^2/p^nu and p^(nu-2) H^2 sigma^(2 nu)
        rows = (half - 1, 1, nu - 1)
        return {
            "A": ([noise, minus(wide)], [], slots, "under", "none"),
            "B": ([start, wide], [], rows, "over", "none"),
            "A-B": ([noise], [wide], slots, "balanced", "none"),
            "B-E": ([wide], [start], rich, "over", "rich"),
            "E": ([minus(start), minus(noise)], [], rich, "agnostic", "rich"),
            "E-A": ([minus(wide)], [noise], rich, "under", "rich"),
            "A-B-E": ([], [wide, noise], rich, "balanced", "rich"),
        }
    wide, start, sum_ = (1 - nu, 1, 0), (nu - 1, 1, nu), (0, 1, half)  # H/p^(nu-1), p^(nu-1) H sigma^(2 nu), H sigma^nu
    rows = (0, 1, nu - 1)
    return {
        "A": ([noise, minus(wide)], [], slots, "under", "none"),
        "B": ([start, wide], [], rows, "over", "none"),
        "A-B": ([noise], [wide], rows, "balanced", "none"),
        "B-C": ([sum_], [start], rows, "over", "lazy"),
        "C": ([minus(start), sum_], [], rows, "over", "lazy"),
        "C-D": ([wide], [sum_], rich, "over", "rich"),
        "D": ([minus(sum_), wide], [], rich, "over", "rich"),
        "D-E": ([minus(sum_)], [wide], rich, "balanced", "rich"),
        "E": ([minus(noise), minus(wide)], [], rich, "under", "rich"),
        "E-A": ([minus(wide)], [noise], rich, "under", "rich"),
        "A-B-C-D-E": ([], [wide, sum_], rich, "balanced", "rich"),
    }


def minus(powers: Powers) -> Powers:
    return tuple(-x for x in powers)


def growth(powers: Powers, exponents: Mapping[str, Fraction]) -> Fraction:
    return sum(
        (Fraction(x) * exponents[name] for x, name in zip(powers, ("p", "H", "sigma2"), strict=True)), Fraction(0)
    )


FAMILIES = [(2, True), (4, True), (6, True), (2, False), (3, False), (4, False), (5, False), (6, False)]


def draw(count: int, seed: int) -> list[dict[str, Any]]:
    """Random scalings; half of them on a grid so coarse that walls are hit."""
    random = np.random.default_rng(seed)
    found = []
    for k in range(count):
        denominator = 1 if k % 2 else 97
        p, H, sigma2 = (Fraction(int(x), denominator) for x in random.integers(-6 * denominator, 6 * denominator, 3))
        found.append({"p": abs(p), "H": abs(H) * 2, "sigma2": sigma2})
    return found


@pytest.mark.parametrize(("order", "symmetric"), FAMILIES)
def test_every_scaling_has_one_place_and_it_is_that_of_the_note(order: int, symmetric: bool) -> None:
    """10^4 scalings in all: exactly one row of the table holds, and `classify` finds it."""
    table, problem = note(order, symmetric), lf.CPDecomposition(order, symmetric)
    met = set()
    joint = {"p": order, "H": order * order // 2 if symmetric else order * (order - 1), "sigma2": 2 - 2 * order}
    for a in [*draw(1250, order), {name: Fraction(x) for name, x in joint.items()}]:
        rows = [
            name
            for name, (large, equal, *_) in table.items()
            if all(growth(x, a) > 0 for x in large) and all(growth(x, a) == 0 for x in equal)
        ]
        assert len(rows) == 1, a
        placement = lf.classify(problem, exponents=a)
        assert placement.regime.name == rows[0]
        assert placement.depth > 0 or not all(a[size] for size in ("p", "H"))
        met.add(rows[0])
    assert len(met) >= len(table) - 1  # at high orders an edge may be missed


@pytest.mark.parametrize(("order", "symmetric"), FAMILIES)
def test_rows_of_the_table(order: int, symmetric: bool) -> None:
    table = note(order, symmetric)
    found = {regime.name: regime for regime in lf.regimes(lf.CPDecomposition(order, symmetric))}
    assert set(found) == set(table)
    sizes = {"p": 7, "H": 11, "sigma2": 0.3}
    for name, (_, _, T, size, learning) in table.items():
        regime = found[name]
        inverse = math.prod(float(sizes[v]) ** float(x) for v, x in zip(sizes, T, strict=True))
        assert regime.time_scale.at(sizes) == pytest.approx(
            1 / inverse, rel=1e-13
        )  # a time, the reciprocal of the note's T
        assert (regime.parameterization, regime.learning) == (size, learning)
        assert len(regime.vertices) == len(name.split("-"))
    meanings = {name: regime.meaning for name, regime in found.items()}
    assert {meanings[name] for name in ("A", "A-B")} == {"free"}
    if symmetric:
        assert meanings["B"] == "free"
        assert meanings["B-E"] == "mean-field"
        assert ("saddle-to-saddle" in meanings["E"]) == (order == 2)
    else:
        assert meanings["B"] == "free (lazy)"
        assert (meanings["C"], meanings["B-C"]) == ("NTK, f(0) = 0", "NTK")
        assert meanings["C-D"] == "mean-field"


@pytest.mark.parametrize(("order", "symmetric"), FAMILIES)
def test_conditions_are_those_of_the_note(order: int, symmetric: bool) -> None:
    """The printed condition, read back, holds at the scalings of its row and at no other."""
    regimes = lf.regimes(lf.CPDecomposition(order, symmetric))
    for a in draw(60, 100 + order):
        placed = lf.classify(lf.CPDecomposition(order, symmetric), exponents=a).regime
        assert [regime.name for regime in regimes if holds(regime.condition, a)] == [placed.name]


def holds(condition: str, a: Mapping[str, Fraction]) -> bool:
    """Whether "p^2 ~ H, H^2 sigma2^3 -> 0" is true of a scaling."""
    for part in condition.split(", "):
        left, _, right = part.partition(" -> ")
        if right:
            if not (power_of(left, a) > 0 if right == "inf" else power_of(left, a) < 0):
                return False
        else:
            left, right = part.split(" ~ ")
            if power_of(left, a) != power_of(right, a):
                return False
    return True


def power_of(monomial: str, a: Mapping[str, Fraction]) -> Fraction:
    total = Fraction(0)
    for side, sign in zip(monomial.split(" / "), (1, -1), strict=False):
        for factor in side.strip("()").split():
            name, _, power = factor.partition("^")
            if name != "1":
                total += sign * a[name] * Fraction(power.strip("()") or 1)
    return total


OBSERVABLE = [(2, True, 3), (4, True, 2), (2, False, 5), (3, False, 4)]
DEEPER = [(2, False, 6), (4, True, 3), (4, False, 4), (6, True, 2)]


@pytest.mark.parametrize(
    ("order", "symmetric", "reached"),
    [*OBSERVABLE, *(pytest.param(*case, marks=pytest.mark.slow) for case in DEEPER)],
)
def test_the_general_route_finds_the_table(order: int, symmetric: bool, reached: int) -> None:
    """Cones from all terms of the exact Y_s, with nothing known of the problem: the same places, depths and time scales."""
    problem = lf.CPDecomposition(order, symmetric)
    atlas = observe(problem, reached)
    assert len(atlas.regimes) == len(lf.regimes(problem))
    sizes = {"p": 3, "H": 5, "sigma2": 0.7}
    partner: dict[str, str] = {}
    for a in draw(400, 3):
        known = lf.classify(problem, exponents=a)
        face = atlas.fan.closure(atlas.fan.locate(tuple(a[name] for name in atlas.variables)))
        assert face is not None
        mine = atlas.regimes[face]
        assert partner.setdefault(known.regime.name, mine.name) == mine.name
        margin = atlas.fan.margin(face, tuple(a[name] for name in atlas.variables))
        if margin is not None:
            assert abs(float(margin)) == known.depth
        if "-" in mine.name:  # on an edge two spellings of one time scale differ off the edge
            speed = growth_of(mine.time_scale, a) - growth_of(known.regime.time_scale, a)
            assert speed == 0
        elif reached > 2:
            assert mine.time_scale.at(sizes) == pytest.approx(known.regime.time_scale.at(sizes), rel=1e-12)
        assert mine.meaning.startswith(f"observed to order {reached}")
    assert len(set(partner.values())) == len(partner)


def growth_of(time_scale: TimeScale, a: Mapping[str, Fraction]) -> Fraction:
    assert isinstance(time_scale, MonomialTime)
    return sum((power * a[name] for name, power in time_scale.powers), Fraction(0))


def test_a_user_asks_which_regime(capsys: pytest.CaptureFixture[str]) -> None:
    cp = lf.CPDecomposition(order=3, symmetric=False)
    placement = lf.classify(cp, exponents={"p": 1, "H": 2.5, "sigma2": -2.4})
    assert placement.regime.name == "D"
    assert placement.depth == 0.5  # H / p^2
    on_the_wall = lf.classify(cp, exponents={"p": 0.1, "H": 0.2, "sigma2": -0.7})
    assert on_the_wall.regime.name == "D-E"  # 0.2 is read as 1/5, and twice 0.1 is on the wall exactly
    joint = lf.classify(cp, exponents={"p": 0.3, "H": 0.6, "sigma2": -0.4})
    assert joint.regime.name == "A-B-C-D-E"
    assert joint.depth == 0.3  # no leading monomial is neglected: the size that grows least


def test_numbers_near_walls_belong_to_faces() -> None:
    """Within a factor 10, on each wall of the cone, both sides are kept; the depth is the logarithm of the next ratio."""
    cp = lf.CPDecomposition(order=3, symmetric=False)
    found = lf.classify(cp, sizes={"p": 64, "H": 4096, "sigma2": 1e-3})
    assert found.regime.name == "D-E"
    assert found.depth == pytest.approx(-math.log(4096**2 * 1e-9), rel=1e-12)
    far = lf.classify(cp, sizes={"p": 64, "H": 4096 * 11, "sigma2": 1e-5})
    assert far.regime.name == "D"
    assert far.depth == pytest.approx(math.log(11), rel=1e-12)
    just = lf.classify(cp, sizes={"p": 64, "H": int(4096 * COMPARABLE), "sigma2": 1e-5})
    assert just.regime.name == "D"
    assert lf.classify(cp, sizes={"p": 64, "H": int(4096 * COMPARABLE) - 1, "sigma2": 1e-5}).regime.name == "D-E"
    joint = lf.classify(lf.CPDecomposition(), sizes={"p": 32, "H": 16, "sigma2": 1 / 32})
    assert joint.regime.name == "A-B-E"
    assert joint.depth == pytest.approx(math.log(16), rel=1e-12)


@pytest.mark.parametrize(("order", "symmetric"), FAMILIES)
def test_numbers_far_out_are_where_their_exponents_are(order: int, symmetric: bool) -> None:
    """Sizes 10^(6 a) for random a in the interior of cones; a depth of 6 log(10) times that of the exponents."""
    problem = lf.CPDecomposition(order, symmetric)
    for drawn in draw(60, 7):
        a: dict[str, Any] = {name: Fraction(int(x)) for name, x in drawn.items()}
        by_power = lf.classify(problem, exponents=a)
        if len(by_power.regime.vertices) == 1 and by_power.depth >= 1 and max(a.values()) < 20:
            by_number = lf.classify(problem, sizes={name: 10.0 ** float(6 * x) for name, x in a.items()})
            assert by_number.regime == by_power.regime
            assert by_number.depth == pytest.approx(6 * math.log(10) * by_power.depth, rel=1e-9)


@pytest.mark.parametrize(("order", "symmetric", "highest"), [(2, True, 5), (4, True, 2), (2, False, 5), (3, False, 4)])
def test_time_scales_against_exact_derivatives(order: int, symmetric: bool, highest: int) -> None:
    """Y_s T^s keeps its size as L grows, deep in each cone; orders of one parity where the others vanish."""
    problem = lf.CPDecomposition(order, symmetric)
    series = lf.expand(problem, highest)
    seen = set()
    for drawn in draw(200, 5):
        a: dict[str, Any] = {name: Fraction(int(x)) for name, x in drawn.items()}
        placement = lf.classify(problem, exponents=a)
        if placement.regime.name in seen or placement.depth < 1 or not (a["p"] and a["H"]):
            continue
        seen.add(placement.regime.name)
        slopes = []
        for s in range(1, highest + 1):
            low, high = (series.at(**{name: Fraction(10) ** int(k * x) for name, x in a.items()})[s] for k in (6, 7))
            slopes.append(float(round(math.log10(abs(high / low)), 3) + s * growth_of(placement.regime.time_scale, a)))
        step = 2 if placement.regime.name in ("D", "E", "D-E") and not symmetric else 1
        assert max(slopes[::step]) - min(slopes[::step]) < 0.01, (placement.regime.name, slopes)
        assert max(slopes) < slopes[0] + 0.01
    assert len(seen) >= 5


@pytest.mark.parametrize("target", [lf.Zero(), lf.Identity(0)])
def test_free_evolution_has_its_own_faces(target: lf.AbstractTarget) -> None:
    for order, symmetric in FAMILIES:
        problem = lf.CPDecomposition(order, symmetric, target)
        assert [regime.name for regime in lf.regimes(problem)] == ["A", "B", "A-B"]
        assert {regime.learning for regime in lf.regimes(problem)} == {"none"}
        for a in draw(50, 1):
            ratio = 2 * a["H"] - order * a["p"] if symmetric else a["H"] - (order - 1) * a["p"]
            expected = "A" if ratio < 0 else "B" if ratio > 0 else "A-B"
            assert lf.classify(problem, exponents=a).regime.name == expected


@pytest.mark.parametrize(("order", "symmetric"), [(2, True), (4, True), (3, False), (2, False)])
def test_a_scaled_target_is_a_rescaling(order: int, symmetric: bool) -> None:
    """c: sigma2 -> sigma2 c^(-2/nu), t -> t c^((2 nu - 2)/nu): docs/theory/diagrams.md section 5."""
    c = Fraction(2**order, 3**order)
    unit = lf.CPDecomposition(order, symmetric)
    scaled = lf.CPDecomposition(order, symmetric, lf.Identity(c))
    for p, H, sigma2 in itertools.product((20, 1000), (3, 500, 10**6), (1e-6, 1e-2, 3.0)):
        here = lf.classify(scaled, sizes={"p": p, "H": H, "sigma2": sigma2})
        there_sizes = {"p": p, "H": H, "sigma2": sigma2 * float(c) ** (-2 / order)}
        there = lf.classify(unit, sizes=there_sizes)
        assert here.regime.name == there.regime.name
        assert here.depth == pytest.approx(there.depth, rel=1e-9)
        time = there.regime.time_scale.at(there_sizes) / float(c) ** ((2 * order - 2) / order)
        assert here.regime.time_scale.at({"p": p, "H": H, "sigma2": sigma2}) == pytest.approx(time, rel=1e-9)


def test_a_negative_target_decays_at_even_order_and_is_a_sign_elsewhere() -> None:
    decay = {regime.name: regime for regime in lf.regimes(lf.CPDecomposition(4, True, lf.Identity(-1)))}
    assert {regime.learning for regime in decay.values()} == {"none"}
    assert "decay" in decay["A-B-E"].meaning
    for order, symmetric in ((3, False), (4, False), (3, True)):
        signed = lf.regimes(lf.CPDecomposition(order, symmetric, lf.Identity(-1)))
        assert signed == lf.regimes(lf.CPDecomposition(order, symmetric))


@pytest.mark.parametrize("order", [3, 5])
def test_odd_orders_say_that_one_time_scale_fails(order: int) -> None:
    """At s-dependent walls between A and B no T fits: docs/theory/additions.md section 5."""
    problem = lf.CPDecomposition(order)
    found = {regime.name: regime for regime in lf.regimes(problem)}
    assert {"A", "B", "C", "D", "E"} <= set(found)
    mixed = [regime for regime in found.values() if isinstance(regime.time_scale, NoTimeScale)]
    assert mixed
    sizes = {"p": 50, "H": 300, "sigma2": 0.1}
    for regime in mixed:
        assert "no single time scale" in regime.meaning
        with pytest.raises(lf.NotSpoken, match="no single time scale"):
            regime.time_scale.at(sizes)
    lazy = found["C"]
    assert lazy.learning == "lazy"
    assert f"rates {'18, 3p + 24' if order == 3 else '600, 180p + 1680, 15p^2 + 450p + 2160'} in units" in lazy.meaning
    assert lazy.time_scale.at(sizes) == pytest.approx(1 / (300 * 0.1 ** (order - 1)), rel=1e-13)
    half = (order - 1) // 2
    between = lf.classify(problem, exponents={"p": 4, "H": 5 * half, "sigma2": 0})
    assert between.regime in mixed
    free = lf.CPDecomposition(order, target=lf.Zero())
    assert {regime.name for regime in lf.regimes(free)} >= {"A", "B"}
    assert lf.classify(free, exponents={"p": 4, "H": 4 * half, "sigma2": 0}).regime.name == "A"
    assert lf.classify(free, exponents={"p": 4, "H": 9 * half, "sigma2": 0}).regime.name == "B"
    for a in draw(200, order):
        lf.classify(problem, exponents=a)


def test_the_fan_of_an_odd_order_is_that_of_its_exact_series() -> None:
    problem = lf.CPDecomposition(3)
    exact = observe(problem, 3)
    for a in draw(300, 2):
        leaders = {exact.fan.leaders[i] for i in exact.fan.locate(tuple(a[name] for name in exact.variables))}
        known = lf.classify(problem, exponents=a)
        if len(known.regime.vertices) == 1:
            assert len(leaders) == 1


# --- problems that users write down


def deep_linear() -> lf.PolynomialProblem:
    """1/(2N) sum_n (v W x_n - b x_n)^2 with W of H x d, N samples, a teacher b: three sizes and a variance."""
    v, W = lf.Tensor("v", ("H",)), lf.Tensor("W", ("H", "d"))
    x = lf.Tensor("x", ("d", "N"), variance=1, learned=False)
    b = lf.Tensor("b", ("d",), variance=1, learned=False)

    def student(copy: str) -> list[lf.Factor]:
        return [v(f"k{copy}"), W(f"k{copy}", f"i{copy}"), x(f"i{copy}", "n")]

    def teacher(copy: str) -> list[lf.Factor]:
        return [b(f"j{copy}"), x(f"j{copy}", "n")]

    square = lf.diagram(*student("1"), *student("2"))
    cross = lf.diagram(*student("1"), *teacher("1"))
    constant = lf.diagram(*teacher("1"), *teacher("2"))
    return lf.PolynomialProblem(Fraction(1, 2) * lf.size("N", -1) * (square - 2 * cross + constant))


def test_three_sizes_against_numerical_exponents() -> None:
    """Exact Y_s at sizes 10^(k a) along random a: their slopes are those of the leaders, and T makes them constant."""
    problem, order = deep_linear(), 4
    series = lf.expand(problem, order)
    assert series.variables == ("d", "H", "N", "sigma2")
    atlas = observe(problem, order)
    assert lf.regimes(problem) == tuple(atlas.regimes.values())
    random = np.random.default_rng(20)
    met = set()
    for _ in range(60):
        a = [Fraction(int(x)) for x in (*random.integers(1, 9, 3), random.integers(-9, 9))]
        cones = atlas.fan.locate(a)
        powers: dict[str, Any] = dict(zip(series.variables, a, strict=True))
        placement = lf.classify(problem, exponents=powers)
        at = [
            series.at(**{name: Fraction(10) ** int(k * x) for name, x in zip(series.variables, a, strict=True)})
            for k in (8, 9)
        ]
        slopes = [math.log10(abs(high / low)) for low, high in zip(*at, strict=True)][1:]
        leading = {tuple(sum(e * x for e, x in zip(v, a, strict=True)) for v in atlas.fan.leaders[i]) for i in cones}
        assert len(leading) == 1
        assert slopes == pytest.approx([float(x) for x in leading.pop()], abs=1e-6)
        met |= cones
        if len(cones) == 1:
            growth = growth_of(placement.regime.time_scale, powers)
            apart = "smaller" in placement.regime.meaning
            scaled = [slope + s * float(growth) for s, slope in enumerate(slopes, 1)]
            assert scaled[0] == pytest.approx(scaled[2], abs=1e-6)
            assert scaled[1] == pytest.approx(scaled[3], abs=1e-6)
            assert scaled[1] < scaled[0] - 0.4 if apart else scaled[1] == pytest.approx(scaled[0], abs=1e-6)
        else:
            assert placement.depth > 0
    assert len(met) == len(atlas.fan.cones)


def test_three_sizes_have_the_regimes_that_one_expects() -> None:
    """d << N: as the matrix problem without data; N << d: slower by N/d; small noise: a saddle is left at 1/sqrt(d)."""
    found = {regime.condition: regime for regime in lf.regimes(deep_linear()) if len(regime.vertices) == 1}
    assert len(found) == 9
    sizes = {"d": 10, "H": 20, "N": 40, "sigma2": 0.5}
    lazy = [regime for regime in found.values() if "H^2 sigma2^2 / d -> inf" in regime.condition]
    assert [str(regime.time_scale) for regime in lazy] == ["1 / (H sigma2)"]
    saddle = lf.classify(deep_linear(), exponents={"d": 1, "H": 0.5, "N": 2, "sigma2": -3}).regime
    assert str(saddle.time_scale) == "1 / d^(1/2)"
    assert "even orders are smaller by the factor d^(1/2) sigma2" in saddle.meaning
    assert saddle.time_scale.at(sizes) == pytest.approx(10**-0.5)
    assert saddle.parameterization == saddle.learning == "unknown"
    assert saddle.meaning.startswith("observed to order 4")


def test_symbolic_means_are_scaled_too() -> None:
    """L = (sum_i v_i)^2/2 with v ~ N(m, s2): E dL/dt = -p E (sum v)^2 = -p (p s2 + p^2 m^2), and T = p."""
    v = lf.Tensor("v", ("p",), variance="s2", mean="m")
    problem = lf.PolynomialProblem(Fraction(1, 2) * lf.diagram(v("i"), v("j")))
    found = lf.regimes(problem)
    assert [regime.name for regime in found] == ["A", "B", "A-B"]
    assert {str(regime.time_scale) for regime in found} == {"1 / p"}
    order = {"p": 2, "m": -1, "s2": Fraction(1, 2)}
    assert lf.classify(problem, exponents=order).regime.condition == "s2 / (p m^2) -> inf"
    assert lf.classify(problem, exponents={**order, "s2": 0}).regime.name == "A-B"


def test_a_size_that_is_no_axis_may_shrink() -> None:
    """lf.size as a coupling constant: its exponent may be negative, and its number below 1."""
    v = lf.Tensor("v", ("p",))
    problem = lf.PolynomialProblem(lf.size("g") * lf.diagram(v("i"), v("i")))
    (regime,) = lf.regimes(problem)
    assert str(regime.time_scale) == "1 / g"
    assert regime.condition == "any scaling"
    assert lf.classify(problem, exponents={"p": 1, "g": -2, "sigma2": 0}).regime == regime
    assert lf.classify(problem, sizes={"p": 8, "g": 0.125, "sigma2": 1}).depth == pytest.approx(math.log(8))


def test_assumptions_are_told() -> None:
    v = lf.Tensor("v", ("p",), mean="m", variance=0)
    loss = lf.diagram(v("i"), v("j"), constraints=[{"i": 1, "j": 1}, {"i": 1, "j": -1}])
    assert "(p odd)" in lf.regimes(lf.PolynomialProblem(loss))[0].meaning


def test_a_loss_that_does_not_move_has_no_regimes() -> None:
    v = lf.Tensor("v", ("p",), variance=0)
    with pytest.raises(lf.NotSpoken, match="does not move"):
        lf.regimes(lf.PolynomialProblem(lf.diagram(v("i"), v("i"))))
    w = lf.Tensor("w", (), variance=1)
    with pytest.raises(lf.NotSpoken, match="all its sizes are numbers"):
        lf.regimes(lf.PolynomialProblem(lf.diagram(w(), w())))


def test_two_orders_are_called_a_guess_and_parity_takes_four() -> None:
    problem = lf.CPDecomposition(3, symmetric=False)
    guessed = observe(problem, 2).regimes.values()
    assert any("a guess from two orders" in regime.meaning for regime in guessed)
    alone = observe(problem, 1).regimes.values()
    assert all(isinstance(regime.time_scale, NoTimeScale) for regime in alone)
    assert any("one order does not tell" in regime.meaning for regime in alone)
    three = [regime for regime in observe(problem, 3).regimes.values() if isinstance(regime.time_scale, NoTimeScale)]
    assert three  # D and E, whose even and odd orders differ
    assert not any(isinstance(regime.time_scale, NoTimeScale) for regime in observe(problem, 4).regimes.values())


# --- results as objects, and what is refused


def test_regimes_are_values() -> None:
    for problem in (lf.CPDecomposition(4), lf.CPDecomposition(3), deep_linear()):
        for regime in lf.regimes(problem):
            assert pickle.loads(pickle.dumps(regime)) == regime
            assert hash(regime) == hash(pickle.loads(pickle.dumps(regime)))
            assert isinstance(regime.time_scale, TimeScale)
            assert regime.meaning
            assert regime.condition
    placement = lf.classify(lf.CPDecomposition(), exponents={"p": 1, "H": 2, "sigma2": 0})
    assert pickle.loads(pickle.dumps(placement)) == placement


def test_a_trajectory_in_its_natural_time() -> None:
    sizes = {"p": 64, "H": 32, "sigma2": 4.0}
    problem = lf.CPDecomposition()
    trajectory = lf.solve(problem, lf.Limit(sizes), [0.0, 0.5])
    regime = next(regime for regime in lf.regimes(problem) if regime.name == "A")
    assert trajectory.in_units_of(regime.time_scale).times[1] == pytest.approx(0.5 * 64 * 4.0)


@pytest.mark.parametrize(
    ("powers", "coefficient", "text"),
    [
        ({"p": 2, "H": 1, "sigma2": Fraction(-1, 2)}, Fraction(1), "p^2 H / sigma2^(1/2)"),
        ({"sigma2": -1}, Fraction(1, 2), "1 / (2 sigma2)"),
        ({}, Fraction(1), "1"),
        ({"p": 0}, Fraction(2, 3), "2 / 3"),
        ({"p": -1, "H": -3}, Fraction(5), "5 / (p H^3)"),
    ],
)
def test_monomials_in_words(powers: dict[str, Fraction], coefficient: Fraction, text: str) -> None:
    assert spell_monomial(powers, coefficient) == text
    assert str(MonomialTime(tuple(powers.items()), coefficient)) == text


CP = lf.CPDecomposition(order=3, symmetric=False)
GOOD = {"p": 64, "H": 32, "sigma2": 0.1}


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({}, "exactly one"),
        ({"sizes": GOOD, "exponents": GOOD}, "exactly one"),
        ({"sizes": {"p": 64, "H": 32}}, "missing for sigma2"),
        ({"sizes": {**GOOD, "h": 1}}, "did you mean 'H'"),
        ({"sizes": {**GOOD, "sigma2": 0}}, "'sigma2' must be > 0"),
        ({"sizes": {**GOOD, "p": 0}}, "'p' must be a whole number >= 1"),
        ({"sizes": {**GOOD, "p": 2.5}}, "'p' must be a whole number >= 1"),
        ({"sizes": {**GOOD, "p": -3}}, "'p' must be a finite number >= 0"),
        ({"sizes": {**GOOD, "p": math.inf}}, "finite"),
        ({"sizes": {**GOOD, "p": math.nan}}, "must be a number"),
        ({"sizes": {**GOOD, "p": "many"}}, "must be a number"),
        ({"sizes": 3}, "must be a mapping"),
        ({"exponents": {"p": 1, "H": 2}}, "missing for sigma2"),
        ({"exponents": {**GOOD, "d": 2}}, "there is no size 'd'"),
        ({"exponents": {**GOOD, "p": -1}}, "exponent must be >= 0"),
        ({"exponents": {**GOOD, "p": math.inf}}, "rational number"),
        ({"exponents": {**GOOD, "p": math.nan}}, "rational number"),
        ({"exponents": {**GOOD, "p": True}}, "rational number"),
        ({"exponents": [1, 2, 3]}, "must be a mapping"),
    ],
)
def test_a_scaling_that_is_none_is_refused(arguments: dict[str, object], match: str) -> None:
    with pytest.raises(lf.InvalidInput, match=match):
        lf.classify(CP, **arguments)  # type: ignore[call-overload]


def test_problems_without_diagrams_are_refused() -> None:
    class Silent(lf.AbstractProblem):
        """Speaks nothing."""

    with pytest.raises(lf.InvalidInput, match="must be an AbstractProblem"):
        lf.regimes("matrix")  # type: ignore[arg-type]
    with pytest.raises(lf.InvalidInput, match="must be an AbstractProblem"):
        lf.regimes(lf.CPDecomposition)  # type: ignore[arg-type]
    import dataclasses

    made = dataclasses.dataclass(frozen=True, repr=False)(Silent)()
    with pytest.raises(lf.NotSpoken, match="has no diagrams"):
        lf.regimes(made)


@pytest.mark.parametrize(
    ("sizes", "match"),
    [
        ({"p": 2.0}, "needs 'H'"),
        ({"p": 2.0, "H": 0.0, "sigma2": 1.0}, "finite 'H' > 0"),
        ({"p": 2.0, "H": math.inf, "sigma2": 1.0}, "finite 'H' > 0"),
        ({"p": 2.0, "H": 1e300, "sigma2": 1e300}, "no floating-point number"),
        ({"p": 2.0, "H": "two", "sigma2": 1.0}, "must be a number"),
    ],
)
def test_a_time_scale_wants_its_sizes(sizes: dict[str, float], match: str) -> None:
    time = next(regime.time_scale for regime in lf.regimes(CP) if regime.name == "B")
    with pytest.raises(lf.InvalidInput, match=match):
        time.at(sizes)


@pytest.mark.parametrize("order", [3, 5])
def test_every_size_of_an_odd_order_has_a_regime(order: int) -> None:
    """Between cones that meet in no common face the nearest ones count; no size is without an answer."""
    problem = lf.CPDecomposition(order=order, symmetric=True)
    names = {regime.name for regime in lf.regimes(problem)}
    random = np.random.default_rng(order)
    for _ in range(400):
        sizes = {
            "p": int(10 ** random.uniform(0, 3)),
            "H": int(10 ** random.uniform(0, 6)),
            "sigma2": 10 ** random.uniform(-7, 1),
        }
        placement = lf.classify(problem, sizes=sizes)
        assert placement.regime.name in names
        assert 0 <= placement.depth < math.inf
    with pytest.raises(lf.InvalidInput, match="meet only where no size grows"):
        lf.classify(problem, exponents={"p": 0, "H": 0, "sigma2": 0})
