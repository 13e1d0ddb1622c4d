"""Differential equations of recurrences: derived closed forms are those of the theory, and numbers agree with both."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import sympy

import lossflow as lf
from lossflow.expansion.leading_recurrences import bond_values, leading_recurrence, ring_recurrence
from lossflow.expansion.recurrence import Recurrence
from lossflow.expansion.solutions.explicit import explicit

FREE = [(3, False, "A"), (4, True, "A"), (4, True, "B"), (4, True, "A-B"), (6, True, "A-B"), (2, False, "A")]
LAZY = [(3, False, "B"), (3, False, "C"), (4, False, "B-C")]
SIZES = {"p": Fraction(5), "H": Fraction(7), "sigma2": Fraction(1, 9)}


@pytest.mark.parametrize(("order", "symmetric", "regime"), FREE + LAZY)
def test_derived_closed_forms_are_those_of_the_theory(order: int, symmetric: bool, regime: str) -> None:
    """From the merge rules by the code: recurrence, equation, curves, formula. docs/theory/diagrams.md sections 7 and 8."""
    scale = 1 if regime in ("C", "B-C") else 0
    recurrence = leading_recurrence(order, symmetric, regime, 0, scale)
    assert recurrence is not None
    equation = recurrence.to_pde()
    assert equation.order == 1
    formula = recurrence.characteristics().solution()
    assert formula is not None
    assert sympy.simplify(equation(formula)) == 0
    values = bond_values(recurrence, **SIZES)
    form = explicit(order, symmetric, regime, 5.0, 7.0, 1 / 9, float(scale))
    assert form is not None
    for t in (0.0, 0.02, 0.5):
        numbers = {equation.symbols[name]: value for name, value in values.items()}
        found = complex(formula.subs({**numbers, equation.symbols["t"]: t}).evalf()).real
        assert found == pytest.approx(form.at(np.array([t]))[0], rel=1e-12)


def test_the_integration_along_the_curves_gives_the_same() -> None:
    times = np.array([-0.002, 0.0, 0.02, 0.5])
    for order, symmetric, regime in FREE:
        recurrence = leading_recurrence(order, symmetric, regime, 0, 0)
        form = explicit(order, symmetric, regime, 5.0, 7.0, 1 / 9, 0.0)
        assert recurrence is not None
        assert form is not None
        held = times[times > (form.blow_up_time or -math.inf)]
        values = {name: float(value) for name, value in bond_values(recurrence, **SIZES).items()}
        assert recurrence.characteristics().at(held, values) == pytest.approx(form.at(held), rel=1e-9)


def test_the_equation_of_the_free_line_is_that_of_the_theory() -> None:
    """s C_s = 4 nu (1 + (nu-1) s) C_{s-1} in x = -t/2: (1 - 4 nu (nu-1) x) f' = 4 nu^2 f. docs/theory/diagrams.md section 7.1."""
    recurrence = leading_recurrence(4, True, "A", 0, 0)
    assert recurrence is not None
    line = recurrence.along("z2", 4, 3).along("p", 4, 3).along("H", 1, 0)
    equation = line.to_pde()
    t, h = equation.symbols["t"], sympy.Function("h")
    x = -t / 2
    stated = (1 - 48 * x) * sympy.diff(h(t), t) + 64 / sympy.Integer(2) * h(t)
    assert sympy.expand(equation.expression - stated) == 0
    assert not line.characteristics().autonomous
    assert line.characteristics().at([0.3], {})[0] == pytest.approx((1 + 24 * 0.3) ** (-4 / 3) / 2, rel=1e-10)
    assert line.series(6) == Recurrence.series(line, 6)


def test_the_rings_of_order_2() -> None:
    """(d_x + 4z(1-z)d_z) f = 4(z-1) f with x = -t, and its solution. docs/theory/diagrams.md section 9."""
    equation = ring_recurrence().to_pde()
    t, z = equation.symbols["t"], equation.symbols["z"]
    h = sympy.Function("h")(t, z)
    stated = -sympy.diff(h, t) + 4 * z * (1 - z) * sympy.diff(h, z) - 4 * (z - 1) * h
    assert sympy.expand(equation.expression + stated) == 0
    formula = ring_recurrence().characteristics().solution()
    grown = sympy.exp(-4 * t)
    closed = (2 * (z - 1) * grown - z) / (2 * (z - (z - 1) * grown) ** 2)
    assert sympy.simplify(formula - closed) == 0
    assert sympy.simplify(equation(closed)) == 0
    numbers = ring_recurrence().characteristics().at([0.1, -0.05], {"z": 0.3})
    assert numbers == pytest.approx([float(closed.subs({t: s, z: 0.3})) for s in (0.1, -0.05)], rel=1e-9)
    taylor = ring_recurrence().series(8, {"z": Fraction(3, 10)})
    assert sum(float(c) * 0.01**k for k, c in enumerate(taylor)) == pytest.approx(
        float(closed.subs({t: 0.01, z: 0.3})), rel=1e-11
    )


def test_a_wrong_function_does_not_solve_the_equation() -> None:
    equation = ring_recurrence().to_pde()
    t, z = equation.symbols["t"], equation.symbols["z"]
    assert sympy.simplify(equation(sympy.exp(t) * z)) != 0


def test_several_moving_variables_have_numbers_and_no_formula() -> None:
    """h_t = y h_x - x h_y + y h: a rotation with growth; h at t is that at t = 0 turned."""
    terms: Any = {
        (0, 0, 0): {(1, 0, 0): 1},
        (-1, 1, -1): {(0, 1, 0): -1},
        (-1, -1, 1): {(0, 0, 1): 1},
        (-1, 0, -1): {(0, 0, 0): -1},
    }
    recurrence = Recurrence(("t", "x", "y"), terms, {(1, 0): Fraction(1)})
    curves = recurrence.characteristics()
    assert curves.solution() is None
    x, y, t = 0.3, 0.5, 0.4
    # X = x cos t + y sin t, Y = y cos t - x sin t; int Y = y sin t + x (cos t - 1)
    expected = (x * math.cos(t) + y * math.sin(t)) * math.exp(y * math.sin(t) + x * (math.cos(t) - 1))
    assert curves.at([t], {"x": x, "y": y})[0] == pytest.approx(expected, rel=1e-10)
    series = recurrence.series(18, {"x": Fraction(3, 10), "y": Fraction(1, 2)})
    assert sum(float(c) * t**k for k, c in enumerate(series)) == pytest.approx(expected, rel=1e-12)


def test_where_a_curve_ends_there_is_no_number() -> None:
    recurrence = leading_recurrence(4, True, "A", 0, 0)
    assert recurrence is not None
    values = {name: float(value) for name, value in bond_values(recurrence, **SIZES).items()}
    blow_up = -1 / (24 * 125 * (1 / 9) ** 3)
    with pytest.raises(lf.InvalidInput, match="ends before"):
        recurrence.characteristics().at([1.2 * blow_up], values)
