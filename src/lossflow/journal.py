"""A file that only grows: records, each with its own checksums, written one by one and read back in order.

A record is its length, a checksum of the length, a checksum of the payload, and the payload. A process that is killed while it
writes leaves the beginning of a record at the end, which is dropped; anything else that does not match is damage.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from lossflow.checkpoint import read
from lossflow.errors import CorruptedFile, InvalidInput, StorageError

HEADER = b"lossflow journal 1\n"
LENGTH, CHECK, DIGEST = 8, 8, 32  # bytes of the length, of its checksum and of that of the payload
PATIENCE = 5.0  # seconds for the processes of a killed writer to notice that it is gone


class Journal:
    """The records of one file, and the right to append to it while it is open as a context.

    path: made with its folder when first written to. `records()` needs no context.
    Raises `CorruptedFile` for damage, `InvalidInput` when another process has the file open for writing, `StorageError` when it
    cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def records(self) -> Iterator[bytes]:
        """The payloads, in the order in which they were appended."""
        if self.path.exists():
            yield from (payload for payload, _ in self._scan())

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            _lock(self._file, self.path)
            end = max((end for _, end in self._scan()), default=len(HEADER))
            if os.fstat(self._file).st_size < len(HEADER):
                os.ftruncate(self._file, 0)
                _write_all(self._file, HEADER)
            os.ftruncate(self._file, end)  # a torn record is no record
        except OSError as error:
            self._close()
            if isinstance(error, StorageError):
                raise
            raise StorageError(f"cannot write {self.path}: {error.strerror or error}") from error
        except InvalidInput:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def append(self, payload: bytes) -> None:
        """Write one record; once this returns, it outlives the process."""
        if self._file is None:
            raise StorageError(f"{self.path} is not open for writing: append inside `with journal:`")
        start = os.fstat(self._file).st_size
        try:
            _write_all(self._file, _framed(payload))
        except OSError as error:
            os.ftruncate(self._file, start)
            raise StorageError(
                f"cannot write {self.path}: {error.strerror}; what was written before is kept"
            ) from error

    def _scan(self) -> Iterator[tuple[bytes, int]]:
        """Payloads and where their records end."""
        data = read(self.path)
        if data[: len(HEADER)] != HEADER[: len(data)]:
            raise CorruptedFile(f"{self.path} is no journal of lossflow, or its beginning is damaged; move it away")
        position = len(HEADER)
        while position + LENGTH + CHECK + DIGEST <= len(data):
            length, rest = (
                data[position : position + LENGTH],
                data[position + LENGTH : position + LENGTH + CHECK + DIGEST],
            )
            begin = position + LENGTH + CHECK + DIGEST
            end = begin + int.from_bytes(length, "little")
            if rest[:CHECK] == _digest(length)[:CHECK] and end > len(data):
                return  # torn
            payload = data[begin:end]
            if rest != _digest(length)[:CHECK] + _digest(payload):
                raise CorruptedFile(
                    f"{self.path} is damaged at byte {position}: a record does not match its checksum; restore a copy, or delete "
                    "the file to have its records computed again"
                )
            yield payload, end
            position = end

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _framed(payload: bytes) -> bytes:
    length = len(payload).to_bytes(LENGTH, "little")
    return length + _digest(length)[:CHECK] + _digest(payload) + payload


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _write_all(file: int, data: bytes) -> None:
    """`os.write` may write less than it was given."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _lock(file: int, path: Path) -> None:
    """One writer at a time, where the system can lock files; the lock of a killed process goes with it."""
    try:
        import fcntl
    except ImportError:
        return
    waited = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                return  # a file system without locks
        if time.monotonic() > waited:
            raise InvalidInput(f"{path} is being written by another process; wait for it, or choose another folder")
        time.sleep(0.05)
