"""Whoever takes what all sessions share is ended, and nobody else; what was made is granted."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, closing

import psycopg
import pytest
import pytest_asyncio

from tests.rig import Rig
from tests.servers.postgresql.rig import as_operator, connect, shop_database
from tests.servers.postgresql.shop import SHOP
from watertight.attack.patience import measure, patience
from watertight.enforcers.resource import ServerPlan, Turn
from watertight.model.load import load_text
from watertight.servers.postgresql import pending, watch
from watertight.servers.postgresql.enforcer import PostgreSQLEnforcer
from watertight.servers.postgresql.pending import Due, There

pytestmark = pytest.mark.asyncio(loop_scope="module")

WAIT_SECONDS = 30.0
NOTIFY = "SELECT count(pg_notify('zz', repeat('x', 7000) || g)) FROM generate_series(1, 1000) g"
FILLED = 0.002
"""16 MB of 8 GB: it is filled in a moment; since 17 more of less."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with shop_database() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def watched(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(watch, "FULL_QUEUE", FILLED)
    monkeypatch.setattr(watch, "FULL_LOCKS", 0.05)
    task = asyncio.ensure_future(PostgreSQLEnforcer().watch(rig.plan, rig.host, mine))
    yield rig
    assert not task.done()
    task.cancel()


@asynccontextmanager
async def mine() -> AsyncIterator[bool]:
    """Nobody else changes this server."""
    yield True


@asynccontextmanager
async def never() -> AsyncIterator[bool]:
    """An apply is under way all the time."""
    yield False


async def ended(session: psycopg.Connection[tuple[object, ...]]) -> None:
    """Returns once it is."""
    await measure()
    deadline = time.monotonic() + patience(WAIT_SECONDS)
    while True:
        try:
            await asyncio.to_thread(session.execute, "SELECT 1")
        except psycopg.OperationalError:
            return
        assert time.monotonic() < deadline, "it goes on"
        await asyncio.sleep(0.1)


async def test_who_keeps_notifications_from_being_taken_is_ended(watched: Rig) -> None:
    with (
        closing(connect(watched, "orders")) as keeps,
        closing(connect(watched, "billing")) as sends,
        closing(connect(watched, "migrator")) as waits,
    ):
        for statement in ("SET idle_in_transaction_session_timeout = 0", "LISTEN zz", "BEGIN"):
            keeps.execute(statement.encode())
        keeps.execute("SELECT 1")
        for _ in range(6):
            await asyncio.to_thread(sends.execute, NOTIFY)
        await ended(keeps)
        waits.execute("SELECT 1")
        sends.execute("SELECT 1")
    assert (await as_operator(watched, "SELECT pg_notification_queue_usage() < 0.002")) == [(True,)]


async def test_a_table_of_locks_that_is_full_is_emptied(rig: Rig) -> None:
    """Nobody can log in then; we are in."""
    task = asyncio.ensure_future(PostgreSQLEnforcer().watch(rig.plan, rig.host, mine))
    await asyncio.sleep(3 * watch.LOOK_SECONDS)  # it has looked, and knows everybody by name
    with ExitStack() as stack:
        takes = [stack.enter_context(closing(connect(rig, "billing"))) for _ in range(16)]
        waits = stack.enter_context(closing(connect(rig, "orders")))

        def fill(number: int) -> str:
            first = number * 10_000_000
            for part in range(first, first + 2_000_000, 2_000):
                try:
                    takes[number].execute(
                        "SELECT count(pg_advisory_lock(%s + g)) FROM generate_series(1, 2000) g",
                        [part],
                    )
                except psycopg.errors.OutOfMemory:
                    time.sleep(0.05)  # full; it keeps what it has
                except psycopg.OperationalError as error:
                    return str(error)
            return ""

        try:
            said = await asyncio.gather(*(asyncio.to_thread(fill, n) for n in range(16)))
            assert any("terminating" in each for each in said), said
            waits.execute("SELECT FROM orders")
            assert not task.done()
        finally:
            task.cancel()
    assert await as_operator(rig, "SELECT 1") == [(1,)]


async def test_who_takes_hardly_less_than_all_locks_is_ended(watched: Rig) -> None:
    with (
        closing(connect(watched, "billing")) as takes,
        closing(connect(watched, "orders")) as waits,
    ):
        waits.execute("BEGIN")
        waits.execute("SELECT FROM orders")
        takes.execute("SELECT count(pg_advisory_lock(g)) FROM generate_series(1, 20000) g")
        await ended(takes)
        waits.execute("SELECT FROM orders")


# --- what services make, and others are granted ---------------------------------------------------

READS = SHOP.replace(
    "tables: {sales.totals: [select], ",
    "tables: {stock.items: [select], stock.prices: {update: [amount]}, sales.totals: [select], ",
).replace("functions: {place: [execute], ", "functions: {stock.one: [execute], place: [execute], ")
MAKES = (
    "CREATE TABLE stock.items (id int); REVOKE ALL ON stock.items FROM PUBLIC",
    "CREATE TABLE stock.prices (id int)",
    "CREATE FUNCTION stock.one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
)
WAITS = [
    "EXECUTE on stock.one for billing waits until it is there",
    "SELECT on stock.items for billing waits until it is there",
    "UPDATE (amount) on stock.prices for billing waits until it is there",
]
MISSING = "missing: SELECT on TABLE stock.items for billing"


@asynccontextmanager
async def reads(rig: Rig, monkeypatch: pytest.MonkeyPatch, turn: Turn) -> AsyncIterator[ServerPlan]:
    """A service that reads what another makes, and a watch that hurries."""
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(pending, "LONGEST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(pending, "FIRST_PAUSE_SECONDS", 0.1)
    plan = rig.compile(load_text(READS.replace("{port}", str(rig.host.port))))
    await PostgreSQLEnforcer().apply(plan, rig.host)
    watching = asyncio.ensure_future(PostgreSQLEnforcer().watch(plan, rig.host, turn))
    try:
        yield plan
        assert not watching.done()
    finally:
        watching.cancel()
        await as_operator(rig, "DROP SCHEMA stock CASCADE")
        await PostgreSQLEnforcer().apply(rig.plan, rig.host)


async def until(may: Callable[[], Awaitable[bool]]) -> None:
    await measure()
    deadline = time.monotonic() + patience(WAIT_SECONDS)
    while not await may():
        assert time.monotonic() < deadline, "nobody granted it"
        await asyncio.sleep(0.02)


async def test_what_is_declared_is_granted_once_a_service_has_made_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    enforcer = PostgreSQLEnforcer()
    async with reads(rig, monkeypatch, mine) as plan:
        assert sorted(await enforcer.waiting(plan, rig.host)) == WAITS
        assert await enforcer.drift(plan, rig.host) == []
        with (
            closing(connect(rig, "migrator")) as makes,
            closing(connect(rig, "billing")) as session,
        ):

            async def may(statement: str) -> bool:
                try:
                    session.execute(statement.encode())
                except psycopg.errors.InsufficientPrivilege:
                    return False
                return True

            for statement in MAKES:
                makes.execute(statement.encode())
            await until(lambda: may("SELECT FROM stock.items"))
            await until(lambda: may("SELECT stock.one()"))
            assert await enforcer.waiting(plan, rig.host) == WAITS[2:]  # there is no such column
            makes.execute("ALTER TABLE stock.prices ADD amount int")
            await until(lambda: may("UPDATE stock.prices SET amount = 1"))
            assert not await may("UPDATE stock.prices SET id = 1")
            assert not await may("DELETE FROM stock.items")
            assert await enforcer.waiting(plan, rig.host) == []
            assert await enforcer.drift(plan, rig.host) == []
            # A migration makes it anew.
            makes.execute("DROP TABLE stock.items; CREATE TABLE stock.items (id int, name text)")
            await until(lambda: may("SELECT FROM stock.items"))
            # What somebody takes back by hand is drift, and his until the operator applies.
            await as_operator(rig, "REVOKE SELECT ON stock.items FROM billing")
            await asyncio.sleep(10 * watch.LOOK_SECONDS)
            assert await enforcer.drift(plan, rig.host) == [MISSING]
            assert not await may("SELECT FROM stock.items")


async def test_nothing_is_granted_out_of_turn_nor_on_what_no_service_made(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    enforcer = PostgreSQLEnforcer()
    async with reads(rig, monkeypatch, mine) as plan:
        await as_operator(rig, "CREATE TABLE stock.items (id int)")
        await asyncio.sleep(10 * watch.LOOK_SECONDS)
        assert await enforcer.catch_up(plan, rig.host) == []
        assert MISSING in await enforcer.drift(plan, rig.host)
    async with reads(rig, monkeypatch, never) as plan:
        with closing(connect(rig, "migrator")) as makes:
            makes.execute("CREATE TABLE stock.items (id int)")
        await asyncio.sleep(10 * watch.LOOK_SECONDS)
        assert await enforcer.drift(plan, rig.host) == [MISSING]
        granted = "granted: SELECT on TABLE stock.items to billing"
        assert await enforcer.catch_up(plan, rig.host) == [granted]
        assert await enforcer.drift(plan, rig.host) == []


async def test_who_makes_and_drops_it_in_a_loop_is_granted_it_ever_more_seldom() -> None:
    due, granted = Due(), []
    for second in range(600):
        new = [There(0, second, 0, "TABLE stock.items", made=True, held=False)]
        if now := due.among(new, second):
            due.tried(now, now, second)
            granted.append(second)
    assert granted[:5] == [0, 1, 3, 7, 15]
    assert len(granted) < 20
    # Which delays nobody else's.
    others = There(1, 7, 0, "TABLE other.things", made=True, held=False)
    last = There(0, 600, 0, "TABLE stock.items", made=True, held=False)
    assert due.among([others, last], 600) == [others]
    # What failed is tried again; what was done is not done again, if somebody takes it back.
    due.tried([others], [], 600)
    assert due.among([others], 601) == [others]
    due.tried([others], [others], 601)
    assert due.among([others], 700) == []
    # After some quiet, at once.
    for second in (900, 901):
        new = [There(0, second, 0, "TABLE stock.items", made=True, held=False)]
        assert due.among(new, second) == new
        due.tried(new, new, second)


async def test_who_hinders_his_own_grant_hinders_nobody_elses(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An open transaction that has altered the table, and one that was granted all the same."""
    async with reads(rig, monkeypatch, mine) as plan:
        with (
            closing(connect(rig, "migrator")) as makes,
            closing(connect(rig, "migrator")) as hinders,
        ):
            hinders.execute(MAKES[0].encode())
            hinders.execute("BEGIN")
            hinders.execute("ALTER TABLE stock.items ADD name text")
            makes.execute(MAKES[2].encode())
            held = "SELECT has_function_privilege('billing', 'stock.one()', 'EXECUTE')"

            async def given() -> bool:
                return await as_operator(rig, held) == [(True,)]

            await until(given)
            hinders.execute("COMMIT")

            async def nothing_missing() -> bool:
                return await PostgreSQLEnforcer().drift(plan, rig.host) == []

            await until(nothing_missing)
