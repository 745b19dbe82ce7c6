"""A pod's app is who it is for the Workload API's attestor: the runtime and identity together."""

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.runtime.conftest import Host, running
from tests.runtime.programs import idler, system_of
from watertight.identity.attestation import AttestationError, ProcessTreeAttestor, peer_of
from watertight.runtime.capabilities import HostCapabilities

_KNOCK = """
import os, socket, sys
door = socket.socket(socket.AF_UNIX)
door.connect(os.environ["SPIFFE_ENDPOINT_SOCKET"].removeprefix("unix://"))
print("in", flush=True)
sys.stdin.read()
"""


@contextmanager
def door(host: Host, service: str) -> Iterator[socket.socket]:
    """A listening Workload API socket."""
    path = host.layout.placement.workload_api_socket(service)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen()
        listener.setblocking(False)
        try:
            yield listener
        finally:
            path.unlink()


async def test_an_app_is_attested_at_its_own_door_only(
    home: Path, capabilities: HostCapabilities
) -> None:
    """By the process tree of its pod and the uid of its app; the operator is nobody there."""
    system = system_of(idler("orders"), idler("payments"))
    async with running(home, system, capabilities) as host:
        attestor = ProcessTreeAttestor()
        for name in system.services:
            await host.up(name, "app")
            root, uids = host.supervisor.workload_process(name)
            attestor.admit(name, root, uids)
        loop = asyncio.get_running_loop()
        for name in system.services:
            with door(host, name) as listener:
                reader, writer = await host.supervisor.run_inside(
                    name, [sys.executable, "-c", _KNOCK]
                )
                assert await reader.readline() == b"in\n"
                connection, _ = await loop.sock_accept(listener)
                with connection, peer_of(connection) as peer:
                    assert attestor.attest(peer) == name
                writer.close()
                with socket.socket(socket.AF_UNIX) as ours:
                    ours.connect(str(host.layout.placement.workload_api_socket(name)))
                    connection, _ = await loop.sock_accept(listener)
                    with connection, peer_of(connection) as peer, pytest.raises(AttestationError):
                        attestor.attest(peer)
