"""What becomes of requests to an app that is not there, and to one that ends connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio
import pytest

from tests.apps import running_app
from tests.mesh import Mesh, running_mesh
from tests.ports import free_port
from watertight.model.system import (
    GATEWAY,
    Channel,
    Gateway,
    HTTPGrant,
    Listen,
    Protocol,
    Route,
    RPCGrant,
    Service,
    System,
)

AWAY_SECONDS = 1.5
"""As an app of Python or Node takes to start again."""
GRANTS = tuple(HTTPGrant(method, "/orders/*") for method in ("GET", "POST", "PUT"))
CALLS = (RPCGrant("shop.Catalogue", "*"),)


def system(orders: int, catalogue: int = 1) -> System:
    """With and without ``retries``, and an outside."""
    return System(
        "shop.internal",
        services={
            "orders": Service("orders", listens=Listen(Protocol.HTTP, orders)),
            "catalogue": Service("catalogue", listens=Listen(Protocol.GRPC, catalogue)),
            "plain": Service("plain"),
            "retrier": Service("retrier"),
        },
        channels=(
            Channel("plain", "orders", GRANTS),
            Channel("retrier", "orders", GRANTS, retries=1),
            Channel("plain", "catalogue", CALLS),
            Channel("retrier", "catalogue", CALLS, retries=1),
        ),
        gateway=Gateway(
            hostname="localhost",
            port=free_port(),
            routes=(Route("/orders/*", "orders", methods=("GET", "POST")),),
        ),
    )


async def ask(mesh: Mesh, caller: str, method: str, length: int = 20_000) -> int:
    """The status of one request, with a body where the method has one."""
    body = b"" if method == "GET" else b"x" * length
    if caller == GATEWAY:
        answer = await mesh.outside(method, "/orders/1", content=body, timeout=60.0)
    else:
        answer = await mesh.request(
            caller, "orders", method, "/orders/1", content=body, timeout=60.0
        )
    assert not any(name.startswith("x-watertight") for name in answer.headers)
    return answer.status_code


async def call(mesh: Mesh, caller: str, length: int = 20_000) -> int:
    """The status of one call."""
    host, port = mesh.address(caller, "catalogue")
    async with grpc.aio.insecure_channel(f"{host}:{port}") as channel:
        ask_for = channel.unary_unary("/shop.Catalogue/Get")
        try:
            sent = b"x" * length
            return 0 if await ask_for(sent, timeout=60.0) == sent else -1
        except grpc.aio.AioRpcError as error:
            return int(error.code().value[0])


async def test_an_app_that_starts_again_loses_no_request() -> None:
    orders, catalogue = free_port(), free_port()
    ways = [(c, m) for c in ("plain", "retrier", GATEWAY) for m in ("GET", "POST")]
    callers = ("plain", "retrier")
    async with running_mesh(system(orders, catalogue), apps=False) as mesh:
        asked = [asyncio.ensure_future(ask(mesh, *way)) for way in ways]
        called = [asyncio.ensure_future(call(mesh, caller)) for caller in callers]
        await asyncio.sleep(AWAY_SECONDS)
        assert not any(task.done() for task in (*asked, *called))
        async with (
            running_app("orders", Protocol.HTTP, orders),
            running_app("catalogue", Protocol.GRPC, catalogue),
        ):
            assert dict(zip(ways, await asyncio.gather(*asked), strict=True)) == dict.fromkeys(
                ways, 200
            )
            assert await asyncio.gather(*called) == [0, 0]


async def test_an_app_that_stays_away_is_unavailable_and_nothing_of_ours_is_told() -> None:
    async with running_mesh(system(free_port(), free_port()), apps=False) as mesh:
        asked = (ask(mesh, caller, "POST") for caller in ("plain", "retrier", GATEWAY))
        called = (call(mesh, caller) for caller in ("plain", "retrier"))
        assert await asyncio.gather(*asked, *called) == [503, 503, 503, 14, 14]


@pytest.mark.parametrize("length", [60_000, 1_000_000])
async def test_what_is_too_long_to_be_kept_is_refused_as_unavailable(length: int) -> None:
    """At once, or once all tries are over: as its beginning was read before the app was asked."""
    async with running_mesh(system(free_port(), free_port()), apps=False) as mesh:
        asked = (ask(mesh, caller, "POST", length) for caller in ("plain", "retrier", GATEWAY))
        called = (call(mesh, caller, length) for caller in ("plain", "retrier"))
        assert await asyncio.gather(*asked, *called) == [503, 503, 503, 14, 14]


@asynccontextmanager
async def answering(answer: bytes, port: int = 0) -> AsyncIterator[tuple[int, list[str]]]:
    """An app that answers each request so and hangs up; its port, and the methods that it saw."""
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        seen.append(head.split(" ")[0])
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1], seen
    finally:
        server.close()


UNAVAILABLE = b"HTTP/1.1 503 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
CLAIMS_UNSEEN = UNAVAILABLE.replace(b"\r\n\r\n", b"\r\nx-watertight-unseen: 1\r\n\r\n")


@pytest.mark.parametrize(
    ("answer", "times"),
    [
        (UNAVAILABLE, {"plain": (1, 1, 1), "retrier": (2, 2, 1)}),
        (CLAIMS_UNSEEN, {"plain": (1, 1, 1), "retrier": (2, 2, 1)}),
        (b"", {"plain": (3, 1, 1), "retrier": (2, 2, 1)}),
    ],
    ids=["it answers 503", "it claims that it saw nothing", "it hangs up"],
)
async def test_what_an_app_has_seen_it_sees_again_only_if_it_may(
    answer: bytes, times: dict[str, tuple[int, int, int]]
) -> None:
    """Of GET, PUT and POST; never as often as what it has not seen is tried."""
    async with answering(answer) as (port, seen), running_mesh(system(port), apps=False) as mesh:
        counted = {}
        for caller in times:
            seen.clear()
            for method in ("GET", "PUT", "POST"):
                assert await ask(mesh, caller, method) in {502, 503}
            counted[caller] = tuple(seen.count(method) for method in ("GET", "PUT", "POST"))
    assert counted == times


async def dies(port: int) -> None:
    """Reads one request and ends without an answer."""
    read = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.close()
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()
        read.set()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    await read.wait()


@pytest.mark.parametrize(
    ("caller", "method"),
    [("plain", "GET"), ("retrier", "GET"), ("retrier", "PUT"), (GATEWAY, "GET")],
)
async def test_what_an_app_has_seen_before_it_went_is_not_unseen(caller: str, method: str) -> None:
    """The next tries are refused, and whoever asks it again in a second may end it once more."""
    port = free_port()
    async with running_mesh(system(port), apps=False) as mesh:
        ending = asyncio.ensure_future(dies(port))
        await asyncio.sleep(0.1)
        asked = asyncio.ensure_future(ask(mesh, caller, method))
        await ending
        await asyncio.sleep(1.0)
        async with answering(UNAVAILABLE, port) as (_, seen):
            assert await asked == 503
        assert seen == []
