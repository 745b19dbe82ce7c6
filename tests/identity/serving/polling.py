"""Waiting for what another process or task does, with a deadline."""

import asyncio
from collections.abc import Awaitable, Callable

DEADLINE_SECONDS = 60
"""A guard against waiting for ever; a busy machine must not reach it."""


async def eventually(condition: Callable[[], bool]) -> None:
    """Returns once ``condition`` holds; raises ``TimeoutError`` after the deadline."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110 - what is polled has no event of ours
            await asyncio.sleep(0.01)


async def eventually_async(condition: Callable[[], Awaitable[bool]]) -> None:
    """The same for a condition that must be awaited."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await condition():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)
