"""First-order equations along their curves: exact power series, closed forms where sympy finds them, numbers otherwise.

    a dh/dt = sum_j v_j dh/dx_j + g h,      h = h_0(x) at t = 0

with a = 1 and v, g that do not depend on t:   h(t, x) = h_0(X(t)) exp(int_0^t g(X)),   dX/dt = v(X),  X(0) = x.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from lossflow.errors import InvalidInput
from lossflow.expansion.pde import spelled, symbols
from lossflow.expansion.recurrence import Index, Recurrence

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

Laurent = Mapping[Index, Fraction]
Sum = list[tuple[Any, tuple[int, ...]]]  # coefficients and products
PROBE = 0.37  # where the branch of an inverse function is told, as a number in (0, 1)


@dataclass(frozen=True)
class Characteristics:
    """a dh/dt = v . grad h + g h:  the time by which the curves run, their velocity, and the growth of h along them.

    recurrence: where it comes from. lead, velocity, growth: a, {variable: v_j} without those that are zero, and g, as
    Laurent polynomials {powers of all variables: coefficient}. docs/theory/diagrams.md section 7 [YGG26v2].
    """

    recurrence: Recurrence
    lead: Laurent
    velocity: Mapping[str, Laurent]
    growth: Laurent

    @property
    def autonomous(self) -> bool:
        """Whether a = 1 and nothing depends on the time."""
        powers = [e for each in (*self.velocity.values(), self.growth) for e in each]
        return dict(self.lead) == {(0,) * len(self.recurrence.variables): Fraction(1)} and all(
            e[0] == 0 for e in powers
        )

    def taylor(self, order: int, point: Sequence[Fraction], start: Mapping[Index, Fraction]) -> list[Fraction]:
        """The coefficients of t^0 .. t^order of h at `point`, exactly; for `autonomous` ones.

        point: the values of all variables but the time; start: h_0, {powers: coefficient}.
        """
        if not self.autonomous:
            raise InvalidInput("the coefficients of these curves depend on the time: take those of the recurrence")
        powers = _Powers(self.recurrence.variables[1:], point, self.velocity)
        rates = {name: powers.sum(self.velocity[name]) for name in self.velocity}
        growth, begin = powers.sum(self.growth), powers.sum({(0, *n): c for n, c in start.items()})
        powers.need(order, begin, growth, rates)
        gain, grown = [_rational(Fraction(1))], []  # exp(int g), g
        for k in range(order + 1):
            powers.extend(k)
            for name, combination in rates.items():
                if k < powers.needed[powers.word(name)]:
                    powers.push(name, powers.value(combination, k) / (k + 1))
            if growth and k < order:
                grown.append(powers.value(growth, k))
                gain.append(_dot(gain, grown) / (k + 1))
        base = [powers.value(begin, k) for k in range(order + 1)]
        found = base if not growth else [_dot(base[: k + 1], gain[: k + 1]) for k in range(order + 1)]
        return [Fraction(int(c.p), int(c.q)) for c in found]

    def at(self, times: npt.ArrayLike, values: Mapping[str, float], *, tolerance: float = 1e-11) -> Array:
        """h at `times` and at the values of the other variables, by integration along the curves.

        times: finite numbers of either sign; tolerance: relative, of the integration. Raises `InvalidInput` where a curve ends
        before it reaches the time: there h does not exist, or is another branch of it.
        """
        times = np.asarray(times, np.float64)
        point = np.array([float(values[name]) for name in self.recurrence.variables[1:]])
        found = np.empty(times.shape)
        for place, t in np.ndenumerate(times):  # each from its own end, back to t = 0
            end, gained = self._back(float(t), point, tolerance)
            found[place] = _number(self.recurrence.start, end) * math.exp(gained)
        return found

    def _back(self, t: float, point: Array, tolerance: float) -> tuple[Array, float]:
        from scipy.integrate import solve_ivp

        names = self.recurrence.variables[1:]
        moving = [names.index(name) for name in self.velocity]
        fields = [_compiled(self.velocity[name]) for name in self.velocity]
        lead, growth = _compiled(self.lead), _compiled(self.growth)

        def pace(passed: float, y: Array) -> Array:
            x = point.copy()
            x[moving] = y[:-1]
            here = np.concatenate([[t - passed], x])
            return np.array([*(field(here) for field in fields), growth(here)]) / lead(here)

        start = np.append(point[moving], 0.0)
        if t == 0:
            return point, 0.0
        run = solve_ivp(pace, (0.0, t), start, "DOP853", rtol=tolerance, atol=tolerance * 1e-3)
        if not run.success or not np.isfinite(run.y[:, -1]).all():
            raise InvalidInput(f"the curve through t = {t:g} ends before t = 0 ({run.message}); ask for nearer times")
        end = point.copy()
        end[moving] = run.y[:-1, -1]
        return end, float(run.y[-1, -1])

    def solution(self) -> Any | None:
        """h as a sympy expression of the symbols of `recurrence.to_pde().symbols`, None where no closed form is found.

        Found for curves on which at most one variable moves, by two integrals and an inverse function; what is returned
        satisfies the equation at t = 0 on the right branch, and `to_pde()` applied to it is zero.
        """
        import sympy

        names = symbols(self.recurrence)
        t, *rest = names.values()
        a, g = (spelled(each, list(names.values())) for each in (self.lead, self.growth))
        begin = spelled({(0, *n): c for n, c in self.recurrence.start.items()}, [t, *rest])
        if not self.velocity:
            gained = sympy.integrate(sympy.simplify(g / a), t)
            return sympy.simplify(begin * sympy.exp(gained - gained.subs(t, 0)))
        if len(self.velocity) > 1 or not self.autonomous:
            return None
        (name, field) = next(iter(self.velocity.items()))
        x, v = names[name], spelled(field, list(names.values()))
        end = _flowed(x, v, t, rest)
        if end is None:
            return None
        gained = sympy.integrate(sympy.simplify(g / v), x)
        factor = sympy.exp(sympy.expand_log(gained.subs(x, end) - gained, force=True))
        return sympy.simplify(begin.subs(x, end) * factor)


def characteristics(recurrence: Recurrence) -> Characteristics:
    """The curves of a recurrence whose polynomials are of degree 1. Raises `InvalidInput` for higher degrees."""
    if recurrence.degree != 1:
        raise InvalidInput(
            f"curves solve equations of first order; this one is of order {recurrence.degree}: solve it as it is, by "
            "`coefficients` or `to_pde`"
        )
    width = len(recurrence.variables)
    total: dict[int, dict[Index, Fraction]] = {j: {} for j in range(-1, width)}  # -1: the term without a derivative
    for k, P in recurrence.terms.items():
        for powers, c in P.items():
            j = powers.index(1) if any(powers) else -1
            place = tuple(-x + (i == j) - (i == 0) for i, x in enumerate(k))  # divided by the time
            total[j][place] = total[j].get(place, Fraction(0)) + c
    lead = {e: c for e, c in total[0].items() if c}
    scale = lead.get((0,) * width)
    if not scale:
        raise InvalidInput("the newest coefficient must be multiplied by s: the equation has no dh/dt at t = 0")
    others = {j: {e: -c / scale for e, c in each.items() if c} for j, each in total.items() if j}
    velocity = {recurrence.variables[j]: each for j, each in others.items() if j > 0 and each}
    return Characteristics(recurrence, {e: c / scale for e, c in lead.items()}, velocity, others[-1])


class _Powers:
    """Power series in t of products of variables, extended order by order; each product is one variable times a known one."""

    def __init__(self, names: Sequence[str], point: Sequence[Fraction], velocity: Mapping[str, Laurent]) -> None:
        self.fixed = {j: x for j, (name, x) in enumerate(zip(names, point, strict=True)) if name not in velocity}
        self.names = names
        self.needed: dict[tuple[int, ...], int] = {}
        self.places = {name: j for j, name in enumerate(names)}
        used = [0] * len(names)
        for field in velocity.values():
            for e in field:
                for j, power in enumerate(e[1:]):
                    used[j] += power
        self.often = sorted((j for j in range(len(names)) if j not in self.fixed), key=lambda j: -used[j])
        self.coefficients: dict[tuple[int, ...], list[Any]] = {
            (): [_rational(Fraction(1))], **{(j,): [_rational(point[j])] for j in self.often}
        }  # fmt: skip
        self.products: list[tuple[int, ...]] = []

    def sum(self, polynomial: Laurent) -> Sum:
        """The polynomial as (coefficient, product) pairs; the products are kept from now on."""
        found = []
        for e, c in polynomial.items():
            factor = c * math.prod((x ** e[j + 1] for j, x in self.fixed.items()), start=Fraction(1))
            word = tuple(j for j in self.often for _ in range(e[j + 1]))
            if min(e) < 0 and any(e[j + 1] < 0 for j in self.often):
                raise InvalidInput(
                    "power series need polynomials, this equation has negative powers of moving variables"
                )
            for length in range(2, len(word) + 1):
                if word[:length] not in self.coefficients:
                    self.coefficients[word[:length]] = []
                    self.products.append(word[:length])
            if factor:
                found.append((_rational(factor), word))
        return found

    def need(self, order: int, begin: Sum, growth: Sum, rates: Mapping[str, Sum]) -> None:
        """Tell the order up to which each product is needed for h up to `order`: a variable that enters late, not far."""
        self.needed = dict.fromkeys(self.coefficients, -1)
        waiting = [*((word, order) for _, word in begin), *((word, order - 1) for _, word in growth)]
        while waiting:
            word, upto = waiting.pop()
            if upto <= self.needed[word]:
                continue
            self.needed[word] = upto
            if len(word) > 1:
                waiting += [(word[:-1], upto), (word[-1:], upto)]
            elif word:
                waiting += [(other, upto - 1) for _, other in rates[self.names[word[0]]]]

    def word(self, name: str) -> tuple[int, ...]:
        """The product that is one variable."""
        return (self.places[name],)

    def extend(self, k: int) -> None:
        """The coefficient k of all products, from those of the variables."""
        if k:
            self.coefficients[()].append(_rational(Fraction(0)))
        for word in self.products:
            if k <= self.needed[word]:
                left, right = self.coefficients[word[:-1]], self.coefficients[word[-1:]]
                self.coefficients[word].append(_dot(left[: k + 1], right[: k + 1]))

    def push(self, name: str, value: Any) -> None:
        """The next coefficient of a variable."""
        self.coefficients[self.word(name)].append(value)

    def value(self, combination: Sum, k: int) -> Any:
        """The coefficient k of a sum of products."""
        total = _rational(Fraction(0))
        for c, word in combination:
            total += c * self.coefficients[word][k]
        return total


def _rational(x: Fraction) -> Any:
    from flint import fmpq

    return fmpq(x.numerator, x.denominator)


def _dot(a: Sequence[Any], b: Sequence[Any]) -> Any:
    """sum_j a_j b_(k-j), the last coefficient of a product of two series."""
    total = a[0] * b[-1]
    for x, y in zip(a[1:], b[-2::-1], strict=True):
        total += x * y
    return total


def _compiled(polynomial: Laurent) -> Any:
    if not polynomial:
        return lambda _: 0.0
    powers = np.array(list(polynomial), np.float64)
    factors = np.array([float(c) for c in polynomial.values()])

    def value(x: Array) -> float:
        return float(factors @ np.prod(x[None, :] ** powers, axis=1))

    return value


def _number(start: Mapping[Index, Fraction], point: Array) -> float:
    return float(sum(float(c) * np.prod(point ** np.array(n, np.float64)) for n, c in start.items()))


def _flowed(x: Any, v: Any, t: Any, others: Sequence[Any]) -> Any | None:
    """X(t) of dX/dt = v(X), X(0) = x, as an expression; None where it is not found."""
    import sympy

    try:
        passed = sympy.integrate(sympy.apart(1 / v, x), x)
        target = sympy.Symbol("X", positive=True)
        equation = sympy.expand_log(passed.subs(x, target) - passed, force=True) - t
        roots = sympy.solve(equation, target)
    except (NotImplementedError, sympy.PolynomialError):
        return None
    probe = {each: PROBE / (k + 1) for k, each in enumerate(others)}
    step = 1e-4
    for root in roots:
        near = complex(root.subs({**probe, t: step}).evalf())
        expected = complex((x + step * v).subs(probe).evalf())
        if abs(near - expected) < 100 * step**2 * (1 + abs(complex(v.subs(probe).evalf()))) ** 3:
            return root
    return None


__all__ = ["Characteristics", "characteristics"]
