"""The slow road: diagram polynomials as explicit polynomials in all tensor entries, at given whole sizes.

Independent of the engine: node values are enumerated, gradients are partial derivatives, Gaussian moments are tabulated.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from math import comb, gcd

from lossflow.diagrams.polynomial import DiagramPolynomial
from lossflow.diagrams.tensor import Pinned, Tensor
from lossflow.diagrams.wick import SizePolynomial

Entry = tuple[Tensor, tuple[int, ...]]
Monomial = frozenset[tuple[Entry, int]]  # {(entry, power > 0)}
Explicit = dict[Monomial, Fraction]


def expand(polynomial: DiagramPolynomial, sizes: Mapping[str, int]) -> Explicit:
    """The polynomial in the entries that a sum of diagrams is at these sizes."""
    found: Explicit = {}
    for term in polynomial.terms:
        coefficient = term.coefficient
        for name, power in term.powers:
            coefficient *= Fraction(sizes[name]) ** power
        axes = term.diagram.axes
        for values in itertools.product(*(range(sizes[axis]) for axis in axes.values())):
            value = dict(zip(axes, values, strict=True))

            def at(node: str | Pinned, value: dict[str, int] = value) -> int:
                return node.value - 1 if isinstance(node, Pinned) else value[node]

            relations = [
                (sum(c * at(node) for node, c in row), sizes[next(axes[n] for n, _ in row if isinstance(n, str))])
                for row in term.diagram.constraints
            ]
            if any(total % modulus for total, modulus in relations):
                continue
            entries = Counter((f.tensor, tuple(map(at, f.nodes))) for f in term.diagram.factors)
            add(found, frozenset(entries.items()), coefficient)
    return cleaned(found)


def gradient_product(left: Explicit, right: Explicit) -> Explicit:
    """sum over learned entries of  d left/d entry * d right/d entry."""
    found: Explicit = {}
    for m, a in left.items():
        for n, b in right.items():
            powers, others = dict(m), dict(n)
            for entry in powers.keys() & others.keys():
                if entry[0].learned:
                    total = Counter(powers)
                    total.update(others)
                    total[entry] -= 2
                    monomial = frozenset((e, k) for e, k in total.items() if k)
                    add(found, monomial, a * b * powers[entry] * others[entry])
    return cleaned(found)


def gaussian_mean(polynomial: Explicit, parameters: Mapping[str, Fraction]) -> Fraction:
    """E over independent entries N(mean, variance), moment by moment."""

    def number(law: str | int | Fraction) -> Fraction:
        return Fraction(parameters[law] if isinstance(law, str) else law)

    total = Fraction(0)
    for monomial, coefficient in polynomial.items():
        for (tensor, _), power in monomial:
            coefficient *= moment(power, number(tensor.mean), number(tensor.variance))
        total += coefficient
    return total


def moment(power: int, mean: Fraction, variance: Fraction) -> Fraction:
    """E x^power for x ~ N(mean, variance)."""
    central = [Fraction(1), Fraction(0)]
    for n in range(2, power + 1):
        central.append((n - 1) * variance * central[n - 2])
    return sum((comb(power, n) * mean ** (power - n) * central[n] for n in range(power + 1)), Fraction(0))


def holds_at(result: SizePolynomial, sizes: dict[str, int]) -> bool:
    """Whether the stated assumptions admit these sizes."""
    for assumption in result.assumptions:
        match assumption.split():
            case [name, "odd"]:
                fine = sizes[name] % 2 == 1
            case [name, "coprime", "to", divisor]:
                fine = gcd(sizes[name], int(divisor)) == 1
            case [name, ">=", least]:
                fine = sizes[name] >= int(least)
            case _:
                raise AssertionError(f"not a known assumption: {assumption}")
        if not fine:
            return False
    return True


def add(polynomial: Explicit, monomial: Monomial, coefficient: Fraction) -> None:
    polynomial[monomial] = polynomial.get(monomial, Fraction(0)) + coefficient


def cleaned(polynomial: Explicit) -> Explicit:
    """Without zero terms and without factors that are constantly one, so that equal functions are equal dictionaries."""
    found: Explicit = {}
    for monomial, coefficient in polynomial.items():
        kept = frozenset((entry, k) for entry, k in monomial if not is_one(entry[0]))
        add(found, kept, coefficient)
    return {monomial: coefficient for monomial, coefficient in found.items() if coefficient}


def is_one(tensor: Tensor) -> bool:
    """A frozen tensor without variance and with mean 1 is the number one."""
    return not tensor.learned and tensor.variance == 0 and tensor.mean == 1
