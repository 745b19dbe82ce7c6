"""A real broker becomes what is declared, stays it, and says what it is not."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.rig import Rig, running_server
from tests.servers.kafka.clients import Connected, serials, working
from tests.servers.kafka.shop import SHOP
from watertight.enforcers.resource import (
    BUNDLE,
    CERTIFICATE,
    PRIVATE_KEY,
    AdminRefused,
    ServerRefused,
)
from watertight.model.load import load_text
from watertight.servers.kafka.attacks.requests import find
from watertight.servers.kafka.compile import NODE, PROPERTIES, keystore
from watertight.servers.kafka.facts import ACL
from watertight.servers.kafka.operator import (
    BROKER_CONFIG,
    SET,
    TOPIC_CONFIG,
    BrokerRefused,
    operator,
)
from watertight.servers.kafka.server import Kafka

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNAUTHORIZED_TOPIC, UNAUTHORIZED_GROUP = 29, 30
NOT_YET = (14, 15, 16)
"""A broker makes the topic in which groups keep their places when first it is asked for one."""
BY_HAND = {
    "access User:* Allow All topic is * from * is not declared",
    "access User:mailer Allow Read topic is invoices from * is missing",
    "access User:mailer Allow Read group is mailer from * is missing",
    "access User:mailer Allow Read group begins mailer. from * is missing",
    "topic spy is not declared",
    "topic invoices: retention.ms is '1' and not '2592000000'",
    "quota of user orders: consumer_byte_rate is not set and not '67108864'",
    "quota of user <default> is not declared",
    "setting log.roll.ms 1 is not declared",
    "setting message.max.bytes is not declared",
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with running_server(Kafka(), SHOP) as running:
        yield running


async def drift(rig: Rig) -> list[str]:
    return list(await rig.enforcer.drift(rig.plan, rig.host))


async def apply(rig: Rig) -> tuple[str, ...]:
    return (await rig.enforcer.apply(rig.plan, rig.host)).changed


async def test_what_is_declared_works(rig: Rig) -> None:
    """From a publisher to a reader, whose place is kept in a group of its own."""
    with Connected(rig, "billing") as billing, Connected(rig, "mailer") as mailer:
        assert billing.publish("invoices", b"number 7") == 0
        assert b"number 7" in mailer.fetch("invoices")
        async with asyncio.timeout(60):
            while mailer.ask(find("mailer")):  # noqa: ASYNC110  it makes that topic
                await asyncio.sleep(0.05)
            while code := mailer.commit("mailer.nightly", "invoices", 1):
                assert code in NOT_YET
                await asyncio.sleep(0.05)
        assert mailer.commit("billing", "invoices", 1) == UNAUTHORIZED_GROUP
        assert mailer.publish("invoices", b"mine") == UNAUTHORIZED_TOPIC


async def test_what_is_changed_by_hand_is_found_and_taken_back(rig: Rig) -> None:
    async with operator(rig.plan, rig.host) as asked:
        await asked.create_acls([ACL(2, "*", 3, "User:*", "*", 2, 3)])
        await asked.delete_all_acls("User:mailer")
        await asked.create_topic("spy", 1, {})
        await asked.alter(TOPIC_CONFIG, "invoices", [("retention.ms", SET, "1")])
        await asked.alter_quota((("user", "orders"),), {"consumer_byte_rate": None})
        await asked.alter_quota((("user", None),), {"consumer_byte_rate": 1e9})
        await asked.alter(BROKER_CONFIG, NODE, [("log.roll.ms", SET, "3600000")])
        await asked.alter(BROKER_CONFIG, "", [("message.max.bytes", SET, "99")])
    async with asyncio.timeout(60):
        while set(await drift(rig)) != BY_HAND:  # noqa: ASYNC110  the broker reads a log
            await asyncio.sleep(0.05)
    assert set(await apply(rig)) == BY_HAND
    assert await drift(rig) == []


async def test_a_topic_with_messages_is_never_deleted(rig: Rig) -> None:
    async with operator(rig.plan, rig.host) as asked:
        await asked.create_topic("full", 1, {})
        await asked.create_acls([ACL(2, "full", 3, "User:billing", "*", 4, 3)])
    with Connected(rig, "billing") as billing:
        async with asyncio.timeout(60):
            while billing.publish("full", b"kept"):  # noqa: ASYNC110  the broker reads a log
                await asyncio.sleep(0.05)
    await apply(rig)
    assert await drift(rig) == ["topic full is not declared"]
    async with operator(rig.plan, rig.host) as asked:
        await asked.delete_topic("full")
    async with asyncio.timeout(60):
        while await drift(rig):  # noqa: ASYNC110  the broker reads a log
            await asyncio.sleep(0.05)


async def test_every_key_is_replaced_under_load_and_nothing_is_lost(rig: Rig) -> None:
    """Leaf, issuer and root, of both ends, in a session that stays and in new ones."""
    served = []
    with Connected(rig, "orders") as before, working(rig) as load:
        for step in (rig.keeper.reissue, rig.keeper.rotate_issuer, None, None):
            if step is None:
                await rig.rotate_root()
            else:
                await step()
                rig.deliver()
                await rig.enforcer.rotate(rig.plan, rig.host)
            served.append(serials(rig))
            await load.more()
        assert before.publish("orders.placed", b"still") == 0
    assert load.failures == []
    assert all(len(each) == 1 for each in served), "its listeners serve one leaf"
    assert len({*served}) == len(served)
    assert await drift(rig) == []


async def test_an_administrator_grants_what_channels_say_and_touches_nothing_else(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same broker as one of others, over the port and as the principal of its operator."""
    system = load_text(
        SHOP.replace("{port}", "9093").replace("kafka\n", "kafka\n    external: x\n")
    )
    theirs, admin = system.resources["events"], administrator(rig, monkeypatch)
    assert await rig_kafka(rig).grant(system, theirs, admin) == ()
    partner = ACL(2, "invoices", 3, "User:partner", "*", 3, 3)
    async with operator(rig.plan, rig.host) as asked:
        await asked.create_topic("theirs", 1, {})
        await asked.create_acls([partner, ACL(2, "invoices", 3, "User:lobby", "*", 3, 3)])
        await asked.delete_all_acls("User:orders-eu")
        await asked.alter(TOPIC_CONFIG, "invoices", [("retention.ms", SET, "1")])
        await asked.alter(TOPIC_CONFIG, "invoices", [("segment.ms", SET, "9000000")])
        await asked.alter_quota((("user", "orders"),), {"consumer_byte_rate": None})
    wanted = {
        "access User:lobby Allow Read topic is invoices from * is not declared",
        "access User:orders-eu Allow Describe group begins orders-eu. from * is missing",
        "access User:orders-eu Allow Describe group is orders-eu from * is missing",
        "access User:orders-eu Allow Write topic is orders.placed from * is missing",
        "quota of user orders: consumer_byte_rate is not set and not '67108864'",
        "topic invoices: retention.ms is '1' and not '2592000000'",
    }
    async with asyncio.timeout(60):
        while True:  # the broker reads a log
            if set(await rig_kafka(rig).grant(system, theirs, admin, dry_run=True)) == wanted:
                break
            await asyncio.sleep(0.05)
    assert set(await rig_kafka(rig).grant(system, theirs, admin)) == wanted
    assert await rig_kafka(rig).grant(system, theirs, admin, dry_run=True) == ()
    async with operator(rig.plan, rig.host) as asked:
        assert partner in await asked.acls()
        assert "theirs" in await asked.topics()
        await asked.create_acls([ACL(2, "*", 3, "User:*", "*", 3, 3)])
    with pytest.raises(ServerRefused, match=r"entries for User:\*"):
        await rig_kafka(rig).grant(system, theirs, admin)
    await apply(rig)
    assert await drift(rig) == []


def rig_kafka(rig: Rig) -> Kafka:
    assert isinstance(rig.enforcer, Kafka)
    return rig.enforcer


def administrator(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> str:
    """As the broker's own operator would say it, were it another's; its name leads to this host."""
    real = socket.getaddrinfo

    def here(host: Any, *more: Any, **named: Any) -> Any:
        return real("127.0.0.1" if host == rig.resource else host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", here)
    own = rig.host.placement.credentials(rig.resource)
    files = f"ca={own / BUNDLE}&cert={own / CERTIFICATE}&key={own / PRIVATE_KEY}"
    return f"ssl://{rig.resource}:{rig.plan.grants.internal_port}?{files}"


@pytest.mark.parametrize(
    ("admin", "said"),
    [
        ("mq.shop.example:9093", "no way to a broker"),
        ("ssl://mq.shop.example", "no way to a broker"),
        ("ssl://me:secret@mq.shop.example?cert=a&key=b", "no way to a broker"),
        ("ssl://mq.shop.example?cert=a&key=b&verify=no", "no way to a broker"),
        ("ssl://mq.shop.example:x?cert=a&key=b", "cannot be used"),
        ("ssl://mq.shop.example?cert=/nowhere&key=/nowhere", "cannot be used"),
    ],
)
async def test_an_administrator_who_cannot_be_is_refused(admin: str, said: str) -> None:
    system = load_text(SHOP.replace("{port}", "9093"))
    with pytest.raises(AdminRefused, match=said):
        await Kafka().grant(system, system.resources["events"], admin)


@pytest.mark.slow
async def test_a_broker_that_missed_a_change_of_root_is_started_again(rig: Rig) -> None:
    """It trusts nobody any more, its operator neither: how, is for no request to say."""
    pid = rig.host.pid
    sequence = rig.keeper.prepare_root()
    await rig.keeper.activate_root(sequence)
    rig.deliver()
    [odd] = await drift(rig)
    assert odd.startswith("the broker and its operator do not trust each other")
    await rig.enforcer.rotate(rig.plan, rig.host)
    assert rig.host.pid != pid
    assert await drift(rig) == []


async def test_a_file_that_is_no_certificate_is_not_taken(rig: Rig) -> None:
    async with operator(rig.plan, rig.host) as asked:
        elsewhere = [(keystore("CLIENTS"), SET, "/etc/passwd")]
        with pytest.raises(BrokerRefused, match="refuses IncrementalAlterConfigs"):
            await asked.alter(BROKER_CONFIG, NODE, elsewhere)
    with Connected(rig, "orders") as orders:
        assert orders.publish("orders.placed", b"still") == 0


@pytest.mark.slow
async def test_a_broker_that_runs_with_another_file_is_started_again(rig: Rig) -> None:
    """Somebody changed its file, started it again, and put the file back."""
    path = rig.host.placement.server_directory(rig.resource) / PROPERTIES
    right = path.read_text()
    path.write_text(right.replace("auto.create.topics.enable=false\n", "num.io.threads=9\n"))
    await rig.host.stop()
    assert await drift(rig) == ["server.properties was changed by hand", "the server does not run"]
    await rig.host.start()
    path.write_text(right)
    [odd] = await drift(rig)
    assert odd.endswith("says: auto.create.topics.enable, num.io.threads")
    assert odd in await apply(rig)
    assert await drift(rig) == []
