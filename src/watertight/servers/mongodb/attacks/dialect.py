"""MongoDB's protocol as an attacker speaks it: any document, any frame (MongoDB wire protocol).

With BSON of our own (bsonspec.org), for no library writes what it should not.
"""

import itertools
import ssl
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from watertight.attack.login import TIMEOUT_SECONDS, Login, LoginRefused
from watertight.attack.make import ProbeMaker
from watertight.attack.wire import Closed, Wire
from watertight.servers.mongodb.declaration import KIND, declared

MAKE = ProbeMaker(KIND)
OP_QUERY, OP_COMPRESSED, OP_MSG = 2004, 2012, 2013
UNAUTHORIZED, NOT_IMPLEMENTED, CURSOR_NOT_FOUND, NO_SUCH_COMMAND = 13, 238, 43, 59
FORBIDDEN = "SQLSTATE 42501"
"""PostgreSQL's insufficient_privilege, which FerretDB passes on in its words."""
_numbers = itertools.count(1)


def document(fields: Mapping[str, Any], *more: tuple[str, Any]) -> bytes:
    """A BSON document; ``more``: further fields, also of names that it has."""
    every = (*fields.items(), *more)
    content = b"".join(_element(name, value) for name, value in every)
    return struct.pack("<i", len(content) + 5) + content + b"\0"


def _element(name: str, value: Any) -> bytes:
    title = name.encode() + b"\0"
    if isinstance(value, bool):
        return b"\x08" + title + bytes([value])
    if isinstance(value, int):
        return b"\x12" + title + struct.pack("<q", value)
    if isinstance(value, float):
        return b"\x01" + title + struct.pack("<d", value)
    if isinstance(value, str):
        text = value.encode() + b"\0"
        return b"\x02" + title + struct.pack("<i", len(text)) + text
    if isinstance(value, bytes):
        return b"\x05" + title + struct.pack("<iB", len(value), 0) + value
    if isinstance(value, Mapping):
        return b"\x03" + title + document(value)
    if isinstance(value, list | tuple):
        return b"\x04" + title + document({str(at): one for at, one in enumerate(value)})
    raise TypeError(type(value).__name__)


def fields(raw: bytes) -> dict[str, Any]:
    """What a document of a server's says, as far as we ask. Raises ``Closed`` for nonsense."""
    try:
        return dict(_fields(raw))
    except (IndexError, ValueError, struct.error) as error:
        raise Closed(f"an answer that is no BSON: {error}") from error


def _fields(raw: bytes) -> Iterator[tuple[str, Any]]:
    at = 4
    while raw[at]:
        kind = raw[at]
        end = raw.index(0, at + 1)
        name, at = raw[at + 1 : end].decode(errors="replace"), end + 1
        value, at = _value(raw, kind, at)
        yield name, value


def _value(raw: bytes, kind: int, at: int) -> tuple[Any, int]:
    fixed = {0x01: "<d", 0x07: "12s", 0x08: "<?", 0x09: "<q", 0x0A: "", 0x10: "<i"}
    fixed |= {0x11: "<q", 0x12: "<q", 0x13: "16s"}
    if kind in fixed:
        size = struct.calcsize(fixed[kind])
        return next(iter(struct.unpack_from(fixed[kind], raw, at)), None), at + size
    (length,) = struct.unpack_from("<i", raw, at)
    if kind == 0x02:
        return raw[at + 4 : at + 3 + length].decode(errors="replace"), at + 4 + length
    if kind in (0x03, 0x04):
        inner = fields(raw[at : at + length])
        return inner if kind == 0x03 else list(inner.values()), at + length
    if kind == 0x05:
        return raw[at + 5 : at + 5 + length], at + 5 + length
    raise ValueError(f"type {kind:#x}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one command."""

    said: Mapping[str, Any] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether it was done, all of it."""
        return self.said.get("ok") == 1.0 and not self.said.get("writeErrors")

    @property
    def code(self) -> int:
        """The server's number for what is wrong; 0: nothing is."""
        return int(self.said.get("code", 0))

    @property
    def denied(self) -> bool:
        """Whether it is about permission that it was not done."""
        return self.code == UNAUTHORIZED or FORBIDDEN in str(self.said)

    def __str__(self) -> str:
        if self.done:
            return "done"
        return f"{self.code} {self.said.get('errmsg', self.said)}"[:240]


def message(content: bytes, *, operation: int = OP_MSG) -> bytes:
    """A message with its header."""
    return struct.pack("<4i", 16 + len(content), next(_numbers), 0, operation) + content


def command(body: bytes, *, flags: int = 0, sections: bytes = b"") -> bytes:
    """OP_MSG with a document first; ``sections``: what follows it, as it is."""
    return message(struct.pack("<IB", flags, 0) + body + sections)


def query(database: str, body: bytes) -> bytes:
    """OP_QUERY, as drivers greet old servers."""
    return message(
        struct.pack("<i", 0) + f"{database}.$cmd\0".encode() + struct.pack("<ii", 0, -1) + body,
        operation=OP_QUERY,
    )


async def answer(wire: Wire) -> Answer:
    """The next one. Raises ``Closed`` or ``TimeoutError``."""
    received = b""
    while len(received) < 16 or len(received) < struct.unpack_from("<i", received)[0]:
        data = await wire.receive(TIMEOUT_SECONDS)
        if not data:
            raise Closed("closed without a word")
        received += data
    (operation,) = struct.unpack_from("<i", received, 12)
    return Answer(fields(received[21 if operation == OP_MSG else 36 :]))


async def ask(
    wire: Wire, database: str, asked: Mapping[str, Any], *more: tuple[str, Any]
) -> Answer:
    """Has one command done. Raises ``Closed`` or ``TimeoutError``."""
    await wire.send(command(document({**asked, "$db": database}, *more)))
    return await answer(wire)


@dataclass(slots=True)
class MongoDBDialect:
    """Implements :class:`~watertight.attack.login.Dialect`."""

    enforcer: str = KIND
    alpn: tuple[str, ...] = ()
    lowest_tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    tells_who: bool = True

    async def prelude(self, wire: Wire, *, secure: bool) -> None:
        """TLS begins at once, and so do commands in the clear."""

    async def login(self, wire: Wire, login: Login) -> None:
        """The certificate is the login: the server says whom it takes us for. Raises as :func:`ask`
        and :class:`LoginRefused`."""
        seen = await ask(wire, declared(login.resource).database, {"connectionStatus": 1})
        users = seen.said.get("authInfo", {}).get("authenticatedUsers", [])
        if [user.get("user") for user in users] != [login.service]:
            raise LoginRefused(f"not {login.service}: {users or seen}")


DIALECT = MongoDBDialect()
