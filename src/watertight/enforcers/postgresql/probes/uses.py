"""Every grant, used: what was declared must work."""

from collections.abc import Iterator

from watertight.enforcers.attack.wire import Closed
from watertight.enforcers.contract import Arena, Observation, Probe, refused, served
from watertight.enforcers.postgresql.declaration import COLUMN_PRIVILEGES, Grant, Kind
from watertight.enforcers.postgresql.probes.attempts import (
    Attempt,
    passed,
    run,
    session_of,
    works,
)
from watertight.enforcers.postgresql.probes.dialect import MAKE
from watertight.enforcers.postgresql.probes.pairs import KEY
from watertight.enforcers.postgresql.probes.privileges import (
    PROBE,
    calls,
    columns,
    on_schema,
    on_sequence,
    on_table,
    on_whole_table,
)
from watertight.enforcers.postgresql.probes.scope import Scope


def probes(scope: Scope) -> Iterator[Probe]:
    """One use for each grant."""
    channel = scope.login.channel
    for grant in scope.grants:
        identifier, what = f"use.{grant.target.kind}", str(grant)
        if grant.target.kind is Kind.TABLE:
            yield MAKE.use(identifier, channel, what, _table, scope, grant)
        elif grant.target.kind is Kind.FUNCTION:
            yield MAKE.use(identifier, channel, what, _function, scope, grant)
        else:
            how = on_schema if grant.target.kind is Kind.SCHEMA else on_sequence
            attempt = how(grant.target, grant.privilege)
            yield MAKE.use(identifier, channel, what, works, scope.login, attempt)
    if scope.keys.temporary:
        attempt = Attempt(f"CREATE TEMPORARY TABLE {PROBE} ()")
        yield MAKE.use("use.temporary", channel, "temporary tables", works, scope.login, attempt)
    if scope.keys.advisory_locks or not scope.others:
        attempt = Attempt(f"SELECT pg_try_advisory_xact_lock({KEY})")
        yield MAKE.use("use.advisory-lock", channel, "advisory locks", works, scope.login, attempt)


async def _table(arena: Arena, scope: Scope, grant: Grant) -> Observation:
    column = grant.column
    if column is None and grant.privilege in COLUMN_PRIVILEGES[1:]:
        try:
            async with session_of(arena, scope.login) as session:
                column = (await columns(session, grant.target, writable=True))[0]
        except Closed as end:
            return refused(f"no login: {end}")
    attempt = (
        on_whole_table(grant.target, grant.privilege)
        if column is None
        else on_table(grant.target, grant.privilege, column)
    )
    return await works(arena, scope.login, attempt)


async def _function(arena: Arena, scope: Scope, grant: Grant) -> Observation:
    try:
        async with session_of(arena, scope.login) as session:
            for attempt in await calls(session, grant.target):
                answer = await run(session, attempt)
                if not passed(answer, attempt):
                    return refused(f"{attempt.sql}: {answer}")
    except Closed as end:
        return refused(f"no login: {end}")
    return served(f"{attempt.sql}: {answer}")
