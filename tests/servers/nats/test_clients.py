"""A declared service does with nats-py what its channel grants, and nothing else."""

import asyncio

import pytest
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NATSTimeoutError

from tests.rig import Rig
from tests.servers.nats.clients import Session, connected, flushed
from watertight.servers.nats.operator import operator

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEADLINE_SECONDS = 15.0


async def told(session: Session, part: str) -> str:
    """Waits until the server has told the client an error that holds ``part``."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            for error in session.errors:
                if part in error:
                    return error
            await asyncio.sleep(0.01)


async def test_it_publishes_into_a_stream_and_another_reads_it(rig: Rig) -> None:
    async with connected(rig, "orders") as orders, connected(rig, "mailer") as mailer:
        placed = await orders.nats.jetstream().publish("orders.placed", b"one", stream="ORDERS")
        stream, _, consumer = mailer.settings["consumers"].partition("=")
        bound = await mailer.nats.jetstream().pull_subscribe_bind(consumer, stream=stream)
        (message,) = await bound.fetch(1, timeout=DEADLINE_SECONDS)
        assert (message.data, message.metadata.sequence.stream) == (b"one", placed.seq)
        await message.ack_sync()
        assert (await bound.consumer_info()).num_ack_pending == 0
        assert orders.errors == mailer.errors == []


async def test_it_hears_what_it_may_subscribe_to(rig: Rig) -> None:
    async with connected(rig, "prices") as prices, connected(rig, "orders") as orders:
        heard = await orders.nats.subscribe("price.changed")
        await flushed(orders)
        await prices.nats.publish("price.changed", b"7")
        assert (await heard.next_msg(timeout=DEADLINE_SECONDS)).data == b"7"


async def test_who_may_reply_does_so_once_a_request(rig: Rig) -> None:
    async with connected(rig, "prices") as prices, connected(rig, "orders") as orders:

        async def answer(message: Msg) -> None:
            await message.respond(b"7")
            await message.respond(b"8")

        await prices.nats.subscribe("price.ask", cb=answer)
        await flushed(prices)
        inbox = await orders.nats.subscribe(orders.nats.new_inbox())
        await orders.nats.publish("price.ask", reply=inbox.subject)
        assert (await inbox.next_msg(timeout=DEADLINE_SECONDS)).data == b"7"
        await flushed(prices)
        await flushed(orders)
        assert inbox.pending_msgs == 0


async def test_who_may_not_reply_does_not(rig: Rig) -> None:
    async with connected(rig, "orders") as orders, connected(rig, "prices") as prices:

        async def answer(message: Msg) -> None:
            await message.respond(b"no")

        await orders.nats.subscribe("price.changed", cb=answer)
        await flushed(orders)
        inbox = await prices.nats.subscribe(f"{prices.nats.new_inbox()}")
        await prices.nats.publish("price.changed", reply=inbox.subject)
        assert "_inbox.prices" in await told(orders, "permissions violation for publish")
        assert inbox.pending_msgs == 0


async def test_what_is_not_granted_is_refused(rig: Rig) -> None:
    async with connected(rig, "mailer") as mailer:
        await mailer.nats.publish("orders.placed", b"forged")
        await told(mailer, 'publish to "orders.placed"')
        await mailer.nats.subscribe("price.changed")
        await told(mailer, 'subscription to "price.changed"')
        with pytest.raises((NATSTimeoutError, NoRespondersError)):
            await mailer.nats.request("$JS.API.STREAM.INFO.ORDERS", timeout=0.2)
        await told(mailer, "stream.info.orders")


async def test_an_acknowledgement_for_another_is_refused(rig: Rig) -> None:
    async with connected(rig, "orders") as orders:
        await orders.nats.publish("$JS.ACK.ORDERS.mailer.1.1.1.1.0", b"+ACK")
        await told(orders, "publish to")
    async with operator(rig.plan, rig.host) as session:
        answer = await session.ask("$JS.API.CONSUMER.INFO.ORDERS.mailer")
        assert answer["config"]["durable_name"] == "mailer"
