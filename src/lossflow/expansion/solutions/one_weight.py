"""The limit of symmetric decompositions of even order >= 4: one weight in the field of all, solved by one quadrature.

    du/dtau = nu (c u^(nu-1) - theta z_2^(nu-1) u),   z_m = p E u^m,   u(0) ~ N(0, sigma2),
    E L = c^2 p/2 + H (theta z_2^nu/2 - c p E u^nu)

Take |c| = 1 and write e for its sign, Psi = e sigma^(nu-2) psi for the time of the weight without the field. With F and
G of `moments`,
rho = p^(nu-1) sigma^nu and the scaled time s = sigma^(nu-2) t

    J = 1 + nu^2 theta rho e int_0^Psi F^(nu-1),   dPsi/ds = e J^(-(nu-2)/nu),
    E L = p/2 + H p sigma^nu [ theta rho F^nu/(2 J^2) - e G/J ].

On the side e s <= 0 (ascent, for c > 0) all of it is finite, up to the time at which J vanishes, if it does. On the other side
single weights blow up, and the same equations with the lateral continuations of F and G give the formal, resummed limit.
docs/theory/diagrams.md section 10 [YGG26v2], docs/theory/odd_order_and_descent.md part B.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lossflow.description import coerce
from lossflow.errors import InvalidInput
from lossflow.expansion.solutions.moments import lateral_turn, moments

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

NODES = 20  # Chebyshev points on each panel of q, x = unit (e^q - 1), x = -Psi
PANELS = 80  # of length 1 each: up to Psi = -unit e^80
FACES = ("A-B-E", "B-E", "E-A", "E")


class Law(NamedTuple):
    """F, G and int_0^x F^(nu-1) on the panels of q, of shape (PANELS, NODES); total: the integral to infinity."""

    unit: float
    F: Array
    G: Array
    integral: Array
    total: float

    def x(self, q: Array) -> Array:
        """x = -Psi at q."""
        return self.unit * np.expm1(q)


class Formal(NamedTuple):
    """The median sum, half the distance of the lateral sums, the probability that a row has a weight that blew up, and Psi/clock.

    free_times: the time at which a weight without the field is where the weights with the field are.
    """

    values: Array
    ambiguity: Array
    learned: Array
    free_times: Array


class Ending(NamedTuple):
    """The last panel before J vanishes at x, on nodes of W = (x_c - x)/length.

    J = (x_c - x) slope, and the time left is (x_c - x)^(2 - 2/nu) pace.
    """

    panel: int
    x: float
    length: float
    slope: Array
    pace: Array


@dataclass(frozen=True)
class OneWeight:
    """The flow of one weight at given sizes. order: nu; p, H, sigma2: sizes; scale: c != 0; theta >= 0: of the field."""

    order: int
    p: float
    H: float
    sigma2: float
    scale: float
    theta: float

    @property
    def sign(self) -> int:
        """The sign of the target; times with e t <= 0 are those at which the limit converges."""
        return 1 if self.scale > 0 else -1

    @cached_property
    def variance(self) -> float:
        """sigma2 in the unit of the target."""
        return self.sigma2 / abs(self.scale) ** (2 / self.order)

    @cached_property
    def rho(self) -> float:
        """p^(nu-1) sigma^nu, the noise."""
        return self.p ** (self.order - 1) * self.variance ** (self.order // 2)

    @cached_property
    def clock(self) -> float:
        """s / t."""
        return self.variance ** (self.order // 2 - 1) * abs(self.scale) ** (2 - 2 / self.order)

    @property
    def constant(self) -> float:
        """c^2 p/2, the loss without weights."""
        return self.scale**2 * self.p / 2

    @property
    def amplitude(self) -> float:
        """c^2 H p sigma^nu, which multiplies the bracket of E L."""
        return self.scale**2 * self.H * self.p * self.variance ** (self.order // 2)

    @property
    def field(self) -> float:
        """nu^2 theta rho."""
        return self.order**2 * self.theta * self.rho

    @cached_property
    def critical_x(self) -> float | None:
        """-Psi at which J vanishes; None where it never does."""
        law = weight_law(self.order)
        if self.sign < 0 or self.field * law.total <= 1:
            return None
        return law.unit * math.expm1(self._critical_q())

    @cached_property
    def blow_up_time(self) -> float | None:
        """t at which the limit blows up, before zero; None where it does not (rho theta at most `quartic_threshold(1)`,
        for order 4).

        s_crit = -int_0^x_c (1 - nu^2 theta rho int_0^x F^(nu-1))^((nu-2)/nu) dx.
        """
        if self.critical_x is None:
            return None
        return -float(self._elapsed[-1]) / self.clock

    def at(self, times: Array) -> Array:
        """E L on the side e t <= 0; NaN elsewhere and beyond the blow-up."""
        elapsed = -self.sign * times * self.clock
        value = np.full(times.shape, np.nan)
        inside = elapsed >= 0
        if self.critical_x is not None:
            inside &= elapsed < self._elapsed[-1]
        F, G, J = self._state(elapsed[inside])
        value[inside] = self.constant + self.amplitude * self._bracket(F, G, J)
        return value

    def formal(self, times: Array) -> Formal:
        """The lateral sum of the series of E L on the side e t >= 0, and the rows that it does not see.

        A weight blows up for |x| > (nu (nu-2) Psi)^(-1/(nu-2)), one of H weights of a row with the probability 1 - (1 -
        erfc(x/sqrt 2))^H,
        which goes to one of the p rows and then to all at s ~ 1/(32 log(p H)) (order 4): invisible in every coefficient.
        """
        from scipy.integrate import solve_ivp
        from scipy.special import erfc

        nu, turn = self.order, -lateral_turn(self.order)
        s = self.sign * times * self.clock
        order = np.argsort(s)

        def pace(_: float, y: npt.NDArray[np.complex128]) -> npt.NDArray[np.complex128]:
            F = moments(nu, y[:1], turn)[0]
            speed = y[1] ** (-(nu - 2) / nu)
            return np.array([speed, self.sign * self.field * F[0] ** (nu - 1) * speed])

        found = np.empty((2, s.size), np.complex128)
        start = np.array([0.0, 1.0], np.complex128)
        reach = float(s.max(initial=0.0))
        if reach > 0:
            run = solve_ivp(pace, (0.0, reach), start, "DOP853", s[order], rtol=1e-12, atol=1e-14)
            if not run.success:
                raise InvalidInput(
                    f"the formal limit cannot be continued to t = {reach / self.clock:.6g}: {run.message}"
                )
            found[:, order] = run.y
        else:
            found[:] = start[:, None]
        F, G = moments(nu, found[0], turn)
        lateral = self.constant + self.amplitude * self._bracket(F, G, found[1])
        power = nu - 2
        with np.errstate(divide="ignore"):
            x = (nu * power * np.maximum(found[0].real, 0.0)) ** (-1 / power)
        blown = np.minimum(erfc(x / math.sqrt(2)), 1 - 1e-16)
        learned = -np.expm1(self.H * np.log1p(-blown))
        return Formal(lateral.real, np.abs(lateral.imag), learned, found[0].real / self.clock)

    def _bracket(self, F: npt.NDArray[Any], G: npt.NDArray[Any], J: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return (self.theta * self.rho / 2 * F**self.order / J - self.sign * G) / J

    # --- the side on which everything is finite

    @cached_property
    def _panels(self) -> tuple[Array, Array]:
        """x and J on the nodes of the panels."""
        law = weight_law(self.order)
        q = np.arange(PANELS)[:, None] + _nodes()[None, :]
        return law.x(q), 1 - self.sign * self.field * law.integral

    def _critical_q(self) -> float:
        law = weight_law(self.order)
        ends = law.integral[:, -1]
        panel = int(np.argmax(self.field * ends >= 1)) if self.field * ends[-1] >= 1 else PANELS - 1
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = 0.5 * (low + high)
            here = float(_interpolated(law.integral[panel : panel + 1], np.array([0]), np.array([middle]))[0])
            low, high = (middle, high) if self.field * here < 1 else (low, middle)
        return panel + high

    @cached_property
    def _last(self) -> Ending:
        """The panel of the critical point x_c in W = (x_c - x)/length, with the zeros of J and of the time taken out."""
        law, nu = weight_law(self.order), self.order
        q_c = self._critical_q()
        x_c = law.unit * math.expm1(q_c)
        panel = min(int(q_c), PANELS - 1)
        panel -= panel > 0 and q_c - panel < 0.25  # never a sliver, whose beginning is as critical as its end
        length = x_c - law.unit * math.expm1(panel)
        v, weight = _gauss()
        F, _ = moments(nu, -(x_c - length * (_nodes()[:, None] * v).ravel()))
        slope = self.field * (F ** (nu - 1)).reshape(NODES, v.size) @ weight  # J / (x_c - x)
        power = (nu - 2) / nu
        inner = np.array([_interpolated(slope[None, :], np.zeros(v.size, np.intp), w * v**nu) for w in _nodes()])
        pace = inner**power @ (weight * nu * v ** (2 * nu - 3))  # (time left) / (x_c - x)^(1 + power)
        return Ending(panel, x_c, length, slope, pace)

    @cached_property
    def _elapsed(self) -> Array:
        """The scaled time at the ends of the panels, starting with 0; the last one is the blow-up where there is one."""
        x, J = self._panels
        count = PANELS if self.critical_x is None else self._last.panel
        pace = J[:count] ** ((self.order - 2) / self.order) * (x[:count] + weight_law(self.order).unit)
        lengths = pace @ _integration()[-1]
        if self.critical_x is not None:
            end = self._last
            lengths = np.append(lengths, end.pace[-1] * end.length ** (1 + (self.order - 2) / self.order))
        return np.concatenate([[0.0], np.cumsum(lengths)])

    def _state(self, elapsed: Array) -> tuple[Array, Array, Array]:
        """F, G and J at scaled times, by Newton's method on the panels."""
        ends = self._elapsed
        if elapsed.size and elapsed.max() > ends[-1]:
            raise InvalidInput(
                f"t = {elapsed.max() / self.clock:.3g} is beyond all scales of the flow; ask for nearer times"
            )
        panel = np.clip(np.searchsorted(ends, elapsed, side="right") - 1, 0, ends.size - 2)
        x = np.empty(elapsed.shape)
        J = np.empty(elapsed.shape)
        critical = self.critical_x is not None
        ordinary = panel < (self._last.panel if critical else PANELS)
        if ordinary.any():
            x[ordinary], J[ordinary] = self._on_panels(elapsed[ordinary], panel[ordinary])
        if not ordinary.all():
            x[~ordinary], J[~ordinary] = self._near_the_end(ends[-1] - elapsed[~ordinary])
        F, G = moments(self.order, -x)
        return F, G, J

    def _on_panels(self, elapsed: Array, panel: npt.NDArray[np.intp]) -> tuple[Array, Array]:
        law, nu = weight_law(self.order), self.order
        x, J = self._panels
        pace = np.maximum(J, 0.0) ** ((nu - 2) / nu) * (x + law.unit)
        passed = pace @ _integration().T
        target = elapsed - self._elapsed[panel]
        local = np.clip(target / passed[panel, -1], 0.0, 1.0)
        for _ in range(30):
            error = _interpolated(passed, panel, local) - target
            step = error / _interpolated(pace, panel, local)
            local = np.clip(local - step, 0.0, 1.0)
            if np.abs(step).max() < 1e-14:
                break
        return law.x(panel + local), _interpolated(J, panel, local)

    def _near_the_end(self, left: Array) -> tuple[Array, Array]:
        """x and J at a scaled time before the blow-up: left is the time to it."""
        end = self._last
        power = 1 + (self.order - 2) / self.order
        first = np.zeros(left.shape, np.intp)
        W = np.ones(left.shape)
        for _ in range(100):
            updated = np.minimum((left / _interpolated(end.pace[None, :], first, W)) ** (1 / power) / end.length, 1.0)
            change = np.abs(updated - W).max()
            W = updated
            if change < 1e-15:
                break
        distance = W * end.length
        return end.x - distance, distance * _interpolated(end.slope[None, :], first, W)


def one_weight(order: int, regime: str, p: float, H: float, sigma2: float, scale: float) -> OneWeight | None:
    """The flow on a face that the target enters, None for others.

    order: nu, even, >= 4; regime: "A-B-E", with theta = 1 + (nu-1)!! H/p^(nu/2), or "B-E", "E-A", "E", where of this sum
    the second
    term alone is left, the first, none; scale: c of the target c * identity. docs/theory/diagrams.md sections 6 and 10 [YGG26v2].
    """
    if order < 4 or order % 2 or not scale or regime not in FACES or sigma2 <= 0:
        return None
    rows = math.prod(range(order - 1, 0, -2)) * H / p ** (order // 2)
    theta = {"A-B-E": 1 + rows, "B-E": rows, "E-A": 1.0, "E": 0.0}[regime]
    return OneWeight(order, float(p), float(H), float(sigma2), float(scale), theta)


def quartic_threshold(theta: float) -> float:
    """rho*(theta) = [16 theta int_{-inf}^0 F^3]^-1 = 2.07780944847258/theta:  above it the ascent at order 4 ends in finite time.

    theta: 1 + 3 H/p^2, any number > 0 (1 for few rows); the noise is rho = p^3 sigma2^2. F is the mean of docs/theory/diagrams.md
    section 10. Raises `InvalidInput` for a theta that is not a positive finite number. docs/theory/diagrams.md section
    10 [YGG26v2].
    """
    theta = coerce(theta, float, "theta")
    if not 0 < theta < math.inf:
        raise InvalidInput(f"theta = 1 + 3 H/p^2 must be a positive finite number, got {theta!r}")
    return 1 / (16 * weight_law(4).total) / theta


@lru_cache(maxsize=8)
def weight_law(order: int) -> Law:
    """F, G and the integral of F^(nu-1) over all scales of Psi. order: nu."""
    unit = 0.01 / (order * (order - 2) * 5.0 ** (order - 4))
    q = np.arange(PANELS)[:, None] + _nodes()[None, :]
    x = unit * np.expm1(q)
    F, G = (each.reshape(x.shape) for each in moments(order, -x.ravel()))
    within = (F ** (order - 1) * (x + unit)) @ _integration().T
    before = np.concatenate([[0.0], np.cumsum(within[:, -1])])
    return Law(unit, F, G, within + before[:-1, None], float(before[-1]))


@lru_cache(maxsize=1)
def _nodes() -> Array:
    """Chebyshev points of [0, 1], ends among them."""
    return 0.5 - 0.5 * np.cos(np.pi * np.arange(NODES) / (NODES - 1))


@lru_cache(maxsize=1)
def _gauss() -> tuple[Array, Array]:
    """Points and weights of Gauss on [0, 1]."""
    points, weights = np.polynomial.legendre.leggauss(32)
    return (points + 1) / 2, weights / 2


@lru_cache(maxsize=1)
def _integration() -> Array:
    """The matrix that integrates an interpolant from 0 to each node."""
    t = 2 * _nodes() - 1
    values = np.polynomial.chebyshev.chebvander(t, NODES - 1)
    integrals = np.empty((NODES, NODES))
    for k in range(NODES):
        primitive = np.polynomial.chebyshev.chebint(np.eye(NODES)[k], lbnd=-1)
        integrals[:, k] = np.polynomial.chebyshev.chebval(t, primitive) / 2
    return np.asarray(np.linalg.solve(values.T, integrals.T).T, np.float64)


@lru_cache(maxsize=1)
def _barycentric() -> Array:
    weights = np.where(np.arange(NODES) % 2, -1.0, 1.0)
    weights[[0, -1]] /= 2
    return weights


def _interpolated(values: Array, panel: npt.NDArray[np.intp], local: Array) -> Array:
    """The interpolants of the rows `panel` of values at the points `local` of [0, 1]."""
    distance = local[:, None] - _nodes()[None, :]
    hit = distance == 0
    weights = _barycentric() / np.where(hit, 1.0, distance)
    weights = np.where(hit.any(axis=1, keepdims=True), hit.astype(float), weights)
    return np.sum(weights * values[panel], axis=1) / np.sum(weights, axis=1)


__all__ = ["OneWeight", "one_weight", "quartic_threshold", "weight_law"]
