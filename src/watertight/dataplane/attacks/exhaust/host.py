"""What a service may use of the host, tried from inside its pod; so too the kernel's memory."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from watertight.attack.arena import Arena, Inside
from watertight.attack.patience import patience
from watertight.attack.probe import Observation, Probe, refused, served
from watertight.attack.probe import not_run as cannot
from watertight.dataplane.attacks.exhaust.watching import PATIENCE, seen
from watertight.dataplane.attacks.make import attack
from watertight.errors import WatertightError
from watertight.model.system import Limits, Service
from watertight.model.units import size_text

MOST = Limits(4 << 30, 8_192, 1 << 30, 100_000)
"""What is allowed more than this is not used up: that would be more than a proof takes. Reports
say so (:mod:`watertight.dataplane.attacks.gaps`)."""
MORE = 1.1
"""How much more than allowed is tried …"""
SLACK = Limits(64 << 20, 64, 8 << 20, 64)
"""… and this on top; less than it above the limit is no breach, for counting is not that exact."""
UNREAD_BYTES = 64 << 20
UNREAD_MAY_BE_BYTES = 20 << 20
"""The answers that a program may leave unread are few; a little more is no breach."""
FREED_SECONDS = 5.0
AT_ONCE = 4
"""Services that use up what is theirs, where the host has the memory four times over."""
PLACES = ("/tmp", "/var/tmp", "/dev/shm", "/dev", "/run", "/var", "/")  # noqa: S108

Services: TypeAlias = Mapping[str, Service]


def probes(services: Services) -> Iterator[Probe]:
    """Two, each for all services."""
    if services:
        for what in (_host, _kernel):
            yield _by_host(what, services)


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

    async def held() -> int:
        answer = await beside.call("netlink")
        if "error" in answer:
            raise _Untried(answer["error"])
        return int(answer["unread"])

    return await seen(held, lambda bytes_: bytes_ <= UNREAD_MAY_BE_BYTES, patience(FREED_SECONDS))
