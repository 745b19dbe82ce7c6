"""HTTP/2 as a witness overheard it: which streams an app was sent, and what it answered on each.

From the middle of a connection on, a field that repeats an earlier one cannot be read (RFC 7541
section 2.3.2): it is :data:`UNKNOWN`. Whatever was never said before is written out.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from hpack import Decoder
from hpack.exceptions import HPACKError
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from watertight.attack.frames import HEAD_BYTES, LONGEST_FRAME_BYTES
from watertight.attack.raw_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    RST_STREAM,
    WIDEST_WINDOW,
    decoded,
    unpadded,
)
from watertight.attack.witness import Conversation

_HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
UNKNOWN = ("?", "?")
_ENTRIES = 110
"""Of a table of 4,096 bytes, as many as this can be filled with."""


@dataclass
class Side:
    """What one side said on a stream."""

    fields: tuple[tuple[str, str], ...] = ()
    body: bytearray = field(default_factory=bytearray)
    trailers: tuple[tuple[str, str], ...] = ()
    ended: bool = False
    reset: bool = False


@dataclass
class HeardStream:
    """One request as it reached an app, and what the app said to it."""

    asked: Side = field(default_factory=Side)
    answered: Side = field(default_factory=Side)

    @property
    def is_partial(self) -> bool:
        """Whether not all of its fields could be read."""
        return not self.asked.fields or any(n == UNKNOWN[0] for n, _ in self.asked.fields)

    def value(self, beginning: str) -> str:
        """The first value that begins so, of whatever field: its name may be unknown."""
        return next((v for _, v in self.asked.fields if v.startswith(beginning)), "")

    def header(self, name: str) -> tuple[str, ...]:
        """Each value of that name, as it reached the app."""
        return tuple(value for key, value in self.asked.fields if key == name)


def streams_in(conversation: Conversation, token: str) -> list[HeardStream]:
    """The streams of a connection that began with a field whose value begins with ``token``.

    A connection on which it never stands is passed over unread: a proof makes thousands of streams.
    """
    marks = (token.encode(), _HUFFMAN.encode(token.encode())[:-1])
    if not any(mark in conversation.asked for mark in marks):
        return []
    from_start = conversation.asked.startswith(PREFACE)
    found: dict[int, HeardStream] = {}
    decoder = _decoder(from_start=from_start)
    for kind, flags, stream, payload in _frames(conversation.asked):
        fields = _fields(decoder, payload) if kind == HEADERS else ()
        if stream not in found:
            if kind != HEADERS or not any(value.startswith(token) for _, value in fields):
                continue
            found[stream] = HeardStream()
        _take(found[stream].asked, kind, flags, payload, fields)
    decoder = _decoder(from_start=from_start)
    for kind, flags, stream, payload in _frames(conversation.answered):
        fields = _fields(decoder, payload) if kind == HEADERS else ()
        if stream in found:
            _take(found[stream].answered, kind, flags, payload, fields)
    return list(found.values())


def _decoder(*, from_start: bool) -> Decoder:
    decoder = Decoder()
    if not from_start:
        name, value = (part.encode() for part in UNKNOWN)
        for _ in range(_ENTRIES):
            decoder.header_table.add(name, value)
    return decoder


def _take(
    side: Side, kind: int, flags: int, payload: bytes, fields: tuple[tuple[str, str], ...]
) -> None:
    if kind == HEADERS:
        if side.fields and not any(n == ":status" and v[0] == "1" for n, v in side.fields):
            side.trailers = fields
        else:
            side.fields = fields
    elif kind == DATA:
        side.body += unpadded(flags, payload)
    elif kind == RST_STREAM:
        side.reset = True
    if kind in {HEADERS, DATA} and flags & END_STREAM:
        side.ended = True


def _fields(decoder: Decoder, payload: bytes) -> tuple[tuple[str, str], ...]:
    try:
        return decoded(decoder, payload)
    except HPACKError:
        return (UNKNOWN,)


def _frames(said: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Kind, flags, stream and content of each whole frame; header blocks are put together."""
    at = len(PREFACE) if said.startswith(PREFACE) else 0
    begun: tuple[int, int, bytes] | None = None
    while len(said) - at >= HEAD_BYTES:
        end = at + HEAD_BYTES + int.from_bytes(said[at : at + 3])
        kind, flags = said[at + 3], said[at + 4]
        if end > len(said) or end - at > HEAD_BYTES + LONGEST_FRAME_BYTES:
            return
        stream = int.from_bytes(said[at + 5 : at + 9]) & WIDEST_WINDOW
        payload, at = said[at + HEAD_BYTES : end], end
        if kind == HEADERS:
            begun = (stream, flags, unpadded(flags, payload))
        elif kind == CONTINUATION and begun is not None:
            begun = (stream, begun[1], begun[2] + payload)
        else:
            yield kind, flags, stream, payload
            continue
        if flags & END_HEADERS:
            yield HEADERS, begun[1], begun[0], begun[2]
            begun = None


def holds_frames(payload: bytes) -> bool:
    """Whether a packet holds whole frames and nothing else, as when a proxy begins to speak."""
    at = len(PREFACE) if payload.startswith(PREFACE) else 0
    while len(payload) - at >= HEAD_BYTES and payload[at + 3] <= CONTINUATION:
        at += HEAD_BYTES + int.from_bytes(payload[at : at + 3])
    return bool(payload) and at == len(payload)
