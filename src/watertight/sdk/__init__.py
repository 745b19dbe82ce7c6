"""What a Python service imports: a channel of the declaration, as a ready pool or client.

    async with watertight.channel("orders-db") as pool: ...

TLS, identity, endpoint and rotation are done. Precisely typed, per kind of server:
:mod:`watertight.sdk.postgresql`, :mod:`watertight.sdk.nats`, :mod:`watertight.sdk.rabbitmq`.
For a driver that is not among these, :func:`tls_context` gives what it takes.

This room runs inside a service's sandbox. It knows nothing of the rest of Watertight: only the file
that ``WATERTIGHT_CHANNELS`` names and the credential files. Drivers are imported when used.
"""

from watertight.sdk.endpoints import Endpoint, find
from watertight.sdk.errors import (
    ChannelError,
    ChannelsUnreadable,
    ChannelUnavailable,
    CredentialsUnusable,
    DriverMissing,
    DriverUnfit,
    NoSuchChannel,
    NotLoopback,
    NotUnderWatertight,
    WrongKind,
)
from watertight.sdk.opening import channel, tls_context

__all__ = [
    "ChannelError",
    "ChannelUnavailable",
    "ChannelsUnreadable",
    "CredentialsUnusable",
    "DriverMissing",
    "DriverUnfit",
    "Endpoint",
    "NoSuchChannel",
    "NotLoopback",
    "NotUnderWatertight",
    "WrongKind",
    "channel",
    "find",
    "tls_context",
]
