"""Things that depend on what is not their maker's own, so that its owner cannot change it."""

from collections.abc import Iterator

from watertight.attack.arena import Arena
from watertight.attack.probe import Observation, Probe, refused
from watertight.servers.postgresql.attacks.attempts import (
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

KINDS = (Kind.TABLE, Kind.SEQUENCE)
TEMPORARY = "pg_temp"
NO_SUCH_COLUMN = frozenset({"42703"})
"""Not yet: granted all the same."""


def probes(scope: Scope) -> Iterator[Probe]:
    """For a channel that may make things, where there is something of others'."""
    targets = [target for kind in KINDS for target in scope.attacked(kind)]
    if (scope.creates or scope.keys.temporary) and targets:
        yield MAKE.attack(
            "escalation.pin",
            scope.login.channel,
            "views, columns and defaults that depend on what is another's, who then could not "
            "alter or drop it",
            _tried,
            scope,
            targets,
        )


async def _tried(arena: Arena, scope: Scope, targets: list[Target]) -> Observation:
    homes = [identifier(home) for home in sorted(scope.creates)[:1]]
    homes += [TEMPORARY] if scope.keys.temporary else []
    async with session_of(arena, scope.login) as session:
        attempts = [
            attempt
            for target in targets
            if await _is_anothers(session, target)
            for home in homes
            for attempt in _attempts(scope, home, target)
        ]
        if not attempts:
            return refused("nothing is there yet that belongs to another")
        return await each_refused(session, attempts)


async def _is_anothers(session: Session, target: Target) -> bool:
    """And of no extension, which is there for all."""
    found = await session.query(
        "SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
        f"WHERE nspname = {literal(target.schema)} AND relname = {literal(target.name)} "
        "AND relowner <> current_user::regrole AND c.oid >= 16384 AND NOT EXISTS (SELECT "
        "FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')"
    )
    return bool(found.rows)


def _attempts(scope: Scope, home: str, target: Target) -> Iterator[Attempt]:
    """Whatever a view reads is granted; for the others nothing need be."""
    own = f"{home}.{PROBE}"
    if target.kind is Kind.SEQUENCE:
        name = literal(spelled(target))
        yield Attempt(f"CREATE TABLE {own} (a int8 DEFAULT nextval({name}))")
        return
    some = [identifier(column) for column in sorted(scope.columns(target, "select"))[:1]]
    if some or scope.has(target, "select"):
        reads = f"SELECT {(some or ['t'])[0]} AS a FROM {spelled(target)} t"
        yield Attempt(f"CREATE VIEW {own} AS {reads}", no=NO_SUCH_COLUMN)
    yield Attempt(f"CREATE TABLE {own} (a {spelled(target)})")
