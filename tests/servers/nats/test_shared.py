"""Streams, buckets and subjects that several services share: none takes from another."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from nats.js.errors import APIError

from tests.rig import Rig, not_held, running_server
from tests.servers.nats.clients import Session, connected, flushed
from watertight.attack.probe import Verdict
from watertight.servers.nats.operator import operator
from watertight.servers.nats.server import NATS

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHARED = """
trust_domain: shop.internal
services: {alice: {}, bob: {}, carol: {}}
resources:
  kept:
    kind: nats
    port: {port}
    streams:
      ORD: {subjects: [ord.>], max_size: 2MiB}
      LOG: {subjects: [log.>], max_size: 1MiB, discard: old, duplicate_window: 5m}
      OWN: {subjects: [own.>], max_age: 30s}
    buckets: {settings: {history: 5, max_size: 1MiB}, colors: {max_size: 1MiB}}
    object_stores: {files: {max_size: 1MiB}}
channels:
  - from: alice
    to: kept
    publish: [ord.a.>, log.a, own.a, ask.*]
    buckets: {settings: [read, write], colors: [read]}
    object_stores: {files: [read, write]}
  - from: bob
    to: kept
    publish: [ord.b, log.b, $KV.settings.orders.seen, ask.deep.down, tell.*.here]
    subscribe: [$KV.settings.orders.>, tell.*]
  - from: carol
    to: kept
    subscribe: [ask.*, tell.*.*]
    buckets: {colors: [write]}
    object_stores: {files: [read]}
"""
SHARED_ONLY = ("streams.message-ids", "streams.eviction")


@pytest_asyncio.fixture(
    loop_scope="module",
    scope="module",
    params=[SHARED, SHARED.replace("kind: nats", "kind: nats\n    minimum_tls: 1.2")],
    ids=["new", "old"],
)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with running_server(NATS(), request.param) as running:
        yield running


async def test_all_probes_hold_with_buckets_and_wildcards(rig: Rig) -> None:
    probes = [p for p in rig.probes if p.id.startswith(("use", "grants", "streams", "reach"))]
    results = await rig.run(probes)
    assert not_held(results) == {}
    assert set(SHARED_ONLY) <= {r.id for r in results}


async def test_nobody_deletes_anothers_messages_by_their_ids(rig: Rig) -> None:
    async with connected(rig, "alice") as alice, connected(rig, "bob") as bob:
        for number in range(20):
            name = {"Nats-Msg-Id": f"order-{number}"}
            await alice.nats.jetstream().publish("ord.a.x", b"", headers=name)
        window = rig.plan.grants.streams["ORD"]["duplicate_window"]
        assert window == 100_000_000
        sent = {"Nats-Msg-Id": "order-0"}
        async with asyncio.timeout(20):  # by far less than the usual window of 120 s
            while (await bob.nats.jetstream().publish("ord.b", b"paid", headers=sent)).duplicate:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_nobody_pushes_out_what_another_was_told_is_kept(rig: Rig) -> None:
    async with connected(rig, "alice") as alice, connected(rig, "bob") as bob:
        kept = await bob.nats.jetstream().publish("ord.b", b"paid")
        assert "maximum bytes" in await _filled(alice)
    async with operator(rig.plan, rig.host) as session:
        state = (await session.ask("$JS.API.STREAM.INFO.ORD"))["state"]
        assert state["first_seq"] <= kept.seq
        await session.ask("$JS.API.STREAM.PURGE.ORD")


async def test_what_is_declared_and_what_is_ones_own_stays(rig: Rig) -> None:
    streams = rig.plan.grants.streams
    assert (streams["LOG"]["discard"], streams["LOG"]["duplicate_window"]) == ("old", 300 * 10**9)
    assert (streams["OWN"]["discard"], streams["OWN"]["duplicate_window"]) == ("old", 30 * 10**9)
    assert streams["KV_settings"]["duplicate_window"] == 10**8
    assert streams["KV_colors"]["duplicate_window"] == 120 * 10**9


@pytest.mark.parametrize(
    ("change", "probe"),
    [({"duplicate_window": 120 * 10**9}, SHARED_ONLY[0]), ({"discard": "old"}, SHARED_ONLY[1])],
    ids=SHARED_ONLY,
)
async def test_a_stream_as_it_was_is_found_and_mended(
    rig: Rig, change: dict[str, object], probe: str
) -> None:
    """As earlier versions made it: the probe bites, drift names it, apply changes it."""
    async with operator(rig.plan, rig.host) as session:
        before = {**rig.plan.grants.streams["ORD"], **change}
        await session.ask("$JS.API.STREAM.UPDATE.ORD", before)
    results = await rig.run([p for p in rig.probes if p.id in SHARED_ONLY])
    broken = [r for r in results if r.verdict is Verdict.BROKEN]
    assert {(r.id, "ORD" in r.attempt) for r in broken} == {(probe, True)}
    assert {r.channel for r in broken} == {"alice -> kept", "bob -> kept"}
    ((field, _),) = change.items()
    (line,) = await rig.enforcer.drift(rig.plan, rig.host)
    assert line.startswith(f"stream ORD: {field} is ")
    assert (await rig.enforcer.apply(rig.plan, rig.host)).changed == (line,)
    assert not_held(await rig.run([p for p in rig.probes if p.id in SHARED_ONLY])) == {}


async def test_a_wider_subscription_than_a_star_hears_no_more(rig: Rig) -> None:
    """The server lets ``SUB ask.>`` in for ``ask.*``; its account holds what arrives."""
    async with connected(rig, "carol") as carol, connected(rig, "bob") as bob:
        heard = await carol.nats.subscribe("ask.>")
        also = await carol.nats.subscribe("tell.*.>")
        await flushed(carol)
        await bob.nats.publish("ask.deep.down", b"not for carol")
        await bob.nats.publish("tell.it.here", b"for carol")
        await flushed(bob)
        assert (await also.next_msg(timeout=10)).data == b"for carol"
        await flushed(carol, bob)
        assert heard.pending_msgs == 0


async def _filled(alice: Session) -> str:
    """What the server says once there is no room, for 5 MB in 2 MiB."""
    for _ in range(10):
        try:
            await alice.nats.jetstream().publish("ord.a.x", b"x" * 500_000)
        except APIError as full:
            return str(full)
    return "there was room"
