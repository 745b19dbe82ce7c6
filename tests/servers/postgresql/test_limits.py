"""How much of a server one service may take, in force; and what it is not told that it may see."""

import contextlib
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import pytest_asyncio

from tests.rig import Rig
from tests.servers.postgresql.rig import as_operator, connect, shop_database
from tests.servers.postgresql.shop import SHOP
from tests.servers.postgresql.test_declaration import flaws
from watertight.enforcers.resource import KnowsWeaknesses
from watertight.model import codes
from watertight.model.load import load_text
from watertight.servers.postgresql.limits import (
    DEFAULT_SHARE,
    RESERVED,
    SMALLEST_SHARE,
    shares,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

ORDERS = 20
"""What the shop's declaration lets orders have."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with shop_database() as running:
        yield running


async def apply(rig: Rig, text: str = SHOP) -> tuple[str, ...]:
    plan = rig.compile(load_text(text.replace("{port}", str(rig.host.port))))
    return (await rig.enforcer.apply(plan, rig.host)).changed


@contextlib.contextmanager
def sessions(rig: Rig, service: str, number: int) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            stack.enter_context(connect(rig, service))
        yield


async def test_one_service_has_its_share_and_no_more(rig: Rig) -> None:
    with sessions(rig, "orders", ORDERS):
        with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
            connect(rig, "orders")
        with connect(rig, "billing") as other:
            other.execute("SELECT FROM customers")
        assert await apply(rig) == ()


async def test_however_full_it_is_the_operator_comes_in(rig: Rig) -> None:
    with (
        sessions(rig, "orders", ORDERS),
        sessions(rig, "billing", 17),
        sessions(rig, "migrator", 17),
    ):
        assert await rig.enforcer.drift(rig.plan, rig.host) == []


async def test_another_share_leaves_sessions_alone(rig: Rig) -> None:
    with connect(rig, "orders") as session:
        less = SHOP.replace("connections: 20", "connections: 7")
        assert await apply(rig, less) == (
            "role billing put right (connections: 17, should be 20)",
            "role migrator put right (connections: 17, should be 20)",
            "role orders put right (connections: 20, should be 7)",
        )
        session.execute("SELECT FROM orders")
    assert len(await apply(rig)) == 3


async def test_a_bigger_server_is_one_after_apply(rig: Rig) -> None:
    more = SHOP.replace("connections: 60", "connections: 70")
    assert "postgresql.conf" in await apply(rig, more)
    assert await as_operator(rig, "SHOW max_connections") == [("70",)]
    await apply(rig)


async def test_what_a_role_set_for_its_later_sessions_is_found_and_taken_back(rig: Rig) -> None:
    with connect(rig, "orders") as session:
        session.execute("ALTER ROLE orders SET search_path = sales")
        session.execute("ALTER ROLE orders SET statement_timeout = 0")
        session.execute("ALTER ROLE orders IN DATABASE orders SET row_security = off")
    await as_operator(rig, "ALTER ROLE ALL SET datestyle = 'German'")
    assert await rig.enforcer.drift(rig.plan, rig.host) == [
        "settings of role orders are not as declared (search_path, statement_timeout)",
        "not declared: settings of everybody (DateStyle)",
        "not declared: settings of role orders in database orders (row_security)",
    ]
    assert await apply(rig) == (
        "settings of role orders put right (search_path, statement_timeout)",
        "settings of everybody taken back (DateStyle)",
        "settings of role orders in database orders taken back (row_security)",
    )
    assert await apply(rig) == ()
    with connect(rig, "orders") as session:
        assert session.execute("SHOW search_path").fetchone() == ('"$user", public',)
        assert session.execute("SHOW statement_timeout").fetchone() == ("10min",)
        assert session.execute("SHOW idle_in_transaction_session_timeout").fetchone() == ("5min",)
    with connect(rig, "billing") as session:
        assert session.execute("SHOW statement_timeout").fetchone() == ("0",)


async def test_the_declared_bounds_stop_what_goes_past_them(rig: Rig) -> None:
    bounds = "connections: 20\n    statement_timeout: 300ms\n    temporary_file_size: 1MiB"
    await apply(rig, SHOP.replace("connections: 20", bounds))
    sort = "SELECT count(*) FROM (SELECT g FROM generate_series(1, 400000) g ORDER BY -g) s"
    try:
        with connect(rig, "orders") as session:
            with pytest.raises(psycopg.errors.QueryCanceled):
                session.execute("SELECT pg_sleep(60)")
            # A session may lift the one, and not the other.
            session.execute("SET statement_timeout = 0")
            session.execute("SET work_mem = '64kB'")
            with pytest.raises(psycopg.errors.ConfigurationLimitExceeded):
                session.execute(sort)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute("SET temp_file_limit = -1")
    finally:
        await apply(rig)


# --- what tools need to see -----------------------------------------------------------------------

TABLES = """
SELECT table_schema || '.' || table_name FROM information_schema.tables
WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1
"""
COLUMNS = """
SELECT column_name FROM information_schema.columns
WHERE table_schema = 'public' AND table_name = 'customers' ORDER BY 1
"""
ASKED = (
    "SELECT * FROM information_schema.schemata",
    "SELECT * FROM information_schema.views",
    "SELECT * FROM information_schema.table_constraints",
    "SELECT * FROM information_schema.key_column_usage",
    "SELECT * FROM information_schema.constraint_column_usage",
    "SELECT * FROM information_schema.referential_constraints",
    "SELECT * FROM information_schema.sequences",
    "SELECT * FROM information_schema.routines",
    "SELECT * FROM information_schema.triggers",
    "SELECT * FROM information_schema.role_table_grants",
    "SELECT * FROM information_schema.element_types",
)
"""By Knex, TypeORM, Liquibase, Metabase, Hibernate and Prisma."""


async def test_what_a_service_may_use_it_finds_in_the_information_schema(rig: Rig) -> None:
    with connect(rig, "orders") as session:
        assert session.execute(TABLES).fetchall() == [("public.customers",), ("public.orders",)]
        assert session.execute(COLUMNS).fetchall() == [("id",), ("name",)]
        for question in ASKED:
            session.execute(question.encode())


async def test_an_information_schema_that_was_closed_is_opened_again_and_no_further(
    rig: Rig,
) -> None:
    await as_operator(
        rig,
        "REVOKE SELECT ON information_schema.tables FROM PUBLIC",
        "REVOKE USAGE ON SCHEMA information_schema FROM PUBLIC",
        "GRANT CREATE ON SCHEMA information_schema TO PUBLIC",
        "GRANT UPDATE ON information_schema.tables TO orders",
    )
    assert set(await apply(rig)) == {
        "revoked: CREATE on SCHEMA information_schema from everybody",
        "revoked: UPDATE on TABLE information_schema.tables from orders",
        "granted: USAGE on SCHEMA information_schema to everybody",
        "granted: SELECT on TABLE information_schema.tables to everybody",
    }
    assert await apply(rig) == ()


# --- between services -----------------------------------------------------------------------------


async def test_a_batch_is_merged_by_way_of_a_temporary_table(rig: Rig) -> None:
    batch = "CREATE TEMPORARY TABLE batch (name text) ON COMMIT DROP"
    with connect(rig, "billing") as session, session.transaction():
        session.execute(batch)
        session.execute("INSERT INTO batch VALUES ('a')")
        merged = session.execute("SELECT count(*) FROM batch JOIN customers USING (name)")
        assert merged.fetchone() == (0,)
    with connect(rig, "orders") as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute(batch)


async def test_advisory_locks_are_for_whom_they_were_declared(rig: Rig) -> None:
    with connect(rig, "orders") as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("SELECT pg_advisory_lock(1)")
    with connect(rig, "orders") as session:
        session.execute("SELECT pg_advisory_unlock_all()")  # as asyncpg's pool does
    with connect(rig, "billing") as session:
        session.execute("SELECT pg_advisory_lock(1)")


async def test_a_notification_reaches_everybody_who_listens(rig: Rig) -> None:
    """PostgreSQL has no privilege for it: docs/threat-model.md says so, and so does the proof."""
    with connect(rig, "orders") as listener, connect(rig, "billing") as sender:
        listener.execute("LISTEN news")
        sender.execute("NOTIFY news, 'hello'")
        (heard,) = listener.notifies(timeout=20, stop_after=1)
    assert (heard.channel, heard.payload) == ("news", "hello")
    assert isinstance(rig.enforcer, KnowsWeaknesses)
    leap, finding = sorted(rig.enforcer.weaknesses(rig.system), key=lambda f: f.code, reverse=True)
    assert (leap.code, leap.at) == (codes.TEMPORARY_LEAP, finding.at)
    assert "`orders-db` (billing)" in leap.message
    assert finding.code == codes.UNDECLARED_NOTICES
    assert "`orders-db`: `orders`, `billing`, `migrator`" in finding.message


# --- what may be declared -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "asked", "each"),
    [
        (None, [None], (DEFAULT_SHARE,)),
        (60, [20, None, None], (20, 17, 17)),
        (100, [None] * 10, (9,) * 10),
        (None, [None] * 31, (SMALLEST_SHARE,) * 31),
        (None, [80, None], (80, 15)),
    ],
)
async def test_shares(server: int | None, asked: list[int | None], each: tuple[int, ...]) -> None:
    found = shares(server, asked)
    assert found.each == each
    assert found.left >= 0
    assert sum(found.each) + RESERVED <= found.server


@pytest.mark.parametrize(
    ("resource", "channel", "code", "path"),
    [
        (", connections: 20", ", connections: 16", codes.TOO_MANY_CONNECTIONS, None),
        (", connections: 7", "", codes.TOO_MANY_CONNECTIONS, None),
        ("", ", connections: 0", codes.OUT_OF_RANGE, ("channels", 0, "connections")),
        ("", ", connections: many", codes.WRONG_TYPE, ("channels", 0, "connections")),
        ("", ", statement_timeout: 5", codes.BAD_DURATION, ("channels", 0, "statement_timeout")),
        (
            "",
            ", temporary_file_size: big",
            codes.BAD_SIZE,
            ("channels", 0, "temporary_file_size"),
        ),
        ("", ", temporary: 1", codes.WRONG_TYPE, ("channels", 0, "temporary")),
    ],
)
async def test_limits_that_are_wrong(
    resource: str, channel: str, code: str, path: tuple[str | int, ...] | None
) -> None:
    (flaw,) = flaws(f", database: a{resource}", f", tables: {{a: [select]}}{channel}")
    assert flaw.code == code
    assert flaw.path == (path or ("resources", "db", "connections"))


async def test_temporary_tables_alone_are_something() -> None:
    assert flaws(channel=", temporary: true, statement_timeout: none") == []
