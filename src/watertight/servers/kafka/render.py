"""What the administrator of a broker that others run must add to it. Pure."""

from collections.abc import Mapping

from watertight.model.system import Resource, System
from watertight.servers.kafka.compile import (
    CLIENTS,
    PROPERTIES,
    bounds,
    facts_of,
    identity,
    keystore,
    truststore,
    written,
)
from watertight.servers.kafka.declaration import broker
from watertight.servers.kafka.facts import ACCESS, QUOTA, TOPIC, acl_of, entity_of

DIRECTORY = "/etc/kafka/tls"
COMMANDS = "commands.sh"
_TYPES = {2: "topic", 3: "group", 5: "transactional-id"}
_PATTERNS = {3: "literal", 4: "prefixed"}
_OPERATIONS = {3: "Read", 4: "Write", 8: "Describe"}


def render(system: System, resource: Resource) -> Mapping[str, str]:
    """Properties for the listener of these services, and Kafka's own commands for the rest."""
    ours = f"listener.name.{CLIENTS.lower()}."
    rules = identity(system.trust_domain, resource.name)
    properties = {
        f"{ours}ssl.client.auth": "required",
        f"{ours}ssl.enabled.protocols": "TLSv1.3",
        f"{ours}ssl.keystore.type": "PEM",
        keystore(CLIENTS): f"{DIRECTORY}/combined.pem",
        f"{ours}ssl.truststore.type": "PEM",
        truststore(CLIENTS): f"{DIRECTORY}/bundle.pem",
        f"{ours}ssl.principal.mapping.rules": rules[f"{ours}ssl.principal.mapping.rules"],
        "authorizer.class.name": rules["authorizer.class.name"],
        "allow.everyone.if.no.acl.found": "false",
        "auto.create.topics.enable": "false",
        "message.max.bytes": bounds(resource, broker(resource))["message.max.bytes"],
    }
    return {PROPERTIES: written(properties), COMMANDS: _commands(system, resource)}


def _commands(system: System, resource: Resource) -> str:
    """For an administrator's shell: ``$ADMIN`` is how each of Kafka's tools comes in."""
    lines = ["#!/bin/sh -e", "# ADMIN='--bootstrap-server … --command-config …'"]
    for told in sorted(facts_of(system, resource)):
        values = dict(told.value)
        if told.kind == TOPIC:
            partitions = values.pop("partitions")
            settings = "".join(f" --config {key}={value}" for key, value in values.items())
            lines.append(
                f"kafka-topics.sh $ADMIN --create --if-not-exists --topic {told.key[0]} "
                f"--partitions {partitions}{settings}"
            )
        elif told.kind == QUOTA:
            [(_, name)] = entity_of(told)
            settings = ",".join(f"{key}={value}" for key, value in values.items())
            lines.append(
                f"kafka-configs.sh $ADMIN --alter --entity-type users --entity-name {name} "
                f"--add-config {settings}"
            )
        elif told.kind == ACCESS:
            acl = acl_of(told)
            lines.append(
                f"kafka-acls.sh $ADMIN --add --allow-principal {acl.principal} "
                f"--operation {_OPERATIONS[acl.operation]} "
                f"--{_TYPES[acl.resource_type]} {acl.name} "
                f"--resource-pattern-type {_PATTERNS[acl.pattern]}"
            )
    return "\n".join(lines) + "\n"
