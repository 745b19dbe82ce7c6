"""What one service has put where others look for names is run by none of our own sessions."""

import re
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio

from tests.rig import Rig, not_held
from tests.servers.postgresql.rig import as_operator, connect, shop_database, unfenced
from tests.servers.postgresql.shop import SHOP
from watertight.attack.probe import Deep
from watertight.servers.postgresql import attacks
from watertight.servers.postgresql.attacks import deep

pytestmark = pytest.mark.asyncio(loop_scope="module")

USING = SHOP.replace(
    "functions: {greet: [execute]}",
    "functions: {greet: [execute], stock.f: [execute]}",
).replace(
    "tables: {orders: [select, insert, update],",
    "tables: {stock.seen: [insert, update], stock.look: [select], stock.other: {select: [i]}, "
    "orders: [select, insert, update],",
)
LOGINS_ALONE = ("tls.", "identity.", "sessions.", "reach.", "ports.")
"""They send the first statement of a session, as all others do."""
TYPES = ("name", "text", "varchar", '"char"', "oid", "int4", "int8", "bool", "name[]", "text[]")
OPERATORS = ("=", "<>", "~", "!~", "||", "<", ">", ">=", "/", "-", "~~")
AT_ONCE = 300
"""Statements that one session has memory for."""
SPRUNG = (
    "BEGIN IF current_user <> 'migrator' THEN PERFORM pg_catalog.nextval('public.sprung'); "
    "END IF; RETURN NULL; EXCEPTION WHEN OTHERS THEN RETURN NULL; END"
)
"""A number of a sequence is taken whatever becomes of the transaction."""
THINGS = (
    f"CREATE FUNCTION stock.sprung() RETURNS trigger LANGUAGE plpgsql AS $${SPRUNG}$$",
    f"CREATE FUNCTION stock.folded(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $${SPRUNG}$$",
    f"CREATE FUNCTION stock.f() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $${SPRUNG}$$",
    "CREATE TABLE stock.seen (i int)",
    "CREATE TRIGGER sprung BEFORE INSERT OR UPDATE OR DELETE ON stock.seen "  # noqa: ISC004
    "EXECUTE FUNCTION stock.sprung()",
    "CREATE VIEW stock.look AS SELECT stock.folded(1) AS i",
    "CREATE VIEW stock.other AS SELECT stock.folded(2) AS i, stock.folded(3) AS j",
    "GRANT EXECUTE ON FUNCTION stock.folded(int) TO PUBLIC",
    "GRANT USAGE ON SEQUENCE public.sprung TO PUBLIC",
    "GRANT INSERT, UPDATE ON stock.seen TO orders",
    "GRANT SELECT ON stock.look TO orders",
    "GRANT SELECT (i) ON stock.other TO orders",
    "REVOKE EXECUTE ON FUNCTION stock.f FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION stock.f TO orders",
)


def called() -> list[str]:
    """Every function that the probes may call by its name."""
    sources = [
        path.read_text()
        for package in (attacks, deep)
        for path in Path(str(package.__file__)).parent.glob("*.py")
    ]
    return sorted({name for text in sources for name in re.findall(r"\b([a-z_]{3,})\(", text)})


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with shop_database(USING) as running:
        yield running


def traps(functions: list[str]) -> list[str]:
    """The same names as what the server has, for other types: an exact match goes before a cast."""
    body = f"LANGUAGE plpgsql AS $${SPRUNG}$$"
    pairs = [(one, other) for one in TYPES for other in TYPES]
    made = [
        f'CREATE FUNCTION public."{name}"({", ".join(types)}) RETURNS text {body}'
        for name in functions
        for types in ((), *((one,) for one in TYPES), *pairs)
    ]
    for number, (one, other) in enumerate(pairs):
        function = f"public.trap{number}"
        made.append(f"CREATE FUNCTION {function}({one}, {other}) RETURNS bool {body}")
        made += [
            f"CREATE OPERATOR public.{name} "
            f"(LEFTARG = {one}, RIGHTARG = {other}, FUNCTION = {function})"
            for name in OPERATORS
        ]
    return made


async def spread(rig: Rig) -> None:
    """As a database is in which a service was once let to make things in ``public``."""
    names = await as_operator(
        rig,
        "SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 11 "  # noqa: S608
        f"AND (proname = ANY ('{{{','.join(called())}}}') OR proname ~ '^has_.*_privilege$')",
    )
    functions = sorted(str(name) for (name,) in names)
    assert {"unnest", "has_table_privilege", "nextval", "pg_backend_pid"} <= set(functions)
    await as_operator(rig, "GRANT CREATE ON SCHEMA public TO migrator")
    async with unfenced(rig):
        with closing(connect(rig, "migrator")) as session:
            session.execute("SET search_path = pg_catalog")
            session.execute("ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC")
            session.execute("CREATE SEQUENCE public.sprung")
            for statement in THINGS:
                session.execute(statement.encode())
        made = traps(functions)
        for first in range(0, len(made), AT_ONCE):
            with closing(connect(rig, "migrator")) as session:
                session.execute(";".join(made[first : first + AT_ONCE]).encode())
    await as_operator(rig, "REVOKE CREATE ON SCHEMA public FROM migrator")


async def sprung(rig: Rig) -> object:
    ((called,),) = await as_operator(rig, "SELECT is_called FROM public.sprung")
    return called


@pytest.mark.timeout(180)
async def test_no_trap_of_a_services_is_sprung_by_the_proof(rig: Rig) -> None:
    await rig.enforcer.apply(rig.plan, rig.host)
    await spread(rig)
    with closing(connect(rig, "orders")) as session:  # the traps are good
        session.execute("SELECT current_setting('port'::name)")
    assert await sprung(rig) is True
    await as_operator(rig, "SELECT setval('public.sprung', 1, false)")
    tried = [p for p in rig.probes if not p.id.startswith(LOGINS_ALONE)]
    tried += deep.probes(rig.system, Deep(1, 30, cases=200))
    results = await rig.run(tried)
    assert await sprung(rig) is False
    # The traps are open to everybody, for which default privileges had to be gone.
    results = tuple(r for r in results if r.id != "escalation.open-by-default")
    assert not_held(results) == {}
