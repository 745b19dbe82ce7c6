"""Mosquitto through the SDK, on a real broker: known by certificate alone."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

import watertight
from tests.sdk.process import Running
from tests.sdk.relays import Streams, originating, stripping
from tests.sdk.servers import mosquitto as running_mosquitto
from tests.sdk.servers import program
from tests.sdk.world import World
from watertight.sdk import ChannelUnavailable, mosquitto, tls_context

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(program("mosquitto") is None, reason="needs Mosquitto"),
]
PARAMETERS = {"client_id": "orders"}
RECORD = b"\x16\x03"
"""How a TLS handshake begins."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(lasting_world: World) -> AsyncIterator[Running]:
    """A running broker, declared as ``field``."""
    async with running_mosquitto(lasting_world) as running:
        yield running


async def echo(name: str = "field") -> bytes:
    """One message there and back over a connection of its own."""
    async with mosquitto.client(name, open_seconds=5) as client:
        await client.subscribe("echo", qos=1)
        await client.publish("echo", b"hello", qos=1)
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            return message.payload
    raise AssertionError("it ended without a message")


async def test_a_channel_is_opened(lasting_world: World, server: Running) -> None:
    async with watertight.channel("field", driver="aiomqtt") as client:
        await client.publish("echo", b"x", qos=1)
    assert await echo() == b"hello"


async def test_a_restarted_broker_is_met_with_the_newest_svid(
    lasting_world: World, server: Running
) -> None:
    """The old one's authority is trusted no more."""
    await lasting_world.keeper.rotate_issuer()
    await lasting_world.rotate("orders", "field")
    await server.stop()
    await server.start()
    assert await echo() == b"hello"


async def test_a_server_without_tls_learns_nothing(lasting_world: World) -> None:
    async with stripping(b"", b"\x20\x03\x00\x00\x00") as (port, seen):
        lasting_world.open("stripped", "mosquitto", port, host="field", parameters=PARAMETERS)
        with pytest.raises(ChannelUnavailable, match="SSL"):
            async with mosquitto.client("stripped", open_seconds=0.5):
                pass
    assert seen.startswith(RECORD)
    assert b"MQTT" not in seen


@pytest.mark.parametrize(
    ("host", "said"),
    [("field", r"is spiffe://shop\.internal/field"), ("mail", "not valid for 'mail'")],
)
async def test_another_server_is_refused(
    lasting_world: World, server: Running, host: str, said: str
) -> None:
    """By its SPIFFE ID, and by its host name."""
    lasting_world.open("mail", "mosquitto", server.port, host=host, parameters=PARAMETERS)
    with pytest.raises(ChannelUnavailable, match=said):
        async with mosquitto.client("mail", open_seconds=60):
            pass


async def test_a_broker_that_is_not_there_is_an_error_with_its_cause(lasting_world: World) -> None:
    lasting_world.open("absent", "mosquitto", 1, parameters=PARAMETERS)
    with pytest.raises(ChannelUnavailable, match=r"absent cannot be opened: .*refused"):
        async with mosquitto.client("absent", open_seconds=0.2):
            pass


async def test_where_the_proxy_speaks_mtls_we_speak_in_the_clear(
    lasting_world: World, server: Running
) -> None:
    async def connect() -> Streams:
        return await asyncio.open_connection("127.0.0.1", server.port, ssl=tls_context("field"))

    async with originating(connect) as port:
        lasting_world.open("clear", "mosquitto", port, originate=True, parameters=PARAMETERS)
        assert await echo("clear") == b"hello"
