"""Using up what all share: the host from inside a pod, the disk from outside, the authority."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from watertight.enforcers.attack.http import exchange, request_bytes
from watertight.enforcers.attack.http2 import HTTP2, connect
from watertight.enforcers.attack.inside import dial_socket
from watertight.enforcers.attack.patience import patience
from watertight.enforcers.attack.places import idle
from watertight.enforcers.contract import Arena, Inside, Observation, Probe, refused, served
from watertight.enforcers.contract import not_run as cannot
from watertight.enforcers.envoy.probes import edge
from watertight.enforcers.envoy.probes.edge import CHANNEL
from watertight.enforcers.envoy.probes.make import attack
from watertight.enforcers.envoy.probes.requests import TIMEOUT_SECONDS
from watertight.errors import WatertightError
from watertight.model.system import Gateway, Limits, Service, System
from watertight.model.units import size_text

MEBIBYTE = 1 << 20
MOST = Limits(4 << 30, 8_192, 1 << 30, 100_000)
"""What is allowed more than this is not used up: that would be more than a proof takes. Reports
say so (:mod:`.gaps`)."""
MORE = 1.1
"""How much more than allowed is tried …"""
SLACK = Limits(64 << 20, 64, 8 << 20, 64)
"""… and this on top; less than it above the limit is no breach, for counting is not that exact."""
UNREAD_BYTES = 64 * MEBIBYTE
UNREAD_MAY_BE_BYTES = 20 * MEBIBYTE
"""The answers that a program may leave unread are few; a little more is no breach."""
AT_ONCE = 4
"""Services that use up what is theirs, where the host has the memory four times over."""
PATIENCE = 3.0
PLACES = ("/tmp", "/var/tmp", "/dev/shm", "/dev", "/run", "/var", "/")  # noqa: S108

LONG_PATH = "/" + "x" * 14_000
FLOOD, CONNECTIONS = 300, 6
LOGGED_BYTES = 2 * MEBIBYTE
"""Of more than 4 MiB of refused requests; others are logged meanwhile too."""
FLUSH_SECONDS = 2.0
"""A log is written down a moment later."""
POLL_SECONDS = 0.1
FREED_SECONDS = 5.0

KNOCKS = 600
KNOCKED_BYTES = 64 * 1024
TOKENS = 100
CALL_SECONDS = 20.0
"""The authority signs for every service that is attacked meanwhile."""
RESOURCE_EXHAUSTED = "8"
"""gRPC status codes."""
LONG_AUDIENCE = "x" * 30_000

Services: TypeAlias = Mapping[str, Service]


def probes(system: System) -> Iterator[Probe]:
    """For every service that runs here, and for the gateway. All take their time."""
    services = {name: s for name, s in system.services.items() if s.run}
    if services:
        for what in (_host, _kernel):
            yield _by_host(what, services)
    for probe in _shared(services, system.gateway):
        yield replace(probe, patience=PATIENCE, costly=probe.channel != CHANNEL)


def _by_host(what: Callable[[Services], Probe], services: Services) -> Probe:
    """One probe for all of these, since together they must not take what the host has."""
    pairs = {f"{name} -> host": name for name in services}

    def narrowed(chosen: Collection[str]) -> Probe:
        return _by_host(what, {pairs[pair]: services[pairs[pair]] for pair in sorted(chosen)})

    return replace(
        what(services).standing_for(pairs),
        patience=PATIENCE + len(services),
        costly=True,
        narrowed=narrowed,
    )


def _host(services: Services) -> Probe:
    return attack(
        "exhaust.host",
        "* -> host",
        "more memory, processes, temporary and open files than a service may use, from inside",
        _hosts,
        {name: service.limits for name, service in services.items()},
    )


def _kernel(services: Services) -> Probe:
    return attack(
        "exhaust.netlink",
        "* -> host",
        f"{size_text(UNREAD_BYTES)} of the kernel's answers on netlink sockets, left unread",
        _unread,
        tuple(services),
    )


def _shared(services: Iterable[str], gateway: Gateway | None) -> Iterator[Probe]:
    """On what all share: the authority, and the disk."""
    for name in services:
        at = f"{name} -> authority"
        what = f"from inside {name}"
        yield attack("exhaust.tokens", at, f"{TOKENS} JWT-SVIDs at once, {what}", _tokens, name)
        yield attack(
            "exhaust.audience",
            at,
            f"a JWT-SVID for an audience of {len(LONG_AUDIENCE)} bytes, {what}",
            _long_audience,
            name,
        )
        yield attack(
            "exhaust.control-log",
            at,
            f"{KNOCKS} connections to the Workload API that are closed at once, {what}",
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


# --- the host ---------------------------------------------------------------------------------


async def _hosts(arena: Arena, services: dict[str, Limits]) -> Observation:
    """Few at once, and no more than the host can bear: together they might use it up in truth."""
    most_bytes = max((_wanted(budgets(limits)[0]) for limits in services.values()), default=1)

    async def beyond(name: str) -> str:
        async with arena.alone(name) as inside:
            return ", ".join(await _beyond(inside, services[name], arena.placement.shared_network))

    return await _by_service(services, beyond, most_bytes)


async def _by_service(
    services: Iterable[str], beyond: Callable[[str], Awaitable[str]], each_bytes: int
) -> Observation:
    """What they got of the host, by what ``beyond`` says of each; empty: nothing."""
    open_to, untried = {}, {}
    names = list(services)
    left = iter(names)

    async def strand() -> None:
        for name in left:
            try:
                if got := await beyond(name):
                    open_to[f"{name} -> host"] = f"{name} got {got}"
            except (_Untried, WatertightError) as reason:
                untried[f"{name} -> host"] = f"{name}: {reason}"

    async with asyncio.TaskGroup() as group:
        for _ in range(max(1, min(AT_ONCE, _free_bytes() // (4 * each_bytes)))):
            group.create_task(strand())
    if open_to:
        return served("; ".join(open_to.values()), open_to)
    if untried:
        return cannot("; ".join(untried.values()), untried)
    return refused(f"{len(names)} services were held to their limits")


class _Untried(Exception):
    """What could not be tried proves nothing."""


@dataclass(frozen=True, slots=True)
class Budget:
    """One of the things that a service may use so much of."""

    what: str
    operation: str
    """The probe agent's."""
    limit: int
    most: int
    slack: int
    text: Callable[[int], str]

    @property
    def is_tried(self) -> bool:
        """Whether a proof uses it up."""
        return self.limit <= self.most


def budgets(limits: Limits) -> tuple[Budget, ...]:
    """All of them. Two directories for temporary files count together."""
    memory, most, slack = limits.memory_bytes, MOST, SLACK
    temp = 2 * limits.temp_bytes
    most_temp = min(most.temp_bytes, memory - memory // 4)  # they count as memory, too
    return (
        Budget("memory", "balloon", memory, most.memory_bytes, slack.memory_bytes, size_text),
        Budget("processes", "threads", limits.processes, most.processes, slack.processes, str),
        Budget("temporary files", "fill", temp, most_temp, slack.temp_bytes, size_text),
        Budget("open files", "descriptors", limits.files, most.files, slack.files, str),
    )


async def _beyond(inside: Inside, limits: Limits, in_the_open: bool) -> list[str]:
    """What it got more of than it may. Without a sandbox, /tmp is the host's, and is let be."""
    got = []
    for budget in budgets(limits):
        if not budget.is_tried:
            continue
        if budget.operation == "fill" and in_the_open:
            got.append("as many temporary files as the host has space for")
            continue
        wanted = _wanted(budget)
        if budget.operation == "balloon" and _free_bytes() < 2 * wanted:
            raise _Untried(f"the host has no {size_text(2 * wanted)} of memory to spare")
        answer = await inside.call(budget.operation, most=wanted, places=PLACES)
        if "error" in answer:
            raise _Untried(answer["error"])
        if answer["got"] > budget.limit + budget.slack:
            more, may = budget.text(answer["got"]), budget.text(budget.limit)
            got.append(f"{more} of {budget.what}, may have {may}")
    return got


def _wanted(budget: Budget) -> int:
    return int(budget.limit * MORE) + 2 * budget.slack


def _free_bytes() -> int:
    """What the host could give without taking it from anybody (proc_meminfo(5))."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0


async def _unread(arena: Arena, services: Iterable[str]) -> Observation:
    async def beyond(name: str) -> str:
        beside = await arena.inside(name)
        async with arena.alone(name) as inside:
            with suppress(WatertightError):  # who takes so much may be ended for it
                answer = await inside.call("unread", most=UNREAD_BYTES)
                if "error" in answer:
                    raise _Untried(answer["error"])
            held = await _held_later(beside)
        return f"{size_text(held)} of the kernel's memory" if held > UNREAD_MAY_BE_BYTES else ""

    return await _by_service(services, beyond, UNREAD_BYTES)


async def _held_later(beside: Inside) -> int:
    """What is left once there was time to act on it."""
    seconds = 0.0
    while True:
        answer = await beside.call("netlink")
        if "error" in answer:
            raise _Untried(answer["error"])
        if answer["unread"] <= UNREAD_MAY_BE_BYTES or seconds >= patience(FREED_SECONDS):
            return int(answer["unread"])
        with idle():
            await asyncio.sleep(POLL_SECONDS)
        seconds += POLL_SECONDS


# --- the authority ----------------------------------------------------------------------------


async def _tokens(arena: Arena, service: str) -> Observation:
    connection = await _workload_api(arena, service)
    try:
        headers = _headers()
        bodies = [_jwt_request(f"audience-{n}-{os.getpid()}") for n in range(TOKENS)]
        with idle():  # the authority puts calls off for seconds
            statuses = await connection.calls(headers, bodies, status="grpc-status")
    finally:
        await connection.close()
    issued, put_off = statuses.count("0"), statuses.count(RESOURCE_EXHAUSTED)
    if issued == TOKENS:
        return served(f"all {issued} were issued")
    if not issued and len(statuses) == TOKENS:  # a revoked identity gets none at all
        return refused(f"none of {TOKENS} was issued: gRPC status {statuses[0]}")
    if not put_off:
        return cannot(
            f"only {len(statuses)} of {TOKENS} calls were answered, {issued} with a token"
        )
    return refused(f"{issued} of {TOKENS} were issued, {put_off} put off")


async def _long_audience(arena: Arena, service: str) -> Observation:
    connection = await _workload_api(arena, service)
    try:
        statuses = await connection.calls(
            _headers(), [_jwt_request(LONG_AUDIENCE)], status="grpc-status"
        )
    finally:
        await connection.close()
    if not statuses:
        return cannot("it was not answered")
    return served("it was issued") if "0" in statuses else refused(f"gRPC status {statuses[0]}")


async def _workload_api(arena: Arena, service: str) -> HTTP2:
    path = arena.placement.workload_api_socket(service)
    wire = await dial_socket(await arena.inside(service), str(path), timeout_seconds=CALL_SECONDS)
    return await connect(wire, timeout_seconds=CALL_SECONDS)


def _headers() -> list[tuple[str, str]]:
    """Of one call (gRPC over HTTP2, "Requests"; SPIFFE Workload Endpoint, section 5)."""
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", "/SpiffeWorkloadAPI/FetchJWTSVID"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("workload.spiffe.io", "true"),
    ]


def _jwt_request(audience: str) -> bytes:
    """A ``JWTSVIDRequest``, whose first field is the audience, as one gRPC message."""
    text = audience.encode()
    message = b"\x0a" + _varint(len(text)) + text
    return b"\0" + len(message).to_bytes(4, "big") + message


def _varint(number: int) -> bytes:
    """Protocol Buffers, "Encoding"."""
    encoded = b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


# --- the disk ---------------------------------------------------------------------------------


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
    seconds = 0.0
    while (grown := growth()) <= bound_bytes and seconds < FLUSH_SECONDS:
        with idle():
            await asyncio.sleep(POLL_SECONDS)
        seconds += POLL_SECONDS
    said = f"the logs grew by {max(grown, 0) >> 10} KiB"
    return served(said) if grown > bound_bytes else refused(said)


def _size(directory: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in directory.glob(pattern) if path.is_file())
