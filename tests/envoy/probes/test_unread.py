"""Answers that nobody reads: proxies hold little of each; the probe sees one that holds more."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.envoy.probes.range import not_held
from tests.envoy.probes.weaken import Json
from tests.mesh import Mesh, running_mesh
from tests.ports import free_port
from tests.verify.live import arena_over
from watertight.enforcers.contract import Verdict
from watertight.enforcers.envoy.probes import unread
from watertight.enforcers.envoy.resources import EnvoyPlan, ProxyPlan, Resource
from watertight.model.system import (
    Channel,
    Gateway,
    HTTPGrant,
    Listen,
    Protocol,
    Route,
    Service,
    System,
)
from watertight.verify.prover import prove

UNREAD_SABOTAGES = frozenset({"exhaust.unread"})
GRANTS = (HTTPGrant("GET", "/large"),)
BLOCK = b"x" * 65_536
LARGE_BYTES = 20_000_000


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One large answer a connection; never more of it in memory than is being written."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % LARGE_BYTES)
        for _ in range(LARGE_BYTES // len(BLOCK) + 1):
            writer.write(BLOCK)
            await writer.drain()
    writer.close()


def system(port: int) -> System:
    return System(
        trust_domain="unread.internal",
        services={
            "alice": Service("alice"),
            "bob": Service("bob"),
            "api": Service("api", listens=Listen(Protocol.HTTP, port)),
        },
        channels=(Channel("alice", "api", grants=GRANTS), Channel("bob", "api", grants=GRANTS)),
        gateway=Gateway("unread.example", (Route("/large", "api"),), port=free_port("127.0.0.1")),
    )


@asynccontextmanager
async def running(sabotage: bool = False) -> AsyncIterator[Mesh]:
    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1_024)
    declared = system(server.sockets[0].getsockname()[1])
    how = deep_pockets if sabotage else None
    async with server, running_mesh(declared, apps=False, sabotage=how) as mesh:
        yield mesh


def deep_pockets(plan: EnvoyPlan) -> EnvoyPlan:
    """What Envoy keeps by itself, of each connection."""
    return EnvoyPlan({name: _deep(proxy) for name, proxy in plan.proxies.items()})


def _deep(proxy: ProxyPlan) -> ProxyPlan:
    return replace(proxy, resources=tuple(map(_unbounded, proxy.resources)))


def _unbounded(resource: Resource) -> Resource:
    body: Json = dict(resource.body)
    body.pop("per_connection_buffer_limit_bytes", None)
    return replace(resource, body=body)


@pytest.mark.parametrize("sabotaged", [False, True])
async def test_unread_answers_take_little_memory(sabotaged: bool) -> None:
    async with running(sabotaged) as mesh, arena_over(mesh) as arena:
        probes = list(unread.probes(mesh.system))
        results = (await prove(arena, probes)).results
    assert len(results) == 3
    if sabotaged:
        assert {r.verdict for r in results} == {Verdict.BROKEN}
        assert all("MiB" in r.observed for r in results)
    else:
        assert not_held(results) == {}
        assert all("was answered" in r.observed for r in results)
