"""The surroundings of the tests are what `conftest.py` says: no network, own cache, one thread, failed curves drawn."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from threadpoolctl import threadpool_info

REFUSED = "the tests run without a network"
OUTSIDE = "192.0.2.1"  # an address that documents use and nobody has


def connect() -> None:
    with socket.socket() as s:
        s.connect((OUTSIDE, 9))


def connect_ex() -> None:
    with socket.socket() as s:
        s.connect_ex((OUTSIDE, 9))


def look_up() -> None:
    socket.getaddrinfo("lossflow.invalid", 80)


def send_a_datagram() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(b"", (OUTSIDE, 9))


def listen() -> None:
    with socket.socket() as s:
        s.bind(("0.0.0.0", 0))


def open_a_page() -> None:
    urllib.request.urlopen(f"http://{OUTSIDE}:9/")


@pytest.mark.parametrize("attempt", [connect, connect_ex, look_up, send_a_datagram, listen, open_a_page])
def test_the_network_is_closed(attempt: Callable[[], None]) -> None:
    with pytest.raises(RuntimeError, match=REFUSED):
        attempt()


def test_the_network_is_closed_to_the_processes_of_a_test() -> None:
    program = f"import socket; socket.create_connection(('{OUTSIDE}', 9), 1)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert REFUSED in done.stderr
    with ProcessPoolExecutor(1) as pool, pytest.raises(RuntimeError, match=REFUSED):
        pool.submit(connect).result()


def test_processes_of_one_machine_may_talk() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.sendall(b"word")
        assert other.recv(4) == b"word"
    with ProcessPoolExecutor(2) as pool:
        assert list(pool.map(abs, [-1, -2])) == [1, 2]
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as there:
        here, _ = server.accept()
        with here:
            there.sendall(b"word")
            assert here.recv(4) == b"word"


def test_the_cache_is_their_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    assert Path(os.environ["LOSSFLOW_CACHE"]).is_relative_to(tmp_path_factory.getbasetemp())


def test_one_thread_no_screen_no_chance() -> None:
    assert {library["num_threads"] for library in threadpool_info()} == {1}
    assert os.environ["MPLBACKEND"] == "Agg"
    assert settings().derandomize
    assert settings().database is None


def test_curves_that_agree_pass(curves: Callable[..., None], tmp_path: Path) -> None:
    times = np.linspace(0, 1, 5)
    curves(times, np.exp(times) + 1e-9, np.exp(times), 1e-8)
    curves(times, [1, 2, 3, np.nan, np.nan], [1, 2, 3, np.nan, np.nan], 0)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [1.5, np.nan, np.inf])
def test_a_failed_curve_draws_itself(curves: Callable[..., None], wrong: float) -> None:
    times = np.linspace(0, 1, 5)
    got = np.exp(times)
    got[3] = wrong
    with pytest.raises(pytest.fail.Exception, match=r"1 of 5 values disagree, the first at t = 0\.75") as failure:
        curves(times, got, np.exp(times), 1e-8)
    found = re.search(r"drawn in (.*)", str(failure.value))
    assert found
    assert Path(found[1]).read_bytes().startswith(b"\x89PNG")
