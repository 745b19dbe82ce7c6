"""Looking again and again, since what is used up shows, or is taken back, a moment later."""

import asyncio
from collections.abc import Awaitable, Callable

from watertight.attack.places import idle

PATIENCE = 3.0
"""Of the prover's deadlines: all that uses something up takes its time."""
POLL_SECONDS = 0.1


async def seen(
    look: Callable[[], Awaitable[int]], settled: Callable[[int], bool], most_seconds: float
) -> int:
    """The first number that settles it, or else the one at the end of that time."""
    seconds = 0.0
    while not settled(number := await look()) and seconds < most_seconds:
        with idle():
            await asyncio.sleep(POLL_SECONDS)
        seconds += POLL_SECONDS
    return number
