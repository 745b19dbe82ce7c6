"""Paths that can be written in several ways: no spelling passes by a route, and what one route
takes of ``%2F``, ``//`` or reserved characters opens nothing but itself."""

from collections.abc import Iterator
from urllib.parse import quote

from watertight.attack.arena import Arena
from watertight.attack.probe import Observation, Probe
from watertight.dataplane.attacks import edge
from watertight.dataplane.attacks.edge import CHANNEL, Edge, ask, to_route
from watertight.dataplane.attacks.make import attack
from watertight.dataplane.attacks.ways import FORBIDDEN, ONLY_SLASHES, SEGMENT, covers
from watertight.model.system import Gateway, Route

RESERVED = frozenset(":@$!'()*+,;=&")
"""RFC 3986 section 2.2, as far as a path may hold them."""
RAW = '[x]{y}|^`"<>~'
"""What clients send unescaped, and a matcher that keeps to the RFC does not know."""


def probes(gateway: Gateway) -> Iterator[Probe]:
    """For a gateway that has such routes."""
    takes_escaped = any(route.escaped_slashes for route in gateway.routes)
    takes_double = any(route.double_slashes for route in gateway.routes)
    yield from _only_slashes(gateway)
    for route in gateway.routes:
        request = to_route(gateway, route)
        if takes_escaped and not route.escaped_slashes:
            yield _try("gateway.escaped-slash-elsewhere", request, f"{request.path}%2F", route)
        if takes_double and not route.double_slashes:
            yield _try("gateway.double-slash-elsewhere", request, f"/{request.path}", route)
        if route.escaped_slashes:
            base = request.path.rpartition("/")[0]
            for step in ("..%2F", "%2e%2e%2f", f"{FORBIDDEN}%2F..%2F..%2F", "..%5C"):
                yield _try("gateway.escaped-step", request, f"{base}/{step}{FORBIDDEN}", route)
        escaped = "/".join(map(_escaped, request.path.split("/")))
        if route.require is not None and escaped != request.path:
            yield _try("gateway.other-spelling", request, escaped, route, bare=True)
        for spelt in _forgiven(gateway, route, request):
            yield _try("gateway.other-spelling", request, spelt, route, bare=True)
        if route.require is not None and SEGMENT in request.path:
            raw = request.path.replace(SEGMENT, RAW)
            yield _try("gateway.raw-characters", request, raw, route, bare=True)


def _forgiven(gateway: Gateway, route: Route, request: Edge) -> Iterator[str]:
    """What many routers take for the path, where an open route of the same service takes it."""
    if route.require is None or request.path == "/":
        return
    behind = gateway.routes[gateway.routes.index(route) + 1 :]
    broader = [
        other.path
        for other in behind
        if other.target == route.target
        and other.require is None
        and request.method in other.methods
        and "*" in other.path
    ]
    head, _, last = request.path.rpartition("/")
    for spelt in (
        *(f"{request.path}{end}" for end in ("/", ";x=y", ".", "%20", "/;x", "\\", "%09")),
        f"{head}/{last.swapcase()}",
    ):
        plain = spelt.replace("\\", "/")
        if not covers(route.path, plain) and any(covers(path, plain) for path in broader):
            yield spelt


def _only_slashes(gateway: Gateway) -> Iterator[Probe]:
    """Ways to write ``/``, where no open route takes that, at the routes that take the most."""
    for route in sorted(gateway.routes, key=lambda route: route.path != "/**"):
        method = route.methods[0]
        if not any(
            covers(open_.path, "/") and method in open_.methods
            for open_ in gateway.routes
            if open_.require is None
        ):
            for shape in ONLY_SLASHES:
                request = Edge(gateway, method, shape)
                # A token for all else opens no `/` that asks for more.
                bare = route.path != "/**"
                yield _try("gateway.only-slashes", request, shape, route, bare=bare)
            return


def _escaped(segment: str) -> str:
    return "".join(quote(c, safe="") if c in RESERVED else c for c in segment)


def _try(identifier: str, request: Edge, path: str, route: Route, *, bare: bool = False) -> Probe:
    """``bare``: without the token, for which the route asks in every spelling of its path."""
    attempt = f"{request.method} {path}" + (" without a token" if bare else "")
    changed = Edge(request.gateway, request.method, path, body=request.body)
    return attack(identifier, CHANNEL, attempt, _refused, changed, route, bare)


async def _refused(arena: Arena, request: Edge, route: Route, bare: bool) -> Observation:
    ready = request if bare else await edge.permitted(arena, request, route)
    if ready is None:
        return edge.no_key(route)
    return await edge.judged(arena, route, await ask(ready))
