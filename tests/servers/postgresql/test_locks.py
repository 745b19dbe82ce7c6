"""However many locks one service takes, others work, and everybody can log in."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, closing

import psycopg
import pytest
import pytest_asyncio

from tests.rig import Rig, not_held, running_server
from tests.servers.postgresql.rig import as_operator, connect, write_files
from tests.servers.postgresql.shop import SCHEMA
from watertight.servers.postgresql.compile import CONFIGURATION
from watertight.servers.postgresql.enforcer import PostgreSQLEnforcer

pytestmark = pytest.mark.asyncio(loop_scope="module")

SESSIONS, AT_ONCE = 4, 500
SHOP = """
trust_domain: shop.internal
services: {orders: {}, billing: {}}
resources:
  orders-db:
    kind: postgresql
    port: {port}
    database: orders
    schema: db/schema.sql
    connections: 25
    session_memory: 24MiB
channels:
  - {from: orders, to: orders-db, tables: {orders: [select, insert]}, connections: 4}
  - {from: billing, to: orders-db, tables: {orders: [select]}, connections: 4}
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with running_server(PostgreSQLEnforcer(), SHOP, {"db/schema.sql": SCHEMA}) as running:
        yield running


def take_all(session: psycopg.Connection[tuple[object, ...]]) -> str:
    """Locks until there is an error; its words. The transaction stays open, and they with it."""
    session.execute("BEGIN")
    try:
        while True:
            session.execute(b"SAVEPOINT s; INSERT INTO orders (customer) VALUES (1);" * AT_ONCE)
    except psycopg.Error as error:
        return str(error)


async def flooded(rig: Rig) -> list[str]:
    """What stops each of the sessions, once all have taken what they can; others work on."""
    with ExitStack() as stack:
        other = stack.enter_context(closing(connect(rig, "billing")))
        held = [stack.enter_context(closing(connect(rig, "orders"))) for _ in range(SESSIONS)]
        said = await asyncio.gather(*(asyncio.to_thread(take_all, each) for each in held))
        with closing(connect(rig, "billing")) as new:
            new.execute("SELECT FROM orders")
        other.execute("SELECT FROM orders")
        assert await as_operator(rig, "SELECT 1") == [(1,)]
        return said


async def test_one_services_sessions_do_not_fill_the_table(rig: Rig) -> None:
    for said in await flooded(rig):
        assert "shared memory" not in said
        assert "out of memory" in said or "terminating connection" in said


async def test_the_proof_sees_a_table_that_is_too_small(rig: Rig) -> None:
    probes = [probe for probe in rig.probes if probe.id == "limits.locks"]
    assert len(probes) == 2
    assert not_held(await rig.run(probes)) == {}
    directory = rig.host.placement.server_directory(rig.resource)
    right = {path.name: path.read_text() for path in directory.iterdir()}
    small = right[CONFIGURATION] + "max_locks_per_transaction = 64\n"
    try:
        await write_files(rig, right | {CONFIGURATION: small})
        assert len(not_held(await rig.run(probes))) == 2
        assert await rig.enforcer.drift(rig.plan, rig.host) != []
        with pytest.raises(psycopg.OperationalError, match="out of shared memory"):
            await flooded(rig)
    finally:
        await rig.enforcer.apply(rig.plan, rig.host)
    assert not_held(await rig.run(probes)) == {}
