"""Imports point down the ranks of the library, and nothing heavy is imported before it is used.

All imports are read, also those inside functions and under TYPE_CHECKING: a type that points up is a dependency too.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from lossflow.public import HOMES

SOURCE = Path(__file__).parent.parent / "src" / "lossflow"

RANKS = {
    4: "__main__ cli report plot figures explore",
    3: "experiments sweeps questions comparison storage end_states diagnosis",
    2: "expansion meanfield spectral simulate",
    1: "problems laws diagrams",
    0: "__init__ description trajectory dynamics method problem keys checkpoint journal progress public errors significance "
    "memory cores",
}
RANK = {room: rank for rank, rooms in RANKS.items() for room in rooms.split()}
FREE_AMONG_THEMSELVES = (0, 4)
SIDEWAYS = {
    ("problems", "diagrams"),  # problems state their loss in diagrams
    ("questions", "end_states"),  # a question is asked of the engine that knows
    ("sweeps", "questions"),
    ("experiments", "questions"),
    ("experiments", "sweeps"),
    ("experiments", "storage"),
    ("experiments", "comparison"),
}
LIGHT = sys.stdlib_module_names | {"numpy", "lossflow"}
HEAVY_BY_RIGHT = {("cli", "typer"), ("explore", "marimo")}
COMPILED = {"lossflow.diagrams.kernels": "numba"}  # loops that a library compiles; imported inside functions alone
READERS_OF_THE_PUBLIC_TABLE = ("__init__", "description")  # they may import a module whose name is computed


class Import(NamedTuple):
    """One import statement: what is imported, on which line, and whether it runs when the module is imported."""

    target: str
    line: int
    at_import: bool
    for_types: bool


def violations(module: str, source: str) -> list[str]:
    """What is wrong with the imports of `module` ("lossflow.expansion.series"), one line for each."""
    room = room_of(module)
    found = []
    for target, line, at_import, for_types in imports(module, source):
        where = f"{module}:{line} imports {target}"
        if at_import and target in COMPILED:
            found.append(f"{where}, which compiles, when it is imported itself: move the import into the function")
        if target == "?":
            if room not in READERS_OF_THE_PUBLIC_TABLE and RANK[room] < 4:
                found.append(
                    f"{module}:{line} imports a module whose name is computed: no one can check where it points"
                )
        elif target == "lossflow":
            if RANK[room] < 4:
                found.append(f"{where}: the public face leads everywhere; import the module")
        elif target.startswith("lossflow."):
            other = room_of(target)
            if other not in RANK:
                found.append(f"{where}: there is no such room in the table of ranks")
            elif room == "__init__" and for_types:
                continue  # types of the public names; `test_the_public_face_is_its_table` compares them with the table
            elif RANK[other] > RANK[room]:
                found.append(f"{where}: up, from rank {RANK[room]} to {RANK[other]}")
            elif other != room and RANK[other] == RANK[room] and not is_free(room, other):
                found.append(f"{where}: sideways, within rank {RANK[room]}")
        elif at_import and target.split(".")[0] not in LIGHT and not may_load(module, target.split(".")[0]):
            found.append(f"{where} when it is imported itself: move the import into the function that uses it")
    return found


def may_load(module: str, library: str) -> bool:
    return (room_of(module), library) in HEAVY_BY_RIGHT or COMPILED.get(module) == library


def is_free(room: str, other: str) -> bool:
    return RANK[room] in FREE_AMONG_THEMSELVES or (room, other) in SIDEWAYS


def room_of(module: str) -> str:
    """The file or folder directly below lossflow/: "lossflow.expansion.series" -> "expansion"."""
    return module.split(".")[1] if "." in module else "__init__"


def imports(module: str, source: str) -> Iterator[Import]:
    """All imports of a module, relative ones resolved; names taken from `lossflow` itself are led to their homes."""
    package = module.split(".") if source_is_package(module) else module.split(".")[:-1]

    def visit(node: ast.AST, at_import: bool, for_types: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, at_import, for_types)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                above = package[: len(package) - node.level + 1]
                origin = ".".join([*above, origin] if origin else above)
            for alias in node.names:
                yield Import(resolve(origin, alias.name), node.lineno, at_import, for_types)
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__"):
            name = node.args[0] if node.args else None
            constant = isinstance(name, ast.Constant) and isinstance(name.value, str)
            yield Import(name.value if constant else "?", node.lineno, at_import, for_types)  # type: ignore[union-attr]
        for field, child in children(node):
            inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and field == "body"
            typing_only = isinstance(node, ast.If) and field == "body" and names_type_checking(node.test)
            yield from visit(child, at_import and not inside and not typing_only, for_types or typing_only)

    yield from visit(ast.parse(source), True, False)


def resolve(origin: str, name: str) -> str:
    """`from origin import name` as a module: a submodule, the home of a public name, or the origin itself."""
    if origin != "lossflow":
        return origin
    if name in RANK:
        return f"lossflow.{name}"
    return HOMES.get(name, "lossflow.__init__" if name.startswith("__") else "lossflow")


def children(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield field, child


def called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def names_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def source_is_package(module: str) -> bool:
    return (SOURCE.parent / Path(*module.split(".")) / "__init__.py").exists()


def modules() -> dict[str, Path]:
    """Every module of the library, by its dotted name."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def test_every_module_has_a_rank() -> None:
    rooms = {room_of(module) for module in modules()}
    assert {"__init__", "problems", "diagrams", "expansion"} <= rooms, "the library was not found"
    assert rooms <= set(RANK), f"without a rank: {sorted(rooms - set(RANK))}"


@pytest.mark.parametrize("module", modules())
def test_imports_point_down(module: str) -> None:
    assert violations(module, modules()[module].read_text(encoding="utf-8")) == []


def test_the_public_face_is_its_table() -> None:
    """`lossflow/__init__.py` tells type checkers about the names of the public table, and about no others."""
    tree = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If) and names_type_checking(node.test)]
    told = {
        alias.asname or alias.name: statement.module
        for block in blocks
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert told == HOMES


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("lossflow.problems.cp", "from lossflow.expansion.series import expand", "up, from rank 1 to 2"),
        ("lossflow.expansion.series", "import lossflow.simulate.flow", "sideways, within rank 2"),
        ("lossflow.storage", "from lossflow import comparison", "sideways, within rank 3"),
        ("lossflow.laws.wishart", "import lossflow.diagrams.tensor", "sideways, within rank 1"),
        ("lossflow.diagrams.tensor", "from lossflow.problems import cp", "sideways, within rank 1"),
        ("lossflow.keys", "def f():\n    from lossflow.storage import save", "up, from rank 0 to 3"),
        ("lossflow.keys", "class A:\n    def f(self):\n        import lossflow.cli", "up, from rank 0 to 4"),
        ("lossflow.trajectory", "if TYPE_CHECKING:\n    from lossflow.problems.cp import C", "up, from rank 0 to 1"),
        ("lossflow.expansion.series", "from ..simulate import method", "sideways, within rank 2"),
        ("lossflow.expansion.series", "from .. import storage", "up, from rank 2 to 3"),
        ("lossflow.expansion", "from ..simulate.flow import step", "sideways, within rank 2"),
        ("lossflow.method", "from lossflow import compare", "up, from rank 0 to 3"),
        ("lossflow.comparison", "import lossflow as lf", "the public face leads everywhere"),
        ("lossflow.method", "import importlib\nimportlib.import_module('lossflow.cli')", "up, from rank 0 to 4"),
        ("lossflow.method", "def f(x): return import_module(x)", "whose name is computed"),
        ("lossflow.keys", "import lossflow.utils", "no such room"),
        ("lossflow.problems.cp", "import scipy.linalg", "move the import into the function"),
        ("lossflow.problems.cp", "try:\n    import jax\nexcept ImportError:\n    pass", "move the import"),
        ("lossflow.figures.matrix", "from matplotlib import pyplot", "move the import"),
        ("lossflow.plot", "import typer", "move the import"),
    ],
)
def test_the_checker_catches(module: str, source: str, complaint: str) -> None:
    found = violations(module, source)
    assert len(found) == 1
    assert complaint in found[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("lossflow.problems.cp", "from lossflow.diagrams.polynomial import diagram\nimport numpy as np, json"),
        ("lossflow.expansion.series", "from .pareto import front\nfrom ..laws import wishart"),
        (
            "lossflow.expansion.method",
            "def f():\n    import scipy.linalg\n    from lossflow.errors import InvalidInput",
        ),
        ("lossflow.method", "if TYPE_CHECKING:\n    import xarray\nfrom lossflow.trajectory import Trajectory"),
        ("lossflow.figures.matrix", "import lossflow as lf\nfrom lossflow.report import page"),
        ("lossflow.cli", "import typer"),
        ("lossflow.storage", "from lossflow import __version__"),
        ("lossflow.description", "import importlib\nimportlib.import_module(home)"),
    ],
)
def test_the_checker_lets_pass(module: str, source: str) -> None:
    assert violations(module, source) == []
