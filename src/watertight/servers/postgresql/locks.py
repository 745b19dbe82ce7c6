"""How large a server's table of locks must be, so that no service fills it. Pure.

All sessions share one table. When it is full nobody can log in, the operator neither. A session
takes as many locks as its memory allows: an open savepoint that has written holds one, and nobody
needs a grant for that. So the table has room for all that one service's sessions can pay for.
"""

from math import ceil

LOCK_BYTES = 8 << 10
"""Private memory that a session pays for one savepoint with its lock, at least (10 kB measured)."""
ENTRY_BYTES = 400
"""What each lock that there is room for takes of the memory that PostgreSQL's processes share (374
measured: a LOCK, two PROCLOCKs, a tenth more; src/backend/storage/lmgr/lock.c, LockShmemSize)."""
USUAL_LOCKS = 64
"""``max_locks_per_transaction``, PostgreSQL's own: what all sessions need on average."""


def locks_per_transaction(connections: int, most: int, session_bytes: int) -> int:
    """``max_locks_per_transaction`` of a server that takes so many ``connections``.

    ``most``: how many of them one service may have, each with ``session_bytes`` of memory.
    """
    return USUAL_LOCKS + ceil(most * session_bytes / LOCK_BYTES / connections)


def bytes_with_locks(session_bytes: int) -> int:
    """What one session takes, with the room for its locks."""
    return session_bytes + session_bytes * ENTRY_BYTES // LOCK_BYTES
