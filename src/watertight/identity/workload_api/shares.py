"""What one workload may ask of the identity server, so that the others are served too."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from watertight.buckets import TokenBucket

CALLS_AT_ONCE, CALLS_PER_SECOND = 1_000, 200.0
"""Of any method, streams that are opened included."""
ISSUES_AT_ONCE, ISSUES_PER_SECOND = 64, 2.0
"""JWT-SVIDs that are signed and recorded; those that are kept (``kept_tokens``) do not count."""
WAITING = 8
"""Calls that wait for their turn to be issued to; further ones are refused."""
STREAMS = 512
"""That are open at once: a few for each process of a service."""


class Share:
    """One workload's, over all of its connections."""

    def __init__(self) -> None:
        self.calls = TokenBucket(CALLS_AT_ONCE, CALLS_PER_SECOND)
        self._issues = TokenBucket(ISSUES_AT_ONCE, ISSUES_PER_SECOND)
        self._streams = 0
        self._waiting = 0

    async def issue(self) -> bool:
        """Takes a turn to be issued to, and waits for it if few do; whether there was one."""
        if self._issues.take():
            return True
        if self._waiting >= WAITING:
            return False
        self._waiting += 1
        try:
            while not self._issues.take():  # noqa: ASYNC110  time is the event
                await asyncio.sleep(self._issues.wait_seconds())
        finally:
            self._waiting -= 1
        return True

    @contextlib.asynccontextmanager
    async def stream(self) -> AsyncIterator[bool]:
        """Holds a stream within the block; yields whether there was one to have."""
        free = self._streams < STREAMS
        self._streams += free
        try:
            yield free
        finally:
            self._streams -= free
