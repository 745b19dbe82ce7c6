"""One against another in HTTP/2: what streams and connections let the one do to the other.

Callers of one gRPC app, and users of the gateway, whatever it asks of whom.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from watertight.attack.probe import Probe
from watertight.dataplane.attacks import edge
from watertight.dataplane.attacks.desync.sides import (
    Caller,
    Outsider,
    Person,
    Thief,
    requests_of,
    victim_of,
)
from watertight.dataplane.attacks.make import attack
from watertight.dataplane.attacks.rpc.duel import Meeting, fight
from watertight.dataplane.attacks.rpc.fields import calls
from watertight.dataplane.attacks.rpc.floods import floods
from watertight.dataplane.attacks.rpc.strike import Strike
from watertight.dataplane.attacks.ways import ways
from watertight.model.system import Gateway, Protocol, System

PATIENCE = 3.0
PATIENCE_FOR_A_CALLER = 2.0
"""All of them meet at one app, and wait for one another."""


def probes(system: System) -> Iterator[Probe]:
    """For every gRPC channel, from inside and at the door, and for each such app at the gateway."""
    for way in ways(system):
        if way.listens.protocol is Protocol.GRPC and way.from_service:
            request = requests_of(way)[0]
            attackers = (Caller(way, request), Thief(way, request))
            meeting = Meeting(attackers, victim_of(system, way), way.callee, way.listens.port)
            patience = PATIENCE + PATIENCE_FOR_A_CALLER * len(list(system.incoming(way.callee)))
            for probe in _probes(way.channel, meeting):
                yield replace(probe, patience=patience)
    if system.gateway is not None:
        yield from _at_the_gateway(system, system.gateway)


def _at_the_gateway(system: System, gateway: Gateway) -> Iterator[Probe]:
    """Its users share an identity, but not what HTTP/2 shares. One app stands for all in HTTP/1."""
    tried = False
    for name, service in system.services.items():
        routes, listens = system.routes_to(name), service.listens
        if not routes or listens is None:
            continue
        open_first = sorted(routes, key=lambda route: route.require is not None)
        attacker, victim = (Outsider(gateway, open_first[i]) for i in (0, -1))
        meeting = Meeting((attacker,), victim, name, listens.port, listens.protocol)
        if listens.protocol is Protocol.GRPC:
            yield from _probes(edge.CHANNEL, meeting)
        elif not tried:
            tried = True
            every = [strike for strikes in floods().values() for strike in strikes]
            every = [strike for strike in every if not strike.starves]  # that would be the app's
            yield _probe("gateway.frames", edge.CHANNEL, meeting, every)


def _probes(channel: str, meeting: Meeting) -> Iterator[Probe]:
    for identifier, strikes in {**calls(), **floods()}.items():
        yield _probe(identifier, channel, meeting, strikes)


def _probe(identifier: str, channel: str, meeting: Meeting, strikes: Sequence[Strike]) -> Probe:
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
    return replace(made, patience=PATIENCE, costly=True)


def _who(meeting: Meeting, strikes: Sequence[Strike]) -> list[Person]:
    """Those of the attackers who have something to try."""
    passing = all(strike.past_proxy for strike in strikes)
    return [p for p in meeting.attackers if not (passing and isinstance(p, Caller))]
