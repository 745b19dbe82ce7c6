"""PostgreSQL's protocol, version 3.0, as an attacker speaks it (manual, chapter 55).

Just enough to log in and to send simple queries. Refusals are known by their SQLSTATE, which is
the same in every language of the server (manual, appendix A).
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from watertight.attack.login import TIMEOUT_SECONDS, Busy, LoginRefused
from watertight.attack.wire import Closed, Wire

PROTOCOL = 196_608
"""3.0"""
SSL_REQUEST = struct.pack("!ii", 8, 80_877_103)
MAX_MESSAGE_BYTES = 1 << 24
MIXED_UP = "what answers there does not speak PostgreSQL's protocol"
BUSY = frozenset({"53300", "57P01", "57P02", "57P03"})
"""too_many_connections, and the words of a server that stops or starts: these refuse anybody."""


class PasswordAsked(LoginRefused):
    """The server would rather have a password than look at the certificate."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one query."""

    sqlstate: str = ""
    """Empty: it was done."""
    message: str = ""
    rows: tuple[tuple[str | None, ...], ...] = field(default=())
    warnings: frozenset[str] = frozenset()
    """SQLSTATEs of notices."""

    def __str__(self) -> str:
        said = f"{self.sqlstate} {self.message}".strip() or "done"
        return said + (
            f", with a warning {', '.join(sorted(self.warnings))}" if self.warnings else ""
        )


class Session:
    """One connection to a server, in the clear or in TLS."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._buffer = b""

    async def log_in(self, parameters: Mapping[str, str]) -> None:
        """Sends the startup message and waits until commands are taken.

        Raises :class:`LoginRefused`, ``Closed``, ``TimeoutError``; ``Busy`` if the server has
        no place for this role or for anybody.
        """
        body = struct.pack("!i", PROTOCOL)
        for pair in parameters.items():
            body += b"".join(part.encode() + b"\0" for part in pair)
        body += b"\0"
        await self._wire.send(struct.pack("!i", len(body) + 4) + body)
        while True:
            kind, content = await self._message()
            if kind == b"E":
                raise _refusal(_fields(content))
            if kind == b"R" and (code := int.from_bytes(content[:4])) != 0:
                raise PasswordAsked(f"asks for a password (authentication request {code})")
            if kind == b"Z":
                return

    async def query(self, sql: str) -> Answer:
        """Runs one statement. Raises ``Closed`` or ``TimeoutError``."""
        content = sql.encode() + b"\0"
        await self._wire.send(b"Q" + struct.pack("!i", len(content) + 4) + content)
        sqlstate = message = ""
        rows: list[tuple[str | None, ...]] = []
        warnings = set()
        while True:
            kind, content = await self._message()
            if kind == b"D":
                rows.append(_row(content))
            elif kind == b"N":
                warnings.add(_fields(content).get("C", ""))
            elif kind == b"E":
                said = _fields(content)
                sqlstate, message = said.get("C", "?"), said.get("M", "")
                if said.get("S") in {"FATAL", "PANIC"} or said.get("V") == "FATAL":
                    raise Closed(f"{sqlstate} {message}")
            elif kind == b"G":
                await self._wire.send(b"f" + struct.pack("!i", 5) + b"\0")
            elif kind == b"Z":
                return Answer(sqlstate, message, tuple(rows), frozenset(warnings))

    async def byte(self) -> bytes:
        """One byte: the answer to a request for encryption. Raises as ``query``."""
        await self._fill(1)
        first, self._buffer = self._buffer[:1], self._buffer[1:]
        return first

    async def _message(self) -> tuple[bytes, bytes]:
        await self._fill(5)
        kind, length = self._buffer[:1], int.from_bytes(self._buffer[1:5])
        if not 4 <= length <= MAX_MESSAGE_BYTES:
            raise Closed(MIXED_UP)
        await self._fill(length + 1)
        content, self._buffer = self._buffer[5 : length + 1], self._buffer[length + 1 :]
        return kind, content

    async def _fill(self, length: int) -> None:
        while len(self._buffer) < length:
            data = await self._wire.receive(TIMEOUT_SECONDS)
            if not data:
                raise Closed("closed without a word")
            self._buffer += data


def _fields(content: bytes) -> dict[str, str]:
    """The fields of ErrorResponse and NoticeResponse, by their letter (manual, section 55.8)."""
    parts = (part.decode(errors="replace") for part in content.split(b"\0") if part)
    return {part[0]: part[1:] for part in parts}


def _refusal(said: dict[str, str]) -> Exception:
    words = f"{said.get('C', '?')} {said.get('M', '')}"
    return Busy(words) if said.get("C") in BUSY else LoginRefused(words)


def _row(content: bytes) -> tuple[str | None, ...]:
    count, rest = int.from_bytes(content[:2]), content[2:]
    values: list[str | None] = []
    for _ in range(count):
        length, rest = int.from_bytes(rest[:4], signed=True), rest[4:]
        values.append(None if length < 0 else rest[:length].decode(errors="replace"))
        rest = rest[max(length, 0) :]
    return tuple(values)
