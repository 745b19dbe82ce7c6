"""How long an attacker waits for a peer that may only be slow.

Seconds in probes are those of a quiet host. On a busy one everything takes longer, the mesh as well
as the prober, and a deadline that strikes shows nothing about security. So every wait is as much
longer as the host is slow, within bounds: by how long a fixed piece of work just took, or by how
many tasks share a core (the scheduler is kind to short work among long).
"""

import asyncio
import os
import time
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


def patience(seconds: float) -> float:
    """As many seconds as these of a quiet host are here and now."""
    return seconds * _Pace.factor


def patiently(seconds: float) -> asyncio.Timeout:
    """``asyncio.timeout`` with so many seconds of a quiet host."""
    return asyncio.timeout(patience(seconds))


async def keep_measuring() -> None:
    """Measures until it is cancelled. The work is done in a thread: attacks have a clock too."""
    while True:
        await measure()
        await asyncio.sleep(EVERY_SECONDS)


async def measure() -> float:
    """Measures once; returns the factor that is in force from now on."""
    _Pace.factor = factor(await asyncio.to_thread(_work), _crowd(), _Pace.factor)
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
