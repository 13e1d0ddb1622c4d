"""The README's examples run and print what it says, its commands exist, and its links lead somewhere."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(
    r"<!-- example: begin -->\n```python\n(.*?)```\n(?:\n?```text\n(.*?)```\n)?<!-- example: end -->", re.DOTALL
)


def test_the_readme_tells_the_truth() -> None:
    """Words are the same, and numbers agree to the digits that are written."""
    agree = runpy.run_path(str(ROOT / "tools" / "docs_blocks.py"))["agree"]
    examples = EXAMPLE.findall(README)
    assert len(examples) >= 4
    assert len(examples) == README.count("```python"), "an example is not marked, so it is not run"
    namespace: dict[str, object] = {}
    for code, expected in examples:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), namespace)
        assert agree(expected, printed.getvalue()), f"{printed.getvalue()}\nand the README says\n{expected}"


def test_what_the_readme_names_is_there() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for target in re.findall(r"make ([a-z]+)\b(?= +#)", README):
        assert target in targets, target
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link


def test_the_first_figure_takes_three_commands() -> None:
    commands = re.search(r"## Set-up\n\n((?:    .*\n)+)", README)
    assert commands
    assert len(commands[1].strip().splitlines()) <= 3
    assert "make report" in commands[1]
