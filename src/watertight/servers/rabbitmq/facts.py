"""What a broker holds, as facts: from the definitions that it imports and exports. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from watertight.servers.facts import Fact, fact
from watertight.servers.rabbitmq.erlang import binary

ACTOR = binary("watertight")
DEFINITIONS = "definitions.json"
QUEUE, PERMISSIONS = "queue", "permissions of"
Definitions = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Section:
    """One part of the definitions."""

    section: str
    kind: str
    key: tuple[str, ...]
    compared: Mapping[str, Any]
    """Name → what a definition that says nothing means."""
    removal: str
    """The Erlang expression that takes one away: a parameter for each part of the key."""


def _named(kind: str) -> str:
    return f"rabbit_misc:r({{0}}, {kind}, {{1}})"


SECTIONS = (
    _Section("vhosts", "virtual host", ("name",), {}, f"rabbit_vhost:delete({{0}}, {ACTOR})"),
    _Section(
        "queues",
        QUEUE,
        ("vhost", "name"),
        {"durable": True, "auto_delete": False, "arguments": {}},
        # Only an empty one that nobody reads: what it holds is somebody's.
        f"catch rabbit_amqqueue:with({_named('queue')}, fun(Q) -> "
        f"rabbit_amqqueue:delete(Q, true, true, {ACTOR}) end)",
    ),
    _Section(
        "exchanges",
        "exchange",
        ("vhost", "name"),
        {"type": "direct", "durable": True, "auto_delete": False, "internal": False}
        | {"arguments": {}},
        f"catch rabbit_exchange:delete({_named('exchange')}, false, {ACTOR})",
    ),
    _Section(
        "bindings",
        "binding",
        ("vhost", "source", "destination", "destination_type", "routing_key"),
        {},
        "catch rabbit_binding:remove({{binding, rabbit_misc:r({0}, exchange, {1}), {4}, "
        f"rabbit_misc:r({{0}}, binary_to_existing_atom({{3}}), {{2}}), []}}}}, {ACTOR})",
    ),
    _Section(
        "topic_permissions",
        "topic permissions of",
        ("user", "vhost", "exchange"),
        {"write": "", "read": ""},
        f"catch rabbit_auth_backend_internal:clear_topic_permissions({{0}}, {{1}}, {{2}}, {ACTOR})",
    ),
    _Section(
        "permissions",
        PERMISSIONS,
        ("user", "vhost"),
        {"configure": "", "write": "", "read": ""},
        f"catch rabbit_auth_backend_internal:clear_permissions({{0}}, {{1}}, {ACTOR})",
    ),
    _Section(
        "policies",
        "policy",
        ("vhost", "name"),
        {"pattern": "", "definition": {}, "priority": 0, "apply-to": "all"},
        f"catch rabbit_policy:delete({{0}}, {{1}}, {ACTOR})",
    ),
    _Section(
        "parameters",
        "parameter",
        ("vhost", "component", "name"),
        {},
        f"catch rabbit_runtime_parameters:clear_any({{0}}, {{1}}, {{2}}, {ACTOR})",
    ),
    _Section(
        "users",
        "user",
        ("name",),
        {"tags": "", "password_hash": "", "limits": {}},
        f"rabbit_auth_backend_internal:delete_user({{0}}, {ACTOR})",
    ),
)
"""Users go first, for they may be at work."""

KINDS = tuple(section.kind for section in SECTIONS)
_BY_KIND = {section.kind: section for section in SECTIONS}


def facts_of(definitions: Definitions) -> frozenset[Fact]:
    """All that a declaration decides; not what every broker and virtual host has from the start."""
    return frozenset(
        fact(
            section.kind,
            (one.get(part, "") for part in section.key),
            **{name: _plain(one.get(name, nothing)) for name, nothing in section.compared.items()},
        )
        for section in SECTIONS
        for one in definitions.get(section.section, ())
        if not _born(section.section, one)
    )


def removal(gone: Fact) -> str:
    """The Erlang expression that takes away what should not be."""
    return _BY_KIND[gone.kind].removal.format(*map(binary, gone.key))


def _born(section: str, one: Definitions) -> bool:
    if section == "exchanges":
        return str(one["name"]).startswith("amq.") or not one["name"]
    return section == "bindings" and not one.get("source")


def _plain(value: Any) -> Any:
    """Tags are text or a list, from version to version; a queue's type is an argument or not."""
    if isinstance(value, Mapping):
        return {k: v for k, v in value.items() if (k, v) != ("x-queue-type", "classic")}
    return "" if value in ([], None) else value
