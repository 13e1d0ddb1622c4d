"""Random valid settings of quadratic networks: written before the solver was tuned, and not to be changed for its sake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

COUNT = 600
SEED = 20260117


class Setting(NamedTuple):
    """Arguments of a `QuadraticNetwork`, all of them numbers."""

    alpha: float
    kappa: float
    kappa_star: float
    noise_variance: float
    weight_decay: float


def settings(count: int = COUNT, seed: int = SEED) -> Iterator[Setting]:
    """Widths and samples over two decades, weight decay from 2e-4 to 2, three in ten without noise."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        yield Setting(
            alpha=_log_uniform(random, 0.02, 2.0),
            kappa=_log_uniform(random, 0.02, 2.0),
            kappa_star=_log_uniform(random, 0.02, 2.0),
            noise_variance=0.0 if random.random() < 0.3 else _log_uniform(random, 1e-2, 10.0),
            weight_decay=_log_uniform(random, 2e-4, 2.0),
        )


def _log_uniform(random: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(random.uniform(np.log(low), np.log(high))))
