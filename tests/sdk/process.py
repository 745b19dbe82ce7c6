"""One private server process for a test: unprivileged, on loopback, ended with all below it."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from watertight.identity.credential_files import Owner

STOP_SECONDS = 20.0


@dataclass
class Running:
    """A server, and how to restart it."""

    argv: Sequence[str]
    directory: Path
    owner: Owner | None
    environment: Mapping[str, str]
    port: int
    stop_signal: signal.Signals
    process: asyncio.subprocess.Process | None = None

    async def start(self, seconds: float = 40.0) -> None:
        """Starts it; returns once it accepts."""
        with (self.directory / "log").open("ab") as log:
            self.process = await self._spawn(self.argv, log.fileno())
        deadline = time.monotonic() + seconds
        while not _accepts(self.port):
            if self.process.returncode is not None or time.monotonic() > deadline:
                raise AssertionError((self.directory / "log").read_text())
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Ends it."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            self.process.send_signal(self.stop_signal)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self.process.wait()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # what is left of its group
        await self.process.wait()
        self.process = None

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    async def run(self, *argv: str, stdin: bytes = b"") -> str:
        """Runs a command as the server's user, to its good end."""
        process = await self._spawn(argv, asyncio.subprocess.PIPE)
        output, _ = await process.communicate(stdin)
        assert process.returncode == 0, output.decode()
        return output.decode()

    async def _spawn(self, argv: Sequence[str], output: int) -> asyncio.subprocess.Process:
        become: tuple[str, ...] = ()
        if self.owner:  # not by `user=`: it takes a fork, in which a gRPC server's threads abort
            uid, gid = self.owner.uid, self.owner.gid
            become = ("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups")
        return await asyncio.create_subprocess_exec(
            *become,
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            cwd=self.directory,
            env={"PATH": os.defpath, "HOME": str(self.directory), **self.environment},
            start_new_session=True,
        )


@asynccontextmanager
async def stopped_at_the_end(server: Running) -> AsyncIterator[Running]:
    """Ends the server with the block."""
    try:
        yield server
    finally:
        await server.stop()


def directory_for(base: Path, name: str, owner: Owner | None) -> Path:
    """A directory that a server may write."""
    directory = base / name
    directory.mkdir(mode=0o700)
    if owner:
        os.chown(directory, owner.uid, owner.gid)
    return directory


def _accepts(port: int) -> bool:
    with socket.socket() as attempt:
        attempt.settimeout(1)
        return attempt.connect_ex(("127.0.0.1", port)) == 0
