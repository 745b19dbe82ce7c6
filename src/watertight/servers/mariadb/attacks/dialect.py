"""MariaDB's protocol as an attacker speaks it (MariaDB manual, "Client/Server Protocol").

Just enough to log in and to send statements as text. Refusals are known by their number, which is
the same in every language of the server (manual, "MariaDB Error Code Reference").
"""

import ssl
import struct
from dataclasses import dataclass, field

from watertight.attack.login import TIMEOUT_SECONDS, Busy, Login, LoginRefused
from watertight.attack.make import ProbeMaker
from watertight.attack.tls import TLSWire
from watertight.attack.wire import Closed, Wire
from watertight.servers.mariadb.declaration import KIND, declared

MAKE = ProbeMaker(KIND)
LOCAL_FILES, PROTOCOL_41, TLS, SECURE, PLUGINS = 0x80, 0x200, 0x800, 0x8000, 0x80000
WITH_DATABASE = 0x8
CAPABILITIES = LOCAL_FILES | PROTOCOL_41 | SECURE | PLUGINS
UTF8 = 45
QUERY = b"\x03"
OK, ERROR, END, FILE = 0x00, 0xFF, 0xFE, 0xFB
BUSY = frozenset({1040, 1053, 1203, 1226})
"""Too many connections, of all or of one user; and a server that stops."""
MAX_ROUNDS = 4
"""How often a login may be asked for another way to authenticate."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one statement."""

    code: int = 0
    """0: it was done."""
    message: str = ""
    rows: tuple[tuple[str | None, ...], ...] = field(default=())
    wants_file: bool = False
    """The server asks for a file of the client's."""

    def __str__(self) -> str:
        return f"{self.code} {self.message}"[:200] if self.code else "done"


class Session:
    """One connection to a server, in the clear or in TLS."""

    def __init__(self, wire: Wire) -> None:
        self._wire, self._buffer = wire, b""

    async def packet(self) -> bytes:
        """The next one's content. Raises ``Closed`` or ``TimeoutError``."""
        head = await self._exactly(4)
        return await self._exactly(int.from_bytes(head[:3], "little"))

    async def send(self, content: bytes, number: int) -> None:
        """A packet, the ``number``-th of the exchange."""
        await self._wire.send(struct.pack("<I", len(content))[:3] + bytes([number]) + content)

    async def greeting(self) -> None:
        """What the server says first. Raises :class:`Busy` or ``Closed``."""
        try:
            first = await self.packet()
        except Closed as full:  # the server itself always greets; its door has no place
            raise Busy(str(full)) from full
        if first[:1] == bytes([ERROR]):
            raise _refusal(first)
        if first[:1] != b"\x0a":
            raise Closed("what answers there does not speak MariaDB's protocol")

    async def log_in(self, user: str, database: str, number: int) -> None:
        """Without any password. Raises :class:`LoginRefused`, ``Closed``, ``TimeoutError``."""
        flags = CAPABILITIES | (TLS if number > 1 else 0) | (WITH_DATABASE if database else 0)
        content = opening(flags) + user.encode() + b"\0" + b"\0"
        content += database.encode() + b"\0" if database else b""
        await self.send(content + b"mysql_native_password\0", number)
        for _ in range(MAX_ROUNDS):
            answer = await self.packet()
            if answer[:1] == bytes([OK]):
                return
            if answer[:1] == bytes([ERROR]):
                raise _refusal(answer)
            number += 2
            await self.send(b"", number)
        raise LoginRefused("asks for more and more")

    async def query(self, sql: str) -> Answer:
        """Runs one statement. Raises ``Closed`` or ``TimeoutError``."""
        await self.send(QUERY + sql.encode(), 0)
        first = await self.packet()
        if first[0] == OK:
            return Answer()
        if first[0] == ERROR:
            return _error(first)
        if first[0] == FILE:
            await self.send(b"", 2)
            await self.packet()
            return Answer(wants_file=True)
        for _ in range(_number(first, 0)[0] + 1):  # the columns, and an end
            await self.packet()
        rows: list[tuple[str | None, ...]] = []
        while True:
            row = await self.packet()
            if row[0] == ERROR:
                return _error(row)
            if row[0] == END and len(row) < 9:
                return Answer(rows=tuple(rows))
            rows.append(tuple(_values(row)))

    async def _exactly(self, length: int) -> bytes:
        while len(self._buffer) < length:
            data = await self._wire.receive(TIMEOUT_SECONDS)
            if not data:
                raise Closed("closed without a word")
            self._buffer += data
        found, self._buffer = self._buffer[:length], self._buffer[length:]
        return found


def opening(flags: int) -> bytes:
    """How a request for TLS and a login begin."""
    return struct.pack("<IIB23x", flags, 1 << 24, UTF8)


def _error(content: bytes) -> Answer:
    code = int.from_bytes(content[1:3], "little")
    text = content[9:] if content[3:4] == b"#" else content[3:]
    return Answer(code, text.decode(errors="replace"))


def _refusal(content: bytes) -> Exception:
    said = _error(content)
    return Busy(str(said)) if said.code in BUSY else LoginRefused(str(said))


def _number(content: bytes, at: int) -> tuple[int, int]:
    """A length-encoded number, and where it ends."""
    first = content[at]
    if first < FILE:
        return first, at + 1
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}[first]
    return int.from_bytes(content[at + 1 : at + 1 + size], "little"), at + 1 + size


def _values(row: bytes) -> list[str | None]:
    found: list[str | None] = []
    at = 0
    while at < len(row):
        if row[at] == FILE:
            found.append(None)
            at += 1
            continue
        length, at = _number(row, at)
        found.append(row[at : at + length].decode(errors="replace"))
        at += length
    return found


@dataclass(slots=True)
class MariaDBDialect:
    """Implements :class:`~watertight.attack.login.Dialect`."""

    enforcer: str = KIND
    alpn: tuple[str, ...] = ()
    lowest_tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    tells_who: bool = True
    user: str | None = None
    """Another than the service's own."""
    database: str | None = None
    """Another than the declared one."""

    async def prelude(self, wire: Wire, *, secure: bool) -> None:
        """The server greets; then TLS is asked for."""
        session = Session(wire)
        await session.greeting()
        if secure:
            await session.send(opening(CAPABILITIES | TLS), 1)

    async def login(self, wire: Wire, login: Login) -> None:
        """Logs in and has a query answered. Raises as ``Session``."""
        session = Session(wire)
        database = declared(login.resource).database if self.database is None else self.database
        number = 2 if isinstance(wire, TLSWire) else 1
        await session.log_in(self.user or login.service, database, number)
        answer = await session.query("SELECT 1")
        if answer.code:
            raise Closed(f"logged in, and then: {answer}")


DIALECT = MariaDBDialect(database="")
"""Without a database: who is granted nothing has none that it might use."""
