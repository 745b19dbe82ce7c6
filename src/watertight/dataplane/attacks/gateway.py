"""The gateway from outside: its TLS floor, its one host, its declared paths and methods."""

import ssl
from collections.abc import Iterator, Sequence
from dataclasses import replace

from watertight.attack.arena import Arena
from watertight.attack.http import Answer, exchange
from watertight.attack.probe import Observation, Outcome, Probe, not_run, refused, served
from watertight.attack.tls import Hello
from watertight.attack.wire import Closed
from watertight.dataplane.attacks import edge, pages, slashes
from watertight.dataplane.attacks.arrival import seen_to_arrive
from watertight.dataplane.attacks.edge import CHANNEL, Edge, ask, handiest, to_route
from watertight.dataplane.attacks.make import attack, use
from watertight.dataplane.attacks.replies import AT_THE_EDGE, Nothing, Seen, refusal, used
from watertight.dataplane.attacks.requests import (
    TIMEOUT_SECONDS,
    Request,
    at_door,
    genuine,
)
from watertight.dataplane.attacks.ways import FORBIDDEN, METHODS, covers, fill, ways
from watertight.model.system import GATEWAY, Gateway, Route, System

OLD = (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)
WEAK_CIPHERS = "AES128-SHA:AES256-SHA:ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES128-SHA:DES-CBC3-SHA"
MOST_BODY_BYTES = 16 * 1_048_576
"""A bound for ourselves: limits reach to 4 GiB. What is announced is too large all the same."""
SAFETY_HEADERS = ("strict-transport-security", "x-content-type-options", "referrer-policy")
FORGED = (
    ("x-watertight-subject", "admin"),
    ("x-forwarded-client-cert", "URI=spiffe://watertight/anyone"),
    ("x-forwarded-for", "127.0.0.1"),
)


def probes(system: System) -> Iterator[Probe]:
    """Uses of every route, and every attack that needs no token."""
    gateway = system.gateway
    if gateway is None:
        return
    for route in gateway.routes:
        for method in route.methods:
            yield use(
                "gateway.route",
                CHANNEL,
                f"{method} {fill(route.path)}, with what the route requires",
                _route,
                to_route(gateway, route, method=method),
                route,
            )
    yield use("gateway.certificate", CHANNEL, "a certificate for its name", _certificate, gateway)
    yield use("gateway.safety-headers", CHANNEL, ", ".join(SAFETY_HEADERS), _headers, gateway)
    if guarded := next((route for route in gateway.routes if route.require), None):
        yield use("gateway.challenge", CHANNEL, "WWW-Authenticate", _challenge, gateway, guarded)
    yield from _transport(gateway)
    if gateway.routes:  # else nothing can be said that might be taken for what is permitted
        yield from _requests(gateway)


def _transport(gateway: Gateway) -> Iterator[Probe]:
    yield attack("gateway.plaintext", CHANNEL, "HTTP in the clear", _plaintext, gateway)
    old = Hello(versions=OLD, alpn=("http/1.1",), server_name=gateway.hostname)
    yield attack("gateway.version-1.1", CHANNEL, "TLS 1.1 at most", _hello, gateway, old)
    weak = Hello(
        versions=(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2),
        alpn=("http/1.1",),
        ciphers=f"{WEAK_CIPHERS}:@SECLEVEL=0",
        server_name=gateway.hostname,
    )
    what = "TLS 1.2 with CBC and static RSA ciphers only"
    yield attack("gateway.weak-cipher", CHANNEL, what, _hello, gateway, weak)


def _requests(gateway: Gateway) -> Iterator[Probe]:
    first = handiest(gateway.routes)[0]
    right = to_route(gateway, first)
    tries = {
        "gateway.unknown-host": (
            "another host",
            Edge(gateway, right.method, right.path, host=f"{FORBIDDEN}.example"),
        ),
        "gateway.dot-dot-parameters": (
            "dot-dot with parameters, which two proxies in a row could read differently",
            Edge(gateway, right.method, right.path.rstrip("/") + f"/%2e%2e;/{FORBIDDEN}"),
        ),
        "gateway.encoded-slash": (
            "an encoded slash",
            Edge(gateway, right.method, right.path + f"%2f..%2f{FORBIDDEN}"),
        ),
        "gateway.large-header": (
            f"a header of {gateway.max_header_bytes} bytes",
            right.saying("x-verify", "x" * gateway.max_header_bytes),
        ),
        "gateway.many-headers": (
            f"{gateway.max_headers + 1} headers",
            Edge(
                gateway,
                right.method,
                right.path,
                headers=tuple((f"x-verify-{n}", "") for n in range(gateway.max_headers + 1)),
            ),
        ),
        "gateway.two-hosts": ("a second Host", right.saying("host", gateway.hostname)),
        "gateway.odd-port": (
            "a Host with a word for its port",
            Edge(gateway, right.method, right.path, host=f"{gateway.hostname}:{FORBIDDEN}"),
        ),
    }
    if (nowhere := unrouted_path(gateway)) is not None:
        escape = right.path + "/.." * right.path.count("/") + nowhere
        tries |= {
            "gateway.unknown-path": (
                "a path that no route names",
                Edge(gateway, "GET", nowhere),
            ),
            "gateway.dot-dot": ("dot-dot", Edge(gateway, right.method, escape)),
        }
    for route, request in _withheld(gateway):
        what = f"{request.method} {request.path}, which led to the revoked {route.target}"
        yield attack("gateway.revoked-route", CHANNEL, what, _refused_though, request, first)
    for identifier, (what, request) in tries.items():
        attempt = f"{what}: {request.method} {request.path[:80]}"
        yield attack(identifier, CHANNEL, attempt, _refused_though, request, first)
    yield attack(
        "gateway.chunked-http-1.0",
        CHANNEL,
        "HTTP/1.0 with a Transfer-Encoding, which it does not have",
        _chunked_http_1_0,
        right,
        first,
    )
    yield from slashes.probes(gateway)
    yield from pages.probes(gateway)
    tried: set[str] = set()
    for route in gateway.routes:
        request = to_route(gateway, route)
        method = _ungranted(gateway, request.path)
        if method and request.path not in tried:
            tried.add(request.path)
            what = f"{method} {request.path}"
            other = Edge(gateway, method, request.path)
            yield attack("gateway.method", CHANNEL, what, _refused, other, route)
        if route.require is not None:
            forged = Edge(gateway, request.method, request.path, headers=FORGED)
            what = f"{request.method} {request.path} with forged identity headers, no token"
            yield attack("gateway.forged-identity", CHANNEL, what, _refused, forged, route)
        if large := next((m for m in route.methods if m in {"POST", "PUT", "PATCH"}), None):
            size = gateway.max_request_bytes + 1
            what = f"{large} {request.path} with {size} bytes"
            yield attack("gateway.large-body", CHANNEL, what, _large, gateway, route, large)


def _withheld(gateway: Gateway) -> Iterator[tuple[Route, Edge]]:
    """A request for each route of a revoked service, where none before it takes that."""
    earlier: list[Route] = []
    for route, in_force in gateway.in_order():
        request = to_route(gateway, route)
        taken = (r for r in earlier if request.method in r.methods)
        if in_force:
            earlier.append(route)
        elif not any(covers(r.path, request.path) for r in taken):
            yield route, request


def unrouted_path(gateway: Gateway) -> str | None:
    """A path that no route covers, whatever its method; None where routes cover every path.

    ``/`` and ``/**`` leave none: whatever is asked there is the app's to answer, its 404 too.
    """
    near = (f"{fill(route.path).rstrip('/')}/{FORBIDDEN}" for route in gateway.routes)
    tried = (f"/{FORBIDDEN}", f"/{FORBIDDEN}/{FORBIDDEN}", "/", *near)
    return next((p for p in tried if not any(covers(r.path, p) for r in gateway.routes)), None)


def _ungranted(gateway: Gateway, path: str) -> str | None:
    granted = {m for r in gateway.routes if covers(r.path, path) for m in r.methods}
    return next((m for m in METHODS if m not in granted), None)


async def _route(arena: Arena, request: Edge, route: Route) -> Observation:
    ready = await edge.permitted(arena, request, route)
    if ready is None:
        return edge.no_key(route)
    seen = await _asked(arena, ready, route)
    observation = used(seen, AT_THE_EDGE)
    if observation.outcome is Outcome.SERVED or not isinstance(seen, Answer):
        return observation
    if refusal(seen) is None and await _the_app_says(arena, request, route, seen.status):
        return served(f"the app itself answers {seen.status}, without a word")
    return observation


async def _asked(arena: Arena, request: Edge, route: Route) -> Seen:
    listens = arena.system.services[route.target].listens
    if listens is None:
        return await ask(request)

    async def asked(more: Sequence[tuple[str, str]]) -> Seen:
        return await ask(replace(request, headers=(*request.headers, *more)))

    return await seen_to_arrive(arena, route.target, listens.port, asked)


async def _the_app_says(arena: Arena, request: Edge, route: Route, status: int) -> bool:
    """Whether the app gives this status too where nobody but its own proxy could say it.

    An app's bare 404 looks like the gateway's; at the app's door none but the app has one to give.
    """
    way = next(w for w in ways(arena.system) if (w.caller, w.callee) == (GATEWAY, route.target))
    inner = Request(request.method, fill(route.target_path))
    seen = await at_door(arena, way, inner, await genuine(arena, way))
    return isinstance(seen, Answer) and refusal(seen) is None and seen.status == status


async def _refused(arena: Arena, request: Edge, route: Route) -> Observation:
    return await edge.judged(arena, route, await ask(request))


async def _refused_though(arena: Arena, request: Edge, route: Route) -> Observation:
    """Refused although it bears what the route requires: the token is not what is wrong."""
    ready = await edge.permitted(arena, request, route)
    return await _refused(arena, ready, route) if ready else edge.no_key(route)


async def _large(arena: Arena, gateway: Gateway, route: Route, method: str) -> Observation:
    """The head of a message too large, and as much of its body as the gateway takes."""
    size = gateway.max_request_bytes + 1
    small = to_route(gateway, route, method=method)
    announced = Edge(gateway, method, small.path, headers=(("content-length", str(size)),))
    ready = await edge.permitted(arena, announced, route)
    if ready is None:
        return edge.no_key(route)
    data = edge.raw_request(ready) + b"x" * min(size, MOST_BODY_BYTES)
    wire = await edge.dial_tls(gateway)
    try:
        got = await exchange(wire, data, [method], timeout_seconds=TIMEOUT_SECONDS)
    finally:
        await wire.close()
    if not got.answers:
        return await edge.judged(arena, route, Nothing(got.detail, closed=got.closed))
    status = got.answers[0].status
    return refused("413") if status == 413 else served(f"answered {status}")


async def _chunked_http_1_0(arena: Arena, request: Edge, route: Route) -> Observation:
    """Who reads the length after such a head reads it elsewhere (RFC 9112 section 6.1)."""
    ready = await edge.permitted(arena, request, route)
    if ready is None:
        return edge.no_key(route)
    bare = Edge(ready.gateway, ready.method, ready.path, headers=ready.headers)
    chunked = edge.raw_request(bare.saying("transfer-encoding", "chunked")) + b"0\r\n\r\n"
    data = chunked.replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1)
    wire = await edge.dial_tls(ready.gateway)
    try:
        got = await exchange(wire, data, [ready.method], timeout_seconds=TIMEOUT_SECONDS)
    finally:
        await wire.close()
    seen = got.answers[0] if got.answers else Nothing(got.detail, closed=got.closed)
    return await edge.judged(arena, route, seen)


async def _plaintext(_arena: Arena, gateway: Gateway) -> Observation:
    request = Edge(gateway, "GET", "/")
    if gateway.routes:
        request = to_route(gateway, gateway.routes[0])
    wire = await edge.dial(gateway)
    try:
        got = await exchange(
            wire, edge.raw_request(request), [request.method], timeout_seconds=TIMEOUT_SECONDS
        )
    finally:
        await wire.close()
    if got.answers:
        return served(f"answered {got.answers[0].status} in the clear")
    return await _https_lives(gateway, Nothing(got.detail, closed=got.closed))


async def _hello(_arena: Arena, gateway: Gateway, hello: Hello) -> Observation:
    try:
        wire = await edge.dial_tls(gateway, hello)
    except Closed as end:
        return await _https_lives(gateway, Nothing(str(end), closed=True))
    cipher = wire.tls.cipher()
    await wire.close()
    return served(f"{wire.tls.version()}, {cipher[0] if cipher else '?'}")


async def _https_lives(gateway: Gateway, seen: Nothing) -> Observation:
    """A close counts as a refusal only while a client of today is let in."""
    if not seen.closed:
        return not_run(seen.detail)
    try:
        await (await edge.dial_tls(gateway)).close()
    except Closed as end:
        return not_run(f"{seen.detail}; but a client of today is turned away too: {end}")
    return refused(seen.detail)


async def _certificate(arena: Arena, gateway: Gateway) -> Observation:
    """Verified as a browser would: chain to our authority (or equal to the file), and the name."""
    usual = edge.usual(gateway)
    roots = arena.roots()
    if gateway.certificate is not None:
        # A public authority's roots are the client's business; here the chain vouches for itself.
        roots = (arena.placement.project_directory / gateway.certificate).read_bytes()
    hello = Hello(usual.credential, usual.versions, usual.alpn, None, gateway.hostname, roots)
    try:
        wire = await edge.dial_tls(gateway, hello)
    except Closed as end:
        return refused(str(end))
    await wire.close()
    return served(f"{wire.tls.version()}, {gateway.hostname}")


async def _challenge(_arena: Arena, gateway: Gateway, route: Route) -> Observation:
    """A client without a token learns that it needs one (RFC 6750 section 3)."""
    seen = await ask(to_route(gateway, route))
    if not isinstance(seen, Answer):
        return not_run(seen.detail)
    said = seen.header("www-authenticate") or ""
    return served(said) if said.lower().startswith("bearer ") else refused(f"{seen.status}: {said}")


async def _headers(_arena: Arena, gateway: Gateway) -> Observation:
    seen = await ask(Edge(gateway, "GET", f"/{FORBIDDEN}"))
    if not isinstance(seen, Answer):
        return not_run(seen.detail)
    if missing := [name for name in SAFETY_HEADERS if seen.header(name) is None]:
        return refused(f"missing: {', '.join(missing)}")
    return served("all present, on a refusal too")
