"""Files are whole or not there, damage is noticed, and long computations resume."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import lossflow as lf
from lossflow import checkpoint
from lossflow.checkpoint import SEAL_LENGTH, Checkpoint, cache_folder, read, seal, unseal, write_atomically

ARRAYS = {"u": np.random.default_rng(0).standard_normal((4, 3)), "step": np.array(17), "done": np.array([True, False])}


# atomic writes


def test_what_was_written_is_read(tmp_path: Path) -> None:
    for data in (b"", b"x", bytes(range(256)) * 1000):
        write_atomically(tmp_path / "new" / "folders" / "file", data)
        assert read(tmp_path / "new" / "folders" / "file") == data
    assert os.listdir(tmp_path / "new" / "folders") == ["file"]


@pytest.mark.skipif(os.name != "posix", reason="permissions and links as on Unix")
def test_permissions_and_links_stay(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_atomically(tmp_path / "new", b"1")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    (tmp_path / "new").chmod(0o600)
    (tmp_path / "link").symlink_to("new")
    write_atomically(tmp_path / "link", b"2")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "new").read_bytes() == b"2"
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("failing", "code", "message"),
    [
        ("fsync", errno.ENOSPC, "no space left"),
        ("fsync", errno.EDQUOT, "no space left"),
        ("fsync", errno.EIO, "Input/output error"),
        ("replace", errno.EACCES, "Permission denied"),
    ],
)
def test_a_failure_leaves_the_old_file_and_nothing_else(
    failing: str, code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomically(tmp_path / "file", b"old")

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(lf.StorageError, match=rf"cannot write .*file: {message}.*nothing was changed") as caught:
        write_atomically(tmp_path / "file", b"new")
    monkeypatch.undo()
    assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_protected_file_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically(tmp_path / "file", b"old")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # an administrator is never refused, so ask for it
    with pytest.raises(lf.StorageError, match="protected against writing"):
        write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_an_interrupt_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically(tmp_path / "file", b"old")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    """A process writes two contents in turn and is killed at a random moment, ten times: always one of the two is there."""
    program = (
        "import sys; from lossflow.checkpoint import write_atomically\n"
        "while True:\n    for c in (b'a', b'b'): write_atomically(sys.argv[1], c * 500_000)"
    )
    path = tmp_path / "file"
    random = np.random.default_rng(1)
    seen = set()
    for _ in range(10):
        process = subprocess.Popen([sys.executable, "-c", program, str(path)])
        try:
            while not path.exists():
                assert process.poll() is None
                time.sleep(0.01)
            end = time.monotonic() + random.uniform(0.01, 0.1)
            while time.monotonic() < end:
                seen.add(path.read_bytes())
        finally:
            process.kill()
            process.wait()
        seen.add(path.read_bytes())
    assert seen <= {b"a" * 500_000, b"b" * 500_000}


def test_reading_says_why_not(tmp_path: Path) -> None:
    with pytest.raises(lf.StorageError, match=r"cannot read .*nothing: No such file or directory$"):
        read(tmp_path / "nothing")


# seals


def test_a_seal_notices_every_flipped_bit_and_every_cut() -> None:
    whole = seal(b"what was computed")
    assert unseal(whole, "x") == b"what was computed"
    assert len(whole) == len(b"what was computed") + SEAL_LENGTH
    damaged = [whole[:k] + bytes([whole[k] ^ 1 << bit]) + whole[k + 1 :] for k in range(len(whole)) for bit in range(8)]
    damaged += [whole[:k] for k in range(len(whole))] + [whole[k:] for k in range(1, len(whole))] + [whole + b"\n"]
    for data in damaged:
        with pytest.raises(lf.CorruptedFile, match=r"x is damaged or was not written by lossflow"):
            unseal(data, "x")


def test_seals_nest() -> None:
    assert unseal(unseal(seal(seal(b"")), "x"), "x") == b""


# checkpoints


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOSSFLOW_CACHE", str(tmp_path))
    return tmp_path


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOSSFLOW_CACHE", "~/here")
    assert cache_folder() == tmp_path / "here"
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("LOSSFLOW_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "lossflow"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / ".cache" / "lossflow"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == tmp_path / "Library" / "Caches" / "lossflow"


def test_a_checkpoint_resumes(cache: Path) -> None:
    assert Checkpoint("kind", "key").load() is None
    Checkpoint("kind", "key").save(ARRAYS)
    loaded = Checkpoint("kind", "key").load()
    assert loaded is not None
    assert loaded.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)
    Checkpoint("kind", "key").save({"u": np.zeros(1)})
    again = Checkpoint("kind", "key").load()
    assert again is not None
    assert list(again) == ["u"]


def test_checkpoints_of_other_kinds_and_keys_are_others(cache: Path) -> None:
    Checkpoint("kind", "key").save(ARRAYS)
    assert Checkpoint("kind", "other").load() is None
    assert Checkpoint("other", "key").load() is None


def test_discarding(cache: Path) -> None:
    Checkpoint("kind", "key").save(ARRAYS)
    Checkpoint("kind", "key").discard()
    assert Checkpoint("kind", "key").load() is None
    Checkpoint("kind", "key").discard()
    assert not list(cache.rglob("*.*"))


def test_a_damaged_checkpoint_is_not_believed(cache: Path) -> None:
    saved = Checkpoint("kind", "key")
    saved.save(ARRAYS)
    whole = saved.path.read_bytes()
    random = np.random.default_rng(2)
    for place in random.integers(len(whole), size=100):
        saved.path.write_bytes(
            whole[:place] + bytes([whole[place] ^ 1 << int(random.integers(8))]) + whole[place + 1 :]
        )
        with pytest.raises(lf.CorruptedFile, match="delete it"):
            saved.load()
        saved.path.write_bytes(whole[:place])
        with pytest.raises(lf.CorruptedFile, match="delete it"):
            saved.load()


def test_saving_is_due_after_its_interval_and_costs_little(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by hand: due after `interval` seconds, or after cost / share when saving is slow."""
    now = [100.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    saved = Checkpoint("kind", "key")
    assert not saved.due()
    now[0] += Checkpoint.interval - 0.01
    assert not saved.due()
    now[0] += 0.02
    assert saved.due()
    monkeypatch.setattr(checkpoint, "write_atomically", lambda path, data: now.__setitem__(0, now[0] + 2.0))
    saved.save(ARRAYS)  # takes two seconds
    assert not saved.due()
    now[0] += 2.0 / Checkpoint.share - 0.01
    assert not saved.due()
    now[0] += 0.02
    assert saved.due()


def test_the_interval_can_be_chosen(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Checkpoint, "interval", 0.0)
    assert Checkpoint("kind", "key").due()


def test_without_space_the_computation_goes_on(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Checkpoint("kind", "key").save({"old": np.ones(1)})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(RuntimeWarning, match="going on without a checkpoint: cannot write .*: no space left"):
        Checkpoint("kind", "key").save(ARRAYS)
    monkeypatch.undo()
    monkeypatch.setenv("LOSSFLOW_CACHE", str(cache))
    kept = Checkpoint("kind", "key").load()
    assert kept is not None
    assert list(kept) == ["old"]


def test_a_killed_computation_resumes_where_it_was(cache: Path) -> None:
    """A sum that saves after every term is killed at ten random moments; it ends with the right sum all the same."""
    program = """
import time, numpy as np
from lossflow.checkpoint import Checkpoint
saved = Checkpoint("sum", "key")
state = saved.load() or {"k": np.array(0), "sum": np.array(0)}
k, total = int(state["k"]), int(state["sum"])
while k < 300:
    k += 1
    total += k
    saved.save({"k": np.array(k), "sum": np.array(total)})
print(total)
"""
    random = np.random.default_rng(3)

    def progress() -> int:
        state = Checkpoint("sum", "key").load()  # never damaged
        return 0 if state is None else int(state["k"])

    for _ in range(10):
        before = progress()
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)
        while progress() == before and process.poll() is None:
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.02))
        process.kill()
        process.wait()
        assert progress() > before or before == 300
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == f"{300 * 301 // 2}\n"
