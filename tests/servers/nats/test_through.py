"""Two who hear the same and read the same stream: none reaches the other through the server, and
none is taken for having done so."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from nats.aio.msg import Msg

from tests.rig import Rig, not_held, running_server
from tests.servers.nats.clients import connected, flushed
from tests.servers.nats.sabotages import one_account
from watertight.attack.probe import Verdict
from watertight.servers.nats.compile import CONFIGURATION
from watertight.servers.nats.server import NATS

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALIKE = """
trust_domain: alike.internal
services: {ann: {}, ben: {}, herald: {}}
resources:
  bus: {kind: nats, port: {port}, streams: {EV: [ev.>]}}
channels:
  - {from: ann, to: bus, publish: [ev.ann.>], subscribe: [news.>, alarm], consume: [EV]}
  - {from: ben, to: bus, publish: [ev.ben.>], subscribe: [news.>, alarm], consume: [EV]}
  - {from: herald, to: bus, publish: [news.x, alarm]}
"""
OLD_ALIKE = ALIKE.replace("kind: nats", "kind: nats, minimum_tls: 1.2")
ROUNDS = 3
DEADLINE_SECONDS = 15.0
TARGETS = ("news.x", "news.other", "alarm", "_INBOX.ben.x")
"""What ben hears, and ann may publish none of."""
ASKS = ("$JS.API.CONSUMER.INFO.EV.ann", "$JS.API.CONSUMER.MSG.NEXT.EV.ann", "ev.ann.x")
"""What the server answers to ann: of its API, with a message, by an acknowledgement."""


@pytest_asyncio.fixture(
    loop_scope="module", scope="module", params=[ALIKE, OLD_ALIKE], ids=["new", "old"]
)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with running_server(NATS(), request.param) as running:
        yield running


async def test_an_answer_to_ones_own_question_is_none_to_anothers(rig: Rig) -> None:
    probes = [p for p in rig.probes if p.id.startswith("reach")]
    for _ in range(ROUNDS):
        assert not_held(await rig.run(probes)) == {}


async def test_an_answer_at_what_another_hears_too_stays_with_who_asked(rig: Rig) -> None:
    """Without any probe: ann alone asks, and both listen. What the herald says after that comes to
    both, so ben did listen."""
    heard: dict[str, list[str]] = {"ann": [], "ben": []}
    async with (
        connected(rig, "ann") as ann,
        connected(rig, "ben") as ben,
        connected(rig, "herald") as herald,
    ):
        for name, session in (("ann", ann), ("ben", ben)):

            async def note(message: Msg, name: str = name) -> None:
                heard[name].append(message.subject)

            for subject in ("news.>", "alarm", f"_INBOX.{name}.>"):
                await session.nats.subscribe(subject, cb=note)
        await flushed(ann, ben)
        for target in TARGETS:
            for ask in ASKS:
                await ann.nats.publish(ask, reply=target)
            if rig.system.resources[rig.resource].options.get("minimum_tls") is None:
                trace = {"Nats-Trace-Dest": target, "Nats-Trace-Only": "true"}
                await ann.nats.publish("ev.ann.x", headers=trace)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not set(TARGETS[:3]) <= set(heard["ann"]):  # noqa: ASYNC110 (no event)
                await asyncio.sleep(0.01)
        await flushed(ann, herald)
        await herald.nats.publish("alarm", b"now")
        await flushed(herald)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not heard["ben"]:  # noqa: ASYNC110 (no event)
                await asyncio.sleep(0.01)
        await flushed(ben)
        assert heard["ben"] == ["alarm"]


async def test_in_one_account_each_is_seen_to_reach_the_other(rig: Rig) -> None:
    """The sabotage: what tells an answer to one's own question apart must not hide a true one."""
    await rig.host.stop()
    await rig.host.write({CONFIGURATION: one_account(rig.plan.files[CONFIGURATION])})
    await rig.host.start()
    try:
        probes = [p for p in rig.probes if p.id == "reach.through-server"]
        for one, other in (("ann", "ben"), ("ben", "ann")):
            aimed = [
                p for p in probes if p.channel == f"{one} -> bus" and f"only {other} " in p.attempt
            ]
            (result,) = await rig.run(aimed)
            assert result.verdict is Verdict.BROKEN, result
    finally:
        await rig.host.stop()
        await rig.host.write(rig.plan.files)
        await rig.host.start()
