"""PostgreSQL 17, which takes TLS from the first byte: the attacks on that, and their sabotages."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.rig import Rig, not_held
from tests.servers.postgresql.rig import as_operator, wheel_database, write_files
from tests.servers.postgresql.shop import SHOP
from tests.servers.postgresql.test_sabotage import ELSEWHERE, broken_among

pytestmark = pytest.mark.asyncio(loop_scope="module")

ORIGINATES = SHOP.replace("from: orders\n", "from: orders\n    originate: true\n").replace(
    "orders: [select, insert, update]", "orders: [select, insert, update, maintain]"
)
"""With what only PostgreSQL 17 has: TLS from the first byte, and MAINTAIN."""
ACCESS = "pg_hba.conf"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def database() -> AsyncIterator[Rig]:
    async with wheel_database(ORIGINATES) as rig:
        yield rig


async def test_every_probe_holds(database: Rig) -> None:
    results = await database.run(database.probes)
    assert not_held(results) == {}
    assert {probe.id for probe in database.probes} >= ELSEWHERE


@pytest.mark.parametrize(
    ("sql", "breaks"),
    [
        ("GRANT MAINTAIN ON customers TO orders", "grants.table"),
        ("REVOKE MAINTAIN ON orders FROM orders", "use.table"),
    ],
)
async def test_maintain_is_held_to_what_was_granted(database: Rig, sql: str, breaks: str) -> None:
    probes = [p for p in database.probes if "maintain" in p.attempt]
    await as_operator(database, sql)
    try:
        assert await broken_among(database, probes) == {breaks}
    finally:
        applied = await database.enforcer.apply(database.plan, database.host)
    assert len(applied.changed) == 1
    assert not_held(await database.run(probes)) == {}


@pytest.mark.parametrize(
    ("line", "breaks"),
    [
        ("hostssl all all all trust", {"tls.direct-no-certificate"}),
        ("hostssl all all all reject", {"use.direct-tls"}),
    ],
    ids=["no-certificate-needed", "nobody-let-in"],
)
async def test_a_line_before_ours_turns_exactly_these_probes_red(
    database: Rig, line: str, breaks: set[str]
) -> None:
    probes = [p for p in database.probes if p.id in ELSEWHERE]
    directory = database.host.placement.server_directory(database.resource)
    right = {path.name: path.read_text() for path in directory.iterdir()}
    weakened = right[ACCESS].replace("hostssl", f"{line}\nhostssl", 1)
    await write_files(database, right | {ACCESS: weakened})
    try:
        assert await broken_among(database, probes) == breaks
    finally:
        applied = await database.enforcer.apply(database.plan, database.host)
    assert applied.changed == (ACCESS,)
    assert not_held(await database.run(probes)) == {}
