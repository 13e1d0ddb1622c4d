"""Leading monomials: the exponents that nothing dominates when sizes grow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Exponent = tuple[int, ...]


def pareto_front(exponents: Iterable[Exponent], growing: Sequence[bool]) -> set[Exponent]:
    """The exponents that are maximal in the growing variables among those equal in all others.

    exponents: tuples of integers of one length; growing: which of their entries belong to variables that go to infinity.
    For a loss these are, within each power of the variance, the monomials that no other one dominates.
    docs/theory/diagrams.md section 6 [YGG26v2].
    """
    groups: dict[Exponent, set[Exponent]] = {}
    for exponent in exponents:
        groups.setdefault(tuple(e for e, grows in zip(exponent, growing, strict=True) if not grows), set()).add(
            exponent
        )
    return {e for group in groups.values() for e in group if not any(_dominates(other, e) for other in group)}


def _dominates(other: Exponent, exponent: Exponent) -> bool:
    return other != exponent and all(a >= b for a, b in zip(other, exponent, strict=True))
