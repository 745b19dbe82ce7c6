"""Who takes more of the server's memory than its share loses its session, and nobody else does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.rig import Rig, running_server
from tests.servers.mariadb.shop import FILES, SHOP
from watertight.attack.login import Login, as_itself
from watertight.attack.tls import TLSWire
from watertight.attack.wire import Closed
from watertight.model.load import load_text
from watertight.servers.mariadb import watch as watching
from watertight.servers.mariadb.attacks.dialect import DIALECT, Session
from watertight.servers.mariadb.server import MariaDB
from watertight.servers.mariadb.watch import watch

SMALL = SHOP.replace("schema: schema.sql}", "schema: schema.sql, limits: {memory: 512MiB}}")
MIB = 1 << 20
VARIABLES = 20
"""Of 15 MB each: more than the share, which is 192 MiB."""


@asynccontextmanager
async def watched(rig: Rig) -> AsyncIterator[None]:
    task = asyncio.ensure_future(watch(rig.plan, rig.host))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def connected(rig: Rig, service: str) -> TLSWire:
    login = Login(rig.system, rig.system.resources[rig.resource], service)
    return await as_itself(rig.arena, DIALECT, login)


async def session(rig: Rig, service: str) -> Session:
    return Session(await connected(rig, service))


async def fill(one: Session) -> None:
    for number in range(VARIABLES):
        assert not (await one.query(f"SET @v{number} = REPEAT('x', 15000000)")).code


async def ask_on(one: Session) -> None:
    """Until the server ends it, or for a minute."""
    async with asyncio.timeout(60):
        while True:
            await one.query("DO SLEEP(0.05)")


async def test_who_takes_more_than_its_share_is_ended_and_nobody_else() -> None:
    async with running_server(MariaDB(), SMALL, FILES) as rig:
        greedy, other = await session(rig, "orders"), await session(rig, "billing")
        await fill(greedy)  # nobody watches: it is served
        async with watched(rig):
            with pytest.raises(Closed):
                await ask_on(greedy)
            assert not (await other.query("SELECT id FROM shop.totals")).code
            modest = await session(rig, "orders")
            assert not (await modest.query("SET @v = REPEAT('x', 15000000)")).code
            assert not (await modest.query("DO SLEEP(0.5)")).code


async def test_who_holds_rows_and_does_nothing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """While another waits for them. And what is prepared ends with its session."""
    monkeypatch.setattr(watching, "IDLE_SECONDS", 1)
    async with running_server(MariaDB(), SHOP, FILES) as rig:
        writer, wire = await session(rig, "orders"), await connected(rig, "billing")
        prepares = Session(wire)
        assert not (await writer.query("INSERT INTO shop.orders VALUES (1, 1, 'x')")).code
        for statement in (
            *("XA START 'one'", "INSERT INTO shop.bills VALUES (7)"),
            *("XA END 'one'", "XA PREPARE 'one'"),
        ):
            assert not (await prepares.query(statement)).code
        await wire.close()
        idle = await session(rig, "billing")
        await idle.query("START TRANSACTION")
        assert not (await idle.query("SELECT id FROM shop.totals FOR UPDATE")).code
        async with watched(rig):
            assert not (await writer.query("UPDATE shop.orders SET total = 2")).code
            with pytest.raises(Closed):
                await idle.query("DO 1")
            async with asyncio.timeout(60):
                while (await writer.query("XA RECOVER")).rows:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        reader = await session(rig, "billing")
        assert (await reader.query("SELECT id FROM shop.bills")).rows == ()


@pytest.mark.parametrize(("memory", "share"), [("512MiB", 192), ("8GiB", (6144 - 192) // 3)])
def test_shares_are_parts_of_the_servers_memory(memory: str, share: int) -> None:
    system = load_text(SMALL.replace("{port}", "3306").replace("512MiB", memory))
    assert MariaDB().grants(system, system.resources["store"]).share_bytes == share * MIB
