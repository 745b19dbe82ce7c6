"""A wire: bytes out, bytes in, whoever carries them (a socket here, or one inside a sandbox)."""

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Protocol

from watertight.attack.patience import patiently

CHUNK_BYTES = 65_536


class Absent(Exception):
    """There is nothing to attack: the socket is missing or nobody listens on it."""


class Closed(Exception):
    """The other side ended the connection; ``detail`` says how."""


class Wire(Protocol):
    """An open connection."""

    async def send(self, data: bytes) -> None:
        """Writes all of ``data``. Raises :class:`Closed`, or lets ``receive`` say it."""
        ...

    async def receive(self, timeout_seconds: float) -> bytes:
        """The next bytes; empty at the end of the stream. Raises ``TimeoutError``, ``Closed``."""
        ...

    async def close(self) -> None:
        """Ends the connection; never raises."""
        ...


class SocketWire:
    """A wire over a socket of ours.

    Not over asyncio's streams: a peer that sends an alert and resets the connection would leave
    them with the reset alone, and the alert is the fact that we came for.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    async def send(self, data: bytes) -> None:
        """See :class:`Wire`. A peer that has closed may still have said why: read on."""
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def receive(self, timeout_seconds: float) -> bytes:
        """See :class:`Wire`."""
        loop = asyncio.get_running_loop()
        try:
            async with patiently(timeout_seconds):
                return await loop.sock_recv(self._socket, CHUNK_BYTES)
        except TimeoutError:
            raise
        except OSError as error:
            raise Closed(_how(error)) from error

    async def close(self) -> None:
        """See :class:`Wire`."""
        self._socket.close()


def _how(error: OSError) -> str:
    return "connection reset" if isinstance(error, ConnectionResetError) else str(error)


async def dial_unix(path: Path) -> SocketWire:
    """Connects to a Unix socket. Raises :class:`Absent` if nobody listens there."""
    try:
        return await _dial(socket.AF_UNIX, str(path), None)
    except OSError as error:
        raise Absent(f"{path.name}: {error.strerror or error}") from error


async def dial_tcp(host: str, port: int, *, source: str | None = None) -> SocketWire:
    """Connects to a TCP port of an IPv4 address, from the local address ``source`` if given.

    Raises :class:`Absent` if nobody listens there.
    """
    try:
        return await _dial(socket.AF_INET, (host, port), (source, 0) if source else None)
    except OSError as error:
        raise Absent(f"{host}:{port}: {error.strerror or error}") from error


async def _dial(
    family: socket.AddressFamily, address: str | tuple[str, int], source: tuple[str, int] | None
) -> SocketWire:
    sock = socket.socket(family)
    try:
        sock.setblocking(False)
        if source is not None:
            sock.bind(source)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return SocketWire(sock)
