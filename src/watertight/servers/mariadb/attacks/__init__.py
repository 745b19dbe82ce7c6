"""Every attack on MariaDB servers, and every permitted use, from the declaration alone."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from watertight.attack.arena import Arena
from watertight.attack.login import Login, genuine, tried_to_enter
from watertight.attack.probe import Gap, Observation, Probe
from watertight.attack.server import server_probes
from watertight.model.system import Resource, System
from watertight.servers.mariadb.attacks import cases, identity
from watertight.servers.mariadb.attacks.dialect import DIALECT, MAKE
from watertight.servers.mariadb.declaration import KIND

OTHERS = ("root", "mariadb.sys", "")
"""Accounts that servers have: the operator's, the server's own, anybody's."""
LOCKS = "named locks (GET_LOCK) have one name space for all services of a server: nothing closes it"
VARIABLES = "more memory by user variables than a service's share: it would be felt"
DISK = "how much disk one statement's temporary files take: MariaDB bounds it only from 11.5 on"


def mariadb_probes(system: System) -> Iterator[Probe]:
    """For every managed server."""
    yield from server_probes(DIALECT, system, forgeries=identity.forgeries, sockets=_sockets)
    for resource in _managed(system):
        callers = [
            cases.Caller(system, Login(system, resource, channel.source))
            for channel in system.incoming(resource.name)
        ]
        tables = {grant.table for caller in callers for grant in caller.granted}
        for caller in callers:
            yield from cases.uses(caller)
            yield from cases.grants(caller, tables)
            yield from cases.escalation(caller)
            for other in OTHERS:
                yield MAKE.attack(
                    "login.another-account",
                    caller.login.channel,
                    f"its own SVID, with a login as `{other}`",
                    _as,
                    caller.login,
                    other,
                )
        yield from cases.pairs(callers)


async def _as(arena: Arena, login: Login, other: str) -> Observation:
    hello = await genuine(arena, DIALECT, login.service)
    claimed = replace(login, service=other)
    return await tried_to_enter(arena, DIALECT, claimed, hello, door=login.service)


def gaps(system: System) -> Iterator[Gap]:
    """What no probe tries, for each server that we run."""
    for resource in _managed(system):
        for what in (LOCKS, VARIABLES, DISK):
            yield Gap(KIND, f"anyone -> {resource.name}", what)


def _managed(system: System) -> Iterable[Resource]:
    return (r for r in system.resources.values() if r.kind == KIND and not r.external)


def _sockets(arena: Arena, resource: Resource) -> Iterable[str]:
    """The operator's way in."""
    yield f"unix:{arena.placement.server_sockets(resource.name)}/mariadb.sock"
