"""What a broker holds that was not declared, and what it lacks: pure, on exported definitions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from watertight.servers.rabbitmq.control import binary

ACTOR = binary("watertight")
Definition = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """One of them. ``removal``: the Erlang expression that takes away what should not be."""

    what: str
    removal: str = ""


@dataclass(frozen=True, slots=True)
class _Kind:
    section: str
    noun: str
    key: tuple[str, ...]
    fields: Mapping[str, Any]
    """What is compared, and what a definition that says nothing means."""
    remove: Callable[[Definition], str]


def differences(wanted: Definition, found: Definition) -> list[Difference]:
    """All of them, what must go first."""
    listed = [difference for kind in KINDS for difference in _of(kind, wanted, found)]
    return sorted(listed, key=lambda difference: not difference.removal)


def _of(kind: _Kind, wanted: Definition, found: Definition) -> Iterator[Difference]:
    right = {_key(kind, one): one for one in wanted.get(kind.section, ())}
    there = {_key(kind, one): one for one in found.get(kind.section, ()) if not _born(kind, one)}
    for key, one in there.items():
        if key not in right:
            yield Difference(f"{kind.noun} {_name(key)} is not declared", kind.remove(one))
    for key, one in right.items():
        if key not in there:
            yield Difference(f"{kind.noun} {_name(key)} is missing")
            continue
        for field, nothing in kind.fields.items():
            is_, should = _plain(there[key].get(field, nothing)), _plain(one.get(field, nothing))
            if is_ != should:
                yield Difference(f"{kind.noun} {_name(key)}: {field} is {is_!r} and not {should!r}")


def _key(kind: _Kind, one: Definition) -> tuple[str, ...]:
    return tuple(str(one.get(part, "")) for part in kind.key)


def _name(key: Sequence[str]) -> str:
    return " ".join(part for part in key if part)


def _born(kind: _Kind, one: Definition) -> bool:
    """What every broker and virtual host has from the start."""
    if kind.section == "exchanges":
        return str(one["name"]).startswith("amq.") or not one["name"]
    return kind.section == "global_parameters" or (
        kind.section == "bindings" and not one.get("source")
    )


def _plain(value: Any) -> Any:
    """Tags are text or a list, from version to version; a queue's type is an argument or not."""
    if isinstance(value, Mapping):
        return {k: v for k, v in value.items() if (k, v) != ("x-queue-type", "classic")}
    return "" if value in ([], None) else value


def _resource(kind: str, one: Definition, name: str) -> str:
    return f"rabbit_misc:r({binary(one['vhost'])}, {kind}, {binary(name)})"


def _user(one: Definition) -> str:
    return f"rabbit_auth_backend_internal:delete_user({binary(one['name'])}, {ACTOR})"


def _vhost(one: Definition) -> str:
    return f"rabbit_vhost:delete({binary(one['name'])}, {ACTOR})"


def _permission(one: Definition) -> str:
    names = f"{binary(one['user'])}, {binary(one['vhost'])}, {ACTOR}"
    return f"catch rabbit_auth_backend_internal:clear_permissions({names})"


def _topic_permission(one: Definition) -> str:
    names = f"{binary(one['user'])}, {binary(one['vhost'])}, {binary(one['exchange'])}, {ACTOR}"
    return f"catch rabbit_auth_backend_internal:clear_topic_permissions({names})"


def _exchange(one: Definition) -> str:
    return (
        f"catch rabbit_exchange:delete({_resource('exchange', one, one['name'])}, false, {ACTOR})"
    )


def _queue(one: Definition) -> str:
    """Only an empty one that nobody reads: what it holds is somebody's."""
    name = _resource("queue", one, one["name"])
    return (
        f"catch rabbit_amqqueue:with({name}, fun(Q) -> "
        f"rabbit_amqqueue:delete(Q, true, true, {ACTOR}) end)"
    )


def _binding(one: Definition) -> str:
    kind = "queue" if one["destination_type"] == "queue" else "exchange"
    ends = f"{_resource('exchange', one, one['source'])}, {binary(one['routing_key'])}"
    there = _resource(kind, one, one["destination"])
    return f"catch rabbit_binding:remove({{binding, {ends}, {there}, []}}, {ACTOR})"


def _policy(one: Definition) -> str:
    return f"catch rabbit_policy:delete({binary(one['vhost'])}, {binary(one['name'])}, {ACTOR})"


def _parameter(one: Definition) -> str:
    names = f"{binary(one['vhost'])}, {binary(one['component'])}, {binary(one['name'])}, {ACTOR}"
    return f"catch rabbit_runtime_parameters:clear_any({names})"


KINDS = (
    _Kind("users", "user", ("name",), {"tags": "", "password_hash": "", "limits": {}}, _user),
    _Kind("vhosts", "virtual host", ("name",), {}, _vhost),
    _Kind("parameters", "parameter", ("vhost", "component", "name"), {}, _parameter),
    _Kind(
        "policies",
        "policy",
        ("vhost", "name"),
        {"pattern": "", "definition": {}, "priority": 0, "apply-to": "all"},
        _policy,
    ),
    _Kind(
        "permissions",
        "permissions of",
        ("user", "vhost"),
        {"configure": "", "write": "", "read": ""},
        _permission,
    ),
    _Kind(
        "topic_permissions",
        "topic permissions of",
        ("user", "vhost", "exchange"),
        {"write": "", "read": ""},
        _topic_permission,
    ),
    _Kind(
        "bindings",
        "binding",
        ("vhost", "source", "destination", "destination_type", "routing_key"),
        {},
        _binding,
    ),
    _Kind(
        "exchanges",
        "exchange",
        ("vhost", "name"),
        {
            "type": "direct",
            "durable": True,
            "auto_delete": False,
            "internal": False,
            "arguments": {},
        },
        _exchange,
    ),
    _Kind(
        "queues",
        "queue",
        ("vhost", "name"),
        {"durable": True, "auto_delete": False, "arguments": {}},
        _queue,
    ),
)
"""In the order in which what is not declared goes: users first, for they may be at work."""
