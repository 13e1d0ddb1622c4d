"""How a run ends, and what the ends of all runs say of their average."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lossflow.simulate.ode import End
from lossflow.simulate.repetition import Record
from lossflow.trajectory import COMPLETE, Status

REACHED, DIVERGED, BLOWN_UP, TOO_STIFF = range(4)
ENDS = ("end", "outcome", "steps")  # what a record of a run has besides observables


class Ending:
    """How a run has ended so far: when (NaN: not early), how, and after how many steps."""

    def __init__(self) -> None:
        self.end, self.outcome, self.steps = math.nan, REACHED, 0

    def stop(self, time: float, outcome: int) -> None:
        """The run ends early."""
        if self.outcome == REACHED or abs(time) < abs(self.end):
            self.end, self.outcome = time, outcome

    def ends(self) -> Record:
        """As arrays, by `ENDS`."""
        values = (self.end, float(self.outcome), float(self.steps))
        return {name: np.asarray(value) for name, value in zip(ENDS, values, strict=True)}


def of_integration(end: End) -> int:
    """What became of a run whose integration did not reach all targets."""
    return BLOWN_UP if "blow" in end.reason else TOO_STIFF


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
