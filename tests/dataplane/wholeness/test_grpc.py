"""Every message arrives, then the status arrives: gRPC."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from tests.dataplane.wholeness.apps import CHUNK
from tests.dataplane.wholeness.paths import DEADLINE_SECONDS, MOST_RPC_BYTES, all_paths
from tests.mesh import Mesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

MESSAGES = 50


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def mesh() -> AsyncIterator[Mesh]:
    async with all_paths() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def channel(mesh: Mesh) -> AsyncIterator[Any]:
    host, port = mesh.address("identity", "catalogue")
    limits = [(f"grpc.max_{way}_message_length", MOST_RPC_BYTES) for way in ("send", "receive")]
    async with grpc.aio.insecure_channel(f"{host}:{port}", options=limits) as made:
        yield made


@pytest.mark.parametrize("size", [0, 1, 1_000_000, 20_000_000])
async def test_one_message_each_way_and_trailers(channel: Any, size: int) -> None:
    call = channel.unary_unary("/shop.Catalogue/Unary")(b"x" * size, timeout=DEADLINE_SECONDS)
    assert len(await call) == size
    assert ("x-sum", "42") in list(await call.trailing_metadata())


async def test_the_server_streams(channel: Any) -> None:
    call = channel.unary_stream("/shop.Catalogue/Down")(b"%d" % MESSAGES, timeout=DEADLINE_SECONDS)
    assert [message async for message in call] == [CHUNK] * MESSAGES
    assert await call.code() is grpc.StatusCode.OK


async def test_the_client_streams(channel: Any) -> None:
    sent = iter([CHUNK] * MESSAGES)
    total = await channel.stream_unary("/shop.Catalogue/Up")(sent, timeout=DEADLINE_SECONDS)
    assert int(total) == MESSAGES * len(CHUNK)


async def test_both_stream_in_turn(channel: Any) -> None:
    call = channel.stream_stream("/shop.Catalogue/Both")(timeout=DEADLINE_SECONDS)
    for number in range(MESSAGES):
        await call.write(b"%d" % number)
        assert await call.read() == b"%d" % number
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_a_server_that_ends_first_says_why(channel: Any) -> None:
    call = channel.stream_stream("/shop.Catalogue/Ends")(timeout=DEADLINE_SECONDS)
    await call.write(b"one")
    assert await call.read() == b"one"
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await call.details() == "enough"


@pytest.mark.parametrize("asked_seconds", [50, 3_000_000, None])
async def test_the_server_is_told_the_client_s_deadline(
    channel: Any, asked_seconds: int | None
) -> None:
    """Or that of the stream, which lives no longer than an SVID."""
    told = await channel.unary_unary("/shop.Catalogue/Left")(b"", timeout=asked_seconds)
    # A client may round its deadline up (gRPC over HTTP2, "Timeout": eight digits of one unit).
    assert 0 < float(told) <= (51 if asked_seconds == 50 else 3_600)
