"""What a machine can get wrong for a real server: one error says it, and nothing is lost."""

import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.folders import public_folder
from tests.planes import probes_of, proven, sealed
from tests.ports import free_port
from tests.rig import not_held
from watertight.control.plane import ControlPlane
from watertight.errors import WatertightError
from watertight.runtime.capabilities import HostCapabilities, Isolation

AS_ROOT = os.geteuid() == 0
MOUNTS = pytest.mark.skipif(not AS_ROOT, reason="only root mounts a small disk")
NO_ISOLATION = HostCapabilities(Isolation.NONE, "a test says so.")
TOO_SMALL_MIB, ENOUGH_MIB = 30, 200
"""For a new database, which takes 46."""


@dataclass(frozen=True)
class Declared:
    """A system of one service and one server."""

    resource: str
    keys: str
    channel: str

    def write(self, directory: Path, more: str = "") -> Path:
        """The declaration's file; ``more``: further keys of the resource."""
        file = directory / "watertight.yaml"
        file.write_text(
            "trust_domain: shop.internal\n"
            "services: {orders: {}}\n"
            f"resources: {{{self.resource}: {{{self.keys}{more}}}}}\n"
            f"channels:\n  - {{from: orders, to: {self.resource}, {self.channel}}}\n"
        )
        return file


DATABASE = Declared(
    "orders-db", "kind: postgresql, database: orders", "schemas: {stock: [create, usage]}"
)
EVENTS = Declared("events", "kind: nats", "publish: [orders.placed]")
JOBS = Declared("jobs", "kind: rabbitmq, exchanges: {work: direct}", "publish: {work: [a]}")


@pytest.fixture
def project() -> Iterator[Path]:
    with public_folder() as directory:
        yield directory


class Disk:
    """A small one, mounted on ``directory``."""

    def __init__(self, directory: Path, mebibytes: int) -> None:
        self.directory = directory
        self._mount(f"size={mebibytes}m,mode=755")

    def _mount(self, options: str) -> None:
        command = ["/usr/bin/mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.directory)]
        subprocess.run(command, check=True)

    def grow(self, mebibytes: int) -> None:
        """Makes it larger."""
        self._mount(f"remount,size={mebibytes}m")

    def remove(self) -> None:
        """Takes it away with all that it holds."""
        subprocess.run(["/usr/bin/umount", "--lazy", self.directory], check=True)


@pytest.fixture
def disk(project: Path, request: pytest.FixtureRequest) -> Iterator[Disk]:
    made = Disk(project, request.param)
    yield made
    made.remove()


async def broken_uses(plane: ControlPlane, kind: str) -> dict[str, str]:
    """What a service may do and cannot."""
    uses = [p for p in probes_of(plane, [kind]) if p.id.startswith("use.")]
    assert uses
    return not_held(await proven(plane, uses))


@MOUNTS
@pytest.mark.root
@pytest.mark.parametrize("disk", [TOO_SMALL_MIB], indirect=True)
async def test_a_database_that_does_not_fit_is_made_once_there_is_space(disk: Disk) -> None:
    declaration = DATABASE.write(disk.directory)
    with pytest.raises(WatertightError, match="orders-db cannot be made: the disk is full") as full:
        async with sealed(declaration):
            pass
    assert "\n" not in full.value.message
    assert "data/orders-db" in full.value.remedy
    assert not list((disk.directory / ".watertight" / "data" / "orders-db").iterdir())
    disk.grow(ENOUGH_MIB)
    async with sealed(declaration) as plane:
        assert await broken_uses(plane, "postgresql") == {}


@pytest.mark.parametrize(
    "declared",
    [
        pytest.param(
            DATABASE,
            id="postgresql",
            marks=pytest.mark.skipif(AS_ROOT, reason="PostgreSQL does not run as root"),
        ),
        pytest.param(EVENTS, id="nats"),
        pytest.param(JOBS, id="rabbitmq"),
    ],
)
async def test_a_port_that_another_program_has_is_named(project: Path, declared: Declared) -> None:
    """Only where servers share the host's network: in a namespace of its own, a port is free."""
    port = free_port()
    file = declared.write(project, f", port: {port}")
    says = rf"^{file}:3:\d+: The port {port} of \S+ is taken: \S+ \(process {os.getpid()}\)"
    with socket.create_server(("127.0.0.1", port)), pytest.raises(WatertightError, match=says):
        async with sealed(file, NO_ISOLATION):
            pass
