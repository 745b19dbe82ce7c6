"""What an attack in HTTP/2 is made of: a granted call, a connection of one's own, and marks."""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from watertight.attack.raw_frames import Fields, Frames
from watertight.dataplane.attacks.desync.framed import fields_of
from watertight.dataplane.attacks.desync.sides import MARK, Side
from watertight.dataplane.attacks.requests import EMPTY_RPC, TIMEOUT_SECONDS
from watertight.dataplane.attacks.ways import FORBIDDEN

FORGED = "spiffe://watertight/forged"
GRPC = (("content-type", "application/grpc"), ("te", "trailers"))


@dataclass(frozen=True, slots=True)
class Marks:
    """What tells whose streams are whose. One token begins them all."""

    token: str = field(default_factory=lambda: f"wt{secrets.token_hex(6)}")

    @property
    def attacker(self) -> str:
        """In each of the attacker's streams."""
        return f"{self.token}a"

    @property
    def victim(self) -> str:
        """With a number, in each of the victim's."""
        return f"{self.token}v"

    @property
    def hidden(self) -> str:
        """A path that is granted to nobody."""
        return f"/{FORBIDDEN}.Hidden/{self.token}h"


@dataclass
class Aim:
    """All that a strike has to work with."""

    side: Side
    marks: Marks
    extra: Fields = GRPC
    """Fields of each call that make it one of its protocol."""
    sent: set[bytes] = field(default_factory=set)
    """The bodies of the attacker's calls."""
    connections: list[Frames] = field(default_factory=list)

    @property
    def authority(self) -> str:
        """The host and port of the callee, as the right caller names them."""
        return dict(self.side.base.lines)["host"]

    def fields(self, *more: tuple[str, str], **replaced: str) -> list[tuple[str, str]]:
        """The granted call's fields, with others behind them, and pseudo-header fields replaced."""
        base = [
            (name, replaced.get(name.removeprefix(":"), value))
            for name, value in call_fields(self.side, self.marks.attacker, self.extra)
        ]
        return [*base, *more]

    async def connection(
        self, values: Mapping[int, int] | None = None, *, reads: bool = True
    ) -> Frames:
        """A new connection, open until the strike is over. Raises ``Absent``, ``Closed``."""
        made = Frames(await self.side.dial_framed(), reads=reads)
        self.connections.append(made)
        await made.open(values or {}, timeout_seconds=TIMEOUT_SECONDS)
        return made

    async def usual(self) -> Frames:
        """The last connection if it still takes streams, or a new one."""
        if self.connections:
            last = self.connections[-1]
            if not last.gone and not last.leaving:
                return last
        return await self.connection()

    def body(self, content: bytes = EMPTY_RPC) -> bytes:
        """A body that will be sent."""
        self.sent.add(content)
        return content

    async def close(self) -> None:
        """Ends all connections."""
        for connection in self.connections:
            await connection.close()
        self.connections.clear()


@dataclass(frozen=True, slots=True)
class Strike:
    """One way to attack. It may leave its connections open: what it holds, it goes on holding."""

    what: str
    play: Callable[[Aim], Awaitable[None]]
    alone: bool = True
    """Whether others at the same time would hide what it does."""
    starves: bool = False
    """Whether an app that works on few calls at once would answer nobody meanwhile."""
    past_proxy: bool = True
    """Whether it is tried past the caller's own proxy only. There it ends, or ends whatever else
    that caller does: its own affair, and at the next proxy it does no more than straight there."""


def call_fields(side: Side, mark: str, extra: Fields) -> Fields:
    """The granted call of one side, with a mark."""
    base = [f for f in fields_of(side.base) if f[0] != MARK]
    return [*base, *extra, (MARK, mark)]


def ballast(size: int) -> bytes:
    """A gRPC message of that size; no schema knows its field (Protocol Buffers, "Encoding")."""
    content = b"x" * size
    key_and_length = b"\xfa\x7f" + _varint(len(content))
    message = key_and_length + content
    return b"\0" + len(message).to_bytes(4) + message


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])
