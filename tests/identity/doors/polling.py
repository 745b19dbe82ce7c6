"""Waiting for what another process or task does, with a deadline."""

import asyncio
from collections.abc import Callable

DEADLINE_SECONDS = 15


async def eventually(condition: Callable[[], bool]) -> None:
    """Returns once ``condition`` holds; raises ``TimeoutError`` after the deadline."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110 - what is polled has no event of ours
            await asyncio.sleep(0.01)
