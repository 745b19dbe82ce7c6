"""A door that takes anybody in: what every attack on TLS and identity must find."""

import asyncio
import contextlib
import ssl
import tempfile
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from watertight.identity.workload_api.splice import Stream, splice
from watertight.testing.rig import Rig

HANDSHAKE = b"\x16"
"""How TLS begins (RFC 8446, section 5.1)."""


@asynccontextmanager
async def open_door(rig: Rig, service: str) -> AsyncIterator[None]:
    """At the service's door, TLS of any version with anybody, or none; behind it, ``service``.

    For protocols that begin with TLS.
    """
    door = rig.arena.door(rig.resource, service)
    inner, lax = _as_itself(rig, service), _lax(rig)

    async def server() -> Stream:
        return Stream(*await asyncio.open_connection("127.0.0.1", rig.host.port, ssl=inner))

    passing: set[asyncio.Task[None] | None] = set()
    """Held: the event loop forgets a task that waits."""

    async def passed(here: Stream, there: Stream) -> None:
        passing.add(task := asyncio.current_task())
        try:
            await splice(here, there)
        finally:
            passing.discard(task)

    async def onward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await passed(Stream(reader, writer), await server())

    with tempfile.TemporaryDirectory() as directory:
        secure = Path(directory) / "tls.sock"

        async def by_first_byte(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            first = await reader.read(1)
            if not first:
                writer.close()
                return
            with contextlib.suppress(OSError):
                if first == HANDSHAKE:
                    there = Stream(*await asyncio.open_unix_connection(secure))
                else:
                    there = await server()
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
