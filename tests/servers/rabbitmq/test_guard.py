"""What RabbitMQ's permissions cannot hold, held on a real broker; and what it runs with, known."""

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import aio_pika
import pytest
import pytest_asyncio
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import AMQPError, DeliveryError
from aiormq.exceptions import ChannelAccessRefused

from tests.identity.serving.polling import eventually, eventually_async
from tests.rig import Rig, running_server
from tests.servers.rabbitmq.clients import connected, sends_and_dies
from tests.servers.rabbitmq.floods import logged_in
from tests.servers.rabbitmq.sabotages import UNGUARDED
from tests.servers.rabbitmq.shop import SHOP
from watertight.servers.rabbitmq.attacks import frames
from watertight.servers.rabbitmq.compile import CONFIGURATION, ENVIRONMENT, LIMITS, PLUGINS
from watertight.servers.rabbitmq.control import control, evaluate
from watertight.servers.rabbitmq.erlang import binary
from watertight.servers.rabbitmq.guard import SOURCE
from watertight.servers.rabbitmq.locate import COOKIE
from watertight.servers.rabbitmq.server import RabbitMQ

pytestmark = pytest.mark.asyncio(loop_scope="module")

REACHES = {
    "orders": {"invoices", "parcels"},
    "billing": {"parcels"},
    "packer": set(),
    "lobby": set(),
    "clerk": set(),
}
"""Service → whose grants explain a message of its in which of the queues that anybody reads."""
READERS = {"invoices": "clerk", "parcels": "packer"}
KEYS = ("orders.placed", "orders.x.eu", "billing.paid", "invoices", "parcels", "audit")
EXCHANGES = ("", "events", "desk", "news", "to.parcels", "amq.topic", "amq.direct")

MOST_CONSUMERS = 1_000
LINES_BYTES = 4_000
"""What a broker writes of a connection, and of one refusal; a crash report is longer."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with running_server(RabbitMQ(), SHOP) as running:
        yield running


async def drift(rig: Rig) -> list[str]:
    return list(await rig.enforcer.drift(rig.plan, rig.host))


async def apply(rig: Rig) -> tuple[str, ...]:
    return (await rig.enforcer.apply(rig.plan, rig.host)).changed


async def sends_everywhere(rig: Rig, service: str) -> None:
    """By every exchange, with every key, and every other key in each header that routes."""
    async with connected(rig, service) as connection:
        channel = await connection.channel()
        for exchange in EXCHANGES:
            for key in KEYS:
                for header in ("", "CC", "BCC"):
                    message = aio_pika.Message(
                        service.encode(), headers={header: [*KEYS]} if header else {}
                    )
                    if channel.is_closed:
                        channel = await connection.channel()
                    try:
                        await publish(channel, exchange, key, message)
                    except (AMQPError, DeliveryError):
                        continue


async def publish(
    channel: AbstractChannel, exchange: str, key: str, message: aio_pika.Message
) -> None:
    there = (
        await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
    )
    await there.publish(message, key, mandatory=False)


async def received(rig: Rig, service: str, queue: str) -> set[str]:
    """From whom the messages are that the witness finds in its queue; it is empty afterwards."""
    found = set()
    async with connected(rig, service) as connection:
        channel = await connection.channel()
        there = await channel.get_queue(queue, ensure=False)
        while message := await there.get(no_ack=True, fail=False):
            found.add(message.body.decode())
    return found


async def told(rig: Rig) -> dict[str, set[str]]:
    """Queue → from whom something was in it, after each service has sent everywhere."""
    for service in REACHES:
        await sends_everywhere(rig, service)
    return {queue: await received(rig, reader, queue) for queue, reader in READERS.items()}


async def test_no_service_reaches_another_past_its_grants(rig: Rig) -> None:
    """Each tries every route, and readers are the witnesses: both ways, so they can see."""
    explained = {
        queue: {service for service, reached in REACHES.items() if queue in reached}
        for queue in READERS
    }
    assert await told(rig) == explained
    await control(rig.host, *UNGUARDED[0])
    assert "billing" in (await told(rig))["invoices"]
    assert "started" in await apply(rig)
    assert await told(rig) == explained


Tried = Callable[[AbstractChannel], Awaitable[object]]


async def _queue(channel: AbstractChannel, name: str) -> AbstractQueue:
    return await channel.get_queue(name, ensure=False)


async def _ignore(_: AbstractIncomingMessage) -> None:
    """A reader who acknowledges nothing."""


async def _purge(channel: AbstractChannel) -> object:
    return await (await _queue(channel, "parcels")).purge()


async def _alone(channel: AbstractChannel) -> object:
    return await (await _queue(channel, "parcels")).consume(_ignore, exclusive=True)


async def _first(channel: AbstractChannel) -> object:
    queue = await _queue(channel, "parcels")
    return await queue.consume(_ignore, arguments={"x-priority": 1})


async def _ask(channel: AbstractChannel) -> object:
    return await channel.declare_queue("invoices", passive=True)


async def _ask_for_none(channel: AbstractChannel) -> object:
    return await channel.declare_queue("nothing", passive=True)


async def _ask_exchange(channel: AbstractChannel) -> object:
    return await channel.declare_exchange("events", passive=True)


@pytest.mark.parametrize("tried", [_purge, _alone, _first, _ask, _ask_for_none, _ask_exchange])
async def test_what_a_reader_may_not(rig: Rig, tried: Tried) -> None:
    async with connected(rig, "packer") as packer:
        with pytest.raises(ChannelAccessRefused, match=r"granted|beside"):
            await tried(await packer.channel())


async def test_what_a_reader_may(rig: Rig) -> None:
    """Two at once, one behind the other; and asking how full its own queue is."""
    async with connected(rig, "packer") as packer:
        channel = await packer.channel()
        own = await channel.declare_queue("parcels", passive=True)
        await own.consume(_ignore, arguments={"x-priority": -5})
        await (await _queue(await packer.channel(), "parcels")).consume(_ignore)
    async with connected(rig, "orders") as orders:
        channel = await orders.channel()
        await channel.declare_exchange("events", passive=True)


async def test_a_service_has_so_many_connections_and_channels_and_no_more(rig: Rig) -> None:
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(connected(rig, "lobby")) for _ in range(24)]
        with pytest.raises(AMQPError):
            await stack.enter_async_context(connected(rig, "lobby"))
        async with connected(rig, "packer") as packer:  # nobody else is kept out
            await packer.channel()
        for _ in range(30):
            await opened[0].channel()
        with pytest.raises(AMQPError):
            await opened[1].channel()


def consumer(tag: str, table: bytes = frames.EMPTY_TABLE) -> bytes:
    asked = b"\x00\x00" + frames.short("parcels") + frames.short(tag) + b"\x00" + table
    return frames.method(1, (60, 20), asked)


async def number_of_consumers(rig: Rig) -> int:
    return int(await evaluate(rig.host, "ets:info(consumer_created, size)"))


async def test_a_service_has_so_many_consumers_and_no_more(rig: Rig) -> None:
    """Over all its channels; who is refused has them back, and nobody else is kept out."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(logged_in(rig, "packer")) for _ in range(3)]
        for client in clients[:2]:
            await client.send(b"".join(consumer(f"{n:0200}") for n in range(MOST_CONSUMERS // 2)))

        async def full() -> bool:
            return await number_of_consumers(rig) == MOST_CONSUMERS

        await eventually_async(full)
        await clients[2].send(consumer("one more"))
        assert "at most 1000 consumers" in await clients[2].refusal()
        assert await number_of_consumers(rig) == MOST_CONSUMERS
        async with connected(rig, "billing") as billing:
            await (await _queue(await billing.channel(), "invoices")).consume(_ignore)

    async def none() -> bool:
        return await number_of_consumers(rig) == 0

    await eventually_async(none)
    await test_what_a_reader_may(rig)


async def test_a_consumer_keeps_no_long_arguments_in_memory(rig: Rig) -> None:
    async with logged_in(rig, "packer") as client:
        await client.send(consumer("long", frames.table(note="x" * 5_000)))
        assert "at most 4096 bytes" in await client.refusal()


MALFORMED = {
    "a string beyond its table": (1 << 13, frames.long(b"\x01aS\xff\xff\xff\xff")),
    "a kind that there is none of": (1 << 13, frames.long(b"\x01a\x00\x00")),
    "flags that go on for ever": (0xFFFF, b""),
    "nothing where a number must be": (1 << 11, b""),
}


@pytest.mark.parametrize("what", MALFORMED)
@pytest.mark.parametrize("service", ["orders", "lobby"])
async def test_what_cannot_be_read_is_refused_in_a_line(rig: Rig, what: str, service: str) -> None:
    flags, properties = MALFORMED[what]
    names = b"\x00\x00" + frames.short("to.parcels") + frames.short("parcels") + b"\x00"
    content = struct.pack(">HHQH", 60, 0, 0, flags) + properties
    log = rig.host._log
    before = log.stat().st_size
    async with logged_in(rig, service) as client:
        await client.send(frames.method(1, (60, 40), names) + frames.frame(2, 1, content))
        assert "cannot be read" in await client.refusal()
    said = log.read_bytes()[before:]
    assert b"crash" not in said.lower()
    assert len(said) < LINES_BYTES


async def publish_until_refused(channel: AbstractChannel) -> None:
    async with asyncio.timeout(20):
        while True:
            await publish(channel, "to.parcels", "parcels", aio_pika.Message(b"too much"))


async def test_a_full_queue_refuses_and_keeps_what_it_holds(rig: Rig) -> None:
    small = '{"max-length-bytes": 10, "overflow": "reject-publish"}'
    await control(rig.host, "set_policy", "-p", "jobs", LIMITS, ".*", small)
    async with connected(rig, "orders") as orders:
        channel = await orders.channel()
        await publish(channel, "to.parcels", "parcels", aio_pika.Message(b"kept"))
        with pytest.raises(DeliveryError):
            await publish_until_refused(channel)
    (line,) = await apply(rig)
    assert line.startswith(f"policy jobs {LIMITS}: ")
    assert "definition is" in line
    assert "kept" in await received(rig, "packer", "parcels")


@pytest.mark.timeout(300)
async def test_who_ends_without_a_word_is_forgotten_and_what_it_was_told_is_kept_is(
    rig: Rig,
) -> None:
    """Its connections count; a client that wants no heartbeats would fill them up by dying."""
    sent = [str(number).encode() for number in range(500)]
    await asyncio.to_thread(sends_and_dies, rig, "orders", "to.parcels", "parcels", sent)
    user = binary("spiffe://shop.internal/orders")

    async def forgotten() -> bool:
        return (
            await evaluate(rig.host, f"length(rabbit_connection_tracking:list_of_user({user}))")
            == "0"
        )

    async with connected(rig, "packer") as packer:
        queue = await (await packer.channel()).get_queue("parcels", ensure=False)
        arrived: set[bytes] = set()

        async def keep(message: AbstractIncomingMessage) -> None:
            arrived.add(message.body)

        await queue.consume(keep, no_ack=True)
        await eventually(lambda: arrived >= set(sent))
    await eventually_async(forgotten)


async def restarted(rig: Rig) -> None:
    """By hand, with whatever files there are."""
    await rig.host.stop()
    await rig.host.start()
    await control(rig.host, "await_startup")


async def in_force(rig: Rig) -> str:
    """Settings that the tests below change by hand."""
    return await evaluate(
        rig.host,
        "{application:get_env(rabbit, reverse_dns_lookups), application:get_env(rabbit, heartbeat),"
        " lists:sort(rabbit_plugins:active()), vm_memory_monitor:get_vm_memory_high_watermark()}",
    )


async def test_what_it_was_started_with_by_hand_is_taken_back(rig: Rig) -> None:
    """Also if the files have been put back since: then only the broker itself knows.

    And a system that was made before there was a guard loses no message when it gets one.
    """
    right, directory = await in_force(rig), rig.host.placement.server_directory(rig.resource)
    unguarded = {name: text for name, text in rig.plan.files.items() if "guard" not in name}
    changed = {
        **unguarded,
        PLUGINS: "[rabbitmq_auth_mechanism_ssl, rabbitmq_consistent_hash_exchange].\n",
        "advanced.config": "[{rabbit, [{reverse_dns_lookups, true}]}].\n",
        CONFIGURATION: rig.plan.files[CONFIGURATION] + "heartbeat = 7\n",
        ENVIRONMENT: "CONFIG_FILE_DUMMY=1\n",
    }
    await rig.host.write(changed)
    await restarted(rig)
    assert await in_force(rig) != right
    async with connected(rig, "orders") as orders:
        channel = await orders.channel()
        for body in (b"1", b"2"):
            message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await publish(channel, "to.parcels", "parcels", message)
    found = await drift(rig)
    assert "advanced.config was added by hand" in found
    for name in (PLUGINS, CONFIGURATION, ENVIRONMENT, SOURCE):
        assert f"{name} was changed by hand" in found
    for name in set(changed) - set(rig.plan.files):
        (directory / name).unlink()
    for name, text in rig.plan.files.items():
        (directory / name).write_text(text)
    found = await drift(rig)
    assert len(found) == 1, found
    line = found[0]
    assert line.startswith("the broker runs with other settings than its files say: ")
    assert {"rabbit", "plugins", "interceptors"} <= set(line.partition(": ")[2].split(", "))
    assert {line, "started"} <= set(await apply(rig))
    assert await drift(rig) == []
    assert await in_force(rig) == right
    assert await received(rig, "packer", "parcels") >= {"1", "2"}


BY_HAND = {
    "advanced.config": "[{rabbit, [{auth_mechanisms, ['EXTERNAL', 'PLAIN']}]}].\n",
    PLUGINS: "[rabbitmq_auth_mechanism_ssl].\n",
    ENVIRONMENT: "SERVER_ADDITIONAL_ERL_ARGS=-noshell\n",
    SOURCE: "-module(watertight_guard).\n",
    "conf.d": "",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("again", [False, True], ids=["written", "started"])
async def test_a_file_that_is_changed_by_hand_is_never_in_force(
    rig: Rig, name: str, *, again: bool
) -> None:
    path = rig.host.placement.server_directory(rig.resource) / name
    if BY_HAND[name]:
        path.write_text(BY_HAND[name])
    else:
        path.mkdir()
        (path / "10.conf").write_text("heartbeat = 7\n")
    if again:
        await restarted(rig)
    assert any(line.startswith(name) for line in await drift(rig))
    changed = await apply(rig)
    assert {name, "started"} <= set(changed)
    assert await drift(rig) == []
    assert await apply(rig) == ()


SETTINGS = {
    "setting": ("eval", "application:set_env(rabbit, auth_backends, [rabbit_auth_backend_dummy])."),
    "memory": ("set_vm_memory_high_watermark", "0.1"),
    "tracing": ("trace_on", "-p", "jobs"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
async def test_a_setting_that_is_changed_while_it_runs_is_taken_back(rig: Rig, name: str) -> None:
    await control(rig.host, *SETTINGS[name])
    assert any("other settings" in line for line in await drift(rig))
    assert "started" in await apply(rig)
    assert await drift(rig) == []


async def test_a_cookie_that_is_written_by_hand_is_never_in_force(rig: Rig) -> None:
    cookie = rig.host.placement.server_data(rig.resource) / COOKIE
    owner = cookie.stat()
    cookie.unlink()
    cookie.write_text("GUESSED")
    cookie.chmod(0o400)
    os.chown(cookie, owner.st_uid, owner.st_gid)
    assert await drift(rig) == ["the broker's cookie was changed by hand"]
    assert {"the broker's cookie was changed by hand", "started"} <= set(await apply(rig))
    assert cookie.read_text() != "GUESSED"
    assert await drift(rig) == []
