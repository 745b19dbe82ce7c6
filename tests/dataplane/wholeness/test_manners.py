"""What docs/explanation/manners.md says of headers that are too many or too large, and of an answer
that contradicts itself: who is cut off, and who is not."""

import asyncio
import ssl
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio

from tests.dataplane.wholeness.paths import (
    DEADLINE_SECONDS,
    HTTP_PATHS,
    WEBSOCKET,
    all_paths,
    client,
)
from tests.mesh import Mesh
from watertight.attack.http2 import HTTP2, connect
from watertight.attack.tls import Hello, handshake
from watertight.attack.wire import Closed, dial_tcp

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOST = "shop.example"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def mesh() -> AsyncIterator[Mesh]:
    async with all_paths() as running:
        yield running


@pytest.mark.parametrize("path", HTTP_PATHS)
async def test_no_content_with_a_length_is_no_answer(mesh: Mesh, path: str) -> None:
    async with client(mesh, path) as one:
        assert (await one.ask("GET", "/no-content/5", "Connection: close")).status == 502
    async with client(mesh, path) as one:
        assert (await one.ask("GET", "/no-content/0", "Connection: close")).status == 204


async def by_http2(mesh: Mesh) -> HTTP2:
    assert mesh.system.gateway is not None
    wire = await dial_tcp("127.0.0.1", mesh.system.gateway.port)
    hello = Hello(versions=(ssl.TLSVersion.TLSv1_3,) * 2, alpn=("h2",), server_name=HOST)
    secure = await handshake(wire, hello, timeout_seconds=DEADLINE_SECONDS)
    return await connect(secure, timeout_seconds=DEADLINE_SECONDS)


async def test_too_many_headers_end_a_request_and_not_its_connection(mesh: Mesh) -> None:
    many = [(f"x-{number}", "1") for number in range(150)]
    async with client(mesh, "gateway") as one:
        said = await one.ask("GET", "/other", *(f"{name}: {value}" for name, value in many))
        assert said.status == 431
    connection = await by_http2(mesh)
    for headers in (many, [("x", "y" * 40_000)]):
        with pytest.raises(Closed, match="stream reset, error 2"):
            await connection.request("GET", "/other", authority=HOST, headers=headers)
        assert (await connection.request("GET", "/other", authority=HOST)).status == 200
    await connection.close()


async def test_one_huge_header_ends_its_client_s_connection_and_nobody_else_s(mesh: Mesh) -> None:
    bystander, hostile = await by_http2(mesh), await by_http2(mesh)
    with pytest.raises(Closed, match="GOAWAY, error 9"):
        await hostile.request("GET", "/other", authority=HOST, headers=[("x", "~" * 100_000)])
    assert (await bystander.request("GET", "/other", authority=HOST)).status == 200
    await bystander.close()

    host, port = mesh.address("identity", "catalogue")
    own = [("grpc.use_local_subchannel_pool", 1)]
    async with (
        grpc.aio.insecure_channel(f"{host}:{port}", options=own) as calm,
        grpc.aio.insecure_channel(f"{host}:{port}", options=own) as large,
    ):
        stream = calm.stream_stream("/shop.Catalogue/Both")(timeout=DEADLINE_SECONDS)
        await stream.write(b"one")
        assert await stream.read() == b"one"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await large.unary_unary("/shop.Catalogue/Unary")(
                b"", metadata=[("x-large", "~" * 300_000)], timeout=DEADLINE_SECONDS
            )
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        await stream.write(b"two")
        assert await stream.read() == b"two"
        await stream.done_writing()
        # And who was cut off connects anew.
        assert await large.unary_unary("/shop.Catalogue/Unary")(b"x", timeout=DEADLINE_SECONDS)


async def test_an_upgrade_that_is_not_answered_ends_in_the_declared_time(mesh: Mesh) -> None:
    async with client(mesh, "hurried") as one:
        assert (await one.ask("GET", "/silent", *WEBSOCKET)).status == 504
    async with client(mesh, "hurried") as one:
        assert (await one.ask("GET", "/ws", *WEBSOCKET)).status == 101
        for _ in range(3):  # what was taken up outlives that time
            one.writer.write(b"x")
            assert await one.reader.readexactly(1) == b"x"
            await asyncio.sleep(0.6)  # the client's own quiet
