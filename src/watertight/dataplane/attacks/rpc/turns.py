"""How many meet at one app at once: some serve few calls, and no attack may pass for another's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from weakref import WeakKeyDictionary

from watertight.attack.arena import Arena

PLACES = 5
"""Each duel keeps one call open; common servers work on ten at once."""


class _Turns:
    def __init__(self) -> None:
        self.queue = asyncio.Lock()
        self.places = asyncio.Semaphore(PLACES)


_APPS: WeakKeyDictionary[Arena, dict[str, _Turns]] = WeakKeyDictionary()


@asynccontextmanager
async def turn(arena: Arena, app: str, *, alone: bool) -> AsyncIterator[None]:
    """A place at that app, for as long as the block takes; or, ``alone``, all of them."""
    turns = _APPS.setdefault(arena, {}).setdefault(app, _Turns())
    async with AsyncExitStack() as held:
        async with turns.queue:
            for _ in range(PLACES if alone else 1):
                await held.enter_async_context(turns.places)
        yield
