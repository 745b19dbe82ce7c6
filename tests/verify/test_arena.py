"""What the arena says of the running system."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from watertight.enforcers.contract import Listening, Placement
from watertight.model.system import System
from watertight.verify import arena
from watertight.verify.arena import LiveArena
from watertight.verify.forge import Forger

TCP = Listening("jobs", "server", "127.0.0.1:5671")
UDP = Listening("jobs", "server", "udp:0.0.0.0:39039")


async def listed(*looks: Sequence[Listening]) -> Sequence[Listening]:
    """What is told of sockets that are seen so, one look after the other; the last one stays."""
    seen = list(looks)

    async def listening() -> Sequence[Listening]:
        return seen.pop(0) if len(seen) > 1 else seen[0]

    async def nobody(service: str, argv: Sequence[str]) -> None:
        raise AssertionError(service, argv)

    made = LiveArena(
        System(trust_domain="shop.internal"),
        Placement(Path("/run/wt"), Path("/shop")),
        foothold=nobody,  # type: ignore[arg-type]
        listening=listening,
        forger=Forger.__new__(Forger),
        roots=lambda: b"",
    )
    return await made.listening()


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
