"""Statements that must be refused, or must work, and how the server's answer is judged.

No attempt changes what the users have: each runs in a transaction that is rolled back, and
touches no row (``WHERE false``, ``LIMIT 0``); PostgreSQL judges permissions all the same.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from watertight.attack.arena import Arena
from watertight.attack.login import POLL_SECONDS, Login, as_itself
from watertight.attack.places import idle
from watertight.attack.probe import Observation, not_run, refused, served
from watertight.attack.wire import Absent, Closed
from watertight.servers.postgresql.attacks.dialect import DIALECT, PostgreSQLDialect
from watertight.servers.postgresql.attacks.session import Answer, Session
from watertight.servers.postgresql.declaration import Kind, Target

DENIED = "42501"
"""insufficient_privilege"""
NOT_GRANTED = "01007"
"""privilege_not_granted: a warning; nothing was done."""
NO = "22012"
"""division_by_zero: how :func:`asked` says no."""
MISSING = frozenset({"42P01", "3F000", "42883"})
"""undefined_table, invalid_schema_name, undefined_function"""
INSIDE = MISSING | {"42704"}
"""Likewise, and undefined_object: what a thing that is there uses by a name without a schema, our
sessions do not find (:class:`PostgreSQLDialect`)."""
LOOKUP_SECONDS = 8.0
"""What one attack ended (a process of the server's), the server starts again."""
CONSTRAINT = "23"
"""Class 23: the row was refused for what it holds, so the permission was there."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One statement."""

    sql: str
    after: frozenset[str] = frozenset()
    """SQLSTATEs that come only once the permission was there."""
    begin: str | None = "BEGIN"
    """None: it cannot run in a transaction."""
    undo: str = ""
    """What takes it back, where no transaction can."""
    no: frozenset[str] = frozenset()
    """SQLSTATEs that mean no, besides the server's own word for it."""
    ask: str = ""
    """The privilege as an expression: for a thing that does not work in sessions such as ours."""
    lookup: str = ""
    """A query whose one value stands for ``{}`` in ``sql``."""


def identifier(name: str) -> str:
    """A name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string as SQL."""
    return "'" + text.replace("'", "''") + "'"


def spelled(target: Target) -> str:
    """The thing's name as SQL."""
    if target.kind is Kind.SCHEMA:
        return identifier(target.schema)
    return f"{identifier(target.schema)}.{identifier(target.name)}"


@asynccontextmanager
async def session_of(
    arena: Arena, login: Login, dialect: PostgreSQLDialect = DIALECT
) -> AsyncIterator[Session]:
    """A session of the right caller. Raises as ``attack.login.enter``."""
    wire = await as_itself(arena, dialect, login)
    try:
        yield Session(wire)
    finally:
        await wire.close()


async def run(session: Session, attempt: Attempt) -> Answer:
    """Runs it, and takes it back."""
    sql = attempt.sql
    if attempt.lookup:
        deadline = time.monotonic() + LOOKUP_SECONDS
        while not (found := await session.query(attempt.lookup)).rows:
            if time.monotonic() > deadline:
                raise Absent(f"nothing to try it on: {attempt.lookup}")
            with idle():
                await asyncio.sleep(POLL_SECONDS)
        sql = sql.replace("{}", str(found.rows[0][0]))
    if attempt.begin:
        await session.query(attempt.begin)
    answer = await session.query(sql)
    if attempt.begin:
        await session.query("ROLLBACK")
    if attempt.undo and not answer.sqlstate:
        await session.query(attempt.undo)
    if attempt.ask and answer.sqlstate in INSIDE - attempt.after:
        answer = await session.query(asked(attempt.ask))
        if answer.sqlstate == NO:
            return replace(answer, sqlstate=DENIED)
    return answer


def asked(privilege: str) -> str:
    """The query that fails with :data:`NO` where an expression is false."""
    return f"SELECT 1 / ({privilege})::int"


def passed(answer: Answer, attempt: Attempt) -> bool:
    """Whether the permission was there, whatever came of it."""
    if not answer.sqlstate:
        return NOT_GRANTED not in answer.warnings
    return answer.sqlstate in attempt.after or answer.sqlstate.startswith(CONSTRAINT)


def denied(answer: Answer, attempt: Attempt) -> bool:
    """Whether the server said that it was not."""
    return (
        answer.sqlstate == DENIED or answer.sqlstate in attempt.no or NOT_GRANTED in answer.warnings
    )


async def all_refused(arena: Arena, login: Login, attempts: Sequence[Attempt]) -> Observation:
    """Tries them one after the other, in one session; one that passes is enough."""
    async with session_of(arena, login) as session:
        return await each_refused(session, attempts)


async def each_refused(session: Session, attempts: Sequence[Attempt]) -> Observation:
    """As :func:`all_refused`, in a session that is there."""
    for attempt in attempts:
        answer = await run(session, attempt)
        if passed(answer, attempt):
            return served(f"{attempt.sql}: {answer}")
        if not denied(answer, attempt):
            return not_run(f"{attempt.sql}: {answer}")
    return refused(f"{len(attempts)} refused, the last with: {answer}")


async def works(arena: Arena, login: Login, attempt: Attempt) -> Observation:
    """Whether a permitted statement is let through."""
    try:
        async with session_of(arena, login) as session:
            answer = await run(session, attempt)
    except Closed as end:
        return refused(f"no login: {end}")
    if answer.sqlstate in MISSING - attempt.after:
        return not_run(f"{attempt.sql}: {answer}")
    return (served if passed(answer, attempt) else refused)(f"{attempt.sql}: {answer}")
