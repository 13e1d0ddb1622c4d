"""What a figure is: a claim, its parameters, and the function that draws it and says how far the claim holds."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lossflow.checkpoint import write_atomically
from lossflow.errors import StorageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from lossflow.comparison import Gap

Extent = Literal["quick", "full"]

SOURCES: Mapping[str, str] = {
    "YGG26v2": "D. Yarotsky, E. Golikov, Y. Gusev, Gradient Flow Through Diagram Expansions: Learning Regimes and "
    "Explicit Solutions, arXiv:2602.04548v2",
    "NI26v2": "Nishiyama, Imaizumi, High-Dimensional Limit of Stochastic Gradient Flow via Dynamical Mean-Field Theory, "
    "arXiv:2602.06320v2",
    "MBB26v2": "Martin, Biroli, Bach, High-Dimensional Analysis of Gradient Flow for Extensive-Width Quadratic Neural "
    "Networks, arXiv:2601.10483v2",
    "NI25v2": "Nishiyama, Imaizumi, Precise Dynamics of Diagonal Linear Networks: A Unifying Analysis by Dynamical "
    "Mean-Field Theory, arXiv:2510.01930v2",
}


@dataclass(frozen=True)
class Verdict:
    """How one curve fares. All gaps are over `valid_times`, where the theory claims to hold.

    largest_relative_gap: max |experiment - theory| / |theory|. largest_deviation: the same difference in units of the
    combined uncertainty (one standard error). valid_times: first and last time; None for statements without time.
    agree: whether the claim holds; sentence: the same in words. Exact statements have gap 0 or not at all.
    """

    curve: str
    largest_relative_gap: float | None
    largest_deviation: float | None
    valid_times: tuple[float, float] | None
    agree: bool
    sentence: str

    @classmethod
    def of(cls, curve: str, gap: Gap) -> Verdict:
        """What `lossflow.compare` found for this curve."""
        return cls(curve, gap.largest_relative, gap.largest_deviation, gap.valid_times, gap.agree, gap.verdict)


@dataclass(frozen=True)
class Picture:
    """A drawn canvas, and in words what it shows: the words stand under it and are read out in its place."""

    name: str
    canvas: Canvas
    words: str


@dataclass(frozen=True)
class Outcome:
    """What making a figure gives: its pictures and one verdict for every curve."""

    pictures: tuple[Picture, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def agree(self) -> bool:
        """Whether every verdict agrees."""
        return all(verdict.agree for verdict in self.verdicts)


@dataclass(frozen=True)
class Figure:
    """One published figure or claim.

    name: for `lossflow reproduce NAME`; title; claim: the statement that the verdicts test; sources: keys of
    docs/references.bib; quick, full: the arguments of `draw` that take seconds, and those of the publication, as far as two
    cores come in half an hour. beyond: what of the publication they do not reach, and what it takes.
    """

    name: str
    title: str
    claim: str
    sources: tuple[str, ...]
    quick: Mapping[str, Any]
    full: Mapping[str, Any]
    draw: Callable[..., Outcome]
    beyond: str = ""

    def parameters(self, extent: Extent) -> Mapping[str, Any]:
        """The arguments of `draw` at this extent."""
        return self.quick if extent == "quick" else self.full

    def make(self, extent: Extent = "quick") -> Outcome:
        """Compute and draw."""
        from lossflow.plot import paper_style

        with paper_style():
            return self.draw(**self.parameters(extent))


def prepared(folder: str | os.PathLike[str]) -> Path:
    """The folder, made if it was missing: long work should not begin where its results cannot be put.

    Raises `StorageError` with the reason.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write to {path}: {error.strerror or error}; choose another folder") from error
    if not os.access(path, os.W_OK):
        raise StorageError(f"cannot write to {path}: it is read-only; choose another folder")
    return path


def encode(canvas: Canvas, format: Literal["png", "pdf", "svg"], dpi: int = 200) -> bytes:
    """The canvas as a file of this format: the same picture gives the same bytes."""
    from lossflow.plot import paper_style

    anonymous = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[format]
    buffer = io.BytesIO()
    with paper_style():
        canvas.savefig(buffer, format=format, dpi=dpi, metadata=anonymous)
    return buffer.getvalue()


def write(figure: Figure, extent: Extent, outcome: Outcome, folder: Path) -> list[Path]:
    """Each picture as PNG and PDF and one JSON of the verdicts, `<folder>/<figure>[-<picture>].<format>`.

    Every file is written atomically. Raises `StorageError`.
    """
    written = []
    for picture in outcome.pictures:
        stem = figure.name if len(outcome.pictures) == 1 else f"{figure.name}-{picture.name}"
        for format in ("png", "pdf"):
            written.append(folder / f"{stem}.{format}")
            write_atomically(written[-1], encode(picture.canvas, format))
    written.append(folder / f"{figure.name}.json")
    write_atomically(written[-1], as_json(figure, extent, outcome).encode())
    return written


def as_json(figure: Figure, extent: Extent, outcome: Outcome) -> str:
    """Name, claim, parameters and verdicts, for machines."""
    from lossflow import __version__

    data = {
        "figure": figure.name,
        "claim": figure.claim,
        "sources": figure.sources,
        "extent": extent,
        "parameters": figure.parameters(extent),
        "agree": outcome.agree,
        "verdicts": [asdict(verdict) for verdict in outcome.verdicts],
        "version": __version__,
    }
    return json.dumps(data, indent=2, default=_plain, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)
