"""The table of sabotages: how the broker is weakened, and which probes must turn red for it."""

from collections.abc import Sequence
from dataclasses import dataclass

ORDERS = "orders -> jobs"
BILLING = "billing -> jobs"
USER = "spiffe://shop.internal/orders"


@dataclass(frozen=True)
class Sabotage:
    """``commands`` of rabbitmqctl; exactly the probes ``breaks`` of ``channel`` must break.

    Among those that are tried: its own, and ``holds``, which must not.
    """

    name: str
    commands: tuple[Sequence[str], ...]
    breaks: frozenset[str]
    holds: frozenset[str] = frozenset()
    channel: str = ORDERS


def _permissions(configure: str, write: str, read: str) -> Sequence[str]:
    return ("set_permissions", "-p", "jobs", USER, configure, write, read)


RIGHT_WRITE = r"^(events|to\.parcels)$(?!\n)"
NOTHING = "^(?!)"
LIVE = (
    Sabotage(
        "configure",
        (_permissions(".*", RIGHT_WRITE, NOTHING),),
        frozenset(
            {
                "grants.declare-exchange",
                "grants.declare-queue",
                "grants.delete-exchange",
                "grants.delete-queue",
                "grants.exclusive-queue",
            }
        ),
        frozenset({"grants.bind", "grants.consume", "grants.publish"}),
    ),
    Sabotage(
        "write",
        (_permissions(NOTHING, ".*", NOTHING),),
        frozenset(
            {
                "grants.built-in-exchange",
                "grants.default-exchange",
                "grants.direct-reply",
                "grants.publish",
            }
        ),
        frozenset({"grants.bind", "grants.consume", "grants.declare-queue", "grants.routing-key"}),
    ),
    Sabotage(
        "write, also with a line end",
        (_permissions(NOTHING, r"^(events|to\.parcels)$", NOTHING),),
        frozenset({"grants.publish"}),
        frozenset({"grants.built-in-exchange", "grants.routing-key"}),
    ),
    Sabotage(
        "read",
        (_permissions(NOTHING, RIGHT_WRITE, ".*"),),
        frozenset({"grants.consume"}),
        frozenset({"grants.bind", "grants.publish", "grants.purge", "grants.unbind"}),
    ),
    Sabotage(
        "everything",
        (_permissions(".*", ".*", ".*"),),
        frozenset({"grants.alternate-exchange", "grants.dead-letters"}),
        frozenset({"grants.bind", "grants.bind-exchange", "grants.purge", "grants.unbind"}),
    ),
    Sabotage(
        "impersonator",
        (("set_user_tags", USER, "impersonator"),),
        frozenset({"grants.user-id"}),
        frozenset({"grants.bcc", "grants.cc"}),
    ),
    Sabotage(
        "write, for whoever may write nothing",
        (("set_permissions", "-p", "jobs", USER.replace("orders", "packer"), "^$", ".*", "^$"),),
        frozenset({"grants.publish", "pairs.reach"}),
        frozenset({"grants.cc"}),
        channel="packer -> jobs",
    ),
    Sabotage(
        "no topic permission",
        (("clear_topic_permissions", "-p", "jobs", USER),),
        frozenset({"grants.routing-key"}),
        frozenset({"grants.publish", "grants.built-in-exchange"}),
    ),
    Sabotage(
        "no publishing",
        (_permissions(NOTHING, NOTHING, NOTHING),),
        frozenset({"use.publish", "use.send"}),
    ),
    Sabotage(
        "no reading",
        (("set_permissions", "-p", "jobs", USER.replace("orders", "billing"), *[NOTHING] * 3),),
        frozenset({"use.consume", "use.publish"}),
        channel=BILLING,
    ),
    Sabotage(
        "other virtual hosts",
        (
            ("add_vhost", "/"),
            ("set_permissions", "-p", "/", USER, *[NOTHING] * 3),
        ),
        frozenset({"login.virtual-host"}),
        frozenset({"login.guest", "grants.publish"}),
    ),
)
UNGUARDED = (
    ("eval", 'rabbit_registry:unregister(channel_interceptor, <<"watertight_guard">>).'),
    ("eval", "[application:set_env(rabbit, Limit, 0) || Limit <- [channel_max, frame_max]]."),
    ("eval", "application:set_env(rabbit, max_message_size, 64000000)."),
)
"""What takes the guard and the limits of a connection away from a broker that runs."""
GUARDED = {
    ORDERS: {
        *("grants.ask-exchange", "grants.ask-queue", "grants.bcc", "grants.cc"),
        *("limits.channels", "limits.frame", "limits.malformed", "limits.message"),
    },
    BILLING: {"grants.read-alone", "grants.read-first", "pairs.reach"},
}
"""Broken by that alone."""
GUARDED_TOO = {"grants.bind", "grants.bind-exchange", "grants.purge", "grants.unbind"}
"""Broken by that, and wider permissions."""
EVERYTHING = _permissions(".*", ".*", ".*")
PASSWORDS = frozenset({"login.guest", "login.password", "login.amqplain"})
"""Broken by a restart with PLAIN and AMQPLAIN, a guest, and a password for a service."""
OPEN_DOOR = frozenset(
    {
        "identity.common-name-only",
        "identity.dns-san-only",
        "identity.expired",
        "identity.foreign-authority",
        "identity.longer-path",
        "identity.not-yet-valid",
        "identity.other-trust-domain",
        "identity.other-workload",
        "identity.second-uri-san",
        "identity.self-signed",
        "identity.server-only-usage",
        "identity.uri-as-dns-san",
        "sessions.resumption-after-expiry",
        "sessions.resumption-after-revoke",
        "tls.no-certificate",
        "tls.plaintext",
        "tls.version-1.1",
        "tls.version-1.2",
    }
)
"""Broken by a door that takes anybody in and shows the right SVID in his place."""
ELSEWHERE = frozenset(
    {
        "ports.unknown",
        "reach.address",
        "reach.doors",
        "reach.name",
        "siblings.distribution",
        "siblings.mapper",
    }
)
"""With tests of their own: in test_sabotage.py, and in pods (tests/attack)."""
