"""RabbitMQ through the SDK, on a real broker: logged in by certificate, nothing lost."""

import asyncio
import shutil
from collections.abc import AsyncIterator

import aio_pika
import pytest
import pytest_asyncio
from aio_pika.abc import AbstractIncomingMessage

import watertight
from tests.identity.serving.polling import eventually
from tests.sdk.load import rotate_everything
from tests.sdk.process import Running
from tests.sdk.relays import Streams, originating, stripping
from tests.sdk.servers import RABBITMQ
from tests.sdk.servers import rabbitmq as running_rabbitmq
from tests.sdk.world import World
from watertight.sdk import ChannelUnavailable, rabbitmq, tls_context
from watertight.sdk.peer import WrongServer

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(
        shutil.which("rabbitmq-server", path=str(RABBITMQ)) is None, reason="needs RabbitMQ"
    ),
]
PARAMETERS = {"virtual_host": "shop"}
RECORD = b"\x16\x03"
"""How a TLS handshake begins; AMQP begins with its name."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(lasting_world: World) -> AsyncIterator[Running]:
    """A running broker, declared as ``jobs``."""
    async with running_rabbitmq(lasting_world) as running:
        yield running


async def echo(name: str = "jobs") -> bytes:
    """One message there and back over a connection of its own."""
    async with rabbitmq.connection(name, open_seconds=2) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await channel.default_exchange.publish(aio_pika.Message(b"hello"), queue.name)
        message = await queue.get(timeout=5)
        await message.ack()
        return message.body


async def test_a_channel_is_opened(lasting_world: World, server: Running) -> None:
    async with watertight.channel("jobs", driver="aio-pika") as connection:
        channel = await connection.channel()
        await channel.declare_queue("work", exclusive=True)
    assert connection.is_closed
    assert await echo() == b"hello"


async def test_rotation_under_load_loses_nothing(lasting_world: World, server: Running) -> None:
    """Leaf, issuer and root, of both ends: each message arrives once, and nobody reconnects."""
    heard: list[str] = []
    sent: list[str] = []
    reconnects = 0

    async def hear(message: AbstractIncomingMessage) -> None:
        async with message.process():
            heard.append(message.body.decode())

    async with rabbitmq.connection("jobs") as connection:

        def count(*_: object) -> None:
            nonlocal reconnects
            reconnects += 1

        connection.reconnect_callbacks.add(count)
        channel = await connection.channel()
        queue = await channel.declare_queue("orders")
        await queue.consume(hear)

        async def operation(worker: int) -> None:
            if worker == 0:
                assert await echo() == b"hello"  # a new connection each time
                return
            body = f"{worker}-{len(sent)}"
            sent.append(body)
            # Confirmed by the broker before it returns.
            await channel.default_exchange.publish(aio_pika.Message(body.encode()), "orders")

        async def reload() -> None:
            await server.run(str(RABBITMQ / "rabbitmqctl"), "eval", "ssl:clear_pem_cache().")

        assert await rotate_everything(lasting_world, "jobs", reload, operation) > 900
        await eventually(lambda: len(heard) >= len(sent))
    assert sorted(heard) == sorted(sent)
    assert reconnects == 0


async def test_a_restarted_broker_is_found_again_with_the_newest_svid(
    lasting_world: World, server: Running
) -> None:
    """Channels, queues and consumers are restored; the old SVID's authority is trusted no more."""
    heard: list[bytes] = []

    async def hear(message: AbstractIncomingMessage) -> None:
        async with message.process():
            heard.append(message.body)

    async with rabbitmq.connection("jobs") as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("restored", durable=True)
        await queue.consume(hear)
        await lasting_world.rotate("orders", "jobs")
        await server.stop()
        await server.start()
        await connection.ready()
        await channel.ready()
        await channel.default_exchange.publish(aio_pika.Message(b"after"), "restored")
        await eventually(lambda: heard == [b"after"])


async def test_a_server_without_tls_learns_nothing(lasting_world: World) -> None:
    async with stripping(b"", b"AMQP\x00\x00\x09\x01") as (port, seen):
        lasting_world.open("stripped", "rabbitmq", port, host="jobs", parameters=PARAMETERS)
        with pytest.raises(ChannelUnavailable, match="SSL"):
            async with rabbitmq.connection("stripped", open_seconds=0.1):
                pass
    assert seen.startswith(RECORD)
    assert b"AMQP" not in seen


async def test_another_server_is_refused_by_its_spiffe_id(
    lasting_world: World, server: Running
) -> None:
    lasting_world.open("mail", "rabbitmq", server.port, host="jobs", parameters=PARAMETERS)
    with pytest.raises(ChannelUnavailable, match=r"is spiffe://shop\.internal/jobs") as caught:
        async with rabbitmq.connection("mail", open_seconds=60):
            pass
    cause = caught.value.__cause__
    assert cause is not None
    assert isinstance(cause.__cause__, WrongServer)


async def test_another_server_is_refused_by_its_host_name(
    lasting_world: World, server: Running
) -> None:
    lasting_world.open("mail", "rabbitmq", server.port, parameters=PARAMETERS)
    with pytest.raises(ChannelUnavailable, match="not valid for 'mail'"):
        async with rabbitmq.connection("mail", open_seconds=60):
            pass


async def test_a_service_that_the_broker_does_not_know_is_told_so(
    lasting_world: World, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = lasting_world.credentials("billing")
    with monkeypatch.context() as patch:
        patch.setattr(World, "credentials", lambda self, name: other)
        lasting_world.write()
    with pytest.raises(ChannelUnavailable, match="ACCESS_REFUSED"):
        async with rabbitmq.connection("jobs", open_seconds=0.5):
            pass
    lasting_world.write()


async def test_a_broker_that_is_not_there_is_an_error_with_its_cause(lasting_world: World) -> None:
    lasting_world.open("absent", "rabbitmq", 1, parameters=PARAMETERS)
    with pytest.raises(ChannelUnavailable, match=r"absent cannot be opened: .*Connect call failed"):
        async with rabbitmq.connection("absent", open_seconds=0.2):
            pass


async def test_where_the_proxy_speaks_mtls_we_speak_in_the_clear(
    lasting_world: World, server: Running
) -> None:
    async def connect() -> Streams:
        return await asyncio.open_connection("127.0.0.1", server.port, ssl=tls_context("jobs"))

    async with originating(connect) as port:
        lasting_world.open("clear", "rabbitmq", port, originate=True, parameters=PARAMETERS)
        assert await echo("clear") == b"hello"
