"""What somebody changes by hand in what the database does is drift, thing by thing."""

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import psycopg
import pytest
import pytest_asyncio

from tests.rig import Rig, running_server
from tests.servers.postgresql.rig import as_operator, connect
from tests.servers.postgresql.shop import SCHEMA, SHOP
from watertight.servers.postgresql.enforcer import PostgreSQLEnforcer

pytestmark = pytest.mark.asyncio(loop_scope="module")

MORE = """
CREATE OR REPLACE FUNCTION reads() RETURNS bigint LANGUAGE sql SECURITY DEFINER
    SET search_path = public, pg_temp AS $$ SELECT count(*) FROM customers $$;
ALTER TABLE orders ALTER note SET DEFAULT 'none';
CREATE TABLE IF NOT EXISTS notes (id int CHECK (id > 0), author text);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
"""
LEAK = (
    "CREATE FUNCTION leak() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS "
    "$$BEGIN NEW.note := (SELECT secret FROM customers LIMIT 1); RETURN NEW; END$$"
)
WATCH = "CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'"
FIRST = "CREATE FUNCTION c(bigint) RETURNS tid LANGUAGE sql AS $$SELECT '(0,1)'::tid$$"
CHANGES = {
    "TRIGGER leak ON public.orders: made": (
        f"{LEAK}; CREATE TRIGGER leak BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION leak()",
        "DROP FUNCTION leak CASCADE",
    ),
    "RULE also ON public.orders: made": (
        "CREATE RULE also AS ON INSERT TO orders DO ALSO DELETE FROM customers",
        "DROP RULE also ON orders",
    ),
    "POLICY all_of_it ON public.notes: made": (
        "CREATE POLICY all_of_it ON notes USING (true)",
        "DROP POLICY all_of_it ON notes",
    ),
    "ROW SECURITY OF public.notes: changed": (
        "ALTER TABLE notes FORCE ROW LEVEL SECURITY",
        "ALTER TABLE notes NO FORCE ROW LEVEL SECURITY",
    ),
    "CHECK notes_id_check ON public.notes: removed": (
        "ALTER TABLE notes DROP CONSTRAINT notes_id_check",
        "ALTER TABLE notes ADD CHECK (id > 0)",
    ),
    "DEFAULT OF public.notes.author: made": (
        "ALTER TABLE notes ALTER author SET DEFAULT current_query()",
        "ALTER TABLE notes ALTER author DROP DEFAULT",
    ),
    "EVENT TRIGGER watcher: made": (
        f"{WATCH}; CREATE EVENT TRIGGER watcher ON ddl_command_end EXECUTE FUNCTION watch()",
        "DROP EVENT TRIGGER watcher; DROP FUNCTION watch",
    ),
    "PUBLICATION everything: made": (
        "CREATE PUBLICATION everything FOR ALL TABLES",
        "DROP PUBLICATION everything",
    ),
    "replication slot keeps_all: nobody": (
        "SELECT pg_create_physical_replication_slot('keeps_all', true)",
        "SELECT pg_drop_replication_slot('keeps_all')",
    ),
    "CAST (bigint AS tid): made": (
        f"{FIRST}; CREATE CAST (bigint AS tid) WITH FUNCTION c(bigint)",
        "DROP FUNCTION c CASCADE",
    ),
    "ROUTINES OF pg_catalog: changed": (
        "ALTER FUNCTION pg_catalog.lower(text) SECURITY DEFINER",
        "ALTER FUNCTION pg_catalog.lower(text) SECURITY INVOKER",
    ),
}
KEPT = "CREATE OR REPLACE FUNCTION kept() RETURNS int LANGUAGE sql AS 'SELECT 1'"
TAKEN_BACK = {
    "VIEW sales.totals": "CREATE OR REPLACE VIEW sales.totals AS "
    "SELECT customer, count(*) * 2 AS orders FROM orders GROUP BY 1",
    "ROUTINE public.reads()": "ALTER FUNCTION reads() RESET search_path",
    "DEFAULT OF public.orders.note": "ALTER TABLE orders ALTER note DROP DEFAULT",
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Rig]:
    files = {"db/schema.sql": SCHEMA + MORE}
    async with running_server(PostgreSQLEnforcer(), SHOP, files) as running:
        assert await drift(running) == []
        yield running


async def drift(rig: Rig) -> list[str]:
    return list(await rig.enforcer.drift(rig.plan, rig.host))


async def applied(rig: Rig) -> list[str]:
    return list((await rig.enforcer.apply(rig.plan, rig.host)).changed)


async def untold(rig: Rig) -> list[str]:
    """Which of all the changes no line tells of."""
    lines = await drift(rig)
    return [told for told in CHANGES if not any(line.startswith(told) for line in lines)]


async def test_what_was_done_by_hand_is_told_until_it_is_undone(rig: Rig) -> None:
    """Also after `apply`, which does not know what else it could be. All at once: to look at a
    whole database for each would take ten times as long, and each has a line of its own."""
    try:
        for change, _ in CHANGES.values():
            await as_operator(rig, change)
        assert await untold(rig) == []
        await applied(rig)
        assert await untold(rig) == []
        assert await applied(rig) == []
    finally:
        for _, undo in reversed(CHANGES.values()):
            with suppress(psycopg.Error):  # not done, or undone with another
                await as_operator(rig, undo)
    assert await drift(rig) == []


@pytest.mark.parametrize("what", TAKEN_BACK)
async def test_what_the_schema_file_makes_is_made_again(rig: Rig, what: str) -> None:
    await as_operator(rig, TAKEN_BACK[what])
    (line,) = await drift(rig)
    assert line.startswith(what)
    assert [line for line in await applied(rig) if "taken back" in line]
    assert await drift(rig) == []


async def test_what_a_schema_file_that_is_new_leaves_is_right(rig: Rig) -> None:
    """It is said all the same what stands there that no file of before had made."""
    await as_operator(rig, KEPT, "ALTER FUNCTION kept() OWNER TO watertight_owner")
    write_schema(rig, SCHEMA + MORE + KEPT)
    assert "ROUTINE public.kept(), made outside of apply: taken as it is" in await applied(rig)
    assert await drift(rig) == []
    await as_operator(rig, "DROP FUNCTION kept")
    assert "ROUTINE public.kept(): removed outside of apply" in await drift(rig)
    write_schema(rig, SCHEMA + MORE)
    await applied(rig)
    assert await drift(rig) == []


def write_schema(rig: Rig, text: str) -> None:
    (rig.host.placement.project_directory / "db" / "schema.sql").write_text(text)


async def test_what_a_service_makes_of_its_own_is_its_own_matter(rig: Rig) -> None:
    with connect(rig, "migrator") as session:
        session.execute("CREATE FUNCTION stock.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        session.execute("CREATE VIEW stock.ones AS SELECT 1 AS one")
    assert await drift(rig) == []
    # It may be revoked for them; what was done to the operator's own is told all the same.
    revoked = [role for role in rig.plan.grants.roles if role.name != "migrator"]
    plan = replace(rig.plan, grants=replace(rig.plan.grants, roles=tuple(revoked)))
    await as_operator(rig, "CREATE VIEW seen AS SELECT 1 AS one")
    found = await rig.enforcer.drift(plan, rig.host)
    assert "VIEW public.seen: made outside of apply" in found
    assert not any("stock." in line and "outside of apply" in line for line in found)
    await as_operator(rig, "DROP VIEW seen")
    with connect(rig, "migrator") as session:
        session.execute("DROP FUNCTION stock.mine")
        session.execute("DROP VIEW stock.ones")


async def test_where_there_is_no_schema_file_apply_takes_what_it_finds(rig: Rig) -> None:
    plan = replace(rig.plan, grants=replace(rig.plan.grants, schema_file=None))
    await as_operator(rig, "CREATE VIEW seen AS SELECT 1 AS one")
    assert "VIEW public.seen: made outside of apply" in await rig.enforcer.drift(plan, rig.host)
    said = (await rig.enforcer.apply(plan, rig.host)).changed
    assert "VIEW public.seen, made outside of apply: taken as it is" in said
    assert await rig.enforcer.drift(plan, rig.host) == []
