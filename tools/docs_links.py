"""Every link of a folder of pages leads somewhere: the file is there, and the place in it."""

from __future__ import annotations

import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

ELSEWHERE = re.compile(r"[a-z]+:|//")


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value is not None:
                self.links.append(value)
            elif name == "id" and value:
                self.places.add(value)


def broken(folder: Path) -> list[str]:
    """ "page: link" for each link that leads nowhere; what is asked of another machine when a page is opened counts."""
    found = []
    for page in sorted(folder.rglob("*.html")):
        if page.name == "404.html":  # its links begin at the root of a server
            continue
        where = page.relative_to(folder).as_posix()
        found += [f"{where}: {link}" for link in dict.fromkeys(_read(page).links) if not _leads(page, link)]
        fetched = re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"?(https?://[^\" >]+)", page.read_text("utf-8"))
        found += [f"{where}: fetches {link}" for link in dict.fromkeys(fetched)]
    return found


@cache
def _read(page: Path) -> _Reader:
    reader = _Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    return reader


def _leads(page: Path, link: str) -> bool:
    if ELSEWHERE.match(link):
        return True
    path, _, place = unquote(link).partition("#")
    target = (page.parent / path.partition("?")[0]).resolve() if path else page
    if target.is_dir():
        target = target / "index.html"
    if not target.is_file():
        return False
    return not place or target.suffix != ".html" or place in _read(target).places
