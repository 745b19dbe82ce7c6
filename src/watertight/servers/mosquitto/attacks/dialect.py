"""MQTT as an attacker speaks it: any client id, any topic, any flag (MQTT 5, sections 2 and 3)."""

import ssl
import struct
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

from watertight.attack.login import TIMEOUT_SECONDS, Busy, Login, LoginRefused
from watertight.attack.wire import Closed, Wire
from watertight.servers.mosquitto.declaration import KIND, OWN

CONNACK, PUBLISH, PUBACK, PUBREC, PUBCOMP, SUBACK = 2, 3, 4, 5, 7, 9
UNSUBACK, PINGRESP, DISCONNECT = 11, 13, 14
REFUSED = 0x80
"""Reason codes from here on say no (section 2.4)."""
FOR_EVER = 0xFFFFFFFF
KEEP_ALIVE_SECONDS = 60
NEWEST, OLDER = 5, 4
"""Versions of the protocol: MQTT 5, and 3.1.1."""


class Packet(NamedTuple):
    """One control packet, as it came."""

    kind: int
    body: bytes

    @property
    def reason(self) -> int:
        """What an answer says: of PUBACK, PUBREC, SUBACK, UNSUBACK or DISCONNECT."""
        if self.kind == DISCONNECT:
            return self.body[0] if self.body else 0
        if self.kind in (SUBACK, UNSUBACK):
            return self.body[-1]
        return self.body[2] if len(self.body) > 2 else 0


class Packets:
    """The packets of one wire, in order; what came of the next stays for the next."""

    def __init__(self, wire: Wire) -> None:
        self._wire, self._received = wire, b""

    async def next(self, timeout_seconds: float = TIMEOUT_SECONDS) -> Packet:
        """The next one. Raises ``Closed`` or ``TimeoutError``."""
        while (found := self._whole()) is None:
            data = await self._wire.receive(timeout_seconds)
            if not data:
                raise Closed("closed")
            self._received += data
        return found

    async def answer(self) -> Packet:
        """The next one that is no message."""
        while (found := await self.next()).kind == PUBLISH:
            pass
        return found

    def _whole(self) -> Packet | None:
        size, at = 0, 1
        while at < len(self._received):
            byte = self._received[at]
            size |= (byte & 0x7F) << 7 * (at - 1)
            at += 1
            if byte < 0x80:
                break
        else:
            return None
        if len(self._received) < at + size:
            return None
        found = Packet(self._received[0] >> 4, self._received[at : at + size])
        self._received = self._received[at + size :]
        return found


_open: WeakKeyDictionary[Wire, Packets] = WeakKeyDictionary()


def packets(wire: Wire) -> Packets:
    """The packets of a wire, from one login on."""
    if wire not in _open:
        _open[wire] = Packets(wire)
    return _open[wire]


@dataclass(slots=True)
class MosquittoDialect:
    """Implements :class:`~watertight.attack.login.Dialect`."""

    enforcer: str = KIND
    alpn: tuple[str, ...] = ()
    lowest_tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    tells_who: bool = True
    version: int = NEWEST
    client_id: str | None = None
    """None: the service's own."""
    user: str | None = None
    will: str | None = None
    """The topic of what the broker sends when we are gone without a word."""

    async def prelude(self, wire: Wire, *, secure: bool) -> None:
        """TLS begins at once, and so does a login in the clear."""

    async def login(self, wire: Wire, login: Login) -> None:
        """Takes up the service's session, and writes to the topic of its own: so it is who it says.

        The program's own session goes on when it connects again: nothing of it is thrown away.
        """
        await self.connect(wire, login)
        if self.version != NEWEST:
            return  # it tells nobody what is refused
        try:
            await wire.send(publish(OWN + login.service, qos=1))
            seen = await packets(wire).answer()
        except Closed as end:  # let in, and ended: by the next of the same name
            raise Busy(str(end)) from end
        if seen.kind != PUBACK or seen.reason >= REFUSED:
            raise LoginRefused(f"not {login.service}: reason {seen.reason:#x}")

    async def connect(self, wire: Wire, login: Login) -> None:
        """CONNECT, whoever it then is. Raises :class:`LoginRefused`, ``Closed``, TimeoutError."""
        await wire.send(self._connect(login))
        seen = await packets(wire).next()
        if seen.kind != CONNACK or seen.body[1]:
            raise LoginRefused(f"CONNECT is answered by {seen.kind}, {seen.body.hex()}")

    def _connect(self, login: Login) -> bytes:
        newest = self.version == NEWEST
        flags = 0x80 * (self.user is not None) | 0x04 * (self.will is not None)
        expiry = b"\x05\x11" + struct.pack(">I", FOR_EVER) if newest else b""
        body = _text("MQTT") + bytes([self.version, flags])
        body += struct.pack(">H", KEEP_ALIVE_SECONDS) + expiry
        body += _text(login.service if self.client_id is None else self.client_id)
        if self.will is not None:
            body += b"\x00" * newest + _text(self.will) + _text("gone")
        return packet(0x10, body + (_text(self.user) if self.user is not None else b""))


def publish(  # noqa: PLR0913  they are the packet's own fields
    topic: str,
    *,
    qos: int = 0,
    number: int = 1,
    retain: bool = False,
    again: bool = False,
    seconds: int | None = None,
    size: int = 0,
    version: int = NEWEST,
) -> bytes:
    """PUBLISH. ``seconds``: how long anybody may still receive it; ``again``: sent before."""
    properties = b"" if version != NEWEST else b"\x00"
    if seconds is not None:
        properties = b"\x05\x02" + struct.pack(">I", seconds)
    body = _text(topic) + (struct.pack(">H", number) if qos else b"") + properties
    return packet(0x30 | again << 3 | qos << 1 | retain, body + (b"x" * size or b"probe"))


def release(number: int) -> bytes:
    """PUBREL: what was sent with QoS 2 may now be delivered."""
    return packet(0x62, struct.pack(">H", number))


def subscribe(pattern: str, *, qos: int = 0, version: int = NEWEST) -> bytes:
    """SUBSCRIBE; nothing that was retained is to come, where the version can say so."""
    newest = version == NEWEST
    options = qos | 0x20 if newest else qos
    return packet(0x82, b"\x00\x02" + b"\x00" * newest + _text(pattern) + bytes([options]))


def unsubscribe(pattern: str) -> bytes:
    """UNSUBSCRIBE; its answer says whether there was anything to end (0x11: nothing)."""
    return packet(0xA2, b"\x00\x03\x00" + _text(pattern))


PING = b"\xc0\x00"


def packet(first: int, body: bytes) -> bytes:
    """A control packet with its length (section 1.5.5)."""
    size, left = bytearray(), len(body)
    while left >= 0x80:
        size.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([first, *size, left]) + body


def _text(value: str) -> bytes:
    return struct.pack(">H", len(value.encode())) + value.encode()
