"""An arena over the test mesh: agents as plain processes, sockets read from /proc."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.mesh import Mesh
from watertight.attack.arena import Listening
from watertight.identity.hazmat import open_issuer
from watertight.identity.kek import FileKEK
from watertight.verify.arena import LiveArena
from watertight.verify.foothold import Streams
from watertight.verify.forge import Forger, Signer

LISTEN_STATE = "0A"
ACCEPTING = 0x10000
"""``__SO_ACCEPTCON`` in /proc/net/unix (include/uapi/linux/net.h)."""


class Agents:
    """Runs argv as plain processes of this host and ends them by pid."""

    def __init__(self, wrapper: Sequence[str] = ()) -> None:
        self._wrapper = tuple(wrapper)
        self._processes: list[asyncio.subprocess.Process] = []

    async def run(self, _service: str, argv: Sequence[str]) -> Streams:
        process = await asyncio.create_subprocess_exec(
            *self._wrapper,
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=4_194_304,
        )
        self._processes.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        return process.stdout, process.stdin

    async def stop(self) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def signer(mesh: Mesh) -> Signer:
    """The active issuer of the mesh's authority: what a forger has stolen."""
    state = mesh.placement.run_directory
    issuer = open_issuer(state / "authority", kek=FileKEK(state / "kek"), reason="a test")
    return Signer(issuer.certificate, issuer.private_key, issuer.chain)


@asynccontextmanager
async def arena_over(
    mesh: Mesh,
    *,
    wrapper: Sequence[str] = (),
    token_keys: Mapping[str, Mapping[str, Any]] | None = None,
) -> AsyncIterator[LiveArena]:
    """The mesh as an attacker with the operator's rights can touch it."""
    agents = Agents(wrapper)
    arena = LiveArena(
        mesh.system,
        mesh.placement,
        foothold=agents.run,
        listening=lambda: listening(mesh),
        forger=Forger(signer(mesh)),
        roots=lambda: mesh.authority.bundle().pem(),
        token_keys=token_keys,
        packet_socket=packet_socket,
    )
    try:
        async with arena:
            yield arena
    finally:
        await agents.stop()


async def packet_socket(_service: str) -> socket.socket | None:
    """Everything is on this host's own loopback."""
    try:
        return socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    except PermissionError:
        return None


async def listening(mesh: Mesh) -> Sequence[Listening]:
    """The sockets of every Envoy by /proc, and those of the apps (threads of the test itself)."""
    found = [
        Listening(workload, "proxy", address)
        for workload, envoy in mesh.envoys.items()
        for address in sockets_of(envoy.pid)
    ]
    here = set(sockets_of(os.getpid()))
    for name, service in mesh.system.services.items():
        if service.listens and (address := f"127.0.0.1:{service.listens.port}") in here:
            found.append(Listening(name, "app", address))
    return found


def sockets_of(pid: int) -> list[str]:
    """Where a process listens, as the kernel tells it."""
    mine = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            mine.add(str(entry.readlink()).removeprefix("socket:[").removesuffix("]"))
    found = []
    for table in ("tcp", "tcp6"):  # gRPC's server listens on an IPv4 address mapped into IPv6
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN_STATE and fields[9] in mine:
                host, port = fields[1].split(":")
                address = ".".join(str(b) for b in reversed(bytes.fromhex(host)[-4:]))
                found.append(f"{address}:{int(port, 16)}")
    for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[3], 16) & ACCEPTING and fields[6] in mine:
            found.append(f"unix:{fields[7]}")
    return found
