"""A Unix socket that lets each caller through to the server of its own identity, and no further.

gRPC for Python cannot tell who is at the other end of a socket. So a listener stands before it: it
accepts, asks the kernel who connects (``attestation``), and joins the connection to a server that
speaks for exactly that workload, or for nobody. The caller shows nothing and chooses nothing
(SPIFFE Workload Endpoint, section 4).
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import structlog

from watertight.buckets import TokenBucket
from watertight.identity.attestation import AttestationError, Attestor, peer_of
from watertight.identity.errors import IdentityError
from watertight.identity.workload_api.splice import BUFFER_BYTES, Stream, splice

log = structlog.get_logger(__name__)

ServerSocket: TypeAlias = Callable[[str | None], Awaitable[Path]]
"""Workload (None: nobody) → the private Unix socket of the server that speaks for it."""

_LONGEST_PATH_BYTES = 107
"""``sun_path`` of unix(7), without its final NUL."""

_BACKLOG = 512
CONNECTS_AT_ONCE, CONNECTS_PER_SECOND = 128, 50.0
"""Beyond it callers wait to be let in. Each costs a look at its process tree, and a stream."""
GONE_AT_ONCE, GONE_PER_SECOND = 512, 1_000.0
"""Of those that have left before they were let in, which cost next to nothing."""
_SHORT_OF_FILES_SECONDS = 0.1


class ListenerError(IdentityError):
    """The socket cannot be made where it is wanted."""


class Listener:
    """One public socket; many connections, each attested on its own.

    ``capacity`` bounds the connections that are open at once; further ones are closed at once,
    which a gRPC client reads as UNAVAILABLE and retries (SPIFFE Workload API, section 7).
    """

    def __init__(self, attestor: Attestor, server_socket: ServerSocket, *, capacity: int) -> None:
        self._attestor = attestor
        self._server_socket = server_socket
        self._capacity = capacity
        self._connections: set[asyncio.Task[None]] = set()
        self._rate = TokenBucket(CONNECTS_AT_ONCE, CONNECTS_PER_SECOND)
        self._gone_rate = TokenBucket(GONE_AT_ONCE, GONE_PER_SECOND)
        self._path: Path | None = None
        self._accepting: asyncio.Task[None] | None = None

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._connections)

    async def open(self, path: Path, mode: int) -> None:
        """Listens on ``path`` with file mode ``mode``; replaces a socket that a dead run left.

        Raises :class:`ListenerError` if the path is too long, or its directory missing or closed.
        """
        listening = _bind(path, mode)
        self._accepting = asyncio.get_running_loop().create_task(self._accept(listening))
        self._path = path

    async def close(self) -> None:
        """Stops listening, ends every connection, removes the socket. Twice is no error."""
        if self._accepting is None or self._path is None:
            return
        self._accepting.cancel()
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(self._accepting, *connections, return_exceptions=True)
        self._path.unlink(missing_ok=True)
        self._accepting = None

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listening:
            while True:
                try:
                    connection, _ = await loop.sock_accept(listening)
                except OSError as error:
                    log.warning("identity.listener.short", path=str(self._path), reason=str(error))
                    await asyncio.sleep(_SHORT_OF_FILES_SECONDS)
                    continue
                connection.setblocking(False)
                if gone(connection):
                    connection.close()
                    rate = self._gone_rate
                else:
                    self._accepted(connection)
                    rate = self._rate
                # At least once: to accept what waits already would not let anything else run.
                await asyncio.sleep(0 if rate.take() else rate.wait_seconds())

    def _accepted(self, connection: socket.socket) -> None:
        if len(self._connections) >= self._capacity:
            log.warning("identity.listener.full", path=str(self._path), capacity=self._capacity)
            connection.close()
            return
        serving = asyncio.get_running_loop().create_task(self._serve(connection))
        self._connections.add(serving)
        serving.add_done_callback(self._ended)

    def _ended(self, serving: asyncio.Task[None]) -> None:
        self._connections.discard(serving)
        if not serving.cancelled() and (error := serving.exception()) is not None:
            log.error("identity.listener.failed", path=str(self._path), exc_info=error)

    async def _serve(self, connection: socket.socket) -> None:
        """Ends without an error when the caller has left: that is how connections end."""
        with connection:
            workload = self._attest(connection)
            inner = await self._server_socket(workload)
            reader, writer = await asyncio.open_unix_connection(inner, limit=BUFFER_BYTES)
            try:
                caller = await asyncio.open_unix_connection(sock=connection, limit=BUFFER_BYTES)
            except BaseException:
                writer.transport.abort()
                raise
            await splice(Stream(*caller), Stream(reader, writer))

    def _attest(self, connection: socket.socket) -> str | None:
        """Who calls. A refused caller is let through to the server that speaks for nobody.

        So it is told PERMISSION_DENIED, as the standard wants, and never why.
        """
        try:
            with peer_of(connection) as peer:
                return self._attestor.attest(peer)
        except AttestationError as error:
            log.warning("identity.listener.refused", path=str(self._path), reason=str(error))
            return None


def gone(connection: socket.socket) -> bool:
    """Whether the other end has closed, without a word."""
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _bind(path: Path, mode: int) -> socket.socket:
    """A listening socket that nobody could reach before it had its mode."""
    beside = path.with_name(f"{path.name}.new")
    if len(bytes(beside)) > _LONGEST_PATH_BYTES:
        raise ListenerError(
            f"The socket path {path} is too long.",
            remedy=f"A Unix socket's path has at most {_LONGEST_PATH_BYTES} bytes, with `.new`.",
        )
    listening = socket.socket(socket.AF_UNIX)
    try:
        beside.unlink(missing_ok=True)
        listening.bind(str(beside))
        beside.chmod(mode)
        listening.listen(_BACKLOG)
        beside.rename(path)
    except OSError as error:
        listening.close()
        raise ListenerError(
            f"The socket {path} cannot be made: {error.strerror}.",
            remedy="Its directory must exist and be ours to write.",
        ) from error
    listening.setblocking(False)
    return listening
