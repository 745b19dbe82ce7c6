"""Ports for the servers of tests."""

import itertools
import os
import secrets
import socket
from collections.abc import Iterator

FIRST, COUNT = 10_240, 2_000
SIBLINGS = (20_001, 20_002)
"""How far above its own RabbitMQ has its other two."""


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port that nobody has now, nor the ones that RabbitMQ derives from it.

    All are below those that the kernel gives to connections: none of another test's takes one
    before the server does. Nor does another server, which may not listen on its own yet: no port
    is given twice until all have been, and each process of pytest-xdist has ports of its own.
    """
    while True:
        port = next(_ports)
        if all(_is_free(address, port + above) for above in (0, *SIBLINGS)):
            return port


def _in_turn() -> Iterator[int]:
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    mine = range(FIRST + process, FIRST + COUNT, processes)
    start = secrets.randbelow(len(mine))
    return itertools.cycle([*mine[start:], *mine[:start]])


_ports = _in_turn()


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind((address, port))
        except OSError:
            return False
        return True
