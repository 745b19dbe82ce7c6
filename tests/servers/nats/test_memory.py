"""Whatever one service has a server remember, it stays within its memory, and others go on."""

import asyncio
import re
import signal
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.budget import budget, killed
from tests.rig import Rig, not_held, running_server
from tests.servers.nats import floods
from tests.servers.nats.clients import connected
from watertight.attack.probe import Verdict
from watertight.model import codes
from watertight.model.load import load_text
from watertight.model.placement import Placement
from watertight.model.system import System
from watertight.servers.nats import watch
from watertight.servers.nats.compile import CONFIGURATION
from watertight.servers.nats.held import REQUEST_BYTES, Held
from watertight.servers.nats.operator import operator
from watertight.servers.nats.server import NATS
from watertight.servers.nats.session import OTHER_CONFIGURATION
from watertight.servers.nats.shown_out import show_out, shown_out, without_users
from watertight.servers.nats.watch import Guard

MEMORY_MIB = 128
DEADLINE_SECONDS = 240
MANY = 10_000_000
SYSTEM = f"""
trust_domain: shop.internal
services: {{alice: {{}}, bob: {{}}, carol: {{}}}}
resources:
  events:
    kind: nats
    port: {{port}}
    max_payload: 64KiB
    limits: {{memory: {MEMORY_MIB}MiB}}
    streams:
      ORDERS: [orders.>]
      NAMED: [named.>]
      FEW: {{subjects: [few.>], max_messages: 100, discard: new}}
channels:
  - from: alice
    to: events
    publish: [orders.>, ask.*, few.*, named.one]
    consume: [ORDERS]
  - {{from: bob, to: events, subscribe: [ask.*], reply: true}}
  - {{from: carol, to: events, publish: [named.two]}}
"""
CAROLS_RATE, ALICES_RATE = 2500, 5000
"""Messages a second."""
KEPT = (MEMORY_MIB << 20) // 4 // 3072 - 100
"""By ORDERS: what the others leave of a quarter of the memory."""


def read(text: str = SYSTEM) -> System:
    return load_text(text.replace("{port}", "4222"), file="watertight.yaml")


def streams(system: System) -> Mapping[str, Mapping[str, Any]]:
    plans = NATS().compile(system, Placement(Path("/run/w"), Path("/srv")))
    found: Mapping[str, Mapping[str, Any]] = plans["events"].grants.streams
    return found


@asynccontextmanager
async def small_server(
    *, watched: bool = True, counted: bool = True
) -> AsyncIterator[tuple[Rig, Sequence[str]]]:
    """In a control group of its declared memory, and looked after as ``up`` does; or by a guard to
    which no requests are told."""
    with budget(MEMORY_MIB << 20) as groups:
        async with running_server(NATS(), SYSTEM) as rig:
            await rig.host.stop()
            rig.host.groups = groups
            await rig.host.start()
            blind = replace(rig.plan, grants=replace(rig.plan.grants, ways_back=()))
            watching = watch.watch(rig.plan if counted else blind, rig.host) if watched else None
            guard = asyncio.ensure_future(watching) if watching else None
            try:
                yield rig, groups
                assert killed(groups) == 0
                assert guard is None or not guard.done()
            finally:
                if guard is not None:
                    guard.cancel()


async def ask(rig: Rig, subject: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    async with operator(rig.plan, rig.host) as session:
        return await session.ask(subject, body)


def test_a_stream_holds_what_fits_the_memory() -> None:
    most = {name: stream["max_msgs"] for name, stream in streams(read()).items()}
    assert most == {"ORDERS": KEPT, "NAMED": -1, "FEW": 100}
    usual = read(SYSTEM.replace(f"limits: {{memory: {MEMORY_MIB}MiB}}", "storage: 10GiB"))
    assert streams(usual)["ORDERS"]["max_msgs"] == 174_762 - 100


def test_several_streams_share_the_memory_and_a_revoked_publisher_changes_nothing() -> None:
    two = read(SYSTEM.replace("publish: [named.two]", "publish: [named.*]"))
    made = streams(two)
    assert made["ORDERS"]["max_msgs"] == made["NAMED"]["max_msgs"] == KEPT // 2
    assert streams(two.without_identities(frozenset({"carol"}))) == made


def test_more_than_fits_is_said() -> None:
    system = read(SYSTEM.replace("max_messages: 100", "max_messages: 100000"))
    (flaw,) = NATS().check(system, system.resources["events"])
    assert flaw.code == codes.MESSAGES_OVER_MEMORY
    assert "Streams may hold 101,000 messages whose subjects services choose" in flaw.message
    assert "has room for 10,922 subjects" in flaw.message
    assert list(NATS().check(read(), read().resources["events"])) == []


def test_a_subject_has_no_more_tokens_than_may_be_subscribed_to() -> None:
    deep = ".".join(["orders"] * 33)
    system = read(SYSTEM.replace("named.two", deep))
    (flaw,) = NATS().check(system, system.resources["events"])
    assert "has 33 tokens, and 32 are allowed" in flaw.message


@pytest.mark.asyncio
async def test_ever_new_subjects_fill_neither_the_memory_nor_a_restart() -> None:
    async with small_server(watched=False) as (rig, _):
        await asyncio.to_thread(floods.flood, rig, floods.subjects, 2 * KEPT)
        info = await ask(rig, "$JS.API.STREAM.INFO.ORDERS")
        assert info["state"]["messages"] == KEPT
        await rig.host.signal(signal.SIGKILL)
        await gone(rig)
        assert (await rig.enforcer.apply(rig.plan, rig.host)).changed == ("started",)
        info = await ask(rig, "$JS.API.STREAM.INFO.ORDERS")
        assert info["state"]["messages"] == KEPT
        async with connected(rig, "carol") as carol:
            await carol.nats.jetstream().publish("named.two", b"goes on")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "message",
    [
        # A busy machine's server takes minutes for as many fetches as fill its memory.
        pytest.param(floods.fetches, marks=pytest.mark.slow),
        pytest.param(floods.requests, marks=pytest.mark.slow),
        floods.ids,
    ],
)
@pytest.mark.timeout(600)
async def test_who_takes_the_memory_is_shown_out_and_others_go_on(
    message: floods.Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "FIRST_SECONDS", 2.0)
    stop = threading.Event()
    async with small_server() as (rig, _), connected(rig, "carol") as carol:
        hearing = asyncio.ensure_future(asyncio.to_thread(floods.hear, rig, stop))
        flood = paced(rig, message, stop)
        try:
            await until(lambda: shown_out(rig.plan, rig.host) == frozenset({"alice"}))
            drift = list(await rig.enforcer.drift(rig.plan, rig.host))
            await carol.nats.jetstream().publish("named.two", b"goes on", timeout=30)
        finally:
            stop.set()
            await asyncio.gather(hearing, flood)
        assert drift in ([], ["alice is shown out for a while: it took the server's memory"])
        assert carol.nats.is_connected
        await until(lambda: shown_out(rig.plan, rig.host) == frozenset())
        async with connected(rig, "alice") as alice:
            await alice.nats.jetstream().publish("named.one", b"is back")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("message", "counted", "out"),
    [
        pytest.param(floods.requests, True, "alice", id="requests"),
        pytest.param(floods.fetches, True, "alice", marks=pytest.mark.slow, id="fetches"),
        pytest.param(floods.requests, False, "carol", marks=pytest.mark.slow, id="not counted"),
    ],
)
async def test_who_holds_the_memory_is_shown_out_and_not_who_sends_most(
    message: floods.Message, counted: bool, out: str
) -> None:
    """Carol's messages go into a stream and stay on the disk; alice's requests, a fraction of them,
    stay in memory. A guard that does not count those shows carol out."""
    stop = threading.Event()
    seen: set[str] = set()
    async with small_server(counted=counted) as (rig, _):

        def send(service: str, each: floods.Message, rate: int) -> asyncio.Future[int]:
            sending = asyncio.to_thread(floods.trickle, rig, service, each, rate, stop)
            return asyncio.ensure_future(sending)

        def is_over() -> bool:
            seen.update(shown_out(rig.plan, rig.host) or ())
            return bool(seen) or hearing.done()

        hearing = asyncio.ensure_future(asyncio.to_thread(floods.hear, rig, stop))
        alice = send("alice", message, ALICES_RATE)
        carol = send("carol", floods.bulk, CAROLS_RATE)
        try:
            await until(is_over)
        finally:
            stop.set()
            await asyncio.gather(hearing, alice, carol, return_exceptions=True)
        assert seen == {out}
        assert hearing.exception() is None
        if out == "alice":
            assert carol.result() > 0


def as_before(text: str) -> str:
    """A configuration as versions wrote it whose guard counted no requests."""
    for name in ("$SYS.OPERATOR.SUBSZ", "$SYS.REQ.SERVER.PING.SUBSZ"):
        assert name in text
    text = re.sub(r'\n *{ service: { account: "SYSTEM", subject: "[^"]*SUBSZ" }.*', "", text)
    text = text.replace('{ service: "$SYS.REQ.SERVER.PING.SUBSZ", accounts: [SERVICES] }, ', "")
    text = text.replace('"$SYS.OPERATOR.SUBSZ", ', "")
    assert "SUBSZ" not in text
    return text


def asked(rig: Rig, count: int) -> None:
    with floods.session(rig, "alice") as wire:
        wire.sendall(b"".join(map(floods.requests, range(count))) + b"PING\r\n")
        floods.ponged(wire)


@pytest.mark.asyncio
async def test_a_server_that_runs_as_before_is_guarded_and_brought_up_to_date() -> None:
    stop = threading.Event()
    async with small_server(watched=False) as (rig, _):
        await rig.host.stop()
        await rig.host.write({CONFIGURATION: as_before(rig.plan.files[CONFIGURATION])})
        await rig.host.start()
        guard = Guard(MEMORY_MIB << 20, Held(rig.plan.grants.ways_back))
        clock = asyncio.get_running_loop()

        async def guarded() -> None:
            async with operator(rig.plan, rig.host) as session:
                while not guard.out:
                    await watch.look(session, guard, clock.time(), rig.resource)
                    await asyncio.sleep(watch.NEAR_SECONDS)

        hearing = asyncio.ensure_future(asyncio.to_thread(floods.hear, rig, stop))
        flood = paced(rig, floods.requests, stop)
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await guarded()
        finally:
            stop.set()
            await asyncio.gather(hearing, flood, return_exceptions=True)
        assert guard.out.keys() == {"alice"}
        assert guard.held.by_service().get("alice", 0.0) < MEMORY_MIB << 10, "none were counted"

        assert (await rig.enforcer.apply(rig.plan, rig.host)).changed == (CONFIGURATION,)
        counted = Guard(MEMORY_MIB << 20, Held(rig.plan.grants.ways_back))
        async with operator(rig.plan, rig.host) as session:
            await watch.look(session, counted, 0.0, rig.resource)
            await asyncio.to_thread(asked, rig, 1000)
            await watch.look(session, counted, watch.COUNT_SECONDS, rig.resource)
        assert counted.held.by_service()["alice"] >= 1000 * REQUEST_BYTES


@pytest.mark.slow
@pytest.mark.asyncio
async def test_without_the_guard_the_server_is_killed() -> None:
    stop = threading.Event()
    with budget(MEMORY_MIB << 20) as groups:
        async with running_server(NATS(), SYSTEM) as rig:
            await rig.host.stop()
            rig.host.groups = groups
            await rig.host.start()
            args = (rig, floods.fetches, MANY, stop)
            flood = asyncio.ensure_future(asyncio.to_thread(floods.flood, *args))
            try:
                await until(lambda: killed(groups) > 0)
            finally:
                stop.set()
                await flood


def paced(rig: Rig, message: floods.Message, stop: threading.Event) -> asyncio.Future[int]:
    """A flood of alice's that a guard of this process can keep up with."""
    pace = floods.PACED
    sending = asyncio.to_thread(floods.flood, rig, message, MANY, stop, bytes_per_second=pace)
    return asyncio.ensure_future(sending)


async def gone(rig: Rig) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await rig.host.running():  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(0.01)


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not done():  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(0.02)


@pytest.mark.asyncio
async def test_a_stream_without_the_bound_is_found_and_mended_and_loses_nothing() -> None:
    """As earlier versions made it; it holds more than it may by now."""
    async with running_server(NATS(), SYSTEM) as rig:
        before = {**rig.plan.grants.streams["FEW"], "max_msgs": -1}
        await ask(rig, "$JS.API.STREAM.UPDATE.FEW", before)
        probes = [p for p in rig.probes if p.id == "limits.subjects"]
        assert len(probes) == 2
        broken = [r for r in await rig.run(probes) if r.verdict is Verdict.BROKEN]
        assert [("FEW" in r.attempt, r.channel) for r in broken] == [(True, "alice -> events")]
        async with connected(rig, "alice") as alice:
            for number in range(120):
                await alice.nats.jetstream().publish(f"few.{number}", b"")
        more = "it holds 120 messages, and gets no more"
        line = f"stream FEW: max_msgs is not set and not '120'; {more}"
        assert list(await rig.enforcer.drift(rig.plan, rig.host)) == [line]
        changed = (await rig.enforcer.apply(rig.plan, rig.host)).changed
        assert changed == (line,)
        assert list(await rig.enforcer.drift(rig.plan, rig.host)) == []
        info = await ask(rig, "$JS.API.STREAM.INFO.FEW")
        assert info["state"]["messages"] == 120
        assert not_held(await rig.run(probes)) == {}


@pytest.mark.asyncio
async def test_a_service_is_revoked_while_its_server_is_killed() -> None:
    async with running_server(NATS(), SYSTEM) as rig:
        left = rig.compile(rig.system.without_identities(frozenset({"alice"})))
        really = rig.host.signal

        async def kill(number: signal.Signals) -> None:
            await really(signal.SIGKILL if number is signal.SIGHUP else number)

        rig.host.signal = kill  # type: ignore[method-assign]
        assert await rig.enforcer.revoke(left, rig.host, "alice") == 0
        rig.host.signal = really  # type: ignore[method-assign]
        assert (await rig.enforcer.apply(left, rig.host)).changed == ()
        with pytest.raises(Exception, match=r"(?i)authorization|closed|lost"):
            async with connected(rig, "alice"):
                pass


@pytest.mark.asyncio
async def test_who_is_shown_out_is_not_let_in_by_an_old_plan() -> None:
    """A revocation goes before the guard: what it left is not written over."""
    async with running_server(NATS(), SYSTEM) as rig:
        left = rig.compile(rig.system.without_identities(frozenset({"alice"})))
        await rig.enforcer.apply(left, rig.host)
        await show_out(rig.plan, rig.host, ["bob"])
        assert list(await rig.enforcer.drift(left, rig.host)) == []


def test_only_the_user_goes_from_the_configuration() -> None:
    plans = NATS().compile(read(), Placement(Path("/run/w"), Path("/srv")))
    text = plans["events"].files[CONFIGURATION]
    out = without_users(text, ["alice", "nobody"])
    assert "shop.internal/alice" in text
    assert "shop.internal/alice" not in out
    assert "shop.internal/bob" in out
    assert '\n  "alice" {\n' in out
    assert without_users(text, []) == text


@pytest.mark.asyncio
async def test_who_is_shown_out_is_no_drift_of_the_file_and_anything_else_is() -> None:
    async with running_server(NATS(), SYSTEM) as rig:
        await show_out(rig.plan, rig.host, ["bob"])
        told = ["bob is shown out for a while: it took the server's memory"]
        assert list(await rig.enforcer.drift(rig.plan, rig.host)) == told
        file = rig.host.placement.server_directory(rig.resource) / CONFIGURATION
        await rig.host.write({CONFIGURATION: file.read_text() + "debug: true\n"})
        assert list(await rig.enforcer.drift(rig.plan, rig.host)) == [
            f"{CONFIGURATION} was changed by hand",
            OTHER_CONFIGURATION,
        ]


@pytest.mark.asyncio
async def test_a_revocation_waits_for_an_apply_that_began_before_it() -> None:
    async with running_server(NATS(), SYSTEM) as rig:
        left = rig.compile(rig.system.without_identities(frozenset({"alice"})))
        await rig.enforcer.apply(left, rig.host)
        before = asyncio.ensure_future(rig.enforcer.apply(rig.plan, rig.host))
        await asyncio.sleep(0)
        await rig.enforcer.revoke(left, rig.host, "alice")
        await before
        assert list(await rig.enforcer.drift(left, rig.host)) == []
