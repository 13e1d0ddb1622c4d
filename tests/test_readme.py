"""The README's examples run and print what it says, and the user scripts of this stage of the library run."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("use", ["u3_limit_against_experiment", "u13_save_and_load", "u14_descriptions_are_keys"])
def test_user_scripts_run(use: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    specification = importlib.util.spec_from_file_location("user_scripts", ROOT / "tests" / "api" / "user_scripts.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    # smaller sizes than the script's: what it does is the point here, not how long it takes
    monkeypatch.setattr(module, "matrix", {"p": 32, "H": 16, "sigma2": 1 / 32})
    with contextlib.redirect_stdout(io.StringIO()):
        getattr(module, use)()


def test_the_expand_part_of_the_first_user_script_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """u1 goes on with a Pade sum, which a later stage brings."""
    source = (ROOT / "tests" / "api" / "user_scripts.py").read_text()
    body = source.split("def u1_a_network_of_my_own():")[1].split("\ndef ")[0]
    lines = [line[4:] for line in body.splitlines()[2:] if "lf.solve(" not in line]
    exec("\n".join(["import lossflow as lf", "from fractions import Fraction", "import numpy as np", *lines]), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "('p', 'H', 'N', 'a2', 'sigma2') ()"
    assert float(eval(printed[1], {"Fraction": __import__("fractions").Fraction})) < 0
