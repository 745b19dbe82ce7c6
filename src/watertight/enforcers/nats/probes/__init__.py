"""Every attack on NATS servers, and every permitted use, from the declaration alone."""

from collections.abc import Iterator

from watertight.enforcers.attack.server import server_probes
from watertight.enforcers.contract import Probe
from watertight.enforcers.nats.declaration import KIND
from watertight.enforcers.nats.probes import (
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
from watertight.enforcers.nats.probes.dialect import NATSDialect
from watertight.model.system import System


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
