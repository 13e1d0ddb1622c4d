"""How many samples it takes: to stop interpolating, to recover the teacher."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from lossflow.description import brief
from lossflow.errors import InvalidInput
from lossflow.laws.semicircle import mass_above, mean_above, quantile_above, second_above
from lossflow.laws.tails import quantile, tails
from lossflow.problems.quadratic import QuadraticNetwork

FAR = 80.0  # in log xi, beyond every state


@dataclass(frozen=True)
class Thresholds:
    """Values of alpha = n/d^2. Recovery is that of the noiseless teacher; `inf` where a narrow student never recovers.

    alpha_interpolation: above it no network of this width fits the labels, noise included. alpha_recovery: without weight decay
    from a start of finite size, a conjecture with numerical support only. alpha_recovery_regularized: in the limit "0+" of
    weight decay. alpha_bayes: with the best estimator, which knows the teacher's law. region: "I" where counting parameters
    limits recovery, "II" where interpolation does, "III" where in addition the width has no influence; None without recovery.

    The widths kappa at which these saturate for the given kappa_star: width_counting, the border of I and II;
    width_interpolation, that of II and III, (1 + kappa_star)/2; width_regularized, from which on alpha_recovery_regularized
    is the threshold of the convex problem. nan for a student that is too narrow to recover.
    docs/theory/quadratic.md section 6 [MBB26v2].
    """

    alpha_interpolation: float
    alpha_recovery: float
    alpha_recovery_regularized: float
    alpha_bayes: float
    region: str  # or None
    width_counting: float = math.nan
    width_interpolation: float = math.nan
    width_regularized: float = math.nan


class Interpolation(NamedTuple):
    """The end of interpolation at vanishing weight decay: its alpha, and the xi and mse there."""

    alpha: float
    xi: float
    mse: float


def thresholds(problem: QuadraticNetwork) -> Thresholds:
    """The thresholds of alpha for the widths and the noise of `problem`, whatever its alpha and weight decay.

    alpha_PR = min(kappa - kappa^2/2, alpha_inter),  alpha_PR+ = k - k^2/2 + ((1-k)^2/2)(m_2(b) - q m_1(b)),  k = kappa_star < 1.

    Only `alpha_interpolation` depends on the noise. Raises `InvalidInput` for another problem.
    docs/theory/quadratic.md sections 5 and 6 [MBB26v2].
    """
    if not isinstance(problem, QuadraticNetwork):
        raise InvalidInput(f"thresholds are those of a QuadraticNetwork, got {brief(problem)}")
    kappa, k = problem.kappa, problem.kappa_star
    full = min(k, 1.0)
    bayes = full - full**2 / 2
    alpha = interpolation(kappa, k, problem.noise_variance).alpha
    if kappa < full:
        return Thresholds(alpha, math.inf, math.inf, bayes, None)  # type: ignore[arg-type]
    noiseless = noiseless_interpolation(kappa, k)
    counting = kappa - kappa**2 / 2 if kappa < 1 else math.inf
    region = "I" if noiseless > counting else "II"
    if 2 * kappa >= 1 + full or kappa >= 1:
        region = "III"
    return Thresholds(
        alpha,
        min(counting, noiseless),
        regularized_recovery(kappa, k),
        bayes,
        region,
        counting_width(k),
        (1 + full) / 2,
        regularized_width(k),
    )


def interpolation(kappa: float, k: float, noise: float) -> Interpolation:
    """alpha_inter = int_b x rho h, b = max(0, omega), at the xi where q = chi = 0: the mse peaks there.

    1 + 1/k + Delta/2 - int_b x^2 rho + 2 xi int_b x rho h = 0. For Delta = 0 and kappa >= min(1, k) the root is xi = 0.
    docs/theory/quadratic.md section 5 [MBB26v2].
    """
    if noise == 0.0 and kappa >= min(k, 1.0):
        return Interpolation(noiseless_interpolation(kappa, k), 0.0, 0.0)

    def at(log_xi: float) -> tuple[float, float, float]:
        """The left side over xi, its slope in log xi, and alpha."""
        xi = math.exp(log_xi)
        b = max(quantile(kappa, xi, k, 1.0), 0.0) if kappa < 1 else 0.0
        t = tails(b, xi, k)
        value = (t.missing + noise / 2) / xi + 2 * t.j1
        moved = t.cube / (3 * math.pi) - math.pi**2 / 3 * t.rho**3 * b  # of j1, by xi
        return value, 2 * moved * xi - value, t.j1

    low, high = -FAR, FAR
    x = math.log(1 + noise)
    for _ in range(200):
        value, slope, _ = at(x)
        if value > 0:
            low = x
        else:
            high = x
        new = x - value / slope if slope < 0 else math.inf
        if not low < new < high:
            new = (low + high) / 2
        if abs(new - x) < 1e-16 * max(abs(x), 1.0) or new in (low, high):
            break
        x = new
    alpha = at(x)[2]
    return Interpolation(alpha, math.exp(x), 2 * alpha * math.exp(x) - noise / 2)


def noiseless_interpolation(kappa: float, k: float) -> float:
    """alpha_inter = k - k^2/2 + ((1-k)^2/2) m_2(max(0, omega)),  m_0(omega) = (min(kappa, 1) - k)/(1 - k), for Delta = 0.

    For kappa >= min(1, k); 1/2 for k >= 1. docs/theory/quadratic.md section 6 [MBB26v2].
    """
    if k >= 1:
        return 0.5
    return k - k**2 / 2 + (1 - k) ** 2 / 2 * second_above(max(0.0, _kernel_quantile(kappa, k)))


def regularized_recovery(kappa: float, k: float) -> float:
    """alpha_PR+ = k - k^2/2 + ((1-k)^2/2)(m_2(b) - q m_1(b)),  b = max(q, omega),  m_1(b) - q m_0(b) = q k/(1-k).

    For kappa >= min(1, k). docs/theory/quadratic.md section 6 [MBB26v2].
    """
    if k >= 1:
        return 0.5
    b = q = _free_shrinkage(k)
    omega = _kernel_quantile(kappa, k)
    if omega > q:
        b = omega
        q = mean_above(b) / (mass_above(b) + k / (1 - k))
    return k - k**2 / 2 + (1 - k) ** 2 / 2 * (second_above(b) - q * mean_above(b))


def regularized_width(k: float) -> float:
    """kappa = k + (1-k) m_0(q): the width from which on `regularized_recovery` no longer depends on it; 1 for k >= 1."""
    return k + (1 - k) * mass_above(_free_shrinkage(k)) if k < 1 else 1.0


def counting_width(k: float) -> float:
    """The kappa where kappa - kappa^2/2 = alpha_inter, the border between regions I and II; 1 for k >= 1.

    Both are k - k^2/2 at kappa = k, so that root is divided out.
    """
    if k >= 1:
        return 1.0

    def excess(omega: float) -> float:
        """(alpha_inter - kappa + kappa^2/2)/(1-k)^2 = m_2/2 - m_0 + m_0^2/2 at kappa = k + (1-k) m_0(omega), over m_0."""
        m0 = mass_above(omega)
        return second_above(omega) / (2 * m0) - 1 + m0 / 2

    low, high = 0.0, 1.99  # kappa falls from (1 + k)/2 to k
    if excess(low) > 0:
        return (1 + k) / 2
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return k + (1 - k) * mass_above(low)


def _kernel_quantile(kappa: float, k: float) -> float:
    """omega of the semicircle that the kernel of the teacher spreads into."""
    return quantile_above(min(max((min(kappa, 1.0) - k) / (1 - k), 0.0), 1.0))


def _free_shrinkage(k: float) -> float:
    """q in (0, 2) with m_1(q) - q m_0(q) = q k/(1-k): the left side falls, the right side grows."""
    low, high = 0.0, 2.0
    for _ in range(200):
        q = (low + high) / 2
        if q in (low, high):
            break
        low, high = (q, high) if mean_above(q) - q * mass_above(q) > q * k / (1 - k) else (low, q)
    return (low + high) / 2
