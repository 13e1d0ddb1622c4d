"""The report: self-contained, complete, accessible, the same twice, and honest when a figure fails."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

import lossflow as lf
import lossflow.report as report
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.figures.registry import MODULES, find


def drawing(*verdicts: Verdict) -> Callable[..., Outcome]:
    def draw(height: float) -> Outcome:
        from matplotlib.figure import Figure as Canvas

        canvas = Canvas(figsize=(3, 2))
        canvas.add_subplot().plot([0, height], label="a line")
        return Outcome((Picture("line", canvas, "A line that rises & <ends>."),), verdicts)

    return draw


WELL = Verdict("p = 8", 0.0123, 1.4, (0.0, 2.0), True, "theory and experiment agree")
BADLY = Verdict("p = 4", 0.5, 17.0, (0.0, 2.0), False, "they do not agree")
GOOD = Figure(
    "good", "A good figure", "It rises & <ends>.", ("YGG26v2",), {"height": 1.0}, {"height": 9.0}, drawing(WELL)
)
BAD = replace(GOOD, name="bad", title="A bad figure", draw=drawing(WELL, BADLY))


def failing(height: float) -> Outcome:
    raise ZeroDivisionError(f"nothing to divide by at height {height}")


FAILING = replace(GOOD, name="failing", title="A failing figure", draw=failing)


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[report.Summary, str]]:
    def run(*figures: Figure) -> tuple[report.Summary, str]:
        by_name = {figure.name: figure for figure in figures}
        monkeypatch.setattr(report, "find", by_name.__getitem__)
        summary = report.build(tmp_path / "out", list(by_name))
        assert summary.path == tmp_path / "out" / "index.html"
        return summary, summary.path.read_text(encoding="utf-8")

    return run


class Page(HTMLParser):
    """Tags with their attributes, in order, and the balance of opened and closed ones."""

    VOID = ("meta", "img", "br", "hr", "link", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_page_is_whole(build: Callable[..., tuple[report.Summary, str]]) -> None:
    _, text = build(GOOD, BAD)
    page = Page(text)
    assert page.open == []
    assert text.startswith("<!DOCTYPE html>")
    words = "".join(page.text)
    for expected in (GOOD.title, BAD.title, GOOD.claim, "A line that rises & <ends>.", WELL.sentence, BADLY.sentence):
        assert expected in words
    for expected in ("1.2\N{NO-BREAK SPACE}%", "17\N{NO-BREAK SPACE}σ", "0 to 2", "height", "arXiv:2602.04548v2"):
        assert expected in words
    assert "lossflow reproduce good --quick" in words


def test_it_needs_nothing_else(build: Callable[..., tuple[report.Summary, str]]) -> None:
    _, text = build(GOOD, BAD, FAILING)
    page = Page(text)
    assert not page.of("script")
    assert not page.of("link")
    for attributes in (attributes for _, attributes in page.tags):
        for name in ("src", "href", "srcset", "poster", "data", "action"):
            value = attributes.get(name) or "#"
            assert value.startswith(("data:image/", "#")), value
    style = re.search(r"<style>(.*?)</style>", text, re.S)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert not re.search(r"https?://", text)


def test_the_contact_sheet_leads_to_every_picture(build: Callable[..., tuple[report.Summary, str]]) -> None:
    _, text = build(GOOD, BAD, FAILING)
    sheet = Page(text[text.index('<ul class="sheet">') : text.index("</ul>") + len("</ul>")])
    assert [a["href"] for a in sheet.of("a")] == ["#good", "#bad", "#failing"]
    assert len(sheet.of("img")) == 2
    for image in sheet.of("img"):
        data = base64.b64decode((image["src"] or "").removeprefix("data:image/png;base64,"), validate=True)
        assert data.startswith(b"\x89PNG")
    sections = [section["id"] for section in Page(text).of("section") if "id" in section]
    assert sections == ["good", "bad", "failing", "provenance"]


def test_it_can_be_read_aloud(build: Callable[..., tuple[report.Summary, str]]) -> None:
    _, text = build(GOOD, BAD)
    page = Page(text)
    assert page.of("html") == [{"lang": "en"}]
    assert [m for m in page.of("meta") if m.get("name") == "viewport"]
    assert all(image["alt"] for image in page.of("img"))
    assert all(header["scope"] in ("row", "col") for header in page.of("th"))
    headings = [tag for tag, _ in page.tags if tag in ("h1", "h2", "h3")]
    assert headings[0] == "h1"
    assert headings.count("h1") == 1


def test_verdicts_are_in_words_and_in_color(build: Callable[..., tuple[report.Summary, str]]) -> None:
    summary, text = build(GOOD, BAD)
    assert '<span class="agree">&#10003; agrees</span>' in text
    assert '<span class="disagree">&#10007; disagrees</span>' in text
    assert not summary.agree
    assert summary.lines[0].startswith("agree     good: 1 of 1")
    assert summary.lines[1].startswith("DISAGREE  bad: 1 of 2")
    assert build(GOOD)[0].agree


def test_a_figure_that_fails_does_not_lose_the_others(build: Callable[..., tuple[report.Summary, str]]) -> None:
    summary, text = build(FAILING, GOOD)
    assert not summary.agree
    assert "No picture: ZeroDivisionError: nothing to divide by at height 1.0" in text
    assert "image/svg+xml" in text
    assert "not made: failing" in text
    assert summary.lines[0] == "failed    failing: ZeroDivisionError: nothing to divide by at height 1.0"


def test_an_interruption_keeps_what_is_finished(
    build: Callable[..., tuple[report.Summary, str]], tmp_path: Path
) -> None:
    def interrupted(height: float) -> Outcome:
        raise KeyboardInterrupt

    page = tmp_path / "out" / "index.html"
    with pytest.raises(KeyboardInterrupt):
        build(GOOD, replace(GOOD, name="later", draw=interrupted), replace(BAD, name="last"))
    assert "image/svg+xml" in page.read_text()
    assert page.read_text().count("No picture: interrupted") == 2
    whole = build(GOOD)[1]
    with pytest.raises(KeyboardInterrupt):
        build(GOOD, replace(GOOD, name="later", draw=interrupted))
    assert page.read_text() == whole


def test_the_same_twice_but_for_the_provenance(build: Callable[..., tuple[report.Summary, str]]) -> None:
    def body(text: str) -> str:
        return text[: text.index('<section id="provenance">')]

    assert body(build(GOOD, BAD, FAILING)[1]) == body(build(GOOD, BAD, FAILING)[1])


def test_provenance(build: Callable[..., tuple[report.Summary, str]]) -> None:
    _, text = build(GOOD)
    provenance = "".join(Page(text[text.index('<section id="provenance">') : text.rindex("</section>")]).text)
    for expected in (lf.__version__, "numpy", "scipy", "cores", "GiB", "run time of good"):
        assert expected in provenance


def test_an_unknown_figure_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(lf.UnknownName, match="did you mean 'matrix'"):
        report.build(tmp_path, ["diagrams", "matrx"])
    assert not list(tmp_path.iterdir())


def test_the_selection_exists_and_its_sources_are_known() -> None:
    for name in report.SELECTION:
        figure = find(name)
        assert figure.sources
        assert set(figure.sources) <= set(report.SOURCES)
    assert len(set(report.SELECTION)) == len(report.SELECTION) <= len(MODULES)
