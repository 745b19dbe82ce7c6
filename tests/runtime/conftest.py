"""Pods for the tests of this folder, and a watch that fails any test which leaves something."""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from watertight.dataplane.binary import envoy_binary
from watertight.model.system import System
from watertight.runtime.capabilities import HostCapabilities, Isolation, detect
from watertight.runtime.layout import Layout, lay_out
from watertight.runtime.pod_spec import PodSpec
from watertight.runtime.pods import Machine, pod_specs
from watertight.runtime.proc import process_ids
from watertight.runtime.supervisor import Supervisor


def processes_that_name(path: Path) -> dict[int, str]:
    """Every process with ``path`` in its arguments or environment: what belongs to one test."""
    found = {}
    for pid in process_ids():
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(path) in arguments + environment and pid != os.getpid():
            found[pid] = arguments.replace(b"\0", b" ").decode(errors="replace")
    return found


def settled(look: Callable[[], dict[int, str]]) -> dict[int, str]:
    """What is left after the moment that an orphan may need to see that its child has ended."""
    deadline = time.monotonic() + 15
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def namespaces(pids: Iterable[int]) -> set[str]:
    """Every network, mount and process namespace that one of these processes is in."""
    found = set()
    for pid in pids:
        for kind in ("net", "mnt", "pid"):
            try:
                found.add(str(Path(f"/proc/{pid}/ns/{kind}").readlink()))
            except OSError:
                continue
    return found


def held_namespaces() -> set[str]:
    """What keeps a namespace when its processes have ended: our descriptors, and mounts.

    Looking for the namespace itself would not do: its number is used again at once.
    """
    links = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.add(str(entry.readlink()))
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return links | {line.split()[3] for line in mounts if " - nsfs " in line}


@pytest.fixture
def home() -> Iterator[Path]:
    """A short directory of the test's own. Fails the test if a process or a mount is left in it."""
    path = Path(tempfile.mkdtemp(prefix="wt-")).resolve()
    path.chmod(0o755)
    (path / "project").mkdir()
    (path / "project" / "watertight.yaml").write_text("# of a test\n", encoding="utf-8")
    yield path
    left = settled(lambda: processes_that_name(path))
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    mounts = [
        line
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
        if str(path) in line
    ]
    sockets = [str(p) for p in path.rglob("*") if p.is_socket()]
    shutil.rmtree(path)
    assert not left
    assert not mounts
    assert not sockets


@pytest.fixture(scope="session")
def capabilities() -> HostCapabilities:
    """What this host allows; a host that allows nothing cannot run most of these tests."""
    found = detect()
    if found.isolation is Isolation.NONE:
        pytest.skip(f"no isolation here: {found.reason}")
    return found


@pytest.fixture(scope="session")
def no_isolation() -> HostCapabilities:
    """The fallback, wherever the test runs."""
    return HostCapabilities(Isolation.NONE, "a test says so.")


@dataclass
class Host:
    """One system on this host, within one test."""

    layout: Layout
    pods: Mapping[str, PodSpec]
    supervisor: Supervisor

    async def up(self, name: str, *processes: str, deadline_seconds: float = 20) -> None:
        """Starts a pod and these of its processes, until they are ready."""
        await self.supervisor.start_pod(self.pods[name])
        for process in processes:
            await self.supervisor.start_process(name, process)
            await self.supervisor.wait_ready(name, process, deadline_seconds=deadline_seconds)

    async def inside(self, name: str, *argv: str) -> str:
        """What a program says that runs as the app of ``name``."""
        reader, writer = await self.supervisor.run_inside(name, argv)
        try:
            return (await reader.read()).decode()
        finally:
            writer.close()


def prepare(home: Path, system: System, capabilities: HostCapabilities) -> Host:
    """Lays ``system`` out in ``home``."""
    layout = lay_out(home / "project" / "watertight.yaml", system, capabilities, base=home / "r")
    specs = pod_specs(system, layout, Machine.here(envoy_binary()))
    return Host(layout, specs, Supervisor(layout))


@asynccontextmanager
async def running(
    home: Path, system: System, capabilities: HostCapabilities
) -> AsyncIterator[Host]:
    """``system`` on this host; whatever it started ends with the block."""
    host = prepare(home, system, capabilities)
    try:
        yield host
    finally:
        await host.supervisor.stop_all(grace_seconds=2)
        await host.supervisor.sweep()
        host.supervisor.remove_run_directory()


async def eventually(check: Callable[[], object], *, deadline_seconds: float = 15.0) -> None:
    """Returns once ``check`` is true; TimeoutError after the deadline."""
    async with asyncio.timeout(deadline_seconds):
        while not check():  # noqa: ASYNC110  files and other processes raise no event
            await asyncio.sleep(0.02)
