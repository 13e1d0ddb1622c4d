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
from lossflow.expansion.solutions.moments import lateral_turn, moments, quadrature

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

NODES = 20  # Chebyshev points on each panel of q, x = unit (e^q - 1), x = -Psi
NEWTON = 20  # steps at most, of which three or four are taken
PICARD = 40  # iterations at most on a panel of the lateral side, of which ten to twenty are taken
MOST_PANELS = 2000  # of the lateral side: tens are taken
SMALL, TAIL = 1e-13, 1e-12  # where an iteration and an interpolant have converged, relative to the largest
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

    def at(self, x: Array) -> tuple[Array, Array]:
        """F and G at x = -Psi >= 0, interpolated: as good as `moments`."""
        q = np.log1p(x / self.unit)
        panel = np.clip(q.astype(np.intp), 0, PANELS - 1)
        weights = _weights(np.asarray(q - panel, np.float64))
        return _dot(weights, self.F[panel]), _dot(weights, self.G[panel])


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
        from scipy.special import erfc

        nu, turn = self.order, -lateral_turn(self.order)
        s = self.sign * times * self.clock
        psi, J, F, G = self._lateral(s, turn)
        lateral = self.constant + self.amplitude * self._bracket(F, G, J)
        power = nu - 2
        with np.errstate(divide="ignore"):
            x = (nu * power * np.maximum(psi.real, 0.0)) ** (-1 / power)
        blown = np.minimum(erfc(x / math.sqrt(2)), 1 - 1e-16)
        learned = -np.expm1(self.H * np.log1p(-blown))
        return Formal(lateral.real, np.abs(lateral.imag), learned, psi.real / self.clock)

    def _lateral(self, s: Array, turn: float) -> npt.NDArray[np.complex128]:
        """Psi, J, F and G at scaled times s >= 0 on the lateral side, shape (4, times): on panels of Chebyshev points each by

        iteration of y = y_0 + int f(y), begun from the panel before; its length is that on which interpolants have converged.
        """
        nu, power = self.order, (self.order - 2) / self.order
        integrals, to_coefficients = _integration().T, _to_coefficients().T
        start = np.array([0.0, 1.0], np.complex128)
        found = np.repeat(
            np.array([*start, 1.0, math.prod(range(nu - 1, 0, -2))], np.complex128)[:, None], s.size, axis=1
        )
        reach, begin = float(s.max(initial=0.0)), 0.0
        length = min(reach, 0.3 / (nu**3 + self.field))  # a fraction of both scales
        guess = np.repeat(start[:, None], NODES, axis=1)
        for _ in range(MOST_PANELS):
            if begin >= reach:
                return found
            y, held = guess, False
            rule = quadrature(nu, 4 * max(float(np.abs(y[0]).max()), length), turn)
            with np.errstate(all="ignore"):  # of an iteration that runs away the panel is halved
                for _ in range(PICARD):
                    speed = y[1] ** -power
                    pull = self.sign * self.field * rule.F(y[0]) ** (nu - 1) * speed
                    new = start[:, None] + length * (np.array([speed, pull]) @ integrals)
                    change = float(np.abs(new - y).max())
                    y = new
                    if not change > SMALL * float(np.abs(y).max()):
                        held = math.isfinite(change)
                        break
                panel = np.array([*y, *rule.both(y[0])])
                tail = np.abs(panel @ to_coefficients)[:, -3:].max(axis=1) / np.abs(panel).max(axis=1)
            if not (held and (tail < TAIL).all()):
                length /= 2
                guess = np.repeat(start[:, None], NODES, axis=1)
                continue
            end = begin + length if begin + length < reach * (1 - 1e-14) else reach
            inside = (s > begin) & (s <= end)
            found[:, inside] = panel @ _weights((s[inside] - begin) / length).T
            ahead = min((1.6 if tail.max() < TAIL / 100 else 1.0) * length, reach - end)
            guess = y @ _weights(1 + _nodes() * min(ahead / length, 0.7)).T
            begin, start, length = end, y[:, -1], ahead
        raise InvalidInput(
            f"the formal limit cannot be continued to t = {reach / self.clock:.6g}; ask for shorter times"
        )

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
        """q at which field * int F^(nu-1) = 1, by Newton's method."""
        law = weight_law(self.order)
        panel = min(int(np.searchsorted(self.field * law.integral[:, -1], 1)), PANELS - 1)
        values = self.field * law.integral[panel]
        slope = self.field * law.F[panel] ** (self.order - 1) * (law.x(panel + _nodes()) + law.unit)
        local = float(np.interp(1.0, values, _nodes()))
        for _ in range(NEWTON):
            weights = _weights(np.array([local]))[0]
            step = float((weights @ values - 1) / (weights @ slope))
            local = min(max(local - step, 0.0), 1.0)
            if abs(step) < 1e-15:
                break
        return panel + local

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
        F, _ = law.at(x_c - length * (_nodes()[:, None] * v).ravel())
        slope = self.field * (F ** (nu - 1)).reshape(NODES, v.size) @ weight  # J / (x_c - x)
        power = (nu - 2) / nu
        inner = (_weights((_nodes()[:, None] * v**nu).ravel()) @ slope).reshape(NODES, v.size)
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
        F, G, J = (np.empty(elapsed.shape) for _ in range(3))
        ordinary = panel < (self._last.panel if self.critical_x is not None else PANELS)
        for chosen, found in (
            (ordinary, self._on_panels(elapsed[ordinary], panel[ordinary])),
            (~ordinary, self._near_the_end(ends[-1] - elapsed[~ordinary])),
        ):
            F[chosen], G[chosen], J[chosen] = found
        return F, G, J

    def _on_panels(self, elapsed: Array, panel: npt.NDArray[np.intp]) -> tuple[Array, Array, Array]:
        if not elapsed.size:
            return elapsed, elapsed, elapsed
        law, nu = weight_law(self.order), self.order
        x, J = self._panels
        pace = np.maximum(J, 0.0) ** ((nu - 2) / nu) * (x + law.unit)
        passed = pace @ _integration().T
        target = elapsed - self._elapsed[panel]
        at_nodes = (self._elapsed[: passed.shape[0], None] + passed[: self._elapsed.size])[:, :-1].ravel()
        places = (np.arange(passed.shape[0])[: self._elapsed.size, None] + _nodes()[None, :-1]).ravel()
        local = np.clip(np.interp(elapsed, at_nodes, places) - panel, 0.0, 1.0)
        weights = _weights(local)
        passed, pace = passed[panel], pace[panel]
        for _ in range(NEWTON):
            error = _dot(weights, passed) - target
            step = error / _dot(weights, pace)
            local = np.clip(local - step, 0.0, 1.0)
            weights = _weights(local)
            if np.abs(step).max() < 1e-8:  # the next one would be its square
                break
        return _dot(weights, law.F[panel]), _dot(weights, law.G[panel]), _dot(weights, J[panel])

    def _near_the_end(self, left: Array) -> tuple[Array, Array, Array]:
        """F, G and J at a scaled time before the blow-up: left is the time to it.

        left = (x_c - x)^power pace, solved for the logarithm of W, so that relative accuracy lasts to the end.
        """
        if not left.size:
            return left, left, left
        end, power = self._last, 1 + (self.order - 2) / self.order
        steep = _differentiation() @ end.pace
        target = left ** (1 / power) / end.length
        W = np.interp(target, _nodes() * end.pace ** (1 / power), _nodes())
        W = np.maximum(W, target / end.pace.max() ** (1 / power) / 2)
        for _ in range(NEWTON):
            weights = _weights(W)
            pace, slope = weights @ end.pace, weights @ steep
            step = (np.log(W / target) + np.log(pace) / power) / (1 + W * slope / (power * pace))
            W = np.clip(W * np.exp(-step), 0.0, 1.0)
            if np.abs(step).max() < 1e-8:
                break
        distance = W * end.length
        F, G = weight_law(self.order).at(end.x - distance)
        return F, G, distance * (_weights(W) @ end.slope)


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
def _to_coefficients() -> Array:
    """The matrix that takes values at the nodes to Chebyshev coefficients."""
    values = np.polynomial.chebyshev.chebvander(2 * _nodes() - 1, NODES - 1)
    return np.asarray(np.linalg.inv(values), np.float64)


@lru_cache(maxsize=1)
def _barycentric() -> Array:
    weights = np.where(np.arange(NODES) % 2, -1.0, 1.0)
    weights[[0, -1]] /= 2
    return weights


@lru_cache(maxsize=1)
def _differentiation() -> Array:
    """The matrix that takes values at the nodes to the derivatives of their interpolant there."""
    nodes, weights = _nodes(), _barycentric()
    distance = nodes[:, None] - nodes[None, :] + np.eye(NODES)
    matrix = weights[None, :] / weights[:, None] / distance
    np.fill_diagonal(matrix, 0.0)
    return matrix - np.diag(matrix.sum(axis=1))


def _weights(local: Array) -> Array:
    """What the values at the nodes count at the points `local` of [0, 1], shape (points, NODES)."""
    distance = local[:, None] - _nodes()[None, :]
    hit = distance == 0
    if hit.any():
        distance[hit] = 1e-300  # the node itself takes all
    weights = _barycentric() / distance
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def _dot(a: Array, b: Array) -> Array:
    """Row by row."""
    return np.asarray(np.einsum("ij,ij->i", a, b), np.float64)


__all__ = ["OneWeight", "one_weight", "quartic_threshold", "weight_law"]
