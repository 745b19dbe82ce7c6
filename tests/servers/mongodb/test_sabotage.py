"""Probes bite: on a server that is weakened they are red, and on one that is whole none is."""

import asyncio
import contextlib
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from tests.rig import Rig, not_held, running_server
from tests.servers.mongodb.shop import SHOP
from watertight.attack.probe import Verdict
from watertight.identity.workload_api.splice import Stream, splice
from watertight.servers.mongodb.attacks.dialect import command, document
from watertight.servers.mongodb.compile import FERRETDB_SOCKET, GRANTS
from watertight.servers.mongodb.operator import Operator
from watertight.servers.mongodb.server import MongoDB

pytestmark = pytest.mark.asyncio(loop_scope="module")

ACTIONS = {f"grants.{action}" for action in ("find", "insert", "update", "remove", "index")}
LET_IN = {
    "tls.no-certificate",
    "tls.version-1.2",
    "identity.expired",
    "identity.foreign-authority",
    "identity.self-signed",
    "identity.not-yet-valid",
    "identity.server-only-usage",
    "identity.no-uri",
    "identity.two-uris",
    "identity.longer-uri",
    "identity.other-trust-domain",
    "identity.upper-case",
    "identity.operator",
    "identity.owner",
    "identity.other-workload",
    "sessions.resumption-after-revoke",
}
PASSED_ON = {
    "login.sasl-start",
    "login.logout",
    "server.list-databases",
    "server.server-status",
    "server.command-line",
    "server.log",
    "server.host",
    "server.parameters",
    "database.list-collections",
    "database.statistics",
    "frames.query",
}
"""What a door breaks that passes on to FerretDB what it gets, as the service that it is for."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with running_server(MongoDB(), SHOP) as running:
        yield running


async def broken(rig: Rig, ids: Collection[str], channel: str) -> set[str]:
    """Which of these break, on the channel."""
    tried = [p for p in rig.probes if p.id in ids and p.channel == channel]
    return {r.id for r in await rig.run(tried) if r.verdict is Verdict.BROKEN}


async def test_every_probe_holds_on_the_server_as_it_is_applied(rig: Rig) -> None:
    results = await rig.run(rig.probes)
    assert not_held(results) == {}
    assert len(results) >= 250


async def test_rights_that_nobody_declared_are_found_and_those_that_are_missing(rig: Rig) -> None:
    every = {name: ["update", "remove", "index"] for name in ("orders", "bills", "audit.log")}
    path = rig.host.placement.server_directory(rig.resource) / GRANTS
    path.write_text(json.dumps({"lobby": every}))
    await Operator(rig.plan, rig.host).sql(
        "GRANT ALL ON ALL TABLES IN SCHEMA shop TO lobby",
        "GRANT ALL ON SCHEMA shop TO lobby",
        "GRANT ALL ON DATABASE postgres TO lobby",
        "REVOKE ALL ON ALL TABLES IN SCHEMA shop FROM orders",
    )
    try:
        assert await broken(rig, ACTIONS, "lobby -> store") == ACTIONS
        uses = {f"use.{action}" for action in ("find", "insert", "update", "remove", "index")}
        assert await broken(rig, uses, "orders -> store") == uses
    finally:
        await rig.enforcer.apply(rig.plan, rig.host)
    assert await broken(rig, ACTIONS, "lobby -> store") == set()


async def test_a_door_that_asks_nobody_who_he_is_and_passes_all_on_is_found(rig: Rig) -> None:
    async with credulous(rig, "orders"):
        assert await broken(rig, LET_IN, "orders -> store") == LET_IN
        assert await broken(rig, {"reach.doors"}, "stranger -> store") == {"reach.doors"}
        assert await broken(rig, PASSED_ON, "orders -> store") == PASSED_ON
    assert await broken(rig, LET_IN | PASSED_ON, "orders -> store") == set()


@asynccontextmanager
async def credulous(rig: Rig, service: str) -> AsyncIterator[None]:
    """At the service's door, TLS of any kind with anybody, and FerretDB as that service."""
    path = rig.host.placement.door(rig.resource, service)
    credentials = rig.host.placement.credentials(rig.resource)
    behind = rig.host.placement.server_sockets(rig.resource) / FERRETDB_SOCKET
    lax = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    lax.set_ciphers("ALL:@SECLEVEL=0")
    lax.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    lax.load_cert_chain(credentials / "certificate.pem", credentials / "private_key.pem")

    async def passing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            inner, outer = await asyncio.open_unix_connection(behind)
            said = f"\0{service}\0-".encode()
            login = {"saslStart": 1, "mechanism": "PLAIN", "payload": said, "$db": "$external"}
            outer.write(command(document(login)))
            length = int.from_bytes(await inner.readexactly(4), "little")
            await inner.readexactly(length - 4)
            await splice(Stream(reader, writer), Stream(inner, outer))
        writer.close()

    with tempfile.TemporaryDirectory() as aside:
        whole = path.rename(Path(aside) / "door")
        try:
            async with await asyncio.start_unix_server(passing, path, ssl=lax):
                yield
        finally:
            path.unlink(missing_ok=True)
            whole.rename(path)
