"""What limits cost: every closed form, and the series of order 40, at 1000 times, in calls of `scipy.special.erfcx`, in one run.

One call of erfcx is on 100 000 points. A closed form may cost 10 of them, `Series(order=40)` of symmetric order 2 fifty times
as much. Sizes change from call to call, so nothing is remembered but the tables that all sizes share.

python benchmarks/limits.py
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from scipy.special import erfcx

import lossflow as lf
from lossflow.expansion.leading_recurrences import bond_values, leading_recurrence
from lossflow.expansion.solutions import matrix
from lossflow.expansion.solutions.explicit import explicit
from lossflow.expansion.solutions.lazy import lazy
from lossflow.expansion.solutions.one_weight import OneWeight, one_weight

CALLS = 10  # of erfcx: what 1000 times may cost
SERIES = 50 * CALLS
COUNT = 1000
POINTS = np.linspace(0, 20, 100_000)


def fastest(work: Callable[[], object], rounds: int) -> float:
    """The shortest of several times, in seconds."""
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def other_sizes() -> Callable[[], float]:
    """A number near 1 that is new at every call."""
    counter = itertools.count()
    return lambda: 1 + 1e-9 * next(counter)


def closed_forms() -> dict[str, Callable[[], object]]:
    """Every closed form at 1000 times."""
    new, times = other_sizes(), np.linspace(0, 5, COUNT)
    back = np.linspace(-0.999, 0, COUNT)
    late = np.linspace(0, 50, COUNT)
    found: dict[str, Callable[[], object]] = {
        f"order 2, {name}, H = {H}": lambda f=function, H=H: f(late, 512, H, new() / 512)
        for name, function in (("all regimes", matrix.loss), ("next order in 1/p", matrix.next_order))
        for H in (256, 512, 1024)
    }
    for symmetric, regime, scale in (
        (True, "A", 0.0),
        (True, "B", 0.0),
        (True, "A-B", 0.0),
        (False, "A", 0.0),
        (False, "B", 0.0),
        (False, "B-C", 1.0),
        (False, "C", 1.0),
    ):
        found[f"order 4, {'one matrix' if symmetric else 'four matrices'}, {regime}"] = (
            lambda s=symmetric, r=regime, c=scale: required(explicit(4, s, r, 64.0, 64.0, 0.01 * new(), c)).at(times)
        )
    found["order 3, one matrix, lazy"] = lambda: required(lazy(3, "B-C", 64, 4096, Fraction(1, 100), Fraction(1))).at(
        times
    )
    for order, sigma2 in ((4, 0.003), (4, 0.01), (6, 0.05), (8, 0.1)):

        def ascent(order: int = order, sigma2: float = sigma2) -> object:
            flow = required(one_weight(order, "A-B-E", 32.0, 1024.0, sigma2 * new(), 1.0))
            return flow.at(back * abs(flow.blow_up_time or 50 / flow.clock))

        found[f"order {order}, ascent of one weight, sigma2 {sigma2}"] = ascent
    return found


def other_work() -> dict[str, tuple[Callable[[], object], float | None]]:
    """The rest: what it does, and how many calls of erfcx it may cost."""
    new, times = other_sizes(), np.linspace(0, 0.005, COUNT)
    problem = lf.CPDecomposition(order=2)

    def descent(order: int, rho: float, last: float) -> object:
        flow = OneWeight(order, 32.0, 1024.0, (new() * rho / 32 ** (order - 1)) ** (2 / order), 1.0, 4.0)
        return flow.formal(np.linspace(0, last, COUNT) / flow.clock)

    def recurrence() -> object:
        found = required(leading_recurrence(4, True, "A-B-E", 48))
        return found.series(48, bond_values(found, Fraction(32), Fraction(1024), Fraction(1, 500)))

    def series() -> object:
        return lf.solve(problem, lf.Series({"p": 512, "H": 512, "sigma2": 1 / 512}, 40), times)

    lf.expand(problem, 40)  # on disk from here on, as it is after its first use
    return {
        "Series(order=40), order 2": (series, SERIES),
        **{
            f"order 4, descent (formal), rho {rho:g}": (partial(descent, 4, rho, 0.03), CALLS)
            for rho in (0.1, 1.0, 5.0)
        },
        "order 6, descent (formal), rho 1": (partial(descent, 6, 1.0, 0.002), None),
        "order 8, descent (formal), rho 1": (partial(descent, 8, 1.0, 0.00005), None),
        "48 orders of order 4 by recurrence": (recurrence, None),
        "order 2, its uncertainty (a quadrature)": (
            lambda: matrix.neglected(np.linspace(0, 5, COUNT), 512, 512, new() / 512),
            None,
        ),
    }


def required(found: Any) -> Any:
    """What must be there."""
    if found is None:
        raise LookupError("the closed form is not there")
    return found


def main() -> int:
    """Print the table; 1 if something costs more than it may."""
    missed = 0
    rows: dict[str, tuple[Callable[[], object], float | None]] = {k: (f, CALLS) for k, f in closed_forms().items()}
    rows |= other_work()
    for name, (work, allowed) in rows.items():
        work()  # imports and shared tables
        unit = fastest(lambda: erfcx(POINTS), 20)  # beside the work, since the machine is not alone
        cost = fastest(work, 5) / unit
        verdict = "" if allowed is None else "met" if cost <= allowed else "MISSED"
        missed += verdict == "MISSED"
        print(f"{name:<48}{cost:10.2f} calls of erfcx, {allowed or '-'} allowed  {verdict}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
