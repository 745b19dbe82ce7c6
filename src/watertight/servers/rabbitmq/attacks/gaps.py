"""What the probes of RabbitMQ leave out, by the declaration."""

from collections.abc import Iterator

from watertight.attack.probe import Gap
from watertight.model.system import System
from watertight.servers.rabbitmq.declaration import KIND

ONE_CALLER = "two identities at once: this broker has one caller, which met itself instead"
AMQP_1_0 = "AMQP 1.0, which RabbitMQ speaks from 4.0 on, on the same port"


def gaps(system: System) -> Iterator[Gap]:
    """For each broker that we run."""
    for resource in system.resources.values():
        if resource.kind != KIND or resource.external:
            continue
        yield Gap(KIND, f"anyone -> {resource.name}", AMQP_1_0)
        callers = list(system.incoming(resource.name))
        if len(callers) == 1:
            yield Gap(KIND, callers[0].name, ONE_CALLER)
