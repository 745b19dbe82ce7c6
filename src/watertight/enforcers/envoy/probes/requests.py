"""One request, from inside the caller's sandbox or straight at the callee's door."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from watertight.enforcers.attack.http import Answer, Headers, exchange, request_bytes
from watertight.enforcers.attack.http2 import HTTP2, Tunnel, connect
from watertight.enforcers.attack.inside import dial_inside
from watertight.enforcers.attack.tls import Hello, handshake
from watertight.enforcers.attack.wire import Closed, Wire, dial_unix
from watertight.enforcers.contract import Arena
from watertight.enforcers.envoy.probes.replies import Nothing, Seen, refusal
from watertight.enforcers.envoy.probes.ways import Way
from watertight.model.system import Protocol

TIMEOUT_SECONDS = 5.0
AGENT = "watertight-verify"
EMPTY_RPC = b"\0\0\0\0\0"
"""A gRPC message of no bytes (gRPC over HTTP/2, "Length-Prefixed-Message")."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked; headers beside those that every request has."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()


async def from_inside(arena: Arena, way: Way, request: Request) -> Seen:
    """One request of the caller's own app. Raises ``Absent`` if nothing takes its connection."""
    inside = await arena.inside(way.caller)
    host = arena.address(way.caller, way.callee)
    wire = await dial_inside(inside, host, way.listens.port, timeout_seconds=TIMEOUT_SECONDS)
    return await _seen(lambda: _speak(wire, way, request), wire)


async def at_door(arena: Arena, way: Way, request: Request, hello: Hello) -> Seen:
    """One request straight at the callee's door, past the caller's proxy.

    Tried both ways that a door may be meant, as a plain HTTP/2 request and through CONNECT: what
    got through either way is what was seen, else how the way that this callee's door is made for
    was refused. Raises ``Absent``.
    """
    seen: list[Seen] = []
    for attempt in (_plainly, _tunnelled):
        wire = await dial_unix(arena.door(way.callee, way.caller))
        seen.append(await _seen(lambda: attempt(wire, way, request, hello), wire))  # noqa: B023
    plain, tunnelled = seen
    through = isinstance(tunnelled, Answer) and refusal(tunnelled) is None
    return tunnelled if through or not way.speaks_http else plain


async def open_door(wire: Wire, hello: Hello) -> HTTP2:
    """TLS, then HTTP/2 up to the server's SETTINGS: only then has it accepted our certificate.

    Raises ``Alert``, ``Closed``, ``TimeoutError``.
    """
    secure = await handshake(wire, hello, timeout_seconds=TIMEOUT_SECONDS)
    return await connect(secure, timeout_seconds=TIMEOUT_SECONDS)


async def genuine(arena: Arena, way: Way) -> Hello:
    """The hello of the right caller."""
    return Hello(credential=await arena.svid(way.caller))


async def ask_for_tunnel(connection: HTTP2, authority: str) -> Seen:
    """The answer to CONNECT; 200 if the tunnel is open. No app ever answers a CONNECT."""
    tunnel = await connection.connect(authority)
    return Answer(200) if isinstance(tunnel, Tunnel) else _no_tunnel(tunnel)


def _no_tunnel(answer: Answer) -> Seen:
    if answer.status >= 500:
        return answer  # let through, and nobody there
    return Nothing(f"CONNECT answered {answer.status}", closed=True)


def headers_of(way: Way, request: Request) -> Headers:
    """The headers of a request, for this protocol."""
    grpc = [("content-type", "application/grpc"), ("te", "trailers")]
    extra = grpc if way.listens.protocol is Protocol.GRPC else []
    return [("user-agent", AGENT), *extra, *request.headers]


async def _speak(wire: Wire, way: Way, request: Request) -> Seen:
    """The request in the protocol of the callee, on a wire that leads to its app."""
    if way.listens.protocol is Protocol.GRPC:
        connection = await connect(wire, timeout_seconds=TIMEOUT_SECONDS)
        return await _ask(connection, way, request)
    body = b"{}" if request.method in {"POST", "PUT", "PATCH"} else b""
    kind = [("content-type", "application/json")] if body else []
    headers = [("host", way.authority), *headers_of(way, request), *kind]
    data = request_bytes(request.method, request.path, [*headers, ("connection", "close")], body)
    got = await exchange(wire, data, [request.method], timeout_seconds=TIMEOUT_SECONDS)
    if got.answers:
        return got.answers[0]
    return Nothing(got.detail, closed=got.closed)


async def _ask(connection: HTTP2, way: Way, request: Request) -> Answer:
    grpc = way.listens.protocol is Protocol.GRPC
    return await connection.request(
        request.method,
        request.path,
        authority=way.authority,
        headers=headers_of(way, request),
        body=EMPTY_RPC if grpc else b"",
    )


async def _plainly(wire: Wire, way: Way, request: Request, hello: Hello) -> Seen:
    return await _ask(await open_door(wire, hello), way, request)


async def _tunnelled(wire: Wire, way: Way, request: Request, hello: Hello) -> Seen:
    tunnel = await (await open_door(wire, hello)).connect(way.authority)
    if not isinstance(tunnel, Tunnel):
        return _no_tunnel(tunnel)
    if not way.speaks_http:
        return Answer(200)  # the tunnel to the app is open: Envoy answers once it has connected
    return await _speak(tunnel, way, request)


async def _seen(attempt: Callable[[], Awaitable[Seen]], wire: Wire) -> Seen:
    """The attempt's answer, or that there was none; the wire is closed in any case."""
    try:
        async with asyncio.timeout(2 * TIMEOUT_SECONDS):
            return await attempt()
    except Closed as end:
        return Nothing(str(end), closed=True)
    except TimeoutError:
        return Nothing("no answer", closed=False)
    finally:
        await wire.close()
