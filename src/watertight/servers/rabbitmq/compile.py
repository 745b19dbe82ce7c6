"""What a RabbitMQ broker must be: its configuration, and its definitions. Pure.

Sources: rabbitmq.com/docs/3.10 ssl, access-control, authentication, definitions; what each of these
lines does was tried on 3.10.8.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from watertight.enforcers.resource import BUNDLE, CERTIFICATE, PRIVATE_KEY
from watertight.model.placement import Placement
from watertight.model.system import Resource, System
from watertight.servers.rabbitmq import guard
from watertight.servers.rabbitmq.declaration import (
    CHANNELS_A_CONNECTION,
    SEND,
    TOPIC,
    Broker,
    Grants,
    broker,
    grants,
)
from watertight.servers.rabbitmq.facts import DEFINITIONS

CONFIGURATION = "rabbitmq.conf"
PLUGINS = "enabled_plugins"
ENVIRONMENT = "rabbitmq-env.conf"
ENABLED = f"[rabbitmq_auth_mechanism_ssl, {guard.NAME}].\n"
LIMITS = "watertight-limits"
"""The policy that bounds every queue."""
END = r"$(?!\n)"
"""To PCRE a `$` alone also means: before a line end, which a name or a routing key may have."""
NOTHING = "^(?!)"
"""No permission: it matches no name, while the usual `^$` matches the empty one, and a line end."""
HIGHEST_PORT = 65_535
READ_BYTES = 131_072
"""Of a connection at once, which a broker that makes publishers wait has read all the same."""


@dataclass(frozen=True, slots=True)
class RabbitMQGrants:
    """What the broker must hold, besides its files."""

    trust_domain: str
    virtual_host: str
    definitions: Mapping[str, Any]


def files(system: System, resource: Resource, placement: Placement) -> Mapping[str, str]:
    """See :meth:`~watertight.servers.kind.Server.files`."""
    return {
        CONFIGURATION: configuration(resource, placement),
        PLUGINS: ENABLED,
        DEFINITIONS: json.dumps(definitions(system, resource), indent=1) + "\n",
        ENVIRONMENT: "",
        **guard.FILES,
    }


def grants_of(system: System, resource: Resource) -> RabbitMQGrants:
    """See :meth:`~watertight.servers.kind.Server.grants`."""
    return RabbitMQGrants(system.trust_domain, resource.name, definitions(system, resource))


def configuration(resource: Resource, placement: Placement) -> str:
    """rabbitmq.conf: TLS 1.3 with a client certificate, whose SPIFFE ID is the login."""
    own = placement.credentials(resource.name)
    papers = (str(own / BUNDLE), str(own / CERTIFICATE), str(own / PRIVATE_KEY))
    wanted = broker(resource)
    return settings(f"127.0.0.1:{resource.port}", papers) + (
        f"load_definitions = {placement.server_directory(resource.name) / DEFINITIONS}\n"
        # Small machines must not keep publishers waiting without a word.
        "disk_free_limit.absolute = 50MB\n"
        f"{memory_settings(resource.limits.memory_bytes)}"
        f"max_message_size = {wanted.message_bytes}\n"
        f"channel_max = {CHANNELS_A_CONNECTION}\n"
        # Or a client that dies without a word, and wanted no heartbeats, is counted for ever.
        "tcp_listen_options.exit_on_close = true\n"
        "log.console = true\n"
        "log.console.level = info\n"
        "log.console.use_colors = off\n"
        "log.file = false\n"
    )


def memory_settings(budget_bytes: int) -> str:
    """What makes publishers wait while the broker is still well within its budget of memory.

    What comes between two looks (the guard's plugin has it look often), and what it needs to write
    messages to disk, must fit into the rest (rabbitmq.com/docs/3.10 memory).
    """
    return (
        # Or it takes the host's memory for its own.
        f"total_memory_available_override_value = {budget_bytes}\n"
        f"vm_memory_high_watermark.absolute = {budget_bytes * 2 // 5}\n"
        "vm_memory_high_watermark_paging_ratio = 0.5\n"
        "vm_memory_calculation_strategy = rss\n"
        f"tcp_listen_options.buffer = {READ_BYTES}\n"
        f"tcp_listen_options.recbuf = {READ_BYTES}\n"
    )


def settings(listener: str, files: tuple[str, str, str]) -> str:
    """The lines that make a broker ask who comes; ``files``: roots, chain, key."""
    roots, chain, key = files
    return (
        "listeners.tcp = none\n"
        f"listeners.ssl.1 = {listener}\n"
        f"ssl_options.cacertfile = {roots}\n"
        f"ssl_options.certfile = {chain}\n"
        f"ssl_options.keyfile = {key}\n"
        "ssl_options.verify = verify_peer\n"
        "ssl_options.fail_if_no_peer_cert = true\n"
        "ssl_options.depth = 3\n"
        "ssl_options.versions.1 = tlsv1.3\n"
        # Nobody logs in by a password, also not as `guest`.
        "auth_mechanisms.1 = EXTERNAL\n"
        "ssl_cert_login_from = subject_alternative_name\n"
        "ssl_cert_login_san_type = uri\n"
        "ssl_cert_login_san_index = 0\n"
    )


def definitions(system: System, resource: Resource) -> dict[str, Any]:
    """Users, permissions and topology, as the broker imports and exports them."""
    wanted, host = broker(resource), resource.name
    users = {
        system.spiffe_id(channel.source): grants(channel)
        for channel in system.incoming(resource.name)
    }
    sent = sorted({queue for granted in users.values() for queue in granted.send})
    exchanges = {**wanted.exchanges, **{f"{SEND}{queue}": "direct" for queue in sent}}
    return {
        "vhosts": [{"name": host}],
        "users": [
            {"name": user, "password_hash": "", "tags": [], "limits": _limits(granted)}
            for user, granted in sorted(users.items())
        ],
        "policies": [
            {
                "vhost": host,
                "name": LIMITS,
                "pattern": ".*",
                "apply-to": "queues",
                # What is in it stays; who publishes beyond it with confirms is told.
                "definition": {
                    "max-length-bytes": wanted.queue_bytes,
                    "overflow": "reject-publish",
                    # Or messages fill memory first (newer brokers are so always, and ignore it).
                    "queue-mode": "lazy",
                },
                "priority": 0,
            }
        ],
        "permissions": [
            {"user": user, "vhost": host, **permissions(granted)}
            for user, granted in sorted(users.items())
        ],
        "topic_permissions": [
            {
                "user": user,
                "vhost": host,
                "exchange": exchange,
                "write": _topic(granted.publish.get(exchange)),
                "read": NOTHING,
            }
            for user, granted in sorted(users.items())
            # Where there is none, every routing key is allowed: so each has one.
            for exchange in sorted(e for e, kind in exchanges.items() if kind == TOPIC)
        ],
        "queues": [
            {"name": q, "vhost": host, "durable": True, "auto_delete": False, "arguments": {}}
            for q in sorted(wanted.queues)
        ],
        "exchanges": [
            {
                "name": name,
                "vhost": host,
                "type": kind,
                "durable": True,
                "auto_delete": False,
                "internal": False,
                "arguments": {},
            }
            for name, kind in sorted(exchanges.items())
        ],
        "bindings": _bindings(wanted, sent, host),
    }


def _bindings(wanted: Broker, sent: list[str], host: str) -> list[dict[str, Any]]:
    ways = [(b.exchange, b.queue, b.key) for b in wanted.bindings]
    ways += [(f"{SEND}{queue}", queue, queue) for queue in sent]
    return [
        {
            "source": exchange,
            "vhost": host,
            "destination": queue,
            "destination_type": "queue",
            "routing_key": key,
            "arguments": {},
        }
        for exchange, queue, key in sorted(set(ways))
    ]


def _limits(granted: Grants) -> dict[str, int]:
    return {"max-connections": granted.connections, "max-channels": granted.channels}


def permissions(granted: Grants) -> dict[str, str]:
    """Exact names: an expression that is not anchored would match anywhere in one."""
    return {
        "configure": NOTHING,
        "write": _exactly(_writable(granted)),
        "read": _exactly(granted.consume),
    }


def _writable(granted: Grants) -> tuple[str, ...]:
    """The exchanges that a channel may publish to."""
    return (*granted.publish, *(f"{SEND}{queue}" for queue in granted.send))


def _exactly(names: tuple[str, ...]) -> str:
    return f"^({'|'.join(re.escape(name) for name in sorted(names))}){END}" if names else NOTHING


def _topic(patterns: tuple[str, ...] | None) -> str:
    if not patterns:
        return NOTHING
    return f"^({'|'.join(_expression(pattern) for pattern in sorted(patterns))}){END}"


def _expression(pattern: str) -> str:
    """``orders.*`` → ``orders\\.[^.]+``; a last ``#`` is any number of words."""
    if pattern == "#":
        return ".*"
    head = pattern.removesuffix(".#")
    words = [r"[^.]+" if word == "*" else re.escape(word) for word in head.split(".")]
    return r"\.".join(words) + (r"(\..+)?" if head != pattern else "")


def sibling_port(port: int, number: int) -> int:
    """Where the broker's distribution (1) and its port mapper (2) listen, on loopback."""
    found = port + 20_000 + number
    return found if found <= HIGHEST_PORT else port - 20_000 + number
