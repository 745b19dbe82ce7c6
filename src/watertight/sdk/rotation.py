"""New certificates without a reconnect that anybody notices.

:class:`RotatingContext` is what drivers take for an ``ssl.SSLContext``: each handshake uses the
files as they are then. :func:`retiring` replaces a pool's connections once there are newer files.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NoReturn, Self

from watertight.sdk.credentials import Credentials

log = logging.getLogger("watertight.sdk")

POLL_SECONDS = 5.0
"""How often a pool looks whether there are new files. Far below half of any sensible TTL."""


class RotatingContext(ssl.SSLContext):
    """A client context for one channel that follows the credential files.

    Loading new files into a context does not do: roots are only ever added, and a key of another
    algorithm stands beside the old one. So each change makes a new context, and this one hands the
    handshakes to it. What a driver sets on this one changes nothing.
    """

    def __new__(cls, credentials: Credentials, host: str) -> Self:
        del credentials, host
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, credentials: Credentials, host: str) -> None:
        self._credentials = credentials
        self._host = host
        credentials.current()  # Files that cannot be used are an error now, not at first use.

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """For asyncio. The server's name is always the channel's; a session is never resumed."""
        del server_side, server_hostname, session
        context = self._credentials.current().context
        return context.wrap_bio(incoming, outgoing, server_hostname=self._host)

    def wrap_socket(
        self,
        sock: socket.socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLSocket:
        """For blocking code. See :meth:`wrap_bio`."""
        del server_side, server_hostname, session
        return self._credentials.current().context.wrap_socket(
            sock,
            do_handshake_on_connect=do_handshake_on_connect,
            suppress_ragged_eofs=suppress_ragged_eofs,
            server_hostname=self._host,
        )


@asynccontextmanager
async def retiring(
    credentials: Credentials | None, retire: Callable[[], Awaitable[None]]
) -> AsyncIterator[None]:
    """While the block runs, calls ``retire`` after each change of the files.

    By change, and not by clock: when no new SVID comes, the connections that stand are all there
    is, and to close them would be to cut the service off. None: nothing to follow.
    """
    if credentials is None:
        yield
        return
    watching = asyncio.ensure_future(_watch(credentials, retire))
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _watch(credentials: Credentials, retire: Callable[[], Awaitable[None]]) -> NoReturn:
    used = credentials.current()
    while True:
        await asyncio.sleep(POLL_SECONDS)
        now = credentials.current()
        if now is used:
            continue
        used = now
        try:
            await retire()
        except Exception:  # The pool's own trouble; the next change is tried again.
            log.exception("The connections with the old certificate could not be retired.")
