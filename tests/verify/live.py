"""An arena over the test mesh: agents as plain processes, sockets read from /proc."""

import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tests.mesh import Mesh
from watertight.attack.arena import Listening
from watertight.identity.hazmat import open_issuer
from watertight.identity.kek import FileKEK
from watertight.testing.processes import Agents, sockets_of
from watertight.verify.arena import LiveArena
from watertight.verify.forge import Forger, Signer


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
