"""A newcomer's first walk: the wheel in an empty folder, `init`, `up`, `verify`, all of it green.

And the small changes that come next: other methods, other apps, other shapes of the same things.
"""

import asyncio
import contextlib
import json
import os
import shutil
import ssl
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.folders import public_folder
from tests.ports import free_port
from tests.system import variations
from tests.system.running import REPOSITORY

STEP_SECONDS = 400.0
CLIENTS = 150
"""At once, before an app whose queue of connections has five places."""
OURS = "watertight"
UNUSED = ("mypy", "mypyc", "sqlalchemy", "pip", "nats_server", "celerp*", "_pytest")


class Walk:
    """A folder outside of any repository, and the command as it was installed."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder = folder
        self._python = python

    def run(self, *arguments: str, expect: int = 0) -> str:
        """One command, to its end; its stdout."""
        done = subprocess.run(
            [self._python, "-m", "watertight.cli", *arguments],
            cwd=self.folder,
            env={"PATH": f"{self._python.parent}:{os.environ['PATH']}", "HOME": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=STEP_SECONDS,
            check=False,
        )
        assert done.returncode == expect, f"{arguments}: {done.stdout[-2000:]}\n{done.stderr}"
        return done.stdout

    @contextlib.contextmanager
    def up(self) -> Iterator[None]:
        """The system that the folder declares, running."""
        self.run("up", "--detach")
        try:
            yield
        finally:
            self.run("down")

    def verify(self) -> dict[str, Any]:
        """The proof, which must be whole."""
        document: dict[str, Any] = json.loads(self.run("verify", "--output", "json"))
        summary = document["summary"]
        assert summary["held"] == summary["probes"] > 0
        return document


@pytest.fixture(scope="module")
def installed() -> Iterator[Path]:
    """The Python of an environment of its own, into which the built wheel was installed.

    The wheels that it depends on are those of the tests' environment, not fetched again.
    """
    with public_folder() as place:
        yield _install(place)


def _install(place: Path) -> Path:
    hatchling = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", place)
    subprocess.run(hatchling, cwd=REPOSITORY, check=True, capture_output=True, timeout=STEP_SECONDS)
    environment = place / "venv"
    make = (sys.executable, "-m", "venv", "--without-pip", environment)
    subprocess.run(make, check=True, timeout=STEP_SECONDS)
    packages = next((environment / "lib").glob("python*")) / "site-packages"
    for there in Path(sysconfig.get_path("purelib")).iterdir():
        if not there.name.startswith((OURS, "_editable", *UNUSED)) and there.suffix != ".pth":
            _share(there, packages / there.name)
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    return environment / "bin" / "python"


def _share(there: Path, here: Path) -> None:
    """The same files under another name; not symbolic links, for apps see no other environment."""

    def share(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:  # another file system
            shutil.copy2(source, target)

    if there.is_dir():
        shutil.copytree(there, here, copy_function=share)
    else:
        share(str(there), str(here))


@pytest.fixture
def walk(installed: Path) -> Iterator[Walk]:
    """Where the apps' users may look, too."""
    with public_folder() as folder:
        yield Walk(folder, installed)


@pytest.mark.timeout(600)
async def test_what_init_writes_proves_itself_and_loses_no_request(walk: Walk) -> None:
    walk.run("init")
    file = walk.folder / "watertight.yaml"
    port = free_port()
    file.write_text(file.read_text().replace("127.0.0.1:8443", f"127.0.0.1:{port}"))
    with walk.up():
        assert await statuses(walk.folder, port) == [200] * CLIENTS
        probes = await asyncio.to_thread(walk.verify)
    tried = {probe["id"] for probe in probes["probes"]}
    assert {"gateway.route", "sessions.silent-then-elsewhere", "limit.flood"} <= tried
    assert "gateway.unknown-path" not in tried, "`/` and `/**` leave no path unknown"


async def statuses(folder: Path, port: int) -> list[int]:
    """Of one request by each of many clients at once, each from an address of its own."""
    context = ssl.create_default_context(cafile=folder / ".watertight" / "ca.pem")

    async def one(number: int) -> int:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            port,
            ssl=context,
            server_hostname="localhost",
            local_addr=(f"127.1.{number // 200}.{number % 200 + 1}", 0),
        )
        writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return int(answer.split()[1])

    async with asyncio.timeout(STEP_SECONDS):
        return list(await asyncio.gather(*(one(number) for number in range(CLIENTS))))


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in variations.COMMON else pytest.mark.slow)
        for name in variations.EVERY
    ],
)
def test_small_changes_prove_themselves_too(walk: Walk, name: str) -> None:
    for program in variations.PROGRAMS.iterdir():
        shutil.copy(program, walk.folder)
    text = variations.EVERY[name].replace("GATEWAY_PORT", str(free_port()))
    (walk.folder / "watertight.yaml").write_text(text)
    with walk.up():
        walk.verify()
