"""Every public name that exists is spelled as promised in api/lossflow.pyi: fields, signatures, defaults, bases.

A field or parameter whose annotation or default needs a public name that does not exist yet (such as the resummation
`BorelPade()`) may be missing until that name is there.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest

import lossflow
from lossflow.description import Description
from lossflow.public import HOMES

STUB = ast.parse((Path(__file__).parent / "api" / "lossflow.pyi").read_text(encoding="utf-8"))
BEYOND_THE_STUB = (
    "LossflowError",
    "InvalidInput",
    "UnknownField",
    "UnknownName",
    "NotSpoken",
    "StorageError",
    "CorruptedFile",
    "GeneralInit",
    "GaussianPrior",
    "PositiveSparse",
    "AtomicPrior",
    "CubicNoiseLabels",
    "Recurrence",
)
OPERATORS = {
    "__add__",
    "__sub__",
    "__mul__",
    "__rmul__",
}  # called by position, so the names of their arguments are free
MISSING = object()


@dataclass(frozen=True)
class Slot:
    """A field of a dataclass or a parameter of a function."""

    name: str
    kind: str  # "positional", "*", "keyword" or "**"
    annotation: str
    default: Any = MISSING

    def __str__(self) -> str:
        return f"{self.name}: {self.annotation}" + ("" if self.default is MISSING else f" = {self.default!r}")


@dataclass(frozen=True)
class Contract:
    """A stub, with the meaning of the names its defaults are made of and the public names that exist so far."""

    stub: ast.Module
    meaning: Callable[[str], Any]
    exists: Callable[[str], bool]

    def named(self) -> dict[str, ast.ClassDef | ast.FunctionDef]:
        """The promised names; of an overloaded function the last definition, which is the implementation's."""
        return {node.name: node for node in self.stub.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}

    def aliases(self) -> dict[str, ast.expr]:
        """Names that only abbreviate a type, such as Sizes = Mapping[str, float]."""
        return module_aliases(self.stub)

    def owed(self, *nodes: ast.expr | None) -> bool:
        """Whether all promised names in these expressions exist, so that what they spell can be asked for."""
        used = {n.id for node in nodes if node for n in ast.walk(node) if isinstance(n, ast.Name)}
        return all(self.exists(name) for name in used & set(self.named()))

    def disagreements(self, name: str, value: Any) -> list[str]:
        """How `value` differs from what the stub promises under `name`, one line each."""
        node = self.named()[name]
        aliases = {**aliases_around(value), **self.aliases()}
        if isinstance(node, ast.FunctionDef):
            if not inspect.isfunction(value):
                return [f"{name} must be a function"]
            return [f"{name}{line}" for line in self._function(node, value, aliases, method=False)]
        if not inspect.isclass(value):
            return [f"{name} must be a class"]
        return [f"{name}{line}" for line in self._class(node, value, aliases)]

    def _class(self, node: ast.ClassDef, cls: type, aliases: Mapping[str, ast.expr]) -> list[str]:
        found = []
        for base in node.bases:
            promised = ast.unparse(base).split("[")[0]
            if promised not in [b.__name__ for b in cls.__bases__]:
                found.append(f" must derive from {promised}")
        annotated = [b for b in node.body if isinstance(b, ast.AnnAssign) and not is_class_variable(b)]
        if is_dataclass(node):
            if not dataclasses.is_dataclass(cls) or not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
                found.append(" must be a frozen dataclass")
            else:
                found += self._fields(annotated, cls, aliases)
        else:
            own = vars(cls).get("__annotations__", {})
            found += [f".{b.target.id} is missing" for b in annotated if b.target.id not in own]  # type: ignore[union-attr]
        for method in node.body:
            if isinstance(method, ast.FunctionDef):
                attribute = inspect.getattr_static(cls, method.name, None)
                label = f".{method.name}"
                if attribute is None or (method.name == "__call__" and not callable(attribute)):
                    found.append(f"{label} is missing")
                elif kind_of(attribute) != stub_kind(method):
                    found.append(f"{label} must be a {stub_kind(method)}, is a {kind_of(attribute)}")
                elif stub_kind(method) != "property":
                    actual = attribute.__func__ if isinstance(attribute, classmethod) else attribute
                    found += [label + line for line in self._function(method, actual, aliases, method=True)]
        return found

    def _fields(self, annotated: list[ast.AnnAssign], cls: type, aliases: Mapping[str, ast.expr]) -> list[str]:
        promised = [
            (Slot(b.target.id, "positional", spell(b.annotation, aliases), self._value(b.value)), b)  # type: ignore[union-attr]
            for b in annotated
        ]
        actual = [
            Slot(f.name, "positional", spell(f.type, aliases), field_default(f))
            for f in dataclasses.fields(cls)
            if f.init
        ]
        names = [slot.name for slot in actual]
        owed = [slot for slot, b in promised if slot.name in names or self.owed(b.annotation, b.value)]
        extra = actual[len(owed) :]
        found = compare_slots(owed, actual[: len(owed)])
        # behind what is promised there may be more, if no one who keeps to the promise has to know
        found += [f".{slot.name} is not promised, so it needs a default" for slot in extra if slot.default is MISSING]
        return found

    def _function(
        self, node: ast.FunctionDef, function: Any, aliases: Mapping[str, ast.expr], *, method: bool
    ) -> list[str]:
        promised = self._parameters(node, aliases)[method:]
        signature = inspect.signature(function)
        kinds = {
            inspect.Parameter.VAR_POSITIONAL: "*",
            inspect.Parameter.KEYWORD_ONLY: "keyword",
            inspect.Parameter.VAR_KEYWORD: "**",
        }
        actual = [
            Slot(
                p.name,
                kinds.get(p.kind, "positional"),
                spell(p.annotation, aliases),
                MISSING if p.default is inspect.Parameter.empty else p.default,
            )
            for p in signature.parameters.values()
        ][method:]
        if node.name in OPERATORS:
            return [] if len(promised) == len(actual) else [f" takes {len(actual)} arguments, not {len(promised)}"]
        more = [slot for slot in actual[len(promised) :] if slot.kind == "keyword" and slot.default is not MISSING]
        found = compare_slots(promised, actual[: len(actual) - len(more)])
        returned = spell(node.returns, aliases)
        if not method and returned not in ("Any", spell(signature.return_annotation, aliases)):
            found.append(f" returns {signature.return_annotation}, promised is {returned}")
        return found

    def _parameters(self, node: ast.FunctionDef, aliases: Mapping[str, ast.expr]) -> list[Slot]:
        a = node.args
        defaults = [None] * (len(a.posonlyargs + a.args) - len(a.defaults)) + a.defaults
        listed = [(arg, "positional", d) for arg, d in zip(a.posonlyargs + a.args, defaults, strict=True)]
        listed += [(a.vararg, "*", None)] if a.vararg else []
        listed += [(arg, "keyword", d) for arg, d in zip(a.kwonlyargs, a.kw_defaults, strict=True)]
        listed += [(a.kwarg, "**", None)] if a.kwarg else []
        return [Slot(arg.arg, kind, spell(arg.annotation, aliases), self._value(d)) for arg, kind, d in listed]

    def _value(self, node: ast.expr | None) -> Any:
        """The default that an expression of the stub stands for."""
        if node is None or not self.owed(node):
            return MISSING
        names = {n.id: self.meaning(n.id) for n in ast.walk(node) if isinstance(n, ast.Name)}
        return eval(compile(ast.Expression(node), "<stub>", "eval"), names)


def compare_slots(promised: list[Slot], actual: list[Slot]) -> list[str]:
    if [slot.name for slot in promised] != [slot.name for slot in actual]:
        return [f" has ({', '.join(s.name for s in actual)}), promised is ({', '.join(s.name for s in promised)})"]
    found = []
    for want, have in zip(promised, actual, strict=True):
        same = want.default is have.default or (
            type(want.default) is type(have.default) and want.default == have.default
        )
        if want.kind != have.kind or want.annotation != have.annotation or not same:
            found.append(f".{have} ({have.kind}), promised is {want} ({want.kind})")
    return found


def spell(annotation: Any, aliases: Mapping[str, ast.expr]) -> str:
    """An annotation in one spelling: no quotes, no modules, abbreviations written out, members of unions in order."""
    if annotation is None or annotation is inspect.Parameter.empty:
        return ""
    if isinstance(annotation, type):
        annotation = annotation.__name__
    node = ast.parse(annotation, mode="eval").body if isinstance(annotation, str) else annotation
    if isinstance(node, ast.Name) and node.id in aliases:
        return spell(aliases[node.id], {name: value for name, value in aliases.items() if name != node.id})
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return spell(node.value, aliases)
    if isinstance(node, ast.Attribute):
        return node.attr  # os.PathLike and PathLike are one type
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        members = {*spell(node.left, aliases).split(" | "), *spell(node.right, aliases).split(" | ")}
        return " | ".join(sorted(members))
    if isinstance(node, ast.Subscript) and ast.unparse(node.value).split(".")[-1] != "Literal":
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return f"{spell(node.value, aliases)}[{', '.join(spell(item, aliases) for item in items)}]"
    return ast.unparse(node)


def module_aliases(module: ast.Module) -> dict[str, ast.expr]:
    """The types that a module abbreviates at its top or under TYPE_CHECKING: X = Mapping[...], X = A | B."""
    found = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            is_type = isinstance(node.value, ast.Subscript) or (
                isinstance(node.value, ast.BinOp) and isinstance(node.value.op, ast.BitOr)
            )
            if is_type and node.col_offset <= 4:
                found[node.targets[0].id] = node.value
    return found


def aliases_around(value: Any) -> dict[str, ast.expr]:
    """The abbreviations of the module in which `value` is defined."""
    source = inspect.getsourcefile(value)
    return module_aliases(ast.parse(Path(source).read_text(encoding="utf-8"))) if source else {}


def field_default(f: dataclasses.Field[Any]) -> Any:
    if f.default_factory is not dataclasses.MISSING:
        return f.default_factory()
    return MISSING if f.default is dataclasses.MISSING else f.default


def is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def is_class_variable(node: ast.AnnAssign) -> bool:
    return ast.unparse(node.annotation).startswith("ClassVar")


def stub_kind(node: ast.FunctionDef) -> str:
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    return next((kind for kind in ("property", "classmethod") if kind in decorators), "method")


def kind_of(attribute: Any) -> str:
    if isinstance(attribute, classmethod):
        return "classmethod"
    return "method" if inspect.isfunction(attribute) else "property"


LOSSFLOW = Contract(
    STUB,
    meaning=lambda name: Fraction if name == "Fraction" else getattr(lossflow, name),
    exists=lambda name: name in HOMES,
)


@pytest.mark.parametrize("name", sorted(set(HOMES) & set(LOSSFLOW.named())))
def test_a_public_name_is_as_promised(name: str) -> None:
    assert LOSSFLOW.disagreements(name, getattr(lossflow, name)) == []


def test_what_is_public_is_promised() -> None:
    assert set(HOMES) - set(LOSSFLOW.named()) == set(BEYOND_THE_STUB)
    assert set(lossflow.__all__) == {*HOMES, "__version__"}
    assert set(HOMES) <= set(dir(lossflow))


# --- the comparison itself is held to account on a small contract

SMALL = """
Sizes = Mapping[str, float]
class Base(Description): ...
class Later: ...
@dataclass(frozen=True)
class Method(Base):
    sizes: Sizes
    order: int = 2
    later: Later = Later()
    def times(self, steps: int, every: int = 1) -> Array: ...
    @property
    def languages(self) -> tuple[str, ...]: ...
@dataclass(frozen=True, eq=False)
class Result:
    values: Mapping[str, Array]
def solve(problem: Base, times: npt.ArrayLike, *others: Base, route: Literal["a", "b"] = "a") -> Result: ...
"""
CONTRACT = Contract(ast.parse(SMALL), globals().__getitem__, exists=lambda name: name != "Later")
Array = npt.NDArray[np.float64]


class Base(Description):
    """The base of the good and the bad examples."""


@dataclass(frozen=True, repr=False)
class Method(Base):
    """As promised, with the abbreviation written out and without the field that has to wait."""

    sizes: Mapping[str, float]
    order: int = 2

    def times(self, steps: int, every: int = 1) -> Array:
        return np.arange(0.0, steps, every)

    @property
    def languages(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True)
class Result:
    """As promised, with a field more that has a default."""

    values: Mapping[str, npt.NDArray[np.float64]]
    details: tuple[str, ...] = field(default=())


def solve(problem: Base, times: npt.ArrayLike, *others: Base, route: Literal["a", "b"] = "a") -> Result:
    return Result({})


@pytest.mark.parametrize(("name", "value"), [("Method", Method), ("Result", Result), ("solve", solve), ("Base", Base)])
def test_agreement_is_recognized(name: str, value: Any) -> None:
    assert CONTRACT.disagreements(name, value) == []


def made(name: str, fields: list[Any], methods: Mapping[str, Any], base: type = Base) -> type:
    """A dataclass like `Method` or `Result`, with other fields or methods."""
    members = {"__annotations__": {f[0]: f[1] for f in fields}, **{f[0]: f[2] for f in fields if len(f) > 2}, **methods}
    members["__module__"] = __name__
    return dataclass(frozen=True, repr=False, eq=False)(type(base)(name, (base,), members))


SIZES, ORDER = ("sizes", "Mapping[str, float]"), ("order", "int", 2)
GOOD = {"times": Method.times, "languages": Method.languages}


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("Method", made("Method", [SIZES, ("order", "int", 3)], GOOD), "promised is order: int = 2"),
        ("Method", made("Method", [SIZES, ("order", "int", 2.0)], GOOD), "promised is order: int = 2"),
        ("Method", made("Method", [SIZES, ("order", "float", 2)], GOOD), "promised is order: int = 2"),
        (
            "Method",
            made("Method", [SIZES, ("degree", "int", 2)], GOOD),
            "has (sizes, degree), promised is (sizes, order)",
        ),
        ("Method", made("Method", [SIZES], GOOD), "has (sizes), promised is (sizes, order)"),
        ("Method", made("Method", [("x", "int"), SIZES, ORDER], GOOD), "promised is (sizes, order)"),
        ("Method", made("Method", [SIZES, ORDER], GOOD, Description), "must derive from Base"),
        ("Method", made("Method", [SIZES, ORDER], {"times": Method.times}), "languages is missing"),
        ("Method", made("Method", [SIZES, ORDER], GOOD | {"languages": solve}), "must be a property, is a method"),
        ("Method", made("Method", [SIZES, ORDER], GOOD | {"times": lambda self, n: n}), "promised is (steps, every)"),
        ("Method", Base, "must be a frozen dataclass"),
        ("Method", solve, "must be a class"),
        ("Result", made("Result", [("values", "Mapping[str, Array]"), ("x", "int")], {}, object), "needs a default"),
        ("solve", lambda problem, times: None, "promised is (problem, times, others, route)"),
        ("solve", Result, "must be a function"),
    ],
)
def test_a_disagreement_is_caught(name: str, value: Any, complaint: str) -> None:
    assert complaint in " ".join(CONTRACT.disagreements(name, value))


def test_a_parameter_of_another_kind_or_type_is_caught() -> None:
    def positional(problem: Base, times: npt.ArrayLike, *others: Base, **route: Literal["a", "b"]) -> Result:
        return Result({})

    def elsewhere(problem: Base, times: Array, *others: Base, route: Literal["a", "b"] = "a") -> Result:
        return Result({})

    def wrong_way(problem: Base, times: npt.ArrayLike, *others: Base, route: Literal["a", "b"] = "a") -> Method:
        return Method({})

    assert "returns Method, promised is Result" in CONTRACT.disagreements("solve", wrong_way)[0]
    assert "(**)" in CONTRACT.disagreements("solve", positional)[0]
    assert "promised is times: ArrayLike" in CONTRACT.disagreements("solve", elsewhere)[0]


def test_a_field_that_had_to_wait_is_owed_once_its_names_exist() -> None:
    @dataclass(frozen=True)
    class Later:
        pass

    grown = Contract(CONTRACT.stub, {"Later": Later}.__getitem__, exists=lambda name: True)
    assert "promised is (sizes, order, later)" in grown.disagreements("Method", Method)[0]
