"""The operator's own `apply` runs nothing of a service's, whatever it has made, and when."""

import threading
from collections.abc import AsyncIterator
from contextlib import closing, suppress

import psycopg
import pytest
import pytest_asyncio

from tests.rig import Rig
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
from watertight.enforcers.resource import ServerRefused
from watertight.model.load import load_text

pytestmark = pytest.mark.asyncio(loop_scope="module")

SPIED = (
    "BEGIN INSERT INTO stock.loot SELECT current_user, v FROM public.secrets; RETURN {}; "
    "EXCEPTION WHEN OTHERS THEN RETURN {}; END"
)
LOOT = (
    "CREATE TABLE IF NOT EXISTS stock.loot (who text, v text)",
    "GRANT ALL ON stock.loot TO PUBLIC",
)
SECRETS = (
    "CREATE TABLE IF NOT EXISTS secrets (v text); INSERT INTO secrets VALUES ('s3cret');\n"
    "REVOKE ALL ON secrets FROM PUBLIC;\n"
)
INTO_STOCK = "INSERT INTO stock.people (email) VALUES ('A@B');\n"
PEOPLE = (
    "CREATE TABLE IF NOT EXISTS people (id serial PRIMARY KEY, email varchar(80), key text);\n"
    "INSERT INTO people (email) VALUES ('A@B');\n"
    "UPDATE people SET key = lower(email) WHERE key IS NULL;\n"
)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running() -> AsyncIterator[Rig]:
    async with shop_database() as rig:
        yield rig


@pytest_asyncio.fixture(loop_scope="module")
async def rig(running: Rig) -> AsyncIterator[Rig]:
    """With a schema of migrator's and something to steal; all of it gone afterwards."""
    schema_file(running, SCHEMA + SECRETS)
    await running.enforcer.apply(running.plan, running.host)
    await as_operator(running, "GRANT USAGE ON SCHEMA stock TO PUBLIC")
    with closing(connect(running, "migrator")) as session:
        async with unfenced(running):
            run(session, *LOOT)
    yield running
    await as_operator(
        running,
        "REVOKE CREATE ON SCHEMA public FROM migrator",
        "DROP SCHEMA stock CASCADE",
        "DROP OWNED BY migrator CASCADE",
        "DROP SCHEMA public CASCADE",
        "DROP SCHEMA sales CASCADE",
        "CREATE SCHEMA public AUTHORIZATION pg_database_owner",
        "DROP EVENT TRIGGER IF EXISTS watertight",
        "DELETE FROM watertight.schema_files",  # so that the next apply runs it again
    )


async def loot(rig: Rig) -> list[tuple[object]]:
    return await as_operator(rig, "SELECT who FROM stock.loot WHERE who <> 'migrator'")


def spies(name: str, arguments: str, returns: str, value: str) -> str:
    body = SPIED.format(value, value)
    return f"CREATE FUNCTION {name}({arguments}) RETURNS {returns} LANGUAGE plpgsql AS $${body}$$"


LOWER = (
    spies("public.lower", "a varchar", "text", "pg_catalog.lower(a::text)"),
    "GRANT EXECUTE ON FUNCTION public.lower(varchar) TO PUBLIC",
)
TABLE_FIRST = (
    "CREATE TABLE public.people (id serial PRIMARY KEY, email varchar(80), key text)",
    "GRANT ALL ON public.people TO PUBLIC",
    "GRANT ALL ON SEQUENCE public.people_id_seq TO PUBLIC",
    spies("stock.t", "", "trigger", "NEW"),
    "CREATE TRIGGER t BEFORE INSERT ON public.people FOR EACH ROW EXECUTE FUNCTION stock.t()",
    "CREATE CONSTRAINT TRIGGER later AFTER INSERT ON public.people "  # noqa: ISC004
    "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION stock.t()",
)
OPERATOR = (
    spies("stock.same", "a varchar, b varchar", "bool", "true"),
    "GRANT EXECUTE ON FUNCTION stock.same TO PUBLIC",
    "CREATE OPERATOR public.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = stock.same)",
)
DOMAIN = (
    spies("stock.ok", "text", "bool", "true"),
    "GRANT EXECUTE ON FUNCTION stock.ok TO PUBLIC",
    "CREATE DOMAIN public.email AS text CHECK (stock.ok(VALUE))",
    "GRANT USAGE ON TYPE public.email TO PUBLIC",
)


@pytest.mark.parametrize(
    ("made", "file"),
    [
        (LOWER, PEOPLE),
        (TABLE_FIRST, PEOPLE),
        (OPERATOR, "SELECT 1 FROM (VALUES ('a'::varchar)) v (a) WHERE a = 'b'::varchar;\n"),
        (DOMAIN, "CREATE TABLE IF NOT EXISTS mails (e email); INSERT INTO mails VALUES ('x');\n"),
    ],
    ids=["function", "table", "operator", "domain"],
)
async def test_what_a_service_left_where_names_are_looked_for_stops_a_new_schema_file(
    rig: Rig, made: tuple[str, ...], file: str
) -> None:
    """Also before this was known: the service could make things in ``public`` then."""
    await as_operator(rig, "GRANT CREATE ON SCHEMA public TO migrator")
    with closing(connect(rig, "migrator")) as session:
        async with unfenced(rig):
            run(session, *made)
    schema_file(rig, SCHEMA + SECRETS + file)
    with pytest.raises(ServerRefused, match=r"public.* of ") as refused:
        await apply(rig)
    assert "OWNER TO watertight_owner" in refused.value.remedy
    assert await loot(rig) == []
    # An unchanged file does not run: all else is put right, and what was made has no power left.
    schema_file(rig, SCHEMA + SECRETS)
    assert any("given to watertight_nobody" in step for step in await apply(rig))
    assert await rig.enforcer.drift(rig.plan, rig.host) == []  # it is still there, as apply left it
    schema_file(rig, SCHEMA + SECRETS + file)
    with pytest.raises(ServerRefused, match="watertight_nobody"):
        await apply(rig)
    assert await loot(rig) == []


async def test_what_a_service_had_not_committed_yet_is_too_late(rig: Rig) -> None:
    await as_operator(rig, "GRANT CREATE ON SCHEMA public TO migrator")
    schema_file(rig, SCHEMA + SECRETS + PEOPLE)
    with closing(connect(rig, "migrator")) as session:
        async with unfenced(rig):
            run(session, "BEGIN", *LOWER)
        assert "schema file db/schema.sql run" in await apply(rig)
        with pytest.raises(psycopg.OperationalError):
            run(session, "COMMIT")
    assert await loot(rig) == []


async def test_the_schema_file_cannot_look_where_services_make_things(rig: Rig) -> None:
    there = [line.replace("public.", "stock.") for line in TABLE_FIRST]
    with closing(connect(rig, "migrator")) as session:
        async with unfenced(rig):
            run(session, *there)
    for file in (
        INTO_STOCK,
        "CREATE TABLE IF NOT EXISTS stock.more (id int);\n",
        "SELECT stock.f();\n",
        "CREATE VIEW seen AS SELECT * FROM stock.people;\n",
    ):
        schema_file(rig, SCHEMA + SECRETS + file)
        with pytest.raises(ServerRefused, match="permission denied for schema stock") as refused:
            await apply(rig)
        assert "Services make things of their own there" in refused.value.remedy
    by_path = "SET search_path = stock; INSERT INTO people (email) VALUES ('A@B');\n"
    schema_file(rig, SCHEMA + SECRETS + by_path)
    with pytest.raises(ServerRefused, match="does not exist"):
        await apply(rig)
    assert await loot(rig) == []
    schema_file(rig, SCHEMA + SECRETS)
    await apply(rig)
    owner = "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'stock'"
    assert await as_operator(rig, owner) == [("watertight_owner",)]
    assert await rig.enforcer.drift(rig.plan, rig.host) == []


async def test_a_service_that_makes_and_drops_meanwhile_changes_nothing(rig: Rig) -> None:
    stop, rounds = threading.Event(), 0

    def busy() -> None:
        nonlocal rounds
        there = [line.replace("public.", "stock.") for line in TABLE_FIRST if line[:5] != "GRANT"]
        while not stop.is_set():
            with suppress(psycopg.Error), closing(connect(rig, "migrator")) as session:
                run(session, *there, "DROP TABLE stock.people", "DROP FUNCTION stock.t")
                rounds += 1

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for number in range(4):
            schema_file(rig, f"{SCHEMA}{SECRETS}{PEOPLE}-- {number}\n")
            await apply(rig)
    finally:
        stop.set()
        thread.join()
    assert rounds > 0
    assert await loot(rig) == []


async def test_what_the_owner_built_on_a_services_things_stops_a_new_schema_file(rig: Rig) -> None:
    with closing(connect(rig, "migrator")) as session:
        run(session, "CREATE TABLE stock.items (id int)")
    await as_operator(
        rig,
        "CREATE VIEW public.built AS SELECT id FROM stock.items",
        "ALTER VIEW public.built OWNER TO watertight_owner",
    )
    schema_file(rig, SCHEMA + SECRETS + PEOPLE)
    with pytest.raises(ServerRefused, match=r"built uses .*stock.items of migrator"):
        await apply(rig)


async def test_a_part_of_the_owners_table_that_is_a_services_stops_it_too(rig: Rig) -> None:
    await as_operator(
        rig,
        "CREATE TABLE public.parted (i int) PARTITION BY LIST (i)",
        "CREATE TABLE stock.part PARTITION OF public.parted DEFAULT",
        "ALTER TABLE public.parted OWNER TO watertight_owner",
        "ALTER TABLE stock.part OWNER TO migrator",
    )
    schema_file(rig, SCHEMA + SECRETS + PEOPLE)
    with pytest.raises(ServerRefused, match=r"parted uses .*stock.part of migrator"):
        await apply(rig)


async def test_the_owner_is_a_member_of_no_service(rig: Rig) -> None:
    there = [line.replace("public.", "stock.") for line in TABLE_FIRST]
    with closing(connect(rig, "migrator")) as session:
        async with unfenced(rig):
            run(session, *there)
        with suppress(psycopg.errors.InsufficientPrivilege):  # refused since PostgreSQL 16
            run(session, "GRANT migrator TO watertight_owner")
    schema_file(rig, SCHEMA + SECRETS + INTO_STOCK)
    with pytest.raises(ServerRefused, match="schema stock"):
        await apply(rig)
    assert await loot(rig) == []


async def test_so_many_lines_of_drift_one_service_may_add(rig: Rig) -> None:
    with closing(connect(rig, "migrator")) as session:
        async with unfenced(rig):
            for number in range(60):
                run(
                    session,
                    f"CREATE TABLE stock.many{number} ()",
                    f"GRANT ALL ON stock.many{number} TO PUBLIC",
                )
    await as_operator(rig, "GRANT DELETE ON orders TO orders")
    drift = await rig.enforcer.drift(rig.plan, rig.host)
    assert len(drift) < 30
    assert "not declared: DELETE on TABLE public.orders for orders" in drift
    assert drift[-1].startswith("… and ")
    done = await apply(rig)
    assert len(done) < 30
    assert await rig.enforcer.drift(rig.plan, rig.host) == []


# --- foreign keys ---------------------------------------------------------------------------------

CAST = (
    "CREATE TYPE stock.c AS ENUM ('1')",
    spies("stock.number", "c stock.c", "int", "1"),
    "GRANT EXECUTE ON FUNCTION stock.number TO PUBLIC",
    "CREATE CAST (stock.c AS int) WITH FUNCTION stock.number(stock.c) AS IMPLICIT",
)
BY_CAST = "CREATE TABLE stock.f (a stock.c REFERENCES public.customers (id))"
CASCADING = "CREATE TABLE stock.g (a int REFERENCES public.customers (id) ON DELETE CASCADE)"
DEFERRED = (
    spies("stock.t", "", "trigger", "NULL"),
    "CREATE CONSTRAINT TRIGGER later AFTER DELETE ON stock.g "  # noqa: ISC004
    "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION stock.t()",
)
DELETES = "DELETE FROM customers;\n"


async def test_no_foreign_key_brings_a_services_code_to_others(rig: Rig) -> None:
    with closing(connect(rig, "migrator")) as session:
        async with unfenced(rig):
            run(session, *CAST)
        for statement in (BY_CAST, CASCADING):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="run by others"):
                run(session, statement)
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="run by others"):
                run(session, "BEGIN ISOLATION LEVEL SERIALIZABLE", statement)
            run(session, "ROLLBACK")
        run(session, "CREATE TABLE stock.f (a int REFERENCES public.customers (id))")
        run(
            session,
            "CREATE TABLE stock.own (a int PRIMARY KEY REFERENCES stock.own ON DELETE CASCADE)",
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run(session, "ALTER TABLE stock.f ALTER a TYPE stock.c USING '1'")


async def test_foreign_keys_from_before_are_dropped_before_the_file_runs(rig: Rig) -> None:
    await as_operator(rig, "DROP EVENT TRIGGER watertight", "INSERT INTO customers VALUES (1, 'x')")
    with closing(connect(rig, "migrator")) as session:
        run(session, *CAST, BY_CAST, CASCADING, *DEFERRED, "INSERT INTO stock.g VALUES (1)")
    drift = await rig.enforcer.drift(rig.plan, rig.host)
    assert sum("foreign key" in line for line in drift) == 2
    assert "what services may not build: not refused" in drift
    schema_file(rig, SCHEMA + SECRETS + DELETES)
    done = await apply(rig)
    assert sum("dropped: it had code of migrator run as others" in step for step in done) == 2
    assert "schema file db/schema.sql run" in done
    assert await loot(rig) == []
    assert [d for d in await rig.enforcer.drift(rig.plan, rig.host) if "foreign" in d] == []


async def test_a_foreign_key_that_is_being_made_is_too_late(rig: Rig) -> None:
    await as_operator(rig, "DROP EVENT TRIGGER watertight", "INSERT INTO customers VALUES (1, 'x')")
    schema_file(rig, SCHEMA + SECRETS + DELETES)
    with closing(connect(rig, "migrator")) as session:
        run(session, "BEGIN", CASCADING, *DEFERRED, "INSERT INTO stock.g VALUES (1)")
        await apply(rig)
        with pytest.raises(psycopg.OperationalError):
            run(session, "COMMIT")
    assert await loot(rig) == []


async def test_what_is_deferred_runs_as_the_owner_at_most(rig: Rig) -> None:
    own = (
        "CREATE TABLE IF NOT EXISTS seen (who text); CREATE TABLE IF NOT EXISTS late (i int);\n"
        "CREATE OR REPLACE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN INSERT INTO seen VALUES (current_user); RETURN NULL; END$$;\n"
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION note();\nINSERT INTO late VALUES (1);\n"
    )
    schema_file(rig, SCHEMA + SECRETS + own)
    await apply(rig)
    assert await as_operator(rig, "SELECT who FROM seen") == [("watertight_owner",)]


# --- what is given back ---------------------------------------------------------------------------


async def test_what_a_service_loses_does_not_gain_the_owners_rights(rig: Rig) -> None:
    with closing(connect(rig, "migrator")) as session:
        run(
            session,
            "CREATE TABLE stock.items (id int PRIMARY KEY)",
            "CREATE TABLE stock.parts (id int REFERENCES stock.items)",
        )
        async with unfenced(rig):
            run(session, "CREATE VIEW stock.peeks AS SELECT secret FROM public.customers")
    text = SHOP.replace("stock: [create, usage]", "stock: [usage]").replace(
        "customers: {references: [id]}",
        "customers: {references: [id]}, stock.peeks: [select], stock.items: [insert], "
        "stock.parts: [insert]",
    )
    less = rig.compile(load_text(text.replace("{port}", str(rig.host.port))))
    await rig.enforcer.apply(less, rig.host)
    with closing(connect(rig, "migrator")) as session:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run(session, "SELECT * FROM stock.peeks")
        run(session, "INSERT INTO stock.items VALUES (1)", "INSERT INTO stock.parts VALUES (1)")
