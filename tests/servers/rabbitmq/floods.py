"""Clients that take the broker's memory, each in a way of its own."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.rig import Rig
from tests.servers.rabbitmq.clients import identity
from watertight.servers.rabbitmq.attacks import frames

MIB = 1 << 20
FRAME_BYTES = 131_000
QOS, CONSUME, GET, PUBLISH = (60, 10), (60, 20), (60, 70), (60, 40)
TRANSACTION = frames.method(1, (90, 10), b"")
CONFIRMED = frames.method(1, (85, 10), b"\x00")


class Client:
    """A connection whose user minds what he sends, and not what comes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.sent_bytes = 0

    async def send(self, data: bytes) -> None:
        """Waits while the broker does not read. Raises OSError once it has ended the connection."""
        self._writer.write(data)
        await self._writer.drain()
        self.sent_bytes += len(data)

    async def publish(self, queue: str, size_bytes: int, number: int) -> None:
        """As many messages as the broker takes."""
        one = message(1, queue, size_bytes)
        for _ in range(number):
            await self.send(one)

    async def refusal(self) -> str:
        """What the broker says as it closes the channel, or the connection."""
        said = b""
        async with asyncio.timeout(60):
            while part := await self._reader.read(1 << 16):
                said += part
                for kind in (frames.CHANNEL_CLOSE, frames.CONNECTION_CLOSE):
                    if (mark := struct.pack(">HH", *kind)) in said:
                        return said.rpartition(mark)[2].decode(errors="replace")
        raise ConnectionError("the broker closed without a word")

    async def hear(self) -> None:
        """Reads what comes, until the end."""
        with contextlib.suppress(OSError):
            while await self._reader.read(1 << 16):
                pass

    async def ended(self) -> None:
        """Until the broker has ended it."""
        await self.hear()

    def deaf(self) -> None:
        """Reads nothing any more."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    def vanish(self) -> None:
        """Without a word."""
        self._writer.transport.abort()


def message(channel: int, queue: str, size_bytes: int, *, whole: bool = True) -> bytes:
    """Published to the queue's own exchange; not ``whole``: its last byte never comes."""
    names = b"\x00\x00" + frames.short(f"to.{queue}") + frames.short(queue)
    said = frames.method(channel, PUBLISH, names + b"\x00")
    said += frames.frame(frames.CONTENT, channel, struct.pack(">HHQH", 60, 0, size_bytes, 0))
    body = bytes(size_bytes if whole else size_bytes - 1)
    return said + b"".join(
        frames.frame(frames.BODY, channel, body[at : at + FRAME_BYTES])
        for at in range(0, len(body), FRAME_BYTES)
    )


def consume(channel: int, queue: str) -> bytes:
    """Without acknowledgements, and as much as there is."""
    asked = b"\x00\x00" + frames.short(queue) + frames.short("") + b"\x02" + frames.EMPTY_TABLE
    return frames.method(channel, CONSUME, asked)


def get(channel: int, queue: str) -> bytes:
    """One message, if there is one; without an acknowledgement."""
    return frames.method(channel, GET, b"\x00\x00" + frames.short(queue) + b"\x01")


def channels(first: int, last: int) -> bytes:
    """Opens them."""
    numbers = range(first, last + 1)
    return b"".join(frames.method(n, frames.CHANNEL_OPEN, frames.short("")) for n in numbers)


@asynccontextmanager
async def logged_in(rig: Rig, service: str, more: bytes = b"") -> AsyncIterator[Client]:
    """With one channel, and ``more`` said on it; it wants no heartbeats. It vanishes at the end."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", rig.host.port, ssl=identity(rig, service), server_hostname=rig.resource
    )
    client = Client(reader, writer)
    try:
        writer.write(frames.HEADER)
        await reader.read(1 << 16)
        answer = frames.client_properties() + frames.short("EXTERNAL") + frames.long(b"")
        writer.write(frames.method(0, frames.START_OK, answer + frames.short("en_US")))
        await reader.read(1 << 16)
        host = frames.short(rig.resource) + frames.short("") + b"\x00"
        writer.write(
            frames.method(0, frames.TUNE_OK, struct.pack(">HIH", 128, 131_072, 0))
            + frames.method(0, frames.OPEN, host)
            + channels(1, 1)
            + more
        )
        await writer.drain()
        yield client
    finally:
        client.vanish()


@asynccontextmanager
async def many(
    rig: Rig, service: str, number: int, more: bytes = b""
) -> AsyncIterator[Sequence[Client]]:
    """So many of them."""
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(logged_in(rig, service, more)) for _ in range(number)
        ]
