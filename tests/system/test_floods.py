"""Floods from outside and from inside a pod: what they make the disk hold, and who still works."""

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.folders import public_folder
from tests.planes import said_inside, sealed
from tests.ports import free_port
from watertight.control.plane import ControlPlane
from watertight.model.load import load_file
from watertight.model.system import Limits
from watertight.runtime.states import ProcessState

pytestmark = pytest.mark.asyncio(loop_scope="module")

MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def project() -> Iterator[Path]:
    """A declaration in a directory of its own."""
    with public_folder() as directory:
        declaration = directory / "watertight.yaml"
        declaration.write_text(
            "trust_domain: shop.internal\n"
            "services:\n"
            "  web: {run: [python, -m, http.server, '8000', --bind, 127.0.0.1],"
            " listens: {http: 8000}}\n"
            "gateway:\n"
            "  hostname: shop.example\n"
            f"  listen: 127.0.0.1:{free_port()}\n"
            "  routes:\n"
            "    - {path: /, to: web, require: anyone}\n"
        )
        yield declaration


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def plane(project: Path) -> AsyncIterator[ControlPlane]:
    async with sealed(project) as running:
        yield running


def held(plane: ControlPlane) -> int:
    """Bytes of all files that belong to the system."""
    size = 0
    for top in (plane.layout.state, plane.layout.run):
        for directory, _, names in os.walk(top):
            size += sum((Path(directory) / name).lstat().st_size for name in names)
    return size


class Outsider:
    """One connection to the gateway, for requests one after another."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, plane: ControlPlane) -> "Outsider":
        gateway = plane.declared.gateway
        assert gateway is not None
        context = ssl.create_default_context(cadata=plane.keeper.bundle().pem().decode())
        return cls(
            *await asyncio.open_connection(
                gateway.address, gateway.port, ssl=context, server_hostname=gateway.hostname
            )
        )

    async def get(self, path: str) -> int:
        """The status of one request."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nhost: shop.example\r\n\r\n".encode())
        await self._writer.drain()
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        length = head.lower().partition("content-length: ")[2].split("\r\n")[0]
        await self._reader.readexactly(int(length or 0))
        return int(head.split()[1])

    def close(self) -> None:
        self._writer.close()


async def test_refused_requests_fill_no_disk_and_drown_nobody(plane: ControlPlane) -> None:
    """80 MB of refused requests leave less than one; a good one after them stands in the log."""
    before = held(plane)
    outsider = await Outsider.connect(plane)
    assert {await outsider.get("/" + "x" * 20_000) for _ in range(4_000)} == {404}
    assert await outsider.get("/") == 200
    outsider.close()
    log = plane.layout.access_log("gateway")
    async with asyncio.timeout(40):
        while _accounted(lines := _read(log)) < 4_001:  # noqa: ASYNC110  files raise no event
            await asyncio.sleep(0.1)
    assert _accounted(lines) == 4_001
    assert [line.get("status") for line in lines].count(200) == 1
    assert all(len(str(line.get("path", ""))) <= 1024 for line in lines)
    assert held(plane) - before < MEBIBYTE


async def test_after_the_flood_changes_are_made(plane: ControlPlane) -> None:
    await plane.apply(load_file(plane.layout.declaration))
    assert plane.keeper.x509_svid("web") is not None


async def test_other_limits_are_in_force_after_apply(plane: ControlPlane, project: Path) -> None:
    """The app is started anew in them, and is not killed by them on the way."""
    before = await _app(plane)
    web = plane.declared.services["web"]
    tight = replace(web, limits=Limits(256 * MEBIBYTE, 100, MEBIBYTE, 256))
    await plane.apply(replace(plane.declared, services={"web": tight}))
    after = await _app(plane)
    assert (after.state, after.restarts) == ("running", before.restarts)
    assert after.pid != before.pid
    said = await said_inside(plane, "web", "/bin/sh", "-c", "ulimit -n")
    assert said == "256\n"


async def _app(plane: ControlPlane) -> ProcessState:
    (pod,) = [pod for pod in await plane.supervisor.status() if pod.name == "web"]
    (app,) = [process for process in pod.processes if process.name == "app"]
    return app


def _accounted(lines: list[dict[str, Any]]) -> int:
    """Requests that are logged, or counted as dropped."""
    return sum(line.get("dropped", 1) for line in lines)


def _read(log: Path) -> list[dict[str, Any]]:
    if not log.exists():
        return []
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
