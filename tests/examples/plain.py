"""Runs the services of an example plainly on loopback: their declared `run`, on free ports.

No Watertight is involved: this shows that the examples are ordinary programs which work alone.
"""

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

DEADLINE_SECONDS = 40.0
REPOSITORY = Path(__file__).parents[2]


def declaration(example: str) -> Path:
    """The declaration of one example."""
    return REPOSITORY / "examples" / example / "watertight.yaml"


def declared_services(file: Path) -> dict[str, dict[str, Any]]:
    """The services of a declaration, as it is written."""
    services: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text())["services"]
    return services


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _argv(run: list[str], service: str, ports: Mapping[str, tuple[int, int]]) -> list[str]:
    """``run`` with the declared ports replaced: its own, and those in URLs of others."""
    argv = [sys.executable if word == "python" else word for word in run]
    if service in ports:
        old, new = ports[service]
        argv = [re.sub(rf"(^|127\.0\.0\.1:){old}$", rf"\g<1>{new}", word) for word in argv]
    for name, (old, new) in ports.items():
        argv = [word.replace(f"//{name}:{old}", f"//127.0.0.1:{new}") for word in argv]
    return argv


async def _ready(port: int, path: str | None) -> None:
    """Waits until the service answers as its declaration says that a ready one does."""
    while True:
        with contextlib.suppress(OSError, httpx.HTTPError):
            if path is None:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()
                return
            async with httpx.AsyncClient(trust_env=False) as client:
                answer = await client.get(f"http://127.0.0.1:{port}{path}")
                if answer.is_success:
                    return
        await asyncio.sleep(0.05)


async def _stop(processes: list[asyncio.subprocess.Process]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    for process in processes:
        try:
            await asyncio.wait_for(process.wait(), 5)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


@contextlib.asynccontextmanager
async def running_plainly(file: Path, logs: Path) -> AsyncIterator[dict[str, int]]:
    """Every service of ``file``, ready; yields service → port. Stops them whatever happens.

    Each writes to ``logs/<service>.log``. Raises TimeoutError if they are not ready in time.
    """
    services = declared_services(file)
    ports = {
        name: (next(iter(service["listens"].values())), free_port())
        for name, service in services.items()
        if "listens" in service
    }
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    urls = {
        f"{n.upper().replace('-', '_')}_URL": f"http://127.0.0.1:{p}" for n, (_, p) in ports.items()
    }
    processes: list[asyncio.subprocess.Process] = []
    try:
        for name, service in services.items():
            with (logs / f"{name}.log").open("wb") as log:
                processes.append(
                    await asyncio.create_subprocess_exec(
                        *_argv(service["run"], name, ports),
                        cwd=file.parent / service.get("directory", "."),
                        env={**environment, **urls, **service.get("environment", {})},
                        stdin=asyncio.subprocess.DEVNULL,
                        stdout=log,
                        stderr=asyncio.subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
        async with asyncio.timeout(DEADLINE_SECONDS):
            for name, (_, port) in ports.items():
                await _ready(port, services[name].get("ready"))
        yield {name: port for name, (_, port) in ports.items()}
    finally:
        await _stop(processes)
