"""How long an attacker waits for a peer that may only be slow.

Seconds in probes are those of a quiet host. On a busy one everything takes longer, the mesh as well
as the prober, and a deadline that strikes shows nothing about security. So every wait is as much
longer as the host is slow, within bounds: by how long a fixed piece of work just took, or by how
many tasks share a core (the scheduler is kind to short work among long).

Waits stand in each other: ten seconds for an exchange in which one of five is a part. So a wait
that has begun grows with the others once a host is found slower; else the part, which begins later,
would be given more than the whole, and a silence that was waited for would be none.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

QUIET_SECONDS = 0.03
"""What :func:`_work` takes on one quiet core of a common machine of 2020."""
ROUNDS = 1_000_000
MOST = 8.0
"""A host slower than this is told from one that hangs."""
KEPT = 0.7
"""How much of the last measure stays, for one lucky moment does not make a host quiet."""
EVERY_SECONDS = 3.0


class _Pace:
    factor = 1.0


class _Wait:
    """One that is going on now."""

    def __init__(self, timeout: asyncio.Timeout, seconds: float) -> None:
        self._timeout = timeout
        self._seconds = seconds
        self._began = asyncio.get_running_loop().time()

    def lengthen(self) -> None:
        """To what the host needs by now; never less than it was given before."""
        ends = self._began + patience(self._seconds)
        before = self._timeout.when()
        if not self._timeout.expired() and (before is None or ends > before):
            self._timeout.reschedule(ends)


_waits: set[_Wait] = set()
"""Of one event loop: a prober has no other."""


def patience(seconds: float) -> float:
    """As many seconds as these of a quiet host are here and now."""
    return seconds * _Pace.factor


@contextlib.asynccontextmanager
async def patiently(seconds: float) -> AsyncIterator[None]:
    """``asyncio.timeout`` with so many seconds of a quiet host; longer if it grows slow meanwhile.

    Raises ``TimeoutError``.
    """
    async with asyncio.timeout(None) as timeout:
        wait = _Wait(timeout, seconds)
        wait.lengthen()
        _waits.add(wait)
        try:
            yield
        finally:
            _waits.discard(wait)


async def keep_measuring() -> None:
    """Measures until it is cancelled. The work is done in a thread: attacks have a clock too."""
    while True:
        await measure()
        await asyncio.sleep(EVERY_SECONDS)


async def measure() -> float:
    """Measures once; returns the factor that is in force from now on, for what has begun too."""
    _Pace.factor = factor(await asyncio.to_thread(_work), _crowd(), _Pace.factor)
    for wait in _waits:
        wait.lengthen()
    return _Pace.factor


def factor(took_seconds: float, tasks_a_core: float, before: float = 1.0) -> float:
    """By how much everything takes longer, if the fixed work took this long in this crowd."""
    return min(max(1.0, took_seconds / QUIET_SECONDS, tasks_a_core, before * KEPT), MOST)


def _crowd() -> float:
    """Tasks that run or would like to, for each core of ours (proc(5), ``/proc/loadavg``)."""
    running = Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[0]
    return int(running) / len(os.sched_getaffinity(0))


def _work() -> float:
    started = time.monotonic()
    for _ in range(ROUNDS):
        pass
    return time.monotonic() - started
