"""Requests that nobody thought of: HTTP/1.1 as bytes and HTTP/2 as fields, from a grammar.

The plainest choice is always a right one, so that what is left of a counterexample once it has
been made small is what matters.
"""

from dataclasses import dataclass, field
from urllib.parse import quote

from watertight.attack.choices import Choices
from watertight.dataplane.attacks.desync.framed import Fields
from watertight.dataplane.attacks.desync.shapes import (
    CODINGS,
    EXPECTED,
    FORGED,
    IDENTITY,
    LENGTHS,
    TOLD,
)
from watertight.dataplane.attacks.ways import FORBIDDEN, METHODS, fill
from watertight.model.system import HTTPGrant

ENDS = (b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b"\r\n\t")
VERSIONS = ("HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", "")
MORE_METHODS = ("HEAD", "OPTIONS", "CONNECT", "TRACE", "get", "G ET", "GET\t", "PRI", "WATERTIGHT")
UPS = ("..", "%2e%2e", "%2e.", ".%2E", "..;", "..%00", "%252e%252e", "...", ".", "%2e", ".. ")
SLASHES = ("/", "//", "%2f", "%2F", "\\", "%5c", "/./", "/;/", "%252f", "/%20/")
TAILS = ("", "?a=b", "#a", ";a=b", "%00", "%20", "/", "%0d%0a", "?", "%3f", ".json", "%ff", "\t")
HOSTS = ("{host}", "{host}.", "watertight.example", "{host}:1", "a@{host}", "", "{host} ", "[::1]")
NAMES = ("x-a", "X-A", "x_a", "x a", "x-a ", "\x01", "x-a:b", "", "content-type", "cookie", "via")
VALUES = ("b", "", " b ", "b\x01", "b\x7f", "b\xff", "b\tb", "b\0b", "b,b", '"', "%0d%0a", "b\x0bb")
WRONG_SIZES = ("", "-1", "+1", "0x1", "1 1", "1,1", "01", "99999999999999999999", "1.0", "one")
HOP = ("close", "keep-alive", "upgrade", "te", "transfer-encoding", "content-length", "host")
PSEUDO_MORE = (":protocol", ":status", ":watertight", ":Path", ":path ")


@dataclass
class Sender:
    """Who sends: its grants, how the app is named, and the headers that make it right."""

    host: str
    grants: tuple[HTTPGrant, ...]
    lines: tuple[tuple[str, str], ...]
    token: str = ""
    """Marks every request, so that a witness knows it."""
    mark: str = "probe-mark"

    @property
    def marked(self) -> tuple[tuple[str, str], ...]:
        """The headers of every request besides Host."""
        return (*self.lines, (self.mark, self.token))


@dataclass(frozen=True)
class Sent:
    """One generated attack over HTTP/1.1: pieces of bytes and pauses."""

    pieces: tuple[bytes | float, ...]
    requests: int
    """How many requests it was made of; each could be answered once."""


@dataclass(frozen=True)
class SentFramed:
    """One generated attack over HTTP/2."""

    fields: Fields
    body: bytes = field(default=b"")


def generate(choices: Choices, sender: Sender) -> Sent:
    """One attack over HTTP/1.1."""
    count = 1 + choices.below(3)
    data = b"".join(_request(choices, sender, depth=0) for _ in range(count))
    if choices.rarely(6) and len(data) > 2:
        cut = 1 + choices.below(len(data) - 1)
        return Sent((data[:cut], 0.02, data[cut:]), count)
    return Sent((data,), count)


def generate_framed(choices: Choices, sender: Sender) -> SentFramed:
    """One attack over HTTP/2."""
    pseudo = [
        (":method", _method(choices, sender)),
        (":scheme", choices.one(("https", "http", "file", "", "https://a/b?"))),
        (":authority", choices.one(HOSTS).format(host=sender.host)),
        (":path", _target(choices, sender)),
    ]
    if choices.rarely(6):
        pseudo.append(choices.one(pseudo))
    if choices.rarely(8):
        del pseudo[choices.below(len(pseudo))]
    if choices.rarely(8):
        pseudo.append((choices.one(PSEUDO_MORE), choices.one(VALUES)))
    if choices.rarely(6):
        at = choices.below(len(pseudo))
        name, value = pseudo[at]
        pseudo[at] = (name, value + _break(choices, sender))
    others = list(sender.marked) + [_any_field(choices, sender) for _ in range(choices.below(4))]
    body = b""
    if choices.rarely(3):
        body = _body(choices, sender, 0)
        if choices.rarely(2):
            size = choices.one((str(len(body)), "0", str(len(body) + 1), *WRONG_SIZES))
            others.append(("content-length", size))
    fields = [*others, *pseudo] if choices.rarely(12) else [*pseudo, *others]
    return SentFramed(fields, body)


def _break(choices: Choices, sender: Sender) -> str:
    end = choices.one(("\r\n", "\n", "\r", "\0", " ", "\r\n\r\n"))
    return end + choices.one(
        ("x-a: b", " HTTP/1.1", _request(choices, sender, 2).decode("latin-1"))
    )


def _any_field(choices: Choices, sender: Sender) -> tuple[str, str]:
    kind = choices.below(5)
    if kind == 0:
        return choices.one(NAMES) or "x", choices.one(VALUES)
    if kind == 1:
        return choices.one(TOLD), _forged(sender)
    if kind == 2:
        return choices.one(("te", "connection", "keep-alive", "upgrade")), choices.one(HOP)
    if kind == 3:
        return choices.one(("transfer-encoding", "Transfer-Encoding", "host")), "chunked"
    return choices.one(NAMES) or "x", choices.one(VALUES) + _break(choices, sender)


def _forged(sender: Sender) -> str:
    return f"{FORGED}{sender.token}"


def _right(choices: Choices) -> bool:
    """Half of each part is right: an attack that is wrong all over is refused at its first word."""
    return choices.below(2) == 0


def _method(choices: Choices, sender: Sender) -> str:
    granted = tuple(dict.fromkeys(grant.method for grant in sender.grants))
    if _right(choices):
        return choices.one(granted)
    return choices.one(granted * 3 + METHODS + (MORE_METHODS if choices.rarely(3) else ()))


def _target(choices: Choices, sender: Sender) -> str:
    path = _path(choices, sender)
    form = choices.below(12)
    if form == 11:
        return f"http://{choices.one((sender.host, 'watertight.example'))}{path}"
    if form == 10:
        return choices.one(("*", sender.host, "", path.lstrip("/")))
    return path


def _path(choices: Choices, sender: Sender) -> str:
    path = fill(choices.one(sender.grants).path)
    if _right(choices):
        return path
    kind = choices.below(5)
    if kind == 1:
        path = f"/{FORBIDDEN}"
    if kind >= 2:
        for _ in range(1 + choices.below(path.count("/") + 1)):
            path += choices.one(SLASHES) + choices.one(UPS)
        path += choices.one(SLASHES) + choices.one((FORBIDDEN, FORBIDDEN.upper(), ""))
    if choices.rarely(6) and len(path) > 1:
        at = 1 + choices.below(len(path) - 1)
        path = path[:at] + f"%{ord(path[at]):02x}" + path[at + 1 :]
    return path + choices.one(TAILS)


def _request(choices: Choices, sender: Sender, depth: int) -> bytes:
    strange = choices.rarely(3)
    end = choices.one(ENDS) if strange else b"\r\n"
    version = choices.one(VERSIONS) if strange else "HTTP/1.1"
    space = choices.one((" ", "  ", "\t")) if strange else " "
    line = f"{_method(choices, sender)}{space}{_target(choices, sender)}{space}{version}"
    lines = [line.encode("latin-1", "replace"), *_hosts(choices, sender)]
    lines += [f"{name}: {value}".encode() for name, value in sender.marked]
    framing, body = _framing(choices, sender, depth)
    lines += framing
    lines += [_header(choices, sender) for _ in range(choices.below(3))]
    head = b"\r\n".join(lines[:1]) + b"\r\n"
    for header in lines[1:]:
        head += header + (end if choices.rarely(4) else b"\r\n")
    return head + end + body


def _hosts(choices: Choices, sender: Sender) -> list[bytes]:
    right = f"host: {sender.host}".encode()
    if not choices.rarely(5):
        return [right]
    other = f"host: {choices.one(HOSTS)}".format(host=sender.host).encode()
    return choices.one(([other], [right, other], [other, right], [], [right, right]))


def _header(choices: Choices, sender: Sender) -> bytes:
    kind = choices.below(6)
    if kind == 0:
        return f"{choices.one(NAMES)}: {choices.one(VALUES)}".encode("latin-1")
    if kind == 1:
        return f"{choices.one(TOLD)}: {_forged(sender)}".encode()
    if kind == 2:
        return f"connection: {', '.join(choices.some(HOP + IDENTITY, 3))}".encode()
    if kind == 3:
        return choices.one(tuple(EXPECTED.values())).rstrip(b"\r\n")
    if kind == 4:
        return b"upgrade: " + choices.one((b"websocket", b"h2c", b"watertight", b""))
    return choices.one((b" folded", b"\tfolded", b": b", b"no-colon", b"x-a\0: b"))


def _framing(choices: Choices, sender: Sender, depth: int) -> tuple[list[bytes], bytes]:
    """Header lines that say how long the body is, rightly or not, and the body."""
    kind = 0 if _right(choices) else choices.below(8)
    if kind == 0:
        return [], b""
    body = _body(choices, sender, depth)
    size = len(body)
    right = b"content-length: %d" % size
    if kind == 1:
        return [right], body
    if kind == 2:
        return [b"transfer-encoding: chunked"], _chunked(choices, body)
    if kind == 3:
        wrong = choices.one((str(max(0, size - 1)), str(size + 1), "0", *WRONG_SIZES))
        return [f"content-length: {wrong}".encode()], body
    if kind == 4:
        line = choices.one(tuple(LENGTHS.values()))
        filled = line % ((size, size) if line.count(b"%d") > 1 else size)
        return choices.one(([filled[:-2]], [b"content-length: 0", filled[:-2]])), body
    coding = choices.one(tuple(CODINGS.values()))[:-2]
    chunks = _chunked(choices, body)
    if kind == 5:
        return [coding], chunks
    if kind == 6:
        length = b"content-length: %d" % choices.one((len(chunks), 0, size, 4))
        return choices.one(([length, coding], [coding, length])), chunks
    second = choices.one(tuple(CODINGS.values()))[:-2]
    return [coding, second], chunks


def _chunked(choices: Choices, body: bytes) -> bytes:
    size = choices.one(
        (b"%x", b"%X", b"0%x", b"%x ", b"%x;a=b", b"%x;a\n", b"0x%x", b"+%x", b"%x\0", b"1%016x")
    )
    end = choices.one(ENDS) if choices.rarely(4) else b"\r\n"
    data = size % len(body) + end + body + end if body else b""
    last = choices.one(
        (b"0\r\n\r\n", b"0\n\n", b"0;a\r\n\r\n", b"0\r\na: b\r\n\r\n", b"", b"00\r\n\r\n")
    )
    return data + (last if choices.rarely(3) else b"0\r\n\r\n")


def _body(choices: Choices, sender: Sender, depth: int) -> bytes:
    """What a careless reader takes for the next request, or just bytes."""
    if depth >= 2 or choices.rarely(3):
        return choices.one((b"{}", b"x" * 70, b"0\r\n\r\n", b"\r\n\r\n", quote("%").encode()))
    return choices.one((b"", b"0\r\n\r\n")) + _request(choices, sender, depth + 1)
