"""What a change of the declaration does to connections that are open, on real Envoys."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import grpc
import pytest

from tests.dataplane.compile import doors
from tests.mesh import Mesh, running_mesh
from watertight.attack.arena import Credential
from watertight.dataplane.compile import compile_envoy
from watertight.dataplane.resources import ResourceType
from watertight.model.system import (
    Channel,
    HTTPGrant,
    Listen,
    Protocol,
    RPCGrant,
    Service,
    System,
)

DEADLINE_SECONDS = 60.0

SHOP = System(
    "shop.internal",
    services={
        "orders": Service("orders", listens=Listen(Protocol.HTTP, 1)),
        "catalogue": Service("catalogue", listens=Listen(Protocol.GRPC, 1)),
        "stock": Service("stock", listens=Listen(Protocol.TCP, 1)),
        "caller": Service("caller"),
        "witness": Service("witness"),
    },
    channels=(
        Channel("caller", "orders", (HTTPGrant("GET", "/orders/*"),)),
        Channel("witness", "orders"),
        Channel("caller", "catalogue", (RPCGrant("shop.Catalogue", "Get"),)),
        Channel("witness", "catalogue", (RPCGrant("shop.Catalogue", "*"),), retries=1),
        Channel("caller", "stock"),
    ),
)


def changed(system: System, source: str, target: str, **changes: Any) -> System:
    """The system with one channel declared otherwise."""
    channels = tuple(
        replace(c, **changes) if (c.source, c.target) == (source, target) else c
        for c in system.channels
    )
    return replace(system, channels=channels)


@asynccontextmanager
async def connection(mesh: Mesh, caller: str) -> AsyncIterator[Callable[[str], Awaitable[int]]]:
    """One kept-alive connection of a caller's app to ``orders``; raises if it was cut."""
    host, port = mesh.address(caller, "orders")
    reader, writer = await asyncio.open_connection(host, port)

    async def ask(path: str) -> int:
        writer.write(f"GET {path} HTTP/1.1\r\nhost: orders\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = head.split("content-length: ")[1].split("\r\n")[0]
        await reader.readexactly(int(length))
        return int(head.split(" ")[1])

    try:
        yield ask
    finally:
        writer.transport.abort()


async def test_a_change_of_grants_bites_at_once_on_open_connections() -> None:
    async with running_mesh(SHOP) as mesh, connection(mesh, "caller") as ask:
        assert [await ask("/orders/1"), await ask("/other")] == [200, 403]
        other = changed(mesh.system, "caller", "orders", grants=(HTTPGrant("GET", "/other"),))
        await mesh.push(mesh.compile(other))
        assert [await ask("/orders/1"), await ask("/other")] == [403, 200]


async def test_loosening_a_channel_cuts_nothing() -> None:
    async with running_mesh(SHOP) as mesh, connection(mesh, "caller") as ask:
        assert [await ask("/orders/1"), await ask("/other")] == [200, 403]
        await mesh.push(mesh.compile(changed(mesh.system, "caller", "orders", grants=())))
        assert await ask("/other") == 200


async def test_tightening_a_channel_judges_the_next_request_of_an_open_connection() -> None:
    """All requests are parsed at both ends, whatever is declared: none is past being judged."""
    grants = (HTTPGrant("GET", "/orders/*"),)
    async with running_mesh(SHOP) as mesh, connection(mesh, "witness") as old:
        assert await old("/other") == 200
        await mesh.push(mesh.compile(changed(mesh.system, "witness", "orders", grants=grants)))
        assert [await old("/orders/1"), await old("/other")] == [200, 403]


async def test_retries_and_timeouts_come_and_go_and_cut_nothing() -> None:
    async with running_mesh(SHOP) as mesh, connection(mesh, "caller") as ask:
        for changes in ({"retries": 2}, {"retries": 0, "timeout_seconds": 5.0}, {}):
            assert await ask("/orders/1") == 200
            await mesh.push(mesh.compile(changed(mesh.system, "caller", "orders", **changes)))
        assert await ask("/orders/1") == 200


async def test_revoking_one_caller_leaves_the_others_alone() -> None:
    async with (
        running_mesh(SHOP) as mesh,
        connection(mesh, "caller") as cut,
        connection(mesh, "witness") as kept,
    ):
        assert [await cut("/orders/1"), await kept("/x")] == [200, 200]
        await mesh.push(mesh.compile(mesh.system.without_identities(frozenset({"caller"}))))
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                answer = await cut("/orders/1")
        except (asyncio.IncompleteReadError, ConnectionError):
            answer = 0
        assert answer == 0
        assert await kept("/x") == 200
        # Envoy leaves the file of a closed door behind; nobody listens there.
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_unix_connection(str(mesh.placement.door("orders", "caller")))


async def call(mesh: Mesh, caller: str, method: str) -> grpc.StatusCode:
    """The status of one unary call."""
    host, port = mesh.address(caller, "catalogue")
    async with grpc.aio.insecure_channel(f"{host}:{port}") as channel:
        try:
            await channel.unary_unary(f"/shop.Catalogue/{method}")(
                b"hello", timeout=DEADLINE_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


async def test_grpc_methods_are_granted_one_by_one_or_all() -> None:
    async with running_mesh(SHOP) as mesh:
        assert await call(mesh, "caller", "Get") is grpc.StatusCode.OK
        assert await call(mesh, "caller", "Delete") is grpc.StatusCode.PERMISSION_DENIED
        assert await call(mesh, "witness", "Delete") is grpc.StatusCode.OK


async def test_a_timeout_ends_a_slow_answer() -> None:
    async with running_mesh(changed(SHOP, "witness", "orders", timeout_seconds=0.2)) as mesh:
        assert (await mesh.request("witness", "orders", "GET", "/slow/0")).status_code == 200
        assert (await mesh.request("witness", "orders", "GET", "/slow/5")).status_code == 504


async def test_only_idempotent_requests_are_tried_twice() -> None:
    seen: list[str] = []

    async def failing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        seen.append(head.split(" ")[0])
        writer.write(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(failing, "127.0.0.1", 0)
    listens = Listen(Protocol.HTTP, server.sockets[0].getsockname()[1])
    system = System(
        "shop.internal",
        services={"orders": Service("orders", listens=listens), "caller": Service("caller")},
        channels=(Channel("caller", "orders", retries=2),),
    )
    try:
        async with running_mesh(system, apps=False) as mesh:
            assert (await mesh.request("caller", "orders", "POST", "/")).status_code == 503
            assert (await mesh.request("caller", "orders", "GET", "/")).status_code == 503
    finally:
        server.close()
    assert seen == ["POST", "GET", "GET", "GET"]


async def upgraded(mesh: Mesh, caller: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A WebSocket-like connection that echoes."""
    host, port = mesh.address(caller, "orders")
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(
        b"GET /orders/1 HTTP/1.1\r\nhost: orders\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-version: 13\r\n\r\n"
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    return reader, writer


async def test_websockets_pass_every_path_and_survive_changes() -> None:
    with_retries = changed(SHOP, "witness", "orders", retries=1)
    async with running_mesh(with_retries) as mesh:
        sockets = [await upgraded(mesh, caller) for caller in ("caller", "witness")]
        grants = (HTTPGrant("GET", "/orders/*"), HTTPGrant("GET", "/more"))
        await mesh.push(mesh.compile(changed(mesh.system, "caller", "orders", grants=grants)))
        for reader, writer in sockets:
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            writer.transport.abort()


async def test_a_passed_connection_is_cut_when_an_svid_of_its_age_has_expired() -> None:
    async with running_mesh(SHOP) as mesh:
        short = replace(mesh.placement, svid_ttl_seconds=2)
        await mesh.push(compile_envoy(mesh.system, short))
        host, port = mesh.address("caller", "stock")
        reader, writer = await asyncio.open_connection(host, port)
        began = time.monotonic()
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        async with asyncio.timeout(DEADLINE_SECONDS):
            try:
                rest = await reader.read()
            except ConnectionError:
                rest = b""
        assert rest == b""
        assert time.monotonic() - began > 1.0
        writer.close()


@pytest.mark.parametrize("callee", ["orders", "catalogue"])
async def test_pooled_connections_are_renewed_and_no_request_is_lost(callee: str) -> None:
    async with running_mesh(SHOP) as mesh:
        short = replace(mesh.placement, svid_ttl_seconds=2)
        await mesh.push(compile_envoy(mesh.system, short))
        renewed = "/stats?filter=upstream_cx_max_duration_reached&usedonly"
        async with asyncio.timeout(DEADLINE_SECONDS):
            while f"{callee}.upstream_cx_max_duration" not in await mesh.admin("caller", renewed):
                if callee == "catalogue":
                    assert await call(mesh, "caller", "Get") is grpc.StatusCode.OK
                else:
                    answer = await mesh.request("caller", "orders", "GET", "/orders/1")
                    assert answer.status_code == 200


async def test_a_thief_s_connection_takes_no_request_after_its_time() -> None:
    """His client need not stop by itself, as ours does."""
    async with running_mesh(SHOP) as mesh:
        short = replace(mesh.placement, svid_ttl_seconds=4)
        await mesh.push(compile_envoy(mesh.system, short))
        door = str(mesh.placement.door("orders", "caller"))
        context = doors.tls(mesh.credential("caller"))
        reader, writer = await asyncio.open_unix_connection(door, ssl=context, server_hostname="x")
        async with asyncio.timeout(DEADLINE_SECONDS):
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    writer.write(b"GET /orders/1 HTTP/1.1\r\nhost: x\r\n\r\n")
                    assert (await doors.answer(reader)).startswith(b"HTTP/1.1 200 ")
        writer.transport.abort()


async def test_a_silent_client_is_shown_out() -> None:
    async with running_mesh(SHOP) as mesh:
        door = str(mesh.placement.door("orders", "caller"))
        reader, writer = await asyncio.open_unix_connection(door)
        async with asyncio.timeout(DEADLINE_SECONDS):
            with suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()


async def logged(mesh: Mesh, workload: str, count: int) -> list[dict[str, Any]]:
    """The lines of a sidecar's log, once there are so many."""
    log = mesh.placement.proxy_directory(workload) / "access.log"
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(lines := log.read_text().splitlines()) < count:
            await mesh.admin(workload, "/reopen_logs", "POST")
            await asyncio.sleep(0.05)
    return [json.loads(line) for line in lines]


async def test_a_sidecar_logs_refusals_only() -> None:
    async with running_mesh(SHOP) as mesh:
        for _ in range(3):
            assert (await mesh.request("caller", "orders", "GET", "/orders/1")).status_code == 200
            assert (await mesh.request("witness", "orders", "GET", "/x")).status_code == 200
        await mesh.request("caller", "orders", "DELETE", "/orders/1?token=hush")
        lines = await logged(mesh, "orders", 1)
        assert [(line["at"], line["status"], line["path"]) for line in lines] == [
            ("in|caller", 403, "/orders/1")
        ]


async def test_a_sidecar_logs_who_knocked_with_what_is_wrong() -> None:
    async with running_mesh(SHOP) as mesh:
        door = mesh.placement.door("orders", "caller")
        assert await doors.ask(door, mesh.credential("witness"), "GET", "/") == "cut"
        assert await doors.ask(door, Credential(), "GET", "/") == "cut"
        wrong, none = sorted(await logged(mesh, "orders", 2), key=lambda line: line["time"])
        assert wrong["peer"] == "spiffe://shop.internal/witness"
        assert "SAN_matcher" in wrong["why"]
        assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in none["why"]
        assert {wrong["at"], none["at"]} == {"in|caller"}


async def test_no_change_of_policy_touches_a_listener_of_the_callee() -> None:
    async with running_mesh(SHOP) as mesh:
        before = mesh.plan.proxies["orders"].resources
        other = changed(mesh.system, "caller", "orders", grants=(), timeout_seconds=3)
        after = mesh.compile(other).proxies["orders"].resources
        kept = [r for r in before if r.type is ResourceType.LISTENER]
        assert kept == [r for r in after if r.type is ResourceType.LISTENER]
        assert before != after
