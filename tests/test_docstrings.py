"""Whatever is public says what it is: docstrings, arguments by name, and sources that exist."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lossflow
from lossflow.public import HOMES

ROOT = Path(__file__).parent.parent
THEORY = ROOT / "docs" / "theory"
SECTION = r"(?:\d+(?:\.\d+)?|[AB]\b)"
CITATION = re.compile(rf"docs/theory/(\w+)\.md(?:,?\s+sections?\s+({SECTION}(?:(?:,| and| to)\s+{SECTION})*))?")
MODULES = sorted(
    m.name for m in pkgutil.walk_packages(lossflow.__path__, "lossflow.") if not m.name.endswith("__main__")
)
SOURCES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in ROOT.glob("src/**/*.py")}


def own_docstring(x: Any) -> str:
    """The docstring that was written for `x`: not inherited, and not the signature that dataclasses put in its place."""
    text = vars(x).get("__doc__") if inspect.isclass(x) else x.__doc__
    return "" if not text or (inspect.isclass(x) and text.startswith(f"{x.__name__}(")) else text


def arguments(x: Any) -> list[str]:
    """The names that a caller has to know: fields of a dataclass, parameters of a function."""
    if inspect.isclass(x):
        return [f.name for f in dataclasses.fields(x) if f.init] if dataclasses.is_dataclass(x) else []
    return [name for name in inspect.signature(x).parameters if name != "self"]


def undocumented(x: Any) -> list[str]:
    """Arguments whose name is not a word of the docstring."""
    words = set(re.findall(r"\w+", own_docstring(x)))
    return [name for name in arguments(x) if name not in words]


def public_methods(cls: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, attribute in vars(cls).items():
        if isinstance(attribute, (classmethod, staticmethod)):
            attribute = attribute.__func__
        elif isinstance(attribute, property):
            attribute = attribute.fget
        if inspect.isfunction(attribute) and not name.startswith("_"):
            yield name, attribute


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is(module: str) -> None:
    specification = importlib.util.find_spec(module)
    assert specification
    assert specification.origin
    text = Path(specification.origin).read_text(encoding="utf-8").strip()
    assert text.startswith('"""') or not text  # the empty file that makes a folder a package


@pytest.mark.parametrize("name", HOMES)
def test_every_public_name_is_documented(name: str) -> None:
    x = getattr(lossflow, name)
    assert own_docstring(x)
    assert undocumented(x) == []
    if inspect.isclass(x):
        for method, function in public_methods(x):
            inherited = any(getattr(base, method, None) for base in x.__mro__[1:])
            assert own_docstring(function) or inherited, method


@pytest.mark.parametrize("name", HOMES)
def test_no_public_name_swallows_keywords(name: str) -> None:
    x = getattr(lossflow, name)
    for method, function in [(name, x)] if inspect.isfunction(x) else public_methods(x):
        takes = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.VAR_KEYWORD]
        assert takes == (["sizes"] if (name, method) == ("LossSeries", "at") else []), method


@pytest.mark.parametrize("path", SOURCES)
def test_sources_that_are_cited_exist(path: str) -> None:
    bibliography = (ROOT / "docs" / "references.bib").read_text(encoding="utf-8")
    text = SOURCES[path]
    for key in re.findall(r"\b[A-Z]{2,}\d\dv\d\b", text):
        assert f"{{{key}," in bibliography, f"{key} is not in references.bib"
    for name, sections in CITATION.findall(text):
        note = THEORY / f"{name}.md"
        assert note.exists(), f"there is no note {name}.md"
        titles = set(re.findall(r"^#+ ([\w.]+?)\.? ", note.read_text(encoding="utf-8"), re.MULTILINE))
        for section in re.findall(SECTION, sections):
            assert section in titles, f"{name}.md has no section {section}"


def test_citations_are_read() -> None:
    assert CITATION.findall("docs/theory/diagrams.md sections 4.1, 7 and 12 and more [K]") == [
        ("diagrams", "4.1, 7 and 12")
    ]
    assert CITATION.findall("docs/theory/odd_order_and_descent.md section B.") == [("odd_order_and_descent", "B")]
    assert any(CITATION.search(text) for text in SOURCES.values())


@pytest.mark.parametrize("path", SOURCES)
def test_no_equation_of_a_paper_is_cited_by_number(path: str) -> None:
    """Numbers move between versions. The notes are cited by section, and their own numbered equations by (n)."""
    numbered = r"\[[A-Z]+\d\dv\d\][^\n]*\b(eq|equation|theorem|lemma|proposition)s?\.? ?\(?\d"
    assert not re.search(numbered, SOURCES[path], re.IGNORECASE)


def test_the_walk_finds_what_is_wrong() -> None:
    def bare(x: int) -> int:
        return x

    def partly(x: int, y: int) -> int:
        """The sum of x and another number."""
        return x + y

    @dataclasses.dataclass
    class Silent:
        size: int

    assert own_docstring(bare) == ""
    assert undocumented(partly) == ["y"]
    assert own_docstring(Silent) == ""
    assert undocumented(Silent) == ["size"]
