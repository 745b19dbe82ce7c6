"""What a broker holds, as facts. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from watertight.servers.facts import Fact, fact

TOPIC, ACCESS, QUOTA, SETTING = "topic", "access", "quota of", "setting"
KINDS = (SETTING, TOPIC, QUOTA, ACCESS)
"""Access comes last, and goes first."""

ANY_RESOURCE, TOPICS, GROUPS, CLUSTER, TRANSACTIONS = 1, 2, 3, 4, 5
RESOURCE_TYPES = {TOPICS: "topic", GROUPS: "group", CLUSTER: "cluster", TRANSACTIONS: "transaction"}
LITERAL, PREFIXED = 3, 4
PATTERNS = {LITERAL: "is", PREFIXED: "begins"}
READ, WRITE, DESCRIBE = 3, 4, 8
OPERATIONS = {
    2: "All",
    READ: "Read",
    WRITE: "Write",
    5: "Create",
    6: "Delete",
    7: "Alter",
    DESCRIBE: "Describe",
    9: "ClusterAction",
    10: "DescribeConfigs",
    11: "AlterConfigs",
    12: "IdempotentWrite",
    13: "CreateTokens",
    14: "DescribeTokens",
    15: "TwoPhaseCommit",
}
PERMISSIONS = {2: "Deny", 3: "Allow"}
"""Numbers of the protocol (org.apache.kafka.common.acl, org.apache.kafka.common.resource)."""


@dataclass(frozen=True, slots=True)
class ACL:
    """One entry, in the protocol's numbers."""

    resource_type: int
    name: str
    pattern: int
    principal: str
    host: str
    operation: int
    permission: int


def acl_fact(acl: ACL) -> Fact:
    """Two that differ in anything are two facts."""
    return fact(
        ACCESS,
        (
            acl.principal,
            PERMISSIONS.get(acl.permission, acl.permission),
            OPERATIONS.get(acl.operation, acl.operation),
            RESOURCE_TYPES.get(acl.resource_type, acl.resource_type),
            PATTERNS.get(acl.pattern, acl.pattern),
            acl.name,
            f"from {acl.host}",
        ),
    )


def acl_of(told: Fact) -> ACL:
    """The entry that :func:`acl_fact` told."""
    principal, permission, operation, kind, pattern, name, host = told.key
    return ACL(
        _number(RESOURCE_TYPES, kind),
        name,
        _number(PATTERNS, pattern),
        principal,
        host.removeprefix("from "),
        _number(OPERATIONS, operation),
        _number(PERMISSIONS, permission),
    )


def _number(names: Mapping[int, str], name: str) -> int:
    return next((number for number, known in names.items() if known == name), 0) or int(name)


def topic_fact(name: str, partitions: int, settings: Mapping[str, str]) -> Fact:
    """``settings``: those that the topic has of its own."""
    return fact(TOPIC, (name,), partitions=partitions, **settings)


Entity = tuple[tuple[str, str | None], ...]
"""Type → name, None: whoever has no quota of his own. As ``user`` → ``orders``."""


def quota_fact(entity: Entity, values: Mapping[str, float]) -> Fact:
    """``values``: name → number."""
    return fact(
        QUOTA,
        (part for kind, name in sorted(entity, key=str) for part in (kind, name or "<default>")),
        **{name: f"{value:.0f}" for name, value in values.items()},
    )


def entity_of(told: Fact) -> Entity:
    """Whom a quota is for."""
    pairs = zip(told.key[::2], told.key[1::2], strict=True)
    return tuple((kind, None if name == "<default>" else name) for kind, name in pairs)
