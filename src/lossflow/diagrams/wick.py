"""Exact means of diagram polynomials over Gaussian tensors, and the power series of a loss under gradient flow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from math import prod

from lossflow.description import Number
from lossflow.diagrams.algebra import DIGIT, Algebra, Sum, count_alike, exponents
from lossflow.diagrams.canonical import Code, Edge, twins
from lossflow.diagrams.lattice import divisors, hermite
from lossflow.diagrams.polynomial import DiagramPolynomial, Names, algebra_of, encode, names_of
from lossflow.diagrams.tensor import Tensor
from lossflow.errors import InvalidInput, nearest

Integers = dict[int, int]  # {monomial in the sizes and in the numbers of unpaired factors: count}
Law = tuple[str | Number, str | Number]  # (variance, mean)
Condition = tuple[int, str, int]  # (size, "coprime", prime) or (size, "least", value)


@dataclass(frozen=True)
class SizePolynomial:
    """sum over exponents e of  terms[e] prod_k variables[k]^e[k],  with rational coefficients; exponents may be negative.

    variables: sizes (lower case before upper case, then alphabetical), then symbolic variances and means (alphabetical).
    assumptions: where it holds, such as "p odd" or "p >= 2"; empty where it holds for all sizes >= 1.
    """

    variables: tuple[str, ...]
    terms: Mapping[tuple[int, ...], Fraction]
    assumptions: tuple[str, ...] = ()

    def at(self, values: Mapping[str, Number]) -> Fraction:
        """The exact value at whole or rational `values` of all variables. Raises `InvalidInput` for unknown or missing ones."""
        for name in values:
            if name not in self.variables:
                raise InvalidInput(f"there is no variable {name!r}; {nearest(name, self.variables)}")
        missing = [name for name in self.variables if name not in values]
        if missing:
            raise InvalidInput(f"missing {', '.join(map(repr, missing))}; needed: {', '.join(self.variables)}")
        point = [Fraction(values[name]) for name in self.variables]
        return sum(
            (c * prod(x**e for x, e in zip(point, powers, strict=True)) for powers, c in self.terms.items()),
            Fraction(0),
        )


def mean(polynomial: DiagramPolynomial) -> SizePolynomial:
    """E[polynomial] over all tensors, learned and frozen, with independent N(mean, variance) entries: exact in all sizes.

    Wick: sum over the ways to pair factors of one tensor or leave them single (factor `mean`); a pair gives a factor
    `variance` and identifies its nodes slot by slot. What remains is worth prod of sizes times the number of solutions
    of the constraints, p^(q-r) prod_j gcd(d_j, p), which is a polynomial for p coprime to the divisors d_j > 1; this and
    the least size that pinned values need are reported as `assumptions`.

    Pairings are not enumerated: one factor is contracted with every other, isomorphic results are collected and remembered.
    docs/theory/diagrams.md sections 4 and 5 [YGG26v2].
    """
    tensors = algebra_of(polynomial).tensors
    algebra = algebra_of(polynomial, interchangeable=equal_laws(tensors))
    return Expectation(algebra, names_of(polynomial)).of(encode(polynomial, algebra))


def derivatives(potential: DiagramPolynomial, observable: DiagramPolynomial | None = None) -> Iterator[SizePolynomial]:
    """Y_s = E[d^s G/dt^s] at t = 0 under du/dt = -dV/du, for s = 0, 1, 2, ...:  Y_s = (-1)^s E[(((G * V) * V) ...) * V].

    potential: V, what the learned tensors descend; observable: G, by default the potential itself. `*` is the `merge`.
    The polynomials are in all sizes and parameters that occur in either of the two. Tensors that the potential treats alike
    are not told apart. Without end; each step costs several times more than the one before.
    Raises `InvalidInput` when one name stands for two tensors, or for a size and a parameter.
    docs/theory/diagrams.md sections 1 and 3 [YGG26v2].
    """
    from lossflow.diagrams.derivatives import Derivatives

    return Derivatives(potential, observable)


class Expectation:
    """Means of the diagrams of one algebra, with one memory, as polynomials in given sizes and parameters."""

    def __init__(self, algebra: Algebra, names: Names) -> None:
        self.algebra = algebra
        self.names = names
        self.memory: dict[Code, Integers] = {}
        self.conditions: dict[Code, frozenset[Condition]] = {}  # without entry: none
        laws = [(tensor.variance, tensor.mean) for tensor in algebra.tensors]
        # one count of single factors for each law, not for each tensor: interchangeable tensors get renamed on the way
        self.unpaired = list(dict.fromkeys(law for law in laws if law[1] != 0))
        self.single = {
            color: 1 << DIGIT * (len(algebra.sizes) + self.unpaired.index(law))
            for color, law in enumerate(laws)
            if law[1] != 0
        }

    def of(self, sum_: Sum, sign: int = 1) -> SizePolynomial:
        """The mean of a sum of diagrams, times `sign`."""
        means: list[tuple[Counter[Law], dict[int, Fraction]]] = []
        conditions: set[Condition] = set()
        for (scale, code), weight in sum_.items():
            mean = self.mean(code)
            means.append((self.laws(code), {scale + monomial: weight * count for monomial, count in mean.items()}))
            conditions |= self.conditions.get(code, frozenset())
        return self.collected(means, sign, conditions)

    def collected(
        self,
        means: Iterable[tuple[Counter[Law], dict[int, Fraction]]],
        sign: int = 1,
        conditions: Collection[Condition] = (),
    ) -> SizePolynomial:
        """The sum of means, each given by how many factors of each law there were and what `mean` knows."""
        variables = (*self.names.sizes, *self.names.parameters)
        terms: dict[tuple[int, ...], Fraction] = {}
        for factors, mean in means:
            for monomial, count in mean.items():
                value, symbols = self.law(factors, monomial)
                for name, power in self.algebra.powers(monomial):
                    symbols[name] += power
                key = tuple(symbols[name] for name in variables)
                terms[key] = terms.get(key, Fraction(0)) + sign * count * value
        return SizePolynomial(
            variables, {key: terms[key] for key in sorted(terms) if terms[key]}, self.assumptions(conditions)
        )

    def laws(self, code: Code) -> Counter[Law]:
        """How many factors of each law a diagram has."""
        tensors = [self.algebra.tensors[edge[0]] for edge in code[1]]
        return Counter((tensor.variance, tensor.mean) for tensor in tensors)

    def law(self, factors: Counter[Law], monomial: int) -> tuple[Fraction, Counter[str]]:
        """What the entries contribute: variance^pairs mean^singles for each law, as a number and powers of symbols."""
        value, symbols = Fraction(1), Counter[str]()
        digits = list(islice(exponents(monomial), len(self.algebra.sizes) + len(self.unpaired)))
        singles = dict(zip(self.unpaired, digits[len(self.algebra.sizes) :], strict=True))
        for law, count in factors.items():
            single = singles.get(law, 0)
            for entry, power in zip(law, ((count - single) // 2, single), strict=True):
                if isinstance(entry, str):
                    symbols[entry] += power
                else:
                    value *= Fraction(entry) ** power
        return value, symbols

    def mean(self, code: Code) -> Integers:
        """The mean of one diagram without its variances and means, which `law` knows from the counts of singles."""
        counts = Counter(edge[0] for edge in code[1])
        if any(count % 2 and color not in self.single for color, count in counts.items()):
            return {}
        return self.contracted(code)

    def contracted(self, code: Code) -> Integers:
        if not code[1]:
            return self.solutions(code)
        known = self.memory.get(code)
        if known is not None:
            return known
        total: Integers = {}
        conditions: set[Condition] = set()
        for times, monomial, child in self.contractions(code):
            for power, count in self.contracted(child).items():
                total[monomial + power] = total.get(monomial + power, 0) + times * count
            if child in self.conditions:
                conditions |= self.conditions[child]
        if conditions:
            self.conditions[code] = frozenset(conditions)
        self.memory[code] = total
        return total

    def contractions(self, code: Code) -> Iterator[tuple[int, int, Code]]:
        """One edge left single, and paired with each other edge of its color: (number of equal ways, monomial, diagram)."""
        kinds, edges, rows = code
        first = _easiest(edges)
        rest = list(edges)
        rest.remove(first)
        if first[0] in self.single:
            child = self.algebra.contract(kinds, rest, rows, ())
            if child is not None:
                yield 1, self.single[first[0]] + child[0], child[1]
        if self.algebra.tensors[first[0]].variance == 0:
            return
        marked = list(kinds)
        for node in first[1:]:
            marked[node] = -1 - node  # about to be identified: nothing is its twin
        leaders = twins(marked, rest, rows)
        for other, times in count_alike([edge for edge in rest if edge[0] == first[0]], leaders):
            left = list(rest)
            left.remove(other)
            child = self.algebra.contract(kinds, left, rows, zip(first[1:], other[1:], strict=True))
            if child is not None:
                yield times, *child

    def solutions(self, code: Code) -> Integers:
        """The number of solutions of relations among nodes without edges, p^(q-r) prod_j gcd(d_j, p) per axis, all gcd = 1.

        A relation "t = 0 mod p" among pinned values alone, t > 0, has none for p > t.
        """
        kinds, _, rows = code
        monomial, conditions = 0, set[Condition]()
        solvable = True
        for axis in range(len(self.algebra.sizes)):
            kind = axis * self.algebra.base
            free = [node for node, other in enumerate(kinds) if other == kind]
            pinned = [node for node, other in enumerate(kinds) if other // self.algebra.base == axis and other != kind]
            found = divisors([[row[node] for node in free] for row in rows])
            monomial += len(free) - len(found) << DIGIT * axis
            conditions |= {(axis, "coprime", prime) for d in found for prime in _primes(d)}
            for row in hermite([[row[node] for node in free + pinned] for row in rows]):
                if not any(row[: len(free)]):
                    solvable = False
                    conditions.add((axis, "least", 1 + sum(row)))
        if conditions:
            self.conditions[code] = frozenset(conditions)
        return {monomial: 1} if solvable else {}

    def assumptions(self, conditions: Collection[Condition]) -> tuple[str, ...]:
        """Where the polynomial holds, in words."""
        found: list[str] = []
        for name in self.names.sizes:
            mine = [(what, value) for axis, what, value in conditions if self.algebra.sizes[axis] == name]
            least = max([self.names.least_sizes.get(name, 1), *(value for what, value in mine if what == "least")])
            divisor = prod(value for what, value in mine if what == "coprime")
            if least > 1:
                found.append(f"{name} >= {least}")
            if divisor > 1:
                found.append(f"{name} odd" if divisor == 2 else f"{name} coprime to {divisor}")
        return tuple(found)


def _easiest(edges: Sequence[Edge]) -> Edge:
    """An edge of the rarest color, where fewest edges meet: finishing one tensor after the other keeps the classes few."""
    degree = Counter(node for edge in edges for node in edge[1:])
    count = Counter(edge[0] for edge in edges)
    return min(edges, key=lambda edge: (count[edge[0]], sum(degree[node] for node in edge[1:]), edge))


def equal_laws(tensors: Sequence[Tensor]) -> list[tuple[int, ...]]:
    """Groups of tensors whose entries are distributed alike: a mean does not tell them apart."""
    groups: dict[object, list[int]] = {}
    for color, tensor in enumerate(tensors):
        groups.setdefault((tensor.axes, tensor.variance, tensor.mean), []).append(color)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _primes(number: int) -> Iterator[int]:
    prime = 2
    while number > 1:
        if number % prime == 0:
            yield prime
        while number % prime == 0:
            number //= prime
        prime += 1
