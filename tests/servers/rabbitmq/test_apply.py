"""A real broker becomes what is declared, stays it, and says what it is not."""

import asyncio
from collections.abc import AsyncIterator

import aio_pika
import pytest
import pytest_asyncio

from tests.rig import Rig, running_server
from tests.servers.rabbitmq.clients import connected
from tests.servers.rabbitmq.shop import SHOP
from watertight.servers.rabbitmq.control import control, evaluate
from watertight.servers.rabbitmq.server import RabbitMQ

pytestmark = pytest.mark.asyncio(loop_scope="module")

ORDERS = "spiffe://shop.internal/orders"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with running_server(RabbitMQ(), SHOP) as running:
        yield running


async def drift(rig: Rig) -> list[str]:
    return list(await rig.enforcer.drift(rig.plan, rig.host))


async def apply(rig: Rig) -> tuple[str, ...]:
    return (await rig.enforcer.apply(rig.plan, rig.host)).changed


async def test_its_syslog_library_has_no_socket(rig: Rig) -> None:
    """It opens one for UDP on all addresses at each start, unless told of another transport."""
    device = "element(2, sys:get_state(syslog_logger))"
    assert await evaluate(rig.host, "application:ensure_all_started(syslog)", device) == (
        "standard_error"
    )


async def test_what_is_declared_works(rig: Rig) -> None:
    """From a publisher through an exchange to a reader, and to one queue alone."""
    async with connected(rig, "orders") as orders, connected(rig, "billing") as billing:
        ours = await orders.channel()
        exchange = await ours.get_exchange("events", ensure=False)
        await exchange.publish(aio_pika.Message(b"7"), "orders.placed")
        theirs = await billing.channel()
        queue = await theirs.get_queue("invoices", ensure=False)
        async with asyncio.timeout(60):
            message = await queue.get(timeout=60)
        assert message.body == b"7"
        await message.ack()
        to_parcels = await ours.get_exchange("to.parcels", ensure=False)
        await to_parcels.publish(aio_pika.Message(b"8"), "parcels")
    async with connected(rig, "packer") as packer:
        channel = await packer.channel()
        queue = await channel.get_queue("parcels", ensure=False)
        message = await queue.get(timeout=10)
        assert message.body == b"8"
        await message.ack()


async def test_a_queue_with_messages_is_never_deleted(rig: Rig) -> None:
    name = 'rabbit_misc:r(<<"jobs">>, queue, <<"full">>)'
    declare = f'rabbit_amqqueue:declare({name}, true, false, [], none, <<"x">>)'
    await evaluate(rig.host, declare, "ok")
    await control(rig.host, "set_permissions", "-p", "jobs", ORDERS, "^$", ".*", "^$")
    async with connected(rig, "orders") as orders:
        channel = await orders.channel()
        await channel.default_exchange.publish(aio_pika.Message(b"kept"), "full")
    await apply(rig)
    assert await drift(rig) == ["queue jobs full is not declared"]
    await evaluate(
        rig.host, f"rabbit_amqqueue:with({name}, fun(Q) -> rabbit_amqqueue:purge(Q) end)"
    )
    await apply(rig)
    assert await drift(rig) == []


async def test_a_broker_that_started_again_is_waited_for_and_kept_what_was_declared(
    rig: Rig,
) -> None:
    await rig.host.stop()
    assert await drift(rig) == ["the server does not run"]
    await rig.host.start()  # its port accepts before it answers its own command
    assert await apply(rig) == ()
