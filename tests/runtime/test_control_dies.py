"""The control process is killed without a word: what runs goes on, is adopted, or is swept away."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.runtime.conftest import (
    Host,
    eventually,
    held_namespaces,
    namespaces,
    prepare,
    processes_that_name,
    running,
)
from tests.runtime.control import the_system
from tests.runtime.programs import GET
from watertight.runtime.capabilities import HostCapabilities, Isolation
from watertight.runtime.pod_client import PodError
from watertight.runtime.proc import descendants

PYTHON = sys.executable


@asynccontextmanager
async def after_a_kill(
    home: Path, capabilities: HostCapabilities
) -> AsyncIterator[tuple[Host, int]]:
    """The next control process's view, and the port of the app that an earlier one left."""
    port = free_port()
    control = await asyncio.create_subprocess_exec(
        *(PYTHON, "-m", "tests.runtime.control", str(home), capabilities.isolation, str(port)),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert control.stdout is not None
    try:
        async with asyncio.timeout(30):
            assert await control.stdout.readline() == b"up\n"
    finally:
        control.kill()
        await control.wait()
    host = prepare(home, the_system(port), capabilities)
    try:
        yield host, port
    finally:
        await host.supervisor.stop_all(grace_seconds=2)
        await host.supervisor.sweep()
        host.supervisor.remove_run_directory()


@pytest.fixture(params=["isolated", "fallback"])
def either(
    request: pytest.FixtureRequest, capabilities: HostCapabilities, no_isolation: HostCapabilities
) -> HostCapabilities:
    """The best isolation here, and none."""
    return capabilities if request.param == "isolated" else no_isolation


async def test_the_next_one_adopts_what_runs(home: Path, either: HostCapabilities) -> None:
    """The same process goes on, and obeys."""
    async with after_a_kill(home, either) as (host, port):
        supervisor = host.supervisor
        assert await supervisor.adopt(host.pods) == ["orders"]
        assert await supervisor.adopt(host.pods) == []
        assert await supervisor.sweep() == []
        (status,) = await supervisor.status()
        app = next(p for p in status.processes if p.name == "app")
        assert (app.state, app.restarts) == ("running", 0)
        said = await host.inside("orders", PYTHON, "-c", GET, f"http://127.0.0.1:{port}/1")
        assert said == "orders serves /1\n"
        with pytest.raises(PodError, match="runs already"):
            await supervisor.start_pod(host.pods["orders"])


async def test_an_app_is_restarted_while_nobody_controls(
    home: Path, either: HostCapabilities
) -> None:
    """The init needs nobody."""
    async with after_a_kill(home, either) as (host, _):
        pid = json.loads((host.layout.pod("orders") / "pod.json").read_bytes())["pid"]
        before = descendants(pid)
        os.kill(before[0], signal.SIGKILL)
        await eventually(lambda: descendants(pid) and not set(before) & set(descendants(pid)))
        await host.supervisor.adopt(host.pods)
        (status,) = await host.supervisor.status()
        assert next(p for p in status.processes if p.name == "app").restarts == 1


async def test_what_is_not_adopted_is_swept_away(home: Path, either: HostCapabilities) -> None:
    """No process, namespace or socket stays."""
    async with after_a_kill(home, either) as (host, port):
        made = namespaces(processes_that_name(home)) - namespaces([os.getpid()])
        assert bool(made) is (either.isolation is not Isolation.NONE)
        assert await host.supervisor.sweep() == ["orders"]
        await eventually(lambda: not processes_that_name(home))
        assert not made & held_namespaces()
        assert not list(host.layout.run.rglob("*.sock"))
        await host.up("orders", "app")
        said = await host.inside("orders", PYTHON, "-c", GET, f"http://127.0.0.1:{port}/1")
        assert said == "orders serves /1\n"


async def test_an_init_that_is_killed_takes_all_with_it(
    home: Path, either: HostCapabilities
) -> None:
    """Also where no namespace ends with it; the pod is then not adopted but swept."""
    async with after_a_kill(home, either) as (host, _):
        pid = json.loads((host.layout.pod("orders") / "pod.json").read_bytes())["pid"]
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: not processes_that_name(home))
        assert await host.supervisor.adopt(host.pods) == []


async def test_a_lost_pod_is_noticed_and_made_anew(
    home: Path, capabilities: HostCapabilities
) -> None:
    """Its init was killed while it was controlled."""
    async with running(home, the_system(), capabilities) as host:
        await host.up("orders", "app")
        assert host.supervisor.lost() == ()
        os.kill(host.supervisor.pods["orders"].pid, signal.SIGKILL)
        await eventually(lambda: host.supervisor.lost() == ("orders",))
        (status,) = await host.supervisor.status()
        assert status.processes == ()
        await host.up("orders", "app")
        assert host.supervisor.lost() == ()


@pytest.mark.parametrize("lie", [{"start_time": 1}, {"boot_id": "another"}, {"pid": "?"}, None])
async def test_a_record_that_names_another_process_is_not_believed(
    home: Path, capabilities: HostCapabilities, lie: dict[str, object] | None
) -> None:
    """A pid is used again, a boot passes, a file is cut short: nobody is adopted, nobody killed."""
    host = prepare(home, the_system(), capabilities)
    await host.up("orders", "app")
    pod = host.supervisor.pods["orders"]
    record = host.layout.pod("orders") / "pod.json"
    right = record.read_bytes()
    record.write_text(json.dumps(json.loads(right) | lie) if lie else '{"pid', encoding="utf-8")
    try:
        other = prepare(home, the_system(), capabilities)
        assert await other.supervisor.adopt(other.pods) == []
        assert pod.running()
        record.write_bytes(right)
        assert await other.supervisor.adopt(other.pods) == ["orders"]
        other.supervisor.leave()
    finally:
        await host.supervisor.stop_all()
        host.supervisor.remove_run_directory()
