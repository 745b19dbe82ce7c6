"""What the probes leave out, by the declaration."""

from collections.abc import Iterator

from watertight.attack.probe import Gap
from watertight.model.system import System
from watertight.servers.kafka.declaration import KIND, grants

CLUSTER = "the cluster's id, node and version, which Kafka tells whoever it knows by name"
FENCED = (
    "another publisher's producer number, under which a publisher of the same topic can write: "
    "Kafka binds numbers to transactional ids, and to nobody where there is none"
)
WRITER = (
    "which of several publishers wrote a message, with what key and headers: Kafka keeps no name "
    "with it, and who reads it must not take it from there"
)

GROUPS = (
    "memory by ever new consumer groups below one's own name, with large metadata: it ends the "
    "broker, which is started again"
)


def gaps(system: System) -> Iterator[Gap]:
    """For each broker that we run."""
    for resource in system.resources.values():
        if resource.kind != KIND or resource.external:
            continue
        yield Gap(KIND, f"anyone -> {resource.name}", CLUSTER)
        yield Gap(KIND, f"anyone -> {resource.name}", GROUPS)
        seen: set[str] = set()
        for channel in system.incoming(resource.name):
            published = set(grants(channel).publish)
            if published & seen:
                yield Gap(KIND, channel.name, FENCED)
                yield Gap(KIND, channel.name, WRITER)
            seen |= published
