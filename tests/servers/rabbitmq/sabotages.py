"""The table of sabotages: how the broker is weakened, and which probes must turn red for it."""

from watertight.testing import Weakening

ORDERS = "orders -> jobs"
BILLING = "billing -> jobs"
USER = "spiffe://shop.internal/orders"


def _permissions(configure: str, write: str, read: str) -> tuple[str, ...]:
    return ("set_permissions", "-p", "jobs", USER, configure, write, read)


RIGHT_WRITE = r"^(events|to\.parcels)$(?!\n)"
NOTHING = "^(?!)"
LIVE = (
    Weakening(
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
    Weakening(
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
    Weakening(
        "write, also with a line end",
        (_permissions(NOTHING, r"^(events|to\.parcels)$", NOTHING),),
        frozenset({"grants.publish"}),
        frozenset({"grants.built-in-exchange", "grants.routing-key"}),
    ),
    Weakening(
        "read",
        (_permissions(NOTHING, RIGHT_WRITE, ".*"),),
        frozenset({"grants.consume"}),
        frozenset({"grants.bind", "grants.publish", "grants.purge", "grants.unbind"}),
    ),
    Weakening(
        "everything",
        (_permissions(".*", ".*", ".*"),),
        frozenset({"grants.alternate-exchange", "grants.dead-letters"}),
        frozenset({"grants.bind", "grants.bind-exchange", "grants.purge", "grants.unbind"}),
    ),
    Weakening(
        "impersonator",
        (("set_user_tags", USER, "impersonator"),),
        frozenset({"grants.user-id"}),
        frozenset({"grants.bcc", "grants.cc"}),
    ),
    Weakening(
        "write, for whoever may write nothing",
        (("set_permissions", "-p", "jobs", USER.replace("orders", "packer"), "^$", ".*", "^$"),),
        frozenset({"grants.publish", "pairs.reach"}),
        frozenset({"grants.cc"}),
        channel="packer -> jobs",
    ),
    Weakening(
        "no topic permission",
        (("clear_topic_permissions", "-p", "jobs", USER),),
        frozenset({"grants.routing-key"}),
        frozenset({"grants.publish", "grants.built-in-exchange"}),
    ),
    Weakening(
        "no publishing",
        (_permissions(NOTHING, NOTHING, NOTHING),),
        frozenset({"use.publish", "use.send"}),
    ),
    Weakening(
        "no reading",
        (("set_permissions", "-p", "jobs", USER.replace("orders", "billing"), *[NOTHING] * 3),),
        frozenset({"use.consume", "use.publish"}),
        channel=BILLING,
    ),
    Weakening(
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
ELSEWHERE = {
    **dict.fromkeys(PASSWORDS, "test_passwords_are_found"),
    **dict.fromkeys(
        set().union(GUARDED_TOO, *GUARDED.values()),
        "test_a_broker_without_its_guard_is_found_and_guarded_again",
    ),
    "ports.unknown": "test_a_port_that_nobody_declared_is_found",
    "siblings.distribution": "test_a_node_that_takes_any_cookie_is_found",
    "siblings.mapper": "test_a_port_mapper_that_obeys_is_found",
}
"""Each in a test of its own in test_conformance.py."""
_COPY = (
    'rabbit_amqqueue:declare(rabbit_misc:r(<<"jobs">>, queue, <<"copy">>), '
    'true, false, [], none, <<"x">>).'
)
BY_HAND = {
    _permissions(".*", ".*", ".*"): f"permissions of {USER} jobs: configure is",
    ("clear_topic_permissions", "-p", "jobs", USER): (
        f"topic permissions of {USER} jobs events is missing"
    ),
    ("add_user", "guest", "guest"): "user guest is not declared",
    ("add_vhost", "spy"): "virtual host spy is not declared",
    ("set_policy", "-p", "jobs", "copy", ".*", '{"max-length": 1}'): (
        "policy jobs copy is not declared"
    ),
    ("eval", _COPY): "queue jobs copy is not declared",
}
"""What somebody does, and what drift says of it."""
