"""Whatever one service does, the broker stays within its budget of memory, and others go on."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import aio_pika
import pytest
import pytest_asyncio
from aiormq.exceptions import ChannelAccessRefused

from tests.identity.serving.polling import eventually_async
from tests.rig import Rig, running_server
from tests.servers.rabbitmq.clients import connected, identity
from tests.servers.rabbitmq.floods import (
    CONFIRMED,
    MIB,
    TRANSACTION,
    channels,
    consume,
    get,
    logged_in,
    many,
    message,
)
from watertight.model.load import load_text
from watertight.servers.rabbitmq.control import evaluate
from watertight.servers.rabbitmq.erlang import binary
from watertight.servers.rabbitmq.server import RabbitMQ

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

BUDGET_MIB = 512
CALM_SECONDS = 60
"""Within which others publish again. It takes some two seconds where nothing else runs."""
SMALL = f"""
trust_domain: shop.internal
services: {{orders: {{}}, packer: {{}}, billing: {{}}, clerk: {{}}}}
resources:
  jobs:
    kind: rabbitmq
    port: {{port}}
    queues: [parcels, letters]
    limits: {{memory: {BUDGET_MIB}MiB}}
channels:
  - {{from: orders, to: jobs, send: [parcels], consume: [parcels]}}
  - {{from: packer, to: jobs, consume: [parcels]}}
  - {{from: billing, to: jobs, send: [letters]}}
  - {{from: clerk, to: jobs, consume: [letters]}}
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with running_server(RabbitMQ(), SMALL) as running:
        yield running


def processes(rig: Rig) -> Iterator[Path]:
    """Of the broker, each as proc(5) shows it."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (
                str(rig.host.placement.server_data("jobs")).encode()
                in (entry / "environ").read_bytes()
            ):
                yield entry


def most_mib(rig: Rig) -> int:
    """The most memory that the broker has held since it was :func:`forgiven`."""
    found = 0
    for process in processes(rig):
        with contextlib.suppress(OSError):
            (kib,) = re.findall(r"VmHWM:\s+(\d+)", (process / "status").read_text())
            found = max(found, int(kib) >> 10)
    return found


async def forgiven(rig: Rig) -> None:
    """As if what went before were long ago: each test floods anew."""
    forget = "fun(State) -> ets:delete_all_objects(watertight_memory), State end"
    await evaluate(rig.host, f"sys:replace_state(watertight_memory, {forget}), ok")
    for process in processes(rig):
        with contextlib.suppress(OSError):
            (process / "clear_refs").write_text("5")


async def waits(rig: Rig, service: str) -> int:
    """For how many seconds the service may do nothing."""
    user = binary(f"spiffe://shop.internal/{service}")
    return int(await evaluate(rig.host, f"watertight_memory:waits({user})"))


async def others_publish(rig: Rig) -> None:
    """Another service's message is confirmed, and read by a third."""
    async with connected(rig, "billing") as billing, connected(rig, "clerk") as clerk:
        exchange = await (await billing.channel()).get_exchange("to.letters", ensure=False)
        queue = await (await clerk.channel()).get_queue("letters", ensure=False)
        async with asyncio.timeout(CALM_SECONDS):
            await exchange.publish(aio_pika.Message(b"on we go"), "letters")
            assert (await queue.get(no_ack=True, timeout=CALM_SECONDS)).body == b"on we go"


async def fill(rig: Rig, size_bytes: int, number: int) -> None:
    """The queue holds so much afterwards, on disk."""
    async with connected(rig, "orders") as orders:
        exchange = await (await orders.channel()).get_exchange("to.parcels", ensure=False)
        for _ in range(number):
            await exchange.publish(aio_pika.Message(bytes(size_bytes)), "parcels")


async def empty(rig: Rig) -> None:
    await evaluate(
        rig.host,
        '{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"jobs">>, queue, <<"parcels">>)), '
        "rabbit_amqqueue:purge(Q)",
    )


@contextlib.asynccontextmanager
async def transactions(rig: Rig, connections: int) -> AsyncIterator[None]:
    """None ends. Each holds what it has published."""
    async with many(rig, "orders", connections, TRANSACTION) as clients:
        sending = [asyncio.ensure_future(c.publish("parcels", 15 * MIB, 99)) for c in clients]
        yield
        await ended(sending)


@contextlib.asynccontextmanager
async def unfinished(rig: Rig) -> AsyncIterator[None]:
    """On each channel a message whose last byte does not come."""
    async with logged_in(rig, "orders", channels(2, 100)) as client:

        async def send() -> None:
            for channel in range(1, 101):
                await client.send(message(channel, "parcels", 15 * MIB, whole=False))

        sending = asyncio.ensure_future(send())
        yield
        await ended([sending])


@contextlib.asynccontextmanager
async def unread_deliveries(rig: Rig) -> AsyncIterator[None]:
    """A reader without a prefetch, and without acknowledgements, that does not read its socket."""
    await fill(rig, 8 * MIB, 100)
    async with many(rig, "orders", 4) as clients:
        for client in clients:
            client.deaf()
            await client.send(channels(2, 30))
            for channel in range(1, 31):
                await client.send(consume(channel, "parcels"))
        yield


@contextlib.asynccontextmanager
async def unread_answers(rig: Rig) -> AsyncIterator[None]:
    """Asks for one message after the other, and reads none."""
    await fill(rig, 8 * MIB, 100)
    async with logged_in(rig, "orders") as client:
        client.deaf()
        await client.send(get(1, "parcels") * 100)
        yield


async def ended(sending: Sequence[asyncio.Future[None]]) -> None:
    for task in sending:
        task.cancel()
    await asyncio.gather(*sending, return_exceptions=True)


Flood = Callable[[Rig], contextlib.AbstractAsyncContextManager[None]]


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(lambda rig: transactions(rig, 1), id="transaction"),
        pytest.param(lambda rig: transactions(rig, 8), id="transactions"),
        pytest.param(unfinished, id="unfinished"),
        # These fill a queue first.
        pytest.param(unread_deliveries, id="unread-deliveries", marks=pytest.mark.slow),
        pytest.param(unread_answers, id="unread-answers", marks=pytest.mark.slow),
    ],
)
async def test_who_holds_the_brokers_memory_is_shown_out(rig: Rig, flood: Flood) -> None:
    """While he holds all that he can, and never lets go, others publish again within seconds."""
    await forgiven(rig)
    async with flood(rig):

        async def shown_out() -> bool:
            return await waits(rig, "orders") > 0

        await eventually_async(shown_out)
        await others_publish(rig)
        with pytest.raises(ChannelAccessRefused, match="it held the broker's memory"):
            await fill(rig, 1, 1)
    assert most_mib(rig) < BUDGET_MIB
    assert await waits(rig, "billing") == 0
    await empty(rig)


@pytest.mark.parametrize("whole", [True, False], ids=["transaction", "unfinished"])
async def test_who_took_the_memory_and_vanished_is_forgotten(rig: Rig, *, whole: bool) -> None:
    """A broker that does not read a connection does not see its end (rabbitmq-server, 384)."""
    await forgiven(rig)
    async with transactions(rig, 4) if whole else unfinished(rig):
        await eventually_async(lambda: alarmed(rig))
    await others_publish(rig)
    user = binary("spiffe://shop.internal/orders")

    async def nobody_left() -> bool:
        asked = f"length(rabbit_connection_tracking:list_of_user({user}))"
        return await evaluate(rig.host, asked) == "0"

    await eventually_async(nobody_left)
    assert most_mib(rig) < BUDGET_MIB


async def test_without_the_guard_whoever_vanishes_keeps_the_memory(rig: Rig) -> None:
    await forgiven(rig)
    await evaluate(rig.host, "sys:suspend(watertight_memory)")
    try:
        async with transactions(rig, 4):
            await eventually_async(lambda: alarmed(rig))
        assert await alarmed(rig)
        assert await waits(rig, "orders") == 0
    finally:
        await evaluate(rig.host, "sys:resume(watertight_memory)")
    await others_publish(rig)


async def alarmed(rig: Rig) -> bool:
    """Whether the broker makes publishers wait, or has shown somebody out for it since."""
    alarms = await evaluate(rig.host, "rabbit_alarm:get_alarms()")
    return alarms != "[]" or await waits(rig, "orders") > 0


@pytest.mark.slow
async def test_who_publishes_as_fast_as_it_can_goes_on_and_a_queue_holds_more_than_memory(
    rig: Rig,
) -> None:
    await forgiven(rig)
    async with many(rig, "orders", 8, CONFIRMED) as clients:
        hearing = [asyncio.ensure_future(client.hear()) for client in clients]
        each = BUDGET_MIB * 3 // 2 // len(clients)
        await asyncio.gather(*(client.publish("parcels", MIB, each) for client in clients))
        assert await waits(rig, "orders") == 0
        await eventually_async(lambda: holds(rig, each * len(clients)))
    await ended(hearing)
    assert most_mib(rig) < BUDGET_MIB
    await others_publish(rig)
    await empty(rig)


async def holds(rig: Rig, messages: int) -> bool:
    """Whether the queue has so many."""
    async with connected(rig, "packer") as packer:
        queue = await (await packer.channel()).declare_queue("parcels", passive=True)
        return queue.declaration_result.message_count == messages


async def test_as_many_connections_and_channels_as_a_service_may_have_fit(rig: Rig) -> None:
    """And as many that never log in as its door lets through."""
    await forgiven(rig)
    bounds = RabbitMQ().door_connections(rig.system, rig.system.resources["jobs"])
    assert bounds["orders"] == 100
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(50):
            await stack.enter_async_context(logged_in(rig, "orders", channels(2, 5)))
        for _ in range(50):
            await stack.enter_async_context(silent(rig))
        await others_publish(rig)
    assert most_mib(rig) < BUDGET_MIB


@contextlib.asynccontextmanager
async def silent(rig: Rig) -> AsyncIterator[None]:
    """TLS, and not a word."""
    _, writer = await asyncio.open_connection(
        "127.0.0.1", rig.host.port, ssl=identity(rig, "orders"), server_hostname=rig.resource
    )
    try:
        yield
    finally:
        writer.transport.abort()


async def test_another_budget_is_another_watermark(rig: Rig) -> None:
    more = load_text(
        SMALL.replace("{port}", str(rig.host.port)).replace(f"{BUDGET_MIB}MiB", "768MiB")
    )
    applied = await rig.enforcer.apply(rig.compile(more), rig.host)
    assert "started" in applied.changed
    asked = "vm_memory_monitor:get_memory_limit()"
    assert await evaluate(rig.host, asked) == str(768 * MIB * 2 // 5)
