"""A use whose app takes its time is served once the app has it; who holds it back is seen."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import pytest

from tests.dataplane.attacks import weaken
from tests.dataplane.attacks.raw import static_cluster
from tests.mesh import Mesh, running_mesh
from tests.ports import free_port
from tests.verify.live import arena_over
from watertight.attack import patience
from watertight.attack.probe import Verdict
from watertight.dataplane.attacks import edge, gateway, requests, uses
from watertight.model.system import (
    Channel,
    Gateway,
    Grant,
    HTTPGrant,
    Listen,
    Protocol,
    Route,
    RPCGrant,
    Service,
    System,
)
from watertight.verify.arena import LiveArena
from watertight.verify.prover import prove
from watertight.verify.results import Result

GRANTS: dict[Protocol, tuple[Grant, ...]] = {
    Protocol.GRPC: (RPCGrant("shop.Catalogue", "Watch"),),
    Protocol.HTTP: (HTTPGrant("GET", "/report"),),
}
KINDS = pytest.mark.parametrize("protocol", list(GRANTS), ids=lambda p: p.value)


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(edge, "TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(patience, "MOST", 3.0)


def system(protocol: Protocol, port: int, timeout_seconds: float | None = None) -> System:
    channel = Channel("caller", "app", GRANTS[protocol], timeout_seconds=timeout_seconds)
    return System(
        "late.internal",
        {"caller": Service("caller"), "app": Service("app", listens=Listen(protocol, port))},
        channels=(channel,),
    )


@asynccontextmanager
async def mute() -> AsyncIterator[int]:
    """Reads what comes and never says a word, but for what a server of HTTP/2 says first."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                if data.startswith(b"PRI * HTTP/2.0"):
                    writer.write(b"\0\0\0\4\0\0\0\0\0" + b"\0\0\0\4\1\0\0\0\0")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


class _Sleeps(grpc.GenericRpcHandler):  # type: ignore[misc, unused-ignore]
    def service(self, _details: object) -> object:
        async def sleep(request: bytes, _context: object) -> bytes:
            await asyncio.sleep(3_600)
            return request

        return grpc.unary_unary_rpc_method_handler(sleep)


@asynccontextmanager
async def sleeping() -> AsyncIterator[int]:
    """A gRPC server whose every method answers in an hour."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Sleeps(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(grace=None)


async def used(mesh: Mesh, arena: LiveArena) -> tuple[Result, ...]:
    results = (await prove(arena, uses.probes(mesh.system))).results
    assert {r.id for r in results} == {"use.door", "use.grant"}
    return results


@KINDS
async def test_an_app_that_sleeps_is_served_and_one_that_has_nothing_is_not(
    protocol: Protocol,
) -> None:
    app = sleeping() if protocol is Protocol.GRPC else mute()
    async with (
        app as port,
        mute() as elsewhere,
        running_mesh(system(protocol, port), apps=False) as mesh,
        arena_over(mesh) as arena,
    ):
        for result in await used(mesh, arena):
            assert result.verdict is Verdict.HELD, result
            assert result.observed == "the app has the request, and takes its time"
        there = static_cluster("app", elsewhere).body["load_assignment"]
        async with mesh.sabotage(
            weaken.cluster("app", "app", lambda body: body.update(load_assignment=there))
        ):
            for result in await used(mesh, arena):
                assert result.verdict is Verdict.BROKEN, result
        arena._packet_socket = None
        for result in await used(mesh, arena):
            assert result.verdict is Verdict.NOT_RUN, result
            assert "nobody may look whether the app has it" in result.observed


@KINDS
async def test_a_timeout_that_ends_it_is_as_declared(protocol: Protocol) -> None:
    async with (
        mute() as port,
        running_mesh(system(protocol, port, timeout_seconds=0.1), apps=False) as mesh,
        arena_over(mesh) as arena,
    ):
        for result in await used(mesh, arena):
            assert result.verdict is Verdict.HELD, result


async def test_a_route_to_an_app_that_sleeps_is_served() -> None:
    async with mute() as port:
        declared = replace(
            system(Protocol.HTTP, port),
            gateway=Gateway(
                "late.example",
                (Route("/report", "app"),),
                address="127.0.0.1",
                port=free_port("127.0.0.1"),
            ),
        )
        async with running_mesh(declared, apps=False) as mesh, arena_over(mesh) as arena:
            probes = [p for p in gateway.probes(mesh.system) if p.id == "gateway.route"]
            (result,) = (await prove(arena, probes)).results
            assert result.verdict is Verdict.HELD, result
