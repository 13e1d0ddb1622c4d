"""Every error says what came, what was expected, what to do. Misuse raises one of these; non-convergence is a `Status`."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class LossflowError(Exception):
    """Root of all errors raised on purpose; the command line prints its one line and exits with code 2."""


class InvalidInput(LossflowError, ValueError):
    """A value outside its range, of the wrong kind, or missing."""


class UnknownField(InvalidInput, TypeError):
    """A field that the description does not have."""


class UnknownName(InvalidInput):
    """A name that the library does not know."""


class NotSpoken(LossflowError, TypeError):
    """The problem has no translation into the language that the method needs."""


class StorageError(LossflowError, OSError):
    """A file could not be written or read; what was there before is untouched."""


class CorruptedFile(StorageError):
    """A file is not what was written: it must not be believed."""


def nearest(name: object, known: Iterable[str]) -> str:
    """The tail of a message about an unknown name: `did you mean 'Simulation'?`, else the list of what there is."""
    known = sorted(known)
    folded = {candidate.lower(): candidate for candidate in known}
    close = get_close_matches(str(name).lower(), folded, n=1, cutoff=0.6)
    if close:
        return f"did you mean {folded[close[0]]!r}?"
    return f"there is: {', '.join(known)}" if known else "there is none"
