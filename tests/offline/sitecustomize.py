"""No process of the tests reaches the network: Python imports this file at start-up, and the hook cannot be removed.

`conftest.py` puts this folder on the PYTHONPATH, so that processes started by a test are held to it as well. Sockets
between processes of one machine (AF_UNIX) are left alone: pools of workers talk through them.
"""

import sys

OUTWARD = {"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"}
LOOK_UP = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"}


def refuse(event: str, arguments: tuple[object, ...]) -> None:
    """Audit hook: raise before a socket that is not local to the machine is used."""
    if event in OUTWARD:
        import socket

        if getattr(arguments[0], "family", None) == socket.AF_UNIX:
            return
    elif event not in LOOK_UP:
        return
    raise RuntimeError(f"the tests run without a network, and something asked for {event}{arguments[1:]}")


sys.addaudithook(refuse)
