"""Looks after a running server: shows out whoever takes the memory that all share.

No setting bounds all that a client can have nats-server remember: the way back for each request
that nobody has answered yet (0.6 to 4 kB, for a minute; for five, of a fetch), message ids, what
waits to be written, sent or judged. So once more memory is in use than Go's garbage can explain
(``GOMEMLIMIT`` is half of what the server may have), the service that holds most of it (``held``)
loses its connections, and for a while each new one. What it had the server remember goes with them,
or at the latest when its time is up. Nobody may be seen to hold much: of message ids and of what is
not written yet the server tells nothing. Then it is the service that has sent most.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from watertight.enforcers.resource import ServerHost, ServerPlan
from watertight.servers.nats.accounts import ACCOUNT, CONNZ, SUBSZ, VARZ, WayBack, kick
from watertight.servers.nats.compile import NATSGrants
from watertight.servers.nats.held import SUBSCRIPTION_BYTES, Held
from watertight.servers.nats.operator import Operator, Refused, operator
from watertight.servers.nats.shown_out import show_out, shown_out

log = structlog.get_logger(__name__)

FAR_SECONDS, NEAR_SECONDS = 0.2, 0.05
"""Between two looks: as long as there is room, and once there is little."""
NOTED, NEAR, FULL = 3 / 8, 1 / 2, 5 / 8
"""Of the server's memory: from where on we note who sends, look more often, show somebody out.
What is above may be filled between two looks."""
GROWN = 1 / 64
"""Of the memory: by so much it must have grown since somebody was shown out, for another to be."""
LEAST = 1 / 128
"""Of the memory: who has taken less is not to blame."""
MUCH = 1 / 4
"""Of what is in use: who holds that much is to blame, whoever sends more."""
LAST = 13 / 16
"""Of the memory: below, nobody is shown out for what he sends while one who is out holds much."""
COUNT_SECONDS, NOTED_COUNT_SECONDS = 5.0, 0.5
"""Between two counts of requests: as long as there is room, and once there is little."""
HALF_LIFE_SECONDS = 5.0
"""What a service has sent counts half after that."""
MESSAGE_BYTES = 2 << 10
"""What one may cost besides its own bytes."""
FIRST_SECONDS, LONGEST_SECONDS = 10.0, 320.0
"""For how long a service is shown out; twice as long each time."""
_CLOSED = 1
"""``state`` in CONNZ: connections that have ended."""
_MOST, _MOST_ENDED = 1 << 20, 500
"""Of those that have ended, the last: as many do not come and go between two looks. The server
remembers 10,000, which are 5 MB to tell."""


@dataclass(slots=True)
class Guard:
    """Who took how much, and who is shown out. Knows no server; times are those of one clock."""

    memory_bytes: int
    held: Held = field(default_factory=Held)
    taken: dict[str, float] = field(default_factory=dict)
    """Service → bytes, lately."""
    out: dict[str, float] = field(default_factory=dict)
    """Service → until when."""
    _times: dict[str, int] = field(default_factory=dict)
    _seen: dict[int, float] = field(default_factory=dict)
    _last: float = 0.0
    _full_bytes: int = 0
    """How much was in use when somebody was last shown out."""

    def is_noted(self, used_bytes: int) -> bool:
        """Whether connections must be looked at."""
        return used_bytes >= NOTED * self.memory_bytes

    def forget(self) -> None:
        """There is room: nobody is to blame."""
        self.taken.clear()
        self._seen.clear()
        if not self.out:
            self._times.clear()
        self._full_bytes = 0

    def note(self, connections: Sequence[Mapping[str, Any]], now: float) -> None:
        """What each service has taken since the last look; nothing by the first."""
        faded = 0.5 ** ((now - self._last) / HALF_LIFE_SECONDS)
        self.taken = {service: held * faded for service, held in self.taken.items()}
        before, self._seen, self._last = self._seen, {}, now
        for one in connections:
            service, number = one.get("account", ACCOUNT), one["cid"]
            self._seen[number] = cost = _cost(one)
            if before and service != ACCOUNT:
                more = cost - before.get(number, 0.0)
                self.taken[service] = self.taken.get(service, 0.0) + max(0.0, more)

    def let_in(self, now: float) -> None:
        """Those whose time is up."""
        self.out = {service: until for service, until in self.out.items() if until > now}

    def judge(self, used_bytes: int, now: float) -> tuple[str, str] | None:
        """The service that is now shown out, and why; if one is."""
        grown = used_bytes >= self._full_bytes + GROWN * self.memory_bytes
        if used_bytes < FULL * self.memory_bytes or (self._full_bytes and not grown):
            return None
        found = self._to_blame(used_bytes)
        if found is not None:
            times = self._times.get(found[0], 0)
            self._times[found[0]] = times + 1
            self.out[found[0]] = now + min(LONGEST_SECONDS, FIRST_SECONDS * 2**times)
            self._full_bytes = used_bytes
        return found

    def _to_blame(self, used_bytes: int) -> tuple[str, str] | None:
        much = MUCH * used_bytes
        holding = {s: held for s, held in self.held.by_service().items() if held >= much}
        if present := {s: held for s, held in holding.items() if s not in self.out}:
            return max(present, key=lambda service: present[service]), "it held most"
        if holding and used_bytes < LAST * self.memory_bytes:
            return None
        least = LEAST * self.memory_bytes
        sent = {s: held for s, held in self.taken.items() if s not in self.out and held >= least}
        most = max(sent, key=lambda service: sent[service], default=None)
        return None if most is None else (most, "it had sent most")


def _cost(connection: Mapping[str, Any]) -> float:
    """What one connection may have had the server remember since it began."""
    return float(
        connection["in_msgs"] * MESSAGE_BYTES
        + connection["in_bytes"]
        + connection["subscriptions"] * SUBSCRIPTION_BYTES
        + connection.get("pending_bytes", 0)
    )


async def watch(plan: ServerPlan, host: ServerHost) -> None:
    """See ``Watches``. Raises WatertightError when the server ends or lets us in no more."""
    grants: NATSGrants = plan.grants
    guard = Guard(grants.memory_bytes, Held(grants.ways_back))
    clock = asyncio.get_running_loop()
    async with operator(plan, host) as session:
        for service in shown_out(plan, host) or ():
            guard.out[service] = clock.time() + FIRST_SECONDS
        standing = frozenset(guard.out)
        while True:
            guard.let_in(clock.time())
            used = await look(session, guard, clock.time(), plan.resource)
            if standing != guard.out.keys():
                standing = frozenset(guard.out)
                await show_out(plan, host, standing)
            near = used >= NEAR * guard.memory_bytes
            await asyncio.sleep(NEAR_SECONDS if near else FAR_SECONDS)


async def _connections(session: Operator, asked: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    answer = await session.ask(CONNZ, {"auth": True, **asked})
    found: Sequence[Mapping[str, Any]] = answer["data"]["connections"]
    return found


async def _count(session: Operator, way: WayBack) -> int | None:
    """How many messages an import has taken; None: the server does not let us ask, for it runs with
    a configuration that was changed by hand, or written by an earlier version."""
    named = ("watertight" if part in ("*", ">") else part for part in way.subject.split("."))
    asked = {"subscriptions": True, "account": way.service, "test": ".".join(named)}
    try:
        answer = await session.ask(SUBSZ, asked)
    except Refused:
        return None
    listed = answer["data"].get("subscriptions_list") or ()
    counts: list[int] = [one["msgs"] for one in listed if one["subject"] == way.subject]
    return sum(counts)


async def look(session: Operator, guard: Guard, now: float, resource: str) -> int:
    """Shows out who must be; how many bytes the server uses."""
    answer = await session.ask(VARZ)
    used: int = answer["data"]["mem"]
    every_seconds = NOTED_COUNT_SECONDS if guard.is_noted(used) else COUNT_SECONDS
    for way in guard.held.due(every_seconds, now):
        guard.held.note_requests(way, await _count(session, way), now)
    if not guard.is_noted(used):
        guard.forget()
        return used
    connections = await _connections(session, {"limit": _MOST})
    ended = await _connections(session, {"state": _CLOSED, "sort": "stop", "limit": _MOST_ENDED})
    guard.note([*ended, *connections], now)
    guard.held.note_connections(c for c in connections if c.get("account", ACCOUNT) != ACCOUNT)
    found = guard.judge(used, now)
    if found is not None:
        service, why = found
        log.warning(
            "service_shown_out",
            resource=resource,
            service=service,
            seconds=guard.out[service] - now,
            reason=f"{used >> 20} MiB of {guard.memory_bytes >> 20} were in use, and {why}",
        )
    for one in connections:
        if one.get("account") in guard.out:
            session.tell(kick(answer["server"]["id"]), {"cid": one["cid"]})
    return used
