"""No process of the tests reaches the network: Python imports this file at start-up, and the hook cannot be removed.

`conftest.py` puts this folder on the PYTHONPATH, so that processes started by a test are held to it as well. Sockets
between processes of one machine (AF_UNIX and the loopback interface) are left alone: workers talk through them.
"""

import sys

OUTWARD = {"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"}
LOOK_UP = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"}
LOOPBACK = {"127.0.0.1", "::1", "localhost"}


def refuse(event: str, arguments: tuple[object, ...]) -> None:
    """Audit hook: raise before a socket that is not local to the machine is used."""
    if event in OUTWARD:
        import socket

        if getattr(arguments[0], "family", None) == socket.AF_UNIX or is_loopback(arguments[1]):
            return
    elif event not in LOOK_UP or is_loopback(arguments[0]):
        return
    raise RuntimeError(f"the tests run without a network, and something asked for {event}{arguments[1:]}")


def is_loopback(address: object) -> bool:
    return (address[0] if isinstance(address, tuple) and address else address) in LOOPBACK


sys.addaudithook(refuse)
