"""Making logs grow: from inside at the Workload API, from outside at the gateway."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from watertight.attack.arena import Arena
from watertight.attack.http import exchange, request_bytes
from watertight.attack.probe import Observation, Probe, refused, served
from watertight.attack.probe import not_run as cannot
from watertight.dataplane.attacks import edge
from watertight.dataplane.attacks.edge import CHANNEL
from watertight.dataplane.attacks.exhaust.watching import seen
from watertight.dataplane.attacks.make import attack
from watertight.dataplane.attacks.requests import TIMEOUT_SECONDS
from watertight.model.system import Gateway

LONG_PATH = "/" + "x" * 14_000
FLOOD, CONNECTIONS = 300, 6
LOGGED_BYTES = 2 << 20
"""Of more than 4 MiB of refused requests; others are logged meanwhile too."""
FLUSH_SECONDS = 2.0
"""A log is written down a moment later."""
KNOCKS = 600
KNOCKED_BYTES = 64 * 1024


def probes(services: Iterable[str], gateway: Gateway | None) -> Iterator[Probe]:
    """One for each service, and one for the outside."""
    for name in services:
        yield attack(
            "exhaust.control-log",
            f"{name} -> authority",
            f"{KNOCKS} connections to the Workload API that are closed at once, from inside {name}",
            _knock,
            name,
        )
    if gateway is not None:
        yield attack(
            "exhaust.access-log",
            CHANNEL,
            f"{FLOOD} requests that are refused, with paths of {len(LONG_PATH)} bytes",
            _flood,
            gateway,
        )


async def _knock(arena: Arena, service: str) -> Observation:
    logs = arena.placement.project_directory / ".watertight" / "logs"
    before = _size(logs, "control.log*")
    path = arena.placement.workload_api_socket(service)
    answer = await (await arena.inside(service)).call("knock", path=str(path), count=KNOCKS)
    if "error" in answer or not answer["taken"]:
        return cannot(str(answer.get("error", "no connection was taken")))
    return await _grown(lambda: _size(logs, "control.log*") - before, KNOCKED_BYTES)


async def _flood(arena: Arena, gateway: Gateway) -> Observation:
    logs = arena.placement.project_directory / ".watertight" / "logs"
    run = arena.placement.run_directory

    def held() -> int:
        """Of proxies. A route of all paths lets an app write these into a log of its own."""
        proxies = _size(logs, "*.access.log*") + _size(logs, "*.proxy.log*")
        return proxies + _size(run, "**/*.log*")

    before = held()
    source = edge.fresh_source(gateway)
    share = FLOOD // CONNECTIONS
    floods = (_requests(gateway, source, share) for _ in range(CONNECTIONS))
    answered = sum(await asyncio.gather(*floods))
    if answered < FLOOD // 2:
        return cannot(f"only {answered} of {FLOOD} requests were answered")
    return await _grown(lambda: held() - before, LOGGED_BYTES)


async def _requests(gateway: Gateway, source: str | None, count: int) -> int:
    """One after another on one connection; how many were answered."""
    request = request_bytes("GET", LONG_PATH, [("host", gateway.hostname)])
    wire = await edge.dial_tls(gateway, source=source)
    try:
        for number in range(count):
            got = await exchange(wire, request, ["GET"], timeout_seconds=TIMEOUT_SECONDS)
            if not got.answers or got.closed:
                return number + len(got.answers)
    finally:
        await wire.close()
    return count


async def _grown(growth: Callable[[], int], bound_bytes: int) -> Observation:
    async def look() -> int:
        return growth()

    grown = await seen(look, lambda bytes_: bytes_ > bound_bytes, FLUSH_SECONDS)
    said = f"the logs grew by {max(grown, 0) >> 10} KiB"
    return served(said) if grown > bound_bytes else refused(said)


def _size(directory: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in directory.glob(pattern) if path.is_file())
