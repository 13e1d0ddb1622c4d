"""All end states at given samples: every zero in log xi of one function that knows its own derivative.

    Phi(log xi) = log((mse + Delta/2) / (2 alpha xi))   at the one q(xi) that solves   lambda/q + I/alpha = 1.

No continuation in alpha: closed loops exist that no curve from large alpha reaches. The interval is scanned with values and
slopes; wherever a cubic through them comes near zero the scan is refined until it is certain whether there are zeros.
docs/theory/quadratic.md sections 4.2, 4.3 and 5 [MBB26v2].
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from lossflow.laws.tails import NEGLIGIBLE, quantile, tails

SPACING = 0.6  # of the scan, in log xi
MOST = 9  # states kept; five is the most that was ever seen
COLUMNS = 8  # xi, q, mse, rank, I, omega, error of the first equation, of the second
BUDGET = 4000  # refinements for one setting, after which the search is called unsettled; some ten are usual
DEEPEST = 40  # halvings of an interval of the scan
FLAT = 1e-13  # a value of Phi that rounding can make
FARTHEST = 1e40  # parameters beyond it, or below its inverse, are not searched
LOWEST = 1e-28  # xi below which a state is the recovered one, xi = 0


class Point(NamedTuple):
    """Where a given xi leads. phi, slope: Phi and dPhi/dlog xi. bound: whether the width cuts, b = omega > q.

    divergence: I. error: of lambda/q + I/alpha - 1.
    """

    phi: float
    slope: float
    q: float
    omega: float
    mse: float
    rank: float
    divergence: float
    error: float
    bound: bool


def at(xi: float, alpha: float, kappa: float, k: float, noise: float, decay: float, guess: float) -> Point:
    """Phi, its slope and the state at xi. decay = 0 stands for the limit "0+"; guess: of omega."""
    omega = -math.inf
    bound = False
    q = 0.0
    b = 0.0
    low = decay
    t = tails(1.0, xi, k)
    if kappa < 1.0:
        omega = quantile(kappa, xi, k, guess)
        if omega > 0.0:
            t = tails(omega, xi, k)
            divergence = t.j1 - omega * t.j0
            if decay / omega + divergence / alpha <= 1.0:
                bound = True
                b = omega
                q = _positive_root(t.j0, alpha - t.j1, alpha * decay)
            low = max(low, omega)
    if not bound:
        q, b = _free(low, xi, alpha, k, decay)
        t = tails(b, xi, k)
    divergence = t.j1 - q * t.j0
    mse = t.missing + q * q * t.mass + 4.0 * xi * divergence
    error = (decay / q if q > 0.0 else 0.0) + divergence / alpha - 1.0
    if decay == 0.0 and q == 0.0:
        error = 0.0  # chi = 1 - I/alpha takes what is left
    divergence_xi = t.cube / (3.0 * math.pi) - math.pi**2 / 3.0 * t.rho**3 * (b - q)
    stiffness = t.j0 + (alpha * decay / (q * q) if q > 0.0 and decay > 0.0 else 0.0)
    q_xi = divergence_xi / stiffness if q > 0.0 and stiffness > 0.0 else 0.0
    mse_xi = -2.0 * t.j1 + 4.0 * divergence + 4.0 * xi * divergence_xi + (2.0 * q * t.mass - 4.0 * xi * t.j0) * q_xi
    total = mse + 0.5 * noise
    rank = kappa if bound else t.mass
    if not total > 0.0:
        return Point(-math.inf, 0.0, q, omega, mse, rank, divergence, error, bound)
    phi = math.log(total / (2.0 * alpha * xi))
    return Point(phi, xi * mse_xi / total - 1.0, q, omega, mse, rank, divergence, error, bound)


def _positive_root(a: float, b: float, c: float) -> float:
    """Of a q^2 + b q - c = 0 with a, c >= 0; zero when there is none."""
    root = math.sqrt(b * b + 4.0 * a * c)
    if b > 0.0:
        return 2.0 * c / (b + root)
    return (root - b) / (2.0 * a) if a > 0.0 else 0.0


def _free(low: float, xi: float, alpha: float, k: float, decay: float) -> tuple[float, float]:
    """q >= low with lambda/q + I(q)/alpha = 1 at b = q, and b.

    I is replaced by its tangent and lambda/q kept as it is: a quadratic, whose root approaches from below where I is convex.
    """
    b = max(low, 0.0)
    high = math.inf
    q = b
    for _ in range(200):
        t = tails(b, xi, k)
        excess = (decay / b if decay > 0.0 else 0.0) + (t.j1 - b * t.j0) / alpha - 1.0
        if b == 0.0 and excess <= 0.0:
            return 0.0, 0.0  # the limit on the over-determined side
        if excess > 0.0:
            low = b
        else:
            high = b
        q = _positive_root(t.j0, alpha - t.j1, alpha * decay)
        if not low <= q <= high:
            q = 0.5 * (low + high) if high < math.inf else 2.0 * b
        if abs(q - b) <= NEGLIGIBLE * q:
            return q, q
        b = q
    return q, q


def all_states(alpha: float, kappa: float, k: float, noise: float, decay: float, found: np.ndarray) -> int:
    """Write a row (see COLUMNS) for every state, xi increasing. Returns their number n; -1 - n if a search did not settle."""
    if not (within(alpha) and within(k) and max(kappa, noise, decay) < FARTHEST):
        return -1
    width = min(k, 1.0)
    recoverable = noise == 0.0 and decay == 0.0 and kappa >= width
    start = _low_end(alpha, kappa, k, noise, decay, recoverable)
    count = 0
    trouble = False
    a = math.log(start)
    guess = 1.0
    left = at(start, alpha, kappa, k, noise, decay, guess)
    # at kappa = kappa_star and alpha on the threshold Phi is zero up to where the gap closes, and rounding decides nothing
    flat = FLAT if recoverable else 0.0
    low_phi = left.phi if abs(left.phi) > flat else 0.0
    if recoverable and low_phi <= 0.0:
        found[0] = 0.0
        found[0, 3] = width
        found[0, 4] = alpha
        count = 1
    stack = np.empty((DEEPEST + 4, 4))
    beyond = 0
    spent = 0
    for _ in range(400):
        b = a + SPACING
        right = at(math.exp(b), alpha, kappa, k, noise, decay, left.omega)
        if not math.isfinite(right.phi) or not math.isfinite(left.phi):
            return -1 - count
        # intervals still to be searched, from left to right
        size = 0
        low, low_slope, low_bound = a, left.slope, left.bound
        right_phi = right.phi if abs(right.phi) > flat else 0.0
        stack[0, 0], stack[0, 1], stack[0, 2], stack[0, 3] = b, right_phi, right.slope, 1.0 if right.bound else 0.0
        size = 1
        while size > 0:
            high, high_phi = float(stack[size - 1, 0]), float(stack[size - 1, 1])
            high_slope = float(stack[size - 1, 2])
            high_bound = stack[size - 1, 3] > 0.5
            verdict = _zeros(
                high - low, low_phi, low_slope, high_phi, high_slope, low_bound != high_bound, high - low < 1e-7
            )
            if verdict == 2 and spent >= BUDGET:
                trouble = True
            elif verdict == 2 and size < DEEPEST:
                spent += 1
                middle = 0.5 * (low + high)
                p = at(math.exp(middle), alpha, kappa, k, noise, decay, left.omega)
                middle_phi = p.phi if abs(p.phi) > flat else 0.0
                stack[size, 0], stack[size, 1], stack[size, 2] = middle, middle_phi, p.slope
                stack[size, 3] = 1.0 if p.bound else 0.0
                size += 1
                continue
            if verdict >= 1 and (low_phi > 0.0) != (high_phi > 0.0) and count < MOST:
                xi, settled = _polish(low, high, low_phi, alpha, kappa, k, noise, decay, left.omega)
                p = at(xi, alpha, kappa, k, noise, decay, left.omega)
                found[count, 0], found[count, 1], found[count, 2], found[count, 3] = xi, p.q, p.mse, p.rank
                found[count, 4], found[count, 5] = p.divergence, p.omega
                found[count, 6], found[count, 7] = abs(p.error), abs(math.expm1(p.phi))
                trouble = trouble or not settled
                count += 1
            low, low_phi, low_slope, low_bound = high, high_phi, high_slope, high_bound
            size -= 1
        a, left = b, right
        # at large xi Phi decreases to a negative constant, once xi is beyond all other scales
        if right.phi < 0.0 and math.exp(b) > 30.0 * (2.0 + 1.0 / k + noise + decay * decay):
            beyond += 1
            if beyond > 4:
                return -1 - count if trouble else count
        else:
            beyond = 0
    return -1 - count


def within(x: float) -> bool:
    """Whether powers of x keep clear of the ends of what a float can hold."""
    return 1.0 / FARTHEST < x < FARTHEST


def fill(settings: np.ndarray, rows: np.ndarray, counts: np.ndarray) -> None:
    """`all_states` for every row (alpha, kappa, kappa_star, Delta, lambda) of settings, of which the first state is kept."""
    found = np.zeros((MOST, COLUMNS))
    for j in range(len(settings)):
        alpha, kappa, k = float(settings[j, 0]), float(settings[j, 1]), float(settings[j, 2])
        counts[j] = all_states(alpha, kappa, k, float(settings[j, 3]), float(settings[j, 4]), found)
        rows[j] = found[0]


def _low_end(alpha: float, kappa: float, k: float, noise: float, decay: float, recoverable: bool) -> float:
    """A xi below all states: mse >= 0 there, or so small that mse + Delta/2 is a thousand times 2 alpha xi."""
    if noise > 0.0:
        return noise / (4.0 * alpha) * (1.0 - 1e-9)
    if recoverable:
        return LOWEST
    xi = 1e-2
    while xi > 1e-60:
        if at(xi, alpha, kappa, k, noise, decay, 1.0).phi > 7.0:
            return xi
        xi *= 0.05
    return xi


def _zeros(h: float, f0: float, s0: float, f1: float, s1: float, kink: bool, tiny: bool) -> int:
    """0: none in the interval of length h, 1: exactly one, 2: look closer. f, s: values and slopes at its ends."""
    secant = (f1 - f0) / h
    bend = abs(s0 - secant) + abs(s1 - secant)
    opposite = (f0 > 0.0) != (f1 > 0.0)
    if f0 == 0.0 and f1 == 0.0:
        return 0  # flat, see FLAT
    if tiny:
        return 1 if opposite else 0
    if opposite:
        same = s0 * secant > 0.04 * secant * secant and s1 * secant > 0.04 * secant * secant
        return 1 if same and bend < 3.0 * abs(secant) else 2
    # the cubic through values and slopes, at its ends and wherever it turns
    least = min(abs(f0), abs(f1))
    sign = 1.0 if f0 > 0.0 else -1.0
    for j in range(1, 8):
        x = j / 8.0
        y = 1.0 - x
        value = y * y * (1.0 + 2.0 * x) * f0 + x * y * y * h * s0 + x * x * (1.0 + 2.0 * y) * f1 - x * x * y * h * s1
        least = min(least, sign * value)
    doubt = (0.5 if kink else 0.15) * h * bend
    return 2 if least <= doubt else 0


def _polish(
    low: float,
    high: float,
    low_phi: float,
    alpha: float,
    kappa: float,
    k: float,
    noise: float,
    decay: float,
    guess: float,
) -> tuple[float, bool]:
    """The zero between two signs, by Newton with bisection behind it, and whether it settled."""
    xi = math.exp(0.5 * (low + high))
    below, above = math.exp(low), math.exp(high)
    previous = math.inf
    for _ in range(100):
        p = at(xi, alpha, kappa, k, noise, decay, guess)
        guess = p.omega
        if p.phi == 0.0:
            return xi, True
        if (p.phi > 0.0) == (low_phi > 0.0):
            below = xi
        else:
            above = xi
        step = -p.phi / p.slope if p.slope != 0.0 else math.inf
        new = xi * math.exp(step) if abs(step) < 2.0 else -1.0
        if not below <= new <= above:
            new = math.sqrt(below) * math.sqrt(above)
            step = math.log(new / xi)
        if abs(step) <= NEGLIGIBLE or (abs(step) < 1e-9 and abs(step) >= previous):
            return new, True  # rounding sets the floor
        previous = abs(step)
        if above <= below * (1.0 + 4e-16):
            return new, True
        xi = new
    return xi, False
