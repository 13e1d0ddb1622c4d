"""Sums of diagrams with rational coefficients and powers of sizes: how a loss is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from numbers import Real
from typing import NamedTuple

from lossflow.description import Description, Number, SizeMap, coerce, dataclass
from lossflow.diagrams.algebra import Algebra, Sum, distinct_tensors
from lossflow.diagrams.diagram import Diagram, constraint_rows
from lossflow.diagrams.tensor import Factor, Pinned, Tensor
from lossflow.errors import InvalidInput, nearest

LARGEST_POWER = 1000  # of a size in a loss: hundreds of its merged powers still fit into the digits of `algebra.DIGIT`


@dataclass(frozen=True, repr=False)
class Term(Description):
    """coefficient * prod size^power * diagram; a power may be negative, as in 1/N."""

    coefficient: Fraction
    powers: tuple[tuple[str, int], ...]
    diagram: Diagram

    def check(self) -> None:
        for name, power in self.powers:
            if not name.isidentifier():
                raise InvalidInput(f"a size must be a word such as 'p', got {name!r}")
            if abs(power) > LARGEST_POWER:
                raise InvalidInput(f"powers of sizes go from -{LARGEST_POWER} to {LARGEST_POWER}, got {name}^{power}")

    def __repr__(self) -> str:
        """The product that makes the term: Fraction(1, 2) * size('N', -1) * diagram(...)."""
        parts = [f"size({name!r})" if power == 1 else f"size({name!r}, {power})" for name, power in self.powers]
        if self.diagram.factors or self.diagram.constraints or not parts:
            parts.append(repr(self.diagram))
        if self.coefficient != 1:
            parts.insert(0, str(self.coefficient) if self.coefficient.denominator == 1 else repr(self.coefficient))
        return " * ".join(parts)


@dataclass(frozen=True, repr=False)
class DiagramPolynomial(Description):
    """sum_j c_j * (powers of sizes) * G_j  with rational c_j and diagrams G_j, always in normal form.

    Normal form: isomorphic diagrams collected, zero terms dropped, nodes named after their axes, free nodes without a
    factor written as sizes, terms sorted; so `==` means equality as sums of diagrams. Write it with `diagram` and `size`,
    +, - and *: numbers scale, the product of two polynomials is their product as functions.
    Raises `InvalidInput` when one name stands for two tensors, or for a size and a parameter.
    docs/theory/diagrams.md section 5 [YGG26v2].
    """

    terms: tuple[Term, ...]

    __array_ufunc__ = None  # numpy scalars leave the multiplication to us

    def check(self) -> None:
        _require_distinct(self.sizes, self.parameters)
        algebra = algebra_of(self)
        object.__setattr__(self, "terms", _terms(encode(self, algebra), algebra))  # however written, the same terms

    @cached_property
    def tensors(self) -> tuple[Tensor, ...]:
        """The distinct tensors, sorted by name."""
        return distinct_tensors(factor.tensor for term in self.terms for factor in term.diagram.factors)

    @property
    def sizes(self) -> tuple[str, ...]:
        """Names of the sizes: axes and powers; lower case before upper case, then alphabetical."""
        names = {axis for tensor in self.tensors for axis in tensor.axes}
        names.update(name for term in self.terms for name, _ in term.powers)
        return _ordered(names)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the variances and means that are symbols, alphabetical."""
        laws = [law for tensor in self.tensors for law in (tensor.variance, tensor.mean)]
        return tuple(sorted({law for law in laws if isinstance(law, str)}))

    @cached_property
    def least_sizes(self) -> Mapping[str, int]:
        """The least size that makes sense for each axis: 1, or the largest pinned value on it."""
        least = {axis: 1 for tensor in self.tensors for axis in tensor.axes}
        for term in self.terms:
            for factor in term.diagram.factors:
                for node, axis in zip(factor.nodes, factor.tensor.axes, strict=True):
                    if isinstance(node, Pinned):
                        least[axis] = max(least[axis], node.value)
        return least

    def require(self, sizes: Mapping[str, float]) -> SizeMap:
        """`sizes` if it gives exactly the sizes and parameters of this polynomial, with values that make sense.

        Sizes of axes: whole numbers >= 1, and >= every pinned value on the axis. Other sizes: numbers > 0.
        Parameters: finite numbers >= 0. Raises `InvalidInput`.
        """
        given = SizeMap(sizes)
        needed = (*self.sizes, *self.parameters)
        for name in given:
            if name not in needed:
                raise InvalidInput(f"there is no size {name!r}; {nearest(name, needed)}")
        missing = [name for name in needed if name not in given]
        if missing:
            raise InvalidInput(f"missing {', '.join(map(repr, missing))}; needed: {', '.join(needed)}")
        least = self.least_sizes
        for name in self.sizes:
            value = given[name]
            if name in least and not (value.is_integer() and value >= least[name]):
                raise InvalidInput(f"size {name!r} must be a whole number >= {least[name]}, got {value:g}")
            if value == 0:
                raise InvalidInput(f"size {name!r} must be > 0, got 0")
        return given

    def __add__(self, other: DiagramPolynomial) -> DiagramPolynomial:
        if not isinstance(other, DiagramPolynomial):
            return NotImplemented
        return DiagramPolynomial(self.terms + other.terms)

    def __neg__(self) -> DiagramPolynomial:
        return self * -1

    def __sub__(self, other: DiagramPolynomial) -> DiagramPolynomial:
        if not isinstance(other, DiagramPolynomial):
            return NotImplemented
        return self + -other

    def __mul__(self, other: DiagramPolynomial | Number) -> DiagramPolynomial:
        if isinstance(other, DiagramPolynomial):
            return DiagramPolynomial(tuple(_product(a, b) for a in self.terms for b in other.terms))
        if not isinstance(other, Real) or isinstance(other, bool):
            return NotImplemented
        factor = coerce(other, Fraction, "a coefficient")
        return DiagramPolynomial(
            tuple(Term(term.coefficient * factor, term.powers, term.diagram) for term in self.terms)
        )

    def __rmul__(self, other: Number) -> DiagramPolynomial:
        return self * other

    def __repr__(self) -> str:
        """The expression that makes the polynomial, from `diagram`, `size`, `Tensor`, `pin` and `Fraction`."""
        if not self.terms:
            return "0 * diagram()"
        text = repr(self.terms[0])
        for term in self.terms[1:]:
            sign = "-" if term.coefficient < 0 else "+"
            text += f" {sign} {Term(abs(term.coefficient), term.powers, term.diagram)!r}"
        return text


def diagram(*factors: Factor, constraints: Sequence[Mapping[str, int]] = ()) -> DiagramPolynomial:
    """sum over the values of all nodes of the product of the factors: diagram(u("k", "i"), u("k", "j")).

    Nodes of one name are one node; `pin(value)` fixes a node. constraints: {node: c, ...} each says
    sum_j c_j * node_j = 0  modulo the size of the axis, values counted from 0. No factors: the number 1.
    Raises `InvalidInput`. docs/theory/diagrams.md sections 2 and 5 [YGG26v2].
    """
    return DiagramPolynomial((Term(Fraction(1), (), Diagram(factors, constraint_rows(constraints))),))


def size(name: str, power: int = 1) -> DiagramPolynomial:
    """The number of values of the axis `name`, to a whole power: size("N", -1) is 1/N. Raises `InvalidInput`."""
    name, power = coerce(name, str, "the name of a size"), coerce(power, int, f"the power of size {name!r}")
    return DiagramPolynomial((Term(Fraction(1), ((name, power),), Diagram(())),))


def merge(left: DiagramPolynomial, right: DiagramPolynomial) -> DiagramPolynomial:
    """left * right = sum over learned tensors u of <d left/du, d right/du>, the merger of [YGG26v2].

    Contracts every factor of `left` with every factor of `right` of the same learned tensor: both go, and their nodes are
    identified slot by slot. Free with pinned gives pinned, two different pinned values give 0, constraints are kept.
    Bilinear and commutative, not associative. Along du/dt = -dL/du every polynomial G obeys dG/dt = -merge(G, L).
    docs/theory/diagrams.md sections 3 and 5 [YGG26v2].
    """
    algebra = algebra_of(left, right)
    return DiagramPolynomial(_terms(algebra.merge(encode(left, algebra), encode(right, algebra)), algebra))


class Names(NamedTuple):
    """What a polynomial in sizes is written in: sizes and parameters in their order, and the least value of each axis."""

    sizes: tuple[str, ...]
    parameters: tuple[str, ...]
    least_sizes: Mapping[str, int]


def names_of(*polynomials: DiagramPolynomial) -> Names:
    """All names that occur in any of the polynomials. Raises `InvalidInput` if one is a size here and a parameter there."""
    sizes = {name for polynomial in polynomials for name in polynomial.sizes}
    parameters = {name for polynomial in polynomials for name in polynomial.parameters}
    _require_distinct(sizes, parameters)
    least: dict[str, int] = {}
    for polynomial in polynomials:
        for axis, value in polynomial.least_sizes.items():
            least[axis] = max(value, least.get(axis, 1))
    return Names(_ordered(sizes), tuple(sorted(parameters)), least)


def algebra_of(*polynomials: DiagramPolynomial, interchangeable: Sequence[Sequence[int]] = ()) -> Algebra:
    """The algebra in which all these polynomials can be written."""
    terms = [term for polynomial in polynomials for term in polynomial.terms]
    sizes = {name for term in terms for name, _ in term.powers}
    return Algebra([term.diagram for term in terms], sizes, interchangeable)


def encode(polynomial: DiagramPolynomial, algebra: Algebra) -> Sum:
    """The polynomial in the inner form, isomorphic diagrams collected."""
    found: Sum = {}
    for term in polynomial.terms:
        monomial, code = algebra.encode(term.diagram)
        key = (monomial + algebra.monomial(term.powers), code)
        found[key] = found.get(key, Fraction(0)) + term.coefficient
    return {key: coefficient for key, coefficient in found.items() if coefficient}


def _terms(sum_: Sum, algebra: Algebra) -> tuple[Term, ...]:
    """Back from the inner form; diagrams with more factors first."""
    parts = [(code, algebra.powers(monomial), coefficient) for (monomial, code), coefficient in sum_.items()]
    parts.sort(key=lambda part: (-len(part[0][1]), part))
    return tuple(Term(coefficient, powers, algebra.decode(code)) for code, powers, coefficient in parts)


def _ordered(sizes: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(sizes, key=lambda name: (not name[0].islower(), name)))


def _require_distinct(sizes: Iterable[str], parameters: Iterable[str]) -> None:
    clash = sorted(set(sizes) & set(parameters))
    if clash:
        raise InvalidInput(f"{clash[0]!r} is both a size and a parameter of a tensor; rename one")


def _multiply(*powers: Iterable[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    sums: dict[str, int] = {}
    for product in powers:
        for name, power in product:
            sums[name] = sums.get(name, 0) + power
    return tuple((name, sums[name]) for name in sorted(sums) if sums[name])


def _product(left: Term, right: Term) -> Term:
    """Disjoint union: the nodes of the two diagrams get different names."""
    factors: list[Factor] = []
    constraints: list[tuple[tuple[str | Pinned, int], ...]] = []
    for side, diagram_ in (("a", left.diagram), ("b", right.diagram)):

        def renamed(node: str | Pinned, side: str = side) -> str | Pinned:
            return f"{side} {node}" if isinstance(node, str) else node

        factors += [Factor(f.tensor, tuple(map(renamed, f.nodes))) for f in diagram_.factors]
        constraints += [tuple((renamed(node), c) for node, c in row) for row in diagram_.constraints]
    return Term(
        left.coefficient * right.coefficient,
        _multiply(left.powers, right.powers),
        Diagram(tuple(factors), tuple(constraints)),
    )
