"""The equations of docs/theory/quadratic.md once more, as they stand there, in as many digits as asked for.

Nothing here is shared with the library: roots of the cubic by numpy, refined, the primitives of section 4.1 term by term,
Newton's method of mpmath on the equations.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import mpmath
import numpy as np

DIGITS = 50


class Integrals(NamedTuple):
    """mass, mean and second moment above b; int_b rho h, int_b x rho h; rho(b), h(b); -Im int_b g^3."""

    mass: Any
    mean: Any
    second: Any
    j0: Any
    j1: Any
    rho: Any
    h: Any
    cube: Any


def integrals(b: Any, xi: Any, k: Any) -> Integrals:
    with mpmath.workdps(DIGITS):
        b, xi, k = (mpmath.mpf(value) for value in (b, xi, k))
        g = _transform(b, xi, k)
        u = k - g
        l, m = _log(g, -1), _log(u, 1)  # noqa: E741  (the letters of the note)
        x = 1 / g + xi * g + k / u
        x0 = l + xi * g**2 / 2 - k * m
        gx = g + xi * g**3 / 3 - k * g - k**2 * m
        g2x = g**2 / 2 + xi * g**4 / 4 + k * (-(g**2) / 2 - k * g - k**2 * m)
        gx2 = l + xi**2 * g**4 / 4 + k**2 * (k / u + m) + xi * g**2 - 2 * k * m
        gx2 += 2 * xi * k * (-(g**2) / 2 - k * g - k**2 * m)
        x2 = -1 / g + xi**2 * g**3 / 3 + k**2 / u + 2 * xi * g + 2 * (l - m) + 2 * xi * k * (-g - k * m)
        a0 = -1 / (2 * g**2) + 3 * xi * l + 3 * xi**2 * g**2 / 2 + xi**3 * g**4 / 4
        a1 = -1 / g + (l - m) / k - 2 * xi * k * m + xi**2 * k * (-(g**2) / 2 - k * g - k**2 * m)
        a2 = l - m + k / u + xi * k**2 * (k / u + m)
        x3 = a0 + 3 * a1 + 3 * a2 + k**3 / (2 * u**2)
        return Integrals(
            mpmath.im(g * x - x0) / mpmath.pi,
            mpmath.im(g * x**2 / 2 - x2 / 2) / mpmath.pi,
            mpmath.im(g * x**3 / 3 - x3 / 3) / mpmath.pi,
            mpmath.im(g**2 * x - 2 * gx) / (2 * mpmath.pi),
            mpmath.im(g**2 * x**2 / 2 - gx2) / (2 * mpmath.pi),
            -mpmath.im(g) / mpmath.pi,
            mpmath.re(g),
            mpmath.im(g**3 * x - 3 * g2x),
        )


def end_state(guess: Any, alpha: Any, kappa: Any, k: Any, noise: Any, decay: Any) -> dict[str, Any]:
    """Every observable to DIGITS digits, from a nearby guess (q, xi, omega) in which omega > q says that the width cuts."""
    with mpmath.workdps(DIGITS):
        alpha, kappa, k, noise, decay = (mpmath.mpf(value) for value in (alpha, kappa, k, noise, decay))
        bound = kappa < 1 and guess[2] > guess[0]

        def moments(q: Any, xi: Any, b: Any) -> tuple[Any, Any]:
            t = integrals(b, xi, k)
            divergence = t.j1 - q * t.j0
            return 1 + 1 / k - t.second + q**2 * t.mass + 4 * xi * divergence, divergence

        def equations(log_q: Any, log_xi: Any, *omega: Any) -> list[Any]:
            q, xi = mpmath.exp(log_q), mpmath.exp(log_xi)
            b = omega[0] if bound else q
            mse, divergence = moments(q, xi, b)
            left = [decay / q + divergence / alpha - 1, (mse + noise / 2) / (2 * alpha * xi) - 1]
            return [*left, integrals(b, xi, k).mass / kappa - 1] if bound else left

        start = [mpmath.log(guess[0]), mpmath.log(guess[1])] + ([mpmath.mpf(guess[2])] if bound else [])
        root = mpmath.findroot(equations, start, tol=mpmath.mpf(10) ** (-2 * DIGITS + 40), maxsteps=30)
        q, xi = mpmath.exp(root[0]), mpmath.exp(root[1])
        b = root[2] if bound else q
        chi = decay / q
        loss = chi**2 * alpha * xi
        in_sample_error = loss + noise / 4 * (1 - 2 * chi)
        found = {"q": q, "xi": xi, "mse": moments(q, xi, b)[0], "loss": loss, "in_sample_error": in_sample_error}
        return found | {"rank": integrals(b, xi, k).mass}


def _transform(b: Any, xi: Any, k: Any) -> Any:
    cubic = [xi, -(b + k * xi), 1 - k + k * b, -k]
    roots = [_refined(cubic, mpmath.mpmathify(complex(root))) for root in np.roots([float(c) for c in cubic])]
    lowest = min(roots, key=mpmath.im)
    if mpmath.im(lowest) < -(mpmath.mpf(10) ** (-DIGITS // 2)) * abs(lowest):
        return lowest
    # outside of the support g falls with x
    for root in roots:
        g = mpmath.re(root)
        if -1 / g**2 + xi + k / (k - g) ** 2 < 0:
            return mpmath.mpc(g)
    raise ValueError(f"no root at x = {b}")


def _refined(cubic: list[Any], root: Any) -> Any:
    """By Newton from double precision; roots of numpy that are almost double take some steps more."""
    for _ in range(60):
        value, slope = mpmath.polyval(cubic, root, derivative=True)
        step = value / slope if slope else mpmath.mpf(0)
        root -= step
        if abs(step) <= mpmath.mpf(10) ** (2 - DIGITS) * abs(root):
            return root
    raise ValueError(f"no convergence at {cubic}")


def _log(z: Any, side: int) -> Any:
    """log z with arg z on the upper (side = 1) or lower side of the cut."""
    turn = mpmath.arg(z) if mpmath.im(z) else (side * mpmath.pi if mpmath.re(z) < 0 else mpmath.mpf(0))
    return mpmath.mpc(mpmath.log(abs(z)), turn)
