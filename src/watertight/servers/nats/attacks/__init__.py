"""Every attack on NATS servers, and every permitted use, from the declaration alone."""

from collections.abc import Iterator

from watertight.attack.probe import Probe
from watertight.attack.server import server_probes
from watertight.model.system import System
from watertight.servers.nats.attacks import (
    claims,
    grants,
    greeting,
    identity,
    limits,
    shared,
    streams,
    through,
    uses,
)
from watertight.servers.nats.attacks.dialect import NATSDialect
from watertight.servers.nats.declaration import KIND


def nats_probes(system: System) -> Iterator[Probe]:
    """For every managed NATS server."""
    for resource in system.resources.values():
        if resource.kind != KIND or resource.external:
            continue
        dialect = NATSDialect.of(resource)
        yield from server_probes(
            dialect,
            system,
            forgeries=identity.forgeries,
            sockets=lambda _arena, _resource: (),
            resources=[resource],
        )
        for part in (uses, greeting, grants, streams, shared, through, limits, claims):
            yield from part.probes(dialect, system, resource)
