"""Processes of this machine: an attacker's footholds, and where a server's family listens."""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

from watertight.verify.foothold import Streams

LISTEN_STATE = "0A"
"""In /proc/net/tcp (include/net/tcp_states.h)."""
ACCEPTING = 0x10000
"""``__SO_ACCEPTCON`` in /proc/net/unix (include/uapi/linux/net.h)."""


class Agents:
    """Runs argv as plain processes of this host and ends them by pid."""

    def __init__(self, wrapper: Sequence[str] = ()) -> None:
        self._wrapper = tuple(wrapper)
        self._processes: list[asyncio.subprocess.Process] = []

    async def run(self, _service: str, argv: Sequence[str]) -> Streams:
        process = await asyncio.create_subprocess_exec(
            *self._wrapper,
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=4_194_304,
        )
        self._processes.append(process)
        if process.stdin is None or process.stdout is None:
            raise ValueError("no pipes")
        return process.stdout, process.stdin

    async def stop(self) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def family_of(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            with contextlib.suppress(OSError):
                found += family_of(int(child))
    return found


def sockets_of(pid: int) -> list[str]:
    """Where a process listens, as the kernel tells it."""
    mine = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            mine.add(str(entry.readlink()).removeprefix("socket:[").removesuffix("]"))
    found = []
    for table in ("tcp", "tcp6"):  # gRPC's server listens on an IPv4 address mapped into IPv6
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN_STATE and fields[9] in mine:
                host, port = fields[1].split(":")
                address = ".".join(str(b) for b in reversed(bytes.fromhex(host)[-4:]))
                found.append(f"{address}:{int(port, 16)}")
    for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[3], 16) & ACCEPTING and fields[6] in mine:
            found.append(f"unix:{fields[7]}")
    return found
