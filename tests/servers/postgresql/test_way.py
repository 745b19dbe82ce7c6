"""Whatever a service has made or holds, the operator's own steps go through."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import closing, suppress

import psycopg
import pytest
import pytest_asyncio

from tests.rig import Rig, with_channels
from tests.servers.postgresql.rig import (
    apply,
    as_operator,
    connect,
    run,
    schema_file,
    shop_database,
    unfenced,
)
from tests.servers.postgresql.shop import SCHEMA, SHOP
from watertight.enforcers.resource import ServerPlan
from watertight.errors import WatertightError
from watertight.model.load import load_text
from watertight.servers.postgresql import converge
from watertight.servers.postgresql.admin import until_ready

pytestmark = pytest.mark.asyncio(loop_scope="module")

OWNING = SHOP.replace(
    "schemas: {stock: [create, usage]}",
    "schemas: {stock: [create, usage]}\n    temporary: true\n    advisory_locks: true",
).replace(
    "tables: {customers: {references: [id]}}",
    "tables: {customers: {references: [id]}, stock.seen: [select]}\n"
    "    functions: {stock.f: [execute]}",
)
TEMPORARY = (
    "CREATE TEMP TABLE mine (id serial PRIMARY KEY, note text, big text)",
    "CREATE TEMP VIEW seen AS SELECT id FROM mine",
    "CREATE TEMP SEQUENCE numbers",
    "CREATE TYPE pg_temp.pair AS (a int, b int)",
    "CREATE DOMAIN pg_temp.small AS int CHECK (VALUE < 10)",
    "CREATE TYPE pg_temp.colour AS ENUM ('red')",
    "CREATE TYPE pg_temp.span AS RANGE (subtype = int)",
    "CREATE FUNCTION pg_temp.lower(text) RETURNS text LANGUAGE sql AS 'SELECT $1'",
    "CREATE FUNCTION pg_temp.to_regclass(text) RETURNS regclass LANGUAGE sql AS 'SELECT NULL'",
    "CREATE AGGREGATE pg_temp.total (int) (SFUNC = int4pl, STYPE = int)",
    "CREATE OPERATOR pg_temp.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)",
    'CREATE COLLATION pg_temp.odd FROM "C"',
    "CREATE STATISTICS pg_temp.guess ON id, note FROM mine",
    "CREATE TEXT SEARCH CONFIGURATION pg_temp.words (COPY = simple)",
    "GRANT ALL ON mine, seen TO PUBLIC",
    "GRANT SELECT (note) ON mine TO orders WITH GRANT OPTION",
    "GRANT ALL ON FUNCTION pg_temp.lower(text) TO PUBLIC",
)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with shop_database(OWNING) as running:
        yield running


async def drift(rig: Rig) -> list[str]:
    """What differs."""
    return list(await rig.enforcer.drift(rig.plan, rig.host))


async def without(rig: Rig, service: str) -> int:
    """Revokes it, and applies what is left."""
    left = rig.compile(
        with_channels(rig.system, *(c.source for c in rig.system.channels if c.source != service))
    )
    ended = await rig.enforcer.revoke(left, rig.host, service)
    await rig.enforcer.apply(left, rig.host)
    return ended


def compiled(rig: Rig, text: str) -> ServerPlan:
    return rig.compile(load_text(text.replace("{port}", str(rig.host.port))))


# --- what a session makes for itself --------------------------------------------------------------


async def test_temporary_things_of_a_session_are_its_own(rig: Rig) -> None:
    with closing(connect(rig, "migrator")) as session:
        async with unfenced(rig):
            run(session, *TEMPORARY)
        assert await drift(rig) == []
        assert await apply(rig) == ()
        run(session, "BEGIN", "INSERT INTO mine (note) VALUES ('x')", "LOCK TABLE mine")
        assert await without(rig, "migrator") == 1
    assert await as_operator(rig, "SELECT FROM pg_roles WHERE rolname = 'migrator'") == []
    await apply(rig)
    assert await drift(rig) == []


async def test_temporary_things_that_a_crash_left_are_nobodys_drift(rig: Rig) -> None:
    with closing(connect(rig, "migrator")) as session:
        async with unfenced(rig):
            run(session, *TEMPORARY)
        os.kill(session.info.backend_pid, signal.SIGKILL)
        with pytest.raises(psycopg.OperationalError):
            run(session, "SELECT 1")
        await until_ready(rig.plan, rig.host, rig.host.process.start_seconds)
    assert await apply(rig) == ()
    left = "SELECT count(*) FROM pg_class WHERE relnamespace::regnamespace::text ~ '^pg_temp'"
    assert await as_operator(rig, left) != [(0,)]
    assert await drift(rig) == []
    assert await without(rig, "migrator") == 0
    assert await as_operator(rig, "SELECT FROM pg_roles WHERE rolname = 'migrator'") == []
    await apply(rig)
    assert await drift(rig) == []


# --- what it owns ---------------------------------------------------------------------------------

ODD = '"o; DROP"" TABLE %s \n"'
OWNED = (
    "CREATE TABLE stock.items (id serial PRIMARY KEY, note text) PARTITION BY RANGE (id)",
    f"CREATE TABLE stock.{ODD} ({ODD} int, other text)",
    "CREATE VIEW stock.seen AS SELECT 1 AS id",
    "CREATE MATERIALIZED VIEW stock.kept AS SELECT 1 AS id",
    "CREATE SEQUENCE stock.numbers",
    "CREATE TYPE stock.pair AS (a int, b int)",
    "CREATE DOMAIN stock.small AS int CHECK (VALUE < 10)",
    "CREATE TYPE stock.colour AS ENUM ('red')",
    "CREATE TYPE stock.span AS RANGE (subtype = int)",
    "CREATE FUNCTION stock.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    f"CREATE FUNCTION stock.{ODD}(VARIADIC text[]) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE PROCEDURE stock.p(int) LANGUAGE sql AS 'SELECT 1'",
    "CREATE AGGREGATE stock.total (int) (SFUNC = int4pl, STYPE = int)",
    "CREATE AGGREGATE stock.middle (ORDER BY int) (SFUNC = int4pl, STYPE = int)",
    "CREATE OPERATOR stock.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)",
    "CREATE OPERATOR stock.!== (RIGHTARG = int, FUNCTION = int4abs)",
    'CREATE COLLATION stock.odd FROM "C"',
    "CREATE CONVERSION stock.turned FOR 'UTF8' TO 'LATIN1' FROM utf8_to_iso8859_1",
    f"CREATE STATISTICS stock.guess ON {ODD}, other FROM stock.{ODD}",
    "CREATE TEXT SEARCH CONFIGURATION stock.words (COPY = pg_catalog.simple)",
    "CREATE TEXT SEARCH DICTIONARY stock.stems (TEMPLATE = pg_catalog.simple)",
    f"GRANT ALL ON stock.{ODD}, stock.seen TO PUBLIC, orders",
    f"GRANT SELECT ({ODD}) ON stock.{ODD} TO orders WITH GRANT OPTION",
    f"GRANT ALL ON FUNCTION stock.{ODD}(text[]) TO PUBLIC",
    "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA stock GRANT ALL ON SEQUENCES TO orders",
    "ALTER ROLE migrator IN DATABASE orders SET search_path = 'stock'",
    "ALTER ROLE migrator PASSWORD 'x'",
)


OWNS = """
SELECT pg_describe_object(classid, objid, 0) FROM pg_shdepend
WHERE refobjid = 'migrator'::regrole AND deptype = 'o' AND classid <> 'pg_default_acl'::regclass
AND NOT (classid = 'pg_type'::regclass AND objid = 'stock.span_multirange'::regtype)
"""


async def test_whatever_a_service_has_made_it_is_put_right(rig: Rig) -> None:
    with closing(connect(rig, "migrator")) as session:
        async with unfenced(rig):
            run(session, *OWNED)
        assert await drift(rig) != []
        assert await apply(rig) != ()
        assert await drift(rig) == []
    # It may make nothing any more: all that it made goes to the database's owner.
    less = compiled(rig, OWNING.replace("stock: [create, usage]", "stock: [usage]"))
    await rig.enforcer.apply(less, rig.host)
    assert await as_operator(rig, OWNS) == []
    left = await rig.enforcer.drift(less, rig.host)
    assert [line for line in left if "made outside of apply" not in line] == []
    await as_operator(rig, "DROP SCHEMA stock CASCADE")
    await apply(rig)


async def test_what_vanishes_while_we_look_is_no_error(rig: Rig) -> None:
    stop, rounds = threading.Event(), 0

    def busy() -> None:
        nonlocal rounds
        with closing(connect(rig, "migrator")) as session:
            while not stop.is_set():
                for statement in (
                    "CREATE TABLE stock.gone (id int)",
                    "CREATE FUNCTION stock.went() RETURNS int LANGUAGE sql AS 'SELECT 1'",
                    "GRANT ALL ON stock.gone TO PUBLIC",
                    "GRANT ALL ON FUNCTION stock.went() TO PUBLIC",
                    "ALTER ROLE migrator SET work_mem = '1MB'",
                    "DROP TABLE stock.gone",
                    "DROP FUNCTION stock.went()",
                ):
                    with suppress(psycopg.Error):  # we meet there, too
                        run(session, statement)
                rounds += 1

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for _ in range(5):
            await drift(rig)
            await apply(rig)
    finally:
        stop.set()
        thread.join()
    assert rounds > 5
    await apply(rig)
    assert await drift(rig) == []


# --- what it holds --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "holds",
    [
        "ALTER ROLE orders PASSWORD 'x'",
        "ALTER ROLE orders SET work_mem = '1MB'",
        "LOCK TABLE orders IN ROW EXCLUSIVE MODE",
        "CREATE TEMP TABLE held ()",
    ],
)
async def test_no_transaction_keeps_a_service_from_being_cut(rig: Rig, holds: str) -> None:
    service = "billing" if "TEMP" in holds else "orders"
    with closing(connect(rig, service)) as session:
        run(session, "SET idle_in_transaction_session_timeout = 0", "BEGIN", holds)
        assert await without(rig, service) == 1
        with pytest.raises(psycopg.OperationalError):
            run(session, "SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        connect(rig, service)
    await apply(rig)
    assert await drift(rig) == []


async def test_no_advisory_lock_keeps_the_operator_out(rig: Rig) -> None:
    with closing(connect(rig, "migrator")) as session:
        run(session, "SELECT pg_advisory_lock(hashtext('watertight'))")
        assert await apply(rig) == ()
        run(session, "SELECT 1")


ALTERED = f"{SCHEMA}ALTER TABLE orders ADD COLUMN IF NOT EXISTS late text;\n"


async def test_who_waits_for_its_client_and_is_in_the_way_is_ended_after_the_grace(
    rig: Rig,
) -> None:
    schema_file(rig, ALTERED)
    with closing(connect(rig, "orders")) as session, closing(connect(rig, "billing")) as other:
        run(session, "SET idle_in_transaction_session_timeout = 0", "BEGIN", "SELECT FROM orders")
        run(other, "BEGIN", "SELECT FROM customers")
        ran, ended = await apply(rig)
        assert ran == "schema file db/schema.sql run"
        assert ended.startswith("ended, for it was in the way: orders (pid ")
        assert ended.endswith("last: SELECT FROM orders)")
        with pytest.raises(psycopg.OperationalError):
            run(session, "SELECT 1")
        run(other, "SELECT FROM customers", "COMMIT")  # in nobody's way
    schema_file(rig, SCHEMA)
    await apply(rig)


async def test_who_works_is_named_and_others_do_not_wait_behind_us(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converge, "PATIENCE_SECONDS", 4.0)
    schema_file(rig, ALTERED + "-- again\nDROP VIEW sales.totals;\n" + SCHEMA)
    try:
        with closing(connect(rig, "billing")) as session, closing(connect(rig, "orders")) as other:
            secret = "SELECT pg_sleep(60), 'a secret' FROM (VALUES (7)) v"
            works = threading.Thread(target=_until_ended, args=(session, secret))
            run(session, "BEGIN", "SELECT FROM sales.totals")
            works.start()
            applied = asyncio.ensure_future(apply(rig))
            try:
                run(other, "SET statement_timeout = '3s'")
                for _ in range(20):  # none of them for longer than it takes to try once
                    await asyncio.to_thread(run, other, "SELECT FROM orders")
                    await asyncio.sleep(0.05)
                with pytest.raises(WatertightError, match="billing") as refused:
                    await applied
            finally:
                await as_operator(
                    rig,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE usename = 'billing'",
                )
                works.join()
        assert "active for" in str(refused.value)
        assert "a secret" not in str(refused.value)
        assert "SELECT pg_sleep(…), … FROM (VALUES (…)) v" in str(refused.value)
    finally:
        schema_file(rig, SCHEMA)
    await apply(rig)


def _until_ended(session: psycopg.Connection[tuple[object, ...]], statement: str) -> None:
    with pytest.raises(psycopg.OperationalError):
        run(session, statement)
