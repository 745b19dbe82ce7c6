"""However much memory one service asks for, the sessions of others go on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace

import psycopg
import pytest
import pytest_asyncio

from tests.budget import budget, killed
from tests.rig import Rig, not_held, running_server
from tests.servers.postgresql.rig import as_operator, connect, debian_has_one, wheel_first
from tests.servers.postgresql.shop import SCHEMA
from tests.servers.postgresql.test_declaration import flaws
from watertight.enforcers.resource import ServerProcess
from watertight.model import codes
from watertight.model.findings import Severity
from watertight.model.load import load_text
from watertight.model.system import RESOURCE_LIMITS
from watertight.servers.postgresql.admin import until_ready
from watertight.servers.postgresql.enforcer import PostgreSQLEnforcer
from watertight.servers.postgresql.limits import SMALLEST_SESSION_BYTES, session_bytes

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1 << 20
BUDGET = 768 * MIB
SESSIONS = 8
SHOP = f"""
trust_domain: shop.internal
services: {{orders: {{}}, billing: {{}}}}
resources:
  orders-db:
    kind: postgresql
    port: {{port}}
    database: orders
    schema: db/schema.sql
    connections: 25
    limits: {{memory: {BUDGET >> 20}MiB, temp: 32MiB}}
channels:
  - from: orders
    to: orders-db
    tables: {{orders: [select]}}
    temporary: true
    connections: {SESSIONS}
  - {{from: billing, to: orders-db, tables: {{orders: [select]}}, connections: 5}}
"""
GROWING = "SELECT length(string_agg(repeat('x', 1000000), '')) FROM generate_series(1, 900)"
DEAF = "SELECT " + ", ".join(f"array_fill({n}, ARRAY[5000000])" for n in range(99))
"""Some 2 GB, and between one of them and the next no signal is heard."""
LEAPING = "SELECT " + ", ".join(f"array_fill({n}, ARRAY[25000000])" for n in range(9))
"""The same, in pieces that are almost all that may be asked for."""
GREEDY = {
    "deaf": [DEAF],
    "one-value": [GROWING],
    "many-values": ["SELECT array_agg(repeat('x', 1000)) FROM generate_series(1, 900000)"],
    "sort": [
        "SET work_mem = '2GB'",
        "SELECT count(*) FROM (SELECT g FROM generate_series(1, 20000000) g ORDER BY -g) s",
    ],
    "temporary-table": [
        "SET temp_buffers = '1GB'",
        "CREATE TEMP TABLE t AS SELECT repeat('x', 1000) FROM generate_series(1, 900000)",
    ],
    "hash": [
        "SET work_mem = '2GB'",
        "SELECT count(*) FROM (SELECT g, count(*) FROM generate_series(1, 9000000) g GROUP BY g) s",
    ],
    "compiled": [
        "SET jit = on",
        "SET jit_above_cost = 0",
        "SET jit_inline_above_cost = 0",
        "SET jit_optimize_above_cost = 0",
        GROWING,
    ],
}
HOLDS = (
    "SET work_mem = '2GB'",
    "BEGIN",
    "DECLARE held CURSOR FOR SELECT g FROM generate_series(1, 100000) g ORDER BY -g",
    "FETCH 1 FROM held",
)
"""Some 15 MiB, until the session ends."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with running_server(PostgreSQLEnforcer(), SHOP, {"db/schema.sql": SCHEMA}) as running:
        yield running


def takes(rig: Rig, statements: Sequence[str]) -> None:
    """As a service, whose session ends then. Raises what PostgreSQL says."""
    with connect(rig, "orders") as session:
        for statement in statements:
            session.execute(statement.encode())


async def flood(rig: Rig, statements: Sequence[str], sessions: int = SESSIONS) -> list[object]:
    """By so many sessions at once: what came of each."""
    running = (asyncio.to_thread(takes, rig, statements) for _ in range(sessions))
    return list(await asyncio.gather(*running, return_exceptions=True))


def unbounded(process: ServerProcess) -> ServerProcess:
    """Without a bound of any of its own processes."""
    return replace(process, process_bytes=None, process_most_bytes=None)


async def started_again(rig: Rig) -> None:
    """As its host says now that it is started."""
    await rig.host.stop()
    await rig.host.start()
    await until_ready(rig.plan, rig.host, rig.host.process.start_seconds)


@contextlib.contextmanager
def another_goes_on(rig: Rig) -> Iterator[None]:
    """A session of another service works before, and the same one works after."""
    with connect(rig, "billing") as session:
        session.execute("SELECT FROM orders")
        yield
        session.execute("SELECT FROM orders")


@pytest.mark.parametrize("statements", GREEDY.values(), ids=GREEDY)
async def test_who_asks_for_too_much_loses_his_session_and_nobody_else_feels_it(
    rig: Rig, statements: Sequence[str]
) -> None:
    with another_goes_on(rig):
        for said in await flood(rig, statements, 5):
            # What fits otherwise (temporary buffers, a sort on disk) may have been taken instead.
            assert said is None or isinstance(said, psycopg.OperationalError), said


async def test_there_is_no_compiler_of_queries_whatever_a_session_sets(rig: Rig) -> None:
    with connect(rig, "orders") as session:
        for statement in GREEDY["compiled"][:-1]:
            session.execute(statement.encode())
        plan = session.execute("EXPLAIN ANALYZE SELECT sum(g) FROM generate_series(1, 9) g")
        assert not [line for (line,) in plan if "JIT" in str(line)]


@pytest.mark.slow  # a group that is full reclaims for long before the kernel ends anybody
async def test_a_service_that_takes_all_that_it_may_leaves_its_server_alive() -> None:
    """With the kernel's own bound around the server; and without ours, it dies of it."""
    with budget(BUDGET) as groups:
        async with running_server(PostgreSQLEnforcer(), SHOP, {"db/schema.sql": SCHEMA}) as rig:
            rig.host.groups = groups
            await started_again(rig)
            with another_goes_on(rig), contextlib.ExitStack() as stack:
                for _ in range(SESSIONS - 2):
                    session = stack.enter_context(connect(rig, "orders"))
                    for statement in HOLDS:
                        session.execute(statement.encode())
                said = await flood(rig, [GROWING], 2)
                assert all(isinstance(one, psycopg.OperationalError) for one in said), said
            for statements in ([GROWING], [DEAF], [LEAPING]):
                with another_goes_on(rig):
                    await flood(rig, statements, 4)
            assert not killed(groups)
            rig.host.process = unbounded(rig.host.process)
            await started_again(rig)
            with pytest.raises(psycopg.OperationalError), another_goes_on(rig):
                await flood(rig, [GROWING])
            assert killed(groups)


async def test_the_server_does_its_own_work_with_the_least_that_a_session_may_have() -> None:
    least = SHOP.replace("connections: 25", "connections: 25\n    session_memory: 24MiB")
    async with running_server(PostgreSQLEnforcer(), least, {"db/schema.sql": SCHEMA}) as rig:
        assert rig.host.process.process_bytes == SMALLEST_SESSION_BYTES
        fill = (
            "INSERT INTO orders (customer, note) "
            "SELECT g, repeat('x', 500) FROM generate_series(1, 100000) g"
        )
        index = "CREATE INDEX ON orders (note, customer)"
        await as_operator(rig, fill, index, "DELETE FROM orders WHERE id % 2 = 0")
        await as_operator(rig, "VACUUM (ANALYZE) orders")
        assert await as_operator(rig, "SELECT count(*) FROM orders") == [(50_000,)]
        with connect(rig, "orders") as session:
            session.execute("SELECT customer, max(note) FROM orders GROUP BY 1 ORDER BY 2")


async def test_the_wheels_server_is_bounded_likewise() -> None:
    if not debian_has_one():
        pytest.skip("it is the one that the other tests have")
    with wheel_first():
        async with running_server(PostgreSQLEnforcer(), SHOP, {"db/schema.sql": SCHEMA}) as rig:
            with another_goes_on(rig):
                said = await flood(rig, GREEDY["compiled"], 2)
            assert all(isinstance(one, psycopg.OperationalError) for one in said), said


async def test_the_proof_tries_it(rig: Rig) -> None:
    probes = [probe for probe in rig.probes if probe.id == "limits.memory"]
    assert len(probes) == 2
    assert not_held(await rig.run(probes)) == {}
    bounded = rig.host.process
    rig.host.process = unbounded(bounded)
    try:
        await started_again(rig)
        assert len(not_held(await rig.run(probes))) == 2
    finally:
        rig.host.process = bounded
        await started_again(rig)


# --- what may be declared -------------------------------------------------------------------------


async def test_each_session_has_what_one_services_sessions_can_have_at_once() -> None:
    usual = session_bytes(None, [None, None], RESOURCE_LIMITS)
    assert 32 * MIB <= usual <= 64 * MIB
    assert session_bytes(None, [None] * 9, RESOURCE_LIMITS) == usual  # nobody is cut for a new one
    assert session_bytes(None, [5, 3], RESOURCE_LIMITS) > usual
    assert session_bytes(None, [60, None], RESOURCE_LIMITS) == SMALLEST_SESSION_BYTES
    more = replace(RESOURCE_LIMITS, memory_bytes=8 << 30)
    assert session_bytes(None, [None], more) > 4 * usual


@pytest.mark.parametrize(
    ("resource", "channel"),
    [
        (", session_memory: 200MiB", ""),
        (", limits: {memory: 256MiB}", ""),
        ("", ", connections: 90"),
    ],
)
async def test_sessions_that_may_take_more_than_there_is_are_a_warning(
    resource: str, channel: str
) -> None:
    (flaw,) = flaws(f", database: a{resource}", f", tables: {{a: [select]}}{channel}")
    assert (flaw.code, flaw.severity) == (codes.SESSIONS_OVER_MEMORY, Severity.WARNING)
    assert flaw.path == ("resources", "db")


async def test_too_little_for_a_session_is_an_error() -> None:
    (flaw,) = flaws(", database: a, session_memory: 8MiB", ", tables: {a: [select]}")
    assert (flaw.code, flaw.path) == (codes.BAD_SIZE, ("resources", "db", "session_memory"))


async def test_what_a_session_may_take_is_in_the_plan() -> None:
    system = load_text(
        SHOP.replace("{port}", "5432").replace("connections: 25", "session_memory: 96MiB")
    )
    assert system.resources["orders-db"].options["session_memory"] == "96MiB"
