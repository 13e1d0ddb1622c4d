"""What no file of the repository may hold: places of one machine, and words of what is unfinished."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MADE = {"report", "site", "dist", "build"}  # at the top only
MACHINE_PATH = re.compile(r"(?<![\w./~-])/(?:work|tmp|root|home)(?![\w.])")
UNFINISHED = re.compile(
    r"\b(?:TODO|FIXME|XXX|HACK|coming soon|placeholder)\b|not (?:yet )?implemented|^(?:<{7}|>{7}) ", re.M
)


def files(folder: Path = ROOT) -> Iterator[Path]:
    """Every text file of the project, without caches, hidden folders and what is made by running it."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            hidden = path.name.startswith(".") and path.name != ".ci"
            if not (hidden or path.name == "__pycache__" or (folder == ROOT and is_made(path.name))):
                yield from files(path)
        elif path.suffix not in {".png", ".pdf", ".nc"}:
            yield path


def is_made(name: str) -> bool:
    return name in MADE or name.startswith("report-")


def complaints(text: str) -> list[str]:
    return [match.group().strip() for pattern in (MACHINE_PATH, UNFINISHED) for match in pattern.finditer(text)]


def test_no_file_names_a_place_of_one_machine_or_is_unfinished() -> None:
    seen, found = 0, {}
    for path in files():
        name = path.relative_to(ROOT).as_posix()
        seen += 1
        itself = path == Path(__file__)  # it says what is forbidden
        if not itself and (wrong := complaints(path.read_text(encoding="utf-8", errors="replace"))):
            found[name] = wrong
    assert seen > 40, "the repository was not found"
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "open('/tmp/x')",
        "in /home/me",
        "/root",
        "see /work/main/x.py",
        "# TODO: all",
        "raise X('not implemented')",
        "<<<<<<< A",
    ],
)
def test_the_search_finds(text: str) -> None:
    assert len(complaints(text)) == 1


@pytest.mark.parametrize(
    "text", ["and/or/root/x", "../tmp/x", "the work at home", "p/2/work", "~/home.nc", "/rooted", "NotImplemented"]
)
def test_the_search_lets_pass(text: str) -> None:
    assert complaints(text) == []
