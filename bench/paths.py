"""What a channel costs: each data path against plaintext and against the usual mTLS pairs.

    python -m bench.paths --seconds 5 --rounds 3 --output bench/results/paths.json

Every row leads to the same backend. All servers run all the time, and one is driven at a time; the
rounds are interleaved, so that a slow spell of the machine falls on all rows alike. The Envoys are
those of the compiler and the xDS server, as ``up`` runs them, but without namespaces.
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import certificates, load, pairs, tools
from tests.mesh import Mesh, running_mesh
from watertight.model.system import Channel, HTTPGrant, Listen, Protocol, Service, System

DIRECT = "direct plaintext"
IDENTITY, GRANTS, TCP = "http, identity only", "http, methods and paths", "tcp"
BODY = "http, a request with a body"
BODY_BYTES = 100
NGINX, HAPROXY = "nginx mTLS pair", "HAProxy mTLS pair"
MODES = {"keep-alive": True, "connection per request": False}


@dataclass(frozen=True)
class Row:
    """The median of the rounds of one row in one mode."""

    name: str
    mode: str
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    errors: int
    lowest: float
    highest: float


ROWS = {
    IDENTITY: ("identity", "web"),
    GRANTS: ("grants", "web"),
    BODY: ("grants", "web"),
    TCP: ("identity", "stream"),
}
"""Row → caller and callee."""


def system(port: int) -> System:
    """The backend on ``port`` as an HTTP service and as one whose bytes are passed through."""
    services = {name: Service(name) for name in ("identity", "grants")}
    services["web"] = Service("web", listens=Listen(Protocol.HTTP, port))
    services["stream"] = Service("stream", listens=Listen(Protocol.TCP, port))
    channels = (
        Channel("identity", "web"),
        Channel("grants", "web", tuple(HTTPGrant(m, load.PATH) for m in ("GET", "POST"))),
        Channel("identity", "stream"),
    )
    return System("bench.internal", services=services, channels=channels)


@contextlib.asynccontextmanager
async def servers(directory: Path) -> AsyncIterator[tuple[dict[str, str], Mesh]]:
    """Everything that is measured, running: row → address; and the mesh."""
    made = certificates.make(directory)
    async with contextlib.AsyncExitStack() as stack:
        backend = stack.enter_context(pairs.backend(directory))
        mesh = await stack.enter_async_context(
            running_mesh(system(int(backend.rpartition(":")[2])), apps=False)
        )
        rows = {DIRECT: backend}
        for name, (caller, callee) in ROWS.items():
            host, port = mesh.address(caller, callee)
            rows[name] = f"{host}:{port}"
        for name, program, pair in (
            (NGINX, "nginx", pairs.nginx_pair),
            (HAPROXY, "haproxy", pairs.haproxy_pair),
        ):
            if tools.find(program) is None:
                print(f"bench: {name}: NOT RUN, {program} is not installed", file=sys.stderr)
                continue
            for transport in ("tcp", "unix"):
                rows[f"{name}, {transport}"] = stack.enter_context(
                    pair(directory, made, backend, transport)
                )
        yield rows, mesh


def driven(row: str, address: str, seconds: int, keep_alive: bool) -> load.Sample:
    """One run of one row."""
    body_bytes = BODY_BYTES if row == BODY else 0
    return load.run(address, seconds=seconds, keep_alive=keep_alive, body_bytes=body_bytes)


def resident_megabytes(pid: int) -> float:
    """Resident memory of a process, from /proc (VmRSS)."""
    status = Path(f"/proc/{pid}/status").read_text()
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return int(kilobytes) / 1024


def median(name: str, mode: str, samples: list[load.Sample]) -> Row:
    """One row of the table."""
    rates = [sample.requests_per_second for sample in samples]
    return Row(
        name=name,
        mode=mode,
        requests_per_second=statistics.median(rates),
        p50_ms=statistics.median(sample.p50_ms for sample in samples),
        p99_ms=statistics.median(sample.p99_ms for sample in samples),
        errors=sum(sample.errors for sample in samples),
        lowest=min(rates),
        highest=max(rates),
    )


def ratio(
    rounds: Mapping[tuple[str, str], list[load.Sample]], row: str, to: str, mode: str
) -> float | None:
    """The median over the rounds of ``row``'s throughput divided by ``to``'s."""
    if (row, mode) not in rounds or (to, mode) not in rounds:
        return None
    return statistics.median(
        a.requests_per_second / b.requests_per_second
        for a, b in zip(rounds[row, mode], rounds[to, mode], strict=True)
    )


async def measure(seconds: int, rounds: int) -> dict[str, object]:
    """Runs everything; the result as a JSON document."""
    seen: dict[tuple[str, str], list[load.Sample]] = {}
    with tempfile.TemporaryDirectory(prefix="wt-bench-") as name:
        async with servers(Path(name)) as (rows, mesh):
            idle = {n: resident_megabytes(e.pid) for n, e in mesh.envoys.items()}
            for row, address in rows.items():  # warms up, and proves that each row serves
                warm = await asyncio.to_thread(driven, row, address, 1, True)
                if warm.errors or not warm.requests_per_second:
                    raise RuntimeError(f"{row} does not serve: {warm}")
            for number in range(rounds):
                for mode, keep_alive in MODES.items():
                    for row, address in rows.items():
                        sample = await asyncio.to_thread(driven, row, address, seconds, keep_alive)
                        seen.setdefault((row, mode), []).append(sample)
                        print(
                            f"bench: {number + 1}/{rounds} {mode}: {row}: {sample}", file=sys.stderr
                        )
            loaded = {n: resident_megabytes(e.pid) for n, e in mesh.envoys.items()}
    ratios = {
        f"{row} / {to}": {mode: ratio(seen, row, to, mode) for mode in MODES}
        for row, to in (
            *((row, f"{pair}, unix") for row in ROWS for pair in (NGINX, HAPROXY)),
            *((row, DIRECT) for row in ROWS),
            (BODY, GRANTS),
        )
    }
    return {
        "seconds": seconds,
        "rounds": rounds,
        "connections": load.CONNECTIONS,
        "rows": [asdict(median(row, mode, samples)) for (row, mode), samples in seen.items()],
        "ratios": ratios,
        "sidecar_megabytes": {"idle": idle, "after load": loaded},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="throughput and latency of the data paths")
    parser.add_argument("--seconds", type=int, default=5, help="each run (at most 60)")
    parser.add_argument("--rounds", type=int, default=3, help="at most 20")
    parser.add_argument("--output", type=Path, help="where to write the JSON (default: stdout)")
    arguments = parser.parse_args()
    missing = [program for program in ("wrk", "nginx") if tools.find(program) is None]
    if missing:
        print(f"bench: NOT RUN: install {' and '.join(missing)}", file=sys.stderr)
        return 3
    result = asyncio.run(measure(min(arguments.seconds, 60), min(arguments.rounds, 20)))
    tools.write_result(result, arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
