"""What may be said: whatever no grant names must be refused, however it is dressed up."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from watertight.attack.arena import Arena
from watertight.attack.probe import Observation, Probe
from watertight.attack.wire import Closed, dial_unix
from watertight.dataplane.attacks.control import judged_at_door, judged_inside, permitted
from watertight.dataplane.attacks.make import attack
from watertight.dataplane.attacks.replies import Nothing, Seen
from watertight.dataplane.attacks.requests import (
    Request,
    ask_for_tunnel,
    at_door,
    from_inside,
    genuine,
    past_tls,
)
from watertight.dataplane.attacks.ways import (
    FORBIDDEN,
    ONLY_SLASHES,
    Way,
    fill,
    granted,
    ungranted_methods,
    ungranted_paths,
    ways,
)
from watertight.model.system import Protocol, System

OVERRIDES = ("x-http-method-override", "x-http-method", "x-method-override")
ORIGINALS = ("x-original-url", "x-rewrite-url", "x-envoy-original-path")

CLAIMS = (
    ("x-forwarded-client-cert", "URI=spiffe://watertight/anyone"),
    ("x-forwarded-for", "127.0.0.1"),
    ("x-envoy-internal", "true"),
)


def probes(system: System) -> Iterator[Probe]:
    """For every way with grants, from inside and at the door; for every way, other targets."""
    for way in ways(system):
        for authority in _elsewhere(way) if way.speaks_http else ():
            yield attack(
                "grants.connect-elsewhere",
                way.channel,
                f"CONNECT {authority} with the right SVID",
                _connect,
                way,
                authority,
            )
        if not way.grants or not way.speaks_http:
            continue
        for identifier, request in attempts(way):
            if way.from_service:
                yield attack(
                    identifier,
                    way.channel,
                    f"{said(request)} from inside {way.caller}",
                    _inside,
                    way,
                    request,
                )
        for identifier, request in _at_the_door(way):
            yield attack(
                identifier,
                way.channel,
                f"{said(request)} with the right SVID, past {way.caller}'s proxy",
                _door,
                way,
                request,
            )


def said(request: Request) -> str:
    """A request in a report."""
    headers = ", ".join(f"{name}: {value}" for name, value in request.headers)
    return f"{request.method} {request.path}" + (f" with {headers}" if headers else "")


def attempts(way: Way) -> Iterator[tuple[str, Request]]:
    """Probe id and request: what a compromised app would try over a way that has grants."""
    tried: set[str] = set()
    for grant in dict.fromkeys(way.http_grants):
        path = fill(grant.path)
        if method := next(ungranted_methods(way, path), None):
            if path not in tried:
                yield "grants.method", Request(method, path)
            tried.add(path)
            overrides = tuple((name, grant.method) for name in OVERRIDES)
            yield "grants.method-override", Request(method, path, overrides)
    method, path = way.http_grants[0].method, fill(way.http_grants[0].path)
    for wrong in ungranted_paths(way, method):
        yield "grants.path", Request(method, wrong)
    if not granted(way, method, f"/{FORBIDDEN}"):
        yield from _dressed_up(method, path)
    yield from _only_slashes(way)


def _dressed_up(method: str, path: str) -> Iterator[tuple[str, Request]]:
    """Ways to write ``/FORBIDDEN`` so that a careless judge reads a granted path."""
    up = path.count("/")
    shapes = {
        "grants.dot-dot": path + "/.." * up + f"/{FORBIDDEN}",
        "grants.encoded-dot-dot": path + "/%2e%2e" * up + f"/{FORBIDDEN}",
        "grants.dot-dot-parameters": path + "/%2e%2e;" * up + f"/{FORBIDDEN}",
        "grants.encoded-slash": path + "%2f.." * up + f"%2f{FORBIDDEN}",
        "grants.backslash": path + "\\.." * up + f"\\{FORBIDDEN}",
        "grants.encoded-backslash": path + "%5c.." * up + f"%5c{FORBIDDEN}",
        "grants.double-slash": f"//{FORBIDDEN}",
        "grants.query": f"/{FORBIDDEN}?{path}",
        "grants.fragment": f"/{FORBIDDEN}#{path}",
        "grants.null": f"{path}%00/{FORBIDDEN}",
    }
    for identifier, shape in shapes.items():
        yield identifier, Request(method, shape)
    claims = tuple((name, path) for name in ORIGINALS)
    yield "grants.original-url", Request(method, f"/{FORBIDDEN}", claims)


def _only_slashes(way: Way) -> Iterator[tuple[str, Request]]:
    """Ways to write ``/``, where that is not granted, that look like something below it."""
    methods = [g.method for g in sorted(way.http_grants, key=lambda g: g.path != "/**")]
    method = next((m for m in methods if not granted(way, m, "/")), None)
    if method is not None and way.listens.protocol is Protocol.HTTP:
        for shape in ONLY_SLASHES:
            yield "grants.only-slashes", Request(method, shape)


def _at_the_door(way: Way) -> Iterator[tuple[str, Request]]:
    yield from islice(_only_slashes(way), 1)
    method = way.http_grants[0].method
    if wrong := next(ungranted_paths(way, method), None):
        yield "grants.path-at-door", Request(method, wrong)
        yield "grants.claimed-identity", Request(method, wrong, CLAIMS)
    path = fill(way.http_grants[0].path)
    if other := next(ungranted_methods(way, path), None):
        yield "grants.method-at-door", Request(other, path)
    if way.listens.protocol is Protocol.HTTP:
        yield "grants.two-hosts", replace(permitted(way), headers=(("host", FORBIDDEN),))


def _elsewhere(way: Way) -> tuple[str, ...]:
    """Targets that the callee's proxy could reach, were it to obey."""
    port = way.listens.port
    return (
        f"{FORBIDDEN}:{port}",
        f"127.0.0.1:{port}",
        f"{way.callee}:{port + 1 if port < 65_535 else port - 1}",
    )


async def _inside(arena: Arena, way: Way, request: Request) -> Observation:
    return await judged_inside(arena, way, await from_inside(arena, way, request))


async def _door(arena: Arena, way: Way, request: Request) -> Observation:
    seen = await at_door(arena, way, request, await genuine(arena, way))
    return await judged_at_door(arena, way, seen)


async def _connect(arena: Arena, way: Way, authority: str) -> Observation:
    wire = await dial_unix(arena.door(way.callee, way.caller))
    speaks = way.listens.protocol
    try:
        secure = await past_tls(wire, await genuine(arena, way), speaks)
        seen: Seen = await ask_for_tunnel(secure, speaks, authority)
    except Closed as end:
        seen = Nothing(str(end), closed=True)
    finally:
        await wire.close()
    return await judged_at_door(arena, way, seen)
