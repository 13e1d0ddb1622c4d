"""The main job: one self-contained page that compares theory and experiment, with pictures, verdicts and references.

Everything is inside the page (pictures as data, no script, no external resource); apart from the provenance at its end, the
same code gives the same page.
"""

from __future__ import annotations

import base64
import math
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lossflow import __version__
from lossflow.checkpoint import write_atomically
from lossflow.cores import cores
from lossflow.errors import LossflowError
from lossflow.figures.figure import SOURCES, Extent, Figure, Outcome, Picture, Verdict, encode, prepared
from lossflow.figures.registry import find
from lossflow.progress import progress

SELECTION: tuple[str, ...] = (  # fixed and quick: each pillar once, about two minutes in all
    "cross-checks",
    "three-roads",
    "matrix",
    "diagrams",
    "linear-volterra",
    "diagonal-phase",
    "quadratic-branches",
)
LIBRARIES = ("numpy", "scipy", "matplotlib", "python-flint")
THUMBNAIL = 60  # dots per inch


@dataclass(frozen=True)
class Summary:
    """What the page says, for the terminal: lines, where it is, and whether every curve agrees."""

    path: Path
    lines: tuple[str, ...]
    agree: bool


@dataclass(frozen=True)
class Section:
    """One figure: what came out of it, or why nothing did, and the seconds that it took."""

    figure: Figure
    outcome: Outcome | None
    failure: str
    seconds: float

    @property
    def agrees(self) -> bool:
        return self.outcome is not None and self.outcome.agree


def build(folder: str | os.PathLike[str], names: Sequence[str] = SELECTION) -> Summary:
    """Make the figures `names` at their quick extent and write `<folder>/index.html` atomically.

    A figure that fails is shown with its error and does not lose the others. When interrupted, the figures finished so far
    are written before the interruption goes on, unless there is an older page. Raises `UnknownName` and, for a folder that
    cannot be made, `StorageError` before anything is computed.
    """
    figures = [find(name) for name in names]
    path = prepared(folder) / "index.html"
    sections: list[Section] = []
    try:
        with progress(len(figures), "report") as bar:
            for figure in figures:
                sections.append(attempt(figure))
                bar.update(1)
    except KeyboardInterrupt:
        missing = [Section(figure, None, "interrupted", 0.0) for figure in figures[len(sections) :]]
        if sections and not path.exists():  # a page that is whole is worth more than one that is not
            write_atomically(path, _page([*sections, *missing]).encode())
        raise
    write_atomically(path, _page(sections).encode())
    lines = (*(_line(section) for section in sections), f"written: {path}")
    return Summary(path, lines, all(section.agrees for section in sections))


def attempt(figure: Figure, extent: Extent = "quick") -> Section:
    """Make a figure; one that breaks must not take others with it."""
    began = time.perf_counter()
    try:
        outcome, failure = figure.make(extent), ""
    except LossflowError as error:
        outcome, failure = None, str(error)
    except Exception as error:
        outcome, failure = None, f"{type(error).__name__}: {error}"
    return Section(figure, outcome, failure, time.perf_counter() - began)


def table(sections: Sequence[Section]) -> list[str]:
    """The verdicts of all figures on one line each: how many curves agree, the largest gap and deviation, seconds."""
    width = max(len(section.figure.name) for section in sections)
    lines = [f"{'':8}  {'figure':{width}}  {'curves':>9}  {'gap':>8}  {'sigmas':>6}  {'seconds':>7}"]
    for section in sections:
        verdicts = section.outcome.verdicts if section.outcome else ()
        gaps = [verdict.largest_relative_gap for verdict in verdicts if verdict.largest_relative_gap is not None]
        sigmas = [verdict.largest_deviation for verdict in verdicts if verdict.largest_deviation is not None]
        word = "failed" if section.outcome is None else "agree" if section.agrees else "DISAGREE"
        count = f"{sum(verdict.agree for verdict in verdicts)} of {len(verdicts)}" if section.outcome else "-"
        gap = f"{max(gaps):.2g}" if gaps else "-"
        sigma = f"{max(sigmas):.2g}" if sigmas else "-"
        lines.append(
            f"{word:8}  {section.figure.name:{width}}  {count:>9}  {gap:>8}  {sigma:>6}  {section.seconds:7.1f}"
        )
    well = sum(section.agrees for section in sections)
    lines.append(f"{well} of {len(sections)} figures agree, {math.fsum(s.seconds for s in sections):.0f} s")
    return lines


def _line(section: Section) -> str:
    if section.outcome is None:
        return f"failed    {section.figure.name}: {section.failure}"
    verdicts = section.outcome.verdicts
    count = sum(verdict.agree for verdict in verdicts)
    word = "agree   " if section.agrees else "DISAGREE"
    return f"{word}  {section.figure.name}: {count} of {len(verdicts)} curves agree  ({section.seconds:.1f} s)"


def _page(sections: Sequence[Section]) -> str:
    verdicts = [verdict for section in sections if section.outcome for verdict in section.outcome.verdicts]
    body = "\n".join(
        [
            *_header(sections, verdicts),
            *_contact_sheet(sections),
            *(line for section in sections for line in _section(section)),
            *_references(sections),
            *_provenance(sections),
        ]
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>lossflow: theory against experiment</title>
<style>{_CSS}</style>
</head>
<body>
{body}
</body>
</html>
"""


def _header(sections: Sequence[Section], verdicts: Sequence[Verdict]) -> Iterator[str]:
    agreeing = sum(verdict.agree for verdict in verdicts)
    failed = [section.figure.name for section in sections if section.outcome is None]
    all_well = agreeing == len(verdicts) and not failed
    yield "<header>"
    yield "<h1>lossflow: theory against experiment</h1>"
    yield (
        "<p>How the loss of a large model falls under gradient flow, du/dt = &minus;dL/du: exact power series at finite size, "
        "large-size limits, and simulations of the very same problems. Bands and error bars are one standard error.</p>"
    )
    summary = f"{agreeing} of {len(verdicts)} curves and statements agree"
    if failed:
        summary += f"; not made: {', '.join(failed)}"
    yield f'<p class="summary {"agree" if all_well else "disagree"}">{escape(summary)}.</p>'
    yield "</header>"


def _contact_sheet(sections: Sequence[Section]) -> Iterator[str]:
    yield '<nav aria-label="Contact sheet">'
    yield "<h2>All pictures</h2>"
    yield '<ul class="sheet">'
    for section in sections:
        name = escape(section.figure.name)
        mark = _mark(section.agrees)
        for picture in section.outcome.pictures if section.outcome else ():
            image = _image("image/png", encode(picture.canvas, "png", THUMBNAIL), f"Thumbnail: {picture.name}")
            yield f'<li><a href="#{name}">{image}<span>{name}</span></a> {mark}</li>'
        if section.outcome is None:
            yield f'<li><a href="#{name}"><span class="blank">no picture</span><span>{name}</span></a> {mark}</li>'
    yield "</ul>"
    yield "</nav>"


def _section(section: Section) -> Iterator[str]:
    figure = section.figure
    yield f'<section id="{escape(figure.name)}">'
    yield f"<h2>{escape(figure.title)}</h2>"
    yield f"<p><strong>Claim.</strong> {escape(figure.claim)}</p>"
    if section.outcome is None:
        yield f'<p class="summary disagree">No picture: {escape(section.failure)}</p>'
    else:
        for picture in section.outcome.pictures:
            yield from _picture(picture)
        yield from _verdicts(section.outcome.verdicts)
    yield from _parameters(figure.quick)
    keys = ", ".join(escape(key) for key in figure.sources)
    yield f'<p class="small">Source: {keys}. Again: <code>lossflow reproduce {escape(figure.name)} --quick</code>; '
    yield "the sizes of the publication: <code>--full</code>.</p>"
    yield "</section>"


def _picture(picture: Picture) -> Iterator[str]:
    yield "<figure>"
    yield f'<div class="picture">{_image("image/svg+xml", encode(picture.canvas, "svg"), picture.words)}</div>'
    yield f"<figcaption>{escape(picture.words)}</figcaption>"
    yield "</figure>"


def _verdicts(verdicts: Sequence[Verdict]) -> Iterator[str]:
    yield '<div class="wide"><table>'
    yield "<caption>Verdicts</caption>"
    yield (
        '<thead><tr><th scope="col">Curve</th><th scope="col">Verdict</th><th scope="col">Largest relative gap</th>'
        '<th scope="col">Largest deviation</th><th scope="col">Times</th><th scope="col">In words</th></tr></thead>'
    )
    yield "<tbody>"
    for verdict in verdicts:
        yield (
            f'<tr><th scope="row">{escape(verdict.curve)}</th><td>{_mark(verdict.agree)}</td>'
            f"<td>{_percent(verdict.largest_relative_gap)}</td><td>{_sigmas(verdict.largest_deviation)}</td>"
            f'<td>{_span(verdict.valid_times)}</td><td class="words">{escape(verdict.sentence)}</td></tr>'
        )
    yield "</tbody></table></div>"


def _parameters(parameters: Mapping[str, Any]) -> Iterator[str]:
    yield '<div class="wide"><table>'
    yield "<caption>Parameters</caption>"
    yield '<thead><tr><th scope="col">Name</th><th scope="col">Value</th></tr></thead>'
    yield "<tbody>"
    for name, value in parameters.items():
        shown = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        yield f'<tr><th scope="row">{escape(name.replace("_", " "))}</th><td>{escape(shown)}</td></tr>'
    yield "</tbody></table></div>"


def _references(sections: Sequence[Section]) -> Iterator[str]:
    yield "<section>"
    yield "<h2>References</h2>"
    yield "<dl>"
    for key in dict.fromkeys(key for section in sections for key in section.figure.sources):
        yield f"<dt>{escape(key)}</dt><dd>{escape(SOURCES[key])}</dd>"
    yield "</dl>"
    yield "</section>"


def _provenance(sections: Sequence[Section]) -> Iterator[str]:
    """Versions, cores and memory, and how long each figure took: the only part of the page that changes from run to run."""
    rows = {
        "lossflow": __version__,
        "Python": platform.python_version(),
        **{library: version(library) for library in LIBRARIES},
        "cores": str(cores()),
        "memory": _memory(),
        **{f"run time of {section.figure.name}": f"{section.seconds:.1f} s" for section in sections},
        "run time in all": f"{math.fsum(section.seconds for section in sections):.1f} s",
    }
    yield '<section id="provenance">'
    yield "<h2>Provenance</h2>"
    yield "<p>Made by <code>lossflow report</code> (or <code>make report</code> in the repository).</p>"
    yield '<div class="wide"><table>'
    yield '<thead><tr><th scope="col">What</th><th scope="col">Value</th></tr></thead>'
    yield "<tbody>"
    for name, value in rows.items():
        yield f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
    yield "</tbody></table></div>"
    yield "</section>"


def _image(kind: str, data: bytes, words: str) -> str:
    return f'<img src="data:{kind};base64,{base64.b64encode(data).decode()}" alt="{escape(words)}">'


def _mark(agree: bool) -> str:
    return '<span class="agree">&#10003; agrees</span>' if agree else '<span class="disagree">&#10007; disagrees</span>'


def _percent(gap: float | None) -> str:
    if gap is None:
        return "&ndash;"
    return "0" if gap == 0 else f"{100 * gap:.2g}&nbsp;%" if gap >= 1e-6 else f"{gap:.1e}"


def _sigmas(deviation: float | None) -> str:
    return "&ndash;" if deviation is None else f"{deviation:.2g}&nbsp;&sigma;"


def _span(times: tuple[float, float] | None) -> str:
    return "&ndash;" if times is None else f"{times[0]:g} to {times[1]:g}"


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (AttributeError, ValueError, OSError):
        return "unknown"


_CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.2rem 0 .5rem; border-top: 1px solid #ccc; padding-top: 1rem; }
code { background: #f2f2f2; padding: .1em .3em; border-radius: 3px; overflow-wrap: anywhere; }
.small { font-size: .88rem; color: #444; }
.agree { color: #00603f; font-weight: 600; white-space: nowrap; }
.disagree { color: #a32100; font-weight: 600; white-space: nowrap; }
.summary { padding: .5rem .8rem; border-left: 5px solid currentColor; background: #f6f6f6; white-space: normal; }
.sheet { list-style: none; padding: 0; display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); }
.sheet li { border: 1px solid #ddd; padding: .5rem; text-align: center; font-size: .9rem; }
.sheet a { color: inherit; display: block; }
.sheet img, .sheet .blank { display: block; width: 100%; height: 10rem; object-fit: contain; }
.sheet .blank { line-height: 10rem; color: #777; background: #f6f6f6; }
figure { margin: 1rem 0; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
.words { min-width: 20rem; }
figcaption { font-size: .88rem; color: #444; margin-top: .4rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; margin: 1rem 0; }
caption { text-align: left; font-weight: 600; padding: .2rem 0; }
th, td { border: 1px solid #ccc; padding: .3rem .6rem; text-align: left; vertical-align: top; }
thead th { background: #f2f2f2; }
tbody th { font-weight: 500; min-width: 6.5rem; }
dt { font-weight: 600; }
dd { margin: 0 0 .5rem; }
@media screen and (max-width: 45rem) {
  .picture { overflow-x: auto; }
  .picture img { max-width: none; width: 46rem; }
}
@media print {
  body { font-size: 10pt; max-width: none; padding: 0; }
  figure, tr, .sheet li { break-inside: avoid; }
  figure img { max-height: 15cm; }
  h2 { break-after: avoid; }
  .wide { overflow-x: visible; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
