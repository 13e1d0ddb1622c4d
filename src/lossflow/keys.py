"""Every random number of the library: seed -> run -> purpose.

The stream of run r depends on (seed, r, purpose) alone: more runs, another chunking or another method change no old one,
and theory and experiment that ask for the same teacher get the same teacher.
"""

from __future__ import annotations

import hashlib

import numpy as np

from lossflow.description import coerce
from lossflow.errors import InvalidInput


def generator(seed: int, run: int, purpose: str) -> np.random.Generator:
    """An independent counter-based stream for (seed, run, purpose).

    seed, run: integers >= 0; purpose: what the numbers are for, such as the name of a tensor.
    Raises `InvalidInput` for other numbers.
    """
    seed, run = coerce(seed, int, "seed"), coerce(run, int, "run")
    if seed < 0 or run < 0:
        raise InvalidInput(f"seed and run must be whole numbers >= 0, got seed={seed!r}, run={run!r}")
    word = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:16], "big")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy=(seed, run, word))))
