"""A real server becomes what is declared, stays it, and says what it is not."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.rig import Rig, running_server
from tests.servers.mariadb.shop import FILES, SCHEMA, SHOP
from watertight.attack.login import Login, LoginRefused, as_itself
from watertight.attack.tls import TLSWire
from watertight.attack.wire import Closed
from watertight.enforcers.resource import ServerRefused
from watertight.servers.mariadb import session
from watertight.servers.mariadb.attacks.dialect import DIALECT, Answer, Session
from watertight.servers.mariadb.compile import CONFIGURATION
from watertight.servers.mariadb.server import MariaDB
from watertight.servers.mariadb.session import ask

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with running_server(MariaDB(), SHOP, FILES) as running:
        yield running


async def drift(rig: Rig) -> list[str]:
    return list(await rig.enforcer.drift(rig.plan, rig.host))


async def apply(rig: Rig) -> tuple[str, ...]:
    return (await rig.enforcer.apply(rig.plan, rig.host)).changed


async def connected(rig: Rig, service: str) -> TLSWire:
    login = Login(rig.system, rig.system.resources[rig.resource], service)
    return await as_itself(rig.arena, DIALECT, login)


async def said(rig: Rig, service: str, sql: str) -> Answer:
    wire = await connected(rig, service)
    try:
        return await Session(wire).query(sql)
    finally:
        await wire.close()


async def test_what_is_declared_works_and_nothing_else(rig: Rig) -> None:
    assert not (await said(rig, "orders", "INSERT INTO shop.orders VALUES (1, 7, 'x')")).code
    read = await said(rig, "billing", "SELECT id, total FROM shop.totals")
    assert read.rows == (("1", "7"),)
    large = "x" * 15_000_000
    assert (await said(rig, "orders", f"SELECT LENGTH('{large}')")).rows == (("15000000",),)
    assert (await said(rig, "billing", "SELECT note FROM shop.orders")).code == 1142
    assert (await said(rig, "lobby", "SELECT 1 FROM shop.orders")).code == 1142
    assert (await said(rig, "orders", "SELECT id FROM shop.open_orders")).rows == (("1",),)


async def test_a_database_with_tables_is_never_dropped(rig: Rig) -> None:
    await ask(rig.plan, rig.host, "CREATE DATABASE full; CREATE TABLE full.t (x INT)")
    await apply(rig)
    assert await drift(rig) == ["database full is not declared"]
    await ask(rig.plan, rig.host, "DROP TABLE full.t")
    await apply(rig)
    assert await drift(rig) == []


async def test_a_schema_file_runs_when_it_changed_and_says_where_it_is_wrong(rig: Rig) -> None:
    path = rig.host.placement.project_directory / "schema.sql"
    path.write_text(f"{SCHEMA}\nCREATE TABEL x;\n")
    with pytest.raises(ServerRefused, match=r"schema\.sql: ERROR 1064 .* at line 9"):
        await apply(rig)
    path.write_text(f"{SCHEMA}\n\\! touch /tmp/watertight-shell\n")
    with pytest.raises(ServerRefused, match=r"(?i)not allowed|sandbox"):
        await apply(rig)
    path.write_text(SCHEMA + "ALTER TABLE bills ADD COLUMN IF NOT EXISTS total INT;\n")
    assert len(await drift(rig)) == 1
    await apply(rig)
    assert await drift(rig) == []


async def test_an_open_transaction_of_a_service_makes_the_schema_wait_and_not_hang(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "WAIT", "SET lock_wait_timeout = 1")
    wire = await connected(rig, "orders")
    path = rig.host.placement.project_directory / "schema.sql"
    try:
        holds = Session(wire)
        await holds.query("START TRANSACTION")
        await holds.query("SELECT 1 FROM shop.orders")
        path.write_text(f"{path.read_text()}ALTER TABLE orders ADD COLUMN IF NOT EXISTS x INT;\n")
        with pytest.raises(ServerRefused, match=r"schema\.sql: ERROR 1205"):
            await apply(rig)
    finally:
        await wire.close()
    await apply(rig)
    assert await drift(rig) == []


async def test_a_server_that_died_is_started_with_what_it_held(rig: Rig) -> None:
    await rig.host.stop()
    assert await drift(rig) == ["the server does not run"]
    assert await apply(rig) == ("started",)
    assert (await said(rig, "orders", "SELECT id FROM shop.orders")).rows == (("1",),)


async def test_a_password_that_a_service_gives_itself_is_taken_away(rig: Rig) -> None:
    assert not (await said(rig, "orders", "SET PASSWORD = PASSWORD('x')")).code
    with pytest.raises(LoginRefused):
        await connected(rig, "orders")
    assert any("authentication_string" in line for line in await drift(rig))
    await apply(rig)
    await (await connected(rig, "orders")).close()


@pytest.mark.parametrize(
    "xid", ["'kept'", "'a''b','c'", "'a','b',7", "X'00ff',X'0a'", "'x'';DROP USER lobby;--'"]
)
async def test_a_prepared_transaction_is_rolled_back_whatever_it_is_called(
    rig: Rig, xid: str
) -> None:
    wire = await connected(rig, "billing")
    for statement in (f"XA START {xid}", f"XA END {xid}", f"XA PREPARE {xid}"):
        assert not (await Session(wire).query(statement)).code
    await wire.close()
    async with asyncio.timeout(60):
        while await ask(rig.plan, rig.host, "XA RECOVER"):
            await session.roll_back_detached(rig.plan, rig.host)
    assert await drift(rig) == []


async def test_a_revoked_service_leaves_no_session_and_no_prepared_transaction(rig: Rig) -> None:
    """Also where one is in a regular expression, which heeds no KILL."""
    left = rig.compile(rig.system.without_identities(frozenset({"billing"})))
    prepares = Session(await connected(rig, "billing"))
    works = Session(await connected(rig, "billing"))
    for statement in (
        *("XA START 'kept'", "INSERT INTO shop.bills (id) VALUES (8)", "XA END 'kept'"),
        "XA PREPARE 'kept'",
    ):
        assert not (await prepares.query(statement)).code
    slow = (
        "SELECT LENGTH(REGEXP_REPLACE(REPEAT(CONCAT(REPEAT('a', 20), '!b'), 500), '(a+)+c|b', ''))"
    )
    working = asyncio.ensure_future(works.query(slow))
    await asyncio.sleep(0.5)
    try:
        assert await rig.enforcer.revoke(left, rig.host, "billing") == 2
        with pytest.raises(Closed):
            await working
        assert await ask(rig.plan, rig.host, "XA RECOVER") == ""
        found = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'billing'"
        assert (await ask(rig.plan, rig.host, found)).strip() == "0"
    finally:
        await apply(rig)


async def test_the_servers_file_names_no_secret(rig: Rig) -> None:
    assert "password" not in rig.plan.files[CONFIGURATION]
