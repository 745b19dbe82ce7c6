"""What servlet containers read as ``/`` or ``/files/``, where only a ``**`` below it is open.

A segment of parameters only, ``;x``, is an empty one to them (Servlet 6.0, section 3.5.2).
"""

from collections.abc import Iterator

from watertight.attack.arena import Arena
from watertight.attack.probe import Observation, Probe
from watertight.dataplane.attacks import edge
from watertight.dataplane.attacks.control import judged_at_door, judged_inside
from watertight.dataplane.attacks.edge import CHANNEL, Edge, ask, to_route
from watertight.dataplane.attacks.make import attack
from watertight.dataplane.attacks.requests import Request, at_door, from_inside, genuine
from watertight.dataplane.attacks.ways import Way, fill, granted, ways
from watertight.model.system import Gateway, Route, System

BETWEEN = "grants.empty-segment"
PARAMETERS = (";", ";x", "%3bx", ";x/;y")
"""Of an empty segment."""


def probes(system: System) -> Iterator[Probe]:
    """For what ends in ``**``, at the gateway and between services."""
    if system.gateway is not None:
        yield from _of_gateway(system.gateway)
    for way in ways(system):
        if way.speaks_http:
            yield from _of_way(way)


def _of_gateway(gateway: Gateway) -> Iterator[Probe]:
    """For each route that ends in ``**``; with the token that the route itself asks for."""
    for route in gateway.routes:
        request = to_route(gateway, route)
        for path in _shapes(route.path):
            if not _takes(gateway, route, request.method):
                changed = Edge(gateway, request.method, path, body=request.body)
                said = f"{request.method} {path}"
                yield attack("gateway.empty-segment", CHANNEL, said, _edge, changed, route)


def _of_way(way: Way) -> Iterator[Probe]:
    """For each such path that is granted: from inside, and at the door."""
    first = {grant.path: grant for grant in reversed(way.http_grants)}
    for template, grant in first.items():
        if granted(way, grant.method, _base(template)):
            continue
        for path in _shapes(template):
            request = Request(grant.method, path)
            if way.from_service:
                said = f"{grant.method} {path} from inside {way.caller}"
                yield attack(BETWEEN, way.channel, said, _inside, way, request)
            said = f"{grant.method} {path} with the right SVID, past {way.caller}'s proxy"
            yield attack(BETWEEN, way.channel, said, _door, way, request)


def _base(template: str) -> str:
    """Where its ``**`` would stand for nothing."""
    return fill(template.removesuffix("**"))


def _shapes(template: str) -> Iterator[str]:
    if template.endswith("/**"):
        yield from (f"{_base(template)}{end}" for end in PARAMETERS)


def _takes(gateway: Gateway, route: Route, method: str) -> bool:
    return any(
        other.path == _base(route.path) and method in other.methods for other in gateway.routes
    )


async def _edge(arena: Arena, request: Edge, route: Route) -> Observation:
    ready = await edge.permitted(arena, request, route)
    if ready is None:
        return edge.no_key(route)
    return await edge.judged(arena, route, await ask(ready))


async def _inside(arena: Arena, way: Way, request: Request) -> Observation:
    return await judged_inside(arena, way, await from_inside(arena, way, request))


async def _door(arena: Arena, way: Way, request: Request) -> Observation:
    seen = await at_door(arena, way, request, await genuine(arena, way))
    return await judged_at_door(arena, way, seen)
