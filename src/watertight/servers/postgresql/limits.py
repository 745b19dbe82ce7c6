"""How much of a server one service may take: connections, memory, time, and files for sorting.

Connections are shares of what the server has, so that no service can take those of another, and a
few are kept for us. Each has its part of the server's memory (ADR 18). Read by both sides, as the
declaration is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, PlainValidator, WithJsonSchema

from watertight.model import codes
from watertight.model.declaration import Shape
from watertight.model.document import DocumentPath, quoted
from watertight.model.findings import Severity
from watertight.model.rules import Flaw
from watertight.model.system import Limits
from watertight.model.units import size_text
from watertight.model.values import Malformed, parse_duration, parse_size
from watertight.servers.postgresql.locks import ENTRY_BYTES, LOCK_BYTES, bytes_with_locks

SERVER_CONNECTIONS = 100
"""``max_connections``, unless declared: a slot that nobody uses costs a few kilobytes."""
RESERVED = 5
"""``superuser_reserved_connections``: `apply`, `status` and `revoke` come in however full it is."""
DEFAULT_SHARE = 20
"""Of what is left, each service has an equal share, and at most this unless it says more."""
SMALLEST_SHARE = 3
MAX_CONNECTIONS = 10_000
PARALLEL_WORKERS, VACUUM_WORKERS = 2, 3
"""Of the whole server. Each may take as much memory as a session, and one service have all of them:
a vacuum runs its functions, where an index calls them."""
WORKERS = PARALLEL_WORKERS + VACUUM_WORKERS
SHARED_BYTES, SHARED_CONNECTION_BYTES = 192 << 20, 64 << 10
"""What PostgreSQL's processes share, with what its own few take; and more with each connection."""
IDLE_BYTES = 3 << 20
"""Of a session that waits, on this server and in the kernel."""
UNSEEN_BYTES = 132 << 20
"""What two cores fill in 20 ms (3.3 GB/s each)."""
SMALLEST_SESSION_BYTES = 24 << 20
"""With less, PostgreSQL does not do its own work."""
DEFAULT_STATEMENT_SECONDS = 600.0
DEFAULT_IDLE_IN_TRANSACTION_SECONDS = 300.0
DEFAULT_TEMPORARY_BYTES = 1 << 30
STATEMENT, IDLE, TEMPORARY = (
    "statement_timeout",
    "idle_in_transaction_session_timeout",
    "temp_file_limit",
)
NO_TIMEOUT = "none"


def _timeout(value: Any) -> float:
    """A duration, or ``none``: 0 seconds, as PostgreSQL says it."""
    if value == NO_TIMEOUT:
        return 0.0
    try:
        return parse_duration(value)
    except Malformed as error:
        raise Malformed(error.code, error.message, f"{error.remedy} Or `none`.") from error


Connections = Annotated[int | None, Field(ge=1, le=MAX_CONNECTIONS)]
Timeout = Annotated[
    float,
    PlainValidator(_timeout),
    WithJsonSchema({"type": "string", "pattern": "^([0-9]{1,9}(ms|s|m|h)|none)$"}),
]
Size = Annotated[int, PlainValidator(parse_size), WithJsonSchema({"type": ["string", "integer"]})]


def _session_memory(value: Any) -> int:
    size = parse_size(value)
    if size < SMALLEST_SESSION_BYTES:
        raise Malformed(
            codes.BAD_SIZE,
            f"With {quoted(value)} of memory, a session of PostgreSQL does nothing.",
            f"At least `{size_text(SMALLEST_SESSION_BYTES)}`.",
        )
    return size


SessionMemory = Annotated[
    int | None,
    PlainValidator(_session_memory),
    WithJsonSchema({"type": ["string", "integer"]}),
]


class LimitKeys(Shape):
    """How much of the database's server the service may take."""

    connections: Connections = None
    """How many sessions it may have at once; an equal share of the server's unless stated."""
    statement_timeout: Timeout = DEFAULT_STATEMENT_SECONDS
    """How long one statement may run; 10m unless stated, or `none`. A session may set another."""
    idle_in_transaction_timeout: Timeout = DEFAULT_IDLE_IN_TRANSACTION_SECONDS
    """How long a transaction may wait for its client; 5m unless stated, or `none`. A session may
    set another."""
    temporary_file_size: Size = DEFAULT_TEMPORARY_BYTES
    """How much disk one session's sorts and joins may take; 1GiB unless stated."""


def settings(keys: LimitKeys) -> Mapping[str, str]:
    """What its role is set to, in the units that PostgreSQL counts in (ms, kB)."""
    return {
        IDLE: str(round(keys.idle_in_transaction_timeout * 1000)),
        STATEMENT: str(round(keys.statement_timeout * 1000)),
        TEMPORARY: str(max(1, keys.temporary_file_size >> 10)),
    }


@dataclass(frozen=True, slots=True)
class Shares:
    """Who may have how many connections at one server."""

    server: int
    """All that it has."""
    each: tuple[int, ...]
    """In the order of the channels."""

    @property
    def left(self) -> int:
        """What nobody was given; less than nothing, if too much was asked."""
        return self.server - RESERVED - sum(self.each)


def shares(server: int | None, asked: Sequence[int | None]) -> Shares:
    """Who asks for a number has it; the others share the rest equally."""
    total = SERVER_CONNECTIONS if server is None else server
    open_ended = sum(1 for number in asked if number is None)
    rest = total - RESERVED - sum(number or 0 for number in asked)
    share = max(SMALLEST_SHARE, min(DEFAULT_SHARE, rest // open_ended)) if open_ended else 0
    return Shares(total, tuple(share if number is None else number for number in asked))


def check_shares(resource: str, path: DocumentPath, found: Shares) -> Iterator[Flaw]:
    """Whether the server has what channels were given."""
    if found.left < 0:
        needed = sum(found.each) + RESERVED
        yield Flaw(
            codes.TOO_MANY_CONNECTIONS,
            path,
            f"{quoted(resource)} takes {found.server} connections, {RESERVED} of them for "
            f"Watertight alone; its channels come to {sum(found.each)}.",
            f"Let it take more (`connections: {needed}` at the resource), or give channels fewer.",
        )


def session_bytes(server: int | None, asked: Sequence[int | None], limits: Limits) -> int:
    """Private memory that each session may take, so that one service's fit the server's.

    What is left of the server's memory while all others wait, over the connections of the service
    that has most. Channels that do not say how many count as if alone: a new one changes nothing.
    """
    total = SERVER_CONNECTIONS if server is None else server
    most = most_sessions(server, asked)
    found = (_left(server, limits) - IDLE_BYTES * max(0, total - most)) * LOCK_BYTES
    found //= most * (LOCK_BYTES + ENTRY_BYTES) + WORKERS * LOCK_BYTES  # with room for their locks
    return max(SMALLEST_SESSION_BYTES, found >> 20 << 20)


def all_sessions_bytes(server: int | None, limits: Limits) -> int:
    """Own memory that all sessions and workers have together, at most; besides their locks."""
    found = _left(server, limits) * LOCK_BYTES // (LOCK_BYTES + ENTRY_BYTES)
    return max(limits.memory_bytes >> 1, found)


def _left(server: int | None, limits: Limits) -> int:
    total = SERVER_CONNECTIONS if server is None else server
    kept = SHARED_BYTES + SHARED_CONNECTION_BYTES * total + limits.temp_bytes
    return limits.memory_bytes - kept


def leap_bytes(each_bytes: int, most: int, server: int | None, limits: Limits) -> int:
    """What one session may ask the kernel for at once, while all others of its service have theirs.

    Less what two cores fill before anybody looks. At this bound an allocation fails, which must not
    be within the last steps of a transaction: so it is far from what a session may keep.
    """
    left = all_sessions_bytes(server, limits) - most * each_bytes - UNSEEN_BYTES
    return max(3 * each_bytes, left)


def most_sessions(server: int | None, asked: Sequence[int | None]) -> int:
    """The most connections that one service may have."""
    return max((shares(server, [number]).each[0] for number in asked), default=DEFAULT_SHARE)


def check_memory(
    resource: str, path: DocumentPath, most: int, each_bytes: int, limits: Limits
) -> Iterator[Flaw]:
    """Whether what one service's sessions may take is less than its server has."""
    taken = SHARED_BYTES + bytes_with_locks(each_bytes) * most + each_bytes * WORKERS
    if taken > limits.memory_bytes:
        yield Flaw(
            codes.SESSIONS_OVER_MEMORY,
            path,
            f"One service may have {most} sessions, each of {size_text(each_bytes)}: with the "
            f"server's own {size_text(taken)}, and {quoted(resource)} has "
            f"{size_text(limits.memory_bytes)} of memory. Who takes it ends all sessions.",
            "Allow fewer `connections` of a channel, lower `session_memory`, or give it more "
            "`limits: {memory: }`.",
            Severity.WARNING,
        )
