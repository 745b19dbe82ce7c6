"""Kafka's protocol, as little of it as the operator needs. Pure.

Versions without tagged fields only, all of which Kafka 4 speaks (kafka.apache.org/protocol).
"""

import struct
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


class Malformed(ValueError):
    """An answer that ends too early, or says what cannot be."""


def int8(value: int) -> bytes:
    """One byte; also a boolean."""
    return struct.pack(">b", value)


def int16(value: int) -> bytes:
    """Two bytes."""
    return struct.pack(">h", value)


def int32(value: int) -> bytes:
    """Four bytes."""
    return struct.pack(">i", value)


def int64(value: int) -> bytes:
    """Eight bytes."""
    return struct.pack(">q", value)


def float64(value: float) -> bytes:
    """Eight bytes."""
    return struct.pack(">d", value)


def string(value: str | None) -> bytes:
    """Two bytes of length (-1: null), then UTF-8."""
    if value is None:
        return int16(-1)
    data = value.encode()
    return int16(len(data)) + data


def array(items: Iterable[bytes] | None) -> bytes:
    """Four bytes of count (-1: null), then the items."""
    if items is None:
        return int32(-1)
    listed = list(items)
    return int32(len(listed)) + b"".join(listed)


def request(api: int, version: int, number: int, body: bytes) -> bytes:
    """A whole request (header version 1), with its length."""
    head = struct.pack(">hhi", api, version, number) + string("watertight")
    return int32(len(head) + len(body)) + head + body


class Answer:
    """Reads a body from its beginning. Every method raises :class:`Malformed`."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def int8(self) -> int:
        """One byte; also a boolean."""
        return int(self._number(">b"))

    def int16(self) -> int:
        """Two bytes."""
        return int(self._number(">h"))

    def int32(self) -> int:
        """Four bytes."""
        return int(self._number(">i"))

    def int64(self) -> int:
        """Eight bytes."""
        return int(self._number(">q"))

    def float64(self) -> float:
        """Eight bytes."""
        return self._number(">d")

    def _number(self, shape: str) -> float:
        found: tuple[float] = struct.unpack(shape, self._take(struct.calcsize(shape)))
        return found[0]

    def string(self) -> str | None:
        """Text, or null."""
        size = self.int16()
        return None if size < 0 else self._take(size).decode()

    def text(self) -> str:
        """Text; null is none."""
        return self.string() or ""

    def array(self, item: Callable[[], T]) -> list[T]:
        """So many items as the count says; null is none."""
        count = self.int32()
        if count > len(self._data):
            raise Malformed(f"an array of {count}")
        return [item() for _ in range(count)]

    def _take(self, size: int) -> bytes:
        found = self._data[self._at : self._at + size]
        if len(found) < size:
            raise Malformed("the answer ends too early")
        self._at += size
        return found
