"""The set-up finds a Python that runs, makes `.venv` by whatever way is open, and is never fooled by a half-made one.

Interpreters, pip and uv are fakes here: nothing is downloaded, nothing installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
SHELL = "/bin/sh"
Answer = subprocess.CompletedProcess[str]


def load_environment() -> ModuleType:
    spec = importlib.util.spec_from_file_location("environment", ROOT / "tools" / "environment.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


environment = load_environment()


# --- finding an interpreter


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder of programs that is the whole PATH."""
    folder = tmp_path / "programs"
    folder.mkdir()
    return folder


def program(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!{SHELL}\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def new(folder: Path, name: str) -> Path:
    """An interpreter new enough: it prints where it is."""
    return program(folder, name, f"echo /found/{name}")


def old(folder: Path, name: str) -> Path:
    """An interpreter too old: it runs the question and prints nothing."""
    return program(folder, name, "exit 0")


def shim(folder: Path, name: str) -> Path:
    """What a version manager leaves on the PATH for a version that is not chosen."""
    return program(folder, name, f'echo "pyenv: {name}: command not found" >&2; exit 127')


def find(machine: Path, **variables: str) -> Answer:
    command = [SHELL, str(ROOT / "tools" / "find-python")]
    return subprocess.run(command, env={"PATH": str(machine), **variables}, capture_output=True, text=True, check=False)


def test_the_newest_interpreter_that_runs_is_found(machine: Path) -> None:
    shim(machine, "python3.14")
    old(machine, "python3.13")
    new(machine, "python3.12")
    new(machine, "python3")
    answer = find(machine)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "/found/python3.12\n", "")


@pytest.mark.parametrize("name", ["python3.14", "python3.13", "python3.12", "python3.11", "python3", "python"])
def test_every_usual_name_is_tried(machine: Path, name: str) -> None:
    new(machine, name)
    assert find(machine).stdout == f"/found/{name}\n"


def test_no_interpreter_is_one_line_and_exit_2(machine: Path) -> None:
    shim(machine, "python3.12")
    old(machine, "python3")
    answer = find(machine)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.count("\n") == 1
    assert "no Python >= 3.11 runs here" in answer.stderr
    assert "PYTHON=" in answer.stderr


def test_PYTHON_overrides(machine: Path, tmp_path: Path) -> None:
    new(machine, "python3.14")
    folder = tmp_path / "a place with spaces"
    folder.mkdir()
    mine = new(folder, "mine")
    assert find(machine, PYTHON=str(mine)).stdout == "/found/mine\n"
    assert find(machine, PYTHON="").stdout == "/found/python3.14\n"


@pytest.mark.parametrize("make", [old, shim])
def test_a_PYTHON_that_will_not_do_is_one_line_and_exit_2(machine: Path, make: Callable[[Path, str], Path]) -> None:
    new(machine, "python3.14")
    make(machine, "mine")
    for name in ("mine", "missing"):
        answer = find(machine, PYTHON=name)
        assert (answer.returncode, answer.stdout) == (2, "")
        assert answer.stderr.count("\n") == 1
        assert f"PYTHON={name} is not a Python >= 3.11 that runs" in answer.stderr


def test_a_virtual_environment_leads_to_its_base(machine: Path) -> None:
    """An active environment may be the very one about to be made anew."""
    program(machine, "python3", f'exec "{sys.executable}" "$@"')
    found = Path(find(machine).stdout.strip())
    assert os.path.realpath(found) == os.path.realpath(sys.executable)
    assert sys.prefix == sys.base_prefix or not found.is_relative_to(sys.prefix)


# --- making the environment


class Machine:
    """A machine on which some commands work: `works` are the first words of those that do."""

    def __init__(self, root: Path, *works: str) -> None:
        self.root = root
        self.works = works
        self.commands: list[str] = []
        self.interrupted_at: int | None = None

    def __call__(self, command: list[str], quiet: bool) -> bool:
        if self.interrupted_at is not None and len(self.commands) == self.interrupted_at:
            raise KeyboardInterrupt
        words = " ".join(command).replace(str(self.root), "").replace("/.venv/bin/python", "VENV").replace("/.venv", "")
        words = words.replace(os.path.realpath(sys.executable), "BASE").strip()
        self.commands.append(words)
        if not words.startswith(self.works):
            return False
        if " venv" in words:
            python = self.root / ".venv" / "bin" / "python"
            python.parent.mkdir(parents=True)
            python.touch()
        return True

    def did(self, words: str) -> bool:
        return any(command.startswith(words) for command in self.commands)


WHOLE = ("BASE -m venv", "VENV")  # venv works, and the Python it makes runs, imports and has pip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "pyproject.toml").write_text("[project]\n", encoding="utf-8")
    return root


def prepare(
    root: Path, machine: Machine, extra: str = "", python: str = sys.executable, requested: bool = False
) -> None:
    environment.Environment(root, python, machine, requested).prepare(extra)


def extras(root: Path) -> list[str]:
    """The extras for which the environment is on record as ready."""
    return json.loads((root / ".venv" / "ready").read_text(encoding="utf-8"))["extras"]


def test_a_bare_machine(project: Path) -> None:
    machine = Machine(project, *WHOLE)
    prepare(project, machine)
    imports = "; ".join(machine.commands[-1].split("\n"))
    assert machine.commands[:-1] == [
        "BASE -m venv",
        "VENV -m pip --version",
        "VENV -m pip install --quiet --editable .",
    ]
    assert imports.startswith("VENV -I -c import lossflow; import numpy")
    assert extras(project) == [""]


def test_what_is_ready_is_left_alone(project: Path) -> None:
    prepare(project, Machine(project, *WHOLE), "dev")
    assert extras(project) == ["", "dev"]
    for extra in ("", "dev"):
        second = Machine(project)
        prepare(project, second, extra)
        assert second.commands == []


def test_an_extra_is_added_to_what_is_there(project: Path) -> None:
    prepare(project, Machine(project, *WHOLE))
    second = Machine(project, *WHOLE)
    prepare(project, second, "dev")
    assert not second.did("BASE -m venv")
    assert second.did("VENV -m pip install --quiet --editable .[dev]")
    assert extras(project) == ["", "dev"]


def test_a_changed_pyproject_is_installed_again(project: Path) -> None:
    prepare(project, Machine(project, *WHOLE), "dev")
    (project / "pyproject.toml").write_text("[project]\ndependencies = ['numpy']\n", encoding="utf-8")
    second = Machine(project, *WHOLE)
    prepare(project, second)
    assert not second.did("BASE -m venv")
    assert second.did("VENV -m pip install")
    assert extras(project) == [""]  # what dev needs may have changed too: it is installed when it is asked for


@pytest.mark.parametrize("before", [None, "", "dev"])
def test_a_set_up_interrupted_anywhere_is_repaired(project: Path, before: str | None) -> None:
    """Before each of its commands in turn; a finished set-up of an older pyproject.toml may have come before."""
    for k in range(20):
        shutil.rmtree(project / ".venv", ignore_errors=True)
        if before is not None:
            prepare(project, Machine(project, *WHOLE), before)
            (project / "pyproject.toml").write_text(f"[project] # {k}\n", encoding="utf-8")
        interrupted = Machine(project, *WHOLE)
        interrupted.interrupted_at = k
        try:
            prepare(project, interrupted, "dev")
        except KeyboardInterrupt:
            again = Machine(project, *WHOLE)
            prepare(project, again, "dev")
            assert again.did("VENV -I -c"), "called ready without an import"
            assert extras(project) == ["", "dev"]
        else:
            assert k >= 3
            return
    raise AssertionError("the set-up never came to its end")


@pytest.mark.parametrize("left", ["nothing in it", "a dangling link", "a file in its place", "a link in its place"])
def test_a_broken_environment_is_made_anew(project: Path, tmp_path: Path, left: str) -> None:
    folder = project / ".venv"
    if left == "a file in its place":
        folder.touch()
    elif left == "a link in its place":
        folder.symlink_to(tmp_path / "nowhere")
    else:
        (folder / "bin").mkdir(parents=True)
        if left == "a dangling link":
            (folder / "bin" / "python").symlink_to(tmp_path / "nowhere")
    machine = Machine(project, *WHOLE)
    prepare(project, machine)
    assert machine.did("BASE -m venv")
    assert extras(project) == [""]


def test_an_environment_of_the_users_own_is_kept_where_it_works(project: Path) -> None:
    (project / ".venv" / "bin").mkdir(parents=True)
    (project / ".venv" / "bin" / "python").touch()
    (project / ".venv" / "mine").touch()
    machine = Machine(project, *WHOLE)
    prepare(project, machine)
    assert (project / ".venv" / "mine").exists()
    assert not machine.did("BASE -m venv")
    assert extras(project) == [""]


def test_what_does_not_import_is_made_anew_once(project: Path) -> None:
    prepare(project, Machine(project, *WHOLE))
    broken = Machine(project, "BASE -m venv", "VENV -c", "VENV -m pip")
    with pytest.raises(environment.SetupError, match="does not import"):
        prepare(project, broken, "dev")
    assert broken.commands.count("BASE -m venv") == 1
    assert extras(project) == []


def test_a_moved_project_is_made_anew(project: Path, tmp_path: Path) -> None:
    prepare(project, Machine(project, *WHOLE))
    moved = project.rename(tmp_path / "elsewhere")
    machine = Machine(moved, *WHOLE)
    prepare(moved, machine)
    assert machine.did("BASE -m venv")


def test_a_named_interpreter_is_the_one_used(project: Path, tmp_path: Path) -> None:
    prepare(project, Machine(project, *WHOLE))
    same, other = Machine(project), Machine(project, "/other/python -m venv", "VENV")
    prepare(project, same, requested=True)
    assert same.commands == []
    prepare(project, other, python="/other/python", requested=True)
    assert other.did("/other/python -m venv")
    unnamed = Machine(project)
    prepare(project, unnamed)  # found, not named: the environment of the other interpreter will do
    assert unnamed.commands == []


def test_without_ensurepip_a_pip_outside_installs(project: Path) -> None:
    machine = Machine(project, "BASE -m venv --without-pip", "VENV -I", "BASE -m pip")
    prepare(project, machine)
    assert machine.did("BASE -m pip --python VENV install --quiet --editable .")
    assert extras(project) == [""]


@pytest.mark.parametrize("name", ["pip3", "pip"])
def test_without_any_pip_of_its_own_the_pip_on_the_path_installs(project: Path, name: str) -> None:
    prepare(project, Machine(project, "BASE -m venv --without-pip", "VENV -I", f"{name} --python VENV"))
    assert extras(project) == [""]


def test_with_uv_alone(project: Path) -> None:
    machine = Machine(project, "uv", "VENV -I")
    prepare(project, machine)
    assert machine.did("uv venv --quiet --allow-existing --python BASE")
    assert machine.did("uv pip install --python VENV --quiet --editable .")
    assert extras(project) == [""]


@pytest.mark.parametrize("works", [(), ("BASE -m venv --without-pip", "VENV -I")])
def test_with_nothing_to_install_with_the_package_is_named(project: Path, works: tuple[str, ...]) -> None:
    with pytest.raises(environment.SetupError, match="apt install python3-venv") as error:
        prepare(project, Machine(project, *works))
    assert "\n" not in str(error.value)
    assert not (project / ".venv").exists() or extras(project) == []


def test_a_failed_installation_is_not_ready(project: Path) -> None:
    with pytest.raises(environment.SetupError, match="could not be installed"):
        prepare(project, Machine(project, "BASE -m venv", "VENV -m pip --version", "VENV -I"))
    assert extras(project) == []


def test_commands_run_without_misleading_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.setenv("PIP_TARGET", "elsewhere")
    monkeypatch.setenv("PIP_USER", "1")
    seen = "import os, sys; e = os.environ; sys.exit('PYTHONPATH' in e or 'PIP_TARGET' in e or e['PIP_USER'] != '0')"
    assert environment.run([sys.executable, "-c", seen], quiet=False)
    assert not environment.run([sys.executable, "-c", "raise SystemExit(3)"], quiet=True)
    assert not environment.run([str(tmp_path / "missing")], quiet=True)


def test_what_is_imported_is_what_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = project["optional-dependencies"]
    installed = {"": project["dependencies"], "dev": extra["dev"] + extra["test"], "docs": extra["docs"]}
    distribution = {"flint": "python-flint", "material": "mkdocs-material"}
    assert list(environment.IMPORTS) == list(installed)
    for name, modules in environment.IMPORTS.items():
        for module in modules:
            top = module.split(".")[0]
            wanted = distribution.get(top, top)
            assert wanted == "lossflow" or any(line.startswith(wanted) for line in installed[name]), module


# --- the commands a newcomer types


def test_make_without_an_interpreter_stops_at_once() -> None:
    for target in ("report", "test"):
        command = ["make", "--no-print-directory", target, "PYTHON=/no/such/python"]
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert answer.returncode == 2
        assert "PYTHON=/no/such/python is not a Python >= 3.11 that runs" in answer.stderr
        assert answer.stdout == ""


def test_make_help_names_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = next(line for line in makefile.splitlines() if line.startswith(".PHONY:")).split()[1:]
    answer = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line.split()[1] for line in answer.stdout.splitlines() if line.startswith("make ")] == targets


def test_an_unknown_extra_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert environment.main("doc") == 2
    assert capsys.readouterr().err == "there is no extra 'doc'; there is: dev, docs\n"


@pytest.mark.parametrize("broken", [None, "test", "lint", "types"])
def test_ci_runs_all_three_and_fails_with_any(machine: Path, broken: str | None) -> None:
    program(machine, "make", f'[ "$2" = "{broken}" ] && exit 2; echo "made $2"')
    for name in ("bash", "dirname"):
        (machine / name).symlink_to(str(shutil.which(name)))
    command = [str(machine / "bash"), str(ROOT / ".ci" / "run")]
    answer = subprocess.run(command, env={"PATH": str(machine)}, capture_output=True, text=True, check=False)
    assert (answer.returncode == 0) == (broken is None)
    for step in ("test", "lint", "types"):
        assert f"== make {step}" in answer.stdout
        assert (f"made {step}" in answer.stdout) == (step != broken)
    assert answer.stdout.splitlines()[-1] == ("== all passed" if broken is None else f"== failed: {broken}")
