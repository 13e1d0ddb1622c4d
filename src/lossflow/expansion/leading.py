"""The leading series of a face: of each exact Y_s only the monomials that lead there, and the size of the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

from lossflow.errors import InvalidInput, nearest
from lossflow.expansion.fan import Vector, dot
from lossflow.expansion.leading_recurrences import bond_values, leading_recurrence
from lossflow.expansion.pareto import Exponent
from lossflow.expansion.regimes import Atlas, Regime, classify, survey
from lossflow.expansion.series import LossSeries, expand
from lossflow.problem import AbstractProblem
from lossflow.problems.cp import CPDecomposition
from lossflow.problems.targets import Identity, Zero
from lossflow.trajectory import FrozenMapping


class Leading(NamedTuple):
    """Taylor coefficients Y_s/s! of the leading part and of the whole, at given sizes, exact.

    constant: the part that no weight enters, which belongs to both.
    """

    leading: tuple[Fraction, ...]
    whole: tuple[Fraction, ...]
    constant: Fraction


def chosen_regime(problem: AbstractProblem, name: str | None, sizes: Mapping[str, float]) -> tuple[Regime, float]:
    """The regime of that name, or the one that the sizes belong to, and how deep inside its cone they lie.

    The depth of a named regime is the least logarithm of the ratio of what it keeps to what it neglects, negative
    outside of its cone.

    Raises `InvalidInput` for a name that the problem does not have.
    """
    placement = classify(problem, sizes=sizes)
    if name is None or name == placement.regime.name:
        return placement.regime, placement.depth
    atlas = survey(problem)
    found = {regime.name: face for face, regime in atlas.regimes.items()}
    if name not in found:
        raise InvalidInput(f"{problem!r} has no regime {name!r}; {nearest(name, found)}")
    logs = [math.log(sizes[each] / atlas.unit.get(each, 1.0)) for each in atlas.variables]
    margin = atlas.fan.margin(found[name], logs)
    if margin is None:  # it neglects no leading monomial: its depth is that of the limit itself
        margin = min(x for x, grows in zip(logs, atlas.fan.growing, strict=True) if grows)
    return atlas.regimes[found[name]], float(margin)


def leading_terms(problem: AbstractProblem, regime: Regime, series: LossSeries) -> list[dict[Exponent, Fraction]]:
    """For each s the monomials of Y_s, without its constant, that are largest along a direction inside the cone of the regime."""
    direction = _inside(survey(problem), regime)
    found = []
    for s, terms in enumerate(series.coefficients):
        rest = {e: c - (series.constant.get(e, Fraction(0)) if s == 0 else 0) for e, c in terms.items()}
        rest = {e: c for e, c in rest.items() if c}
        highest = max((dot(direction, e) for e in rest), default=0)
        found.append({e: c for e, c in rest.items() if dot(direction, e) == highest})
    return found


def leading_series(problem: AbstractProblem, regime: Regime, series: LossSeries, sizes: Mapping[str, float]) -> Leading:
    """The coefficients of the leading series at these sizes, and those of the exact one."""
    values = {name: Fraction(sizes[name]) for name in series.variables}
    constant = _value(dict(series.constant), series.variables, values)
    leading = [_value(terms, series.variables, values) for terms in leading_terms(problem, regime, series)]
    leading[0] += constant
    whole = series.at(**values)
    factorials = [math.factorial(s) for s in range(len(leading))]
    return Leading(
        tuple(y / f for y, f in zip(leading, factorials, strict=True)),
        tuple(y / f for y, f in zip(whole, factorials, strict=True)),
        constant,
    )


def recurrent_series(
    problem: AbstractProblem, regime: str, sizes: Mapping[str, float], highest: int = 40
) -> tuple[Fraction, ...] | None:
    """The leading coefficients of t^0, t^1, ... to an order that takes seconds, by recurrence; None where none is known.

    For nu matrices on the faces "E-A" and "C-D". At their ends "E" and "D", where even and odd orders differ by a whole factor,
    the series of the face is taken: it holds all that leads there. highest: of the orders. docs/theory/diagrams.md section 6.
    """
    match problem:
        case CPDecomposition(order=order, symmetric=False, target=Identity(scale=scale)) if scale and regime in _ENDS:
            recurrence = leading_recurrence(order, False, _ENDS[regime], min(_REACH.get(order, 6), highest), scale)
        case _:
            return None
    if recurrence is None or recurrence.reach is None:
        return None
    p, H, sigma2 = (Fraction(sizes[name]) for name in ("p", "H", "sigma2"))
    first, *rest = recurrence.series(recurrence.reach, bond_values(recurrence, p, H, sigma2))
    return (first + Fraction(scale) ** 2 * p / 2, *rest)


_ENDS = {"E": "E-A", "E-A": "E-A", "C-D": "C-D", "D": "C-D"}
_REACH = {2: 40, 3: 22, 4: 12, 5: 8}  # orders by recurrence, which take seconds


def exact_series(problem: AbstractProblem, order: int) -> LossSeries:
    """`expand(problem, order)`; that of every multiple c of the identity, and of target zero, from the one of the identity.

    A term of Y_s with s_D squares D, told by its power of sigma2, has s + 1 - s_D cross terms R, each with a factor c: nothing is
    expanded twice. docs/theory/diagrams.md sections 3 and 5 [YGG26v2].
    """
    match problem:
        case CPDecomposition(target=Identity(scale=scale)) if scale != 1:
            pass
        case CPDecomposition(target=Zero()):
            scale = Fraction(0)
        case _:
            return expand(problem, order)
    nu = problem.order
    known = expand(replace(problem, target=Identity()), order)
    sigma2 = known.variables.index("sigma2")

    def scaled(terms: Mapping[Exponent, Fraction], s: int) -> FrozenMapping[Exponent, Fraction]:
        found = {}
        for e, c in terms.items():
            squares = (2 * e[sigma2] - (nu - 2) * s) // nu - 1
            found[e] = c * Fraction(scale) ** (s + 1 - squares)
        return FrozenMapping({e: c for e, c in found.items() if c})

    coefficients = tuple(scaled(terms, s) for s, terms in enumerate(known.coefficients))
    return replace(known, coefficients=coefficients, constant=scaled(known.constant, 0))


def _inside(atlas: Atlas, regime: Regime) -> Vector:
    """A direction in the relative interior of the cone of a regime: the sum of its rays."""
    face = next(face for face, other in atlas.regimes.items() if other == regime)
    rays = atlas.fan.rays(face)
    return tuple(sum(column) for column in zip(*rays, strict=True)) if rays else (0,) * len(atlas.variables)


def _value(terms: Mapping[Exponent, Fraction], variables: tuple[str, ...], values: Mapping[str, Fraction]) -> Fraction:
    return sum(
        (c * math.prod((values[name] ** e for name, e in zip(variables, powers, strict=True)), start=Fraction(1))
         for powers, c in terms.items()),
        Fraction(0),
    )  # fmt: skip
