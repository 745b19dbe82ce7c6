"""What the arena says of the running system."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from watertight.attack.arena import Listening
from watertight.model.placement import Placement
from watertight.model.system import System
from watertight.verify import arena
from watertight.verify.arena import LiveArena
from watertight.verify.forge import Forger

TCP = Listening("jobs", "server", "127.0.0.1:5671")
UDP = Listening("jobs", "server", "udp:0.0.0.0:39039")


def arena_with(listening: Callable[[], Awaitable[Sequence[Listening]]]) -> LiveArena:
    async def nobody(service: str, argv: Sequence[str]) -> None:
        raise AssertionError(service, argv)

    return LiveArena(
        System(trust_domain="shop.internal"),
        Placement(Path("/run/wt"), Path("/shop")),
        foothold=nobody,  # type: ignore[arg-type]
        listening=listening,
        forger=Forger.__new__(Forger),
        roots=lambda: b"",
    )


async def listed(*looks: Sequence[Listening]) -> Sequence[Listening]:
    """What is told of sockets that are seen so, one look after the other; the last one stays."""
    seen = list(looks)

    async def listening() -> Sequence[Listening]:
        return seen.pop(0) if len(seen) > 1 else seen[0]

    return await arena_with(listening).listening()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena, "RESOLVER_SECONDS", 0.2)
    monkeypatch.setattr(arena, "POLL_SECONDS", 0.01)


async def test_a_resolvers_socket_does_not_listen() -> None:
    assert await listed([TCP, UDP], [TCP, UDP], [TCP]) == [TCP]


async def test_a_udp_socket_that_stays_is_told() -> None:
    assert await listed([TCP, UDP]) == [TCP, UDP]


async def test_a_tcp_socket_is_told_however_short_it_lives() -> None:
    assert await listed([TCP], []) == [TCP]


async def test_who_asks_while_somebody_looks_gets_what_is_seen_then() -> None:
    """Also if who asked first gives up; or a slow machine would look once for each, in turn."""
    looks, seen = 0, asyncio.Event()

    async def listening() -> Sequence[Listening]:
        nonlocal looks
        looks += 1
        await seen.wait()
        return [TCP]

    made = arena_with(listening)
    first, second = (asyncio.ensure_future(made.listening()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    seen.set()
    assert await second == [TCP]
    assert await made.listening() == [TCP]
    assert looks == 1


async def test_a_look_that_fails_is_not_kept() -> None:
    looks: list[Sequence[Listening]] = [[TCP]]

    async def listening() -> Sequence[Listening]:
        if looks:
            raise OSError(looks.pop())
        return [UDP]

    made = arena_with(listening)
    with pytest.raises(OSError, match="5671"):
        await made.listening()
    assert await made.listening() == [UDP]
