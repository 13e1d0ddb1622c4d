"""What a closed form costs: 1000 times against calls of `scipy.special.erfcx` on 100 000 points, in one run.

python benchmarks/limit.py
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
from scipy.special import erfcx

from lossflow.expansion.solutions import matrix

CALLS = 10  # of erfcx: what 1000 times may cost
TIMES = np.linspace(0, 50, 1000)
POINTS = np.linspace(0, 20, 100_000)


def fastest(work: Callable[[], object], rounds: int = 20) -> float:
    """The shortest of several times, in seconds."""
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def main() -> int:
    """Print the table; 1 if a closed form costs more than it may."""
    unit = fastest(lambda: erfcx(POINTS))
    missed = 0
    for name, function, bounded in (
        ("limit, order 2", matrix.loss, True),
        ("its next order", matrix.next_order, True),
        ("its uncertainty (a quadrature)", matrix.neglected, False),
    ):
        worst = max(fastest(lambda f=function, H=H: f(TIMES, 512, H, 1 / 512), 5) for H in (256, 512, 1024)) / unit
        verdict = ("met" if worst <= CALLS else "MISSED") if bounded else ""
        missed += verdict == "MISSED"
        print(f"{name:<34}{worst:8.2f} calls of erfcx, {CALLS if bounded else '-'} allowed  {verdict}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
