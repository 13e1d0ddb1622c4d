"""How many cores there are, asked before work is divided among them."""

from __future__ import annotations

import os
from pathlib import Path

LIMIT = "LOSSFLOW_THREADS"  # environment variable: threads that one process may use


def cores() -> int:
    """How many cores this process may use: those the system allows it, `$LOSSFLOW_THREADS` of them at most."""
    allowed = len(os.sched_getaffinity(0)) if "sched_getaffinity" in dir(os) else os.cpu_count() or 1
    limit = os.environ.get(LIMIT, "")
    return max(1, min(allowed, int(limit))) if limit.isdecimal() else allowed


def idle_cores() -> int:
    """How many cores nothing else runs on at this moment, at least one; all of them where the system does not say."""
    try:
        running = int(Path("/proc/loadavg").read_text().split()[3].split("/")[0]) - 1  # without this process
    except (OSError, IndexError, ValueError):
        running = 0
    return max(1, cores() - running)
