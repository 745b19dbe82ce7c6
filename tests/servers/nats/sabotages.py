"""The table of sabotages: how the server is weakened, and which probes must turn red for it."""

import re
from collections.abc import Callable
from functools import partial
from typing import Literal

from tests.ports import free_port
from watertight.servers.nats.compile import CONFIGURATION
from watertight.testing import Weakening

Weaken = Callable[[str], str]
"""From one configuration file to another."""

ORDERS = "orders -> events"
MAILER = "mailer -> events"


def sabotage(
    name: str,
    weaken: Weaken,
    *breaks: str,
    on: str = ORDERS,
    others: Literal["attack", "use"] = "attack",
) -> Weakening:
    """One weakening of the file; of the attacks on a channel, exactly ``breaks`` must succeed."""
    return Weakening(
        name,
        breaks=frozenset(breaks),
        channel=on,
        files=lambda right: {CONFIGURATION: weaken(right[CONFIGURATION])},
        others=others,
    )


def instead(old: str, new: str) -> Weaken:
    """One text for another; it must be there."""

    def weaken(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return weaken


def together(*parts: Weaken) -> Weaken:
    def weaken(text: str) -> str:
        for part in parts:
            text = part(text)
        return text

    return weaken


def more(text: str) -> Weaken:
    """Something at the end."""
    return lambda before: f"{before}\n{text}\n"


def also_publish(*subjects: str, service: str = "orders") -> Weaken:
    """One service may publish to more."""
    return _also("publish", service, subjects)


def also_subscribe(*subjects: str, service: str = "orders") -> Weaken:
    """One service may subscribe to more."""
    return _also("subscribe", service, subjects)


def _also(verb: str, service: str, subjects: tuple[str, ...]) -> Weaken:
    words = ", ".join(f'"{subject}"' for subject in subjects)
    grants = re.compile(
        rf'(user: "spiffe://shop.internal/{service}".*?{verb}: \{{ allow: \[)', re.DOTALL
    )

    def weaken(text: str) -> str:
        changed, times = grants.subn(rf"\g<1>{words}, ", text, count=1)
        assert times == 1
        return changed

    return weaken


def no_tls(text: str) -> str:
    return re.sub(r"^tls \{.*?^\}\n", "", text, flags=re.MULTILINE | re.DOTALL)


def one_account(text: str) -> str:
    """Everybody in one account, with the same permissions: as it was before ADR 11."""
    users = re.findall(r"^      \{ user:.*?^      \} \}$", text, re.MULTILINE | re.DOTALL)
    asks = re.search(r"^    imports: \[\n(?:.*SYSTEM.*\n)+", text, re.MULTILINE)
    assert len(users) > 2
    assert asks
    head, _, rest = text.partition("  SERVICES {\n")
    everybody = "\n".join(users)
    tail = rest.rpartition("\n}\n")[2]
    limits = re.search(r"^    limits \{.*\}$", text, re.MULTILINE)
    assert limits
    return (
        f"{head}  SERVICES {{\n    jetstream: enabled\n{limits[0]}\n{asks[0]}    ]\n"
        f"    users: [\n{everybody}\n    ]\n  }}\n}}\n{tail}"
    )


ANYBODY = more('no_auth_user: "spiffe://shop.internal/orders"')
NO_CERTIFICATE = together(instead("  verify_and_map: true\n", ""), ANYBODY)
UNREAD_CERTIFICATE = together(
    instead("verify_and_map: true", "verify: true"),
    instead('events", permissions', 'events", password: "watertight", permissions'),
    ANYBODY,
)
CERTIFICATES = (
    "identity.expired",
    "identity.foreign-authority",
    "identity.not-yet-valid",
    "identity.self-signed",
    "identity.server-only-usage",
)
NAMES = (
    "identity.common-name-only",
    "identity.dns-san-only",
    "identity.encoded-path",
    "identity.longer-path",
    "identity.other-trust-domain",
    "identity.other-workload",
    "identity.query",
    "identity.uri-as-common-name",
    "sessions.resumption-after-revoke",
)
CLAIMS = (
    "identity.claimed-jwt",
    "identity.claimed-nkey",
    "identity.claimed-token",
    "identity.claimed-user",
)
"""What is read past; a password beside a certificate is refused at once."""
SABOTAGES = (
    sabotage(
        "no TLS",
        together(no_tls, ANYBODY),
        "tls.plaintext",
        "tls.greeting",
    ),
    sabotage("a greeting in the clear", instead("first: true", "first: auto"), "tls.greeting"),
    sabotage("TLS 1.2", instead('min_version: "1.3"', 'min_version: "1.2"'), "tls.version-1.2"),
    sabotage(
        "no certificate is asked for",
        NO_CERTIFICATE,
        "tls.no-certificate",
        "sessions.resumption-after-expiry",
        "identity.claimed-user",
        *CERTIFICATES,
        *NAMES,
    ),
    sabotage("anybody at any door", NO_CERTIFICATE, "reach.doors", on="stranger -> events"),
    sabotage(
        "certificates name nobody, passwords do",
        UNREAD_CERTIFICATE,
        "identity.claimed-password",
        *NAMES,
    ),
    sabotage(
        "every inbox may be read",
        also_subscribe("_INBOX.>"),
        "inbox.subscribe",
        "inbox.everyone",
        *CLAIMS,
    ),
    sabotage("one inbox may be read", also_subscribe("_INBOX.mailer.>"), "inbox.subscribe"),
    sabotage("every inbox may be written", also_publish("_INBOX.*.>"), "inbox.publish"),
    sabotage(
        "publishes below a prefix",
        also_publish("orders.>"),
        "grants.publish",
        "grants.publish-near",
        "grants.publish-wildcard",
    ),
    sabotage("publishes a little more", also_publish("orders.placed.>"), "grants.publish-near"),
    sabotage(
        "subscribes below a prefix",
        also_subscribe("orders.>"),
        "grants.subscribe",
        "grants.subscribe-wider",
    ),
    sabotage(
        "subscribes in a group",
        also_subscribe("watertight-probe.> watertight-probe"),
        "grants.queue",
    ),
    sabotage(
        "subscribes to all short subjects",
        also_subscribe("*"),
        "grants.everything",
    ),
    sabotage("hears the system", also_subscribe("$SYS.SERVER.>"), "system.subscribe"),
    sabotage("asks the system", also_publish("$SYS.REQ.USER.INFO"), "system.request"),
    sabotage(
        "deletes a stream", also_publish("$JS.API.STREAM.DELETE.ORDERS"), "streams.administer"
    ),
    sabotage("reads a stream", also_publish("$JS.API.STREAM.MSG.GET.*"), "streams.read"),
    sabotage("makes consumers", also_publish("$JS.API.CONSUMER.CREATE.>"), "streams.consumers"),
    sabotage("fetches as another", also_publish("$JS.API.CONSUMER.MSG.NEXT.*.*"), "streams.fetch"),
    sabotage("acknowledges for another", also_publish("$JS.ACK.>"), "streams.acknowledge"),
    sabotage("one account for all", one_account, "reach.through-server"),
    sabotage(
        "one account for all, for a reader",
        one_account,
        "reach.through-server",
        on=MAILER,
    ),
    sabotage(
        "one account for all, and a trace may go anywhere",
        together(one_account, also_publish("_INBOX.>")),
        "reach.through-server",
        "reach.trace",
        "inbox.publish",
    ),
    sabotage(
        "takes every connection",
        instead("max_connections: 64", "max_connections: 1000"),
        "limits.connections",
    ),
    sabotage(
        "takes every subscription",
        instead("max_subscriptions: 1024", "max_subscriptions: 100000"),
        "limits.subscriptions",
    ),
    sabotage(
        "names what it likes, at length",
        instead("max_control_line: 1024", "max_control_line: 4096"),
        "limits.line",
    ),
    sabotage(
        "subscribes as deep as it likes",
        instead("max_subscription_tokens: 32", "max_subscription_tokens: 200"),
        "limits.tokens",
    ),
    sabotage(
        "takes large messages",
        together(
            instead("max_payload: 1048576", "max_payload: 2097152"),
        ),
        "limits.payload",
    ),
    sabotage(
        "a monitoring port",
        lambda text: f"{text}\nhttp: 127.0.0.1:{free_port()}\n",
        "ports.unknown",
        on="anyone -> events",
    ),
)

_use = partial(sabotage, others="use")
USES = (
    _use(
        "has no inbox",
        instead('"_INBOX.orders.>"', '"nothing"'),
        "use.login",
        "use.publish",
        "use.subscribe",
    ),
    _use("may not publish", instead('"orders.placed", "audit', '"audit'), "use.publish"),
    _use(
        "may not subscribe",
        instead('"price.changed", "_INBOX.orders.>"', '"_INBOX.orders.>"'),
        "use.subscribe",
    ),
    _use(
        "may not fetch",
        instead('"$JS.API.CONSUMER.MSG.NEXT.ORDERS.mailer", "$JS', '"$JS'),
        "use.consume",
        on=MAILER,
    ),
)
"""Of the uses on ``channel``, exactly these must fail."""
