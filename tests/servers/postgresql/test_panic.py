"""Nobody ends the sessions of others by running out of memory where PostgreSQL must not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import psycopg
import pytest
import pytest_asyncio

from tests.rig import Rig, running_server
from tests.servers.postgresql.crashers import CRASHERS, Session, listeners
from tests.servers.postgresql.rig import connect
from tests.servers.postgresql.shop import SCHEMA
from tests.servers.postgresql.test_memory import SHOP, another_goes_on, started_again
from watertight.servers.postgresql.enforcer import PostgreSQLEnforcer

pytestmark = pytest.mark.asyncio(loop_scope="module")
TIMES = 20
BOUND_BYTES = 32 << 20
"""Of the kernel's, as sessions had it before."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with running_server(PostgreSQLEnforcer(), SHOP, {"db/schema.sql": SCHEMA}) as running:
        yield running


def crash(rig: Rig, crasher: Callable[[Session], None]) -> None:
    """As a service; what comes of its own session is its own matter."""
    with contextlib.suppress(psycopg.Error), connect(rig, "orders") as session:
        crasher(session)


async def others_go_on(rig: Rig, crasher: Callable[[Session], None], times: int) -> None:
    """Raises what a session of another service sees, if it does not."""
    for _ in range(times):
        with another_goes_on(rig):
            await asyncio.to_thread(crash, rig, crasher)


@pytest.mark.parametrize("crasher", CRASHERS.values(), ids=CRASHERS)
async def test_who_fills_his_memory_and_commits_ends_himself_alone(
    rig: Rig, crasher: Callable[[Session], None]
) -> None:
    with another_goes_on(rig):
        await asyncio.to_thread(crash, rig, crasher)
    assert "PANIC" not in rig.host.log()


@pytest.mark.slow
@pytest.mark.parametrize("crasher", CRASHERS.values(), ids=CRASHERS)
async def test_nor_does_he_when_he_tries_it_often_and_from_several_sessions(
    rig: Rig, crasher: Callable[[Session], None]
) -> None:
    with another_goes_on(rig):
        for _ in range(TIMES // 2):
            await asyncio.gather(*(asyncio.to_thread(crash, rig, crasher) for _ in range(2)))


async def test_a_bound_of_the_kernels_would_end_all_sessions(rig: Rig) -> None:
    watched = rig.host.process
    rig.host.process = replace(watched, process_bytes=None, process_most_bytes=BOUND_BYTES)
    await started_again(rig)
    try:
        with pytest.raises(psycopg.OperationalError):
            await others_go_on(rig, listeners, TIMES)
    finally:
        rig.host.process = watched
        await started_again(rig)
