"""Generated statements: what they need, that nothing else is done, and that a grant too many is."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.rig import Rig, not_held
from tests.servers.postgresql.rig import as_operator, shop_database
from watertight.attack.choices import Choices
from watertight.attack.probe import Deep, Verdict
from watertight.servers.postgresql.attacks import deep
from watertight.servers.postgresql.attacks.deep.grammar import World, generate
from watertight.servers.postgresql.attacks.deep.oracle import ANY, Need, missing
from watertight.servers.postgresql.declaration import Grant, Kind, Target

pytestmark = pytest.mark.asyncio(loop_scope="module")

CASES = 600
ORDERS = Target(Kind.TABLE, "public", "orders")
WORLD = World({ORDERS: ("id", "note")}, {}, (), ("billing",), temporary=True)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def database() -> AsyncIterator[Rig]:
    async with shop_database() as rig:
        yield rig


async def test_a_column_is_covered_by_itself_and_by_its_table_alone() -> None:
    column = Grant(ORDERS, "select", "id")
    assert missing([column], [Need(("select",), ORDERS, "id")]) == ""
    assert missing([column], [Need(("select",), ORDERS, ANY)]) == ""
    assert "select (note)" in missing([column], [Need(("select",), ORDERS, "note")])
    assert missing([column], [Need(("select",), ORDERS)]) != ""
    assert missing([Grant(ORDERS, "select")], [Need(("select",), ORDERS, "note")]) == ""
    assert missing([Grant(ORDERS, "select")], [Need((), ORDERS, what="ownership")]) != ""


async def test_the_plainest_statement_reads_and_statements_differ() -> None:
    plain = generate(Choices(again=[]), WORLD)
    assert plain.sql == 'SELECT count(*) FROM "public"."orders" t0 LIMIT 0'
    assert len({generate(Choices(f"{n}"), WORLD).sql for n in range(400)}) > 150


async def test_nothing_is_done_that_no_grant_names(database: Rig) -> None:
    searches = list(deep.probes(database.system, Deep(1, 60, cases=CASES)))
    assert len(searches) == 3
    results = await database.run(searches)
    assert not_held(results) == {}
    assert all(" done that may be" in result.observed for result in results)
    assert await database.enforcer.drift(database.plan, database.host) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_nothing_is_done_that_no_grant_names_in_a_long_search(database: Rig) -> None:
    for seed in range(2, 6):
        results = await database.run(list(deep.probes(database.system, Deep(seed, 60, 5_000))))
        assert not_held(results) == {}


@pytest.mark.parametrize(
    ("weaken", "says"),
    [
        ("GRANT UPDATE (secret) ON customers TO orders", "without update (secret)"),
        ("GRANT billing TO orders", "without "),
        (
            "GRANT TRUNCATE ON customers TO orders",
            "without update or delete or truncate or maintain",
        ),
        ("GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO PUBLIC", "without select on"),
        ("ALTER TABLE orders OWNER TO orders", "on public.orders"),
    ],
)
async def test_a_grant_too_many_is_found_and_told_as_a_statement(
    database: Rig, weaken: str, says: str
) -> None:
    await as_operator(
        database, weaken.replace("MAINTAIN_OR_TRUNCATE", "TRUNCATE ON customers TO orders")
    )
    try:
        searches = deep.probes(database.system, Deep(3, 60, cases=5_000))
        (found,) = await database.run([p for p in searches if p.channel == "orders -> orders-db"])
    finally:
        await database.enforcer.apply(database.plan, database.host)
    assert found.verdict is Verdict.BROKEN
    assert "of seed 3)" in found.observed
    assert "psql 'host=orders-db user=orders dbname=orders' -c " in found.observed
