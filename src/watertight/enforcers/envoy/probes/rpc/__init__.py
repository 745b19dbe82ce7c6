"""One gRPC caller against another at the same app: what HTTP/2 lets streams and connections do."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from watertight.enforcers.contract import Probe
from watertight.enforcers.envoy.probes import edge
from watertight.enforcers.envoy.probes.desync.sides import (
    Caller,
    Outsider,
    Person,
    Thief,
    requests_of,
    victim_of,
)
from watertight.enforcers.envoy.probes.make import attack
from watertight.enforcers.envoy.probes.rpc.duel import Meeting, fight
from watertight.enforcers.envoy.probes.rpc.fields import calls
from watertight.enforcers.envoy.probes.rpc.floods import floods
from watertight.enforcers.envoy.probes.rpc.strike import Strike
from watertight.enforcers.envoy.probes.ways import ways
from watertight.model.system import Protocol, System

PATIENCE = 3.0
"""All of them meet at one app, which may serve few at once."""


def probes(system: System) -> Iterator[Probe]:
    """For every gRPC channel, from inside and at the door, and for each such app at the gateway."""
    for way in ways(system):
        if way.listens.protocol is Protocol.GRPC and way.from_service:
            request = requests_of(way)[0]
            attackers = (Caller(way, request), Thief(way, request))
            meeting = Meeting(attackers, victim_of(system, way), way.callee, way.listens.port)
            yield from _probes(way.channel, meeting)
    gateway = system.gateway
    for name, service in system.services.items():
        routes = system.routes_to(name)
        if gateway is None or not routes or service.listens is None:
            continue
        if service.listens.protocol is Protocol.GRPC:
            open_first = sorted(routes, key=lambda route: route.require is not None)
            attacker, victim = (Outsider(gateway, open_first[i]) for i in (0, -1))
            yield from _probes(
                edge.CHANNEL, Meeting((attacker,), victim, name, service.listens.port)
            )


def _probes(channel: str, meeting: Meeting) -> Iterator[Probe]:
    for identifier, strikes in {**calls(), **floods()}.items():
        how = strikes[0].what if len(strikes) == 1 else f"{len(strikes)} ways"
        made = attack(
            identifier,
            channel,
            f"{' and '.join(p.name for p in _who(meeting, strikes))} against "
            f"{meeting.victim.name} at {meeting.app}: {how}",
            fight,
            meeting,
            strikes,
        )
        yield replace(made, patience=PATIENCE)


def _who(meeting: Meeting, strikes: Sequence[Strike]) -> list[Person]:
    """Those of the attackers who have something to try."""
    passing = all(strike.past_proxy for strike in strikes)
    return [p for p in meeting.attackers if not (passing and isinstance(p, Caller))]
