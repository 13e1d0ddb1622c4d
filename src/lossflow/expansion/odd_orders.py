"""Symmetric decompositions of odd order: the leading monomials, and the lazy limit with its several rates."""

from __future__ import annotations

from fractions import Fraction
from math import comb, factorial, prod

from lossflow.errors import InvalidInput
from lossflow.expansion.pareto import Exponent, pareto_front, variance_power


def odd_block(order: int, squares: int, crosses: int) -> set[tuple[int, int]]:
    """{(n, q)}: the leading monomials p^q H^n of E[mergers of d squares D and r cross terms R], one matrix, odd nu.

    r >= 2: the Pareto-maximal ones of n = 1 .. d + 1 with
        q(n) = min{ 1 + (nu-1) d,  1 + (nu-1) d - (nu-1)/2 (n-1) + floor((r-2)/4) };
    r = 0: (n, q) = (1, 1 + (nu-1) d), and q = 1 + (nu-1) d - (nu-1)/2 n for n = 2 .. d; r odd: none.

    order: nu, odd; squares: d >= 0; crosses: r >= 0, d + r >= 1. Raises `InvalidInput`.
    Conjectured in docs/theory/odd_order_and_descent.md section A, proven in docs/theory/additions.md section 5.
    """
    _require_odd(order)
    if squares < 0 or crosses < 0 or squares + crosses == 0:
        raise InvalidInput(f"a block has at least one factor, got {squares} squares and {crosses} cross terms")
    top = 1 + (order - 1) * squares
    half = (order - 1) // 2
    if crosses % 2:
        return set()
    if crosses == 0:
        return {(1, top)} | {(n, top - half * n) for n in range(2, squares + 1)}
    candidates = {(n, min(top, top - half * (n - 1) + (crosses - 2) // 4)) for n in range(1, squares + 2)}
    return {(n, q) for n, q in pareto_front(candidates, (True, True))}


def odd_front(order: int, s: int, target: bool = True) -> dict[tuple[int, int], Exponent]:
    """{(n, d): exponents of p, H, sigma2} of the leading monomials of Y_s, one matrix and odd nu.

    order: nu, odd; s: the derivative; target: False for free evolution, which has no cross terms (d = s + 1).
    docs/theory/additions.md section 5.
    """
    found: dict[tuple[int, int], Exponent] = {}
    for d in range(s + 2) if target else (s + 1,):
        for n, q in odd_block(order, d, s + 1 - d):
            found[n, d] = (q, n, variance_power(order, s, d))
    return found


def lazy_rates(order: int, p: int | Fraction) -> dict[int, Fraction]:
    """{degree l: rate}: f_l(t) - F_l = exp(-rate H sigma2^(nu-1) t) (f_l(0) - F_l) on the harmonic parts of symmetric tensors.

    One matrix, odd nu, H -> inf at any p. A symmetric tensor is a sum of |u|^(nu-l) times harmonic polynomials of degree
    l = nu, nu - 2, ..., 1, on each of which the averaged kernel is a number:
        nu { nu!/(nu-l)! (nu-l-1)!! prod_{i<j} (p+nu+l+2i) - (nu-1)!/(nu-2-l)! (nu-3-l)!! prod_{i<j} (p+nu-2+l+2i) },
    j = (nu-l)/2, the second term for l < nu only. For nu = 3: 18 on traceless tensors and 3p + 24 on the trace.

    order: nu, odd; p: dimension of each index. docs/theory/additions.md section 6.
    """
    _require_odd(order)
    p, rates = Fraction(p), dict[int, Fraction]()
    for degree in range(order, 0, -2):
        j = (order - degree) // 2
        rate = Fraction(_falling(order, degree) * _odd_factorial(2 * j - 1))
        rate *= prod((p + order + degree + 2 * i for i in range(j)), start=Fraction(1))
        if j:
            inner = Fraction((order - 1) * _falling(order - 2, degree) * _odd_factorial(2 * j - 3))
            rate -= inner * prod((p + order - 2 + degree + 2 * i for i in range(j)), start=Fraction(1))
        rates[degree] = order * rate
    return rates


def lazy_weights(order: int, p: int | Fraction) -> dict[int, tuple[Fraction, Fraction]]:
    """{degree l: (|F_l|^2, E |f_l(0)|^2 / (H sigma2^nu))}: how target and start are shared among the harmonic parts.

    With `lazy_rates` they give the limit H -> inf at any p, while f(0) is small or the target is zero:
        E L = 1/2 sum_l (|F_l|^2 + E |f_l(0)|^2) exp(-2 rate_l H sigma2^(nu-1) t).
    For nu = 3: |F_l|^2 = p - 3p/(p+2) and 3p/(p+2); the start, of mean square p (p+2) (p+4), has parts p (p+4) times p - 1 and 3.
    order: nu, odd; p: dimension of each index; the target is the identity.
    docs/theory/additions.md section 6.
    """
    _require_odd(order)
    p = Fraction(p)
    length = prod((p + 2 * i for i in range(order)), start=Fraction(1))  # E |u|^(2 nu) of a row of unit variance
    # different powers e_i^nu of the target share nothing: at a right angle odd Gegenbauer polynomials vanish
    shares = {degree: _power_share(order, degree, p) for degree in range(order, 0, -2)}
    return {degree: (p * share, length * share) for degree, share in shares.items()}


def _power_share(order: int, degree: int, p: Fraction) -> Fraction:
    """|P_l e^(x nu)|^2 for a unit vector e: the share of degree l in the power of a linear form.

    (e.v)^nu = sum_l c_l |v|^nu C_l(cos),  c_l = nu!/2^nu (l + a)/(j! (a)_(j+l+1)),  a = (p-2)/2, j = (nu-l)/2, C_l of Gegenbauer;
    the part of degree l has the value c_l C_l(1) at v = e, which is its square.
    """
    j, a = (order - degree) // 2, (p - 2) / 2
    if a == 0:  # C_l / a -> (2/l) T_l of Chebyshev
        return Fraction(2 * comb(order, j), 2**order)
    rising = prod((a + i for i in range(j + degree + 1)), start=Fraction(1))
    at_one = prod((2 * a + i for i in range(degree)), start=Fraction(1)) / factorial(degree)
    return Fraction(factorial(order), 2**order * factorial(j)) * (degree + a) / rising * at_one


def _falling(n: int, k: int) -> int:
    """n (n-1) ... (n-k+1)."""
    return factorial(n) // factorial(n - k)


def _odd_factorial(n: int) -> int:
    """n!! of an odd number n >= -1."""
    return prod(range(n, 0, -2))


def _require_odd(order: int) -> None:
    if order < 3 or order % 2 == 0:
        raise InvalidInput(f"an odd order >= 3 is needed, got {order}")
