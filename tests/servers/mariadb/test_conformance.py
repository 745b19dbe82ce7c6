"""MariaDB does what every kind of server must, and each of its probes bites."""

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.rig import Rig
from tests.servers.mariadb.sabotages import BY_HAND, LIVE, ORDERS, TICKETS
from tests.servers.mariadb.shop import FILES, SHOP
from watertight.attack.login import Login
from watertight.attack.probe import Verdict
from watertight.attack.tls import TLSWire
from watertight.enforcers.resource import ServerPlan
from watertight.identity.workload_api.splice import Stream, splice
from watertight.servers.mariadb.attacks.dialect import DIALECT, Session
from watertight.servers.mariadb.compile import CONFIGURATION, OPENSSL
from watertight.servers.mariadb.server import SSL_REQUEST, MariaDB
from watertight.servers.mariadb.session import ask
from watertight.testing import Conformance


class TestConformance(Conformance):
    enforcer = MariaDB
    declaration = SHOP
    beside = FILES
    dialect = DIALECT
    refusal = "does not start"
    by_hand = BY_HAND
    weakenings = LIVE
    beyond_door = TICKETS

    async def do(self, rig: Rig, *things: Any) -> None:
        await ask(rig.plan, rig.host, ";\n".join(things))

    async def speak(self, rig: Rig, session: TLSWire, login: Login) -> None:
        assert not (await Session(session).query("SELECT 1")).code

    def refused(self, rig: Rig) -> Sequence[ServerPlan]:
        """A file with which it does not start, and less for others."""
        less = rig.compile(rig.system.without_identities(frozenset({"billing"})))
        text = rig.plan.files[CONFIGURATION]
        return [replace(less, files={**less.files, CONFIGURATION: f"{text}no_such_option = 1\n"})]

    @classmethod
    def door(cls, rig: Rig, service: str) -> AbstractAsyncContextManager[None]:
        return credulous(rig, service)

    async def test_a_server_that_remembers_sessions_is_found(self, rig: Rig) -> None:
        """Also while others come and go: it remembers the last 128."""
        remembers = rig.plan.files[OPENSSL].replace("NumTickets = 0\n", "")
        await rig.restart_with({OPENSSL: remembers})
        others = [p for p in rig.probes if p.id.startswith(("tls.", "identity."))]
        try:
            mine = [p for p in rig.probes if p.id in TICKETS and p.channel == ORDERS]
            [result] = [r for r in await rig.run([*mine, *others]) if r.id in TICKETS]
            assert result.verdict is Verdict.BROKEN
        finally:
            await rig.enforcer.apply(rig.plan, rig.host)


@asynccontextmanager
async def credulous(rig: Rig, service: str) -> AsyncIterator[None]:
    """At the service's door, what greets, takes any TLS or none, and lets anybody in."""
    path = rig.host.placement.door(rig.resource, service)
    credentials = rig.host.placement.credentials(rig.resource)
    lax = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    lax.set_ciphers("ALL:@SECLEVEL=0")
    lax.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    lax.load_cert_chain(credentials / "certificate.pem", credentials / "private_key.pem")

    async def obey(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                number, _ = await packet(reader)
                writer.write(b"\x07\x00\x00" + bytes([number + 1]) + b"\0\0\0\2\0\0\0")
        writer.close()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            writer.write(b"\x02\x00\x00\x00\x0ax")
            number, said = await packet(reader)
            if len(said) == len(SSL_REQUEST) - 4:
                inner = await asyncio.open_unix_connection(secure)
                await splice(Stream(reader, writer), Stream(*inner))
            else:
                writer.write(b"\x07\x00\x00" + bytes([number + 1]) + b"\0\0\0\2\0\0\0")
                await obey(reader, writer)

    with tempfile.TemporaryDirectory() as aside:
        secure = Path(aside) / "secure"
        whole = path.rename(Path(aside) / "door")
        try:
            async with (
                await asyncio.start_unix_server(obey, secure, ssl=lax),
                await asyncio.start_unix_server(greet, path),
            ):
                yield
        finally:
            path.unlink(missing_ok=True)
            whole.rename(path)


async def packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Number and content."""
    head = await reader.readexactly(4)
    return head[3], await reader.readexactly(int.from_bytes(head[:3], "little"))
