"""The operator's end of one pod's control socket, and the pod's init as a process."""

import asyncio
import contextlib
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

from watertight.errors import WatertightError
from watertight.runtime.pod_init import CONTROL_SOCKET
from watertight.runtime.proc import boot_id, start_time
from watertight.runtime.runs import RECORD
from watertight.runtime.waiting import readable

_ANSWER_SECONDS = 30.0
_LONGEST_LINE_BYTES = 4 * 1024 * 1024


class PodError(WatertightError):
    """A pod could not do what it was asked, or does not answer."""


class Pod:
    """A running pod: its init is one process for good, whatever becomes of its pid."""

    def __init__(self, name: str, directory: Path, pid: int, started: int) -> None:
        """Raises ProcessLookupError if that process no longer runs."""
        self.name = name
        self.directory = directory
        self.pid = pid
        self.start_time = started
        """Clock ticks since boot (proc(5), field 22 of stat)."""
        self._pidfd = os.pidfd_open(pid)
        if start_time(pid) != started:
            os.close(self._pidfd)
            raise ProcessLookupError(pid)

    @classmethod
    def recorded(cls, name: str, directory: Path) -> "Pod | None":
        """The pod that ``directory`` tells of, if it still runs."""
        try:
            record = json.loads((directory / RECORD).read_bytes())
            if record["boot_id"] != boot_id():
                return None
            return cls(name, directory, int(record["pid"]), int(record["start_time"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    async def ask(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """One request. Raises :class:`PodError` with the pod's own words."""
        reader, writer = await self._connect()
        try:
            writer.write(json.dumps({"op": operation, **arguments}).encode() + b"\n")
            await writer.drain()
            limit = _ANSWER_SECONDS + float(arguments.get("grace_seconds", 0))
            async with asyncio.timeout(limit):
                answer = await reader.readline()
        except (OSError, TimeoutError) as error:
            raise self._silent(error) from error
        finally:
            writer.close()
        return self._understood(answer)

    async def execute(
        self, process: str, argv: list[str], groups: list[str]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Runs a program as ``process`` would, in control groups of its own.

        Returns its stdout and stdin.
        """
        reader, writer = await self._connect()
        request = {"op": "execute", "process": process, "argv": argv, "groups": groups}
        writer.write(json.dumps(request).encode())
        writer.write(b"\n")
        try:
            await writer.drain()
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await reader.readline()
            self._understood(answer)
        except (OSError, TimeoutError, PodError) as error:
            writer.close()
            raise error if isinstance(error, PodError) else self._silent(error) from error
        return reader, writer

    async def tcp_socket(self) -> socket.socket:
        """An unconnected TCP socket of the pod's network namespace."""
        return await self._socket("tcp")

    async def packet_socket(self) -> socket.socket:
        """An unbound packet socket of the pod's network namespace (packet(7))."""
        return await self._socket("packet")

    async def _socket(self, kind: str) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        with connection:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await loop.sock_connect(connection, str(self.directory / CONTROL_SOCKET))
                    request = json.dumps({"op": "socket", "kind": kind}).encode() + b"\n"
                    await loop.sock_sendall(connection, request)
                    await readable(connection.fileno())
                _, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
            except (OSError, TimeoutError) as error:
                raise self._silent(error) from error
        if not descriptors:
            raise PodError(f"The pod of {self.name} passed no socket.")
        made = socket.socket(fileno=descriptors[0])
        made.setblocking(False)
        return made

    def running(self) -> bool:
        """Whether the init lives."""
        return start_time(self.pid) == self.start_time

    async def gone(self, deadline_seconds: float) -> bool:
        """Waits until the init has ended; False if it has not within the deadline."""
        if not self.running():
            return True
        try:
            async with asyncio.timeout(deadline_seconds):
                await readable(self._pidfd)
        except TimeoutError:
            return False
        return True

    def kill(self) -> None:
        """Ends the init at once; the kernel then ends all in its process namespace."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def forget(self) -> None:
        """Lets go of the process; what runs goes on."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await asyncio.open_unix_connection(
                self.directory / CONTROL_SOCKET, limit=_LONGEST_LINE_BYTES
            )
        except OSError as error:
            raise self._silent(error) from error

    def _understood(self, answer: bytes) -> dict[str, Any]:
        if not answer:
            raise PodError(
                f"The pod of {self.name} hung up.", remedy=f"Read {self.directory}/pod.log."
            )
        body: dict[str, Any] = json.loads(answer)
        if "error" in body:
            raise PodError(f"{self.name}: {body['error']}.", remedy=body.get("remedy", ""))
        return body

    def _silent(self, error: BaseException) -> PodError:
        return PodError(
            f"The pod of {self.name} does not answer: {error or type(error).__name__}.",
            remedy="Run `watertight up` again; it starts what is missing.",
        )
