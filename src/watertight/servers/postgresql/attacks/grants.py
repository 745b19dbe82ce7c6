"""What may be done: whatever no grant names must be refused, on everything that is declared."""

from collections.abc import Iterator

from watertight.attack.arena import Arena
from watertight.attack.probe import Observation, Probe, not_run, refused, served
from watertight.servers.postgresql.attacks.attempts import (
    Attempt,
    all_refused,
    denied,
    passed,
    run,
    session_of,
    spelled,
)
from watertight.servers.postgresql.attacks.dialect import MAKE
from watertight.servers.postgresql.attacks.privileges import (
    PROBE,
    WRONG_KIND,
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
from watertight.servers.postgresql.declaration import COLUMN_PRIVILEGES, Kind, Target

DEPENDED_ON = frozenset({"2BP01"})
"""dependent_objects_still_exist: judged after the permission."""


def probes(scope: Scope) -> Iterator[Probe]:
    """Every privilege that the channel lacks, on every table, column, sequence and so on."""
    yield from _tables(scope)
    for target in scope.attacked(Kind.SEQUENCE):
        yield from _simple(scope, target, "grants.sequence", _sequence(scope, target))
    for target in scope.targets:
        if target.kind is Kind.SCHEMA:
            wishes = {p: on_schema(target, p) for p in scope.ungranted(target)}
            yield from _simple(scope, target, "grants.schema", wishes)
    for target in scope.attacked(Kind.FUNCTION):
        if scope.ungranted(target):
            what = f"execute function {target}"
            yield MAKE.attack(
                "grants.function", scope.login.channel, what, _function, scope, target
            )
    if passed_on := [
        Attempt(f"GRANT {g.privilege} ON {g.target.kind} {spelled(g.target)} TO PUBLIC")
        for g in scope.grants
        if not g.column
        and g.target.kind is not Kind.FUNCTION
        and g.target.schema not in scope.creates
    ]:
        what = "everything that is granted, granted on to everybody"
        yield MAKE.attack(
            "grants.passed-on",
            scope.login.channel,
            what,
            all_refused,
            scope.login,
            passed_on,
        )


def _simple(
    scope: Scope, target: Target, identifier: str, wishes: dict[str, Attempt]
) -> Iterator[Probe]:
    for privilege, attempt in wishes.items():
        yield MAKE.attack(
            identifier,
            scope.login.channel,
            f"{privilege} on {target.kind} {target}",
            all_refused,
            scope.login,
            [attempt],
        )


def _sequence(scope: Scope, target: Target) -> dict[str, Attempt]:
    """UPDATE alone allows ``nextval`` too."""
    lacking = set(scope.ungranted(target))
    if scope.has(target, "update"):
        lacking.discard("usage")
    how = may_on_sequence if target.schema in scope.others_create else on_sequence
    return {p: how(target, p) for p in sorted(lacking)}


def _tables(scope: Scope) -> Iterator[Probe]:
    channel = scope.login.channel
    for target in scope.attacked(Kind.TABLE):
        for privilege in scope.ungranted(target):
            some = scope.columns(target, privilege)
            identifier = "grants.column" if some else "grants.table"
            what = f"{privilege} on {'other columns of ' if some else ''}table {target}"
            yield MAKE.attack(identifier, channel, what, _table, scope, target, privilege)
        table = spelled(target)
        changes = {
            "grants.alter-table": [
                Attempt(f"ALTER TABLE {table} OWNER TO CURRENT_USER"),
                Attempt(f"ALTER TABLE {table} RENAME TO {PROBE}"),
            ],
            "grants.drop-table": [
                Attempt(f"DROP {what} {table}", DEPENDED_ON)
                for what in ("TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE")
            ],
            "grants.trigger": [
                Attempt(
                    f"CREATE TRIGGER {PROBE} BEFORE UPDATE ON {table} FOR EACH ROW "
                    "EXECUTE FUNCTION suppress_redundant_updates_trigger()"
                )
            ],
        }
        for identifier, attempts in changes.items():
            what = f"{identifier.partition('.')[2].replace('-', ' ')} {target}"
            ask = may_on_table(target, "trigger") if identifier == "grants.trigger" else None
            yield MAKE.attack(identifier, channel, what, _changed, scope, target, attempts, ask)


async def _table(arena: Arena, scope: Scope, target: Target, privilege: str) -> Observation:
    """On every column that is not granted, and on the whole."""
    async with session_of(arena, scope.login) as session:
        if await of_another(session, scope, target):
            return await _asked(session, scope, target, privilege)
        attempts = []
        if privilege in COLUMN_PRIVILEGES:
            there = await columns(session, target, writable=privilege != "select")
            allowed = scope.columns(target, privilege)
            names = [name for name in there if name not in allowed]
            if privilege == "select":
                # Where every column is granted, the whole still is not: it has hidden ones.
                names.append("ctid")
            attempts = [on_table(target, privilege, name) for name in names]
        else:
            attempts = [on_whole_table(target, privilege)]
        # A view has no hidden columns: there is nothing left to ask when all of it was refused.
        ask = None if privilege == "select" else may_on_table(target, privilege)
        return await _judged(session, attempts, ask)


async def _asked(session: Session, scope: Scope, target: Target, privilege: str) -> Observation:
    there = await columns(session, target, writable=False)
    allowed = scope.columns(target, privilege)
    attempts = [
        may_on_column(target, privilege, name) for name in there if allowed and name not in allowed
    ]
    ask = may_on_table(target, privilege, whole=bool(allowed))
    return await _judged(session, [*attempts, ask])


async def _judged(
    session: Session, attempts: list[Attempt], ask: Attempt | None = None
) -> Observation:
    """All refused; where a statement is of the wrong kind for the thing, the server is asked."""
    said, sure = "nothing to try", bool(attempts)
    for attempt in attempts:
        answer = await run(session, attempt)
        said = f"{attempt.sql}: {answer}"
        if denied(answer, attempt):
            continue
        if answer.sqlstate not in WRONG_KIND:
            return (served if passed(answer, attempt) else not_run)(said)
        sure = False
    if ask is not None and not sure:
        answer = await run(session, ask)
        if not denied(answer, ask):
            return (not_run if answer.sqlstate else served)(f"{ask.sql}: {answer}")
    return refused(f"{len(attempts)} tried, the last: {said}")


async def _changed(
    arena: Arena, scope: Scope, target: Target, attempts: list[Attempt], ask: Attempt | None
) -> Observation:
    async with session_of(arena, scope.login) as session:
        await columns(session, target, writable=False)
        return await _judged(session, attempts, ask)


async def _function(arena: Arena, scope: Scope, target: Target) -> Observation:
    async with session_of(arena, scope.login) as session:
        ask = await of_another(session, scope, target)
        for attempt in await calls(session, target, ask=ask):
            answer = await run(session, attempt)
            if denied(answer, attempt):
                continue
            return (served if passed(answer, attempt) else not_run)(f"{attempt.sql}: {answer}")
    return refused(f"{attempt.sql}: {answer}")
