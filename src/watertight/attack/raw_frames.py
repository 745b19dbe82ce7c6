"""HTTP/2 as frames, whatever stands in them: one end of a connection that keeps no rule (RFC 9113).

Header blocks are written without any table (RFC 7541 section 6.2.3), so that each stands alone.
"""

import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from hpack import Decoder
from hpack.exceptions import HPACKError

from watertight.attack.frames import HEAD_BYTES, LONGEST_FRAME_BYTES
from watertight.attack.http import Answer
from watertight.attack.patience import patience
from watertight.attack.wire import Closed, Wire

Fields: TypeAlias = Sequence[tuple[str, str]]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0x0, 0x1, 0x2, 0x3, 0x4
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0x6, 0x7, 0x8, 0x9
"""RFC 9113 section 6; servers of ours push nothing (0x5)."""
ACK = END_STREAM = 0x1
END_HEADERS, PADDED, PRIORITIZED = 0x4, 0x8, 0x20
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 0x3, 0x4
"""Settings (section 6.5.2)."""
CANCEL = 0x8
"""An error code (section 7)."""
WIDEST_WINDOW = 2**31 - 1
MOST_HEADER_BYTES = 4_194_304


def frame(kind: int, stream: int = 0, payload: bytes = b"", flags: int = 0) -> bytes:
    """One frame; its length is right, and nothing else need be."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def settings(values: Mapping[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, payload=b"".join(struct.pack("!HI", *v) for v in values.items()))


def block(fields: Fields) -> bytes:
    """A header block of literals that are never indexed, one byte a character."""
    return b"".join(b"\x10" + _string(name) + _string(value) for name, value in fields)


def headers(stream: int, fields: Fields, *, end: bool = False, more: bool = False) -> bytes:
    """HEADERS, in as many frames as they need. ``end``: of the stream; ``more``: no end of them."""
    data = block(fields)
    parts = [data[at : at + LONGEST_FRAME_BYTES] for at in range(0, len(data), LONGEST_FRAME_BYTES)]
    made = b""
    for number, part in enumerate(parts):
        last = number == len(parts) - 1 and not more
        flags = (END_HEADERS if last else 0) | (END_STREAM if end and not number else 0)
        made += frame(CONTINUATION if number else HEADERS, stream, part, flags)
    return made


def data(stream: int, content: bytes, *, end: bool = True) -> bytes:
    """DATA, in as many frames as it needs."""
    cuts = range(0, max(len(content), 1), LONGEST_FRAME_BYTES)
    parts = [content[at : at + LONGEST_FRAME_BYTES] for at in cuts]
    return b"".join(
        frame(DATA, stream, part, END_STREAM if end and number == len(parts) - 1 else 0)
        for number, part in enumerate(parts)
    )


def reset(stream: int, code: int = CANCEL) -> bytes:
    """RST_STREAM."""
    return frame(RST_STREAM, stream, code.to_bytes(4))


def _string(text: str) -> bytes:
    raw = text.encode("latin-1")
    return _integer(len(raw)) + raw


def _integer(number: int) -> bytes:
    """With a prefix of seven bits (RFC 7541 section 5.1)."""
    if number < 0x7F:
        return bytes([number])
    made, number = bytearray([0x7F]), number - 0x7F
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def unpadded(flags: int, payload: bytes) -> bytes:
    """What a DATA or HEADERS frame carries, without padding and priority (section 6.2)."""
    if flags & PADDED and payload:
        payload = payload[1 : len(payload) - payload[0]]
    return payload[5:] if flags & PRIORITIZED else payload


@dataclass
class Reply:
    """What came on one stream."""

    fields: tuple[tuple[str, str], ...] = ()
    body: bytearray = field(default_factory=bytearray)
    trailers: tuple[tuple[str, str], ...] = ()
    ended: bool = False
    error: int | None = None
    """Of the RST_STREAM that ended it."""

    @property
    def over(self) -> bool:
        """Whether nothing more comes."""
        return self.ended or self.error is not None

    def answer(self) -> Answer | None:
        """As an answer, if it is a whole one."""
        status = dict(self.fields).get(":status", "")
        if not self.ended or not status.isdecimal():
            return None
        named = tuple(f for f in self.fields if not f[0].startswith(":"))
        return Answer(int(status), named, bytes(self.body), self.trailers)


class Frames:
    """One connection. What comes in is sorted by streams; what goes out is the caller's affair."""

    def __init__(self, wire: Wire, *, reads: bool = True) -> None:
        self._wire = wire
        self._reads = reads
        """Whether it makes room for what it was sent."""
        self._held = b""
        self._decoder = Decoder()
        self._decoder.max_header_list_size = MOST_HEADER_BYTES
        self._block: tuple[int, int, bytes] | None = None
        self._next = 1
        self.replies: dict[int, Reply] = {}
        self.most_streams = 100
        """How many the other side takes at once, as far as it says so."""
        self.greeted = False
        self.pongs = 0
        self.gone = ""
        """How the other side ended the connection."""
        self.leaving = False
        """Whether it takes no more streams."""

    async def open(self, values: Mapping[int, int], *, timeout_seconds: float) -> None:
        """Sends the preface and SETTINGS, and waits for the other's. Raises ``Closed``."""
        wide = frame(WINDOW_UPDATE, payload=(WIDEST_WINDOW - 65_535).to_bytes(4))
        await self.send(PREFACE + settings(values) + (wide if self._reads else b""))
        if not await self.listen(timeout_seconds, lambda: self.greeted):
            raise Closed(self.gone or "no SETTINGS came")

    def new_stream(self) -> int:
        """The next number of ours."""
        number, self._next = self._next, self._next + 2
        self.replies[number] = Reply()
        return number

    async def send(self, content: bytes) -> None:
        """Sends bytes; an end is noticed by :meth:`listen`."""
        try:
            await self._wire.send(content)
        except Closed as end:
            self.gone = self.gone or str(end) or "closed"

    async def listen(self, timeout_seconds: float, done: Callable[[], bool]) -> bool:
        """Reads until ``done()``, until the end, or for so long; whether it is done.

        By receipts that end by themselves: one that is given up may have taken bytes along.
        """
        deadline = time.monotonic() + patience(timeout_seconds)
        while not done() and not self.gone:
            left = (deadline - time.monotonic()) / patience(1.0)
            if left <= 0:
                break
            try:
                received = await self._wire.receive(left)
            except TimeoutError:
                break
            except Closed as end:
                self.gone = str(end) or "closed"
                break
            if not received:
                self.gone = "closed"
            await self._take(received)
        return done()

    async def close(self) -> None:
        """Ends the connection; never raises."""
        await self._wire.close()

    async def _take(self, received: bytes) -> None:
        buffer, at = self._held + received, 0
        said = b""
        while len(buffer) - at >= HEAD_BYTES:
            end = at + HEAD_BYTES + int.from_bytes(buffer[at : at + 3])
            if end > len(buffer):
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            stream = int.from_bytes(buffer[at + 5 : at + 9]) & WIDEST_WINDOW
            said += self._heard(kind, flags, stream, buffer[at + HEAD_BYTES : end])
            at = end
        self._held = buffer[at:]
        if said:
            await self.send(said)

    def _heard(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        """Takes one frame; returns what has to be said to it."""
        if kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload) - 5, 6):
                name, value = struct.unpack_from("!HI", payload, at)
                if name == MAX_CONCURRENT_STREAMS:
                    self.most_streams = value
            self.greeted = True
            return frame(SETTINGS, flags=ACK)
        if kind == PING and flags & ACK:
            self.pongs += 1
        elif kind == PING:
            return frame(PING, payload=payload, flags=ACK)
        elif kind == GOAWAY and len(payload) >= 8:
            error = int.from_bytes(payload[4:8])
            self.leaving = True
            self.gone = self.gone or (f"GOAWAY, error {error}" if error else "")
        elif kind in {HEADERS, CONTINUATION}:
            self._take_block(kind, flags, stream, payload)
        elif stream in self.replies:
            return self._on_stream(kind, flags, stream, payload)
        return b""

    def _on_stream(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        reply = self.replies[stream]
        if kind == RST_STREAM:
            reply.error = int.from_bytes(payload)
        if kind != DATA:
            return b""
        reply.body += unpadded(flags, payload)
        reply.ended = reply.ended or bool(flags & END_STREAM)
        if not payload or not self._reads:
            return b""
        room = len(payload).to_bytes(4)
        return frame(WINDOW_UPDATE, payload=room) + frame(WINDOW_UPDATE, stream, room)

    def _take_block(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == HEADERS:
            self._block = (stream, flags, unpadded(flags, payload))
        elif self._block is not None:
            self._block = (stream, self._block[1], self._block[2] + payload)
        if not flags & END_HEADERS or self._block is None:
            return
        stream, first_flags, whole = self._block
        self._block = None
        try:
            fields = decoded(self._decoder, whole)
        except HPACKError as error:
            self.gone = f"not HTTP/2: {error}"
            return
        reply = self.replies.setdefault(stream, Reply())
        if any(name == ":status" and value.startswith("1") for name, value in fields):
            return  # interim
        if reply.fields:
            reply.trailers = fields
        else:
            reply.fields = fields
        reply.ended = reply.ended or bool(first_flags & END_STREAM)


def decoded(decoder: Decoder, data: bytes) -> tuple[tuple[str, str], ...]:
    """The fields of a header block, one character a byte. Raises ``HPACKError``."""
    return tuple(
        (bytes(name).decode("latin-1"), bytes(value).decode("latin-1"))
        for name, value in decoder.decode(data, raw=True)
    )
