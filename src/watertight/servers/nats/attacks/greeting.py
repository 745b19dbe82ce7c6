"""A server that speaks TLS from the first byte says nothing before it."""

from collections.abc import Iterator

from watertight.attack.arena import Arena
from watertight.attack.login import Login, controlled
from watertight.attack.places import idle
from watertight.attack.probe import Observation, Probe, served
from watertight.attack.wire import Closed, dial_unix
from watertight.model.system import Resource, System
from watertight.servers.nats.attacks.dialect import MAKE, NATSDialect

SILENT_SECONDS = 0.5
"""``handshake_first: auto`` would greet after 50 ms."""


def probes(dialect: NATSDialect, system: System, resource: Resource) -> Iterator[Probe]:
    """For each channel, where the declaration says so (``minimum_tls: 1.3``)."""
    if dialect.tls_first:
        for channel in system.incoming(resource.name):
            login = Login(system, resource, channel.source)
            yield MAKE.attack(
                "tls.greeting",
                login.channel,
                "to be told in the clear what the server is (INFO)",
                _listen,
                dialect,
                login,
            )


async def _listen(arena: Arena, dialect: NATSDialect, login: Login) -> Observation:
    wire = await dial_unix(arena.door(login.resource.name, login.service))
    try:
        with idle():
            data = await wire.receive(SILENT_SECONDS)
    except TimeoutError:
        return await controlled(arena, dialect, login, f"not a word in {SILENT_SECONDS:g} s")
    except Closed as end:
        return await controlled(arena, dialect, login, str(end))
    finally:
        await wire.close()
    if not data:
        return await controlled(arena, dialect, login, "closed without a word")
    return served(f"in the clear: {data[:40]!r} …")
