"""Answers that nobody reads: one caller asks for many, and both proxies must hold little of them.

Each connection asks for what is granted and then takes nothing. What piles up in a proxy's memory
is asked of the proxy itself, through its admin socket; meanwhile somebody else must be answered.
"""

import asyncio
import json
import secrets
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace

from watertight.attack.arena import Arena
from watertight.attack.http import exchange, request_bytes
from watertight.attack.places import idle
from watertight.attack.probe import Observation, Probe, no_key, refused, served
from watertight.attack.probe import not_run as cannot
from watertight.attack.wire import Absent, Closed, Wire, dial_unix
from watertight.dataplane.attacks import edge
from watertight.dataplane.attacks.control import permitted
from watertight.dataplane.attacks.desync.sides import (
    Caller,
    NoKey,
    Person,
    Side,
    outsiders,
    victim_of,
)
from watertight.dataplane.attacks.make import attack
from watertight.dataplane.attacks.requests import TIMEOUT_SECONDS
from watertight.dataplane.attacks.ways import ways
from watertight.model.system import GATEWAY, Protocol, System

HELD = 100
"""Connections at once."""
LARGE_BYTES = 1 << 20
"""An answer of fewer bytes tells nothing: sockets and windows hold most of it."""
MOST_BYTES = 400 << 10
"""What a proxy may keep for one of them, TLS and all …"""
SLACK_BYTES = 16 << 20
"""… and beside them, whatever else it does meanwhile."""
SETTLED_SECONDS, LONGEST_SECONDS = 0.3, 6.0
PATIENCE = 4.0
UNSAID = "no proxy said how much memory it holds"


def probes(system: System) -> Iterator[Probe]:
    """For every HTTP channel between services, and for each app at the gateway."""
    for way in ways(system):
        if way.from_service and way.listens.protocol is Protocol.HTTP:
            person = Caller(way, permitted(way))
            proxies = (way.caller, way.callee)
            yield _probe(way.channel, person, victim_of(system, way), proxies)
    for name, _listens, outsider in outsiders(system):
        yield _probe(edge.CHANNEL, outsider, outsider, (GATEWAY, name))


def _probe(channel: str, person: Person, victim: Person, proxies: tuple[str, str]) -> Probe:
    made = attack(
        "exhaust.unread",
        channel,
        f"{HELD} answers of {proxies[1]} that {person.name} does not read, "
        f"while {victim.name} asks",
        _unread,
        person,
        victim,
        proxies,
    )
    return replace(made, patience=PATIENCE, costly=True)


async def _unread(
    arena: Arena, person: Person, victim: Person, proxies: tuple[str, str]
) -> Observation:
    try:
        size = await _size(await person.side(arena, _mark()))
        if size < LARGE_BYTES:
            return refused(f"its answer has {size} bytes: too few to fill a proxy")
        usual = await _status(await victim.side(arena, _mark()))
        if not usual:
            return cannot(f"{victim.name} is not answered, whether or not others read")
        before = {proxy: await _heap_bytes(arena, proxy) for proxy in proxies}
    except NoKey as missing:
        return no_key(str(missing))
    except (Absent, Closed) as gone:
        return cannot(f"before anything was tried: {gone}")
    except (ValueError, KeyError):
        return cannot(UNSAID)
    async with AsyncExitStack() as held:
        taken = sum([await _leave(arena, person, held) for _ in range(HELD)])
        if not taken:
            return cannot(f"no connection of {person.name} was let in")
        return await _came_of(arena, taken, victim, usual, before)


async def _came_of(
    arena: Arena, taken: int, victim: Person, usual: bytes, before: dict[str, int]
) -> Observation:
    """What the proxies and the other one feel while so many answers are left unread."""
    try:
        grown = await _grown(arena, before)
    except (Absent, Closed) as gone:
        return served(f"{taken} unread answers, and a proxy is gone: {gone}")
    except (ValueError, KeyError):
        return cannot(UNSAID)
    seen = await _status(await victim.side(arena, _mark()))
    said = ", ".join(f"{proxy} {extra >> 20} MiB" for proxy, extra in grown.items())
    what = f"{taken} unread answers: {said}"
    if max(grown.values()) > taken * MOST_BYTES + SLACK_BYTES:
        return served(what)
    if seen != usual:
        return served(f"{what}; and {victim.name} got {seen!r}, not {usual!r}")
    return refused(f"{what}; {victim.name} was answered")


def _mark() -> str:
    return f"wt{secrets.token_hex(6)}"


def _closing(side: Side) -> bytes:
    return side.saying(("connection", "close")).plain()


async def _size(side: Side) -> int:
    """How much the app answers, as far as it matters here."""
    wire = await side.dial()
    size = 0
    try:
        await wire.send(_closing(side))
        while size < LARGE_BYTES and (received := await wire.receive(TIMEOUT_SECONDS)):
            size += len(received)
    except (TimeoutError, Closed):
        pass
    finally:
        await wire.close()
    return size


async def _leave(arena: Arena, person: Person, held: AsyncExitStack) -> bool:
    """Asks on a connection of its own and takes nothing; whether it was let in."""
    try:
        side = await person.side(arena, _mark())
        wire: Wire = await side.dial()
    except (Absent, Closed, TimeoutError):
        return False
    held.push_async_callback(wire.close)
    try:
        await wire.send(_closing(side))
    except Closed:
        return False
    return True


async def _status(side: Side) -> bytes:
    """The first line of what is answered: the rest may be long. Nothing where nobody answers."""
    try:
        wire = await side.dial()
    except (TimeoutError, Absent, Closed):
        return b""
    try:
        await wire.send(_closing(side))
        received = await wire.receive(TIMEOUT_SECONDS)
    except (TimeoutError, Closed):
        return b""
    finally:
        await wire.close()
    return received.split(b"\r\n", 1)[0]


async def _grown(arena: Arena, before: dict[str, int]) -> dict[str, int]:
    """What each proxy holds more, once that changes no longer."""
    last, seconds = -1, 0.0
    while True:
        now = {proxy: await _heap_bytes(arena, proxy) for proxy in before}
        if abs(sum(now.values()) - last) < SLACK_BYTES >> 5 or seconds >= LONGEST_SECONDS:
            return {proxy: max(0, size - before[proxy]) for proxy, size in now.items()}
        last = sum(now.values())
        with idle():
            await asyncio.sleep(SETTLED_SECONDS)
        seconds += SETTLED_SECONDS


async def _heap_bytes(arena: Arena, proxy: str) -> int:
    """What a proxy has allocated (Envoy, "Administration interface", ``/memory``)."""
    wire = await dial_unix(arena.placement.admin_socket(proxy))
    try:
        request = request_bytes("GET", "/memory", [("host", "admin"), ("connection", "close")])
        got = await exchange(wire, request, ["GET"], timeout_seconds=TIMEOUT_SECONDS)
    finally:
        await wire.close()
    (answer,) = got.answers
    return int(json.loads(answer.body)["allocated"])
