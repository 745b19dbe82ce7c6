"""Generated operations: seeded, bounded, judged by the grants alone (``verify --deep``).

A publication carries a reply subject of the server's own, so it tells whether it is permitted and
reaches nobody (``dialect``).
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace

from watertight.attack.arena import Arena
from watertight.attack.choices import Choices
from watertight.attack.login import LoginRefused, as_itself
from watertight.attack.probe import Deep, Observation, Probe, not_run, refused, served
from watertight.attack.search import GRACE_SECONDS, search
from watertight.attack.wire import Closed, Wire
from watertight.model.system import System
from watertight.servers.nats.attacks.declared import LEAF, Caller, callers, example
from watertight.servers.nats.attacks.dialect import (
    MAKE,
    RESERVED_REPLY,
    Heard,
    NATSDialect,
    Reader,
    converse,
    inbox_of,
)
from watertight.servers.nats.declaration import KIND

REPLY_REFUSED = "Permissions Violation for Publish with Reply of "
TOKENS = (LEAF, "*", ">", "", "**", "*>", "a*", "\u00e9", "$JS", "$SYS", "_INBOX", "$G", "%2e", "_")
VERBS = (("PUB", "SUB", "HPUB"), ("pub", "sub", "hpub"), ("Pub", "sUB", "hpuB"))
SPACES = (" ", "  ", "\t", " \t")
HEADERS = (
    "NATS/1.0\r\n\r\n",
    "NATS/1.0\r\nNats-Msg-Id: watertight\r\n\r\n",
    "NATS/1.0 503\r\n\r\n",
)
LOGINS = 500
"""An operation that the server cannot read ends the session: as many times is it begun again."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What is sent, and what it asks for."""

    line: str
    subject: str
    subscribes: bool


def probes(system: System, deep: Deep) -> Iterator[Probe]:
    """One search for each channel to a server that we run."""
    for resource in system.resources.values():
        if resource.kind != KIND or resource.external:
            continue
        for caller in callers(NATSDialect.of(resource), system, resource):
            made = MAKE.attack(
                "deep.subjects",
                caller.login.channel,
                f"NATS of a grammar by {caller.service}, {deep.seconds:g} s, seed {deep.seed}",
                _search,
                caller,
                deep,
            )
            yield replace(made, deadline_seconds=deep.seconds + GRACE_SECONDS)


def generate(choices: Choices, caller: Caller) -> Operation:
    """One operation."""
    kind = choices.below(3)
    subject = _subject(choices, caller)
    verb = VERBS[choices.below(3) if choices.rarely(5) else 0][kind]
    space = choices.one(SPACES) if choices.rarely(5) else " "
    if kind == 1:
        queue = [choices.one((LEAF, "*", ">"))] if choices.rarely(3) else []
        words = [verb, subject, *queue, "2"]
        return Operation(f"{space.join(words)}\r\nUNSUB 2\r\n", subject, subscribes=True)
    if kind == 2:
        head = choices.one(HEADERS)
        words = [verb, subject, RESERVED_REPLY, str(len(head)), str(len(head))]
        return Operation(f"{space.join(words)}\r\n{head}\r\n", subject, subscribes=False)
    return Operation(
        f"{space.join((verb, subject, RESERVED_REPLY, '0'))}\r\n\r\n", subject, subscribes=False
    )


def _subject(choices: Choices, caller: Caller) -> str:
    """One that is named somewhere, with some of its tokens changed."""
    one = (caller, *caller.others)
    named = [s for each in one for s in (*each.granted.publish, *each.granted.subscribe)]
    named += [s for stream in caller.streams for s in stream.subjects]
    named += [f"{inbox_of(each.service)}.{LEAF}" for each in one]
    subject = choices.one(named)
    tokens = (example(subject) if choices.below(2) == 0 else subject).split(".")
    for _ in range(choices.below(3)):
        at, how = choices.below(len(tokens)), choices.below(5)
        if how == 0:
            tokens[at] = choices.one(TOKENS)
        elif how == 1:
            tokens.insert(at, choices.one(TOKENS))
        elif how == 2 and len(tokens) > 1:
            del tokens[at]
        elif how == 3:
            tokens[at] = tokens[at].swapcase()
        else:
            tokens[at] = tokens[at] + choices.one(("-", "*", ">", "\0", "x"))
    return ".".join(tokens) or LEAF  # else the reply would be taken for the subject


def may(caller: Caller, operation: Operation) -> bool:
    """Whether it is granted, or comes with a grant: one's inbox, and JetStream to who consumes."""
    subject = operation.subject
    own = inbox_of(caller.service)
    if subject == own or subject.startswith(f"{own}."):
        return True
    if subject.startswith("$JS.") and caller.granted.consume:
        return True  # which of those: see ``streams``
    if not operation.subscribes and "" in subject.split("."):
        return True  # no subscription matches it, nor does a `deny` of `>`: it reaches nobody
    return (caller.may_subscribe if operation.subscribes else caller.may_publish)(subject)


async def _search(arena: Arena, caller: Caller, deep: Deep) -> Observation:
    ground = _Ground(arena, caller)
    try:
        result = await search(deep, caller.login.channel, ground.attempt)
    except (Closed, TimeoutError) as end:
        return not_run(f"{caller.service} itself is turned away: {end or 'no answer'}")
    finally:
        await ground.leave()
    if result.found:
        return served(result.found)
    if ground.denied == 0:
        return not_run(f"{result.tried} operations, and the server judged none of them")
    return refused(
        f"{result.tried} operations: {ground.done} done that may be, {ground.denied} denied"
    )


class _Ground:
    """A session of the caller's, begun again when an operation has ended it."""

    def __init__(self, arena: Arena, caller: Caller) -> None:
        self._arena = arena
        self._caller = caller
        self._wire: Wire | None = None
        self._reader: Reader | None = None
        self._logins = 0
        self.done = self.denied = 0

    async def attempt(self, choices: Choices) -> str | None:
        """Sends one operation. Raises ``Closed`` where the caller itself is not let in."""
        operation = generate(choices, self._caller)
        wire, reader = await self._session()
        try:
            heard = await converse(wire, operation.line, reader=reader)
        except (LoginRefused, Closed, TimeoutError):
            await self.leave()
            return None
        passed = _passed(heard)
        self.done += passed
        self.denied += not passed
        if not passed or may(self._caller, operation):
            return None
        how = "subscribed" if operation.subscribes else "publication permitted"
        script = shlex.quote(ascii(operation.line)[1:-1])  # printf reads the escapes
        return f"{how} without a grant: printf {script} (as {self._caller.service})"

    async def leave(self) -> None:
        """Ends the session."""
        if self._wire is not None:
            await self._wire.close()
        self._wire = self._reader = None

    async def _session(self) -> tuple[Wire, Reader]:
        if self._wire is None or self._reader is None:
            self._logins += 1
            if self._logins > LOGINS:
                raise Closed("the session ended again and again")
            self._wire = await as_itself(self._arena, self._caller.dialect, self._caller.login)
            self._reader = Reader(self._wire)
        return self._wire, self._reader


def _passed(heard: Heard) -> bool:
    """Whether the subject was permitted, whatever the server says of the reply."""
    return not heard.errors or heard.errors[0].startswith(REPLY_REFUSED)
