"""One request, from inside the caller's sandbox or straight at the callee's door."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from watertight.attack.arena import Arena
from watertight.attack.http import Answer, Headers, exchange, request_bytes
from watertight.attack.http2 import HTTP2, Tunnel, connect
from watertight.attack.inside import dial_inside
from watertight.attack.patience import patiently
from watertight.attack.places import idle
from watertight.attack.tls import Alert, Hello, TLSWire, handshake
from watertight.attack.wire import Closed, Wire, dial_unix
from watertight.dataplane.attacks.replies import AT_THE_EDGE, Nothing, Seen, refusal
from watertight.dataplane.attacks.ways import SEGMENT, Way
from watertight.model.system import Protocol

TIMEOUT_SECONDS = 5.0
SETTLE_SECONDS = 4.5
"""A proxy may try for some seconds to reach what is behind it before it gives a connection up."""
AGENT = "watertight-verify"
EMPTY_RPC = b"\0\0\0\0\0"
"""A gRPC message of no bytes (gRPC over HTTP/2, "Length-Prefixed-Message")."""
ALPN = {Protocol.HTTP: ("http/1.1",), Protocol.GRPC: ("h2",), Protocol.TCP: ()}
"""What a client of each protocol offers (RFC 7301)."""
WORD = b"\n"
"""What is said where nothing is parsed, so that there is something to let through."""


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


async def at_door(
    arena: Arena, way: Way, request: Request, hello: Hello, *, word: bytes = b""
) -> Seen:
    """One request straight at the callee's door, past the caller's proxy.

    Where nothing is parsed there is no request: what is tried then is to be let in, and to say
    ``word``. Raises ``Absent``.
    """
    wire = await dial_unix(arena.door(way.callee, way.caller))

    async def attempt() -> Seen:
        secure = await past_tls(wire, hello, way.listens.protocol)
        if way.speaks_http:
            return await _speak(secure, way, request)
        await _held(secure, word)
        return Answer(200)

    return await _seen(attempt, wire)


async def past_tls(wire: Wire, hello: Hello, speaks: Protocol) -> TLSWire:
    """TLS up to our own end of it; whether the door accepts us shows later (TLS 1.3).

    Raises ``Alert``, ``Closed``, ``TimeoutError``.
    """
    offer = replace(hello, alpn=ALPN[speaks])
    return await handshake(wire, offer, timeout_seconds=TIMEOUT_SECONDS)


async def let_in(secure: TLSWire, speaks: Protocol) -> None:
    """Returns once the door has shown that it accepts our certificate: it speaks with us.

    Where nothing is parsed, it holds the connection. Raises ``Alert``, ``Closed``,
    ``TimeoutError``.
    """
    if speaks is Protocol.TCP:
        await _held(secure, b"")
    elif speaks is Protocol.GRPC:
        await connect(secure, timeout_seconds=TIMEOUT_SECONDS)
    else:
        data = request_bytes("GET", f"/{SEGMENT}", [("host", AGENT), ("connection", "close")])
        got = await exchange(secure, data, ["GET"], timeout_seconds=TIMEOUT_SECONDS)
        if not got.answers and not got.closed:
            raise TimeoutError
        if not got.answers:
            raise Alert(got.detail) if got.detail.startswith("alert ") else Closed(got.detail)


async def _held(secure: TLSWire, word: bytes) -> None:
    if word:
        await secure.send(word)
    try:
        with idle():
            data = await secure.receive(SETTLE_SECONDS)
        if not data:
            raise Closed("closed")
    except TimeoutError:
        return


async def genuine(arena: Arena, way: Way) -> Hello:
    """The hello of the right caller."""
    return Hello(credential=await arena.svid(way.caller))


async def ask_for_tunnel(secure: TLSWire, speaks: Protocol, authority: str) -> Seen:
    """The answer to CONNECT; 200 if the tunnel is open. No app ever answers a CONNECT."""
    if speaks is Protocol.GRPC:
        connection = await connect(secure, timeout_seconds=TIMEOUT_SECONDS)
        tunnel = await connection.connect(authority)
        return Answer(200) if isinstance(tunnel, Tunnel) else _no_tunnel(tunnel)
    data = request_bytes("CONNECT", authority, [("host", authority)])
    # Read as an answer to HEAD: what follows the head of an answer to CONNECT is no body.
    got = await exchange(secure, data, ["HEAD"], timeout_seconds=TIMEOUT_SECONDS)
    if not got.answers:
        return Nothing(got.detail, closed=got.closed)
    return _no_tunnel(got.answers[0])


def _no_tunnel(answer: Answer) -> Seen:
    if refusal(answer, AT_THE_EDGE) is None:
        return answer  # open; or let through, and nobody there
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
    return await connection.request(
        request.method,
        request.path,
        authority=way.authority,
        headers=headers_of(way, request),
        body=EMPTY_RPC,
    )


async def _seen(attempt: Callable[[], Awaitable[Seen]], wire: Wire) -> Seen:
    """The attempt's answer, or that there was none; the wire is closed in any case."""
    try:
        async with patiently(2 * TIMEOUT_SECONDS):
            return await attempt()
    except Closed as end:
        return Nothing(str(end), closed=True)
    except TimeoutError:
        return Nothing("no answer", closed=False)
    finally:
        await wire.close()
