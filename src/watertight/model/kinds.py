"""The kinds of resources that are well known: where they listen, and what may speak TLS for them.

An installed enforcer may know kinds that do not stand here; a resource of such a kind must say
its ``port``, and no proxy speaks TLS in its clients' place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Kind:
    """``originates``: the client's proxy may speak mTLS for a client that cannot (its ALPN)."""

    port: int
    """Where its server listens for TLS, unless the declaration says another port."""
    originates: tuple[str, ...] | None = None
    """None: the protocol starts in the clear, or its clients insist on TLS of their own."""


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        # PostgreSQL ≥ 17 takes TLS at once if ALPN says so (manual, section 54.2.10).
        "postgresql": Kind(5432, originates=("postgresql",)),
        "rabbitmq": Kind(5671, originates=()),  # amqps, IANA
        # A broker tells its clients where to come back to: a name that TLS must verify.
        "kafka": Kind(9093),
        # Its INFO says tls_required inside TLS too (handshake_first), so that a client in the clear
        # starts TLS of its own within its proxy's: seen with nats-py 2.16 on nats-server 2.15.
        "nats": Kind(4222),
        "mariadb": Kind(3306),  # TLS begins after the server has greeted
        "mosquitto": Kind(8883, originates=()),  # secure-mqtt, IANA
    }
)
"""By the word that the declaration uses."""


ALSO_CALLED: Mapping[str, str] = MappingProxyType(
    {
        "postgres": "postgresql",
        "pg": "postgresql",
        "psql": "postgresql",
        "rabbit": "rabbitmq",
        "amqp": "rabbitmq",
        "jetstream": "nats",
        "mysql": "mariadb",
        "maria": "mariadb",
        "apache-kafka": "kafka",
        "mqtt": "mosquitto",
    }
)
"""What people call a kind → the word that the declaration uses."""


KEY_ALSO_CALLED: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("env", "vars", "variables"), "environment"),
        **dict.fromkeys(("cmd", "command", "exec", "entrypoint"), "run"),
        **dict.fromkeys(("cwd", "workdir", "working_dir", "dir"), "directory"),
        **dict.fromkeys(("health", "healthcheck", "readiness"), "ready"),
        **dict.fromkeys(("ports", "expose"), "listens"),
    }
)
"""What other tools call a key → the key here, where there is one."""


def usual_port(kind: str) -> int | None:
    """Where servers of this kind listen, if that is known."""
    found = KINDS.get(kind)
    return found.port if found else None
