"""RabbitMQ over a channel: an aio-pika robust connection, logged in by certificate alone.

How old certificates leave: a connection stays for as long as it works, and each reconnect uses the
newest SVID. It is not renewed for its own sake: that would redeliver what consumers hold. A revoked
service is cut off by the server.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from watertight.sdk.credentials import Credentials
from watertight.sdk.endpoints import find
from watertight.sdk.opening import OPEN_SECONDS, driver_of, persistently
from watertight.sdk.rotation import RotatingContext

if TYPE_CHECKING:
    from aio_pika.abc import AbstractRobustConnection

KIND = "rabbitmq"
_RECONNECT_SECONDS = 1


@asynccontextmanager
async def connection(
    name: str, /, *, open_seconds: float = OPEN_SECONDS, **options: Any
) -> "AsyncIterator[AbstractRobustConnection]":
    """A connection that restores itself, its channels and its consumers; closed with the block.

    ``options`` go to ``aio_pika.connect_robust``. Raises :class:`~watertight.sdk.ChannelError`.
    """
    endpoint = find(name, KIND)
    with driver_of(endpoint):
        import aio_pika  # noqa: PLC0415
        from aio_pika.exceptions import AMQPError  # noqa: PLC0415
    context = None
    if not endpoint.originate:
        context = RotatingContext(Credentials(endpoint), endpoint.host)
    chosen: dict[str, Any] = {
        "name": endpoint.service,
        "reconnect_interval": _RECONNECT_SECONDS,
        **options,
    }

    async def connect() -> "AbstractRobustConnection":
        made: AbstractRobustConnection = await aio_pika.connect_robust(
            None,  # No URL can be among the options: it would say where to, and how.
            host=endpoint.address,
            port=endpoint.port,
            virtualhost=endpoint.parameter("virtual_host"),
            ssl=context is not None,
            ssl_context=context,
            login="",
            password="",  # The mechanism is EXTERNAL: the certificate is the login.
            auth="EXTERNAL",
            **chosen,
        )
        return made

    connected = await persistently(endpoint, connect, (AMQPError,), open_seconds)
    async with connected:
        yield connected


DRIVERS = {"aio-pika": connection}
"""Who opens a channel, by driver; the first is the one that is taken."""
