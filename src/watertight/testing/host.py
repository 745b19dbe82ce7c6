"""A server's place on this machine, without a pod: plain processes on loopback.

With root, the server is an unprivileged user's, as it would be in a pod; without, ours.
"""

import asyncio
import contextlib
import json
import os
import pwd
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from watertight.enforcers.resource import Completed, ServerPlan, ServerProcess
from watertight.errors import WatertightError
from watertight.identity.credential_files import Owner
from watertight.model.placement import Placement
from watertight.runtime.files import hold_exactly

STOP_SECONDS = 20.0


class PlainHost:
    """Implements ``ServerHost`` with plain processes on this host's loopback."""

    def __init__(self, plan: ServerPlan, placement: Placement, process: ServerProcess) -> None:
        self.resource = plan.resource
        self.placement = placement
        self.process = process
        self.anew = True
        self.operator = pwd.getpwuid(os.geteuid()).pw_name
        self.user = "nobody" if os.geteuid() == 0 else self.operator
        self.port = plan.port
        self.groups: Sequence[str] = ()
        """Control groups that the server is put into when it is started."""
        self._running: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.subprocess.Process | None = None
        self._log = placement.run_directory / f"{plan.resource}.log"

    @property
    def owner(self) -> Owner | None:
        """Whose the server's files are; None: ours."""
        if os.geteuid():
            return None
        user = pwd.getpwnam(self.user)
        return Owner(user.pw_uid, user.pw_gid)

    @property
    def pid(self) -> int:
        """Of the running server."""
        if self._running is None:
            raise ProcessLookupError(f"{self.resource} was not started")
        return self._running.pid

    def prepare(self) -> None:
        """Makes the server's directories."""
        self.placement.server_directory(self.resource).mkdir(parents=True, mode=0o755)
        for own in (
            self.placement.server_data(self.resource),
            self.placement.server_sockets(self.resource),
        ):
            own.mkdir(parents=True, mode=0o700)
            if self.owner:
                os.chown(own, self.owner.uid, self.owner.gid)

    async def write(self, files: Mapping[str, str]) -> tuple[str, ...]:
        return hold_exactly(self.placement.server_directory(self.resource), files)

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        timeout_seconds: float = 60.0,
    ) -> Completed:
        process = await self._spawn(
            argv, environment or self.process.environment, asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(timeout_seconds):
                output, _ = await process.communicate(stdin)
        except BaseException:
            _end(process, signal.SIGKILL)
            await process.wait()
            raise
        return Completed(process.returncode or 0, output.decode(errors="replace"))

    async def running(self) -> bool:
        return self._running is not None and self._running.returncode is None

    async def start(self) -> None:
        if await self.running():
            return
        with self._log.open("ab") as log:
            self._running = await self._spawn(
                self._bounded(), self.process.environment, log.fileno()
            )
            await self._watch(self._running.pid, log.fileno())
        for group in self.groups:
            (Path(group) / "cgroup.procs").write_text(str(self.pid))
        deadline = time.monotonic() + self.process.start_seconds
        while True:
            with contextlib.suppress(OSError):
                (await self.connect(self.port)).close()
                return
            if not await self.running() or time.monotonic() > deadline:
                raise WatertightError(f"{self.resource} does not start.", remedy=self.log())
            await asyncio.sleep(0.02)

    def _bounded(self) -> Sequence[str]:
        """The server's command, with the bound of the kernel's that it is to have."""
        most = self.process.process_most_bytes
        if most is None:
            return self.process.argv
        script = 'ulimit -S -d "$0" && exec "$@"'
        return ("/bin/sh", "-c", script, str(most >> 10), *self.process.argv)

    async def _watch(self, server: int, log: int) -> None:
        """What a warden does, of the memory of the server's processes."""
        process = self.process
        if process.process_bytes is None:
            return
        user = [self.owner.uid, self.owner.gid] if self.owner else None
        each, every, spared = process.process_bytes, process.processes_bytes, process.spared
        watcher = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "watertight.testing.watching",
            json.dumps([server, each, every, spared, user]),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
        self._watcher = watcher
        if watcher.stdout is None or await watcher.stdout.readline() != b"watching\n":
            raise WatertightError(f"{self.resource}: nobody watches its memory.")

    async def stop(self) -> None:
        if self._running is None:
            return
        _end(self._running, self.process.stop_signal)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._running.wait()
        except TimeoutError:
            pass
        _end(self._running, signal.SIGKILL)  # what is left of its group
        await self._running.wait()
        self._running = None
        if self._watcher is not None:
            await self._watcher.wait()  # it ends with the server
            self._watcher = None

    async def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def connect(self, port: int) -> socket.socket:
        made = socket.socket()
        made.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
        except BaseException:
            made.close()
            raise
        return made

    def log(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-25:])

    async def _spawn(
        self, argv: Sequence[str], environment: Mapping[str, str], output: int
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE if output == asyncio.subprocess.PIPE else None,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            cwd=self.placement.server_data(self.resource),
            env={"PATH": os.defpath, "HOME": str(self.placement.server_data(self.resource))}
            | dict(environment),
            user=self.owner.uid if self.owner else None,
            group=self.owner.gid if self.owner else None,
            extra_groups=[] if self.owner else None,
            start_new_session=True,
        )


def _end(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """The whole group; what it started must not outlive the test."""
    with contextlib.suppress(ProcessLookupError):
        if number is signal.SIGKILL:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
