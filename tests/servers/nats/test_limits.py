"""No service takes the whole server: connections, subscriptions, payload, storage."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from nats.js.errors import APIError
from nats.js.kv import KeyValue

from tests.rig import running_server
from tests.servers.nats.clients import connected, flushed
from tests.servers.nats.test_accounts import DEADLINE_SECONDS, GROUP, OLD_GROUP
from watertight.servers.nats.server import NATS

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("group", [GROUP, OLD_GROUP], ids=["new", "old"])
async def test_one_service_at_its_limits_leaves_the_others_alone(group: str) -> None:
    async with running_server(NATS(), group) as rig, AsyncExitStack() as stack:
        dans = [await stack.enter_async_context(connected(rig, "dan")) for _ in range(2)]
        with pytest.raises(Exception, match=r"(?i)maximum account active connections|lost|closed"):
            await stack.enter_async_context(connected(rig, "dan"))
        for number in range(3):
            await dans[0].nats.subscribe(f"_INBOX.dan.{number}")
        await flushed(dans[0])
        assert dans[0].errors == []
        await dans[0].nats.subscribe("_INBOX.dan.4")
        async with asyncio.timeout(DEADLINE_SECONDS):
            while dans[0].nats.is_connected:  # noqa: ASYNC110 (there is no event to wait for)
                await asyncio.sleep(0.01)
        assert dans[1].nats.is_connected
        async with connected(rig, "ann") as ann:
            shared = await ann.nats.jetstream().key_value("shared")
            refusal = await _fill(shared)
            assert "maximum bytes" in refusal
            assert (await shared.get("large.0")).value == b"x" * 1_000_000  # nothing made room
            await ann.nats.jetstream().publish("chat.ann.log", b"another stream has its own room")


async def _fill(bucket: KeyValue) -> str:
    """What the server says once there is no room, for 40 MB in 16 MiB."""
    for number in range(40):
        try:
            await bucket.put(f"large.{number}", b"x" * 1_000_000)
        except APIError as full:
            return str(full)
    return "there was room"
