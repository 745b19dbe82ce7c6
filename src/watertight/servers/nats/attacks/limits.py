"""What one service may take of the server for itself: connections, subscriptions, payload, and the
memory in which the server keeps every subject of a stream (nats-server issue 8485).

To fill that would push out what applications keep, so the running server is asked instead.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from watertight.attack.arena import Arena
from watertight.attack.login import as_itself
from watertight.attack.probe import Observation, Probe, not_run, refused, served
from watertight.attack.wire import Closed, Wire
from watertight.model.system import Resource, System
from watertight.servers.nats.attacks.declared import LEAF, Caller, callers, meets
from watertight.servers.nats.attacks.dialect import MAKE, NATSDialect, converse, inbox_of
from watertight.servers.nats.attacks.shared import judged
from watertight.servers.nats.declaration import Stream, server

MOST_CONNECTIONS = 128
MOST_SUBSCRIPTIONS = 10_000
MOST_BYTES = 4 << 20
"""More would be a burden of its own; a test tries it instead."""
LONG_LINE_BYTES = 1200
MANY_TOKENS = 64
"""Of a subscription. nats-server takes lines of 4,096 bytes, and as many tokens as fit in."""
SUBJECT_BYTES = 3 << 10
"""What a subject of a thousand characters costs nats-server 2.15."""


def probes(dialect: NATSDialect, system: System, resource: Resource) -> Iterator[Probe]:
    """For each channel."""
    for caller in callers(dialect, system, resource):
        granted = caller.granted
        if granted.connections <= MOST_CONNECTIONS:
            yield MAKE.attack(
                "limits.connections",
                caller.login.channel,
                f"more than {granted.connections} connections of {caller.service} at once",
                _connections,
                dialect,
                caller,
            )
        if granted.subscriptions <= MOST_SUBSCRIPTIONS:
            yield caller.attack(
                "limits.subscriptions",
                f"more than {granted.subscriptions} subscriptions on one connection",
                partial(_subscriptions, caller=caller),
            )
        yield caller.attack(
            "limits.line",
            f"a subject of {LONG_LINE_BYTES} characters",
            partial(_line, caller=caller),
        )
        yield caller.attack(
            "limits.tokens",
            f"a subscription of more than {MANY_TOKENS} tokens",
            partial(_tokens, caller=caller),
        )
        for stream in caller.streams:
            if _chooses_subjects(caller, stream):
                yield MAKE.attack(
                    "limits.subjects",
                    caller.login.channel,
                    f"ever new subjects of {stream.name} by {caller.service}, which the server "
                    "keeps in memory (asked of the running server, not carried out)",
                    judged,
                    dialect,
                    caller,
                    stream.name,
                    partial(_subjects, memory_bytes=resource.limits.memory_bytes),
                )
        size = granted.max_payload_bytes or server(resource).max_payload_bytes
        if size <= MOST_BYTES:
            yield caller.attack(
                "limits.payload",
                f"a message of {size + 1} bytes, to a subject that is not granted",
                partial(_payload, size=size + 1),
            )


async def _connections(arena: Arena, dialect: NATSDialect, caller: Caller) -> Observation:
    """Those that the application has open count too. All end at once."""
    most = caller.granted.connections
    wires: list[Wire] = []
    try:
        while len(wires) <= most:
            wires.append(await as_itself(arena, dialect, caller.login))
    except (Closed, TimeoutError) as end:
        if not wires:
            return not_run(f"{caller.service} itself is turned away: {end or 'no answer'}")
        return refused(f"after {len(wires)}: {end or 'no answer'}")
    finally:
        for wire in wires:
            await wire.close()
    return served(f"{most + 1} connections")


async def _subscriptions(wire: Wire, caller: Caller) -> Observation:
    most = caller.granted.subscriptions
    inbox = f"{inbox_of(caller.service)}.{LEAF}"
    lines = "".join(f"SUB {inbox}.{number} {number + 10}\r\n" for number in range(most + 1))
    heard = await converse(wire, lines)
    if heard.errors:
        return refused(heard.errors[0])
    return served(f"{most + 1} subscriptions")


async def _line(wire: Wire, caller: Caller) -> Observation:
    """To our own inbox, where nobody listens."""
    subject = f"{inbox_of(caller.service)}.{LEAF}".ljust(LONG_LINE_BYTES, "x")
    heard = await converse(wire, f"SUB {subject} 2\r\n")
    if heard.errors:
        return refused(heard.errors[0])
    return served(f"a line of {LONG_LINE_BYTES} bytes")


async def _tokens(wire: Wire, caller: Caller) -> Observation:
    subject = ".".join([inbox_of(caller.service), *["x"] * MANY_TOKENS])
    heard = await converse(wire, f"SUB {subject} 2\r\n")
    return refused(heard.errors[0]) if heard.errors else served(f"{MANY_TOKENS} tokens")


def _chooses_subjects(caller: Caller, stream: Stream) -> bool:
    wide = [s for s in caller.granted.publish if {"*", ">"} & set(s.split("."))]
    return any(meets(own, kept) for own in wide for kept in stream.subjects)


def _subjects(said: Mapping[str, Any], memory_bytes: int) -> Observation:
    most = said.get("max_msgs", -1)
    if most <= 0:
        return served("as many subjects as fit the disk")
    needed = most * SUBJECT_BYTES
    told = f"{most} messages, {needed >> 20} MiB if each has a subject of its own"
    return served(told) if needed > memory_bytes // 2 else refused(told)


async def _payload(wire: Wire, size: int) -> Observation:
    """To a subject that is not granted, which the server judges only once it has the payload."""
    heard = await converse(wire, f"PUB {LEAF} {size}\r\n{'x' * size}\r\n")
    said = heard.errors[0] if heard.errors else "taken"
    return served(f"{size} bytes: {said}")
