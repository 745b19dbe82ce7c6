"""A broker that is weakened is found out: each probe says no where what it is about is not so."""

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import replace

import pytest
import pytest_asyncio

from tests.rig import SANDBOXED, Rig, not_held, running_server
from tests.servers.kafka.clients import Connected
from tests.servers.kafka.shop import SHOP
from watertight.attack.probe import Verdict
from watertight.model.load import load_text
from watertight.servers.kafka.attacks import requests as ask
from watertight.servers.kafka.attacks import siblings
from watertight.servers.kafka.attacks.dialect import NO, OURS
from watertight.servers.kafka.compile import NODE, PROPERTIES
from watertight.servers.kafka.facts import ACL
from watertight.servers.kafka.operator import operator
from watertight.servers.kafka.server import Kafka

pytestmark = pytest.mark.asyncio(loop_scope="module")

ORDERS, LOBBY = "orders -> events", "lobby -> events"
EVERYTHING = frozenset(
    {
        "grants.administer",
        "grants.alter-topic",
        "grants.ask-topic",
        "grants.consume",
        "grants.delete-group",
        "grants.group",
        "grants.list-groups",
        "grants.list-topics",
        "grants.list-transactions",
        "grants.make-topic",
        "grants.publish",
        "grants.transaction",
    }
)
"""Broken by entries that allow everybody everything."""
USES = frozenset({"use.consume", "use.group", "use.idempotent", "use.publish", "use.transaction"})
"""Broken by entries that are missing."""
OPEN_RULES = "RULE:^.*OU=servers.*$/server:events/,RULE:^.*CN=([a-zA-Z0-9:-]+).*$/$1/L"
BY_A_START = frozenset(
    {
        "identity.common-name-only",
        "identity.dot-in-trust-domain",
        "identity.other-trust-domain",
        "identity.other-unit",
        "identity.server",
        "identity.server-as-service",
        "identity.smuggled-name",
        "identity.upper-case",
        "sessions.resumption-after-expiry",
        "tls.version-1.2",
    }
)
"""Broken by rules that are open, TLS 1.2, and sessions that are taken up again for a day."""
SIBLINGS = frozenset({"siblings.no-certificate", "siblings.service"})
ENTRIES = (
    ACL(2, "orders.placed", 3, "User:lobby", "*", 8, 3),
    ACL(2, "customers", 3, "User:lobby", "*", 4, 3),
    ACL(2, "invoices", 3, "User:lobby", "*", 3, 3),
    ACL(2, "orders.placed", 3, "User:lobby", "*", 10, 3),
    ACL(3, "orders", 4, "User:lobby", "*", 8, 3),
    ACL(3, "billing", 4, "User:lobby", "*", 6, 3),
    ACL(5, "billing", 3, "User:lobby", "*", 8, 3),
    ACL(4, "kafka-cluster", 3, "User:lobby", "*", 10, 3),
)
"""One operation each on one thing, as such entries are found in systems."""
NO_TOKENS = 61
"""There are none at this broker, for anybody."""
BY_ENTRIES = EVERYTHING - {"grants.make-topic"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with running_server(Kafka(), SHOP) as running:
        yield running


async def broken(rig: Rig, channel: str, identifiers: Collection[str]) -> set[str]:
    tried = [p for p in rig.probes if p.channel == channel and p.id in identifiers]
    return {r.id for r in await rig.run(tried) if r.verdict is Verdict.BROKEN}


async def test_as_declared_all_is_held(rig: Rig) -> None:
    """Of the caller that may do most, and of one that may do nothing."""
    chosen = ("billing -> events", LOBBY, "anyone -> events", "stranger -> events")
    assert not_held(await rig.run([p for p in rig.probes if p.channel in chosen])) == {}


async def known(rig: Rig) -> None:
    """A group and a transactional id are there, which others would like to know of."""
    with Connected(rig, "orders") as orders, Connected(rig, "billing") as billing:
        asked = ask.Request(22, 1, "i*", ask.text("billing") + ask.num("i", 10_000))
        async with asyncio.timeout(60):
            # A broker makes the topics of both when first it is asked for one.
            while orders.ask(ask.find("orders")) or orders.commit("orders.x", "customers", 1):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            while billing.ask(ask.find("billing", 1)) or billing.ask(asked):  # noqa: ASYNC110
                await asyncio.sleep(0.05)


def answers(rig: Rig) -> dict[str, int]:
    """Of a service that may do everything: each request that is still answered with a refusal, or
    that the broker does not understand."""
    topic, found = "invoices", {}
    requests = {
        **ask.of_group("group", topic),
        **ask.of_transaction("id", topic, "group"),
        **ask.of_topic(topic),
        **ask.of_cluster(topic, NODE),
        "partitions": ask.partitions(topic),
        "epochs": ask.epochs(topic),
        "producers": ask.producers(topic),
    }
    for what, request in requests.items():
        with Connected(rig, "lobby") as lobby:
            code = lobby.ask(request)
        if code in {**NO, **OURS} and not (what.startswith("delegation") and code == NO_TOKENS):
            found[what] = code
    return found


@pytest.mark.slow
async def test_without_entries_no_use_works_and_with_one_each_attack_does(rig: Rig) -> None:
    await known(rig)
    async with operator(rig.plan, rig.host) as asked:
        await asked.delete_all_acls("User:billing")
        assert await broken(rig, "billing -> events", USES) == USES
        await asked.create_acls(ENTRIES)
        assert await broken(rig, LOBBY, EVERYTHING) == BY_ENTRIES
        kinds = ((2, "*"), (3, "*"), (4, "kafka-cluster"), (5, "*"))
        await asked.create_acls(ACL(kind, n, 3, "User:*", "*", 2, 3) for kind, n in kinds)
        assert await broken(rig, LOBBY, EVERYTHING) == EVERYTHING
        assert answers(rig) == {"a controller, removed": 42}, "the last that there is"
    await rig.enforcer.apply(rig.plan, rig.host)
    assert await broken(rig, LOBBY, EVERYTHING) == set()


async def test_a_port_of_its_own_that_answers_services_is_found(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of its ports to itself, the one that is for services."""
    port = rig.host.port
    monkeypatch.setattr(siblings, "ports", lambda _: (port, port))
    assert await broken(rig, "anyone -> events", {"siblings.service"}) == {"siblings.service"}


async def test_a_broker_with_open_rules_and_old_tls_is_found(rig: Rig) -> None:
    """Started with a file and a command as they stand in many a guide; the last of its tests."""
    path = rig.host.placement.server_directory(rig.resource) / PROPERTIES
    rule = "listener.name.clients.ssl.principal.mapping.rules="
    lines = [line for line in path.read_text().splitlines() if not line.startswith(rule)]
    text = "\n".join([*lines, rule + OPEN_RULES, ""])
    assert text.count("ssl.enabled.protocols=TLSv1.3\n") == 1
    await rig.host.stop()
    path.write_text(text.replace("protocols=TLSv1.3\n", "protocols=TLSv1.3,TLSv1.2\n"))
    process = rig.host.process
    argv = tuple(part for part in process.argv if "sessionTicketTimeout" not in part)
    assert len(argv) == len(process.argv) - 1
    rig.host.process = replace(process, argv=argv)
    await rig.host.start()
    async with operator(rig.plan, rig.host):  # once it can be asked
        tried = {p.id for p in rig.probes if p.id.startswith(("identity.", "tls.", "sessions."))}
        assert await broken(rig, ORDERS, tried) == BY_A_START


async def test_every_probe_has_a_sabotage_test() -> None:
    every = {probe.id for probe in Kafka().probes(load_text(SHOP.replace("{port}", "9093")))}
    own = {i for i in every if i.partition(".")[0] in ("grants", "use", "siblings")}
    assert own == EVERYTHING | USES | SIBLINGS
    assert set(SANDBOXED) <= every
