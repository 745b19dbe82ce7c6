"""One change of a system at a time, and which."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Changing:
    """A lock that says for what it is held, so that nobody takes half a change for drift."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._begun = 0
        self._what = ""

    @property
    def what(self) -> str:
        """The change under way, as a person is told it; empty if there is none."""
        return self._what if self._lock.locked() else ""

    @property
    def begun(self) -> int:
        """How many changes have begun: whoever looks for a while sees whether one came between."""
        return self._begun

    @asynccontextmanager
    async def by(self, what: str) -> AsyncIterator[None]:
        """Waits for the change before, and is the one under way until the block ends."""
        async with self._lock:
            self._begun += 1
            self._what = what
            yield
