"""AMQP 0-9-1 methods with all that they can say, right or wrong (specification, 1.4 to 1.9)."""

import struct
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from watertight.servers.rabbitmq.attacks import frames

Value: TypeAlias = str | bool | int | Sequence[str] | bytes
"""Of a field: a long string, a truth, a number, an array of strings; bytes: as they are."""
Table: TypeAlias = Mapping[str, Value]

PUBLISH, GET, CONSUME = (60, 40), (60, 70), (60, 20)
HEADERS = 1 << 13
_WORDS = (
    ("content_type", 15),
    ("content_encoding", 14),
    ("headers", 13),
    ("delivery_mode", 12),
    ("priority", 11),
    ("correlation_id", 10),
    ("reply_to", 9),
    ("expiration", 8),
    ("message_id", 7),
    ("timestamp", 6),
    ("type", 5),
    ("user_id", 4),
    ("app_id", 3),
)
"""Properties of a message, and the bits that announce them (section 4.2.6.1)."""
_OCTETS = ("delivery_mode", "priority")


def field(name: str, value: Value) -> bytes:
    """One field of a table (section 4.2.5.5)."""
    head = frames.short(name)
    match value:
        case bytes():
            return head + value
        case bool():
            return head + b"t" + bytes([value])
        case int():
            return head + b"I" + struct.pack(">i", value)
        case str():
            return head + b"S" + frames.long(value.encode())
        case _:
            return frames.array(name, *value)


def table(fields: Table) -> bytes:
    """A field table."""
    return frames.long(b"".join(field(name, value) for name, value in fields.items()))


def bits(*flags: bool) -> bytes:
    """Consecutive bits, which share an octet (section 4.2.5.2)."""
    return bytes([sum(flag << at for at, flag in enumerate(flags))])


def method(channel: int, kind: tuple[int, int], *arguments: bytes | str) -> bytes:
    """A method frame: strings become short strings."""
    said = b"".join(a if isinstance(a, bytes) else frames.short(a) for a in arguments)
    return frames.method(channel, kind, said)


RESERVED = b"\x00\x00"
"""What was a ticket once (section 1.3.1)."""


def properties(said: Mapping[str, Value | Table]) -> bytes:
    """Property flags and list of a content header."""
    flags, listed = 0, b""
    for name, bit in _WORDS:
        if name not in said:
            continue
        flags |= 1 << bit
        value = said[name]
        if isinstance(value, Mapping):
            listed += table(value)
        elif name == "timestamp":
            listed += struct.pack(">Q", value)
        elif name in _OCTETS:
            listed += struct.pack(">B", value)
        else:
            listed += frames.short(str(value))
    return struct.pack(">H", flags) + listed


def content(
    channel: int,
    said: bytes,
    body: bytes,
    *,
    size: int | None = None,
    of: int = 60,
    weight: int = 0,
) -> bytes:
    """Header and body. ``said``: what :func:`properties` makes; ``size``: what is said of the body,
    if not the truth."""
    header = struct.pack(">HHQ", of, weight, len(body) if size is None else size) + said
    parts = frames.frame(frames.CONTENT, channel, header)
    return parts + (frames.frame(frames.BODY, channel, body) if body else b"")
