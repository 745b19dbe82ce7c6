"""Joins two byte streams, both ways, in bounded memory."""

import asyncio
from dataclasses import dataclass

BUFFER_BYTES = 64 * 1024
"""Per direction: what one side has sent and the other has not taken yet (asyncio's own limit)."""

_FLUSH_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Stream:
    """One connection: what it says, and what it is told."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


async def splice(near: Stream, far: Stream) -> None:
    """Copies both ways until both directions have ended, or one side broke; closes both.

    The end of one direction is passed on as such (half-close), the other one goes on. A side that
    does not read stops the other one's writes (back-pressure). Never raises for a broken side:
    that is how connections end.
    """
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_copy(near.reader, far.writer))
            group.create_task(_copy(far.reader, near.writer))
        await _close(near, far)
    except* OSError:
        pass
    finally:
        # After a close that came to its end this does nothing.
        for stream in (near, far):
            stream.writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(BUFFER_BYTES):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def _close(*streams: Stream) -> None:
    """Lets what was written reach the other side, but not for ever: it may never read."""
    async with asyncio.timeout(_FLUSH_SECONDS):  # TimeoutError is an OSError.
        for stream in streams:
            stream.writer.close()
            await stream.writer.wait_closed()
