"""What a service makes of its own it keeps to itself, and there is an end to it."""

from collections.abc import AsyncIterator
from contextlib import suppress

import psycopg
import pytest
import pytest_asyncio

from tests.postgresql.rig import as_operator, connect
from tests.postgresql.shop import SCHEMA, SHOP
from tests.servers import Rig, running_server
from watertight.enforcers.postgresql.enforcer import PostgreSQLEnforcer
from watertight.enforcers.postgresql.fence import FENCE, MOST_THINGS

pytestmark = pytest.mark.asyncio(loop_scope="module")

GIVES_AWAY = (
    "GRANT SELECT ON stock.mine TO PUBLIC",
    "GRANT SELECT ON stock.mine TO billing",
    "GRANT SELECT (id) ON stock.mine TO billing",
    "GRANT ALL ON ALL TABLES IN SCHEMA stock TO billing WITH GRANT OPTION",
    "GRANT EXECUTE ON FUNCTION stock.one() TO billing",
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO billing",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA stock GRANT EXECUTE ON FUNCTIONS TO PUBLIC",
    "DO $$BEGIN EXECUTE 'GRANT SELECT ON stock.mine TO PUBLIC'; END$$",
)
MADE = ("CREATE TABLE stock.mine (id int)",
        "CREATE FUNCTION stock.one() RETURNS int LANGUAGE sql AS 'SELECT 1'")  # fmt: skip


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with running_server(PostgreSQLEnforcer(), SHOP, {"db/schema.sql": SCHEMA}) as running:
        yield running


@pytest.mark.parametrize("statement", GIVES_AWAY)
async def test_a_service_gives_nothing_to_others(rig: Rig, statement: str) -> None:
    with connect(rig, "migrator") as session, session.transaction(force_rollback=True):
        for made in MADE:
            session.execute(made)
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may give nothing"):
            session.execute(statement)


async def test_it_may_take_back_and_drop_what_it_has(rig: Rig) -> None:
    with connect(rig, "migrator") as session:
        for made in MADE:
            session.execute(made)
        session.execute("REVOKE ALL ON stock.mine FROM PUBLIC")
        session.execute("DROP TABLE stock.mine; DROP FUNCTION stock.one()")


async def test_a_schema_file_grants_what_it_likes(rig: Rig) -> None:
    file = rig.host.placement.project_directory / "db" / "schema.sql"
    file.write_text(f"{SCHEMA}; CREATE TABLE given (); GRANT SELECT ON given TO PUBLIC;")
    await rig.enforcer.apply(rig.plan, rig.host)
    assert await rig.enforcer.drift(rig.plan, rig.host) == []
    file.write_text(SCHEMA)
    await as_operator(rig, "DROP TABLE given")
    await rig.enforcer.apply(rig.plan, rig.host)


@pytest.mark.parametrize(
    "what", ["SEQUENCE stock.t%s", "TABLE stock.t%s ()", "DOMAIN stock.t%s AS int"]
)
async def test_there_is_an_end_to_how_many_things_it_makes(rig: Rig, what: str) -> None:
    fence = FENCE.replace(f"> {MOST_THINGS} ", "> 20 ").replace(f"than {MOST_THINGS} ", "than 20 ")
    assert fence != FENCE
    await as_operator(rig, fence)
    loop = f"DO $$BEGIN FOR i IN %s..%s LOOP EXECUTE format('CREATE {what}', i); END LOOP; END$$"
    try:
        with connect(rig, "migrator") as session, session.transaction(force_rollback=True):
            session.execute(loop.replace("%s", "1", 1).replace("%s", "15", 1))
            with pytest.raises(psycopg.errors.ProgramLimitExceeded), session.transaction():
                session.execute(loop.replace("%s", "16", 1).replace("%s", "21", 1))
            for number in range(16, 21):
                with suppress(psycopg.errors.ProgramLimitExceeded), session.transaction():
                    session.execute(loop.replace("%s", str(number)))
            with (
                pytest.raises(psycopg.errors.ProgramLimitExceeded, match="more than 20"),
                session.transaction(),
            ):
                session.execute("CREATE TABLE stock.one_more ()")
            session.execute(f"DROP {what.split(maxsplit=1)[0]} stock.t1")
            session.execute("CREATE TABLE stock.one_more ()")
        assert await rig.enforcer.drift(rig.plan, rig.host) != []
    finally:
        await rig.enforcer.apply(rig.plan, rig.host)
    assert await rig.enforcer.drift(rig.plan, rig.host) == []
