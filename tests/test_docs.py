"""The documentation site: pages are run and compared, notes are set without losing a sign, links lead somewhere.

The build itself, `make docs`, runs all tutorials; here are its parts, on small pages.
"""

from __future__ import annotations

import dataclasses
import html
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import lossflow
from lossflow.public import HOMES

ROOT = Path(__file__).parent.parent
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
NOTES = [
    *sorted((ROOT / "docs" / "theory").glob("*.md")),
    ROOT / "docs" / "notation.md",
    ROOT / "docs" / "errata.md",
    ROOT / "benchmarks" / "RESULTS.md",
]


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The modules of tools/ as mkdocs sees them."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    yield
    for name in [name for name in sys.modules if name in ("bench", "docs") or name.startswith("docs_")]:
        del sys.modules[name]


def module(name: str) -> Any:
    found = __import__(name)
    assert isinstance(found, ModuleType)
    return found


# --- pages that are run


def test_a_page_is_one_program_and_its_outputs_are_compared() -> None:
    page = "# A\n\n```python\nx = 2\n```\n\n```python\nprint(x + 1)\n```\n\n```text\n3\n```\n\nend\n"
    assert module("docs_blocks").run("page", page).text == page


@pytest.mark.parametrize(
    ("block", "complaint"),
    [
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", r"block at line 4 prints\n\n1\n\nand the page says\n\n2\n"),
        ("```python\nprint(1)\n```\n", r"block at line 4 prints\n\n1\n"),
        ("```python\n1 / 0\n```\n", r"block at line 4 fails: ZeroDivisionError"),
        ("```python\nimport warnings; warnings.warn('w')\n```\n", r"fails: UserWarning: w"),
        ("```python\nx = 1\n```\n\n```text\n1\n```\n", r"prints\n\n\nand the page says"),
    ],
)
def test_a_page_that_is_wrong_is_refused(block: str, complaint: str) -> None:
    blocks = module("docs_blocks")
    with pytest.raises(blocks.PageError, match=complaint):
        blocks.run("page", "# A\n\n" + block)


def test_what_is_printed_is_written_where_asked() -> None:
    page = "```python\nprint('a  ')\n```\n\n```text\nb\n```\n\n```python\nx = 1\n```\n"
    assert module("docs_blocks").run("page", page, write=True).text == page.replace("b\n", "a\n")


def test_pictures_are_what_the_page_writes() -> None:
    page = "```python\nfrom pathlib import Path\nPath('a.png').write_bytes(b'x')\n```\n"
    assert module("docs_blocks").run("page", page).pictures == {"a.png": b"x"}
    assert not Path("a.png").exists()


@pytest.mark.parametrize(
    ("told", "printed", "agrees"),
    [
        ("a 1.50 b", "a 1.52 b", True),
        ("a 1.50 b", "a 1.54 b", False),
        ("1.2e-05", "1.3e-05", True),
        ("1.2e-05", "1.2e-06", False),
        ("3 of 4", "3 of 5", False),
        ("x 1.0", "y 1.0", False),
        ("1", "1\n2", False),
        ("-0.5", "0.5", False),
    ],
)
def test_numbers_agree_to_the_digits_that_are_written(told: str, printed: str, agrees: bool) -> None:
    assert module("docs_blocks").agree(told, printed) is agrees


def test_every_tutorial_has_blocks_and_shows_the_pictures_it_writes() -> None:
    assert len(TUTORIALS) >= 5
    for path in TUTORIALS:
        text = path.read_text(encoding="utf-8")
        blocks = [match["code"] for match in module("docs_blocks").BLOCK.finditer(text)]
        assert len(blocks) >= 3, path.name
        assert len(blocks) == text.count("```python"), f"{path.name}: a block is not closed"
        written = set(re.findall(r'savefig\("([\w.]+)"', "\n".join(blocks)))
        assert written == set(re.findall(r"^!\[[^\]]+\]\(([\w.]+)\)$", text, re.MULTILINE)), path.name


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_tells_the_truth(path: Path) -> None:
    """What `make docs` does with it."""
    assert module("docs_blocks").run(path.name, path.read_text(encoding="utf-8")).seconds < 90


# --- plain text that is set


@pytest.mark.parametrize("path", NOTES, ids=lambda path: path.stem)
def test_a_note_is_set_without_losing_a_word(path: Path) -> None:
    plain, text = module("docs_plain"), path.read_text(encoding="utf-8")
    made = plain.blocks(text, heading=lambda marks, title: f"<h{len(marks)}>{plain.inline(title)}</h{len(marks)}>")
    assert plain.words(made) == plain.words(html.escape(plain.LINK.sub(r"\1", text)))


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("C_th(k,l) = E[theta_k^T]", "C<sub>th</sub>(k,l) = E[θ<sub>k</sub><sup>T</sup>]"),
        ("x^{-1/2} + c^2/2", "x<sup>-1/2</sup> + c<sup>2</sup>/2"),
        ("(G*V)^{*(s+1)} and G*G'", "(G*V)<sup>*(s+1)</sup> and G*G'"),
        ("sigma2 -> 0+, a < b", "σ<sup>2</sup> → 0+, a &lt; b"),
        ("int_0^t R(t,s) ds", "∫<sub>0</sub><sup>t</sup> R(t,s) ds"),
        ("`theta_k`, **a_b**", "<code>theta_k</code>, <strong>a<sub>b</sub></strong>"),
        ("init_variance, beta*", "init_variance, β*"),
        ("e^{c A_t}", "e<sup>c A<sub>t</sub></sup>"),
        ("(dL dL](t,t') [a](b,c)", "(dL dL](t,t') [a](b,c)"),
        ("[dual](diagonal.md)", '<a href="diagonal.md">dual</a>'),
    ],
)
def test_formulas_are_raised_and_lowered(text: str, made: str) -> None:
    assert module("docs_plain").inline(text) == made


def test_arguments_of_docstrings_stay_words() -> None:
    assert module("docs_plain").inline("delta: n/d; alpha_i x^2", note=False) == "delta: n/d; alpha_i x<sup>2</sup>"


def test_structure_follows_indentation() -> None:
    text = "A line\nand more:\n    x = 1\n    y = 2\n* one\n  goes on\n      z = 3\n* two\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    assert module("docs_plain").blocks(text) == (
        '<p>A line and more:</p>\n<div class="formula">x = 1\ny = 2</div>\n<ul>\n'
        '<li>one goes on<div class="formula">z = 3</div></li>\n<li>two</li>\n</ul>\n'
        "<table>\n<thead><tr><th>a</th><th>b</th></tr></thead>\n<tbody>\n<tr><td>1</td><td>2</td></tr>\n</tbody></table>"
    )


# --- what is made of the code


def test_the_reference_has_every_public_name_in_a_page_of_the_site() -> None:
    api, site = module("docs_api"), (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert set(api.places()) == set(HOMES)
    index = api.index()
    for kind, things in api.catalog().items():
        assert f" reference/{api.page(kind)}\n" in site
        text = api.reference(kind)
        for name, thing in things.items():
            assert f"## {name} {{ #{name} }}" in text
            assert f"{api.page(kind)}#{name})" in index
            for field in dataclasses.fields(thing) if dataclasses.is_dataclass(thing) else ():
                assert not field.init or f"{field.name}: " in text, (name, field.name)


def test_references_of_a_docstring_become_links() -> None:
    made = module("docs_api").linked(
        "As `solve` has it.\nRaises `InvalidInput`.\ndocs/theory/diagonal.md sections 5 and 6 [NI25v2]."
    )
    assert '<a href="verbs.md#solve"><code>solve</code></a>' in made
    assert '<p>Raises <a href="errors.md#InvalidInput">' in made
    assert '<a href="../theory/diagonal.md#section-5">5</a> and <a href="../theory/diagonal.md#section-6">6</a>' in made
    assert '[<a href="../references.md#NI25v2">NI25v2</a>]' in made


def test_signatures_are_those_of_the_code() -> None:
    api = module("docs_api")
    assert api._call("stationary", lossflow.stationary) == "stationary(problem: AbstractProblem) -> EndState"
    assert "    init: AbstractInit = SymmetricInit()," in api._call("DiagonalLinear", lossflow.DiagonalLinear)


def test_every_test_of_the_errata_is_shown_and_linked() -> None:
    api, text = module("docs_api"), (ROOT / "docs" / "errata.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`tests/[\w/]+\.py::(\w+)`", text))
    assert named
    shown = api.tests()
    for name in named:
        assert f"## {name} {{ #{name} }}" in shown
        assert f"def {name}(" in shown


def test_every_page_is_in_the_site() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for path in (ROOT / "docs").rglob("*.md"):
        assert f"{path.relative_to(ROOT / 'docs').as_posix()}\n" in site, path.name


# --- tables of benchmarks


def test_a_benchmark_that_ends_replaces_its_table_and_one_that_breaks_off_does_not(tmp_path: Path) -> None:
    bench, docs = module("bench"), module("docs")
    script = tmp_path / "fast.py"
    endings = {
        "print('ratio 3, 2 needed: met')": "ratio 3, 2 needed: met",
        "print('ratio 1, 2 needed: MISSED'); sys.exit(1)": "ratio 1, 2 needed: MISSED",
        "print('ratio 5'); 1 / 0": "ratio 1, 2 needed: MISSED",
        "print('skipped: no device')": "ratio 1, 2 needed: MISSED",
    }
    for (ending, table), code in zip(endings.items(), (0, 1, 1, 0), strict=True):
        script.write_text(f'"""How fast.\n\nMore."""\nimport sys\n{ending}\n')
        assert bench.main(["fast"], tmp_path) == code
        written = (tmp_path / "results" / "fast.md").read_text(encoding="utf-8")
        assert written in docs.benchmarks(tmp_path)
        assert written.startswith("## How fast\n\n`benchmarks/fast.py`, ")
        assert written.endswith(f"```text\n{table}\n```\n")
        assert ("all bounds are met" in written) == ("3" in table)
    (tmp_path / "other.py").write_text("")
    assert "No table is kept of: `other`." in docs.benchmarks(tmp_path)
    assert bench.main(["fats"], tmp_path) == 2


def test_every_benchmark_says_what_it_measures_and_every_table_has_its_benchmark() -> None:
    bench, folder = module("bench"), ROOT / "benchmarks"
    assert len(bench.cases(folder)) >= 10
    for name in bench.cases(folder):
        assert len(bench.title(folder / f"{name}.py")) > 30, name
    for path in (folder / "results").glob("*.md"):
        assert path.stem in bench.cases(folder), path.name
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"## {bench.title(folder / path.name.replace('.md', '.py'))}\n")
        assert re.search(r"\d+ cores, \d+ GiB of memory, Python 3\.\d+\.\d+", text)


# --- links


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<p id="here"><a href="#here"></a><a href="b.html#x"></a><a href="c.html"></a>')
    (tmp_path / "b.html").write_text(
        '<a href="a.html#there"></a><a href="https://x.org"></a><img src="https://x.org/i.png">'
    )
    assert module("docs_links").broken(tmp_path) == [
        "a.html: b.html#x",
        "a.html: c.html",
        "b.html: a.html#there",
        "b.html: fetches https://x.org/i.png",
    ]


def test_nothing_is_fetched_and_links_in_html_lead_to_pages() -> None:
    docs, page = module("docs"), SimpleNamespace(url="reference/a.html", file=SimpleNamespace(src_uri="reference/a.md"))
    made = docs.on_post_page(f'<script src="{docs.SHIM}"></script>', page, None)
    assert made == '<script src="../assets/search_worker.js"></script>'
    assert (ROOT / "docs" / "assets" / "search_worker.js").exists()
    html = '<a href="../b.md#c">b</a> <a href="https://x.org/d.md">d</a>'
    assert docs.on_page_content(html, page, None, None) == html.replace("b.md", "b.html")


def test_sections_of_notes_can_be_linked() -> None:
    made = module("docs").theory("# A note\n\nText\n\n### 2.1 On x_i\n    y = 1\n")
    assert "\n### 2.1 On x<sub>i</sub> { #section-2-1 }\n" in made
    assert made.count("<div") == made.count("</div>")
