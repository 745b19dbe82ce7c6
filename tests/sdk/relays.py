"""What stands between a client and a server: its own proxy, or somebody who strips TLS."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from watertight.identity.workload_api.splice import Stream, splice

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""PostgreSQL's (manual, section 55.7)."""
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def originating(connect: Callable[[], Awaitable[Streams]]) -> AsyncIterator[int]:
    """Takes connections in the clear and passes their bytes on to what ``connect`` opened."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await splice(Stream(reader, writer), Stream(*await connect()))
        writer.close()

    async with await asyncio.start_server(pass_on, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def stripping(greeting: bytes, answer: bytes) -> AsyncIterator[tuple[int, bytearray]]:
    """A server that says it has no TLS: it greets, answers once, and keeps what it is sent."""
    seen = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(greeting)
            while data := await reader.read(4096):
                seen.extend(data)
                writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], seen
