"""Descriptions: frozen dataclasses that are keys, print as the call that makes them, and survive TOML.

A description says *what* is to be computed and computes nothing. Its fields are coerced when it is made (`1`, `1.0` and
`np.float64(1)` give one key), so equality, hash and content key mean the same thing everywhere.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import numbers
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import MISSING, Field, dataclass, fields
from fractions import Fraction
from functools import cache
from typing import Any, Literal, Self, Union, get_args, get_origin

import numpy as np

from lossflow.errors import InvalidInput, UnknownField, UnknownName, nearest
from lossflow.public import HOMES

Vanishing = Literal["0+"]
Number = int | Fraction
POWERS = 4300  # of ten in a rational number that is written as a string: what Python itself prints

_classes: dict[str, dict[str, type[Description]]] = {}  # name -> module -> class


class SizeMap(Mapping[str, float]):
    """Named sizes and variances, `{"p": 512, "sigma2": 0.0025}`: immutable, hashable, in alphabetical order.

    Every value is a finite number >= 0; whether a name needs a whole number is for the problem to say.
    """

    __slots__ = ("_items",)

    def __init__(self, sizes: Mapping[str, Any]) -> None:
        if not isinstance(sizes, Mapping):
            raise InvalidInput(f'sizes must be a mapping such as {{"p": 64, "H": 32}}, got {brief(sizes)}')
        items: dict[str, float] = {}
        for name in sorted(sizes, key=str):
            if not isinstance(name, str):
                raise InvalidInput(f"a size has a name, such as 'p'; got {name!r}")
            value = coerce(sizes[name], float, f"size {name!r}")
            if not 0 <= value < math.inf:
                raise InvalidInput(f"size {name!r} must be a finite number >= 0, got {sizes[name]!r}")
            items[name] = value
        self._items = items

    def __getitem__(self, name: str) -> float:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(tuple(self._items.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self._items == dict(other)

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name!r}: {_shortest(value)}" for name, value in self._items.items()) + "}"

    def __reduce__(self) -> tuple[type, tuple[dict[str, float]]]:
        return (SizeMap, (dict(self._items),))


class _Construction(type):
    """Answers a wrong or missing field before the dataclass does, with the nearest right name."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if "__dataclass_fields__" in cls.__dict__:
            known = [f for f in fields(cls) if f.init]  # type: ignore[arg-type]
            names = [f.name for f in known]
            for name in kwargs:
                if name not in names:
                    raise UnknownField(f"{cls.__name__} has no field {name!r}; {nearest(name, names)}")
            if len(args) > len(known):
                raise UnknownField(
                    f"{cls.__name__} takes at most {len(known)} values ({', '.join(names)}), got {len(args)}"
                )
            missing = [f.name for f in known[len(args) :] if f.name not in kwargs and _is_required(f)]
            if missing:
                raise UnknownField(
                    f"{cls.__name__} needs {', '.join(map(repr, missing))}; its fields: {', '.join(names)}"
                )
        elif cls.__name__.startswith("Abstract") or cls.__name__ == "Description":
            raise InvalidInput(f"{cls.__name__} is abstract{_examples(cls)}")
        return super().__call__(*args, **kwargs)


class Description(metaclass=_Construction):
    """A frozen dataclass of coerced fields: equality, hash, pickle, printing, TOML and a content key.

    Subclasses are decorated with `@dataclass(frozen=True, repr=False)` and may override `check` to refuse values that
    the types of the fields cannot exclude. Raises `InvalidInput` or `UnknownField`, with the place in the message.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if HOMES.get(cls.__name__, cls.__module__) != cls.__module__:
            raise InvalidInput(
                f"{cls.__name__!r} is a name of lossflow, which files would confuse with yours; choose another"
            )
        _classes.setdefault(cls.__name__, {})[cls.__module__] = cls

    def __post_init__(self) -> None:
        hints = _hints(type(self))
        for f in _fields(self):
            value = coerce(getattr(self, f.name), hints[f.name], f"{type(self).__name__}.{f.name}")
            object.__setattr__(self, f.name, value)
        self.check()

    def check(self) -> None:
        """Refuse combinations of values that make no sense; the default accepts all."""

    def __repr__(self) -> str:
        shown = [f for f in _fields(self) if not _is_default(f, getattr(self, f.name))]
        return f"{type(self).__name__}({', '.join(f'{f.name}={_shortest(getattr(self, f.name))}' for f in shown)})"

    @property
    def content_key(self) -> str:
        """SHA-256 of all fields, defaults included, in hexadecimal: the same on every machine and in every process."""
        text = json.dumps(_plain(self, everything=True), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_plain(self) -> dict[str, Any]:
        """Plain data (dict, list, str, int, float, bool) with the class name under "type"; fields at their default left out."""
        return _plain(self, everything=False)

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Self:
        """The description that `to_plain` came from. Raises `UnknownName` for an unknown type."""
        found = _from_plain(data)
        if not isinstance(found, cls):
            raise InvalidInput(f"expected {_spell(cls)}, the data describe {brief(found)}")
        return found

    def to_toml(self) -> str:
        """The description as a TOML document, readable and editable."""
        return "\n".join(_toml_lines(self.to_plain(), ())) + "\n"

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """The description written in a TOML document. Raises `InvalidInput` with the place of a mistake."""
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InvalidInput(f"not a TOML document: {error}") from None
        return cls.from_plain(data)


def coerce(value: Any, hint: Any, where: str) -> Any:
    """`value` as the type `hint` says, or `InvalidInput` naming the place, what came and what was expected."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is Literal:
        for argument in arguments:  # not `value` itself: a numpy string is another pickle
            if isinstance(value, type(argument)) and value == argument:
                return argument
        raise InvalidInput(
            f"{where} must be one of {', '.join(map(repr, arguments))}, got {brief(value)}; {nearest(value, map(str, arguments))}"
        )
    if origin in (Union, types.UnionType):
        return _coerce_union(value, arguments, where)
    if origin is tuple:
        return _coerce_tuple(value, arguments, where)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return value if isinstance(value, SizeMap) else SizeMap(value)
    if hint is type(None):
        if value is None:
            return None
    elif hint in _SCALARS:
        return _SCALARS[hint](value, where)
    elif isinstance(hint, type) and isinstance(value, hint):
        return value
    elif isinstance(hint, type) and issubclass(hint, Description):
        if isinstance(value, type) and issubclass(value, hint):
            raise InvalidInput(f"{where} must be an instance: write {value.__name__}(...), with parentheses")
        raise InvalidInput(f"{where} must be {_spell(hint)}, got {brief(value)}{_examples(hint)}")
    raise InvalidInput(f"{where} must be {_spell(hint)}, got {brief(value)}")


def _coerce_union(value: Any, members: tuple[Any, ...], where: str) -> Any:
    for member in members:
        try:
            return coerce(value, member, where)
        except InvalidInput:
            continue
    raise InvalidInput(f"{where} must be {' or '.join(map(_spell, members))}, got {brief(value)}")


def _coerce_tuple(value: Any, members: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if isinstance(value, np.ndarray):
        value = list(value) if value.ndim else value[()]
    if isinstance(value, (str, bytes, Mapping, Set)) or not isinstance(value, Iterable):
        raise InvalidInput(f"{where} must be a sequence, got {brief(value)}")
    items = tuple(value)
    if len(members) == 2 and members[1] is Ellipsis:
        members = (members[0],) * len(items)
    elif len(items) != len(members):
        raise InvalidInput(f"{where} must have {len(members)} entries, got {len(items)}")
    return tuple(
        coerce(item, member, f"{where}[{k}]") for k, (item, member) in enumerate(zip(items, members, strict=True))
    )


def _as_bool(value: Any, where: str) -> bool:
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise InvalidInput(f"{where} must be True or False, got {brief(value)}")


def _as_str(value: Any, where: str) -> str:
    if isinstance(value, str):
        return str(value)
    raise InvalidInput(f"{where} must be a string, got {brief(value)}")


def _as_int(value: Any, where: str) -> int:
    if isinstance(value, numbers.Rational) and not isinstance(value, bool) and value.denominator == 1:
        return int(value.numerator)
    if (
        isinstance(value, numbers.Real)
        and not isinstance(value, (bool, numbers.Rational))
        and float(value).is_integer()
    ):
        return int(float(value))
    raise InvalidInput(f"{where} must be a whole number, got {brief(value)}")


def _as_float(value: Any, where: str) -> float:
    try:
        if isinstance(value, numbers.Real) and not isinstance(value, bool) and not math.isnan(value):
            return float(value) + 0.0  # -0.0 becomes 0.0: one number, one key
    except OverflowError:
        raise InvalidInput(f"{where} must be a number below 1.8e308, got {brief(value)}") from None
    raise InvalidInput(f"{where} must be a number, got {brief(value)}")


def _as_fraction(value: Any, where: str) -> Fraction:
    """Floats are read as the decimal that prints them, since 0.1 means 1/10 to whoever wrote it."""
    try:
        if isinstance(value, bool):
            raise ValueError
        if isinstance(value, numbers.Rational):
            return Fraction(int(value.numerator), int(value.denominator))
        if isinstance(value, str):
            power = re.search(r"[eE]([-+]?[\d_]+)\s*$", value)
            if power and abs(int(power[1])) > POWERS:
                raise ValueError
            return Fraction(value)
        if isinstance(value, numbers.Real):
            return Fraction(repr(float(value)))
    except (ValueError, ZeroDivisionError):
        pass
    raise InvalidInput(f"{where} must be a rational number such as 3, Fraction(1, 2) or '1/2', got {brief(value)}")


_SCALARS: dict[Any, Any] = {bool: _as_bool, str: _as_str, int: _as_int, float: _as_float, Fraction: _as_fraction}
_SPELLED: dict[Any, str] = {
    bool: "True or False",
    str: "a string",
    int: "a whole number",
    float: "a number",
    Fraction: "a rational number",
    type(None): "None",
}


def _spell(hint: Any) -> str:
    if hint in _SPELLED:
        return _SPELLED[hint]
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if not isinstance(hint, type) or get_origin(hint) is not None:
        return "a sequence"
    return f"{'an' if hint.__name__[0] in 'AEIO' else 'a'} {hint.__name__}"


def _examples(cls: type) -> str:
    """The tail of a message that asks for a `cls`: the final classes below it, as far as they are imported."""
    found = sorted(
        name
        for name, found in _classes.items()
        if not name.startswith("Abstract") and any(issubclass(c, cls) and c is not cls for c in found.values())
    )
    return f"; there is: {', '.join(f'{name}(...)' for name in found)}" if found else ""


def brief(value: Any) -> str:
    """`value` on one short line, for messages."""
    try:
        text = " ".join(_shortest(value).split())
    except ValueError:  # whole numbers of more than 4300 digits
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:97]}..."


def _shortest(value: Any) -> str:
    """Printing that can be read back: whole floats without a point, tuples and descriptions recursively."""
    if isinstance(value, float) and math.isinf(value):
        return f"float('{value}')"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, Fraction):
        return str(value.numerator) if value.denominator == 1 else repr(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(_shortest, value))}{',' if len(value) == 1 else ''})"
    return repr(value)


@cache
def _hints(cls: type) -> dict[str, Any]:
    if any(f.name == "type" for f in fields(cls)):
        raise InvalidInput(f"{cls.__name__}.type: in files, 'type' is the name of the class; call the field otherwise")
    return typing.get_type_hints(cls)


def _fields(x: Any) -> tuple[Field[Any], ...]:
    return fields(x)


def _is_required(f: Field[Any]) -> bool:
    return f.default is MISSING and f.default_factory is MISSING


def _is_default(f: Field[Any], value: Any) -> bool:
    default = f.default if f.default_factory is MISSING else f.default_factory()
    return default is not MISSING and type(default) is type(value) and default == value


def _plain(value: Any, everything: bool) -> Any:
    if isinstance(value, Description):
        data: dict[str, Any] = {"type": type(value).__name__}
        for f in _fields(value):
            item = getattr(value, f.name)
            if everything or not _is_default(f, item):
                data[f.name] = _plain(item, everything)
        return data
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else {"type": "Fraction", "value": str(value)}
    if isinstance(value, SizeMap):
        return {
            name: int(number) if number.is_integer() and number < 2**53 else number for name, number in value.items()
        }
    if isinstance(value, tuple):
        return [_plain(item, everything) for item in value]
    return value


def _from_plain(data: Any) -> Any:
    if isinstance(data, Mapping) and isinstance(data.get("type"), str):  # a size called "type" has a number
        if data["type"] == "Fraction":
            if set(data) != {"type", "value"}:
                raise UnknownField(
                    f"a Fraction in plain data has the fields 'type' and 'value', got {', '.join(map(repr, data))}"
                )
            return _as_fraction(data["value"], "the value of a Fraction")
        cls = _class_named(data["type"])
        return cls(**{name: _from_plain(item) for name, item in data.items() if name != "type"})
    if isinstance(data, Mapping):
        return {name: _from_plain(item) for name, item in data.items()}
    if isinstance(data, (list, tuple)):
        return tuple(_from_plain(item) for item in data)
    return data


def _class_named(name: str) -> type[Description]:
    if name in HOMES:
        importlib.import_module(HOMES[name])
    found = _classes.get(name, {})
    if len(found) > 1:
        raise UnknownName(f"{name!r} is the name of descriptions in {' and in '.join(sorted(found))}; rename one")
    for cls in found.values():
        return cls
    known = [*_classes, *(public for public in HOMES if public[0].isupper())]  # functions describe nothing
    raise UnknownName(
        f"no description is called {name!r}; {nearest(name, known)} "
        "A class of your own must be imported before its descriptions are read."
    )


def _toml_lines(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    if path:
        yield f"\n[{'.'.join(map(_toml_key, path))}]"
    for name, value in table.items():
        if not isinstance(value, Mapping):
            yield f"{_toml_key(name)} = {_toml_value(value)}"
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _toml_lines(value, (*path, name))


def _toml_key(name: str) -> str:
    return name if name.replace("_", "a").replace("-", "a").isalnum() and name.isascii() else _toml_string(name)


def _toml_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_toml_key(name)} = {_toml_value(item)}" for name, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _toml_string(value)
    if isinstance(value, (int, float)):
        return repr(value)
    raise InvalidInput(f"TOML has no word for {brief(value)}")


def _toml_string(text: str) -> str:
    """JSON's string, but for surrogate pairs, which TOML forbids, and the delete character, which it wants escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


__all__ = ["Description", "Number", "SizeMap", "Vanishing", "brief", "coerce", "dataclass"]
