"""The search of ``verify --deep`` on one session: one generated attack after another."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from watertight.attack.choices import Choices, shrink
from watertight.attack.probe import Deep

SHRINKING = 250
"""Tries, at most, to make a counterexample smaller."""
GRACE_SECONDS = 60.0
"""For shrinking, beyond the time that was given."""

Try = Callable[[Choices], Awaitable[str | None]]
"""Makes the attack of these choices; what is wrong with what came of it, and how to do it again."""


@dataclass(frozen=True, slots=True)
class Searched:
    """What came of a search."""

    tried: int
    found: str = ""
    """The smallest counterexample, with its case and seed."""


async def search(deep: Deep, name: str, attempt: Try) -> Searched:
    """Until time is up, all cases are tried, or one is wrong. The first case is the plainest.

    ``name`` makes the attacks of one place others than those of another. Raises as ``attempt``.
    """
    deadline = time.monotonic() + deep.seconds
    tried = 0
    while time.monotonic() < deadline and (deep.cases is None or tried < deep.cases):
        choices = Choices(f"{deep.seed}:{name}:{tried}") if tried else Choices(again=[])
        complaint = await attempt(choices)
        tried += 1
        if complaint is None:
            continue

        async def still(made: Sequence[int]) -> bool:
            return await attempt(Choices(again=made)) is not None

        made = await shrink(choices.made, still, tries=SHRINKING)
        smaller = await attempt(Choices(again=made)) or complaint
        return Searched(tried, f"{smaller} (case {tried - 1} of seed {deep.seed})")
    return Searched(tried)
