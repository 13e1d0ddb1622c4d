"""The large-size limit of symmetric order 2 in closed form: every regime, every time, every multiple of the identity.

    L = 1/2 ||U^T U - c||^2,   dU/dt = -dL/dU,   U: H x p with entries N(0, sigma2)

Each eigenvalue of W = U^T U evolves alone,  dlam/dt = -4 lam (lam - c),  so that with tau = (e^{4ct} - 1)/c (4t if c = 0)

    lam(t) - c = (lam - c) / (1 + tau lam),   E L = p/2 * average of (lam(t) - c)^2 over the Marchenko-Pastur law of lam.

The residual has one pole, which makes the average algebraic. With n = max(p, H), m = min(p, H), N = n sigma2, M = m sigma2:

    h+ = 1 + N tau/h-,   h- = 1 + M tau/h+,   h+ + h- = 1 + D,   D^2 = (1 + a tau)(1 + b tau),   a, b = (sqrt N -+ sqrt M)^2,
    E L = (p - m) c^2/2 + (m/2) [ (c - N/h-^2)^2 h-/(h+ D) + N M/(h+ h-)^2 ].

All terms are positive: unlike the form with Psi(x, y, z), nothing cancels when the loss is tiny or close to its end.
docs/theory/diagrams.md section 9 [YGG26v2]; this form, the next order and the hard edge: docs/theory/additions.md.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.errors import InvalidInput

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

FORMULA = (
    r"\mathbb{E}\,L = \frac{(p-m)\,c^2}{2} + \frac{m}{2}\left[\frac{h_-}{h_+\Delta}\left(c-\frac{N}{h_-^2}\right)^2"
    r" + \frac{NM}{(h_+h_-)^2}\right],\qquad h_\pm = \frac{1\pm(N-M)\tau+\Delta}{2},"
    r"\quad \Delta^2 = \left(1+(N+M)\tau\right)^2-4NM\tau^2,\quad \tau = \frac{e^{4ct}-1}{c},"
    r"\quad N = \sigma^2\max(p,H),\quad M = \sigma^2 m,\quad m = \min(p,H)"
)
"""LaTeX of the limit; c is the scale of the target, tau = 4t for c = 0."""

LARGEST = 1e60  # of eigenvalues and target, which are 0 or at least 1/LARGEST: squares and quotients are floats
VANISHED = 1e300  # of N tau: by then the excess is below 1e-150 of its beginning, and is returned as zero
HARD_EDGE = 1024  # |p - H| up to which the smallest eigenvalues are treated exactly; it changes 4/|p - H| of their part
SECOND_ORDER = 0.3  # size of the order after the next, in units of (terms of the next order) / sqrt(p H)
EDGE_ACCURACY = 0.005  # of the weights of the hard edge, and of 4/|p - H| where they are not used


def loss(times: npt.ArrayLike, p: float, H: float, sigma2: float, target_scale: float = 1.0) -> Array:
    """E L(t) to leading order in large p and H, the formula on top of this module.

    times: finite numbers of any shape, in the unit of dU/dt = -dL/dU; negative times are ascent. p, H: whole numbers >= 1.
    sigma2 >= 0. target_scale: the number c; zero is free evolution, a negative c drives all weights to zero.
    Returns an array of the shape of `times`. NaN at and before `blow_up_time`, where the limit does not exist.
    Relative error below 1e-12 for |c t| <= 50 and sizes up to 1e6, however small the loss; close to the blow-up, the distance
    to it is known as well as t is. Raises `InvalidInput`.
    docs/theory/diagrams.md section 9 [YGG26v2].
    """
    return end_value(p, H, target_scale) + excess(times, p, H, sigma2, target_scale)


def excess(times: npt.ArrayLike, p: float, H: float, sigma2: float, target_scale: float = 1.0) -> Array:
    """E L(t) - E L(inf), to full relative accuracy where the difference of the two losses has none; positive.

    Arguments and errors as for `loss`. For c > 0 it decays like e^{-8ct} if p != H, and like
    (p/4) c^{5/2} (p sigma2)^{-1/2} e^{-2ct} if p = H; for c = 0 like m/(32 t^2); for c < 0 like e^{-4|c|t}.
    Once N tau exceeds 1e300 it is below 1e-150 of its beginning and is returned as zero.
    docs/theory/diagrams.md section 9 [YGG26v2].
    """
    times, start = _checked(times, p, H, sigma2, target_scale)
    N, M, c = start.N, start.M, start.c
    z, root, plus, minus = _evolved(times, start)
    if c > 0:
        mean = (c - N / minus**2) ** 2 * (minus / plus) / root + (math.sqrt(N * M) / (plus * minus)) ** 2
    else:  # the mean of lam(t) (lam(t) + 2|c|), in terms that are positive again
        growth = _growth_over(np.ones(times.shape), times, z, start)
        mean = N * growth / (plus * minus) * (2 * abs(c) + growth * (M / plus + N / minus) / root)
    return np.where(z < VANISHED, start.m / 2 * mean, 0.0 * z)


def end_value(p: float, H: float, target_scale: float = 1.0) -> float:
    """E L(inf) = c^2 max(p - H, 0)/2 for c > 0, the directions that H rows cannot fill; c^2 p/2 for c <= 0.

    (With sigma2 = 0 the flow stays at the saddle U = 0, where L = c^2 p/2; `excess` accounts for it.)
    """
    return target_scale**2 / 2 * (max(p - H, 0.0) if target_scale > 0 else p)


def blow_up_time(p: float, H: float, sigma2: float, target_scale: float = 1.0) -> float | None:
    """t = log(1 - c/b) / (4c) < 0 (-1/(4b) if c = 0), where ascent drives the upper edge b of the spectrum to infinity.

    b = sigma2 (sqrt(p) + sqrt(H))^2. None when b <= max(c, 0): then nothing blows up, the ascent ends at the saddle U = 0.
    At finite size the largest eigenvalue, b (1 + O(p^{-2/3})), blows up instead of the edge.
    Arguments and errors as for `loss`. docs/theory/diagrams.md section 9 [YGG26v2].
    """
    return _checked(0.0, p, H, sigma2, target_scale)[1].blow_up


def next_order(times: npt.ArrayLike, p: float, H: float, sigma2: float, target_scale: float = 1.0) -> Array:
    """The next term of E L in 1/p, of order p^0:  (F(a) + F(b))/4 - (1/2 pi) int_a^b F(x) dx / sqrt((x - a)(b - x)).

    F(x) = (x - c)^2 / (2 (1 + tau x)^2), the loss of an eigenvalue that began at x: the mean correction of linear statistics of
    real Wishart matrices, to which the atom at zero contributes nothing. With B = 1 + (N + M) tau and q = e^{4ct}/D^2

        next order = N M q (q (2B + D) - 2) / (B + D),       tau, N, M, D as on top of this module.

    Arguments and errors as for `loss`; NaN where the limit does not exist. It has a sign, and vanishes at some times.
    It is no estimate of the gap where |p - H| is of order one and e^{-4ct} <~ sigma2 c/p, so that the loss lives on the spacing
    of the smallest eigenvalues: for p = H it tends to c^2/8 while loss and gap vanish, for p = H +- 1, 2, 3 the gap outgrows it
    without bound (E tr W^-2 is infinite). Use `neglected` there. In ascent E L is infinite at any finite size, since an
    eigenvalue may be arbitrarily large; the term then corrects a typical run, as long as the blow-up is not near.
    docs/theory/diagrams.md section 9 [YGG26v2].
    """
    times, start = _checked(times, p, H, sigma2, target_scale)
    z, root, _, _ = _evolved(times, start)
    middle = 1 + z * (1 + start.m / start.n)
    q = _growth_over(root, times, z, start) / root
    return start.N * q * (start.M * q * (1 + middle / (middle + root)) - 2 * start.M / (middle + root))


def neglected(times: npt.ArrayLike, p: float, H: float, sigma2: float, target_scale: float = 1.0) -> Array:
    """|E L at finite size - `loss`|, estimated at all times and all sizes down to p = H = 1; positive.

    The next order in 1/p with the smallest eigenvalues treated exactly: instead of F(a)/4, which is right for a soft lower edge,
    it holds the integral of F against rho(xi) - sqrt(1 - nu^2/xi^2)/pi, where nu = |p - H|, xi^2 = b x/sigma2^2, and

        rho(xi) = (xi/2) [J_nu^2 - J_{nu+1} J_{nu-1}] + (J_nu/2) [1 - int_0^xi J_nu]

    is the density of the smallest eigenvalues of real Wishart matrices. Beside it stands in quadrature the size of the order
    after it, which matters where the next order changes sign, and on top of both the rounding of the loss.
    Against exact means at finite size (min(p, H) = 1 ... 192, max up to 1100, p sigma2 = 1e-3 ... 3e3, c = 1, 0, -0.6, t >= 0)
    the gap is at most 1.1 times the estimate; for sizes >= 16 it is 0.8 to 1.01 times the estimate in nine tenths of all cases,
    and far below it only where the gap changes sign. For p or H of a few, the estimate may be several times too large.
    Arguments, errors and the meaning in ascent as for `next_order`. docs/theory/diagrams.md section 9 [YGG26v2].
    """
    times, start = _checked(times, p, H, sigma2, target_scale)
    rounding = 4 * np.finfo(np.float64).eps * loss(times, p, H, sigma2, target_scale)
    if start.N == 0:
        return rounding
    estimate, descending = np.empty(times.shape), times > 0
    estimate[descending] = _size_of_next_order(times[descending], start, hard_edge=start.n - start.m <= HARD_EDGE)
    estimate[~descending] = _size_of_next_order(times[~descending], start, hard_edge=False)
    return estimate + rounding


class _Start(NamedTuple):
    """The spectrum at t = 0, symmetric in p and H, and the target: n >= m, N = n sigma2, M = m sigma2, c."""

    n: float
    m: float
    N: float
    M: float
    c: float

    @property
    def narrowness(self) -> tuple[float, float]:
        """(a, b)/N = (1 -+ sqrt(m/n))^2, the smaller one without cancellation."""
        root = math.sqrt(self.m / self.n)
        return ((self.n - self.m) / self.n / (1 + root)) ** 2, (1 + root) ** 2

    @property
    def blow_up(self) -> float | None:
        upper, c = self.N * self.narrowness[1], self.c
        if upper <= max(c, 0.0):
            return None
        return math.log1p(-c / upper) / (4 * c) if abs(c) > 1e-17 * upper else -1 / (4 * upper)


def _checked(times: npt.ArrayLike, p: float, H: float, sigma2: float, c: float) -> tuple[Array, _Start]:
    for name, size in (("p", p), ("H", H)):
        if not (1 <= size < math.inf and size == int(size)):
            raise InvalidInput(f"size {name!r} must be a whole number >= 1, got {size!r}")
    n, m = max(p, H), min(p, H)
    for what, value in (("sigma2 * max(p, H)", sigma2 * n), ("the size of the target's scale", abs(c))):
        if not (value == 0 or 1 / LARGEST <= value <= LARGEST):
            raise InvalidInput(f"{what} must be 0 or between {1 / LARGEST:.0e} and {LARGEST:.0e}, got {value!r}")
    times = np.asarray(times, dtype=np.float64)
    if not np.isfinite(times).all():
        raise InvalidInput(f"times must be finite, got {times[~np.isfinite(times)][0]}")
    return times, _Start(float(n), float(m), n * sigma2, m * sigma2, float(c))


class _Evolved(NamedTuple):
    """z = N tau and the quantities D (as `root`), h+ and h- on top of this module; NaN where the limit does not exist."""

    z: Array
    root: Array
    plus: Array
    minus: Array


def _evolved(times: Array, start: _Start) -> _Evolved:
    n, m, *_ = start
    low, high = start.narrowness
    beyond = -math.inf if start.blow_up is None else start.blow_up
    z = np.where(times > beyond, _scaled_tau(times, start), np.nan)
    root = np.sqrt(1 + z * low) * np.sqrt(np.maximum(1 + z * high, np.finfo(np.float64).eps))
    larger = (1 + np.abs(z * ((n - m) / n)) + root) / 2  # h+ in descent, h- in ascent
    smaller = 1 + np.where(z > 0, m / n, 1.0) * z / larger  # the other one, without cancellation
    return _Evolved(z, root, np.where(z > 0, larger, smaller), np.where(z > 0, smaller, larger))


def _scaled_tau(times: Array, start: _Start) -> Array:
    """N (e^{4ct} - 1)/c, up to +-VANISHED, also where the exponential alone exceeds the largest float."""
    N, c = start.N, start.c
    if N == 0:
        return np.zeros(times.shape)
    with np.errstate(over="ignore"):
        if c == 0:
            z = 4 * N * times
        else:
            exponent = 4 * c * times
            half = np.exp(np.maximum(exponent, 0) / 2)
            z = np.where(exponent < 600, N * np.expm1(np.minimum(exponent, 600)) / c, (N * half) * (half / c))
    return np.clip(z, -VANISHED, VANISHED)


def _growth_over(denominator: Array, times: Array, z: Array, start: _Start) -> Array:
    """e^{4ct} / denominator, also where the exponential alone exceeds the largest float: there it is c tau."""
    with np.errstate(over="ignore"):
        exponent = 4 * start.c * times
    usual = np.exp(np.minimum(exponent, 600)) / denominator
    return np.where(exponent < 600, usual, start.c / start.N * (z / denominator)) if start.N else usual


def _size_of_next_order(times: Array, start: _Start, hard_edge: bool) -> Array:
    """sqrt(next^2 + second^2): the next order, and the one after it as a fraction of the same terms without their signs."""
    n, m, *_ = start
    if hard_edge:
        x, weights = _hard_edge(n, m, float(np.max(_evolved(times, start).z, initial=1.0)))
    else:
        x, weights = np.array([start.narrowness[0]]), np.array([0.25])
    size = np.empty(times.shape)
    for first in range(0, times.size, 256):  # keeps the table of times and eigenvalues small
        piece = slice(first, first + 256)
        terms = _next_order_terms(times[piece], x, weights, start)
        second = (SECOND_ORDER / math.sqrt(n * m) + EDGE_ACCURACY) * np.abs(terms).sum(axis=0)
        size[piece] = np.hypot(terms.sum(axis=0), second)
    return size


def _next_order_terms(times: Array, x: Array, weights: Array, start: _Start) -> Array:
    """The next order as a sum of four terms (first axis); x, weights: what stands for F(a)/4, eigenvalues in units of N.

    F minus its tangent at the center of the spectrum is averaged: what is linear in the eigenvalues has no next order, and in
    this form nothing cancels, neither early nor late nor for a narrow spectrum. With u = 1/(1 + tau x) it is
    (x - center)^2 u (G^2 u + 2 G^2 u_center - 2 G N u_center)/2, with x in units of N and G = N e^{4ct} u_center.
    """
    n, m, N, *_ = start
    z, root, _, _ = _evolved(times, start)
    center = 1 + m / n
    middle = 1 + z * center
    G, G_root = N * _growth_over(middle, times, z, start), N * _growth_over(root, times, z, start)
    x, weights = np.append(x, start.narrowness[1]), np.append(weights, 0.25)
    u = 1 / (1 + z[:, None] * x)
    weights = weights * (x - center) ** 2 / 2
    once, twice = u @ weights, u**2 @ weights
    arcsine = m / n * G_root / (middle + root)  # with the brackets below, half the arcsine mean of F minus tangent
    return np.array([
        G**2 * (twice + 2 * once / middle),
        -2 * G * N * once / middle,
        -arcsine * (G_root / root + G / root + G / middle),
        2 * arcsine * N / middle,
    ])  # fmt: skip


def _hard_edge(n: float, m: float, largest: float) -> tuple[Array, Array]:
    """Nodes x (eigenvalues in units of N) and weights of  (rho(xi) - sqrt(1 - nu^2/xi^2)/pi) dxi,  in total 1/4.

    largest: of z, so that F has features down to x = 1/largest. Panels of half a period of J up to nu + 60, where what is left
    oscillates around 3/(8 pi xi^2): it is faded out, and the last node takes its mass. They begin where J_nu falls below
    e^{-14}, or else shrink by 10 toward zero; one ends at nu, where the root begins. Good to EDGE_ACCURACY.
    """
    from scipy.special import jv

    nu, stretch = n - m, math.sqrt(n) * (math.sqrt(n) + math.sqrt(m))  # xi = stretch sqrt(x)
    begin, end = max(0.0, nu - 6 * nu ** (1 / 3)), nu + 60
    below = np.linspace(begin, nu, math.ceil((nu - begin) / math.pi), endpoint=False)
    ends = np.append(below, np.linspace(nu, end, 20))
    if begin == 0:
        count = 3 + max(0, math.ceil(math.log10(math.sqrt(largest) / stretch)))
        ends = np.concatenate([[0.0], ends[1] * 0.1 ** np.arange(count, 0, -1), ends[1:]])
    nodes, weights = np.polynomial.legendre.leggauss(8)
    half = np.diff(ends)[:, None] / 2
    xi = ends[:-1, None] + half * (1 + nodes)
    J = jv(nu, xi)
    up_to_panel = np.append(0.0, np.cumsum((half * J) @ weights)[:-1])
    integral = up_to_panel[:, None] + half * (J @ _running_integral(nodes))
    density = xi / 2 * (J**2 - jv(nu + 1, xi) * jv(nu - 1, xi)) + J / 2 * (1 - integral)
    smooth = np.sqrt(np.maximum(0, 1 - (nu / xi) ** 2)) / np.pi
    fade = np.cos(np.pi / 2 * np.clip((xi - nu) / (end - nu), 0, 1)) ** 2
    signed = ((density - smooth) * fade * half * weights).ravel()
    x = np.append((xi / stretch) ** 2, (end / stretch) ** 2)
    upper = (1 + math.sqrt(m / n)) ** 2  # no eigenvalue is beyond the upper edge
    return np.minimum(x, upper), np.append(signed, 0.25 - signed.sum())


def _running_integral(nodes: Array) -> Array:
    """Matrix that takes values at Gauss-Legendre nodes to integrals of their interpolant from -1 to each node."""
    from numpy.polynomial import legendre

    values = legendre.legvander(nodes, nodes.size - 1)
    integrals = [legendre.legval(nodes, legendre.legint(unit, lbnd=-1)) for unit in np.eye(nodes.size)]
    return np.linalg.inv(values).T @ np.array(integrals)
