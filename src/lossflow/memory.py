"""How much memory there is, asked before it is used."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lossflow.errors import InvalidInput

SHARE = 0.7  # of what is available is taken at most: the rest of the machine goes on working


def available_memory() -> float:
    """Bytes that can be used without swapping: what the kernel reports, within the limit of the control group."""
    found = [_physical()]
    for path, key in (("/proc/meminfo", "MemAvailable:"), ("/sys/fs/cgroup/memory.max", "")):
        try:
            text = Path(path).read_text()
        except OSError:
            continue
        for line in text.splitlines():
            words = line.removeprefix(key).split()
            if line.startswith(key) and words and words[0].isdigit():
                found.append(float(words[0]) * (1024 if key else 1))
    return min(found)


def require_memory(needed: float, what: str, advice: str = "choose smaller sizes") -> None:
    """Raise `InvalidInput` unless so many bytes fit into the share of memory that may be taken."""
    allowed = SHARE * available_memory()
    if needed > allowed:
        raise InvalidInput(
            f"{what} would need {needed / 2**30:.3g} GiB of memory, and {allowed / 2**30:.3g} GiB may be taken; {advice}"
        )


def _physical() -> float:
    if sys.platform == "win32":
        return float(sys.maxsize)  # not known without a further library
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
