"""Make `.venv` ready: an environment in the project folder with lossflow and all it stands on.

    python tools/environment.py         what a user needs
    python tools/environment.py dev     and what tests, lint and type checks need
    python tools/environment.py docs    and what the documentation site needs

`make` calls it before every target, with the Python that `tools/find-python` chose; where nothing is to be done it says
nothing. `.venv/ready` is the record: it names the extras whose imports have succeeded. An environment that is being made
has a record without extras; so one left behind by an interrupted set-up is known, and made anew. Standard library only.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

# Compiled packages are what fails on an unusual machine, so they are imported before an environment is called ready.
IMPORTS = {
    "": ("lossflow", "numpy", "scipy.linalg", "flint", "h5py", "matplotlib"),
    "dev": ("pytest", "hypothesis", "networkx"),
    "docs": ("mkdocs", "material"),
}
# A PYTHONPATH or a pip setting of the user's must not decide what the environment holds.
IGNORED_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIRE_VIRTUALENV")


class SetupError(Exception):
    """What is wrong and what to do about it, in one line."""


class Environment:
    """`.venv` in the folder `root`. `run(command, quiet)` runs a list of words and tells whether it succeeded."""

    def __init__(self, root, base_python, run, requested=False):
        self.root = root
        self.base_python = os.path.realpath(base_python)
        self.run = run
        self.requested = requested  # the user named the interpreter, so an environment of another one will not do
        self.folder = root / ".venv"
        self.python = self.folder / "bin" / "python"
        self.record = self.folder / "ready"

    def prepare(self, extra):
        """Make the environment ready for `extra`; does nothing where it is. Raises `SetupError`."""
        record = self._read()
        ready = record["extras"] if self._fits(record) and record.get("pyproject") == self._digest() else []
        if extra in ready:
            return
        print(f"setting up .venv{f' with the extra {extra!r}' if extra else ''}: about a minute, once", flush=True)
        if self._may_stay(record):
            if record:
                self._write(record["python"], [])
            self._install(extra)
            if self._imports(extra):
                self._write(record.get("python", self.base_python), sorted({"", extra, *ready}))
                return
        self._create()
        self._install(extra)
        if not self._imports(extra):
            raise SetupError("lossflow is installed in .venv but does not import there; the reason stands above")
        self._write(self.base_python, sorted({"", extra}))

    def _fits(self, record):
        """Whether a record was finished, here (scripts hold absolute paths), and with the Python that is asked for."""
        same_python = not self.requested or record.get("python") == self.base_python
        return (
            bool(record.get("extras")) and record.get("root") == str(self.root) and same_python and self.python.exists()
        )

    def _may_stay(self, record):
        """Whether packages can be added to what is there; one without a record is the user's own and is not refused."""
        enough = [str(self.python), "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        own = not record and not self.requested and self.python.exists()
        return (own or self._fits(record)) and self.run(enough, quiet=True)

    def _digest(self):
        return hashlib.sha256((self.root / "pyproject.toml").read_bytes()).hexdigest()

    def _create(self):
        base, folder = self.base_python, str(self.folder)
        for command in (
            [base, "-m", "venv", folder],
            [base, "-m", "venv", "--without-pip", folder],  # Debian's python3 without python3-venv
            ["uv", "venv", "--quiet", "--allow-existing", "--python", base, folder],
        ):
            self._remove()
            self.folder.mkdir()
            self._write(self.base_python, [])
            if self.run(command, quiet=True) and self.python.exists():
                return
        self._remove()
        raise SetupError(f"{base} cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv")

    def _install(self, extra):
        what = ["--editable", f".[{extra}]" if extra else "."]
        if not self.run([*self._installer(), "--quiet", *what], quiet=False):
            raise SetupError("the packages could not be installed into .venv; the reason stands above")

    def _installer(self):
        """The first installer that runs: pip in the environment, a pip outside it (since 22.3), uv."""
        python = str(self.python)
        for pip in ([python, "-m", "pip"], [self.base_python, "-m", "pip"], ["pip3"], ["pip"]):
            command = [*pip, "--python", python] if pip[0] != python else pip
            if self.run([*command, "--version"], quiet=True):
                return [*command, "install"]
        if self.run(["uv", "--version"], quiet=True):
            return ["uv", "pip", "install", "--python", python]
        raise SetupError("there is neither pip nor uv to install with; on Debian and Ubuntu: apt install python3-venv")

    def _imports(self, extra):
        names = dict.fromkeys([*IMPORTS[""], *IMPORTS[extra]])
        return self.run([str(self.python), "-I", "-c", "\n".join(f"import {name}" for name in names)], quiet=False)

    def _read(self):
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def _write(self, python, extras):
        record = {"root": str(self.root), "python": python, "pyproject": self._digest(), "extras": extras}
        self.record.write_text(json.dumps(record) + "\n", encoding="utf-8")

    def _remove(self):
        if self.folder.is_symlink() or self.folder.is_file():
            self.folder.unlink()
        elif self.folder.exists():
            shutil.rmtree(self.folder)


def run(command, quiet):
    """Run a command in the project folder without the variables that would mislead it."""
    variables = {name: value for name, value in os.environ.items() if name not in IGNORED_VARIABLES}
    variables.update(PIP_USER="0", PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1", MPLBACKEND="Agg")
    shown = subprocess.DEVNULL if quiet else None
    try:
        done = subprocess.run(command, env=variables, stdin=subprocess.DEVNULL, stdout=shown, stderr=shown, check=False)
    except OSError:
        return False
    return done.returncode == 0


def main(extra):
    root = Path(__file__).resolve().parent.parent
    os.chdir(root)
    if extra not in IMPORTS:
        print(f"there is no extra {extra!r}; there is: {', '.join(filter(None, IMPORTS))}", file=sys.stderr)
        return 2
    with contextlib.ExitStack() as stack:
        folder = os.open(root, os.O_RDONLY)
        stack.callback(os.close, folder)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(folder, fcntl.LOCK_EX)  # of two set-ups at once the second waits and finds all done
        try:
            Environment(root, sys.executable, run, requested=bool(os.environ.get("PYTHON"))).prepare(extra)
        except SetupError as error:
            print(error, file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("set-up interrupted; the next make starts it anew", file=sys.stderr)
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2] or [""]))
