"""Files of results: netCDF-4 that any tool reads, with description, status and provenance inside, sealed against damage.

Inside a file: the times and observables of a trajectory as variables of the root; in the group "lossflow" the variable
"document", JSON in which everything has its type, and the other arrays to which it refers; every variable with a fletcher32
checksum. The seal (SHA-256) follows the HDF5 bytes, where HDF5 does not look.
"""

from __future__ import annotations

import io
import json
import math
import os
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lossflow.checkpoint import read, seal, unseal, write_atomically
from lossflow.description import Description, SizeMap, brief
from lossflow.errors import InvalidInput, LossflowError, StorageError, UnknownName
from lossflow.expansion.series import LossSeries
from lossflow.trajectory import EndState, FrozenMapping, Status, Trajectory

FORMAT = 1  # raised when an older lossflow could misread a file
GROUP = "lossflow"
DOCUMENT = "document"

Array = npt.NDArray[Any]

RECORDS: dict[str, type] = {cls.__name__: cls for cls in (Trajectory, EndState, LossSeries, Status)}
LARGEST_EXACT_INTEGER = 2**53  # JSON readers that use doubles misread integers beyond it


def save(x: Any, path: str | os.PathLike[str]) -> None:
    """Write x, so that `load(path)` gives back the same: a trajectory, end state, series, status or description.

    path: any file name; `~` is the home folder, missing folders are made, an existing file is replaced in one step.
    The file is netCDF-4: `xarray.open_dataset(path)` and `ncdump` show the times, the observables and who made them how.
    Types survive: details may hold None, booleans, numbers (nan and inf too), strings, bytes, tuples, mappings,
    descriptions and arrays of numbers, strings or dates. Raises `InvalidInput` naming the place of anything else, and
    `StorageError` when the file cannot be written; what was there before is then untouched.
    """
    if not isinstance(x, (*RECORDS.values(), Description)):
        kinds = ", ".join(RECORDS)
        raise InvalidInput(f"save takes a {kinds} or a description (a problem, a method), got a {type(x).__name__}")
    target = _path(path)
    writer = _Writer(x)
    document = {
        "format": FORMAT,
        "provenance": _provenance(),
        "content": writer.plain(x, type(x).__name__),
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    write_atomically(target, seal(_as_netcdf(writer.arrays, text, _labels(x, document["provenance"]))))


def load(path: str | os.PathLike[str]) -> Any:
    """What was saved at `path`, the very same: `load(path).identical(x)` for trajectories, `load(path) == x` otherwise.

    Raises `CorruptedFile` for a file that was damaged or not written by lossflow, `StorageError` when it cannot be read or
    comes from a newer lossflow, `UnknownName` for a description whose class has not been imported.
    """
    source = _path(path)
    content = unseal(read(source), source)
    try:
        arrays, document = _from_netcdf(content)
    except (OSError, KeyError, ValueError):
        raise StorageError(
            f"{source} was sealed by lossflow but holds no result; load what `lossflow.save` wrote, not files of the cache"
        ) from None
    writer = document["provenance"]["lossflow"]
    if document["format"] > FORMAT:
        raise StorageError(
            f"{source} was written by lossflow {writer} in format {document['format']}, this version reads up to format "
            f"{FORMAT}; update lossflow"
        )
    try:
        return _Reader(arrays).value(document["content"])
    except UnknownName as error:
        raise UnknownName(f"cannot load {source}: {error}") from None
    except LossflowError as error:
        raise StorageError(
            f"cannot load {source}, written by lossflow {writer}: {error}; use that version or save the result again"
        ) from None


class _Writer:
    """Turns values into plain data; arrays go into `arrays` under a name, to which the plain data refer."""

    def __init__(self, x: Any) -> None:
        self.arrays: dict[str, Array] = {}
        self._chosen = dict(_chosen_names(x)) if isinstance(x, Trajectory) else {}

    def plain(self, value: Any, where: str) -> Any:
        """Numbers, strings and None as JSON has them, anything else as {tag: content}; `where` is for messages."""
        if value is None or type(value) in (bool, str):
            return value
        if type(value) is int:
            return value if abs(value) < LARGEST_EXACT_INTEGER else {"int": hex(value)}
        if type(value) is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if type(value) is complex:
            return {"complex": [self.plain(value.real, where), self.plain(value.imag, where)]}
        if type(value) is Fraction:
            return {"fraction": [self.plain(value.numerator, where), self.plain(value.denominator, where)]}
        if type(value) is bytes:
            return {"bytes": value.hex()}
        if type(value) in (tuple, list):
            items = [self.plain(item, f"{where}[{k}]") for k, item in enumerate(value)]
            return {type(value).__name__: items}
        if isinstance(value, np.generic):
            return {"scalar": [_known(value.dtype, where).str, value.tobytes().hex()]}
        if isinstance(value, np.ndarray):
            return {"array": self._array(value, where)}
        if isinstance(value, SizeMap):
            return {"sizes": dict(value)}
        if isinstance(value, Mapping):
            return {"mapping": [self._item(key, value[key], where) for key in value]}
        if isinstance(value, Description):
            return {"description": _plain_description(value, where)}
        if type(value) in RECORDS.values():
            record = {f.name: self.plain(getattr(value, f.name), f"{where}.{f.name}") for f in fields(value)}
            return {type(value).__name__: record}
        raise InvalidInput(
            f"{where} is a {type(value).__name__}, for which files have no word; "
            "store numbers, strings, arrays, tuples, mappings or descriptions"
        )

    def _item(self, key: Any, value: Any, where: str) -> list[Any]:
        place = f"{where}[{key!r}]"
        return [self.plain(key, f"the key {place}"), self.plain(value, place)]

    def _array(self, array: Array, where: str) -> dict[str, Any]:
        kind = _known(array.dtype, where)
        name = self._chosen.get(id(array)) or self._free_name(where)
        if array.size:  # an empty array is its shape
            self.arrays[name] = array if _is_native(array) else np.frombuffer(array.tobytes(), np.uint8)
        return {"name": name, "dtype": kind.str, "shape": list(array.shape)}

    def _free_name(self, where: str) -> str:
        stem = re.sub(r"\W+", "_", where.partition(".")[2], flags=re.ASCII).strip("_") or "array"
        name, k = f"{GROUP}/{stem}", 1
        while name in self.arrays or name == f"{GROUP}/{DOCUMENT}":
            k += 1
            name = f"{GROUP}/{stem}_{k}"
        return name


class _Reader:
    """Turns the plain data of a `_Writer` back into values of the same types."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._arrays = arrays

    def value(self, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        ((tag, content),) = data.items()
        match tag:
            case "int":
                return int(content, 16)
            case "float":
                return float(content)
            case "complex":
                return complex(*map(self.value, content))
            case "fraction":
                return Fraction(*map(self.value, content))
            case "bytes":
                return bytes.fromhex(content)
            case "tuple":
                return tuple(map(self.value, content))
            case "list":
                return list(map(self.value, content))
            case "scalar":
                return np.frombuffer(bytes.fromhex(content[1]), np.dtype(content[0]))[0]
            case "array":
                return self._array(content)
            case "sizes":
                return SizeMap(content)
            case "mapping":
                return FrozenMapping({self.value(key): self.value(item) for key, item in content})
            case "description":
                return Description.from_plain(content)
        return RECORDS[tag](**{name: self.value(item) for name, item in content.items()})

    def _array(self, record: Mapping[str, Any]) -> Array:
        kind, shape = np.dtype(record["dtype"]), tuple(record["shape"])
        if math.prod(shape) == 0:
            return np.empty(shape, kind)
        stored = self._arrays[record["name"]]
        if (stored.dtype == np.uint8 and kind != np.uint8) or stored.shape != shape:
            return np.frombuffer(stored.tobytes(), kind).reshape(shape)
        return stored.astype(kind)


def _chosen_names(x: Trajectory) -> Iterator[tuple[int, str]]:
    """Variables of the root: the times and the observables whose names netCDF can bear and that do not clash."""
    yield id(x.times), "time"
    taken = {"time"}
    for name in x.values:
        names = {name, f"{name}_uncertainty"}
        if re.fullmatch(r"[A-Za-z]\w*", name, flags=re.ASCII) and name != GROUP and not names & taken:
            taken |= names
            yield id(x.values[name]), name
            yield id(x.uncertainty[name]), f"{name}_uncertainty"


def _is_native(array: Array) -> bool:
    """Whether netCDF knows the type and a checksum can be kept (scalars have none); other arrays are stored as bytes."""
    kind, width = array.dtype.kind, array.dtype.itemsize
    return array.ndim > 0 and (kind in "iu" or (kind == "f" and width in (4, 8)))


def _known(kind: np.dtype[Any], where: str) -> np.dtype[Any]:
    if kind.kind not in "biufcSUMm":
        raise InvalidInput(
            f"{where} is an array of {kind}, for which files have no word; store numbers, strings or dates"
        )
    return kind


def _plain_description(value: Description, where: str) -> Any:
    plain = value.to_plain()
    try:
        json.dumps(plain)
    except TypeError as error:
        raise InvalidInput(f"{where} = {value!r} has a field that files have no word for: {error}") from None
    return plain


def _as_netcdf(arrays: Mapping[str, Array], document: bytes, labels: Mapping[str, str]) -> bytes:
    import h5netcdf

    buffer = io.BytesIO()
    with h5netcdf.File(buffer, "w") as file:
        for name, text in labels.items():
            file.attrs[name] = text
        if "time" in arrays:
            file.dimensions["time"] = arrays["time"].size
        group = file.create_group(GROUP)
        for name, array in {**arrays, f"{GROUP}/{DOCUMENT}": np.frombuffer(document, np.uint8)}.items():
            place, _, own = name.rpartition("/")
            if place:
                axes = tuple(f"length_{length}" for length in array.shape)
                for axis, length in zip(axes, array.shape, strict=True):
                    if axis not in group.dimensions:
                        group.dimensions[axis] = length
                group.create_variable(own, axes, data=array, fletcher32=True)
            else:
                axes = tuple(f"{own.removesuffix('_uncertainty')}_{k}" for k in range(array.ndim - 1))
                for axis, length in zip(axes, array.shape[1:], strict=True):
                    if axis not in file.dimensions:
                        file.dimensions[axis] = length
                file.create_variable(own, ("time", *axes), data=array, fletcher32=True)
    return buffer.getvalue()


def _from_netcdf(content: bytes) -> tuple[dict[str, Array], dict[str, Any]]:
    import h5py

    arrays: dict[str, Array] = {}

    def keep(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.dtype.kind in "iuf":
            arrays[name] = node[()]

    with h5py.File(io.BytesIO(content), "r") as file:
        file.visititems(keep)
    return arrays, json.loads(arrays.pop(f"{GROUP}/{DOCUMENT}").tobytes())


def _labels(x: Any, provenance: Mapping[str, str]) -> dict[str, str]:
    """Global attributes for the human reader; `load` does not need them."""
    labels = {"title": f"lossflow {type(x).__name__}", "source": json.dumps(provenance)}
    if isinstance(x, (Trajectory, EndState)):
        labels |= {"problem": repr(x.problem), "status": f"{x.status.kind}: {x.status.reason}"}
    if isinstance(x, Trajectory):
        labels |= {"method": repr(x.method), "dynamics": repr(x.dynamics), "references": ", ".join(x.references)}
    else:
        labels["content"] = repr(x)
    # HDF5 keeps an attribute below 64 KiB, and has no empty strings or null characters
    return {
        name: text[:10_000].replace("\0", " ").encode("utf-8", "replace").decode() or " "
        for name, text in labels.items()
    }


def _provenance() -> dict[str, str]:
    from lossflow import __version__

    return {
        "lossflow": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _path(path: str | os.PathLike[str]) -> Path:
    try:
        if "\0" not in os.fspath(path):
            return Path(path).expanduser()
    except (TypeError, RuntimeError):  # neither string nor path; no such user after "~"
        pass
    raise InvalidInput(f"a path must be a string or a Path, such as 'run.nc', got {brief(path)}")


__all__ = ["load", "save"]
