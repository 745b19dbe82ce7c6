"""What a program leaves in its pod is gone when it is started again, and the memory that it took.

Objects of System V, and POSIX message queues, end with their namespace only (sysvipc(7),
mq_overview(7)), and a compromised app leaves them on purpose: its patched successor would find its
data, and no memory.
"""

import asyncio
from dataclasses import replace
from pathlib import Path

from tests.runtime.conftest import Host, running
from tests.runtime.programs import idler, system_of
from watertight.model.system import Limits
from watertight.runtime.capabilities import HostCapabilities

MEBIBYTE = 1 << 20
LIMITS = Limits(128 * MEBIBYTE, 40, 4 * MEBIBYTE, 64)
"""What is left behind, and what is needed then, each fit in; together they do not."""

_LEAVE = """
import ctypes, signal
from pathlib import Path

libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
lists = [Path("/proc/sysvipc", kind).read_text() for kind in ("shm", "sem", "msg")]
rows = sum(len(text.splitlines()) - 1 for text in lists)
queue = libc.mq_open(b"/left", 0o2, 0o600, None)
files = [d for d in ("/tmp", "/dev/shm") if Path(d, "left").exists()]
print("found", rows, queue >= 0, len(files), flush=True)
needed = bytearray(80 << 20)
needed[::4096] = b"!" * len(needed[::4096])
del needed
for _ in range(5):
    segment = libc.shmget(0, ctypes.c_size_t(16 << 20), 0o1600)
    at = libc.shmat(segment, None, 0)
    assert at > 0
    ctypes.memset(at, 1, 16 << 20)
    libc.shmdt(ctypes.c_void_p(at))
assert libc.semget(0, 1, 0o1600) >= 0 and libc.msgget(0, 0o1600) >= 0
assert libc.mq_open(b"/left", 0o102, 0o600, None) >= 0
for directory in ("/tmp", "/dev/shm"):
    Path(directory, "left").touch()
print("left", flush=True)
signal.pause()
"""


async def _said(host: Host, times: int) -> list[str]:
    """What the app has said, once it has left something so often, or was ended."""
    log = host.layout.log("orders", "app")
    async with asyncio.timeout(30):
        while True:
            (pod,) = await host.supervisor.status()
            (app,) = [p for p in pod.processes if p.name == "app"]
            said = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
            if said.count("left") >= times or app.restarts:
                return said
            await asyncio.sleep(0.02)


async def _started_three_times(home: Path, capabilities: HostCapabilities) -> list[str]:
    system = system_of(replace(idler("orders", _LEAVE), limits=LIMITS))
    async with running(home, system, capabilities) as host:
        await host.up("orders", "app")
        for times in (1, 2):
            await _said(host, times)
            await host.supervisor.restart_process("orders", "app")
        return await _said(host, 3)


async def test_nothing_outlives_a_start(home: Path, capabilities: HostCapabilities) -> None:
    said = await _started_three_times(home, capabilities)
    assert said == ["found 0 False 0", "left"] * 3
