"""Records of a journal come back as they were, a torn one at the end is dropped, any other damage is noticed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lossflow as lf
from lossflow import journal as module
from lossflow.journal import HEADER, Journal

PAYLOADS = [b"", b"one", bytes(range(256)) * 5]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "new" / "points.journal"
    with Journal(path) as journal:
        for payload in PAYLOADS:
            journal.append(payload)
    return path


def test_records_come_back_in_order_and_more_can_follow(path: Path) -> None:
    assert list(Journal(path).records()) == PAYLOADS
    with Journal(path) as journal:
        assert list(journal.records()) == PAYLOADS
        journal.append(b"more")
    assert list(Journal(path).records()) == [*PAYLOADS, b"more"]


def test_nothing_is_there_before_something_is_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "points.journal")
    assert list(journal.records()) == []
    assert not journal.path.exists()
    with pytest.raises(lf.StorageError, match="not open for writing"):
        journal.append(b"one")


def test_a_cut_anywhere_loses_the_torn_record_alone(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        before = list(Journal(path).records())
        assert before == PAYLOADS[: len(before)]
        assert len(before) < len(PAYLOADS)
        with Journal(path) as journal:
            journal.append(b"after")
        assert list(Journal(path).records()) == [*before, b"after"]


def test_a_flipped_bit_anywhere_is_noticed(path: Path) -> None:
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for position in [*range(150), *random.integers(0, len(whole), 300)]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(lf.CorruptedFile, match="damaged"):
            list(Journal(path).records())
        with pytest.raises(lf.CorruptedFile), Journal(path):
            pass
        assert path.read_bytes() == damaged  # evidence is kept
    path.write_bytes(whole)
    assert list(Journal(path).records()) == PAYLOADS


def test_a_file_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes\n" * 10)
    with pytest.raises(lf.CorruptedFile, match="no journal"), Journal(path):
        pass
    assert path.read_text() == "my notes\n" * 10


def test_one_writer_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    with Journal(path), pytest.raises(lf.InvalidInput, match="another process"), Journal(path):
        pass
    with Journal(path) as journal:  # the lock is gone with the context
        journal.append(b"one")


WRITER = """
import sys
from pathlib import Path
from lossflow.journal import Journal
with Journal(Path(sys.argv[1])) as journal:
    for k in range(10**9):
        journal.append(b"%d" % k + b"x" * 5000)
        print(k, flush=True)
"""


def test_what_append_returned_from_outlives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "points.journal"
    for count in (1, 5, 40):
        path.unlink(missing_ok=True)
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        last = [process.stdout.readline() for _ in range(count)][-1]
        process.kill()
        last = (process.stdout.read().split() or [last])[-1]
        process.stdout.close()
        process.wait()
        records = list(Journal(path).records())
        assert len(records) >= int(last) + 1
        assert records == [b"%d" % k + b"x" * 5000 for k in range(len(records))]


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="a folder without the right to write, for anyone but root"
)
def test_a_folder_without_the_right_to_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(lf.StorageError, match="cannot write"), Journal(tmp_path / "a" / "points.journal"):
        pass


def test_a_full_disk_says_so_and_keeps_what_was_written(tmp_path: Path) -> None:
    script = f"""
import resource, signal
from pathlib import Path
from lossflow.journal import Journal
from lossflow.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
with Journal(Path({str(tmp_path / "points.journal")!r})) as journal:
    journal.append(b"x" * 1000)
    try:
        journal.append(b"y" * 5000)
    except StorageError as error:
        print(error)
    journal.append(b"z" * 100)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert "cannot write" in result.stdout
    assert list(Journal(tmp_path / "points.journal").records()) == [b"x" * 1000, b"z" * 100]


def test_the_header_says_what_it_is(path: Path) -> None:
    assert path.read_bytes().startswith(HEADER)
