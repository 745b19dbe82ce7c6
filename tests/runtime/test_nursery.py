"""Pods begin as forks of one small process, which they do not need afterwards."""

import contextlib
import json
import os
import signal
from pathlib import Path

import pytest

from tests.runtime.conftest import Host, eventually, prepare, processes_that_name, running
from tests.runtime.programs import server, system_of
from watertight.model.system import System
from watertight.runtime.capabilities import HostCapabilities
from watertight.runtime.launch import Nursery, pod_wire, write_hosts
from watertight.runtime.pod_client import PodError
from watertight.runtime.proc import descendants

NURSERY = "watertight.runtime.nursery"


def two() -> System:
    """Two services."""
    return system_of(server("orders", 8071), server("payments", 8072))


def nurseries(host: Host) -> list[int]:
    """Those of this system."""
    return [p for p, argv in processes_that_name(host.layout.run).items() if NURSERY in argv]


def held_by(pid: int) -> set[str]:
    """What its descriptors are of."""
    return {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}


def environment_of(pid: int) -> set[bytes]:
    """The names that its environment has."""
    words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return {word.partition(b"=")[0] for word in words if word}


async def test_all_pods_come_from_one(home: Path, capabilities: HostCapabilities) -> None:
    """And ps(1) tells them apart."""
    async with running(home, two(), capabilities) as host:
        await host.up("orders", "app")
        await host.up("payments", "app")
        assert len(nurseries(host)) == 1
        for name, pod in host.supervisor.pods.items():
            named = processes_that_name(host.layout.pod(name))
            assert named[pod.pid].rstrip() == f"watertight-pod {host.layout.pod(name)}"
    assert not nurseries(host)


async def test_its_death_ends_no_pod_and_keeps_none_from_starting(
    home: Path, capabilities: HostCapabilities
) -> None:
    """Also when it is killed; the next pod has another."""
    async with running(home, two(), capabilities) as host:
        await host.up("orders", "app")
        (first,) = nurseries(host)
        os.kill(first, signal.SIGKILL)
        await host.up("payments", "app")
        assert len(nurseries(host)) == 1
        assert host.supervisor.lost() == ()
        (orders, _) = await host.supervisor.status()
        assert {p.restarts for p in orders.processes} == {0}


async def test_an_init_has_nothing_of_it(home: Path, capabilities: HostCapabilities) -> None:
    """Neither the socket on which pods are asked for, nor the operator's environment."""
    async with running(home, two(), capabilities) as host:
        await host.up("orders", "app")
        (nursery,) = nurseries(host)
        (asked,) = {held for held in held_by(nursery) if held.startswith("socket:")}
        pod = host.supervisor.pods["orders"]
        for pid in (pod.pid, descendants(pod.pid)[0]):
            assert asked not in held_by(pid)
            assert environment_of(pid) == {b"PATH", b"LANG"}


async def test_who_gives_up_gets_no_pod(home: Path, capabilities: HostCapabilities) -> None:
    """An init that nobody was told of does not stay."""
    host = prepare(home, two(), capabilities)
    spec, directory = host.pods["orders"], host.layout.pod("orders")
    write_hosts(directory / "hosts", spec.hosts)
    (directory / "spec.json").write_text(json.dumps(pod_wire(spec, host.layout)))
    nursery = Nursery(host.layout.run)
    try:
        os.close(nursery.ask(directory))
        await eventually((directory / "pod.json").exists)
        await eventually(lambda: not processes_that_name(directory))
    finally:
        nursery.close()
        for socket in directory.glob("*.sock"):
            socket.unlink()


async def test_what_goes_wrong_is_told(home: Path, capabilities: HostCapabilities) -> None:
    """In the words of the process that becomes the pod."""
    async with running(home, two(), capabilities) as host:
        host.layout.pod("orders").joinpath("pod.sock").mkdir()
        try:
            with pytest.raises(PodError, match=r"The pod of orders did not start: .*pod\.sock"):
                await host.up("orders")
        finally:
            with contextlib.suppress(FileNotFoundError):
                host.layout.pod("orders").joinpath("pod.sock").rmdir()
        await eventually(lambda: not processes_that_name(host.layout.pod("orders")))
        await host.up("orders", "app")
