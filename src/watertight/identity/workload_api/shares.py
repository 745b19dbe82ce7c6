"""What one workload may ask of the identity server, so that the others are served too."""

import contextlib
from collections.abc import AsyncIterator

from watertight.buckets import TokenBucket

CALLS_AT_ONCE, CALLS_PER_SECOND = 1_000, 200.0
"""Of any method, streams that are opened included."""
ISSUES_AT_ONCE, ISSUES_PER_SECOND = 200, 2.0
"""JWT-SVIDs that are signed and recorded; those that are kept (``kept_tokens``) do not count."""
STREAMS = 512
"""That are open at once: a few for each process of a service."""


class Share:
    """One workload's, over all of its connections."""

    def __init__(self) -> None:
        self.calls = TokenBucket(CALLS_AT_ONCE, CALLS_PER_SECOND)
        self.issues = TokenBucket(ISSUES_AT_ONCE, ISSUES_PER_SECOND)
        self._streams = 0

    @contextlib.asynccontextmanager
    async def stream(self) -> AsyncIterator[bool]:
        """Holds a stream within the block; yields whether there was one to have."""
        free = self._streams < STREAMS
        self._streams += free
        try:
            yield free
        finally:
            self._streams -= free
