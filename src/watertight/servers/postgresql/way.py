"""Who stands in the operator's way: sessions that hold what a change of ours waits for.

A service may keep a transaction open for as long as it likes (it can lift each timeout), and with
it locks on tables, on its own role, on its own settings. While we wait for one, everybody else's
statements queue behind us. So we wait for moments only, and look meanwhile at who it is.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg.rows import class_row

from watertight.servers.postgresql.admin import Connection
from watertight.servers.postgresql.compile import OPERATOR, OWNER, DatabasePlan
from watertight.servers.postgresql.limits import STATEMENT

GRACE_SECONDS = 5.0
"""How long a transaction may wait for its client while we wait for it."""
LOOK_SECONDS = 0.1
_LONGEST_QUERY = 80
_LITERAL = re.compile(r"'(?:[^']|'')*'?|\$(\w*)\$.*?(?:\$\1\$|$)|\b\d+\b", re.DOTALL)
"""What may be somebody's data: an error is read by others than its owner."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A session that holds what we wait for."""

    pid: int
    role: str
    state: str
    state_seconds: float
    """Since when it is in that state."""
    transaction_seconds: float
    query: str
    """Its last."""

    @property
    def waits_for_its_client(self) -> bool:
        """It does nothing, and keeps what it holds."""
        return self.state.startswith("idle")

    def __str__(self) -> str:
        query = " ".join(_LITERAL.sub("…", self.query).split())
        query = "".join(c if c.isprintable() else "?" for c in query)
        if len(query) > _LONGEST_QUERY:
            query = query[:_LONGEST_QUERY] + " …"
        return (
            f"{self.role or 'the server itself'} (pid {self.pid}, {self.state} for "
            f"{self.state_seconds:.0f} s, in a transaction for "
            f"{self.transaction_seconds:.0f} s; last: {query})"
        )


@dataclass(slots=True)
class Way:
    """What was seen, and done, while we waited."""

    plan: DatabasePlan
    holders: dict[int, Holder] = field(default_factory=dict)
    """Those that we still waited for when we last looked."""
    ended: dict[int, Holder] = field(default_factory=dict)
    """Those that were shown out."""

    def must_go(self, holder: Holder) -> bool:
        """Whether its time is up.

        A service that the plan does not know has none. Whoever keeps a transaction open and does
        nothing has the grace; whoever works, as long as its channel says that a statement may run.
        """
        roles = {role.name: role for role in self.plan.roles}
        if holder.role in {"", OPERATOR, OWNER}:
            return False
        if (role := roles.get(holder.role)) is None:
            return True
        if holder.waits_for_its_client:
            return holder.state_seconds > GRACE_SECONDS
        most_seconds = int(role.settings[STATEMENT]) / 1000
        return 0 < most_seconds < holder.transaction_seconds

    def told(self) -> str:
        """Who was in the way, for an error or a log."""
        return "; ".join(str(holder) for _, holder in sorted(self.holders.items()))


@asynccontextmanager
async def cleared(looks: Connection, waits: Connection, way: Way) -> AsyncIterator[None]:
    """While the block runs, shows out who keeps ``waits`` waiting too long, by ``looks``."""
    task = asyncio.ensure_future(_look(looks, waits.info.backend_pid, way))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _look(looks: Connection, pid: int, way: Way) -> None:
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            found = await _holders(looks, pid)
            if found:
                way.holders = found
            for holder in found.values():
                if way.must_go(holder) and await _end(looks, holder):
                    way.ended[holder.pid] = holder
        except psycopg.Error:
            continue  # to look is a help; who waits finds out by itself


async def _holders(looks: Connection, pid: int) -> dict[int, Holder]:
    async with looks.cursor(row_factory=class_row(Holder)) as cursor:
        await cursor.execute(_BLOCKING, [pid])
        return {holder.pid: holder for holder in await cursor.fetchall()}


async def _end(looks: Connection, holder: Holder) -> bool:
    done = await (await looks.execute("SELECT pg_terminate_backend(%s)", [holder.pid])).fetchone()
    return bool(done and done[0])


# Who blocks us may wait for another in turn: it is the one at the end who must go.
_BLOCKING = """
WITH RECURSIVE b(pid) AS (
    SELECT unnest(pg_blocking_pids(%s))
    UNION SELECT unnest(pg_blocking_pids(b.pid)) FROM b
)
SELECT a.pid, coalesce(a.usename, '') AS role, coalesce(a.state, 'active') AS state,
    coalesce(extract(epoch FROM clock_timestamp() - a.state_change), 0)::float8 AS state_seconds,
    coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::float8
        AS transaction_seconds,
    coalesce(left(a.query, 1000), '') AS query
FROM b JOIN pg_stat_activity a USING (pid)
WHERE cardinality(pg_blocking_pids(a.pid)) = 0
"""
