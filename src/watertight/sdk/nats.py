"""NATS over a channel: nats-py, held to TLS.

A NATS server greets in the clear, and nats-py asks for TLS only if that greeting says so; whoever
sits in between could leave that out. Here such a server is refused, at each connect.

How old certificates leave: a connection stays for as long as it works, and each reconnect uses the
newest SVID. It is not renewed for its own sake, since core NATS loses what is published while a
subscriber reconnects; a revoked service is cut off by the server.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from watertight.sdk.credentials import Credentials
from watertight.sdk.endpoints import find
from watertight.sdk.opening import OPEN_SECONDS, driver_of, persistently
from watertight.sdk.rotation import RotatingContext

if TYPE_CHECKING:
    from nats.aio.client import Client

log = logging.getLogger("watertight.sdk")

KIND = "nats"
_RECONNECT_SECONDS = 0.5
_CLOSE_SECONDS = 0.5


@asynccontextmanager
async def client(
    name: str,
    /,
    *,
    error_cb: Callable[[Exception], Awaitable[None]] | None = None,
    open_seconds: float = OPEN_SECONDS,
    **options: Any,
) -> "AsyncIterator[Client]":
    """A connected NATS client; drained at the end of the block, closed if it fails.

    It reconnects for ever. ``options`` go to ``Client.connect``; ``error_cb`` hears of what the
    server refuses (by default it is logged). Raises :class:`~watertight.sdk.ChannelError`.
    """
    endpoint = find(name, KIND)
    with driver_of(endpoint):
        from nats.errors import Error  # noqa: PLC0415

        from watertight.sdk.strict_nats import StrictClient, require_fit  # noqa: PLC0415
    require_fit()
    tls: dict[str, Any] = {}
    if not endpoint.originate:
        tls = {
            "tls": RotatingContext(Credentials(endpoint), endpoint.host),
            "tls_hostname": endpoint.host,
            # Where the server can (from 2.10), it greets after the handshake only.
            "tls_handshake_first": endpoint.parameters.get("tls_first") == "true",
        }
    chosen: dict[str, Any] = {
        "name": endpoint.service,
        "inbox_prefix": endpoint.parameters.get("inbox_prefix", "_INBOX"),
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": _RECONNECT_SECONDS,
        **options,
    }

    async def connect() -> StrictClient:
        made, opened = StrictClient(originate=endpoint.originate), False

        async def on_error(error: Exception) -> None:
            if not opened:
                raise error  # nats-py would try for ever, in silence
            await (error_cb or _log)(error)

        try:
            await made.connect(
                f"nats://{endpoint.address}:{endpoint.port}", error_cb=on_error, **tls, **chosen
            )
        except BaseException:
            # After a failed handshake nats-py waits for the end of what has ended (2.16).
            with suppress(Exception):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await made.close()
            raise
        opened = True
        return made

    connected = await persistently(endpoint, connect, (Error,), open_seconds)
    try:
        yield connected
    except BaseException:
        await connected.close()
        raise
    if not connected.is_closed:
        await connected.drain()


async def _log(error: Exception) -> None:
    log.warning("NATS: %s", error)


DRIVERS = {"nats-py": client}
"""Who opens a channel, by driver; the first is the one that is taken."""
