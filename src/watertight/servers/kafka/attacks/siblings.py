"""The broker's other ports, from inside its own network: the only place that they are in.

There it talks to itself, as a client and as its controller; nobody else is known there.
"""

from collections.abc import Iterator
from dataclasses import replace

from watertight.attack.arena import Arena, Forgery
from watertight.attack.inside import dial_inside
from watertight.attack.login import TIMEOUT_SECONDS, Login, right
from watertight.attack.probe import Observation, Probe, not_run, refused, served
from watertight.attack.tls import Hello, handshake
from watertight.attack.wire import Closed
from watertight.model.system import Resource, System
from watertight.servers.kafka.attacks.dialect import MAKE, asked
from watertight.servers.kafka.attacks.requests import Request

HIGHEST_PORT = 65_535
VERSIONS = Request(18, 0, "*", b"")
"""ApiVersions, which every listener answers whoever is let in at all."""


def ports(port: int) -> tuple[int, int]:
    """Where the node is its own client, and where it is its own controller."""
    first, second = (port + 20_000 + number for number in (1, 2))
    if second > HIGHEST_PORT:
        return port - 20_000 + 1 if first > HIGHEST_PORT else first, port - 20_000 + 2
    return first, second


def probes(system: System, resource: Resource, services: tuple[str, ...]) -> Iterator[Probe]:
    """From a foothold in the broker's own network."""
    channel = f"anyone -> {resource.name}"
    own = Login(system, resource, resource.name)
    for number, what in enumerate(("the broker's port to itself", "the controller's port")):
        tries: dict[str, tuple[str, Forgery | None]] = {
            "siblings.no-certificate": ("without a certificate", None)
        }
        for service in services[:1]:
            login = replace(own, service=service)
            tries["siblings.service"] = (f"with an SVID as {service}'s", right(login))
        for identifier, (how, forgery) in tries.items():
            yield MAKE.attack(identifier, channel, f"{what}, {how}", _tried, own, number, forgery)


async def _tried(arena: Arena, own: Login, number: int, forgery: Forgery | None) -> Observation:
    """Turned away without a word, which counts while the broker itself would be let in."""
    port = ports(own.resource.port)[number]
    seen = await _turned_away(arena, own.resource, port, forgery)
    if seen is None:
        return served("it answers")
    itself = replace(right(own), unit="servers")
    control = await _turned_away(arena, own.resource, port, itself)
    if control is not None:
        return not_run(f"{seen}; but the broker itself is turned away too: {control}")
    return refused(seen)


async def _turned_away(
    arena: Arena, resource: Resource, port: int, forgery: Forgery | None
) -> str | None:
    """How that listener does not answer; None if it does."""
    inside = await arena.inside(resource.name)
    hello = Hello(credential=await arena.forge(forgery)) if forgery else Hello()
    wire = await dial_inside(inside, "127.0.0.1", port, timeout_seconds=TIMEOUT_SECONDS)
    try:
        secure = await handshake(wire, hello, timeout_seconds=TIMEOUT_SECONDS)
        await asked(secure, VERSIONS)
    except (Closed, TimeoutError) as end:
        return str(end) or "no answer"
    else:
        return None
    finally:
        await wire.close()
