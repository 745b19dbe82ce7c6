"""A real broker becomes what is declared, stays it, and says what it is not."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import aio_pika
import pytest
import pytest_asyncio

from tests.rig import Rig, running_server, with_channels
from tests.servers.rabbitmq.clients import connected
from tests.servers.rabbitmq.shop import SHOP
from watertight.enforcers.resource import ServerRefused
from watertight.servers.rabbitmq.compile import CONFIGURATION, RabbitMQGrants
from watertight.servers.rabbitmq.control import control, evaluate
from watertight.servers.rabbitmq.facts import DEFINITIONS
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


async def test_a_second_run_changes_nothing(rig: Rig) -> None:
    assert await apply(rig) == ()
    assert await drift(rig) == []


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


async def test_what_is_changed_by_hand_is_found_and_taken_back(rig: Rig) -> None:
    await control(rig.host, "set_permissions", "-p", "jobs", ORDERS, ".*", ".*", ".*")
    await control(rig.host, "clear_topic_permissions", "-p", "jobs", ORDERS)
    await control(rig.host, "add_user", "guest", "guest")
    await control(rig.host, "add_vhost", "spy")
    await control(rig.host, "set_policy", "-p", "jobs", "copy", ".*", '{"max-length": 1}')
    await evaluate(
        rig.host,
        'rabbit_amqqueue:declare(rabbit_misc:r(<<"jobs">>, queue, <<"copy">>), '
        'true, false, [], none, <<"x">>)',
        "ok",
    )
    found = await drift(rig)
    for what in (
        "user guest is not declared",
        "virtual host spy is not declared",
        "policy jobs copy is not declared",
        "queue jobs copy is not declared",
        f"topic permissions of {ORDERS} jobs events is missing",
    ):
        assert what in found
    assert any(line.startswith(f"permissions of {ORDERS} jobs: configure is") for line in found)
    assert set(await apply(rig)) == set(found)
    assert await drift(rig) == []


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


@pytest.mark.parametrize("restarts", [False, True], ids=["runs on", "restarts"])
async def test_a_queue_that_is_made_otherwise_is_a_refusal_at_its_line(
    rig: Rig, *, restarts: bool
) -> None:
    """And whoever lost or got something by what could be done, has what he had.

    Also where the broker was started again for a file of its own, and made queues as it did.
    """
    grants: RabbitMQGrants = rig.plan.grants
    other = {**grants.definitions, "exchanges": []}
    exchanges = [dict(e) for e in grants.definitions["exchanges"]]
    exchanges[0]["type"] = "headers"
    other["exchanges"] = exchanges
    other["permissions"] = grants.definitions["permissions"][1:]
    other["queues"] = [
        *grants.definitions["queues"],
        dict(grants.definitions["queues"][0], name="x"),
    ]
    files = {**rig.plan.files, DEFINITIONS: json.dumps(other)}
    if restarts:
        files[CONFIGURATION] += "# another file\n"
    plan = replace(rig.plan, files=files, grants=replace(grants, definitions=other))
    with pytest.raises(ServerRefused, match=r"watertight\.yaml:\d+:\d+: .*exchange jobs"):
        await rig.enforcer.apply(plan, rig.host)
    assert await drift(rig) == []


async def test_new_certificates_are_served_and_no_session_is_lost(rig: Rig) -> None:
    async with connected(rig, "orders") as orders:
        channel = await orders.channel()
        exchange = await channel.get_exchange("events", ensure=False)
        await rig.keeper.rotate_issuer()
        rig.deliver()
        for _ in range(3):  # once is not enough to see that a look at the server disturbs sessions
            await rig.enforcer.rotate(rig.plan, rig.host)
            await exchange.publish(aio_pika.Message(b"still"), "orders.placed")
        assert not orders.is_closed
        async with connected(rig, "orders") as again:
            assert not again.is_closed


async def test_a_revoked_service_is_cut_and_stays_out(rig: Rig) -> None:
    left = rig.compile(with_channels(rig.system, "billing", "packer", "lobby"))
    gone = [asyncio.Event(), asyncio.Event()]
    async with connected(rig, "orders") as one, connected(rig, "orders") as two:
        one.close_callbacks.add(lambda *_: gone[0].set())
        two.close_callbacks.add(lambda *_: gone[1].set())
        assert await rig.enforcer.revoke(left, rig.host, "orders") == 2
        async with asyncio.timeout(60):
            await asyncio.gather(*(event.wait() for event in gone))
    await rig.enforcer.apply(left, rig.host)
    with pytest.raises(Exception, match=r"(?i)access_refused|refused"):
        async with connected(rig, "orders"):
            pass
    await apply(rig)
    async with connected(rig, "orders") as back:
        assert not back.is_closed


async def test_a_broker_that_started_again_is_waited_for_and_kept_what_was_declared(
    rig: Rig,
) -> None:
    await rig.host.stop()
    assert await drift(rig) == ["the server does not run"]
    await rig.host.start()  # its port accepts before it answers its own command
    assert await apply(rig) == ()
