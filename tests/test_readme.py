"""The README's examples run and print what it says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLE = re.compile(
    r"<!-- example: begin -->\n```python\n(.*?)```\n(?:\n?```text\n(.*?)```\n)?<!-- example: end -->", re.DOTALL
)


def test_the_readme_tells_the_truth() -> None:
    examples = EXAMPLE.findall((ROOT / "README.md").read_text())
    assert len(examples) >= 2
    namespace: dict[str, object] = {}
    for code, expected in examples:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), namespace)
        assert printed.getvalue() == expected
