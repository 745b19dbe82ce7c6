"""Every attack on Kafka brokers, and every permitted use, from the declaration alone."""

from collections.abc import Iterable, Iterator

from watertight.attack.arena import Arena
from watertight.attack.login import Login
from watertight.attack.probe import Probe
from watertight.attack.server import server_probes
from watertight.model.system import Resource, System
from watertight.servers.kafka.attacks import identity, siblings
from watertight.servers.kafka.attacks.dialect import KafkaDialect
from watertight.servers.kafka.attacks.rights import Caller, attacks, uses
from watertight.servers.kafka.declaration import KIND, broker, grants


def kafka_probes(system: System) -> Iterator[Probe]:
    """For every managed broker."""
    for resource in system.resources.values():
        if resource.kind == KIND and not resource.external:
            yield from _of(system, resource)


def _of(system: System, resource: Resource) -> Iterator[Probe]:
    dialect = KafkaDialect()
    yield from server_probes(
        dialect, system, forgeries=identity.forgeries, sockets=_sockets, resources=[resource]
    )
    declared = broker(resource)
    services = tuple(channel.source for channel in system.incoming(resource.name))
    yield from siblings.probes(system, resource, services)
    for channel in system.incoming(resource.name):
        caller = Caller(dialect, Login(system, resource, channel.source), grants(channel))
        others = tuple(service for service in services if service != channel.source)
        yield from uses(caller)
        yield from attacks(caller, declared, others)


def _sockets(_arena: Arena, resource: Resource) -> Iterable[str]:
    """Where the node talks to itself."""
    for port in siblings.ports(resource.port):
        yield f"127.0.0.1:{port}"
