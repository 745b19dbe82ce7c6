"""What one outsider holds of the gateway is not all of it: idle connections leave when it is
crowded, and open routes have a share of a service's requests."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.dataplane.compile.test_gateway_runs import KEYS, SHOP, Outside, outside, token
from tests.dataplane.wholeness.paths import WEBSOCKET
from tests.mesh import Mesh, running_mesh
from watertight.dataplane.compile import bootstrap, edge, shares
from watertight.model.system import GATEWAY

CONNECTIONS = 400
HEAP_BYTES = 192 << 20
"""What so many take, and an idle gateway, is more than a part of it of ``bootstrap.CROWDED``."""
DEADLINE_SECONDS = 40.0
ASK = b"GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n"
STALLED = b"POST / HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 1000\r\n\r\nab"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(mesh: Mesh) -> AsyncIterator[list[Streams]]:
    """A list for connections, that are cut in the end."""
    held: list[Streams] = []
    try:
        yield held
    finally:
        for _, writer in held:
            writer.transport.abort()


async def connect(mesh: Mesh, held: list[Streams]) -> Streams:
    assert mesh.system.gateway is not None
    trusting = ssl.create_default_context(cadata=mesh.identities.bundle().pem().decode())
    one = await asyncio.open_connection(
        "127.0.0.1", mesh.system.gateway.port, ssl=trusting, server_hostname="shop.example"
    )
    held.append(one)
    return one


async def test_who_asks_nothing_leaves_a_crowded_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bootstrap.HEAP_BYTES, GATEWAY, HEAP_BYTES)
    async with running_mesh(SHOP, keys=KEYS) as mesh, connected(mesh) as held:
        for _ in range(CONNECTIONS // 20):
            await asyncio.gather(*(connect(mesh, held) for _ in range(20)))
        reader, writer = await connect(mesh, held)
        writer.write(ASK)
        assert (await reader.readline()).split()[1] == b"200"
        async with asyncio.timeout(edge.IDLE_CONNECTION_SECONDS * 2 / 3):
            assert await held[0][0].read(-1) == b""


async def test_open_routes_do_not_take_the_bearers_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "OPEN_REQUESTS", 5)
    monkeypatch.setattr(shares, "OPEN_UPGRADES", 3)
    async with outside() as client, connected(client.mesh) as held:
        good = {"authorization": f"Bearer {token()}"}
        for _ in range(5):
            _, writer = await connect(client.mesh, held)
            writer.write(STALLED)
        await becomes(client, 503)
        assert (await client.ask("/admin", headers=good)).status_code == 200
        taken = [await _upgrade(client.mesh, held, "/open/ws") for _ in range(4)]
        assert taken == [101, 101, 101, 503]
        bearer = f"Authorization: Bearer {token()}"
        assert await _upgrade(client.mesh, held, "/admin", bearer) == 101
        for _, writer in held:
            writer.transport.abort()
        await becomes(client, 200)


async def _upgrade(mesh: Mesh, held: list[Streams], path: str, *more: str) -> int:
    reader, writer = await connect(mesh, held)
    head = [f"GET {path} HTTP/1.1", "Host: shop.example", *WEBSOCKET, *more, "", ""]
    writer.write("\r\n".join(head).encode())
    return int((await reader.readline()).split()[1])


async def becomes(client: Outside, status: int) -> None:
    """Until an open route is answered so."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (seen := (await client.ask("/open/a")).status_code) != status:
        assert time.monotonic() < deadline, seen
        await asyncio.sleep(0.1)
