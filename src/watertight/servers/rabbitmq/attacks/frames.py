"""AMQP 0-9-1 frames and methods, as far as an attacker needs them (specification, section 4.2)."""

import struct
from dataclasses import dataclass, field

from watertight.attack.login import TIMEOUT_SECONDS
from watertight.attack.wire import Closed, Wire

HEADER = b"AMQP\x00\x00\x09\x01"
METHOD, CONTENT, BODY, HEARTBEAT = 1, 2, 3, 8
END = 0xCE
MAX_FRAME_BYTES = 1 << 20

START = (10, 10)
START_OK = (10, 11)
SECURE = (10, 20)
TUNE = (10, 30)
TUNE_OK = (10, 31)
OPEN = (10, 40)
OPEN_OK = (10, 41)
CONNECTION_CLOSE = (10, 50)
CONNECTION_CLOSE_OK = (10, 51)
CHANNEL_OPEN = (20, 10)
CHANNEL_OPEN_OK = (20, 11)
CHANNEL_CLOSE = (20, 40)
CHANNEL_CLOSE_OK = (20, 41)


@dataclass(frozen=True, slots=True)
class Method:
    """One method that came: its class and number, and its arguments undecoded."""

    channel: int
    kind: tuple[int, int]
    arguments: bytes = field(repr=False)

    def refusal(self) -> tuple[int, str]:
        """Of a Close: the reply code and text (sections 1.4.2.8 and 1.5.2.5)."""
        code, length = struct.unpack_from(">HB", self.arguments)
        return code, self.arguments[3 : 3 + length].decode(errors="replace")


def short(text: str) -> bytes:
    """A short string."""
    data = text.encode()
    return struct.pack(">B", len(data)) + data


def long(data: bytes) -> bytes:
    """A long string."""
    return struct.pack(">I", len(data)) + data


EMPTY_TABLE = struct.pack(">I", 0)


def table(**fields: str) -> bytes:
    """A field table of long strings."""
    inside = b"".join(short(key) + b"S" + long(value.encode()) for key, value in fields.items())
    return struct.pack(">I", len(inside)) + inside


def array(name: str, *items: str) -> bytes:
    """A field of a table: an array of long strings (section 4.2.5.5)."""
    inside = b"".join(b"S" + long(item.encode()) for item in items)
    return short(name) + b"A" + long(inside)


def client_properties() -> bytes:
    """What a client says of itself: a refused login is to be answered, not left hanging.

    (rabbitmq.com/auth-notification: the capability ``authentication_failure_close``.)
    """
    can = short("authentication_failure_close") + b"t\x01"
    inside = short("capabilities") + b"F" + struct.pack(">I", len(can)) + can
    return struct.pack(">I", len(inside)) + inside


def method(channel: int, kind: tuple[int, int], arguments: bytes = b"") -> bytes:
    """A method frame."""
    return frame(METHOD, channel, struct.pack(">HH", *kind) + arguments)


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """Any frame."""
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes([END])


class Frames:
    """What comes, frame by frame."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._data = b""

    async def method(self) -> Method:
        """The next method; content and heartbeats are passed over. Raises ``Closed``."""
        while True:
            kind, channel, payload = await self._frame()
            if kind == METHOD:
                class_id, method_id = struct.unpack_from(">HH", payload)
                return Method(channel, (class_id, method_id), payload[4:])

    async def _frame(self) -> tuple[int, int, bytes]:
        while len(self._data) < 7:
            await self._more()
        if self._data.startswith(b"AMQP"):
            raise Closed("the server offers another protocol")
        kind, channel, size = struct.unpack_from(">BHI", self._data)
        if kind not in (METHOD, CONTENT, BODY, HEARTBEAT) or size > MAX_FRAME_BYTES:
            raise Closed("speaks no AMQP")
        while len(self._data) < size + 8:
            await self._more()
        payload, self._data = self._data[7 : 7 + size], self._data[size + 8 :]
        return kind, channel, payload

    async def _more(self) -> None:
        data = await self._wire.receive(TIMEOUT_SECONDS)
        if not data:
            raise Closed("closed without a word")
        self._data += data
