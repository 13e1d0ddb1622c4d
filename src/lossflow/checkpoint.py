"""Files that are whole or not there: atomic writes, sealed contents, and the checkpoints of long computations.

A seal is the SHA-256 of everything before it, at the end of the file: a flipped bit or a cut anywhere is noticed.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import secrets
import stat
import sys
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from lossflow.errors import CorruptedFile, StorageError

MAGIC = b"\nlossflow sha256 "
SEAL_LENGTH = len(MAGIC) + 64


def cache_folder() -> Path:
    """`$LOSSFLOW_CACHE`, else the user's cache folder of the platform with `lossflow` in it."""
    chosen = os.environ.get("LOSSFLOW_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "lossflow"


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` so that `path` holds either all of it or what it held before; a link stays, and so do permissions.

    Raises `StorageError` with the reason (no space, no permission, no such folder).
    """
    target = Path(os.path.realpath(path))
    temporary = target.parent / f".lossflow-{secrets.token_hex(8)}.part"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            if not os.access(target, os.W_OK):
                raise PermissionError(errno.EACCES, "the file is protected against writing")
            os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
        os.replace(temporary, target)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {_why(error)}; nothing was changed") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def read(path: str | os.PathLike[str]) -> bytes:
    """All bytes of a file, or `StorageError` with the reason."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {_why(error)}") from error


def seal(data: bytes) -> bytes:
    """`data` followed by its seal."""
    return data + MAGIC + hashlib.sha256(data).hexdigest().encode()


def unseal(data: bytes, path: str | os.PathLike[str]) -> bytes:
    """What was sealed, or `CorruptedFile` naming `path`."""
    content, tail = data[:-SEAL_LENGTH], data[-SEAL_LENGTH:]
    if len(data) < SEAL_LENGTH or tail != MAGIC + hashlib.sha256(content).hexdigest().encode():
        raise CorruptedFile(
            f"{path} is damaged or was not written by lossflow: its seal does not match; delete it or restore a copy"
        )
    return content


class Checkpoint:
    """The saved state of one long computation, `<cache>/<kind>/<key>.npz`, sealed and written atomically.

    kind: which engine; key: the content key of everything that determines the result. Saving is best effort: without space
    the computation goes on, with a warning.
    """

    interval: ClassVar[float] = 5.0  # seconds between saves, at least
    share: ClassVar[float] = 0.02  # of the time, at most, is spent saving

    def __init__(self, kind: str, key: str) -> None:
        self.path = cache_folder() / kind / f"{key}.npz"
        self._last = time.monotonic()
        self._cost = 0.0

    def load(self) -> dict[str, npt.NDArray[np.generic]] | None:
        """The arrays saved last, or None. Raises `CorruptedFile` rather than believe a damaged file."""
        if not self.path.exists():
            return None
        data = unseal(read(self.path), self.path)
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}

    def due(self) -> bool:
        """Whether enough time has passed since the last save for the next one to cost no more than its share."""
        return time.monotonic() - self._last >= max(self.interval, self._cost / self.share)

    def save(self, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Replace what was saved before."""
        began = time.monotonic()
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        try:
            write_atomically(self.path, seal(buffer.getvalue()))
        except StorageError as error:
            warnings.warn(f"going on without a checkpoint: {error}", RuntimeWarning, stacklevel=2)
        self._last = time.monotonic()
        self._cost = self._last - began

    def discard(self) -> None:
        """The computation is complete: nothing is left to resume."""
        self.path.unlink(missing_ok=True)


def _why(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        return "no space left (or a limit on file sizes); free some space or choose another place"
    return error.strerror or str(error)
