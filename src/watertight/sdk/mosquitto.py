"""Mosquitto over a channel: an aiomqtt client, known to the broker by certificate alone.

How old certificates leave: a connection stays for as long as it works, and each new one uses the
newest SVID. aiomqtt does not connect again by itself: open the channel again, in a loop. What was
subscribed with ``clean_start=False`` and QoS 1 waits at the broker meanwhile. A revoked service is
cut off by the server.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from watertight.sdk.credentials import Credentials
from watertight.sdk.endpoints import find
from watertight.sdk.opening import OPEN_SECONDS, driver_of, persistently
from watertight.sdk.rotation import RotatingContext

if TYPE_CHECKING:
    from aiomqtt import Client

KIND = "mosquitto"


@asynccontextmanager
async def client(
    name: str, /, *, open_seconds: float = OPEN_SECONDS, **options: Any
) -> "AsyncIterator[Client]":
    """A connected client of MQTT 5; disconnected at the end of the block.

    One at a time: the broker ends a service's session when the service opens another. ``options``
    go to ``aiomqtt.Client``. Raises :class:`~watertight.sdk.ChannelError`, and ``MqttError`` inside
    the block if the connection ends.
    """
    endpoint = find(name, KIND)
    with driver_of(endpoint):
        from aiomqtt import Client, MqttError, ProtocolVersion  # noqa: PLC0415
    context = None
    if not endpoint.originate:
        context = RotatingContext(Credentials(endpoint), endpoint.host)
    chosen: dict[str, Any] = {
        "identifier": endpoint.parameter("client_id"),
        "protocol": ProtocolVersion.V5,
        **options,
    }

    async def connect() -> "Client":
        made = Client(endpoint.address, endpoint.port, tls_context=context, **chosen)
        return await made.__aenter__()

    connected = await persistently(endpoint, connect, (MqttError,), open_seconds)
    try:
        yield connected
    finally:
        await connected.__aexit__(None, None, None)


DRIVERS = {"aiomqtt": client}
"""Who opens a channel, by driver; the first is the one that is taken."""
