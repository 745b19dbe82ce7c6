"""A proxy has a budget of its own: the kernel ends it at its bound, and its init starts it anew."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runtime.conftest import Host, eventually, running
from tests.runtime.programs import idler, system_of
from watertight.runtime.capabilities import HostCapabilities
from watertight.runtime.states import ProcessState

TOO_LITTLE_BYTES = 8 << 20
DEADLINE_SECONDS = 30.0


def _score(pid: str) -> str:
    return Path(f"/proc/{pid}/oom_score_adj").read_text(encoding="ascii").strip()


async def proxy_of(host: Host) -> ProcessState:
    (pod,) = [p for p in await host.supervisor.status() if p.name == "orders"]
    return next(p for p in pod.processes if p.name == "proxy")


async def test_a_proxy_is_held_to_its_budget(home: Path, capabilities: HostCapabilities) -> None:
    if not capabilities.cgroups:
        pytest.skip("there is no control group that we may divide")
    async with running(home, system_of(idler("orders")), capabilities) as host:
        spec = host.pods["orders"]
        bootstrap = host.layout.bootstrap("orders")
        bootstrap.write_text('{"node": {"id": "orders", "cluster": "orders"}}', encoding="ascii")
        bootstrap.chmod(0o644)
        await host.supervisor.start_pod(spec)
        await host.supervisor.start_process("orders", "proxy")
        groups = [Path(g) for g in host.layout.cgroups.groups("orders@proxy")]
        held = [set((group / "cgroup.procs").read_text().split()) for group in groups]
        assert held[0]
        assert all(pids == held[0] for pids in held)
        await eventually(lambda: "250" in {_score(pid) for pid in held[0]})
        app = [Path(g) for g in host.layout.cgroups.groups("orders")]
        assert not any((group / "cgroup.procs").read_text() for group in app)

        usual = spec.process("proxy")
        less = replace(usual, memory_bytes=TOO_LITTLE_BYTES)
        others = [p for p in spec.processes if p.name != "proxy"]
        await host.supervisor.stop_process("orders", "proxy")
        await host.supervisor.configure(replace(spec, processes=(less, *others)))
        await host.supervisor.start_process("orders", "proxy")
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (await proxy_of(host)).restarts == 0:  # noqa: ASYNC110  nothing tells us
                await asyncio.sleep(0.05)
        assert "KILL" in str((await proxy_of(host)).last_exit)

        await host.supervisor.stop_process("orders", "proxy")
        await host.supervisor.configure(replace(spec, processes=(usual, *others)))
        await host.supervisor.start_process("orders", "proxy")
        before = (await proxy_of(host)).restarts
        await asyncio.sleep(0.5)
        now = await proxy_of(host)
        assert (now.state, now.restarts) == ("running", before)
    assert not any(group.exists() for group in groups)
