"""Sessions that fill their memory to the last byte, and then do what must not fail.

PostgreSQL ends all sessions where it cannot go on after a commit, or within the handling of an
error. Each of these ends in such a place with whatever memory its filling has left.
"""

import contextlib
from collections.abc import Callable, Iterator

import psycopg

Session = psycopg.Connection[tuple[object, ...]]
SMALLEST_BYTES = 2048
MOST_STEPS = 4000
TABLES, CHANNELS, NAMES = 1000, 3000, 2000


def fill(session: Session, largest_bytes: int = 8 << 20) -> None:
    """Takes memory in pieces that halve, each time that there is none, within a transaction."""
    size, number = largest_bytes, 0
    while size >= SMALLEST_BYTES and number < MOST_STEPS:
        number += 1
        try:
            with session.transaction():
                session.execute(f"SELECT set_config('my.v{number}', repeat('x', {size}), false)")
        except psycopg.errors.OutOfMemory:
            size //= 2


def many(session: Session, statements: Iterator[str]) -> None:
    """Sends them together, which is sooner."""
    session.execute("; ".join(statements).encode())


def dropped_tables(session: Session) -> None:
    """Files to remove, and messages to send about them, once it is committed."""
    many(session, (f"CREATE TEMP TABLE t{n} ()" for n in range(TABLES)))
    session.execute("BEGIN")
    many(session, (f"DROP TABLE t{n}" for n in range(TABLES)))
    fill(session)
    session.execute("COMMIT")


def listeners(session: Session) -> None:
    """Channels to be listened to, once it is committed."""
    session.execute("BEGIN")
    many(session, (f"LISTEN l{n}" for n in range(CHANNELS)))
    fill(session)
    session.execute("NOTIFY a, 'b'")
    session.execute("COMMIT")


def dropped_tables_in_a_subtransaction(session: Session) -> None:
    """The same, and taken back within an error."""
    session.execute("BEGIN")
    session.execute("SAVEPOINT s")
    many(session, (f"CREATE TEMP TABLE t{n} (a text PRIMARY KEY)" for n in range(TABLES // 4)))
    fill(session)
    with contextlib.suppress(psycopg.errors.DivisionByZero):
        session.execute("SELECT 1 / 0")
    session.execute("ROLLBACK TO s")
    session.execute("COMMIT")


def emptied_at_commit(session: Session) -> None:
    """Tables that are truncated by the commit itself."""
    session.execute("BEGIN")
    many(
        session,
        (f"CREATE TEMP TABLE t{n} (a int) ON COMMIT DELETE ROWS" for n in range(TABLES // 4)),
    )
    fill(session)
    session.execute("COMMIT")


def held_cursors(session: Session) -> None:
    """Cursors whose rows are written away by the commit itself."""
    session.execute("BEGIN")
    for number in range(50):
        rows = "SELECT repeat('x', 1000) FROM generate_series(1, 1000)"
        session.execute(f"DECLARE c{number} CURSOR WITH HOLD FOR {rows}".encode())
    fill(session)
    session.execute("COMMIT")


def prepared(session: Session) -> None:
    """Statements that stay, whatever comes of the transaction: no set value holds the memory."""
    session.execute("BEGIN")
    many(session, (f"LISTEN l{n}" for n in range(CHANNELS)))
    size, number = 4 << 20, 0
    while size >= SMALLEST_BYTES and number < NAMES:
        number += 1
        session.execute("SAVEPOINT s")
        try:
            session.execute(f"PREPARE p{number} AS SELECT '{'x' * size}'")
        except psycopg.errors.OutOfMemory:
            size //= 2
        session.execute("ROLLBACK TO s")
    many(session, (f"NOTIFY l{n}, 'b'" for n in range(100)))
    session.execute("COMMIT")


def all_at_once(session: Session) -> None:
    """What is taken without being touched, of a size known before, and then the commit."""
    session.execute("SET temp_buffers = 1000000")
    session.execute("BEGIN")
    many(session, (f"LISTEN l{n}" for n in range(CHANNELS)))
    many(
        session,
        iter(
            (
                "CREATE TEMP TABLE t (a text)",
                "INSERT INTO t VALUES ('x')",
                "SELECT set_config('my.v', repeat('x', 40000000), false)",
                "SELECT set_config('my.w', repeat('x', 10000000), false)",
                "NOTIFY a, 'b'",
                "COMMIT",
            )
        ),
    )


CRASHERS: dict[str, Callable[[Session], None]] = {
    crasher.__name__.replace("_", "-"): crasher
    for crasher in (
        dropped_tables,
        listeners,
        dropped_tables_in_a_subtransaction,
        emptied_at_commit,
        held_cursors,
        prepared,
        all_at_once,
    )
}
