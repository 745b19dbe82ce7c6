"""Starting ``bench/driver.py`` in a pod or on the host, several at once, and asking them."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from watertight.control.plane import ControlPlane

DRIVER = Path(__file__).with_name("driver.py").read_text()
START_SECONDS = 30.0
GRACE_SECONDS = 30.0
"""How much longer than it was told a driver may take."""
END_SECONDS = 10.0


class DriverFailed(RuntimeError):
    """A client could not do what it was asked: there is nothing to measure."""


class Client:
    """One driver process."""

    def __init__(
        self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._name, self._reader, self._writer = name, reader, writer

    async def ask(self, command: str, seconds: float) -> dict[str, Any]:
        """Has it work, and returns its answer. Raises DriverFailed, TimeoutError."""
        self._writer.write(f"{command} {seconds}\n".encode())
        return await self.answer(seconds + GRACE_SECONDS)

    async def answer(self, seconds: float) -> dict[str, Any]:
        """Its next line. Raises DriverFailed, TimeoutError."""
        async with asyncio.timeout(seconds):
            line = await self._reader.readline()
        result: dict[str, Any] = json.loads(line) if line else {"error": "it ended"}
        if "error" in result:
            raise DriverFailed(f"{self._name}: {result['error']}")
        return result


@asynccontextmanager
async def in_pod(
    plane: ControlPlane, service: str, spec: Mapping[str, Any]
) -> AsyncIterator[Client]:
    """A driver with the rights and the view of a service's app, until the block ends."""
    argv = [sys.executable, "-c", DRIVER, json.dumps(spec)]
    reader, writer = await plane.supervisor.run_inside(service, argv)
    try:
        client = Client(service, reader, writer)
        await client.answer(START_SECONDS)
        yield client
    finally:
        with contextlib.suppress(OSError, RuntimeError):
            writer.close()  # it reads the end, and ends


@asynccontextmanager
async def on_host(name: str, spec: Mapping[str, Any]) -> AsyncIterator[Client]:
    """A driver on the host, until the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", DRIVER, json.dumps(spec)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        client = Client(name, process.stdout, process.stdin)
        await client.answer(START_SECONDS)
        yield client
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(END_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
