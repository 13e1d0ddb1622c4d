"""How a run ends, and what the ends of all runs say of their average."""

from __future__ import annotations

from collections.abc import Sequence

from lossflow.simulate.repetition import Record
from lossflow.trajectory import COMPLETE, Status

REACHED, DIVERGED, BLOWN_UP, TOO_STIFF = range(4)


def ended(records: Sequence[Record], advice: str) -> Status:
    """Complete, or the earliest time at which a run ended, and why.

    records: with the "outcome" of every run and its "end", the time. advice: what to do where runs diverge.
    """
    over = [record for record in records if int(record["outcome"]) != REACHED]
    if not over:
        return COMPLETE
    first = min(over, key=lambda record: abs(float(record["end"])))
    last, outcome = float(first["end"]), int(first["outcome"])
    what, then = {
        BLOWN_UP: ("blow up", "ask for times nearer to zero"),
        TOO_STIFF: ("need too many steps", "ask for times nearer to zero"),
        DIVERGED: ("diverge", advice),
    }[outcome]
    reason = f"{len(over)} of {len(records)} runs {what}, the first at t = {last:.6g}; {then}"
    return Status("left_domain" if outcome == BLOWN_UP else "stopped", last, reason)
