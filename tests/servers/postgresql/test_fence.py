"""What a service makes of its own it keeps to itself, and there is an end to it."""

from collections.abc import AsyncIterator
from contextlib import suppress

import psycopg
import pytest
import pytest_asyncio

from tests.rig import Rig, not_held, running_server
from tests.servers.postgresql.rig import as_operator, connect, unfenced
from tests.servers.postgresql.shop import SCHEMA, SHOP
from watertight.attack.probe import Verdict
from watertight.enforcers.resource import ServerRefused
from watertight.servers.postgresql.admin import administer
from watertight.servers.postgresql.dependants import dependants
from watertight.servers.postgresql.enforcer import PostgreSQLEnforcer
from watertight.servers.postgresql.fence import FENCE, MOST_THINGS

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


async def test_it_keeps_what_the_operator_set_for_it(rig: Rig) -> None:
    defaults = "SELECT defaclobjtype, defaclacl::text FROM pg_default_acl ORDER BY 1"
    before = await as_operator(rig, defaults)
    assert before != []
    drops = ("DROP OWNED BY migrator", "DO 'BEGIN DROP OWNED BY CURRENT_USER CASCADE; END'")
    with connect(rig, "migrator") as session:
        for drop in drops:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may not use DROP OWN"):
                session.execute(drop)
    (give_away,) = [p for p in rig.probes if p.id == "escalation.give-away"]
    assert not_held(await rig.run([give_away])) == {}
    fence = FENCE.replace("('DROP OWNED', 'REASSIGN OWNED')", "('')")
    assert fence != FENCE
    # Where it has columns only, PostgreSQL itself refuses it.
    await as_operator(rig, fence, "GRANT SELECT ON customers TO migrator")
    (result,) = await rig.run([give_away])
    assert result.verdict is Verdict.BROKEN, result.observed
    assert "DROP OWNED" in result.observed
    assert await as_operator(rig, defaults) == before
    assert "what services may not build: not refused" in await rig.enforcer.drift(
        rig.plan, rig.host
    )
    await rig.enforcer.apply(rig.plan, rig.host)


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


# --- what would keep the operator from changing what is his ---------------------------------------

THEIRS = """
CREATE EXTENSION IF NOT EXISTS citext; CREATE EXTENSION IF NOT EXISTS btree_gist;
CREATE TYPE mood AS ENUM ('well', 'ill'); CREATE DOMAIN small AS int CHECK (VALUE < 9);
CREATE FUNCTION plus(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
CREATE FUNCTION less(int, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 < $2';
CREATE FUNCTION fires() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE OPERATOR <<< (LEFTARG = int, RIGHTARG = int, FUNCTION = less);
CREATE COLLATION sorted FROM "C"; CREATE TEXT SEARCH CONFIGURATION words (COPY = simple);
CREATE TABLE jobs (id int PRIMARY KEY, what varchar(80), feels mood);
ALTER TYPE mood OWNER TO watertight_owner; ALTER DOMAIN small OWNER TO watertight_owner;
ALTER FUNCTION plus OWNER TO watertight_owner; ALTER FUNCTION fires OWNER TO watertight_owner;
ALTER TABLE jobs OWNER TO watertight_owner;
GRANT SELECT, REFERENCES ON jobs TO migrator, billing;
GRANT EXECUTE ON FUNCTION plus, fires, less TO PUBLIC;
GRANT USAGE ON TYPE mood, small TO PUBLIC; GRANT TEMPORARY ON DATABASE orders TO migrator
"""
THEIRS_GONE = """
DROP TABLE jobs; DROP TYPE mood; DROP DOMAIN small; DROP FUNCTION plus, fires;
DROP OPERATOR <<< (int, int); DROP FUNCTION less; DROP COLLATION sorted;
DROP TEXT SEARCH CONFIGURATION words; DROP EXTENSION btree_gist
"""
OWN = """
CREATE TYPE stock.state AS ENUM ('new', 'sent'); CREATE DOMAIN stock.code AS public.citext
    CHECK (VALUE ~ '^[a-z]+$');
CREATE TYPE stock.pair AS (a stock.state, b public.citext[]);
CREATE FUNCTION stock.next() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION stock.fires() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TABLE stock.items (id serial PRIMARY KEY, code stock.code UNIQUE, tags public.citext[],
    state stock.state DEFAULT 'new', n int DEFAULT stock.next() CHECK (n < 9), pair stock.pair,
    m int GENERATED ALWAYS AS (n + 1) STORED, key uuid DEFAULT gen_random_uuid());
ALTER TYPE stock.state ADD VALUE 'lost' AFTER 'sent';
CREATE TABLE stock.parts (id bigint GENERATED ALWAYS AS IDENTITY, item int REFERENCES stock.items,
    job int REFERENCES public.jobs, customer int REFERENCES public.customers (id),
    day date, EXCLUDE USING gist (item WITH =, daterange(day, day) WITH &&));
CREATE INDEX ON stock.items ((lower(code::text))) WHERE n > 0;
CREATE TRIGGER fires BEFORE INSERT ON stock.items FOR EACH ROW EXECUTE FUNCTION stock.fires();
CREATE VIEW stock.seen AS SELECT id, code, state FROM stock.items;
CREATE VIEW stock.more AS SELECT code, count(*) FROM stock.seen GROUP BY 1;
CREATE OR REPLACE VIEW stock.seen AS SELECT id, code, state, tags FROM stock.items;
CREATE MATERIALIZED VIEW stock.kept AS SELECT * FROM stock.more;
REFRESH MATERIALIZED VIEW stock.kept;
CREATE RULE also AS ON INSERT TO stock.parts DO ALSO SELECT 1;
ALTER TABLE stock.items ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON stock.items USING (state <> 'sent');
CREATE TABLE stock.days (day date, item int) PARTITION BY RANGE (day);
CREATE TABLE stock.first PARTITION OF stock.days DEFAULT; CREATE INDEX ON stock.days (item);
ALTER TABLE stock.days ADD COLUMN state stock.state DEFAULT 'new';
CREATE TABLE stock.child () INHERITS (stock.items);
ALTER TABLE stock.first ALTER item SET DEFAULT 1;
ALTER TABLE stock.items ADD COLUMN o stock.code, ALTER n SET DEFAULT 2, ALTER key TYPE text;
CREATE STATISTICS stock.both ON n, m FROM stock.items;
CREATE FUNCTION stock.body(stock.items) RETURNS stock.state LANGUAGE sql
    BEGIN ATOMIC SELECT state FROM stock.items WHERE n = 1; END;
CREATE FUNCTION stock.reads() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM public.jobs';
CREATE TABLE stock.copy AS SELECT id, what FROM public.jobs;
CREATE TABLE stock.like (LIKE stock.copy);
CREATE TEMP TABLE mine AS SELECT id FROM public.jobs; COMMENT ON TABLE stock.items IS 'x';
ALTER TABLE stock.items RENAME TO things;
CREATE TABLE stock.whole (a stock.things, b stock.things[])
"""
GROUND = """
CREATE TABLE stock.t (a int, b int); CREATE DOMAIN stock.d AS int; CREATE TYPE stock.c AS (a int);
CREATE VIEW stock.v AS SELECT 1 AS id; CREATE TABLE stock.p (a int, b int) PARTITION BY LIST (a)
"""
PINS = (
    "CREATE VIEW stock.pin AS SELECT what FROM public.jobs",
    "CREATE TEMP VIEW pin AS SELECT what FROM public.jobs",
    "CREATE OR REPLACE VIEW stock.v AS SELECT id FROM public.jobs",
    "CREATE MATERIALIZED VIEW stock.pin AS SELECT what FROM public.jobs WITH NO DATA",
    "CREATE RECURSIVE VIEW stock.pin (a) AS SELECT what FROM public.jobs",
    "DO $$BEGIN EXECUTE 'CREATE VIEW stock.pin AS SELECT what FROM public.jobs'; END$$",
    "CREATE RULE pin AS ON INSERT TO stock.t DO ALSO SELECT what FROM public.jobs",
    "CREATE POLICY pin ON stock.t USING (EXISTS (SELECT FROM public.jobs WHERE what = 'x'))",
    "CREATE FUNCTION stock.pin() RETURNS bigint LANGUAGE sql BEGIN ATOMIC "  # noqa: ISC004
    "SELECT count(what) FROM public.jobs; END",
    "CREATE FUNCTION stock.pin() RETURNS public.jobs LANGUAGE plpgsql AS 'BEGIN END'",
    "CREATE FUNCTION stock.pin(a public.mood) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION stock.pin(a int = public.plus(1)) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TABLE stock.pin (a public.jobs)",
    "CREATE TABLE stock.pin (a public.jobs[])",
    "CREATE TABLE stock.pin (a public.mood)",
    "CREATE TEMP TABLE pin (a public.small)",
    "CREATE TABLE stock.pin AS SELECT feels FROM public.jobs",
    "SELECT feels INTO stock.pin FROM public.jobs",
    "CREATE TABLE stock.pin (LIKE public.jobs)",
    "CREATE TABLE stock.pin (a text COLLATE public.sorted)",
    "CREATE TABLE stock.pin (a int DEFAULT public.plus(1))",
    "CREATE TABLE stock.pin (a int DEFAULT nextval('public.tickets'))",
    "CREATE TABLE stock.pin (a int CHECK (a OPERATOR(public.<<<) 1))",
    "CREATE TABLE stock.pin (a int, b int GENERATED ALWAYS AS (public.plus(a)) STORED)",
    "CREATE TABLE stock.pin (a int) PARTITION BY RANGE (public.plus(a))",
    "ALTER TABLE stock.t ADD COLUMN c public.mood",
    "ALTER TABLE stock.t ALTER a TYPE public.small",
    "ALTER TABLE stock.t ALTER a SET DEFAULT public.plus(1)",
    "ALTER TABLE stock.t ADD CHECK (public.plus(a) > 0)",
    "ALTER TABLE stock.p ADD COLUMN c public.mood",
    "ALTER VIEW stock.v ALTER id SET DEFAULT public.plus(1)",
    "CREATE INDEX ON stock.t (public.plus(a))",
    "CREATE INDEX ON stock.t (a) WHERE public.plus(a) > 0",
    "CREATE STATISTICS stock.pin ON (public.plus(a)) FROM stock.t",
    "CREATE TRIGGER pin BEFORE INSERT ON stock.t FOR EACH ROW EXECUTE FUNCTION public.fires()",
    "CREATE TYPE stock.pin AS (a public.mood)",
    "CREATE TYPE stock.pin AS RANGE (SUBTYPE = public.small)",
    "ALTER TYPE stock.c ADD ATTRIBUTE b public.jobs",
    "CREATE DOMAIN stock.pin AS public.mood",
    "CREATE DOMAIN stock.pin AS int CHECK (public.plus(VALUE) > 0)",
    "ALTER DOMAIN stock.d ADD CHECK (public.plus(VALUE) > 0)",
    "ALTER DOMAIN stock.d SET DEFAULT public.plus(1)",
    "CREATE OPERATOR stock.### (RIGHTARG = int, FUNCTION = public.plus)",
    "CREATE AGGREGATE stock.pin (int) (SFUNC = int4pl, STYPE = int, FINALFUNC = public.plus)",
    "CREATE CAST (stock.d AS public.jobs) WITH INOUT",
    "CREATE FUNCTION stock.pin(a tsvector DEFAULT to_tsvector('public.words', 'x')) RETURNS int "  # noqa: ISC004
    "LANGUAGE sql AS 'SELECT 1'",
)


@pytest_asyncio.fixture(loop_scope="module")
async def theirs(rig: Rig) -> AsyncIterator[Rig]:
    await as_operator(rig, THEIRS)
    yield rig
    (rig.host.placement.project_directory / "db" / "schema.sql").write_text(SCHEMA)
    await as_operator(rig, THEIRS_GONE)
    await rig.enforcer.apply(rig.plan, rig.host)


async def test_nothing_of_a_services_depends_on_what_is_not_its_own(theirs: Rig) -> None:
    async with unfenced(theirs):
        assert tried(theirs) == dict.fromkeys(PINS, "done")
        pins = await theirs.run([p for p in theirs.probes if p.id == "escalation.pin"])
        assert {(one.channel.split()[0], one.verdict) for one in pins} == {
            ("billing", Verdict.BROKEN),
            ("migrator", Verdict.BROKEN),
        }
    assert set(tried(theirs).values()) == {"42501"}
    with (
        connect(theirs, "billing") as session,
        pytest.raises(
            psycopg.errors.InsufficientPrivilege,
            match=r"on view pin would depend on column .* of table public.jobs",
        ),
    ):
        session.execute(PINS[1])


def tried(rig: Rig) -> dict[str, str]:
    seen = {}
    with connect(rig, "migrator") as session, session.transaction(force_rollback=True):
        session.execute(GROUND)
        for pin in PINS:
            try:
                with session.transaction(force_rollback=True):
                    session.execute(pin)
                seen[pin] = "done"
            except psycopg.Error as error:
                seen[pin] = str(error.sqlstate)
    return seen


async def test_what_is_from_before_keeps_no_service_from_its_own_tables(theirs: Rig) -> None:
    with connect(theirs, "migrator") as session:
        async with unfenced(theirs):
            session.execute("CREATE TABLE stock.old (a public.mood, b int)")
        session.execute(
            "ALTER TABLE stock.old ADD COLUMN c int; ALTER TABLE stock.old DROP COLUMN b"
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="column d of table"):
            session.execute("ALTER TABLE stock.old ADD COLUMN d public.mood")
        with session.transaction(), session.transaction():
            session.execute("ALTER TABLE stock.old ALTER a TYPE text")
        session.execute("DROP TABLE stock.old")


async def test_the_migrations_of_a_service_make_what_they_like_of_its_own(theirs: Rig) -> None:
    with connect(theirs, "migrator") as session, session.transaction(force_rollback=True):
        for statement in OWN.split(";\n"):
            session.execute(statement)


LONGER = "ALTER TABLE public.jobs ALTER COLUMN what TYPE varchar(500);\n"
KEEPS = """
CREATE VIEW stock."a pin" AS SELECT what FROM public.jobs;
CREATE MATERIALIZED VIEW stock.kept AS SELECT what FROM public.jobs;
CREATE TABLE stock.bound (a public.jobs, b int DEFAULT public.plus(1) CHECK (public.plus(b) > 0),
    c int GENERATED ALWAYS AS (public.plus(b)) STORED);
CREATE TRIGGER pin BEFORE INSERT ON stock.bound FOR EACH ROW EXECUTE FUNCTION public.fires();
CREATE FUNCTION stock.pin(public.mood) RETURNS int LANGUAGE sql AS 'SELECT 1'
"""


async def test_what_keeps_the_schema_file_from_running_is_named(theirs: Rig) -> None:
    """And what is said to be done about it is enough."""
    file = theirs.host.placement.project_directory / "db" / "schema.sql"
    with connect(theirs, "migrator") as session, connect(theirs, "billing") as other:
        async with unfenced(theirs):
            session.execute(KEEPS)
            other.execute("CREATE TEMP VIEW held AS SELECT what FROM public.jobs")
        file.write_text(f"{SCHEMA}{LONGER}")
        with pytest.raises(ServerRefused, match="rule _RETURN on view ") as refused:
            await theirs.enforcer.apply(theirs.plan, theirs.host)
        for named in ('DROP VIEW stock."a pin"', "DROP MATERIALIZED VIEW stock.kept", ".held"):
            assert named in refused.value.remedy
        assert "DROP DEFAULT" not in refused.value.remedy
        assert "of migrator (uses column what of table public.jobs)" in refused.value.remedy
        async with administer(theirs.plan, theirs.host, "orders") as connection:
            found = await dependants(connection)
        assert {(one.owner, one.remedy) for one in found} >= REMEDIES
        assert ("billing", "view") in {(one.owner, one.kind) for one in found}
        await as_operator(theirs, *(one.remedy for one in found if one.kind != "view"))
        await as_operator(theirs, *(one.remedy for one in found if one.kind == "view"))
        assert "schema file db/schema.sql run" in (
            await theirs.enforcer.apply(theirs.plan, theirs.host)
        ).changed  # fmt: skip
        session.execute("DROP TABLE stock.bound")


REMEDIES = {
    ("migrator", 'DROP VIEW stock."a pin"'),
    ("migrator", "DROP MATERIALIZED VIEW stock.kept"),
    ("migrator", 'ALTER TABLE "stock"."bound" ALTER "a" TYPE text'),
    ("migrator", 'ALTER TABLE "stock"."bound" ALTER "b" DROP DEFAULT'),
    ("migrator", 'ALTER TABLE "stock"."bound" ALTER "c" DROP EXPRESSION'),
    ("migrator", 'ALTER TABLE "stock"."bound" DROP CONSTRAINT "bound_b_check"'),
    ("migrator", "DROP TRIGGER pin on stock.bound"),
    ("migrator", "DROP FUNCTION stock.pin(public.mood)"),
}


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
