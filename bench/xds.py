"""How long from ``apply`` to the last ACK, and what each proxy is sent, as services grow.

    python -m bench.xds --output bench/results/xds.json

Every service calls three others, whatever their number. The plan is the compiler's, the server the
real one; the proxies are simulated in a process of their own (``bench.xds_fleet``), so that a
thousand of them fit on one machine. Secrets are left out: they do not depend on neighbours.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from watertight.dataplane.compile import compile_envoy
from watertight.dataplane.resources import EnvoyPlan, ResourceType
from watertight.dataplane.xds import XDSServer
from watertight.model.placement import Placement
from watertight.model.system import Channel, HTTPGrant, Listen, Protocol, Service, System

SIZES = (10, 100, 1_000)
QUICK_SIZES = (10, 20)
NEIGHBOURS = (1, 3, 7)
"""Service i calls i+1, i+3 and i+7, in a ring."""
ROUNDS = 5
DEADLINE_SECONDS = 120.0

READ = HTTPGrant("GET", "/items/*")
WRITE = HTTPGrant("POST", "/items")


@dataclass(frozen=True)
class Fleet:
    """The process of the simulated proxies."""

    process: asyncio.subprocess.Process

    async def tell(self, command: str) -> str:
        """Sends a command and returns its one line of answer."""
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the fleet has no pipes")
        stdin.write(f"{command}\n".encode())
        async with asyncio.timeout(DEADLINE_SECONDS):
            return (await stdout.readline()).decode().strip()

    async def sent(self) -> dict[str, dict[str, int]]:
        """Responses and bytes that each proxy was sent so far."""
        report: dict[str, dict[str, int]] = json.loads(await self.tell("report"))
        return report


def ring(size: int) -> System:
    """``size`` services, each with three callees and three callers."""
    names = [f"service-{number:05}" for number in range(size)]
    services = {
        name: Service(name, listens=Listen(Protocol.HTTP, 8_000 + number))
        for number, name in enumerate(names)
    }
    channels = tuple(
        Channel(name, names[(number + step) % size], (READ,))
        for number, name in enumerate(names)
        for step in NEIGHBOURS
    )
    return System("bench.internal", services, channels=channels)


def with_grants(system: System, grants: tuple[HTTPGrant, ...], channels: int) -> System:
    """The system with other grants on its first ``channels`` channels."""
    changed = [replace(channel, grants=grants) for channel in system.channels[:channels]]
    return replace(system, channels=(*changed, *system.channels[channels:]))


@asynccontextmanager
async def running_fleet(socket: Path, plan: EnvoyPlan) -> AsyncIterator[Fleet]:
    """The simulated proxies of a plan, not yet connected."""
    routes = {
        name: [r.name for r in proxy.resources if r.type is ResourceType.ROUTE]
        for name, proxy in plan.proxies.items()
    }
    members = socket.with_name("fleet.json")
    members.write_text(json.dumps(routes))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.xds_fleet", socket, members),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=16 * 2**20,
    )
    fleet = Fleet(process)
    try:
        if process.stdout is None or await process.stdout.readline() != b"ready\n":
            raise RuntimeError("the fleet did not start")
        yield fleet
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def different(old: EnvoyPlan, new: EnvoyPlan) -> list[str]:
    """The proxies whose part of the plan is another."""
    return [name for name, proxy in new.proxies.items() if old.proxies.get(name) != proxy]


async def push(server: XDSServer, plan: EnvoyPlan, names: Sequence[str]) -> None:
    """Hands out these proxies' parts and returns once each has ACKed."""
    for name in names:
        server.set_resources(name, plan.proxies[name].resources)
    await all_in_force(server, names)


async def all_in_force(server: XDSServer, names: Sequence[str]) -> None:
    """Returns once every one of these proxies has ACKed all that it shall have."""
    await asyncio.gather(
        *(server.wait_in_force(name, deadline_seconds=DEADLINE_SECONDS) for name in names)
    )


async def measure(size: int, directory: Path) -> dict[str, Any]:
    """All figures for one number of services."""
    placement = Placement(directory, directory)
    system = ring(size)
    began = time.perf_counter()
    plan = compile_envoy(system, placement)
    compiled = time.perf_counter()
    server = XDSServer()
    for name, proxy in plan.proxies.items():
        server.set_resources(name, proxy.resources)
    encoded = time.perf_counter()
    socket = directory / "ads.sock"
    await server.listen_for_all(socket)
    try:
        async with running_fleet(socket, plan) as fleet:
            connecting = time.perf_counter()
            await fleet.tell("go")
            await all_in_force(server, tuple(plan.proxies))
            connected = time.perf_counter() - connecting
            sent = await fleet.sent()
            changes = await measure_changes(server, system, placement, plan)
            sent_after = await fleet.sent()
    finally:
        await server.stop()
    return {
        "services": size,
        "channels": len(system.channels),
        "compile_seconds": compiled - began,
        "encode_seconds": encoded - compiled,
        "connect_to_acked_seconds": connected,
        "bytes_per_proxy": statistics.mean(s["bytes"] for s in sent.values()),
        "largest_bytes_per_proxy": max(s["bytes"] for s in sent.values()),
        "responses_per_proxy": statistics.mean(s["responses"] for s in sent.values()),
        **changes,
        "bytes_per_proxy_after_all_changes": statistics.mean(
            s["bytes"] for s in sent_after.values()
        ),
    }


async def measure_changes(
    server: XDSServer, system: System, placement: Placement, plan: EnvoyPlan
) -> dict[str, Any]:
    """One grant, then every grant, changed to and fro: compile, diff, push, ACK."""
    figures: dict[str, Any] = {}
    for what, channels in (("one_grant", 1), ("every_grant", len(system.channels))):
        whole, pushes, changed = [], [], list[str]()
        for number in range(ROUNDS):
            grants = (READ, WRITE) if number % 2 == 0 else (READ,)
            began = time.perf_counter()
            new = compile_envoy(with_grants(system, grants, channels), placement, before=plan)
            changed = different(plan, new)
            compared = time.perf_counter()
            await push(server, new, changed)
            done = time.perf_counter()
            whole.append(done - began)
            pushes.append(done - compared)
            plan = new
        figures[f"{what}_proxies_changed"] = len(changed)
        figures[f"{what}_apply_seconds"] = statistics.median(whole)
        figures[f"{what}_push_to_acked_seconds"] = statistics.median(pushes)
    return figures


def ratios(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The largest system against the smallest: 1 means that size does not matter."""
    small, large = rows[0], rows[-1]
    return {
        "services": large["services"] / small["services"],
        **{
            key: large[key] / small[key]
            for key in (
                "bytes_per_proxy",
                "responses_per_proxy",
                "one_grant_push_to_acked_seconds",
                "every_grant_push_to_acked_seconds",
            )
        },
    }


async def main() -> int:
    parser = argparse.ArgumentParser(description="apply to ACKed, and bytes per proxy")
    parser.add_argument("--quick", action="store_true", help="small numbers: only see that it runs")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    rows = []
    for size in QUICK_SIZES if arguments.quick else SIZES:
        with tempfile.TemporaryDirectory(prefix="wt-bench-") as name:
            rows.append(await measure(size, Path(name)))
    text = json.dumps({"rows": rows, "ratios": ratios(rows)}, indent=2)
    if arguments.output:
        arguments.output.write_text(text)
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
