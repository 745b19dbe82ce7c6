"""What nobody saw is never held: a duel over one shared connection to an app, with a real tap."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

import pytest

from watertight.attack.arena import Arena
from watertight.attack.probe import Observation, Outcome
from watertight.attack.wire import Wire, dial_tcp
from watertight.dataplane.attacks.desync import duel
from watertight.dataplane.attacks.desync.duel import Duel, Marks
from watertight.dataplane.attacks.desync.meeting import Meeting, fight
from watertight.dataplane.attacks.desync.shapes import Base, Pieces, Shape
from watertight.dataplane.attacks.desync.sides import Side
from watertight.verify import tap
from watertight.verify.tap import Tap, open_tap


class Proxy(Enum):
    """What a bad proxy does with a victim's request while somebody attacks."""

    FAIR = "passes it on, on a connection of its own"
    POOLS = "passes it on, behind what the attacker sent"
    DROPS = "loses it"
    MUTE = "passes it on, and loses the answer"
    HASTY = "passes it on, and does not wait for the answer"
    HASTY_AND_DROPS = "loses it, and says that no answer came"


TIMED_OUT = b"HTTP/1.1 504 Gateway Timeout\r\ncontent-length: 24\r\n\r\nupstream request timeout"


async def _app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads bodies whole, and answers each request."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            _, _, after = head.partition(b"content-length: ")
            await reader.readexactly(int(after.split(b"\r\n")[0] or 0) if after else 0)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nmine")
            await writer.drain()
    writer.close()


@dataclass
class Bad:
    """A proxy of one shared connection, when it is bad; and one for each client, when not."""

    port: int
    how: Proxy
    attack: asyncio.StreamWriter | None = None
    """To the app, while the attacker holds it."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", self.port)
        mute = False

        async def answers() -> None:
            with contextlib.suppress(ConnectionError):
                while data := await back.read(4_096):
                    if not mute:
                        writer.write(data)

        async with asyncio.TaskGroup() as group:
            copying = group.create_task(answers())
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(4_096):
                    if data.startswith(b"POST"):
                        self.attack = forth
                    elif self.attack is not None:
                        mute = self.how is not Proxy.FAIR
                    if self.attack is None or data.startswith(b"POST"):
                        forth.write(data)
                    elif self.how is Proxy.POOLS:
                        self.attack.write(data)
                    elif self.how not in {Proxy.DROPS, Proxy.HASTY_AND_DROPS}:
                        forth.write(data)
                    if mute and self.how in {Proxy.HASTY, Proxy.HASTY_AND_DROPS}:
                        writer.write(TIMED_OUT)
            if self.attack is forth:
                self.attack = None
            forth.close()
            writer.close()
            copying.cancel()


def _short_body(base: Base, hidden: bytes) -> Pieces:
    head = base.head(b"content-length: 90000\r\n").replace(b"GET", b"POST", 1)
    return (head + hidden,)


SHAPES = [Shape("a body that lacks most of itself", _short_body)]


@dataclass(frozen=True)
class Pair:
    """Two clients of the proxy; duck for a ``Meeting``."""

    proxy: int
    port: int
    app: str = "app"
    shapes_a_duel: int = 1

    async def duel(self, _arena: Arena, witness: Tap | None) -> Duel:
        marks = Marks()

        async def dial() -> Wire:
            return await dial_tcp("127.0.0.1", self.proxy)

        def side(mark: str) -> Side:
            lines = (("host", "app"), ("probe-mark", mark))
            return Side(Base("GET", "/", lines), dial, dial)

        attacker, victim = side(marks.attacker), side(marks.victim)
        return Duel(attacker, victim, marks, witness, frozenset(), forbidden=True)


class Onlooker:
    """An arena with nothing but a witness."""

    def __init__(self, *, sees: bool = True) -> None:
        self._sees = sees

    @asynccontextmanager
    async def witness(self, _service: str, port: int) -> AsyncIterator[Tap | None]:
        if not self._sees:
            yield None
            return
        try:
            looking = Tap(open_tap(port), port)
        except PermissionError:
            pytest.skip("a packet socket needs CAP_NET_RAW")
        try:
            yield looking
        finally:
            looking.close()


async def fought(how: Proxy, *, sees: bool = True) -> Observation:
    app = await asyncio.start_server(_app, "127.0.0.1", 0)
    port = app.sockets[0].getsockname()[1]
    proxy = await asyncio.start_server(Bad(port, how).serve, "127.0.0.1", 0)
    async with app, proxy:
        pair = cast("Any", Pair(proxy.sockets[0].getsockname()[1], port))
        meeting: Meeting = pair
        return await fight(cast("Any", Onlooker(sees=sees)), meeting, SHAPES)


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duel, "TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(duel, "SILENCE_SECONDS", 0.1)


async def test_what_was_seen_to_be_in_order_holds() -> None:
    seen = await fought(Proxy.FAIR)
    assert (seen.outcome, "byte for byte" in seen.detail) == (Outcome.REFUSED, True)


async def test_a_request_that_was_swallowed_is_broken_when_the_witness_sees_it() -> None:
    seen = await fought(Proxy.POOLS)
    assert seen.outcome is Outcome.SERVED, seen.detail
    assert "the victim's request reached the app in the attacker's" in seen.detail


@pytest.mark.parametrize("how", [Proxy.DROPS, Proxy.HASTY_AND_DROPS])
async def test_a_request_that_nobody_saw_arrive_is_not_held(how: Proxy) -> None:
    seen = await fought(how)
    assert seen.outcome is Outcome.NOT_RUN, seen.detail
    assert "nobody saw its request arrive" in seen.detail


@pytest.mark.parametrize("how", [Proxy.MUTE, Proxy.HASTY])
async def test_an_app_may_be_slow_while_its_request_is_seen_to_arrive(how: Proxy) -> None:
    seen = await fought(how)
    assert seen.outcome is Outcome.REFUSED, seen.detail


async def test_a_deaf_witness_is_no_witness(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has what the kernel still has, which is little, when it is asked at last."""
    monkeypatch.setattr(tap, "BUFFER_BYTES", 0)
    monkeypatch.setattr(tap._Ear, "_listen", lambda _: None)
    seen = await fought(Proxy.FAIR)
    assert seen.outcome is Outcome.NOT_RUN, seen.detail
