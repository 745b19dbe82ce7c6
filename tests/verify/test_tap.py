"""The tap: what passes between a proxy and an app, byte for byte, and the end of it."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator

import pytest

from watertight.verify.tap import KEPT_BYTES, Tap, open_tap


async def _app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            if data.startswith(b"LARGE"):
                writer.write(b"x" * (3 * KEPT_BYTES))
            else:
                writer.write(b"<" + data + b">")
            await writer.drain()
    writer.close()


@pytest.fixture(params=["127.0.0.1", "::1"])
async def tapped(request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, int, Tap]]:
    server = await asyncio.start_server(_app, request.param, 0)
    port = server.sockets[0].getsockname()[1]
    try:
        tap = Tap(open_tap(port), port)
    except PermissionError:
        pytest.skip("a packet socket needs CAP_NET_RAW")
    try:
        yield request.param, port, tap
    finally:
        tap.close()
        server.close()


async def test_both_directions_are_seen_and_the_end(tapped: tuple[str, int, Tap]) -> None:
    host, port, tap = tapped
    reader, writer = await asyncio.open_connection(host, port)
    for text in (b"one", b"two"):
        writer.write(text)
        await reader.readexactly(len(text) + 2)
    (seen,) = tap.conversations(b"two")
    assert (seen.asked, seen.answered, seen.ended) == (b"onetwo", b"<one><two>", False)
    writer.write_eof()
    assert await reader.read() == b""
    (seen,) = tap.conversations()
    assert seen.ended
    assert seen.whole
    assert not tap.missed_since(0)
    writer.close()


async def test_only_connections_with_the_marker_are_told(tapped: tuple[str, int, Tap]) -> None:
    host, port, tap = tapped
    for text in (b"one", b"two"):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(text)
        await reader.readexactly(5)
        writer.close()
    assert [seen.asked for seen in tap.conversations(b"two")] == [b"two"]


async def test_a_large_answer_is_counted_and_said_to_be_cut(tapped: tuple[str, int, Tap]) -> None:
    host, port, tap = tapped
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"LARGE")
    await reader.readexactly(3 * KEPT_BYTES)
    (seen,) = tap.conversations()
    assert (seen.answered_bytes, len(seen.answered)) == (3 * KEPT_BYTES, KEPT_BYTES)
    assert not seen.whole
    assert not tap.missed_since(0)
    writer.close()


async def test_a_witness_that_the_loop_forgets_hears_on(tapped: tuple[str, int, Tap]) -> None:
    """While the loop is busy for long, more comes than the kernel keeps for anybody."""
    host, port, tap = tapped
    tap._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
    sent = [f"{number},".encode() for number in range(600)]
    with socket.create_connection((host, port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in sent:
            client.sendall(piece)
            time.sleep(0.001)  # noqa: ASYNC251 - the loop is to be blocked
    assert not tap.missed_since(0)
    seen = b"".join(conversation.asked for conversation in tap.conversations())
    assert b"".join(sent).startswith(seen)
    assert len(seen) > 1_000  # the last ones may be on their way still


async def test_a_pooled_connection_is_followed_from_its_next_request_on() -> None:
    server = await asyncio.start_server(_app, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"earlier")
    await reader.readexactly(9)
    try:
        tap = Tap(open_tap(port), port)
    except PermissionError:
        pytest.skip("a packet socket needs CAP_NET_RAW")
    writer.write(b"continued")
    await reader.readexactly(11)
    assert tap.conversations() == []
    request = b"GET / HTTP/1.1\r\n\r\n"
    writer.write(request)
    await reader.readexactly(len(request) + 2)
    (seen,) = tap.conversations()
    assert (seen.asked, seen.answered) == (request, b"<" + request + b">")
    tap.close()
    writer.close()
    server.close()
