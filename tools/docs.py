"""What the documentation site is made of besides the pages as they stand; `make docs` builds it. Hooks of mkdocs.

Pages under docs/tutorials are run, and their pictures are those that their own blocks write. Theory notes are set from
plain text. The reference, the gallery of figures, the bibliography, the sources of tests that the errata name, the measured
results and the changes are made of what is in the repository. Mathematics is drawn by a copy of MathJax inside the site,
known by its checksum, so that nothing is fetched when a page is read.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import os
import re
from pathlib import Path
from typing import Any

import docs_api
import docs_blocks
import docs_links
import docs_plain

ROOT = Path(__file__).resolve().parent.parent
MATHJAX = "assets/mathjax.js"
MATHJAX_SHA256 = "d4295dc33744836935c1399feece5159577b34c5c8ffb9f1c6324cd82e03a882"  # es5/tex-svg.js of mathjax 3.2.2
SHIM = "https://unpkg.com/iframe-worker/shim"  # what the theme would fetch
PLAIN = ("errata.md", "notation.md", "results.md")  # written like the notes
TEST = re.compile(r"<code>tests/[\w/]+\.py::(\w+)</code>")
ran: dict[str, docs_blocks.Ran] = {}


def on_files(files: Any, config: Any) -> Any:
    """Add what is made: pages of the reference, pictures of tutorials, MathJax."""
    made: dict[str, str | bytes] = {
        "reference/index.md": docs_api.index(),
        **{f"reference/{docs_api.page(kind)}": docs_api.reference(kind) for kind in docs_api.catalog()},
        "figures.md": docs_api.figures(),
        "references.md": docs_api.references(),
        "errata_tests.md": docs_api.tests(),
        "results.md": (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8"),
        "benchmarks.md": benchmarks(ROOT / "benchmarks"),
        "changes.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        MATHJAX: mathjax(),
    }
    for file in list(files.documentation_pages()):
        if file.src_uri.startswith("tutorials/"):
            ran[file.src_uri] = tutorial(file.src_uri, file.content_string)
            for name, content in ran[file.src_uri].pictures.items():
                made[f"tutorials/{name}"] = content
    File = importlib.import_module("mkdocs.structure.files").File
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    return files


def tutorial(name: str, text: str) -> docs_blocks.Ran:
    """Run a page. Raises the error by which mkdocs stops."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    try:
        result = docs_blocks.run(f"docs/{name}", text)
    except docs_blocks.PageError as error:
        raise importlib.import_module("mkdocs.exceptions").PluginError(str(error)) from error
    print(f"ran {name}: {result.seconds:.1f} s", flush=True)
    return result


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """The text of a page after what was run, set, and linked."""
    name = page.file.src_uri
    if name in ran:
        return ran[name].text
    if name.startswith("theory/") or name in PLAIN:
        return theory(markdown.replace("](references.bib)", "](references.md)"))
    return markdown


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Links that stand in HTML, which mkdocs leaves alone: from pages of text to pages of the site, errata to their tests."""
    if page.file.src_uri == "errata.md":
        html = TEST.sub(r'<a href="errata_tests.html#\1"><code>\1</code></a>', html)
    return re.sub(r'(<a href="(?!https?:)[^"#]+)\.md(?=[#"])', r"\1.html", html)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """The search of pages opened from a folder takes its worker from the site."""
    return output.replace(SHIM, f"{'../' * page.url.count('/')}assets/search_worker.js")


def on_post_build(config: Any) -> None:
    """Raises the error by which mkdocs stops, with every link of the site that leads nowhere."""
    broken = docs_links.broken(Path(config["site_dir"]))
    if broken:
        raise importlib.import_module("mkdocs.exceptions").PluginError("links that lead nowhere:\n" + "\n".join(broken))


def theory(text: str) -> str:
    """A note: headings for mkdocs, everything between them as HTML that Markdown leaves alone."""
    made: list[str] = []

    def heading(marks: str, title: str) -> str:
        number = re.match(r"([\w.]+?)\.? ", title)
        known = number and (number[1][0].isdigit() or number[1] in ("A", "B"))
        label = f" {{ #{docs_api.anchor(number[1])} }}" if number and known else ""
        return f'\n</div>\n\n{marks} {docs_plain.inline(title)}{label}\n\n<div class="note">\n'

    body = docs_plain.blocks(text, docs_plain.inline, heading)
    made += ['<div class="note">', re.sub(r"\n{2,}(?!#|<div class=\"note\">)", "\n", body), "</div>"]
    return "\n".join(made)


def benchmarks(folder: Path) -> str:
    """The tables of `make bench`, and which benchmarks have none."""
    tables = {path.stem: path.read_text(encoding="utf-8") for path in sorted((folder / "results").glob("*.md"))}
    names = sorted(path.stem for path in folder.glob("*.py"))
    lines = ["# Benchmarks", ""]
    lines += ["What each benchmark printed when it was run last; `make bench` runs all of them, and "]
    lines += [
        f'`make bench only="{names[-1]}"` one. Bounds are ratios within one run, so that they hold on other machines.'
    ]
    lines += ["", *(tables[name] for name in names if name in tables)]
    others = [f"`{name}`" for name in names if name not in tables]
    lines += [f"No table is kept of: {', '.join(others)}.", ""] if others else []
    return "\n".join(lines)


def mathjax() -> bytes:
    """MathJax in one file, from the installed package that carries it; its content is compared with the published one."""
    package = importlib.metadata.distribution("sphinx-mathjax-offline")
    path = Path(str(package.locate_file("sphinx-mathjax-offline/static/mathjax/tex-svg.js")))
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != MATHJAX_SHA256:
        raise importlib.import_module("mkdocs.exceptions").PluginError(f"{path.name} is not that of MathJax 3.2.2")
    return content
