"""Two streams are joined completely, in bounded memory, and come apart completely."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.identity.serving.polling import eventually
from watertight.identity.workload_api import splice as splicing
from watertight.identity.workload_api.splice import Stream, splice

MEBIBYTE = 1 << 20


async def stream(end: socket.socket) -> Stream:
    end.setblocking(False)
    return Stream(*await asyncio.open_unix_connection(sock=end, limit=splicing.BUFFER_BYTES))


@dataclass
class Joined:
    """The outer ends of two connections whose inner ends are spliced."""

    near: Stream
    far: Stream
    task: asyncio.Task[None]
    inner: tuple[Stream, Stream]


@pytest.fixture
async def joined() -> AsyncIterator[Joined]:
    near, near_inner = socket.socketpair()
    far, far_inner = socket.socketpair()
    inner = (await stream(near_inner), await stream(far_inner))
    task = asyncio.get_running_loop().create_task(splice(*inner))
    whole = Joined(await stream(near), await stream(far), task, inner)
    yield whole
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    for outer in (whole.near, whole.far):
        outer.writer.transport.abort()
    assert all(end.writer.transport.is_closing() for end in inner)


async def test_bytes_pass_both_ways(joined: Joined) -> None:
    joined.near.writer.write(b"question")
    assert await joined.far.reader.readexactly(8) == b"question"
    joined.far.writer.write(b"answer")
    assert await joined.near.reader.readexactly(6) == b"answer"


async def test_the_end_of_one_direction_leaves_the_other_open(joined: Joined) -> None:
    joined.near.writer.write(b"all")
    joined.near.writer.write_eof()
    assert await joined.far.reader.read() == b"all"
    assert not joined.task.done()
    joined.far.writer.write(b"answer")
    joined.far.writer.write_eof()
    assert await joined.near.reader.read() == b"answer"
    async with asyncio.timeout(60):
        await joined.task


async def test_a_side_that_breaks_ends_the_other(joined: Joined) -> None:
    joined.far.writer.transport.abort()
    joined.near.writer.write(b"x" * 16)
    assert await joined.near.reader.read() == b""
    joined.near.writer.close()
    async with asyncio.timeout(60):
        await joined.task


async def test_a_side_that_does_not_read_stops_the_other_ones_writes(joined: Joined) -> None:
    """Of 64 MiB offered, only what the buffers hold is taken until somebody reads."""
    offered = 64 * MEBIBYTE
    taken = 0

    async def offer() -> None:
        nonlocal taken
        block = bytes(MEBIBYTE)
        while taken < offered:
            joined.near.writer.write(block)
            await joined.near.writer.drain()
            taken += len(block)
        joined.near.writer.write_eof()

    async with asyncio.TaskGroup() as group:
        offering = group.create_task(offer())
        await eventually(lambda: _is_held_up(joined))
        for _ in range(200):  # Turns of the loop, each of which could take 64 KiB more.
            await asyncio.sleep(0)
        held = joined.inner[1].writer.transport.get_write_buffer_size()
        assert held <= 2 * splicing.BUFFER_BYTES
        assert taken < 4 * MEBIBYTE
        assert not offering.done()
        received = 0
        while data := await joined.far.reader.read(MEBIBYTE):
            received += len(data)
    assert received == offered


def _is_held_up(joined: Joined) -> bool:
    """Both writers are full: the offering one, and the one towards the side that does not read."""
    writers = (joined.near.writer, joined.inner[1].writer)
    return all(w.transport.get_write_buffer_size() > splicing.BUFFER_BYTES for w in writers)


async def test_a_side_that_never_takes_the_rest_is_given_up(
    joined: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splicing, "_FLUSH_SECONDS", 0.05)
    rest = bytes(8 * splicing.BUFFER_BYTES)
    joined.inner[1].writer.write(rest)  # More than the socket takes; nobody reads it.
    joined.near.writer.write_eof()
    joined.far.writer.write_eof()
    async with asyncio.timeout(60):
        await joined.task


async def test_cancelling_closes_both_sides(joined: Joined) -> None:
    joined.task.cancel()
    assert await joined.near.reader.read() == b""
    assert await joined.far.reader.read() == b""
