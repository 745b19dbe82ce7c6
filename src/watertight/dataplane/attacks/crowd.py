"""One caller of a stream fills it with connections; another must be served meanwhile."""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from watertight.attack.arena import Arena
from watertight.attack.inside import InsideWire, dial_inside
from watertight.attack.patience import patiently
from watertight.attack.probe import Observation, Probe, not_run, refused, served
from watertight.attack.wire import Absent, Closed, Wire, dial_unix
from watertight.attack.witness import Witness
from watertight.dataplane.attacks.make import attack
from watertight.dataplane.attacks.requests import TIMEOUT_SECONDS, genuine, past_tls
from watertight.dataplane.attacks.ways import Way, ways
from watertight.model.system import Protocol, System

INSIDE, AT_DOOR = 150, 30
"""Connections that are held at once: from inside, and past the caller's proxy with its SVID."""
HALF_CLOSED, UNREAD, KINDS = 0, 1, 3
"""The third kind is idle."""
LINE = b"watertight\r\n"
UNREAD_BYTES = 262_144
"""What a third of the connections say in all, without reading what is answered: more would be an
attack on the app's processor."""
ANSWER_SECONDS = 2.0
PATIENCE = 3.0


def probes(system: System) -> Iterator[Probe]:
    """For every TCP channel between services."""
    every = [w for w in ways(system) if w.listens.protocol is Protocol.TCP and w.from_service]
    for way in every:
        others = [w for w in every if w.callee == way.callee and w.caller != way.caller]
        victim = others[0] if others else way
        made = attack(
            "exhaust.connections",
            way.channel,
            f"{INSIDE + AT_DOOR} connections of {way.caller} to {way.callee}, idle, half closed "
            f"and unread, while {victim.caller} asks",
            _crowd,
            way,
            victim,
        )
        yield replace(made, patience=PATIENCE, costly=True)


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of one line to the app."""

    arrived: bool
    """True, too, where nobody may look."""
    answered: int
    """Bytes."""
    end: str
    """Empty while the connection is open."""

    def __str__(self) -> str:
        where = "" if self.arrived else ", and the line never reached the app"
        return f"{self.answered} bytes{where}" + (f", then: {self.end}" if self.end else "")


async def _crowd(arena: Arena, way: Way, victim: Way) -> Observation:
    async with arena.witness(way.callee, way.listens.port) as witness, AsyncExitStack() as held:
        usual = await _ask(arena, victim, witness)
        if not usual.arrived or (usual.end and not usual.answered):
            return not_run(f"{victim.caller} itself gets {usual}")
        taken = await _fill(arena, way, held)
        for _ in range(2):
            seen = await _ask(arena, victim, witness)
            if seen.arrived and bool(seen.answered) == bool(usual.answered):
                continue
            await held.aclose()
            if str(await _ask(arena, victim, witness)) == str(seen):
                return not_run(f"{victim.caller} gets {seen}, now also undisturbed")
            return served(f"while {taken} are held, {victim.caller} gets {seen}")
    look = "" if witness is not None else "; no witness"
    return refused(f"{taken} held, and {victim.caller} was answered as before{look}")


async def _fill(arena: Arena, way: Way, held: AsyncExitStack) -> int:
    """Opens what can be opened; how many were taken."""
    inside = await arena.inside(way.caller)
    host = arena.address(way.caller, way.callee)
    hello = await genuine(arena, way)

    async def from_inside() -> Wire:
        return await dial_inside(inside, host, way.listens.port, timeout_seconds=TIMEOUT_SECONDS)

    async def at_door() -> Wire:
        wire = await dial_unix(arena.door(way.callee, way.caller))
        return await past_tls(wire, hello, Protocol.TCP)

    async def one(number: int) -> bool:
        try:
            wire = await (from_inside() if number < INSIDE else at_door())
        except (Absent, Closed, TimeoutError):
            return False
        held.push_async_callback(wire.close)
        try:
            await _misuse(wire, number % KINDS)
        except (Closed, TimeoutError):
            return False
        return True

    # Those that the app may end at once come last: they would leave room behind.
    numbers = range(INSIDE + AT_DOOR)
    waves = (
        [n for n in numbers if n % KINDS != HALF_CLOSED],
        [n for n in numbers if n % KINDS == HALF_CLOSED],
    )
    return sum([sum(await asyncio.gather(*map(one, wave))) for wave in waves])


async def _misuse(wire: Wire, kind: int) -> None:
    if kind == HALF_CLOSED:
        await wire.send(b"\r\n")
        if isinstance(wire, InsideWire):
            await wire.finish()
    elif kind == UNREAD:
        async with patiently(TIMEOUT_SECONDS):
            await wire.send(LINE * (UNREAD_BYTES * KINDS // (INSIDE + AT_DOOR) // len(LINE)))


async def _ask(arena: Arena, way: Way, witness: Witness | None) -> Asked:
    """A line on a connection of its own, and the beginning of what is answered."""
    mark = f"wt{secrets.token_hex(6)}".encode()
    inside = await arena.inside(way.caller)
    host = arena.address(way.caller, way.callee)
    port = way.listens.port
    try:
        wire = await dial_inside(inside, host, port, timeout_seconds=TIMEOUT_SECONDS)
    except Absent as gone:
        return Asked(witness is None, 0, str(gone))
    answered, end = 0, ""
    try:
        await wire.send(mark + b"\r\n")
        received = await wire.receive(ANSWER_SECONDS)
        answered, end = len(received), "" if received else "closed"
    except TimeoutError:
        pass
    except Closed as closed:
        end = str(closed)
    finally:
        await wire.close()
    return Asked(witness is None or bool(witness.conversations(mark)), answered, end)
