"""Where gradient flow of a generalized linear model ends: the minimizer of a convex loss in high dimension.

For convex loss and weight decay lambda, with an L1 penalty of strength s or without (s = 0), the end is the M-estimator. Its
field w and self-response V are those of the fixed point

    E = mean of ell'/(1 + V ell'),    F = E ell^2,    M* = (E ell r* - E m)/Q,     r + V ell(r, y) = w
    theta = soft(u - M* theta*, s)/(lambda + E),     u ~ N(0, F/delta)
    V = E d theta/du / delta,     m = E theta theta*,     C = E theta^2.

Square loss is solved along its spectrum, for lambda = 0 included, where the end of the flow remembers its start.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossflow.errors import NotSpoken
from lossflow.meanfield.local_fields import averages, error, second_moments
from lossflow.meanfield.volterra import Regression, spectrum
from lossflow.problems.gaussian import average
from lossflow.problems.glm import GeneralizedLinear, LinearModel
from lossflow.problems.labels import AbstractLabels
from lossflow.problems.losses import AbstractLoss, Huber, Logistic, SmoothHinge, Square
from lossflow.problems.penalties import L1
from lossflow.trajectory import COMPLETE, EndState, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

STAGES = (
    (0.1, 30),
    (1e-3, 200),
    (1e-5, 500),
)  # relative change of a damped round, and most rounds, before Newton's method
EXACT = 1e-11  # relative residual of the fixed point, at which it counts as found
FARTHEST = 1e12  # a norm beyond it counts as infinite


class Point(NamedTuple):
    """A fixed point: the self-response V, the norm C and the overlap m of theta."""

    V: float
    C: float
    m: float


def end_state(problem: GeneralizedLinear) -> EndState:
    """The end state of gradient flow: t -> inf after n, d -> inf with n/d = delta.

    values: "loss", "test_loss", "norm", "overlap"; "train_error", "test_error" for labels +-1; "mse" for labels r* + noise.
    weight_decay 0.0: where the flow from theta_0 ends; "0+": the limit lambda -> 0 of the minimizers. A falsy status, with the
    reason, for separable data without weight decay (the norm grows like log t; the values are those of the direction with the
    largest margin) and for the interpolation threshold delta = 1. Raises `NotSpoken` for a loss that is not convex and for
    penalties other than L1.
    docs/theory/mean_field.md section 6.3 [NI26v2].
    """
    strength = _strength(problem)
    _require_convex(problem)
    decay = 0.0 if problem.weight_decay == "0+" else float(problem.weight_decay)
    if decay == 0 and strength == 0:
        return _without_decay(problem)
    if isinstance(problem.loss, Square) and strength == 0:
        return _along_spectrum(problem, decay)
    found = solve(problem.loss, problem.labels, problem.delta, decay, strength)
    return _finish(problem, found, decay)


def solve(
    loss: AbstractLoss, labels: AbstractLabels, delta: float, decay: float, strength: float = 0.0, Q: float = 1.0
) -> Point | None:
    """The fixed point for convex `loss`; None where none was found, as where the norm has no bound.

    decay: lambda >= 0; strength: s >= 0 of the L1 penalty; Q: the teacher's variance.
    docs/theory/mean_field.md section 6.3 [NI26v2].
    """
    if delta == math.inf and strength == 0:
        return _population(loss, labels, decay, Q)
    start = Point(1 / (delta * (1 + decay)), 1.0, 0.5)
    for stages in (
        STAGES[:1],
        STAGES,
    ):  # at once, or else step by step from strong decay, which makes every problem easy
        point = start
        for weaker in (1.0, 0.1, 0.01, 1e-3, 1e-4) if stages is STAGES else ():
            if weaker > max(10 * decay, 1e-5):
                point = _settle(loss, labels, delta, weaker, strength, Q, point, STAGES[:1]) or point
        found = _settle(loss, labels, delta, decay, strength, Q, point, stages)
        if found is not None:
            return found
    return None


def _settle(
    loss: AbstractLoss,
    labels: AbstractLabels,
    delta: float,
    decay: float,
    strength: float,
    Q: float,
    point: Point,
    stages: tuple[tuple[float, int], ...],
) -> Point | None:
    """Damped rounds until they settle a little, then Newton's method; where that fails, more rounds."""

    def turn(at: Point) -> Point:
        return _round(loss, labels, delta, decay, strength, Q, at)

    for settled, rounds in stages:
        for _ in range(rounds):
            new = turn(point)
            if not all(map(math.isfinite, new)) or new.C > FARTHEST:
                return None
            change = max(
                abs(new.V - point.V) / (new.V + 1e-300),
                abs(new.C / point.C - 1),
                abs(new.m - point.m) / math.sqrt(new.C),
            )
            point = Point(*(0.5 * (a + b) for a, b in zip(point, new, strict=True)))
            if change < settled:
                break
        found = _newton(turn, point, Q)
        if found is not None:
            return found
    return None


def _newton(turn: Callable[[Point], Point], point: Point, Q: float) -> Point | None:
    """The zero of turn(point) - point, in log V, log C and the cosine."""
    from scipy.optimize import root

    def read(x: Array) -> Point:
        C = math.exp(min(max(float(x[0]), -600.0), 60.0))
        V = math.exp(min(max(float(x[2]), -600.0), 60.0)) if x.size > 2 else 0.0
        return Point(V, C, math.sqrt(C * Q) * min(max(float(x[1]), -1.0), 1.0))

    def gaps(x: Array) -> Array:
        at = read(x)
        new = turn(at)
        found = [math.log(max(new.C, 1e-300) / at.C), new.m / math.sqrt(at.C * Q) - float(x[1])]
        return np.array(found + ([math.log(max(new.V, 1e-300) / at.V)] if x.size > 2 else []))

    start = [math.log(point.C), point.m / math.sqrt(point.C * Q)] + ([math.log(point.V)] if point.V else [])
    x = root(gaps, np.array(start), method="hybr", options={"xtol": 1e-14, "maxfev": 100}).x
    if not np.isfinite(x).all() or x[0] > math.log(FARTHEST) or np.abs(gaps(x)).max() > EXACT:
        return None
    return read(x)


def _population(loss: AbstractLoss, labels: AbstractLabels, decay: float, Q: float) -> Point | None:
    """delta = inf: theta = (m/Q) theta*, where the derivative of the mean loss by m vanishes; it grows with m."""

    def slope(m: float) -> float:
        return decay * m + averages(loss, labels, m**2 / Q, m, Q, 0.0).signal

    at_zero = slope(0.0)
    if abs(at_zero) < 1e-14:
        return Point(0.0, 0.0, 0.0)  # nothing can be learned
    sign, end = -math.copysign(1.0, at_zero), 1.0
    while slope(sign * end) * at_zero > 0:
        end *= 2
        if end**2 > FARTHEST:
            return None
    m = _zero(slope, 0.0, sign * end)
    return Point(0.0, m**2 / Q, m)


def _round(
    loss: AbstractLoss, labels: AbstractLabels, delta: float, decay: float, strength: float, Q: float, point: Point
) -> Point:
    """The equations of the module, once."""
    V, C, m = point
    seen = averages(loss, labels, C, m, Q, V)
    stiffness = decay + seen.curvature
    pull = (seen.signal - seen.curvature * m) / Q  # M*
    variance = seen.force / delta + pull**2 * Q  # of u - M* theta*
    kept, square = _soft(strength, variance)
    return Point(kept / (delta * stiffness), square / stiffness**2, -pull * Q * kept / stiffness)


def _soft(strength: float, variance: float) -> tuple[float, float]:
    """P(|x| > s) and E soft(x, s)^2 for x ~ N(0, variance)."""
    if strength == 0 or variance == 0:
        return (1.0, variance) if strength == 0 else (0.0, 0.0)
    from scipy.special import ndtr

    deviation = math.sqrt(variance)
    tail = float(ndtr(-strength / deviation))
    density = math.exp(-(strength**2) / (2 * variance)) / math.sqrt(2 * math.pi)
    return 2 * tail, 2 * ((variance + strength**2) * tail - strength * deviation * density)


def _finish(problem: GeneralizedLinear, point: Point | None, decay: float) -> EndState:
    if point is None:
        reason = f"no fixed point was found at weight decay {decay:g}: the norm may have no bound; take a larger weight decay"
        return EndState(_unknown(problem), (), problem, Status("stopped", None, reason))
    V, C, m = point
    seen = averages(problem.loss, problem.labels, C, m, 1.0, V)
    values = _values(problem, seen.loss, C, m)
    if problem.labels.kind == "binary":
        values["train_error"] = error(problem.loss, problem.labels, C, m, 1.0, V)
    return EndState(values, (), problem, COMPLETE)


def _values(problem: GeneralizedLinear, loss: float, C: float, m: float) -> dict[str, float]:
    one = np.ones((1, 1))
    test = LinearModel(problem.loss, problem.labels).test(C * one, m * one, one)
    return {"loss": loss, **test, "norm": C, "overlap": min(max(m / math.sqrt(C), -1.0), 1.0) + 0.0 if C > 0 else 0.0}


def _unknown(problem: GeneralizedLinear) -> dict[str, float]:
    names = ["loss", "test_loss", "norm", "overlap"]
    names += ["train_error", "test_error"] if problem.labels.kind == "binary" else []
    names += ["mse"] if problem.labels.additive else []
    return dict.fromkeys(names, math.nan)


def _along_spectrum(problem: GeneralizedLinear, decay: float) -> EndState:
    """Square loss: A and B at the end of the flow along each eigenvector.

    Labels enter by E y r* = c and E y^2 alone: y = c r*/Q + a noise that no linear function of the data predicts.
    """
    product, square = second_moments(problem.labels, 1.0)
    q0, m0 = problem.init_variance, problem.init_overlap * math.sqrt(problem.init_variance)
    noise = max(square - product**2, 0.0)
    if decay == 0 and problem.delta == 1 and noise > 1e-15:
        reason = "as many samples as weights and no weight decay: the norm grows like sqrt(t) without bound; take a weight decay"
        return EndState(
            {**_unknown(problem), "loss": 0.0, "norm": math.inf}, (), problem, Status("left_domain", math.inf, reason)
        )
    x, w = spectrum(Regression(problem.delta, decay, noise, q0, m0, product**2), 0.0, both_edges=False)
    remembered = float(problem.weight_decay == 0)  # "0+" forgets the start
    silent = x == 0
    s = np.where(silent & (decay == 0), 1.0, decay + x)
    A, B, G = np.where(silent, remembered, 0.0), x / s, np.where(silent, 0.0, 1 / s)
    if decay:
        A = np.zeros_like(x)
    C = float(w @ (A * q0 + B**2 * product**2) + noise / problem.delta * (w @ (G**2 * x)))
    m = float(w @ A * m0 + w @ B * product)
    lost = np.where(silent, 1.0, decay / s)  # 1 - B
    residual = float(w @ (x * lost**2) * product**2 + noise * (1 - w @ (1 - lost**2) / problem.delta))
    values = _values(problem, max(residual, 0.0) / 2, C, m)
    if problem.labels.kind == "binary":
        values["train_error"] = 0.0
        if decay or problem.delta > 1:
            V = float(w @ (1 / s)) / problem.delta
            values["train_error"] = error(problem.loss, problem.labels, C, m, 1.0, V)
    return EndState(values, (), problem, COMPLETE)


def _without_decay(problem: GeneralizedLinear) -> EndState:
    loss, labels, delta = problem.loss, problem.labels, problem.delta
    if isinstance(loss, Square):
        return _along_spectrum(problem, 0.0)
    if loss.of_residual and _is_pointed(loss):
        noiseless = labels.additive and second_moments(labels, 1.0)[1] <= 1.0
        if delta <= 1 or noiseless:  # the loss falls to 0 at the interpolator nearest to the start, as square loss does
            from dataclasses import replace

            same = _along_spectrum(replace(problem, loss=Square()), 0.0)
            if not same.status:
                return EndState(same.values, (), problem, same.status)
            C, cosine = same.values["norm"], same.values["overlap"]
            values = _values(problem, 0.0, C, cosine * math.sqrt(C))
            if labels.kind == "binary":
                values["train_error"] = 0.0
            return EndState(values, (), problem, COMPLETE)
        return _finish(problem, solve(loss, labels, delta, 0.0), 0.0)
    if labels.kind == "binary" and isinstance(loss, (Logistic, SmoothHinge)):
        threshold = separable_below(labels)
        if delta > threshold:
            return _finish(problem, solve(loss, labels, delta, 0.0), 0.0)
        return _largest_margin(problem, threshold)
    if delta <= 1:
        raise NotSpoken(
            f"without weight decay {loss!r} has many minimizers at delta <= 1, and which one a flow reaches is known for "
            f"losses of r - y alone; take a weight decay. Methods that apply: {problem.answered_by()}."
        )
    return _finish(problem, solve(loss, labels, delta, 0.0), 0.0)


def separable_below(labels: AbstractLabels) -> float:
    """delta_sep = 1/min_t E (Z - t y r*)_+^2: samples with labels +-1 are separable, with probability 1, for delta < delta_sep.

    Z ~ N(0, 1). inf for labels that are a function sign(r*); 2 for fair coins. docs/theory/mean_field.md section 6.3 [NI26v2].
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import ndtr

    def tail(t: float) -> float:
        def of(a: Array) -> Array:
            return (1 + a**2) * ndtr(-a) - a * np.exp(-0.5 * a**2) / math.sqrt(2 * math.pi)

        return float(_over_margins(labels, lambda margin: of(t * margin)))

    if second_moments(labels, 1.0)[0] == 0:
        return 1 / tail(0.0)
    if tail(1e6) < 1e-5:
        return math.inf
    found = minimize_scalar(
        lambda u: tail(math.exp(u)), bounds=(-12.0, 14.0), method="bounded", options={"xatol": 1e-7}
    )
    return 1 / min(float(found.fun), tail(0.0))


def largest_margin(labels: AbstractLabels, delta: float) -> tuple[float, float]:
    """(cosine, margin) of the direction theta with the largest margin  min_i y_i x_i.theta/|theta|,  for separable samples.

    The margin kappa(rho) at cosine rho solves  delta E k(beta) = 1,  beta = (kappa - rho y r*)/sqrt(1 - rho^2),
    k(beta) = E (beta - Z)_+^2;  rho maximizes it. docs/theory/mean_field.md section 6.3 [NI26v2].
    """
    from scipy.special import ndtr

    def density(b: Array) -> Array:
        return np.exp(-0.5 * b**2) / math.sqrt(2 * math.pi)

    def margin(angle: float) -> float:
        rho, s = math.cos(angle), math.sin(angle)

        def excess(kappa: float) -> float:
            def k(z: Array) -> Array:
                b = (kappa - rho * z) / s
                return (1 + b**2) * ndtr(b) + b * density(b)

            return delta * float(_over_margins(labels, k)) - 1

        high = 1.0
        while excess(high) < 0:
            high *= 2
        low = -1.0
        while excess(low) > 0:
            low *= 2
        return _zero(excess, low, high)

    def slope(angle: float) -> float:
        """d kappa/d rho, up to a positive factor."""
        rho, s, kappa = math.cos(angle), math.sin(angle), margin(angle)

        def turned(z: Array) -> Array:
            b = (kappa - rho * z) / s
            return 2 * (b * ndtr(b) + density(b)) * (rho * kappa - z)

        return -float(_over_margins(labels, turned))

    if second_moments(labels, 1.0)[0] == 0:
        return 0.0, margin(math.pi / 2)
    angle = _zero(slope, 1e-4 / (1 + math.sqrt(delta)), math.pi / 2)
    return math.cos(angle), margin(angle)


def _zero(f: Callable[[float], float], a: float, b: float) -> float:
    """The zero of f between a and b, where its signs differ."""
    from scipy.optimize import root_scalar

    return float(root_scalar(f, bracket=(a, b), xtol=1e-15, rtol=1e-14).root)


def _over_margins(labels: AbstractLabels, f: Function) -> Array:
    """E f(y r*), r* ~ N(0, 1)."""

    def integrand(x: Array) -> Array:
        up = labels.positive(x, 0.0)
        if up is None:
            raise NotSpoken(
                f"{labels!r} must define positive(mean, variance), the probability of y = 1, for an end state without decay"
            )
        return up * f(x) + (1 - up) * f(-x)

    return average(integrand)


def _largest_margin(problem: GeneralizedLinear, threshold: float) -> EndState:
    """Separable samples: the direction that the flow tends to, ever more slowly."""
    values = {"loss": 0.0, "train_error": 0.0, "norm": math.inf}
    if problem.delta == math.inf:
        cosine = 1.0  # separable however many samples: y = sign r*
    else:
        cosine, _ = largest_margin(problem.labels, problem.delta)
    one = np.ones((1, 1))
    wrong = LinearModel(problem.loss, problem.labels).test(one, cosine * one, one)["test_error"]
    values |= {"overlap": cosine, "test_error": wrong, "test_loss": math.inf if wrong > 1e-12 else 0.0}
    reason = (
        f"the samples are separable (delta = {problem.delta:g} < {threshold:.6g}) and there is no weight decay: the norm "
        "grows like log t without bound, the direction tends to that of the largest margin, whose values "
        "these are; take a weight decay"
    )
    return EndState(values, (), problem, Status("left_domain", math.inf, reason))


def _strength(problem: GeneralizedLinear) -> float:
    match problem.penalty:
        case None:
            return 0.0
        case L1(strength=strength):
            return strength
    raise NotSpoken(
        f"the end state of {problem!r} is known for weight decay and L1 penalties only. "
        f"Methods that apply: {problem.answered_by()}."
    )


def _require_convex(problem: GeneralizedLinear) -> None:
    loss = problem.loss
    if isinstance(loss, (Square, Huber, Logistic, SmoothHinge)):
        return
    r = np.linspace(-30.0, 30.0, 6001)
    for y in (-1.0, 1.0) if problem.labels.kind == "binary" else (-3.0, -1.0, -0.1, 0.1, 1.0, 3.0):
        bend = loss.curvature(r, np.full_like(r, y))
        if (bend < -1e-12).any():
            at = float(r[np.argmin(bend)])
            raise NotSpoken(
                f"{loss!r} is not convex (its curvature is {float(bend.min()):.3g} at r = {at:.3g}, y = {y:g}), so the end "
                f"of its flow is no fixed point of an M-estimator and depends on the way there. "
                f"Methods that apply: {problem.answered_by()}."
            )


def _is_pointed(loss: AbstractLoss) -> bool:
    """Whether rho(r - y) has its only minimum at r = y."""
    e = np.array([-1e-3, 0.0, 1e-3])
    return list(np.sign(loss.slope(e, np.zeros(3)))) == [-1.0, 0.0, 1.0]


if TYPE_CHECKING:
    Function = Callable[[Array], Array]
