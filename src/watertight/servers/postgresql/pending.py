"""Grants on what services make themselves, which may come any time, and go, and come again.

Only what belongs to a service that may create there counts: to it alone such a thing gives nothing,
and to others what is declared for them. What the operator makes, he has granted by `apply`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog
from psycopg.rows import class_row

from watertight.enforcers.resource import ServerHost, ServerPlan
from watertight.servers.postgresql.admin import Connection, administer
from watertight.servers.postgresql.catalog import Held
from watertight.servers.postgresql.compile import DatabasePlan, RolePlan, wanted
from watertight.servers.postgresql.declaration import (
    MAINTAIN,
    MAINTAIN_SINCE,
    Grant,
    Kind,
)
from watertight.servers.postgresql.privileges import grant_step, says
from watertight.servers.postgresql.told import bounded

log = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
"""After a grant, or one that failed; twice as long each time, for who makes and drops a thing in a
loop shall have us do little. As long again without one, and the first pause is the next."""


@dataclass(frozen=True, slots=True)
class There:
    """A thing that a grant is about, and that is there."""

    number: int
    """Of the grant, in the order in which it was asked for."""
    thing: int
    """Its number in the catalogs (OID): one that is made anew has another."""
    column: int
    what: str
    """As SQL."""
    made: bool
    """It belongs to a service that may create where it is."""
    held: bool

    @property
    def key(self) -> tuple[int, int, int]:
        """This grant on this very thing."""
        return self.number, self.thing, self.column


def can_pend(plan: DatabasePlan, version: int) -> list[tuple[RolePlan, Grant]]:
    """Pure: the grants whose things services may make. Schemas are made by us."""
    return [
        (role, grant)
        for role, grant in wanted(plan)
        if plan.pending(grant)
        and grant.target.kind is not Kind.SCHEMA
        and (grant.privilege != MAINTAIN or version >= MAINTAIN_SINCE * 10_000)
    ]


async def there(connection: Connection, plan: DatabasePlan) -> list[There]:
    """What is there of what may come; without a question, where nothing may."""
    asked = can_pend(plan, connection.info.server_version)
    if not asked:
        return []
    async with connection.cursor(row_factory=class_row(There)) as cursor:
        await cursor.execute(_THERE, _asked(plan, asked))
        return await cursor.fetchall()


def _asked(plan: DatabasePlan, grants: Sequence[tuple[RolePlan, Grant]]) -> Mapping[str, Any]:
    creators = [(schema, role.name) for role in plan.roles for schema in sorted(role.creates)]
    return {
        "kinds": [str(grant.target.kind) for _, grant in grants],
        "schemas": [grant.target.schema for _, grant in grants],
        "names": [grant.target.name for _, grant in grants],
        "columns": [grant.column or "" for _, grant in grants],
        "privileges": [grant.privilege.upper() for _, grant in grants],
        "roles": [role.name for role, _ in grants],
        "places": [schema for schema, _ in creators],
        "creators": [role for _, role in creators],
    }


class Due:
    """Which grants are due, from one look to the next. Pure; times are of one clock."""

    def __init__(self) -> None:
        self._had: set[tuple[int, int, int]] = set()
        """What was granted: if it is not any more, somebody took it back by hand, which is drift,
        and not ours to undo unasked."""
        self._pauses: dict[int, tuple[float, float]] = {}
        """Of each grant, so that nobody's loop delays another's: the next pause, and until when."""

    def among(self, found: Sequence[There], now: float) -> list[There]:
        """Those to grant at this moment."""
        self._had = {t.key for t in found if t.held or t.key in self._had}
        due = [t for t in found if t.made and not t.held and t.key not in self._had]
        return [t for t in due if now >= self._pauses.get(t.number, (0.0, 0.0))[1]]

    def tried(self, grants: Sequence[There], done: Sequence[There], now: float) -> None:
        """These it was tried to grant, and these were."""
        self._had |= {each.key for each in done}
        for number in {each.number for each in grants}:
            pause, until = self._pauses.get(number, (FIRST_PAUSE_SECONDS, now))
            if now >= until + pause:
                pause = FIRST_PAUSE_SECONDS
            self._pauses[number] = (min(2 * pause, LONGEST_PAUSE_SECONDS), now + pause)


async def grant(
    connection: Connection, plan: ServerPlan, due: Sequence[There]
) -> tuple[list[There], list[str]]:
    """Grants each by itself, for what hinders one is its maker's doing: which were, and in words.

    Raises psycopg.Error if the connection breaks.
    """
    asked = can_pend(plan.grants, connection.info.server_version)
    done, says = [], []
    for each in due:
        role, about = asked[each.number]
        step = grant_step(Held(each.what, about.column or "", role.name, about.privilege.upper()))
        try:
            async with connection.transaction():
                await connection.execute(_IMPATIENT)
                await connection.execute(step.sql.encode())
        except psycopg.Error as error:
            if connection.closed:
                raise
            log.info("not_granted", resource=plan.resource, what=step.found, reason=str(error))
            continue
        done.append(each)
        says.append(step.says)
    if says:
        log.info("granted", resource=plan.resource, what=bounded(says))
    return done, bounded(says)


async def catch_up(plan: ServerPlan, host: ServerHost) -> Sequence[str]:
    """Grants what is due at this moment; what was done. Raises WatertightError if it cannot ask."""
    database: DatabasePlan = plan.grants
    if not can_pend(database, MAINTAIN_SINCE * 10_000) or not await host.running():
        return ()
    async with administer(plan, host, database.name) as connection:
        due = Due().among(await there(connection, database), FIRST_PAUSE_SECONDS)
        return (await grant(connection, plan, due))[1]


async def waiting(plan: ServerPlan, host: ServerHost) -> Sequence[str]:
    """What is declared, and about something that is not there yet; a line each.

    Raises WatertightError if the server cannot be asked.
    """
    database: DatabasePlan = plan.grants
    if not can_pend(database, MAINTAIN_SINCE * 10_000) or not await host.running():
        return []
    async with administer(plan, host, database.name) as connection:
        asked = can_pend(database, connection.info.server_version)
        found = {each.number for each in await there(connection, database)}
    absent = [pair for number, pair in enumerate(asked) if number not in found]
    return bounded([f"{_words(role, grant)} waits until it is there" for role, grant in absent])


def _words(role: RolePlan, grant: Grant) -> str:
    """``SELECT (name) on stock.items for reports``."""
    held = Held(str(grant.target), grant.column or "", role.name, grant.privilege.upper())
    return f"{says(held)} for {role.name}"


_IMPATIENT = b"SET LOCAL lock_timeout = '50ms'"
"""Whoever holds its own thing's row shall not keep us from looking after the server."""
# The functions take OIDs, and say NULL of what has gone meanwhile.
_THERE = b"""
WITH wanted AS (
    SELECT * FROM unnest(
        %(kinds)s::text[], %(schemas)s::name[], %(names)s::name[], %(columns)s::name[],
        %(privileges)s::text[], %(roles)s::name[]
    ) WITH ORDINALITY AS w (kind, schema, name, col, privilege, role, number)
)
SELECT (w.number - 1)::int AS number, o.oid::bigint AS thing, coalesce(a.attnum, 0)::int AS column,
    o.what, EXISTS (
        SELECT FROM unnest(%(places)s::name[], %(creators)s::name[]) m (schema, role)
        WHERE m.schema = w.schema AND m.role = pg_get_userbyid(o.owner)
    ) AS made,
    coalesce(CASE WHEN o.owner = r.oid THEN true
        WHEN w.kind = 'sequence' THEN has_sequence_privilege(r.oid, o.oid, w.privilege)
        WHEN w.kind = 'function' THEN has_function_privilege(r.oid, o.oid, w.privilege)
        WHEN w.col = '' THEN has_table_privilege(r.oid, o.oid, w.privilege)
        ELSE has_column_privilege(r.oid, o.oid, a.attnum, w.privilege) END, true) AS held
FROM wanted w JOIN pg_roles r ON r.rolname = w.role JOIN pg_namespace n ON n.nspname = w.schema
JOIN LATERAL (
    SELECT oid, relowner AS owner, format('TABLE %%I.%%I', n.nspname, relname) AS what
    FROM pg_class WHERE w.kind = 'table' AND relnamespace = n.oid AND relname = w.name
    AND relkind IN ('r', 'p', 'v', 'm', 'f')
    UNION ALL
    SELECT oid, relowner, format('SEQUENCE %%I.%%I', n.nspname, relname)
    FROM pg_class WHERE w.kind = 'sequence' AND relnamespace = n.oid AND relname = w.name
    AND relkind = 'S'
    UNION ALL
    SELECT oid, proowner, format('ROUTINE %%s', oid::regprocedure)
    FROM pg_proc WHERE w.kind = 'function' AND pronamespace = n.oid AND proname = w.name
) o ON true
LEFT JOIN pg_attribute a ON w.col <> '' AND a.attrelid = o.oid AND a.attname = w.col
    AND a.attnum > 0 AND NOT a.attisdropped
WHERE w.col = '' OR a.attnum IS NOT NULL
"""
