"""Answers that nobody reads: proxies hold little of each; the probe sees one that holds more."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from tests.dataplane.attacks.range import not_held
from tests.dataplane.attacks.weaken import Json
from tests.mesh import Mesh, running_mesh
from tests.ports import free_port
from tests.verify.live import arena_over
from watertight.attack.probe import Outcome, Verdict
from watertight.attack.wire import Absent
from watertight.dataplane.attacks import unread
from watertight.dataplane.attacks.desync.shapes import Base
from watertight.dataplane.attacks.desync.sides import Side
from watertight.dataplane.resources import EnvoyPlan, ProxyPlan, Resource
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


class Person:
    """Whoever asks; ``answers`` say what comes of each connection: a first line, or nobody."""

    name = "somebody"

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)

    async def side(self, _arena: Any, _mark: str) -> Side:
        return Side(Base("GET", "/large", ()), self.dial, self.dial)

    async def dial(self) -> Any:
        if not (said := self.answers.pop(0)):
            raise Absent("nobody is there")
        return Said(said)


class Said:
    """A connection with an answer."""

    def __init__(self, said: bytes) -> None:
        self.said = said

    async def send(self, _data: bytes) -> None:
        pass

    async def receive(self, _seconds: float) -> bytes:
        return self.said

    async def close(self) -> None:
        pass


OK = b"HTTP/1.1 200 OK\r\n" + BLOCK
LARGE, NOBODY = [OK], [b""]


@pytest.mark.parametrize(
    ("attacker", "victim", "heap", "outcome"),
    [
        (LARGE + [OK] * unread.HELD, [OK, OK], [1, 1, 1], Outcome.REFUSED),
        (LARGE + [OK] * unread.HELD, [OK, b""], [1, 1, 1], Outcome.SERVED),
        (LARGE + [OK] * unread.HELD, [OK, b"HTTP/1.1 503\r\n"], [1, 1, 1], Outcome.SERVED),
        (LARGE + [OK] * unread.HELD, [OK, OK], [1, None], Outcome.SERVED),
        (LARGE + [OK] * unread.HELD, [OK, OK], [None], Outcome.NOT_RUN),
        (LARGE + NOBODY * unread.HELD, [OK, OK], [1, 1, 1], Outcome.NOT_RUN),
        (LARGE, NOBODY, [], Outcome.NOT_RUN),
        (NOBODY, [OK], [], Outcome.NOT_RUN),
    ],
    ids=[
        "all goes on",
        "the victim is shut out",
        "the victim is refused",
        "the proxy is gone",
        "it was gone before",
        "the attacker is shut out",
        "nobody is answered",
        "nobody is let in",
    ],
)
async def test_what_comes_of_it(
    monkeypatch: pytest.MonkeyPatch,
    attacker: list[bytes],
    victim: list[bytes],
    heap: list[int | None],
    outcome: Outcome,
) -> None:
    async def heap_bytes(_arena: Any, _proxy: str) -> int:
        if (size := heap.pop(0)) is None:
            raise Absent("the proxy is gone")
        return size

    monkeypatch.setattr(unread, "_heap_bytes", heap_bytes)
    arena: Any = None
    people: list[Any] = [Person(*attacker), Person(*victim)]
    seen = await unread._unread(arena, people[0], people[1], ("one",))  # type: ignore[arg-type]
    assert seen.outcome is outcome, seen.detail
