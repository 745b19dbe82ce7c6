"""Makes the database grant what the plan says, and nothing else, in one transaction."""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence

import psycopg
from psycopg import errors

from watertight.enforcers.resource import ServerHost, ServerPlan, ServerRefused
from watertight.errors import WatertightError
from watertight.servers.postgresql.admin import (
    MAINTENANCE,
    POLL_SECONDS,
    Connection,
    administer,
)
from watertight.servers.postgresql.catalog import Found, databases, read
from watertight.servers.postgresql.compile import OWNER, DatabasePlan
from watertight.servers.postgresql.declaration import OUR_SCHEMA
from watertight.servers.postgresql.definitions import Definitions, definitions, keep
from watertight.servers.postgresql.privileges import Absent, closing_steps, grant_steps
from watertight.servers.postgresql.reach import refuse_strangers
from watertight.servers.postgresql.schema_file import (
    is_applied,
    run_schema_file,
    schema_text,
    to_run,
)
from watertight.servers.postgresql.steps import (
    Step,
    ground_steps,
    identifier,
    missing_extension,
    preset_steps,
    role_steps,
)
from watertight.servers.postgresql.told import bounded
from watertight.servers.postgresql.way import GRACE_SECONDS, Way, cleared

ROUNDS = 5
"""A REVOKE on a table takes its columns' privileges along, so that we look again."""
PATIENCE_SECONDS = 20.0
"""In all, for locks that others hold, and for what changes while we look."""
END_SECONDS = 5.0
"""For sessions to end."""
_SERVICES_SESSIONS = """
SELECT pid FROM pg_stat_activity WHERE usesysid >= 16384 AND datname = current_database()
"""
PAUSE_SECONDS = 1.0
"""Between two tries: whoever has queued behind us goes on."""
GONE = (
    errors.UndefinedTable,
    errors.UndefinedColumn,
    errors.UndefinedFunction,
    errors.UndefinedObject,
    errors.InvalidSchemaName,
)
"""What we looked at is not there any more: nothing about it is wrong now."""
IN_BETWEEN = (
    errors.LockNotAvailable,
    errors.DeadlockDetected,
    errors.InternalError_,  # "tuple concurrently updated", "cache lookup failed for …"
    errors.UniqueViolation,  # of a catalog, where two write the same thing
    *GONE,
)
"""What a change of ours meets when a service changes its own things or settings at the same time.
Looking again, and trying again, is all there is to do."""
# No advisory lock: who may take those could keep us out.
_TURN = f"LOCK TABLE {OUR_SCHEMA}.schema_files IN SHARE ROW EXCLUSIVE MODE"
_KNOWN = f"SELECT to_regclass('{OUR_SCHEMA}.schema_files')"


async def converge(plan: ServerPlan, host: ServerHost) -> tuple[str, ...]:
    """Creates the database, and makes it as planned; says what was not so.

    Raises WatertightError, and has then changed nothing in a database that was there.
    """
    database: DatabasePlan = plan.grants
    text = _schema_text(plan, host)
    changed = await _make_database(plan, host)
    way = Way(database)
    async with (
        administer(plan, host, database.name) as connection,
        administer(plan, host, database.name) as looks,
    ):
        found = await read(connection, database)
        if wrong := missing_extension(found, database):
            raise ServerRefused(plan.at, *wrong)
        deadline = time.monotonic() + PATIENCE_SECONDS
        closed: list[Step] | None = None
        while True:
            try:
                async with cleared(looks, connection, way):
                    if closed is None:
                        closed = await _close(connection, plan, found)
                    done = await _at_once(connection, plan, text, anew=host.anew)
                break
            except IN_BETWEEN as error:
                if time.monotonic() > deadline:
                    raise _kept_out(plan, way, error) from error
            except psycopg.Error as error:
                raise _refused(plan, error) from error
            await asyncio.sleep(PAUSE_SECONDS)
        if found.settings:
            await connection.execute("ALTER SYSTEM RESET ALL")
            done.append(Step("ALTER SYSTEM undone: " + ", ".join(found.settings), ""))
        for role in sorted({step.ends for step in done if step.ends}):
            await end_sessions(connection, role)
    done += [Step(f"ended, for it was in the way: {each}", "") for each in way.ended.values()]
    return (*changed, *_told(found, [(step, step.says) for step in (*(closed or ()), *done)]))


def _schema_text(plan: ServerPlan, host: ServerHost) -> str | None:
    """A revocation does not wait for a file that it would not run."""
    try:
        return schema_text(plan, host.placement.project_directory)
    except ServerRefused:
        if host.anew:
            raise
        return None


async def _at_once(
    connection: Connection, plan: ServerPlan, text: str | None, *, anew: bool
) -> list[Step]:
    """All that differs, in one transaction: what was done."""
    database: DatabasePlan = plan.grants
    async with connection.transaction():
        row = await (await connection.execute(_KNOWN.encode())).fetchone()
        if row and row[0]:
            await connection.execute(_TURN.encode())
        done = await _ground(connection, plan)
        found = await read(connection, database)
        before = await definitions(connection)
        new = to_run(found, database, text, anew=anew)
        if new and text is not None:
            await run_schema_file(connection, plan, text, found)
            done.append(Step(f"schema file {database.schema_file} run", ""))
        elif before.outside and text is not None and is_applied(found, database, text):
            await _run_again(connection, plan, text, found)
        done += await _grants(connection, plan)
        return done + await _keep(connection, before, accepts=new or database.schema_file is None)


def _refused(plan: ServerPlan, error: psycopg.Error) -> WatertightError:
    return WatertightError(
        f"The server of {plan.resource} refuses: {error.diag.message_primary or error}.",
        remedy="In its database nothing was changed.",
    )


def _kept_out(plan: ServerPlan, way: Way, error: psycopg.Error) -> WatertightError:
    if not isinstance(error, errors.LockNotAvailable) or not way.holders:
        return _refused(plan, error)
    return WatertightError(
        f"The database of {plan.resource} is in use, so that it cannot be changed. "
        f"In the way: {way.told()}.",
        remedy="In the database nothing was changed. Wait until it has ended, or end it "
        "(`watertight revoke`), then apply again. A transaction that does nothing is ended after "
        f"{GRACE_SECONDS:g} s; a statement, when its `statement_timeout` is over.",
    )


async def differences(plan: ServerPlan, host: ServerHost) -> Sequence[str]:
    """What :func:`converge` would change, in the words of what is wrong; changes nothing."""
    database: DatabasePlan = plan.grants
    async with administer(plan, host) as connection:
        if database.name not in await databases(connection):
            return [f"database {database.name}: not there"]
    text = schema_text(plan, host.placement.project_directory)
    async with administer(plan, host, database.name) as connection:
        found = await read(connection, database)
        defined = await definitions(connection)
    steps, _ = grant_steps(found, database)
    lines = [s.found for s in (*role_steps(found, database), *preset_steps(found, database))]
    lines += bounded([step.found for step in ground_steps(found, database)])
    lines += _told(found, [(step, step.found) for step in steps])
    if not is_applied(found, database, text):
        lines.append(f"schema file {database.schema_file}: changed, not run yet")
    lines += [f"ALTER SYSTEM set {name}" for name in found.settings]
    outside = [f"{what}: {how} outside of apply" for what, how in defined.outside.items()]
    lines += bounded(outside)
    lines += [f"replication slot {slot}: nobody declared it" for slot in defined.slots]
    return lines


def _told(found: Found, steps: Iterable[tuple[Step, str]]) -> list[str]:
    """What is said: first of what is the operator's, then so many lines of each service's own."""
    owner = {thing.what.partition(" ")[2]: thing.owner for thing in found.owned}
    lines: dict[str, list[str]] = {OWNER: []}
    for step, says in steps:
        whose = owner.get(step.thing.partition(" ")[2], OWNER)
        if step.thing.startswith("DEFAULT "):
            whose = step.thing.partition(" FOR ROLE ")[2].partition(" IN SCHEMA ")[0]
        lines.setdefault(whose, []).append(says)
    ours = list(dict.fromkeys(lines.pop(OWNER)))
    return [*ours, *(line for some in lines.values() for line in bounded(some))]


async def _run_again(connection: Connection, plan: ServerPlan, text: str, found: Found) -> None:
    """Takes back what was done by hand to what the schema file makes, if it still can."""
    with contextlib.suppress(ServerRefused):
        async with connection.transaction():
            await run_schema_file(connection, plan, text, found)


async def _keep(connection: Connection, before: Definitions, *, accepts: bool) -> list[Step]:
    """Definitions as they are now are right, but for what was done by hand and is still so.

    A schema file that is new may have made it right, and where there is none we know of no better.
    """
    after = await definitions(connection)
    right, done = dict(after.now), []
    for what, how in before.outside.items():
        was = (before.left or {}).get(what)
        if after.now.get(what) == was:
            done.append(Step(f"{what}, {how} outside of apply: taken back", ""))
        elif accepts:
            done.append(Step(f"{what}, {how} outside of apply: taken as it is", ""))
        else:
            right.pop(what, None)
            right |= {} if was is None else {what: was}
    if right != after.left:
        await keep(connection, right)
    return done


async def _make_database(plan: ServerPlan, host: ServerHost) -> list[str]:
    """A database cannot be made within a transaction; that nobody may use it yet is as good."""
    name = plan.grants.name
    async with administer(plan, host, MAINTENANCE) as connection:
        if name in await databases(connection):
            return []
        there = await connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [OWNER])
        if there.rowcount == 0:
            await connection.execute(f"CREATE ROLE {identifier(OWNER)}".encode())
        await connection.execute(
            f"CREATE DATABASE {identifier(name)} OWNER {identifier(OWNER)} "
            "TEMPLATE template0 ENCODING 'UTF8' ALLOW_CONNECTIONS true".encode()
        )
    return [f"database {name} made"]


async def _close(connection: Connection, plan: ServerPlan, found: Found) -> list[Step]:
    """Has in force, for all, what the schema file's run relies on; in a transaction before it.

    Whoever was in before may have made things that nobody sees yet, and is shown out.
    """
    async with connection.transaction():
        row = await (await connection.execute(_KNOWN.encode())).fetchone()
        if not (row and row[0]):
            return []  # nobody has been here
        steps = await _execute(connection, closing_steps(found, plan.grants))
    if steps:
        await _end_all(connection, plan)
    return steps


async def _end_all(connection: Connection, plan: ServerPlan) -> None:
    deadline = time.monotonic() + END_SECONDS
    before: set[int] | None = None
    while True:
        rows = await (await connection.execute(_SERVICES_SESSIONS)).fetchall()
        there = {int(pid) for (pid,) in rows}
        before = there if before is None else before & there
        if not before:
            return
        if time.monotonic() > deadline:
            raise WatertightError(
                f"Sessions of services at {plan.resource} do not end.",
                remedy="`watertight up` restarts the server.",
            )
        for pid in before:
            await connection.execute("SELECT pg_terminate_backend(%s)", [pid])
        await asyncio.sleep(POLL_SECONDS)


async def _ground(connection: Connection, plan: ServerPlan) -> list[Step]:
    """Roles first: what belongs to whom is said with them."""
    database: DatabasePlan = plan.grants
    done = await _execute(connection, role_steps(await read(connection, database), database))
    found = await read(connection, database)
    if set(database.extensions) - found.extensions:
        refuse_strangers(plan, found, "The script of an extension")
    return done + await _execute(connection, ground_steps(found, database))


async def _grants(connection: Connection, plan: ServerPlan) -> list[Step]:
    """Revokes and grants until there is nothing left to do."""
    done: list[Step] = []
    database: DatabasePlan = plan.grants
    for _ in range(ROUNDS):
        found = await read(connection, database)
        steps, absent = grant_steps(found, database)
        refuse_absent(database, absent)
        steps += preset_steps(found, database)  # a schema file may have set some
        executed = await _execute(connection, steps)
        if not executed:
            return done
        done += executed
    raise WatertightError(
        f"The privileges of {plan.resource} do not come to rest: {steps[0].says}."
    )


def refuse_absent(database: DatabasePlan, absent: Sequence[Absent]) -> None:
    """What nobody may make will not come by itself. Raises :class:`ServerRefused`."""
    for each in absent:
        if not (each.comes and database.pending(each.grant)):
            message = each.message[0].upper() + each.message[1:]
            raise ServerRefused(each.role.at, message, each.remedy)


async def _execute(connection: Connection, steps: Iterable[Step]) -> list[Step]:
    """All but those about things that have gone since; which were done."""
    done = []
    for step in steps:
        try:
            async with connection.transaction():
                await connection.execute(step.sql.encode())
        except GONE:
            continue
        done.append(step)
    return done


async def end_sessions(connection: Connection, role: str) -> set[int]:
    """Ends every session of ``role``; which there were."""
    ended = await connection.execute(
        "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [role]
    )
    return {int(pid) for pid, _ in await ended.fetchall()}
