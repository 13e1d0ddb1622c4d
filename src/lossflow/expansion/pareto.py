"""Leading monomials: the exponents that nothing dominates when sizes grow, and what the theorem says they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lossflow.errors import InvalidInput

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


def identity_front(order: int, symmetric: bool, s: int) -> dict[tuple[int, int], Exponent]:
    """p^Q(n, d) H^n sigma^(nu (d + 1) + (nu - 2) s),  {(n, d): exponents of p, H, sigma2}: the leading monomials of Y_s.

    Q = 1 + (nu - 1) d - (nu/2)(n - 1) for one matrix in all slots and even nu; Q = 1 + (nu - 1)(d + 1 - n) for nu matrices.
    Here d = 0 .. s + 1 is the number of squares D, and 1 <= n <= d + 1. With nu matrices those with s + 1 - d odd are
    absent, and (n, d) = (s + 2, s + 1). The constant p/2 of s = 0 is extra.
    order: nu >= 2, even if symmetric; symmetric: one matrix or nu; s: the derivative, >= 0; the target is the identity.
    docs/theory/diagrams.md section 6 [YGG26v2].
    """
    if symmetric and order % 2:
        raise InvalidInput(f"the theorem on symmetric fronts is about even orders, got {order}; see `odd_front`")
    found: dict[tuple[int, int], Exponent] = {}
    for d in range(s + 2):
        for n in range(1, d + 2):
            if not symmetric and ((s + 1 - d) % 2 or n == s + 2):
                continue
            q = 1 + (order - 1) * d - order // 2 * (n - 1) if symmetric else 1 + (order - 1) * (d + 1 - n)
            found[n, d] = (q, n, variance_power(order, s, d))
    return found


def identity_vertices(symmetric: bool, s: int) -> dict[str, tuple[int, int]]:
    """{letter: (n, d)} of the vertices of the polygon of `identity_front`, around it; some may be one point at small s.

    symmetric: one matrix (even nu) or nu; s: the derivative, >= 0. docs/theory/diagrams.md section 6 [YGG26v2].
    """
    if symmetric:
        return {"A": (1, s + 1), "B": (s + 2, s + 1), "E": (1, 0)}
    least = 1 - s % 2
    return {"A": (1, s + 1), "B": (s + 1, s + 1), "C": (s, s - 1), "D": (least + 1, least), "E": (1, least)}


def variance_power(order: int, s: int, d: int) -> int:
    """Half the number of edges, nu (d + 1) + (nu - 2) s, of d squares D and s + 1 - d cross terms R merged: the power of sigma2.

    order: nu; s: the derivative; d: the number of D among the s + 1 factors. docs/theory/diagrams.md section 3 [YGG26v2].
    """
    return (order * (d + 1) + (order - 2) * s) // 2


def _dominates(other: Exponent, exponent: Exponent) -> bool:
    return other != exponent and all(a >= b for a, b in zip(other, exponent, strict=True))
