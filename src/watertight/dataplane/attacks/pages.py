"""Routes that pages of other origins may use (CORS): those that are named, and no other one."""

from collections.abc import Iterator

from watertight.attack.arena import Arena
from watertight.attack.http import Answer
from watertight.attack.probe import Observation, Probe, not_run, refused, served
from watertight.dataplane.attacks.edge import CHANNEL, Edge, ask, to_route
from watertight.dataplane.attacks.make import attack, use
from watertight.dataplane.attacks.ways import FORBIDDEN
from watertight.model.system import Gateway

ALLOWED = "access-control-allow-origin"


def probes(gateway: Gateway) -> Iterator[Probe]:
    """For a gateway that has such routes."""
    for route in gateway.routes:
        if route.cors is None:
            continue
        request = to_route(gateway, route)
        for origin in route.cors.origins:
            page = f"https://{FORBIDDEN}.example" if origin == "*" else origin
            what = f"{page} may read {request.method} {request.path}, and why it is refused"
            yield use("gateway.cors", CHANNEL, what, _may_read, request, page)
        for foreign in () if "*" in route.cors.origins else _foreign(route.cors.origins[0]):
            what = f"{foreign} reads {request.method} {request.path}"
            yield attack("gateway.foreign-origin", CHANNEL, what, _reads, request, foreign)


def _foreign(origin: str) -> tuple[str, ...]:
    """What a careless check takes for ``origin``: by its beginning, by its end, by no scheme."""
    scheme, _, host = origin.partition("://")
    other = "http" if scheme == "https" else "https"
    return (
        f"{scheme}://{FORBIDDEN}.example",
        f"{origin}.{FORBIDDEN}.example",
        f"{scheme}://{FORBIDDEN}{host}",
        f"{scheme}://{FORBIDDEN}.{host}",
        f"{other}://{host}",
        f"{origin.upper()}",
        "null",
    )


def _preflight(request: Edge, origin: str) -> Edge:
    asks = (("origin", origin), ("access-control-request-method", request.method))
    return Edge(request.gateway, "OPTIONS", request.path, headers=asks)


async def _may_read(_arena: Arena, request: Edge, origin: str) -> Observation:
    """Without a token: the preflight needs none, and the refusal is to be read."""
    for asked in (_preflight(request, origin), request.saying("origin", origin)):
        seen = await ask(asked)
        if not isinstance(seen, Answer):
            return not_run(seen.detail)
        if seen.header(ALLOWED) not in {origin, "*"}:
            return refused(f"{asked.method}: {seen.status} without {ALLOWED}")
        preflight = asked.method == "OPTIONS" and request.method != "OPTIONS"
        if preflight and not 200 <= seen.status < 300:
            return refused(f"the preflight is answered {seen.status}")
        kept = ",".join(value for name, value in seen.headers if name == "vary").lower()
        if not preflight and "origin" not in kept:
            return refused("no `Vary: Origin`: a cache gives it to other pages")
    return served(f"{ALLOWED}: {origin}")


async def _reads(_arena: Arena, request: Edge, origin: str) -> Observation:
    statuses = []
    for asked in (_preflight(request, origin), request.saying("origin", origin)):
        seen = await ask(asked)
        if not isinstance(seen, Answer):
            return not_run(seen.detail)
        if (told := seen.header(ALLOWED)) is not None:
            return served(f"{asked.method}: {seen.status}, {ALLOWED}: {told}")
        statuses.append(seen.status)
    return refused(f"{' and '.join(map(str, statuses))}, no {ALLOWED}")
