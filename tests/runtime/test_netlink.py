"""Answers on netlink sockets that nobody reads: kernel memory that no control group counts."""

import asyncio
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runtime.conftest import Host, running
from tests.runtime.programs import idler, system_of
from watertight.runtime import netlink
from watertight.runtime.capabilities import HostCapabilities, Isolation

PYTHON = sys.executable
_FILL = """
import socket, struct, time
ask = struct.pack("=IHHII", 32, 18, 1, 1, 0) + struct.pack("=BxHiII", 0, 0, 1, 0, 0)
held = []
for _ in range({sockets}):
    one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    one.setblocking(False)
    held.append(one)
    for _ in range({questions}):
        one.send(ask)
print("filled", flush=True)
time.sleep({seconds})
print("not ended", flush=True)
"""
_ASK = """
import socket
for _ in range(300):
    socket.if_nameindex()
    socket.getaddrinfo("localhost", 80)
print("asked")
"""


def fill(sockets: int, questions: int, seconds: float = 5.0) -> str:
    """Each question (RTM_GETLINK of the first interface) is answered with a kilobyte or two."""
    return _FILL.format(sockets=sockets, questions=questions, seconds=seconds)


@pytest.fixture
def isolated(capabilities: HostCapabilities) -> HostCapabilities:
    if capabilities.isolation is Isolation.NONE:
        pytest.skip("without a network of its own nobody is watched")
    return capabilities


async def app(host: Host, name: str) -> tuple[str, int, str]:
    """State, restarts and how it ended last."""
    (pod,) = [p for p in await host.supervisor.status() if p.name == name]
    (process,) = [p for p in pod.processes if p.name == "app"]
    return process.state, process.restarts, process.last_exit or ""


async def test_who_takes_the_kernels_memory_is_ended(
    home: Path, isolated: HostCapabilities
) -> None:
    async with running(home, system_of(idler("orders"), idler("payments")), isolated) as host:
        await host.up("orders", "app")
        await host.up("payments", "app")
        told = await host.inside("orders", PYTHON, "-c", fill(100, 1_000))
        assert "not ended" not in told
        log = (host.layout.logs / "orders.app.log").read_text()
        assert "watertight: ended a command that was run inside" in log
        # It was a guest; the app beside it, and the others, go on.
        assert await app(host, "orders") == ("running", 0, "")
        assert await app(host, "payments") == ("running", 0, "")


async def test_an_app_is_ended_too(home: Path, isolated: HostCapabilities) -> None:
    greedy = replace(idler("orders"), run=(PYTHON, "-c", fill(100, 1_000, 60.0)))
    async with running(home, system_of(greedy), isolated) as host:
        await host.up("orders", "app")
        async with asyncio.timeout(60):
            while True:
                _, restarts, last_exit = await app(host, "orders")
                if restarts:
                    break
                await asyncio.sleep(0.05)
        assert last_exit == "killed by SIGKILL"


async def test_who_asks_as_libraries_do_goes_on(home: Path, isolated: HostCapabilities) -> None:
    async with running(home, system_of(idler("orders")), isolated) as host:
        await host.up("orders", "app")
        assert await host.inside("orders", PYTHON, "-c", _ASK) == "asked\n"
        assert "not ended" in await host.inside("orders", PYTHON, "-c", fill(4, 300, 1.0))


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace")
@pytest.mark.parametrize(
    ("sockets", "questions", "seconds"),
    [(0, 0, netlink.LOOK_SECONDS), (4, 1_500, netlink.CLOSE_LOOK_SECONDS)],
)
def test_it_is_looked_at_more_often_once_it_grows(
    sockets: int, questions: int, seconds: float
) -> None:
    look = "\nfrom watertight.runtime.netlink import NetlinkWatch; print(NetlinkWatch().look()[0])"
    done = subprocess.run(
        [str(shutil.which("unshare")), "-n", PYTHON, "-c", fill(sockets, questions, 0.0) + look],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == str(seconds)
