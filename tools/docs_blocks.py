"""Run the Python blocks of a page and compare what they print with what the page says.

A page is a program: its ```python blocks run from top to bottom in one namespace, in an empty folder that is also where
they write their pictures. What a block prints must stand in the ```text block that follows it. Words must be the same;
numbers may differ by three units in the last digit written, for sums depend on the machine. A block that fails, or prints
something else, is an error with the name of the page and the line.

    python tools/docs_blocks.py docs/tutorials/*.md            check
    python tools/docs_blocks.py --write docs/tutorials/*.md    and write what is printed into the pages
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n?^```text\n(?P<told>.*?)^```\n)?", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
UNITS = 3  # in the last digit written


class PageError(Exception):
    """Which block of which page is wrong, and how."""


@dataclass(frozen=True)
class Ran:
    """A page after its blocks ran. text: with the printed outputs; pictures: name -> content; seconds: of one core."""

    text: str
    pictures: dict[str, bytes]
    seconds: float


def run(page: str, text: str, write: bool = False) -> Ran:
    """Run the blocks of `text`, which is called `page` in messages; write: take what is printed for what should be."""
    began = time.process_time()
    names: dict[str, Any] = {"__name__": "page"}
    pieces, end = [], 0
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for block in BLOCK.finditer(text):
            line = text.count("\n", 0, block.start()) + 2
            printed = _printed(f"{page}, the block at line {line}", "\n" * (line - 1) + block["code"], page, names)
            told = block["told"] or ""
            if not write and not agree(told, printed):
                raise PageError(
                    f"{page}, the block at line {line} prints\n\n{printed}\nand the page says\n\n{told}\n"
                    "correct what is wrong, or take over what is printed: python tools/docs_blocks.py --write PAGE"
                )
            pieces += [text[end : block.start()], f"```python\n{block['code']}```\n"]
            pieces += [f"\n```text\n{printed}```\n"] if printed else []
            end = block.end()
        pictures = {path.name: path.read_bytes() for path in sorted(Path(folder).glob("*.png"))}
    return Ran("".join([*pieces, text[end:]]), pictures, time.process_time() - began)


def _printed(where: str, code: str, page: str, names: dict[str, Any]) -> str:
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("error")
            exec(compile(code, page, "exec"), names)
    except Exception as error:
        raise PageError(f"{where} fails: {type(error).__name__}: {error}") from error
    return "".join(f"{line.rstrip()}\n" for line in output.getvalue().splitlines())


def agree(told: str, printed: str) -> bool:
    """Whether two texts have the same words, and numbers that agree to the digits that are written."""
    if NUMBER.sub("#", told) != NUMBER.sub("#", printed):
        return False
    return all(_close(a, b) for a, b in zip(NUMBER.findall(told), NUMBER.findall(printed), strict=True))


def _close(a: str, b: str) -> bool:
    return a == b or abs(float(a) - float(b)) <= UNITS * 1.001 * max(_unit(a), _unit(b))


def _unit(number: str) -> float:
    """One in the last digit: 0.01 for "2.50", 1e-5 for "1.2e-4"; 0 for a whole number, which is exact."""
    digits, _, power = number.partition("e")
    decimals = len(digits.partition(".")[2])
    return 10.0 ** (int(power or 0) - decimals) if decimals or power else 0.0


def pages(arguments: list[str]) -> Iterator[tuple[Path, Ran]]:
    """Every page that is named, run; with --write, what differs is written."""
    write = "--write" in arguments
    for name in arguments:
        if name != "--write":
            path = Path(name).resolve()
            ran = run(name, path.read_text(encoding="utf-8"), write)
            if write:
                path.write_text(ran.text, encoding="utf-8")
            yield path, ran


def main(arguments: list[str]) -> int:
    try:
        for path, ran in pages(arguments):
            print(f"{path.name}: {ran.seconds:.1f} s, pictures: {', '.join(ran.pictures) or 'none'}", flush=True)
    except PageError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    import os

    os.environ.setdefault("MPLBACKEND", "Agg")
    sys.exit(main(sys.argv[1:]))
