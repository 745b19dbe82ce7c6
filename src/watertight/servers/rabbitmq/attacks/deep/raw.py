"""Frames that are none, and a connection that is taken for one that begins (sections 4.2, 4.8)."""

import struct

from watertight.attack.choices import Choices
from watertight.servers.rabbitmq.attacks import frames
from watertight.servers.rabbitmq.attacks.deep import methods

TOO_LARGE = 1 << 24
HIGHEST = 65_535
DEEP = 200
"""Tables in tables."""


def broken_content(
    choices: Choices, channel: int, begin: bytes, said: bytes, body: bytes
) -> tuple[str, bytes, bool]:
    """A message whose frames do not go together, and whether it has other properties than ``said``.

    Nothing is left that the broker would wait for: what comes next is an unexpected frame.
    """
    more = bytes([said[0], said[1] | 1]) + b"\0\0" + said[2:]
    short_property = b"\x20\x00\x00\x00\xff\xff"
    size = len(body)
    twice = begin + methods.content(channel, said, b"") + methods.content(channel, said, body)

    def message(said: bytes = said, *, size: int = size, of: int = 60, weight: int = 0) -> bytes:
        return begin + methods.content(channel, said, body, size=size, of=of, weight=weight)

    return choices.one(
        (
            (", with more body than said", message(size=0), False),
            (", with less body than said", message(size=size + 1), False),
            (", with one byte too many", message(size=size - 1), False),
            (", with 2**63 bytes to come", message(size=2**63), False),
            (", with the header of a queue", message(of=50), False),
            (", with a weight", message(weight=1), False),
            (", twice begun", begin + message(), False),
            (", without a header", begin + frames.frame(frames.BODY, channel, body), False),
            (", with a header twice", twice, False),
            (", with more properties to come", message(more), False),
            (", with a property cut short", message(short_property), True),
            (", with a table of an unknown type", message(_header(b"\x01a?")), True),
            (f", with {DEEP} tables in tables", message(_header(_nested(DEEP))), True),
        )
    )


def _header(inside: bytes) -> bytes:
    return struct.pack(">H", methods.HEADERS) + frames.long(inside)


def _nested(levels: int) -> bytes:
    inside = b"\x01aV"
    for _ in range(levels):
        inside = b"\x01aF" + frames.long(inside)
    return inside


def raw(choices: Choices, channel: int) -> tuple[str, bytes, bool]:
    """What it is, the bytes, and whether the broker may go on as if nothing were wrong."""
    method, opened, qos = frames.method, frames.short(""), b"\0" * 7
    host = frames.short(choices.one(("/", "", "watertight-other"))) + frames.short("") + b"\x00"
    tune = struct.pack(">HIH", HIGHEST, TOO_LARGE, 0)
    start = frames.client_properties() + frames.short("PLAIN") + frames.long(b"\0guest\0guest")
    start += frames.short("en_US")
    large = struct.pack(">BHI", frames.METHOD, channel, TOO_LARGE) + b"\0" * 64
    high = method(HIGHEST, frames.CHANNEL_OPEN, opened) + method(HIGHEST, (20, 40), b"\0" * 7)
    unknown = choices.one((4, 0, 255))
    secret = frames.long(b"x") + frames.short("x")
    header = b"\x00\x3c" + bytes(12)
    return choices.one(
        (
            ("a heartbeat on a channel", frames.frame(frames.HEARTBEAT, channel, b""), True),
            ("a heartbeat with a payload", frames.frame(frames.HEARTBEAT, 0, b"x"), True),
            ("an unknown type of frame", frames.frame(unknown, channel, b""), False),
            ("a frame with a wrong end", method(channel, (60, 10), qos)[:-1] + b"\0", False),
            ("a frame larger than agreed", large, False),
            ("an empty method", frames.frame(frames.METHOD, channel, b""), False),
            ("a method cut short", method(channel, (60, 40), b"\0\0\xffx"), False),
            ("a body without a message", frames.frame(frames.BODY, channel, b"x"), False),
            ("a header without a message", frames.frame(frames.CONTENT, channel, header), False),
            ("the highest channel", high, True),
            ("a channel that is open, opened", method(channel, (20, 10), opened), False),
            # Judged by another process of the broker's, after what comes next on ours.
            ("a method on a channel that is not open", method(9, (60, 10), qos), True),
            ("a channel's method on channel 0", method(0, (60, 10), qos), False),
            ("a connection's method on a channel", method(channel, frames.OPEN, host), False),
            ("the connection opened again", method(0, frames.OPEN, host), False),
            ("other limits, agreed on again", method(0, frames.TUNE_OK, tune), False),
            ("a login as guest, again", method(0, frames.START_OK, start), False),
            ("an answer to no challenge", method(0, (10, 21), frames.long(b"x")), False),
            ("another secret", method(0, (10, 70), secret), True),
            ("the end of no connection, agreed to", method(0, frames.CONNECTION_CLOSE_OK), False),
            ("the protocol begun again", frames.HEADER, False),
            ("the end of no channel, agreed to", method(channel, frames.CHANNEL_CLOSE_OK), True),
        )
    )
