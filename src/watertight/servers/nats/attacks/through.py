"""Whom one service reaches through the server: its answers go where the asker says.

Two identities at once. One asks all that it may, each time with another's inbox, or with what
only the other may hear, as the subject of the reply; the other listens, with all its grants. What
arrives there, no grant explains: the server publishes its answers past the asker's permissions.
Each ask is made once more with the asker's own inbox: if no answer comes there, nothing was tried.

No application notices: the asks are for what is there, or are such that the server refuses them.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from weakref import WeakKeyDictionary

from watertight.attack.arena import Arena
from watertight.attack.login import enter, genuine
from watertight.attack.probe import Observation, Probe, not_run, refused, served
from watertight.attack.wire import Closed, Wire
from watertight.model.system import Resource, System
from watertight.servers.nats.attacks.declared import Caller, callers, example, takes_in
from watertight.servers.nats.attacks.dialect import (
    MAKE,
    NATSDialect,
    Reader,
    converse,
    inbox_of,
)
from watertight.servers.nats.declaration import Stream

MARK = "watertight-witness"
"""Begins a token that stands in the subjects of one probe, and in no other's."""
_FAR = 999_999_999_999
"""A sequence number that no stream has reached."""
_LOCKS: WeakKeyDictionary[Arena, dict[str, asyncio.Lock]] = WeakKeyDictionary()
"""One for each service, in each proof."""
_ANSWERS = (b"io.nats.jetstream.api", b"NATS/1.0 4")
"""What the server's answers hold; for subjects on which others publish too."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request that the server itself answers."""

    subject: str
    body: str = ""
    headers: str = ""

    def to(self, reply: str) -> str:
        """As it goes over the wire."""
        if not self.headers:
            return f"PUB {self.subject} {reply} {len(self.body)}\r\n{self.body}\r\n"
        head = f"NATS/1.0\r\n{self.headers}\r\n\r\n"
        sizes = f"{len(head)} {len(head) + len(self.body)}"
        return f"HPUB {self.subject} {reply} {sizes}\r\n{head}{self.body}\r\n"


@dataclass(frozen=True, slots=True)
class Pair:
    """Who asks; who listens, and to what."""

    caller: Caller
    witness: str
    hears: tuple[str, ...]
    what: str

    @property
    def mark(self) -> str:
        """The token of this probe."""
        return f"{MARK}-{self.what}-{self.caller.service}-{self.witness}"

    @property
    def inbox(self) -> str:
        """The witness's."""
        return f"{inbox_of(self.witness)}.{self.mark}"

    @property
    def own(self) -> str:
        """The caller's."""
        return f"{inbox_of(self.caller.service)}.{self.mark}"

    def targets(self) -> Iterator[str]:
        """What only the witness hears."""
        yield self.inbox
        for pattern in self.hears:
            parts = (self.mark if part in ("*", ">") else part for part in pattern.split("."))
            subject = ".".join(parts)
            if not self.caller.may_publish(subject):
                yield subject

    @property
    def is_marked(self) -> bool:
        """Whether no other probe's answers come where this one's would."""
        return all(MARK in target for target in self.targets())

    def is_sign(self, subject: str, payload: bytes) -> bool:
        """Whether what the witness heard is of this probe's making."""
        if MARK in subject:
            # Another's mark: an answer to what the witness itself asked, in that other probe.
            return self.mark in subject
        return subject in self.targets() and any(a in payload for a in _ANSWERS)


def probes(dialect: NATSDialect, system: System, resource: Resource) -> Iterator[Probe]:
    """For each pair of services, and for each service and the operator."""
    for caller in callers(dialect, system, resource):
        asks = (*_asks(caller), *_publications(caller))
        heard = [(other.service, other.granted.subscribe) for other in caller.others]
        for witness, hears in (*heard, (resource.name, ())):
            if asks:
                pair = Pair(caller, witness, hears, "answer")
                yield MAKE.attack(
                    "reach.through-server",
                    caller.login.channel,
                    f"to have the server answer {caller.service} at what only {witness} "
                    f"hears ({len(asks)} kinds of request)",
                    _witnessed,
                    dialect,
                    pair,
                    partial(_ask, pair=pair, asks=asks),
                )
            if dialect.tls_first and caller.granted.publish:
                pair = Pair(caller, witness, hears, "trace")
                yield MAKE.attack(
                    "reach.trace",
                    caller.login.channel,
                    f"to have the server trace a message of {caller.service} (which is not "
                    f"delivered) to what only {witness} hears",
                    _witnessed,
                    dialect,
                    pair,
                    partial(_trace, pair=pair),
                )


def _asks(caller: Caller) -> Iterator[Ask]:
    for name in caller.granted.consume:
        own = f"{name}.{caller.service}"
        yield Ask(f"$JS.API.CONSUMER.INFO.{own}")
        yield Ask(f"$JS.API.CONSUMER.MSG.NEXT.{own}", "{")  # 400: no JSON
        yield Ask(f"$JS.ACK.{own}.1.{_FAR}.{_FAR}.1.0", "+WPI")
    for stream in caller.streams:
        if stream.is_bucket and stream.name in caller.granted.consume:
            yield Ask(f"$JS.API.STREAM.INFO.{stream.name}")
            yield Ask(f"$JS.API.STREAM.MSG.GET.{stream.name}", f'{{"seq":{_FAR}}}')
            yield Ask(f"$JS.API.DIRECT.GET.{stream.name}", f'{{"seq":{_FAR}}}')


def _publications(caller: Caller) -> Iterator[Ask]:
    """Into a stream that refuses it, and acknowledges that; where no service listens."""
    for grant in caller.granted.publish:
        subject = example(grant)
        heard = any(
            takes_in(other, subject)
            for one in (caller, *caller.others)
            for other in one.granted.subscribe
        )
        if not heard and _keeps(caller.streams, subject):
            yield Ask(subject, headers=f"Nats-Expected-Stream: {MARK}")


def _keeps(streams: Sequence[Stream], subject: str) -> bool:
    return any(takes_in(kept, subject) for stream in streams for kept in stream.subjects)


async def _ask(wire: Wire, *, pair: Pair, asks: Sequence[Ask]) -> str:
    """Asks everything to everywhere, then to our own inbox. Why nothing was tried, or nothing."""
    reader = Reader(wire)
    targets = tuple(pair.targets())
    await converse(wire, f"SUB {pair.own} 4\r\n", reader=reader)
    for ask in asks:
        try:
            lines = "".join(ask.to(target) for target in targets)
            await converse(wire, lines, reader=reader)
            answer = await converse(wire, ask.to(pair.own), until=1, reader=reader)
        except TimeoutError:
            return f"{ask.subject} is not answered at all"
        if answer.errors:
            return f"{ask.subject}: {answer.errors[0]}"
    return ""


async def _trace(wire: Wire, *, pair: Pair) -> str:
    subject = example(pair.caller.granted.publish[0])
    for target in pair.targets():
        header = f"Nats-Trace-Dest: {target}\r\nNats-Trace-Only: true"
        await converse(wire, Ask(subject, headers=header).to(pair.own))
    return ""


async def _witnessed(
    arena: Arena,
    dialect: NATSDialect,
    pair: Pair,
    attempt: Callable[[Wire], Awaitable[str]],
) -> Observation:
    """What the witness hears while the caller tries, and neither tries anything else there."""
    async with contextlib.AsyncExitStack() as alone:
        if not pair.is_marked:
            locks = _LOCKS.setdefault(arena, {})
            for service in sorted({pair.witness, pair.caller.service}):
                await alone.enter_async_context(locks.setdefault(service, asyncio.Lock()))
        return await _heard(arena, dialect, pair, attempt)


async def _heard(
    arena: Arena,
    dialect: NATSDialect,
    pair: Pair,
    attempt: Callable[[Wire], Awaitable[str]],
) -> Observation:
    caller, wires = pair.caller, list[Wire]()
    try:
        for service in (pair.witness, caller.service):
            login = replace(caller.login, service=service)
            hello = await genuine(arena, dialect, service)
            wires.append(await enter(arena, dialect, login, hello, door=_door(caller, service)))
        listening, attacking = wires
        reader = Reader(listening)
        patterns = (f"{inbox_of(pair.witness)}.>", *pair.hears)
        lines = "".join(f"SUB {pattern} {10 + n}\r\n" for n, pattern in enumerate(patterns))
        first = await converse(listening, lines, reader=reader)
        if first.errors:
            return not_run(f"{pair.witness} may not listen: {first.errors[0]}")
        if failed := await attempt(attacking):
            return not_run(failed)
        heard = await converse(listening, "", reader=reader)
    except (Closed, TimeoutError) as end:
        return not_run(f"no two sessions: {end or 'no answer'}")
    finally:
        for wire in wires:
            await wire.close()
    for subject, payload in (*first.arrived, *heard.arrived):
        if pair.is_sign(subject, payload):
            return served(f"{pair.witness} hears {payload[:60]!r} at {subject}")
    return refused(f"{pair.witness} hears nothing of it")


def _door(caller: Caller, service: str) -> str:
    """The operator has no door of its own."""
    return caller.service if service == caller.login.resource.name else service
