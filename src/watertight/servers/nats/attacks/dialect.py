"""NATS as an attacker speaks it: lines of text, with every option of CONNECT at will.

Whether the server does what it is asked, it says at once: permissions are judged as a message
comes in, and the PONG to a PING behind it ends the wait. A publication is judged in two steps, of
which the second refuses a reply subject below ``_R_`` (the server's own, for imported services).
So a publication with such a reply tells whether its subject is granted, and reaches nobody: no
probe puts a message on a subject that applications use (seen on nats-server 2.9 and 2.15).
"""

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from watertight.attack.login import TIMEOUT_SECONDS, Login, LoginRefused
from watertight.attack.make import ProbeMaker
from watertight.attack.probe import Observation, not_run, refused, served
from watertight.attack.wire import Closed, Wire
from watertight.model.system import Resource
from watertight.servers.nats.declaration import KIND, server

RESERVED_REPLY = "_R_.watertight-probe"
_REPLY_REFUSED = "Permissions Violation for Publish with Reply of "
_REFUSALS = ("Permissions Violation", "Authorization Violation")
_MAX_LINE_BYTES = 1 << 16

MAKE = ProbeMaker(KIND)


@dataclass(frozen=True, slots=True)
class Heard:
    """What the server said before its PONG."""

    errors: tuple[str, ...] = ()
    arrived: tuple[tuple[str, bytes], ...] = ()
    """Subject and payload (with headers, if there are) of each message."""

    @property
    def messages(self) -> tuple[bytes, ...]:
        """The payloads."""
        return tuple(payload for _, payload in self.arrived)


@dataclass(slots=True)
class NATSDialect:
    """Implements :class:`~watertight.attack.login.Dialect`."""

    tls_first: bool
    lowest_tls: ssl.TLSVersion
    enforcer: str = KIND
    alpn: tuple[str, ...] = ()
    tells_who: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    """What it says in CONNECT besides what every client does."""

    @classmethod
    def of(cls, resource: Resource) -> Self:
        """How this server speaks, which its ``minimum_tls`` says."""
        first = server(resource).tls_first
        return cls(first, ssl.TLSVersion.TLSv1_3 if first else ssl.TLSVersion.TLSv1_2)

    async def prelude(self, wire: Wire, *, secure: bool) -> None:
        """The INFO of a server that greets in the clear; nothing where TLS comes first."""
        del secure
        if not self.tls_first:
            await Reader(wire).line()

    async def login(self, wire: Wire, login: Login) -> None:
        """Logs in, and subscribes to the inbox of the service that is claimed.

        The server knows us by our certificate whatever we claim, so to be let in is not yet to be
        let in as that service: its inbox is its own.
        """
        said = {
            "verbose": False,
            "pedantic": False,
            "headers": True,
            "no_responders": True,
            "protocol": 1,
            "lang": "watertight",
            "version": "1",
            **self.options,
        }
        inbox = f"SUB {inbox_of(login.service)}.watertight-probe 1"
        heard = await converse(wire, f"CONNECT {json.dumps(said)}\r\n{inbox}\r\n")
        if heard.errors:
            raise LoginRefused(heard.errors[0])


def inbox_of(service: str) -> str:
    """Where a service's replies arrive."""
    return f"_INBOX.{service}"


class Reader:
    """Lines and payloads from a wire."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._data = b""

    async def line(self) -> str:
        """The next line. Raises ``Closed``, ``TimeoutError``."""
        while b"\r\n" not in self._data:
            await self._more()
        line, _, self._data = self._data.partition(b"\r\n")
        return line.decode(errors="replace")

    async def payload(self, size: int) -> bytes:
        """The next ``size`` bytes and the line end behind them."""
        while len(self._data) < size + 2:
            await self._more()
        found, self._data = self._data[:size], self._data[size + 2 :]
        return found

    async def _more(self) -> None:
        data = await self._wire.receive(TIMEOUT_SECONDS)
        if not data:
            raise Closed("closed without a word")
        self._data += data
        if len(self._data) > _MAX_LINE_BYTES and b"\r\n" not in self._data:
            raise Closed("speaks no NATS")


async def converse(
    wire: Wire, lines: str, *, until: int = 0, reader: "Reader | None" = None
) -> Heard:
    """Sends lines and a PING; returns what comes before its PONG, or ``until`` so many messages.

    ``reader``: that of an earlier conversation on this wire, where messages may come at any time.
    Raises ``LoginRefused`` if the server says why it hangs up, ``Closed`` or ``TimeoutError``.
    """
    await wire.send(f"{lines}PING\r\n".encode())
    reader, ponged = reader or Reader(wire), False
    errors: list[str] = []
    arrived: list[tuple[str, bytes]] = []
    while not ponged or len(arrived) < until:
        try:
            line = await reader.line()
        except Closed as end:
            if errors:
                raise LoginRefused(errors[-1]) from end
            raise
        verb, _, rest = line.partition(" ")
        if verb == "PONG":
            ponged = True
        elif verb == "PING":
            await wire.send(b"PONG\r\n")
        elif verb == "-ERR":
            errors.append(rest.strip("'"))
        elif verb in ("MSG", "HMSG"):
            size = int(rest.rsplit(" ", 1)[1])
            arrived.append((rest.partition(" ")[0], await reader.payload(size)))
        elif verb not in ("INFO", "+OK"):
            raise Closed(f"speaks no NATS: {line[:40]!r}")
        if errors and until:
            break
    return Heard(tuple(errors), tuple(arrived))


async def publish(wire: Wire, subject: str) -> Observation:
    """Whether this session may publish to ``subject``; reaches nobody."""
    heard = await converse(wire, f"PUB {subject} {RESERVED_REPLY} 0\r\n\r\n")
    if not heard.errors:
        return served(f"{subject}: published")
    if heard.errors[0].startswith(_REPLY_REFUSED):
        return served(f"{subject}: the subject is granted")
    return _no(heard)


async def subscribe(wire: Wire, subject: str, queue: str = "") -> Observation:
    """Whether this session may subscribe to ``subject``; the subscription ends at once."""
    words = f"SUB {subject} {queue} 2" if queue else f"SUB {subject} 2"
    heard = await converse(wire, f"{words}\r\nUNSUB 2\r\n")
    return _no(heard) if heard.errors else served(f"{subject}: subscribed")


async def request(wire: Wire, login: Login, subject: str, body: str = "") -> Observation:
    """A real request with its answer at our own inbox."""
    inbox = f"{inbox_of(login.service)}.watertight-request"
    asked = f"SUB {inbox} 3\r\nPUB {subject} {inbox} {len(body)}\r\n{body}\r\n"
    heard = await converse(wire, asked, until=1)
    if heard.errors:
        return _no(heard)
    answer = heard.messages[0].decode(errors="replace")
    if '"error"' in answer or answer.startswith("NATS/1.0"):
        return refused(f"{subject} answers {answer[:120]}")
    return served(f"{subject} answers {len(answer)} bytes")


def _no(heard: Heard) -> Observation:
    said = heard.errors[0]
    return refused(said) if said.startswith(_REFUSALS) else not_run(f"the server says {said!r}")
