"""Serve the explorer to a browser on this machine."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from lossflow.errors import InvalidInput, LossflowError

APP = Path(__file__).with_name("app.py")
HOST = "127.0.0.1"


def command(port: int, browser: bool) -> list[str]:
    """What starts the server. Raises `LossflowError` where the extra is missing."""
    if importlib.util.find_spec("marimo") is None:
        raise LossflowError("the explorer needs marimo, which is not installed: pip install 'lossflow[explore]'")
    where = ["--host", HOST, "--port", str(port), "--no-token", "--no-sandbox"]
    return [sys.executable, "-m", "marimo", "--quiet", "run", str(APP), *where, *([] if browser else ["--headless"])]


def serve(port: int = 2718, browser: bool = True) -> int:
    """Serve on `port` of this machine alone until interrupted; browser: open it. Returns the exit code of the server.

    Raises `InvalidInput` for a port that is out of range or taken, `LossflowError` where the extra is missing.
    """
    if not 1024 <= port <= 65535:
        raise InvalidInput(f"--port must be a number from 1024 to 65535, got {port}")
    starting = command(port, browser)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise InvalidInput(f"port {port} is taken; choose another: lossflow explore --port {port + 1}") from None
    surroundings = {**os.environ, "MPLBACKEND": "Agg", "MARIMO_SKIP_UPDATE_CHECK": "1"}
    print(f"the explorer is at http://{HOST}:{port}; stop it with Ctrl-C", flush=True)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the server must not outlive us
    server = subprocess.Popen(starting, env=surroundings, stdin=subprocess.DEVNULL)
    try:
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        server.terminate()
        server.wait()
        signal.signal(signal.SIGTERM, before)
