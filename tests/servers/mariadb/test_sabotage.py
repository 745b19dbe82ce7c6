"""Every probe bites: each weakening of the running server turns exactly the right ones red."""

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.ports import free_port
from tests.rig import SANDBOXED, Rig, not_held, running_server
from tests.servers.mariadb.shop import FILES, SHOP
from watertight.attack.probe import Verdict
from watertight.identity.workload_api.splice import Stream, splice
from watertight.model.load import load_text
from watertight.servers.mariadb.compile import CONFIGURATION, OPENSSL
from watertight.servers.mariadb.server import SSL_REQUEST, MariaDB
from watertight.servers.mariadb.session import ask

pytestmark = pytest.mark.asyncio(loop_scope="module")

ORDERS, BILLING, LOBBY = "orders -> store", "billing -> store", "lobby -> store"
SUBJECTS = frozenset(
    {
        "identity.common-name-case",
        "identity.longer-common-name",
        "identity.no-common-name",
        "identity.no-organization",
        "identity.null-in-common-name",
        "identity.other-common-name",
        "identity.other-organization",
        "identity.other-workload",
        "identity.server-unit",
        "tls.no-certificate",
    }
)
ON_TABLES = frozenset(f"grants.{word}" for word in ("select", "insert", "update", "delete"))
IN_DATABASE = frozenset(
    f"escalation.{what}"
    for what in (
        "alter",
        "create",
        "definer",
        "drop",
        "index",
        "information-schema",
        "lock-tables",
        "new-database",
        "routine",
        "temporary-table",
        "trigger",
        "truncate",
    )
)
ON_SERVER = frozenset(
    f"escalation.{what}"
    for what in (
        "account",
        "another-account",
        "call",
        "flush",
        "grant",
        "our-tables",
        "plugin",
        "prepared",
        "replication",
        "role",
        "server-tables",
        "variable",
    )
)


@dataclass(frozen=True)
class Sabotage:
    """``sql`` of the operator's; of those tried, exactly ``breaks`` must break on ``channel``."""

    name: str
    sql: str
    breaks: frozenset[str]
    holds: frozenset[str] = frozenset()
    channel: str = ORDERS


LIVE = (
    Sabotage(
        "all of the database",
        "GRANT ALL ON shop.* TO lobby@127.0.0.1",
        ON_TABLES | IN_DATABASE,
        ON_SERVER,
        LOBBY,
    ),
    Sabotage(
        "all of the server",
        "GRANT ALL ON *.* TO lobby@127.0.0.1 WITH GRANT OPTION",
        ON_SERVER | {"pairs.kill", "pairs.processlist"},
        frozenset({"files.load-local", "files.read", "limits.memory", "login.another-account"}),
        LOBBY,
    ),
    Sabotage(
        "whole tables for columns",
        "GRANT SELECT, INSERT, UPDATE ON shop.orders TO billing@127.0.0.1",
        frozenset({"grants.columns", "grants.insert"}),
        frozenset({"grants.delete"}),
        BILLING,
    ),
    Sabotage("no certificate asked for", "ALTER USER orders@127.0.0.1 REQUIRE NONE", SUBJECTS),
    Sabotage(
        "anybody",
        "CREATE USER ''@'%'",
        frozenset({"login.another-account"}),
        frozenset({"tls.no-certificate"}),
    ),
    Sabotage(
        "a role",
        "CREATE ROLE helper; GRANT helper TO orders@127.0.0.1",
        frozenset({"escalation.set-role"}),
    ),
    Sabotage(
        "nothing granted",
        "REVOKE ALL PRIVILEGES, GRANT OPTION FROM orders@127.0.0.1",
        frozenset({"use.select", "use.insert", "use.update", "use.delete"}),
        frozenset({"use.login"}),
    ),
    Sabotage(
        "a locked account",
        "ALTER USER orders@127.0.0.1 ACCOUNT LOCK",
        frozenset({"use.login"}),
    ),
)
FILES_TOO = frozenset({"escalation.event"}) | frozenset(
    {"files.load", "files.load-local", "files.read", "files.write", "limits.memory"}
)
OPEN_DOOR = frozenset(
    {
        "identity.expired",
        "identity.foreign-authority",
        "identity.not-yet-valid",
        "identity.self-signed",
        "identity.server-only-usage",
        "sessions.resumption-after-revoke",
        "tls.plaintext",
        "tls.version-1.1",
        "tls.version-1.2",
    }
)
TICKETS = frozenset({"sessions.resumption-after-expiry"})
ELSEWHERE = frozenset({"ports.unknown", "reach.doors", *SANDBOXED})


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with running_server(MariaDB(), SHOP, FILES) as running:
        yield running


async def broken(rig: Rig, ids: Collection[str], channel: str = ORDERS) -> set[str]:
    """Which of these break, on the channel."""
    tried = [p for p in rig.probes if p.id in ids and p.channel == channel]
    return {r.id for r in await rig.run(tried) if r.verdict is Verdict.BROKEN}


async def test_every_probe_holds_on_the_server_as_it_is_applied(rig: Rig) -> None:
    results = await rig.run(rig.probes)
    assert not_held(results) == {}
    assert len(results) >= 180


@pytest.mark.parametrize("sabotage", LIVE, ids=lambda s: s.name)
async def test_a_weakened_server_turns_exactly_these_probes_red(
    rig: Rig, sabotage: Sabotage
) -> None:
    await ask(rig.plan, rig.host, sabotage.sql)
    try:
        tried = sabotage.breaks | sabotage.holds
        assert await broken(rig, tried, sabotage.channel) == sabotage.breaks
    finally:
        applied = await rig.enforcer.apply(rig.plan, rig.host)  # which looks whether it took
    assert applied.changed != ()


async def test_a_server_with_other_files_is_found(rig: Rig) -> None:
    right = rig.plan.files[CONFIGURATION]
    lines = [
        line for line in right.splitlines() if not line.startswith(("maximum_", "secure_file"))
    ]
    lines.remove("event_scheduler = DISABLED")
    worse = "\n".join(
        [*lines, "secure_file_priv =", f"extra_port = {free_port()}", "local_infile = ON", ""]
    )
    await rig.host.write({**rig.plan.files, CONFIGURATION: worse, OPENSSL: ""})
    await rig.host.stop()
    await rig.host.start()
    try:
        await ask(rig.plan, rig.host, "GRANT FILE, EVENT ON *.* TO orders@127.0.0.1")
        assert await broken(rig, FILES_TOO | TICKETS) == FILES_TOO | TICKETS
        assert await broken(rig, {"ports.unknown"}, "anyone -> store") == {"ports.unknown"}
    finally:
        await rig.enforcer.apply(rig.plan, rig.host)
    assert await broken(rig, FILES_TOO) == set()


async def test_a_server_that_remembers_sessions_is_found(rig: Rig) -> None:
    """Also while others come and go: it remembers the last 128."""
    remembers = rig.plan.files[OPENSSL].replace("NumTickets = 0\n", "")
    await rig.host.write({**rig.plan.files, OPENSSL: remembers})
    await rig.host.stop()
    await rig.host.start()
    others = [p for p in rig.probes if p.id.startswith(("tls.", "identity."))]
    try:
        mine = [p for p in rig.probes if p.id in TICKETS and p.channel == ORDERS]
        [result] = [r for r in await rig.run([*mine, *others]) if r.id in TICKETS]
        assert result.verdict is Verdict.BROKEN
    finally:
        await rig.enforcer.apply(rig.plan, rig.host)


async def test_a_door_that_takes_anybody_in_is_found(rig: Rig) -> None:
    async with credulous(rig, "orders"):
        assert await broken(rig, OPEN_DOOR) == OPEN_DOOR
        assert await broken(rig, {"reach.doors"}, "stranger -> store") == {"reach.doors"}
    assert await broken(rig, {"tls.plaintext", "tls.no-certificate"}) == set()


async def test_every_probe_has_a_sabotage_test() -> None:
    tried = {probe for sabotage in LIVE for probe in sabotage.breaks}
    tried |= FILES_TOO | OPEN_DOOR | TICKETS | ELSEWHERE
    system = load_text(SHOP.replace("{port}", "3306"))
    assert tried == {probe.id for probe in MariaDB().probes(system)}


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
