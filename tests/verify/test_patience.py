"""Deadlines follow the host: a slow one is given time, and one that hangs is not for ever."""

import asyncio
import os
import socket
import subprocess
import sys

import pytest

from tests.verify.test_prover import ARENA
from watertight.attack import patience
from watertight.attack.probe import Outcome, Probe, Verdict, served
from watertight.attack.wire import SocketWire
from watertight.verify.prover import prove


@pytest.fixture
def slow_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything takes as long as we ever grant."""
    monkeypatch.setattr(patience, "_work", lambda: 1000.0)
    monkeypatch.setattr(patience._Pace, "factor", 1.0)


def test_the_factor_is_bounded_on_both_sides() -> None:
    assert patience.factor(patience.QUIET_SECONDS / 10, 0.5) == 1.0
    assert patience.factor(patience.QUIET_SECONDS * 3, 0.5) == pytest.approx(3.0)
    assert patience.factor(patience.QUIET_SECONDS, 4.0) == 4.0
    assert patience.factor(1000.0, 1000.0) == patience.MOST


def test_one_quiet_moment_does_not_make_a_host_quiet() -> None:
    assert patience.factor(0.0, 0.0, before=4.0) == pytest.approx(2.8)


@pytest.mark.usefixtures("slow_host")
async def test_a_wait_is_as_much_longer_as_the_host_is_slow() -> None:
    await patience.measure()
    assert patience.patience(5.0) == 5.0 * patience.MOST
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        waiting = asyncio.ensure_future(SocketWire(ours).receive(0.2))
        done, _ = await asyncio.wait([waiting], timeout=0.4)  # past what a quiet host is given
        assert not done
        theirs.send(b"late")
        assert await waiting == b"late"


@pytest.mark.usefixtures("slow_host")
async def test_the_prover_gives_a_probe_that_time_too() -> None:
    async def slow(_arena: object) -> object:
        await asyncio.sleep(0.3)
        return served("late")

    probe = Probe("a.b", "test", "a -> b", "use", "slowly", Outcome.SERVED, slow)  # type: ignore[arg-type]
    evidence = await prove(ARENA, [probe], deadline_seconds_per_probe=0.2)
    assert [result.verdict for result in evidence.results] == [Verdict.HELD]


async def test_a_crowd_on_the_cores_is_seen() -> None:
    crowd = [
        subprocess.Popen([sys.executable, "-I", "-S", "-c", "while True: pass"])  # noqa: ASYNC220
        for _ in range(4 * len(os.sched_getaffinity(0)))
    ]
    try:
        async with asyncio.timeout(30):
            while await patience.measure() < 2.0:  # noqa: ASYNC110 - the kernel tells nobody
                await asyncio.sleep(0.05)
    finally:
        for one in crowd:
            one.kill()
            one.wait()


async def test_a_host_that_grows_slow_meanwhile_gives_a_probe_more_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "_work", lambda: 0.0)
    monkeypatch.setattr(patience, "_crowd", lambda: 0.0)
    monkeypatch.setattr(patience._Pace, "factor", 1.0)

    async def slow(_arena: object) -> object:
        patience._Pace.factor = patience.MOST
        await asyncio.sleep(0.5)
        return served("late")

    probe = Probe("a.b", "test", "a -> b", "use", "slowly", Outcome.SERVED, slow)  # type: ignore[arg-type]
    evidence = await prove(ARENA, [probe], deadline_seconds_per_probe=0.2)
    assert [result.verdict for result in evidence.results] == [Verdict.HELD]


async def test_a_wait_in_another_stays_the_shorter_one_on_a_host_that_grows_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A TCP door that is held for a while was a door that had not answered."""
    monkeypatch.setattr(patience, "_work", lambda: 1000.0)
    monkeypatch.setattr(patience._Pace, "factor", 1.0)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        silent = False
        async with patience.patiently(1.0):  # which a busy host may take to begin to measure
            await patience.measure()
            try:
                await SocketWire(ours).receive(0.5)  # by now more than 1 s of a quiet host
            except TimeoutError:
                silent = True
        assert silent


async def test_a_wait_that_has_begun_is_not_cut_short_by_a_quiet_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "_work", lambda: 0.0)
    monkeypatch.setattr(patience, "_crowd", lambda: 0.0)
    monkeypatch.setattr(patience._Pace, "factor", patience.MOST)
    async with patience.patiently(0.05):
        assert await patience.measure() < patience.MOST
        await asyncio.sleep(0.06)


async def test_a_wait_that_is_over_leaves_nothing_behind() -> None:
    with pytest.raises(TimeoutError):
        async with patience.patiently(0.0):
            await asyncio.sleep(60)
    assert not patience._waits
