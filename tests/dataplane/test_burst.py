"""One caller opens connections all at once; the others take their turns between them."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.dataplane.attacks.weaken import Json, listener, together
from tests.mesh import Mesh, running_mesh
from watertight.model.addresses import callee_addresses
from watertight.model.system import Channel, Listen, Protocol, Service, System

CONNECTIONS = 1_000
QUIET_SECONDS = 15.0
"""After so long without one more, no more come."""
TRIES = 3
"""Of one burst at least shows it, however the machine shares its time."""
BURST = """
import socket, sys
opened = []
for _ in range(int(sys.argv[3])):
    made = socket.socket()
    made.setblocking(False)
    made.connect_ex((sys.argv[1], int(sys.argv[2])))
    opened.append(made)
print("opened", flush=True)
for made in opened:
    made.settimeout(60)
    made.sendall(b"mallory\\n")
sys.stdin.read()
"""


@dataclass
class App:
    """Remembers whose line came when."""

    port: int = 0
    lines: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            line = await reader.readline()
            self.lines.append(line)
            writer.write(line)
            await reader.read()
        writer.close()


@asynccontextmanager
async def listening() -> AsyncIterator[App]:
    app = App()
    server = await asyncio.start_server(app.serve, "127.0.0.1", 0, backlog=4_096)
    app.port = server.sockets[0].getsockname()[1]
    async with server:
        yield app


def system(port: int) -> System:
    return System(
        trust_domain="burst.internal",
        services={
            "alice": Service("alice"),
            "mallory": Service("mallory"),
            "stock": Service("stock", listens=Listen(Protocol.TCP, port)),
        },
        channels=(Channel("alice", "stock"), Channel("mallory", "stock")),
    )


async def longest_wait(mesh: Mesh, app: App) -> int:
    """How many of mallory's connections were served at most while alice waited for one of hers."""

    def way(caller: str) -> tuple[str, int]:
        found = callee_addresses(mesh.system, caller, shared_network=mesh.placement.shared_network)
        return found["stock"], app.port

    app.lines.clear()
    host, port = way("mallory")
    burst = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", BURST, host, str(port), str(CONNECTIONS)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert burst.stdin is not None
    assert burst.stdout is not None
    try:
        await burst.stdout.readline()
        longest, served, since = 0, 0, time.monotonic()
        async with asyncio.timeout(120):
            # Of a thousand handshakes a busy machine may end some before their turn.
            while served < CONNECTIONS and time.monotonic() - since < QUIET_SECONDS:
                if (now := app.lines.count(b"mallory\n")) > served:
                    served, since = now, time.monotonic()
                before = len(app.lines)
                reader, writer = await asyncio.open_connection(*way("alice"))
                writer.write(b"alice\n")
                assert await reader.readline() == b"alice\n"
                writer.close()
                longest = max(longest, len(app.lines) - before)
                await asyncio.sleep(0.01)
        return longest
    finally:
        burst.stdin.close()
        await burst.wait()


async def waits_for_most(mesh: Mesh, app: App, *, expected: bool) -> bool:
    """Whether alice had to wait for most of them; tried again while that is not as expected."""
    for _ in range(TRIES):
        if (await longest_wait(mesh, app) > CONNECTIONS // 2) == expected:
            return expected
    return not expected


def greedy(body: Json) -> None:
    """Listener: takes all that wait, as Envoy does unless told."""
    del body["max_connections_to_accept_per_socket_event"]


async def test_a_burst_of_one_callers_keeps_no_other_out() -> None:
    doors = [("stock", "in|mallory"), ("stock", "in|alice"), ("mallory", "out|stock")]
    async with listening() as app, running_mesh(system(app.port), apps=False) as mesh:
        assert not await waits_for_most(mesh, app, expected=False)
        async with mesh.sabotage(together(*(listener(*door, greedy) for door in doors))):
            assert await waits_for_most(mesh, app, expected=True)
