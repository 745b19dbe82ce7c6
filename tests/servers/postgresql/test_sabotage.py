"""Every probe bites, and whatever weakened the server, ``apply`` finds and mends."""

import math
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.rig import SANDBOXED, Rig, not_held
from tests.servers.postgresql.rig import as_operator, shop_database, write_files
from tests.servers.postgresql.sabotages import AT_ONCE, SABOTAGES, Sabotage
from watertight.attack.probe import Probe, Verdict
from watertight.verify.results import Result

pytestmark = pytest.mark.asyncio(loop_scope="module")

ELSEWHERE = frozenset({"tls.direct-no-certificate", "use.direct-tls"})
"""Only PostgreSQL 17 has what they attack: tests/servers/postgresql/test_newer.py."""
NOT_OURS = frozenset({"escalation.definer"})
"""What it finds, `apply` does not mend: the functions are the declaration's own."""
DOORS = frozenset({"limits.silent"})
"""Held by the proxy at the door, not by the server."""
STARTED = frozenset({"limits.memory"})
"""Held by how the server is started: tests/servers/postgresql/test_memory.py."""
SLOW = "sessions."
"""Seconds each: run only where they must break."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def database() -> AsyncIterator[Rig]:
    async with shop_database() as rig:
        yield rig


async def test_every_probe_holds_on_the_database_as_it_is_applied(database: Rig) -> None:
    results = await database.run(database.probes)
    assert not_held(results) == {}
    assert len(results) >= 250


async def test_the_probes_leave_nothing_behind(database: Rig) -> None:
    assert await database.enforcer.drift(database.plan, database.host) == []


ONE_BY_ONE = [pytest.param(s, marks=pytest.mark.slow) for s in SABOTAGES if s not in AT_ONCE]


@pytest.mark.parametrize("sabotage", [*AT_ONCE, *ONE_BY_ONE], ids=lambda s: s.name)
async def test_a_weakened_server_turns_exactly_these_probes_red(
    database: Rig, sabotage: Sabotage
) -> None:
    probes = [p for p in database.probes if wanted(p, sabotage)]
    await weaken(database, sabotage)
    try:
        broken = await broken_among(database, probes)
        # Beside all the others one may have found no connection of its role free.
        missing = [p for p in probes if p.id in sabotage.breaks - broken]
        assert broken | await broken_among(database, missing) == sabotage.breaks
        drift = await database.enforcer.drift(database.plan, database.host)
        assert drift != []
    finally:
        applied = await database.enforcer.apply(database.plan, database.host)
        if any("given to watertight_nobody" in step for step in applied.changed):
            # Somebody must have looked at what a service owned for a while.
            await as_operator(database, "REASSIGN OWNED BY watertight_nobody TO watertight_owner")
            await database.enforcer.apply(database.plan, database.host)
    assert applied.changed != ()
    mended = [p for p in probes if p.id in sabotage.breaks and not p.id.startswith(SLOW)]
    assert not_held(await run(database, mended)) == {}
    assert (await database.enforcer.apply(database.plan, database.host)).changed == ()


async def test_every_probe_has_a_sabotage_test(database: Rig) -> None:
    tried = {probe for sabotage in SABOTAGES for probe in sabotage.breaks}
    declared = {p.id for p in database.probes if not p.id.startswith(SANDBOXED)}
    assert tried == declared - NOT_OURS - DOORS - STARTED
    assert not tried & ELSEWHERE


@pytest.mark.parametrize(
    ("service", "path"),
    [
        ("billing", "RESET search_path"),
        ("billing", "SET search_path = public"),
        ("migrator", "SET search_path = stock, public, pg_temp"),
    ],
)
async def test_a_function_that_runs_as_its_owner_by_its_callers_names_is_found(
    database: Rig, service: str, path: str
) -> None:
    probes = [
        p
        for p in database.probes
        if p.id == "escalation.definer" and p.channel == f"{service} -> orders-db"
    ]
    await as_operator(
        database,
        "ALTER FUNCTION place SECURITY DEFINER",
        f"ALTER FUNCTION place {path}",
        f"GRANT EXECUTE ON FUNCTION place TO {service}",
    )
    try:
        assert await broken_among(database, probes) == NOT_OURS
        await as_operator(database, "ALTER FUNCTION place SET search_path = public, pg_temp")
        assert await broken_among(database, probes) == set()
    finally:
        await as_operator(
            database,
            "ALTER FUNCTION place SECURITY INVOKER",
            "ALTER FUNCTION place RESET search_path",
        )
        await database.enforcer.apply(database.plan, database.host)


async def test_doors_without_a_bound_let_a_server_be_filled_by_nobodies(database: Rig) -> None:
    probes = [p for p in database.probes if p.id in DOORS and p.channel == "orders -> orders-db"]
    bounds, database.doors.bounds = database.doors.bounds, {}
    try:
        assert await broken_among(database, probes) == DOORS
    finally:
        database.doors.bounds = bounds
    assert not_held(await run(database, probes)) == {}


async def test_an_extension_is_tried_whichever_are_there(database: Rig) -> None:
    """With pgcrypto installed, Debian's first by name was one that only ``pg_catalog`` takes."""
    probes = [p for p in database.probes if p.id == "escalation.create-extension"]
    await as_operator(database, "CREATE EXTENSION pgcrypto")
    try:
        assert not_held(await run(database, probes)) == {}
    finally:
        await as_operator(database, "DROP EXTENSION pgcrypto")


def wanted(probe: Probe, sabotage: Sabotage) -> bool:
    """Of the sabotage's family and channels; the slow ones only where they must break."""
    return (
        probe.channel in sabotage.channels
        and probe.id.startswith(sabotage.family)
        and (probe.id in sabotage.breaks or not probe.id.startswith(SLOW))
    )


async def weaken(rig: Rig, sabotage: Sabotage) -> None:
    """Does what the sabotage says."""
    if sabotage.sql:
        await as_operator(rig, *sabotage.sql)
    if sabotage.files:
        directory = rig.host.placement.server_directory(rig.resource)
        right = {path.name: path.read_text() for path in directory.iterdir()}
        await write_files(rig, right | sabotage.files(right))


async def broken_among(rig: Rig, probes: list[Probe]) -> set[str]:
    """The ids of what breaks."""
    return {r.id for r in await run(rig, probes) if r.verdict is Verdict.BROKEN}


async def run(rig: Rig, probes: list[Probe]) -> tuple[Result, ...]:
    """What comes of the probes now: what listened a second ago does not count."""
    rig.arena._fresh_until = -math.inf
    return await rig.run(probes)
