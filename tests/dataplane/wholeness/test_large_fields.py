"""Too much metadata ends its own call, and no other one on the connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
import h2.config
import h2.connection
import h2.events
import pytest
import pytest_asyncio

from tests.dataplane.attacks import weaken
from tests.dataplane.wholeness.paths import DEADLINE_SECONDS, all_paths
from tests.mesh import Mesh
from watertight.dataplane.compile.http import MAX_FIELD_KIB, MAX_HEADERS, MAX_HEADERS_KIB

pytestmark = pytest.mark.asyncio(loop_scope="module")

WANTED = [
    ("grpc.max_metadata_size", 1 << 21),
    ("grpc.absolute_max_metadata_size", 1 << 21),
    ("grpc.use_local_subchannel_pool", 1),
]
"""A client that takes whatever comes; all its calls on one connection of its own."""
PASSES = ((1, 30_000), (5, 12_000), (MAX_HEADERS - 20, 4))
TOO_MUCH = (
    *((1, 62_000), (1, 70_000), (1, 80_000), (1, (MAX_FIELD_KIB << 10) - 100)),
    *((3, 30_000), (8, 50_000), (4, 100_000), (MAX_HEADERS + 100, 4)),
)
"""So many fields of so many bytes; Envoy takes 60 KiB of an answer's in all."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def mesh() -> AsyncIterator[Mesh]:
    async with all_paths() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", params=["between services", "gateway"])
async def channel(mesh: Mesh, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    gateway = mesh.system.gateway
    assert gateway is not None
    if request.param == "gateway":
        roots = grpc.ssl_channel_credentials(mesh.authority.bundle().pem())
        named = [*WANTED, ("grpc.ssl_target_name_override", gateway.hostname)]
        where = f"{gateway.address}:{gateway.port}"
        made = grpc.aio.secure_channel(where, roots, options=named)
    else:
        host, port = mesh.address("identity", "catalogue")
        made = grpc.aio.insecure_channel(f"{host}:{port}", options=WANTED)
    async with made:
        yield made


async def large(channel: Any, where: str, count: int, size: int) -> int:
    """How many large fields came. Raises ``AioRpcError``."""
    call = channel.unary_unary("/shop.Catalogue/Large")(
        f"{where} {count} {size}".encode(), timeout=DEADLINE_SECONDS
    )
    assert await call == b"whole"
    read = call.initial_metadata if where == "before" else call.trailing_metadata
    fields: list[tuple[str, str]] = list(await read())
    return sum(key.startswith("x-large") for key, _ in fields)


@pytest.mark.parametrize("where", ["before", "after"])
async def test_an_answer_ends_its_own_call_only(channel: Any, where: str) -> None:
    calm = channel.stream_stream("/shop.Catalogue/Both")(timeout=DEADLINE_SECONDS)
    for turn, (count, size) in enumerate((*PASSES, *TOO_MUCH)):
        if (count, size) in PASSES:
            assert await large(channel, where, count, size) == count
        else:
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await large(channel, where, count, size)
            assert failed.value.code() in {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE}
        await calm.write(b"%d" % turn)
        assert await calm.read() == b"%d" % turn, (count, size)
    await calm.done_writing()
    assert await calm.code() is grpc.StatusCode.OK


def _as_before(body: dict[str, Any]) -> None:
    (options,) = body["typed_extension_protocol_options"].values()
    del options["explicit_http_config"]["http2_protocol_options"]["max_header_field_size_kb"]


async def test_with_envoy_s_own_limit_it_ends_all(mesh: Mesh) -> None:
    async with mesh.sabotage(weaken.cluster("catalogue", "app", _as_before)):
        host, port = mesh.address("identity", "catalogue")
        async with grpc.aio.insecure_channel(f"{host}:{port}", options=WANTED) as channel:
            calm = channel.stream_stream("/shop.Catalogue/Both")(timeout=DEADLINE_SECONDS)
            await calm.write(b"one")
            assert await calm.read() == b"one"
            with pytest.raises(grpc.aio.AioRpcError):
                await large(channel, "after", 1, 80_000)
            assert await calm.code() is not grpc.StatusCode.OK


async def test_a_request_ends_its_own_call_only(mesh: Mesh) -> None:
    """Through the caller's proxy; the gateway takes less, and shares nobody's connection."""
    host, port = mesh.address("identity", "catalogue")
    async with grpc.aio.insecure_channel(f"{host}:{port}", options=WANTED) as channel:
        calm = channel.stream_stream("/shop.Catalogue/Both")(timeout=DEADLINE_SECONDS)
        for turn, (count, size) in enumerate(TOO_MUCH):
            # Some a server takes, or refuses itself, as the limits are that it has said by then.
            too_much = size * count > MAX_HEADERS_KIB << 10 or count > MAX_HEADERS
            with (
                pytest.raises(grpc.aio.AioRpcError) if too_much else suppress(grpc.aio.AioRpcError)
            ):
                await channel.unary_unary("/shop.Catalogue/Unary")(
                    b"",
                    metadata=[(f"x-{number}", "~" * size) for number in range(count)],
                    timeout=DEADLINE_SECONDS,
                )
            await calm.write(b"%d" % turn)
            assert await calm.read() == b"%d" % turn, (count, size)
        await calm.done_writing()
        assert await calm.code() is grpc.StatusCode.OK


class Caller:
    """An app that speaks HTTP/2 itself; no gRPC library sends trailers with a request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config=config)
        self.h2.initiate_connection()
        self.events: list[h2.events.Event] = []

    def call(self, method: str) -> int:
        """Begins one."""
        stream: int = self.h2.get_next_available_stream_id()
        pseudo = [(":method", "POST"), (":scheme", "http"), (":authority", "catalogue")]
        path = (":path", f"/shop.Catalogue/{method}")
        said = [("content-type", "application/grpc"), ("te", "trailers")]
        self.h2.send_headers(stream, [*pseudo, path, *said])
        return stream

    def message(self, stream: int, content: bytes) -> None:
        """One, as gRPC frames it."""
        self.h2.send_data(stream, b"\0" + len(content).to_bytes(4) + content)

    async def until(self, stream: int, *kinds: type[h2.events.Event]) -> None:
        """Returns once there was such an event. Fails if the connection ends."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not any(
                isinstance(e, kinds) and getattr(e, "stream_id", 0) == stream for e in self.events
            ):
                self._writer.write(self.h2.data_to_send())
                data = await self._reader.read(65_536)
                assert data, "the connection ended"
                self.events += self.h2.receive_data(data)
                gone = [e for e in self.events if isinstance(e, h2.events.ConnectionTerminated)]
                assert not gone, gone


@pytest.mark.parametrize(("count", "size"), [(1, 80_000), (12, 30_000), (1_300, 4)])
async def test_a_request_s_trailers_end_their_own_call_only(
    mesh: Mesh, count: int, size: int
) -> None:
    reader, writer = await asyncio.open_connection(*mesh.address("identity", "catalogue"))
    caller = Caller(reader, writer)
    calm, loud = caller.call("Both"), caller.call("Up")
    caller.message(calm, b"one")
    await caller.until(calm, h2.events.DataReceived)
    caller.message(loud, b"x")
    caller.h2.send_headers(
        loud, [(f"x-{number}", "~" * size) for number in range(count)], end_stream=True
    )
    # Answered by a server that takes so much, and reset by a proxy or a server that does not.
    await caller.until(loud, h2.events.ResponseReceived, h2.events.StreamReset)
    caller.events.clear()
    caller.message(calm, b"two")
    await caller.until(calm, h2.events.DataReceived)
    writer.close()
