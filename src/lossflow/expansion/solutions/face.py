"""What is known of the limit on a face of the polygon: values, their error, how far they hold, and the formula.

Closed forms of free evolution and of the kernel regime (`explicit`), the several rates of odd orders (`lazy`), the flow
of one weight
for even orders (`one_weight`). docs/theory/diagrams.md sections 7, 8 and 10 [YGG26v2].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lossflow.expansion.solutions.explicit import Explicit, explicit
from lossflow.expansion.solutions.lazy import Lazy, lazy
from lossflow.expansion.solutions.one_weight import Formal, OneWeight, one_weight
from lossflow.expansion.solutions.row_maximum import row_maximum
from lossflow.expansion.solutions.sign_average import sign_averaged
from lossflow.problem import AbstractProblem
from lossflow.problems.cp import CPDecomposition
from lossflow.problems.targets import Identity, Zero
from lossflow.trajectory import COMPLETE, Status

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

UNSEEN = 0.05  # share of the loss that ambiguity and unseen rows may have where a formal limit is given
GRID = 128  # points among which the end of its window is looked for, three times over


class Solved(NamedTuple):
    """The limit at some times. error: beside the neglected orders; details: for the trajectory.

    leading: Taylor coefficients, where they are known.
    """

    values: Array
    error: Array
    status: Status
    formula: str
    details: Mapping[str, Any]
    leading: tuple[Fraction, ...] | None = None


def solved(problem: AbstractProblem, regime: str, sizes: Mapping[str, float], times: Array) -> Solved | None:
    """The limit on the face called `regime`, None where it is known by its series alone."""
    match problem:
        case CPDecomposition(order=order, symmetric=symmetric, target=Zero()):
            scale = Fraction(0)
        case CPDecomposition(order=order, symmetric=symmetric, target=Identity(scale=c)):
            scale = Fraction(c)
        case _:
            return None
    p, H, sigma2 = (Fraction(sizes[name]) for name in ("p", "H", "sigma2"))
    if symmetric and order % 2:
        form = lazy(order, regime, p, H, sigma2, scale)
        return None if form is None else _of_form(form, times)._replace(leading=form.taylor(ORDER_OF_LAZY))
    given = order, regime, float(p), float(H), float(sigma2), float(scale)
    flow = one_weight(*given) if symmetric else None
    if flow is not None:
        return _of_flow(flow, times)
    closed = explicit(order, symmetric, *given[1:])
    return None if closed is None else _of_form(closed, times)


def widest(problem: AbstractProblem, regime: str) -> str | None:
    """The largest face that contains the one called `regime` and whose limit is solved; None where there is none."""
    match problem:
        case CPDecomposition(order=order, symmetric=symmetric, target=Zero()):
            scale = Fraction(0)
        case CPDecomposition(order=order, symmetric=symmetric, target=Identity(scale=c)):
            scale = Fraction(c)
        case _:
            return None
    even = symmetric and order % 2 == 0
    face = {(True, True): "A-B-E", (True, False): "A-B", (False, True): "B-C"}.get((even, bool(scale)))
    return face if face and set(regime.split("-")) <= set(face.split("-")) else None


ORDER_OF_LAZY = 8  # of the Taylor coefficients that are compared with the exact series


def _of_form(form: Explicit | Lazy, times: Array) -> Solved:
    return Solved(form.at(times), np.zeros(times.shape), _blow_up(form.blow_up_time, times), form.formula, {})


def _blow_up(blow_up: float | None, times: Array) -> Status:
    if blow_up is None or (times > blow_up).all():
        return COMPLETE
    reason = f"backward in time the loss blows up at t = {blow_up:.6g}; ask for later times"
    return Status("left_domain", blow_up, reason)


def _of_flow(flow: OneWeight, times: Array) -> Solved:
    """The convergent side as it is, the formal one up to where it stops being a statement about finite sizes."""
    values, error = flow.at(times), np.zeros(times.shape)
    details: dict[str, Any] = {"noise": flow.rho, "theta": flow.theta, "blow_up_time": flow.blow_up_time or math.nan}
    ended = []
    if flow.blow_up_time is not None and (times <= flow.blow_up_time).any():
        ended.append(_blow_up(flow.blow_up_time, times))
    ahead = times * flow.sign > 0
    if ahead.any():
        formal = flow.formal(times[ahead])
        unseen = np.hypot(formal.ambiguity, flow.constant * formal.learned)
        window = _window(flow, float(np.abs(times[ahead]).max()))
        held = np.abs(times[ahead]) < window
        values[ahead] = np.where(held, formal.values, np.nan)
        error[ahead] = np.where(held, unseen, np.nan)
        details["window"] = flow.sign * window
        for name, array in (("formal", formal.values), ("ambiguity", formal.ambiguity)):
            details[name] = _spread(ahead, array)
        if flow.sign > 0:
            details["row_maximum"] = _spread(ahead, _rows(flow, formal))
            estimate, doubt = _estimate(flow, times[ahead], formal, details["row_maximum"][ahead], held)
            details["estimate"], details["estimate_error"] = _spread(ahead, estimate), _spread(ahead, doubt)
        if not held.all():
            ended.append(Status("left_domain", flow.sign * window, _why(flow, window)))
    status = COMPLETE
    if ended:
        last = max(ended, key=lambda each: (each.last_time or 0.0) * np.sign(times[-1] - times[0] or times[-1]))
        status = last if len(ended) == 1 else Status(last.kind, last.last_time, "; ".join(e.reason for e in ended))
    return Solved(values, error, status, _formula(flow), details)


def _rows(flow: OneWeight, formal: Formal) -> Array:
    """Rows learn one by one, at the pace of the weights in their common field."""
    pace = np.maximum(formal.free_times, 0.0)
    return row_maximum(flow.order, flow.p, flow.H, flow.sigma2, flow.scale, pace)


def _estimate(
    flow: OneWeight, times: Array, formal: Formal, rows: Array, held: npt.NDArray[np.bool_]
) -> tuple[Array, Array]:
    """The best guess at any time, and its error: formal while that holds, then all weights, their signs averaged (order 4)."""
    best = np.where(held, formal.values, rows)
    doubt = np.where(held, np.hypot(formal.ambiguity, flow.constant * formal.learned), np.nan)
    if held.all() or flow.order != 4 or not (flow.p.is_integer() and flow.H.is_integer()):
        return best, doubt
    found = sign_averaged(int(flow.p), int(flow.H), flow.sigma2, flow.scale, times)
    if found is None:
        return best, doubt
    return np.where(held, formal.values, found.values), np.where(held, doubt, found.error)


def _window(flow: OneWeight, reach: float) -> float:
    """The |t| up to `reach` where ambiguity and unseen rows exceed their share of the loss, inf where they do not."""
    low, high = 0.0, reach
    for _ in range(3):
        grid = np.linspace(low, high, GRID)
        formal = flow.formal(flow.sign * grid)
        bad = ~(np.hypot(formal.ambiguity, flow.constant * formal.learned) <= UNSEEN * np.abs(formal.values))
        if not bad.any():
            return math.inf
        k = int(np.argmax(bad))
        low, high = float(grid[max(k - 1, 0)]), float(grid[k])
    return high


def _why(flow: OneWeight, window: float) -> str:
    side = "" if flow.sign > 0 else "backward in time "
    estimate = '; details["estimate"] has an estimate of what follows' if flow.sign > 0 else ""
    return (
        f"{side}from |t| = {window:.6g} on single weights blow up in more than {UNSEEN:.0%} of the loss, which the expansion in "
        f"large sizes does not see at any order{estimate}"
    )


def _spread(where: npt.NDArray[np.bool_], values: Array) -> Array:
    found = np.full(where.shape, np.nan)
    found[where] = values
    return found


def _formula(flow: OneWeight) -> str:
    nu, sign = flow.order, "" if flow.sign > 0 else "-"
    constant = rf"{flow.constant:.6g} + {flow.amplitude:.6g}"
    closed = (
        r"-\frac{1}{8a} + \frac{\sqrt\pi\,\mathrm{erfcx}(1/(4\sqrt{-a}))}{32\,a\sqrt{-a}}"
        if nu == 4
        else rf"\mathbb{{E}}\,x^2 (1 - {nu * (nu - 2)}\, a\, x^{{{nu - 2}}})^{{-2/{nu - 2}}},\ x\sim\mathcal N(0,1)"
    )
    return (
        rf"{constant} \left[\frac{{{flow.theta * flow.rho / 2:.6g}\, F^{{{nu}}}}}{{J^2}}"
        rf" - \frac{{{sign}F'}}{{{2 * nu}\, J}}\right](\Psi),\quad "
        rf"J = 1 + {sign}{flow.field:.6g}\int_0^\Psi F^{{{nu - 1}}}"
        rf",\quad \dot\Psi = {sign}{flow.clock:.6g}\, J^{{-{nu - 2}/{nu}}},"
        rf"\quad \Psi(0) = 0,\quad F(a) = {closed}"
    )
