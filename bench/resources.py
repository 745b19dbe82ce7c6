"""What a channel to a database or a broker costs, against plaintext and against a stunnel pair.

    python -m bench.resources --output bench/results/resources.json

For each kind of server: one in a real pod, reached over channels (with the service's own TLS, and
by its proxy's), and the same binary in the clear on loopback, reached directly and through two
stunnel. All of them run all the time, and one row is driven at a time; the rounds are interleaved.
In each round a leaf is rotated and a service revoked, too. A kind whose server is not installed is
left out, and said to be.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import certificates, distrust, stunnel, tools
from bench.clients import Client, in_pod, on_host
from bench.kinds import KINDS, NATIVE, RESOURCE, UNMODIFIED, Kind
from tests.planes import sealed
from watertight.control.plane import ControlPlane
from watertight.enforcers.resource import ServerMissing

PLAINTEXT, STUNNEL = "plaintext", "stunnel pair"
CHANNEL, ORIGINATED = "channel", "channel, originated"
RATIOS = ((CHANNEL, PLAINTEXT), (CHANNEL, STUNNEL), (ORIGINATED, STUNNEL))
WORK, CONNECT = "work", "connect"
ROTATED, REVOKED = "rotated", "revoked"


@dataclass(frozen=True)
class Bounds:
    """How much is measured."""

    seconds: float
    """Each run of one row."""
    rounds: int
    clients: int
    """Processes that drive a row at once, with one connection each."""
    warm_up_seconds: float = 0.5


THOROUGH = Bounds(seconds=3, rounds=3, clients=4)
QUICK = Bounds(seconds=0.3, rounds=1, clients=2)


@dataclass
class Seen:
    """What the rounds of one kind saw."""

    rates: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    """(row, ``work`` or ``connect``) → a second, of all clients together."""
    seconds: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    """Rotation and revocation → how long until it is ``seen`` by a client, and ``done``."""
    versions: set[str] = field(default_factory=set)


@asynccontextmanager
async def rows(
    kind: Kind, plane: ControlPlane, base: Path, clients: int
) -> AsyncIterator[Mapping[str, Sequence[Client]]]:
    """Every row's clients, each of them idle."""
    program = Path(plane.servers.in_force[RESOURCE].process.argv[0])
    async with AsyncExitStack() as stack:
        where = await stack.enter_async_context(kind.plaintext(base, program))
        clear = {PLAINTEXT: where}
        if tools.find("stunnel"):
            made = certificates.make(base)
            upstream = f"{where['host']}:{where['port']}"
            tunnel = stack.enter_context(stunnel.pair(base, made, upstream))
            clear[STUNNEL] = where | {"port": int(tunnel.front.rpartition(":")[2])}
        found: dict[str, list[Client]] = {}
        for row, its in clear.items():
            spec = {"kind": kind.kind, "where": its}
            found[row] = [
                await stack.enter_async_context(on_host(row, spec)) for _ in range(clients)
            ]
        spec = {"kind": kind.kind, "channel": RESOURCE}
        callers = {CHANNEL: NATIVE} | ({ORIGINATED: UNMODIFIED} if kind.originate else {})
        for row, service in callers.items():
            found[row] = [
                await stack.enter_async_context(in_pod(plane, service, spec))
                for _ in range(clients)
            ]
        yield found


async def drive(clients: Sequence[Client], command: str, seconds: float) -> list[dict[str, Any]]:
    """All clients of a row at once."""
    return await asyncio.gather(*(client.ask(command, seconds) for client in clients))


@contextmanager
def declared(kind: Kind) -> Iterator[Path]:
    """The declaration of its system, in a directory that goes with the block."""
    with tempfile.TemporaryDirectory(prefix="wt-bench-") as name:
        base = Path(name)
        base.chmod(0o755)  # services and servers run under uids of their own
        for file, text in kind.files.items():
            (base / file).write_text(text)
        declaration = base / "watertight.yaml"
        declaration.write_text(kind.declaration)
        yield declaration


async def measure(kind: Kind, bounds: Bounds) -> dict[str, Any]:
    """One kind of server. Raises ServerMissing, DriverFailed, or what starting it raises."""
    with declared(kind) as declaration:
        async with (
            sealed(declaration) as plane,
            rows(kind, plane, declaration.parent, bounds.clients) as clients,
        ):
            seen = await rounds(kind, plane, clients, bounds)
    if len(seen.versions) != 1:
        raise RuntimeError(f"{kind.title}: rows of different servers: {seen.versions}")
    return {
        "kind": kind.kind,
        "title": kind.title,
        "version": seen.versions.pop(),
        "operations": kind.operations,
        "rows": [row(name, seen) for name in clients],
        "ratios": {
            f"{a} / {b}": {command: ratio(seen, a, b, command) for command in (WORK, CONNECT)}
            for a, b in RATIOS
            if a in clients and b in clients
        },
        "seconds": {
            what: {key: statistics.median(t[key] for t in times) for key in ("seen", "done")}
            for what, times in seen.seconds.items()
        },
    }


async def rounds(
    kind: Kind, plane: ControlPlane, clients: Mapping[str, Sequence[Client]], bounds: Bounds
) -> Seen:
    """Runs everything, interleaved."""
    seen = Seen()
    for its in clients.values():  # warms up, and proves that each row serves
        for done in await drive(its, WORK, bounds.warm_up_seconds):
            seen.versions.add(done["version"])
    for number in range(bounds.rounds):
        for command in (WORK, CONNECT):
            for name, its in clients.items():
                answers = await drive(its, command, bounds.seconds)
                rate = sum(each["count"] / each["seconds"] for each in answers)
                seen.rates.setdefault((name, command), []).append(rate)
                say(f"{number + 1}/{bounds.rounds} {kind.title}: {name}: {command}: {rate:,.0f}/s")
        for what, change in ((ROTATED, distrust.rotation), (REVOKED, distrust.revocation)):
            took = await change(plane, clients[CHANNEL][0])
            seen.seconds.setdefault(what, []).append(took)
            words = f"{what} in {took['seen']:.3f} s, all done in {took['done']:.3f} s"
            say(f"{number + 1}/{bounds.rounds} {kind.title}: {words}")
    return seen


def row(name: str, seen: Seen) -> dict[str, Any]:
    """One row of the table."""
    found: dict[str, Any] = {"name": name}
    for command in (WORK, CONNECT):
        rates = seen.rates[name, command]
        found[command] = {
            "per_second": statistics.median(rates),
            "lowest": min(rates),
            "highest": max(rates),
        }
    return found


def ratio(seen: Seen, a: str, b: str, command: str) -> float:
    """The median over the rounds of ``a``'s rate divided by ``b``'s."""
    pairs = zip(seen.rates[a, command], seen.rates[b, command], strict=True)
    return statistics.median(x / y for x, y in pairs)


def say(words: str) -> None:
    """Progress, and what is left out."""
    print(f"bench: {words}", file=sys.stderr)


async def all_kinds(kinds: Sequence[Kind], bounds: Bounds) -> dict[str, Any]:
    """Every kind that can be had, one after another."""
    measured, left_out = [], [] if tools.find("stunnel") else [STUNNEL]
    for kind in kinds:
        try:
            measured.append(await measure(kind, bounds))
        except ServerMissing as missing:
            left_out.append(kind.title)
            say(f"{kind.title}: NOT RUN: {missing} {missing.remedy}")
    return {**asdict(bounds), "kinds": measured, "left_out": left_out}


def main() -> int:
    parser = argparse.ArgumentParser(description="channels to databases and brokers")
    parser.add_argument("--quick", action="store_true", help="one short round, two clients")
    parser.add_argument("--kind", action="append", choices=[kind.kind for kind in KINDS])
    parser.add_argument("--output", type=Path, help="where to write the JSON (default: stdout)")
    arguments = parser.parse_args()
    chosen = [kind for kind in KINDS if not arguments.kind or kind.kind in arguments.kind]
    result = asyncio.run(all_kinds(chosen, QUICK if arguments.quick else THOROUGH))
    tools.write_result(result, arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
