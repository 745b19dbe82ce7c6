"""Runs the services of an example plainly on loopback: their declared `run`, on free ports.

No Watertight is involved: this shows that the examples are ordinary programs which work alone.
"""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.ports import free_port

DEADLINE_SECONDS = 40.0
REPOSITORY = Path(__file__).parents[2]


def declaration(example: str) -> Path:
    """The declaration of one example."""
    return REPOSITORY / "examples" / example / "watertight.yaml"


def declared_services(file: Path) -> dict[str, dict[str, Any]]:
    """The services of a declaration, as it is written."""
    services: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text())["services"]
    return services


def ports_of(file: Path) -> dict[str, int]:
    """A free port for each service of ``file`` that listens."""
    return {name: free_port() for name, s in declared_services(file).items() if "listens" in s}


def _argv(service: dict[str, Any], port: int | None, where: Mapping[str, str]) -> list[str]:
    """The declared ``run`` with its own port replaced, and the addresses of others in URLs."""
    argv = [sys.executable if word == "python" else word for word in service["run"]]
    if port is not None:
        declared = next(iter(service["listens"].values()))
        argv = [re.sub(rf"(^|127\.0\.0\.1:){declared}$", rf"\g<1>{port}", word) for word in argv]
    for name, address in where.items():
        argv = [re.sub(rf"//{name}:\d+", f"//{address}", word) for word in argv]
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
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


@contextlib.asynccontextmanager
async def running_services(
    file: Path, logs: Path, ports: Mapping[str, int], where: Callable[[str], Mapping[str, str]]
) -> AsyncIterator[None]:
    """Every service of ``file`` on its port, ready; stops them whatever happens.

    ``where``: for each caller, callee → host:port. Each service writes to ``logs/<service>.log``.
    Raises TimeoutError if they are not ready in time.
    """
    services = declared_services(file)
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    processes: list[asyncio.subprocess.Process] = []
    try:
        for name, service in services.items():
            found = where(name)
            urls = {f"{n.upper().replace('-', '_')}_URL": f"http://{a}" for n, a in found.items()}
            with (logs / f"{name}.log").open("wb") as log:
                processes.append(
                    await asyncio.create_subprocess_exec(
                        *_argv(service, ports.get(name), found),
                        cwd=file.parent / service.get("directory", "."),
                        env={**environment, **urls, **service.get("environment", {})},
                        stdin=asyncio.subprocess.DEVNULL,
                        stdout=log,
                        stderr=asyncio.subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
        async with asyncio.timeout(DEADLINE_SECONDS):
            for name, port in ports.items():
                await _ready(port, services[name].get("ready"))
        yield
    finally:
        await _stop(processes)


@contextlib.asynccontextmanager
async def running_plainly(file: Path, logs: Path) -> AsyncIterator[dict[str, int]]:
    """Every service of ``file``, each calling the others directly; yields service → port."""
    ports = ports_of(file)
    addresses = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    async with running_services(file, logs, ports, lambda _: addresses):
        yield ports
