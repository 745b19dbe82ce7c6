"""Whoever takes what all sessions share is ended, and nobody else."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, closing

import psycopg
import pytest
import pytest_asyncio

from tests.postgresql.rig import as_operator, connect, shop_database
from tests.servers import Rig
from watertight.enforcers.postgresql import watch
from watertight.enforcers.postgresql.enforcer import PostgreSQLEnforcer

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
    task = asyncio.ensure_future(PostgreSQLEnforcer().watch(rig.plan, rig.host))
    yield rig
    assert not task.done()
    task.cancel()


async def ended(session: psycopg.Connection[tuple[object, ...]]) -> None:
    """Returns once it is."""
    deadline = time.monotonic() + WAIT_SECONDS
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
    task = asyncio.ensure_future(PostgreSQLEnforcer().watch(rig.plan, rig.host))
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
