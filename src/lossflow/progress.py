"""A progress bar for anything over two seconds, on a terminal; silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

PATIENCE = 2.0  # seconds of silence before a bar appears


class Bar(Protocol):
    """What a long loop needs to know of a progress bar."""

    def update(self, n: float, /) -> object: ...


class _Silent:
    def update(self, n: float, /) -> None:
        """Nobody is watching."""


@contextmanager
def progress(total: float, label: str, unit: str = "") -> Iterator[Bar]:
    """A bar from 0 to `total`, called `label`, shown once the work has taken two seconds.

    unit: of what is counted; with it the bar says how many and how fast.
    """
    if not sys.stderr.isatty():
        yield _Silent()
        return
    from tqdm import tqdm

    form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    if unit:
        form = "{desc}: {n_fmt}/{total_fmt}|{bar}| {elapsed}<{remaining}, {rate_fmt}"
    with tqdm(total=total, desc=label, delay=PATIENCE, leave=False, bar_format=form, unit=f" {unit}") as bar:
        yield bar
