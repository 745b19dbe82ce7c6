"""NATS through the SDK, on a real server: held to TLS, and nothing lost over rotations."""

import asyncio
import hashlib
import json
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error, SecureConnRequiredError

import watertight
from tests.identity.serving.polling import eventually, eventually_async
from tests.sdk.load import rotate_everything
from tests.sdk.process import Running
from tests.sdk.relays import Streams, originating, stripping
from tests.sdk.servers import nats as running_nats
from tests.sdk.servers import nats_certificates, nats_program
from tests.sdk.world import World
from watertight.identity.svid import DER
from watertight.sdk import ChannelUnavailable, nats, tls_context
from watertight.sdk.peer import WrongServer

PROGRAM = nats_program()
NEW_PROGRAM = shutil.which("nats-server", path=str(Path(sys.executable).parent))
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(PROGRAM is None, reason="needs nats-server"),
]
GREETING = b'INFO {"server_id":"x","version":"2.10.0","max_payload":1048576}\r\n'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(lasting_world: World) -> AsyncIterator[Running]:
    """A running server, declared as ``events``, with the stream ORDERS."""
    assert PROGRAM is not None
    async with running_nats(lasting_world, PROGRAM) as running:
        async with nats.client("events") as client:
            await client.jetstream().add_stream(name="ORDERS", subjects=["orders.placed"])
        yield running


def certificate(world: World) -> str:
    """The SHA-256 of our certificate now."""
    svid = world.keeper.x509_svid("orders")
    assert svid is not None
    return hashlib.sha256(svid.leaf.public_bytes(DER)).hexdigest()


async def test_a_channel_is_opened(lasting_world: World, server: Running) -> None:
    """Publish, subscribe, request and JetStream; replies come to this service's own inboxes."""
    inboxes = []

    async def answer(message: Msg) -> None:
        inboxes.append(message.reply)
        await message.respond(b"pong")

    async with watertight.channel("events", driver="nats-py") as client:
        assert await nats_certificates(server) == {certificate(lasting_world)}
        await client.subscribe("orders.ping", cb=answer)
        assert (await client.request("orders.ping", b"ping")).data == b"pong"
        assert inboxes[0].startswith("_INBOX_orders.")
        acknowledged = await client.jetstream().publish("orders.placed", b"1")
        assert acknowledged.stream == "ORDERS"
    assert client.is_closed


async def test_what_was_published_last_is_sent_before_the_end(
    lasting_world: World, server: Running
) -> None:
    async with nats.client("events") as listener:
        heard = await listener.subscribe("orders.last")
        await listener.flush()
        async with nats.client("events") as client:
            for number in range(500):
                await client.publish("orders.last", str(number).encode())
        numbers = [int((await heard.next_msg(timeout=5)).data) for _ in range(500)]
    assert numbers == list(range(500))


async def test_rotation_under_load_loses_nothing(lasting_world: World, server: Running) -> None:
    """Leaf, issuer and root, of both ends: every message arrives, and nobody reconnects."""
    heard: list[str] = []
    sent: list[str] = []

    async def hear(message: Msg) -> None:
        heard.append(message.data.decode())

    async def reload() -> None:
        server.signal(signal.SIGHUP)

    async with nats.client("events") as client:
        await client.subscribe("orders.placed", cb=hear)
        stream = client.jetstream()

        async def operation(worker: int) -> None:
            message = f"{worker}-{len(sent)}"
            sent.append(message)
            await stream.publish("orders.placed", message.encode())

        done = await rotate_everything(lasting_world, "events", reload, operation)
        assert done > 900
        await client.flush()
        await eventually(lambda: len(heard) >= len(sent))
        assert sorted(heard) == sorted(sent)
        assert client.stats["reconnects"] == 0
        async with nats.client("events"):  # a newcomer has the newest SVID
            assert certificate(lasting_world) in await nats_certificates(server)


async def test_a_reconnect_uses_the_newest_svid(lasting_world: World, server: Running) -> None:
    """The server restarts; what JetStream holds and who subscribed outlive it."""
    async with nats.client("events") as client:
        heard = await client.subscribe("orders.after")
        before = await nats_certificates(server)
        await lasting_world.rotate("orders")
        assert await nats_certificates(server) == before != {certificate(lasting_world)}
        await server.stop()
        await client.publish("orders.after", b"while it was away")
        await server.start()
        await eventually(lambda: client.is_connected)
        assert await nats_certificates(server) == {certificate(lasting_world)}
        assert (await heard.next_msg(timeout=10)).data == b"while it was away"
        assert client.stats["reconnects"] == 1


async def test_a_server_that_says_it_has_no_tls_learns_nothing(lasting_world: World) -> None:
    async with stripping(GREETING, b"PONG\r\n") as (port, seen):
        lasting_world.open("stripped", "nats", port, host="events")
        with pytest.raises(ChannelUnavailable, match="secure connection required") as caught:
            async with nats.client("stripped", open_seconds=0.3):
                pass
    assert isinstance(caught.value.__cause__, SecureConnRequiredError)
    assert seen == b""


async def test_the_same_server_talks_a_stock_client_out_of_tls(lasting_world: World) -> None:
    """The sabotage: without our client the test above has something to see."""
    async with stripping(GREETING, b"PONG\r\n") as (port, seen):
        lasting_world.open("events", "nats", port)
        stock = Client()
        await stock.connect(f"tls://127.0.0.1:{port}", tls=tls_context("events"))
        await stock.publish("orders.placed", b"secret")
        with suppress(Error):
            await stock.flush(1)
        await stock.close()
    assert b"CONNECT" in seen
    assert b"secret" in seen


async def test_nothing_leaks_where_a_reconnect_meets_another(world: World) -> None:
    """The server dies, and somebody without TLS takes its port: what waits is not sent there."""
    assert PROGRAM is not None
    async with running_nats(world, PROGRAM) as server, nats.client("events") as client:
        heard = await client.subscribe("orders.secret")
        await client.flush()
        await server.stop()
        seen, met, left = bytearray(), asyncio.Event(), asyncio.Event()

        async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(GREETING)
            met.set()
            while data := await reader.read(4096):
                seen.extend(data)
                writer.write(b"PONG\r\n")
            left.set()
            writer.close()

        async with await asyncio.start_server(impostor, "127.0.0.1", server.port):
            await client.publish("orders.secret", b"secret")
            for _ in range(2):
                met.clear()
                await met.wait()
            await left.wait()
        assert seen == b""
        await server.start()
        assert (await heard.next_msg(timeout=10)).data == b"secret"


async def test_another_server_is_refused_by_its_spiffe_id(
    lasting_world: World, server: Running
) -> None:
    lasting_world.open("audit", "nats", server.port, host="events")
    with pytest.raises(ChannelUnavailable, match=r"is spiffe://shop\.internal/events") as caught:
        async with nats.client("audit", open_seconds=60):
            pass
    assert isinstance(caught.value.__cause__, WrongServer)


async def test_another_server_is_refused_by_its_host_name(
    lasting_world: World, server: Running
) -> None:
    lasting_world.open("audit", "nats", server.port)
    with pytest.raises(ChannelUnavailable, match="not valid for 'audit'"):
        async with nats.client("audit", open_seconds=60):
            pass


async def test_a_service_that_the_server_does_not_know_is_told_so(
    lasting_world: World, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = lasting_world.credentials("billing")
    monkeypatch.setattr(World, "credentials", lambda self, name: other)
    lasting_world.open("events", "nats", server.port)
    with pytest.raises(ChannelUnavailable, match="Authorization Violation"):
        async with nats.client("events", open_seconds=0.3):
            pass
    monkeypatch.undo()


async def test_a_server_that_is_not_there_is_an_error_with_its_cause(lasting_world: World) -> None:
    lasting_world.open("absent", "nats", 1)
    with pytest.raises(ChannelUnavailable, match=r"absent cannot be opened: .*Connect call failed"):
        async with nats.client("absent", open_seconds=0.2):
            pass


async def test_what_is_not_permitted_reaches_the_callback(
    lasting_world: World, server: Running
) -> None:
    said: list[Exception] = []

    async def hear(error: Exception) -> None:
        said.append(error)

    lasting_world.open("events", "nats", server.port)
    async with nats.client("events", error_cb=hear) as client:
        await client.subscribe("billing.>")
        await client.flush()
        await eventually(lambda: bool(said))
    assert "permissions violation" in str(said[0])


async def test_an_error_in_the_block_closes_the_client(
    lasting_world: World, server: Running
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with nats.client("events") as client:
            raise ZeroDivisionError
    assert client.is_closed


async def test_servers_that_a_greeting_names_are_not_tried(
    lasting_world: World, server: Running
) -> None:
    async def greeted() -> Streams:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        verb, _, info = (await reader.readline()).partition(b" ")
        announced: dict[str, Any] = json.loads(info) | {"connect_urls": ["127.0.0.1:1"]}
        relayed = asyncio.StreamReader()
        relayed.feed_data(verb + b" " + json.dumps(announced).encode() + b"\r\n")

        async def pump() -> None:
            while data := await reader.read(65536):
                relayed.feed_data(data)
            relayed.feed_eof()

        pumps.append(asyncio.ensure_future(pump()))
        return relayed, writer

    pumps: list[asyncio.Future[None]] = []
    async with originating(greeted) as port:
        lasting_world.open("events", "nats", port)
        async with nats.client("events") as client:
            assert [url.netloc for url in client.servers] == [f"127.0.0.1:{port}"]
    for pumping in pumps:
        pumping.cancel()
    lasting_world.open("events", "nats", server.port)


@pytest.mark.skipif(NEW_PROGRAM is None, reason="needs nats-server 2.10 or newer")
async def test_where_the_server_can_the_handshake_comes_first(world: World) -> None:
    """Nothing is said in the clear; and with it the service's proxy can speak mTLS for us."""
    assert NEW_PROGRAM is not None
    async with running_nats(world, NEW_PROGRAM, handshake_first=True) as server:
        async with nats.client("events") as client:
            await client.flush()

        async def connect() -> Streams:
            return await asyncio.open_connection(
                "127.0.0.1", server.port, ssl=tls_context("events")
            )

        async with originating(connect) as port:
            world.open("clear", "nats", port, originate=True)
            async with nats.client("clear", inbox_prefix="_INBOX_orders") as client:
                heard = await client.subscribe("orders.clear")
                await client.publish("orders.clear", b"hello")
                assert (await heard.next_msg(timeout=5)).data == b"hello"

                async def ours() -> bool:
                    return await nats_certificates(server) == {certificate(world)}

                await eventually_async(ours)
