"""Every attack on PostgreSQL servers, and every permitted use, from the declaration alone."""

from collections.abc import Iterable, Iterator

from watertight.attack.arena import Arena
from watertight.attack.probe import Probe
from watertight.attack.server import server_probes
from watertight.model.system import Resource, System
from watertight.servers.postgresql.attacks import (
    escalation,
    grants,
    keys,
    limits,
    logins,
    pairs,
    pins,
    uses,
)
from watertight.servers.postgresql.attacks.dialect import DIALECT
from watertight.servers.postgresql.attacks.scope import scopes
from watertight.servers.postgresql.declaration import KIND


def postgresql_probes(system: System) -> Iterator[Probe]:
    """All probes of all databases that ``system`` declares and that we run."""
    yield from server_probes(DIALECT, system, forgeries=logins.forgeries, sockets=_sockets)
    for resource in system.resources.values():
        if resource.kind != KIND or resource.external:
            continue
        for scope in scopes(system, resource):
            yield from logins.probes(scope.login)
            yield from uses.probes(scope)
            yield from grants.probes(scope)
            yield from escalation.probes(scope)
            yield from keys.probes(scope)
            yield from pins.probes(scope)
            yield from limits.probes(scope)
            yield from pairs.probes(scope)


def _sockets(arena: Arena, resource: Resource) -> Iterable[str]:
    """The operator's way in."""
    directory = arena.placement.server_sockets(resource.name)
    yield f"unix:{directory}/.s.PGSQL.{resource.port}"
