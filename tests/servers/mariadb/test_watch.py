"""Who takes more of the server's memory than its share loses its session, and nobody else does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.rig import Rig, running_server
from tests.servers.mariadb.shop import FILES, SHOP
from watertight.attack.login import Login, as_itself
from watertight.attack.wire import Closed
from watertight.model.load import load_text
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


async def session(rig: Rig, service: str) -> Session:
    login = Login(rig.system, rig.system.resources[rig.resource], service)
    return Session(await as_itself(rig.arena, DIALECT, login))


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
            assert not (await other.query("SELECT id FROM shop.orders")).code
            modest = await session(rig, "orders")
            assert not (await modest.query("SET @v = REPEAT('x', 15000000)")).code
            assert not (await modest.query("DO SLEEP(0.5)")).code


@pytest.mark.parametrize(("memory", "share"), [("512MiB", 192), ("8GiB", (6144 - 192) // 3)])
def test_shares_are_parts_of_the_servers_memory(memory: str, share: int) -> None:
    system = load_text(SMALL.replace("{port}", "3306").replace("512MiB", memory))
    assert MariaDB().grants(system, system.resources["store"]).share_bytes == share * MIB
