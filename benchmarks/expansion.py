"""How far the exact series reaches: seconds and distinct terms at each order, one core, cold cache.

python benchmarks/expansion.py [SECONDS]      each family until it has used so many seconds (30 by default)
"""

from __future__ import annotations

import sys
import time

import lossflow as lf
from lossflow.diagrams.wick import derivatives

FAMILIES = {
    "SYM 2": lf.CPDecomposition(order=2),
    "SYM 3": lf.CPDecomposition(order=3),
    "SYM 4": lf.CPDecomposition(order=4),
    "ASYM 2": lf.CPDecomposition(order=2, symmetric=False),
    "ASYM 3": lf.CPDecomposition(order=3, symmetric=False),
    "ASYM 4": lf.CPDecomposition(order=4, symmetric=False),
}


def reach(problem: lf.CPDecomposition, limit: float) -> list[tuple[int, float, int]]:
    """(order, seconds since the start, terms of Y) up to the first order that ends beyond `limit` seconds."""
    began, found = time.process_time(), []
    for s, y in enumerate(derivatives(problem.as_diagrams())):
        found.append((s, time.process_time() - began, len(y.terms)))
        growth = found[-1][1] / max(found[-2][1], 1e-3) if s else 1.0
        if found[-1][1] * growth > limit:  # the next order would not end in time
            return found
    return found


def main(limit: float = 30.0) -> int:
    """Print the table."""
    print(f"general route, orders whose end is expected within {limit:g} s")
    for name, problem in FAMILIES.items():
        found = reach(problem, limit)
        last, seconds, terms = found[-1]
        costs = f"each order costs {seconds / found[-2][1]:.1f} times more"
        print(f"{name:<8} s = {last:>2} after {seconds:6.1f} s, {terms:>4} terms; {costs}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(float, sys.argv[1:2])))
