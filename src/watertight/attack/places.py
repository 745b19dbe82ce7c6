"""How many probes work at once. Who only waits lets another one begin meanwhile.

A proof has a bounded number of places, for each probe at work costs the prover, proxies and apps a
share of their processor. Silence costs nobody anything: a probe that waits out a time-out gives
its place away for as long (:func:`idle`). It comes back at once, whoever has the place by then,
since how long an attacker is silent is a part of the attack; for that long, nobody new begins.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar


class Places:
    """So many places, given out in turn."""

    def __init__(self, places: int) -> None:
        self._free = places
        """Below zero while some who had waited are back and their places are taken."""
        self._turns: deque[asyncio.Future[None]] = deque()

    async def take(self) -> "Place":
        """A place, once one is free."""
        if self._free > 0:
            self._free -= 1
            return Place(self)
        turn = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was our turn, and we have left
                self.give()
            raise
        return Place(self)

    def take_back(self) -> None:
        """The place of who was away, whether or not one is free."""
        self._free -= 1

    def give(self) -> None:
        """Whoever waits longest has it now."""
        self._free += 1
        while self._free > 0 and self._turns:
            turn = self._turns.popleft()
            if not turn.done():  # else whoever waited has left
                turn.set_result(None)
                self._free -= 1


class Place:
    """One probe's place; :meth:`Places.take` makes it."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._waits = 0
        """In how many ways its probe waits now."""

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """The place of whatever is done in this block, until its end."""
        before = _mine.set(self)
        try:
            yield
        finally:
            _mine.reset(before)
            self._places.give()

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Free for others in this block."""
        self._waits += 1
        if self._waits == 1:
            self._places.give()
        try:
            yield
        finally:
            self._waits -= 1
            if self._waits == 0:
                self._places.take_back()


_mine: ContextVar[Place | None] = ContextVar("place", default=None)


@contextlib.contextmanager
def idle() -> Iterator[None]:
    """What is done in this block only waits. Outside of a proof it changes nothing."""
    place = _mine.get()
    with place.lent() if place is not None else contextlib.nullcontext():
        yield
