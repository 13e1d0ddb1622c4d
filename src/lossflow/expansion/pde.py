"""A recurrence as a differential equation:  sum_k x^{-k} P_k(x d/dx) h = 0."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lossflow.expansion.recurrence import Index, Polynomial, Recurrence


@dataclass(frozen=True)
class PDE:
    """sum_k x^{-k} P_k(x d/dx) h = 0, from the recurrence with the terms {k: P_k}.

    Called with an expression for h it returns the left-hand side, which is zero for a solution.
    docs/theory/diagrams.md section 7 [YGG26v2].
    """

    recurrence: Recurrence

    @property
    def order(self) -> int:
        """The highest derivative."""
        return self.recurrence.degree

    @property
    def symbols(self) -> dict[str, Any]:
        """{name: sympy symbol} of the variables."""
        return symbols(self.recurrence)

    @property
    def expression(self) -> Any:
        """The left-hand side for an unknown function h, divided by its first variable, as a sympy expression."""
        import sympy

        names = self.symbols.values()
        return sympy.expand(self(sympy.Function("h")(*names)) / next(iter(names)))

    def __call__(self, h: Any) -> Any:
        """The left-hand side at the sympy expression `h` of the `symbols`."""
        import sympy

        names = list(self.symbols.values())
        total = sympy.Integer(0)
        for k, P in self.recurrence.terms.items():
            factor = math.prod((x**-e for x, e in zip(names, k, strict=True)), start=sympy.Integer(1))
            total += factor * _applied(P, names, h)
        return total


def symbols(recurrence: Recurrence) -> dict[str, Any]:
    """{name: sympy symbol}: the time real, all others positive."""
    import sympy

    first, *rest = recurrence.variables
    return {first: sympy.Symbol(first, real=True), **{name: sympy.Symbol(name, positive=True) for name in rest}}


def _applied(P: Polynomial, names: list[Any], h: Any) -> Any:
    """P(x d/dx) h."""
    import sympy

    total = sympy.Integer(0)
    for powers, c in P.items():
        each = h
        for x, power in zip(names, powers, strict=True):
            for _ in range(power):
                each = x * sympy.diff(each, x)
        total += rational(c) * each
    return total


def rational(c: Fraction) -> Any:
    """A fraction as a sympy number."""
    import sympy

    return sympy.Rational(c.numerator, c.denominator)


def spelled(polynomial: Mapping[Index, Fraction], names: list[Any]) -> Any:
    """A Laurent polynomial {powers: coefficient} as a sympy expression."""
    import sympy

    total = sympy.Integer(0)
    for powers, c in polynomial.items():
        total += rational(c) * math.prod((x**e for x, e in zip(names, powers, strict=True)), start=sympy.Integer(1))
    return total


__all__ = ["PDE"]
