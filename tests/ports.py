"""Ports for the servers of tests."""

import secrets
import socket

FIRST, COUNT = 10_240, 2_000
SIBLINGS = (20_001, 20_002)
"""How far above its own RabbitMQ has its other two."""


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port that nobody has now, nor the ones that RabbitMQ derives from it.

    All are below those that the kernel gives to connections: none of another test's takes one
    before the server does.
    """
    while True:
        port = FIRST + secrets.randbelow(COUNT)
        if all(_is_free(address, port + above) for above in (0, *SIBLINGS)):
            return port


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind((address, port))
        except OSError:
            return False
        return True
