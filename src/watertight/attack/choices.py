"""Attacks that are generated: a sequence of choices makes one, a shorter one a smaller one.

Everything that a generator decides it asks of :class:`Choices`. So a counterexample is a list of
numbers, the same list makes the same attack again, and the list can be made smaller while the
attack still works (after Hypothesis; MacIver and Donaldson, "Test-Case Reduction via Test-Case
Generation", ECOOP 2020). The first of several possibilities should be the plainest.
"""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
MOST_CHOICES = 2_000


class Choices:
    """Decides by chance, or again as was decided before."""

    def __init__(self, seed: str = "", again: Sequence[int] | None = None) -> None:
        self._seed = hashlib.sha256(seed.encode()).digest()
        self._again = list(again) if again is not None else None
        self.made: list[int] = []
        """Every choice, in order."""

    def below(self, number: int) -> int:
        """A number from 0 on, below that; 0 once what was decided before is used up."""
        if self._again is None:
            chosen = self._chance() % number if len(self.made) < MOST_CHOICES else 0
        else:
            at = len(self.made)
            chosen = self._again[at] % number if at < len(self._again) else 0
        self.made.append(chosen)
        return chosen

    def _chance(self) -> int:
        """The next of the numbers that follow from the seed, on every machine the same."""
        at = len(self.made).to_bytes(4, "big")
        return int.from_bytes(hashlib.blake2b(at, key=self._seed, digest_size=8).digest(), "big")

    def one(self, possibilities: Sequence[T]) -> T:
        """One of these."""
        return possibilities[self.below(len(possibilities))]

    def rarely(self, one_in: int) -> bool:
        """True once in so many times; False is the plain answer."""
        return self.below(one_in) == one_in - 1

    def some(self, possibilities: Sequence[T], most: int) -> list[T]:
        """At most so many of these."""
        return [self.one(possibilities) for _ in range(self.below(most + 1))]


async def shrink(
    made: Sequence[int], still: Callable[[Sequence[int]], Awaitable[bool]], *, tries: int
) -> list[int]:
    """A shorter or smaller sequence of choices for which ``still`` holds, after so many tries."""
    best = list(made)
    left = tries

    async def better(candidate: list[int]) -> bool:
        nonlocal best, left
        if left <= 0 or candidate == best:
            return False
        left -= 1
        if await still(candidate):
            best = candidate
            return True
        return False

    size = max(1, len(best) // 2)
    while size:
        at = 0
        while at < len(best) and left > 0:
            if not await better(best[:at] + best[at + size :]):
                at += size
        size //= 2
    for at in range(len(best)):
        for smaller in (0, best[at] // 2, best[at] - 1):
            if at < len(best) and 0 <= smaller < best[at]:
                await better([*best[:at], smaller, *best[at + 1 :]])
    while best and best[-1] == 0:  # what is used up is 0
        best.pop()
    return best
