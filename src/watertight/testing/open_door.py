"""A door that takes anybody in: what every attack on TLS and identity must find."""

import asyncio
import contextlib
import ssl
import tempfile
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from watertight.identity.workload_api.splice import Stream
from watertight.testing.rig import Rig

HANDSHAKE = b"\x16"
"""How TLS begins (RFC 8446, section 5.1)."""
CHUNK_BYTES = 1 << 16


@asynccontextmanager
async def open_door(
    rig: Rig, service: str, *, knock: bytes = b"", answer: bytes = b""
) -> AsyncIterator[None]:
    """At the service's door, TLS of any version with anybody, or none; behind it, ``service``.

    ``knock``: what a client says before TLS, and what it is answered; nothing: TLS begins at once.
    """
    door = rig.arena.door(rig.resource, service)
    inner, lax = _as_itself(rig, service), _lax(rig)

    async def server() -> Stream:
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.host.port)
        writer.write(knock)
        await reader.readexactly(len(answer))
        await writer.start_tls(inner)
        return Stream(reader, writer)

    passing: set[asyncio.Task[None] | None] = set()
    """Held: the event loop forgets a task that waits."""

    async def passed(here: Stream, there: Stream) -> None:
        passing.add(task := asyncio.current_task())
        try:
            async with asyncio.TaskGroup() as both:
                one = both.create_task(_copy(here.reader, there.writer))
                other = both.create_task(_copy(there.reader, here.writer))
                one.add_done_callback(lambda _: other.cancel())
                other.add_done_callback(lambda _: one.cancel())
        finally:
            for end in (here, there):  # the server must not wait for who has gone
                end.writer.close()
            passing.discard(task)

    async def onward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            await passed(Stream(reader, writer), await server())

    with tempfile.TemporaryDirectory() as directory:
        secure = Path(directory) / "tls.sock"

        async def by_first_byte(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            first = await reader.read(len(knock) or 1)
            if not first:
                writer.close()
                return
            with contextlib.suppress(OSError, EOFError):
                if first == (knock or HANDSHAKE):
                    there = Stream(*await asyncio.open_unix_connection(secure))
                else:
                    there = await server()
                if first == knock:
                    writer.write(answer)
                else:
                    there.writer.write(first)
                await passed(Stream(reader, writer), there)

        whole = door.with_suffix(".whole")
        door.rename(whole)
        try:
            async with (
                await asyncio.start_unix_server(onward, secure, ssl=lax),
                await asyncio.start_unix_server(by_first_byte, door),
            ):
                yield
        finally:
            door.unlink(missing_ok=True)
            whole.rename(door)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()


def _as_itself(rig: Rig, service: str) -> ssl.SSLContext:
    own = rig.host.placement.credentials(service)
    context = ssl.create_default_context(cafile=str(own / "bundle.pem"))
    context.check_hostname = False  # the name is the resource's, the address is not
    context.load_cert_chain(own / "certificate.pem", own / "private_key.pem")
    return context


def _lax(rig: Rig) -> ssl.SSLContext:
    own = rig.host.placement.credentials(rig.resource)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own / "certificate.pem", own / "private_key.pem")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context
