"""Services that are alone in their accounts hear all that they may, once, and nothing else."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.js.errors import APIError, KeyNotFoundError, KeyWrongLastSequenceError

from tests.rig import Rig, running_server
from tests.servers.nats.clients import Session, connected, flushed
from watertight.servers.nats.server import NATS

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEADLINE_SECONDS = 15.0
GROUP = """
trust_domain: shop.internal
services: {ann: {}, bob: {}, cat: {}, dan: {}, eve: {}}
resources:
  talk:
    kind: nats
    port: {port}
    storage: 1GiB
    streams:
      LOG: {subjects: ["chat.*.log"], max_size: 16MiB}
      KV_settings: {subjects: ["$KV.settings.>"], max_size: 16MiB, history: 3}
    buckets: {shared: {max_size: 16MiB}}
    object_stores: {files: {max_size: 16MiB}}
channels:
  - from: ann
    to: talk
    publish: [chat.*.say, chat.ann.log]
    subscribe: [chat.>]
    buckets: {shared: [read, write]}
    object_stores: {files: [read, write]}
  - from: bob
    to: talk
    publish: [chat.bob.>, "$KV.settings.bob.>"]
    subscribe: [chat.*.say, chat.bob.ask]
    reply: true
    consume: [LOG, KV_settings]
  - {from: cat, to: talk, subscribe: [chat.*.say, chat.bob.log], publish: [chat.bob.ask]}
  - {from: dan, to: talk, subscribe: ["$KV.settings.bob.color"], connections: 2, subscriptions: 3}
  - {from: eve, to: talk, publish: [chat.eve.say], subscribe: [eve.ask], reply: true}
"""
OLD_GROUP = GROUP.replace("kind: nats", "kind: nats\n    minimum_tls: 1.2")


@pytest_asyncio.fixture(
    loop_scope="module", scope="module", params=[GROUP, OLD_GROUP], ids=["new", "old"]
)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with running_server(NATS(), request.param) as running:
        yield running


async def hears(session: Session, subject: str, queue: str = "") -> Counter[str]:
    heard: Counter[str] = Counter()

    async def hear(message: Msg) -> None:
        heard[f"{message.subject} {message.data.decode()}"] += 1

    await session.nats.subscribe(subject, queue=queue, cb=hear)
    await flushed(session)
    return heard


async def test_everybody_hears_once_and_so_does_who_speaks(rig: Rig) -> None:
    async with (
        connected(rig, "ann") as ann,
        connected(rig, "bob") as bob,
        connected(rig, "cat") as cat,
        connected(rig, "eve") as eve,
    ):
        heard = [
            await hears(ann, "chat.>"),
            await hears(bob, "chat.*.say"),
            await hears(cat, "chat.*.say"),
        ]
        for speaker, name in ((ann, "ann"), (bob, "bob"), (eve, "eve")):
            await speaker.nats.publish(f"chat.{name}.say", name.encode())
        everything = {f"chat.{name}.say {name}": 1 for name in ("ann", "bob", "eve")}
        async with asyncio.timeout(DEADLINE_SECONDS):
            while any(each != everything for each in heard):  # noqa: ASYNC110 (no event)
                await asyncio.sleep(0.01)
        await flushed(ann, bob, cat, eve)
        assert heard == [everything] * 3
        assert ann.errors == bob.errors == cat.errors == eve.errors == []


async def test_what_crosses_is_no_wider_than_both_grants(rig: Rig) -> None:
    """Ann hears all of chat, cat only bob's log; bob's own grant takes in more."""
    async with connected(rig, "ann") as ann, connected(rig, "bob") as bob:
        async with connected(rig, "cat") as cat:
            to_ann, to_cat = await hears(ann, "chat.>"), await hears(cat, "chat.bob.log")
            for subject in ("chat.bob.log", "chat.bob.deep.er", "chat.bob.log"):
                await bob.nats.publish(subject, b"x")
            await flushed(bob, ann, cat)
        assert to_ann == {"chat.bob.log x": 2, "chat.bob.deep.er x": 1}
        assert to_cat == {"chat.bob.log x": 2}


async def test_a_request_is_answered_and_its_reply_subject_stays_outside(rig: Rig) -> None:
    seen = []

    async def answer(message: Msg) -> None:
        seen.append(message.reply)
        await message.respond(b"yes")

    async with connected(rig, "bob") as bob, connected(rig, "cat") as cat:
        await bob.nats.subscribe("chat.bob.ask", cb=answer)
        await flushed(bob)
        answered = await cat.nats.request("chat.bob.ask", timeout=DEADLINE_SECONDS)
        assert answered.data == b"yes"
        own = await bob.nats.request("chat.bob.ask", timeout=DEADLINE_SECONDS)
        assert own.data == b"yes"
        assert len(seen) == 2
        assert all(reply.startswith("_R_.") for reply in seen)


async def test_an_answer_never_comes_to_another_than_who_asked(rig: Rig) -> None:
    answered = asyncio.Event()

    async def answer(message: Msg) -> None:
        await message.respond(b"yes")
        answered.set()

    async with (
        connected(rig, "ann") as ann,
        connected(rig, "bob") as bob,
        connected(rig, "cat") as cat,
    ):
        heard = await hears(ann, "_INBOX.ann.>")
        await bob.nats.subscribe("chat.bob.ask", cb=answer)
        await flushed(bob)
        await cat.nats.publish("chat.bob.ask", reply="_INBOX.ann.x")
        async with asyncio.timeout(DEADLINE_SECONDS):
            await answered.wait()
        await flushed(bob, ann)
        assert heard == {}


async def test_who_asks_when_nobody_listens_is_told_at_once(rig: Rig) -> None:
    if "minimum_tls" in rig.system.resources[rig.resource].options:
        pytest.skip("nats-server 2.9 takes an import for somebody who listens")
    async with connected(rig, "cat") as cat:
        with pytest.raises(NoRespondersError):
            await cat.nats.request("chat.bob.ask", timeout=DEADLINE_SECONDS)


async def test_one_of_a_queue_gets_each_message(rig: Rig) -> None:
    async with (
        connected(rig, "bob") as one,
        connected(rig, "bob") as two,
        connected(rig, "cat") as three,
        connected(rig, "cat") as four,
        connected(rig, "eve") as eve,
    ):
        bobs = [await hears(one, "chat.*.say", "q"), await hears(two, "chat.*.say", "q")]
        cats = [await hears(three, "chat.*.say", "c"), await hears(four, "chat.*.say", "c")]
        for number in range(40):
            await eve.nats.publish("chat.eve.say", str(number).encode())
        await flushed(eve, one, two, three, four)
        expected = {f"chat.eve.say {number}": 1 for number in range(40)}
        assert bobs[0] + bobs[1] == expected
        assert cats[0] + cats[1] == expected


async def test_both_of_two_who_answer_are_asked() -> None:
    both = GROUP.replace("subscribe: [eve.ask]", "subscribe: [eve.ask, chat.bob.ask]")

    async def answer(message: Msg) -> None:
        await message.respond(b"yes")

    async with (
        running_server(NATS(), both) as rig,
        connected(rig, "bob") as bob,
        connected(rig, "eve") as eve,
        connected(rig, "cat") as cat,
    ):
        for one in (bob, eve):
            await one.nats.subscribe("chat.bob.ask", cb=answer)
            await flushed(one)
        inbox = await cat.nats.subscribe(cat.nats.new_inbox())
        await cat.nats.publish("chat.bob.ask", reply=inbox.subject)
        for _ in range(2):
            assert (await inbox.next_msg(timeout=DEADLINE_SECONDS)).data == b"yes"


async def test_a_stream_is_read_by_its_consumer_from_another_account(rig: Rig) -> None:
    async with connected(rig, "ann") as ann, connected(rig, "bob") as bob:
        sent = [
            (await ann.nats.jetstream().publish("chat.ann.log", str(n).encode())).seq
            for n in range(300)
        ]
        bound = await bob.nats.jetstream().pull_subscribe_bind("bob", stream="LOG")
        got: list[int] = []
        while len(got) < len(sent):
            for message in await bound.fetch(50, timeout=DEADLINE_SECONDS):
                assert message.headers is None  # nothing of how it came here is kept
                if message.metadata.sequence.stream >= sent[0]:
                    got.append(message.metadata.sequence.stream)
                await message.ack_sync()
        assert got == sent
        assert (await bound.consumer_info()).num_ack_pending == 0
        assert ann.errors == bob.errors == []


async def test_a_bucket_is_written_and_read_by_keys(rig: Rig) -> None:
    async with connected(rig, "bob") as bob, connected(rig, "dan") as dan:
        mine = await bob.nats.jetstream().key_value("settings")
        first = await mine.put("bob.color", b"red")
        assert await mine.update("bob.color", b"blue", last=first) == first + 1
        with pytest.raises(KeyWrongLastSequenceError):
            await mine.update("bob.color", b"green", last=first)
        assert (await mine.get("bob.color")).value == b"blue"
        assert (await mine.get("bob.color", revision=first)).value == b"red"
        theirs = await dan.nats.jetstream().key_value("settings")
        assert (await theirs.get("bob.color")).value == b"blue"
        live = await dan.nats.subscribe("$KV.settings.bob.color")
        await flushed(dan)
        await mine.put("bob.color", b"black")
        assert (await live.next_msg(timeout=DEADLINE_SECONDS)).data == b"black"
        await mine.delete("bob.color")
        with pytest.raises(KeyNotFoundError):
            await theirs.get("bob.color")
        with pytest.raises(APIError, match="rollup"):  # it would reach keys that are not bob's
            await mine.purge("bob.color")
        assert bob.errors == dan.errors == []
        updates = await bob.nats.jetstream().pull_subscribe_bind("bob", stream="KV_settings")
        messages = await updates.fetch(10, timeout=DEADLINE_SECONDS)
        assert [m.data for m in messages] == [b"blue", b"black", b""]


async def test_who_may_write_all_of_a_bucket_may_purge_it(rig: Rig) -> None:
    async with connected(rig, "ann") as ann:
        shared = await ann.nats.jetstream().key_value("shared")
        await shared.put("a", b"1")
        await shared.put("b", b"2")
        await shared.purge("a")
        assert (await shared.get("b")).value == b"2"
        with pytest.raises(KeyNotFoundError):
            await shared.get("a")
        assert ann.errors == []


async def test_an_object_is_put_in_a_store(rig: Rig) -> None:
    async with connected(rig, "ann") as ann:
        files = await ann.nats.jetstream().object_store("files")
        for content in (b"first", b"x" * 300_000):
            await files.put("report", content)
        assert (await files.get_info("report")).size == 300_000
        assert ann.errors == []
