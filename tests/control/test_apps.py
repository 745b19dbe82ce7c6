"""What stands between a service and its port is told at the service's line."""

import os
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.planes import sealed
from tests.ports import free_port
from watertight.errors import WatertightError
from watertight.runtime.capabilities import HostCapabilities, Isolation, detect

NO_ISOLATION = HostCapabilities(Isolation.NONE, "a test says so.")
SERVE = "python, -m, http.server, --bind, 127.0.0.1"


@pytest.fixture
def file() -> Iterator[Path]:
    """A declaration to be, where sockets' paths are short."""
    with tempfile.TemporaryDirectory(prefix="wt-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory).resolve() / "watertight.yaml"


def service(name: str, port: int) -> str:
    return f'  {name}: {{run: [{SERVE}, "{port}"], listens: {{http: {port}}}}}\n'


def declare(file: Path, *services: str, more: str = "") -> None:
    file.write_text(f"trust_domain: t.internal\nservices:\n{''.join(services)}{more}")


async def test_who_has_a_services_port_is_named_where_all_share_one_network(file: Path) -> None:
    """By another program, or by a service that declares the same port."""
    port = free_port()
    declare(file, service("web", port))
    says = rf"^{file}:3:3: The port {port} of web is taken: \S+ \(process {os.getpid()}\)"
    with socket.create_server(("127.0.0.1", port)), pytest.raises(WatertightError, match=says):
        async with sealed(file, NO_ISOLATION):
            pass
    channel = "channels: [{from: web, to: orders}]\n"
    declare(file, service("web", port), service("orders", port), more=channel)
    says = rf"^{re.escape(str(file))}:3:3: The port {port} of web is taken: python\S* \("
    with pytest.raises(WatertightError, match=says):
        async with sealed(file, NO_ISOLATION):
            pass


async def test_in_a_network_of_its_own_every_port_is_free(file: Path) -> None:
    if detect().shared_network:
        pytest.skip("no network namespaces here")
    port = free_port()
    declare(file, service("web", port))
    with socket.create_server(("127.0.0.1", port)):
        async with sealed(file) as plane:
            assert set(plane.supervisor.pods) == {"web"}
