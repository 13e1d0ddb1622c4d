"""Pictures as HTML: vector graphics that fit the width there is, and say in words what they show."""

from __future__ import annotations

import html
import io
import re
from typing import TYPE_CHECKING

from lossflow.plot import paper_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

WIDTH, HEIGHT = 4.6, 3.4  # inches; two stand side by side on a desk, one on a phone


def sheet() -> tuple[Canvas, Axes]:
    """An empty picture with one pair of axes; what draws on it does so in `paper_style`."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(WIDTH, HEIGHT), layout="constrained")
    return canvas, canvas.subplots()


def as_html(canvas: Canvas, name: str, words: str) -> str:
    """The picture called `name` as a piece of a page; words: what it shows, for those who do not see it."""
    written = io.StringIO()
    with paper_style():
        canvas.savefig(written, format="svg", metadata={"Date": None})
    drawing = written.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", drawing, count=1)
    drawing = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", drawing, count=1)
    # names inside a drawing are those of one page, so two drawings must not share them
    drawing = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", drawing)
    return framed(drawing, name, "img", words)


def framed(content: str, name: str, role: str, words: str) -> str:
    """HTML in the place of a picture: as wide as there is room."""
    label = html.escape(words, quote=True)
    style = f"flex: 1 1 20rem; min-width: 0; max-width: {WIDTH * 1.35:.1f}in; background: white"
    return f'<div class="picture" data-name="{name}" role="{role}" aria-label="{label}" style="{style}">{content}</div>'


def side_by_side(*pictures: str) -> str:
    """Pictures in a row, or below one another where the page is narrow."""
    return f'<div style="display: flex; flex-wrap: wrap; gap: 0.5rem">{"".join(pictures)}</div>'
