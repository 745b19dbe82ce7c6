"""Answers and uploads at the edge of HTTP, as docs/explanation/manners.md says of them."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import h2.config
import h2.connection
import h2.events
import pytest
import pytest_asyncio

from tests.dataplane.compile.test_gateway_manners import HOST, Outside
from tests.dataplane.wholeness.apps import serving
from tests.mesh import running_mesh
from tests.ports import free_port
from watertight.model.system import Gateway, Listen, Protocol, Route, Service, System

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHUNKED = "Transfer-Encoding: chunked"
BODY = "2\r\nok\r\n0\r\n\r\n"
ANSWERS = {
    "/hints": (f"103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n{CHUNKED}", BODY, 200),
    "/both": (f"200 OK\r\nContent-Length: 7\r\n{CHUNKED}", BODY, 200),
    "/both-the-other-way": (f"200 OK\r\n{CHUNKED}\r\nContent-Length: 1", BODY, 200),
    "/two-lengths": ("200 OK\r\nContent-Length: 2\r\nContent-Length: 2", "ok", 502),
    "/other-lengths": ("200 OK\r\nContent-Length: 2\r\nContent-Length: 3", "ok", 502),
    "/two-codings": (f"200 OK\r\n{CHUNKED}\r\n{CHUNKED}", BODY, 502),
    "/no-phrase": ("200\r\nContent-Length: 2", "ok", 200),
    "/folded": ("200 OK\r\nContent-Length: 2\r\nX-Long: a\r\n  b", "ok", 200),
}
MAX_BYTES = 100_000


async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            said, body, _ = ANSWERS[head.split(" ")[1]]
            writer.write(f"HTTP/1.1 {said}\r\n\r\n{body}".encode())
            await writer.drain()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def client() -> AsyncIterator[Outside]:
    routes = (Route("/**", "web", ("GET", "POST")),)
    async with serving(app) as port:
        gateway = Gateway(HOST, routes, port=free_port("127.0.0.1"), max_request_bytes=MAX_BYTES)
        web = Service("web", listens=Listen(Protocol.HTTP, port))
        system = System("shop.internal", services={"web": web}, gateway=gateway)
        async with running_mesh(system, apps=False) as mesh:
            yield Outside(mesh)


@pytest.mark.parametrize("path", ANSWERS)
async def test_an_answer_has_one_end_or_is_502(client: Outside, path: str) -> None:
    text = await client.raw(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n")
    head, _, body = text.partition("\r\n\r\n")
    status = ANSWERS[path][2]
    assert int(head.split(" ")[1]) == status
    if status == 200:
        assert body in {BODY, "ok"}
        assert not ("content-length" in head and "transfer-encoding" in head)


async def test_a_413_over_http2_is_whole_before_the_stream_is_reset(client: Outside) -> None:
    """RFC 9113 section 8.1: a complete answer, then ``RST_STREAM(NO_ERROR)``."""
    client.context.set_alpn_protocols(["h2"])
    reader, writer = await client.connect()
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    connection.initiate_connection()
    length = ("content-length", str(10 * MAX_BYTES))
    pseudo = [(":method", "POST"), (":scheme", "https"), (":authority", HOST), (":path", "/both")]
    connection.send_headers(1, [*pseudo, length])
    connection.send_data(1, b"x" * 16_384)
    seen: list[h2.events.Event] = []
    try:
        async with asyncio.timeout(30):
            while not any(isinstance(event, h2.events.StreamReset) for event in seen):
                writer.write(connection.data_to_send())
                seen += connection.receive_data(await reader.read(65_536))
    except ssl.SSLError as error:  # pragma: no cover - a reset connection is the failure
        pytest.fail(str(error))
    finally:
        client.context.set_alpn_protocols(["http/1.1"])
        writer.close()
    kinds = [type(event) for event in seen]
    (answer,) = (event for event in seen if isinstance(event, h2.events.ResponseReceived))
    (reset,) = (event for event in seen if isinstance(event, h2.events.StreamReset))
    assert dict(answer.headers)[b":status"] == b"413"
    assert kinds.index(h2.events.StreamEnded) < kinds.index(h2.events.StreamReset)
    assert reset.error_code == 0
