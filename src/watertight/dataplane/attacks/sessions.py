"""Time: sessions used again, and clients that say nothing until everybody has forgotten them."""

import asyncio
import ssl
import time
from collections.abc import Iterator

from watertight.attack.arena import Arena
from watertight.attack.http import exchange, request_bytes
from watertight.attack.places import idle
from watertight.attack.probe import Observation, Probe, not_run, refused, served
from watertight.attack.tls import Hello, TLSWire, handshake
from watertight.attack.wire import Closed, Wire, dial_unix
from watertight.dataplane.attacks.control import judged_at_door
from watertight.dataplane.attacks.make import attack
from watertight.dataplane.attacks.replies import Nothing, Seen
from watertight.dataplane.attacks.requests import (
    TIMEOUT_SECONDS,
    ask_for_tunnel,
    genuine,
    let_in,
    past_tls,
)
from watertight.dataplane.attacks.ways import FORBIDDEN, Way, ways
from watertight.model.system import System

SILENCE_SECONDS = 1.5
PATIENCE_SECONDS = 10.0
"""A peer that does not even start TLS must be shown out within this."""


def probes(system: System) -> Iterator[Probe]:
    """For every door: tickets, resumption, and silence; for every callee: silence without end."""
    first = {way.callee: way for way in reversed(list(ways(system)))}
    for way in first.values():
        yield attack(
            "sessions.silent-forever",
            way.channel,
            f"a connection that never says anything, held for {PATIENCE_SECONDS:g} s",
            _silent_forever,
            way,
        ).waiting()
    for way in ways(system):
        for probe in _resumed(way):
            yield probe if way.speaks_http else probe.waiting()
        yield attack(
            "sessions.silent-then-plaintext",
            way.channel,
            f"nothing for {SILENCE_SECONDS:g} s, then a request in the clear",
            _silent_then_plaintext,
            way,
        ).waiting()
        if way.speaks_http:
            yield attack(
                "sessions.silent-then-elsewhere",
                way.channel,
                f"TLS, nothing for {SILENCE_SECONDS:g} s, then CONNECT to what was not granted",
                _silent_then_elsewhere,
                way,
            ).waiting()


def _resumed(way: Way) -> Iterator[Probe]:
    yield attack(
        "sessions.ticket",
        way.channel,
        "a session ticket is asked for with the right SVID",
        _ticket,
        way,
    )
    yield attack(
        "sessions.resumption",
        way.channel,
        "an earlier session is resumed, so that no certificate is looked at",
        _resumption,
        way,
    )


async def _session(arena: Arena, way: Way, hello: Hello, earlier: TLSWire | None = None) -> TLSWire:
    """A finished connection whose server has had its chance to send tickets."""
    speaks = way.listens.protocol
    wire = await dial_unix(arena.door(way.callee, way.caller))
    try:
        secure = (
            await handshake(wire, hello, timeout_seconds=TIMEOUT_SECONDS, earlier=earlier)
            if earlier
            else await past_tls(wire, hello, speaks)
        )
        await let_in(secure, speaks)
    finally:
        await wire.close()
    return secure


async def _ticket(arena: Arena, way: Way) -> Observation:
    try:
        secure = await _session(arena, way, await genuine(arena, way))
    except Closed as end:
        return not_run(f"the right caller is turned away: {end}")
    session = secure.tls.session
    if session is not None and session.has_ticket:
        return served(f"a ticket for {session.ticket_lifetime_hint} s")
    return refused("no ticket came with the handshake")


async def _resumption(arena: Arena, way: Way) -> Observation:
    try:
        first = await _session(arena, way, await genuine(arena, way))
        second = await _session(arena, way, Hello(), first)
    except (Closed, ssl.SSLError) as end:
        return not_run(f"the right caller is turned away: {end}")
    if second.tls.session_reused:
        return served("the session was resumed")
    return refused("a full handshake, with certificates, was asked for")


async def _silent_forever(arena: Arena, way: Way) -> Observation:
    wire = await dial_unix(arena.door(way.callee, way.caller))
    started = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):  # by the clock of the door, however busy
            with idle():
                data = await wire.receive(PATIENCE_SECONDS)
    except TimeoutError:
        return served(f"still held after {PATIENCE_SECONDS:g} s")
    except Closed as end:
        return refused(f"{end} after {time.monotonic() - started:.0f} s")
    finally:
        await wire.close()
    if data:
        return served(f"the door spoke first: {len(data)} bytes")
    return refused(f"closed after {time.monotonic() - started:.0f} s")


async def _silent_then_plaintext(arena: Arena, way: Way) -> Observation:
    wire = await dial_unix(arena.door(way.callee, way.caller))
    data = request_bytes("GET", "/", [("host", way.authority), ("connection", "close")])
    try:
        with idle():
            await asyncio.sleep(SILENCE_SECONDS)  # the attack itself
        got = await exchange(wire, data, ["GET"], timeout_seconds=TIMEOUT_SECONDS)
    finally:
        await wire.close()
    if got.answers:
        return served(f"answered {got.answers[0].status} in the clear")
    return await judged_at_door(arena, way, Nothing(got.detail, closed=got.closed))


async def _silent_then_elsewhere(arena: Arena, way: Way) -> Observation:
    wire = await dial_unix(arena.door(way.callee, way.caller))
    try:
        return await judged_at_door(arena, way, await _elsewhere_late(arena, way, wire))
    finally:
        await wire.close()


async def _elsewhere_late(arena: Arena, way: Way, wire: Wire) -> Seen:
    speaks = way.listens.protocol
    try:
        secure = await past_tls(wire, await genuine(arena, way), speaks)
        with idle():
            await asyncio.sleep(SILENCE_SECONDS)  # the attack itself
        return await ask_for_tunnel(secure, speaks, f"{FORBIDDEN}:{way.listens.port}")
    except Closed as end:
        return Nothing(str(end), closed=True)
