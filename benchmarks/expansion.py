"""How far the exact series reaches: what each order costs and in what, one core, nothing kept from earlier runs.

python benchmarks/expansion.py [SECONDS [FAMILY ...]]      each family as far as SECONDS (60 by default) of processor time go

Families: SYM2 SYM3 SYM4 ASYM2 ASYM3 ASYM4 for the decompositions, network and linear for models with Gaussian data. By the
general route throughout; compilation is done before the clock starts. The columns: the order, seconds since the start, of them
for this order by kind of work (merging; bringing diagrams to normal form; contracting; arithmetic), merged diagrams, diagrams
met on the way to the mean, normal forms, terms of Y, the largest arrays alive at once, and the peak of the process so far.
"""

from __future__ import annotations

import resource
import sys
import time
import warnings
from fractions import Fraction

import lossflow as lf
from lossflow.diagrams.derivatives import Derivatives

LINES = {"SYM2": 12, "SYM3": 6, "SYM4": 5, "ASYM2": 10, "ASYM3": 6, "ASYM4": 5}  # to be reached in 60 seconds


def decomposition(order: int, symmetric: bool) -> lf.DiagramPolynomial:
    """1/2 ||f - identity||^2."""
    return lf.CPDecomposition(order=order, symmetric=symmetric).as_diagrams()


def network() -> lf.DiagramPolynomial:
    """(1/2N) sum_n f(x_n)^2, a quadratic network with trained readout, on Gaussian samples."""
    w, a = lf.Tensor("w", ("H", "p")), lf.Tensor("a", ("H",), variance="a2")
    x = lf.Tensor("x", ("p", "N"), variance=1, learned=False)

    def output(k: str, i: str, j: str) -> tuple:
        return a(k), w(k, i), x(i, "n"), w(k, j), x(j, "n")

    return Fraction(1, 2) * lf.size("N", -1) * lf.diagram(*output("k", "i", "j"), *output("l", "q", "r"))


def linear() -> lf.DiagramPolynomial:
    """(1/2N) sum_n |V W x_n - T x_n|^2, a linear network of depth two with a random teacher, on Gaussian samples."""
    v, w = lf.Tensor("v", ("o", "h")), lf.Tensor("w", ("h", "d"))
    t, x = lf.Tensor("t", ("o", "d"), variance="t2", learned=False), lf.Tensor("x", ("d", "N"), 1, learned=False)

    def student(h: str, i: str) -> tuple:
        return v("o", h), w(h, i), x(i, "n")

    total = lf.diagram(*student("h", "i"), *student("k", "j"))
    total = total - 2 * lf.diagram(*student("h", "i"), t("o", "j"), x("j", "n"))
    total = total + lf.diagram(t("o", "i"), x("i", "n"), t("o", "j"), x("j", "n"))
    return Fraction(1, 2) * lf.size("N", -1) * total


FAMILIES = {
    "SYM2": lambda: decomposition(2, True),
    "SYM3": lambda: decomposition(3, True),
    "SYM4": lambda: decomposition(4, True),
    "ASYM2": lambda: decomposition(2, False),
    "ASYM3": lambda: decomposition(3, False),
    "ASYM4": lambda: decomposition(4, False),
    "network": network,
    "linear": linear,
}
HEAD = "  s   total   merge  normal  contr.  arith.    merged     states      forms  terms   arrays  process"


def reach(name: str, limit: float) -> int:
    """Print a line for each order that ends within `limit` seconds; returns the last one, -1 if there is none."""
    loss = FAMILIES[name]()
    warm = Derivatives(loss, road="compiled")
    for _ in range(2):
        next(warm)  # compiles, or loads what was compiled
    found, last, began, costs = Derivatives(loss, road="compiled"), -1, time.process_time(), [0.0]
    print(f"{name}\n{HEAD}", flush=True)
    while True:
        y = next(found)
        spent, effort = time.process_time() - began, found.merging.engine.effort
        if spent > limit:
            print(f"{found.order - 1:>3} {spent:>7.1f}   beyond the limit")
            return last
        last = found.order - 1
        rows = 0 if isinstance(found.power, dict) else len(found.power.rows)
        split = (effort.merging, effort.normalizing, effort.contracting, effort.arithmetic)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
        print(
            f"{last:>3} {spent:>7.1f} {' '.join(f'{part:>7.2f}' for part in split)} {rows:>9} {effort.states:>10} "
            f"{effort.normal_forms + effort.merged_forms:>10} {len(y.terms):>6} {effort.bytes / 2**30:>5.2f} GiB "
            f"{peak:>4.2f} GiB",
            flush=True,
        )
        costs.append(spent - sum(costs))
        if spent + costs[-1] * costs[-1] / max(costs[-2], 1e-2) > 2 * limit:  # not even nearly, and large
            return last


def main(limit: float = 60.0, names: tuple[str, ...] = ()) -> int:
    """Print the table; 1 if a family stops short of its line."""
    warnings.simplefilter("ignore", RuntimeWarning)  # of memory: it is a column here
    short = 0
    for name in names or FAMILIES:
        last = reach(name, limit)
        if name in LINES and limit >= 60:
            print(f"{name}: s = {last}, {LINES[name]} wanted")
            short += last < LINES[name]
    return int(short > 0)


if __name__ == "__main__":
    sys.exit(main(*map(float, sys.argv[1:2]), names=tuple(sys.argv[2:])))
