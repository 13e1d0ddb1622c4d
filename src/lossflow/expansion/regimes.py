"""Scaling regimes of a loss: which monomials lead, on which time scale the loss moves, and where given sizes belong."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import overload

from lossflow.description import SizeMap, brief, coerce
from lossflow.errors import InvalidInput, NotSpoken, nearest
from lossflow.expansion.fan import Fan, Vector, dot, echelon
from lossflow.expansion.odd_orders import lazy_rates, odd_front
from lossflow.expansion.pareto import Exponent, identity_front, identity_vertices, pareto_front
from lossflow.expansion.series import expand
from lossflow.problem import AbstractProblem
from lossflow.problems.cp import CPDecomposition
from lossflow.problems.targets import Identity, Zero
from lossflow.trajectory import TimeScale

COMPARABLE = (
    10.0  # monomials within this factor of each other count as of one size: their coefficients are not looked at
)
NAMED_AT = 4  # the lowest order at which the five vertices of the asymmetric problem are five points
OBSERVED = ((8, 4), (12, 3))  # (factors in the largest diagram, order that takes seconds the first time); beyond: 2
CP_VARIABLES = ("p", "H", "sigma2")


@dataclass(frozen=True)
class MonomialTime:
    """The time  coefficient * prod_j size_j^power_j.

    powers: (name, power) pairs, rational powers of sizes and variances; coefficient: a positive rational number.
    docs/theory/diagrams.md section 6 [YGG26v2]: it is 1/T, the reciprocal of the natural T given there.
    """

    powers: tuple[tuple[str, Fraction], ...]
    coefficient: Fraction = Fraction(1)

    def at(self, sizes: Mapping[str, float]) -> float:
        """The time at these sizes; sizes it does not depend on may be among them. Raises `InvalidInput`."""
        logarithm = math.log(self.coefficient)
        for name, power in self.powers:
            if name not in sizes:
                raise InvalidInput(f"the time scale {self} needs {name!r}; got {', '.join(sizes) or 'no sizes'}")
            value = coerce(sizes[name], float, f"size {name!r}")
            if not 0 < value < math.inf:
                raise InvalidInput(f"the time scale {self} needs a finite {name!r} > 0, got {value!r}")
            logarithm += float(power) * math.log(value)
        try:
            time = math.exp(logarithm)
        except OverflowError:
            time = math.inf
        if not 0 < time < math.inf:
            raise InvalidInput(
                f"the time scale {self} is e^{logarithm:.4g} at these sizes, which is no floating-point number"
            )
        return time

    def __str__(self) -> str:
        return spell_monomial(dict(self.powers), self.coefficient)


@dataclass(frozen=True)
class NoTimeScale:
    """Says that a regime has no single time scale, and why; `at` raises.

    reason: one sentence with the leading monomials that no T fits. docs/theory/odd_order_and_descent.md section A.
    """

    reason: str

    def at(self, sizes: Mapping[str, float]) -> float:
        """Raises `NotSpoken` with the reason, at any sizes."""
        raise NotSpoken(f"{self.reason}; give `in_units_of` a time of your own")

    def __str__(self) -> str:
        return "none"


@dataclass(frozen=True)
class Regime:
    """A cone of scalings in which one set of monomials leads all Y_s.

    name: its vertices, "A" or "B-C" or "A-B-E"; for decompositions of even order or without symmetry those of the theory.
    vertices: exponents of the leading monomials of Y_s at the vertices, in the order of the variables of `expand`, at the order s
        up to which they were observed (4 where a theorem knows all orders).
    condition: what the scaling obeys; time_scale: the loss changes by O(1) in t / time_scale, `at(sizes)` is a time.
    parameterization: "under", "over", "balanced", "agnostic" or "unknown"; learning: "none", "lazy", "rich" or "unknown".
    meaning: what the limit is known as, "-" where it has no name; without a theorem what was observed, and to which order.
    docs/theory/diagrams.md section 6 [YGG26v2].
    """

    name: str
    vertices: tuple[Exponent, ...]
    condition: str
    time_scale: TimeScale
    parameterization: str
    learning: str
    meaning: str


@dataclass(frozen=True)
class Placement:
    """Where a scaling belongs: the regime, and how far inside its cone.

    regime: the one found. depth: the smallest logarithm of the ratio of a leading monomial of the regime to a neglected one,
    natural for sizes, to the base L for exponents; 0 on the boundary. Where no leading monomial is neglected, that of the
    smallest size. docs/theory/diagrams.md section 6 [YGG26v2].
    """

    regime: Regime
    depth: float


@dataclass(frozen=True)
class Atlas:
    """The fan of a problem with a regime for each of its cones.

    variables: names in the order of exponents; unit: the value of each variable that counts as 1, other than 1 for the
    variance where the target has a scale; regimes: by the maximal cones that they lie in.
    """

    variables: tuple[str, ...]
    fan: Fan
    regimes: Mapping[frozenset[int], Regime]
    unit: Mapping[str, float]


@dataclass(frozen=True)
class _Known:
    """What the theory says of one face."""

    powers: tuple[Fraction, ...]
    parameterization: str
    learning: str
    meaning: str


def regimes(problem: AbstractProblem) -> tuple[Regime, ...]:
    """The scaling regimes of a problem, vertices first, then edges and what lies between: they tile the space of scalings.

    Symmetric decompositions of even order and those with a matrix for each slot, target zero or a multiple of the identity: the
    faces of the theorem. Symmetric ones of odd order: the cones of the leading monomials up to s = 4, more with every
    s. Any other problem with diagrams: the cones of the common normal fan of the leading exponents of Y_1 .. Y_s, s = 4 for up
    to 8 factors in a diagram, 3 up to 12, 2 beyond; `meaning` states the s. Where no single time scale holds for all these s,
    `meaning` says so and `time_scale.at` raises `NotSpoken`.

    problem: any problem with diagrams. Raises `NotSpoken` for one without, or whose loss does not move.
    docs/theory/diagrams.md section 6 [YGG26v2], docs/theory/additions.md section 5.
    """
    return tuple(survey(_checked(problem)).regimes.values())


@overload
def classify(problem: AbstractProblem, *, sizes: Mapping[str, float]) -> Placement: ...
@overload
def classify(problem: AbstractProblem, *, exponents: Mapping[str, float]) -> Placement: ...
def classify(
    problem: AbstractProblem,
    *,
    sizes: Mapping[str, float] | None = None,
    exponents: Mapping[str, float] | None = None,
) -> Placement:
    """The regime of a scaling  size = L^exponent, L -> inf,  or of given numbers.

    exponents: one for each size and variance, {"p": 1, "H": 2.5, "sigma2": -2.4}; exact, floats are read as the decimal that
        prints them, so a point on a wall is found on it. Those of sizes are >= 0, where 0 stands for growth slower than any
        power. The depth is the exponent of L in the ratio of the leading to the next contributions.
    sizes: the numbers themselves. Leading monomials that differ by less than a factor 10 on a wall count as equal there, so the
        regime is the one whose face holds all of them (the nearest first, as far as there is such a face); the depth is the
        logarithm of the ratio to the next one.
    problem: as for `regimes`. Raises `InvalidInput` unless exactly one of sizes and exponents is given, complete and in range.
    docs/theory/diagrams.md section 6 [YGG26v2].
    """
    atlas = survey(_checked(problem))
    if (sizes is None) == (exponents is None):
        raise InvalidInput("give either sizes, the numbers, or exponents, the powers of L; exactly one of them")
    if exponents is not None:
        a = _exponents(atlas, exponents)
        cones = atlas.fan.locate(a)
        common = atlas.fan.closure(cones)
        if common is None:
            names = sorted(atlas.regimes[frozenset({i})].name for i in cones)
            raise InvalidInput(
                f"these exponents lie in {', '.join(names)} at once, which meet only where no size grows: give a size an "
                "exponent > 0"
            )
        face = common
        growth: Sequence[Fraction] | Sequence[float] = a
    else:
        assert sizes is not None
        growth = _logarithms(atlas, sizes)
        face = atlas.fan.near(growth, math.log(COMPARABLE))
    margin = atlas.fan.margin(face, growth)
    if margin is None:
        margin = min(
            x for x, grows in zip(growth, atlas.fan.growing, strict=True) if grows or not any(atlas.fan.growing)
        )
    return Placement(atlas.regimes[face], abs(float(margin)))


def spell_monomial(powers: Mapping[str, Fraction | int], coefficient: Fraction = Fraction(1)) -> str:
    """ "p^2 H / (2 sigma2^(1/2))" for powers {p: 2, H: 1, sigma2: -1/2} and the coefficient 1/2."""
    above = [str(coefficient.numerator)] if coefficient.numerator != 1 else []
    below = [str(coefficient.denominator)] if coefficient.denominator != 1 else []
    for name, power in powers.items():
        if power:
            size = abs(Fraction(power))
            text = name if size == 1 else f"{name}^{size}" if size.denominator == 1 else f"{name}^({size})"
            (above if power > 0 else below).append(text)
    denominator = f" / {below[0]}" if len(below) == 1 else f" / ({' '.join(below)})" if below else ""
    return (" ".join(above) or "1") + denominator


def _spelled(names: Sequence[str], powers: Iterable[Fraction | int]) -> str:
    return spell_monomial(dict(zip(names, powers, strict=True)))


def observe(problem: AbstractProblem, order: int) -> Atlas:
    """The atlas of any problem with diagrams from the exact leading exponents of Y_1 .. Y_order.

    On a maximal cone the leader v_s of Y_s that obeys  v_s = v_1 + (s - 1) f  gives the time prod sizes^(-f). Where even and odd
    orders obey it apart, with one f, the smaller ones vanish in the limit. Where no f fits, there is no single time scale.
    docs/theory/diagrams.md section 6 [YGG26v2].
    """
    series = expand(problem, order)
    axes = {axis for loss in (problem.as_diagrams(), problem.as_potential()) for axis in loss.least_sizes}
    growing = tuple(name in axes for name in series.variables)
    fronts = {s: pareto_front(series.coefficients[s], growing) for s in range(1, order + 1) if series.coefficients[s]}
    if not fronts or not series.variables:
        what = "its loss does not move" if not fronts else "all its sizes are numbers"
        raise NotSpoken(f"{problem!r} has no regimes: {what}. Methods that apply: {problem.answered_by()}.")
    fan = Fan.of(list(fronts.values()), growing)
    names = [_letters(i) for i in range(len(fan.cones))]
    suffix = f" ({', '.join(series.assumptions)})" if series.assumptions else ""
    observed = f"observed to order {order}{suffix}"
    return _surveyed(series.variables, fan, tuple(fronts), names, observed, {})


@lru_cache(maxsize=32)
def survey(problem: AbstractProblem) -> Atlas:
    """The atlas behind `regimes` and `classify`: from a theorem where there is one, else from the series."""
    match problem:
        case CPDecomposition(target=Zero() | Identity(), symmetric=symmetric, order=order):
            return _odd_atlas(problem) if symmetric and order % 2 else _theorem_atlas(problem)
    factors = max(len(term.diagram.factors) for term in problem.as_potential().terms)
    return observe(problem, next((order for most, order in OBSERVED if factors <= most), 2))


def _scale(problem: CPDecomposition) -> Fraction:
    return problem.target.scale if isinstance(problem.target, Identity) else Fraction(0)


def _theorem_atlas(problem: CPDecomposition) -> Atlas:
    order, symmetric, scale = problem.order, problem.symmetric, _scale(problem)
    fronts = [identity_front(order, symmetric, s) for s in range(1, NAMED_AT + 1)]
    if not scale:
        fronts = [{(n, d): e for (n, d), e in front.items() if d == s} for s, front in enumerate(fronts, 2)]
    fan = Fan.of([front.values() for front in fronts], (True, True, False))
    places = {e: place for place, e in fronts[-1].items()}
    named = {place: letter for letter, place in identity_vertices(symmetric, NAMED_AT).items()}
    letters = [named[places[leaders[-1]]] for leaders in fan.leaders]
    known = _table(order, symmetric, scale)
    found: dict[frozenset[int], Regime] = {}
    for face in fan.faces:
        name = "-".join(sorted(letters[i] for i in face)).replace("A-E", "E-A")  # neighbors in the order of the polygon
        entry = known[name]
        learned = bool(scale) and not any(entry.powers[:2])  # the time 1/sigma^(nu-2), on which the target is learned
        found[face] = Regime(
            name,
            tuple(fan.leaders[i][-1] for i in sorted(face, key=letters.__getitem__)),
            _condition(CP_VARIABLES, fan, face),
            _time(CP_VARIABLES, entry.powers, 1 / abs(scale) if learned else Fraction(1)),
            entry.parameterization,
            entry.learning,
            entry.meaning,
        )
    ordered = dict(sorted(found.items(), key=lambda item: (len(item[0]), item[1].name)))
    return Atlas(CP_VARIABLES, fan, ordered, _unit(order, scale))


def _unit(order: int, scale: Fraction) -> dict[str, float]:
    """With a target of scale c, u -> c^(1/nu) u leads to the scale 1: the variance counts in units of c^(2/nu)."""
    return {"sigma2": abs(float(scale)) ** (2 / order)} if scale else {}


def _table(order: int, symmetric: bool, scale: Fraction) -> dict[str, _Known]:
    """Powers of p, H, sigma2 in the time 1/T and what is known of each face. docs/theory/diagrams.md section 6 [YGG26v2]."""
    half = Fraction(order, 2)
    slots = (Fraction(1 - order), Fraction(0), Fraction(1 - order))  # 1 / (p^(nu-1) sigma^(2 nu - 2))
    rich = (Fraction(0), Fraction(0), 1 - half)  # 1 / sigma^(nu-2)
    if symmetric:
        rows = (1 - half, Fraction(-1), Fraction(1 - order))
        saddle = "saddle-to-saddle (trivial: one saddle)" if order == 2 else "-"
        table = {
            "A": _Known(slots, "under", "none", "free"),
            "B": _Known(rows, "over", "none", "free"),
            "E": _Known(rich, "agnostic", "rich", saddle),
            "A-B": _Known(slots, "balanced", "none", "free"),
            "B-E": _Known(rich, "over", "rich", "mean-field"),
            "E-A": _Known(rich, "under", "rich", "-"),
            "A-B-E": _Known(rich, "balanced", "rich", "full problem"),
        }
    else:
        rows = (Fraction(0), Fraction(-1), Fraction(1 - order))
        table = {
            "A": _Known(slots, "under", "none", "free"),
            "B": _Known(rows, "over", "none", "free (lazy)"),
            "C": _Known(rows, "over", "lazy", "NTK, f(0) = 0"),
            "D": _Known(rich, "over", "rich", "-"),
            "E": _Known(rich, "under", "rich", "-"),
            "A-B": _Known(rows, "balanced", "none", "free"),
            "B-C": _Known(rows, "over", "lazy", "NTK"),
            "C-D": _Known(rich, "over", "rich", "mean-field"),
            "D-E": _Known(rich, "balanced", "rich", "-"),
            "E-A": _Known(rich, "under", "rich", "-"),
            "A-B-C-D-E": _Known(rich, "balanced", "rich", "full problem"),
        }
    if symmetric and scale < 0:  # even powers cannot reach a negative target: what would be learned decays
        decay = "decay: even powers do not reach a negative target"
        table = {
            name: _Known(entry.powers, entry.parameterization, "none", decay) if entry.learning == "rich" else entry
            for name, entry in table.items()
        }
    return table


def _odd_atlas(problem: CPDecomposition) -> Atlas:
    order, scale = problem.order, _scale(problem)
    fronts = {s: odd_front(order, s, target=bool(scale)) for s in range(1, NAMED_AT + 1)}
    fan = Fan.of([front.values() for front in fronts.values()], (True, True, False))
    places = {s: {e: place for place, e in front.items()} for s, front in fronts.items()}
    names, mixed = [], 0
    for leaders in fan.leaders:
        at = [places[s][leader] for s, leader in zip(fronts, leaders, strict=True)]
        letter = next((letter for letter, formula in _ODD_VERTICES.items() if at == [formula(s) for s in fronts]), None)
        mixed += letter is None
        names.append(letter or f"M{mixed}")
    observed = f"leading monomials to order {NAMED_AT}"
    known = _odd_table(order)
    if scale:
        inverse = 1 / abs(scale)
        known = {name: (entry, inverse if entry.learning == "rich" else Fraction(1)) for name, entry in known.items()}
    else:
        known = {name: (entry, Fraction(1)) for name, entry in known.items() if name in ("A", "B")}
    atlas = _surveyed(CP_VARIABLES, fan, tuple(fronts), names, observed, known)
    return Atlas(atlas.variables, atlas.fan, atlas.regimes, _unit(order, scale))


_ODD_VERTICES = {
    "A": lambda s: (1, s + 1),
    "B": lambda s: (s + 1, s + 1),
    "C": lambda s: (s, s - 1),
    "D": lambda s: (2 - s % 2, 1 - s % 2),
    "E": lambda s: (1, 1 - s % 2),
}


def _odd_table(order: int) -> dict[str, _Known]:
    """What is known at odd order and one matrix. docs/theory/additions.md sections 5 and 6."""
    slots = (Fraction(1 - order), Fraction(0), Fraction(1 - order))
    rows = (Fraction(0), Fraction(-1), Fraction(1 - order))
    rich = (Fraction(0), Fraction(0), 1 - Fraction(order, 2))
    rates = ", ".join(_rates_in_words(order))
    lazy = (
        f"lazy, with {(order + 1) // 2} rates {rates} in units of H sigma2^{order - 1}: the time scale is that of the first, "
        "to which all but O(1) of the p parts of the target belong; the leading powers of p see the last alone"
    )
    tighter = f"dominance tightens with the order, for all s it needs p^{order - 1} H sigma^{order} -> 0"
    return {
        "A": _Known(slots, "under", "none", "free"),
        "B": _Known(rows, "over", "none", f"free; {lazy}"),
        "C": _Known(rows, "over", "lazy", f"NTK, f(0) = 0; {lazy}"),
        "B-C": _Known(rows, "over", "lazy", f"NTK; {lazy}"),
        "D": _Known(rich, "over", "rich", tighter),
        "E": _Known(rich, "under", "rich", tighter),
    }


def _rates_in_words(order: int) -> list[str]:
    """The rates as polynomials in p, of degree 0, 1, 2, ...; by differences of exact values."""
    degrees = list(lazy_rates(order, 3))
    found = []
    for j, degree in enumerate(degrees):
        values = [lazy_rates(order, p)[degree] for p in range(j + 1)]
        coefficients = _interpolated(values)
        terms = [
            ("" if c == 1 and k else str(c)) + ("" if k == 0 else "p" if k == 1 else f"p^{k}")
            for k, c in reversed(list(enumerate(coefficients)))
            if c
        ]
        found.append(" + ".join(terms))
    return found


def _interpolated(values: Sequence[Fraction]) -> list[Fraction]:
    """The coefficients of the polynomial with these values at 0, 1, 2, ..., lowest first."""
    coefficients = [Fraction(0)] * len(values)
    basis, differences = [Fraction(1)], list(values)
    for k in range(len(values)):
        for power, c in enumerate(basis):
            coefficients[power] += c * differences[0]
        differences = [b - a for a, b in pairwise(differences)]
        shifted = [Fraction(0), *basis]  # times (x - k) / (k + 1)
        basis = [(high - k * low) / (k + 1) for high, low in zip(shifted, [*basis, Fraction(0)], strict=True)]
    return coefficients


def _surveyed(
    variables: Sequence[str],
    fan: Fan,
    orders: Sequence[int],
    names: Sequence[str],
    observed: str,
    known: Mapping[str, tuple[_Known, Fraction]],
) -> Atlas:
    """Regimes of a fan that was observed, not proven: those with a name in `known` as the theory has them."""
    slopes = [
        _slope(variables, orders, leaders, cone.rays) for leaders, cone in zip(fan.leaders, fan.cones, strict=True)
    ]
    found: dict[frozenset[int], Regime] = {}
    for face in fan.faces:
        members = sorted(face, key=lambda i: (len(names[i]), names[i]))
        name = "-".join(names[i] for i in members)
        vertices = tuple(fan.leaders[i][-1] for i in members)
        condition = _condition(variables, fan, face)
        if name in known:
            entry, coefficient = known[name]
            time: TimeScale = _time(variables, entry.powers, coefficient)
            found[face] = Regime(
                name, vertices, condition, time, entry.parameterization, entry.learning, f"{observed}: {entry.meaning}"
            )
            continue
        time, remark = _common_time(variables, fan, face, [slopes[i] for i in members], [names[i] for i in members])
        meaning = "; ".join([observed, *remark])
        found[face] = Regime(name, vertices, condition, time, "unknown", "unknown", meaning)
    return Atlas(tuple(variables), fan, found, {})


@dataclass(frozen=True)
class _Slope:
    """powers: f in v_s = v + s f, None where none fits; remark: what is to be said of it."""

    powers: tuple[Fraction, ...] | None
    remark: str | None


def _slope(
    variables: Sequence[str], orders: Sequence[int], leaders: Sequence[Vector], rays: Iterable[Vector]
) -> _Slope:
    """The change of the leader with the order, on a maximal cone."""
    f = _affine(orders, leaders)
    shown = ", ".join(f"{_spelled(variables, leader)} in Y_{s}" for s, leader in zip(orders, leaders, strict=True))
    if f is None:
        return _by_parity(variables, orders, leaders, rays) or _Slope(None, f"no single time scale: {shown}")
    if len(orders) == 1:
        return _Slope(None, f"one order does not tell a time scale: {shown}")
    return _Slope(f, None if len(orders) > 2 else "the time scale is a guess from two orders")


def _by_parity(
    variables: Sequence[str], orders: Sequence[int], leaders: Sequence[Vector], rays: Iterable[Vector]
) -> _Slope | None:
    """Even and odd orders on lines of their own: believed only if both lines have the same slope, which takes four orders."""
    lines = {parity: [(s, v) for s, v in zip(orders, leaders, strict=True) if s % 2 == parity] for parity in (0, 1)}
    slopes = [_affine([s for s, _ in line], [v for _, v in line]) for line in lines.values() if len(line) > 1]
    if len(slopes) < 2 or slopes[0] is None or slopes[0] != slopes[1]:
        return None
    (even, low), (odd, high) = lines[0][0], lines[1][0]
    factor = [x - y - (even - odd) * g for x, y, g in zip(low, high, slopes[0], strict=True)]
    sides = {dot(factor, ray) for ray in rays}
    if min(sides) < 0 < max(sides):
        return _Slope(slopes[0], f"even and odd orders differ by the factor {_spelled(variables, factor)}")
    if max(sides) > 0:
        return _Slope(slopes[0], f"odd orders are smaller by the factor {_spelled(variables, [-x for x in factor])}")
    return _Slope(slopes[0], f"even orders are smaller by the factor {_spelled(variables, factor)}")


def _affine(orders: Sequence[int], leaders: Sequence[Vector]) -> tuple[Fraction, ...] | None:
    """f with  v_s = v + s f,  if there is one; zero for a single order."""
    (s0, first), (s1, last) = (orders[0], leaders[0]), (orders[-1], leaders[-1])
    f = tuple(Fraction(y - x, max(s1 - s0, 1)) for x, y in zip(first, last, strict=True))
    on_line = all(
        y - x == (s - s0) * g for s, v in zip(orders, leaders, strict=True) for x, y, g in zip(first, v, f, strict=True)
    )
    return f if on_line else None


def _common_time(
    variables: Sequence[str], fan: Fan, face: frozenset[int], slopes: Sequence[_Slope], names: Sequence[str]
) -> tuple[TimeScale, list[str]]:
    """The time on which all vertices of a face agree, within the face."""
    failing = [name for name, slope in zip(names, slopes, strict=True) if slope.powers is None]
    if failing:
        alone = len(names) == 1 and slopes[0].remark
        reason = alone or f"no single time scale, as there is none at {', '.join(failing)}"
        return NoTimeScale(reason), [reason]
    remarks = [
        slope.remark if len(names) == 1 else f"at {name} {slope.remark}"
        for name, slope in zip(names, slopes, strict=True)
        if slope.remark
    ]
    directions = [*fan.rays(face), *fan.cones[min(face)].lines]
    powers = [slope.powers for slope in slopes if slope.powers is not None]
    speeds = {tuple(dot(f, direction) for direction in directions) for f in powers}
    if len(speeds) > 1:
        times = ", ".join(
            f"{_time(variables, [-x for x in f], Fraction(1))} at {name}" for f, name in zip(powers, names, strict=True)
        )
        reason = f"no single time scale: {times}"
        return NoTimeScale(reason), [*remarks, reason]
    simplest = min(powers, key=lambda f: (sum(map(abs, f)), f))
    return _time(variables, [-x for x in simplest], Fraction(1)), remarks


def _time(variables: Sequence[str], powers: Sequence[Fraction], coefficient: Fraction) -> MonomialTime:
    return MonomialTime(tuple((name, x) for name, x in zip(variables, powers, strict=True) if x), coefficient)


def _condition(variables: Sequence[str], fan: Fan, face: frozenset[int]) -> str:
    """Steps along the face are of order one, steps out of it large."""
    inside = sorted((w.step for w in fan.walls if w.inner in face and w.outer in face), key=_simplicity)
    equal: list[Vector] = []
    for step in inside:
        if len(echelon([*equal, step])) > len(equal):
            equal.append(step)
    parts = [_spell_equal(variables, step) for step in equal]
    beyond = [other for other in fan.faces if face < other]
    for other in (o for o in beyond if not any(between < o for between in beyond)):
        out = [w.step for w in fan.walls if w.inner in face and w.outer in other - face]
        if out:
            parts.append(_spell_large(variables, min(out, key=_simplicity)))
    return ", ".join(dict.fromkeys(parts)) or "any scaling"


def _simplicity(step: Vector) -> tuple[int, Vector]:
    return sum(map(abs, step)), tuple(-x for x in step)


def _spell_large(variables: Sequence[str], step: Vector) -> str:
    if max(step) <= 0:
        return f"{_spelled(variables, [-x for x in step])} -> 0"
    return f"{_spelled(variables, step)} -> inf"


def _spell_equal(variables: Sequence[str], step: Vector) -> str:
    left, right = [max(x, 0) for x in step], [max(-x, 0) for x in step]
    sides = [_spelled(variables, side) for side in (left, right)]
    return " ~ ".join(sides if sides[0] != "1" else reversed(sides))


def _letters(i: int) -> str:
    """A, B, ..., Z, AA, AB, ..."""
    return (_letters(i // 26 - 1) if i >= 26 else "") + chr(ord("A") + i % 26)


def _checked(problem: AbstractProblem) -> AbstractProblem:
    if not isinstance(problem, AbstractProblem):
        raise InvalidInput(
            f"the problem must be an AbstractProblem such as CPDecomposition(order=2), got {brief(problem)}"
        )
    if "diagrams" not in problem.languages:
        raise problem.silence("diagrams", "regimes are told from leading monomials")
    return problem


def _exponents(atlas: Atlas, exponents: Mapping[str, float]) -> tuple[Fraction, ...]:
    exponents = _complete(atlas, exponents, "exponents")
    a = tuple(coerce(exponents[name], Fraction, f"the exponent of {name!r}") for name in atlas.variables)
    for name, x, grows in zip(atlas.variables, a, atlas.fan.growing, strict=True):
        if grows and x < 0:
            raise InvalidInput(f"the size {name!r} goes to infinity or stays: its exponent must be >= 0, got {x}")
    return a


def _logarithms(atlas: Atlas, sizes: Mapping[str, float]) -> tuple[float, ...]:
    given = SizeMap(_complete(atlas, sizes, "sizes"))
    for name, grows in zip(atlas.variables, atlas.fan.growing, strict=True):
        if grows and not (given[name].is_integer() and given[name] >= 1):
            raise InvalidInput(f"size {name!r} must be a whole number >= 1, got {given[name]:g}")
        if given[name] == 0:
            raise InvalidInput(f"a regime is a matter of ratios: {name!r} must be > 0, got 0")
    return tuple(math.log(given[name]) - math.log(atlas.unit.get(name, 1.0)) for name in atlas.variables)


def _complete(atlas: Atlas, given: Mapping[str, float], what: str) -> Mapping[str, float]:
    """`given` if it has a value for each variable and for nothing else."""
    if not isinstance(given, Mapping):
        example = ", ".join(f'"{name}": ...' for name in atlas.variables)
        raise InvalidInput(f"{what} must be a mapping {{{example}}}, got {brief(given)}")
    for name in given:
        if name not in atlas.variables:
            raise InvalidInput(f"there is no size {name!r}; {nearest(name, atlas.variables)}")
    missing = [name for name in atlas.variables if name not in given]
    if missing:
        raise InvalidInput(f"{what} are missing for {', '.join(missing)}; needed: {', '.join(atlas.variables)}")
    return given


__all__ = ["MonomialTime", "Placement", "Regime", "classify", "regimes"]
