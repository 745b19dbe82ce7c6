"""One caller's request never becomes another's: desync attacks, with two identities at once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from watertight.attack.probe import Probe
from watertight.dataplane.attacks import edge
from watertight.dataplane.attacks.desync.framed import Framed, framed
from watertight.dataplane.attacks.desync.meeting import Meeting, fight
from watertight.dataplane.attacks.desync.shapes import (
    LONG_PAUSE_SECONDS,
    Shape,
    long_pause,
    shapes,
)
from watertight.dataplane.attacks.desync.sides import (
    Caller,
    Outsider,
    Person,
    Thief,
    requests_of,
    victim_of,
)
from watertight.dataplane.attacks.make import attack
from watertight.dataplane.attacks.ways import FORBIDDEN, covers, granted, may_go_on, ways
from watertight.model.system import Gateway, Protocol, System

PATIENCE = 3.0
"""An app that serves one connection at a time has all of these on it at once."""
HIDDEN = f"/{FORBIDDEN}/hidden"
WITH_EVERY_METHOD = frozenset({"desync.cl-0", "desync.te-0", "desync.pause", "deep.pause"})
"""Tried with each granted method: apps differ in whose bodies they leave unread."""

Ways: TypeAlias = Mapping[str, Sequence[Shape | Framed]]


def probes(system: System, every: Ways | None = None) -> Iterator[Probe]:
    """For every HTTP channel, from inside and at the door, and for each app at the gateway.

    ``every``: probe id → the ways in which it is tried, if not all that are known.
    """
    every = every or {**shapes(), **framed()}
    for way in ways(system):
        if way.listens.protocol is not Protocol.HTTP:
            continue
        victim = victim_of(system, way)
        forbidden = bool(way.grants) and not granted(way, "GET", HIDDEN)
        first, *others = requests_of(way)
        for kind in (Caller, Thief) if way.from_service else (Thief,):
            yield from _probes(way.channel, _meeting(kind(way, first), victim, forbidden), every)
            for other in others:
                meeting = _meeting(kind(way, other), victim, forbidden)
                yield from _probes(way.channel, meeting, every, only=WITH_EVERY_METHOD)
    if system.gateway is not None:
        yield from _at_the_gateway(system, system.gateway, every)


def lasting(system: System) -> Iterator[Probe]:
    """Those of ``verify --deep`` that take minutes each: a pause until a server gives a body up."""
    for probe in probes(system, {"deep.pause": (long_pause(),)}):
        yield replace(probe, deadline_seconds=4 * LONG_PAUSE_SECONDS).waiting()


def _meeting(attacker: Caller | Thief, victim: Person, forbidden: bool) -> Meeting:
    way = attacker.way
    return Meeting(attacker, victim, way.callee, way.listens.port, forbidden)


def _at_the_gateway(system: System, gateway: Gateway, every: Ways) -> Iterator[Probe]:
    forbidden = not any(covers(route.path, HIDDEN) for route in gateway.routes)
    for name, service in system.services.items():
        routes = system.routes_to(name)
        if not routes or service.listens is None or service.listens.protocol is not Protocol.HTTP:
            continue
        ending = [route for route in routes if not may_go_on(route.path)] or routes
        handiest = edge.handiest(ending)
        attacker, victim = (Outsider(gateway, handiest[i]) for i in (0, -1))
        meeting = Meeting(attacker, victim, name, service.listens.port, forbidden)
        yield from _probes(edge.CHANNEL, meeting, every)


def _probes(
    channel: str, meeting: Meeting, every: Ways, *, only: frozenset[str] | None = None
) -> Iterator[Probe]:
    for identifier, ways_to_try in every.items():
        if only is not None and identifier not in only:
            continue
        how = ways_to_try[0].what if len(ways_to_try) == 1 else f"{len(ways_to_try)} ways"
        made = attack(
            identifier,
            channel,
            f"{_what(meeting.attacker)} by {meeting.attacker.name} ({how}) "
            f"while {meeting.victim.name} asks {meeting.app}",
            fight,
            meeting,
            ways_to_try,
        )
        yield replace(made, patience=PATIENCE, costly=True)


def _what(attacker: Person) -> str:
    if not isinstance(attacker, Outsider):
        return f"{attacker.request.method} {attacker.request.path}"
    request = edge.to_route(attacker.gateway, attacker.route)
    return f"{request.method} {request.path}"
