"""What one service may take of the server for itself: connections, subscriptions, payload."""

from collections.abc import Iterator
from functools import partial

from watertight.enforcers.attack.login import as_itself
from watertight.enforcers.attack.wire import Closed, Wire
from watertight.enforcers.contract import Arena, Observation, Probe, not_run, refused, served
from watertight.enforcers.nats.declaration import server
from watertight.enforcers.nats.probes.declared import LEAF, Caller, callers
from watertight.enforcers.nats.probes.dialect import MAKE, NATSDialect, converse, inbox_of
from watertight.model.system import Resource, System

MOST_CONNECTIONS = 128
MOST_SUBSCRIPTIONS = 10_000
MOST_BYTES = 4 << 20
"""More would be a burden of its own; a test tries it instead."""


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


async def _payload(wire: Wire, size: int) -> Observation:
    """To a subject that is not granted, which the server judges only once it has the payload."""
    heard = await converse(wire, f"PUB {LEAF} {size}\r\n{'x' * size}\r\n")
    said = heard.errors[0] if heard.errors else "taken"
    return served(f"{size} bytes: {said}")
