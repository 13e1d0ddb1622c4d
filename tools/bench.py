"""Run the named benchmarks and keep what each prints, beside the machine that it was measured on, for the documentation.

    python tools/bench.py              all of them (`make bench`): an hour or two
    python tools/bench.py limits sweep  those two (`make bench only="limits sweep"`)

A benchmark prints its table and ends with 1 if a bound is missed. `benchmarks/results/NAME.md` holds the last table; it is
replaced when the benchmark runs again, and kept where it breaks off, or says that it skips. The machine is named by its cores
and memory alone. Standard library only.
"""

from __future__ import annotations

import ast
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SKIPS = "skipped"  # how the last line of a benchmark begins that measures nothing on this machine


@dataclass(frozen=True)
class Result:
    """What came of a benchmark. table: its page, empty if there is none; missed: whether a bound was, or it broke off."""

    table: str
    missed: bool


def cases(folder: Path) -> list[str]:
    """The names of all benchmarks."""
    return sorted(path.stem for path in folder.glob("*.py"))


def title(script: Path) -> str:
    """The first line of its docstring."""
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or script.stem
    return text.partition("\n")[0].rstrip(".")


def machine() -> str:
    """What the times depend on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{cores} cores, {memory:.0f} GiB of memory, Python {platform.python_version()}"


def run(script: Path) -> Result:
    """Run one, show its lines as they come, and set its page."""
    began, load, lines = os.times(), os.getloadavg()[0], []
    with tempfile.TemporaryFile("w+") as errors:  # a pipe would fill up meanwhile
        command = [sys.executable, "-u", str(script)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT) as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                lines.append(line.rstrip())
        missed, ended = process.returncode != 0, os.times()
        errors.seek(0)
        complaints = errors.read()
    if process.returncode not in (0, 1) or "Traceback (most recent call last)" in complaints:
        print(f"{complaints}{script.name} broke off; its last table is kept", file=sys.stderr, flush=True)
        return Result("", True)
    if not lines or lines[-1].startswith(SKIPS):
        return Result("", missed)
    seconds = ended.children_user + ended.children_system - began.children_user - began.children_system
    return Result(page(script, lines, missed, load, seconds), missed)


def page(script: Path, lines: list[str], missed: bool, load: float, seconds: float) -> str:
    """One section of the documentation."""
    busy = f"about {load:.0f} other processes at work" if load >= 0.5 else "idle before"
    verdict = "a bound is missed" if missed else "all bounds are met"
    where = f"`benchmarks/{script.name}`, {machine()}, {busy}; {seconds:.3g} s of processor time: {verdict}."
    head = f"## {title(script)}\n\n{where}\n\n"
    return head + "```text\n" + "\n".join(lines) + "\n```\n"


def main(names: list[str], folder: Path = ROOT / "benchmarks") -> int:
    known = cases(folder)
    for name in names:
        if name not in known:
            print(f"there is no benchmark {name!r}; there is: {', '.join(known)}", file=sys.stderr)
            return 2
    failed = False
    for name in names or known:
        print(f"== {name}", flush=True)
        result = run(folder / f"{name}.py")
        failed |= result.missed
        if result.table:
            (folder / "results").mkdir(exist_ok=True)
            (folder / "results" / f"{name}.md").write_text(result.table, encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
