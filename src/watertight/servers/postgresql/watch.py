"""Looks after a running server: ends whoever keeps from all others what they share.

Locks are bounded by a session's memory only as long as each costs some (``locks``); notifications
that one session does not take are kept for it on the disk. No setting bounds either, and a role may
lift each timeout of its own. We stay logged in, for when the locks have run out nobody can.

And grants what is declared on the things that services make (``pending``), once they have.
"""

import asyncio
import itertools
import time
from dataclasses import dataclass

import psycopg
import structlog
from psycopg.rows import class_row

from watertight.enforcers.resource import ServerHost, ServerPlan, Turn
from watertight.servers.postgresql.admin import Connection, administer
from watertight.servers.postgresql.compile import DatabasePlan
from watertight.servers.postgresql.locks import USUAL_LOCKS
from watertight.servers.postgresql.pending import Due, grant, there

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5
LOOKS_A_GRANT = 2
"""So seldom we look for what was made."""
FULL_LOCKS = 0.9
"""Of the places for locks: savepoints, which cost memory, take less."""
FULL_QUEUE, FULL_SMALL_QUEUE = 0.01, 0.5
"""Of the queue of notifications: 80 MB of 8 GB; and, since 17, half of 64 MB."""
SMALL_QUEUE_SINCE = 170_000
OPEN_SECONDS = 1.0
"""Whoever has been in a transaction for less takes his notifications soon."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One session of a service."""

    pid: int
    role: str
    locks: int
    idle: bool
    """It is in a transaction, and waits for its client."""
    open_seconds: float
    """How long it has been in a transaction; 0: it is in none."""
    most_locks: int
    """Places for locks at this server."""
    queue: float
    """How full the queue of notifications is, of 1."""


async def watch(plan: ServerPlan, host: ServerHost, turn: Turn) -> None:
    """See ``Watches``. Raises WatertightError when the server ends or lets us in no more."""
    database: DatabasePlan = plan.grants
    due = Due()
    async with administer(plan, host, database.name) as connection:
        full = FULL_SMALL_QUEUE if _is_small(connection) else FULL_QUEUE
        for number in itertools.count():
            try:
                await _look(connection, plan.resource, full)
                if number % LOOKS_A_GRANT == 0:
                    await _grant(connection, plan, due, turn)
            except psycopg.Error as error:
                if connection.closed:
                    raise
                log.warning("not_looked", resource=plan.resource, reason=str(error))
            await asyncio.sleep(LOOK_SECONDS)


async def _grant(connection: Connection, plan: ServerPlan, due: Due, turn: Turn) -> None:
    """What fails is tried again, ever more seldom."""
    now = time.monotonic()
    grants = due.among(await there(connection, plan.grants), now)
    if not grants:
        return
    async with turn() as ours:
        if ours:
            done, _ = await grant(connection, plan, grants)
            due.tried(grants, done, now)


def _is_small(connection: Connection) -> bool:
    return connection.info.server_version >= SMALL_QUEUE_SINCE


async def _look(connection: Connection, resource: str, full_queue: float) -> None:
    async with connection.cursor(row_factory=class_row(Taken)) as cursor:
        await cursor.execute(_SESSIONS)
        sessions = await cursor.fetchall()
    for session, why in (*greedy(sessions), *keeping(sessions, full_queue)):
        try:
            await connection.execute("SELECT pg_terminate_backend(%s)", [session.pid])
        except psycopg.Error as error:  # without a place for a lock of its own: the next time
            log.warning("session_not_ended", resource=resource, reason=str(error))
            continue
        log.warning("session_ended", resource=resource, service=session.role, reason=why)


def greedy(sessions: list[Taken]) -> list[tuple[Taken, str]]:
    """Pure: those of the service that holds most locks, if there are hardly any left."""
    if not sessions or sum(s.locks for s in sessions) < FULL_LOCKS * sessions[0].most_locks:
        return []
    held: dict[str, int] = {}
    for session in sessions:
        held[session.role] = held.get(session.role, 0) + session.locks
    most = max(held, key=lambda role: held[role])
    return [
        (s, f"held {s.locks} locks, of {s.most_locks} that the server has")
        for s in sessions
        if s.role == most and s.locks > USUAL_LOCKS
    ]


def keeping(sessions: list[Taken], full: float) -> list[tuple[Taken, str]]:
    """Pure: whose transaction is the oldest, if notifications pile up; first of those that wait.

    Which session has not taken them, PostgreSQL does not say. One, and then we look again.
    """
    late = [s for s in sessions if s.queue > full and s.open_seconds > OPEN_SECONDS]
    late.sort(key=lambda s: (not s.idle, -s.open_seconds))
    return [
        (s, f"in a transaction for {s.open_seconds:.0f} s while notifications pile up")
        for s in late[:1]
    ]


# Functions only: a view of sessions opens tables that all databases share, which takes a lock in
# the very table that may be full. To name the role keeps in our memory what ending it asks for.
_SESSIONS = """
SELECT a.pid, pg_get_userbyid(a.usesysid)::text AS role, coalesce(l.locks, 0)::int AS locks,
    coalesce(a.state LIKE 'idle in transaction%', false) AS idle,
    coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::float8 AS open_seconds,
    current_setting('max_locks_per_transaction')::int * current_setting('max_connections')::int
        AS most_locks,
    pg_notification_queue_usage() AS queue
FROM pg_stat_get_activity(NULL) a LEFT JOIN (
    SELECT pid, count(*) AS locks FROM pg_lock_status() WHERE NOT fastpath GROUP BY pid
) l ON l.pid = a.pid
WHERE a.usesysid >= 16384
"""
