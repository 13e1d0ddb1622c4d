"""Integrals of Marchenko-Pastur + semicircle above a point, in closed form, for one point at a time.

Written for compilers as much as for readers: every logarithm, division and power is taken once, and loops over many end
states compile these functions as they stand. `FreeConvolution` is the same law for arrays.
"""

from __future__ import annotations

import cmath
import math
from typing import NamedTuple

SMALL = 0.3  # |w| below which log(1 - w) is left to its series: the three terms taken off it would cost 1/|w|^3 of its digits
TINY = 1e-17
NEGLIGIBLE = 3e-16  # relative change that ends an iteration


class Tails(NamedTuple):
    """What lies above b. rho, h: density and Hilbert transform at b; k = kappa_star.

    mass: int_b rho; missing: 1 + 1/k - int_b x^2 rho, which is O(xi) when b is near zero and known to full relative accuracy;
    j0: int_b rho h; j1: int_b x rho h; cube: -Im int_b g^3.
    """

    rho: float
    h: float
    mass: float
    missing: float
    j0: float
    j1: float
    cube: float


def transform(x: float, xi: float, k: float) -> complex:
    """g(x) with Im g <= 0, or one of the two roots between the same poles where x lies outside of the support.

    k: kappa_star, xi >= 0 the variance of the semicircle.
    xi g^3 - (x + k xi) g^2 + (1 - k + k x) g - k = 0: the cubic has a real root r > k. It is found first, and the other two
    are those of g^2 - (sum) g + (product), which is stable where Cardano's discriminant has lost its sign.
    """
    linear = 1.0 - k + k * x
    if xi == 0.0:
        if x == 0.0:
            return complex(k / (1.0 - k), 0.0) if k != 1.0 else complex(-math.inf, 0.0)
        product = k / x
        total = linear / x
    else:
        top = (x + k * xi) / xi
        r = _largest_or_isolated(x, xi, k, top, linear)
        product = k / (xi * r)
        total = (linear / xi - product) / r if r * r * r > k / xi else top - r
    discriminant = product - 0.25 * total * total
    if not discriminant > 0.0:
        return complex(0.5 * total, 0.0) if product > 0.0 else complex(_below(total, product), 0.0)
    g = complex(0.5 * total, -math.sqrt(discriminant))
    # one step of Newton on x(g) = x, where all terms are of the size of the answer
    for _ in range(2):
        w = g / k
        inverse = 1.0 / (1.0 - w)
        slope = -1.0 / (g * g) + xi + inverse * inverse / k
        others = 1.0 / g + xi * g
        wrong = others + w * inverse - (x - 1.0) if abs(w) < 0.5 else others + inverse - x
        step = wrong / slope
        if not abs(step) < 1e-3 * abs(g.imag):
            break
        g -= step
    return g


def _below(total: float, product: float) -> float:
    """The negative one of two real roots with a negative product: x(g) = x left of the support of xi = 0."""
    root = math.sqrt(0.25 * total * total - product)
    return product / (0.5 * total + root) if total > 0.0 else 0.5 * total - root


def _largest_or_isolated(x: float, xi: float, k: float, top: float, linear: float) -> float:
    """A real root r > k of g^3 - top g^2 + (linear/xi) g - k/xi, by Newton from where it converges without overshooting."""
    inflection = top / 3.0
    b = linear / xi
    c = k / xi
    p = b - top * inflection
    q = ((inflection - top) * inflection + b) * inflection - c
    if q > 0.0 and inflection > k:
        g = k  # the cubic is concave from k, where it is -k^2/xi, to the inflection, where it is positive
    elif q < 0.0:
        g = inflection + (-q) ** (1.0 / 3.0) + (math.sqrt(-p) if p < 0.0 else 0.0)
    else:
        g = inflection + (math.sqrt(-p) if p < 0.0 else 0.0)
    g = max(g, k)
    for _ in range(200):
        value = ((g - top) * g + b) * g - c
        slope = (3.0 * g - 2.0 * top) * g + b
        if slope <= 0.0:
            break
        step = value / slope
        g -= step
        if abs(step) <= 4e-16 * abs(g):
            break
    return max(g, k)


def log_remainder(w: complex) -> complex:
    """log(1 - w) + w + w^2/2 = -sum_{j >= 3} w^j/j, for |w| < SMALL."""
    power = w * w * w
    total = power / 3.0
    size = abs(total)
    if size == 0.0:
        return complex(0.0, 0.0)
    j = 4
    while j < 60:
        power = power * w
        term = power / j
        total += term
        if abs(term) < TINY * size:
            break
        j += 1
    return -total


def tails(b: float, xi: float, k: float) -> Tails:
    """All integrals above b. With w = g/k, r = 1/(1 - w) and x(g) = 1/g + xi g + r each is Im of a primitive in g alone.

    Primitives are sums of powers and  S_c(w) = sum_{j >= 3} (1 - c/j) w^j = w^3 r + c (log(1-w) + w + w^2/2),  which has lost
    its digits to nothing when k is large (w small) or xi is small (w large, in v = 1/w).
    docs/theory/quadratic.md section 4.1 [MBB26v2].
    """
    g = transform(b, xi, k)
    rho = -g.imag / math.pi
    h = g.real
    w = g / k
    size = abs(w)
    r = 1.0 / (1.0 - w)
    g2 = g * g
    turn = math.atan2(g.imag, g.real)  # arg g in [-pi, 0]
    if g.imag == 0.0:
        turn = -math.pi if g.real < 0.0 else 0.0
    far = math.atan2(-g.imag, -g.real) if g.imag != 0.0 else (math.pi if g.real > 0.0 else 0.0)  # arg(-g) in [0, pi]
    xg = xi * g2
    v = 1.0 / w
    p1v = q1v = complex(0.0, 0.0)
    if size < SMALL:
        q2 = log_remainder(w)
        w3r = w * w * w * r
        s1 = w3r + q2
        half = 0.5 * w * w
        log1 = q2 - w - half
        p1 = s1 + half
        square = 0.5 * g2 + k * k * k * s1
        cube = -0.5 * g2 + k * k * k * (w3r + 3.0 * q2) + 0.25 * xg * g2
        s2 = w3r + 2.0 * q2
        j0 = -g + xg * g / 3.0 + k * k * s2
        quarter = xi * k * k * k * s2
    else:
        if size > 1.0:
            if abs(v) < SMALL:
                s1v = v * v * v / (1.0 - v)
                q2v = log_remainder(v)
                log_v = q2v - v - 0.5 * v * v
                p1v = s1v + q2v + 0.5 * v * v
                q1v = q2v - 0.5 * v * v
            else:
                log_v = _log(1.0 - v)
                p1v = v / (1.0 - v) + log_v
                q1v = v + log_v
            log1 = complex(math.log(size), far) + log_v
        else:
            log1 = _log(1.0 - w) if w.imag != 0.0 else complex(math.log(abs(1.0 - w.real)), 0.0)
        wr = w * r
        p1 = wr + log1
        square = 0.5 * (1.0 - k) * g2 + k * k * k * p1
        s2 = 2.0 * log1 + wr  # and w, which is joined to what it cancels
        j0 = -(1.0 - k) * g + xg * g / 3.0 + k * k * s2
        quarter = xi * k * k * k * (s2 + w)
        cube = -0.5 * (1.0 - k) * g2 + k * k * k * (3.0 * log1 + wr + 2.0 * w) + 0.25 * xg * g2
    gy = 1.0 + k * w * r
    if size > 1.0:
        gy = (1.0 - k) - k * v / (1.0 - v)
        y = gy * v / k
        rv = v / (1.0 - v)
        main = (gy * y * y - 0.5 * k * rv * rv + 0.5 * v * v / (k * k)) / 3.0 + p1v + q1v / k
        missing = -main.imag
    else:
        y = gy / g
        wr = w * r
        main = (gy * y * y - 0.5 * k * wr * (r + 1.0) + 0.5 / g2) / 3.0 - wr + 1.0 / g
        missing = -main.imag + (1.0 + 1.0 / k) * (far - log1.imag)
    mass = 0.5 * xg.imag - turn + k * p1.imag
    first = gy * gy - k * k * p1 + 2.0 * k * log1
    missing -= xi * (first.imag - turn) + xi * xi * square.imag + 0.25 * xi * (xg * xg).imag
    j1 = 0.5 * (gy * gy).imag - k * k * p1.imag + 2.0 * k * log1.imag - turn + quarter.imag + 0.25 * (xg * xg).imag
    return Tails(
        rho,
        h,
        mass / math.pi,
        missing / math.pi,
        0.5 * j0.imag / math.pi,
        0.5 * j1 / math.pi,
        cube.imag,
    )


def _log(u: complex) -> complex:
    """log u with arg in [0, pi], whatever the sign of a zero imaginary part."""
    if u.imag == 0.0:
        return complex(math.log(abs(u.real)), math.pi if u.real < 0.0 else 0.0)
    return cmath.log(u)


def mean_above(b: float, xi: float, k: float) -> float:
    """int_b x rho = Im[g x^2/2 - (1/2) int x^2 dg]/pi."""
    g = transform(b, xi, k)
    w = g / k
    r = 1.0 / (1.0 - w)
    turn = cmath.phase(g) if g.imag != 0.0 else (-math.pi if g.real < 0.0 else 0.0)
    log1 = _log(1.0 - w)
    x = 1.0 / g + xi * g + r
    q1 = log_remainder(w) - 0.5 * w * w if abs(w) < SMALL else log1 + w
    squares = (
        k * r + 2.0 * (complex(0.0, turn) - log1) - 1.0 / g + 2.0 * xi * (g - k * k * q1) + xi * xi * g * g * g / 3.0
    )
    return (g * x * x - squares).imag / (2.0 * math.pi)


def quantile(kappa: float, xi: float, k: float, guess: float) -> float:
    """omega with int_omega^inf rho = kappa < 1: Newton inside a bracket, from `guess`.

    For kappa = k every omega of a gap will do, and one from inside is given: a mass that is off by rounding at the upper
    edge of the gap is no longer small beside the xi of a teacher that is all but recovered.
    """
    if abs(kappa - k) <= 4e-16 * k and k < 1.0:
        middle = k / (1.0 - k ** (1.0 / 3.0))  # where dx/dg is smallest between its poles, whatever xi is
        if xi < 1.0 / (middle * middle) - k / (k - middle) ** 2:
            return 1.0 / middle + xi * middle + k / (k - middle)
    reach = 2.0 * math.sqrt(xi)
    low, high = -reach, (1.0 + 1.0 / math.sqrt(k)) ** 2 + reach
    b = guess if low < guess < high else 0.5 * (low + high)
    for _ in range(200):
        t = tails(b, xi, k)
        excess = t.mass - kappa
        if excess > 0.0:
            low = b
        else:
            high = b
        if abs(excess) < 1e-16:
            break
        new = b + excess / t.rho if t.rho > 0.0 else low
        if not low < new < high:
            new = 0.5 * (low + high)
        if abs(new - b) <= NEGLIGIBLE * abs(b) or new in (low, high):
            b = new
            break
        b = new
    return b
