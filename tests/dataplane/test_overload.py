"""At its heap limit a proxy refuses what is new, obeys its control plane, and recovers."""

import asyncio
import json
import time
from contextlib import suppress

import pytest

from tests.dataplane.attacks import weaken
from tests.dataplane.attacks.test_unread import answer, system
from tests.mesh import Mesh, running_mesh
from watertight.dataplane.compile import bootstrap

HEAP_BYTES = 16 << 20
"""An Envoy that does nothing has half of that."""
MOST_ANSWERS = 1_000
"""Unread; each takes more than 64 KiB of it."""
DEADLINE_SECONDS = 30.0
PATIENCE_SECONDS = 2.0
"""Whoever is not taken hears nothing for as long as the caller's proxy tries."""
REFUSALS = ("stop_accepting_requests", "stop_accepting_connections")


async def status(mesh: Mesh, caller: str, held: list[asyncio.StreamWriter] | None = None) -> int:
    """Of the answer to one request, 0 if there is none; ``held`` keeps the connection, unread."""
    writer = None
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            reader, writer = await asyncio.open_connection(*mesh.address(caller, "api"), limit=4096)
            writer.write(b"GET /large HTTP/1.1\r\nhost: api\r\n\r\n")
            return int((await reader.readline()).split()[1])
    except (TimeoutError, OSError, IndexError):
        return 0
    finally:
        if writer is not None and held is not None:
            held.append(writer)
        elif writer is not None:
            writer.transport.abort()


async def refusing(mesh: Mesh) -> set[str]:
    """The overload actions, of those that refuse, that are in force at the callee's proxy."""
    text = await mesh.admin("api", "/stats?format=json&filter=overload_actions.*active")
    values = {s["name"].split(".")[3]: s["value"] for s in json.loads(text)["stats"] if "name" in s}
    return {name for name in REFUSALS if values[name]}


async def becomes(mesh: Mesh, caller: str, expected: int) -> None:
    """Until it is answered so."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (seen := await status(mesh, caller)) != expected:
        assert time.monotonic() < deadline, seen
        await asyncio.sleep(0.1)


async def test_a_full_proxy_refuses_obeys_and_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bootstrap.HEAP_BYTES, "api", HEAP_BYTES)
    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1_024)
    declared = system(server.sockets[0].getsockname()[1])
    async with server, running_mesh(declared, apps=False) as mesh:
        assert await status(mesh, "bob") == 200
        held: list[asyncio.StreamWriter] = []
        try:
            async with asyncio.timeout(4 * DEADLINE_SECONDS):
                # Until it stays so: what is freed meanwhile may let one more in.
                while await refusing(mesh) != set(REFUSALS) or await status(mesh, "bob") == 200:
                    assert len(held) < MOST_ANSWERS
                    await status(mesh, "alice", held)

            # A revocation arrives at a proxy that takes nothing from anybody else.
            whole = mesh.plan
            await mesh.push(weaken.routes("api", "in|bob", weaken.nothing)(whole))
            assert await refusing(mesh) == set(REFUSALS)
        finally:
            for writer in held:
                with suppress(OSError):
                    writer.transport.abort()

        await becomes(mesh, "bob", 403)
        assert await refusing(mesh) == set()
        await mesh.push(whole)
        await becomes(mesh, "bob", 200)
