"""Kafka's clients come to the one broker, over TLS, or not at all.

How they work at a real one stands in tests/servers/kafka/test_clients.py, in pods: a broker sends
its clients to its name, which resolves there.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import watertight
from tests.sdk.relays import stripping
from tests.sdk.world import World
from watertight.sdk import ChannelUnavailable
from watertight.sdk.kafka import clients

PARAMETERS = {"group": "orders"}
RECORD = b"\x16\x03"
"""How a TLS handshake begins (RFC 8446, section 5.1)."""


@asynccontextmanager
async def hanging_up(world: World, name: str) -> AsyncIterator[int]:
    """A server with TLS and the SVID of ``name``, and nothing to say."""
    credentials = world.credentials(name)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(credentials / "certificate.pem", credentials / "private_key.pem")
    async with await asyncio.start_server(
        lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context
    ) as server:
        yield server.sockets[0].getsockname()[1]


async def test_a_server_without_tls_learns_nothing(world: World) -> None:
    async with stripping(b"", b"\x00\x00\x00\x04\x00\x00\x00\x07") as (port, seen):
        world.open("events", "kafka", port, parameters=PARAMETERS)
        with pytest.raises(ChannelUnavailable, match="SSL"):
            async with clients("events", open_seconds=0.1):
                pass
    assert seen.startswith(RECORD)


@pytest.mark.parametrize(
    ("host", "said"),
    [("jobs", r"is spiffe://shop\.internal/jobs"), ("events", "not valid for 'events'")],
)
async def test_another_server_is_refused_at_once(world: World, host: str, said: str) -> None:
    """By its SPIFFE ID, and by its host name."""
    async with hanging_up(world, "jobs") as port:
        world.open("events", "kafka", port, host=host, parameters=PARAMETERS)
        with pytest.raises(ChannelUnavailable, match=said):
            async with clients("events", open_seconds=60):
                pass


async def test_a_broker_that_is_not_there_is_an_error_with_its_cause(world: World) -> None:
    world.open("events", "kafka", 1, parameters=PARAMETERS)
    with pytest.raises(ChannelUnavailable, match=r"events cannot be opened: .*Connect call failed"):
        async with watertight.channel("events", open_seconds=0.2):
            pass


async def test_what_the_driver_may_not_be_told_is_refused(world: World) -> None:
    """Whom to trust, and where to: there is no option for it."""
    async with hanging_up(world, "events") as port:
        world.open("events", "kafka", port, parameters=PARAMETERS)
        async with clients("events") as kafka:
            for option in ({"bootstrap_servers": "elsewhere"}, {"security_protocol": "PLAINTEXT"}):
                with pytest.raises(TypeError, match="multiple values"):
                    await kafka.producer(**option)
                with pytest.raises(TypeError, match="multiple values"):
                    await kafka.consumer("orders.placed", **option)
