"""The weight of `import lossflow` and of `lossflow --help`: what is loaded, and how long a process works for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import lossflow

HEAVY = ("scipy", "sympy", "xarray", "matplotlib", "jax", "numba", "flint", "h5py", "typer", "tqdm")
COMMAND = str(Path(sysconfig.get_path("scripts")) / "lossflow")
REPETITIONS = 10


def loaded_after(program: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after `program`."""
    program += "\nimport sys, json\nprint(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def process_times(*commands: list[str]) -> list[float]:
    """The least processor time (user + system, in seconds) of each command, the repetitions interleaved.

    The least of ten, since whatever else the machine does only adds; interleaved, since a busy spell must not hit one
    command alone. Ratios of these numbers are compared, never the numbers.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    least = [float("inf")] * len(commands)
    for _ in range(REPETITIONS):
        for k, command in enumerate(commands):
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as process:
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            assert process.returncode == 0, command
            least[k] = min(least[k], usage.ru_utime + usage.ru_stime)
    return least


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_import_loads_nothing_heavy() -> None:
    assert not loaded_after("import lossflow") & set(HEAVY)
    assert not loaded_after("import lossflow; dir(lossflow); lossflow.__all__") & set(HEAVY)


def test_the_measure_of_what_is_loaded_sees_a_heavy_import() -> None:
    assert "scipy" in loaded_after("import lossflow, scipy.special")


def test_describing_loads_nothing_heavy() -> None:
    """Problems, methods and dynamics are descriptions: making one computes nothing and loads no engine's libraries."""
    describe = (
        "import lossflow as lf; lf.CPDecomposition(order=2), lf.Limit({'p': 4, 'H': 4, 'sigma2': 1}), lf.GradientFlow()"
    )
    assert not loaded_after(describe) & set(HEAVY)


def test_import_costs_at_most_three_times_numpy() -> None:
    bare, numpy, ours = process_times(python(""), python("import numpy"), python("import lossflow"))
    assert ours - bare <= 3 * (numpy - bare)


def test_help_costs_at_most_two_and_a_half_times_typer() -> None:
    bare, typer, ours = process_times(python(""), python("import typer"), [COMMAND, "--help"])
    assert ours - bare <= 2.5 * (typer - bare)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    try:
        lossflow.Simulatoin  # type: ignore[attr-defined]  # noqa: B018
    except AttributeError as error:
        assert "did you mean 'Simulation'?" in str(error)
    else:
        raise AssertionError("lossflow.Simulatoin exists")
