"""Every grant, used: what was declared must work."""

from collections.abc import Iterator

from watertight.attack.arena import Arena
from watertight.attack.probe import Observation, Probe, refused, served
from watertight.attack.wire import Closed
from watertight.servers.postgresql.attacks.attempts import (
    Attempt,
    passed,
    run,
    session_of,
    works,
)
from watertight.servers.postgresql.attacks.dialect import MAKE
from watertight.servers.postgresql.attacks.pairs import KEY
from watertight.servers.postgresql.attacks.privileges import (
    PROBE,
    calls,
    columns,
    may_on_column,
    may_on_sequence,
    may_on_table,
    of_another,
    on_schema,
    on_sequence,
    on_table,
    on_whole_table,
)
from watertight.servers.postgresql.attacks.scope import Scope
from watertight.servers.postgresql.attacks.session import Session
from watertight.servers.postgresql.declaration import COLUMN_PRIVILEGES, Grant, Kind


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
            if grant.target.kind is Kind.SEQUENCE and grant.target.schema in scope.others_create:
                how = may_on_sequence
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
    try:
        async with session_of(arena, scope.login) as session:
            if await of_another(session, scope, grant.target):
                return await _asked(session, grant)
            if column is None and grant.privilege in COLUMN_PRIVILEGES[1:]:
                column = (await columns(session, grant.target, writable=True))[0]
    except Closed as end:
        return refused(f"no login: {end}")
    attempt = (
        on_whole_table(grant.target, grant.privilege)
        if column is None
        else on_table(grant.target, grant.privilege, column)
    )
    return await works(arena, scope.login, attempt)


async def _asked(session: Session, grant: Grant) -> Observation:
    """Another service's table is not used, for that may run its owner's code as us."""
    await columns(session, grant.target, writable=False)  # else there is none
    attempt = (
        may_on_table(grant.target, grant.privilege, whole=True)
        if grant.column is None
        else may_on_column(grant.target, grant.privilege, grant.column)
    )
    answer = await run(session, attempt)
    return (served if passed(answer, attempt) else refused)(f"{attempt.sql}: {answer}")


async def _function(arena: Arena, scope: Scope, grant: Grant) -> Observation:
    try:
        async with session_of(arena, scope.login) as session:
            ask = await of_another(session, scope, grant.target)
            for attempt in await calls(session, grant.target, ask=ask):
                answer = await run(session, attempt)
                if not passed(answer, attempt):
                    return refused(f"{attempt.sql}: {answer}")
    except Closed as end:
        return refused(f"no login: {end}")
    return served(f"{attempt.sql}: {answer}")
