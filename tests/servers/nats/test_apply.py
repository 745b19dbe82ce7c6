"""A server is brought to its plan and kept there; what somebody changed by hand is found."""

import asyncio
import json
import signal
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.rig import Rig, running_server
from tests.servers.nats.clients import connected
from tests.servers.nats.shop import SHOP
from watertight.errors import WatertightError
from watertight.model.load import load_text
from watertight.model.system import System
from watertight.servers.nats.operator import operator
from watertight.servers.nats.reload import reload
from watertight.servers.nats.server import NATS
from watertight.servers.nats.session import OTHER_CONFIGURATION

pytestmark = pytest.mark.asyncio(loop_scope="module")

FILE = "nats.conf"
STRANGER = """
      { user: "spiffe://shop.internal/stranger", permissions: {
        publish: { deny: [">"] }
        subscribe: { allow: [">"] }
      } }"""


async def ask(rig: Rig, subject: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    async with operator(rig.plan, rig.host) as session:
        return await session.ask(subject, body)


async def drift(rig: Rig) -> list[str]:
    return list(await rig.enforcer.drift(rig.plan, rig.host))


async def apply(rig: Rig) -> tuple[str, ...]:
    return (await rig.enforcer.apply(rig.plan, rig.host)).changed


async def stranger_is_in(rig: Rig) -> bool:
    """Whether the server lets in who has no channel."""
    with_channel = replace(
        rig.system.channels[0], source="stranger", target=rig.resource, options={}
    )
    system = replace(rig.system, channels=(*rig.system.channels, with_channel))
    try:
        async with connected(replace(rig, system=system), "stranger") as session:
            await session.nats.flush()
    except Exception:  # noqa: BLE001 (nats-py raises what it likes)
        return False
    return True


def with_stranger(rig: Rig) -> dict[str, str]:
    text = rig.plan.files[FILE]
    return {FILE: text.replace("    users: [", f"    users: [{STRANGER}", 1)}


async def test_what_only_the_running_server_holds_is_removed(rig: Rig) -> None:
    await rig.host.write(with_stranger(rig))
    await reload(rig.plan, rig.host)
    await rig.host.write(rig.plan.files)  # the file looks right, and the server runs with another
    assert await stranger_is_in(rig)
    assert await drift(rig) == [OTHER_CONFIGURATION]
    assert await apply(rig) == (OTHER_CONFIGURATION,)
    assert not await stranger_is_in(rig)


async def test_a_stream_changed_by_hand_is_found_and_mended(rig: Rig) -> None:
    changed = {**rig.plan.grants.streams["AUDIT"], "subjects": ["audit.*", "spy.>"], "max_bytes": 7}
    newer = "minimum_tls" not in rig.system.resources[rig.resource].options
    if newer:  # server 2.9 refuses such an update to everybody
        changed |= {"republish": {"src": ">", "dest": "leak.>"}}
    await ask(rig, "$JS.API.STREAM.UPDATE.AUDIT", changed)
    (line,) = await drift(rig)
    assert """subjects is '["audit.*", "spy.>"]' and not '["audit.*"]'""" in line
    assert "max_bytes is '7' and not '67108864'" in line
    assert ("republish is" in line) == newer
    assert await apply(rig) == (line,)
    assert await drift(rig) == []


async def test_a_missing_consumer_and_a_missing_stream_are_made_again(rig: Rig) -> None:
    await ask(rig, "$JS.API.CONSUMER.DELETE.ORDERS.mailer")
    await ask(rig, "$JS.API.STREAM.DELETE.AUDIT")
    missing = (
        "stream AUDIT is missing",
        "consumer AUDIT prices is missing",
        "consumer ORDERS mailer is missing",
    )
    assert tuple(await drift(rig)) == missing
    assert await apply(rig) == missing


async def test_an_undeclared_stream_goes_only_if_it_is_empty(rig: Rig) -> None:
    for name, subject in (("EMPTY", "empty"), ("FULL", "price.ask")):
        made = {"name": name, "subjects": [subject], "storage": "file", "max_bytes": 1 << 20}
        await ask(rig, f"$JS.API.STREAM.CREATE.{name}", made)
    async with connected(rig, "orders") as orders:
        await orders.nats.jetstream().publish("price.ask", stream="FULL")
    try:
        changed = await apply(rig)
        assert changed == ("stream EMPTY is not declared",)
        (line,) = await drift(rig)
        assert line.startswith("stream FULL is not declared and holds 1 messages: declare it, or ")
        assert await apply(rig) == ()
    finally:
        await ask(rig, "$JS.API.STREAM.DELETE.FULL")


async def test_a_changed_grant_is_live_and_disturbs_nobody_else(rig: Rig) -> None:
    wider = changed_channel(rig.system, "mailer", {"publish": ["mail.sent"], "consume": ["ORDERS"]})
    async with connected(rig, "orders") as orders:
        assert (await rig.enforcer.apply(rig.compile(wider), rig.host)).changed == (FILE,)
        async with connected(rig, "mailer") as mailer:
            await mailer.nats.publish("mail.sent")
            await mailer.nats.flush()
            assert mailer.errors == []
        await orders.nats.flush()
        assert orders.nats.is_connected
    assert await apply(rig) == (FILE,)


def changed_channel(system: System, source: str, options: Mapping[str, Any]) -> System:
    return replace(
        system,
        channels=tuple(
            replace(c, options=options) if c.source == source else c for c in system.channels
        ),
    )


async def test_what_needs_a_restart_gets_one(rig: Rig) -> None:
    changed = rig.plan.files[FILE].replace('server_name: "events"', 'server_name: "renamed"')
    plan = replace(rig.plan, files={FILE: changed})
    assert (await rig.enforcer.apply(plan, rig.host)).changed == (FILE, "started")
    assert await apply(rig) == (FILE, "started")


async def test_a_killed_server_comes_back_with_what_it_kept(rig: Rig) -> None:
    async with connected(rig, "orders") as orders:
        kept = await orders.nats.jetstream().publish("orders.placed", b"kept")
    await rig.host.signal(signal.SIGKILL)
    async with asyncio.timeout(60):
        while await rig.host.running():  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(0.01)
    assert await drift(rig) == ["the server does not run"]
    assert await apply(rig) == ("started",)
    info = await ask(rig, "$JS.API.STREAM.INFO.ORDERS")
    assert info["state"]["last_seq"] == kept.seq


async def test_a_key_that_does_not_fit_is_refused_and_the_old_pair_stays(rig: Rig) -> None:
    credentials = rig.host.placement.credentials(rig.resource)
    key = credentials / "private_key.pem"
    right = key.read_bytes()
    key.write_bytes((rig.host.placement.credentials("orders") / "private_key.pem").read_bytes())
    try:
        await rig.host.signal(signal.SIGHUP)
        with pytest.raises(WatertightError):
            await rig.enforcer.rotate(rig.plan, rig.host)
        async with connected(rig, "orders") as orders:
            await orders.nats.flush()
    finally:
        key.write_bytes(right)
    await rig.enforcer.rotate(rig.plan, rig.host)


async def test_a_revocation_keeps_the_position_of_its_consumer(rig: Rig) -> None:
    without = rig.compile(rig.system.without_identities(frozenset({"mailer"})))
    async with connected(rig, "orders") as orders:
        for body in (b"one", b"two"):
            await orders.nats.jetstream().publish("orders.placed", body)
    await acknowledged(rig, "mailer")
    before = await ask(rig, "$JS.API.CONSUMER.INFO.ORDERS.mailer")
    assert before["num_pending"] == before["num_ack_pending"] == 0
    assert await rig.enforcer.revoke(without, rig.host, "mailer") == 0
    assert (await rig.enforcer.apply(without, rig.host)).changed == ()
    assert list(await rig.enforcer.drift(without, rig.host)) == []
    assert "mailer" not in without.files[FILE]
    with pytest.raises(Exception, match=r"(?i)authorization|closed|lost"):
        async with connected(rig, "mailer"):
            pass
    async with connected(rig, "orders") as orders:
        await orders.nats.jetstream().publish("orders.placed", b"while it was revoked")
    assert await apply(rig) == (FILE,)
    after = await ask(rig, "$JS.API.CONSUMER.INFO.ORDERS.mailer")
    assert after["created"] == before["created"]
    assert await acknowledged(rig, "mailer") == [b"while it was revoked"]


async def acknowledged(rig: Rig, service: str) -> list[bytes]:
    """What the service's consumer of ORDERS has for it; all of it is acknowledged."""
    got: list[bytes] = []
    async with connected(rig, service) as session:
        inbox = await session.nats.subscribe(f"_INBOX.{service}.fetched")
        fetch = f"$JS.API.CONSUMER.MSG.NEXT.ORDERS.{service}"
        while True:
            request = json.dumps({"batch": 1, "no_wait": True}).encode()
            await session.nats.publish(fetch, request, reply=f"_INBOX.{service}.fetched")
            message = await inbox.next_msg(timeout=60)
            if not message.reply:  # 404: there is no more
                return got
            got.append(message.data)
            await session.nats.request(message.reply, b"+ACK", timeout=60)


async def test_a_revocation_changes_nothing_that_is_kept(rig: Rig) -> None:
    """With one publisher fewer, the server would throw away what it acknowledged to others."""
    both = changed_channel(rig.system, "lobby", {"publish": ["orders.paid"]})
    trusted = rig.compile(both).grants
    for one in ("lobby", "mailer", rig.resource):
        revoked = rig.compile(both.without_identities(frozenset({one}))).grants
        assert revoked.streams == trusted.streams
        assert revoked.consumers == trusted.consumers
    assert trusted.streams["ORDERS"]["discard"] == "new"


async def test_a_position_that_would_be_lost_is_told(rig: Rig) -> None:
    enforcer = NATS()
    less = changed_channel(rig.system, "mailer", {"subscribe": ["mail.>"]})
    (lost,) = enforcer.forgotten(rig.system, less)
    assert str(lost) == (
        "- position of mailer in ORDERS of events: granted again, it gets every message again"
    )
    assert list(enforcer.forgotten(rig.system, rig.system)) == []
    assert list(enforcer.forgotten(less, rig.system)) == []


async def test_streams_are_turned_on_and_off_without_a_restart() -> None:
    with_streams = SHOP.partition("channels:")[0] + "channels:\n  - {from: lobby, to: events}\n"
    without = (
        with_streams.partition("    streams:")[0] + "channels:\n  - {from: lobby, to: events}\n"
    )
    async with running_server(NATS(), without) as rig:
        port = str(rig.host.port)
        plan = rig.compile(load_text(with_streams.replace("{port}", port)))
        assert (await rig.enforcer.apply(plan, rig.host)).changed == (
            FILE,
            "stream AUDIT is missing",
            "stream ORDERS is missing",
        )
        assert await rig.enforcer.drift(plan, rig.host) == []
        assert await apply(rig) == (FILE,)
        assert (await rig.enforcer.apply(plan, rig.host)).changed == (FILE,)  # they are still there
