"""What a Kafka broker must be: its properties, topics, access and quotas. Pure.

Sources: kafka.apache.org/documentation, "Broker Configs", "Encryption and Authentication using
SSL", "Authorization and ACLs"; what each of these lines does was tried on 4.4.0.
"""

import base64
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from watertight.enforcers.resource import BUNDLE, COMBINED
from watertight.model.placement import Placement
from watertight.model.system import Resource, System
from watertight.servers.facts import Fact
from watertight.servers.kafka.declaration import Broker, Grants, Topic, broker, grants
from watertight.servers.kafka.facts import (
    ACL,
    DESCRIBE,
    GROUPS,
    LITERAL,
    PREFIXED,
    READ,
    TOPICS,
    TRANSACTIONS,
    WRITE,
    acl_fact,
    quota_fact,
    topic_fact,
)

PROPERTIES, HOSTS = "server.properties", "hosts"
CLIENTS, INTERNAL, CONTROLLER = "CLIENTS", "INTERNAL", "CONTROLLER"
LISTENERS = (CLIENTS, INTERNAL, CONTROLLER)
NODE = "1"
HIGHEST_PORT = 65_535
REQUEST_PERCENT = 300
"""Of the time of one thread, what a service's requests may take (a broker has eleven)."""
HEAP_SHARE, DIRECT_SHARE, REQUESTS_SHARE = 3, 8, 12
"""Of a broker's memory: what is one of so many parts. The rest is for the JVM itself, and for the
pages of what is written and read."""
ALLOW = 3


@dataclass(frozen=True, slots=True)
class KafkaGrants:
    """What the broker must hold, besides its files."""

    facts: frozenset[Fact]
    internal_port: int
    """Where the operator comes in."""
    memory_bytes: int
    cluster: str
    """What the node calls the cluster that it is."""


def files(system: System, resource: Resource, placement: Placement) -> Mapping[str, str]:
    """See :meth:`~watertight.servers.kind.Server.files`."""
    properties = {
        **identity(system.trust_domain, resource.name),
        **_listeners(resource),
        **_papers(resource, placement),
        **bounds(resource, broker(resource)),
        "log.dirs": str(placement.server_data(resource.name) / "log"),
    }
    return {
        PROPERTIES: written(properties),
        # Its own name, and no other, is known to it: it verifies itself as every client does.
        HOSTS: f"127.0.0.1 {resource.name}\n",
    }


def written(properties: Mapping[str, str]) -> str:
    """As java.util.Properties reads it."""
    return "".join(f"{key}={value}\n" for key, value in properties.items())


def identity(trust_domain: str, resource: str) -> dict[str, str]:
    """Who is who: no rule is open at an end, and without DEFAULT whoever fits none is nobody."""
    organization = trust_domain.replace(".", "[.]")
    own = f"RULE:^CN={resource},OU=servers,O={organization}$/server:{resource}/"
    services = f"RULE:^CN=([a-z0-9-]{{1,63}}),OU=services,O={organization}$/$1/"
    return {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "false",
        "super.users": f"User:server:{resource}",
        "auto.create.topics.enable": "false",
        "ssl.client.auth": "required",
        "ssl.enabled.protocols": "TLSv1.3",
        "ssl.protocol": "TLSv1.3",
        "ssl.endpoint.identification.algorithm": "https",
        "ssl.principal.mapping.rules": own,
        f"listener.name.{CLIENTS.lower()}.ssl.principal.mapping.rules": services,
        "listener.security.protocol.map": ",".join(f"{name}:SSL" for name in LISTENERS),
    }


def _listeners(resource: Resource) -> dict[str, str]:
    internal, controller = (sibling_port(resource.port, number) for number in (1, 2))
    return {
        "process.roles": "broker,controller",
        "node.id": NODE,
        "controller.quorum.bootstrap.servers": f"{resource.name}:{controller}",
        "listeners": f"{CLIENTS}://127.0.0.1:{resource.port},"
        f"{INTERNAL}://127.0.0.1:{internal},{CONTROLLER}://127.0.0.1:{controller}",
        "advertised.listeners": f"{CLIENTS}://{resource.name}:{resource.port},"
        f"{INTERNAL}://{resource.name}:{internal},{CONTROLLER}://{resource.name}:{controller}",
        "inter.broker.listener.name": INTERNAL,
        "controller.listener.names": CONTROLLER,
    }


def _papers(resource: Resource, placement: Placement) -> dict[str, str]:
    """For each listener by itself: only so can it be told to read them again."""
    own = placement.credentials(resource.name)
    return {
        key: value
        for name in LISTENERS
        for key, value in (
            (f"listener.name.{name.lower()}.ssl.keystore.type", "PEM"),
            (keystore(name), str(own / COMBINED)),
            (f"listener.name.{name.lower()}.ssl.truststore.type", "PEM"),
            (truststore(name), str(own / BUNDLE)),
        )
    }


def keystore(listener: str) -> str:
    """The setting that says where a listener's key and chain are."""
    return f"listener.name.{listener.lower()}.ssl.keystore.location"


def truststore(listener: str) -> str:
    """The setting that says where a listener's roots are."""
    return f"listener.name.{listener.lower()}.ssl.truststore.location"


def bounds(resource: Resource, wanted: Broker) -> dict[str, str]:
    """What keeps a broker within its memory, and one service from stopping others for long."""
    memory, largest = resource.limits.memory_bytes, wanted.message_bytes + (1 << 20)
    return {
        "message.max.bytes": str(wanted.message_bytes),
        "socket.request.max.bytes": str(largest),
        # Requests that wait are held whole; beyond this, no more is read from any connection.
        "queued.max.request.bytes": str(max(memory // REQUESTS_SHARE, 2 * largest)),
        "fetch.max.bytes": str(max(8 << 20, largest)),
        "log.segment.bytes": str(128 << 20),
        "log.cleaner.dedupe.buffer.size": str(max(4 << 20, memory // 128)),
        "connections.max.idle.ms": "600000",
        # A transaction that nobody ends holds back all who read only what is committed.
        "transaction.max.timeout.ms": "60000",
        "group.max.session.timeout.ms": "300000",
        "group.initial.rebalance.delay.ms": "0",
        "offsets.topic.num.partitions": "4",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "default.replication.factor": "1",
        "min.insync.replicas": "1",
    }


def grants_of(system: System, resource: Resource) -> KafkaGrants:
    """See :meth:`~watertight.servers.kind.Server.grants`."""
    return KafkaGrants(
        facts_of(system, resource),
        sibling_port(resource.port, 1),
        resource.limits.memory_bytes,
        cluster(system.spiffe_id(resource.name)),
    )


def cluster(identity: str) -> str:
    """A UUID as Kafka writes it, the same each time."""
    return base64.urlsafe_b64encode(uuid.uuid5(uuid.NAMESPACE_URL, identity).bytes).decode()[:22]


def facts_of(system: System, resource: Resource) -> frozenset[Fact]:
    """Topics, quotas and access."""
    found = {
        topic_fact(name, topic.partitions, topic_settings(topic))
        for name, topic in broker(resource).topics.items()
    }
    for channel in system.incoming(resource.name):
        granted = grants(channel)
        found.add(quota_fact((("user", channel.source),), quota(granted)))
        found |= {acl_fact(acl) for acl in access(channel.source, granted)}
    return frozenset(found)


def topic_settings(topic: Topic) -> dict[str, str]:
    """Each is said, also where the broker would do the same without."""
    retention = -1 if topic.compacted else topic.retention_seconds * 1000
    return {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "retention.ms": str(retention),
        "retention.bytes": str(-1 if topic.compacted else topic.partition_bytes),
        "max.message.bytes": str(topic.message_bytes),
    }


def quota(granted: Grants) -> dict[str, float]:
    """Beyond it, the broker makes a service wait, and nobody else."""
    return {
        "producer_byte_rate": granted.publish_rate,
        "consumer_byte_rate": granted.consume_rate,
        "request_percentage": REQUEST_PERCENT,
    }


def access(service: str, granted: Grants) -> frozenset[ACL]:
    """Write and Read imply Describe. Who consumes nothing may ask for its own group all the same:
    it is how a client sees that it is let in."""
    wanted = [(TOPICS, topic, WRITE, LITERAL) for topic in granted.publish]
    wanted += [(TOPICS, topic, READ, LITERAL) for topic in granted.consume]
    grouped = READ if granted.consume else DESCRIBE
    own = [(GROUPS, grouped)] + [(TRANSACTIONS, WRITE)] * granted.transactions
    for kind, operation in own:
        wanted += [(kind, service, operation, LITERAL), (kind, f"{service}.", operation, PREFIXED)]
    return frozenset(
        ACL(kind, name, pattern, f"User:{service}", "*", operation, ALLOW)
        for kind, name, operation, pattern in wanted
    )


def sibling_port(port: int, number: int) -> int:
    """Where the node talks to itself: as its own client (1), and as its own controller (2)."""
    found = port + 20_000 + number
    return found if found <= HIGHEST_PORT else port - 20_000 + number
