"""Every byte arrives, then the end arrives: HTTP, by each way of declaring a channel."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio

from tests.dataplane.wholeness import apps
from tests.dataplane.wholeness.paths import (
    DEADLINE_SECONDS,
    HTTP_PATHS,
    WEBSOCKET,
    all_paths,
    client,
)
from tests.mesh import Mesh

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.parametrize("path", HTTP_PATHS),
]

MEGABYTE = 1_000_000


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def mesh() -> AsyncIterator[Mesh]:
    async with all_paths() as running:
        yield running


@pytest.mark.parametrize("kind", ["sized", "unsized", "chunked"])
@pytest.mark.parametrize(
    "size", [MEGABYTE, 3 * MEGABYTE, pytest.param(50 * MEGABYTE, marks=pytest.mark.slow)]
)
async def test_answers_kept_alive_or_closed(mesh: Mesh, path: str, kind: str, size: int) -> None:
    async with client(mesh, path) as one:
        for _ in range(2):
            assert len((await one.ask("GET", f"/{kind}/{size}")).body) == size
        assert len((await one.ask("GET", f"/{kind}/{size}", "Connection: close")).body) == size
        assert await one.rest() == b""


async def test_http_1_0(mesh: Mesh, path: str) -> None:
    async with client(mesh, path) as one:
        one.writer.write(b"GET /unsized/1000000 HTTP/1.0\r\nHost: shop.example\r\n\r\n")
        answer = await one.answer()
        if path != "gateway":  # what speaks HTTP/1.0 there is the gateway's own matter
            assert len(answer.body) == MEGABYTE
            assert await one.rest() == b""


async def test_a_slow_reader_loses_nothing(mesh: Mesh, path: str) -> None:
    """Longer than any proxy waits by default for a byte to be taken of what it closes."""
    async with client(mesh, path, limit=1024) as one:
        one.say("GET", f"/sized/{3 * MEGABYTE}", "Connection: close")
        await asyncio.sleep(2.5)  # the reader's own slowness
        assert len((await one.answer()).body) == 3 * MEGABYTE
        assert await one.rest() == b""


@pytest.mark.slow
async def test_a_reader_slower_than_any_idle_timeout_loses_nothing(mesh: Mesh, path: str) -> None:
    if path == "gateway":
        pytest.skip("an outsider who takes no byte for so long is shown out")
    async with client(mesh, path, limit=1024) as one:
        one.say("GET", f"/sized/{3 * MEGABYTE}", "Connection: close")
        await asyncio.sleep(90)  # the reader's own slowness
        assert len((await one.answer()).body) == 3 * MEGABYTE


async def test_trailers_pass_both_ways(mesh: Mesh, path: str) -> None:
    async with client(mesh, path) as one:
        answer = await one.ask("GET", "/chunked/10", "TE: trailers", "Connection: TE")
        assert answer.trailers.replace(" ", "") == "x-sum:42;"
        lies = "x-forwarded-client-cert: URI=spiffe://x\r\nhost: y\r\n"
        lies += "x-watertight-subject: root\r\n"
        coded = f"3\r\nabc\r\n0\r\nx-sum: 7\r\n{lies}\r\n".encode()
        answer = await one.ask("POST", "/count", "Transfer-Encoding: chunked", body=coded)
        assert answer.body.replace(b" ", b"") == b"3x-sum:7;"


async def test_uploads(mesh: Mesh, path: str) -> None:
    body = b"x" * (3 * MEGABYTE)
    async with client(mesh, path) as one:
        for size in (0, 1, len(body)):
            answer = await one.ask("POST", "/count", f"Content-Length: {size}", body=body[:size])
            assert answer.body == b"%d " % size
        coded = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        answer = await one.ask("POST", "/count", "Transfer-Encoding: chunked", body=coded)
        assert answer.body == b"%d " % len(body)
        # A body on a method that has none by custom, as search engines take it.
        answer = await one.ask("GET", "/count", "Content-Length: 3", body=b"abc")
        assert answer.body == b"3 "


async def test_who_waits_for_100_continue_gets_it(mesh: Mesh, path: str) -> None:
    async with client(mesh, path) as one:
        one.say("POST", "/count", "Content-Length: 3", "Expect: 100-continue")
        assert (await one.answer()).status == 100
        one.writer.write(b"abc")
        answer = await one.answer()
        assert (answer.status, answer.body) == (200, b"3 ")


async def test_an_early_answer_arrives_during_the_upload(mesh: Mesh, path: str) -> None:
    """To a client that reads while it writes, from a server that hears it out."""
    answer = await _answer_to_an_upload(mesh, path, "POST", "/early")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b"too much")


async def test_a_refusal_arrives_during_the_upload(mesh: Mesh, path: str) -> None:
    if path in {"identity", "gateway"}:
        pytest.skip("nothing is refused here by the callee's door")
    assert (await _answer_to_an_upload(mesh, path, "PUT", "/x")).startswith(b"HTTP/1.1 403 ")


async def _answer_to_an_upload(mesh: Mesh, path: str, method: str, target: str) -> bytes:
    """What a client finds that reads while it writes a body that nobody wants.

    A proxy on loopback closes right behind the answer. asyncio's streams give up what they have
    not read yet once a write fails; the socket still has it.
    """
    size = 50 * MEGABYTE
    if path == "gateway":
        async with client(mesh, path) as one, asyncio.TaskGroup() as group:
            one.say(method, target, f"Content-Length: {size}")
            sending = group.create_task(_send(one.writer, size))
            answer = await one.answer()
            sending.cancel()
        return answer.head.upper().encode() + answer.body
    loop = asyncio.get_running_loop()
    with socket.create_connection(mesh.address(path, "web")) as one_socket:
        one_socket.setblocking(False)
        head = f"{method} {target} HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {size}\r\n\r\n"
        async with asyncio.TaskGroup() as group, asyncio.timeout(DEADLINE_SECONDS):
            sending = group.create_task(_send_all(one_socket, head.encode() + bytes(size)))
            parts = []
            with suppress(ConnectionResetError):  # what came before it has been read
                while part := await loop.sock_recv(one_socket, 65_536):
                    parts.append(part)
            sending.cancel()
    return b"".join(parts)


async def _send_all(one_socket: socket.socket, data: bytes) -> None:
    with suppress(ConnectionError):
        await asyncio.get_running_loop().sock_sendall(one_socket, data)


async def _send(writer: asyncio.StreamWriter, size: int) -> None:
    with suppress(ConnectionError):
        await apps.send(writer, size)


async def test_events_arrive_one_by_one(mesh: Mesh, path: str) -> None:
    async with client(mesh, path) as one:
        one.say("GET", "/events/5")
        async with asyncio.timeout(20):
            await one.reader.readuntil(b"data: 0\n\n")
            rest = await one.reader.readuntil(b"\r\n0\r\n\r\n")
        assert b"data: 4" in rest


async def test_a_deadline_of_grpc_is_none_of_http(mesh: Mesh, path: str) -> None:
    async with client(mesh, path) as one:
        answer = await one.ask("GET", "/events/5", "grpc-timeout: 10m")
    assert answer.status == 200
    assert b"data: 4" in answer.body


@pytest.mark.parametrize("size", [3 * MEGABYTE])
async def test_a_websocket_that_the_server_ends(mesh: Mesh, path: str, size: int) -> None:
    async with client(mesh, path) as one:
        assert (await one.ask("GET", f"/ws/{size}", *WEBSOCKET)).status == 101
        assert len(await one.rest()) == size


async def test_a_websocket_that_the_client_ends(mesh: Mesh, path: str) -> None:
    async with client(mesh, path) as one:
        assert (await one.ask("GET", "/ws", *WEBSOCKET)).status == 101
        one.writer.write(b"x" * MEGABYTE)
        async with asyncio.timeout(20):
            assert len(await one.reader.readexactly(MEGABYTE)) == MEGABYTE


@pytest.mark.parametrize("status", [200, 201, 204, 301, 302, 304, 400, 401, 426, 500, 503])
async def test_an_answer_that_takes_up_no_upgrade(mesh: Mesh, path: str, status: int) -> None:
    async with client(mesh, path) as one:
        answer = await one.ask("GET", f"/no-ws/{status}", *WEBSOCKET)
    assert answer.status == status
    assert "\r\nlocation: /elsewhere\r\n" in answer.head
    assert "\r\nset-cookie: a=b\r\n" in answer.head
    assert "x-watertight" not in answer.head
    if status in {204, 304}:
        assert answer.body == b""
    else:
        assert "\r\ncontent-type: text/x\r\n" in answer.head
        assert answer.body == b"['Upgrade', 'websocket']\n" + apps.CHUNK + apps.CHUNK


@pytest.mark.parametrize(
    "said",
    [
        ("Connection: Upgrade, x-watertight-subject, X-Forwarded-Client-Cert, host",),
        ("Connection: keep-alive, Upgrade",),  # Firefox
        ("Connection: x-forwarded-for", "connection:UPGRADE,", "Connection: content-length, te"),
    ],
)
async def test_of_an_upgrade_connection_names_nothing_else(
    mesh: Mesh, path: str, said: tuple[str, ...]
) -> None:
    """Whoever obeys it behind us would drop what we write."""
    async with client(mesh, path) as one:
        answer = await one.ask("GET", "/no-ws/400", *said, *WEBSOCKET[1:])
    assert answer.body.startswith(b"['Upgrade', 'websocket']\n")
