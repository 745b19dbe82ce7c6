"""HTTP/2 frames cut out of a stream of bytes, as far as an HTTP/2 library needs help with them."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

HEAD_BYTES = 9
"""RFC 9113 section 4.1: length (24 bits), type, flags, stream."""
GOAWAY = 0x7
LONGEST_FRAME_BYTES = 16_384
"""RFC 9113 section 4.2; we never allow more."""


@dataclass(frozen=True, slots=True)
class GoAway:
    """The peer takes no more streams (RFC 9113 section 6.8)."""

    last_stream: int
    """Answers to streams up to this one still come."""
    error: int

    def ends(self, stream: int) -> bool:
        """Whether this stream is over too."""
        return self.error != 0 or stream > self.last_stream

    def __str__(self) -> str:
        return f"GOAWAY, error {self.error}"


class WithoutGoAway:
    """Splits what comes in: bytes to be handed on at once, and each GOAWAY instead of its frame."""

    def __init__(self) -> None:
        self._held = b""
        """The beginning of a frame of which it is not known yet what becomes of it."""
        self._passing = 0
        """Bytes that are left of the frame that is being handed on."""

    def take(self, data: bytes) -> Iterator[bytes | GoAway]:
        """What the next bytes come to, in order."""
        data, self._held = self._held + data, b""
        at = 0
        handed = 0
        while at < len(data):
            if self._passing:
                step = min(self._passing, len(data) - at)
                self._passing -= step
                at += step
                continue
            head = data[at : at + HEAD_BYTES]
            length = int.from_bytes(head[:3])
            known = len(head) == HEAD_BYTES
            if known and (head[3] != GOAWAY or not 8 <= length <= LONGEST_FRAME_BYTES):
                at, self._passing = at + HEAD_BYTES, length
                continue
            end = at + HEAD_BYTES + length
            if at > handed:
                yield data[handed:at]
            if not known or len(data) < end:
                self._held = data[at:]
                return
            last_stream, error = struct.unpack_from("!II", data, at + HEAD_BYTES)
            yield GoAway(last_stream & 0x7FFFFFFF, error)
            at = handed = end
        if at > handed:
            yield data[handed:at]
