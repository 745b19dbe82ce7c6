"""Every attack on RabbitMQ brokers, and every permitted use, from the declaration alone."""

from collections.abc import Iterable, Iterator

from watertight.attack.arena import Arena
from watertight.attack.login import Login
from watertight.attack.probe import Probe
from watertight.attack.server import server_probes
from watertight.model.system import Resource, System
from watertight.servers.rabbitmq.attacks import beyond, claims, identity, pairs, siblings
from watertight.servers.rabbitmq.attacks.dialect import RabbitMQDialect
from watertight.servers.rabbitmq.attacks.examples import may_publish_to
from watertight.servers.rabbitmq.attacks.rights import attacks, uses
from watertight.servers.rabbitmq.attacks.sessions import Caller
from watertight.servers.rabbitmq.declaration import KIND, broker, grants


def rabbitmq_probes(system: System) -> Iterator[Probe]:
    """For every managed broker."""
    for resource in system.resources.values():
        if resource.kind == KIND and not resource.external:
            yield from _of(system, resource)


def _of(system: System, resource: Resource) -> Iterator[Probe]:
    dialect = RabbitMQDialect()
    yield from server_probes(
        dialect,
        system,
        forgeries=identity.forgeries,
        sockets=_sockets,
        resources=[resource],
    )
    yield from siblings.probes(resource)
    declared = broker(resource)
    callers = [
        Caller(dialect, Login(system, resource, channel.source), grants(channel))
        for channel in system.incoming(resource.name)
    ]
    sent = frozenset(queue for caller in callers for queue in caller.granted.send)
    for caller in callers:
        yield from uses(caller)
        yield from attacks(caller, declared, sent)
        yield from beyond.attacks(caller, declared)
        yield from claims.probes(dialect, caller.login)
    yield from pairs.probes(callers, declared)
    for caller in [caller for caller in callers if may_publish_to(caller.granted)][:1]:
        yield from beyond.large_message(caller, declared)


def _sockets(_arena: Arena, resource: Resource) -> Iterable[str]:
    """The distribution, and the port mapper, which listens on both loopback addresses."""
    yield f"127.0.0.1:{siblings.distribution_port(resource.port)}"
    for host in ("127.0.0.1", "[::1]"):
        yield f"{host}:{siblings.mapper_port(resource.port)}"
