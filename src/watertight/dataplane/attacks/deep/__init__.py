"""Generated attacks: seeded, bounded, judged by the grants alone (``verify --deep``)."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from watertight.attack.arena import Arena
from watertight.attack.choices import Choices, shrink
from watertight.attack.http2 import connect
from watertight.attack.overheard import requests_in
from watertight.attack.patience import patience
from watertight.attack.probe import Deep, Observation, Probe, no_key, not_run, refused, served
from watertight.attack.talk import Talk, play
from watertight.attack.wire import Absent, Closed, Wire
from watertight.attack.witness import Witness
from watertight.dataplane.attacks import edge
from watertight.dataplane.attacks.deep.grammar import (
    Sender,
    Sent,
    SentFramed,
    generate,
    generate_framed,
)
from watertight.dataplane.attacks.deep.oracle import arrived, complaints, may_arrive
from watertight.dataplane.attacks.deep.script import as_command
from watertight.dataplane.attacks.desync.duel import Marks
from watertight.dataplane.attacks.desync.sides import Caller, NoKey, Outsider, Person
from watertight.dataplane.attacks.make import attack
from watertight.dataplane.attacks.replies import AT_THE_EDGE, MALFORMED, refusal
from watertight.dataplane.attacks.requests import TIMEOUT_SECONDS, Request
from watertight.dataplane.attacks.ways import fill, ways
from watertight.model.system import Gateway, HTTPGrant, Protocol, Route, System

WORKERS = 8
ANSWER_SECONDS = 0.15
"""A generated message is often one that waits for more, for ever."""
LATE_SECONDS = 0.5
SHRINKING = 250
"""Tries, at most, to make a counterexample smaller."""
GRACE_SECONDS = 60.0
"""For shrinking, beyond the time that was given."""


@dataclass(frozen=True, slots=True)
class Field:
    """Where generated attacks go, who sends them, and what may arrive."""

    channel: str
    person: Person
    grants: tuple[HTTPGrant, ...]
    """As the sender writes its paths."""
    may: Mapping[str, tuple[HTTPGrant, ...]]
    """By app, as the app reads them."""
    ports: Mapping[str, int]
    framed: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A counterexample."""

    complaint: str
    case: int
    made: tuple[int, ...]
    command: str


def probes(system: System, deep: Deep) -> Iterator[Probe]:
    """For every HTTP channel with grants, and for each kind of client of the gateway."""
    for place in _fields(system):
        protocol = "HTTP/2" if place.framed else "HTTP/1.1"
        made = attack(
            "deep.http2" if place.framed else "deep.http1",
            place.channel,
            f"{protocol} of a grammar by {place.person.name}, {deep.seconds:g} s, seed {deep.seed}",
            _search,
            place,
            deep,
        )
        yield replace(made, deadline_seconds=deep.seconds + GRACE_SECONDS)


def _fields(system: System) -> Iterator[Field]:
    for way in ways(system):
        if way.listens.protocol is Protocol.HTTP and way.from_service and way.grants:
            first = way.http_grants[0]
            caller = Caller(way, Request(first.method, fill(first.path)))
            may = {way.callee: way.http_grants}
            ports = {way.callee: way.listens.port}
            yield Field(way.channel, caller, way.http_grants, may, ports, framed=False)
    if system.gateway is not None:
        yield from _at_the_gateway(system, system.gateway)


def _at_the_gateway(system: System, gateway: Gateway) -> Iterator[Field]:
    ports = {
        name: service.listens.port
        for name, service in system.services.items()
        if service.listens is not None
        and service.listens.protocol is Protocol.HTTP
        and system.routes_to(name)
    }
    clients: dict[tuple[object, ...], Route] = {}
    for route in gateway.routes:
        need = route.require
        clients.setdefault((need.issuer, need.scopes) if need else (), route)
    for route in clients.values():
        routes = [r for r in gateway.routes if _opens(route, r)]
        may = {
            name: tuple(
                HTTPGrant(m, r.target_path) for r in routes if r.target == name for m in r.methods
            )
            for name in ports
        }
        every = tuple(HTTPGrant(m, r.path) for r in gateway.routes for m in r.methods)
        for framed in (False, True):
            person = Outsider(gateway, route)
            yield Field(edge.CHANNEL, person, every, may, ports, framed)


def _opens(held: Route, route: Route) -> bool:
    """Whether what opens the one route opens the other."""
    if route.require is None:
        return True
    mine = held.require
    return (
        mine is not None
        and mine.issuer == route.require.issuer
        and set(route.require.scopes) <= set(mine.scopes)
    )


async def _search(arena: Arena, place: Field, deep: Deep) -> Observation:
    """Generates until time is up or something has arrived that may not."""
    async with AsyncExitStack() as stack:
        witnesses = {
            name: await stack.enter_async_context(arena.witness(name, port))
            for name, port in place.ports.items()
        }
        ground = _Ground(arena, place, witnesses)
        try:
            found, tried = await ground.hunt(deep)
        except NoKey as missing:
            return no_key(str(missing))
        if found is not None:
            where = f"case {found.case} of seed {deep.seed}"
            return served(f"{found.complaint}; {where}: {found.command}")
        if tried == 0:
            return not_run("there was no time for a single attack")
        if ground.was_deaf():
            return not_run("the witness was deaf for a moment: packets were dropped")
        if all(witnesses.values()) and ground.arrived == 0:
            return not_run(f"{tried} attacks, and none came as far as an app")
        seen = f"{ground.arrived} requests" if all(witnesses.values()) else "no witness, nothing"
        return refused(f"{tried} attacks; {seen} arrived that may, and none that may not")


class _Ground:
    """One place, and what looks on."""

    def __init__(self, arena: Arena, place: Field, witnesses: Mapping[str, Witness | None]) -> None:
        self._arena = arena
        self._place = place
        self._witnesses = witnesses
        self._began = {name: w.moment() for name, w in witnesses.items() if w is not None}
        self._name = Marks().token
        self._attacks = itertools.count()
        self._marks: dict[int, str] = {}
        """By case."""
        self.arrived = 0
        """How many requests reached an app: a search that never gets there searches nothing."""

    def was_deaf(self) -> bool:
        """Whether a witness did not see all: then that nothing was seen proves nothing."""
        return any(
            witness is not None and witness.missed_since(self._began[name])
            for name, witness in self._witnesses.items()
        )

    async def hunt(self, deep: Deep) -> tuple[Found | None, int]:
        """A counterexample, made small, and how many attacks were tried."""
        deadline = time.monotonic() + deep.seconds
        numbers = itertools.count()
        found: list[tuple[str, int, Choices]] = []
        tried = 0

        async def work() -> None:
            nonlocal tried
            while time.monotonic() < deadline and not found:
                case = next(numbers)
                if deep.cases is not None and case >= deep.cases:
                    return
                choices = self._choices(deep, case)
                self._marks[case] = mark = self._mark()
                complaint = await self._complaint(choices, mark)
                tried += 1
                if complaint:
                    found.append((complaint, case, choices))

        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(work())
        await asyncio.sleep(patience(LATE_SECONDS))
        found += await self._found_late(deep)
        if not found:
            return None, tried
        complaint, case, choices = found[0]

        async def still(made: Sequence[int]) -> bool:
            return await self._complaint(Choices(again=made), self._mark()) is not None

        made = await shrink(choices.made, still, tries=SHRINKING)
        smaller = await self._complaint(Choices(again=made), self._mark())
        sent, sender = await self._make(Choices(again=made))
        command = self._command(sent, sender)
        return Found(smaller or complaint, case, tuple(made), command), tried

    def _choices(self, deep: Deep, case: int) -> Choices:
        """The first is the plainest of all: what is permitted must be seen to arrive."""
        if case == 0:
            return Choices(again=[])
        return Choices(f"{deep.seed}:{self._place.channel}:{case}")

    def _mark(self) -> str:
        """One that no other attack has; all have the search's own name in them."""
        return f"{self._name}n{next(self._attacks)}a"

    async def _found_late(self, deep: Deep) -> list[tuple[str, int, Choices]]:
        """On a busy host a request arrives when nobody waits for it any more: looks again."""
        self.arrived = 0
        if self._overheard(self._name) is None:
            return []
        for case, mark in self._marks.items():
            if complaint := self._overheard(mark):
                choices = self._choices(deep, case)
                await self._complaint(choices, self._mark())  # so that they are made
                return [(complaint, case, choices)]
        return []

    async def _make(self, choices: Choices) -> tuple[Sent | SentFramed, Sender]:
        sender, _dial = await self._sender(self._mark())
        if self._place.framed:
            return generate_framed(choices, sender), sender
        return generate(choices, sender), sender

    async def _sender(self, mark: str) -> tuple[Sender, Callable[[], Awaitable[Wire]]]:
        side = await self._place.person.side(self._arena, mark)
        host, *others, marked = side.base.lines
        sender = Sender(host[1], self._place.grants, tuple(others), marked[1])
        return sender, side.dial_framed if self._place.framed else side.dial

    def _command(self, sent: Sent | SentFramed, sender: Sender) -> str:
        person = self._place.person
        if isinstance(person, Outsider):
            gateway = person.gateway
            return as_command(sent, edge.host_of(gateway), gateway.port, tls=gateway.hostname)
        name, _, port = sender.host.rpartition(":")
        return as_command(sent, name, int(port))

    async def _complaint(self, choices: Choices, mark: str) -> str | None:
        """What is wrong with what one attack came to."""
        sender, dial = await self._sender(mark)
        try:
            wire = await dial()
        except (Closed, Absent, TimeoutError):
            return None
        try:
            if self._place.framed:
                framed = generate_framed(choices, sender)
                answered = await self._say_framed(framed, wire)
                asked = b""
            else:
                sent = generate(choices, sender)
                answered = await self._say(sent, wire)
                asked = b"".join(p for p in sent.pieces if isinstance(p, bytes))
        finally:
            await wire.close()
        return self._overheard(mark) or self._judged(asked, answered=answered)

    async def _say(self, sent: Sent, wire: Wire) -> bool:
        """Whether an app answered."""
        talk = Talk(wire)
        wordless = AT_THE_EDGE if isinstance(self._place.person, Outsider) else MALFORMED
        first = await play(talk, sent.pieces, "GET")
        answers = [first] if first else []
        while len(answers) < sent.requests and not talk.ended:
            answer = await talk.answer("GET", ANSWER_SECONDS)
            if answer is None:
                break
            answers.append(answer)
        return any(a is not None and refusal(a, wordless) is None for a in answers)

    async def _say_framed(self, sent: SentFramed, wire: Wire) -> bool:
        try:
            connection = await connect(wire, timeout_seconds=TIMEOUT_SECONDS)
            connection.timeout_seconds = ANSWER_SECONDS
            answer = await connection.ask(sent.fields, sent.body)
        except (Closed, TimeoutError):
            return False
        return refusal(answer, AT_THE_EDGE) is None

    def _overheard(self, mark: str) -> str | None:
        for name, witness in self._witnesses.items():
            if witness is not None:
                seen = witness.conversations(mark.encode())
                self.arrived += arrived(seen, mark)
                for complaint in complaints(self._place.may[name], seen, mark):
                    return complaint
        return None

    def _judged(self, asked: bytes, *, answered: bool) -> str | None:
        """Without a witness: an answer of an app to nothing that may be asked."""
        if not answered or not asked or any(self._witnesses.values()):
            return None
        for heard in requests_in(asked):
            if any(may_arrive([grant], heard.method, heard.target) for grant in self._place.grants):
                return None
        return "an app answered, and nothing that was asked may be"
